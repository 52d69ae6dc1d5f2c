/* A tokenizer as the keys of a GGUF file that llama.cpp reads: byte-level ones as "gpt2" with their
 * merges and the name of their family, SentencePiece's as "llama" with scores. */
/* SPDX-License-Identifier: MIT */
#include "text/bpe_gguf.h"
#include <stdlib.h>
#include <string.h>

/* ---- tokens ---------------------------------------------------------------------------------- */

static int gguf_kind(const st_bpe *b, int32_t id)
{
    int flags = b->flags[id];
    if (flags & ST_BPE_BYTE) return ST_GGUF_BYTE;
    if (b->by_char && id == b->unk) return ST_GGUF_UNKNOWN;
    if (flags & ST_BPE_SPECIAL) return ST_GGUF_CONTROL;
    return flags & ST_BPE_ADDED ? ST_GGUF_DEFINED : ST_GGUF_NORMAL;
}

/* Names, types and merges; ids from the tokenizer's to `vocab` are unused. */
static bool gguf_tokens(const st_bpe *b, int64_t vocab, json_t *tokens, json_t *types)
{
    bool good = true;
    for (int64_t id = 0; id < vocab && good; id++) {
        size_t n = 0;
        char *name = id < b->n ? st_bpe_name(b, (int32_t)id, &n) : NULL;
        json_t *text = name        ? json_stringn(name, n)
                       : id < b->n ? NULL
                                   : json_sprintf("[PAD%lld]", (long long)id);
        good = text && !json_array_append_new(tokens, text);
        int kind = id < b->n ? gguf_kind(b, (int32_t)id) : ST_GGUF_UNUSED;
        good = good && !json_array_append_new(types, json_integer(kind));
        free(name);
    }
    return good;
}

static bool gguf_merges(const st_bpe *b, json_t *merges)
{
    bool good = true;
    for (int64_t r = 0; r < b->n_merges && good; r++) {
        size_t ln, rn;
        char *left = st_bpe_name(b, b->merge[r].left, &ln);
        char *right = st_bpe_name(b, b->merge[r].right, &rn);
        good = left && right && !json_array_append_new(merges, json_sprintf("%s %s", left, right));
        free(left);
        free(right);
    }
    return good;
}

/* ---- SentencePiece --------------------------------------------------------------------------- */

/* Scores: a token's is minus the first rank that makes it; of those that no merge makes 0. Merging
 * by scores then does what the merges say, if every two tokens that make a third are a merge. */
static st_status gguf_scores(const st_bpe *b, int64_t vocab, json_t *scores, st_err *e)
{
    int64_t missing = 0;
    for (int64_t id = 0; id < vocab; id++)
        if (json_array_append_new(scores, json_real(0.0))) return ST_NOMEM(e, NULL);
    for (int64_t r = b->n_merges; r-- > 0;)
        json_array_set_new(scores, (size_t)b->merge[r].id, json_real(-(double)(r + 1)));
    for (int32_t id = 0; id < b->n; id++) {
        size_t from = b->start[id], end = b->start[id + 1];
        for (size_t i = from + 1; i < end && end - from < 256 && st_bpe_in_model(b, id); i++) {
            int32_t left = st_bpe_lookup(b, b->bytes + from, i - from);
            int32_t right = left < 0 ? -1 : st_bpe_lookup(b, b->bytes + i, end - i);
            missing += right >= 0 && st_bpe_rank(b, left, right) < 0;
        }
    }
    if (missing) {
        st_log(ST_LOG_WARN,
               "gguf: %lld ways to join two tokens to a third are no merge of the tokenizer, but "
               "GGUF's "
               "form merges them: some texts will be tokenized otherwise",
               (long long)missing);
    }
    return ST_OK;
}

/* Does its flow do what llama.cpp does? *prefix: a space before every text. */
static bool gguf_is_llama(const st_flow *f, bool *prefix)
{
    static const char mark[] = "\xE2\x96\x81";
    bool marks = false;
    *prefix = false;
    for (int i = 0; i < f->normals; i++) {
        const st_normal *k = &f->normal[i];
        bool ours = k->to_n == 3 && !memcmp(k->to, mark, 3) && !k->regex;
        if (!ours) return false;
        *prefix |= k->kind == ST_NORMAL_PREPEND;
        marks |= k->kind == ST_NORMAL_REPLACE && k->from_n == 1 && k->from[0] == ' ';
    }
    for (int i = 0; i < f->splits; i++) {
        const st_split *k = &f->split[i];
        if (k->kind == ST_SPLIT_TEXT && marks && k->n == 1 && k->text[0] == ' ') continue;
        if (k->kind != ST_SPLIT_METASPACE || k->split || marks || k->n != 3 ||
            memcmp(k->text, mark, 3))
            return false;
        *prefix = k->prefix != ST_PREFIX_NEVER;
        marks = true;
    }
    return marks;
}

