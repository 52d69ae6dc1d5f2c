/* Sixteen rows of weights in blocks times a row of 8-bit numbers, by what the set multiplies.
 *
 * A packed group (tensor/packed.c) has, for every 32 numbers of k, the 16 scales (and for Q4_1 the
 * 16 least numbers) as float16 and then the rows' bytes interleaved by fours: four neighbours in k
 * of every row fill a vector. Products of 8-bit numbers are summed exactly in 32 bits. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CPU_BLOCKS_H
#define ST_CPU_BLOCKS_H

#include "backend/cpu/kernels/lanes.h"
#if defined(__AVX2__)
#include <immintrin.h>
#endif

enum { BLOCKS_ROWS = 16, BLOCKS_K = 32, BLOCKS_WORDS = BLOCKS_K / 4, BLOCKS_VECS = 16 / LANES };

/* One float for each of the 16 rows. */
typedef struct {
    vec v[BLOCKS_VECS];
} blocks_row;

typedef enum { BLOCKS_Q8_0, BLOCKS_Q4_0, BLOCKS_Q4_1 } blocks_kind;

/* Bytes of 16 rows' block. */
static inline int64_t blocks_bytes(blocks_kind kind)
{
    return kind == BLOCKS_Q8_0 ? 544 : kind == BLOCKS_Q4_0 ? 288 : 320;
}

/* Bytes before the numbers. */
static inline int64_t blocks_head(blocks_kind kind)
{
    return kind == BLOCKS_Q4_1 ? 64 : 32;
}

#if defined(__AVX512VNNI__)

/* The numbers of a block as unsigned bytes: those of Q8_0 plus 128, of the others as stored. */
typedef struct {
    __m512i w[BLOCKS_WORDS];
} blocks_cells;

enum { BLOCKS_OFFSET = 128 }; /* what Q8_0's cells have too much */

__attribute__((always_inline)) static inline void blocks_take(blocks_cells *c, const uint8_t *p,
                                                              const blocks_kind kind)
{
    if (kind == BLOCKS_Q8_0) {
#pragma GCC unroll 8
        for (int j = 0; j < BLOCKS_WORDS; j++)
            c->w[j] = _mm512_xor_si512(_mm512_loadu_si512(p + 64 * j), _mm512_set1_epi8(-128));
        return;
    }
    const __m512i low = _mm512_set1_epi8(15);
#pragma GCC unroll 4
    for (int j = 0; j < BLOCKS_WORDS / 2; j++) {
        __m512i both = _mm512_loadu_si512(p + 64 * j);
        c->w[j] = _mm512_and_si512(both, low);
        c->w[j + BLOCKS_WORDS / 2] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
    }
}

/* start + cells x, for the 16 rows. */
__attribute__((always_inline)) static inline blocks_row
blocks_dots(const blocks_cells *c, const int8_t *x, int32_t start, const blocks_kind kind)
{
    (void)kind;
    __m512i sum = _mm512_set1_epi32(start);
#pragma GCC unroll 8
    for (int j = 0; j < BLOCKS_WORDS; j++) {
        int32_t four;
        memcpy(&four, x + 4 * j, sizeof four);
        sum = _mm512_dpbusd_epi32(sum, c->w[j], _mm512_set1_epi32(four));
    }
    return (blocks_row){{(vec)_mm512_cvtepi32_ps(sum)}};
}

#elif defined(__AVX2__)

/* The numbers of a block, eight rows a vector: Q8_0's signed, the others' unsigned. */
typedef struct {
    __m256i w[BLOCKS_WORDS][2];
} blocks_cells;

enum { BLOCKS_OFFSET = 0 };

__attribute__((always_inline)) static inline void blocks_take(blocks_cells *c, const uint8_t *p,
                                                              const blocks_kind kind)
{
    const __m256i low = _mm256_set1_epi8(15);
    const int words = kind == BLOCKS_Q8_0 ? BLOCKS_WORDS : BLOCKS_WORDS / 2;
#pragma GCC unroll 8
    for (int j = 0; j < words; j++) {
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            __m256i both = _mm256_loadu_si256((const void *)(p + 64 * j + 32 * h));
            c->w[j][h] = kind == BLOCKS_Q8_0 ? both : _mm256_and_si256(both, low);
            if (kind == BLOCKS_Q8_0) continue;
            c->w[j + BLOCKS_WORDS / 2][h] = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
        }
    }
}

