/* Added tokens in text, as Hugging Face's tokenizers finds them before anything else is done: first
 * those that are not "normalized", then in what is between them the others; of those that begin at
 * one place the longest, from left to right. Special ones only where they are wanted. */
/* SPDX-License-Identifier: MIT */
#include "text/bpe_gguf.h"
#include <stdlib.h>
#include <string.h>

static size_t added_len(const st_bpe *b, int32_t id)
{
    return b->start[id + 1] - b->start[id];
}

/* By first byte, then the longest first. */
static int added_order(const void *x, const void *y)
{
    const st_bpe_pattern *p = x, *q = y;
    int a = (uint8_t)p->s[0], b = (uint8_t)q->s[0];
    if (a != b) return a - b;
    return p->n != q->n ? (p->n < q->n) - (p->n > q->n) : p->id - q->id;
}

/* What is looked for; none where nothing is left of a token. */
static st_status added_pattern(st_bpe *b, int32_t id, st_err *e)
{
    st_buffer text = {0};
    const char *bytes = b->bytes + b->start[id];
    st_status s = ST_OK;
    if (b->flow && !(b->flags[id] & ST_BPE_LITERAL))
        s = st_flow_normal(b->flow, bytes, added_len(b, id), &text, e);
    else if (!st_buffer_put(&text, bytes, added_len(b, id)))
        s = ST_NOMEM(e, NULL);
    if (s || !text.n) {
        free(text.s);
        return s;
    }
    b->added[b->n_added++] = (st_bpe_pattern){text.s, text.n, id};
    b->plain += !(b->flags[id] & ST_BPE_SPECIAL);
    return ST_OK;
}

st_status st_bpe_link_added(st_bpe *b, st_err *e)
{
    enum { ANY = ST_BPE_SPECIAL | ST_BPE_ADDED };
    int32_t n = 0;
    for (int32_t id = 0; id < b->n; id++)
        n += b->flags[id] & ANY ? 1 : 0;
    for (int32_t k = 0; k < b->n_added; k++)
        free(b->added[k].s);
    free(b->added);
    b->added = st_calloc(n + 1, sizeof *b->added);
    b->plain = 0;
    b->n_added = 0;
    memset(b->first, 0, sizeof b->first);
    if (!b->added) ST_FAIL(e, ST_ENOMEM, "out of memory for a tokenizer");
    for (int32_t id = 0; id < b->n; id++) {
        if (b->flags[id] & ANY && added_len(b, id)) ST_TRY(added_pattern(b, id, e));
    }
    if (b->n_added) qsort(b->added, (size_t)b->n_added, sizeof *b->added, added_order);
    for (int32_t k = b->n_added; k-- > 0;)
        b->first[(uint8_t)b->added[k].s[0]] = k + 1;
    return ST_OK;
}

bool st_bpe_words(const st_bpe *b)
{
    return !b->flow || b->flow->gpt2;
}

bool st_bpe_pieces(const st_bpe *b)
{
    /* of the families whose patterns are known all end words at such places */
    if (!st_bpe_words(b) && !st_bpe_pre_of(b->flow, b->ignore_merges)) return false;
    for (int32_t k = 0; k < b->n_added; k++) {
        int32_t id = b->added[k].id;
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

/* The longest token of `pass` at s[i]; NULL: none. */
static const st_bpe_pattern *added_at(const st_bpe *b, const char *s, size_t n, size_t i, int pass,
                                      bool special)
{
    uint8_t c = (uint8_t)s[i];
    for (int32_t k = b->first[c] - 1; k >= 0 && k < b->n_added; k++) {
        const st_bpe_pattern *p = &b->added[k];
        int32_t id = p->id;
        if ((uint8_t)p->s[0] != c) break;
        if (((b->flags[id] & ST_BPE_LITERAL) != 0) != (pass == 0)) continue;
        if (!special && b->flags[id] & ST_BPE_SPECIAL) continue;
        if (p->n <= n - i && memcmp(p->s, s + i, p->n) == 0) return p;
    }
    return NULL;
}

/* A match with the white space that belongs to it, not before `least`. */
static void added_strip(const st_bpe *b, st_bpe_match *m, const char *s, size_t n, size_t least)
{
    int flags = b->flags[m->id];
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
        const st_bpe_pattern *p = added_at(b, s, n, i, pass, special);
        if (!p) continue;
        size_t end = i + p->n;
        if (b->flags[p->id] & ST_BPE_WORD &&
            (added_beside(s, n, i, true) || added_beside(s, n, end, false))) {
            i = end - 1; /* the search goes on behind it */
            continue;
        }
        *m = (st_bpe_match){.id = p->id, .at = i, .end = end};
        added_strip(b, m, s, n, from);
        return true;
    }
    return false;
}

/* ---- texts with them ------------------------------------------------------------------------- */

typedef struct {
    const st_bpe *b;
    bool special;
    st_ids *out;
    st_err *e;
} added_call;

/* Text between added tokens of the passes before, normalized after the first; `start`: it begins
 * where the whole text does. */
static st_status added_pass(const added_call *c, const char *text, size_t n, int pass, bool start)
{
    st_bpe_match m;
    st_buffer normal = {0};
    size_t at = 0;
    st_status s = ST_OK;
    if (!n) return ST_OK;
    if (pass == 2) return st_bpe_encode_plain(c->b, text, n, start, c->out, c->e);
    if (pass == 1 && c->b->flow && c->b->flow->normals) {
        s = st_flow_normal(c->b->flow, text, n, &normal, c->e);
        text = normal.s;
        n = normal.n;
    }
    while (!s && st_bpe_match_next(c->b, text, n, at, pass, c->special, &m)) {
        s = added_pass(c, text + at, m.at - at, pass + 1, start && !at);
        if (!s) s = st_ids_push(c->out, m.id, c->e);
        at = m.end;
    }
    if (!s) s = added_pass(c, text + at, n - at, pass + 1, start && !at);
    free(normal.s);
    return s;
}

st_status st_bpe_encode_with(const st_bpe *b, const char *text, size_t n, bool special, st_ids *out,
                             st_err *e)
{
    const added_call c = {b, special, out, e};
    return added_pass(&c, text, n, 0, true);
}

st_status st_bpe_encode(const st_bpe *b, const char *text, size_t n, st_ids *out, st_err *e)
{
    return st_bpe_encode_with(b, text, n, false, out, e);
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

/* Leaves ids below n. */
static void added_forget(st_ids *ids, int64_t n)
{
    int64_t kept = 0;
    for (int64_t i = 0; i < ids->n; i++)
        if (ids->id[i] < n) ids->id[kept++] = ids->id[i];
    ids->n = kept;
}

st_status st_bpe_cut(st_bpe *b, int64_t n, st_err *e)
{
    for (int64_t id = n; id < b->n; id++) {
        if (b->flags[id] & (ST_BPE_SPECIAL | ST_BPE_ADDED) && id != b->eos) continue;
        ST_FAIL(e, ST_EFORMAT, "token %lld is none that was added", (long long)id);
    }
    for (int i = 0; i < ST_BPE_ROLES; i++)
        if (b->role[i] >= n) b->role[i] = -1;
    if (b->unk >= n) b->unk = -1;
    added_forget(&b->before, n);
    added_forget(&b->after, n);
    b->n = n;
    ST_TRY(st_bpe_link_index(b, "the tokenizer", e));
    return st_bpe_link_added(b, e);
}
