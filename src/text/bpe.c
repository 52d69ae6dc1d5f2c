/* Byte pair encoding (Sennrich et al. 2016; Radford et al. 2019): the vocabulary, its byte alphabet
 * and its hash. Encoding is bpe_encode.c's. */
/* SPDX-License-Identifier: MIT */
#include "text/bpe.h"
#include <stdlib.h>
#include <string.h>

/* ---- the byte alphabet ----------------------------------------------------------------------- */

int32_t st_bpe_char(uint8_t byte)
{
    if (byte <= 32) return 256 + byte;
    if (byte >= 127 && byte <= 160) return 162 + byte;
    return byte == 173 ? 323 : byte;
}

int32_t st_bpe_byte(int32_t c)
{
    if (c >= 256 && c <= 288) return c - 256;
    if (c >= 289 && c <= 322) return c - 162;
    if (c == 323) return 173;
    return c > 255 || c < 0 || st_bpe_char((uint8_t)c) != c ? -1 : c;
}

size_t st_bpe_spell(const char *bytes, size_t n, char *out)
{
    char *p = out;
    for (size_t i = 0; i < n; i++) {
        int32_t c = st_bpe_char((uint8_t)bytes[i]);
        if (c >= 128) *p++ = (char)(0xC0 | c >> 6);
        *p++ = (char)(c >= 128 ? 0x80 | (c & 63) : c);
    }
    return (size_t)(p - out);
}

bool st_bpe_unspell(const char *name, size_t n, char *out, size_t *out_n)
{
    const uint8_t *s = (const uint8_t *)name;
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t c = s[i];
        if (c >= 128) { /* no character of the alphabet has more than two bytes */
            if ((c & 0xE0) != 0xC0 || i + 1 >= n || (s[i + 1] & 0xC0) != 0x80) return false;
            c = (c & 31) << 6 | (s[++i] & 63);
        }
        int32_t byte = st_bpe_byte(c);
        if (byte < 0) return false;
        out[k++] = (char)byte;
    }
    *out_n = k;
    return true;
}

/* ---- making ---------------------------------------------------------------------------------- */

st_status st_bpe_make(st_bpe **out, int64_t n, size_t bytes, int64_t merges, st_err *e)
{
    *out = NULL;
    st_bpe *b = st_calloc(1, sizeof *b);
    if (!b) goto fail;
    uint64_t slots = 16;
    while (slots < 2 * (uint64_t)merges)
        slots *= 2;
    b->n = n;
    b->n_merges = merges;
    b->pair_mask = slots - 1;
    b->eos = b->unk = -1;
    for (int i = 0; i < ST_BPE_ROLES; i++)
        b->role[i] = -1;
    b->start = st_calloc(n + 1, sizeof *b->start);
    b->bytes = st_calloc((int64_t)bytes + 1, 1);
    b->flags = st_calloc(n + 1, sizeof *b->flags);
    b->merge = st_calloc(merges + 1, sizeof *b->merge);
    b->pair = st_calloc((int64_t)slots, sizeof *b->pair);
    b->rank = st_calloc((int64_t)slots, sizeof *b->rank);
    if (!b->start || !b->bytes || !b->flags || !b->merge || !b->pair || !b->rank) goto fail;
    if (!st_bpe_remembers(b)) goto fail;
    *out = b;
    return ST_OK;
fail:
    st_bpe_close(b);
    ST_FAIL(e, ST_ENOMEM, "out of memory for a tokenizer of %lld tokens", (long long)n);
}

void st_bpe_close(st_bpe *b)
{
    if (!b) return;
    st_bpe_forget(b);
    for (int32_t k = 0; k < b->n_added; k++)
        free(b->added[k].s);
    st_flow_close(b->flow);
    st_ids_free(&b->before);
    st_ids_free(&b->after);
    free(b->index);
    free(b->told);
    free(b->told_at);
    free(b->chat);
    free(b->start);
    free(b->bytes);
    free(b->flags);
    free(b->merge);
    free(b->pair);
    free(b->rank);
    free(b->letter);
    free(b->added);
    free(b);
}

static inline size_t bpe_len(const st_bpe *b, int32_t id)
{
    return b->start[id + 1] - b->start[id];
}

bool st_bpe_in_model(const st_bpe *b, int32_t id)
{
    return !(b->flags[id] & (b->by_char ? ST_BPE_EXTRA | ST_BPE_BYTE : ST_BPE_EXTRA | ST_BPE_RAW));
}

/* The slot of the pair: its own, or the empty one where it belongs. */
static inline uint64_t bpe_slot(const st_bpe *b, int32_t left, int32_t right)
{
    uint64_t key = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) + 1;
    uint64_t i = (key * 0x9E3779B97F4A7C15u) >> 32 & b->pair_mask;
    while (b->pair[i] && b->pair[i] != key)
        i = (i + 1) & b->pair_mask;
    return i;
}

int32_t st_bpe_rank(const st_bpe *b, int32_t left, int32_t right)
{
    uint64_t i = bpe_slot(b, left, right);
    return b->pair[i] ? b->rank[i] : -1;
}

