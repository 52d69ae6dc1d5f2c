/* What the tiles for bfloat16 operands share. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_GEMM_HALF_H
#define ST_GEMM_HALF_H

#include "backend/cpu/kernels/gemm_common.h"

typedef uint16_t gemm_cell;

_Static_assert(LANES == 16, "a vector is 16 pairs");

static inline uint16_t half_get(gemm_view v, int64_t i, int64_t j)
{
    return ((const uint16_t *)v.data)[i * v.rows + j * v.cols];
}

/* The first `n` bits. */
static inline uint32_t half_mask(int64_t n)
{
    return n < 32 ? (1u << n) - 1 : ~0u;
}

/* Pairs (a[i], b[i]): the first 16, the last 16. */
static inline void half_pairs(__m512i a, __m512i b, __m512i pairs[2])
{
    const __m512i low = _mm512_setr_epi32(
        0x200000, 0x210001, 0x220002, 0x230003, 0x240004, 0x250005, 0x260006, 0x270007, 0x280008,
        0x290009, 0x2a000a, 0x2b000b, 0x2c000c, 0x2d000d, 0x2e000e, 0x2f000f);
    const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(LANES));
    pairs[0] = _mm512_permutex2var_epi16(a, low, b);
    pairs[1] = _mm512_permutex2var_epi16(a, high, b);
}

/* A block of float32 numbers in rows `ld` apart as a factor: rounded in place, each row at the
 * beginning of where it was. Rows have room for whole vectors. */
static gemm_view gemm_cells(float *p, int64_t rows, int64_t cols, int64_t ld)
{
    for (int64_t i = 0; i < rows; i++) {
        float *row = p + i * ld;
        for (int64_t j = 0; j < cols; j += LANES) {
            vec v = vec_load(row + j);
            vec_narrow((uint16_t *)(void *)row + j, v);
        }
    }
    return (gemm_view){p, ST_BF16, 2 * ld, 1};
}

#endif
