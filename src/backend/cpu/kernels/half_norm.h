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

static void half_norm_fwd(st_stream *q, const st_norm_fwd_args *a)
{
    bool whole = a->x.dtype == ST_BF16 && a->gain.dtype == ST_BF16 && a->bias.dtype == ST_BF16;
    if (!whole || !a->gain.data || !a->bias.data || a->width > HALF_WIDTH) {
        st_cpu_wide(q)->norm_fwd(q, a);
        return;
    }
    int parts = st_parts(q, a->rows * a->width * 2);
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t r = 0; r < a->rows; r++) {
        float row[HALF_WIDTH], mean, rstd;
        const uint16_t *x = (const uint16_t *)a->x.data + r * a->width, *gain = a->gain.data;
        uint16_t *y = (uint16_t *)a->y.data + r * a->width;
        for (int64_t j = 0; j < a->width; j += LANES)
            _mm512_storeu_ps(row + j, half_load(x + j, half_lanes(a->width - j)));
        half_norm_row(row, a->width, a->eps, gain, a->bias.data, y, &mean, &rstd);
        if (a->mean.data) ((float *)a->mean.data)[r] = mean;
        if (a->rstd.data) ((float *)a->rstd.data)[r] = rstd;
    }
}
