/* A map as a dense matrix, and what it costs. */
/* SPDX-License-Identifier: MIT */
#include "map/inner.h"
#include <stdlib.h>
#include <string.h>

enum { EXPAND_ROWS = 256 };

int64_t st_spec_weights(const st_spec *s)
{
    st_param_shape p[ST_PARAMS];
    int count = s->type->params(s, 1.0f, p);
    int64_t sum = 0;
    for (int i = 0; i < count; i++) {
        int64_t n = 1;
        for (int d = 0; d < p[i].ndim; d++)
            n *= p[i].dim[d];
        sum += n;
    }
    return sum;
}

int64_t st_spec_tied(const st_spec *s, bool out)
{
    return s->type->tied ? s->type->tied(s, out) : 1;
}

static st_theta expand_take(st_arena *a, const st_spec *s)
{
    st_param_shape p[ST_PARAMS];
    st_theta t = {0};
    int count = s->type->params(s, 1.0f, p);
    for (int i = 0; i < count; i++)
        t.p[i] = st_take(a, ST_F32, p[i].ndim, p[i].dim);
    return t;
}

st_status st_spec_macs(const st_spec *s, const st_stream *q, int64_t rows, double *out, st_err *e)
{
    st_stream *dry = NULL;
    st_arena a = {0};
    st_status status = st_stream_dry(&dry, q, e);
    if (!status) status = st_arena_open_counting(&a, e);
    if (status) goto out;
    st_theta t = expand_take(&a, s);
    st_tensor x = st_take2(&a, ST_F32, rows, s->in), y = st_take2(&a, ST_F32, rows, s->out);
    s->type->forward(&(st_map_call){.q = dry, .spec = s, .theta = &t, .x = x, .y = y, .tmp = &a});
    *out = (double)st_stream_cost(dry).macs / (double)rows;
out:
    st_arena_close(&a);
    st_stream_close(dry);
    return status;
}

/* Rows [first, first + rows) of W^T = I W^T into c's y, then into the columns of w. */
static void expand_slab(const st_map_call *c, st_tensor w, int64_t first)
{
    const st_spec *s = c->spec;
    int64_t rows = c->x.dim[0];
    float *one = c->x.data, *from = c->y.data, *to = w.data;
    memset(one, 0, st_bytes(c->x));
    for (int64_t i = 0; i < rows; i++)
        one[i * s->in + first + i] = 1.0f;
    s->type->forward(c);
    for (int64_t o = 0; o < s->out; o++) {
        for (int64_t i = 0; i < rows; i++)
            to[o * s->in + first + i] = from[i * s->out + o];
    }
}

st_status st_map_expand(const st_spec *s, const st_theta *t, st_tensor w, st_err *e)
{
    if (s->type->expand) return s->type->expand(s, t, w, e);
    /* ref's plain loops make about 1e9 multiply-adds a second */
    bool large = (double)s->in * (double)st_spec_weights(s) > 1e8;
    st_stream *q = NULL, *dry = NULL;
    st_arena a = {0}, plan = {0};
    int64_t rows = map_min(s->in, EXPAND_ROWS);
    st_status status = st_stream_open(&q, large ? "cpu" : "ref", 0, e);
    if (!status) status = st_stream_dry(&dry, q, e);
    if (!status) status = st_arena_open_counting(&plan, e);
    if (status) goto out;
    st_theta shadow = expand_take(&plan, s);
    st_map_call c = {.q = dry, .spec = s, .theta = &shadow, .tmp = &plan};
    c.x = st_take2(&plan, ST_F32, rows, s->in);
    c.y = st_take2(&plan, ST_F32, rows, s->out);
    size_t mark = st_arena_mark(&plan);
    for (int64_t i = 0; i < s->in; i += rows) {
        st_arena_rewind(&plan, mark);
        c.x.dim[0] = c.y.dim[0] = map_min(rows, s->in - i);
        s->type->forward(&c);
    }
    status = st_arena_open(&a, plan.peak, e);
    if (status) goto out;
    c = (st_map_call){.q = q, .spec = s, .theta = t, .tmp = &a};
    c.x = st_take2(&a, ST_F32, rows, s->in);
    c.y = st_take2(&a, ST_F32, rows, s->out);
    mark = st_arena_mark(&a);
    for (int64_t i = 0; i < s->in; i += rows) {
        st_arena_rewind(&a, mark);
        c.x.dim[0] = c.y.dim[0] = map_min(rows, s->in - i);
        expand_slab(&c, w, i);
    }
    status = st_stream_sync(q, e);
out:
    st_arena_close(&plan);
    st_arena_close(&a);
    st_stream_close(dry);
    st_stream_close(q);
    return status;
}
