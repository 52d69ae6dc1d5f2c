/* Sets the matrices of a decomposition. */
/* SPDX-License-Identifier: MIT */
#include "fit/decompose.h"
#include "linalg/linalg.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- finding parameters ---------------------------------------------------------------------- */

/* The tensors of one matrix in a model's host block, in the type's order; or one tensor by name. */
typedef struct {
    const char *matrix, *name;
    const float *flat;
    st_theta theta;
    int n;
    st_tensor found;
} decompose_look;

static void decompose_param(void *ctx, const st_param *p)
{
    decompose_look *l = ctx;
    float *data = (float *)(uintptr_t)l->flat + p->offset; /* only targets are written to */
    st_tensor view = st_view(data, ST_F32, p->w.ndim, p->w.dim);
    if (l->name && strcmp(p->name, l->name) == 0) l->found = view;
    if (!l->matrix || !p->matrix || strcmp(p->matrix, l->matrix) != 0) return;
    if (!(p->flags & ST_P_BIAS) && l->n < ST_PARAMS) l->theta.p[l->n++] = view;
}

st_tensor st_decompose_find(const st_model *m, const float *flat, const char *name)
{
    decompose_look l = {.name = name, .flat = flat};
    st_model_params(m, decompose_param, &l);
    return l.found;
}

st_theta st_decompose_theta(const st_model *m, const float *flat, const char *matrix)
{
    decompose_look l = {.matrix = matrix, .flat = flat};
    st_model_params(m, decompose_param, &l);
    const st_slot *table = st_model_role(m, ST_ROLE_EMBEDDING, -1);
    if (l.n > 0 || !table || strcmp(matrix, table->name) == 0) return l.theta;
    return st_decompose_theta(m, flat, table->name); /* the tied head */
}

st_tensor st_decompose_bias(const st_model *m, const float *flat, const char *matrix)
{
    char name[96];
    snprintf(name, sizeof name, "%s.bias", matrix);
    return st_decompose_find(m, flat, name);
}

/* ---- one matrix ------------------------------------------------------------------------------ */

/* trace(w c v^T) of w, v (out, in), c (in, in). NAN: out of memory. */
static double decompose_inner(const st_decompose_item *x, const float *w, const float *v,
                              const float *c)
{
    int64_t in = x->to.in;
    double *wide = st_calloc(in * in, sizeof *wide);
    for (int64_t i = 0; i < in * in && wide; i++)
        wide[i] = (double)c[i];
    double sum = wide ? st_inner_under(w, v, x->to.out, in, wide) : (double)NAN;
    free(wide);
    return sum;
}

/* What the outputs err on the text that the statistics are of, relative: the root of
 * trace((W - W') C (W - W')^T) / trace(W C W^T), or, W being fed h and W' x, of E|W h - W' x|^2 /
 * E|W h|^2. w and v: W and W'. */
static st_status decompose_error(st_decompose_item *x, const float *w, const float *v, st_err *e)
{
    int64_t n = x->to.in * x->to.out;
    double all, lost;
    if (x->in_cross) {
        all = decompose_inner(x, w, w, x->was_cov);
        lost =
            all - 2.0 * decompose_inner(x, w, v, x->in_cross) + decompose_inner(x, v, v, x->in_cov);
    } else {
        float *d = st_calloc(n, sizeof *d);
        for (int64_t i = 0; i < n && d; i++)
            d[i] = w[i] - v[i];
        all = decompose_inner(x, w, w, x->in_cov);
        lost = d ? decompose_inner(x, d, d, x->in_cov) : (double)NAN;
        free(d);
    }
    if (isnan(all) || isnan(lost)) return ST_NOMEM(e, NULL);
    x->output_error = all > 0.0 ? sqrt(fmax(lost, 0.0) / all) : 0.0;
    return ST_OK;
}

/* bias += W E[h] - W' E[x]. */
static void decompose_mean(const st_decompose_item *x, const float *w, const float *v, float *bias)
{
    int64_t in = x->to.in;
    const float *was = x->was_mean ? x->was_mean : x->in_mean;
    for (int64_t o = 0; o < x->to.out && bias && x->in_mean; o++) {
        double sum = 0.0;
        for (int64_t i = 0; i < in; i++) {
            sum += (double)w[o * in + i] * (double)was[i];
            sum -= (double)v[o * in + i] * (double)x->in_mean[i];
        }
        bias[o] += (float)sum;
    }
}

