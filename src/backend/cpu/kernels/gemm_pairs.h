/* The product's panels and register tile for bfloat16 operands where the processor multiplies pairs
 * of them (VDPBF16PS: sum += a0 b0 + a1 b1 in float32; numbers below 2^-126 count as zero). A panel
 * holds, for every two steps of k, one pair per row or column; an odd k ends with a zero. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_GEMM_PAIRS_H
#define ST_GEMM_PAIRS_H

#include "backend/cpu/kernels/gemm_half.h"

enum { TILE_COLS = 2 * LANES };
enum {
    PACK_M = 192 / TILE_ROWS * TILE_ROWS,
    PACK_K = 1152, /* panels stream from the second cache level; C is touched once if k fits */
    PACK_N = 512,
    PACK_SPILL = 2 * LANES, /* see pairs_rows */
};

_Static_assert(TILE_ROWS <= LANES, "pairs_rows spills at most once");

static inline int64_t gemm_depth(int64_t k)
{
    return (k + 1) / 2 * 2;
}

/* What a thread does before and after it walks panels. */
static inline void gemm_enter(void) {}

static inline void gemm_leave(void) {}

/* Pairs [j, n / 2) of a panel, one by one; rows from `have` on repeat the last. */
static void pairs_slow(gemm_cell *dst, gemm_view v, int wide, int64_t have, int64_t j, int64_t n)
{
    for (; 2 * j < n; j++) {
        for (int i = 0; i < wide; i++) {
            int64_t row = at_most(i, have - 1);
            dst[2 * (j * wide + i)] = half_get(v, row, 2 * j);
            dst[2 * (j * wide + i) + 1] = 2 * j + 1 < n ? half_get(v, row, 2 * j + 1) : 0;
        }
    }
}

/* Rows whose elements are neighbours: LANES x LANES pairs are transposed at a time. What a vector
 * holds beyond `wide` spills into the next pairs and is overwritten by them; after the last there
 * is room for it. */
static void pairs_rows(gemm_cell *dst, gemm_view v, int wide, int64_t have, int64_t n)
{
    int64_t j = 0;
    for (; 2 * (j + LANES) <= n; j += LANES) {
        for (int i0 = 0; i0 < wide; i0 += LANES) {
            vec block[LANES];
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++) {
                const uint16_t *row = (const uint16_t *)v.data + at_most(i0 + i, have - 1) * v.rows;
                memcpy(&block[i], row + 2 * j, sizeof block[i]);
            }
            vec_transpose(block);
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++)
                memcpy(dst + 2 * ((j + i) * wide + i0), &block[i], sizeof block[i]);
        }
    }
    pairs_slow(dst, v, wide, have, j, n);
}

/* Columns whose elements are neighbours: two of them are interleaved. */
static void pairs_columns(gemm_cell *dst, gemm_view v, int wide, int64_t have, int64_t n)
{
    __mmask32 load = half_mask(have);
    __mmask16 store = wide < LANES ? (__mmask16)((1u << wide) - 1) : 0xffff;
    int64_t j = 0;
    for (; 2 * j + 1 < n; j++) {
        const uint16_t *from = (const uint16_t *)v.data + 2 * j * v.cols;
        __m512i a = _mm512_maskz_loadu_epi16(load, from);
        __m512i b = _mm512_maskz_loadu_epi16(load, from + v.cols);
        gemm_cell *to = dst + 2 * j * wide;
        __m512i pairs[2];
        half_pairs(a, b, pairs);
        _mm512_mask_storeu_epi32(to, store, pairs[0]);
        if (wide > LANES) _mm512_storeu_si512(to + 2 * LANES, pairs[1]);
    }
    pairs_slow(dst, v, wide, have, j, n);
}

/* A stretch of k at a time, so that a cache line serves all panels that it reaches. */
static void pairs_pack_columns(gemm_cell *dst, gemm_view v, int wide, int64_t m, int64_t k)
{
    enum { STRETCH = 32 };
    for (int64_t x = 0; x < k; x += STRETCH) {
        for (int64_t i = 0; i < m; i += wide) {
            pairs_columns(dst + i * gemm_depth(k) + x * wide, gemm_at(v, i, x), wide,
                          at_most(m - i, wide), at_most(k - x, STRETCH));
        }
    }
}

static void pairs_pack(gemm_cell *dst, gemm_view v, int wide, int64_t m, int64_t k)
{
    if (v.rows == 1 && v.cols != 1) {
        pairs_pack_columns(dst, v, wide, m, k);
        return;
    }
    for (int64_t i = 0; i < m; i += wide) {
        gemm_cell *panel = dst + i * gemm_depth(k);
        gemm_view part = gemm_at(v, i, 0);
        if (v.cols == 1)
            pairs_rows(panel, part, wide, at_most(m - i, wide), k);
        else
            pairs_slow(panel, part, wide, at_most(m - i, wide), 0, k);
    }
}

