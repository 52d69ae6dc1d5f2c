/* From the JSON of a vocabulary, its added tokens and its merges to a tokenizer. All of it is
 * checked before any of it is used: ids 0..n-1 once each, merges of known tokens into known tokens.
 */
/* SPDX-License-Identifier: MIT */
#include "text/bpe_draft.h"
#include "files/files.h"
#include <stdlib.h>
#include <string.h>

/* A name for a message: at most 40 bytes, without control characters. */
typedef struct {
    char s[48];
} draft_text;
static draft_text draft_show(const char *s, size_t n)
{
    draft_text t = {{0}};
    size_t k = n < 40 ? n : 40;
    for (size_t i = 0; i < k; i++)
        t.s[i] = (uint8_t)s[i] < 32 || s[i] == 127 ? '?' : s[i];
    if (n > k) memcpy(t.s + k, "...", 4);
    return t;
}

/* ---- the vocabulary -------------------------------------------------------------------------- */

static st_status draft_place(st_bpe_draft *d, const char *text, size_t n, const json_t *id,
                             int flags, st_err *e)
{
    draft_text shown = draft_show(text, n);
    if (!json_is_integer(id)) {
        ST_FAIL(e, ST_EFORMAT, "%s: token \"%s\": its id is not a whole number", d->what, shown.s);
    }
    if (memchr(text, 0, n)) { /* no file of a tokenizer could hold it */
        ST_FAIL(e, ST_EFORMAT, "%s: token \"%s\" has a zero byte", d->what, shown.s);
    }
    int64_t at = json_integer_value(id);
    if (at < 0 || at >= d->n) {
        ST_FAIL(e, ST_EFORMAT,
                "%s: token \"%s\" has id %lld; %lld tokens must have the ids 0 to %lld", d->what,
                shown.s, (long long)at, (long long)d->n, (long long)d->n - 1);
    }
    if (d->name[at].text) {
        ST_FAIL(e, ST_EFORMAT, "%s: tokens \"%s\" and \"%s\" have the same id %lld", d->what,
                draft_show(d->name[at].text, d->name[at].n).s, shown.s, (long long)at);
    }
    if (n == 0) ST_FAIL(e, ST_EFORMAT, "%s: token %lld is empty", d->what, (long long)at);
    d->name[at] = (struct st_draft_name){text, n, (uint16_t)flags};
    d->bytes += n;
    return ST_OK;
}

/* An entry of added_tokens: its name, whether the vocabulary has it too, its id. */
static st_status draft_added(const st_bpe_draft *d, const json_t *entry, const json_t **content,
                             const json_t **twin, const json_t **id, st_err *e)
{
    *content = json_object_get(entry, "content");
    *id = json_object_get(entry, "id");
    if (!json_is_string(*content) || !json_is_integer(*id)) {
        ST_FAIL(e, ST_EFORMAT, "%s: added_tokens: an entry without content and id", d->what);
    }
    const char *text = json_string_value(*content);
    size_t n = json_string_length(*content);
    *twin = json_object_getn(d->vocab, text, n);
    if (*twin && !json_equal(*twin, *id)) {
        ST_FAIL(e, ST_EFORMAT,
                "%s: token \"%s\" has one id in the vocabulary and another in "
                "added_tokens",
                d->what, draft_show(text, n).s);
    }
    return ST_OK;
}

/* How an added token is found in text. */
static uint16_t draft_flags(const json_t *entry)
{
    static const struct {
        const char *key;
        int flag;
    } keys[] = {{"lstrip", ST_BPE_LEFT}, {"rstrip", ST_BPE_RIGHT}, {"single_word", ST_BPE_WORD}};
    int flags = json_is_true(json_object_get(entry, "special")) ? ST_BPE_SPECIAL : ST_BPE_ADDED;
    for (int i = 0; i < 3; i++)
        flags |= json_is_true(json_object_get(entry, keys[i].key)) ? keys[i].flag : 0;
    if (json_is_false(json_object_get(entry, "normalized"))) flags |= ST_BPE_LITERAL;
    return (uint16_t)flags;
}

