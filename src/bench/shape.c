/* One matrix shape: every structure that stands in for it takes turns with dense, forward and
 * backward. All of them work on one block of weights and of activations, since speed does not
 * depend on values and a block for each would not fit into memory. */
/* SPDX-License-Identifier: MIT */
#include "bench/inner.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void shape_forward(void *ctx)
{
    bench_layer *c = ctx;
    st_linear_forward(c->of->q, &c->l, c->x, c->y, c->kept, &c->of->tmp);
}

static void shape_backward(void *ctx)
{
    bench_layer *c = ctx;
    st_linear_backward(c->of->q, &c->l, c->x, c->kept, c->dy, c->dx, &c->of->tmp);
}

/* Weights and, for backward, gradients, each from the start of its block. */
static void shape_take(bench_layer *c, st_arena *weights, st_arena *grads)
{
    st_param_shape p[ST_PARAMS];
    int n = c->l.spec.type->params(&c->l.spec, 0.02f, p);
    for (int i = 0; i < n; i++) {
        c->l.w.p[i] = st_take(weights, c->of->dtype, p[i].ndim, p[i].dim);
        if (c->of->backward) c->l.dw.p[i] = st_take(grads, ST_F32, p[i].ndim, p[i].dim);
    }
}

/* Views of the activation blocks, which are as large as the largest case wants them. */
static void shape_view(bench_layer *c)
{
    const bench_shape *s = c->of;
    int64_t kept = s->backward ? st_linear_kept(&c->l) : 0;
    const st_spec *is = &c->l.spec;
    c->x = st_view2(s->x.data, s->dtype, s->rows, is->in);
    c->y = st_view2(s->y.data, s->dtype, s->rows, is->out);
    if (kept) c->kept = st_view2(s->kept.data, s->dtype, s->rows, kept);
    if (!s->backward) return;
    c->dy = st_view2(s->dy.data, s->dtype, s->rows, is->out);
    c->dx = st_view2(s->dx.data, s->dtype, s->rows, is->in);
}

static void shape_take_shared(bench_shape *s, st_arena *a)
{
    s->x = st_take1(a, s->dtype, s->rows * s->in);
    s->y = st_take1(a, s->dtype, s->rows * s->out);
    if (s->most_kept) s->kept = st_take1(a, s->dtype, s->rows * s->most_kept);
    if (!s->backward) return;
    s->dy = st_take1(a, s->dtype, s->rows * s->out);
    s->dx = st_take1(a, s->dtype, s->rows * s->in);
}

/* What one case needs and costs, by a dry run of both calls. */
static st_status shape_plan_case(bench_layer *c, bench_shape *dry, st_err *e)
{
    bench_layer shadow = {.l = {.spec = c->l.spec}, .of = dry};
    st_arena weights = {0}, grads = {0};
    st_status s = st_stream_dry(&dry->q, c->of->q, e);
    if (!s) s = st_arena_open_counting(&weights, e);
    if (!s) s = st_arena_open_counting(&grads, e);
    if (!s) s = st_arena_open_counting(&dry->tmp, e);
    if (!s) {
        shape_take(&shadow, &weights, &grads);
        shape_view(&shadow);
        shape_forward(&shadow);
        c->forward = st_stream_cost(dry->q);
        if (dry->backward) shape_backward(&shadow);
        c->backward = st_stream_cost(dry->q);
        c->backward.macs -= c->forward.macs;
        c->backward.bytes -= c->forward.bytes;
        c->weights = weights.peak;
        c->grads = grads.peak;
        c->scratch = dry->tmp.peak;
        s = st_stream_sync(dry->q, e);
    }
    st_arena_close(&weights);
    st_arena_close(&grads);
    st_arena_close(&dry->tmp);
    st_stream_close(dry->q);
    return s;
}

static void shape_more(size_t *most, size_t n)
{
    if (n > *most) *most = n;
}

st_status bench_shape_plan(bench_shape *s, st_err *e)
{
    st_arena shared = {0};
    s->most_kept = 0;
    s->weights = s->grads = s->scratch = 0;
    for (int64_t i = 0; i < s->n; i++) {
        bench_layer *c = &s->layer[i];
        c->of = s;
        if (!c->l.spec.type) continue;
        int64_t kept = s->backward ? st_linear_kept(&c->l) : 0;
        if (kept > s->most_kept) s->most_kept = kept;
    }
    ST_TRY(st_arena_open_counting(&shared, e));
    bench_shape dry = *s;
    shape_take_shared(&dry, &shared);
    st_status status = ST_OK;
    for (int64_t i = 0; !status && i < s->n; i++) {
        bench_layer *c = &s->layer[i];
        if (!c->l.spec.type) continue;
        status = shape_plan_case(c, &dry, e);
        shape_more(&s->weights, c->weights);
        shape_more(&s->grads, c->grads);
        shape_more(&s->scratch, c->scratch);
    }
    s->shared = shared.peak;
    st_arena_close(&shared);
    return status;
}

double bench_shape_bytes(const bench_shape *s)
{
    return (double)s->shared + (double)s->weights + (double)s->grads + (double)s->scratch;
}

