/* A model with fresh weights, by name or from a config.json. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "store/store.h"
#include <stdlib.h>
#include <string.h>

static st_status init_write(st_model *m, const st_bpe *tokenizer, const char *out,
                            const st_init_opts *o, st_err *e)
{
    if (tokenizer) ST_TRY(st_need_language(m, out, "a tokenizer", e));
    if (tokenizer && st_bpe_size(tokenizer) > st_model_lm(m).vocab) {
        ST_FAIL(e, ST_ESHAPE, "%s: the tokenizer has %lld tokens, the model's vocabulary %lld",
                o->tokenizer, (long long)st_bpe_size(tokenizer), (long long)st_model_lm(m).vocab);
    }
    int64_t n = st_model_elements(m);
    float *flat = st_calloc(n, sizeof *flat);
    if (!flat) {
        ST_FAIL(e, ST_ENOMEM, "out of memory: %.1f GiB for the weights",
                (double)n * 4.0 / 1073741824.0);
    }
    st_status s = st_fresh_weights_by(m, o->law, o->seed, flat, e);
    if (!s) s = st_folder_save(out, o->replace, m, flat, o->dtype, tokenizer, e);
    free(flat);
    return s;
}

/* What the options say about images, into the config. */
static st_status init_images(json_t *config, const char *source, const st_init_opts *o, st_err *e)
{
    const char *type = json_string_value(json_object_get(config, "model_type"));
    if (!o->image_size && !o->classes) return ST_OK;
    if (!type || strcmp(type, "t2t_vit") != 0) {
        ST_FAIL(e, ST_EARG, "%s: is no T2T-ViT; --image-size and --classes are for those", source);
    }
    if (o->image_size) json_object_set_new(config, "img_size", json_integer(o->image_size));
    if (o->classes) json_object_set_new(config, "num_classes", json_integer(o->classes));
    return ST_OK;
}

/* The model `source` with the chosen maps; no weights. */
static st_status init_open(st_model **out, const char *source, const st_init_opts *o, st_err *e)
{
    json_t *config = NULL;
    st_model *plain = NULL;
    const char **maps = NULL;
    int n = 0;
    st_status s = st_preset_join(o->preset, o->maps, o->nmaps, &maps, &n, e);
    if (!s) s = st_fresh_config(&config, source, e);
    if (!s) s = init_images(config, source, o, e);
    if (!s) s = st_model_open(&plain, config, e);
    json_decref(config);
    config = NULL;
    if (!s) s = st_model_remap(plain, maps, n, NULL, 0, &config, e);
    if (!s) s = st_model_open(out, config, e);
    if (s) st_config_called(e, source);
    json_decref(config);
    free(maps);
    st_model_close(plain);
    return s;
}

st_status st_init_model(const char *source, const char *out, const st_init_opts *o, json_t **result,
                        st_err *e)
{
    st_model *m = NULL;
    st_bpe *tokenizer = NULL;
    *result = NULL;
    const char *const reads[] = {source, o->tokenizer};
    st_status s = st_output_apart(out, reads, 2, e);
    if (!s) s = init_open(&m, source, o, e);
    if (!s && o->tokenizer) s = st_bpe_open(&tokenizer, o->tokenizer, e);
    if (!s) s = st_model_facts(m, "cpu", result, e);
    if (!s) s = init_write(m, tokenizer, out, o, e);
    if (!s) {
        json_object_set_new(*result, "out", st_json_text(out));
        json_object_set_new(*result, "seed", json_integer((json_int_t)o->seed));
        int64_t n = st_model_counts(m).parameters * (int64_t)st_dtype_size(o->dtype);
        json_object_set_new(*result, "bytes", json_integer(n));
        json_object_set_new(*result, "dtype", json_string(st_dtype_name(o->dtype)));
    } else {
        json_decref(*result);
        *result = NULL;
    }
    st_bpe_close(tokenizer);
    st_model_close(m);
    return s;
}
