/* A tokenizer from the keys of a GGUF file: tokenizer.ggml.model "gpt2" (byte-level, with merges)
 * and "llama" (SentencePiece's BPE, with scores), said as the tokenizer.json that does the same. */
/* SPDX-License-Identifier: MIT */
#include "text/bpe_gguf.h"
#include "files/files.h"
#include <stdlib.h>
#include <string.h>

static const double gguf_work = 4e9; /* bytes looked at for merges, at most */

typedef struct {
    const json_t *keys;
    const char *what;
    const json_t *tokens, *types, *scores;
    size_t n;
    bool bytes; /* "gpt2" */
    json_t *vocab, *added, *merges, *config;
    const st_bpe_pre *pre;
    bool fallback;
} gguf_read;

static json_t *gguf_key(const gguf_read *g, const char *name)
{
    char key[64];
    snprintf(key, sizeof key, "tokenizer.ggml.%s", name);
    return json_object_get(g->keys, key);
}

static int gguf_type(const gguf_read *g, size_t id)
{
    const json_t *type = json_array_get(g->types, id);
    return json_is_integer(type) ? (int)json_integer_value(type) : ST_GGUF_NORMAL;
}

static bool gguf_flag(const gguf_read *g, const char *name, bool preset)
{
    const json_t *v = gguf_key(g, name);
    return json_is_boolean(v) ? json_is_true(v) : preset;
}

/* ---- tokens ---------------------------------------------------------------------------------- */

/* Names of llama.cpp's rows that pad a vocabulary, at its end, are no tokens. */
static void gguf_trim(gguf_read *g)
{
    while (g->n > 1 && gguf_type(g, g->n - 1) == ST_GGUF_UNUSED) {
        const char *name = json_string_value(json_array_get(g->tokens, g->n - 1));
        if (!name || strncmp(name, "[PAD", 4)) break;
        g->n--;
    }
}

static st_status gguf_token(gguf_read *g, size_t id, st_err *e)
{
    json_t *name = json_array_get(g->tokens, id), *own = NULL;
    int type = gguf_type(g, id);
    bool special = type == ST_GGUF_CONTROL || type == ST_GGUF_UNKNOWN;
    size_t n = json_string_length(name);
    const char *s = json_string_value(name);
    if (!n) {
        ST_FAIL(e, ST_EFORMAT, "%s: tokenizer.ggml.tokens: token %zu is no text", g->what, id);
    }
    if (!g->bytes && n > 1 &&
        strspn(s, " ") == n) { /* runs of spaces, as Gemma's files have them */
        st_buffer mark = {0};
        bool good = true;
        for (size_t i = 0; i < n && good; i++)
            good = st_buffer_put(&mark, "\xE2\x96\x81", 3);
        own = good ? json_stringn(mark.s, mark.n) : NULL;
        free(mark.s);
        if (!own) return ST_NOMEM(e, g->what);
        name = own;
    }
    if (special || type == ST_GGUF_DEFINED) {
        json_array_append_new(g->added,
                              json_pack("{s:I, s:O, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)id,
                                        "content", name, "single_word", 0, "lstrip", 0, "rstrip", 0,
                                        "normalized", 0, "special", special));
    }
    g->fallback |= type == ST_GGUF_BYTE;
    /* a whole word that is a token must be no special one */
    bool outside = special && g->pre && g->pre->ignore_merges;
    st_status status = ST_OK;
    if (!outside && json_object_getn(g->vocab, json_string_value(name), json_string_length(name)))
        status =
            ST_ERR(e, ST_EUNSUPPORTED, "%s: tokenizer.ggml.tokens has \"%.40s\" twice", g->what, s);
    else if (!outside)
        json_object_setn_new(g->vocab, json_string_value(name), json_string_length(name),
                             json_integer((json_int_t)id));
    json_decref(own);
    return status;
}

/* ---- merges from scores ---------------------------------------------------------------------- */

typedef struct {
    int32_t left, right;
    double score;
    size_t left_chars, right_chars, at;
} gguf_pair;

static size_t gguf_chars(const char *s, size_t n)
{
    size_t chars = 0;
    for (size_t i = 0; i < n; i++)
        chars += ((uint8_t)s[i] & 0xC0) != 0x80;
    return chars;
}

