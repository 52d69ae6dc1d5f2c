/* Gated units and rotary positions (contracts: ops.h; formulas: ref/rotary.c). Bound by memory: one
 * pass each. Gates are taken in float32 whatever they are stored as. */
/* SPDX-License-Identifier: MIT */
#include "backend/cpu/kernels/gelu.h"

/* ---- gated units ----------------------------------------------------------------------------- */

/* act(g), and its slope where that is wanted. */
static void glu_act(float *act, float *slope, const float *g, int64_t n, st_glu_kind kind)
{
    if (kind != ST_GLU_SILU) {
        st_gelu_kind gelu = kind == ST_GLU_GELU_ERF ? ST_GELU_ERF : ST_GELU_TANH;
        for (int64_t i = 0; slope && i < n; i++)
            slope[i] = 1;
        if (slope) gelu_slope_block(slope, slope, g, n, gelu);
        gelu_block(act, g, n, gelu);
        return;
    }
    if (!slope) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            act[i] = g[i] * pointwise_sigmoid(g[i]);
        return;
    }
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float e = fast_exp(-fabsf(g[i])), r = 1.0f / (1.0f + e);
        float s = g[i] > 0 ? r : e * r;
        act[i] = g[i] * s;
        slope[i] = s + g[i] * (e * r * r); /* s (1 - s), also where s is near 1 */
    }
}

void KERNEL(glu_fwd)(st_stream *q, const st_glu_fwd_args *a)
{
    int64_t count = st_numel(a->g);
    int parts = st_parts(q, count * 4);
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t i = 0; i < count; i += BLOCK) {
        float bg[BLOCK], bv[BLOCK], by[BLOCK], act[BLOCK];
        int64_t n = at_most(count - i, BLOCK);
        const float *u = block_in(&a->u, i, n, bv);
        glu_act(act, NULL, block_in(&a->g, i, n, bg), n, a->kind);
        float *y = block_out(&a->y, i, by);
#pragma omp simd
        for (int64_t j = 0; j < n; j++)
            y[j] = act[j] * u[j];
        block_done(&a->y, i, n, y);
    }
}

void KERNEL(glu_bwd)(st_stream *q, const st_glu_bwd_args *a)
{
    int64_t count = st_numel(a->g);
    int parts = st_parts(q, count * 6);
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t i = 0; i < count; i += BLOCK) {
        float bg[BLOCK], bv[BLOCK], by[BLOCK], act[BLOCK], slope[BLOCK], od[BLOCK], ou[BLOCK];
        int64_t n = at_most(count - i, BLOCK);
        const float *u = block_in(&a->u, i, n, bv), *dy = block_in(&a->dy, i, n, by);
        glu_act(act, slope, block_in(&a->g, i, n, bg), n, a->kind);
        float *dg = block_out(&a->dg, i, od), *du = block_out(&a->du, i, ou);
        /* dg and du may be u's or dy's memory */
#pragma omp simd
        for (int64_t j = 0; j < n; j++) {
            float d = dy[j];
            slope[j] *= d * u[j];
            act[j] *= d;
        }
        memcpy(dg, slope, (size_t)n * sizeof *dg);
        memcpy(du, act, (size_t)n * sizeof *du);
        block_done(&a->dg, i, n, dg);
        block_done(&a->du, i, n, du);
    }
}

/* ---- rotary positions ------------------------------------------------------------------------ */

/* The head from element `at` on. */
static void rotary_head(const st_rotary_args *a, int64_t at, const float *c, const float *s)
{
    float bx[ST_ROTARY], by[ST_ROTARY], ox[ST_ROTARY], oy[ST_ROTARY];
    int64_t n = a->half, rest = a->head_dim - 2 * n;
    const float *x = block_in(&a->x, at, n, bx), *y = block_in(&a->x, at + n, n, by);
    float *to_x = block_out(&a->y, at, ox), *to_y = block_out(&a->y, at + n, oy);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float v = x[i], w = y[i];
        to_x[i] = v * c[i] - w * s[i];
        to_y[i] = v * s[i] + w * c[i];
    }
    block_done(&a->y, at, n, to_x);
    block_done(&a->y, at + n, n, to_y);
    if (rest && a->x.data != a->y.data)
        block_scaled(&a->x, at + 2 * n, &a->y, at + 2 * n, rest, 1, false);
}

void KERNEL(rotary)(st_stream *q, const st_rotary_args *a)
{
    int64_t stride = a->stride ? a->stride : a->heads * a->head_dim;
    int parts = st_parts(q, a->rows * (a->heads * a->head_dim * 2 + a->half * 20));
    int64_t start = st_start(a->start, a->at);
    float sign = a->back ? -a->scale : a->scale;
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t r = 0; r < a->rows; r++) {
        float c[ST_ROTARY], s[ST_ROTARY];
        for (int64_t i = 0; i < a->half; i++) {
            float t = (float)(start + r % a->len) * a->freq[i];
            c[i] = a->scale * cosf(t);
            s[i] = sign * sinf(t);
        }
        for (int64_t h = 0; h < a->heads; h++)
            rotary_head(a, r * stride + h * a->head_dim, c, s);
    }
}
