/* The model.*map* keys against a model that a run starts from: dense weights are projected onto
 * structured matrices, structured ones expanded, or onto others, before the first step. */
/* SPDX-License-Identifier: MIT */
#include "fit/fit.h"
#include "train/inner.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "GLOB=SPEC" of each key of `maps`; the texts are freed with source_free. */
static char **source_texts(const json_t *maps, int *n)
{
    const char *glob;
    json_t *spec;
    char **text = st_calloc((int64_t)json_object_size(maps) + 1, sizeof *text);
    *n = 0;
    json_object_foreach((json_t *)(uintptr_t)maps, glob, spec)
    {
        if (!text) break;
        if (asprintf(&text[*n], "%s=%s", glob, json_string_value(spec)) < 0) text[*n] = NULL;
        if (text[*n]) ++*n;
    }
    return text;
}

static void source_free(char **text, int n)
{
    for (int i = 0; text && i < n; i++)
        free(text[i]);
    free(text);
}

/* What is said of a kind of change: matrices, |W|^2 and what of it is lost. */
typedef struct {
    char kind[160];
    int64_t n;
    double total, lost;
} source_kind;

static void source_say(const json_t *rows, const char *init)
{
    enum { KINDS = 32 };
    source_kind kind[KINDS] = {0};
    int kinds = 0;
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row)
    {
        char text[sizeof kind->kind];
        const char *from = json_string_value(json_object_get(row, "from"));
        const char *to = json_string_value(json_object_get(row, "spec"));
        double norm = json_number_value(json_object_get(row, "norm"));
        double error = json_number_value(json_object_get(row, "error"));
        snprintf(text, sizeof text, "%.60s -> %.60s", from, to);
        int k = 0;
        while (k < kinds && strcmp(kind[k].kind, text) != 0)
            k++;
        if (k == KINDS) continue;
        if (k == kinds) snprintf(kind[kinds++].kind, sizeof text, "%s", text);
        kind[k].n++;
        kind[k].total += norm * norm;
        kind[k].lost += norm * norm * error * error;
        if (strstr(from, "+gate") && k + 1 == kinds && kind[k].n == 1) {
            st_log(ST_LOG_WARN,
                   "%s: its gate depends on the token; what it mixes at the gate's "
                   "bias is taken",
                   json_string_value(json_object_get(row, "name")));
        }
    }
    for (int k = 0; k < kinds; k++) {
        double kept = kind[k].total > 0.0 ? 1.0 - kind[k].lost / kind[k].total : 1.0;
        st_log(ST_LOG_INFO, "%s: %s, %s: %.2f %% of the energy is kept", init,
               st_counted(kind[k].n, "matrices").s, kind[k].kind, 100.0 * kept);
    }
}

static st_status source_project(const st_settings *set, char **text, int n, st_model **m,
                                float **flat, st_err *e)
{
    st_decompose_opts o = {.maps = (const char *const *)text,
                           .nmaps = n,
                           .seed = (uint64_t)set->seed,
                           .what = "project"};
    st_model *to = NULL;
    float *to_flat = NULL;
    json_t *rows = NULL;
    ST_TRY(st_decompose_weights(*m, *flat, &o, &to, &to_flat, &rows, e));
    source_say(rows, set->init);
    st_log(ST_LOG_INFO, "%s: the optimiser starts anew", set->init);
    json_decref(rows);
    st_model_close(*m);
    free(*flat);
    *m = to;
    *flat = to_flat;
    return ST_OK;
}

/* Which of the keys is there, for messages. */
static const char *source_key(const st_settings *set)
{
    if (set->model.map) return "model.map";
    if (set->model.mlp_map) return "model.mlp.map";
    return set->model.attn_map ? "model.attn.map" : "model.map_preset";
}

/* Do two models' configs name the same spec for every matrix? `asked` may name dense ones. */
static st_status source_equal(const json_t *asked, const st_model *m, bool *same, st_err *e)
{
    st_model *to = NULL;
    ST_TRY(st_model_open(&to, asked, e));
    json_t *a = st_model_config(to), *b = st_model_config(m);
    *same = json_equal(a, b);
    json_decref(a);
    json_decref(b);
    st_model_close(to);
    return ST_OK;
}

st_status st_source_remap(const st_settings *set, const char *resume, const json_t *maps,
                          st_model **m, float **flat, st_err *e)
{
    char place[256];
    int n = 0;
    json_t *config = NULL;
    bool same = true;
    if (json_object_size(maps) == 0) return ST_OK;
    char **text = source_texts(maps, &n);
    st_status s = ST_OK;
    if (!text || (size_t)n < json_object_size(maps)) s = ST_NOMEM(e, NULL);
    if (!s) s = st_model_remap(*m, (const char *const *)text, n, NULL, 0, &config, e);
    if (!s) s = source_equal(config, *m, &same, e);
    if (!s && !same && resume) {
        s = ST_ERR(e, ST_EARG,
                   "asks for other matrices than the checkpoint %s has; init=%s out=FOLDER starts "
                   "a run that projects them",
                   resume, resume);
    }
    if (!s && !same && flat) s = source_project(set, text, n, m, flat, e);
    if (!s && !same && !flat) {
        st_model_close(*m);
        *m = NULL;
        s = st_model_open(m, config, e);
    }
    if (s && s != ST_EINTR)
        st_err_prefix(e, "%s", st_set_place(set, source_key(set), place, sizeof place));
    source_free(text, n);
    json_decref(config);
    return s;
}
