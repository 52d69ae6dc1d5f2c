/* Writing model folders as Hugging Face's save_pretrained does for GPT-2: a dense model loads there
 * unchanged; a structured one has its factors under names of ours and "strut" in config.json, and
 * loads there with the code that can be put beside it. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "store/export.h"
#include "store/store.h"
#include <stdlib.h>
#include <string.h>

static st_status save_json(const char *dir, const char *name, json_t *j, st_err *e)
{
    char *path = st_path_join(dir, name);
    st_status s = path && j ? st_write_json(path, j, e) : ST_NOMEM(e, dir);
    free(path);
    json_decref(j);
    return s;
}

/* ---- weights --------------------------------------------------------------------------------- */

static st_status save_file(const char *dir, const char *name, st_export *x, int64_t first,
                           int64_t n, st_err *e)
{
    char *path = st_path_join(dir, name);
    if (!path) return ST_NOMEM(e, dir);
    x->first = first;
    st_status s = st_safetensors_write(path, x->item + first, n, NULL, st_export_fill, x, e);
    free(path);
    return s;
}

/* Items of the shard that begins at `first`: one at least, then while they fit. */
static int64_t save_take(const st_export *x, int64_t first, int64_t limit)
{
    int64_t n = 1;
    while (first + n < x->n && st_export_bytes(x, first, n + 1) <= limit)
        n++;
    return n;
}

static st_status save_shards(const char *dir, st_export *x, int64_t limit, st_err *e)
{
    int64_t files = 0, file = 0;
    char name[64];
    json_t *map = json_object();
    st_status s = ST_OK;
    for (int64_t i = 0; i < x->n; files++)
        i += save_take(x, i, limit);
    for (int64_t i = 0, n; !s && i < x->n; i += n) {
        n = save_take(x, i, limit);
        snprintf(name, sizeof name, "model-%05lld-of-%05lld.safetensors", (long long)++file,
                 (long long)files);
        for (int64_t k = i; k < i + n; k++)
            json_object_set_new(map, x->item[k].name, json_string(name));
        s = save_file(dir, name, x, i, n, e);
    }
    json_t *index = json_pack("{s:{s:I}, s:o}", "metadata", "total_size",
                              (json_int_t)st_export_bytes(x, 0, x->n), "weight_map", map);
    st_status t = save_json(dir, "model.safetensors.index.json", index, s ? NULL : e);
    return s ? s : t;
}

static st_status save_weights(const char *dir, const st_model *m, const float *flat,
                              const st_folder_how *how, st_err *e)
{
    st_export x;
    ST_TRY(
        st_export_open(&x, m, flat, how->dtype, how->code ? &st_export_hf : &st_export_strut, e));
    x.stop = how->stop;
    x.what = how->what;
    bool one = !how->shard_bytes || st_export_bytes(&x, 0, x.n) <= how->shard_bytes;
    st_status s = one ? save_file(dir, "model.safetensors", &x, 0, x.n, e)
                      : save_shards(dir, &x, how->shard_bytes, e);
    st_export_close(&x);
    return s;
}

/* ---- files ----------------------------------------------------------------------------------- */

static st_status save_config(const char *dir, const st_model *m, const st_folder_how *how,
                             st_err *e)
{
    json_t *config = st_model_config(m), *generation = json_object();
    bool vision = st_model_is_vision(m);
    static const char *const keys[] = {"bos_token_id", "eos_token_id"};
    json_object_set_new(generation, "_from_model_config", json_true());
    for (int i = 0; i < 2; i++) {
        json_t *id = json_object_get(config, keys[i]);
        if (id && !json_is_null(id)) json_object_set(generation, keys[i], id);
    }
    json_object_set_new(config, "torch_dtype", json_string(st_dtype_name(how->dtype)));
    if (how->code) {
        /* not its own: transformers' own class of that name would make up the structured matrices
         */
        /* "StrutLlamaForCausalLM" for "LlamaForCausalLM"; GPT-2's was the first and has no part */
        char type[64], class[80], auto_config[96], auto_model[96];
        json_t *list = json_object_get(config, "architectures");
        const char *of = json_string_value(json_array_get(list, 0)),
                   *end = strstr(of, "ForCausalLM");
        int n = end ? (int)(end - of) : 0;
        snprintf(type, sizeof type, "strut_%s",
                 json_string_value(json_object_get(config, "model_type")));
        snprintf(class, sizeof class, "Strut%.*sForCausalLM", n, of);
        snprintf(auto_config, sizeof auto_config, "modeling_strut.Strut%.*sConfig", n, of);
        snprintf(auto_model, sizeof auto_model, "modeling_strut.%s", class);
        json_object_set_new(config, "model_type", json_string(type));
        json_object_set_new(config, "architectures", json_pack("[s]", class));
        json_object_set_new(
            config, "auto_map",
            json_pack("{s:s, s:s}", "AutoConfig", auto_config, "AutoModelForCausalLM", auto_model));
    }
    st_status s = save_json(dir, "config.json", config, e), t;
    if (vision) {
        json_decref(generation);
        return s;
    }
    t = save_json(dir, "generation_config.json", generation, s ? NULL : e);
    return s ? s : t;
}

