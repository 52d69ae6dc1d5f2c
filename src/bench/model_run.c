/* How models are timed: forward, training step, decoding. All of them take turns on one block of
 * weights, since speed does not depend on values and a block for each would not fit into memory.
 * Where the time or the memory would not do, a part has fewer texts, then shorter ones. */
/* SPDX-License-Identifier: MIT */
#include "bench/model.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DECODE_AT = 32, ROUNDS_WANTED = 3, CONTEXT_FLOOR = 128, LABEL = 48 };
static const double run_budget = 20.0, run_budget_each = 60.0; /* of one part, of several */
static const double run_nearly = 1.5; /* a guess of so many times the time there is will do */

/* ---- calls ----------------------------------------------------------------------------------- */

static st_lm_args run_args(model_bench *b, model_kind kind)
{
    if (kind == MODEL_DECODE)
        return (st_lm_args){
            .batch = 1, .len = 1, .logits = b->logits, .last_only = 1, .kv = &b->kv};
    return (st_lm_args){.batch = b->now.batch,
                        .len = b->now.context,
                        .ids = b->ids,
                        .targets = b->targets,
                        .loss = b->loss,
                        .grad_scale = 1.0f / (float)(b->now.batch * b->now.context)};
}

static void run_call(model_case *c, model_kind kind)
{
    model_bench *b = c->b;
    bool step = kind == MODEL_STEP;
    st_model_bind(c->m, st_slice(b->weights, 0, st_model_elements(c->m)),
                  step ? st_slice(b->grads, 0, st_model_elements(c->m)) : (st_tensor){0});
    if (b->vision) {
        st_vision_args v = model_vision_args(b, c);
        st_model_vision_forward(c->m, b->run.q, &v, &b->tmp);
        return;
    }
    st_lm_args a = run_args(b, kind);
    (step ? st_model_grad : st_model_forward)(c->m, b->run.q, &a, &b->tmp);
}

static void run_forward(void *ctx)
{
    run_call(ctx, MODEL_FORWARD);
}

static void run_step(void *ctx)
{
    run_call(ctx, MODEL_STEP);
}

static void run_decode(void *ctx)
{
    model_case *c = ctx;
    st_model_bind(c->m, st_slice(c->b->weights, 0, st_model_elements(c->m)), (st_tensor){0});
    c->b->kv.used = c->b->decode; /* it stays where it is */
    st_decode_step(&c->step, &(int32_t){1}, &c->b->tmp);
}

static bool run_wants(const model_bench *b, model_kind kind)
{
    return kind == MODEL_DECODE ? b->now.decodes : kind == MODEL_FORWARD || b->o->train;
}

/* ---- memory and time ------------------------------------------------------------------------- */

static void run_take(model_bench *b, st_arena *a)
{
    int64_t rows = b->now.batch * b->now.context;
    model_outer m = model_outer_of(b->c[0].m);
    b->weights = st_take1(a, b->now.dtype, b->elements);
    if (b->vision) {
        int64_t channels = st_model_vision_shape(b->c[0].m).channels;
        b->pixels = st_take1(a, ST_F32, b->now.batch * channels * m.pixels * m.pixels);
        b->logits = st_take2(a, ST_F32, b->now.batch, m.outputs);
        return;
    }
    if (b->o->train) b->grads = st_take1(a, ST_F32, b->elements);
    b->ids = st_take1(a, ST_I32, rows);
    b->targets = st_take1(a, ST_I32, rows);
    b->loss = st_take1(a, ST_F32, rows);
    b->logits = st_take2(a, ST_F32, 1, m.outputs);
    st_kv_take(&b->kv, b->c[0].m, b->now.dtype, 1, b->decode + 1, a);
    b->kv.used = b->decode;
    st_lm_args step = run_args(b, MODEL_DECODE);
    for (int64_t i = 0; i < b->n; i++)
        st_decode_start(&b->c[i].step, b->c[i].m, b->run.q, &step, a);
}

static st_status run_plan_call(model_bench *b, model_case *c, model_kind kind, size_t *scratch,
                               st_err *e)
{
    st_dtype t = b->now.dtype;
    st_cost *cost = &c->cost[kind];
    if (b->vision) {
        st_vision_args v = model_vision_args(b, c);
        return st_model_vision_plan(c->m, b->run.q, t, &v, scratch, cost, e);
    }
    st_lm_args a = run_args(b, kind);
    return st_model_plan(c->m, b->run.q, t, &a, kind == MODEL_STEP, scratch, cost, e);
}

