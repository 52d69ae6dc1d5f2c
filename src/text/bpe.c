/* GPT-2's byte-level BPE (Sennrich et al. 2016; Radford et al. 2019): text -> words (pretoken.c) ->
 * bytes -> merges in order of rank. Within a word the pair of lowest rank, leftmost first, becomes
 * one symbol until no listed pair is left, from a heap of candidates: O(n log n) for any word. */
/* Long: making, merging and looking up share the layout of one vocabulary. */
/* SPDX-License-Identifier: MIT */
#include "text/bpe.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    CACHE_SLOTS = 1 << 18, /* about 20 MB when full */
    CACHE_PROBES = 4,
    CACHE_WORD = 32,  /* longer words are rare and not remembered */
    SMALL_WORD = 128, /* longer words take their scratch from the heap */
};

struct st_bpe_word {
    uint32_t hash;
    uint16_t len, n;
    int32_t id[]; /* n ids, then len bytes */
};

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
    b->eos = -1;
    for (int i = 0; i < ST_BPE_ROLES; i++)
        b->role[i] = -1;
    b->start = st_calloc(n + 1, sizeof *b->start);
    b->bytes = st_calloc((int64_t)bytes + 1, 1);
    b->flags = st_calloc(n + 1, 1);
    b->merge = st_calloc(merges + 1, sizeof *b->merge);
    b->pair = st_calloc((int64_t)slots, sizeof *b->pair);
    b->rank = st_calloc((int64_t)slots, sizeof *b->rank);
    b->cache = st_calloc(CACHE_SLOTS, sizeof *b->cache);
    if (!b->start || !b->bytes || !b->flags || !b->merge || !b->pair || !b->rank || !b->cache)
        goto fail;
    *out = b;
    return ST_OK;
fail:
    st_bpe_close(b);
    ST_FAIL(e, ST_ENOMEM, "out of memory for a tokenizer of %lld tokens", (long long)n);
}

void st_bpe_close(st_bpe *b)
{
    if (!b) return;
    for (int64_t i = 0; b->cache && i < CACHE_SLOTS; i++)
        free(atomic_load(&b->cache[i]));
    free(b->cache);
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

/* The slot of the pair: its own, or the empty one where it belongs. */
static inline uint64_t bpe_slot(const st_bpe *b, int32_t left, int32_t right)
{
    uint64_t key = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) + 1;
    uint64_t i = (key * 0x9E3779B97F4A7C15u) >> 32 & b->pair_mask;
    while (b->pair[i] && b->pair[i] != key)
        i = (i + 1) & b->pair_mask;
    return i;
}

/* Rank of merging the two, or -1. */
static inline int32_t bpe_rank(const st_bpe *b, int32_t left, int32_t right)
{
    uint64_t i = bpe_slot(b, left, right);
    return b->pair[i] ? b->rank[i] : -1;
}

st_status st_bpe_link(st_bpe *b, const char *what, st_err *e)
{
    static const char eos[] = "<|endoftext|>";
    for (int i = 0; i < 256; i++)
        b->byte_id[i] = -1;
    for (int32_t id = 0; id < b->n; id++) {
        const char *bytes = b->bytes + b->start[id];
        if (bpe_len(b, id) == 1 && !b->flags[id]) b->byte_id[(uint8_t)bytes[0]] = id;
        if (bpe_len(b, id) == strlen(eos) && !memcmp(bytes, eos, strlen(eos))) {
            b->eos = id;
            b->flags[id] = (uint8_t)((b->flags[id] & ~ST_BPE_ADDED) | ST_BPE_SPECIAL);
        }
    }
    for (int i = 0; i < 256; i++) {
        if (b->byte_id[i] >= 0) continue;
        ST_FAIL(e, ST_EFORMAT,
                "%s: no token for byte 0x%02X (U+%04X in the vocabulary); a "
                "byte-level BPE has all 256",
                what, i, (unsigned)st_bpe_char((uint8_t)i));
    }
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
    return st_bpe_link_added(b, e);
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
    *n = bpe_len(b, id);
    return b->bytes + b->start[id];
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
        if (b->flags[id] & ST_BPE_ADDED) h = bpe_mix(h, &b->flags[id], 1);
    }
    for (int64_t r = 0; r < b->n_merges; r++) {
        h = bpe_mix(h, &b->merge[r].left, sizeof b->merge[r].left);
        h = bpe_mix(h, &b->merge[r].right, sizeof b->merge[r].right);
    }
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

