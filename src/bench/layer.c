/* bench layer: suites of shapes; for each, every structure at several sizes against dense, with the
 * two controls that a structure has to beat: low rank, and a dense layer that is merely narrower.
 * A suite is long, so rows are written shape by shape, and shapes get fewer tokens where the time
 * or the memory there is would not do. */
/* SPDX-License-Identifier: MIT */
#include "bench/bench.h"
#include "bench/inner.h"
#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 256, ROUNDS_WANTED = 7, ROWS_FLOOR = 128, LABEL = 48 };
static const double layer_budget = 120.0;
static const double layer_factors[] = {1, 2, 4, 8, 16};

typedef struct {
    bench_size size; /* as the suite has it */
    st_dtype dtype;
    char label[LABEL]; /* "32768x768x3072" */
} layer_job;

typedef struct {
    const st_bench_layer_opts *o;
    const bench_suite *suite;
    bench_session run;
    layer_job *job; /* run.n of them */
    bench_layer layer[LAYERS];
    bench_shape shape;
} layer_bench;

/* ---- which layers ---------------------------------------------------------------------------- */

static bench_layer *layer_new(layer_bench *b, const char *control, double factor)
{
    if (b->shape.n == LAYERS) return NULL;
    bench_layer *c = &b->shape.layer[b->shape.n++];
    *c = (bench_layer){.control = control, .factor = factor};
    return c;
}

/* By the type's own knob for that where it has one (the SS1 paper's fork sizes them so). */
static st_status layer_fit(st_spec *s, const char *type, double factor, const bench_shape *of,
                           st_err *e)
{
    char text[64];
    const st_map_type *row = st_map_find(type);
    if (!row || !row->sized.knob || factor != floor(factor))
        return bench_spec(s, type, of->in, of->out, factor, e);
    snprintf(text, sizeof text, "%s:%s=%d", type, row->sized.knob, (int)factor * row->sized.times);
    return bench_spec(s, text, of->in, of->out, 0.0, e);
}

/* One more layer; a type that cannot be made to fit is a row that says why. */
static st_status layer_add(layer_bench *b, const char *type, double factor, const char *control,
                           st_err *e)
{
    st_err why = {0};
    bench_layer *c = layer_new(b, control, factor);
    if (!c) ST_FAIL(e, ST_EARG, "more than %d layers of one shape", LAYERS);
    st_status s = layer_fit(&c->l.spec, type, factor, &b->shape, &why);
    if (s == ST_OK) return ST_OK;
    c->l.spec.type = NULL;
    snprintf(c->name, sizeof c->name, "%s", type);
    snprintf(c->note, sizeof c->note, "%.255s", why.msg);
    if (s == ST_ESHAPE) return ST_OK;
    if (e) *e = why;
    return s;
}

/* The dense layer with as many parameters: fewer outputs, or where inputs are more, fewer inputs
 * (of an MLP's two matrices that is the hidden width, both times). */
static st_status layer_narrow(layer_bench *b, double factor, st_err *e)
{
    bench_layer *c = layer_new(b, "narrow", factor);
    if (!c) ST_FAIL(e, ST_EARG, "more than %d layers of one shape", LAYERS);
    bool in = b->shape.in > b->shape.out;
    int64_t was = in ? b->shape.in : b->shape.out;
    int64_t now = (int64_t)llround((double)was / factor);
    if (now < 1) now = 1;
    snprintf(c->name, sizeof c->name, "dense, %lld %s", (long long)now, in ? "inputs" : "outputs");
    return st_spec_parse(&c->l.spec, "dense", in ? now : b->shape.in, in ? b->shape.out : now, e);
}

static st_status layer_controls(layer_bench *b, double factor, st_err *e)
{
    if (b->o->no_controls) return ST_OK;
    ST_TRY(layer_add(b, st_map_lowrank.name, factor, "lowrank", e));
    return layer_narrow(b, factor, e);
}

static bool layer_is_spec(const char *map)
{
    return strpbrk(map, ":=") != NULL;
}

