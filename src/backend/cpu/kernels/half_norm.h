/* Layer normalisation of bfloat16, widened once and narrowed by the processor (formulas:
 * ref/norm.c). What is not bfloat16 throughout goes to the other kernels. */
/* SPDX-License-Identifier: MIT */

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

/* y = (x - mean) rstd gain + bias of a row of n floats; even: n is a multiple of LANES, a constant
 * of the callers. */
__attribute__((always_inline)) static inline void
half_norm_row(bool even, const float *x, int64_t n, float eps, const uint16_t *gain,
              const uint16_t *bias, uint16_t *y, float *mean, float *rstd)
{
    __m512 sum = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
    for (int64_t j = 0; j < n; j += LANES)
        sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps((even ? 0xffff : half_lanes(n - j)), x + j));
    *mean = _mm512_reduce_add_ps(sum) / (float)n;
    __m512 less = _mm512_set1_ps(*mean);
    for (int64_t j = 0; j < n; j += LANES) {
        __mmask16 have = (even ? 0xffff : half_lanes(n - j));
        __m512 d = _mm512_maskz_sub_ps(have, _mm512_maskz_loadu_ps(have, x + j), less);
        squares = _mm512_fmadd_ps(d, d, squares);
    }
    *rstd = 1.0f / sqrtf(_mm512_reduce_add_ps(squares) / (float)n + eps);
    __m512 times = _mm512_set1_ps(*rstd);
    for (int64_t j = 0; j < n; j += LANES) {
        __mmask16 have = (even ? 0xffff : half_lanes(n - j));
        __m512 d = _mm512_sub_ps(_mm512_maskz_loadu_ps(have, x + j), less);
        __m512 add = half_load(bias + j, have);
        d = _mm512_fmadd_ps(_mm512_mul_ps(d, times), half_load(gain + j, have), add);
        half_store(y + j, have, d);
    }
}

static void half_norm_fwd(st_stream *q, const st_norm_fwd_args *a)
{
    bool whole = a->x.dtype == ST_BF16 && a->gain.dtype == ST_BF16 && a->bias.dtype == ST_BF16;
    if (!whole || !a->gain.data || !a->bias.data || a->width > HALF_WIDTH) {
        ((const st_cpu *)q->device_state)->norm(q, a);
        return;
    }
    int parts = st_parts(q, a->rows * a->width * 2);
    bool even = a->width % LANES == 0;
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t r = 0; r < a->rows; r++) {
        float row[HALF_WIDTH], mean, rstd;
        const uint16_t *x = (const uint16_t *)a->x.data + r * a->width, *gain = a->gain.data;
        uint16_t *y = (uint16_t *)a->y.data + r * a->width;
        for (int64_t j = 0; j < a->width; j += LANES)
            _mm512_storeu_ps(row + j, half_load(x + j, half_lanes(a->width - j)));
        if (even)
            half_norm_row(true, row, a->width, a->eps, gain, a->bias.data, y, &mean, &rstd);
        else
            half_norm_row(false, row, a->width, a->eps, gain, a->bias.data, y, &mean, &rstd);
        if (a->mean.data) ((float *)a->mean.data)[r] = mean;
        if (a->rstd.data) ((float *)a->rstd.data)[r] = rstd;
    }
}
