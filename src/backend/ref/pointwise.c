/* Element by element: GELU, residual with dropout, gate, scale, copy, fill. */
/* SPDX-License-Identifier: MIT */
#include "backend/ref/ref.h"
#include <math.h>

/* gelu(x) = x F(x): tanh form F = (1 + tanh(u))/2, u = sqrt(2/pi) (x + 0.044715 x^3); erf form
 * F = (1 + erf(x/sqrt(2)))/2 (Hendrycks & Gimpel 2016). */
static const double SQRT_2_PI = 0.79788456080286535588, CUBE = 0.044715;

double st_ref_gelu_value(double x, st_gelu_kind kind)
{
    if (kind == ST_GELU_ERF) return 0.5 * x * erfc(-x * M_SQRT1_2);
    return 0.5 * x * (1 + tanh(SQRT_2_PI * (x + CUBE * x * x * x)));
}

double st_ref_gelu_slope(double x, st_gelu_kind kind)
{
    if (kind == ST_GELU_ERF) {
        double density = exp(-0.5 * x * x) * 0.5 * SQRT_2_PI;
        return 0.5 * erfc(-x * M_SQRT1_2) + x * density;
    }
    double t = tanh(SQRT_2_PI * (x + CUBE * x * x * x));
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * SQRT_2_PI * (1 + 3 * CUBE * x * x);
}

void st_ref_gelu_fwd(st_stream *q, const st_gelu_fwd_args *a)
{
    (void)q;
    int64_t n = st_numel(a->x);
    for (int64_t i = 0; i < n; i++) {
        ref_store(&a->y, i, st_ref_gelu_value((double)ref_load(&a->x, i), a->kind));
    }
}

void st_ref_gelu_bwd(st_stream *q, const st_gelu_bwd_args *a)
{
    (void)q;
    int64_t n = st_numel(a->x);
    for (int64_t i = 0; i < n; i++) {
        double slope = st_ref_gelu_slope((double)ref_load(&a->x, i), a->kind);
        ref_store(&a->dx, i, (double)ref_load(&a->dy, i) * slope);
    }
}

/* x as dropout leaves it as element i. */
static double pointwise_drop(double x, int64_t i, float drop, uint64_t seed)
{
    if (!(drop > 0)) return x;
    return ST_KEEP(seed, i, st_drop_below(drop)) ? x / (1.0 - (double)drop) : 0.0;
}

void st_ref_residual_fwd(st_stream *q, const st_residual_fwd_args *a)
{
    (void)q;
    int64_t n = st_numel(a->y);
    for (int64_t i = 0; i < n; i++) {
        double b = pointwise_drop((double)ref_load(&a->b, i), i, a->drop, a->seed);
        ref_store(&a->y, i, (a->a.data ? (double)ref_load(&a->a, i) : 0.0) + b);
    }
}

void st_ref_residual_bwd(st_stream *q, const st_residual_bwd_args *a)
{
    (void)q;
    int64_t n = st_numel(a->db);
    for (int64_t i = 0; i < n; i++) {
        ref_store(&a->db, i, pointwise_drop((double)ref_load(&a->dy, i), i, a->drop, a->seed));
    }
}

static double gate_sigmoid(double z)
{
    return z < 0 ? exp(z) / (1 + exp(z)) : 1 / (1 + exp(-z));
}

void st_ref_gate_fwd(st_stream *q, const st_gate_fwd_args *a)
{
    (void)q;
    for (int64_t r = 0; r < a->rows; r++) {
        double g = gate_sigmoid((double)ref_load(&a->z, r));
        for (int64_t i = r * a->width; i < (r + 1) * a->width; i++) {
            ref_store(&a->y, i,
                      (1 - g) * (double)ref_load(&a->s, i) + g * (double)ref_load(&a->l, i));
        }
    }
}

void st_ref_gate_bwd(st_stream *q, const st_gate_bwd_args *a)
{
    (void)q;
    for (int64_t r = 0; r < a->rows; r++) {
        double g = gate_sigmoid((double)ref_load(&a->z, r)), sum = 0;
        for (int64_t i = r * a->width; i < (r + 1) * a->width; i++) {
            double dy = (double)ref_load(&a->dy, i);
            sum += dy * ((double)ref_load(&a->l, i) - (double)ref_load(&a->s, i));
            ref_store(&a->ds, i, (1 - g) * dy);
            ref_store(&a->dl, i, g * dy);
        }
        ref_store(&a->dz, r, g * (1 - g) * sum);
    }
}

void st_ref_scale(st_stream *q, const st_scale_args *a)
{
    (void)q;
    int64_t n = st_numel(a->x);
    double s = (double)ref_load(&a->s, 0);
    for (int64_t i = 0; i < n; i++) {
        double y = s * (double)ref_load(&a->x, i);
        if (a->accumulate)
            ref_add(&a->y, i, y);
        else
            ref_store(&a->y, i, y);
    }
}

void st_ref_copy(st_stream *q, const st_copy_args *given)
{
    (void)q;
    st_copy_args a = st_copy_resolve(given);
    for (int64_t r = 0; r < a.rows; r++) {
        for (int64_t c = 0; c < a.cols; c++) {
            double x = (double)ref_load(&a.x, r * a.ldx + c);
            if (a.accumulate)
                ref_add(&a.y, r * a.ldy + c, x);
            else
                ref_store(&a.y, r * a.ldy + c, x);
        }
        for (int64_t c = a.cols; c < a.pad; c++)
            ref_store(&a.y, r * a.ldy + c, 0);
    }
}

void st_ref_fill(st_stream *q, const st_fill_args *a)
{
    (void)q;
    int64_t n = st_numel(a->x);
    for (int64_t i = 0; i < n; i++)
        ref_store(&a->x, i, (double)a->value);
}