/* All types, or those that were named, at one size. */
static st_status layer_size(layer_bench *b, double factor, st_err *e)
{
    const st_bench_layer_opts *o = b->o;
    int64_t first = b->shape.n;
    st_map_view view;
    for (int i = 0; o->nmaps == 0 && st_map_view_at(i, &view); i++) {
        bool control = !o->no_controls && strcmp(view.fit, st_map_lowrank.name) == 0;
        if (!control && !view.knobs[0]) ST_TRY(layer_add(b, view.fit, factor, "none", e));
    }
    for (int i = 0; i < o->nmaps; i++) {
        if (!layer_is_spec(o->maps[i]) && strcmp(o->maps[i], "dense") != 0) {
            ST_TRY(layer_add(b, o->maps[i], factor, "none", e));
        }
    }
    return b->shape.n > first ? layer_controls(b, factor, e) : ST_OK;
}

static double layer_factor(const layer_bench *b, const bench_layer *c)
{
    if (c->factor > 0.0 || !c->l.spec.type) return c->factor;
    return (double)(b->shape.in * b->shape.out) / (double)st_spec_weights(&c->l.spec);
}

/* Specs as they were given, and controls of their sizes. */
static st_status layer_given(layer_bench *b, st_err *e)
{
    for (int i = 0; i < b->o->nmaps; i++) {
        if (!layer_is_spec(b->o->maps[i])) continue;
        ST_TRY(layer_add(b, b->o->maps[i], 0.0, "none", e));
        bench_layer *c = &b->shape.layer[b->shape.n - 1];
        c->factor = layer_factor(b, c);
        bool known = !c->l.spec.type;
        for (int64_t j = 0; j < b->shape.n && !known; j++) {
            const bench_layer *other = &b->shape.layer[j];
            known = strcmp(other->control, "narrow") == 0 &&
                    fabs(other->factor / c->factor - 1.0) < 0.01;
        }
        if (!known) ST_TRY(layer_controls(b, c->factor, e));
    }
    return ST_OK;
}

static st_status layer_choose(layer_bench *b, const layer_job *j, st_err *e)
{
    b->shape = (bench_shape){.q = b->run.q,
                             .dtype = j->dtype,
                             .in = j->size.in,
                             .out = j->size.out,
                             .rows = j->size.rows,
                             .backward = b->o->backward,
                             .layer = b->layer};
    const double *factor = b->o->nfactors ? b->o->factors : layer_factors;
    int n = b->o->nfactors ? b->o->nfactors : (int)(sizeof layer_factors / sizeof *layer_factors);
    ST_TRY(st_spec_parse(&layer_new(b, "none", 1.0)->l.spec, "dense", j->size.in, j->size.out, e));
    for (int i = 0; i < n; i++)
        ST_TRY(layer_size(b, factor[i], e));
    return layer_given(b, e);
}

/* ---- how many tokens ------------------------------------------------------------------------- */

/* Seconds that `rounds` rounds of the planned shape will take, about. */
static double layer_seconds(const layer_bench *b, int64_t rounds)
{
    bench_time_plan p = {0};
    for (int64_t i = 0; i < b->shape.n; i++) {
        const bench_layer *c = &b->shape.layer[i];
        if (!c->l.spec.type) continue;
        for (int k = 0; k < (b->shape.backward ? 2 : 1); k++) {
            const st_cost *cost = k ? &c->backward : &c->forward;
            p = bench_time_add(p, bench_guess(&b->run.now, b->shape.dtype, (double)cost->macs,
                                              (double)cost->bytes));
        }
    }
    return bench_time_of(p, rounds);
}

static int64_t layer_rounds(const layer_bench *b)
{
    int64_t most = b->o->reps > 0 ? b->o->reps : ROUNDS_WANTED;
    return most < ROUNDS_WANTED ? most : ROUNDS_WANTED;
}

static const char *layer_time(double s, char out[32])
{
    if (s < 90.0)
        snprintf(out, 32, "%.0f s", s);
    else
        snprintf(out, 32, "%.0f min", s / 60.0);
    return out;
}

/* Sets rows to what memory and `share` seconds allow and plans for them; `note` says what was
 * changed and why. *left_out: nothing that would mean anything fits. */