/* <0x0A>: the byte, or -1. */
static int draft_byte(const st_bpe_draft *d, const struct st_draft_name *name)
{
    static const char hex[] = "0123456789ABCDEF";
    const char *s = name->text;
    if (!json_is_true(json_object_get(d->model, "byte_fallback")) || name->n != 6) return -1;
    if (memcmp(s, "<0x", 3) || s[5] != '>' || !s[3] || !s[4]) return -1;
    const char *hi = strchr(hex, s[3]), *lo = strchr(hex, s[4]);
    return hi && lo ? (int)(hi - hex) * 16 + (int)(lo - hex) : -1;
}

/* Tokens that stand for one byte; they have to be known before the merges. */
static void draft_bytes(st_bpe_draft *d)
{
    for (int64_t id = 0; id < d->n && d->flow && !d->flow->bytes; id++)
        if (draft_byte(d, &d->name[id]) >= 0) d->name[id].flags |= ST_BPE_BYTE;
}

st_status st_bpe_draft_vocab(st_bpe_draft *d, st_err *e)
{
    const json_t *entry, *content, *twin, *id;
    size_t i;
    if (!json_is_object(d->vocab) || json_object_size(d->vocab) == 0) {
        ST_FAIL(e, ST_EFORMAT, "%s: no vocabulary, expected an object of token: id", d->what);
    }
    if (!json_is_array(d->added)) {
        ST_FAIL(e, ST_EFORMAT, "%s: added_tokens is not a list", d->what);
    }
    d->n = (int64_t)json_object_size(d->vocab);
    json_array_foreach(d->added, i, entry)
    {
        ST_TRY(draft_added(d, entry, &content, &twin, &id, e));
        if (!twin) d->n++;
    }
    d->name = st_calloc(d->n, sizeof *d->name);
    if (!d->name || d->n > INT32_MAX) return ST_NOMEM(e, d->what);
    for (void *it = json_object_iter((json_t *)(uintptr_t)d->vocab); it;
         it = json_object_iter_next((json_t *)(uintptr_t)d->vocab, it)) {
        ST_TRY(draft_place(d, json_object_iter_key(it), json_object_iter_key_len(it),
                           json_object_iter_value(it), 0, e));
    }
    json_array_foreach(d->added, i, entry)
    {
        ST_TRY(draft_added(d, entry, &content, &twin, &id, e));
        if (twin)
            d->name[json_integer_value(id)].flags |= draft_flags(entry);
        else
            ST_TRY(draft_place(d, json_string_value(content), json_string_length(content), id,
                               draft_flags(entry) | ST_BPE_EXTRA, e));
    }
    draft_bytes(d);
    return ST_OK;
}

/* ---- merges ---------------------------------------------------------------------------------- */

static st_status draft_part(const st_bpe_draft *d, const char *s, size_t n, const char *where,
                            int32_t *id, st_err *e)
{
    const json_t *v = json_object_getn(d->vocab, s, n);
    if (!v) {
        ST_FAIL(e, ST_EFORMAT, "%s: merge of \"%s\", which is not in the vocabulary", where,
                draft_show(s, n).s);
    }
    *id = (int32_t)json_integer_value(v);
    return ST_OK;
}

/* Is a merge into this name one of bytes that are spelled? */
static st_status draft_spelled(const st_bpe_draft *d, const char *both, size_t n, const char *where,
                               st_err *e)
{
    size_t unused;
    if (d->flow && !d->flow->bytes) return ST_OK;
    char *bytes = malloc(n);
    if (!bytes) return ST_NOMEM(e, where);
    bool spelled = st_bpe_unspell(both, n, bytes, &unused);
    free(bytes);
    if (spelled) return ST_OK;
    ST_FAIL(e, ST_EFORMAT, "%s: merge into \"%s\", which is not in GPT-2's byte alphabet", where,
            draft_show(both, n).s);
}

