/* Sums of numbers and of products of them, which several families take. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_SUMS_H
#define ST_SUMS_H

#include "backend/cpu/kernels/lanes.h"

/* The sum of n numbers, blocks of rows being short enough for float32 lanes. */
static inline float sum_of(const float *v, int64_t n)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; j++)
        sum += v[j];
    return sum;
}

/* In explicit vectors, so that sanitizers, which forgo them, do not change the rounding. */
static float sum_products(const float *x, const float *y, int64_t n)
{
    vec sum[4] = {{0}};
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) {
            sum[v] += vec_load(x + i + v * LANES) * vec_load(y + i + v * LANES);
        }
    }
    float total = vec_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
    for (; i < n; i++)
        total += x[i] * y[i];
    return total;
}

static double sum_dot(const st_tensor *a, const st_tensor *b, st_span p)
{
    double total = 0;
    for (int64_t i = p.lo; i < p.hi; i += BLOCK) {
        float ba[BLOCK], bb[BLOCK];
        int64_t n = at_most(p.hi - i, BLOCK);
        const float *x = block_in(a, i, n, ba), *y = a == b ? x : block_in(b, i, n, bb);
        total += (double)sum_products(x, y, n);
    }
    return total;
}

#endif
