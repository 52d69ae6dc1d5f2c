/* bench attention: ways to attend over growing lengths against exact attention of the same run:
 * time, scratch memory (planned and used), and the distance of the outputs on random tokens. */
/* Long: one table of measurements; its rows, their distance and their time share the run. */
/* SPDX-License-Identifier: MIT */
#include "bench/bench.h"
#include "bench/inner.h"
#include "model/model.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LENGTHS = 64, WAYS = 32, CALLS = 5 /* of a way at least: its error, warm-up, 3 rounds */ };
static const double attention_slack = 2.0; /* softmax and features keep it below a product's roof */
static const int64_t lengths[] = {256, 512, 1024, 2048, 4096, 8192, 16384};

/* One length; all ways read the same tokens and take turns. */
typedef struct {
    const st_bench_attention_opts *o;
    bench_session *run;
    st_stream *q; /* the session's */
    int64_t len;
    double share, left; /* seconds: of the budget for this length, of all that is left */
    st_arena mem, tmp;
    st_attend_fwd_args a;
    float *exact, *got; /* outputs of full, of a way */
} attention_bench;

typedef struct {
    attention_bench *b;
    st_attention way; /* filled for the length */
    st_arena kept;    /* its random directions, where those are kept */
    st_cost cost;
    size_t planned, used; /* bytes beside the tokens: what is kept, and scratch */
    size_t keeps;         /* of them kept */
    char note[sizeof((st_err *)0)->msg];
    double error, spread; /* relative, over seeds */
    int64_t seeds;
} attention_case;

static void attention_call(void *ctx)
{
    attention_case *c = ctx;
    st_attention_forward(c->b->q, &c->way, &c->b->a, &c->b->tmp);
}

/* "1x4096x12x64 causal": batch, tokens, heads, width of a head. */
static void attention_shape(const st_bench_attention_opts *o, int64_t len, char *text, size_t cap)
{
    snprintf(text, cap, "%lldx%lldx%lldx%lld%s", (long long)o->batch, (long long)len,
             (long long)o->heads, (long long)o->head_dim, o->causal ? " causal" : "");
}

/* The tokens of one length, on whatever the arena is. */
static void attention_take(attention_bench *b, st_arena *from)
{
    const st_bench_attention_opts *o = b->o;
    int64_t n = b->o->batch * b->len * o->heads * o->head_dim;
    b->a = (st_attend_fwd_args){.h = {.batch = b->o->batch,
                                      .heads = o->heads,
                                      .head_dim = o->head_dim,
                                      .q_len = b->len,
                                      .kv_len = b->len},
                                .causal = o->causal,
                                .scale = 1.0f / sqrtf((float)o->head_dim)};
    b->a.h.q.x = st_take1(from, o->dtype, n);
    b->a.h.k.x = st_take1(from, o->dtype, n);
    b->a.h.v.x = st_take1(from, o->dtype, n);
    b->a.h.o.x = st_take1(from, o->dtype, n);
}

static st_attention_shape attention_form(const attention_bench *b)
{
    return (st_attention_shape){
        .head_dim = b->o->head_dim, .q_len = b->len, .kv_len = b->len, .causal = b->o->causal};
}

/* Draws what is kept, anew for another seed. */
static st_status attention_draw(attention_case *c, st_err *e)
{
    st_attention_shape shape = attention_form(c->b);
    c->kept.used = 0;
    c->way.projection = (st_tensor){0};
    return st_attention_keep(c->b->q, &c->way, &shape, 0, &c->kept, e);
}

/* More than can be measured, whose costs could be past int64_t: of a way they are at most 128 times
 * the numbers of a tensor times its tokens, or times the mixed keys of linformer. */
static bool attention_vast(const attention_bench *b)
{
    double numbers = (double)b->o->batch * (double)b->len * (double)(b->o->heads * b->o->head_dim);
    return numbers * fmax((double)b->len, 1 << 16) > 0x1p55;
}

