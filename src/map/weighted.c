/* Weighted projection. With x a row of inputs and C = E[x^T x], the outputs err by
 *   E |x (W - W')^T|^2 = trace((W - W') C (W - W')^T) = |(W - W') L|^2,   C = L L^T.
 * C gets a ridge of ST_RIDGE times its mean diagonal: what the calibration text never showed still
 * counts a little, and L exists.
 *
 * Where W is fed h and W' another row x of the same token (X = E[h^T x], C = E[x^T x]),
 *   E|h W^T - x W'^T|^2 = |(W_eff - W') L|^2 + what W' cannot change,   W_eff = W X C^-1,
 * as its derivative, 2 (W' C - W X), shows. Here the ridge means + ridge |W - W'|^2, so X gets it
 * too: W_eff = W (X + ridge) (C + ridge)^-1. So W_eff = W where h = x, and in the directions that x
 * does not show; with the ridge in C alone, W_eff would be drawn to 0 in those.
 *
 * A type that is linear in its weights with one weight per input and output, W' = T S for a fixed
 * S that puts each input into a bucket, has the normal equations T (S C S^T) = W C S^T. One whose
 * W' = U V has any rank r: U V L is the truncated SVD of W L. */
/* SPDX-License-Identifier: MIT */
#include "map/weighted.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WEIGHTED_ROWS = 1024 };

static st_status weighted_nomem(st_err *e, int64_t n)
{
    ST_FAIL(e, ST_ENOMEM, "no memory for %lld x %lld numbers of a weighted projection",
            (long long)n, (long long)n);
}

static st_status weighted_factor(map_cov *k, st_err *e)
{
    size_t bytes = (size_t)(k->n * k->n) * sizeof *k->l;
    k->l = st_calloc(k->n * k->n, sizeof *k->l);
    if (!k->l) return weighted_nomem(e, k->n);
    memcpy(k->l, k->c, bytes);
    st_status s = st_cholesky(k->l, k->n, e);
    if (s) st_err_prefix(e, "the inputs' covariance");
    return s;
}

st_status map_cov_open(map_cov *k, const st_project_opts *how, int64_t n, st_err *e)
{
    const float *from = how->in_cov;
    double mean = 0.0;
    if (how->prepared) {
        *k = *(const map_cov *)how->prepared;
        k->borrowed = true;
        return ST_OK;
    }
    *k = (map_cov){.n = n, .c = st_calloc(n * n, sizeof *k->c)};
    if (!k->c) return weighted_nomem(e, n);
    for (int64_t i = 0; i < n; i++)
        mean += (double)from[i * n + i] / (double)n;
    if (!(mean >= 0.0) || isinf(mean)) {
        map_cov_close(k);
        ST_FAIL(e, ST_EARG, "the inputs' covariance has a mean square of %g, expected 0 or more",
                mean);
    }
    /* inputs that were always 0 say nothing: every entry of W counts the same */
    double scale = mean > 0.0 ? 1.0 / mean : 0.0, ridge = mean > 0.0 ? ST_RIDGE : 1.0;
    k->scale = scale;
    k->ridge = ridge;
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < n; j++) {
            double c = 0.5 * scale * ((double)from[i * n + j] + (double)from[j * n + i]);
            k->c[i * n + j] = i == j ? c + ridge : c;
        }
    }
    st_status s = weighted_factor(k, e);
    if (s) map_cov_close(k);
    return s;
}

void map_cov_close(map_cov *k)
{
    if (!k->borrowed) {
        free(k->c);
        free(k->l);
    }
    *k = (map_cov){0};
}

st_status map_cov_part(map_cov *out, const map_cov *k, int64_t first, int64_t n, st_err *e)
{
    *out = (map_cov){.n = n, .c = st_calloc(n * n, sizeof *out->c)};
    if (!out->c) return weighted_nomem(e, n);
    for (int64_t i = 0; i < n; i++) {
        memcpy(out->c + i * n, k->c + (first + i) * k->n + first, (size_t)n * sizeof *out->c);
    }
    st_status s = weighted_factor(out, e);
    if (s) map_cov_close(out);
    return s;
}

/* (C + ridge) W_eff^T = (X + ridge)^T W^T, WEIGHTED_ROWS rows of W at a time. */
float *map_weighted_target(const map_cov *k, const st_project_opts *how, const float *w, int64_t m)
{
    int64_t n = k->n, most = m < WEIGHTED_ROWS ? m : WEIGHTED_ROWS;
    double *x = st_calloc(n * n, sizeof *x), *wide = st_calloc(2 * most * n, sizeof *wide);
    float *out = st_calloc(m * n, sizeof *out);
    bool room = x && wide && out;
    for (int64_t i = 0; i < n * n && room; i++)
        x[i] = k->scale * (double)how->in_cross[i] + (i / n == i % n ? k->ridge : 0.0);
    for (int64_t at = 0; at < m && room; at += most) {
        int64_t rows = m - at < most ? m - at : most;
        double *right = wide + most * n;
        for (int64_t i = 0; i < rows * n; i++)
            wide[i] = (double)w[at * n + i];
        st_product_run(&(st_product){
            .m = n, .n = rows, .k = n, .a = x, .ta = 1, .b = wide, .tb = 1, .c = right});
        st_cholesky_solve(k->l, n, right, rows);
        for (int64_t i = 0; i < rows * n; i++)
            out[at * n + i] = (float)right[i % n * rows + i / n];
    }
    free(x);
    free(wide);
    if (!room) {
        free(out);
        out = NULL;
    }
    return out;
}

