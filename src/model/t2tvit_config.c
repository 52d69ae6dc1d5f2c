/* The config.json of a T2T-ViT folder: keys of ours, named as the original's constructor names its
 * arguments (doc/FORMATS). The format is ours alone, so that an unknown key is a mistake. */
/* SPDX-License-Identifier: MIT */
#include "model/inner.h"
#include <float.h>
#include <math.h>
#include <string.h>

static const char *const file = "config.json";

/* Far above any T2T-ViT, low enough that products of a few of them do not overflow. */
enum {
    MAX_SIZE = 1 << 13,
    MAX_CHANNELS = 1 << 10,
    MAX_CLASSES = 1 << 24,
    MAX_WIDTH = 1 << 20,
    MAX_INNER = 1 << 22,
    MAX_LAYERS = 1024,
    PATCH = 16 /* pixels between tokens: 4 x 2 x 2 */
};

static const char *const t2t_keys[] = {"architectures",
                                       "depth",
                                       "embed_dim",
                                       "img_size",
                                       "in_chans",
                                       "layer_norm_eps",
                                       "mlp_dim",
                                       "model_type",
                                       "num_classes",
                                       "num_heads",
                                       "performer_features",
                                       "qk_scale",
                                       "qkv_bias",
                                       "strut",
                                       "token_dim",
                                       "tokens_type",
                                       "torch_dtype",
                                       "initializer_range",
                                       "id2label",
                                       "label2id",
                                       NULL};

static st_status config_keys(const json_t *config, st_err *e)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)config, key, value)
    {
        bool known = false;
        for (int i = 0; t2t_keys[i]; i++)
            known |= strcmp(key, t2t_keys[i]) == 0;
        if (known) continue;
        const char *near = st_nearest(key, t2t_keys);
        ST_FAIL(e, ST_EFORMAT, "%s: unknown key '%.80s' of a t2t_vit%s%s", file, key,
                near ? "; did you mean " : "", near ? near : "");
    }
    return ST_OK;
}

static st_status config_tokens(st_t2tvit_config *c, const json_t *config, st_err *e)
{
    static const char *const kinds[] = {"performer", "transformer", NULL};
    const char *kind = "";
    ST_TRY(st_json_str(config, "tokens_type", &kind, file, e));
    c->performer = strcmp(kind, kinds[0]) == 0;
    if (!c->performer && strcmp(kind, kinds[1]) != 0) {
        const char *near = st_nearest(kind, kinds);
        ST_FAIL(e, *kind ? ST_EUNSUPPORTED : ST_EFORMAT,
                "%s: tokens_type is '%.40s', expected performer or transformer%s%s%s", file, kind,
                near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    }
    ST_TRY(st_json_int(config, "token_dim", 1, MAX_WIDTH, &c->token_dim, file, e));
    if (!c->performer && json_object_get(config, "performer_features")) {
        ST_FAIL(e, ST_EFORMAT, "%s: performer_features is set, but tokens_type is transformer",
                file);
    }
    c->features = c->token_dim / 2 > 0 ? c->token_dim / 2 : 1;
    return st_json_int(config, "performer_features", 1, MAX_WIDTH, &c->features, file, e);
}

st_status st_t2tvit_config_read(st_t2tvit_config *c, const json_t *config, st_err *e)
{
    *c = (st_t2tvit_config){.size = 224,
                            .channels = 3,
                            .classes = 1000,
                            .token_dim = 64,
                            .qk_scale = 0,
                            .eps = 1e-5,
                            .init = 0.02};
    ST_TRY(config_keys(config, e));
    ST_TRY(config_tokens(c, config, e));
    ST_TRY(st_json_int(config, "img_size", PATCH, MAX_SIZE, &c->size, file, e));
    if (c->size % PATCH) {
        ST_FAIL(e, ST_EFORMAT, "%s: img_size is %lld, expected a multiple of %d", file,
                (long long)c->size, PATCH);
    }
    ST_TRY(st_json_int(config, "in_chans", 1, MAX_CHANNELS, &c->channels, file, e));
    ST_TRY(st_json_int(config, "num_classes", 1, MAX_CLASSES, &c->classes, file, e));
    ST_TRY(st_json_int(config, "embed_dim", 1, MAX_WIDTH, &c->width, file, e));
    ST_TRY(st_json_int(config, "depth", 1, MAX_LAYERS, &c->layers, file, e));
    ST_TRY(st_json_int(config, "num_heads", 1, MAX_WIDTH, &c->heads, file, e));
    ST_TRY(st_json_int(config, "mlp_dim", 1, MAX_INNER, &c->inner, file, e));
    static const char *const needed[] = {"embed_dim", "depth", "num_heads", "mlp_dim"};
    int64_t found[] = {c->width, c->layers, c->heads, c->inner};
    for (int i = 0; i < 4; i++) {
        if (found[i] == 0) ST_FAIL(e, ST_EFORMAT, "%s: no key %s", file, needed[i]);
    }
    if (c->width % c->heads) {
        ST_FAIL(e, ST_EFORMAT, "%s: num_heads is %lld, expected a divisor of embed_dim = %lld",
                file, (long long)c->heads, (long long)c->width);
    }
    ST_TRY(st_json_flag(config, "qkv_bias", &c->qkv_bias, file, e));
    ST_TRY(st_json_num(config, "qk_scale", 0.0, 1e6, &c->qk_scale, file, e));
    ST_TRY(st_json_num(config, "layer_norm_eps", 0.0, DBL_MAX, &c->eps, file, e));
    return st_json_num(config, "initializer_range", 0.0, 10.0, &c->init, file, e);
}

json_t *st_t2tvit_config_json(const st_t2tvit_config *c)
{
    json_t *config = json_pack(
        "{s:[s], s:s, s:I, s:I, s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:b, s:o, s:f, s:f}",
        "architectures", "T2T_ViT", "model_type", "t2t_vit", "img_size", (json_int_t)c->size,
        "in_chans", (json_int_t)c->channels, "num_classes", (json_int_t)c->classes, "tokens_type",
        c->performer ? "performer" : "transformer", "token_dim", (json_int_t)c->token_dim,
        "embed_dim", (json_int_t)c->width, "depth", (json_int_t)c->layers, "num_heads",
        (json_int_t)c->heads, "mlp_dim", (json_int_t)c->inner, "qkv_bias", c->qkv_bias, "qk_scale",
        c->qk_scale > 0 ? json_real(c->qk_scale) : json_null(), "layer_norm_eps", c->eps,
        "initializer_range", c->init);
    if (config && c->performer)
        json_object_set_new(config, "performer_features", json_integer(c->features));
    return config;
}
