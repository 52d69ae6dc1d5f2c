/* Rows of bfloat16 numbers, widened once and narrowed by the processor, and their normalisation
 * (formulas: ref/norm.c). */
/* SPDX-License-Identifier: MIT */
#ifndef ST_HALF_ROWS_H
#define ST_HALF_ROWS_H

#include "backend/cpu/kernels/panels.h"

#define half_norm_fwd     KERNEL(half_norm_fwd)
#define half_gelu_fwd     KERNEL(half_gelu_fwd)
#define half_gelu_bwd     KERNEL(half_gelu_bwd)
#define half_residual_fwd KERNEL(half_residual_fwd)
#define half_unfold       KERNEL(half_unfold)
#define half_attend_fwd   KERNEL(half_attend_fwd)

/* Operations of bfloat16 numbers; what they cannot do goes to the kernels that were there before.
 */
void half_norm_fwd(st_stream *q, const st_norm_fwd_args *a);
void half_gelu_fwd(st_stream *q, const st_gelu_fwd_args *a);
void half_gelu_bwd(st_stream *q, const st_gelu_bwd_args *a);
void half_residual_fwd(st_stream *q, const st_residual_fwd_args *a);
void half_unfold(st_stream *q, const st_unfold_args *a);
void half_attend_fwd(st_stream *q, const st_attend_fwd_args *a);

enum { HALF_WIDTH = 4096 }; /* numbers of a row on the stack */

static inline __m512 half_load(const uint16_t *p, __mmask16 have)
{
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(have, p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

static inline void half_store(uint16_t *p, __mmask16 have, __m512 x)
{
    _mm256_mask_storeu_epi16(p, have, (__m256i)_mm512_cvtneps_pbh(x));
}

/* The first of `n` lanes, up to LANES. */
static inline __mmask16 half_lanes(int64_t n)
{
    return (__mmask16)half_mask(at_most(n, LANES));
}

static inline float half_total(const __m512 sum[4])
{
    __m512 a = _mm512_add_ps(sum[0], sum[1]), b = _mm512_add_ps(sum[2], sum[3]);
    return _mm512_reduce_add_ps(_mm512_add_ps(a, b));
}

/* y = (x - mean) rstd gain + bias of a row of n floats. Sums are four, so that none waits. */
static inline void half_norm_row(const float *x, int64_t n, float eps, const uint16_t *gain,
                                 const uint16_t *bias, uint16_t *y, float *mean, float *rstd)
{
    enum { SUMS = 4 };
    __m512 sum[SUMS], square[SUMS];
    int64_t j = 0;
    for (int s = 0; s < SUMS; s++)
        sum[s] = square[s] = _mm512_setzero_ps();
    for (; j + SUMS * LANES <= n; j += SUMS * LANES) {
#pragma GCC unroll 4
        for (int s = 0; s < SUMS; s++)
            sum[s] = _mm512_add_ps(sum[s], _mm512_loadu_ps(x + j + s * LANES));
    }
    for (; j < n; j += LANES)
        sum[0] = _mm512_add_ps(sum[0], _mm512_maskz_loadu_ps(half_lanes(n - j), x + j));
    *mean = half_total(sum) / (float)n;
    __m512 less = _mm512_set1_ps(*mean);
    for (j = 0; j + SUMS * LANES <= n; j += SUMS * LANES) {
#pragma GCC unroll 4
        for (int s = 0; s < SUMS; s++) {
            __m512 d = _mm512_sub_ps(_mm512_loadu_ps(x + j + s * LANES), less);
            square[s] = _mm512_fmadd_ps(d, d, square[s]);
        }
    }
    for (; j < n; j += LANES) {
        __mmask16 have = half_lanes(n - j);
        __m512 d = _mm512_maskz_sub_ps(have, _mm512_maskz_loadu_ps(have, x + j), less);
        square[0] = _mm512_fmadd_ps(d, d, square[0]);
    }
    *rstd = 1.0f / sqrtf(half_total(square) / (float)n + eps);
    __m512 times = _mm512_set1_ps(*rstd);
    for (j = 0; j < n; j += LANES) {
        __mmask16 have = half_lanes(n - j);
        __m512 d = _mm512_sub_ps(_mm512_maskz_loadu_ps(have, x + j), less);
        __m512 add = half_load(bias + j, have);
        d = _mm512_fmadd_ps(_mm512_mul_ps(d, times), half_load(gain + j, have), add);
        half_store(y + j, have, d);
    }
}

#endif
