/* Values of a parquet page: PLAIN (4 bytes of length, bytes), dictionary indices,
 * DELTA_LENGTH_BYTE_ ARRAY (all lengths, then all bytes) and DELTA_BYTE_ARRAY (lengths shared with
 * the value before, then the rest as in the former); and the levels that tell null values.
 * https://github.com/apache/parquet-format/blob/master/Encodings.md
 * Counts come from the file, so nothing is allocated by them: every list is walked as it is asked
 * for, and a walk ends where the page's bytes do. */
/* SPDX-License-Identifier: MIT */
#include "text/parquet.h"
#include <stdlib.h>
#include <string.h>

enum { PLAIN = 0, PLAIN_DICTIONARY = 2, DELTA_LENGTH = 6, DELTA_BYTES = 7, RLE_DICTIONARY = 8 };

static st_status values_bad(const char *path, const char *what, st_err *e)
{
    ST_FAIL(e, ST_EFORMAT, "%s: a damaged page: %s", path, what);
}

static uint32_t values_u32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static bool values_varint(const uint8_t **p, const uint8_t *end, uint64_t *v)
{
    *v = 0;
    for (int shift = 0; shift < 64 && *p < end; shift += 7) {
        uint8_t byte = *(*p)++;
        *v |= (uint64_t)(byte & 127) << shift;
        if (!(byte & 128)) return true;
    }
    return false;
}

/* `width` bits from bit number `bit`, least significant first; the bytes are there. */
static uint64_t values_bits(const uint8_t *p, uint64_t bit, int width)
{
    uint64_t v = 0;
    for (int have = 0; have < width;) {
        int at = (int)(bit & 7), take = 8 - at < width - have ? 8 - at : width - have;
        v |= (uint64_t)(p[bit >> 3] >> at & ((1u << take) - 1)) << have;
        have += take;
        bit += (uint64_t)take;
    }
    return v;
}

/* ---- runs and packed groups ------------------------------------------------------------------ */

/* Begins the next run. */
static bool hybrid_run(st_hybrid *h)
{
    uint64_t head;
    if (h->packed) h->p += (h->bit + 7) / 8; /* whole groups: all of them was read */
    if (!values_varint(&h->p, h->end, &head)) return false;
    h->packed = head & 1;
    h->bit = 0;
    h->left = head >> 1;
    size_t have = (size_t)(h->end - h->p), bytes = (size_t)(h->width + 7) / 8;
    if (h->packed) {
        if (h->left > (1u << 28)) return false;
        h->left *= 8;
        return h->left * (uint64_t)h->width / 8 <= have;
    }
    if (have < bytes) return false;
    h->value = 0;
    for (size_t i = 0; i < bytes; i++)
        h->value |= (uint32_t)h->p[i] << (8 * i);
    h->p += bytes;
    return true;
}

static bool hybrid_next(st_hybrid *h, uint32_t *v)
{
    while (!h->left)
        if (!hybrid_run(h)) return false;
    h->left--;
    *v = h->value;
    if (!h->packed) return true;
    *v = (uint32_t)values_bits(h->p, h->bit, h->width);
    h->bit += (uint64_t)h->width;
    return true;
}

/* ---- differences ----------------------------------------------------------------------------- */

static bool delta_block(st_delta *d)
{
    uint64_t least;
    if (!values_varint(&d->p, d->end, &least) || (uint64_t)(d->end - d->p) < d->minis) return false;
    d->least = least >> 1 ^ (~(least & 1) + 1); /* zigzag */
    d->width = d->p;
    d->p += d->minis;
    d->more = d->minis;
    return true;
}

/* Begins the next miniblock. */
static bool delta_mini(st_delta *d)
{
    d->p += d->bytes;
    d->bytes = 0;
    if (!d->more && !delta_block(d)) return false;
    d->bits = *d->width++;
    d->more--;
    d->bytes = d->per_mini / 8 * (uint64_t)d->bits;
    if (d->bits > 64 || (uint64_t)(d->end - d->p) < d->bytes) return false;
    d->in_mini = d->per_mini;
    d->bit = 0;
    return true;
}

