/* GELU and the sigmoid of blocks of float32 numbers, and their slopes. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_GELU_H
#define ST_GELU_H

#include "backend/cpu/kernels/lanes.h"

/* By e^-|x|, whose clamps cost nothing: e^-x in its place takes gcc 12's loops five times as long.
 */
static inline float pointwise_sigmoid(float x)
{
    float e = fast_exp(-fabsf(x)), r = 1.0f / (1.0f + e);
    return x > 0 ? r : e * r;
}

/* Phi(-|x|) / exp(-x^2/2), the scaled upper tail of the normal distribution, as w times a
 * polynomial of degree 9 in w = 1 / (1 + 0.3 |x|); relative error 4e-9 before rounding, for |x|
 * <= 14. */
static inline float pointwise_tail(float x)
{
    float w = 1.0f / (1.0f + 0.3f * fabsf(x));
    float p = -0.0206121162f;
    p = p * w + 0.112372036f;
    p = p * w + -0.228058996f;
    p = p * w + 0.191570677f;
    p = p * w + -0.0792384269f;
    p = p * w + 0.0960531615f;
    p = p * w + 0.0784271594f;
    p = p * w + 0.110226992f;
    p = p * w + 0.119572881f;
    p = p * w + 0.119686632f;
    return p * w;
}

/* Phi(x), and exp(-x^2/2) for the density. */
static inline float pointwise_normal(float x, float *bell)
{
    *bell = fast_exp(-0.5f * x * x);
    float tail = *bell * pointwise_tail(x);
    return x > 0 ? 1.0f - tail : tail;
}

/* gelu(x) = x sigmoid(2u) with u = sqrt(2/pi) (x + 0.044715 x^3): tanh written with exp. */
static inline float pointwise_tanh_arg(float x)
{
    return x * (1.59576912f + 0.0713548163f * x * x);
}

static void gelu_block(float *y, const float *x, int64_t n, st_gelu_kind kind)
{
    if (kind == ST_GELU_TANH) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            y[i] = x[i] * pointwise_sigmoid(pointwise_tanh_arg(x[i]));
        return;
    }
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float bell;
        y[i] = x[i] * pointwise_normal(x[i], &bell);
    }
}

static void gelu_slope_block(float *dx, const float *dy, const float *x, int64_t n,
                             st_gelu_kind kind)
{
    if (kind == ST_GELU_TANH) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            float u = pointwise_tanh_arg(x[i]), e = fast_exp(-fabsf(u)), r = 1.0f / (1.0f + e);
            float slope = x[i] * (1.59576912f + 0.214064449f * x[i] * x[i]);
            dx[i] = dy[i] * ((u > 0 ? r : e * r) + slope * (e * r * r)); /* s + slope s (1 - s) */
        }
        return;
    }
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float bell, phi = pointwise_normal(x[i], &bell);
        dx[i] = dy[i] * (phi + x[i] * (0.398942280f * bell));
    }
}

#endif
