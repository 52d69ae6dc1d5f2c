/* Hugging Face's tokenizer.json: which models are a BPE, and writing it. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "text/bpe.h"
#include <stdlib.h>
#include <string.h>

/* ---- reading --------------------------------------------------------------------------------- */

static bool hf_absent(const json_t *v)
{
    return !v || json_is_null(v);
}

st_status st_bpe_check_model(const json_t *model, const char *what, st_err *e)
{
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    if (!json_is_object(model)) {
        ST_FAIL(e, ST_EFORMAT, "%s: no \"model\"; is this a tokenizer.json?", what);
    }
    const char *type = st_flow_type(model);
    if (json_object_get(model, "type") && strcmp(type, "BPE")) {
        ST_FAIL(e, ST_EUNSUPPORTED, "%s: model.type is %.40s, only BPE can be used", what, type);
    }
    for (int i = 0; i < 2; i++) {
        const json_t *v = json_object_get(model, affixes[i]);
        if (hf_absent(v) || (json_is_string(v) && !json_string_length(v))) continue;
        ST_FAIL(e, ST_EUNSUPPORTED, "%s: model.%s is set, which cannot be used", what, affixes[i]);
    }
    const json_t *dropout = json_object_get(model, "dropout");
    if (!hf_absent(dropout) && json_number_value(dropout) != 0) {
        ST_FAIL(e, ST_EUNSUPPORTED, "%s: model.dropout is %g: random merges, expected none", what,
                json_number_value(dropout));
    }
    return ST_OK;
}

/* ---- writing --------------------------------------------------------------------------------- */

char *st_bpe_name(const st_bpe *b, int32_t id, size_t *n)
{
    const char *bytes = b->bytes + b->start[id];
    size_t len = b->start[id + 1] - b->start[id];
    char *name = malloc(2 * len + 8);
    if (!name) return NULL;
    *n = len;
    if (b->flags[id] & ST_BPE_BYTE)
        *n = (size_t)snprintf(name, 8, "<0x%02X>", (uint8_t)bytes[0]);
    else if (b->flags[id] & ST_BPE_RAW)
        memcpy(name, bytes, len);
    else
        *n = st_bpe_spell(bytes, len, name);
    name[*n] = '\0';
    return name;
}

/* name -> id; NULL when out of memory. */
static json_t *hf_vocab(const st_bpe *b)
{
    json_t *vocab = json_object();
    for (int32_t id = 0; vocab && id < b->n; id++) {
        size_t n = 0;
        char *name = st_bpe_name(b, id, &n);
        bool extra = b->flow && b->flags[id] & ST_BPE_EXTRA;
        if (!name || (!extra && json_object_setn_new(vocab, name, n, json_integer(id)))) {
            json_decref(vocab);
            vocab = NULL;
        }
        free(name);
    }
    return vocab;
}

/* A merge as "left right", or as a pair where a name has a space in it. */
static json_t *hf_merge(const char *left, size_t ln, const char *right, size_t rn)
{
    if (memchr(left, ' ', ln) || memchr(right, ' ', rn))
        return json_pack("[s%, s%]", left, ln, right, rn);
    char *both = malloc(ln + rn + 1);
    if (!both) return NULL;
    memcpy(both, left, ln);
    both[ln] = ' ';
    memcpy(both + ln + 1, right, rn);
    json_t *merge = json_stringn(both, ln + rn + 1);
    free(both);
    return merge;
}

/* Each merge: as a list, and as the text of merges.txt. */
static json_t *hf_merges(const st_bpe *b, FILE *text)
{
    json_t *list = json_array();
    fputs("#version: 0.2\n", text);
    for (int64_t r = 0; list && r < b->n_merges; r++) {
        size_t ln, rn;
        char *left = st_bpe_name(b, b->merge[r].left, &ln),
             *right = st_bpe_name(b, b->merge[r].right, &rn);
        if (!left || !right || json_array_append_new(list, hf_merge(left, ln, right, rn))) {
            json_decref(list);
            list = NULL;
        } else {
            fprintf(text, "%s %s\n", left, right);
        }
        free(left);
        free(right);
    }
    return list;
}

