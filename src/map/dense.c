/* Dense: W itself, (out, in). */
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
    out[0] = map_param("weight", s->out, s->in, 0, std);
    return 1;
}

static int64_t dense_kept(const st_spec *s)
{
    (void)s;
    return 0;
}

static void dense_forward(st_stream *q, const st_spec *s, const st_theta *t, st_tensor x,
                          st_tensor bias, st_tensor y, st_tensor kept, st_arena *tmp)
{
    (void)kept, (void)tmp;
    st_stream_ops(q)->gemm(q, &(st_gemm_args){.m = x.dim[0],
                                              .n = s->out,
                                              .k = s->in,
                                              .tb = 1,
                                              .a = x,
                                              .b = t->p[0],
                                              .c = y,
                                              .bias = bias});
}

static void dense_backward(st_stream *q, const st_spec *s, const st_theta *t, st_tensor x,
                           st_tensor kept, st_tensor dy, st_tensor dx, const st_theta *dt,
                           st_arena *tmp)
{
    (void)kept, (void)tmp;
    const st_ops *op = st_stream_ops(q);
    int64_t n = x.dim[0];
    if (dt && dt->p[0].data) {
        op->gemm(q, &(st_gemm_args){.m = s->out,
                                    .n = s->in,
                                    .k = n,
                                    .ta = 1,
                                    .a = dy,
                                    .b = x,
                                    .c = dt->p[0],
                                    .beta = 1.0f});
    }
    if (dx.data) {
        op->gemm(q,
                 &(st_gemm_args){.m = n, .n = s->in, .k = s->out, .a = dy, .b = t->p[0], .c = dx});
    }
}

static void dense_rows(st_stream *q, const st_spec *s, const st_theta *t,
                       const st_embed_fwd_args *a, st_arena *tmp)
{
    (void)s, (void)tmp;
    st_embed_fwd_args find = *a;
    find.table = t->p[0];
    st_stream_ops(q)->embed_fwd(q, &find);
}

static void dense_rows_backward(st_stream *q, const st_spec *s, const st_theta *t,
                                const st_embed_bwd_args *a, const st_theta *dt, st_arena *tmp)
{
    (void)s, (void)t, (void)tmp;
    st_embed_bwd_args back = *a;
    back.dtable = dt->p[0];
    st_stream_ops(q)->embed_bwd(q, &back);
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
    .rows = dense_rows,
    .rows_backward = dense_rows_backward,
    .project = dense_project,
    .expand = dense_expand,
    .fit = dense_fit,
};
