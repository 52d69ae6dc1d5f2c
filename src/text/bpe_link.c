/* What encoding and telling need beside the vocabulary: tokens by their bytes and names, bytes that
 * stand in for missing tokens, how tokens are told, the template of a text. */
/* SPDX-License-Identifier: MIT */
#include "text/bpe.h"
#include "text/chars.h"
#include <stdlib.h>
#include <string.h>

/* ---- tokens by their bytes ------------------------------------------------------------------- */

static size_t link_len(const st_bpe *b, int32_t id)
{
    return b->start[id + 1] - b->start[id];
}

static uint64_t link_hash(const char *s, size_t n)
{
    uint64_t h = n * 0x9E3779B97F4A7C15u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (uint8_t)s[i]) * 0xFF51AFD7ED558CCDu, h ^= h >> 29;
    return h;
}

/* The slot of these bytes: their own, or the empty one where they belong. */
static uint64_t link_slot(const st_bpe *b, const char *s, size_t n)
{
    uint64_t i = link_hash(s, n) & b->index_mask;
    for (; b->index[i]; i = (i + 1) & b->index_mask) {
        int32_t id = b->index[i] - 1;
        if (link_len(b, id) == n && !memcmp(b->bytes + b->start[id], s, n)) break;
    }
    return i;
}

st_status st_bpe_link_index(st_bpe *b, const char *what, st_err *e)
{
    uint64_t slots = 16;
    while (slots < 2 * (uint64_t)b->n)
        slots *= 2;
    free(b->index);
    b->index = st_calloc((int64_t)slots, sizeof *b->index);
    if (!b->index) return ST_NOMEM(e, what);
    b->index_mask = slots - 1;
    for (int32_t id = 0; id < b->n; id++) {
        if (!st_bpe_in_model(b, id) || !link_len(b, id)) continue;
        uint64_t i = link_slot(b, b->bytes + b->start[id], link_len(b, id));
        if (!b->index[i]) b->index[i] = id + 1;
    }
    return ST_OK;
}

int32_t st_bpe_lookup(const st_bpe *b, const char *bytes, size_t n)
{
    return b->index ? b->index[link_slot(b, bytes, n)] - 1 : -1;
}

static int32_t link_added(const st_bpe *b, const char *bytes, size_t n)
{
    for (int32_t k = 0; k < b->n_added; k++) {
        int32_t id = b->added[k].id;
        if (link_len(b, id) == n && !memcmp(b->bytes + b->start[id], bytes, n)) return id;
    }
    return -1;
}

int32_t st_bpe_find(const st_bpe *b, const char *bytes, size_t n)
{
    int32_t id = link_added(b, bytes, n);
    if (id < 0) id = st_bpe_lookup(b, bytes, n);
    for (int32_t k = 0; id < 0 && (b->chars || b->told) && k < b->n; k++) {
        size_t len;
        const char *told = st_bpe_bytes(b, k, &len);
        if (len == n && !memcmp(told, bytes, n)) id = k;
    }
    return id;
}

int32_t st_bpe_named(const st_bpe *b, const char *name, size_t n)
{
    int32_t id = link_added(b, name, n);
    char *bytes = id < 0 && !b->by_char && n ? malloc(n) : NULL;
    size_t len = 0;
    if (bytes && st_bpe_unspell(name, n, bytes, &len))
        id = st_bpe_lookup(b, bytes, len);
    else if (id < 0 && b->by_char)
        id = st_bpe_lookup(b, name, n);
    free(bytes);
    for (int32_t k = 0; id < 0 && k < b->n; k++) { /* names that merges never make */
        if (st_bpe_in_model(b, k)) continue;
        char *own = st_bpe_name(b, k, &len);
        if (own && len == n && !memcmp(own, name, n)) id = k;
        free(own);
    }
    return id;
}

/* ---- what the flow needs --------------------------------------------------------------------- */

static void link_fallback(st_bpe *b)
{
    for (int i = 0; i < 256; i++)
        b->byte_fallback[i] = -1;
    for (int32_t id = 0; id < b->n && b->by_char; id++) {
        if (!(b->flags[id] & ST_BPE_BYTE)) continue;
        b->byte_fallback[(uint8_t)b->bytes[b->start[id]]] = id;
    }
}

/* SentencePiece's mark only begins words if no token of more characters has it behind another one:
 * then no merge reaches over what stands before it, and text may be cut there. */
static void link_mark(st_bpe *b)
{
    static const char mark[] = "\xE2\x96\x81";
    const size_t len = sizeof mark - 1;
    b->mark = NULL;
    if (!b->by_char || b->ignore_merges || st_bpe_lookup(b, mark, len) < 0) return;
    for (int32_t r = 0; r < b->n_merges; r++) {
        const char *s = b->bytes + b->start[b->merge[r].id];
        size_t n = link_len(b, b->merge[r].id);
        for (size_t i = 1; i + len <= n; i++) {
            bool again = i >= len && !memcmp(s + i - len, mark, len);
            if (!again && !memcmp(s + i, mark, len)) return;
        }
    }
    b->mark = mark;
}

/* Tokens as they are told: of characters by the decoder's rules. */
static st_status link_told(st_bpe *b, const char *what, st_err *e)
{
    st_buffer text = {0};
    bool good = true;
    if (!b->by_char) return ST_OK;
    b->told_at = st_calloc(b->n + 1, sizeof *b->told_at);
    for (int32_t id = 0; b->told_at && id < b->n && good; id++) {
        size_t n = 0;
        char *name = st_bpe_name(b, id, &n);
        if (b->flags[id] & ST_BPE_BYTE && b->flow->byte_names)
            good = st_buffer_put(&text, b->bytes + b->start[id], 1);
        else
            good = name && st_flow_tell(b->flow, name, n, &text);
        b->told_at[id + 1] = text.n;
        free(name);
    }
    b->told = text.s;
    if (good && b->told_at && st_buffer_put(&text, "", 1)) {
        b->told = text.s;
        return ST_OK;
    }
    return ST_NOMEM(e, what);
}

static st_status link_template(const st_bpe *b, const json_t *names, st_ids *out, const char *what,
                               st_err *e)
{
    const json_t *name;
    size_t i;
    json_array_foreach(names, i, name)
    {
        const char *text = json_string_value(name);
        int32_t id = text ? st_bpe_named(b, text, json_string_length(name)) : -1;
        if (id < 0) {
            ST_FAIL(e, ST_EFORMAT,
                    "%s: post_processor: the token \"%.40s\" is not in the vocabulary", what,
                    text ? text : "");
        }
        ST_TRY(st_ids_push(out, id, e));
    }
    return ST_OK;
}

st_status st_bpe_link_flow(st_bpe *b, const char *what, st_err *e)
{
    link_fallback(b);
    link_mark(b);
    ST_TRY(link_told(b, what, e));
    ST_TRY(link_template(b, b->flow->before, &b->before, what, e));
    return link_template(b, b->flow->after, &b->after, what, e);
}

int st_bpe_strip(const st_bpe *b)
{
    return b->flow && b->by_char ? b->flow->strip : 0;
}

const st_ids *st_bpe_before(const st_bpe *b)
{
    return &b->before;
}

const st_ids *st_bpe_after(const st_bpe *b)
{
    return &b->after;
}

const char *st_bpe_chat(const st_bpe *b)
{
    return b->chat;
}
