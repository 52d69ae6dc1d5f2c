/* Projection in the norm that the inputs give: |(W - W') C^1/2| with C = E[x^T x], the mean squared
 * error of the outputs. What the types share (equations: weighted.c, doc/MATH). */
/* SPDX-License-Identifier: MIT */
#ifndef ST_MAP_WEIGHTED_H
#define ST_MAP_WEIGHTED_H

#include "linalg/linalg.h"
#include "map/inner.h"

/* C of the inputs with its ridge, scaled to a mean diagonal of 1, and its factor C = L L^T; both
 * (n, n) float64. Closing a zeroed one is fine. */
typedef struct {
    int64_t n;
    double *c, *l;
    double scale, ridge; /* c = scale C + ridge I */
    bool borrowed;       /* another's memory: how->prepared */
} map_cov;
st_status map_cov_open(map_cov *k, const st_project_opts *how, int64_t n, st_err *e);
void map_cov_close(map_cov *k);
/* Columns and rows [first, first + n) of it. */
st_status map_cov_part(map_cov *out, const map_cov *k, int64_t first, int64_t n, st_err *e);

/* W_eff = W (X + ridge) (C + ridge)^-1 in new memory: the matrix whose nearest under C makes
 * E|h W^T - x W'^T|^2 least, X = how->in_cross; w (m, k->n). NULL: out of memory. */
float *map_weighted_target(const map_cov *k, const st_project_opts *how, const float *w, int64_t m);

/* st_svd_open of w L, vt then times L^-1, its rows brought back to norm 1 with s: u s vt is the
 * matrix of that rank nearest to w (m, k->n). k NULL: the plain one. `s` need not descend. */
st_status map_weighted_svd(st_svd *out, const float *w, int64_t m, int64_t n, int64_t rank,
                           const map_cov *k, const st_project_opts *how, st_err *e);

/* w (m, n) with its rows multiplied by weight (m), in new memory. */
st_status map_scale_rows(float **out, const float *w, const float *weight, int64_t m, int64_t n,
                         st_err *e);

/* W C in float64, new memory, for rows [first, first + rows) of w; NULL when out of memory. */
double *map_weighted_rows(const map_cov *k, const float *w, int64_t first, int64_t rows);

/* Least squares of rows that are W' S, S (width, k->n) with at most one entry a column: column i is
 * input i's bucket (-1: none) and sign. Sets theta (rows, width) to the best W' for the rows of
 * w; weights of buckets without inputs to 0. */
typedef struct {
    const map_cov *k;
    const float *w;
    const int64_t *bucket;
    const float *sign; /* NULL: all 1 */
    int64_t first, rows, width;
    float *theta;
} map_regress_args;
st_status map_regress(const map_regress_args *a, st_err *e);

#endif