static bool delta_begin(st_delta *d, const uint8_t *p, const uint8_t *end)
{
    uint64_t block, first;
    *d = (st_delta){.p = p, .end = end};
    if (!values_varint(&d->p, end, &block) || !values_varint(&d->p, end, &d->minis) ||
        !values_varint(&d->p, end, &d->left) || !values_varint(&d->p, end, &first))
        return false;
    d->value = first >> 1 ^ (~(first & 1) + 1);
    if (!block || block % 128 || block > 1 << 24 || !d->minis || block % d->minis ||
        d->left > ST_PARQUET_VALUES)
        return false;
    d->per_mini = block / d->minis;
    return d->per_mini % 32 == 0;
}

/* The byte after the list, without reading its numbers: a miniblock takes at least a byte of width.
 */
static bool delta_end(st_delta d, const uint8_t **end)
{
    for (uint64_t left = d.left ? d.left - 1 : 0; left;) {
        if (!delta_mini(&d)) return false;
        left -= left < d.per_mini ? left : d.per_mini;
    }
    *end = d.p + d.bytes;
    return true;
}

/* The next number, which is a length of at most `most`. */
static bool delta_next(st_delta *d, uint64_t most, size_t *v)
{
    if (!d->left || d->value > most) return false;
    *v = (size_t)d->value;
    if (!--d->left) return true;
    if (!d->in_mini && !delta_mini(d)) return false;
    d->value += d->least + values_bits(d->p, d->bit, d->bits);
    d->bit += (uint64_t)d->bits;
    d->in_mini--;
    return true;
}

/* ---- dictionaries ---------------------------------------------------------------------------- */

st_status st_words_read(st_words *w, const st_page *p, st_block *data, const char *path, st_err *e)
{
    free(w->data.data);
    free(w->start);
    *w = (st_words){.data = *data};
    *data = (st_block){0};
    if (p->encoding != PLAIN && p->encoding != PLAIN_DICTIONARY)
        return values_bad(path, "a dictionary that is not plain", e);
    if (p->values > (int64_t)(w->data.n / 4))
        return values_bad(path, "a dictionary of more values than its bytes hold", e);
    w->start = st_calloc(p->values + 1, sizeof *w->start);
    if (!w->start) ST_FAIL(e, ST_ENOMEM, "%s: out of memory for a dictionary", path);
    size_t at = 0;
    for (; w->count < p->values; w->count++) {
        w->start[w->count] = (uint32_t)at;
        if (w->data.n - at < 4) return values_bad(path, "a dictionary that ends early", e);
        size_t n = values_u32(w->data.data + at);
        if (n > w->data.n - at - 4) return values_bad(path, "a dictionary that ends early", e);
        at += 4 + n;
    }
    w->start[w->count] = (uint32_t)at;
    return ST_OK;
}

static bool values_word(st_values *v, const char **text, size_t *n)
{
    uint32_t i;
    if (!hybrid_next(&v->index, &i) || i >= v->words->count) return false;
    *text = (const char *)v->words->data.data + v->words->start[i] + 4;
    *n = v->words->start[i + 1] - v->words->start[i] - 4;
    return true;
}

/* ---- pages ----------------------------------------------------------------------------------- */

/* Definition levels: `width` bits each; in a page of version 1 behind their length. */
static bool values_levels(st_values *v, const st_page *p)
{
    size_t n = (size_t)p->levels;
    if (v->levels && p->kind == ST_PAGE_DATA) {
        if (v->end - v->p < 4) return false;
        n = values_u32(v->p);
        v->p += 4;
    }
    if (n > (size_t)(v->end - v->p)) return false;
    v->level = (st_hybrid){.p = v->p, .end = v->p + n};
    while (v->levels >> v->level.width)
        v->level.width++;
    v->p += n;
    return true;
}

static bool values_delta(st_values *v)
{
    const uint8_t *at = v->p;
    if (v->encoding == DELTA_BYTES &&
        (!delta_begin(&v->prefix, at, v->end) || !delta_end(v->prefix, &at)))
        return false;
    return delta_begin(&v->length, at, v->end) && delta_end(v->length, &v->p);
}