/* Memory and cost of a way, by dry run. One that does not fit the shape gets a note. */
static st_status attention_plan(attention_case *c, const char *text, st_err *e)
{
    attention_bench *b = c->b;
    st_attention_shape shape = attention_form(b);
    st_stream *dry = NULL;
    st_arena nowhere = {0};
    st_err no;
    ST_TRY(st_attention_parse(&c->way, text, e));
    if (st_attention_check(&c->way, &shape, &no)) {
        memcpy(c->note, no.msg, sizeof c->note);
        return ST_OK;
    }
    if (attention_vast(b)) {
        snprintf(
            c->note, sizeof c->note,
            "left out: %s at %lld tokens, batch %lld, %lld x %lld is more than can be measured",
            c->way.type->name, (long long)b->len, (long long)b->o->batch, (long long)b->o->heads,
            (long long)b->o->head_dim);
        return ST_OK;
    }
    st_status s = st_stream_dry(&dry, b->q, e);
    if (!s) s = st_arena_open_counting(&nowhere, e);
    if (!s) {
        attention_take(b, &nowhere);
        size_t before = nowhere.used;
        s = st_attention_keep(dry, &c->way, &shape, 0, &nowhere, e);
        st_cost drawn = st_stream_cost(dry);
        c->keeps = nowhere.used - before;
        st_attention_forward(dry, &c->way, &b->a, &nowhere);
        c->planned = nowhere.peak - before;
        c->cost = st_stream_cost(dry);
        c->cost.bytes -= drawn.bytes;
        if (!s) s = st_stream_sync(dry, e);
    }
    st_arena_close(&nowhere);
    st_stream_close(dry);
    return s;
}

/* Gives what would take too long, or more memory than is free, a note; without full (c[0]) there
 * is nothing to compare with. Three rounds may take twice the budget, as in all benchmarks. */
static void attention_afford(attention_bench *b, attention_case *c, int64_t n)
{
    const st_bench_attention_opts *o = b->o;
    double fixed = (double)(b->o->batch * b->len * o->heads * o->head_dim) *
                   (4.0 * (double)st_dtype_size(o->dtype) + 2.0 * sizeof(float));
    double kept = 0, spent = 0, most = 2.0 * fmax(b->left, 1.0), memory = st_memory_free();
    for (int64_t i = 0; i < n; i++) {
        if (c[i].note[0]) continue;
        double calls = CALLS + (st_attention_seed(&c[i].way) ? (double)(o->seeds - 1) : 0.0);
        double bytes = fixed + kept + (double)c[i].planned;
        double seconds =
            calls * attention_slack *
            bench_guess(&b->run->now, o->dtype, (double)c[i].cost.macs, (double)c[i].cost.bytes);
        if (spent + seconds <= most && bytes <= memory) {
            spent += seconds;
            kept += (double)c[i].keeps;
            continue;
        }
        snprintf(c[i].note, sizeof c[i].note,
                 "left out: %s at %lld tokens would take %.0f s and %.1f GiB, of %.0f s (--budget) "
                 "and %.1f GiB free",
                 c[i].way.type->name, (long long)b->len, seconds, bytes / (1 << 30),
                 fmax(b->left, 0.0), memory / (1 << 30));
        for (int64_t k = 1; i == 0 && k < n; k++)
            if (!c[k].note[0]) snprintf(c[k].note, sizeof c[k].note, "%s", c[0].note);
    }
}

/* ---- distance from full ---------------------------------------------------------------------- */

static st_status attention_output(attention_case *c, float *to, st_err *e)
{
    attention_bench *b = c->b;
    int64_t n = st_numel(b->a.h.o.x);
    attention_call(c);
    ST_TRY(st_stream_sync(b->q, e));
    if (b->a.h.o.x.dtype == ST_F32) {
        st_download(b->q, to, b->a.h.o.x);
        return ST_OK;
    }
    void *raw = st_calloc(n, st_dtype_size(b->a.h.o.x.dtype));
    if (!raw) return ST_NOMEM(e, NULL);
    st_download(b->q, raw, b->a.h.o.x);
    st_convert(to, ST_F32, raw, b->a.h.o.x.dtype, n);
    free(raw);
    return ST_OK;
}

/* Mean and standard deviation of |o - o_full| / |o_full| over seeds. */
static st_status attention_error(attention_case *c, st_err *e)
{
    attention_bench *b = c->b;
    int64_t *knob = st_attention_seed(&c->way);
    int64_t n = st_numel(b->a.h.o.x), first = knob ? *knob : 0;
    double sum = 0, square = 0;
    c->seeds = knob ? b->o->seeds : 1;
    for (int64_t seed = 0; seed < c->seeds; seed++) {
        double off = 0, all = 0;
        if (st_interrupted()) ST_FAIL(e, ST_EINTR, "interrupted");
        if (knob) *knob = first + seed;
        if (knob) ST_TRY(attention_draw(c, e));
        ST_TRY(attention_output(c, b->got, e));
        for (int64_t i = 0; i < n; i++) {
            double d = (double)b->got[i] - (double)b->exact[i];
            off += d * d;
            all += (double)b->exact[i] * (double)b->exact[i];
        }
        double error = sqrt(off / fmax(all, 1e-300));
        sum += error;
        square += error * error;
    }
    if (knob) *knob = first;
    if (c->seeds > 1) ST_TRY(attention_draw(c, e));
    double count = (double)c->seeds;
    c->error = sum / count;
    c->spread = c->seeds > 1 ? sqrt(fmax(square - sum * sum / count, 0) / (count - 1)) : 0;
    return ST_OK;
}

