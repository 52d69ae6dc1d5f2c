/* The model that the settings of a run describe. */
/* SPDX-License-Identifier: MIT */
#include "store/store.h"
#include <string.h>

/* The maps of model.map_preset. */
static st_status described_preset(const st_settings *set, json_t *maps, st_err *e)
{
    const st_preset *p = NULL;
    char place[256];
    if (!set->model.map_preset) return ST_OK;
    st_status s = st_preset_find(&p, set->model.map_preset, e);
    if (s) st_err_prefix(e, "%s", st_set_place(set, "model.map_preset", place, sizeof place));
    for (int i = 0; p && i < ST_PRESET_MAPS && p->maps[i]; i++) {
        size_t n = strcspn(p->maps[i], "=");
        json_object_setn_new_nocheck(maps, p->maps[i], n, st_json_text(p->maps[i] + n + 1));
    }
    return s;
}

st_status st_settings_maps(const st_settings *set, st_globs globs, json_t *maps, st_err *e)
{
    const char *glob;
    json_t *spec;
    ST_TRY(described_preset(set, maps, e));
    if (set->model.mlp_map) json_object_set_new(maps, globs.mlp, st_json_text(set->model.mlp_map));
    if (set->model.attn_map)
        json_object_set_new(maps, globs.attention, st_json_text(set->model.attn_map));
    json_object_foreach(set->model.map, glob, spec)
    {
        json_object_del(maps, glob); /* it goes to the end */
        json_object_set(maps, glob, spec);
    }
    return ST_OK;
}

/* What a key of GPT-2's is called in the config.json of a Llama-shaped model; NULL: it has none. */
static const char *described_llama(const char *key)
{
    static const char *const names[][2] = {{"n_layer", "num_hidden_layers"},
                                           {"n_head", "num_attention_heads"},
                                           {"n_kv_head", "num_key_value_heads"},
                                           {"n_embd", "hidden_size"},
                                           {"n_inner", "intermediate_size"},
                                           {"n_positions", "max_position_embeddings"},
                                           {"vocab_size", "vocab_size"},
                                           {"layer_norm_epsilon", "rms_norm_eps"},
                                           {"initializer_range", "initializer_range"},
                                           {"tie_word_embeddings", "tie_word_embeddings"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(key, names[i][0]) == 0) return names[i][1];
    return NULL;
}

/* config.json of a new model: the preset with the model.* keys that are set. */
st_status st_settings_model(const st_settings *set, const st_bpe *tokenizer, json_t **out,
                            st_err *e)
{
    ST_TRY(st_fresh_config(out, set->model.preset, e));
    if (tokenizer) {
        json_object_set_new(*out, "vocab_size", json_integer(st_bpe_size(tokenizer)));
        json_object_set_new(*out, "eos_token_id", json_integer(st_bpe_eos(tokenizer)));
        json_object_set_new(*out, "bos_token_id", json_integer(st_bpe_bos(tokenizer)));
    }
    json_t *maps = json_object();
    st_status s = st_settings_maps(set, st_config_globs(*out), maps, e);
    if (json_object_size(maps) > 0)
        json_object_set_new(*out, "strut", json_pack("{s:i, s:O}", "format", 1, "maps", maps));
    json_decref(maps);
    for (int i = 0; i < st_set_count(); i++) {
        const set_row *r = &st_set_rows[i];
        if (strncmp(r->key, "model.", 6) != 0 || !(r->flags & SET_NULL)) continue;
        json_t *v =
            r->kind == SET_MAPS || strstr(r->key, ".map") ? json_null() : st_set_value(set, r);
        const char *key = json_object_get(*out, "num_hidden_layers") ? described_llama(r->key + 6)
                          : strcmp(r->key, "model.n_kv_head") == 0   ? NULL
                                                                     : r->key + 6;
        bool given = !json_is_null(v);
        if (given && key) json_object_set(*out, key, v);
        json_decref(v);
        if (given && !key && !s)
            s = ST_ERR(e, ST_EARG, "%s: %s has no such key", r->key, set->model.preset);
    }
    return s;
}
