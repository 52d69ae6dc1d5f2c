/* Truncated singular value decomposition, computed in float64. Exact: eigenvectors of the smaller
 * Gram matrix, which costs a third of LAPACK's gesdd and less where few triples are asked for;
 * where squaring would cost accuracy (svd_gram), gesdd itself. Randomised: subspace iteration with
 * oversampling (Halko, Martinsson & Tropp 2011, algorithms 4.4 and 5.1). */
/* SPDX-License-Identifier: MIT */
#include "linalg/linalg.h"
#include <assert.h>
#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <stdlib.h>

enum { OVERSAMPLE = 12, POWER_STEPS = 4 };

static st_status svd_nomem(st_err *e, int64_t m, int64_t n)
{
    ST_FAIL(e, ST_ENOMEM, "out of memory for the singular values of a %lld x %lld matrix",
            (long long)m, (long long)n);
}

static st_status svd_lapack(st_err *e, const char *routine, lapack_int info, int64_t m, int64_t n)
{
    if (info == LAPACK_WORK_MEMORY_ERROR || info == LAPACK_TRANSPOSE_MEMORY_ERROR) {
        return svd_nomem(e, m, n);
    }
    ST_FAIL(e, ST_EDEVICE, "LAPACK's %s failed with code %d on a %lld x %lld matrix", routine,
            (int)info, (long long)m, (long long)n);
}

/* The first out->rank triples of a (m, n), which is overwritten. A row-major matrix is its
 * column-major transpose, so LAPACK is given A^T = V S U^T and nothing is copied. */
static st_status svd_exact(st_svd *out, double *a, int64_t m, int64_t n, st_err *e)
{
    int64_t k = m < n ? m : n, r = out->rank;
    double *u = st_calloc(m * k, sizeof *u), *v = st_calloc(n * k, sizeof *v);
    double *s = st_calloc(k, sizeof *s);
    st_status status = ST_OK;
    if (!u || !v || !s) {
        status = svd_nomem(e, m, n);
        goto out;
    }
    lapack_int info = LAPACKE_dgesdd(LAPACK_COL_MAJOR, 'S', (lapack_int)n, (lapack_int)m, a,
                                     (lapack_int)n, s, v, (lapack_int)n, u, (lapack_int)k);
    if (info) {
        status = svd_lapack(e, "dgesdd", info, m, n);
        goto out;
    }
    for (int64_t j = 0; j < r; j++) {
        out->s[j] = (float)s[j];
        for (int64_t i = 0; i < n; i++)
            out->vt[j * n + i] = (float)v[j * n + i];
    }
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < r; j++)
            out->u[i * r + j] = (float)u[i * k + j];
    }
out:
    free(u);
    free(v);
    free(s);
    return status;
}

/* An eigenvalue of the Gram matrix is off by about 1e-16 of the largest one: singular values down
 * to this share of the largest have 8 figures, more than float32. */
#define GRAM_FLOOR 1e-4

typedef struct {
    int64_t k, r;
    double *g, *value, *vector; /* (k, k), (k), (r, k) in ascending order */
    lapack_int *support;
} svd_eigen;

/* The r largest eigenpairs of g, of which the lower triangle of the row-major form is read. */
static st_status svd_eigen_top(const svd_eigen *x, st_err *e)
{
    lapack_int k = (lapack_int)x->k, found = 0;
    lapack_int info = LAPACKE_dsyevr(LAPACK_COL_MAJOR, 'V', 'I', 'U', k, x->g, k, 0.0, 0.0,
                                     k - (lapack_int)x->r + 1, k, 0.0, &found, x->value, x->vector,
                                     k, x->support);
    return info || found != (lapack_int)x->r ? svd_lapack(e, "dsyevr", info, x->k, x->k) : ST_OK;
}

/* From the eigenvectors of A^T A (m >= n) or A A^T: *done false, and nothing but scratch touched,
 * if a wanted singular value is below the floor. */