/* Room for `more` ids. */
static st_status bpe_reserve(st_ids *ids, int64_t more, st_err *e)
{
    if (ids->cap - ids->n >= more) return ST_OK;
    int64_t cap = ids->cap < 1024 ? 1024 : ids->cap + ids->cap / 2;
    if (cap < ids->n + more) cap = ids->n + more;
    int32_t *id = realloc(ids->id, (size_t)cap * sizeof *id);
    if (!id) ST_FAIL(e, ST_ENOMEM, "out of memory for %lld tokens", (long long)cap);
    ids->id = id;
    ids->cap = cap;
    return ST_OK;
}

/* ---- merging one word ------------------------------------------------------------------------ */

/* A word of n bytes in work. sym[p] is the id of the symbol that starts at byte p, negative where
 * none does; where a symbol of more than one byte ends, it is minus its length, so that the symbol
 * before any other is found. heap: candidates (rank << 32 | p), least first; it never holds more
 * than 2n, as n - 1 are there at most at the start and each of n - 1 merges takes one and adds two.
 */
typedef struct {
    const st_bpe *b;
    int32_t *sym;
    uint64_t *heap;
    int64_t n, count;
} bpe_work;

static void bpe_sink(bpe_work *w, int64_t i)
{
    uint64_t *h = w->heap, v = h[i];
    for (int64_t child; (child = 2 * i + 1) < w->count; i = child) {
        if (child + 1 < w->count && h[child + 1] < h[child]) child++;
        if (v <= h[child]) break;
        h[i] = h[child];
    }
    h[i] = v;
}

static void bpe_push(bpe_work *w, int64_t left_at, int64_t right_at)
{
    int32_t rank = bpe_rank(w->b, w->sym[left_at], w->sym[right_at]);
    if (rank < 0) return;
    uint64_t v = (uint64_t)(uint32_t)rank << 32 | (uint64_t)left_at;
    int64_t i = w->count++;
    for (int64_t up; i > 0 && w->heap[up = (i - 1) / 2] > v; i = up)
        w->heap[i] = w->heap[up];
    w->heap[i] = v;
}

static uint64_t bpe_pop(bpe_work *w)
{
    uint64_t top = w->heap[0];
    w->heap[0] = w->heap[--w->count];
    if (w->count) bpe_sink(w, 0);
    return top;
}

/* Merges at `left_at` if the candidate still stands there. */
static void bpe_apply(bpe_work *w, int32_t rank, int64_t left_at)
{
    const st_bpe *b = w->b;
    if (w->sym[left_at] < 0) return;
    int64_t right_at = left_at + (int64_t)bpe_len(b, w->sym[left_at]);
    if (right_at >= w->n) return;
    int32_t now = bpe_rank(b, w->sym[left_at], w->sym[right_at]);
    if (now < 0 || b->merge[now].id != b->merge[rank].id) return;
    int32_t id = b->merge[rank].id;
    int64_t len = (int64_t)bpe_len(b, id), next = left_at + len;
    w->sym[right_at] = -1;
    w->sym[left_at] = id;
    w->sym[next - 1] = (int32_t)-len;
    if (left_at > 0) {
        int32_t end = w->sym[left_at - 1];
        bpe_push(w, end < 0 ? left_at + end : left_at - 1, left_at);
    }
    if (next < w->n) bpe_push(w, left_at, next);
}

/* Appends the ids of one word; room for n is there. sym: n; heap: 2n. */
static void bpe_merge_word(const st_bpe *b, const char *word, size_t n, int32_t *sym,
                           uint64_t *heap, st_ids *out)
{
    bpe_work w = {.b = b, .sym = sym, .heap = heap, .n = (int64_t)n};
    for (size_t i = 0; i < n; i++)
        sym[i] = b->byte_id[(uint8_t)word[i]];
    for (int64_t i = 0; i + 1 < w.n; i++) {
        int32_t rank = bpe_rank(b, sym[i], sym[i + 1]);
        if (rank >= 0) heap[w.count++] = (uint64_t)(uint32_t)rank << 32 | (uint64_t)i;
    }
    for (int64_t i = w.count / 2; i-- > 0;)
        bpe_sink(&w, i);
    while (w.count) {
        uint64_t top = bpe_pop(&w);
        bpe_apply(&w, (int32_t)(top >> 32), (int64_t)(top & 0xFFFFFFFFu));
    }
    for (int64_t i = 0; i < w.n; i += (int64_t)bpe_len(b, sym[i]))
        out->id[out->n++] = sym[i];
}