/* The parts of one token, by the ids of its first half and then of its second. */
static int gguf_by_ids(const void *x, const void *y)
{
    const gguf_pair *a = x, *b = y;
    if (a->left != b->left) return a->left < b->left ? -1 : 1;
    return (a->right > b->right) - (a->right < b->right);
}

/* The best first; of equal ones those of longer halves, then those that came first. */
static int gguf_by_score(const void *x, const void *y)
{
    const gguf_pair *a = x, *b = y;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    if (a->left_chars != b->left_chars) return a->left_chars > b->left_chars ? -1 : 1;
    if (a->right_chars != b->right_chars) return a->right_chars > b->right_chars ? -1 : 1;
    return (a->at > b->at) - (a->at < b->at);
}

typedef struct {
    gguf_pair *pair;
    size_t n, cap;
} gguf_pairs;

static bool gguf_part(const gguf_read *g, const char *s, size_t n, int32_t *id)
{
    const json_t *v = json_object_getn(g->vocab, s, n);
    if (v) *id = (int32_t)json_integer_value(v);
    return v && gguf_type(g, (size_t)*id) != ST_GGUF_BYTE &&
           gguf_type(g, (size_t)*id) != ST_GGUF_UNKNOWN;
}

/* Every way to make token `id` of two others. */
static bool gguf_ways(const gguf_read *g, const char *s, size_t n, double score, gguf_pairs *p)
{
    size_t from = p->n;
    for (size_t i = 1; i < n; i++) {
        int32_t left, right;
        if (((uint8_t)s[i] & 0xC0) == 0x80) continue;
        if (!gguf_part(g, s, i, &left) || !gguf_part(g, s + i, n - i, &right)) continue;
        if (p->n == p->cap) {
            size_t cap = p->cap ? 2 * p->cap : 1 << 16;
            gguf_pair *more = realloc(p->pair, cap * sizeof *more);
            if (!more) return false;
            p->pair = more;
            p->cap = cap;
        }
        p->pair[p->n++] =
            (gguf_pair){left, right, score, gguf_chars(s, i), gguf_chars(s + i, n - i), 0};
    }
    if (p->n > from + 1) qsort(p->pair + from, p->n - from, sizeof *p->pair, gguf_by_ids);
    return true;
}

/* The name that the vocabulary has for a token. */
static const char *gguf_name(const json_t *names, size_t id, size_t *n)
{
    const json_t *name = json_array_get(names, id);
    *n = json_string_length(name);
    return json_string_value(name);
}

/* SentencePiece merges whatever two tokens make a third, the one of the highest score first: as a
 * list of merges, in the order that Hugging Face's converters give them. Gemma's order is that of
 * its ids. */
static st_status gguf_scored(gguf_read *g, st_err *e)
{
    const char *arch = json_string_value(json_object_get(g->keys, "general.architecture"));
    bool by_id = arch && strncmp(arch, "gemma", 5) == 0;
    gguf_pairs p = {0};
    double work = 0;
    json_t *names = json_array(), *id;
    const char *key;
    st_status s = ST_OK;
    for (size_t i = 0; i < g->n; i++)
        json_array_append_new(names, json_null());
    json_object_foreach(g->vocab, key, id)
    {
        void *at = json_object_key_to_iter(key);
        json_array_set_new(names, (size_t)json_integer_value(id),
                           json_stringn(key, json_object_iter_key_len(at)));
    }
    if (!by_id && json_array_size(g->scores) < g->n)
        s = ST_ERR(e, ST_EFORMAT, "%s: tokenizer.ggml.scores has fewer than %zu numbers", g->what,
                   g->n);
    for (size_t i = 0; i < g->n && !s; i++) {
        size_t n;
        const char *text = gguf_name(names, i, &n);
        int type = gguf_type(g, i);
        double score = by_id ? -(double)i : json_number_value(json_array_get(g->scores, i));
        if (!text || type == ST_GGUF_BYTE || type == ST_GGUF_UNKNOWN) continue;
        if ((work += (double)n * (double)n) > gguf_work)
            s = ST_ERR(e, ST_EUNSUPPORTED, "%s: its tokens are too long to find their parts",
                       g->what);
        else if (!gguf_ways(g, text, n, score, &p))
            s = ST_NOMEM(e, g->what);
    }
    for (size_t i = 0; i < p.n; i++)
        p.pair[i].at = i;
    if (p.n && !s) qsort(p.pair, p.n, sizeof *p.pair, gguf_by_score);
    for (size_t i = 0; i < p.n && !s; i++) {
        json_array_append_new(g->merges,
                              json_pack("[O, O]", json_array_get(names, (size_t)p.pair[i].left),
                                        json_array_get(names, (size_t)p.pair[i].right)));
    }
    json_decref(names);
    free(p.pair);
    return s;
}