/* ---- one length ------------------------------------------------------------------------------ */

static json_t *attention_row(const attention_case *c, const attention_case *full,
                             const bench_item *item, const bench_item *base, int64_t rounds)
{
    const attention_bench *b = c->b;
    char text[ST_SPEC_TEXT];
    st_attention_print(&c->way, text);
    json_t *row = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:b}", "suite", "attention", "shape",
        b->run->part, "name", c->way.type->name, "spec", text, "dtype", st_dtype_name(b->o->dtype),
        "batch", (json_int_t)b->o->batch, "context", (json_int_t)b->len, "heads",
        (json_int_t)b->o->heads, "head_dim", (json_int_t)b->o->head_dim, "causal", b->o->causal);
    if (c->note[0]) {
        json_object_set_new(row, "reason", json_string(c->note));
        return row;
    }
    json_object_set_new(row, "macs_per_token",
                        json_real((double)c->cost.macs / (double)(b->o->batch * b->len)));
    json_object_set_new(row, "scratch_planned", json_integer((json_int_t)c->planned));
    json_object_set_new(row, "scratch_used", json_integer((json_int_t)c->used));
    json_object_set_new(row, "tensor_bytes", json_integer(4 * (json_int_t)st_bytes(b->a.h.o.x)));
    if (c != full) {
        json_object_set_new(row, "error", json_real(c->error));
        json_object_set_new(row, "error_sd", json_real(c->spread));
        json_object_set_new(row, "seeds", json_integer((json_int_t)c->seeds));
    }
    json_object_set_new(row, "forward", bench_summary(item, base, rounds));
    return row;
}

static st_status attention_time(attention_bench *b, attention_case *c, int64_t n, st_err *e)
{
    bench_item item[WAYS + 1] = {0};
    int64_t at[WAYS + 1], items = 0, rounds = 0;
    for (int64_t i = 0; i < n; i++) {
        at[i] = items;
        if (c[i].note[0]) continue;
        item[items++] = (bench_item){.call = attention_call,
                                     .ctx = &c[i],
                                     .macs = (double)c[i].cost.macs,
                                     .bytes = (double)c[i].cost.bytes,
                                     .tokens = (double)(b->o->batch * b->len),
                                     .dtype = b->o->dtype};
    }
    bench_effort how = bench_session_effort(b->run, b->o->reps, b->share);
    how.roof = NULL; /* softmax and features have none that these ceilings tell */
    st_status s = bench_all(b->q, item, items, &how, &rounds, e);
    bool some = s == ST_EINTR && rounds >= BENCH_ROUNDS_LEAST;
    for (int64_t i = 0; i < n && (!s || some); i++)
        json_array_append_new(b->run->rows,
                              attention_row(&c[i], c, &item[at[i]], &item[0], rounds));
    bench_free(item, items);
    return s;
}

/* Memory for one length, its tokens, the distances, the times. c[0] is full. */
static st_status attention_run(attention_bench *b, attention_case *c, int64_t n, st_err *e)
{
    size_t most = 0;
    for (int64_t i = 0; i < n; i++) {
        size_t scratch = c[i].note[0] ? 0 : c[i].planned - c[i].keeps;
        most = scratch > most ? scratch : most;
    }
    int64_t count = b->o->batch * b->len * b->o->heads * b->o->head_dim;
    size_t bytes = 4 * ((size_t)count * st_dtype_size(b->o->dtype) + ST_ALIGN);
    ST_TRY(st_device_arena(b->q, bytes, &b->mem, e));
    ST_TRY(st_device_arena(b->q, most + ST_ALIGN, &b->tmp, e));
    attention_take(b, &b->mem);
    b->exact = st_calloc(count, sizeof *b->exact);
    b->got = st_calloc(count, sizeof *b->got);
    if (!b->exact || !b->got) return ST_NOMEM(e, NULL);
    st_tensor *in[] = {&b->a.h.q.x, &b->a.h.k.x, &b->a.h.v.x};
    for (uint64_t i = 0; i < 3; i++)
        ST_TRY(bench_fill(b->q, *in[i], 1, 0xa77e + i, e));
    ST_TRY(attention_output(&c[0], b->exact, e));
    for (int64_t i = 0; i < n; i++) {
        if (c[i].note[0]) continue;
        if (c[i].keeps) ST_TRY(st_device_arena(b->q, c[i].keeps, &c[i].kept, e));
        b->tmp.peak = 0;
        ST_TRY(attention_error(&c[i], e));
        c[i].used = c[i].kept.peak + b->tmp.peak;
    }
    return attention_time(b, c, n, e);
}