/* Do the tokens of a merge stand for their own characters? */
static st_status draft_merges_text(const st_bpe_draft *d, const st_bpe_merge *m, const char *where,
                                   st_err *e)
{
    const int32_t id[] = {m->left, m->right, m->id};
    const json_t *unk = json_object_get(d->model, "unk_token");
    for (int i = 0; i < 3; i++) {
        const struct st_draft_name *name = &d->name[id[i]];
        bool unknown = json_string_length(unk) == name->n && i < 2 &&
                       !memcmp(json_string_value(unk), name->text, name->n);
        if (!unknown && !(name->flags & ST_BPE_BYTE)) continue;
        ST_FAIL(e, ST_EUNSUPPORTED, "%s: merge of \"%s\", which is no text", where,
                draft_show(name->text, name->n).s);
    }
    return ST_OK;
}

/* One more merge, of the names a and b. */
static st_status draft_merge(st_bpe_draft *d, const char *a, size_t an, const char *b, size_t bn,
                             const char *where, st_err *e)
{
    if (an + bn > 65536 || an == 0 || bn == 0) {
        ST_FAIL(e, ST_EFORMAT, "%s: a merge of tokens of %zu and %zu bytes", where, an, bn);
    }
    if (d->n_merges == d->cap_merges) {
        int64_t cap = d->cap_merges ? d->cap_merges * 2 : 65536;
        st_bpe_merge *more = realloc(d->merge, (size_t)cap * sizeof *more);
        if (!more) return ST_NOMEM(e, where);
        d->merge = more;
        d->cap_merges = cap;
    }
    st_bpe_merge *m = &d->merge[d->n_merges];
    char *both = malloc(an + bn);
    if (!both) return ST_NOMEM(e, where);
    memcpy(both, a, an);
    memcpy(both + an, b, bn);
    st_status s = draft_spelled(d, both, an + bn, where, e);
    if (!s) s = draft_part(d, a, an, where, &m->left, e);
    if (!s) s = draft_part(d, b, bn, where, &m->right, e);
    if (!s) s = draft_part(d, both, an + bn, where, &m->id, e);
    if (!s) s = draft_merges_text(d, m, where, e);
    free(both);
    if (!s) d->n_merges++;
    return s;
}

/* "left right", as in merges.txt and in older tokenizer.json. */
st_status st_bpe_draft_merge(st_bpe_draft *d, const char *line, size_t n, const char *where,
                             st_err *e)
{
    const char *space = memchr(line, ' ', n);
    size_t an = space ? (size_t)(space - line) : n;
    if (!space || memchr(space + 1, ' ', n - an - 1)) {
        ST_FAIL(e, ST_EFORMAT,
                "%s: \"%s\" is not a merge, expected two tokens and one space between "
                "them",
                where, draft_show(line, n).s);
    }
    return draft_merge(d, line, an, space + 1, n - an - 1, where, e);
}

static st_status draft_entry(st_bpe_draft *d, const json_t *entry, const char *where, st_err *e)
{
    const json_t *a = json_array_get(entry, 0), *b = json_array_get(entry, 1);
    if (json_is_string(entry))
        return st_bpe_draft_merge(d, json_string_value(entry), json_string_length(entry), where, e);
    if (json_array_size(entry) == 2 && json_is_string(a) && json_is_string(b))
        return draft_merge(d, json_string_value(a), json_string_length(a), json_string_value(b),
                           json_string_length(b), where, e);
    ST_FAIL(e, ST_EFORMAT, "%s: expected \"left right\" or [\"left\", \"right\"]", where);
}

st_status st_bpe_draft_merges(st_bpe_draft *d, const json_t *merges, st_err *e)
{
    char where[400];
    const json_t *entry;
    size_t i;
    if (!json_is_array(merges)) {
        ST_FAIL(e, ST_EFORMAT, "%s: model.merges is not a list", d->what);
    }
    json_array_foreach(merges, i, entry)
    {
        if (!draft_entry(d, entry, "", NULL)) continue;
        /* once more, to say where: to write that for each of them would take longer than they do */
        snprintf(where, sizeof where, "%.300s: model.merges[%zu]", d->what, i);
        ST_TRY(draft_entry(d, entry, where, e));
    }
    return ST_OK;
}

