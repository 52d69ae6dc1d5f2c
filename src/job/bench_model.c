/* bench model: whole networks of one shape, structured against dense: forward, training step,
 * decoding. All of them take turns on one block of weights, since speed does not depend on values
 * and a block for each would not fit into memory. */
/* SPDX-License-Identifier: MIT */
#include "job/bench.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DECODE_AT = 32, CASES = 64, KINDS = 3 };
typedef enum { FORWARD, STEP, DECODE } model_kind;
static const char *const model_kind_name[KINDS] = {"forward", "step", "decode"};

typedef struct model_bench model_bench;
typedef struct {
    model_bench *b;
    st_model *m;
    char name[ST_SPEC_TEXT];
    st_cost cost[KINDS];
} model_case;

struct model_bench {
    const st_bench_model_opts *o;
    st_stream *q;
    model_case c[CASES];
    int64_t n, batch, context, decode;
    size_t scratch;
    int64_t elements;
    st_arena mem, tmp;
    st_tensor weights, grads, ids, targets, loss, logits;
    st_kv kv;
};

/* ---- calls
 * --------------------------------------------------------------------------------------- */

static st_lm_args model_args(const model_bench *b, model_kind kind, st_kv *kv)
{
    if (kind == DECODE) {
        return (st_lm_args){
            .batch = 1, .len = 1, .ids = b->ids, .logits = b->logits, .last_only = 1, .kv = kv};
    }
    return (st_lm_args){.batch = b->batch,
                        .len = b->context,
                        .ids = b->ids,
                        .targets = b->targets,
                        .loss = b->loss,
                        .grad_scale = 1.0f / (float)(b->batch * b->context)};
}

static void model_call(model_case *c, model_kind kind)
{
    model_bench *b = c->b;
    st_kv kv = b->kv; /* `used` stays where it is */
    st_lm_args a = model_args(b, kind, &kv);
    st_model_bind(c->m, st_slice(b->weights, 0, st_model_elements(c->m)),
                  kind == STEP ? st_slice(b->grads, 0, st_model_elements(c->m)) : (st_tensor){0});
    (kind == STEP ? st_model_grad : st_model_forward)(c->m, b->q, &a, &b->tmp);
}

static void model_forward(void *ctx)
{
    model_call(ctx, FORWARD);
}

static void model_step(void *ctx)
{
    model_call(ctx, STEP);
}

static void model_decode(void *ctx)
{
    model_call(ctx, DECODE);
}

/* ---- cases
 * --------------------------------------------------------------------------------------- */

/* Adds the model of `config` (taken over). */
static st_status model_add(model_bench *b, json_t *config, const char *name, st_err *e)
{
    st_status s = ST_OK;
    if (b->n == CASES) s = st_fail(e, ST_EARG, __FILE__, __LINE__, "more than %d models", CASES);
    if (!s) s = st_model_open(&b->c[b->n].m, config, e);
    json_decref(config);
    if (!s) s = st_need_language(b->c[b->n].m, b->o->models[0], "bench model", e);
    if (s) return s;
    b->c[b->n].b = b;
    snprintf(b->c[b->n++].name, sizeof b->c[0].name, "%s", name);
    return ST_OK;
}

/* The config of a folder, of a file of weights, a config.json or a named size. */
static st_status model_config(const char *name, json_t **config, st_err *e)
{
    size_t n = strlen(name);
    bool json = n > 5 && strcmp(name + n - 5, ".json") == 0;
    if (json || !st_path_exists(name)) return st_fresh_config(config, name, e);
    char *path = st_path_join(name, "config.json");
    if (!path) ST_FAIL(e, ST_ENOMEM, "out of memory");
    st_model *m = NULL;
    st_status s;
    if (st_path_exists(path))
        s = st_fresh_config(config, path, e);
    else if ((s = st_folder_look(name, NULL, &m, NULL, e)) == ST_OK)
        *config = st_model_config(m);
    st_model_close(m);
    free(path);
    return s;
}

static void model_structured(void *ctx, const char *name, const st_spec *spec)
{
    (void)name;
    *(bool *)ctx |= spec->type != &st_map_dense;
}