/* Pairs of products fit 16 bits: of |x| <= 127 with Q8_0's numbers from -127 on, each with the
 * sign of x; and all eight pairs' sums of the others', which are at most 15. */
__attribute__((always_inline)) static inline blocks_row
blocks_dots(const blocks_cells *c, const int8_t *x, int32_t start, const blocks_kind kind)
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i sum[2] = {_mm256_set1_epi32(start), _mm256_set1_epi32(start)};
    __m256i pairs[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
#pragma GCC unroll 8
    for (int j = 0; j < BLOCKS_WORDS; j++) {
        int32_t four;
        memcpy(&four, x + 4 * j, sizeof four);
        __m256i xs = _mm256_set1_epi32(four);
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            if (kind != BLOCKS_Q8_0) {
                pairs[h] = _mm256_add_epi16(pairs[h], _mm256_maddubs_epi16(c->w[j][h], xs));
                continue;
            }
            __m256i two =
                _mm256_maddubs_epi16(_mm256_abs_epi8(xs), _mm256_sign_epi8(c->w[j][h], xs));
            sum[h] = _mm256_add_epi32(sum[h], _mm256_madd_epi16(two, ones));
        }
    }
    if (kind != BLOCKS_Q8_0) {
        sum[0] = _mm256_add_epi32(sum[0], _mm256_madd_epi16(pairs[0], ones));
        sum[1] = _mm256_add_epi32(sum[1], _mm256_madd_epi16(pairs[1], ones));
    }
    blocks_row r;
    __m256 f[2] = {_mm256_cvtepi32_ps(sum[0]), _mm256_cvtepi32_ps(sum[1])};
    memcpy(&r, f, sizeof r);
    return r;
}

#else

typedef struct {
    int8_t w[BLOCKS_WORDS][4 * BLOCKS_ROWS];
} blocks_cells;

enum { BLOCKS_OFFSET = 0 };

static inline void blocks_take(blocks_cells *c, const uint8_t *p, const blocks_kind kind)
{
    if (kind == BLOCKS_Q8_0) {
        memcpy(c->w, p, sizeof c->w);
        return;
    }
    for (int j = 0; j < BLOCKS_WORDS / 2; j++) {
        for (int i = 0; i < 4 * BLOCKS_ROWS; i++) {
            c->w[j][i] = (int8_t)(p[64 * j + i] & 15);
            c->w[j + BLOCKS_WORDS / 2][i] = (int8_t)(p[64 * j + i] >> 4);
        }
    }
}

static inline blocks_row blocks_dots(const blocks_cells *c, const int8_t *x, int32_t start,
                                     const blocks_kind kind)
{
    (void)kind;
    int32_t sum[BLOCKS_ROWS];
    float wide[BLOCKS_ROWS];
    for (int r = 0; r < BLOCKS_ROWS; r++)
        sum[r] = start;
    for (int j = 0; j < BLOCKS_WORDS; j++) {
        for (int r = 0; r < BLOCKS_ROWS; r++) {
            for (int i = 0; i < 4; i++)
                sum[r] += c->w[j][4 * r + i] * x[4 * j + i];
        }
    }
    for (int r = 0; r < BLOCKS_ROWS; r++)
        wide[r] = (float)sum[r];
    blocks_row row;
    memcpy(&row, wide, sizeof row);
    return row;
}

#endif

/* 16 float16 numbers. */
static inline blocks_row blocks_halves(const uint8_t *p)
{
    blocks_row r;
#if defined(__AVX512F__)
    r.v[0] = (vec)_mm512_cvtph_ps(_mm256_loadu_si256((const void *)p));
#elif defined(__F16C__)
    r.v[0] = (vec)_mm256_cvtph_ps(_mm_loadu_si128((const void *)p));
    r.v[1] = (vec)_mm256_cvtph_ps(_mm_loadu_si128((const void *)(p + 16)));
#else
    float wide[BLOCKS_ROWS];
    for (int i = 0; i < BLOCKS_ROWS; i++) {
        uint16_t h;
        memcpy(&h, p + 2 * i, sizeof h);
        wide[i] = st_f16_to_f32(h);
    }
    memcpy(&r, wide, sizeof r);
#endif
    return r;
}

#endif
