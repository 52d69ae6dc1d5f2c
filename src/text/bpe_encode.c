/* Encoding: text -> pieces (pretoken.c, flow.c) -> bytes or characters -> merges in order of rank.
 * Within a piece the pair of lowest rank, leftmost first, becomes one symbol until no listed pair
 * is left, from a heap of candidates: O(n log n) for any piece. */
/* SPDX-License-Identifier: MIT */
#include "text/bpe.h"
#include "text/chars.h"
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

static inline size_t bpe_len(const st_bpe *b, int32_t id)
{
    return b->start[id + 1] - b->start[id];
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
    int32_t rank = st_bpe_rank(w->b, w->sym[left_at], w->sym[right_at]);
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
    int32_t now = st_bpe_rank(b, w->sym[left_at], w->sym[right_at]);
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

/* The bytes of the first character of word[at..n), 1 for a byte that is none. */
static size_t bpe_unit(const st_bpe *b, const char *word, size_t n, size_t at)
{
    uint32_t code;
    size_t len = b->by_char ? st_char_at(word, n, at, &code) : 1;
    return len ? len : 1;
}

/* Do all bytes of a character have tokens of their own? */
static bool bpe_falls_back(const st_bpe *b, const char *s, size_t n)
{
    bool all = b->fallback;
    for (size_t i = 0; i < n && all; i++)
        all = b->byte_fallback[(uint8_t)s[i]] >= 0;
    return all;
}

/* Puts down the symbols of word[*at..n), up to its end or up to what only the unknown token stands
 * for, behind which *at is then. Each takes the place of its bytes. Returns where they end. */
static size_t bpe_symbols(const st_bpe *b, const char *word, size_t n, size_t *at, int32_t *sym,
                          bool *unknown)
{
    size_t to = 0;
    *unknown = false;
    while (*at < n && !*unknown) {
        const char *s = word + *at;
        size_t len = bpe_unit(b, word, n, *at);
        int32_t id = len == 1 ? b->byte_id[(uint8_t)s[0]] : st_bpe_lookup(b, s, len);
        *at += len;
        if (id >= 0) {
            for (size_t k = 1; k < len; k++)
                sym[to + k] = (int32_t)-len;
            sym[to] = id;
            to += len;
        } else if (bpe_falls_back(b, s, len)) {
            for (size_t k = 0; k < len; k++)
                sym[to++] = b->byte_fallback[(uint8_t)s[k]];
        } else if (b->unk >= 0) {
            *unknown = true;
        } else if (!atomic_exchange(&((st_bpe *)(uintptr_t)b)->lost, true)) {
            st_log(ST_LOG_WARN,
                   "the tokenizer has no token for byte 0x%02X, which texts lose, as with its "
                   "authors' "
                   "code; likewise others",
                   (uint8_t)s[0]);
        }
    }
    return to;
}

/* Merges the n bytes of symbols in `sym` and appends what is left of them. */
static void bpe_merge_run(const st_bpe *b, size_t n, int32_t *sym, uint64_t *heap, st_ids *out)
{
    bpe_work w = {.b = b, .sym = sym, .heap = heap, .n = (int64_t)n};
    for (int64_t i = 0, next; i < w.n; i = next) {
        next = i + (int64_t)bpe_len(b, sym[i]);
        int32_t rank = next < w.n ? st_bpe_rank(b, sym[i], sym[next]) : -1;
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

/* Appends the ids of one word; room for n is there. sym: n; heap: 2n. */
static void bpe_merge_word(const st_bpe *b, const char *word, size_t n, int32_t *sym,
                           uint64_t *heap, st_ids *out)
{
    int32_t whole = b->ignore_merges ? st_bpe_lookup(b, word, n) : -1;
    bool unknown = false, before = false;
    if (whole >= 0) {
        out->id[out->n++] = whole;
        return;
    }
    for (size_t at = 0; at < n; before = unknown) {
        size_t run = bpe_symbols(b, word, n, &at, sym, &unknown);
        bpe_merge_run(b, run, sym, heap, out);
        if (unknown && !(b->fuse_unk && before && !run)) out->id[out->n++] = b->unk;
    }
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

bool st_bpe_remembers(st_bpe *b)
{
    b->cache = st_calloc(CACHE_SLOTS, sizeof *b->cache);
    return b->cache != NULL;
}

void st_bpe_forget(st_bpe *b)
{
    for (int64_t i = 0; b->cache && i < CACHE_SLOTS; i++)
        free(atomic_load(&b->cache[i]));
    free(b->cache);
    b->cache = NULL;
}

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

/* Appends the ids of one word. */
static st_status bpe_word(const st_bpe *b, const char *word, size_t len, st_ids *out, st_err *e)
{
    int32_t sym[SMALL_WORD];
    uint64_t heap[2 * SMALL_WORD];
    ST_TRY(bpe_reserve(out, (int64_t)len, e));
    if (len > SMALL_WORD) return bpe_long_word(b, word, len, out, e);
    uint32_t hash = bpe_word_hash(word, len);
    const st_bpe_word *known = len <= CACHE_WORD ? bpe_recall(b, word, len, hash) : NULL;
    if (known) {
        for (uint32_t k = 0; k < known->n; k++)
            out->id[out->n++] = known->id[k];
        return ST_OK;
    }
    int64_t before = out->n;
    bpe_merge_word(b, word, len, sym, heap, out);
    if (len <= CACHE_WORD) bpe_remember(b, word, len, hash, out->id + before, out->n - before);
    return ST_OK;
}

/* A piece, cut before every mark that other characters stand before. */
static st_status bpe_marked(const st_bpe *b, const char *s, size_t n, st_ids *out, st_err *e)
{
    size_t from = 0, len = strlen(b->mark);
    for (size_t i = 1; i + len <= n; i++) {
        if (s[i] != b->mark[0] || memcmp(s + i, b->mark, len)) continue;
        if (i < from + len || memcmp(s + i - len, b->mark, len)) {
            ST_TRY(bpe_word(b, s + from, i - from, out, e));
            from = i;
        }
        i += len - 1;
    }
    return n > from ? bpe_word(b, s + from, n - from, out, e) : ST_OK;
}

st_status st_bpe_encode_plain(const st_bpe *b, const char *text, size_t n, bool start, st_ids *out,
                              st_err *e)
{
    if (b->chars) {
        ST_TRY(bpe_reserve(out, (int64_t)n, e));
        return st_bpe_encode_chars(b, text, n, out->id, &out->n, e);
    }
    if (!b->flow || b->flow->gpt2) {
        for (size_t i = 0, end; i < n; i = end) {
            end = st_pretoken_end(text, n, i);
            ST_TRY(bpe_word(b, text + i, end - i, out, e));
        }
        return ST_OK;
    }
    st_pieces p;
    st_status s = st_flow_pieces(b->flow, text, n, start, &p, e);
    for (int64_t i = 0; i < p.n && !s; i++) {
        const struct st_piece *at = &p.piece[i];
        const char *word = p.text.s + at->at;
        s = b->mark ? bpe_marked(b, word, at->end - at->at, out, e)
                    : bpe_word(b, word, at->end - at->at, out, e);
    }
    st_pieces_free(&p);
    return s;
}