static st_status decompose_outputs(st_decompose_item *x, const float *w, const st_theta *t,
                                   st_tensor bias, st_err *e)
{
    int64_t in = x->to.in, out = x->to.out;
    float *v = st_calloc(in * out, sizeof *v);
    if (!v) return ST_NOMEM(e, NULL);
    st_status s = st_map_expand(&x->to, t, st_view2(v, ST_F32, out, in), e);
    if (!s) s = decompose_error(x, w, v, e);
    if (!s) decompose_mean(x, w, v, bias.data);
    free(v);
    return s;
}

static st_status decompose_one(const st_decompose_run *r, st_decompose_item *x, st_err *e)
{
    double start = st_now();
    st_theta old = st_decompose_theta(r->from, r->flat, x->name);
    st_theta new = st_decompose_theta(r->to, r->to_flat, x->name);
    bool dense = x->from.type == &st_map_dense;
    float *w = dense ? NULL : st_calloc(x->to.in * x->to.out, sizeof *w);
    st_status s = ST_OK;
    if (!dense && !w) s = ST_NOMEM(e, NULL);
    st_tensor source = dense ? old.p[0] : st_view2(w, ST_F32, x->to.out, x->to.in);
    st_project_opts how = {.randomized = r->o->randomized,
                           .seed = r->o->seed,
                           .gauge = r->o->gauge,
                           .scalars = r->o->scalars,
                           .nscalars = r->o->nscalars,
                           .std = x->std,
                           .name = x->name,
                           .in_cov = x->in_cov,
                           .in_cross = x->in_cross,
                           .out_weight = x->out_weight};
    if (!s && !dense) s = st_map_expand(&x->from, &old, source, e);
    if (!s) s = st_map_start(&x->to, &x->start, source, &new, &how, &x->fit, e);
    if (!s && !(isfinite(x->fit.total) && isfinite(x->fit.lost))) {
        s = ST_ERR(e, ST_EARG,
                   "|W|^2 = %g becomes a matrix at a squared distance of %g: numbers too large for "
                   "float32; choose another --init or smaller --scalars",
                   x->fit.total, x->fit.lost);
    }
    if (!s && x->in_cov) {
        st_tensor bias = st_decompose_bias(r->to, r->to_flat, x->name);
        s = decompose_outputs(x, source.data, &new, bias, e);
    }
    if (s) st_err_prefix(e, "%s", x->name);
    x->seconds = st_now() - start;
    free(w);
    return s;
}

/* ---- all of them ----------------------------------------------------------------------------- */

typedef struct {
    st_decompose_run *run;
    int64_t first;
} decompose_pieces;

static st_status decompose_piece(void *ctx, int64_t i, st_err *e)
{
    decompose_pieces *p = ctx;
    return decompose_one(p->run, &p->run->item[p->first + i], e);
}

static const char *decompose_name(void *ctx, int64_t i)
{
    const decompose_pieces *p = ctx;
    return p->run->item[p->first + i].name;
}

static st_status decompose_spread(st_decompose_run *r, int64_t first, int64_t last, bool quiet,
                                  st_err *e)
{
    return st_spread(&(st_spread_args){.what = r->o->what ? r->o->what : "decompose",
                                       .unit = "matrices",
                                       .n = last - first,
                                       .work = decompose_piece,
                                       .name = decompose_name,
                                       .ctx = &(decompose_pieces){r, first},
                                       .quiet = quiet},
                     e);
}

st_status st_decompose_range(st_decompose_run *r, int64_t first, int64_t last, st_err *e)
{
    return decompose_spread(r, first, last, true, e);
}

void st_decompose_done(const st_decompose_run *r)
{
    double total = 0.0, kept = 0.0;
    for (int64_t i = 0; i < r->n; i++) {
        total += r->item[i].fit.total;
        kept += r->item[i].fit.total * r->item[i].fit.energy;
    }
    char detail[64];
    snprintf(detail, sizeof detail, "%.2f %% of the energy captured",
             total > 0.0 ? 100.0 * kept / total : 100.0);
    st_report(&(st_progress){.what = r->o->what ? r->o->what : "decompose",
                             .done = r->n,
                             .total = r->n,
                             .unit = "matrices",
                             .detail = r->o->what ? NULL : detail,
                             .last = true});
}

st_status st_decompose_all(st_decompose_run *r, st_err *e)
{
    ST_TRY(decompose_spread(r, 0, r->n, false, e));
    st_decompose_done(r);
    return ST_OK;
}
