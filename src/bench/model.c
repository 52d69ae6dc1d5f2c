/* bench model: whole networks of one shape, structured against dense: which ones. */
/* SPDX-License-Identifier: MIT */
#include "bench/model.h"
#include "files/files.h"
#include "store/store.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- cases ----------------------------------------------------------------------------------- */

st_status model_add(model_bench *b, json_t *config, const char *name, const char *control,
                    st_err *e)
{
    st_status s = ST_OK;
    if (b->n == MODEL_CASES) {
        s = ST_ERR(e, ST_EARG, "more than %d models", MODEL_CASES);
    }
    model_case *c = &b->c[b->n];
    if (!s && (s = st_model_open(&c->m, config, e))) st_config_called(e, name);
    json_decref(config);
    if (!s) s = st_need_floats(c->m, name, e);
    if (!s) s = model_may(b, c->m, name, e);
    if (s) st_model_close(c->m);
    if (s) c->m = NULL;
    if (s) return s;
    c->b = b;
    c->control = control;
    snprintf(c->name, sizeof c->name, "%s", name);
    b->n++;
    return ST_OK;
}

/* The config of a folder, of a file of weights, a config.json or a named size. */
static st_status model_config(const char *name, json_t **config, st_err *e)
{
    size_t n = strlen(name);
    bool json = n > 5 && strcmp(name + n - 5, ".json") == 0;
    if (json || !st_path_exists(name)) return st_fresh_config(config, name, e);
    char *path = st_path_join(name, "config.json");
    if (!path) return ST_NOMEM(e, NULL);
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

static void model_form_add(void *ctx, const char *name, const st_spec *spec)
{
    model_form *f = ctx;
    (void)name;
    f->matrices++;
    if (spec->type == &st_map_dense) return;
    f->lowrank &= spec->type == &st_map_lowrank;
    f->structured = true;
}

model_form model_form_of(const st_model *m)
{
    model_form f = {.lowrank = true};
    st_model_matrices(m, model_form_add, &f);
    return f;
}

/* The first model with every matrix dense, then each as it is, if that is something else. */
static st_status model_given(model_bench *b, st_err *e)
{
    const bool composed = model_experiment_name(b->o) != NULL;
    for (int i = 0; i < b->o->nmodels; i++) {
        json_t *config = NULL;
        if (composed && model_is_override(b->o->models[i])) continue;
        ST_TRY(model_config(b->o->models[i], &config, e));
        if (b->n == 0) {
            json_t *plain = json_deep_copy(config);
            json_object_del(plain, "strut");
            st_status s = model_add(b, plain, "dense", "none", e);
            if (s) json_decref(config);
            ST_TRY(s);
        }
        ST_TRY(model_add(b, config, b->o->models[i], "none", e));
        if (i == 0 && !composed && !model_form_of(b->c[b->n - 1].m).structured) {
            st_model_close(b->c[--b->n].m);
            b->c[b->n] = (model_case){0};
        }
    }
    return ST_OK;
}

/* "GLOB=NAME" for a type fitted to each matrix it stands for. */
typedef struct {
    const st_model *m;
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
    bool table = st_model_slot(f->m, name)->role == ST_ROLE_EMBEDDING;
    if (table && strcmp(f->glob, name) != 0) return; /* only its exact name means it */
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

static st_status model_fitted(model_bench *b, const char *type, st_err *e)
{
    const st_model *dense = b->c[0].m;
    int64_t count = model_form_of(dense).matrices;
    model_fitting f = {.m = dense,
                       .glob = b->o->glob ? b->o->glob : st_model_globs(dense).mlp,
                       .type = type,
                       .fit = b->o->fit,
                       .map = st_calloc(count + 1, sizeof *f.map),
                       .e = e};
    if (!f.map) return ST_NOMEM(e, NULL);
    st_model_matrices(dense, model_fit_matrix, &f);
    json_t *config = NULL;
    st_status s = f.status;
    if (!s && f.n == 0) {
        s = ST_ERR(e, ST_EARG, "no matrix of the model matches %s", f.glob);
    }
    if (!s) s = st_model_remap(dense, (const char *const *)f.map, f.n, NULL, 0, &config, e);
    if (!s) s = model_add(b, config, type, "none", e);
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
    return s ? s : model_add(b, config, name, "none", e);
}

static st_status model_cases(model_bench *b, st_err *e)
{
    const st_bench_model_opts *o = b->o;
    if (model_experiment_name(o)) ST_TRY(model_experiment(b, e));
    ST_TRY(model_given(b, e));
    ST_TRY(model_ways(b, e));
    if (o->nmaps) {
        json_t *config = NULL;
        char name[ST_SPEC_TEXT];
        snprintf(name, sizeof name, "%s%s", o->maps[0], o->nmaps > 1 ? " ..." : "");
        ST_TRY(st_model_remap(b->c[0].m, o->maps, o->nmaps, NULL, 0, &config, e));
        ST_TRY(model_add(b, config, name, "none", e));
    }
    for (int i = 0; i < o->npresets; i++)
        ST_TRY(model_preset(b, o->presets[i], e));
    st_map_view view;
    for (int i = 0; o->fit > 0.0 && st_map_view_at(i, &view); i++) {
        if (view.knobs[0]) continue;
        st_err why = {0};
        st_status s = model_fitted(b, view.fit, &why);
        if (s == ST_ESHAPE) {
            st_log(ST_LOG_WARN, "left out: %s: %s", view.fit, why.msg);
        } else if (s) {
            if (e) *e = why;
            return s;
        }
    }
    return ST_OK;
}

static st_status model_check(const st_bench_model_opts *o, st_err *e)
{
    for (int i = 0; i < o->ndtypes; i++) {
        if (o->dtypes[i] == ST_F32 || o->dtypes[i] == ST_BF16) continue;
        ST_FAIL(e, ST_EARG, "dtype %s: expected float32 or bfloat16", st_dtype_name(o->dtypes[i]));
    }
    return ST_OK;
}

st_status st_bench_model(const st_bench_model_opts *o, json_t **result, st_err *e)
{
    ST_TRY(model_check(o, e));
    model_bench *b = st_calloc(1, sizeof *b);
    if (!b) return ST_NOMEM(e, NULL);
    b->o = o;
    b->run =
        (bench_session){.what = "bench model", .unit = "parts", .csv = o->csv, .resume = o->resume};
    const char *group = model_experiment_name(o);
    snprintf(b->suite, sizeof b->suite, "%s", group ? group : o->models[0]);
    st_status s = bench_session_open(&b->run, o->device, e);
    if (!s) s = model_cases(b, e);
    if (!s && o->controls) s = model_controls(b, e);
    if (!s) s = model_run(b, e);
    *result = bench_session_result(&b->run, s);
    for (int64_t i = 0; i < b->n; i++) {
        st_device_arena_close(b->run.q, &b->c[i].kept);
        st_model_close(b->c[i].m);
    }
    bench_session_close(&b->run);
    free(b->part);
    free(b);
    return s;
}
