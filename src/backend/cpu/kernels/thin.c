/* Products that are thin in two sizes, as the small factor of a Kronecker product makes them:
 * memory passes, not arithmetic. Rows of few numbers times a few-by-few matrix (thin_map), and sums
 * over very many rows of few-by-few outer products (thin_sum). */
/* SPDX-License-Identifier: MIT */
#include "backend/cpu/kernels/rows.h"

enum { THIN_MAX = 16, THIN_ROWS = 64, THIN_FLUSH = 4096 };

/* ---- C (m, n) = beta C + A (m, k) B (k, n) + bias, k and n at most THIN_MAX ------------------ */

/* c[i] = bias[i * bias_step] + a[i] b for `rows` rows; the callers give constant k and n. */
__attribute__((always_inline)) static inline void
thin_rows(const float *restrict a, const float *restrict b, const float *restrict bias,
          int64_t bias_step, float *restrict c, int64_t rows, const int64_t k, const int64_t n)
{
    for (int64_t i = 0; i < rows; i++) {
#pragma GCC unroll 16
        for (int64_t j = 0; j < n; j++) {
            float sum = bias[i * bias_step + j];
#pragma GCC unroll 16
            for (int64_t x = 0; x < k; x++)
                sum += a[i * k + x] * b[x * n + j];
            c[i * n + j] = sum;
        }
    }
}

/* The shapes that Kronecker factors of 2, 3 and 4 make, unrolled; any other in loops. */
static void thin_block(const float *a, const float *b, const float *bias, int64_t bias_step,
                       float *c, int64_t rows, int64_t k, int64_t n)
{
    switch (k * (THIN_MAX + 1) + n) {
#define THIN_CASE(K, N)                                                                            \
    case K *(THIN_MAX + 1) + N: thin_rows(a, b, bias, bias_step, c, rows, K, N); return;
        THIN_CASE(1, 2)
        THIN_CASE(1, 3)
        THIN_CASE(1, 4)
        THIN_CASE(1, 8)
        THIN_CASE(2, 1)
        THIN_CASE(3, 1)
        THIN_CASE(4, 1)
        THIN_CASE(8, 1)
        THIN_CASE(2, 2)
        THIN_CASE(3, 3)
        THIN_CASE(3, 6)
        THIN_CASE(6, 3)
        THIN_CASE(4, 4)
#undef THIN_CASE
    default: thin_rows(a, b, bias, bias_step, c, rows, k, n);
    }
}

/* Rows [r.lo, r.hi) of one batch item. */
static void thin_span(const st_gemm_args *g, const st_gemm_layout *l, int64_t batch, st_span r)
{
    float b[THIN_MAX * THIN_MAX], wide[THIN_ROWS * THIN_MAX], new[THIN_ROWS * THIN_MAX];
    float old[THIN_MAX], none[THIN_MAX] = {0};
    for (int64_t i = 0; i < g->k * g->n; i++) {
        int64_t x = i / g->n, j = i % g->n;
        b[i] = scalar_in(&g->b, batch * l->step_b + (g->tb ? j * l->ldb + x : x * l->ldb + j));
    }
    int64_t period = g->bias.data ? st_or(g->bias_rows, 1) : 1;
    for (int64_t i = r.lo, rows; i < r.hi; i += rows) {
        rows = at_most(r.hi - i, THIN_ROWS);
        if (period > 1) rows = at_most(rows, period - i % period);
        bool tight = l->lda == g->k && l->ldc == g->n && g->beta == 0;
        const float *a = wide, *bias = none;
        float add[THIN_ROWS * THIN_MAX];
        if (tight) a = block_in(&g->a, batch * l->step_a + i * g->k, rows * g->k, wide);
        for (int64_t x = 0; !tight && x < rows * g->k; x++) {
            wide[x] = scalar_in(&g->a, batch * l->step_a + (i + x / g->k) * l->lda + x % g->k);
        }
        if (g->bias.data) {
            bias = block_in(&g->bias, batch * g->step_bias + i % period * g->n,
                            period > 1 ? rows * g->n : g->n, add);
        }
        int64_t at = batch * l->step_c + i * l->ldc;
        float *c = tight ? block_out(&g->c, at, new) : new;
        thin_block(a, b, bias, period > 1 ? g->n : 0, c, rows, g->k, g->n);
        if (tight) {
            block_done(&g->c, at, rows * g->n, new);
            continue;
        }
        for (int64_t y = 0; y < rows; y++, at += l->ldc) {
            float *row = new + y * g->n, *to = block_out(&g->c, at, old);
            for (int64_t j = 0; g->beta != 0 && j < g->n; j++) {
                row[j] += g->beta * scalar_in(&g->c, at + j);
            }
            memcpy(to, row, (size_t)g->n * sizeof *to);
            block_done(&g->c, at, g->n, to);
        }
    }
}

/* ---- C (m, n) = beta C + A^T B + bias, A (k, m), B (k, n), k long ---------------------------- */

