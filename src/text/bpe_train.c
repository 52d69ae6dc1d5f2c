/* Learning a byte-level BPE (Sennrich et al. 2016): the most frequent pair of neighbouring symbols
 * becomes a new symbol, again and again. The same merges as Hugging Face's BpeTrainer: ties go to
 * the smaller ids, ids of bytes being in the order of their names; a pair may be queued more than
 * once, each time with the words where it appeared; its count is not taken back when it is merged.
 * Only words that hold a pair are touched when it is merged. */
/* Long: one algorithm over one state. */
/* SPDX-License-Identifier: MIT */
#include "text/bpe_train.h"
#include <stdlib.h>
#include <string.h>

struct st_bpe_trainer {
    st_words words;
};

typedef struct {
    uint32_t *at;
    int64_t n, cap;
} train_list;

/* A pair that occurs or did; `fresh`: words where it appeared since it was last queued. */
typedef struct {
    uint64_t key; /* left << 32 | right, + 1; 0: an empty slot */
    int64_t count;
    train_list fresh;
} train_pair;

typedef struct {
    uint64_t key;
    int64_t count;
    train_list where;
} train_entry;

/* symbols of word w: sym[first[w]] .. + len[w] */
typedef struct {
    int32_t *sym;
    size_t *first;
    int32_t *len;
    int64_t *count;
    int64_t words;
    train_pair *pair; /* open-addressed */
    int64_t pairs, pair_slots;
    train_entry *heap; /* the best first */
    int64_t queued, queue_cap;
    uint64_t *touched; /* keys of pairs with a fresh list */
    int64_t n_touched, touched_cap;
    char *bytes; /* of the tokens so far, one after the other */
    size_t used, bytes_cap;
    size_t *start;
    int64_t tokens;
    int32_t *by_name; /* open-addressed ids of tokens, + 1 */
    uint64_t name_mask;
    st_bpe_merge *merge;
    int64_t merges, merges_cap;
    bool failed; /* out of memory */
} train_state;

/* Room for one more element of `size` in *p; false, and latched, when out of memory. */
static bool train_room(train_state *t, void *p, int64_t n, int64_t *cap, size_t size)
{
    if (n < *cap) return true;
    void *old, *more;
    memcpy(&old, p, sizeof old);
    int64_t next = *cap ? 2 * *cap : 4;
    more = realloc(old, (size_t)next * size);
    if (!more) {
        t->failed = true;
        return false;
    }
    memcpy(p, &more, sizeof more);
    *cap = next;
    return true;
}

/* ---- pairs ----------------------------------------------------------------------------------- */

static uint64_t train_key(int32_t left, int32_t right)
{
    return ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) + 1;
}

static train_pair *train_slot(train_pair *pair, int64_t slots, uint64_t key)
{
    uint64_t mask = (uint64_t)slots - 1, i = (key * 0x9E3779B97F4A7C15u) >> 32 & mask;
    while (pair[i].key && pair[i].key != key)
        i = (i + 1) & mask;
    return &pair[i];
}

/* The pair of `key`, made if need be; NULL when out of memory. */
static train_pair *train_find(train_state *t, uint64_t key)
{
    if (2 * t->pairs >= t->pair_slots) {
        int64_t slots = t->pair_slots ? 2 * t->pair_slots : 1 << 14;
        train_pair *more = st_calloc(slots, sizeof *more);
        if (!more) {
            t->failed = true;
            return NULL;
        }
        for (int64_t i = 0; i < t->pair_slots; i++)
            if (t->pair[i].key) *train_slot(more, slots, t->pair[i].key) = t->pair[i];
        free(t->pair);
        t->pair = more;
        t->pair_slots = slots;
    }
    train_pair *p = train_slot(t->pair, t->pair_slots, key);
    if (!p->key) {
        p->key = key;
        t->pairs++;
    }
    return p;
}

