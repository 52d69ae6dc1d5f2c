/* Counting the words of a text for bpe_train.c, in bounded memory. */
/* SPDX-License-Identifier: MIT */
#include "text/bpe_train.h"
#include <stdlib.h>
#include <string.h>

enum {
    WORDS_MOST = 1 << 23, /* different words kept; beyond it the rarest are forgotten */
    WORDS_BYTES = 1 << 29 /* and their bytes */
};

static uint32_t words_hash(const char *s, size_t n)
{
    uint64_t h = n;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (uint8_t)s[i]) * 0x9FB21C651E98DF25u;
    return (uint32_t)(h >> 32);
}

/* The slot of the word, or the empty one where it belongs. */
static st_word *words_find(const st_words *w, const char *s, size_t n, uint32_t hash)
{
    for (uint64_t i = hash;; i++) {
        st_word *slot = &w->slot[i & (uint64_t)(w->slots - 1)];
        if (!slot->count) return slot;
        if (slot->hash == hash && slot->len == n && !memcmp(w->bytes + slot->at, s, n)) return slot;
    }
}

/* Moves every word counted more than `least` times into a table of `slots`. */
static st_status words_rebuild(st_words *w, int64_t slots, int64_t least, st_err *e)
{
    st_words next = {.slots = slots, .cap = w->used + 1};
    next.slot = st_calloc(slots, sizeof *next.slot);
    next.bytes = malloc(next.cap);
    if (!next.slot || !next.bytes) {
        free(next.slot);
        free(next.bytes);
        ST_FAIL(e, ST_ENOMEM, "out of memory for the words of the text");
    }
    for (int64_t i = 0; i < w->slots; i++) {
        st_word word = w->slot[i];
        if (word.count <= least) continue;
        memcpy(next.bytes + next.used, w->bytes + word.at, word.len);
        *words_find(&next, w->bytes + word.at, word.len, word.hash) =
            (st_word){next.used, word.count, word.len, word.hash};
        next.used += word.len;
        next.n++;
    }
    st_words_free(w);
    *w = next;
    return ST_OK;
}

/* Forgets rare words until the table is at most half of what it may be. */
static st_status words_prune(st_words *w, st_err *e)
{
    st_log(ST_LOG_WARN, "tokenizer: %lld different words; the rarest are left out",
           (long long)w->n);
    for (int64_t least = 1; w->n > WORDS_MOST / 2 || w->used > WORDS_BYTES / 2; least *= 2)
        ST_TRY(words_rebuild(w, w->slots, least, e));
    return ST_OK;
}

static st_status words_add(st_words *w, const char *s, size_t n, st_err *e)
{
    uint32_t hash = words_hash(s, n);
    if (!w->slots) ST_TRY(words_rebuild(w, 1 << 14, 0, e));
    st_word *slot = words_find(w, s, n, hash);
    if (slot->count) {
        slot->count++;
        return ST_OK;
    }
    if (w->n >= WORDS_MOST || w->used + n > WORDS_BYTES) ST_TRY(words_prune(w, e));
    if (2 * w->n >= w->slots) ST_TRY(words_rebuild(w, 2 * w->slots, 0, e));
    if (w->used + n > w->cap) {
        char *more = realloc(w->bytes, 2 * w->cap + n);
        if (!more) ST_FAIL(e, ST_ENOMEM, "out of memory for the words of the text");
        w->bytes = more;
        w->cap = 2 * w->cap + n;
    }
    memcpy(w->bytes + w->used, s, n);
    *words_find(w, s, n, hash) = (st_word){w->used, 1, (uint32_t)n, hash};
    w->used += n;
    w->n++;
    return ST_OK;
}

st_status st_words_feed(st_words *w, const char *text, size_t n, st_err *e)
{
    for (size_t i = 0, end; i < n; i = end) {
        end = st_pretoken_end(text, n, i);
        if (end - i <= ST_BPE_WORD_MAX) ST_TRY(words_add(w, text + i, end - i, e));
    }
    return ST_OK;
}

void st_words_free(st_words *w)
{
    free(w->slot);
    free(w->bytes);
    *w = (st_words){0};
}