static st_status svd_gram(st_svd *out, const double *a, int64_t m, int64_t n, bool *done, st_err *e)
{
    bool tall = m >= n;
    int64_t k = tall ? n : m, l = tall ? m : n, r = out->rank;
    svd_eigen x = {.k = k, .r = r, .g = st_calloc(k * k, sizeof *x.g)};
    x.value = st_calloc(k, sizeof *x.value);
    x.vector = st_calloc(k * r, sizeof *x.vector);
    x.support = st_calloc(2 * r, sizeof *x.support);
    double *other = st_calloc(r * l, sizeof *other);
    st_status status = ST_OK;
    *done = false;
    if (!x.g || !x.value || !x.vector || !x.support || !other) status = svd_nomem(e, m, n);
    if (!status) {
        cblas_dsyrk(CblasRowMajor, CblasLower, tall ? CblasTrans : CblasNoTrans, (int)k, (int)l,
                    1.0, a, (int)n, 0.0, x.g, (int)k);
        status = svd_eigen_top(&x, e);
    }
    double most = status ? 0.0 : x.value[r - 1];
    if (status || !(most > 0.0) || x.value[0] < GRAM_FLOOR * GRAM_FLOOR * most) goto out;
    *done = true;
    /* the other side: sigma u^T = v^T A^T, or sigma v^T = u^T A */
    cblas_dgemm(CblasRowMajor, CblasNoTrans, tall ? CblasTrans : CblasNoTrans, (int)r, (int)l,
                (int)k, 1.0, x.vector, (int)k, a, (int)n, 0.0, other, (int)l);
    for (int64_t j = 0; j < r; j++) {
        int64_t from = r - 1 - j; /* descending */
        double s = sqrt(x.value[from]);
        const double *u = tall ? other + from * l : x.vector + from * k;
        const double *v = tall ? x.vector + from * k : other + from * l;
        out->s[j] = (float)s;
        for (int64_t i = 0; i < m; i++)
            out->u[i * r + j] = (float)(tall ? u[i] / s : u[i]);
        for (int64_t i = 0; i < n; i++)
            out->vt[j * n + i] = (float)(tall ? v[i] : v[i] / s);
    }
out:
    free(x.g);
    free(x.value);
    free(x.vector);
    free(x.support);
    free(other);
    return status;
}

/* Makes the columns of q (rows, cols), rows >= cols, orthonormal (Householder). */
static st_status svd_orthonormal(double *q, int64_t rows, int64_t cols, double *tau, st_err *e)
{
    lapack_int r = (lapack_int)rows, c = (lapack_int)cols;
    lapack_int info = LAPACKE_dgeqrf(LAPACK_ROW_MAJOR, r, c, q, c, tau);
    if (info) return svd_lapack(e, "dgeqrf", info, rows, cols);
    info = LAPACKE_dorgqr(LAPACK_ROW_MAJOR, r, c, c, q, c, tau);
    return info ? svd_lapack(e, "dorgqr", info, rows, cols) : ST_OK;
}

typedef struct {
    int64_t m, n, l;     /* l: width of the sketch */
    double *q, *z, *tau; /* (m, l), (n, l), (l) */
} svd_sketch;

/* q: an orthonormal basis of nearly the first l left singular vectors of a. */
static st_status svd_range(const svd_sketch *w, const double *a, uint64_t seed, st_err *e)
{
    int m = (int)w->m, n = (int)w->n, l = (int)w->l;
    float *g = st_calloc(w->n * w->l, sizeof *g);
    if (!g) return svd_nomem(e, w->m, w->n);
    st_normal_fill(g, w->n * w->l, 0.0f, 1.0f, seed, st_hash_name("svd"));
    for (int64_t i = 0; i < w->n * w->l; i++)
        w->z[i] = (double)g[i];
    free(g);
    for (int step = 0;; step++) {
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, l, n, 1.0, a, n, w->z, l, 0.0,
                    w->q, l);
        ST_TRY(svd_orthonormal(w->q, w->m, w->l, w->tau, e));
        if (step == POWER_STEPS) return ST_OK;
        cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n, l, m, 1.0, a, n, w->q, l, 0.0, w->z,
                    l);
        ST_TRY(svd_orthonormal(w->z, w->n, w->l, w->tau, e));
    }
}