/* `change` occurrences more (or fewer) of the pair in word w. */
static void train_change(train_state *t, int32_t left, int32_t right, int64_t change, int64_t w)
{
    train_pair *p = train_find(t, train_key(left, right));
    if (!p) return;
    p->count += change * t->count[w];
    if (change < 0) return;
    train_list *f = &p->fresh;
    if (!f->n) {
        if (!train_room(t, &t->touched, t->n_touched, &t->touched_cap, sizeof *t->touched)) return;
        t->touched[t->n_touched++] = p->key;
    }
    if (f->n && f->at[f->n - 1] == (uint32_t)w) return;
    if (train_room(t, &f->at, f->n, &f->cap, sizeof *f->at)) f->at[f->n++] = (uint32_t)w;
}

/* ---- the queue ------------------------------------------------------------------------------- */

static bool train_before(const train_entry *a, const train_entry *b)
{
    return a->count != b->count ? a->count > b->count : a->key < b->key;
}

static void train_push(train_state *t, train_entry v)
{
    if (!train_room(t, &t->heap, t->queued, &t->queue_cap, sizeof *t->heap)) {
        free(v.where.at);
        return;
    }
    int64_t i = t->queued++;
    for (int64_t up; i > 0 && train_before(&v, &t->heap[up = (i - 1) / 2]); i = up)
        t->heap[i] = t->heap[up];
    t->heap[i] = v;
}

static train_entry train_pop(train_state *t)
{
    train_entry *h = t->heap, top = h[0], v = h[--t->queued];
    int64_t i = 0;
    for (int64_t child; (child = 2 * i + 1) < t->queued; i = child) {
        if (child + 1 < t->queued && train_before(&h[child + 1], &h[child])) child++;
        if (!train_before(&h[child], &v)) break;
        h[i] = h[child];
    }
    h[i] = v;
    return top;
}

/* Queues the pairs that appeared somewhere since the last call. */
static void train_queue(train_state *t)
{
    for (int64_t i = 0; i < t->n_touched; i++) {
        train_pair *p = train_slot(t->pair, t->pair_slots, t->touched[i]);
        if (p->count > 0)
            train_push(t, (train_entry){p->key, p->count, p->fresh});
        else
            free(p->fresh.at);
        p->fresh = (train_list){0};
    }
    t->n_touched = 0;
}

/* ---- tokens ---------------------------------------------------------------------------------- */

/* The id of the token of the n bytes at the end of t->bytes: an older one of that name, or a new.
 */
static int32_t train_token(train_state *t, size_t n)
{
    const char *name = t->bytes + t->used;
    uint64_t h = n;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (uint8_t)name[i]) * 0x9FB21C651E98DF25u;
    uint64_t at = h >> 32 & t->name_mask;
    for (; t->by_name[at]; at = (at + 1) & t->name_mask) {
        int32_t id = t->by_name[at] - 1;
        if (t->start[id + 1] - t->start[id] == n && !memcmp(t->bytes + t->start[id], name, n))
            return id;
    }
    t->by_name[at] = (int32_t)++t->tokens;
    t->used += n;
    t->start[t->tokens] = t->used;
    return (int32_t)t->tokens - 1;
}

/* The token of left + right; -1 when out of memory. */
static int32_t train_join(train_state *t, int32_t left, int32_t right)
{
    size_t ln = t->start[left + 1] - t->start[left], rn = t->start[right + 1] - t->start[right];
    if (t->used + ln + rn > t->bytes_cap) {
        size_t cap = 2 * t->bytes_cap + ln + rn;
        char *more = realloc(t->bytes, cap);
        if (!more) return -1;
        t->bytes = more;
        t->bytes_cap = cap;
    }
    memcpy(t->bytes + t->used, t->bytes + t->start[left], ln);
    memcpy(t->bytes + t->used + ln, t->bytes + t->start[right], rn);
    return train_token(t, ln + rn);
}

/* ---- learning -------------------------------------------------------------------------------- */

