/* Sets the matrices of a decomposition. */
/* SPDX-License-Identifier: MIT */
#include "job/decompose.h"
#include "job/spread.h"
#include "linalg/linalg.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- finding parameters --------------------------------------------------------------------- */

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
    if (l.n > 0 || strcmp(matrix, "wte") == 0) return l.theta;
    return st_decompose_theta(m, flat, "wte"); /* the tied head */
}

st_tensor st_decompose_bias(const st_model *m, const float *flat, const char *matrix)
{
    char name[96];
    snprintf(name, sizeof name, "%s.bias", matrix);
    return st_decompose_find(m, flat, name);
}

/* ---- one matrix ----------------------------------------------------------------------------- */

/* error: what is lost of the outputs on the text that in_cov is of, sqrt of
 * trace((W - W') C (W - W')^T) / trace(W C W^T); bias += (W - W') in_mean. */
static st_status decompose_outputs(st_decompose_item *x, const float *w, const st_theta *t,
                                   st_tensor bias, st_err *e)
{
    int64_t in = x->to.in, out = x->to.out;
    double *c = st_calloc(in * in, sizeof *c);
    float *v = st_calloc(in * out, sizeof *v);
    st_status s = ST_OK;
    if (!c || !v) s = st_fail(e, ST_ENOMEM, __FILE__, __LINE__, "out of memory");
    if (!s) s = st_map_expand(&x->to, t, st_view2(v, ST_F32, out, in), e);
    for (int64_t i = 0; i < in * in && !s; i++)
        c[i] = (double)x->in_cov[i];
    for (int64_t i = 0; i < in * out && !s; i++)
        v[i] = w[i] - v[i];
    if (!s) {
        double all = st_norm_under(w, out, in, c), lost = st_norm_under(v, out, in, c);
        x->output_error = all > 0.0 ? sqrt(fmax(lost, 0.0) / all) : 0.0;
    }
    float *b = bias.data;
    for (int64_t o = 0; o < out && !s && b && x->in_mean; o++) {
        double sum = 0.0;
        for (int64_t i = 0; i < in; i++)
            sum += (double)v[o * in + i] * (double)x->in_mean[i];
        b[o] += (float)sum;
    }
    free(c);
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
    if (!dense && !w) s = st_fail(e, ST_ENOMEM, __FILE__, __LINE__, "out of memory");
    st_tensor source = dense ? old.p[0] : st_view2(w, ST_F32, x->to.out, x->to.in);
    st_project_opts how = {.randomized = r->o->randomized,
                           .seed = r->o->seed,
                           .gauge = r->o->gauge,
                           .scalars = r->o->scalars,
                           .nscalars = r->o->nscalars,
                           .std = x->std,
                           .name = x->name,
                           .in_cov = x->in_cov,
                           .out_weight = x->out_weight};
    if (!s && !dense) s = st_map_expand(&x->from, &old, source, e);
    if (!s) s = st_map_start(&x->to, &x->start, source, &new, &how, &x->fit, e);
    if (!s && x->in_cov) {
        st_tensor bias = st_decompose_bias(r->to, r->to_flat, x->name);
        s = decompose_outputs(x, source.data, &new, bias, e);
    }
    if (s) st_err_prefix(e, "%s", x->name);
    x->seconds = st_now() - start;
    free(w);
    return s;
}

/* ---- all of them ---------------------------------------------------------------------------- */

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
    return st_spread(&(st_spread_args){.what = "decompose",
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
    st_report(&(st_progress){.what = "decompose",
                             .done = r->n,
                             .total = r->n,
                             .unit = "matrices",
                             .detail = detail,
                             .last = true});
}

st_status st_decompose_all(st_decompose_run *r, st_err *e)
{
    ST_TRY(decompose_spread(r, 0, r->n, false, e));
    st_decompose_done(r);
    return ST_OK;
}