static st_status gguf_llama(const st_bpe *b, int64_t vocab, json_t *keys, st_err *e)
{
    bool prefix = false;
    if (!b->fallback || !gguf_is_llama(b->flow, &prefix)) {
        ST_FAIL(e, ST_EUNSUPPORTED,
                "GGUF has no form for this tokenizer: of those of characters it has "
                "SentencePiece's with "
                "tokens for bytes, which marks spaces and cuts no words");
    }
    json_t *scores = json_array();
    json_object_set_new(keys, "tokenizer.ggml.scores", scores);
    json_object_set_new(keys, "tokenizer.ggml.add_space_prefix", json_boolean(prefix));
    return gguf_scores(b, vocab, scores, e);
}

/* ---- all ------------------------------------------------------------------------------------- */

static void gguf_role(json_t *keys, const char *key, int32_t id)
{
    if (id >= 0) json_object_set_new(keys, key, json_integer(id));
}

/* What begins or ends a text: as its files say, else the one token that its template puts there. */
static int32_t gguf_end(int32_t role, const st_ids *template)
{
    return role < 0 && template->n == 1 ? template->id[0] : role;
}

/* Which tokens stand round a text: only one before and one after, bos and eos, have a place. */
static void gguf_template(const st_bpe *b, int32_t first, int32_t last, json_t *keys)
{
    bool bos = b->before.n == 1 && b->before.id[0] == first,
         eos = b->after.n == 1 && b->after.id[0] == last;
    json_object_set_new(keys, "tokenizer.ggml.add_bos_token", json_boolean(bos));
    json_object_set_new(keys, "tokenizer.ggml.add_eos_token", json_boolean(eos));
    if ((b->before.n && !bos) || (b->after.n && !eos)) {
        st_log(ST_LOG_WARN,
               "gguf: what its template puts round a text is not bos and eos, and has no "
               "place in the file");
    }
}

static st_status gguf_family(const st_bpe *b, json_t *keys, st_err *e)
{
    const st_bpe_pre *row =
        b->flow ? st_bpe_pre_of(b->flow, b->ignore_merges) : st_bpe_pre_find("gpt-2");
    if (!row) {
        ST_FAIL(e, ST_EUNSUPPORTED,
                "GGUF has no name for how this tokenizer normalizes and cuts text "
                "(tokenizer.ggml.pre)");
    }
    size_t n = strcspn(row->names, " ");
    json_object_set_new(keys, "tokenizer.ggml.pre", json_stringn(row->names, n));
    return ST_OK;
}

static st_status gguf_keys(const st_bpe *b, int64_t vocab, json_t *keys, st_err *e)
{
    json_t *tokens = json_array(), *types = json_array(), *merges = json_array();
    json_object_set_new(keys, "tokenizer.ggml.model", json_string(b->by_char ? "llama" : "gpt2"));
    st_status s = b->by_char ? ST_OK : gguf_family(b, keys, e);
    if (!s && !gguf_tokens(b, vocab, tokens, types)) s = ST_NOMEM(e, NULL);
    json_object_set_new(keys, "tokenizer.ggml.tokens", tokens);
    if (!s && b->by_char) s = gguf_llama(b, vocab, keys, e);
    json_object_set_new(keys, "tokenizer.ggml.token_type", types);
    if (!s && !b->by_char && !gguf_merges(b, merges)) s = ST_NOMEM(e, NULL);
    if (!s && !b->by_char) json_object_set(keys, "tokenizer.ggml.merges", merges);
    json_decref(merges);
    if (s) return s;
    int32_t first = gguf_end(st_bpe_bos(b), &b->before), last = gguf_end(st_bpe_eos(b), &b->after);
    gguf_role(keys, "tokenizer.ggml.bos_token_id", first);
    gguf_role(keys, "tokenizer.ggml.eos_token_id", last);
    gguf_role(keys, "tokenizer.ggml.padding_token_id", st_bpe_pad(b));
    if (b->flow) gguf_role(keys, "tokenizer.ggml.unknown_token_id", b->unk);
    if (b->flow) gguf_template(b, first, last, keys);
    if (b->chat) json_object_set_new(keys, "tokenizer.chat_template", json_string(b->chat));
    return ST_OK;
}

st_status st_bpe_gguf_keys(const st_bpe *b, int64_t vocab, json_t **keys, st_err *e)
{
    *keys = json_object();
    if (!*keys) return ST_NOMEM(e, NULL);
    if (b->chars) ST_FAIL(e, ST_EUNSUPPORTED, "GGUF has no form for a tokenizer of characters");
    return gguf_keys(b, vocab, *keys, e);
}
