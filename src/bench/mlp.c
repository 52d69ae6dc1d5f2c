/* bench mlp: the MLP of a block as models run it (st_mlp), structured against dense: forward, and a
 * training step (forward, dx, gradients of matrices and biases). */
/* SPDX-License-Identifier: MIT */
#include "bench/bench.h"
#include "bench/inner.h"
#include "model/model.h"
#include <stdlib.h>
#include <string.h>

/* What all cases share: they take turns. */
typedef struct {
    const st_bench_mlp_opts *o;
    st_stream *q;
    st_arena mem, tmp;
    st_tensor x, y, dy, dx;
} mlp_bench;

typedef struct {
    mlp_bench *b;
    st_matrix in, out;
    st_arena mem;
    st_cost forward, step; /* of one call */
    size_t weights, scratch;
} mlp_case;

static void mlp_forward(void *ctx)
{
    mlp_case *c = ctx;
    mlp_bench *b = c->b;
    st_mlp m = {.in = &c->in, .out = &c->out, .gelu = ST_GELU_ERF};
    st_mlp_acts k = {0};
    size_t mark = st_arena_mark(&b->tmp);
    st_mlp_forward(b->q, &m, false, b->x, (st_tensor){0}, b->y, &k, &b->tmp);
    st_arena_rewind(&b->tmp, mark);
}

static void mlp_step(void *ctx)
{
    mlp_case *c = ctx;
    mlp_bench *b = c->b;
    st_mlp m = {.in = &c->in, .out = &c->out, .gelu = ST_GELU_ERF};
    st_mlp_acts k = {0};
    size_t mark = st_arena_mark(&b->tmp);
    st_mlp_forward(b->q, &m, true, b->x, (st_tensor){0}, b->y, &k, &b->tmp);
    st_mlp_backward(b->q, &m, &k, b->dy, b->dx, NULL, &b->tmp);
    st_arena_rewind(&b->tmp, mark);
}

static void mlp_take_matrix(st_linear *l, st_dtype t, st_arena *a)
{
    st_param_shape p[ST_PARAMS];
    int n = l->spec.type->params(&l->spec, 0.02f, p);
    for (int i = 0; i < n; i++) {
        l->w.p[i] = st_take(a, t, p[i].ndim, p[i].dim);
        l->dw.p[i] = st_take(a, ST_F32, p[i].ndim, p[i].dim);
    }
    l->bias = st_take1(a, t, l->spec.out);
    l->dbias = st_take1(a, ST_F32, l->spec.out);
}

static void mlp_take(mlp_case *c, st_arena *a)
{
    mlp_take_matrix(&c->in.l, c->b->o->dtype, a);
    mlp_take_matrix(&c->out.l, c->b->o->dtype, a);
}

static void mlp_take_shared(mlp_bench *b, st_arena *a)
{
    const st_bench_mlp_opts *o = b->o;
    b->x = st_take2(a, o->dtype, o->rows, o->width);
    b->y = st_take2(a, o->dtype, o->rows, o->width);
    b->dy = st_take2(a, o->dtype, o->rows, o->width);
    b->dx = st_take2(a, o->dtype, o->rows, o->width);
}

/* What one case needs and costs, by a dry run of both calls; *shared: bytes of x, y, dy, dx. */
static st_status mlp_plan(mlp_case *c, size_t *shared, st_err *e)
{
    mlp_bench b = {.o = c->b->o};
    mlp_case shadow = *c;
    st_arena mem = {0};
    shadow.b = &b;
    st_status s = st_stream_dry(&b.q, c->b->q, e);
    if (!s) s = st_arena_open_counting(&b.mem, e);
    if (!s) s = st_arena_open_counting(&b.tmp, e);
    if (!s) s = st_arena_open_counting(&mem, e);
    if (!s) {
        mlp_take_shared(&b, &b.mem);
        mlp_take(&shadow, &mem);
        mlp_forward(&shadow);
        c->forward = st_stream_cost(b.q);
        mlp_step(&shadow);
        c->step = st_stream_cost(b.q);
        c->step.macs -= c->forward.macs;
        c->step.bytes -= c->forward.bytes;
        c->weights = mem.peak;
        c->scratch = b.tmp.peak;
        *shared = b.mem.peak;
        s = st_stream_sync(b.q, e);
    }
    st_arena_close(&mem);
    st_arena_close(&b.mem);
    st_arena_close(&b.tmp);
    st_stream_close(b.q);
    return s;
}