static st_status run_plan(model_bench *b, st_err *e)
{
    st_arena nowhere = {0};
    ST_TRY(st_arena_open_counting(&nowhere, e));
    for (int64_t i = 0; i < b->n; i++) {
        int64_t elements = st_model_elements(b->c[i].m);
        if (elements > b->elements) b->elements = elements;
    }
    run_take(b, &nowhere);
    b->bytes = nowhere.peak;
    b->scratch = 0;
    st_status s = ST_OK;
    for (int64_t i = 0; !s && i < b->n * MODEL_KINDS; i++) {
        model_case *c = &b->c[i / MODEL_KINDS];
        model_kind kind = (model_kind)(i % MODEL_KINDS);
        if (!run_wants(b, kind)) continue;
        size_t scratch = 0;
        s = run_plan_call(b, c, kind, &scratch, e);
        if (scratch > b->scratch) b->scratch = scratch;
    }
    st_arena_close(&nowhere);
    return s;
}

/* Seconds of a few rounds of the planned part, about. */
static double run_seconds(const model_bench *b)
{
    bench_time_plan p = {0};
    int64_t rounds = b->o->reps > 0 && b->o->reps < ROUNDS_WANTED ? b->o->reps : ROUNDS_WANTED;
    for (int64_t i = 0; i < b->n * MODEL_KINDS; i++) {
        model_kind kind = (model_kind)(i % MODEL_KINDS);
        const st_cost *cost = &b->c[i / MODEL_KINDS].cost[kind];
        if (!run_wants(b, kind)) continue;
        p = bench_time_add(
            p, bench_guess(&b->run.now, b->now.dtype, (double)cost->macs, (double)cost->bytes));
    }
    return bench_time_of(p, rounds);
}

/* Whether an earlier part turned out to be this one. */
static bool run_known(const model_bench *b)
{
    for (int64_t i = 0; i < b->run.at; i++) {
        const model_part *p = &b->part[i];
        if (p->dtype == b->now.dtype && p->batch == b->now.batch && p->context == b->now.context)
            return true;
    }
    return false;
}

static bool run_shrink(model_part *p, bool vision)
{
    if (p->batch > 1)
        p->batch /= 2;
    else if (!vision && p->context / 2 >= CONTEXT_FLOOR)
        p->context /= 2;
    else
        return false;
    return true;
}

/* Plans the part at hand, made smaller until it fits; false: it is left out. `note`: why. */
static st_status run_fit(model_bench *b, char *note, size_t cap, bool *goes, st_err *e)
{
    const double gib = 1 << 30, memory = st_memory_free(), share = bench_session_turn(&b->run);
    const model_part asked = b->now;
    double bytes, time, first = 0.0, first_bytes = 0.0;
    bool fits;
    do {
        ST_TRY(run_plan(b, e));
        bytes = (double)b->bytes + (double)b->scratch;
        time = run_seconds(b);
        if (first <= 0.0) first = time, first_bytes = bytes;
        fits = bytes <= memory && time <= run_nearly * share;
    } while (b->o->shrink && !fits && run_shrink(&b->now, b->vision));
    bool same = asked.batch == b->now.batch && asked.context == b->now.context;
    *goes = !b->o->shrink || (fits && !(run_known(b) && !same));
    b->run.share = fmin(time, share);
    if (same && *goes) return ST_OK;
    char what[64] = "left out:";
    if (fits) {
        snprintf(what, sizeof what, "%lld x %lld%s instead of", (long long)b->now.batch,
                 (long long)b->now.context, *goes ? "" : ", measured already,");
    }
    snprintf(note, cap,
             "%s %lld x %lld%s would take %.0f s of its %.0f (--budget) and %.1f GiB of %.1f free",
             what, (long long)asked.batch, (long long)asked.context, fits ? ", which" : "", first,
             share, first_bytes / gib, memory / gib);
    return ST_OK;
}

static st_status run_memory(model_bench *b, st_err *e)
{
    st_stream *q = b->run.q;
    ST_TRY(st_device_arena(q, b->bytes, &b->mem, e));
    ST_TRY(st_device_arena(q, b->scratch, &b->tmp, e));
    run_take(b, &b->mem);
    ST_TRY(bench_fill(q, b->weights, 0.02f, 0, e));
    if (b->vision) return bench_fill(q, b->pixels, 1.0f, 1, e);
    ST_TRY(bench_fill(q, b->kv.k, 1.0f, 1, e));
    ST_TRY(bench_fill(q, b->kv.v, 1.0f, 2, e));
    int64_t rows = b->now.batch * b->now.context, vocab = st_model_lm(b->c[0].m).vocab;
    int32_t *ids = st_calloc(rows, sizeof *ids);
    if (!ids) return ST_NOMEM(e, NULL);
    st_rng r = {.seed = 1};
    for (int64_t i = 0; i < rows; i++)
        ids[i] = (int32_t)st_rng_below(&r, (uint64_t)vocab);
    st_upload(q, b->ids, ids);
    st_upload(q, b->targets, ids);
    free(ids);
    return ST_OK;
}

