/* GELU and residuals of bfloat16, widened once and narrowed by the processor (formulas: ops.h).
 * What is not bfloat16 throughout goes to the other kernels. Errors before rounding are below
 * 2^-14 of a number, a hundredth of what rounding may do. */
/* SPDX-License-Identifier: MIT */
#include "backend/cpu/kernels/half_rows.h"

/* 2^x within 2^-18 of itself. */
static inline __m512 half_exp2(__m512 x)
{
    __m512 r = _mm512_reduce_ps(x, 1); /* x - floor(x) */
    __m512 p = _mm512_set1_ps(0.0135341669f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.0520114638f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.241442755f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.693003833f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.00000262f));
    return _mm512_scalef_ps(p, x);
}

/* Phi(-t), the upper tail of the normal distribution, as 2 to a polynomial: within 2^-17 of itself
 * for 0 <= t <= 4, within 2^-12 to 8, beyond which it still vanishes at least as fast. */
static inline __m512 half_tail(__m512 t)
{
    __m512 p = _mm512_set1_ps(-1.63515449e-06f);
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(5.77202773e-05f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-0.000901360356f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(0.00839941576f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-0.0537502579f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-0.458665699f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-1.15117013f));
    p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-1.0000037f));
    return half_exp2(p);
}

/* x within [-limit, limit]; NaN stays. */
static inline __m512 half_clamp(__m512 x, float limit)
{
    x = _mm512_min_ps(_mm512_set1_ps(limit), x);
    return _mm512_max_ps(_mm512_set1_ps(-limit), x);
}

/* Where x > 0, 1 - p, else p. */
static inline __m512 half_mirror(__m512 x, __m512 p)
{
    const __m512 zero = _mm512_setzero_ps(), one = _mm512_set1_ps(1);
    return _mm512_mask_sub_ps(p, _mm512_cmp_ps_mask(x, zero, _CMP_GT_OQ), one, p);
}

/* Numbers past these have tails below 2^-126. */
static const float half_far_erf = 13, half_far_tanh = 10;
static const float half_log2e = 1.44269504f;

static inline __m512 half_gelu(__m512 x, st_gelu_kind kind)
{
    if (kind == ST_GELU_ERF) {
        __m512 t = _mm512_min_ps(_mm512_set1_ps(half_far_erf), _mm512_abs_ps(x));
        return _mm512_mul_ps(x, half_mirror(x, half_tail(t)));
    }
    __m512 near = half_clamp(x, half_far_tanh), square = _mm512_mul_ps(near, near);
    __m512 u = _mm512_fmadd_ps(square, _mm512_set1_ps(-0.0713548163f * half_log2e),
                               _mm512_set1_ps(-1.59576912f * half_log2e));
    __m512 e = half_exp2(_mm512_mul_ps(near, u));
    return _mm512_mul_ps(x, _mm512_rcp14_ps(_mm512_add_ps(_mm512_set1_ps(1), e)));
}

static inline __m512 half_gelu_slope(__m512 x, st_gelu_kind kind)
{
    const __m512 one = _mm512_set1_ps(1);
    if (kind == ST_GELU_ERF) {
        __m512 near = half_clamp(x, half_far_erf), phi = half_tail(_mm512_abs_ps(near));
        __m512 power = _mm512_mul_ps(near, _mm512_set1_ps(-0.5f * half_log2e));
        __m512 bell = half_exp2(_mm512_mul_ps(near, power));
        bell = _mm512_mul_ps(bell, _mm512_set1_ps(0.398942280f));
        return _mm512_fmadd_ps(near, bell, half_mirror(near, phi));
    }
    __m512 near = half_clamp(x, half_far_tanh), square = _mm512_mul_ps(near, near);
    __m512 u = _mm512_fmadd_ps(square, _mm512_set1_ps(0.0713548163f * half_log2e),
                               _mm512_set1_ps(1.59576912f * half_log2e));
    __m512 steep =
        _mm512_fmadd_ps(square, _mm512_set1_ps(0.214064449f), _mm512_set1_ps(1.59576912f));
    u = _mm512_mul_ps(u, _mm512_abs_ps(near));
    __m512 e = half_exp2(_mm512_sub_ps(_mm512_setzero_ps(), u));
    __m512 s = _mm512_rcp14_ps(_mm512_add_ps(one, e)), other = _mm512_mul_ps(e, s);
    __m512 spread = _mm512_mul_ps(_mm512_mul_ps(near, steep), _mm512_mul_ps(other, s));
    return _mm512_add_ps(half_mirror(x, other), spread);
}

static void half_gelu_block(uint16_t *y, const uint16_t *x, const uint16_t *dy, int64_t n,
                            st_gelu_kind kind)
{
    for (int64_t i = 0; i < n; i += LANES) {
        __mmask16 have = half_lanes(n - i);
        __m512 v = half_load(x + i, have);
        if (dy)
            v = _mm512_mul_ps(half_load(dy + i, have), half_gelu_slope(v, kind));
        else
            v = half_gelu(v, kind);
        half_store(y + i, have, v);
    }
}

static void half_gelu_all(st_stream *q, const st_tensor *x, const st_tensor *dy, const st_tensor *y,
                          st_gelu_kind kind)
{
    int64_t count = st_numel(*x);
    int parts = st_parts(q, count * 2);
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t i = 0; i < count; i += BLOCK) {
        uint16_t *to = (uint16_t *)y->data + i;
        const uint16_t *from = (const uint16_t *)x->data + i;
        const uint16_t *by = dy ? (const uint16_t *)dy->data + i : NULL;
        int64_t n = at_most(count - i, BLOCK);
        if (kind == ST_GELU_ERF)
            half_gelu_block(to, from, by, n, ST_GELU_ERF);
        else
            half_gelu_block(to, from, by, n, ST_GELU_TANH);
    }
}

void half_gelu_fwd(st_stream *q, const st_gelu_fwd_args *a)
{
    if (a->x.dtype == ST_BF16)
        half_gelu_all(q, &a->x, NULL, &a->y, a->kind);
    else
        st_cpu_wide(q)->gelu_fwd(q, a);
}

void half_gelu_bwd(st_stream *q, const st_gelu_bwd_args *a)
{
    if (a->x.dtype == ST_BF16)
        half_gelu_all(q, &a->x, &a->dy, &a->dx, a->kind);
    else
        st_cpu_wide(q)->gelu_bwd(q, a);
}

void half_residual_fwd(st_stream *q, const st_residual_fwd_args *a)
{
    bool whole = a->a.dtype == ST_BF16 && a->b.dtype == ST_BF16 && a->y.dtype == ST_BF16;
    if (!whole || !a->a.data || a->drop > 0) {
        st_cpu_wide(q)->residual_fwd(q, a);
        return;
    }
    int64_t count = st_numel(a->y);
    int parts = st_parts(q, count);
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t i = 0; i < count; i += BLOCK) {
        const uint16_t *x = (const uint16_t *)a->a.data + i, *b = (const uint16_t *)a->b.data + i;
        uint16_t *y = (uint16_t *)a->y.data + i;
        int64_t n = at_most(count - i, BLOCK);
        for (int64_t j = 0; j < n; j += LANES) {
            __mmask16 have = half_lanes(n - j);
            half_store(y + j, have, _mm512_add_ps(half_load(x + j, have), half_load(b + j, have)));
        }
    }
}