static json_t *hf_added(const st_bpe *b)
{
    json_t *list = json_array();
    for (int32_t id = 0; list && id < b->n; id++) {
        int f = b->flags[id];
        if (!(f & (ST_BPE_SPECIAL | ST_BPE_ADDED))) continue;
        size_t n = 0;
        char *name = st_bpe_name(b, id, &n);
        json_t *token = json_pack("{s:i, s:s%, s:b, s:b, s:b, s:b, s:b}", "id", id, "content",
                                  name ? name : "", n, "single_word", f & ST_BPE_WORD, "lstrip",
                                  f & ST_BPE_LEFT, "rstrip", f & ST_BPE_RIGHT, "normalized",
                                  !(f & ST_BPE_LITERAL), "special", f & ST_BPE_SPECIAL);
        if (!name || json_array_append_new(list, token)) {
            json_decref(list);
            list = NULL;
        }
        free(name);
    }
    return list;
}

/* The same with the parts that were read. */
static json_t *hf_flow(const st_bpe *b, json_t *vocab, json_t *merges, json_t *added)
{
    const json_t *parts = b->flow->json;
    size_t n = 0;
    char *unk = b->unk >= 0 ? st_bpe_name(b, b->unk, &n) : NULL;
    json_t *j = json_pack(
        "{s:s, s:n, s:n, s:o, s:O, s:O, s:O, s:O, s:{s:s, s:n, s:o, s:n, s:n, "
        "s:b, s:b, s:b, s:o, "
        "s:o}}",
        "version", "1.0", "truncation", "padding", "added_tokens", added, "normalizer",
        json_object_get(parts, "normalizer"), "pre_tokenizer",
        json_object_get(parts, "pre_tokenizer"), "post_processor",
        json_object_get(parts, "post_processor"), "decoder", json_object_get(parts, "decoder"),
        "model", "type", "BPE", "dropout", "unk_token", unk ? json_stringn(unk, n) : json_null(),
        "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", b->fuse_unk, "byte_fallback",
        b->fallback, "ignore_merges", b->ignore_merges, "vocab", vocab, "merges", merges);
    free(unk);
    return j;
}

/* tokenizer.json; takes over vocab, merges and added. */
static json_t *hf_tokenizer(const st_bpe *b, json_t *vocab, json_t *merges, json_t *added)
{
    if (b->flow) return hf_flow(b, vocab, merges, added);
    static const char level[] = "{s:s, s:b, s:b, s:b}";
    json_t *part[3] = {0};
    for (int i = 0; i < 3; i++) {
        part[i] = json_pack(level, "type", "ByteLevel", "add_prefix_space", i > 0, "trim_offsets",
                            i != 1, "use_regex", 1);
    }
    return json_pack(
        "{s:s, s:n, s:n, s:o, s:n, s:o, s:o, s:o, s:{s:s, s:n, s:n, s:s, s:s, s:b, s:b, "
        "s:o, s:o}}",
        "version", "1.0", "truncation", "padding", "added_tokens", added, "normalizer",
        "pre_tokenizer", part[0], "post_processor", part[1], "decoder", part[2], "model", "type",
        "BPE", "dropout", "unk_token", "continuing_subword_prefix", "", "end_of_word_suffix", "",
        "fuse_unk", 0, "byte_fallback", 0, "vocab", vocab, "merges", merges);
}

static st_status hf_put(const char *dir, const char *name, const json_t *j, size_t flags, st_err *e)
{
    char *path = st_path_join(dir, name), *text = j ? json_dumps(j, flags) : NULL;
    st_status s;
    if (!path || !text)
        s = ST_NOMEM(e, dir);
    else
        s = st_write_file(path, text, strlen(text), e);
    free(path);
    free(text);
    return s;
}