/* The first model with every matrix dense, then each as it is, if that is something else. */
static st_status model_given(model_bench *b, st_err *e)
{
    for (int i = 0; i < b->o->nmodels; i++) {
        json_t *config = NULL;
        ST_TRY(model_config(b->o->models[i], &config, e));
        if (i == 0) {
            json_t *plain = json_deep_copy(config);
            json_object_del(plain, "strut");
            st_status s = model_add(b, plain, "dense", e);
            if (s) json_decref(config);
            ST_TRY(s);
        }
        ST_TRY(model_add(b, config, b->o->models[i], e));
        bool structured = false;
        st_model_matrices(b->c[b->n - 1].m, model_structured, &structured);
        if (i == 0 && !structured) {
            st_model_close(b->c[--b->n].m);
            b->c[b->n] = (model_case){0};
        }
    }
    return ST_OK;
}

/* "GLOB=NAME" for a type fitted to each matrix it stands for. */
typedef struct {
    const char *glob, *type;
    double fit;
    char **map;
    int n;
    st_err *e;
    st_status status;
} model_fitting;

static void model_fit_matrix(void *ctx, const char *name, const st_spec *spec)
{
    model_fitting *f = ctx;
    if (f->status || !st_glob_match(f->glob, name)) return;
    if (strcmp(name, "wte") == 0 && strcmp(f->glob, name) != 0) return;
    st_spec to;
    char text[ST_SPEC_TEXT];
    int64_t params = (int64_t)((double)(spec->in * spec->out) / f->fit + 0.5);
    f->status = st_spec_fit(&to, f->type, spec->in, spec->out, params > 0 ? params : 1, f->e);
    if (f->status) return;
    st_spec_print(&to, text);
    size_t cap = strlen(name) + strlen(text) + 2;
    char *line = st_calloc((int64_t)cap, 1);
    if (!line) return;
    snprintf(line, cap, "%s=%s", name, text);
    f->map[f->n++] = line;
}

static void model_count(void *ctx, const char *name, const st_spec *spec)
{
    (void)name, (void)spec;
    ++*(int64_t *)ctx;
}

static st_status model_fitted(model_bench *b, const char *type, st_err *e)
{
    int64_t count = 0;
    const st_model *dense = b->c[0].m;
    st_model_matrices(dense, model_count, &count);
    model_fitting f = {.glob = b->o->glob ? b->o->glob : "h.*.mlp.*",
                       .type = type,
                       .fit = b->o->fit,
                       .map = st_calloc(count + 1, sizeof *f.map),
                       .e = e};
    if (!f.map) ST_FAIL(e, ST_ENOMEM, "out of memory");
    st_model_matrices(dense, model_fit_matrix, &f);
    json_t *config = NULL;
    st_status s = f.status;
    if (!s && f.n == 0) {
        s = st_fail(e, ST_EARG, __FILE__, __LINE__, "no matrix of the model matches %s", f.glob);
    }
    if (!s) s = st_model_remap(dense, (const char *const *)f.map, f.n, NULL, 0, &config, e);
    if (!s) s = model_add(b, config, type, e);
    for (int i = 0; i < f.n; i++)
        free(f.map[i]);
    free(f.map);
    return s;
}

/* One more row: the first model in the layout `name`. */
static st_status model_preset(model_bench *b, const char *name, st_err *e)
{
    const char **maps = NULL;
    int n = 0;
    json_t *config = NULL;
    st_status s = st_preset_join(name, NULL, 0, &maps, &n, e);
    if (!s) s = st_model_remap(b->c[0].m, maps, n, NULL, 0, &config, e);
    free(maps);
    return s ? s : model_add(b, config, name, e);
}

static st_status model_cases(model_bench *b, st_err *e)
{
    const st_bench_model_opts *o = b->o;
    ST_TRY(model_given(b, e));
    if (o->nmaps) {
        json_t *config = NULL;
        char name[ST_SPEC_TEXT];
        snprintf(name, sizeof name, "%s%s", o->maps[0], o->nmaps > 1 ? " ..." : "");
        ST_TRY(st_model_remap(b->c[0].m, o->maps, o->nmaps, NULL, 0, &config, e));
        ST_TRY(model_add(b, config, name, e));
    }
    for (int i = 0; i < o->npresets; i++)
        ST_TRY(model_preset(b, o->presets[i], e));
    for (int i = 0; o->fit > 0.0 && st_map_types[i]; i++) {
        const char *type = st_map_types[i]->name;
        if (strcmp(type, "dense") == 0 || strcmp(type, "sum") == 0) continue;
        st_err why = {0};
        st_status s = model_fitted(b, type, &why);
        if (s == ST_ESHAPE) {
            st_log(ST_LOG_WARN, "left out: %s: %s", type, why.msg);
        } else if (s) {
            if (e) *e = why;
            return s;
        }
    }
    return ST_OK;
}