/* ---- rows ------------------------------------------------------------------------------------ */

static json_t *run_row(const model_bench *b, const model_case *c, const char *shape,
                       const char *note)
{
    int64_t n = st_model_counts(c->m).parameters, tokens = b->now.batch * b->now.context;
    json_t *config = st_model_config(c->m), *ours = json_object_get(config, "strut");
    json_t *maps = json_object_get(ours, "maps");
    json_t *row = json_pack(
        "{s:o, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:o}", "name",
        st_json_text(c->name), "suite", b->suite, "shape", shape, "control", c->control,
        "parameters", (json_int_t)n, "bytes",
        (json_int_t)(n * (int64_t)st_dtype_size(b->now.dtype)), "macs_per_token",
        (json_int_t)(c->cost[MODEL_FORWARD].macs / tokens), "batch", (json_int_t)b->now.batch,
        "context", (json_int_t)b->now.context, "decode_at", (json_int_t)b->decode, "dtype",
        st_dtype_name(b->now.dtype), "maps", maps ? json_incref(maps) : json_object());
    if (note[0]) json_object_set_new(row, "reason", json_string(note));
    if (b->vision)
        json_object_set_new(row, "image_size", json_integer(model_outer_of(c->m).pixels));
    json_decref(config);
    return row;
}

/* Decoding has a batch, a context and multiply-adds of its own. */
static json_t *run_times(const model_bench *b, const bench_item *item, const bench_item *base,
                         model_kind kind, int64_t rounds)
{
    json_t *t = bench_summary(item, base, rounds);
    if (b->vision) {
        double rate = json_number_value(json_object_get(t, "tokens_per_second"));
        json_object_set_new(t, "images_per_second", json_real(rate / (double)b->now.context));
    }
    if (kind != MODEL_DECODE) return t;
    json_object_set_new(t, "shape", json_string("decode"));
    json_object_set_new(t, "batch", json_integer(1));
    json_object_set_new(t, "context", json_integer(b->decode + 1));
    json_object_set_new(t, "macs_per_token", json_integer((json_int_t)item->macs));
    return t;
}

static void run_rows(model_bench *b, const bench_item *item, const int64_t *first, int64_t rounds,
                     const char *shape, const char *note)
{
    static const char *const name[MODEL_KINDS] = {"forward", "step", "decode"};
    for (int64_t i = 0; i < b->n; i++) {
        json_t *row = run_row(b, &b->c[i], shape, note);
        for (int k = 0; k < MODEL_KINDS; k++) {
            if (!run_wants(b, (model_kind)k)) continue;
            const bench_item *base = &item[first[k]];
            json_object_set_new(row, name[k], run_times(b, base + i, base, (model_kind)k, rounds));
        }
        json_array_append_new(b->run.rows, row);
    }
}

static st_status run_time(model_bench *b, const char *shape, const char *note, st_err *e)
{
    static void (*const call[MODEL_KINDS])(void *) = {run_forward, run_step, run_decode};
    int64_t n = 0, rounds = 0, first[MODEL_KINDS] = {0};
    double turn = fmax(b->run.budget - b->run.before, 0.0) / (double)(b->run.n - b->run.at);
    bench_effort how = bench_session_effort(&b->run, b->o->reps, fmax(turn, 0.01));
    bench_item *item = st_calloc(b->n * MODEL_KINDS, sizeof *item);
    if (!item) return ST_NOMEM(e, NULL);
    for (int k = 0; k < MODEL_KINDS; k++) {
        if (!run_wants(b, (model_kind)k)) continue;
        first[k] = n;
        for (int64_t i = 0; i < b->n; i++) {
            double tokens = (double)(b->now.batch * b->now.context);
            item[n++] = (bench_item){.call = call[k],
                                     .ctx = &b->c[i],
                                     .macs = (double)b->c[i].cost[k].macs,
                                     .bytes = (double)b->c[i].cost[k].bytes,
                                     .tokens = k == MODEL_DECODE ? 1.0 : tokens,
                                     .roof = &b->run.roof,
                                     .dtype = b->now.dtype};
        }
    }
    st_status s = bench_all(b->run.q, item, n, &how, &rounds, e);
    bool some = s == ST_EINTR && rounds >= BENCH_ROUNDS_LEAST;
    if (!s || some) run_rows(b, item, first, rounds, shape, note);
    bench_free(item, n);
    free(item);
    return s;
}