static st_status layer_rows(layer_bench *b, const layer_job *j, double share, char *note,
                            size_t cap, bool *left_out, st_err *e)
{
    char took[32], had[32];
    const st_bench_layer_opts *o = b->o;
    bool given = o->rows > 0 || o->scale > 0.0;
    double scaled = o->scale > 0.0 ? (double)j->size.rows / o->scale : (double)j->size.rows;
    int64_t wanted = o->rows > 0 ? o->rows : (int64_t)fmax(scaled, 1.0);
    double memory = st_memory_free(), first_bytes = 0.0, first_time = 0.0;
    int64_t rounds = given && layer_rounds(b) > 3 ? 3 : layer_rounds(b);
    note[0] = '\0';
    for (b->shape.rows = wanted;; b->shape.rows /= 2) {
        ST_TRY(bench_shape_plan(&b->shape, e));
        double bytes = bench_shape_bytes(&b->shape), time = layer_seconds(b, rounds);
        if (b->shape.rows == wanted) first_bytes = bytes, first_time = time;
        bool fits = bytes <= memory, quick = time <= share;
        if (fits && quick) break;
        if (!given && b->shape.rows / 2 >= ROWS_FLOOR) continue;
        if (fits && time <= 2.0 * share) break; /* nearly */
        *left_out = true;
        snprintf(note, cap,
                 "left out: %lld rows would take %s and %.1f GiB, of %s (--budget) and "
                 "%.1f GiB free",
                 (long long)b->shape.rows, layer_time(time, took), bytes / (1 << 30),
                 layer_time(share, had), memory / (1 << 30));
        return ST_OK;
    }
    if (o->rows > 0 || b->shape.rows == j->size.rows) return ST_OK;
    if (b->shape.rows == wanted) {
        snprintf(note, cap, "%lld rows instead of %lld: --scale", (long long)wanted,
                 (long long)j->size.rows);
    } else if (first_bytes > memory) {
        snprintf(note, cap, "%lld rows instead of %lld, which would take %.1f GiB of %.1f free",
                 (long long)b->shape.rows, (long long)wanted, first_bytes / (1 << 30),
                 memory / (1 << 30));
    } else {
        snprintf(note, cap, "%lld rows instead of %lld, which would take %s of its %s (--budget)",
                 (long long)b->shape.rows, (long long)wanted, layer_time(first_time, took),
                 layer_time(share, had));
    }
    return ST_OK;
}

/* ---- shape after shape ----------------------------------------------------------------------- */

/* What all rows of the shape have in common. */
static void layer_label(layer_bench *b, size_t from, const char *note)
{
    const layer_job *j = &b->job[b->run.at];
    for (size_t i = from; i < json_array_size(b->run.rows); i++) {
        json_t *row = json_array_get(b->run.rows, i);
        json_object_set_new(row, "suite", json_string(b->suite->name));
        json_object_set_new(row, "shape", json_string(j->label));
        if (note[0] && !json_object_get(row, "reason")) {
            json_object_set_new(row, "reason", json_string(note));
        }
    }
}

static void layer_left_out(layer_bench *b, const char *note)
{
    const layer_job *j = &b->job[b->run.at];
    json_array_append_new(b->run.rows,
                          json_pack("{s:s, s:s, s:I, s:I, s:I, s:s, s:s, s:f, s:s}", "name",
                                    "dense", "spec", "dense", "in", (json_int_t)j->size.in, "out",
                                    (json_int_t)j->size.out, "rows", (json_int_t)j->size.rows,
                                    "dtype", st_dtype_name(j->dtype), "control", "none", "factor",
                                    1.0, "reason", note));
}

static st_status layer_one(layer_bench *b, st_err *e)
{
    char note[192];
    bool left_out = false;
    const layer_job *j = &b->job[b->run.at];
    size_t from = json_array_size(b->run.rows);
    double share = bench_session_turn(&b->run);
    snprintf(b->run.part, sizeof b->run.part, "%s %s", j->label, st_dtype_name(j->dtype));
    ST_TRY(layer_choose(b, j, e));
    ST_TRY(layer_rows(b, j, share, note, sizeof note, &left_out, e));
    b->run.share = fmin(layer_seconds(b, layer_rounds(b)), share);
    if (note[0]) st_log(ST_LOG_INFO, "%s: %s", b->run.part, note);
    bench_effort how = bench_session_effort(&b->run, b->o->reps, share);
    st_status s = ST_OK;
    if (left_out)
        layer_left_out(b, note);
    else
        s = bench_shape_run(&b->shape, &how, b->run.rows, e);
    layer_label(b, from, note);
    return s;
}

