/* linalg: host singular values and least squares over LAPACK, for decomposition only. Row-major;
 * float32 in and out for singular values, float64 for the rest. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_LINALG_H
#define ST_LINALG_H

#include "base/base.h"

typedef struct {
    int64_t rank;
    float *u;     /* (m, rank) */
    float *s;     /* (rank) descending */
    float *vt;    /* (rank, n) */
    double total; /* squared Frobenius norm of the input */
} st_svd;

/* Best rank-`rank` factors of a (m, n), rank <= min(m, n) (Eckart & Young 1936). Exact
 * through LAPACK, or, if `randomized`, by subspace iteration with oversampling (Halko et al. 2011)
 * seeded by `seed`. Signs are fixed: the largest entry of each row of vt is positive. Inputs with
 * non-finite numbers are ST_EARG. */
st_status st_svd_open(st_svd *out, const float *a, int64_t m, int64_t n, int64_t rank,
                      bool randomized, uint64_t seed, st_err *e);
void st_svd_close(st_svd *s);

/* ---- symmetric positive definite systems, float64 (solve.c) ---------------------------------- */

/* c (m, n; rows ldc apart) = op(a) op(b) + beta c, op(a) (m, k), op(b) (k, n); ta: a is stored
 * (k, m). ld*: numbers between rows, 0 = the stored row's length. */
typedef struct {
    int64_t m, n, k, lda, ldb, ldc;
    const double *a, *b;
    double *c;
    int ta, tb;
    double beta;
} st_product;
void st_product_run(const st_product *p);

/* a (n, n), symmetric, becomes L (lower triangle, zeros above) with L L^T = a; only its lower
 * triangle is read. ST_EARG where it is not positive definite in float64 (NaN included); a is then
 * spoilt. */
st_status st_cholesky(double *a, int64_t n, st_err *e);
void st_lower_times(const double *l, int64_t n, double *b, int64_t m);    /* b (m, n) <- b L */
void st_lower_over(const double *l, int64_t n, double *b, int64_t m);     /* b (m, n) <- b L^-1 */
void st_lower_left_t(const double *l, int64_t n, double *b, int64_t m);   /* b (n, m) <- L^-T b */
void st_cholesky_solve(const double *l, int64_t n, double *b, int64_t m); /* (L L^T)^-1 b, (n, m) */
/* trace(w c v^T) of w, v (m, n) and c (n, n); NAN out of memory. */
double st_inner_under(const float *w, const float *v, int64_t m, int64_t n, const double *c);

/* The permutation that maximises sum_j gain[row_of[j], j] over gain (n, n), n > 0: row_of[j] is the
 * row that column j gets. Exact but for rounding (float64 sums). About n^2 to n^3 steps. ST_EINTR
 * after Ctrl-C. */
st_status st_assign(const float *gain, int64_t n, int64_t *row_of, st_err *e);

/* gain[k, p] += <slice k of w, slice p of v>, w and v (out, in); slices are rows, gain (out, out),
 * if `rows`, else columns, gain (in, in). */
void st_assign_gain(const float *w, const float *v, int64_t out, int64_t in, bool rows,
                    float *gain);

/* Threads that each call of this room uses inside; returns what it was. For programs that call it
 * from several threads of their own and want 1; to be set while none of them runs. */
int st_linalg_threads(int n);

/* ---- pieces of work over threads (spread.c) -------------------------------------------------- */

typedef struct {
    const char *what, *unit; /* of the progress line */
    int64_t n;
    st_status (*work)(void *ctx, int64_t i, st_err *e); /* from several threads at once */
    const char *(*name)(void *ctx, int64_t i);          /* of a piece; NULL: none are shown */
    void *ctx;
    bool quiet; /* no progress */
} st_spread_args;

/* Does pieces 0 .. n - 1, with LAPACK and BLAS single-threaded in each if there are several
 * threads: half of a decomposition does not run in parallel, so threads inside it are mostly idle.
 * Stops at the first failure, which is returned; ST_EINTR after Ctrl-C. */
st_status st_spread(const st_spread_args *a, st_err *e);

#endif
