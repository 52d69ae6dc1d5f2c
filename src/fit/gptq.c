/* Rounding a matrix to blocks with regard to what it is fed (GPTQ, Frantar et al. 2022): columns
 * are rounded one after the other, and what each loses is made up for by those that follow it,
 *   w_j -= (w_i - q_i) U_ij / U_ii,  U upper, U^T U = (C + damp I)^-1,
 * where C = E[x^T x]. The scale of a block is taken from its numbers as they then are. A row for
 * which that gives no smaller error under C than rounding to the nearest is rounded so. */
/* SPDX-License-Identifier: MIT */
#include "fit/quantize.h"
#include "linalg/linalg.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { GPTQ_BLOCK = 32, GPTQ_ROWS = 512 };

/* Of C's mean diagonal. */
#define GPTQ_DAMP 1e-2

/* U of C (n, n), in new memory; NULL and *s: failed. */
static double *gptq_factor(const double *c, int64_t n, st_status *s, st_err *e)
{
    double *a = st_calloc(n * n, sizeof *a), *inverse = st_calloc(n * n, sizeof *inverse);
    double damp = 0;
    for (int64_t i = 0; i < n; i++)
        damp += GPTQ_DAMP * c[i * n + i] / (double)n;
    *s = a && inverse ? ST_OK : ST_NOMEM(e, "quantize");
    if (!*s) {
        memcpy(a, c, (size_t)(n * n) * sizeof *a);
        for (int64_t i = 0; i < n; i++) {
            a[i * n + i] += damp > 0 ? damp : 1;
            inverse[i * n + i] = 1;
        }
        *s = st_cholesky(a, n, e);
    }
    if (!*s) {
        st_cholesky_solve(a, n, inverse, n);
        *s = st_cholesky(inverse, n, e); /* its transpose is U */
    }
    free(a);
    if (!*s) return inverse;
    free(inverse);
    return NULL;
}

/* Some rows on their way: w (rows, n) as it has become, v what it is rounded to. */
typedef struct {
    int64_t rows, n;
    st_dtype format;
    const double *lower; /* L, U = L^T */
    double *w, *lost;    /* lost (rows, GPTQ_BLOCK): (w_i - q_i) / U_ii of the block */
    float *v;
} gptq_work;

/* One block of one row. */
static void gptq_block(const gptq_work *k, int64_t row, int64_t at)
{
    const st_blocks *blocks = st_dtype_blocks(k->format);
    double *w = k->w + row * k->n + at, *lost = k->lost + row * GPTQ_BLOCK;
    float *v = k->v + row * k->n + at, now[GPTQ_BLOCK];
    uint8_t block[4 * GPTQ_BLOCK];
    for (int i = 0; i < GPTQ_BLOCK; i++)
        now[i] = (float)w[i];
    blocks->write(now, block);
    for (int64_t i = 0; i < GPTQ_BLOCK; i++) {
        const double *l = k->lower + (at + i) * k->n + at + i; /* down its column: row i of U */
        v[i] = st_blocks_round(k->format, block, (float)w[i]);
        lost[i] = (w[i] - (double)v[i]) / l[0];
        for (int64_t j = i + 1; j < GPTQ_BLOCK; j++)
            w[j] -= lost[i] * l[(j - i) * k->n];
    }
}

static void gptq_run(const gptq_work *k)
{
    for (int64_t at = 0; at < k->n; at += GPTQ_BLOCK) {
        int64_t rest = k->n - at - GPTQ_BLOCK;
        for (int64_t row = 0; row < k->rows; row++)
            gptq_block(k, row, at);
        if (rest == 0) break;
        for (int64_t i = 0; i < k->rows * GPTQ_BLOCK; i++)
            k->lost[i] = -k->lost[i];
        st_product_run(&(st_product){.m = k->rows,
                                     .n = rest,
                                     .k = GPTQ_BLOCK,
                                     .a = k->lost,
                                     .b = k->lower + (at + GPTQ_BLOCK) * k->n + at,
                                     .ldb = k->n,
                                     .tb = 1,
                                     .c = k->w + at + GPTQ_BLOCK,
                                     .ldc = k->n,
                                     .beta = 1});
    }
}

/* error[r] = d C d^T of the rows d of w - v; d and dc (rows, n) are scratch. */
static void gptq_errors(const float *w, const float *v, const double *c, int64_t rows, int64_t n,
                        double *d, double *dc, double *error)
{
    for (int64_t i = 0; i < rows * n; i++)
        d[i] = (double)w[i] - (v ? (double)v[i] : 0.0);
    st_product_run(&(st_product){.m = rows, .n = n, .k = n, .a = d, .b = c, .c = dc});
    for (int64_t r = 0; r < rows; r++) {
        error[r] = 0;
        for (int64_t i = r * n; i < (r + 1) * n; i++)
            error[r] += d[i] * dc[i];
    }
}

/* w (rows, n) to the nearest. */
static void gptq_nearest(const float *w, st_dtype format, int64_t n, float *v)
{
    const st_blocks *blocks = st_dtype_blocks(format);
    for (int64_t i = 0; i < n; i += GPTQ_BLOCK) {
        uint8_t block[4 * GPTQ_BLOCK];
        blocks->write(w + i, block);
        blocks->read(block, v + i);
    }
}

st_status st_quantize_matrix(float *w, int64_t rows, int64_t n, st_dtype format, const double *c,
                             st_quantize_errors *errors, st_err *e)
{
    int64_t most = rows < GPTQ_ROWS ? rows : GPTQ_ROWS;
    st_status s;
    double *lower = gptq_factor(c, n, &s, e);
    ST_TRY(s);
    double *d = st_calloc(most * (2 * n + GPTQ_BLOCK + 3), sizeof *d), *dc = d + most * n;
    double *row = dc + most * n, *lost = row + 3 * most;
    float *v = st_calloc(2 * most * n, sizeof *v), *near = v + most * n;
    if (!d || !v) s = ST_NOMEM(e, "quantize");
    for (int64_t at = 0; at < rows && !s; at += most) {
        int64_t part = rows - at < most ? rows - at : most;
        float *own = w + at * n;
        for (int64_t i = 0; i < part * n; i++)
            d[i] = (double)own[i];
        gptq_run(&(gptq_work){
            .rows = part, .n = n, .format = format, .lower = lower, .w = d, .lost = lost, .v = v});
        gptq_nearest(own, format, part * n, near);
        gptq_errors(own, NULL, c, part, n, d, dc, row);
        gptq_errors(own, v, c, part, n, d, dc, row + most);
        gptq_errors(own, near, c, part, n, d, dc, row + 2 * most);
        for (int64_t r = 0; r < part; r++) {
            bool better = row[most + r] < row[2 * most + r];
            memcpy(own + r * n, (better ? v : near) + r * n, (size_t)n * sizeof *own);
            errors->total += row[r];
            errors->nearest += row[2 * most + r];
            errors->kept += better ? row[most + r] : row[2 * most + r];
        }
        if (st_interrupted()) s = ST_ERR(e, ST_EINTR, "interrupted; nothing was written");
    }
    free(lower);
    free(d);
    free(v);
    return s;
}
