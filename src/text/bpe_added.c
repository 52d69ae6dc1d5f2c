/* Added tokens in text, as Hugging Face's tokenizers finds them before anything else is done: first
 * those that are not "normalized", then in what is between them the others; of those that begin at
 * one place the longest, from left to right. Special ones only where they are wanted. */
/* SPDX-License-Identifier: MIT */
#include "text/bpe.h"
#include <stdlib.h>
#include <string.h>

static size_t added_len(const st_bpe *b, int32_t id)
{
    return b->start[id + 1] - b->start[id];
}

typedef struct {
    const char *bytes;
    size_t n;
    int32_t id;
} added_token;

/* By first byte, then the longest first. */
static int added_order(const void *x, const void *y)
{
    const added_token *p = x, *q = y;
    int a = (uint8_t)p->bytes[0], b = (uint8_t)q->bytes[0];
    if (a != b) return a - b;
    return p->n != q->n ? (p->n < q->n) - (p->n > q->n) : p->id - q->id;
}

st_status st_bpe_link_added(st_bpe *b, st_err *e)
{
    enum { ANY = ST_BPE_SPECIAL | ST_BPE_ADDED };
    int32_t n = 0;
    for (int32_t id = 0; id < b->n; id++)
        n += b->flags[id] & ANY ? 1 : 0;
    free(b->added);
    b->added = st_calloc(n + 1, sizeof *b->added);
    added_token *token = st_calloc(n + 1, sizeof *token);
    b->plain = 0;
    b->n_added = 0;
    memset(b->first, 0, sizeof b->first);
    for (int32_t id = 0; b->added && token && id < b->n; id++) {
        if (!(b->flags[id] & ANY) || !added_len(b, id)) continue;
        token[b->n_added++] = (added_token){b->bytes + b->start[id], added_len(b, id), id};
        b->plain += !(b->flags[id] & ST_BPE_SPECIAL);
    }
    if (b->n_added) qsort(token, (size_t)b->n_added, sizeof *token, added_order);
    for (int32_t k = b->n_added; k-- > 0;) {
        b->added[k] = token[k].id;
        b->first[(uint8_t)token[k].bytes[0]] = k + 1;
    }
    free(token);
    if (b->added && (!n || token)) return ST_OK;
    ST_FAIL(e, ST_ENOMEM, "out of memory for a tokenizer");
}

bool st_bpe_pieces(const st_bpe *b)
{
    for (int32_t k = 0; k < b->n_added; k++) {
        int32_t id = b->added[k];
        if (b->flags[id] & (ST_BPE_LEFT | ST_BPE_RIGHT | ST_BPE_WORD)) return false;
        for (size_t i = b->start[id]; i < b->start[id + 1]; i++)
            if (strchr(" \t\r\n", b->bytes[i])) return false;
    }
    return true;
}

/* Is the character that ends before s + at, or begins there, one of words (\w)? */
static bool added_beside(const char *s, size_t n, size_t at, bool before)
{
    if (before ? at == 0 : at == n) return false;
    size_t i = at - before;
    while (before && i > 0 && at - i < 4 && ((uint8_t)s[i] & 0xC0) == 0x80)
        i--;
    return st_pretoken_word(s, n, i);
}

/* The longest token of `pass` at s[i]; -1: none. */
static int32_t added_at(const st_bpe *b, const char *s, size_t n, size_t i, int pass, bool special)
{
    uint8_t c = (uint8_t)s[i];
    for (int32_t k = b->first[c] - 1; k >= 0 && k < b->n_added; k++) {
        int32_t id = b->added[k];
        const char *bytes = b->bytes + b->start[id];
        size_t len = added_len(b, id);
        if ((uint8_t)bytes[0] != c) break;
        if (((b->flags[id] & ST_BPE_LITERAL) != 0) != (pass == 0)) continue;
        if (!special && b->flags[id] & ST_BPE_SPECIAL) continue;
        if (len <= n - i && memcmp(bytes, s + i, len) == 0) return id;
    }
    return -1;
}

