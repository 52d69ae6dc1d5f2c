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

static json_t *source_shape(const st_model *m)
{
    json_t *c = st_model_config(m);
    json_object_del(c, "embd_pdrop");
    json_object_del(c, "attn_pdrop");
    json_object_del(c, "resid_pdrop");
    return c;
}

/* A checkpoint must hold the model that the run trains (dropout apart). */
static st_status source_resumed(const char *resume, const st_model *run, const st_model *ckpt,
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
        resume);
}

/* ---- what is found --------------------------------------------------------------------------- */

typedef struct {
    const st_settings *set;
    const st_train_opts *o; /* NULL: the model's shape alone is wanted */
    st_net *net;
    st_disk *disk;
    const st_model *run; /* what is trained: the caller's, or one of the next two */
    st_model *made, *read;
    float *weights; /* of `read`: of the checkpoint to go on from, else of the folder */
    st_bpe *tokenizer;
} source_found;

/* The same model with the dropout of the settings, owned by the trainer, so that a caller's model
 * keeps its binding. */
static st_status source_adopt(source_found *f, st_err *e)
{
    static const char *const drop[] = {"embd_pdrop", "attn_pdrop", "resid_pdrop"};
    st_net *n = f->net;
    json_t *config = st_model_config(f->run);
    for (int i = 0; i < 3 && !isnan(f->set->train.dropout); i++)
        json_object_set_new(config, drop[i], json_real(f->set->train.dropout));
    st_status s = st_model_open(&n->model, config, e);
    json_decref(config);
    if (s) return s;
    n->elements = st_model_elements(n->model);
    n->parameters = st_model_counts(n->model).parameters;
    assert(n->elements == st_model_elements(f->run));
    return ST_OK;
}

/* ---- the table ------------------------------------------------------------------------------- */

typedef struct {
    bool (*is)(const source_found *f);
    /* Sets f->run; of a run that goes on, f->read is the checkpoint's model already. */
    st_status (*model)(source_found *f, st_err *e);
    /* Draws the weights of a run that begins into net->flat; NULL: they were read or given. */
    st_status (*weights)(const source_found *f, st_err *e);
} source;

static bool source_is_callers(const source_found *f)
{
    return f->o && f->o->model;
}

static st_status source_callers(source_found *f, st_err *e)
{
    (void)e;
    f->run = f->o->model;
    f->disk->tokenizer = f->o->tokenizer;
    f->net->flat = f->o->flat;
    return ST_OK;
}

static bool source_is_scratch(const source_found *f)
{
    return strcmp(f->set->init, "scratch") == 0;
}

static st_status source_scratch(source_found *f, st_err *e)
{
    json_t *config = NULL;
    st_disk *disk = f->disk;
    ST_TRY(source_tokenizer(f->set->data.dir, &disk->own_tokenizer, e));
    disk->tokenizer = disk->own_tokenizer;
    st_status s = st_settings_model(f->set, disk->tokenizer, &config, e);
    if (!s) s = st_model_open(&f->made, config, e);
    if (s) st_config_called(e, "model");
    json_decref(config);
    f->run = f->made;
    return s;
}

static st_status source_fresh(const source_found *f, st_err *e)
{
    return st_fresh_weights_by(f->net->model, (st_fresh_law)f->set->model.structured_init,
                               (uint64_t)f->set->seed, f->net->flat, e);
}

static bool source_is_folder(const source_found *f)
{
    (void)f;
    return true;
}

static st_status source_remap(source_found *f, st_err *e)
{
    json_t *maps = json_object();
    st_status s = st_settings_maps(f->set, st_model_globs(f->read), maps, e);
    if (!s)
        s = st_source_remap(f->set, f->disk->resume, maps, &f->read, f->o ? &f->weights : NULL, e);
    json_decref(maps);
    return s;
}

