/* Projection onto a Kronecker sum in the norm of the inputs, |C^1/2 (W^T - sum A_f (x) B_f)| with
 * C = L L^T. Where m2 = 1 it is exact, since L^T (A (x) B) = (L^T A) (x) B: Van Loan's projection
 * of L^T W^T, then A <- L^-T A. Elsewhere kron_als.c goes on from the unweighted projection.
 *
 * Weights of the rows of W are weights of A's columns where n2 = 1, exact too; with other n2 they
 * are not heeded. */
/* SPDX-License-Identifier: MIT */
#include "map/kron.h"
#include <math.h>
#include <stdlib.h>

static st_status kron_whitened(const st_spec *s, const map_cov *k, const float *w,
                               const st_theta *t, const st_project_opts *how, st_err *e)
{
    kron_size z = map_kron_size(s);
    int64_t n = s->in * s->out, each = z.m1 * z.n1;
    double *wide = st_calloc(map_max(n, each), sizeof *wide);
    float *white = st_calloc(n, sizeof *white), *a = t->p[KRON_A].data;
    st_status status = ST_OK;
    if (!wide || !white) status = ST_NOMEM(e, "kron");
    for (int64_t i = 0; i < n && !status; i++)
        wide[i] = (double)w[i];
    if (!status) st_lower_times(k->l, s->in, wide, s->out);
    for (int64_t i = 0; i < n && !status; i++)
        white[i] = (float)wide[i];
    if (!status) status = map_kron_van_loan(s, white, t, how, e);
    for (int64_t f = 0; f < z.f && !status; f++) {
        for (int64_t i = 0; i < each; i++)
            wide[i] = (double)a[f * each + i];
        st_lower_left_t(k->l, z.m1, wide, z.n1);
        for (int64_t i = 0; i < each; i++)
            a[f * each + i] = (float)wide[i];
    }
    free(wide);
    free(white);
    return status;
}

static st_status kron_by_inputs(const st_spec *s, const float *w, const st_theta *t,
                                const st_project_opts *how, st_err *e)
{
    kron_size z = map_kron_size(s);
    map_cov k = {0};
    ST_TRY(map_cov_open(&k, how, s->in, e));
    st_status status;
    if (z.m2 == 1) {
        status = kron_whitened(s, &k, w, t, how, e);
    } else {
        status = map_kron_van_loan(s, w, t, how, e);
        if (!status) status = map_kron_als(&z, &k, w, t->p[KRON_A].data, t->p[KRON_B].data, e);
    }
    map_cov_close(&k);
    return status;
}

static double kron_norm(const float *x, int64_t n)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

/* |A_f| = |B_f|, the products unchanged: what sqrt(sigma) each is without weights. */
static void kron_balance(const kron_size *z, const st_theta *t)
{
    int64_t m = z->m1 * z->n1, n = z->m2 * z->n2;
    for (int64_t f = 0; f < z->f; f++) {
        float *a = (float *)t->p[KRON_A].data + f * m, *b = (float *)t->p[KRON_B].data + f * n;
        double x = kron_norm(a, m), y = kron_norm(b, n);
        if (!(x > 0.0) || !(y > 0.0)) continue;
        for (int64_t i = 0; i < m; i++)
            a[i] *= (float)sqrt(y / x);
        for (int64_t i = 0; i < n; i++)
            b[i] *= (float)sqrt(x / y);
    }
}

st_status map_kron_project(const st_spec *s, st_tensor w, const st_theta *t,
                           const st_project_opts *how, st_err *e)
{
    kron_size z = map_kron_size(s);
    const float *weight = how && z.n2 == 1 ? how->out_weight : NULL;
    if (!weight && !(how && how->in_cov)) return map_kron_van_loan(s, w.data, t, how, e);
    float *scaled = NULL, *a = t->p[KRON_A].data;
    if (weight) ST_TRY(map_scale_rows(&scaled, w.data, weight, s->out, s->in, e));
    const float *from = scaled ? scaled : w.data;
    st_status status =
        how->in_cov ? kron_by_inputs(s, from, t, how, e) : map_kron_van_loan(s, from, t, how, e);
    for (int64_t i = 0; i < st_numel(t->p[KRON_A]) && weight && !status; i++)
        a[i] /= weight[i % z.n1];
    if (!status && how->gauge == ST_GAUGE_BALANCED) kron_balance(&z, t);
    free(scaled);
    return status;
}
