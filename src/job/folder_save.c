/* Writing model folders as Hugging Face's save_pretrained does for GPT-2: a dense model loads there
 * unchanged; a structured one has its factors under names of ours and "strut" in config.json. */
/* SPDX-License-Identifier: MIT */
#include "job/job.h"
#include <stdlib.h>
#include <string.h>

struct folder_store {
    const float *flat;
    st_dtype dtype;
    const st_param **param;
    st_store_item *item;
    char **name;
    int64_t n;
    bool nomem, stop; /* stop: when the user says so */
};

static void store_count(void *ctx, const st_param *p)
{
    (void)p;
    ++*(int64_t *)ctx;
}

static void store_param(void *ctx, const st_param *p)
{
    struct folder_store *l = ctx;
    bool head = strncmp(p->name, "lm_head.", 8) == 0, flip = p->flags & ST_P_FLIP;
    char *name;
    if (asprintf(&name, "%s%s", head ? "" : "transformer.", p->name) < 0) {
        l->nomem = true;
        name = NULL;
    }
    l->name[l->n] = name;
    l->param[l->n] = p;
    l->item[l->n] = (st_store_item){.name = name, .dtype = l->dtype, .ndim = p->w.ndim};
    for (int i = 0; i < p->w.ndim; i++) {
        l->item[l->n].dim[i] = p->w.dim[flip ? p->w.ndim - 1 - i : i];
    }
    l->n++;
}

/* data (in, out) = w (out, in)^T, in squares that stay in the cache. */
static void store_turned(void *data, st_dtype t, const float *w, int64_t out, int64_t in)
{
    enum { SQUARE = 32 };
    float strip[SQUARE];
    for (int64_t o0 = 0; o0 < out; o0 += SQUARE) {
        int64_t n = out - o0 < SQUARE ? out - o0 : SQUARE;
        for (int64_t i0 = 0; i0 < in; i0 += SQUARE) {
            for (int64_t i = i0; i < in && i < i0 + SQUARE; i++) {
                for (int64_t o = 0; o < n; o++)
                    strip[o] = w[(o0 + o) * in + i];
                st_convert((char *)data + (size_t)(i * out + o0) * st_dtype_size(t), t, strip,
                           ST_F32, n);
            }
        }
    }
}

static st_status store_fill(void *ctx, int64_t k, void *data, size_t bytes, st_err *e)
{
    const struct folder_store *l = ctx;
    const st_param *p = l->param[k];
    const float *w = l->flat + p->offset;
    if (l->stop && st_interrupted()) ST_FAIL(e, ST_EINTR, "interrupted; nothing was written");
    if (!(p->flags & ST_P_FLIP)) {
        st_convert(data, l->dtype, w, ST_F32, (int64_t)(bytes / st_dtype_size(l->dtype)));
        return ST_OK;
    }
    store_turned(data, l->dtype, w, p->w.dim[0], p->w.dim[1]);
    return ST_OK;
}

static st_status store_weights(const char *dir, const st_model *m, const float *flat,
                               st_dtype dtype, bool stop, st_err *e)
{
    struct folder_store l = {.flat = flat, .dtype = dtype, .stop = stop};
    int64_t n = 0;
    st_model_params(m, store_count, &n);
    char *path = st_path_join(dir, "model.safetensors");
    l.param = st_calloc(n, sizeof *l.param);
    l.item = st_calloc(n, sizeof *l.item);
    l.name = st_calloc(n, sizeof *l.name);
    st_status s = ST_OK;
    if (l.param && l.item && l.name) st_model_params(m, store_param, &l);
    if (!path || !l.param || !l.item || !l.name || l.nomem) {
        s = st_fail(e, ST_ENOMEM, __FILE__, __LINE__, "%s: out of memory", dir);
    }
    if (!s) s = st_safetensors_write(path, l.item, n, NULL, store_fill, &l, e);
    for (int64_t i = 0; i < l.n; i++)
        free(l.name[i]);
    free(l.name);
    free(l.item);
    free(l.param);
    free(path);
    return s;
}

static st_status store_json(const char *dir, const char *name, json_t *j, st_err *e)
{
    char *path = st_path_join(dir, name);
    st_status s = path && j ? st_write_json(path, j, e)
                            : st_fail(e, ST_ENOMEM, __FILE__, __LINE__, "%s: out of memory", dir);
    free(path);
    json_decref(j);
    return s;
}

static st_status store_files(const char *dir, const st_model *m, const float *flat, st_dtype dtype,
                             const st_bpe *tokenizer, bool stop, st_err *e)
{
    json_t *config = st_model_config(m), *generation = json_object();
    static const char *const keys[] = {"bos_token_id", "eos_token_id"};
    json_object_set_new(generation, "_from_model_config", json_true());
    for (int i = 0; i < 2; i++) {
        json_t *id = json_object_get(config, keys[i]);
        if (json_is_integer(id)) json_object_set(generation, keys[i], id);
    }
    json_object_set_new(config, "torch_dtype", json_string(st_dtype_name(dtype)));
    st_status s = store_json(dir, "config.json", config, e), t;
    t = store_json(dir, "generation_config.json", generation, s ? NULL : e);
    if (!s) s = t;
    if (!s) s = store_weights(dir, m, flat, dtype, stop, e);
    if (!s && tokenizer) s = st_bpe_save(tokenizer, dir, e);
    return s;
}

st_status st_folder_write(const char *dir, const st_model *m, const float *flat, st_dtype dtype,
                          const st_bpe *tokenizer, st_err *e)
{
    return store_files(dir, m, flat, dtype, tokenizer, false, e);
}

st_status st_folder_save(const char *dir, bool replace, const st_model *m, const float *flat,
                         st_dtype dtype, const st_bpe *tokenizer, st_err *e)
{
    st_outdir o = {0};
    ST_TRY(st_outdir_open(&o, dir, replace, e));
    st_status s = store_files(o.temp, m, flat, dtype, tokenizer, true, e);
    if (s && s != ST_EINTR)
        st_err_prefix(e, "%s", dir); /* the message names a file of the temporary folder */
    if (!s) s = st_outdir_commit(&o, e);
    st_outdir_discard(&o);
    return s;
}