/* A run that goes on has the folder's model in its checkpoint. */
static st_status source_folder(source_found *f, st_err *e)
{
    const char *dir = f->set->init;
    if (!f->o) {
        ST_TRY(st_folder_look(dir, NULL, &f->read, NULL, e));
        ST_TRY(st_need_language(f->read, dir, "train", e));
        ST_TRY(st_need_floats(f->read, dir, e));
    } else if (!f->read) {
        ST_TRY(
            st_source_folder(f->set, NULL, dir, "train", &f->read, &f->weights, &f->tokenizer, e));
    }
    ST_TRY(source_same(f->set, f->read, e));
    ST_TRY(source_remap(f, e));
    f->run = f->read;
    return ST_OK;
}

/* The first row that is it. */
static const source sources[] = {{source_is_callers, source_callers, NULL},
                                 {source_is_scratch, source_scratch, source_fresh},
                                 {source_is_folder, source_folder, NULL}};

static const source *source_of(const source_found *f)
{
    const source *from = sources;
    while (!from->is(f))
        from++;
    return from;
}

/* Host memory for the weights, and those that were read in it. */
static st_status source_flat(source_found *f, st_err *e)
{
    st_net *n = f->net;
    n->own = !f->o->model;
    if (n->own) {
        n->flat = f->weights ? f->weights : st_calloc(n->elements, sizeof *n->flat);
        f->weights = NULL;
    } else if (f->weights) {
        memcpy(n->flat, f->weights, (size_t)n->elements * sizeof *n->flat);
    }
    if (n->flat) return ST_OK;
    ST_FAIL(e, ST_ENOMEM, "out of memory: %.1f MiB for the weights",
            (double)n->elements * 4.0 / 1048576.0);
}

static st_status source_find(source_found *f, st_err *e)
{
    const source *from = source_of(f);
    const char *resume = f->disk->resume;
    if (resume)
        ST_TRY(st_source_folder(f->set, NULL, resume, "train", &f->read, &f->weights, &f->tokenizer,
                                e));
    ST_TRY(from->model(f, e));
    if (f->read && f->run != f->read) ST_TRY(source_resumed(resume, f->run, f->read, e));
    ST_TRY(source_adopt(f, e));
    if (!f->o) return ST_OK;
    ST_TRY(source_flat(f, e));
    if (f->disk->tokenizer) return ST_OK;
    f->disk->tokenizer = f->disk->own_tokenizer = f->tokenizer;
    f->tokenizer = NULL;
    return ST_OK;
}

static st_status source_run(source_found *f, st_err *e)
{
    st_status s = source_find(f, e);
    st_bpe_close(f->tokenizer);
    st_model_close(f->made);
    st_model_close(f->read);
    free(f->weights);
    return s;
}

st_status st_source_open(const st_train_opts *o, st_net *n, st_disk *disk, st_err *e)
{
    return source_run(&(source_found){.set = o->set, .o = o, .net = n, .disk = disk}, e);
}

st_status st_source_begin(const st_train_opts *o, st_net *n, st_disk *disk, st_err *e)
{
    const source_found f = {.set = o->set, .o = o, .net = n, .disk = disk};
    const source *from = source_of(&f);
    if (disk->resume) return ST_OK;
    if (from->weights && !o->dry) ST_TRY(from->weights(&f, e));
    return o->set->train.warmstart_path ? st_warm_start(o->set, n, &disk->warm, e) : ST_OK;
}

st_status st_source_shape(const st_settings *set, st_net *n, st_disk *disk, st_err *e)
{
    return source_run(&(source_found){.set = set, .net = n, .disk = disk}, e);
}

st_status st_source_folder(const st_settings *set, const char *key, const char *dir,
                           const char *what, st_model **m, float **flat, st_bpe **tokenizer,
                           st_err *e)
{
    char place[256];
    st_status s = st_folder_read(dir, m, flat, tokenizer, e);
    if (!s && what) s = st_need_language(*m, dir, what, e);
    if (s && key) st_err_prefix(e, "%s", st_set_place(set, key, place, sizeof place));
    return s;
}
