/* The packed panels of a product and the register tile that walks them, by what the set multiplies:
 * float32, or bfloat16 as it is. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_PANELS_H
#define ST_PANELS_H

#include "backend/cpu/kernels/gemm_common.h"
#ifdef HALF_TILE
#include HALF_TILE
#else
#include "backend/cpu/kernels/gemm_float.h"
#endif

/* All tiles of a block of packed panels. */
static void gemm_block(int64_t m, int64_t n, int64_t k, const gemm_cell *a, const gemm_cell *b,
                       gemm_sink to)
{
    int64_t depth = gemm_depth(k);
    for (int64_t j = 0; j < n; j += TILE_COLS) {
        for (int64_t i = 0; i < m; i += TILE_ROWS) {
            gemm_tile(k, a + i * depth, b + j * depth, at_most(m - i, TILE_ROWS),
                      at_most(n - j, TILE_COLS), gemm_sink_at(to, i, j));
        }
    }
}

#endif
