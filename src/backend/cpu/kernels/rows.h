/* Products of few rows or columns, which need no panels (rows.c), and such as are thin in two sizes
 * (thin.c). */
/* SPDX-License-Identifier: MIT */
#ifndef ST_ROWS_H
#define ST_ROWS_H

#include "backend/cpu/kernels/lanes.h"

/* A set that multiplies bfloat16 as it is has none of its own: it stands on AVX-512. */
#ifdef HALF_TILE
#define ROWS(name) KERNEL_NAME(avx512, name)
#else
#define ROWS(name) KERNEL(name)
#endif
#define rows_across ROWS(rows_across)
#define rows_down   ROWS(rows_down)
#define rows_gather ROWS(rows_gather)
#define rows_gemm   ROWS(rows_gemm)
#define thin_gemm   ROWS(thin_gemm)

/* The rows of A in float32, `k` apart; C and B of one batch item. */
typedef struct {
    const float *a;
    const void *b;
    st_dtype dtype; /* of b */
    int64_t m, k, ldb;
    st_tensor c, bias;
    int64_t at, row, col;                /* element (i, j) of C is at + i*row + j*col */
    bool flip;                           /* (i, j) is (column, row) of the product */
    int64_t bias_at, bias_rows, bias_ld; /* bias of row r: from bias_at + r % bias_rows * bias_ld */
    float beta;
} rows_part;

void rows_across(const rows_part *p, st_span c);
/* B stored (k, n): C's columns are sums of B's rows. Of rows `x` alone they go to `to`, (m, n). */
void rows_down(const rows_part *p, st_span c, st_span x, float *to);
/* `m` rows of length `k` in float32, `k` apart: as they are stored, or gathered into `to`. */
const float *rows_gather(const st_tensor *a, int64_t at, int64_t row, int64_t col, int64_t m,
                         int64_t k, float *to);
/* True if it was a product of few rows or columns, and is done. */
bool rows_gemm(st_stream *q, const st_gemm_args *g, const st_gemm_layout *l);
/* True if the product was thin, and is done. */
bool thin_gemm(const st_gemm_args *g, const st_gemm_layout *l, int parts);

#endif