/* ---- from draft to tokenizer ----------------------------------------------------------------- */

/* The bytes of a token into `bytes`; returns how many. Names in the byte alphabet are spelled out,
 * unless they are of added tokens, which are looked for as they are written. */
static size_t draft_spell(const st_bpe_draft *d, int64_t id, bool merged, uint16_t *flags,
                          char *bytes)
{
    const struct st_draft_name *name = &d->name[id];
    bool added = name->flags & (ST_BPE_SPECIAL | ST_BPE_ADDED), raw = d->chars;
    size_t n;
    *flags = name->flags;
    if (name->flags & ST_BPE_BYTE) {
        bytes[0] = (char)draft_byte(d, name);
        return 1;
    }
    raw = raw || (d->flow && !d->flow->bytes) || (added && name->flags & ST_BPE_EXTRA);
    if (!raw && st_bpe_unspell(name->text, name->n, bytes, &n) &&
        (!added || merged || n == 1 || n == name->n))
        return n;
    *flags |= ST_BPE_RAW;
    memcpy(bytes, name->text, name->n);
    return name->n;
}

/* The settings of the model. */
static st_status draft_model(const st_bpe_draft *d, st_bpe *b, st_err *e)
{
    char where[320];
    const json_t *unk = json_object_get(d->model, "unk_token");
    snprintf(where, sizeof where, "%.300s: model", d->what);
    ST_TRY(st_json_flag(d->model, "fuse_unk", &b->fuse_unk, where, e));
    ST_TRY(st_json_flag(d->model, "byte_fallback", &b->fallback, where, e));
    ST_TRY(st_json_flag(d->model, "ignore_merges", &b->ignore_merges, where, e));
    b->by_char = !d->flow->bytes;
    if (!unk || json_is_null(unk)) return ST_OK;
    const json_t *id = json_object_getn(d->vocab, json_string_value(unk), json_string_length(unk));
    if (json_is_integer(id)) b->unk = (int32_t)json_integer_value(id);
    if (json_is_integer(id)) b->role[ST_BPE_UNK] = (int32_t)json_integer_value(id);
    return ST_OK;
}

/* Is it GPT-2's in everything, so that it needs no flow? */
static bool draft_plain(const st_flow *f, const st_bpe *b)
{
    return f->gpt2 && !b->ignore_merges && !f->replaces && !f->strip && !f->byte_names &&
           !json_array_size(f->before) && !json_array_size(f->after);
}

st_status st_bpe_draft_make(st_bpe_draft *d, st_bpe **out, st_err *e)
{
    st_bpe *b;
    ST_TRY(st_bpe_make(&b, d->n, d->bytes, d->n_merges, e));
    bool *merged = st_calloc(d->n, sizeof *merged);
    st_status s = merged ? ST_OK : ST_NOMEM(e, d->what);
    for (int64_t i = 0; i < d->n_merges && !s; i++)
        merged[d->merge[i].left] = merged[d->merge[i].right] = merged[d->merge[i].id] = true;
    for (int64_t id = 0; id < d->n && !s; id++) {
        b->start[id + 1] =
            b->start[id] + draft_spell(d, id, merged[id], &b->flags[id], b->bytes + b->start[id]);
    }
    free(merged);
    if (d->n_merges) memcpy(b->merge, d->merge, (size_t)d->n_merges * sizeof *b->merge);
    if (!s && d->flow) s = draft_model(d, b, e);
    if (!s && d->flow && !draft_plain(d->flow, b)) {
        b->flow = d->flow;
        d->flow = NULL;
    }
    if (!s) s = d->chars ? st_bpe_link_chars(b, d->what, e) : st_bpe_link(b, d->what, e);
    if (s)
        st_bpe_close(b);
    else
        *out = b;
    return s;
}

void st_bpe_draft_free(st_bpe_draft *d)
{
    st_flow_close(d->flow);
    json_decref(d->added);
    free(d->name);
    free(d->merge);
}