static st_status bpe_long_word(const st_bpe *b, const char *word, size_t n, st_ids *out, st_err *e)
{
    if (n > ST_BPE_WORD_MAX) {
        ST_FAIL(e, ST_EUNSUPPORTED,
                "%zu bytes without a word boundary: at most %d can be tokenized; "
                "is this text?",
                n, ST_BPE_WORD_MAX);
    }
    int32_t *sym = malloc(n * sizeof *sym);
    uint64_t *heap = malloc(2 * n * sizeof *heap);
    st_status s = ST_OK;
    if (sym && heap)
        bpe_merge_word(b, word, n, sym, heap, out);
    else
        s = ST_ERR(e, ST_ENOMEM, "out of memory for a word of %zu bytes", n);
    free(sym);
    free(heap);
    return s;
}

/* ---- words seen before ----------------------------------------------------------------------- */

static inline uint32_t bpe_word_hash(const char *word, size_t n)
{
    uint64_t h = n * 0x9E3779B97F4A7C15u, v;
    for (; n >= 8; n -= 8, word += 8) {
        memcpy(&v, word, 8);
        h = (h ^ v) * 0xFF51AFD7ED558CCDu;
        h ^= h >> 32;
    }
    v = 0;
    memcpy(&v, word, n);
    h = (h ^ v) * 0xC4CEB9FE1A85EC53u;
    return (uint32_t)(h >> 32);
}

static inline const st_bpe_word *bpe_recall(const st_bpe *b, const char *word, size_t n,
                                            uint32_t hash)
{
    for (uint32_t i = 0; i < CACHE_PROBES; i++) {
        const st_bpe_word *c =
            atomic_load_explicit(&b->cache[(hash + i) % CACHE_SLOTS], memory_order_acquire);
        if (!c) return NULL;
        if (c->hash == hash && c->len == n && !memcmp(c->id + c->n, word, n)) return c;
    }
    return NULL;
}

/* A full neighbourhood or no memory: the word is not remembered, which only costs time. */
static void bpe_remember(const st_bpe *b, const char *word, size_t n, uint32_t hash,
                         const int32_t *id, int64_t ids)
{
    st_bpe_word *c = malloc(sizeof *c + (size_t)ids * sizeof *id + n);
    if (!c) return;
    c->hash = hash;
    c->len = (uint16_t)n;
    c->n = (uint16_t)ids;
    memcpy(c->id, id, (size_t)ids * sizeof *id);
    memcpy(c->id + ids, word, n);
    for (uint32_t i = 0; i < CACHE_PROBES; i++) {
        st_bpe_word *none = NULL;
        if (atomic_compare_exchange_strong(&b->cache[(hash + i) % CACHE_SLOTS], &none, c)) return;
    }
    free(c);
}

st_status st_bpe_encode_plain(const st_bpe *b, const char *text, size_t n, st_ids *out, st_err *e)
{
    int32_t sym[SMALL_WORD];
    uint64_t heap[2 * SMALL_WORD];
    if (b->chars) {
        ST_TRY(bpe_reserve(out, (int64_t)n, e));
        return st_bpe_encode_chars(b, text, n, out->id, &out->n, e);
    }
    for (size_t i = 0, end; i < n; i = end) {
        end = st_pretoken_end(text, n, i);
        const char *word = text + i;
        size_t len = end - i;
        ST_TRY(bpe_reserve(out, (int64_t)len, e));
        if (len > SMALL_WORD) {
            ST_TRY(bpe_long_word(b, word, len, out, e));
            continue;
        }
        uint32_t hash = bpe_word_hash(word, len);
        const st_bpe_word *known = len <= CACHE_WORD ? bpe_recall(b, word, len, hash) : NULL;
        if (known) {
            for (uint32_t k = 0; k < known->n; k++)
                out->id[out->n++] = known->id[k];
            continue;
        }
        int64_t before = out->n;
        bpe_merge_word(b, word, len, sym, heap, out);
        if (len <= CACHE_WORD) bpe_remember(b, word, len, hash, out->id + before, out->n - before);
    }
    return ST_OK;
}