static void gemm_pack_a(gemm_cell *dst, gemm_view v, int64_t m, int64_t k)
{
    pairs_pack(dst, v, TILE_ROWS, m, k);
}

/* Of op(B) transposed: (n, k). */
static void gemm_pack_b(gemm_cell *dst, gemm_view v, int64_t n, int64_t k)
{
    pairs_pack(dst, v, TILE_COLS, n, k);
}

/* sum (rows, `wide` vectors) = a b: step x of row i of a at i row + x step, b a panel. All but k
 * are constants of the callers; loops over sums must be unrolled, or gcc keeps them in memory. */
__attribute__((always_inline)) static inline void
pairs_sums(__m512 sum[TILE_ROWS][2], int rows, int wide, int64_t k, const gemm_cell *restrict a,
           int64_t row, int64_t step, const gemm_cell *restrict b)
{
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
        sum[i][0] = sum[i][1] = _mm512_setzero_ps();
    for (int64_t x = 0; x < k; x += 2) {
        __m512bh b0 = (__m512bh)_mm512_loadu_si512(b + x * TILE_COLS);
        __m512bh b1 = (__m512bh)_mm512_loadu_si512(b + x * TILE_COLS + 2 * LANES);
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++) {
            int pair;
            memcpy(&pair, a + x * step + i * row, sizeof pair);
            __m512bh ai = (__m512bh)_mm512_set1_epi32(pair);
            sum[i][0] = _mm512_dpbf16_ps(sum[i][0], ai, b0);
            if (wide > 1) sum[i][1] = _mm512_dpbf16_ps(sum[i][1], ai, b1);
        }
    }
}

/* One tile. */
static void gemm_tile(int64_t k, const gemm_cell *restrict a, const gemm_cell *restrict b,
                      int64_t rows, int64_t cols, gemm_sink to)
{
    __m512 sum[TILE_ROWS][2];
    gemm_prefetch(to, rows);
    pairs_sums(sum, TILE_ROWS, 2, k, a, 2, TILE_ROWS, b);
    if (cols == TILE_COLS) {
#pragma GCC unroll 16
        for (int i = 0; i < TILE_ROWS; i++) {
            if (i >= rows) break;
            gemm_put((vec)sum[i][0], to, i, 0);
            gemm_put((vec)sum[i][1], to, i, LANES);
        }
        return;
    }
    float edge[TILE_ROWS * TILE_COLS];
#pragma GCC unroll 16
    for (int i = 0; i < TILE_ROWS; i++) {
        vec_store(edge + i * TILE_COLS, (vec)sum[i][0]);
        vec_store(edge + i * TILE_COLS + LANES, (vec)sum[i][1]);
    }
    gemm_put_edge(edge, TILE_COLS, rows, cols, to);
}

/* c (rows, `wide` vectors; rows ldc apart) = shrink c + a b: a in rows lda apart, b a panel. c is
 * not read where shrink is NULL. Rows, wide, lda and ldc are constants of the callers. */
__attribute__((always_inline)) static inline void
pairs_tile(int rows, int wide, int64_t k, const gemm_cell *restrict a, int64_t lda,
           const gemm_cell *restrict b, float *restrict c, int64_t ldc, const float *shrink)
{
    __m512 sum[TILE_ROWS][2];
    pairs_sums(sum, rows, wide, k, a, lda, 1, b);
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
        float *to = c + i * ldc;
        vec s0 = (vec)sum[i][0], s1 = (vec)sum[i][1];
        if (shrink) s0 += shrink[i] * vec_load(to), s1 += shrink[i] * vec_load(to + LANES);
        vec_store(to, s0);
        if (wide > 1) vec_store(to + LANES, s1);
    }
}

/* c (m, n) = shrink c + a b, or a b where shrink is NULL: m <= TILE_ROWS rows of a (m, k), lda
 * apart and with rows to read up to TILE_ROWS; b (k, n) in panels `depth` long. Row i of c is
 * written up to a pair of vectors, and all TILE_ROWS rows may be. k is even. */
__attribute__((always_inline)) static inline void
gemm_rows(int64_t m, int64_t n, int64_t k, const gemm_cell *a, int64_t lda, const gemm_cell *b,
          int64_t depth, float *c, int64_t ldc, const float *shrink)
{
    enum { FEW = 4 };
    for (int64_t j = 0; j < n; j += TILE_COLS) {
        if (m <= FEW)
            pairs_tile(FEW, 2, k, a, lda, b + j * depth, c + j, ldc, shrink);
        else if (n - j <= LANES)
            pairs_tile(TILE_ROWS, 1, k, a, lda, b + j * depth, c + j, ldc, shrink);
        else
            pairs_tile(TILE_ROWS, 2, k, a, lda, b + j * depth, c + j, ldc, shrink);
    }
}

#endif