/* ---- the tokenizer.json ---------------------------------------------------------------------- */

/* {"type": "TemplateProcessing"} of the first and the last token, or null. */
static json_t *gguf_template(const gguf_read *g, bool bos, bool eos)
{
    json_t *single = json_array(), *known = json_object();
    for (int i = 0; i < 3; i++) {
        const char *role = i ? "eos_token_id" : "bos_token_id";
        if (i == 1)
            json_array_append_new(single,
                                  json_pack("{s:{s:s, s:i}}", "Sequence", "id", "A", "type_id", 0));
        json_t *id = gguf_key(g, role),
               *name = json_is_integer(id)
                           ? json_array_get(g->tokens, (size_t)json_integer_value(id))
                           : NULL;
        if (i == 1 || !(i ? eos : bos) || !json_is_string(name)) continue;
        json_array_append_new(
            single, json_pack("{s:{s:O, s:i}}", "SpecialToken", "id", name, "type_id", 0));
        json_object_set_new(
            known, json_string_value(name),
            json_pack("{s:O, s:[O], s:[O]}", "id", name, "ids", id, "tokens", name));
    }
    if (json_array_size(single) == 1) {
        json_decref(single);
        json_decref(known);
        return json_null();
    }
    json_t *pair = json_deep_copy(single);
    return json_pack("{s:s, s:o, s:o, s:o}", "type", "TemplateProcessing", "single", single, "pair",
                     pair, "special_tokens", known);
}

static json_t *gguf_root_bytes(gguf_read *g)
{
    bool bos = gguf_flag(g, "add_bos_token", g->pre->bos),
         eos = gguf_flag(g, "add_eos_token", false);
    json_t *normal = g->pre->normal ? json_pack("{s:s}", "type", g->pre->normal) : json_null();
    return json_pack("{s:O, s:o, s:o, s:o, s:{s:s, s:b, s:b, s:b}, s:{s:s, s:b, s:O, s:O}}",
                     "added_tokens", g->added, "normalizer", normal, "pre_tokenizer",
                     st_bpe_pre_json(g->pre), "post_processor", gguf_template(g, bos, eos),
                     "decoder", "type", "ByteLevel", "add_prefix_space", 1, "trim_offsets", 1,
                     "use_regex", 1, "model", "type", "BPE", "ignore_merges", g->pre->ignore_merges,
                     "vocab", g->vocab, "merges", g->merges);
}

static json_t *gguf_root_llama(gguf_read *g)
{
    static const char mark[] = "\xE2\x96\x81";
    bool prefix = gguf_flag(g, "add_space_prefix", true), bos = gguf_flag(g, "add_bos_token", true),
         eos = gguf_flag(g, "add_eos_token", false);
    const json_t *unk_id = gguf_key(g, "unknown_token_id");
    size_t unk = json_is_integer(unk_id) ? (size_t)json_integer_value(unk_id) : 0;
    json_t *normal = json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String", " ",
                               "content", mark);
    json_t *steps =
        json_pack("[{s:s, s:{s:s}, s:s}, {s:s}, {s:s}]", "type", "Replace", "pattern", "String",
                  mark, "content", " ", "type", "ByteFallback", "type", "Fuse");
    if (prefix) {
        normal = json_pack("{s:s, s:[{s:s, s:s}, o]}", "type", "Sequence", "normalizers", "type",
                           "Prepend", "prepend", mark, normal);
        json_array_append_new(steps, json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip", "content",
                                               " ", "start", 1, "stop", 0));
    }
    json_t *unk_name = json_array_get(g->tokens, unk);
    return json_pack("{s:O, s:o, s:n, s:o, s:{s:s, s:o}, s:{s:s, s:o, s:b, s:b, s:O, s:O}}",
                     "added_tokens", g->added, "normalizer", normal, "pre_tokenizer",
                     "post_processor", gguf_template(g, bos, eos), "decoder", "type", "Sequence",
                     "decoders", steps, "model", "type", "BPE", "unk_token",
                     unk_name ? json_incref(unk_name) : json_null(), "fuse_unk", 1, "byte_fallback",
                     g->fallback, "vocab", g->vocab, "merges", g->merges);
}

