/* Dense: W itself, (out, in). Rows of y and dy may be further apart than out: y.dim[1]. */
/* SPDX-License-Identifier: MIT */
#include "map/inner.h"
#include <string.h>

static st_status dense_check(st_spec *s, st_err *e)
{
    (void)s, (void)e;
    return ST_OK;
}

static int dense_params(const st_spec *s, float std, st_param_shape out[ST_PARAMS])
{
    out[0] = map_factor("weight", s->out, s->in, 0, std);
    return 1;
}

static int64_t dense_kept(const st_spec *s)
{
    (void)s;
    return 0;
}

static void dense_forward(const st_map_call *c)
{
    st_stream_ops(c->q)->gemm(c->q, &(st_gemm_args){.m = c->x.dim[0],
                                                    .n = c->spec->out,
                                                    .k = c->spec->in,
                                                    .tb = 1,
                                                    .a = c->x,
                                                    .b = c->theta->p[0],
                                                    .c = c->y,
                                                    .ldc = c->y.dim[1],
                                                    .bias = c->bias});
}

static bool dense_last(const st_map_call *c, st_gelu_linear_args *a)
{
    if (map_in_blocks(c, 0)) return false;
    a->rows = c->x.dim[0];
    a->n = c->spec->out;
    a->k = c->spec->in;
    a->x = c->x;
    a->w = c->theta->p[0];
    return true;
}

static void dense_backward(const st_map_call *c)
{
    const st_ops *op = st_stream_ops(c->q);
    int64_t n = c->x.dim[0];
    if (c->dtheta && c->dtheta->p[0].data) {
        op->gemm(c->q, &(st_gemm_args){.m = c->spec->out,
                                       .n = c->spec->in,
                                       .k = n,
                                       .ta = 1,
                                       .a = c->dy,
                                       .lda = c->dy.dim[1],
                                       .b = c->x,
                                       .c = c->dtheta->p[0],
                                       .beta = 1.0f});
    }
    if (c->dx.data) {
        op->gemm(c->q, &(st_gemm_args){.m = n,
                                       .n = c->spec->in,
                                       .k = c->spec->out,
                                       .a = c->dy,
                                       .lda = c->dy.dim[1],
                                       .b = c->theta->p[0],
                                       .c = c->dx});
    }
}

static void dense_rows(const st_map_call *c, const st_embed_fwd_args *a)
{
    st_embed_fwd_args find = *a;
    find.table = c->theta->p[0];
    st_stream_ops(c->q)->embed_fwd(c->q, &find);
}

static void dense_rows_backward(const st_map_call *c, const st_embed_bwd_args *a)
{
    st_embed_bwd_args back = *a;
    back.dtable = c->dtheta->p[0];
    st_stream_ops(c->q)->embed_bwd(c->q, &back);
}

static st_status dense_project(const st_spec *s, st_tensor w, const st_theta *t,
                               const st_project_opts *how, st_err *e)
{
    (void)s, (void)how, (void)e;
    memcpy(t->p[0].data, w.data, st_bytes(w));
    return ST_OK;
}

static st_status dense_expand(const st_spec *s, const st_theta *t, st_tensor w, st_err *e)
{
    (void)s, (void)e;
    memcpy(w.data, t->p[0].data, st_bytes(w));
    return ST_OK;
}

static st_status dense_fit(st_spec *s, int64_t params, st_err *e)
{
    if (map_misfit(s, params) > MAP_FIT_TOLERANCE) return map_unfit(s, params, s, e);
    return ST_OK;
}

const st_map_type st_map_dense = {
    .name = "dense",
    .summary = "every entry free: the matrix itself",
    .equation = "y = W x",
    .source = "",
    .check = dense_check,
    .params = dense_params,
    .kept = dense_kept,
    .forward = dense_forward,
    .backward = dense_backward,
    .last = dense_last,
    .rows = dense_rows,
    .rows_backward = dense_rows_backward,
    .project = dense_project,
    .expand = dense_expand,
    .fit = dense_fit,
};