/* A byte-level vocabulary may lack a few bytes, which no text has; with more, or letters, missing
 * it is none. */
static st_status bpe_check_bytes(const st_bpe *b, const char *what, st_err *e)
{
    int lacks = 0;
    for (int i = 0; i < 256 && !b->by_char; i++) {
        bool text = (i >= 32 && i < 127) || i == '\n';
        if (b->byte_id[i] >= 0 || (++lacks < 64 && !text)) continue;
        ST_FAIL(e, ST_EFORMAT,
                "%s: no token for byte 0x%02X (U+%04X in the vocabulary); a "
                "byte-level BPE has all that are in texts",
                what, i, (unsigned)st_bpe_char((uint8_t)i));
    }
    return ST_OK;
}

st_status st_bpe_link(st_bpe *b, const char *what, st_err *e)
{
    static const char eos[] = "<|endoftext|>";
    for (int i = 0; i < 256; i++)
        b->byte_id[i] = -1;
    for (int32_t id = 0; id < b->n; id++) {
        const char *bytes = b->bytes + b->start[id];
        if (bpe_len(b, id) == 1 && st_bpe_in_model(b, id)) b->byte_id[(uint8_t)bytes[0]] = id;
        if (bpe_len(b, id) == strlen(eos) && !memcmp(bytes, eos, strlen(eos))) {
            b->eos = id;
            b->flags[id] = (uint16_t)((b->flags[id] & ~ST_BPE_ADDED) | ST_BPE_SPECIAL);
        }
    }
    ST_TRY(bpe_check_bytes(b, what, e));
    for (int32_t r = 0; r < b->n_merges; r++) {
        const st_bpe_merge *m = &b->merge[r];
        uint64_t i = bpe_slot(b, m->left, m->right);
        if (b->pair[i]) {
            ST_FAIL(e, ST_EFORMAT, "%s: merges %d and %d (counted from 1) are the same pair", what,
                    b->rank[i] + 1, r + 1);
        }
        b->pair[i] = ((uint64_t)(uint32_t)m->left << 32 | (uint32_t)m->right) + 1;
        b->rank[i] = r;
    }
    ST_TRY(st_bpe_link_index(b, what, e));
    ST_TRY(st_bpe_link_added(b, e));
    return b->flow ? st_bpe_link_flow(b, what, e) : ST_OK;
}

int64_t st_bpe_size(const st_bpe *b)
{
    return b->n;
}

int64_t st_bpe_merges(const st_bpe *b)
{
    return b->n_merges;
}

void st_bpe_merge_at(const st_bpe *b, int64_t rank, int32_t *left, int32_t *right)
{
    *left = b->merge[rank].left;
    *right = b->merge[rank].right;
}

bool st_bpe_special(const st_bpe *b, int32_t id)
{
    return id >= 0 && id < b->n && b->flags[id] & ST_BPE_SPECIAL;
}

const char *st_bpe_bytes(const st_bpe *b, int32_t id, size_t *n)
{
    if (id < 0 || id >= b->n) return NULL;
    *n = b->told ? b->told_at[id + 1] - b->told_at[id] : bpe_len(b, id);
    return b->told ? b->told + b->told_at[id] : b->bytes + b->start[id];
}

/* FNV-1a, from h on. */
static uint64_t bpe_mix(uint64_t h, const void *data, size_t n)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001B3u;
    return h;
}

uint64_t st_bpe_hash(const st_bpe *b)
{
    uint64_t h = bpe_mix(0xCBF29CE484222325u, &b->n, sizeof b->n);
    for (int32_t id = 0; id < b->n; id++) {
        size_t n = bpe_len(b, id);
        h = bpe_mix(bpe_mix(h, &n, sizeof n), b->bytes + b->start[id], n);
        const uint8_t flags = b->flags[id] & 127;
        if (flags & ST_BPE_ADDED) h = bpe_mix(h, &flags, 1);
    }
    for (int64_t r = 0; r < b->n_merges; r++) {
        h = bpe_mix(h, &b->merge[r].left, sizeof b->merge[r].left);
        h = bpe_mix(h, &b->merge[r].right, sizeof b->merge[r].right);
    }
    if (b->ignore_merges || b->fuse_unk || b->fallback) {
        const bool how[] = {b->ignore_merges, b->fuse_unk, b->fallback};
        h = bpe_mix(h, how, sizeof how);
    }
    char *flow = b->flow ? json_dumps(b->flow->json, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    if (flow) h = bpe_mix(h, flow, strlen(flow));
    free(flow);
    return h;
}

/* ---- ids ------------------------------------------------------------------------------------- */

st_status st_ids_push(st_ids *ids, int32_t id, st_err *e)
{
    if (ids->n == ids->cap) {
        int64_t cap = ids->cap ? ids->cap * 2 : 1024;
        int32_t *more = realloc(ids->id, (size_t)cap * sizeof *more);
        if (!more) return ST_NOMEM(e, NULL);
        ids->id = more;
        ids->cap = cap;
    }
    ids->id[ids->n++] = id;
    return ST_OK;
}

void st_ids_free(st_ids *ids)
{
    free(ids->id);
    *ids = (st_ids){0};
}