static st_status mlp_fill(mlp_case *c, st_linear *l, uint64_t stream, st_err *e)
{
    st_param_shape p[ST_PARAMS];
    int n = l->spec.type->params(&l->spec, 0.02f, p);
    for (int i = 0; i < n; i++) {
        ST_TRY(bench_fill(c->b->q, l->w.p[i], p[i].init_std, (stream + (uint64_t)i) << 32, e));
    }
    return bench_fill(c->b->q, l->bias, 0.02f, (stream + ST_PARAMS) << 32, e);
}

static st_status mlp_open(mlp_bench *b, mlp_case *c, int64_t n, st_err *e)
{
    size_t shared = 0, scratch = 0;
    for (int64_t i = 0; i < n; i++) {
        ST_TRY(mlp_plan(&c[i], &shared, e));
        scratch = c[i].scratch > scratch ? c[i].scratch : scratch;
    }
    ST_TRY(st_device_arena(b->q, shared, &b->mem, e));
    ST_TRY(st_device_arena(b->q, scratch, &b->tmp, e));
    mlp_take_shared(b, &b->mem);
    ST_TRY(bench_fill(b->q, b->x, 1.0f, (uint64_t)100 << 32, e));
    ST_TRY(bench_fill(b->q, b->dy, 1.0f, (uint64_t)101 << 32, e));
    for (int64_t i = 0; i < n; i++) {
        ST_TRY(st_device_arena(b->q, c[i].weights, &c[i].mem, e));
        mlp_take(&c[i], &c[i].mem);
        ST_TRY(mlp_fill(&c[i], &c[i].in.l, 0, e));
        ST_TRY(mlp_fill(&c[i], &c[i].out.l, 50, e));
    }
    return ST_OK;
}

/* ---- which specs ----------------------------------------------------------------------------- */

static st_status mlp_spec(mlp_case *c, const char *text, const st_bench_mlp_opts *o, st_err *e)
{
    ST_TRY(bench_spec(&c->in.l.spec, text, o->width, o->inner, o->fit, e));
    return bench_spec(&c->out.l.spec, text, o->inner, o->width, o->fit, e);
}

/* Dense first, then what was asked for. */
static st_status mlp_choose(mlp_bench *b, mlp_case *c, int64_t *n, st_err *e)
{
    static const char *const preset[] = {"ss1:factor=4"};
    const st_bench_mlp_opts *o = b->o;
    const char *const *maps = o->nmaps ? o->maps : preset;
    ST_TRY(mlp_spec(&c[(*n)++], "dense", o, e));
    for (int i = 0; i < (o->nmaps ? o->nmaps : 1); i++) {
        if (strcmp(maps[i], "dense") != 0) ST_TRY(mlp_spec(&c[(*n)++], maps[i], o, e));
    }
    for (int64_t i = 0; i < *n; i++) {
        c[i].b = b;
        c[i].in.name = "mlp.in";
        c[i].out.name = "mlp.out";
    }
    return ST_OK;
}

static json_t *mlp_row(const mlp_case *c)
{
    const st_bench_mlp_opts *o = c->b->o;
    char in[ST_SPEC_TEXT], out[ST_SPEC_TEXT], label[ST_SPEC_TEXT];
    st_spec_print(&c->in.l.spec, in);
    st_spec_print(&c->out.l.spec, out);
    st_spec_label(&c->in.l.spec, label);
    int64_t weights = st_spec_weights(&c->in.l.spec) + st_spec_weights(&c->out.l.spec);
    return json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "name", label,
                     "spec", in, "spec_out", out, "in", (json_int_t)o->width, "out",
                     (json_int_t)o->width, "inner", (json_int_t)o->inner, "rows",
                     (json_int_t)o->rows, "parameters", (json_int_t)weights, "bytes",
                     (json_int_t)(weights * (int64_t)st_dtype_size(o->dtype)), "macs_per_token",
                     (json_int_t)(c->forward.macs / o->rows), "dtype", st_dtype_name(o->dtype));
}

