/* bench map: one matrix, every structure against dense, forward and backward. */
/* SPDX-License-Identifier: MIT */
#include "job/bench.h"
#include <stdlib.h>
#include <string.h>

typedef struct {
    st_stream *q;
    st_linear l;
    st_tensor x, y, kept, dy, dx;
    st_arena mem, tmp;
    st_cost forward, backward; /* of one call */
} map_case;

static void map_forward(void *ctx)
{
    map_case *c = ctx;
    st_linear_forward(c->q, &c->l, c->x, c->y, c->kept, &c->tmp);
}

static void map_backward(void *ctx)
{
    map_case *c = ctx;
    st_linear_backward(c->q, &c->l, c->x, c->kept, c->dy, c->dx, &c->tmp);
}

static void map_take(map_case *c, const st_bench_map_opts *o, st_arena *a)
{
    st_param_shape p[ST_PARAMS];
    const st_spec *s = &c->l.spec;
    int n = s->type->params(s, 0.02f, p);
    for (int i = 0; i < n; i++) {
        c->l.w.p[i] = st_take(a, o->dtype, p[i].ndim, p[i].dim);
        if (o->backward) c->l.dw.p[i] = st_take(a, ST_F32, p[i].ndim, p[i].dim);
    }
    int64_t kept = o->backward ? st_linear_kept(&c->l) : 0;
    c->x = st_take2(a, o->dtype, o->rows, s->in);
    c->y = st_take2(a, o->dtype, o->rows, s->out);
    if (kept) c->kept = st_take2(a, o->dtype, o->rows, kept);
    if (!o->backward) return;
    c->dy = st_take2(a, o->dtype, o->rows, s->out);
    c->dx = st_take2(a, o->dtype, o->rows, s->in);
}

/* What one case needs and costs, by a dry run of both calls. */
static st_status map_plan(map_case *c, const st_bench_map_opts *o, size_t *mem, size_t *tmp,
                          st_err *e)
{
    map_case shadow = {.l = {.spec = c->l.spec}};
    st_status s = st_stream_dry(&shadow.q, c->q, e);
    if (!s) s = st_arena_open_counting(&shadow.mem, e);
    if (!s) s = st_arena_open_counting(&shadow.tmp, e);
    if (!s) {
        map_take(&shadow, o, &shadow.mem);
        map_forward(&shadow);
        c->forward = st_stream_cost(shadow.q);
        if (o->backward) map_backward(&shadow);
        c->backward = st_stream_cost(shadow.q);
        c->backward.macs -= c->forward.macs;
        c->backward.bytes -= c->forward.bytes;
        *mem = shadow.mem.peak;
        *tmp = shadow.tmp.peak;
        s = st_stream_sync(shadow.q, e);
    }
    st_arena_close(&shadow.mem);
    st_arena_close(&shadow.tmp);
    st_stream_close(shadow.q);
    return s;
}

static st_status map_open(map_case *c, const st_bench_map_opts *o, st_err *e)
{
    size_t mem, tmp;
    st_param_shape p[ST_PARAMS];
    ST_TRY(map_plan(c, o, &mem, &tmp, e));
    ST_TRY(st_device_arena(c->q, mem, &c->mem, e));
    ST_TRY(st_device_arena(c->q, tmp, &c->tmp, e));
    map_take(c, o, &c->mem);
    int n = c->l.spec.type->params(&c->l.spec, 0.02f, p);
    for (int i = 0; i < n; i++) {
        ST_TRY(bench_fill(c->q, c->l.w.p[i], p[i].init_std, (uint64_t)i << 32, e));
    }
    ST_TRY(bench_fill(c->q, c->x, 1.0f, (uint64_t)100 << 32, e));
    if (o->backward) ST_TRY(bench_fill(c->q, c->dy, 1.0f, (uint64_t)101 << 32, e));
    return ST_OK;
}

static void map_close(map_case *c)
{
    st_device_arena_close(c->q, &c->mem);
    st_device_arena_close(c->q, &c->tmp);
}

/* ---- which specs
 * --------------------------------------------------------------------------------- */