/* What begins, ends and pads a text, and the chat template, as a tokenizer_config.json says it. */
static void gguf_config(gguf_read *g)
{
    static const char *const roles[][2] = {{"bos_token_id", "bos_token"},
                                           {"eos_token_id", "eos_token"},
                                           {"unknown_token_id", "unk_token"},
                                           {"padding_token_id", "pad_token"}};
    for (int i = 0; i < 4; i++) {
        const json_t *id = gguf_key(g, roles[i][0]);
        json_t *name =
            json_is_integer(id) ? json_array_get(g->tokens, (size_t)json_integer_value(id)) : NULL;
        if (name) json_object_set(g->config, roles[i][1], name);
    }
    json_t *chat = json_object_get(g->keys, "tokenizer.chat_template");
    if (chat) json_object_set(g->config, "chat_template", chat);
}

static st_status gguf_open(gguf_read *g, st_err *e)
{
    const char *model = json_string_value(gguf_key(g, "model")),
               *pre = json_string_value(gguf_key(g, "pre"));
    if (!model) ST_FAIL(e, ST_EFORMAT, "%s: no tokenizer in it (tokenizer.ggml.model)", g->what);
    g->bytes = strcmp(model, "gpt2") == 0;
    if (!g->bytes && strcmp(model, "llama")) {
        ST_FAIL(e, ST_EUNSUPPORTED,
                "%s: tokenizer.ggml.model is \"%.40s\", read are \"gpt2\" and \"llama\"", g->what,
                model);
    }
    g->tokens = gguf_key(g, "tokens");
    g->types = gguf_key(g, "token_type");
    g->scores = gguf_key(g, "scores");
    g->n = json_array_size(g->tokens);
    if (!g->n) ST_FAIL(e, ST_EFORMAT, "%s: no tokens in it (tokenizer.ggml.tokens)", g->what);
    if (g->bytes) g->pre = st_bpe_pre_find(pre ? pre : "default");
    if (g->bytes && !g->pre) {
        ST_FAIL(e, ST_EUNSUPPORTED,
                "%s: tokenizer.ggml.pre is \"%.40s\", which is none of the known families", g->what,
                pre);
    }
    gguf_trim(g);
    for (size_t id = 0; id < g->n; id++)
        ST_TRY(gguf_token(g, id, e));
    const json_t *merges = gguf_key(g, "merges");
    if (g->bytes && !json_is_array(merges))
        ST_FAIL(e, ST_EFORMAT, "%s: no merges in it (tokenizer.ggml.merges)", g->what);
    if (!g->bytes && !merges) return gguf_scored(g, e);
    json_array_extend(g->merges, (json_t *)(uintptr_t)merges);
    return ST_OK;
}

st_status st_bpe_from_gguf(st_bpe **out, const json_t *keys, const char *what, st_err *e)
{
    gguf_read g = {.keys = keys,
                   .what = what,
                   .vocab = json_object(),
                   .added = json_array(),
                   .merges = json_array(),
                   .config = json_object()};
    json_t *root = NULL;
    *out = NULL;
    st_status s = g.vocab && g.added && g.merges && g.config ? ST_OK : ST_NOMEM(e, what);
    if (!s) s = gguf_open(&g, e);
    if (!s) gguf_config(&g);
    if (!s && !(root = g.bytes ? gguf_root_bytes(&g) : gguf_root_llama(&g))) s = ST_NOMEM(e, what);
    st_bpe_beside beside = {.config = g.config};
    if (!s) s = st_bpe_from_json(out, root, &beside, what, e);
    json_decref(root);
    json_decref(g.vocab);
    json_decref(g.added);
    json_decref(g.merges);
    json_decref(g.config);
    return s;
}