static st_status mlp_time(mlp_bench *b, mlp_case *c, int64_t n, json_t *rows, st_err *e)
{
    int64_t rounds = 0;
    bench_roof roof = {0};
    bench_item *item = st_calloc(2 * n, sizeof *item);
    if (!item) return ST_NOMEM(e, NULL);
    for (int64_t i = 0; i < n; i++) {
        item[i] = (bench_item){.call = mlp_forward,
                               .ctx = &c[i],
                               .macs = (double)c[i].forward.macs,
                               .bytes = (double)c[i].forward.bytes,
                               .roof = &roof,
                               .dtype = b->o->dtype,
                               .tokens = (double)b->o->rows};
        item[n + i] = (bench_item){.call = mlp_step,
                                   .ctx = &c[i],
                                   .macs = (double)c[i].step.macs,
                                   .bytes = (double)c[i].step.bytes,
                                   .roof = &roof,
                                   .dtype = b->o->dtype,
                                   .tokens = (double)b->o->rows};
    }
    bench_effort how = {.reps = b->o->reps, .budget = b->o->budget, .roof = &roof};
    st_status s = bench_roof_open(&roof, b->q, b->o->dtype == ST_BF16, e);
    if (!s) s = bench_all(b->q, item, 2 * n, &how, &rounds, e);
    bool some = s == ST_EINTR && rounds >= BENCH_ROUNDS_LEAST;
    for (int64_t i = 0; (!s || some) && i < n; i++) {
        json_t *row = mlp_row(&c[i]);
        json_object_set_new(row, "forward", bench_summary(&item[i], &item[0], rounds));
        json_object_set_new(row, "step", bench_summary(&item[n + i], &item[n], rounds));
        json_array_append_new(rows, row);
    }
    bench_roof_close(&roof);
    bench_free(item, 2 * n);
    free(item);
    return s;
}

static st_status mlp_check(const st_bench_mlp_opts *o, st_err *e)
{
    const int64_t most = 1 << 20; /* three of these are no more bytes than an address can count */
    if (o->width < 1 || o->inner < 1 || o->rows < 1 || o->width > most || o->inner > most ||
        o->rows > most) {
        ST_FAIL(e, ST_EARG, "width %lld, inner %lld, rows %lld: expected 1 to %lld each",
                (long long)o->width, (long long)o->inner, (long long)o->rows, (long long)most);
    }
    if (o->dtype != ST_F32 && o->dtype != ST_BF16) {
        ST_FAIL(e, ST_EARG, "dtype %s: expected float32 or bfloat16", st_dtype_name(o->dtype));
    }
    return ST_OK;
}

st_status st_bench_mlp(const st_bench_mlp_opts *o, json_t **result, st_err *e)
{
    ST_TRY(mlp_check(o, e));
    mlp_bench b = {.o = o};
    ST_TRY(st_stream_open(&b.q, o->device, 0, e));
    int64_t n = 0;
    mlp_case *c = st_calloc(2 + o->nmaps, sizeof *c);
    json_t *rows = json_array();
    st_status s = c ? mlp_choose(&b, c, &n, e) : ST_NOMEM(e, NULL);
    if (!s) s = mlp_open(&b, c, n, e);
    if (!s) s = mlp_time(&b, c, n, rows, e);
    *result = NULL;
    if (!s || (s == ST_EINTR && json_array_size(rows))) {
        *result = st_machine_json(st_stream_describe(b.q), st_stream_threads(b.q));
        json_object_set(*result, "rows", rows);
    }
    for (int64_t i = 0; c && i < n; i++)
        st_device_arena_close(b.q, &c[i].mem);
    st_device_arena_close(b.q, &b.mem);
    st_device_arena_close(b.q, &b.tmp);
    free(c);
    json_decref(rows);
    st_stream_close(b.q);
    return s;
}
