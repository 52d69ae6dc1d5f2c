/* What stands beside a vocabulary: the companions of older tokenizers (added_tokens.json,
 * special_tokens_map.json), tokenizer_config.json, and the ids of config.json. They add tokens, and
 * say which begins, ends and pads a text. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "text/bpe.h"
#include <stdlib.h>
#include <string.h>

enum { BESIDE_MOST = 1 << 24 };

/* The JSON object of a file in `dir`; *out NULL: it is not there. */
static st_status beside_load(const char *dir, const char *name, json_t **out, st_err *e)
{
    *out = NULL;
    char *path = st_path_join(dir, name);
    if (!path) return ST_NOMEM(e, dir);
    st_status s = st_path_exists(path) ? st_json_load(out, path, BESIDE_MOST, e) : ST_OK;
    if (!s && *out && !json_is_object(*out)) {
        s = ST_ERR(e, ST_EFORMAT, "%s: expected a JSON object", path);
        json_decref(*out);
        *out = NULL;
    }
    free(path);
    return s;
}

/* A token is its text, or an object with a content. */
static const char *beside_text(const json_t *token)
{
    const char *text = json_string_value(token);
    return text ? text : json_string_value(json_object_get(token, "content"));
}

static bool beside_has(const json_t *list, const char *text)
{
    const json_t *entry;
    size_t i;
    json_array_foreach(list, i, entry)
    {
        const char *content = json_string_value(json_object_get(entry, "content"));
        if (content && strcmp(content, text) == 0) return true;
    }
    return false;
}

/* Is it one of the special tokens that a map names? */
static bool beside_special(const json_t *map, const char *text)
{
    const char *role;
    json_t *token;
    json_object_foreach((json_t *)(uintptr_t)map, role, token)
    {
        const json_t *one;
        size_t i;
        const char *is = beside_text(token);
        if (is && strcmp(is, text) == 0) return true;
        json_array_foreach(token, i, one)
        {
            is = beside_text(one);
            if (is && strcmp(is, text) == 0) return true;
        }
    }
    return false;
}

/* Adds {"id": ..., "content": ...} to the list unless it has that text. */
static void beside_add(json_t *list, const char *text, json_int_t id, const json_t *like,
                       bool special)
{
    if (beside_has(list, text)) return;
    json_t *token = like ? json_copy((json_t *)(uintptr_t)like) : json_object();
    json_object_set_new(token, "content", json_string(text));
    json_object_set_new(token, "id", json_integer(id));
    if (!like) {
        json_object_set_new(token, "special", json_boolean(special));
        json_object_set_new(token, "normalized", json_boolean(!special));
    }
    json_array_append_new(list, token);
}

/* Tokens of the companions that `added` (of tokenizer.json, or empty) has not. */
static void beside_tokens(const st_bpe_beside *x, json_t *added)
{
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(x->config, "added_tokens_decoder"), key, value)
    {
        const char *text = beside_text(value);
        if (text) beside_add(added, text, strtoll(key, NULL, 10), value, false);
    }
    json_object_foreach(x->added, key, value)
    {
        bool special = beside_special(x->map, key) || beside_special(x->config, key);
        if (json_is_integer(value))
            beside_add(added, key, json_integer_value(value), NULL, special);
    }
}

st_status st_bpe_beside_open(st_bpe_beside *x, const char *dir, json_t *added, st_err *e)
{
    *x = (st_bpe_beside){0};
    st_status s = beside_load(dir, "tokenizer_config.json", &x->config, e);
    if (!s) s = beside_load(dir, "special_tokens_map.json", &x->map, e);
    if (!s) s = beside_load(dir, "added_tokens.json", &x->added, e);
    if (!s) s = beside_load(dir, "config.json", &x->model, e);
    if (!s) beside_tokens(x, added);
    return s;
}

void st_bpe_beside_close(st_bpe_beside *x)
{
    json_decref(x->config);
    json_decref(x->map);
    json_decref(x->added);
    json_decref(x->model);
    *x = (st_bpe_beside){0};
}

/* The chat template: a text, or the one named "default" (else the first) of a list. */
static const char *beside_chat(const json_t *config)
{
    const json_t *chat = json_object_get(config, "chat_template"), *item;
    const char *first = json_string_value(chat);
    size_t i;
    json_array_foreach(chat, i, item)
    {
        const char *name = json_string_value(json_object_get(item, "name")),
                   *text = json_string_value(json_object_get(item, "template"));
        if (text && (!first || (name && !strcmp(name, "default")))) first = text;
    }
    return first;
}

void st_bpe_beside_roles(const st_bpe_beside *x, st_bpe *b)
{
    static const char *const role[ST_BPE_ROLES] = {"bos_token", "eos_token", "pad_token",
                                                   "unk_token"};
    static const char *const model[ST_BPE_ROLES] = {"bos_token_id", "eos_token_id"};
    for (int i = 0; i < ST_BPE_ROLES; i++) {
        const char *text = beside_text(json_object_get(x->config, role[i]));
        if (!text) text = beside_text(json_object_get(x->map, role[i]));
        if (text) b->role[i] = st_bpe_named(b, text, strlen(text));
        const json_t *id = model[i] ? json_object_get(x->model, model[i]) : NULL;
        if (!text && json_is_integer(id) && json_integer_value(id) >= 0 &&
            json_integer_value(id) < b->n)
            b->role[i] = (int32_t)json_integer_value(id);
    }
    const char *chat = beside_chat(x->config);
    if (chat && !b->chat) b->chat = strdup(chat);
}