/* The length at hand. */
static st_status attention_length(const st_bench_attention_opts *o, bench_session *run, int64_t len,
                                  const char *const *ways, int64_t n, st_err *e)
{
    double share = bench_session_turn(run);
    attention_bench b = {.o = o,
                         .run = run,
                         .q = run->q,
                         .len = len,
                         .share = share > 0.1 ? share : 0.1,
                         .left = run->budget - run->before};
    attention_case *c = st_calloc(n, sizeof *c);
    st_status s = ST_OK;
    if (!c) return ST_NOMEM(e, NULL);
    attention_shape(o, len, run->part, sizeof run->part);
    for (int64_t i = 0; i < n && !s; i++) {
        c[i].b = &b;
        s = attention_plan(&c[i], ways[i], e);
    }
    if (!s) attention_afford(&b, c, n);
    for (int64_t i = 0; i < n && !s && c[0].note[0]; i++)
        json_array_append_new(run->rows, attention_row(&c[i], c, NULL, NULL, 0));
    if (!s && !c[0].note[0]) s = attention_run(&b, c, n, e);
    for (int64_t i = 0; i < n; i++)
        st_device_arena_close(b.q, &c[i].kept);
    st_device_arena_close(b.q, &b.tmp);
    st_device_arena_close(b.q, &b.mem);
    free(b.exact);
    free(b.got);
    free(c);
    return s;
}

/* ---- all of it ------------------------------------------------------------------------------- */

/* Full, then what is asked for, or every other type with its presets. */
static st_status attention_ways(const st_bench_attention_opts *o, const char *ways[WAYS + 1],
                                int64_t *n, st_err *e)
{
    *n = 0;
    ways[(*n)++] = "full";
    for (int i = 1; st_attention_types[i] && !o->nways && *n <= WAYS; i++)
        ways[(*n)++] = st_attention_types[i]->name;
    for (int i = 0; i < o->nways; i++) {
        if (*n > WAYS) ST_FAIL(e, ST_EARG, "%d ways to attend; at most %d", o->nways, WAYS);
        if (strcmp(o->ways[i], "full") != 0) ways[(*n)++] = o->ways[i];
    }
    return ST_OK;
}

/* The lengths that an earlier run has not left, into `out`. */
static st_status attention_list(const st_bench_attention_opts *o, bench_session *run, int64_t *out,
                                int64_t *n, st_err *e)
{
    char shape[sizeof run->part];
    int64_t count = o->nlens ? o->nlens : (int64_t)(sizeof lengths / sizeof *lengths);
    *n = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t len = o->nlens ? o->lens[i] : lengths[i];
        if (len < 1 || len > 1 << 22)
            ST_FAIL(e, ST_EARG, "%lld tokens; legal: 1..%d", (long long)len, 1 << 22);
        if (*n == LENGTHS) ST_FAIL(e, ST_EARG, "more than %d lengths", LENGTHS);
        attention_shape(o, len, shape, sizeof shape);
        if (!bench_csv_done(&run->old, "attention", shape, o->dtype)) out[(*n)++] = len;
    }
    bench_session_kept(run, *n, count);
    return ST_OK;
}

static st_status attention_all(const st_bench_attention_opts *o, bench_session *run, st_err *e)
{
    const char *ways[WAYS + 1];
    int64_t n, count, len[LENGTHS];
    ST_TRY(attention_ways(o, ways, &n, e));
    ST_TRY(bench_session_open(run, o->device, e));
    ST_TRY(attention_list(o, run, len, &count, e));
    double budget = o->budget > 0.0 ? o->budget : 60.0;
    ST_TRY(bench_session_start(run, count, budget, o->dtype == ST_BF16, e));
    st_status s = ST_OK;
    for (run->at = 0; !s && run->at < count; run->at++) {
        s = attention_length(o, run, len[run->at], ways, n, e);
        s = bench_session_save(run, s, e);
    }
    return bench_session_end(run, s, e);
}

st_status st_bench_attention(const st_bench_attention_opts *given, json_t **result, st_err *e)
{
    st_bench_attention_opts o = *given;
    o.seeds = o.seeds > 0 ? o.seeds : 5;
    o.batch = o.batch > 0 ? o.batch : 1;
    if (o.heads < 1 || o.head_dim < 1 || o.heads > 1024 || o.head_dim > 4096) {
        ST_FAIL(e, ST_EARG, "%lld heads of %lld; legal: 1..1024 of 1..4096", (long long)o.heads,
                (long long)o.head_dim);
    }
    bench_session run = {
        .what = "bench attention", .unit = "lengths", .csv = o.csv, .resume = o.resume};
    st_status s = attention_all(&o, &run, e);
    *result = bench_session_result(&run, s);
    bench_session_close(&run);
    return s;
}