/* sum[i][j] += a[x][i] b[x][j] over x < rows, four rows at a time in sums of their own. */
__attribute__((always_inline)) static inline void thin_outer(const float *restrict a,
                                                             const float *restrict b,
                                                             double *restrict sum, int64_t rows,
                                                             const int64_t m, const int64_t n)
{
    float part[4][THIN_MAX * THIN_MAX] = {{0}};
    int64_t x = 0;
    for (; x + 4 <= rows; x += 4) {
#pragma GCC unroll 4
        for (int64_t y = 0; y < 4; y++) {
#pragma GCC unroll 16
            for (int64_t i = 0; i < m; i++) {
#pragma GCC unroll 16
                for (int64_t j = 0; j < n; j++) {
                    part[y][i * n + j] += a[(x + y) * m + i] * b[(x + y) * n + j];
                }
            }
        }
    }
    for (; x < rows; x++) {
        for (int64_t i = 0; i < m * n; i++)
            part[0][i] += a[x * m + i / n] * b[x * n + i % n];
    }
    for (int64_t i = 0; i < m * n; i++) {
        sum[i] += (double)(part[0][i] + part[1][i]) + (double)(part[2][i] + part[3][i]);
    }
}

static void thin_outer_block(const float *a, const float *b, double *sum, int64_t rows, int64_t m,
                             int64_t n)
{
    switch (m * (THIN_MAX + 1) + n) {
#define THIN_CASE(M, N)                                                                            \
    case M *(THIN_MAX + 1) + N: thin_outer(a, b, sum, rows, M, N); return;
        THIN_CASE(1, 2)
        THIN_CASE(1, 4)
        THIN_CASE(2, 1)
        THIN_CASE(4, 1)
        THIN_CASE(2, 2)
        THIN_CASE(3, 3)
#undef THIN_CASE
    default: thin_outer(a, b, sum, rows, m, n);
    }
}

/* Rows [r.lo, r.hi) of A and B into sum (m, n). */
static void thin_sum_span(const st_gemm_args *g, int64_t at_a, int64_t at_b, st_span r, double *sum)
{
    float a[THIN_ROWS * THIN_MAX], b[THIN_ROWS * THIN_MAX];
    bool in_place = g->a.dtype == ST_F32;
    memset(sum, 0, (size_t)(g->m * g->n) * sizeof *sum);
    for (int64_t x = r.lo, rows; x < r.hi; x += rows) {
        rows = at_most(r.hi - x, in_place ? THIN_FLUSH : THIN_ROWS);
        thin_outer_block(block_in(&g->a, at_a + x * g->m, rows * g->m, a),
                         block_in(&g->b, at_b + x * g->n, rows * g->n, b), sum, rows, g->m, g->n);
    }
}

enum { THIN_PARTS = 64 };

static void thin_sum(const st_gemm_args *g, const st_gemm_layout *l, int64_t batch, int parts)
{
    double sums[THIN_PARTS][THIN_MAX * THIN_MAX];
    int used = parts < THIN_PARTS ? parts : THIN_PARTS;
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int t = 0; t < used; t++) {
        st_span r = st_part(g->k, THIN_ROWS, t, used);
        thin_sum_span(g, batch * l->step_a, batch * l->step_b, r, sums[t]);
    }
    for (int64_t i = 0; i < g->m; i++) {
        for (int64_t j = 0; j < g->n; j++) {
            double sum = 0;
            int64_t at = batch * l->step_c + i * l->ldc + j;
            int64_t row = i % st_or(g->bias_rows, 1) * g->n;
            for (int t = 0; t < used; t++)
                sum += sums[t][i * g->n + j];
            if (g->bias.data) sum += (double)scalar_in(&g->bias, batch * g->step_bias + row + j);
            if (g->beta != 0) sum += (double)g->beta * (double)scalar_in(&g->c, at);
            if (g->c.dtype == ST_F32)
                ((float *)g->c.data)[at] = (float)sum;
            else
                ((uint16_t *)g->c.data)[at] = st_f32_to_bf16((float)sum);
        }
    }
}

bool thin_gemm(const st_gemm_args *g, const st_gemm_layout *l, int parts)
{
    if (g->n > THIN_MAX) return false;
    if (g->ta && !g->tb && g->m <= THIN_MAX && g->k >= THIN_ROWS && l->lda == g->m &&
        l->ldb == g->n) {
        for (int64_t batch = 0; batch < l->batch; batch++)
            thin_sum(g, l, batch, parts);
        return true;
    }
    if (g->ta || g->k < 1 || g->k > THIN_MAX || g->m < THIN_ROWS) return false;
    for (int64_t batch = 0; batch < l->batch; batch++) {
#pragma omp parallel for num_threads(parts) schedule(static)
        for (int t = 0; t < parts; t++) {
            thin_span(g, l, batch, st_part(g->m, THIN_ROWS, t, parts));
        }
    }
    return true;
}