/* ---- memory
 * -------------------------------------------------------------------------------------- */

static bool model_wants(const model_bench *b, model_kind kind)
{
    return kind != STEP || b->o->train;
}

static void model_take(model_bench *b, st_arena *a)
{
    int64_t rows = b->batch * b->context, vocab = st_model_lm(b->c[0].m).vocab;
    b->weights = st_take1(a, b->o->dtype, b->elements);
    if (b->o->train) b->grads = st_take1(a, ST_F32, b->elements);
    b->ids = st_take1(a, ST_I32, rows);
    b->targets = st_take1(a, ST_I32, rows);
    b->loss = st_take1(a, ST_F32, rows);
    b->logits = st_take2(a, ST_F32, 1, vocab);
    st_kv_take(&b->kv, b->c[0].m, b->o->dtype, 1, b->decode + 1, a);
    b->kv.used = b->decode;
}

static st_status model_plan(model_bench *b, size_t *bytes, st_err *e)
{
    st_arena nowhere = {0};
    ST_TRY(st_arena_open_counting(&nowhere, e));
    for (int64_t i = 0; i < b->n; i++) {
        int64_t elements = st_model_elements(b->c[i].m);
        if (elements > b->elements) b->elements = elements;
    }
    model_take(b, &nowhere);
    *bytes = nowhere.peak;
    st_status s = ST_OK;
    for (int64_t i = 0; !s && i < b->n * KINDS; i++) {
        model_case *c = &b->c[i / KINDS];
        model_kind kind = (model_kind)(i % KINDS);
        if (!model_wants(b, kind)) continue;
        st_kv kv = b->kv;
        st_lm_args a = model_args(b, kind, &kv);
        size_t scratch = 0;
        s = st_model_plan(c->m, b->q, b->o->dtype, &a, kind == STEP, &scratch, &c->cost[kind], e);
        if (scratch > b->scratch) b->scratch = scratch;
    }
    st_arena_close(&nowhere);
    return s;
}

static st_status model_memory(model_bench *b, st_err *e)
{
    size_t bytes;
    ST_TRY(model_plan(b, &bytes, e));
    ST_TRY(st_device_arena(b->q, bytes, &b->mem, e));
    ST_TRY(st_device_arena(b->q, b->scratch, &b->tmp, e));
    model_take(b, &b->mem);
    ST_TRY(bench_fill(b->q, b->weights, 0.02f, 0, e));
    ST_TRY(bench_fill(b->q, b->kv.k, 1.0f, 1, e));
    ST_TRY(bench_fill(b->q, b->kv.v, 1.0f, 2, e));
    int64_t rows = b->batch * b->context, vocab = st_model_lm(b->c[0].m).vocab;
    int32_t *ids = st_calloc(rows, sizeof *ids);
    if (!ids) ST_FAIL(e, ST_ENOMEM, "out of memory");
    st_rng r = {.seed = 1};
    for (int64_t i = 0; i < rows; i++)
        ids[i] = (int32_t)st_rng_below(&r, (uint64_t)vocab);
    st_upload(b->q, b->ids, ids);
    st_upload(b->q, b->targets, ids);
    free(ids);
    return ST_OK;
}

