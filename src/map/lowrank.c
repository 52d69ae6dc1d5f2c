/* Low rank: W = U V, U (out, r), V (r, in). Projection: truncated SVD, U = u sqrt(s),
 * V = sqrt(s) v^T, the nearest matrix of that rank (Eckart & Young 1936); weighted by inputs and
 * rows, |D (W - U V) L|, the truncated SVD of D W L, which is exact too. */
/* SPDX-License-Identifier: MIT */
#include "map/weighted.h"
#include <math.h>
#include <stdlib.h>

enum { RANK };

static st_status lowrank_check(st_spec *s, st_err *e)
{
    return map_range(s, RANK, 1, map_min(s->in, s->out), "the smaller side", e);
}

static int lowrank_params(const st_spec *s, float std, st_param_shape out[ST_PARAMS])
{
    int64_t r = s->knob[RANK];
    float each = sqrtf(std / sqrtf((float)r)); /* an entry of W sums r products */
    out[0] = map_factor("u", s->out, r, 0, each);
    out[1] = map_factor("v", r, s->in, 0, each);
    return 2;
}

static int64_t lowrank_kept(const st_spec *s)
{
    return s->knob[RANK];
}

/* h = x V^T, in `kept` or, where that is absent, in scratch. */
static st_tensor lowrank_inner(const st_map_call *c)
{
    int64_t n = c->x.dim[0], r = c->spec->knob[RANK];
    st_tensor h = c->kept.data ? c->kept : st_take2(c->tmp, c->x.dtype, n, r);
    st_stream_ops(c->q)->gemm(
        c->q,
        &(st_gemm_args){
            .m = n, .n = r, .k = c->spec->in, .tb = 1, .a = c->x, .b = c->theta->p[1], .c = h});
    return h;
}

void map_lowrank_forward(const st_map_call *c, float beta)
{
    st_tensor h = lowrank_inner(c);
    st_stream_ops(c->q)->gemm(c->q, &(st_gemm_args){.m = c->x.dim[0],
                                                    .n = c->spec->out,
                                                    .k = c->spec->knob[RANK],
                                                    .tb = 1,
                                                    .a = h,
                                                    .b = c->theta->p[0],
                                                    .c = c->y,
                                                    .bias = c->bias,
                                                    .beta = beta});
}

void map_lowrank_backward(const st_map_call *c, float beta)
{
    const st_ops *op = st_stream_ops(c->q);
    int64_t n = c->x.dim[0], r = c->spec->knob[RANK];
    st_tensor h = c->kept.data ? c->kept : lowrank_inner(c);
    st_tensor dh = st_take2(c->tmp, c->x.dtype, n, r);
    op->gemm(c->q,
             &(st_gemm_args){
                 .m = n, .n = r, .k = c->spec->out, .a = c->dy, .b = c->theta->p[0], .c = dh});
    if (c->dx.data) {
        op->gemm(c->q, &(st_gemm_args){.m = n,
                                       .n = c->spec->in,
                                       .k = r,
                                       .a = dh,
                                       .b = c->theta->p[1],
                                       .c = c->dx,
                                       .beta = beta});
    }
    if (!c->dtheta || !c->dtheta->p[0].data) return;
    op->gemm(c->q, &(st_gemm_args){.m = r,
                                   .n = c->spec->in,
                                   .k = n,
                                   .ta = 1,
                                   .a = dh,
                                   .b = c->x,
                                   .c = c->dtheta->p[1],
                                   .beta = 1.0f});
    op->gemm(c->q, &(st_gemm_args){.m = c->spec->out,
                                   .n = r,
                                   .k = n,
                                   .ta = 1,
                                   .a = c->dy,
                                   .b = h,
                                   .c = c->dtheta->p[0],
                                   .beta = 1.0f});
}

static void lowrank_forward(const st_map_call *c)
{
    map_lowrank_forward(c, 0.0f);
}

static void lowrank_backward(const st_map_call *c)
{
    map_lowrank_backward(c, 0.0f);
}

/* U[ids], (rows, rank). */
static st_tensor lowrank_find(const st_map_call *c, const st_embed_fwd_args *a, st_dtype dtype)
{
    st_tensor h = st_take2(c->tmp, dtype, a->rows, c->spec->knob[RANK]);
    st_stream_ops(c->q)->embed_fwd(c->q, &(st_embed_fwd_args){.rows = a->rows,
                                                              .width = c->spec->knob[RANK],
                                                              .len = a->len,
                                                              .ids = a->ids,
                                                              .table = c->theta->p[0],
                                                              .y = h});
    return h;
}

static void lowrank_rows(const st_map_call *c, const st_embed_fwd_args *a)
{
    st_stream_ops(c->q)->gemm(c->q, &(st_gemm_args){.m = a->rows,
                                                    .n = c->spec->in,
                                                    .k = c->spec->knob[RANK],
                                                    .a = lowrank_find(c, a, a->y.dtype),
                                                    .b = c->theta->p[1],
                                                    .c = a->y});
    map_rows_position(c->q, a);
}