/* A match with the white space that belongs to it, not before `least`. */
static void added_strip(const st_bpe *b, st_bpe_match *m, const char *s, size_t n, size_t least)
{
    uint8_t flags = b->flags[m->id];
    while (flags & ST_BPE_LEFT && m->at > least) {
        size_t i = m->at - 1;
        while (i > least && m->at - i < 4 && ((uint8_t)s[i] & 0xC0) == 0x80)
            i--;
        if (!st_pretoken_blank(s, m->at, i)) break;
        m->at = i;
    }
    while (flags & ST_BPE_RIGHT && m->end < n) {
        size_t k = 1;
        while (m->end + k < n && k < 4 && ((uint8_t)s[m->end + k] & 0xC0) == 0x80)
            k++;
        if (!st_pretoken_blank(s, m->end + k, m->end)) break;
        m->end += k;
    }
}

bool st_bpe_match_next(const st_bpe *b, const char *s, size_t n, size_t from, int pass,
                       bool special, st_bpe_match *m)
{
    if (!b->n_added || (!special && !b->plain)) return false;
    for (size_t i = from; i < n; i++) {
        if (!b->first[(uint8_t)s[i]]) continue;
        int32_t id = added_at(b, s, n, i, pass, special);
        if (id < 0) continue;
        size_t end = i + added_len(b, id);
        if (b->flags[id] & ST_BPE_WORD &&
            (added_beside(s, n, i, true) || added_beside(s, n, end, false))) {
            i = end - 1; /* the search goes on behind it */
            continue;
        }
        *m = (st_bpe_match){.id = id, .at = i, .end = end};
        added_strip(b, m, s, n, from);
        return true;
    }
    return false;
}

/* ---- texts with them ------------------------------------------------------------------------- */

/* Text between added tokens of the passes before. */
static st_status added_encode(const st_bpe *b, const char *text, size_t n, int pass, bool special,
                              st_ids *out, st_err *e)
{
    st_bpe_match m;
    size_t at = 0;
    if (pass == 2) return st_bpe_encode_plain(b, text, n, out, e);
    while (st_bpe_match_next(b, text, n, at, pass, special, &m)) {
        ST_TRY(added_encode(b, text + at, m.at - at, pass + 1, special, out, e));
        ST_TRY(st_ids_push(out, m.id, e));
        at = m.end;
    }
    return added_encode(b, text + at, n - at, pass + 1, special, out, e);
}

st_status st_bpe_encode_with(const st_bpe *b, const char *text, size_t n, bool special, st_ids *out,
                             st_err *e)
{
    return added_encode(b, text, n, 0, special, out, e);
}

st_status st_bpe_encode(const st_bpe *b, const char *text, size_t n, st_ids *out, st_err *e)
{
    return added_encode(b, text, n, 0, false, out, e);
}

int64_t st_bpe_specials(const st_bpe *b, const char *text, size_t n, int32_t *first)
{
    int64_t count = 0;
    st_bpe_match m;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t at = 0; st_bpe_match_next(b, text, n, at, pass, true, &m); at = m.end) {
            if (b->flags[m.id] & ST_BPE_SPECIAL && !count++) *first = m.id;
        }
    }
    return count;
}

/* ---- what tokens are ------------------------------------------------------------------------- */

bool st_bpe_added(const st_bpe *b, int32_t id)
{
    return id >= 0 && id < b->n && b->flags[id] & ST_BPE_ADDED;
}

int32_t st_bpe_eos(const st_bpe *b)
{
    return b->role[ST_BPE_EOS] >= 0 ? b->role[ST_BPE_EOS] : b->eos;
}

int32_t st_bpe_bos(const st_bpe *b)
{
    return b->role[ST_BPE_BOS] >= 0 ? b->role[ST_BPE_BOS] : st_bpe_eos(b);
}

int32_t st_bpe_pad(const st_bpe *b)
{
    return b->role[ST_BPE_PAD];
}

int32_t st_bpe_find(const st_bpe *b, const char *bytes, size_t n)
{
    for (int32_t id = 0; id < b->n; id++) {
        if (added_len(b, id) == n && memcmp(b->bytes + b->start[id], bytes, n) == 0) return id;
    }
    return -1;
}

st_status st_bpe_cut(st_bpe *b, int64_t n, st_err *e)
{
    for (int64_t id = n; id < b->n; id++) {
        if (b->flags[id] & (ST_BPE_SPECIAL | ST_BPE_ADDED) && id != b->eos) continue;
        ST_FAIL(e, ST_EFORMAT, "token %lld is none that was added", (long long)id);
    }
    for (int i = 0; i < ST_BPE_ROLES; i++)
        if (b->role[i] >= n) b->role[i] = -1;
    b->n = n;
    return st_bpe_link_added(b, e);
}