/* ---- the list of shapes ---------------------------------------------------------------------- */

static bool layer_wanted(const layer_bench *b, const layer_job *j)
{
    const char *matrix = strchr(j->label, 'x') + 1;
    for (int i = 0; i < b->o->nonly; i++) {
        const char *only = b->o->only[i];
        if (fnmatch(only, j->label, 0) == 0 || fnmatch(only, matrix, 0) == 0) return true;
    }
    return b->o->nonly == 0;
}

static st_status layer_list(layer_bench *b, int64_t *n, st_err *e)
{
    int64_t sizes = 0, matched = 0;
    while (b->suite->size[sizes].rows)
        sizes++;
    b->job = st_calloc(sizes * (b->o->ndtypes + 1), sizeof *b->job);
    if (!b->job) return ST_NOMEM(e, NULL);
    for (int64_t i = 0; i < sizes * b->o->ndtypes; i++) {
        bench_size size = b->suite->size[i / b->o->ndtypes];
        layer_job j = {.size = size, .dtype = b->o->dtypes[i % b->o->ndtypes]};
        snprintf(j.label, sizeof j.label, "%lldx%lldx%lld", (long long)size.rows,
                 (long long)size.in, (long long)size.out);
        if (!layer_wanted(b, &j)) continue;
        matched++;
        if (!bench_csv_done(&b->run.old, b->suite->name, j.label, j.dtype)) b->job[(*n)++] = j;
    }
    if (!matched) {
        ST_FAIL(e, ST_EARG,
                "no shape of the suite %s is called %s; shapes are like %lldx%lldx%lld "
                "(tokens, inputs, outputs) or *x%lldx%lld",
                b->suite->name, b->o->only[0], (long long)b->suite->size[0].rows,
                (long long)b->suite->size[0].in, (long long)b->suite->size[0].out,
                (long long)b->suite->size[0].in, (long long)b->suite->size[0].out);
    }
    bench_session_kept(&b->run, *n, matched);
    return ST_OK;
}

static st_status layer_check(const st_bench_layer_opts *o, st_err *e)
{
    for (int i = 0; i < o->nfactors; i++) {
        if (!(o->factors[i] >= 1.0 && o->factors[i] <= 1e6)) {
            ST_FAIL(e, ST_EARG, "factor %g: expected 1 to 1,000,000", o->factors[i]);
        }
    }
    for (int i = 0; i < o->ndtypes; i++) {
        if (o->dtypes[i] != ST_F32 && o->dtypes[i] != ST_BF16) {
            ST_FAIL(e, ST_EARG, "dtype %s: expected float32 or bfloat16",
                    st_dtype_name(o->dtypes[i]));
        }
    }
    return ST_OK;
}

static st_status layer_all(layer_bench *b, st_err *e)
{
    const st_bench_layer_opts *o = b->o;
    int64_t n = 0;
    bool bf16 = false;
    for (int i = 0; i < o->ndtypes; i++)
        bf16 |= o->dtypes[i] == ST_BF16;
    ST_TRY(layer_check(o, e));
    ST_TRY(bench_suite_find(&b->suite, o->suite ? o->suite : "gpt2", e));
    ST_TRY(bench_session_open(&b->run, o->device, e));
    ST_TRY(layer_list(b, &n, e));
    double budget = o->budget > 0.0 ? o->budget : layer_budget;
    ST_TRY(bench_session_start(&b->run, n, budget, bf16, e));
    st_status s = ST_OK;
    for (b->run.at = 0; !s && b->run.at < n; b->run.at++) {
        s = layer_one(b, e);
        s = bench_session_save(&b->run, s, e);
    }
    return bench_session_end(&b->run, s, e);
}

st_status st_bench_layer(const st_bench_layer_opts *o, json_t **result, st_err *e)
{
    layer_bench *b = st_calloc(1, sizeof *b);
    if (!b) return ST_NOMEM(e, NULL);
    b->o = o;
    b->run = (bench_session){
        .what = "bench layer", .unit = "shapes", .csv = o->csv, .resume = o->resume};
    st_status s = layer_all(b, e);
    *result = bench_session_result(&b->run, s);
    bench_session_close(&b->run);
    free(b->job);
    free(b);
    return s;
}
