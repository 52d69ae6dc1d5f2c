/* Panels of op(B) from weights in blocks, widened as they are packed. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_GEMM_BLOCKS_H
#define ST_GEMM_BLOCKS_H

#include "backend/cpu/kernels/blocks.h"
#include "backend/cpu/kernels/panels.h"

/* B stored (rows, ld) in blocks; data NULL: it is not. `row` is where a part's columns begin. */
typedef struct {
    const void *data;
    st_dtype dtype;
    int64_t rows, ld, row;
} gemm_stored;

enum {
    UNBLOCK_ROWS = TILE_COLS * PACK_K,            /* cells of the rows of one panel */
    GROUP_CELLS = sizeof(gemm_cell) == 2 ? 2 : 1, /* of one column, before the next one */
};

/* The block of a packed group at `p` in float32: number x of row r at tile[x][r]. */
static void gemm_unblock(float tile[BLOCKS_K][BLOCKS_ROWS], const uint8_t *p, blocks_kind kind)
{
    float d[BLOCKS_ROWS], least[BLOCKS_ROWS] = {0};
    blocks_row halves = blocks_halves(p);
    memcpy(d, &halves, sizeof d);
    if (kind == BLOCKS_Q4_1) {
        halves = blocks_halves(p + 32);
        memcpy(least, &halves, sizeof least);
    }
    for (int r = 0; kind == BLOCKS_Q4_0 && r < BLOCKS_ROWS; r++)
        least[r] = -8 * d[r];
    p += blocks_head(kind);
    for (int j = 0; j < (kind == BLOCKS_Q8_0 ? BLOCKS_WORDS : BLOCKS_WORDS / 2); j++) {
        uint32_t word[BLOCKS_ROWS];
        memcpy(word, p + 64 * j, sizeof word);
        for (int i = 0; i < 4; i++) {
            float *lo = tile[4 * j + i], *hi = tile[(4 * j + i + BLOCKS_K / 2) % BLOCKS_K];
            if (kind == BLOCKS_Q8_0) {
#pragma omp simd
                for (int r = 0; r < BLOCKS_ROWS; r++)
                    lo[r] = d[r] * (float)((int32_t)(word[r] << (24 - 8 * i)) >> 24);
                continue;
            }
#pragma omp simd
            for (int r = 0; r < BLOCKS_ROWS; r++) {
                lo[r] = d[r] * (float)(int32_t)(word[r] >> (8 * i) & 15) + least[r];
                hi[r] = d[r] * (float)(int32_t)(word[r] >> (8 * i + 4) & 15) + least[r];
            }
        }
    }
}

/* Steps of k of 16 columns into a panel; `to` is where the first of them goes. */
static void gemm_unblock_store(gemm_cell *to, float tile[BLOCKS_K][BLOCKS_ROWS])
{
#ifdef HALF_TILE
    for (int x = 0; x < BLOCKS_K; x += 2) {
        uint16_t pair[2][BLOCKS_ROWS];
        vec_narrow(pair[0], vec_load(tile[x]));
        vec_narrow(pair[1], vec_load(tile[x + 1]));
#pragma omp simd
        for (int r = 0; r < BLOCKS_ROWS; r++) {
            to[x * TILE_COLS + 2 * r] = pair[0][r];
            to[x * TILE_COLS + 2 * r + 1] = pair[1][r];
        }
    }
#else
    for (int x = 0; x < BLOCKS_K; x++)
        memcpy(to + x * TILE_COLS, tile[x], sizeof tile[x]);
#endif
}

/* A panel of whole packed groups. */
static void gemm_take_groups(gemm_cell *panel, const gemm_stored *w, int64_t j, int64_t x,
                             int64_t k)
{
    st_dtype plain = st_dtype_plain(w->dtype);
    blocks_kind kind = plain == ST_Q8_0   ? BLOCKS_Q8_0
                       : plain == ST_Q4_0 ? BLOCKS_Q4_0
                                          : BLOCKS_Q4_1;
    for (int64_t h = 0; h < TILE_COLS; h += BLOCKS_ROWS) {
        const uint8_t *group = (const uint8_t *)w->data + st_dtype_bytes(w->dtype, (j + h) * w->ld);
        group += x / BLOCKS_K * blocks_bytes(kind);
        for (int64_t y = 0; y < k; y += BLOCKS_K, group += blocks_bytes(kind)) {
            float tile[BLOCKS_K][BLOCKS_ROWS];
            gemm_unblock(tile, group, kind);
            gemm_unblock_store(panel + y * TILE_COLS + h * GROUP_CELLS, tile);
        }
    }
}

/* As gemm_pack_b of rows [j, j + n) of B, steps [x, x + k); `rows` has room for UNBLOCK_ROWS. */
static void gemm_take_blocks(gemm_cell *dst, const gemm_stored *w, int64_t j, int64_t x, int64_t n,
                             int64_t k, gemm_cell *rows)
{
    bool packed = st_dtype_plain(w->dtype) != w->dtype && TILE_COLS % BLOCKS_ROWS == 0;
    for (int64_t at = 0; at < n; at += TILE_COLS) {
        int64_t have = at_most(n - at, TILE_COLS), row = w->row + j + at;
        gemm_cell *panel = dst + at * gemm_depth(k);
        if (packed && row + TILE_COLS <= w->rows / BLOCKS_ROWS * BLOCKS_ROWS) {
            gemm_take_groups(panel, w, row, x, k);
            continue;
        }
        for (int64_t r = 0; r < have; r++) {
            for (int64_t y = 0; y < k; y += BLOCKS_K) {
                float wide[BLOCKS_K];
                st_blocks_read(w->data, w->dtype, w->rows, w->ld, row + r, x + y, BLOCKS_K, wide);
#ifdef HALF_TILE
                narrow(rows + r * k + y, wide, BLOCKS_K);
#else
                memcpy(rows + r * k + y, wide, sizeof wide);
#endif
            }
        }
        gemm_view v = {rows, sizeof *rows == 2 ? ST_BF16 : ST_F32, k, 1};
        gemm_pack_b(panel, v, have, k);
    }
}

#endif
