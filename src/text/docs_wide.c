/* How a text is encoded, and UTF-16 as UTF-8, from pieces of any length. */
/* SPDX-License-Identifier: MIT */
#include "text/docs.h"
#include <string.h>
#include <utf8proc.h>

/* UTF-16 without a mark: every second of the first bytes is zero, the others are printed. 0: no. */
static int wide_bare(const char *s, size_t n)
{
    enum { LEAST = 8, MOST = 64 };
    bool bare[2] = {n >= LEAST, n >= LEAST}; /* little-endian, big-endian */
    for (size_t i = 0; i < n && i < MOST; i++) {
        bool printed = (s[i] >= ' ' && s[i] < 127) || s[i] == '\t' || s[i] == '\n' || s[i] == '\r';
        bare[i % 2] &= printed;
        bare[1 - i % 2] &= !s[i];
    }
    return bare[0] ? 1 : bare[1] ? 2 : 0;
}

st_status docs_encoding(st_docs *d, st_err *e)
{
    const char *s = d->data;
    d->at = st_text_mark(s, d->n);
    if (d->n >= 2 && memcmp(s, "\xff\xfe", 2) == 0) d->wide = 1;
    if (d->n >= 2 && memcmp(s, "\xfe\xff", 2) == 0) d->wide = 2;
    if (d->n >= 4 && (memcmp(s, "\xff\xfe\0\0", 4) == 0 || memcmp(s, "\0\0\xfe\xff", 4) == 0)) {
        ST_FAIL(e, ST_EUNSUPPORTED,
                "%s: is UTF-32, expected UTF-8 or UTF-16: convert it (iconv -f UTF-32 -t UTF-8)",
                d->name);
    }
    if (d->wide)
        d->at = 2;
    else if (!d->at)
        d->wide = wide_bare(s, d->n);
    return ST_OK;
}

static void wide_put(st_docs *d, int c)
{
    d->n += (size_t)utf8proc_encode_char(c, (utf8proc_uint8_t *)d->data + d->n);
}

/* A unit of 16 bits; *high: the first half of a character, which waits for the other. */
static void wide_unit(st_docs *d, int unit, int *high)
{
    bool low = unit >= 0xdc00 && unit < 0xe000;
    if (*high && low) {
        wide_put(d, 0x10000 + ((*high - 0xd800) << 10) + (unit - 0xdc00));
        *high = 0;
        return;
    }
    if (*high) wide_put(d, 0xfffd);
    *high = unit >= 0xd800 && unit < 0xdc00 ? unit : 0;
    if (!*high) wide_put(d, low ? 0xfffd : unit);
}

st_status docs_narrow(st_docs *d, const char *raw, size_t n, st_err *e)
{
    ST_TRY(docs_room(d, 2 * n + 16, "text in UTF-16", e));
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)raw[i];
        if (!d->odd) {
            d->half = c;
        } else {
            wide_unit(d, d->wide == 1 ? c << 8 | d->half : d->half << 8 | c, &d->high);
        }
        d->odd = !d->odd;
    }
    if (n == 0 && (d->odd || d->high)) wide_put(d, 0xfffd);
    if (n == 0) d->high = 0, d->odd = false;
    return ST_OK;
}