/* ---- parts ----------------------------------------------------------------------------------- */

static void run_label(const model_part *p, char label[LABEL])
{
    snprintf(label, LABEL, "%lldx%lld", (long long)p->batch, (long long)p->context);
}

static st_status run_part(model_bench *b, st_err *e)
{
    char note[224] = "", shape[LABEL];
    bool goes = true;
    model_part *p = &b->part[b->run.at];
    b->now = *p;
    run_label(p, shape);
    snprintf(b->run.part, sizeof b->run.part, "%s %s", shape, st_dtype_name(p->dtype));
    ST_TRY(run_fit(b, note, sizeof note, &goes, e));
    *p = b->now;
    if (note[0]) st_log(ST_LOG_INFO, "%s: %s", b->run.part, note);
    if (!goes) {
        json_array_append_new(b->run.rows, run_row(b, &b->c[0], shape, note));
        return ST_OK;
    }
    st_status s = run_memory(b, e);
    if (!s) s = run_time(b, shape, note, e);
    for (int64_t i = 0; i < b->n; i++)
        st_decode_end(&b->c[i].step);
    st_device_arena_close(b->run.q, &b->mem);
    st_device_arena_close(b->run.q, &b->tmp);
    return s;
}

/* Every dtype, batch and context that an earlier run has not left. */
static st_status run_list(model_bench *b, int64_t *parts, st_err *e)
{
    const st_bench_model_opts *o = b->o;
    int64_t context = model_outer_of(b->c[0].m).tokens, left = 0;
    int types = o->ndtypes ? o->ndtypes : 1, batches = o->nbatches ? o->nbatches : 1,
        contexts = o->ncontexts ? o->ncontexts : 1;
    b->part = st_calloc((int64_t)types * batches * contexts, sizeof *b->part);
    if (!b->part) return ST_NOMEM(e, NULL);
    for (int t = 0; t < types; t++) {
        for (int i = 0; i < batches * contexts; i++) {
            char shape[LABEL];
            model_part p = {.dtype = o->ndtypes ? o->dtypes[t] : ST_F32,
                            .batch = o->nbatches ? o->batches[i / contexts] : 1,
                            .context = o->ncontexts ? o->contexts[i % contexts] : context,
                            .decodes = i == 0 && !b->vision};
            run_label(&p, shape);
            if (bench_csv_done(&b->run.old, b->suite, shape, p.dtype)) continue;
            b->part[left++] = p;
        }
    }
    *parts = left;
    bench_session_kept(&b->run, left, (int64_t)types * batches * contexts);
    return ST_OK;
}

/* Whether all models can run all parts. */
static st_status run_shapes(model_bench *b, int64_t parts, st_err *e)
{
    model_outer first = model_outer_of(b->c[0].m);
    b->decode = b->o->decode ? b->o->decode : DECODE_AT;
    if (b->decode > first.tokens - 1) b->decode = first.tokens - 1;
    for (int64_t i = 0; i < b->n; i++) {
        model_outer m = model_outer_of(b->c[i].m);
        ST_TRY(model_alike(&first, &m, b->c[i].name, e));
        for (int64_t k = 0; k < parts; k++) {
            const model_part *p = &b->part[k];
            if (p->context >= 1 && p->context <= m.tokens && p->batch >= 1) continue;
            ST_FAIL(
                e, ST_EARG,
                "%s: batch %lld, context %lld: expected a batch of 1 or more and 1 to %lld tokens",
                b->c[i].name, (long long)p->batch, (long long)p->context, (long long)m.tokens);
        }
    }
    return ST_OK;
}

st_status model_run(model_bench *b, st_err *e)
{
    int64_t parts = 0;
    bool bf16 = false;
    ST_TRY(run_list(b, &parts, e));
    ST_TRY(run_shapes(b, parts, e));
    for (int64_t i = 0; i < parts; i++)
        bf16 |= b->part[i].dtype == ST_BF16;
    double budget = b->o->budget > 0.0 ? b->o->budget
                    : parts > 1        ? run_budget_each * (double)parts
                                       : run_budget;
    ST_TRY(bench_session_start(&b->run, parts, budget, bf16, e));
    st_status s = ST_OK;
    for (b->run.at = 0; !s && b->run.at < b->run.n; b->run.at++) {
        s = run_part(b, e);
        s = bench_session_save(&b->run, s, e);
    }
    return bench_session_end(&b->run, s, e);
}
