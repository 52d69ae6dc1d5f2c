/* The product's panels and register tile for bfloat16 operands on AMX: four tiles of sums, 16 x 16
 * each, from two of A and two of B (TDPBF16PS: sum += a0 b0 + a1 b1 in float32; numbers below
 * 2^-126 count as zero). For every 32 steps of k a panel holds its rows of A one after the other,
 * and pairs of every column of B as in gemm_pairs.h; k ends with zeros. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_GEMM_AMX_H
#define ST_GEMM_AMX_H

#include "backend/cpu/kernels/gemm_half.h"

enum { TILE_COLS = 2 * LANES, STEP = 2 * LANES };
enum {
    PACK_M = 192,
    PACK_K = 1152, /* as in gemm_pairs.h */
    PACK_N = 512,
    PACK_SPILL = 0,
};

_Static_assert(TILE_ROWS == 2 * LANES && LANES == 16, "two tiles of 16 each way");

static inline int64_t gemm_depth(int64_t k)
{
    return (k + STEP - 1) / STEP * STEP;
}

/* Tiles have no shape until the thread says so, and cost time at every switch between threads until
 * it lets go of them. */
static void gemm_enter(void)
{
    static const struct {
        uint8_t palette, start, zero[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } shape = {.palette = 1,
               .bytes = {64, 64, 64, 64, 64, 64, 64, 64},
               .rows = {16, 16, 16, 16, 16, 16, 16, 16}};
    _Static_assert(sizeof shape == 64, "as the instruction reads it");
    _tile_loadconfig(&shape);
}

static void gemm_leave(void)
{
    _tile_release();
}

/* 32 steps of k from x on, of 32 rows of A; rows from `have` on repeat the last. */
static void amx_pack_a(gemm_cell *dst, gemm_view v, int64_t have, int64_t k)
{
    for (int64_t i = 0; i < TILE_ROWS; i++) {
        int64_t row = at_most(i, have - 1);
        if (v.cols == 1) {
            __mmask32 load = half_mask(k);
            const uint16_t *from = (const uint16_t *)v.data + row * v.rows;
            _mm512_storeu_si512(dst + i * STEP, _mm512_maskz_loadu_epi16(load, from));
            continue;
        }
        for (int64_t j = 0; j < STEP; j++)
            dst[i * STEP + j] = j < k ? half_get(v, row, j) : 0;
    }
}

/* Steps 2 j and 2 j + 1 of k, of neighbours in memory: pairs by column. */
static inline void amx_pair(gemm_cell *dst, gemm_view v, int64_t j, __mmask32 load, int64_t k)
{
    const uint16_t *from = (const uint16_t *)v.data + 2 * j * v.cols;
    __m512i a = _mm512_setzero_si512(), b = a, pairs[2];
    if (2 * j < k) a = _mm512_maskz_loadu_epi16(load, from);
    if (2 * j + 1 < k) b = _mm512_maskz_loadu_epi16(load, from + v.cols);
    half_pairs(a, b, pairs);
    _mm512_storeu_si512(dst, pairs[0]);
    _mm512_storeu_si512(dst + STEP, pairs[1]);
}

/* The same where the rows of A are strided and its columns are neighbours: pairs by column, then
 * transposed. */
static void amx_pack_a_columns(gemm_cell *dst, gemm_view v, int64_t have, int64_t k)
{
    gemm_cell pairs[LANES][2 * STEP];
    for (int64_t j = 0; j < LANES; j++)
        amx_pair(pairs[j], v, j, half_mask(have), k);
    for (int half = 0; half < 2; half++) {
        vec block[LANES];
#pragma GCC unroll 16
        for (int j = 0; j < LANES; j++)
            memcpy(&block[j], pairs[j] + half * STEP, sizeof block[j]);
        vec_transpose(block);
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            memcpy(dst + (half * LANES + i) * STEP, &block[i], sizeof block[i]);
    }
}

/* 32 steps of k of 32 columns of op(B), `v` transposed: rows of `v` are columns. */
static void amx_pack_b(gemm_cell *dst, gemm_view v, int64_t have, int64_t k)
{
    if (v.rows == 1) {
        for (int64_t j = 0; j < LANES; j++)
            amx_pair(dst + j * 2 * STEP, v, j, half_mask(have), k);
        return;
    }
    gemm_cell rows[TILE_COLS * STEP];
    amx_pack_a(rows, v, have, k);
    for (int half = 0; half < 2; half++) {
        vec block[LANES];
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            memcpy(&block[i], rows + (half * LANES + i) * STEP, sizeof block[i]);
        vec_transpose(block);
#pragma GCC unroll 16
        for (int j = 0; j < LANES; j++)
            memcpy(dst + j * 2 * STEP + half * STEP, &block[j], sizeof block[j]);
    }
}

static void gemm_pack_a(gemm_cell *dst, gemm_view v, int64_t m, int64_t k)
{
    for (int64_t x = 0; x < k; x += STEP) {
        for (int64_t i = 0; i < m; i += TILE_ROWS) {
            gemm_cell *to = dst + i * gemm_depth(k) + x * TILE_ROWS;
            int64_t have = at_most(m - i, TILE_ROWS), steps = at_most(k - x, STEP);
            if (v.rows == 1 && v.cols != 1)
                amx_pack_a_columns(to, gemm_at(v, i, x), have, steps);
            else
                amx_pack_a(to, gemm_at(v, i, x), have, steps);
        }
    }
}

/* Of op(B) transposed: (n, k). */
static void gemm_pack_b(gemm_cell *dst, gemm_view v, int64_t n, int64_t k)
{
    for (int64_t x = 0; x < k; x += STEP) {
        for (int64_t j = 0; j < n; j += TILE_COLS) {
            amx_pack_b(dst + j * gemm_depth(k) + x * TILE_COLS, gemm_at(v, j, x),
                       at_most(n - j, TILE_COLS), at_most(k - x, STEP));
        }
    }
}

static void gemm_tile(int64_t k, const gemm_cell *restrict a, const gemm_cell *restrict b,
                      int64_t rows, int64_t cols, gemm_sink to)
{
    enum { ROW = STEP * sizeof(gemm_cell), PAIRS = 2 * ROW, SUMS = TILE_COLS * sizeof(float) };
    _Alignas(64) float sum[TILE_ROWS * TILE_COLS];
    __asm__ volatile("" ::: "memory"); /* compilers do not see that tile loads read panels */
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t x = 0; x < k; x += STEP) {
        _tile_loadd(4, a + x * TILE_ROWS, ROW);
        _tile_loadd(6, b + x * TILE_COLS, PAIRS);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b + x * TILE_COLS + STEP, PAIRS);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a + x * TILE_ROWS + LANES * STEP, ROW);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, sum, SUMS);
    _tile_stored(1, sum + LANES, SUMS);
    _tile_stored(2, sum + LANES * TILE_COLS, SUMS);
    _tile_stored(3, sum + LANES * TILE_COLS + LANES, SUMS);
    if (cols < TILE_COLS) {
        gemm_put_edge(sum, TILE_COLS, rows, cols, to);
        return;
    }
    for (int64_t i = 0; i < rows; i++) {
        gemm_put(vec_load(sum + i * TILE_COLS), to, i, 0);
        gemm_put(vec_load(sum + i * TILE_COLS + LANES), to, i, LANES);
    }
}