/* tokenizer_config.json and special_tokens_map.json. */
static st_status hf_put_config(const st_bpe *b, const char *dir, st_err *e)
{
    json_t *map = json_object(), *config = json_object();
    if (!b->flow) json_object_set_new(config, "add_prefix_space", json_false());
    static const char *const roles[] = {"bos_token", "eos_token", "unk_token", "pad_token"};
    int32_t unk = b->role[ST_BPE_UNK] >= 0 || b->flow ? b->role[ST_BPE_UNK] : b->eos;
    const int32_t id[] = {st_bpe_bos(b), st_bpe_eos(b), unk, st_bpe_pad(b)};
    for (int i = 0; i < 4; i++) {
        size_t n = 0;
        char *name = id[i] >= 0 ? st_bpe_name(b, id[i], &n) : NULL;
        if (name) json_object_set_new(map, roles[i], json_stringn(name, n));
        if (name) json_object_set_new(config, roles[i], json_stringn(name, n));
        free(name);
    }
    const char *class = b->chars || b->flow ? "PreTrainedTokenizerFast" : "GPT2Tokenizer";
    if (b->flow) json_object_set_new(config, "clean_up_tokenization_spaces", json_false());
    if (b->chat) json_object_set_new(config, "chat_template", json_string(b->chat));
    json_object_set_new(config, "tokenizer_class", json_string(class));
    st_status s = hf_put(dir, "special_tokens_map.json", map, JSON_INDENT(2), e);
    if (!s) s = hf_put(dir, "tokenizer_config.json", config, JSON_INDENT(2), e);
    json_decref(map);
    json_decref(config);
    return s;
}

/* added_tokens.json, if there are more than <|endoftext|>. */
static st_status hf_put_added(const st_bpe *b, const char *dir, const json_t *added, st_err *e)
{
    json_t *map = json_object();
    const json_t *token;
    size_t i;
    json_array_foreach(added, i, token)
    {
        const json_t *id = json_object_get(token, "id");
        if (json_integer_value(id) == b->eos) continue;
        json_object_set(map, json_string_value(json_object_get(token, "content")),
                        (json_t *)(uintptr_t)id);
    }
    st_status s = ST_OK;
    if (json_object_size(map) > 0) s = hf_put(dir, "added_tokens.json", map, JSON_INDENT(2), e);
    json_decref(map);
    return s;
}

/* Of characters: no other file says that they are. */
static st_status hf_save_chars(const st_bpe *b, const char *dir, st_err *e)
{
    json_t *vocab = hf_vocab(b), *all = vocab ? st_bpe_chars_json(vocab) : NULL;
    st_status s = hf_put(dir, "tokenizer.json", all, JSON_INDENT(2), e);
    json_decref(all);
    return s ? s : hf_put_config(b, dir, e);
}

st_status st_bpe_save(const st_bpe *b, const char *dir, st_err *e)
{
    ST_TRY(st_make_dirs(dir, e));
    if (b->chars) return hf_save_chars(b, dir, e);
    char *text = NULL, *path = st_path_join(dir, "merges.txt");
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    json_t *vocab = hf_vocab(b), *merges = f ? hf_merges(b, f) : NULL, *added = hf_added(b);
    bool ok = f && !fclose(f) && vocab && merges && added && path;
    st_status s = ST_OK;
    if (!ok) s = ST_NOMEM(e, dir);
    if (!s && !b->flow) s = st_write_file(path, text, n, e);
    if (!s && !b->flow) s = hf_put(dir, "vocab.json", vocab, JSON_COMPACT, e);
    if (!s) {
        json_t *all = hf_tokenizer(b, json_incref(vocab), json_incref(merges), json_incref(added));
        s = hf_put(dir, "tokenizer.json", all, JSON_INDENT(2), e);
        json_decref(all);
    }
    if (!s && !b->flow) s = hf_put_added(b, dir, added, e);
    if (!s) s = hf_put_config(b, dir, e);
    json_decref(vocab);
    json_decref(merges);
    json_decref(added);
    free(text);
    free(path);
    return s;
}
