/* Weighted projection onto monarch matrices and block tensor trains. C couples the blocks (l, i) of
 * one row class l, so they take turns: with R the rows of W - W' in class l and block i put back,
 * the best block i is the matrix of its rank nearest under C_ii to M_i + R C[:, i] C_ii^-1
 * (complete the square). Each turn is exact, so the error falls from the unweighted projection's,
 * which is the start. */
/* SPDX-License-Identifier: MIT */
#include "map/monarch.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Turns gain little by little: as many sweeps as keep their work (classes s in min(s, p) each)
 * under MONARCH_WORK, but some, and none after one that gained less than a share of the error. */
#define MONARCH_WORK 6e8
enum {
    MONARCH_SWEEPS = 60,
    MONARCH_SWEEPS_PART = 16, /* of a sum, whose own sweeps go on */
    MONARCH_SWEEPS_LEAST = 8
};

typedef struct {
    const st_spec *s;
    monarch_size z;
    const st_theta *t;
    const st_project_opts *how;
    map_cov k, *part; /* C and its blocks C_ii */
    double *left;     /* rows of W - W' in class l, (s, in) */
    double *right;    /* (p, s), then its transpose */
    float *block;     /* (s, p) */
    int sweeps;
    double gain; /* that a sweep must have for another one, of the error */
} monarch_fit;

/* Columns of block i within `in`. */
static int64_t fit_cols(const monarch_fit *m, int64_t i)
{
    return map_max(0, map_min(m->z.p, m->s->in - i * m->z.p));
}

/* left += sign * block (l, i) of W'. */
static void fit_add(monarch_fit *m, int64_t l, int64_t i, double sign)
{
    const monarch_size *z = &m->z;
    const float *l1 = m->t->p[0].data, *l2 = m->t->p[1].data;
    monarch_met met = map_monarch_met(z, l, i);
    for (int64_t r = 0; r < met.count; r++) {
        int64_t at = met.first + r * met.step;
        for (int64_t o = 0; o < z->s; o++) {
            double u = sign * (double)l2[(l * z->s + o) * z->q + met.column + r];
            double *to = m->left + o * m->s->in + i * z->p;
            for (int64_t j = 0; j < fit_cols(m, i); j++)
                to[j] += u * (double)l1[at * z->p + j];
        }
    }
}

/* left = rows l of W - W'; rows beyond the outputs stay 0. */
static void fit_residual(monarch_fit *m, const float *w, int64_t l)
{
    const monarch_size *z = &m->z;
    int64_t in = m->s->in;
    memset(m->left, 0, (size_t)(z->s * in) * sizeof *m->left);
    for (int64_t o = 0; o < z->s; o++) {
        int64_t row = map_monarch_row(z, l, o);
        for (int64_t i = 0; i < in && row < m->s->out; i++)
            m->left[o * in + i] = (double)w[row * in + i];
    }
    for (int64_t i = 0; i < z->b; i++)
        fit_add(m, l, i, -1.0);
    for (int64_t o = 0; o < z->s; o++) { /* W' has no such row either */
        if (map_monarch_row(z, l, o) >= m->s->out)
            memset(m->left + o * in, 0, (size_t)in * sizeof *m->left);
    }
}

static st_status fit_block(monarch_fit *m, int64_t l, int64_t i, st_err *e)
{
    const monarch_size *z = &m->z;
    int64_t in = m->s->in, cols = fit_cols(m, i), first = i * z->p;
    monarch_met met = map_monarch_met(z, l, i);
    int64_t rank = map_min(met.count, map_min(z->s, cols));
    if (rank < 1) return ST_OK;
    fit_add(m, l, i, 1.0);
    /* right (cols, s) = C_ii^-1 C[i, :] R^T */
    st_product_run(&(st_product){.m = cols,
                                 .n = z->s,
                                 .k = in,
                                 .tb = 1,
                                 .a = m->k.c + first * in,
                                 .b = m->left,
                                 .c = m->right});
    st_cholesky_solve(m->part[i].l, cols, m->right, z->s);
    for (int64_t at = 0; at < z->s * cols; at++)
        m->block[at] = (float)m->right[at % cols * z->s + at / cols];
    st_svd d = {0};
    ST_TRY(map_weighted_svd(&d, m->block, z->s, cols, rank, &m->part[i], m->how, e));
    map_monarch_put(z, l, i, &d, cols, m->t);
    st_svd_close(&d);
    fit_add(m, l, i, -1.0);
    return ST_OK;
}

/* |left C^1/2|^2. */
static double fit_error(const monarch_fit *m, double *scratch)
{
    int64_t in = m->s->in, n = m->z.s * in;
    double sum = 0.0;
    st_product_run(
        &(st_product){.m = m->z.s, .n = in, .k = in, .a = m->left, .b = m->k.c, .c = scratch});
    for (int64_t i = 0; i < n; i++)
        sum += m->left[i] * scratch[i];
    return sum;
}

static st_status fit_class(monarch_fit *m, const float *w, int64_t l, double *scratch, st_err *e)
{
    fit_residual(m, w, l);
    double last = fit_error(m, scratch);
    for (int sweep = 0; sweep < m->sweeps; sweep++) {
        for (int64_t i = 0; i < m->z.b; i++)
            ST_TRY(fit_block(m, l, i, e));
        double now = fit_error(m, scratch);
        if (last - now <= m->gain * last) return ST_OK;
        last = now;
    }
    return ST_OK;
}

st_status map_monarch_weighted(const st_spec *s, const monarch_size *z, const float *w,
                               const st_theta *t, const st_project_opts *how, st_err *e)
{
    monarch_fit m = {.s = s, .z = *z, .t = t, .how = how};
    double work = (double)(z->classes * z->s * s->in * map_min(z->s, z->p));
    m.sweeps = (int)fmax(MONARCH_SWEEPS_LEAST, fmin(MONARCH_SWEEPS, MONARCH_WORK / work));
    if (how->part && m.sweeps > MONARCH_SWEEPS_PART) m.sweeps = MONARCH_SWEEPS_PART;
    m.gain = m.sweeps == MONARCH_SWEEPS_LEAST ? 1e-3 : how->part ? 1e-4 : 1e-5;
    ST_TRY(map_cov_open(&m.k, how, s->in, e));
    double *scratch = st_calloc(z->s * s->in, sizeof *scratch);
    m.part = st_calloc(z->b, sizeof *m.part);
    m.left = st_calloc(z->s * s->in, sizeof *m.left);
    m.right = st_calloc(z->s * z->p, sizeof *m.right);
    m.block = st_calloc(z->s * z->p, sizeof *m.block);
    st_status status = ST_OK;
    if (!scratch || !m.part || !m.left || !m.right || !m.block) {
        status = ST_ERR(e, ST_ENOMEM, "%s: no memory for %lld numbers", s->type->name,
                        (long long)(z->s * s->in));
    }
    for (int64_t i = 0; i < z->b && !status; i++) {
        if (fit_cols(&m, i)) status = map_cov_part(&m.part[i], &m.k, i * z->p, fit_cols(&m, i), e);
    }
    for (int64_t l = 0; l < z->classes && !status; l++)
        status = fit_class(&m, w, l, scratch, e);
    for (int64_t i = 0; i < z->b && m.part; i++)
        map_cov_close(&m.part[i]);
    map_cov_close(&m.k);
    free(scratch);
    free(m.part);
    free(m.left);
    free(m.right);
    free(m.block);
    return status;
}
