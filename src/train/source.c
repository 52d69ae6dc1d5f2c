/* What is trained: a new model as the settings describe it, the model of a folder, the caller's, or
 * that of the checkpoint a run goes on from; and the weights it starts with. */
/* SPDX-License-Identifier: MIT */
#include "store/store.h"
#include "train/inner.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* With a model to start from, model.* may say what that model is, but change its maps only. */
static st_status source_same(const st_settings *set, const st_model *m, st_err *e)
{
    char place[256];
    json_t *config = st_model_config(m);
    st_status s = ST_OK;
    for (int i = 0; !s && i < st_set_count(); i++) {
        const set_row *r = &st_set_rows[i];
        if (strncmp(r->key, "model.", 6) != 0 || !(r->flags & SET_NULL)) continue;
        if (strstr(r->key, ".map")) continue; /* these do: source_remap */
        json_t *want = st_set_value(set, r), *is = json_object_get(config, r->key + 6);
        bool same = json_is_null(want) || (json_is_number(want) && json_is_number(is)
                                               ? json_number_value(want) == json_number_value(is)
                                               : json_equal(want, is));
        char *a = json_dumps(want, JSON_ENCODE_ANY),
             *b = is ? json_dumps(is, JSON_ENCODE_ANY) : NULL;
        if (!same) {
            s = ST_ERR(e, ST_EARG,
                       "%s: found %s, but the model in init=%s has %s; leave the key out",
                       st_set_place(set, r->key, place, sizeof place), a ? a : "?", set->init,
                       b ? b : "another value");
        }
        free(a);
        free(b);
        json_decref(want);
    }
    json_decref(config);
    return s;
}

/* A folder's tokenizer, or NULL if it has none. */
static st_status source_tokenizer(const char *dir, st_bpe **out, st_err *e)
{
    *out = NULL;
    return dir && st_bpe_there(dir) ? st_bpe_open(out, dir, e) : ST_OK;
}

/* The same model with the dropout of the settings, owned by the trainer, so that a caller's model
 * keeps its binding. */
static st_status source_adopt(st_trainer *t, const st_model *from, st_err *e)
{
    static const char *const drop[] = {"embd_pdrop", "attn_pdrop", "resid_pdrop"};
    json_t *config = st_model_config(from);
    for (int i = 0; i < 3 && !isnan(t->set->train.dropout); i++)
        json_object_set_new(config, drop[i], json_real(t->set->train.dropout));
    st_status s = st_model_open(&t->model, config, e);
    json_decref(config);
    assert(s || st_model_elements(t->model) == st_model_elements(from));
    if (!s) t->elements = st_model_elements(t->model);
    if (!s) t->parameters = st_model_counts(t->model).parameters;
    return s;
}

static st_status source_scratch(st_trainer *t, st_model **m, st_err *e)
{
    json_t *config = NULL;
    ST_TRY(source_tokenizer(t->set->data.dir, &t->own_tokenizer, e));
    t->tokenizer = t->own_tokenizer;
    st_status s = st_settings_model(t->set, t->tokenizer, &config, e);
    if (!s) s = st_model_open(m, config, e);
    if (s) st_config_called(e, "model");
    json_decref(config);
    return s;
}

static json_t *source_shape(const st_model *m)
{
    json_t *c = st_model_config(m);
    json_object_del(c, "embd_pdrop");
    json_object_del(c, "attn_pdrop");
    json_object_del(c, "resid_pdrop");
    return c;
}

/* A checkpoint must hold the model that the run trains (dropout apart). */
static st_status source_resumed(const st_trainer *t, const st_model *run, const st_model *ckpt,
                                st_err *e)
{
    json_t *a = source_shape(run), *b = source_shape(ckpt);
    bool same = json_equal(a, b);
    json_decref(a);
    json_decref(b);
    if (same) return ST_OK;
    ST_FAIL(
        e, ST_ESHAPE,
        "%s: holds another model than this run's (compare its config.json); choose another out=",
        t->resume);
}

static st_status source_flat(st_trainer *t, float *ready, st_err *e)
{
    t->flat = ready;
    if (!t->flat) t->flat = st_calloc(t->elements, sizeof *t->flat);
    if (t->flat) return ST_OK;
    ST_FAIL(e, ST_ENOMEM, "out of memory: %.1f MiB for the weights",
            (double)t->elements * 4.0 / 1048576.0);
}

static st_status source_remap(st_trainer *t, st_model **m, float **flat, st_err *e)
{
    json_t *maps = json_object();
    st_status s = st_settings_maps(t->set, st_model_globs(*m), maps, e);
    if (!s) s = st_source_remap(t, maps, m, flat, e);
    json_decref(maps);
    return s;
}

st_status st_trainer_shape(st_trainer *t, st_err *e)
{
    const st_settings *set = t->set;
    st_model *m = NULL;
    st_status s;
    if (strcmp(set->init, "scratch") == 0) {
        s = source_scratch(t, &m, e);
    } else {
        s = st_folder_look(set->init, NULL, &m, NULL, e);
        if (!s) s = st_need_language(m, set->init, "train", e);
        if (!s) s = source_same(set, m, e);
        if (!s) s = source_remap(t, &m, NULL, e);
    }
    if (!s) s = source_adopt(t, m, e);
    st_model_close(m);
    return s;
}

/* Model and weights: the caller's, a new one, or a folder's; from the checkpoint when resuming. */
st_status st_trainer_model(st_trainer *t, const st_train_opts *o, st_err *e)
{
    const st_settings *set = t->set;
    bool scratch = strcmp(set->init, "scratch") == 0;
    st_model *fresh = NULL, *saved = NULL;
    float *weights = NULL;
    st_bpe *tokenizer = NULL;
    st_status s = ST_OK;
    t->tokenizer = o->model ? o->tokenizer : NULL;
    if (t->resume)
        s = st_folder_read(t->resume, &saved, &weights, &tokenizer, e);
    else if (!o->model && !scratch)
        s = st_folder_read(set->init, &saved, &weights, &tokenizer, e);
    if (!s && !o->model && scratch) s = source_scratch(t, &fresh, e);
    if (!s && saved) s = st_need_language(saved, t->resume ? t->resume : set->init, "train", e);
    if (!s && !o->model && !scratch) s = source_same(set, saved, e);
    if (!s && !o->model && !scratch) s = source_remap(t, &saved, &weights, e);
    const st_model *run = o->model ? o->model : fresh ? fresh : saved;
    if (!s && t->resume && run != saved) s = source_resumed(t, run, saved, e);
    if (!s) s = source_adopt(t, run, e);
    t->own = !o->model;
    if (!s) s = source_flat(t, o->model ? o->flat : weights, e);
    if (!s && o->model && weights)
        memcpy(t->flat, weights, (size_t)t->elements * sizeof *weights);
    else if (!s && fresh && !weights)
        s = st_fresh_weights_by(t->model, (st_fresh_law)set->model.structured_init,
                                (uint64_t)set->seed, t->flat, e);
    if (!s && set->train.warmstart_path && !t->resume) s = st_warm_start(t, e);
    if (t->flat == weights) weights = NULL;
    if (!s && !t->tokenizer && tokenizer) {
        t->tokenizer = t->own_tokenizer = tokenizer;
        tokenizer = NULL;
    }
    st_bpe_close(tokenizer);
    st_model_close(fresh);
    st_model_close(saved);
    free(weights);
    return s;
}