/* vt <- vt L^-1, each row's norm moved to s. */
static void weighted_back(st_svd *d, double *wide, int64_t n, const double *l)
{
    for (int64_t i = 0; i < d->rank * n; i++)
        wide[i] = (double)d->vt[i];
    st_lower_over(l, n, wide, d->rank);
    for (int64_t r = 0; r < d->rank; r++) {
        double norm = 0.0;
        for (int64_t i = 0; i < n; i++)
            norm += wide[r * n + i] * wide[r * n + i];
        norm = norm > 0.0 ? sqrt(norm) : 1.0;
        d->s[r] *= (float)norm;
        for (int64_t i = 0; i < n; i++)
            d->vt[r * n + i] = (float)(wide[r * n + i] / norm);
    }
}

st_status map_weighted_svd(st_svd *out, const float *w, int64_t m, int64_t n, int64_t rank,
                           const map_cov *k, const st_project_opts *how, st_err *e)
{
    bool randomized = how && how->randomized;
    uint64_t seed = how ? how->seed : 0;
    if (!k) return st_svd_open(out, w, m, n, rank, randomized, seed, e);
    *out = (st_svd){0};
    double *wide = st_calloc(m > rank ? m * n : rank * n, sizeof *wide);
    float *white = st_calloc(m * n, sizeof *white);
    st_status s = wide && white ? ST_OK : weighted_nomem(e, n);
    for (int64_t i = 0; i < m * n && !s; i++)
        wide[i] = (double)w[i];
    if (!s) st_lower_times(k->l, n, wide, m);
    for (int64_t i = 0; i < m * n && !s; i++)
        white[i] = (float)wide[i];
    if (!s) s = st_svd_open(out, white, m, n, rank, randomized, seed, e);
    if (!s) weighted_back(out, wide, n, k->l);
    free(wide);
    free(white);
    return s;
}

st_status map_scale_rows(float **out, const float *w, const float *weight, int64_t m, int64_t n,
                         st_err *e)
{
    *out = st_calloc(m * n, sizeof **out);
    if (!*out) ST_FAIL(e, ST_ENOMEM, "no memory for %lld numbers", (long long)(m * n));
    for (int64_t i = 0; i < m * n; i++)
        (*out)[i] = w[i] * weight[i / n];
    return ST_OK;
}

double *map_weighted_rows(const map_cov *k, const float *w, int64_t first, int64_t rows)
{
    double *wide = st_calloc(rows * k->n, sizeof *wide), *t = st_calloc(rows * k->n, sizeof *t);
    for (int64_t i = 0; i < rows * k->n && wide; i++)
        wide[i] = (double)w[first * k->n + i];
    if (wide && t) {
        st_product_run(
            &(st_product){.m = rows, .n = k->n, .k = k->n, .a = wide, .b = k->c, .c = t});
    } else {
        free(t);
        t = NULL;
    }
    free(wide);
    return t;
}

/* gram = S C S^T, with 1 on the diagonal of empty buckets. */
static void regress_gram(const map_regress_args *a, double *gram)
{
    int64_t n = a->k->n, width = a->width;
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < n && a->bucket[i] >= 0; j++) {
            if (a->bucket[j] < 0) continue;
            double sign = a->sign ? (double)(a->sign[i] * a->sign[j]) : 1.0;
            gram[a->bucket[i] * width + a->bucket[j]] += sign * a->k->c[i * n + j];
        }
    }
    for (int64_t b = 0; b < width; b++) {
        double *own = &gram[b * width + b];
        if (!(*own > 0.0)) *own = 1.0;
    }
}

st_status map_regress(const map_regress_args *a, st_err *e)
{
    int64_t n = a->k->n, width = a->width;
    double *gram = st_calloc(width * width, sizeof *gram);
    double *right = st_calloc(width * a->rows, sizeof *right);
    double *t = map_weighted_rows(a->k, a->w, a->first, a->rows);
    st_status s = gram && right && t ? ST_OK : weighted_nomem(e, width);
    if (!s) {
        regress_gram(a, gram);
        s = st_cholesky(gram, width, e);
    }
    for (int64_t o = 0; o < a->rows && !s; o++) {
        for (int64_t i = 0; i < n; i++) {
            if (a->bucket[i] < 0) continue;
            double sign = a->sign ? (double)a->sign[i] : 1.0;
            right[a->bucket[i] * a->rows + o] += sign * t[o * n + i];
        }
    }
    if (!s) st_cholesky_solve(gram, width, right, a->rows);
    for (int64_t o = 0; o < a->rows && !s; o++) {
        for (int64_t b = 0; b < width; b++)
            a->theta[o * width + b] = (float)right[b * a->rows + o];
    }
    free(gram);
    free(right);
    free(t);
    return s;
}