static void lowrank_rows_backward(const st_map_call *c, const st_embed_bwd_args *a)
{
    const st_ops *op = st_stream_ops(c->q);
    int64_t n = a->rows, r = c->spec->knob[RANK];
    map_rows_position_backward(c->q, a);
    if (!c->dtheta->p[0].data) return;
    st_tensor h = lowrank_find(c, a, a->dy.dtype);
    op->gemm(c->q, &(st_gemm_args){.m = r,
                                   .n = c->spec->in,
                                   .k = n,
                                   .ta = 1,
                                   .a = h,
                                   .b = a->dy,
                                   .c = c->dtheta->p[1],
                                   .beta = 1.0f});
    op->gemm(
        c->q,
        &(st_gemm_args){
            .m = n, .n = r, .k = c->spec->in, .tb = 1, .a = a->dy, .b = c->theta->p[1], .c = h});
    op->embed_bwd(c->q, &(st_embed_bwd_args){.rows = n,
                                             .width = r,
                                             .len = a->len,
                                             .ids = a->ids,
                                             .dy = h,
                                             .dtable = c->dtheta->p[0]});
}

/* The factors of the triples: columns of U and rows of V of the same norm, rows of U divided by
 * their weight. */
static void lowrank_split(const st_spec *s, const st_svd *d, const float *weight, const st_theta *t)
{
    int64_t r = s->knob[RANK];
    float *u = t->p[0].data, *v = t->p[1].data;
    for (int64_t j = 0; j < r; j++) {
        double norm = 0.0;
        for (int64_t i = 0; i < s->out; i++) {
            double x = (double)d->u[i * r + j] / (weight ? (double)weight[i] : 1.0);
            norm += x * x;
            u[i * r + j] = (float)x;
        }
        float rows = norm > 0.0 ? sqrtf((float)norm) : 1.0f, root = sqrtf(d->s[j] * rows);
        for (int64_t i = 0; i < s->out; i++)
            u[i * r + j] *= root / rows;
        for (int64_t i = 0; i < s->in; i++)
            v[j * s->in + i] = root * d->vt[j * s->in + i];
    }
}

static st_status lowrank_project(const st_spec *s, st_tensor w, const st_theta *t,
                                 const st_project_opts *how, st_err *e)
{
    const float *weight = how ? how->out_weight : NULL;
    map_cov k = {0};
    st_svd d = {0};
    float *scaled = NULL;
    st_status status = ST_OK;
    if (how && how->in_cov) status = map_cov_open(&k, how, s->in, e);
    if (!status && weight) status = map_scale_rows(&scaled, w.data, weight, s->out, s->in, e);
    if (!status) {
        status = map_weighted_svd(&d, scaled ? scaled : w.data, s->out, s->in, s->knob[RANK],
                                  k.c ? &k : NULL, how, e);
    }
    if (!status) lowrank_split(s, &d, weight, t);
    st_svd_close(&d);
    map_cov_close(&k);
    free(scaled);
    return status;
}

/* fly: both factors as torch inits a linear layer of their inputs, the bias by the first's. The
 * fork's layer is two linear layers, which its GPT-2 re-initialises: W has a deviation of
 * range^2 sqrt(rank) only. */
static void lowrank_fresh(const st_spec *s, const st_fresh_opts *how, const st_theta *t,
                          st_tensor bias)
{
    if (how->law == ST_FRESH_FORK) {
        map_fresh_linear(how, "u", t->p[0]);
        map_fresh_linear(how, "v", t->p[1]);
        return;
    }
    map_fresh_weight(how, "u", t->p[0], 1.0 / sqrt((double)s->knob[RANK]));
    map_fresh_weight(how, "v", t->p[1], 1.0 / sqrt((double)s->in));
    map_fresh_uniform(how, "bias", bias, 1.0 / sqrt((double)s->in));
}

static st_status lowrank_fit(st_spec *s, int64_t params, st_err *e)
{
    int64_t each = s->in + s->out;
    int64_t r = (params + each / 2) / each;
    s->knob[RANK] = map_max(1, map_min(r, map_min(s->in, s->out)));
    if (map_misfit(s, params) > MAP_FIT_TOLERANCE) return map_unfit(s, params, s, e);
    return ST_OK;
}

const st_map_type st_map_lowrank = {
    .name = "lowrank",
    .summary = "two thin factors: truncated singular value decomposition",
    .equation = "y = U (V x), U (out, r), V (r, in)",
    .source = "Eckart & Young 1936",
    .knob = {{"rank", "width of the factors, 1..min(in, out)", ST_REQUIRED, ST_KNOB_SHOWN}},
    .check = lowrank_check,
    .params = lowrank_params,
    .kept = lowrank_kept,
    .forward = lowrank_forward,
    .backward = lowrank_backward,
    .rows = lowrank_rows,
    .rows_backward = lowrank_rows_backward,
    .project = lowrank_project,
    .fresh = lowrank_fresh,
    .fit = lowrank_fit,
};