st_status st_values_begin(st_values *v, const st_page *p, int levels, const st_block *data,
                          const st_words *words, const char *path, st_err *e)
{
    st_block keep = v->value;
    keep.n = 0;
    *v = (st_values){.encoding = p->encoding,
                     .left = p->values,
                     .levels = levels,
                     .p = data->data,
                     .end = data->data + data->n,
                     .words = words,
                     .value = keep};
    bool fine = values_levels(v, p);
    if (v->encoding == PLAIN_DICTIONARY) v->encoding = RLE_DICTIONARY;
    if (!fine) return values_bad(path, "levels that end early", e);
    switch (v->encoding) {
    case PLAIN: break;
    case RLE_DICTIONARY:
        if (!words) return values_bad(path, "a dictionary is used that is not there", e);
        v->index = (st_hybrid){.p = v->p, .end = v->end};
        if (v->p < v->end) v->index.width = *v->index.p++; /* not there where all are null */
        if (v->index.width > 32) return values_bad(path, "indices of more than 32 bits", e);
        break;
    case DELTA_LENGTH:
    case DELTA_BYTES:
        if (v->p < v->end && !values_delta(v)) return values_bad(path, "lengths that end early", e);
        break;
    default: ST_FAIL(e, ST_EUNSUPPORTED, "%s: encoding %d is none for strings", path, v->encoding);
    }
    return ST_OK;
}

/* Leaves out the null values that are next; *found: one is left that is none. */
static bool values_present(st_values *v, bool *found)
{
    *found = false;
    while (v->left && !*found) {
        uint32_t level = 0;
        if (v->levels && !hybrid_next(&v->level, &level)) return false;
        if (level > (uint32_t)v->levels) return false;
        v->left--;
        *found = level == (uint32_t)v->levels;
        if (*found || v->level.packed) continue;
        /* a run of nulls goes in one step, however long it is */
        uint64_t skip = v->level.left < (uint64_t)v->left ? v->level.left : (uint64_t)v->left;
        v->level.left -= skip;
        v->left -= (int64_t)skip;
    }
    return true;
}

static bool values_plain(st_values *v, const char **text, size_t *n)
{
    if (v->end - v->p < 4) return false;
    *n = values_u32(v->p);
    if (*n > (size_t)(v->end - v->p) - 4) return false;
    *text = (const char *)v->p + 4;
    v->p += 4 + *n;
    return true;
}

static bool values_length(st_values *v, const char **text, size_t *n)
{
    if (!delta_next(&v->length, (uint64_t)(v->end - v->p), n)) return false;
    *text = (const char *)v->p;
    v->p += *n;
    return true;
}

/* The first `shared` bytes of the value before, then new ones: no longer than all new ones. */
static bool values_shared(st_values *v, const char **text, size_t *n)
{
    size_t shared, rest;
    const char *tail;
    if (!delta_next(&v->prefix, v->value.n, &shared) || !values_length(v, &tail, &rest))
        return false;
    if (shared + rest > v->value.cap) {
        size_t cap = 2 * (shared + rest);
        uint8_t *more = realloc(v->value.data, cap);
        if (!more) return false;
        v->value.data = more;
        v->value.cap = cap;
    }
    if (rest) memcpy(v->value.data + shared, tail, rest);
    v->value.n = *n = shared + rest;
    *text = *n ? (const char *)v->value.data : "";
    return true;
}

st_status st_values_next(st_values *v, const char **text, size_t *n, const char *path, st_err *e)
{
    bool found, fine = false;
    *text = NULL;
    *n = 0;
    if (!values_present(v, &found)) return values_bad(path, "levels that end early", e);
    if (!found) return ST_OK;
    if (v->encoding == PLAIN) fine = values_plain(v, text, n);
    if (v->encoding == RLE_DICTIONARY) fine = values_word(v, text, n);
    if (v->encoding == DELTA_LENGTH) fine = values_length(v, text, n);
    if (v->encoding == DELTA_BYTES) fine = values_shared(v, text, n);
    return fine ? ST_OK
                : values_bad(path, "values that end early, or are none of the dictionary", e);
}