/* A class that is of type NAME begins with "class X(StrutMap, type="NAME"):". */
static bool code_has(const st_map_type *type)
{
    char first[64];
    snprintf(first, sizeof first, "(StrutMap, type=\"%s\"):", type->name);
    return strstr(st_modeling_strut, first) != NULL;
}

typedef struct {
    st_status status;
    st_err *e;
} code_walk;

static void code_matrix(void *ctx, const char *name, const st_spec *spec)
{
    code_walk *w = ctx;
    const st_map_type *lacks = NULL;
    for (int i = 0; i < ST_PARTS && spec->part[i].type; i++)
        if (!code_has(spec->part[i].type)) lacks = spec->part[i].type;
    if (!spec->part[0].type && !code_has(spec->type)) lacks = spec->type;
    if (w->status || !lacks) return;
    w->status =
        ST_ERR(w->e, ST_EUNSUPPORTED,
               "%s: is of type %s, for which modeling_strut.py has no class, so transformers "
               "could not load it; --to hf makes it dense, --to strut keeps it",
               name, lacks->name);
}

st_status st_modeling_fits(const st_model *m, st_err *e)
{
    code_walk w = {.e = e};
    st_model_matrices(m, code_matrix, &w);
    return w.status;
}

static st_status save_code(const char *dir, st_err *e)
{
    char *path = st_path_join(dir, "modeling_strut.py");
    if (!path) return ST_NOMEM(e, dir);
    st_status s = st_write_file(path, st_modeling_strut, strlen(st_modeling_strut), e);
    free(path);
    return s;
}

st_status st_folder_put(const char *dir, const st_model *m, const float *flat,
                        const st_folder_how *how, st_err *e)
{
    if (how->code) ST_TRY(st_modeling_fits(m, e));
    ST_TRY(save_config(dir, m, how, e));
    ST_TRY(save_weights(dir, m, flat, how, e));
    if (how->code) ST_TRY(save_code(dir, e));
    return how->tokenizer ? st_bpe_save(how->tokenizer, dir, e) : ST_OK;
}

st_status st_folder_write(const char *dir, const st_model *m, const float *flat, st_dtype dtype,
                          const st_bpe *tokenizer, st_err *e)
{
    return st_folder_put(dir, m, flat, &(st_folder_how){.dtype = dtype, .tokenizer = tokenizer}, e);
}

/* What files of a model folder are called, other programs' included. */
const char *const st_folder_over[] = {"config.json",
                                      "generation_config.json",
                                      "*.safetensors",
                                      "*.safetensors.index.json",
                                      "pytorch_model*.bin",
                                      "pytorch_model.bin.index.json",
                                      "modeling_*.py",
                                      "configuration_*.py",
                                      "README.md",
                                      ST_BPE_FILES,
                                      NULL};

st_status st_folder_save(const char *dir, bool replace, const st_model *m, const float *flat,
                         st_dtype dtype, const st_bpe *tokenizer, st_err *e)
{
    st_outdir o = {0};
    st_folder_how how = {.dtype = dtype, .tokenizer = tokenizer, .stop = true};
    ST_TRY(st_outdir_open(&o, dir, replace ? st_folder_over : NULL, e));
    st_status s = st_folder_put(o.temp, m, flat, &how, e);
    if (s && s != ST_EINTR)
        st_err_prefix(e, "%s", dir); /* the message names a file of the temporary folder */
    if (!s) s = st_outdir_commit(&o, e);
    st_outdir_discard(&o);
    return s;
}
