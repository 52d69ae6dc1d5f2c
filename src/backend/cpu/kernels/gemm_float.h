/* The product's panels and register tile in float32, whatever the operands are stored as. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_GEMM_FLOAT_H
#define ST_GEMM_FLOAT_H

#include "backend/cpu/kernels/gemm_common.h"

typedef float gemm_cell;

enum { TILE_COLS = 2 * LANES };
enum {
    PACK_M = 192 / TILE_ROWS * TILE_ROWS,
    PACK_K = 256, /* a panel of B and one of A fit the first cache level */
    PACK_N = 512,
    PACK_SPILL = 16, /* see gemm_pack_rows; a cache line */
};

_Static_assert(TILE_ROWS <= LANES, "gemm_pack_rows spills at most once");

/* Cells of a panel that is one row wide and k deep. */
static inline int64_t gemm_depth(int64_t k)
{
    return k;
}

/* A block of float32 numbers in rows `ld` apart as a factor; what it was may be gone. */
static gemm_view gemm_cells(float *p, int64_t rows, int64_t cols, int64_t ld)
{
    (void)rows, (void)cols;
    return (gemm_view){p, ST_F32, ld, 1};
}

/* What a thread does before and after it walks panels. */
static inline void gemm_enter(void) {}

static inline void gemm_leave(void) {}

/* ---- packing --------------------------------------------------------------------------------- */

/* dst[j * wide + i] = element (i, j) of `v` for i < wide, j < n, where the elements of a row are
 * neighbours: LANES x LANES at a time. What a vector holds beyond `wide` spills into the next
 * column and is overwritten by it; after the last one there is room for it. */
static void gemm_pack_rows(float *dst, gemm_view v, int wide, int64_t n)
{
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES) {
        for (int i0 = 0; i0 < wide; i0 += LANES) {
            vec block[LANES];
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++) {
                int64_t row = i0 + i < wide ? i0 + i : wide - 1;
                block[i] = vec_read(v.data, v.dtype, row * v.rows + j);
            }
            vec_transpose(block);
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++)
                vec_store(dst + (j + i) * wide + i0, block[i]);
        }
    }
    for (; j < n; j++) {
        for (int i = 0; i < wide; i++)
            dst[j * wide + i] = gemm_get(v, i * v.rows + j);
    }
}

/* One panel of any layout; rows from `have` on are zero. */
static void gemm_pack_panel(float *dst, gemm_view v, int wide, int64_t have, int64_t n)
{
    if (v.cols == 1 && have == wide) {
        gemm_pack_rows(dst, v, wide, n);
        return;
    }
    if (v.rows == 1 && have == wide) { /* runs of `wide` neighbours */
        for (int64_t j = 0; j < n; j++) {
            const float *from = floats_in(v.data, v.dtype, j * v.cols, wide, dst + j * wide);
            if (v.dtype == ST_F32) memcpy(dst + j * wide, from, (size_t)wide * sizeof *dst);
        }
        return;
    }
    for (int64_t j = 0; j < n; j++) {
        for (int i = 0; i < wide; i++) {
            dst[j * wide + i] = i < have ? gemm_get(v, i * v.rows + j * v.cols) : 0.0f;
        }
    }
}

/* Panels of `wide` rows of an m x n matrix, one after the other. */
static void gemm_pack(float *dst, gemm_view v, int wide, int64_t m, int64_t n)
{
    for (int64_t i = 0; i < m; i += wide) {
        gemm_pack_panel(dst + i * n, gemm_at(v, i, 0), wide, at_most(m - i, wide), n);
    }
}

static void gemm_pack_a(gemm_cell *dst, gemm_view v, int64_t m, int64_t k)
{
    gemm_pack(dst, v, TILE_ROWS, m, k);
}

/* Of op(B) transposed: (n, k). */
static void gemm_pack_b(gemm_cell *dst, gemm_view v, int64_t n, int64_t k)
{
    gemm_pack(dst, v, TILE_COLS, n, k);
}

/* ---- the register tile ----------------------------------------------------------------------- */

/* One tile: `a` (k, TILE_ROWS) and `b` (k, TILE_COLS) are panels. All loops over the sums must be
 * unrolled, or gcc keeps the array in memory. */
static void gemm_tile(int64_t k, const float *restrict a, const float *restrict b, int64_t rows,
                      int64_t cols, gemm_sink to)
{
    vec sum[TILE_ROWS][2];
    gemm_prefetch(to, rows);
#pragma GCC unroll 16
    for (int i = 0; i < TILE_ROWS; i++)
        sum[i][0] = sum[i][1] = (vec){0};
    for (int64_t x = 0; x < k; x++) {
        vec b0 = vec_load(b + x * TILE_COLS), b1 = vec_load(b + x * TILE_COLS + LANES);
#pragma GCC unroll 16
        for (int i = 0; i < TILE_ROWS; i++) {
            vec ai = vec_set(a[x * TILE_ROWS + i]);
            sum[i][0] += ai * b0;
            sum[i][1] += ai * b1;
        }
    }
    if (cols == TILE_COLS) {
#pragma GCC unroll 16
        for (int i = 0; i < TILE_ROWS; i++) {
            if (i >= rows) break;
            gemm_put(sum[i][0], to, i, 0);
            gemm_put(sum[i][1], to, i, LANES);
        }
        return;
    }
    float edge[TILE_ROWS * TILE_COLS];
#pragma GCC unroll 16
    for (int i = 0; i < TILE_ROWS; i++) {
        vec_store(edge + i * TILE_COLS, sum[i][0]);
        vec_store(edge + i * TILE_COLS + LANES, sum[i][1]);
    }
    gemm_put_edge(edge, TILE_COLS, rows, cols, to);
}

#endif