/* Models that are compared are of one outer shape. */
static st_status model_shape(model_bench *b, st_err *e)
{
    st_lm_shape first = st_model_lm(b->c[0].m);
    b->batch = b->o->batch ? b->o->batch : 1;
    b->context = b->o->context ? b->o->context : first.context;
    b->decode = b->o->decode ? b->o->decode : DECODE_AT;
    if (b->decode > first.context - 1) b->decode = first.context - 1;
    for (int64_t i = 0; i < b->n; i++) {
        st_lm_shape lm = st_model_lm(b->c[i].m);
        if (lm.vocab != first.vocab || lm.layers != first.layers || lm.width != first.width) {
            ST_FAIL(e, ST_EARG,
                    "%s has %lld layers of width %lld and %lld tokens, the first model %lld, %lld "
                    "and %lld; models of different shape are not compared",
                    b->c[i].name, (long long)lm.layers, (long long)lm.width, (long long)lm.vocab,
                    (long long)first.layers, (long long)first.width, (long long)first.vocab);
        }
        if (b->context < 1 || b->context > lm.context || b->batch < 1) {
            ST_FAIL(e, ST_EARG, "%s: batch %lld, context %lld: expected at least 1, 1 to %lld",
                    b->c[i].name, (long long)b->batch, (long long)b->context,
                    (long long)lm.context);
        }
    }
    return ST_OK;
}

/* ---- results
 * ------------------------------------------------------------------------------------- */

static json_t *model_row(const model_bench *b, const model_case *c)
{
    int64_t n = st_model_counts(c->m).parameters, tokens = b->batch * b->context;
    json_t *config = st_model_config(c->m), *ours = json_object_get(config, "strut");
    json_t *maps = json_object_get(ours, "maps");
    json_t *row = json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:O}", "name", c->name, "parameters",
        (json_int_t)n, "bytes", (json_int_t)(n * (int64_t)st_dtype_size(b->o->dtype)),
        "macs_per_token", (json_int_t)(c->cost[FORWARD].macs / tokens), "batch",
        (json_int_t)b->batch, "context", (json_int_t)b->context, "decode_at", (json_int_t)b->decode,
        "dtype", st_dtype_name(b->o->dtype), "maps", maps ? maps : json_object());
    if (!maps) json_decref(json_object_get(row, "maps"));
    json_decref(config);
    return row;
}

static st_status model_time(model_bench *b, json_t *rows, st_err *e)
{
    static void (*const call[KINDS])(void *) = {model_forward, model_step, model_decode};
    bench_item item[CASES * KINDS] = {{0}};
    int64_t n = 0, rounds = 0, first[KINDS] = {0};
    for (int k = 0; k < KINDS; k++) {
        if (!model_wants(b, (model_kind)k)) continue;
        first[k] = n;
        for (int64_t i = 0; i < b->n; i++) {
            item[n++] = (bench_item){.call = call[k],
                                     .ctx = &b->c[i],
                                     .macs = (double)b->c[i].cost[k].macs,
                                     .tokens = k == DECODE ? 1.0 : (double)(b->batch * b->context)};
        }
    }
    bench_effort how = {.reps = b->o->reps, .budget = b->o->budget};
    st_status s = bench_all(b->q, item, n, &how, &rounds, e);
    for (int64_t i = 0; !s && i < b->n; i++) {
        json_t *row = model_row(b, &b->c[i]);
        for (int k = 0; k < KINDS; k++) {
            if (!model_wants(b, (model_kind)k)) continue;
            json_object_set_new(row, model_kind_name[k],
                                bench_summary(&item[first[k] + i], &item[first[k]], rounds));
        }
        json_array_append_new(rows, row);
    }
    bench_free(item, n);
    return s;
}

st_status st_bench_model(const st_bench_model_opts *o, json_t **result, st_err *e)
{
    model_bench *b = st_calloc(1, sizeof *b);
    json_t *rows = json_array();
    if (!b || !rows) {
        free(b);
        ST_FAIL(e, ST_ENOMEM, "out of memory");
    }
    b->o = o;
    st_status s = st_stream_open(&b->q, o->device ? o->device : "cpu", 0, e);
    if (!s) s = model_cases(b, e);
    if (!s) s = model_shape(b, e);
    if (!s) s = model_memory(b, e);
    if (!s) s = model_time(b, rows, e);
    if (!s) {
        *result = bench_machine(b->q);
        json_object_set(*result, "rows", rows);
    }
    if (b->q) {
        st_device_arena_close(b->q, &b->mem);
        st_device_arena_close(b->q, &b->tmp);
    }
    for (int64_t i = 0; i < b->n; i++)
        st_model_close(b->c[i].m);
    st_stream_close(b->q);
    free(b);
    json_decref(rows);
    return s;
}
