/* What Llama's kind of blocks has besides: gated units and rotary positions (contracts: ops.h). */
/* SPDX-License-Identifier: MIT */
#include "backend/ref/ref.h"
#include <math.h>

/* silu(x) = x s(x), s the sigmoid; silu' = s (1 + x (1 - s)). */
static double rotary_sigmoid(double x)
{
    return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x));
}

static double glu_value(double x, st_glu_kind kind)
{
    if (kind == ST_GLU_SILU) return x * rotary_sigmoid(x);
    return st_ref_gelu_value(x, kind == ST_GLU_GELU_ERF ? ST_GELU_ERF : ST_GELU_TANH);
}

static double glu_slope(double x, st_glu_kind kind)
{
    double s = rotary_sigmoid(x);
    if (kind == ST_GLU_SILU) return s * (1 + x * (1 - s));
    return st_ref_gelu_slope(x, kind == ST_GLU_GELU_ERF ? ST_GELU_ERF : ST_GELU_TANH);
}

void st_ref_glu_fwd(st_stream *q, const st_glu_fwd_args *a)
{
    (void)q;
    int64_t n = st_numel(a->g);
    for (int64_t i = 0; i < n; i++) {
        double g = (double)ref_load(&a->g, i), u = (double)ref_load(&a->u, i);
        ref_store(&a->y, i, glu_value(g, a->kind) * u);
    }
}

void st_ref_glu_bwd(st_stream *q, const st_glu_bwd_args *a)
{
    (void)q;
    int64_t n = st_numel(a->g);
    for (int64_t i = 0; i < n; i++) {
        double g = (double)ref_load(&a->g, i), u = (double)ref_load(&a->u, i);
        double dy = (double)ref_load(&a->dy, i);
        ref_store(&a->dg, i, dy * u * glu_slope(g, a->kind));
        ref_store(&a->du, i, dy * glu_value(g, a->kind));
    }
}

void st_ref_rotary(st_stream *q, const st_rotary_args *a)
{
    (void)q;
    int64_t stride = st_or(a->stride, a->heads * a->head_dim), start = st_start(a->start, a->at);
    for (int64_t r = 0; r < a->rows; r++) {
        float position = (float)(start + r % a->len);
        for (int64_t h = 0; h < a->heads; h++) {
            int64_t at = r * stride + h * a->head_dim;
            for (int64_t i = 0; i < a->half; i++) {
                double t = (double)(position * a->freq[i]);
                double c = (double)a->scale * cos(t), s = (double)a->scale * sin(t);
                double x = (double)ref_load(&a->x, at + i);
                double y = (double)ref_load(&a->x, at + a->half + i);
                s = a->back ? -s : s;
                ref_store(&a->y, at + i, x * c - y * s);
                ref_store(&a->y, at + a->half + i, x * s + y * c);
            }
            for (int64_t i = 2 * a->half; i < a->head_dim; i++)
                ref_store(&a->y, at + i, (double)ref_load(&a->x, at + i));
        }
    }
}