static st_status shape_memory(bench_shape *s, st_err *e)
{
    ST_TRY(st_device_arena(s->q, s->shared, &s->mem, e));
    ST_TRY(st_device_arena(s->q, s->weights + ST_ALIGN, &s->w, e));
    ST_TRY(st_device_arena(s->q, s->grads + ST_ALIGN, &s->dw, e));
    ST_TRY(st_device_arena(s->q, s->scratch, &s->tmp, e));
    shape_take_shared(s, &s->mem);
    ST_TRY(bench_fill(s->q, s->x, 1.0f, 1, e));
    if (s->backward) ST_TRY(bench_fill(s->q, s->dy, 1.0f, 2, e));
    size_t size = st_dtype_size(s->dtype);
    st_tensor all = st_take1(&s->w, s->dtype, (int64_t)(s->weights / size));
    ST_TRY(bench_fill(s->q, all, 0.02f, 3, e));
    for (int64_t i = 0; i < s->n; i++) {
        if (!s->layer[i].l.spec.type) continue;
        st_arena_rewind(&s->w, 0);
        st_arena_rewind(&s->dw, 0);
        shape_take(&s->layer[i], &s->w, &s->dw);
        shape_view(&s->layer[i]);
    }
    return ST_OK;
}

static json_t *shape_row(const bench_layer *c)
{
    const bench_shape *s = c->of;
    char text[ST_SPEC_TEXT], label[ST_SPEC_TEXT];
    const st_spec *is = &c->l.spec;
    if (!is->type) {
        return json_pack("{s:s, s:s, s:I, s:I, s:I, s:s, s:s, s:f, s:s}", "name", c->name, "spec",
                         c->name, "in", (json_int_t)s->in, "out", (json_int_t)s->out, "rows",
                         (json_int_t)s->rows, "dtype", st_dtype_name(s->dtype), "control",
                         c->control, "factor", c->factor, "reason", c->note);
    }
    st_spec_print(is, text);
    st_spec_label(is, label);
    int64_t weights = st_spec_weights(is);
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:s, s:f}", "name",
                     c->name[0] ? c->name : label, "spec", text, "in", (json_int_t)is->in, "out",
                     (json_int_t)is->out, "rows", (json_int_t)s->rows, "parameters",
                     (json_int_t)weights, "bytes",
                     (json_int_t)(weights * (int64_t)st_dtype_size(s->dtype)), "macs_per_token",
                     (json_int_t)(c->forward.macs / s->rows), "dtype", st_dtype_name(s->dtype),
                     "control", c->control, "factor", c->factor);
}

static bench_item shape_item(bench_layer *c, const bench_effort *how, bool backward)
{
    const st_cost *cost = backward ? &c->backward : &c->forward;
    return (bench_item){.call = backward ? shape_backward : shape_forward,
                        .ctx = c,
                        .macs = (double)cost->macs,
                        .bytes = (double)cost->bytes,
                        .tokens = (double)c->of->rows,
                        .roof = how->roof,
                        .dtype = c->of->dtype};
}

static void shape_rows(bench_shape *s, const bench_item *item, int64_t timed, int64_t rounds,
                       json_t *rows)
{
    for (int64_t i = 0, at = 0; i < s->n; i++) {
        bench_layer *c = &s->layer[i];
        json_t *row = shape_row(c);
        if (c->l.spec.type) {
            json_object_set_new(row, "forward", bench_summary(&item[at], &item[0], rounds));
            if (s->backward) {
                json_object_set_new(row, "backward",
                                    bench_summary(&item[timed + at], &item[timed], rounds));
            }
            at++;
        }
        json_array_append_new(rows, row);
    }
}

static st_status shape_time(bench_shape *s, const bench_effort *how, json_t *rows, st_err *e)
{
    int64_t timed = 0, kinds = s->backward ? 2 : 1, rounds = 0, at = 0;
    for (int64_t i = 0; i < s->n; i++)
        timed += s->layer[i].l.spec.type != NULL;
    bench_item *item = st_calloc(timed * kinds, sizeof *item);
    if (!item) return ST_NOMEM(e, NULL);
    for (int64_t i = 0; i < s->n; i++) {
        if (!s->layer[i].l.spec.type) continue;
        item[at] = shape_item(&s->layer[i], how, false);
        if (s->backward) item[timed + at] = shape_item(&s->layer[i], how, true);
        at++;
    }
    st_status status = bench_all(s->q, item, timed * kinds, how, &rounds, e);
    bool some = status == ST_EINTR && rounds >= BENCH_ROUNDS_LEAST;
    if (!status || some) shape_rows(s, item, timed, rounds, rows);
    bench_free(item, timed * kinds);
    free(item);
    return status;
}

st_status bench_shape_run(bench_shape *s, const bench_effort *how, json_t *rows, st_err *e)
{
    st_status status = shape_memory(s, e);
    if (!status) status = shape_time(s, how, rows, e);
    st_device_arena_close(s->q, &s->mem);
    st_device_arena_close(s->q, &s->w);
    st_device_arena_close(s->q, &s->dw);
    st_device_arena_close(s->q, &s->tmp);
    return status;
}