/* rows of c (16 or 32, `right`: two tiles wide) = a b, or what is there and a b. */
__attribute__((always_inline)) static inline void amx_rows(bool low, bool right, bool add,
                                                           int64_t k, const gemm_cell *a,
                                                           int64_t lda, const gemm_cell *b,
                                                           float *c, int64_t ldc)
{
    enum { PAIRS = 2 * STEP * sizeof(gemm_cell) };
    int64_t row = lda * (int64_t)sizeof *a, sums = ldc * (int64_t)sizeof *c;
    if (add) {
        _tile_loadd(0, c, sums);
        if (right) _tile_loadd(1, c + LANES, sums);
        if (low) _tile_loadd(2, c + LANES * ldc, sums);
        if (low && right) _tile_loadd(3, c + LANES * ldc + LANES, sums);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t x = 0; x < k; x += STEP) {
        _tile_loadd(4, a + x, row);
        _tile_loadd(6, b + x * TILE_COLS, PAIRS);
        _tile_dpbf16ps(0, 4, 6);
        if (right) _tile_loadd(7, b + x * TILE_COLS + STEP, PAIRS);
        if (right) _tile_dpbf16ps(1, 4, 7);
        if (low) _tile_loadd(5, a + LANES * lda + x, row);
        if (low) _tile_dpbf16ps(2, 5, 6);
        if (low && right) _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, sums);
    if (right) _tile_stored(1, c + LANES, sums);
    if (low) _tile_stored(2, c + LANES * ldc, sums);
    if (low && right) _tile_stored(3, c + LANES * ldc + LANES, sums);
}

/* As in gemm_pairs.h, but k is rounded up to STEP: rows of a have zeros, or b has, from there on.
 */
__attribute__((always_inline)) static inline void
gemm_rows(int64_t m, int64_t n, int64_t k, const gemm_cell *a, int64_t lda, const gemm_cell *b,
          int64_t depth, float *c, int64_t ldc, const float *shrink)
{
    for (int64_t i = 0; i < m && shrink; i++) {
        if (shrink[i] == 1.0f) continue;
        for (int64_t j = 0; j < n; j += LANES)
            vec_store(c + i * ldc + j, vec_load(c + i * ldc + j) * shrink[i]);
    }
    __asm__ volatile("" ::: "memory"); /* compilers do not see what tile loads read */
    for (int64_t j = 0; j < n; j += TILE_COLS) {
        if (shrink && m > LANES)
            amx_rows(true, true, true, k, a, lda, b + j * depth, c + j, ldc);
        else if (shrink)
            amx_rows(false, true, true, k, a, lda, b + j * depth, c + j, ldc);
        else if (m <= LANES)
            amx_rows(false, true, false, k, a, lda, b + j * depth, c + j, ldc);
        else if (n - j <= LANES)
            amx_rows(true, false, false, k, a, lda, b + j * depth, c + j, ldc);
        else
            amx_rows(true, true, false, k, a, lda, b + j * depth, c + j, ldc);
    }
}

#endif