/* A ~ Q (Q^T A): the small factor is decomposed exactly, its left vectors carried back by Q. */
static st_status svd_random(st_svd *out, const double *a, int64_t m, int64_t n, uint64_t seed,
                            st_err *e)
{
    int64_t k = m < n ? m : n, r = out->rank, l = r + OVERSAMPLE < k ? r + OVERSAMPLE : k;
    svd_sketch w = {.m = m, .n = n, .l = l};
    double *b = st_calloc(l * n, sizeof *b);
    st_svd small = {.rank = r, .u = st_calloc(l * r, sizeof(float)), .s = out->s, .vt = out->vt};
    w.q = st_calloc(m * l, sizeof *w.q);
    w.z = st_calloc(n * l, sizeof *w.z);
    w.tau = st_calloc(l, sizeof *w.tau);
    st_status s = ST_OK;
    if (!b || !small.u || !w.q || !w.z || !w.tau) {
        s = svd_nomem(e, m, n);
        goto out;
    }
    s = svd_range(&w, a, seed, e);
    if (s) goto out;
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)l, (int)n, (int)m, 1.0, w.q, (int)l,
                a, (int)n, 0.0, b, (int)n);
    s = svd_exact(&small, b, l, n, e);
    if (s) goto out;
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < r; j++) {
            double sum = 0;
            for (int64_t h = 0; h < l; h++)
                sum += w.q[i * l + h] * (double)small.u[h * r + j];
            out->u[i * r + j] = (float)sum;
        }
    }
out:
    free(b);
    free(small.u);
    free(w.q);
    free(w.z);
    free(w.tau);
    return s;
}

/* Singular vectors are defined up to a sign; this fixes it. */
static void svd_signs(st_svd *s, int64_t m, int64_t n)
{
    for (int64_t j = 0; j < s->rank; j++) {
        float *v = s->vt + j * n, top = 0;
        for (int64_t i = 0; i < n; i++) {
            if (fabsf(v[i]) > fabsf(top)) top = v[i];
        }
        if (top >= 0) continue;
        for (int64_t i = 0; i < n; i++)
            v[i] = -v[i];
        for (int64_t i = 0; i < m; i++)
            s->u[i * s->rank + j] = -s->u[i * s->rank + j];
    }
}

st_status st_svd_open(st_svd *out, const float *a, int64_t m, int64_t n, int64_t rank,
                      bool randomized, uint64_t seed, st_err *e)
{
    assert(m > 0 && n > 0 && rank > 0 && rank <= m && rank <= n);
    *out = (st_svd){.rank = rank};
    if (m > INT32_MAX || n > INT32_MAX) {
        ST_FAIL(e, ST_EARG, "singular values: a side of the %lld x %lld matrix is over 2^31 - 1",
                (long long)m, (long long)n);
    }
    double *wide = st_calloc(m * n, sizeof *wide);
    out->u = st_calloc(m * rank, sizeof *out->u);
    out->s = st_calloc(rank, sizeof *out->s);
    out->vt = st_calloc(rank * n, sizeof *out->vt);
    st_status s = ST_OK;
    if (!wide || !out->u || !out->s || !out->vt) s = svd_nomem(e, m, n);
    for (int64_t i = 0; i < m * n && !s; i++) {
        wide[i] = (double)a[i];
        out->total += wide[i] * wide[i];
        if (isfinite(a[i])) continue;
        s = ST_ERR(e, ST_EARG,
                   "singular values: entry (%lld, %lld) of the matrix is not a finite number",
                   (long long)(i / n), (long long)(i % n));
    }
    if (!s) {
        bool done = false;
        s = randomized ? svd_random(out, wide, m, n, seed, e) : svd_gram(out, wide, m, n, &done, e);
        if (!s && !randomized && !done) s = svd_exact(out, wide, m, n, e);
    }
    free(wide);
    if (s) {
        st_svd_close(out);
        return s;
    }
    svd_signs(out, m, n);
    return ST_OK;
}

void st_svd_close(st_svd *s)
{
    if (!s) return;
    free(s->u);
    free(s->s);
    free(s->vt);
    *s = (st_svd){0};
}

int st_linalg_threads(int n)
{
    int before = openblas_get_num_threads();
    openblas_set_num_threads(n);
    return before;
}