/* Words as symbols, bytes as the first 256 tokens. */
static bool train_start(train_state *t, const st_words *w, int64_t vocab)
{
    int32_t byte_id[256];
    uint64_t names = 1024;
    while (names < 2 * (uint64_t)vocab)
        names *= 2;
    t->name_mask = names - 1;
    t->by_name = st_calloc((int64_t)names, sizeof *t->by_name);
    t->start = st_calloc(vocab + 1, sizeof *t->start);
    t->bytes_cap = 65536;
    t->bytes = malloc(t->bytes_cap);
    t->sym = malloc((w->used + 1) * sizeof *t->sym);
    t->first = st_calloc(w->n + 1, sizeof *t->first);
    t->len = st_calloc(w->n + 1, sizeof *t->len);
    t->count = st_calloc(w->n + 1, sizeof *t->count);
    if (!t->by_name || !t->start || !t->bytes || !t->sym || !t->first || !t->len || !t->count)
        return !(t->failed = true);
    for (int32_t c = 0; c < 324; c++) {
        int32_t byte = st_bpe_byte(c);
        if (byte < 0) continue;
        t->bytes[t->used] = (char)byte;
        byte_id[byte] = train_token(t, 1);
    }
    size_t used = 0;
    for (int64_t i = 0; i < w->slots; i++) {
        const st_word *word = &w->slot[i];
        if (!word->count) continue;
        t->first[t->words] = used;
        t->len[t->words] = (int32_t)word->len;
        t->count[t->words++] = word->count;
        for (uint32_t k = 0; k < word->len; k++)
            t->sym[used++] = byte_id[(uint8_t)w->bytes[word->at + k]];
    }
    for (int64_t k = 0; k < t->words; k++)
        for (int32_t i = 0; i + 1 < t->len[k]; i++)
            train_change(t, t->sym[t->first[k] + (size_t)i], t->sym[t->first[k] + (size_t)i + 1], 1,
                         k);
    train_queue(t);
    return !t->failed;
}

/* Merges the pair in word w, left to right, counting the neighbours' pairs as they change. */
static void train_merge(train_state *t, const st_bpe_merge *m, int64_t w)
{
    int32_t *s = t->sym + t->first[w], n = t->len[w], k = 0;
    for (int32_t i = 0; i < n; i++) {
        if (s[i] != m->left || i + 1 >= n || s[i + 1] != m->right) {
            s[k++] = s[i];
            continue;
        }
        if (k > 0) {
            train_change(t, s[k - 1], m->left, -1, w);
            train_change(t, s[k - 1], m->id, 1, w);
        }
        if (i + 2 < n) {
            train_change(t, m->right, s[i + 2], -1, w);
            train_change(t, m->id, s[i + 2], 1, w);
        }
        s[k++] = m->id;
        i++;
    }
    t->len[w] = k;
}

/* One step: the best pair that is still as frequent as it was when queued. False: no more. */
static bool train_step(train_state *t, int64_t min_count)
{
    train_entry top = train_pop(t);
    int64_t count = train_slot(t->pair, t->pair_slots, top.key)->count;
    if (top.count != count) {
        top.count = count;
        train_push(t, top);
        return true;
    }
    if (count < 1 || count < min_count ||
        !train_room(t, &t->merge, t->merges, &t->merges_cap, sizeof *t->merge)) {
        free(top.where.at);
        return false;
    }
    st_bpe_merge m = {.left = (int32_t)((top.key - 1) >> 32), .right = (int32_t)(top.key - 1)};
    m.id = train_join(t, m.left, m.right);
    if (m.id < 0)
        t->failed = true;
    else
        t->merge[t->merges++] = m;
    for (int64_t i = 0; i < top.where.n && !t->failed; i++)
        train_merge(t, &m, top.where.at[i]);
    train_queue(t);
    free(top.where.at);
    return !t->failed;
}

static void train_end(train_state *t)
{
    for (int64_t i = 0; i < t->queued; i++)
        free(t->heap[i].where.at);
    for (int64_t i = 0; i < t->pair_slots; i++)
        free(t->pair[i].fresh.at);
    free(t->heap);
    free(t->pair);
    free(t->touched);
    free(t->sym);
    free(t->first);
    free(t->len);
    free(t->count);
    free(t->bytes);
    free(t->start);
    free(t->by_name);
    free(t->merge);
}