/* Dense first, then what was asked for, or every type that can be fitted. */
static st_status map_choose(map_case *c, int64_t *n, const st_bench_map_opts *o, st_err *e)
{
    ST_TRY(st_spec_parse(&c[0].l.spec, "dense", o->in, o->out, e));
    *n = 1;
    for (int i = 0; i < o->nmaps; i++) {
        if (strcmp(o->maps[i], "dense") != 0)
            ST_TRY(bench_spec(&c[(*n)++].l.spec, o->maps[i], o->in, o->out, o->fit, e));
    }
    for (int i = 0; o->nmaps == 0 && st_map_types[i]; i++) {
        const char *name = st_map_types[i]->name;
        if (strcmp(name, "dense") == 0 || strcmp(name, "sum") == 0) continue;
        st_err why = {0};
        if (bench_spec(&c[*n].l.spec, name, o->in, o->out, o->fit, &why) == ST_OK)
            ++*n;
        else
            st_log(ST_LOG_WARN, "left out: %s", why.msg);
    }
    return ST_OK;
}

static json_t *map_row(const map_case *c, const st_bench_map_opts *o)
{
    char text[ST_SPEC_TEXT], label[ST_SPEC_TEXT];
    st_spec_print(&c->l.spec, text);
    st_spec_label(&c->l.spec, label);
    int64_t weights = st_spec_weights(&c->l.spec);
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "name", label, "spec", text,
                     "in", (json_int_t)o->in, "out", (json_int_t)o->out, "rows",
                     (json_int_t)o->rows, "parameters", (json_int_t)weights, "bytes",
                     (json_int_t)(weights * (int64_t)st_dtype_size(o->dtype)), "macs_per_token",
                     (json_int_t)(c->forward.macs / o->rows), "dtype", st_dtype_name(o->dtype));
}

static st_status map_time(map_case *c, int64_t n, const st_bench_map_opts *o, json_t *rows,
                          st_err *e)
{
    int64_t kinds = o->backward ? 2 : 1, rounds = 0;
    bench_item *item = st_calloc(n * kinds, sizeof *item);
    if (!item) ST_FAIL(e, ST_ENOMEM, "out of memory");
    for (int64_t i = 0; i < n; i++) {
        item[i] = (bench_item){.call = map_forward,
                               .ctx = &c[i],
                               .macs = (double)c[i].forward.macs,
                               .tokens = (double)o->rows};
        if (!o->backward) continue;
        item[n + i] = (bench_item){.call = map_backward,
                                   .ctx = &c[i],
                                   .macs = (double)c[i].backward.macs,
                                   .tokens = (double)o->rows};
    }
    bench_effort how = {o->reps, o->budget};
    st_status s = bench_all(c[0].q, item, n * kinds, &how, &rounds, e);
    for (int64_t i = 0; !s && i < n; i++) {
        json_t *row = map_row(&c[i], o);
        json_object_set_new(row, "forward", bench_summary(&item[i], &item[0], rounds));
        if (o->backward) {
            json_object_set_new(row, "backward", bench_summary(&item[n + i], &item[n], rounds));
        }
        json_array_append_new(rows, row);
    }
    bench_free(item, n * kinds);
    free(item);
    return s;
}

static st_status map_check(const st_bench_map_opts *o, st_err *e)
{
    const int64_t most = 1 << 20;
    if (o->in < 1 || o->out < 1 || o->rows < 1 || o->in > most || o->out > most || o->rows > most) {
        ST_FAIL(e, ST_EARG, "in %lld, out %lld, rows %lld: expected 1 to %lld each",
                (long long)o->in, (long long)o->out, (long long)o->rows, (long long)most);
    }
    if (o->dtype != ST_F32 && o->dtype != ST_BF16) {
        ST_FAIL(e, ST_EARG, "dtype %s: expected float32 or bfloat16", st_dtype_name(o->dtype));
    }
    return ST_OK;
}

st_status st_bench_map(const st_bench_map_opts *o, json_t **result, st_err *e)
{
    ST_TRY(map_check(o, e));
    st_stream *q = NULL;
    ST_TRY(st_stream_open(&q, o->device ? o->device : "cpu", 0, e));
    int64_t types = 0, n = 0;
    while (st_map_types[types])
        types++;
    int64_t cap = 1 + types + o->nmaps;
    map_case *c = st_calloc(cap, sizeof *c);
    json_t *rows = json_array();
    st_status s =
        c ? map_choose(c, &n, o, e) : st_fail(e, ST_ENOMEM, __FILE__, __LINE__, "out of memory");
    for (int64_t i = 0; !s && i < n; i++) {
        c[i].q = q;
        s = map_open(&c[i], o, e);
    }
    if (!s) s = map_time(c, n, o, rows, e);
    if (!s) {
        *result = bench_machine(q);
        json_object_set(*result, "rows", rows);
    }
    for (int64_t i = 0; c && i < n; i++) {
        if (c[i].q) map_close(&c[i]);
    }
    free(c);
    json_decref(rows);
    st_stream_close(q);
    return s;
}