/* Drops every merge of a pair that is merged again later: the last rank counts. */
static void train_unique(train_state *t)
{
    int64_t kept = t->merges;
    for (int64_t i = 0; i < t->pair_slots; i++)
        t->pair[i].count = 0;
    for (int64_t i = t->merges; i-- > 0;) {
        const st_bpe_merge m = t->merge[i];
        train_pair *p = train_slot(t->pair, t->pair_slots, train_key(m.left, m.right));
        if (p->count++ == 0) t->merge[--kept] = m;
    }
    t->merges -= kept;
    memmove(t->merge, t->merge + kept, (size_t)t->merges * sizeof *t->merge);
}

static st_status train_make(train_state *t, st_bpe **out, st_err *e)
{
    static const char eos[] = "<|endoftext|>";
    st_bpe *b;
    if (t->merges) train_unique(t);
    ST_TRY(st_bpe_make(&b, t->tokens + 1, t->used + strlen(eos), t->merges, e));
    memcpy(b->bytes, t->bytes, t->used);
    memcpy(b->bytes + t->used, eos, strlen(eos));
    memcpy(b->start, t->start, (size_t)(t->tokens + 1) * sizeof *b->start);
    b->start[b->n] = t->used + strlen(eos);
    if (t->merges) memcpy(b->merge, t->merge, (size_t)t->merges * sizeof *b->merge);
    st_status s = st_bpe_link(b, "the learned tokenizer", e);
    if (s)
        st_bpe_close(b);
    else
        *out = b;
    return s;
}

/* ---- the door -------------------------------------------------------------------------------- */

st_status st_bpe_trainer_open(st_bpe_trainer **out, st_err *e)
{
    *out = st_calloc(1, sizeof **out);
    if (!*out) ST_FAIL(e, ST_ENOMEM, "out of memory for a tokenizer's trainer");
    return ST_OK;
}

st_status st_bpe_trainer_feed(st_bpe_trainer *t, const char *text, size_t n, st_err *e)
{
    return st_words_feed(&t->words, text, n, e);
}

void st_bpe_trainer_close(st_bpe_trainer *t)
{
    if (!t) return;
    st_words_free(&t->words);
    free(t);
}

st_status st_bpe_trainer_finish(st_bpe_trainer *t, int64_t vocab, int64_t min_count, st_bpe **out,
                                st_err *e)
{
    *out = NULL;
    if (vocab < 257 || vocab > 1 << 24) {
        ST_FAIL(e, ST_EARG,
                "a vocabulary of %lld, expected 257 (256 bytes and <|endoftext|>) to %d",
                (long long)vocab, 1 << 24);
    }
    train_state s = {0};
    st_status status = ST_OK;
    bool more = train_start(&s, &t->words, vocab) && s.queued;
    st_progress p = {.what = "tokenizer", .total = vocab, .unit = "tokens"};
    for (int64_t step = 0; more && s.tokens < vocab - 1 && !status; step++) {
        more = train_step(&s, min_count) && s.queued;
        if (step % 1024) continue;
        p.done = s.tokens;
        st_report(&p);
        if (st_interrupted()) status = ST_ERR(e, ST_EINTR, "interrupted; nothing was written");
    }
    if (!status && s.failed) {
        status = ST_ERR(e, ST_ENOMEM, "out of memory for learning merges");
    }
    if (!status) status = train_make(&s, out, e);
    if (!status && s.tokens + 1 < vocab) {
        st_log(ST_LOG_WARN, "tokenizer: the text has pairs for %lld tokens only, not %lld",
               (long long)s.tokens + 1, (long long)vocab);
    }
    p.done = s.tokens + 1;
    p.last = true;
    if (!status) st_report(&p);
    train_end(&s);
    return status;
}
