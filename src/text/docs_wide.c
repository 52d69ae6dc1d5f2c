/* UTF-16 as UTF-8, from pieces of any length. */
/* SPDX-License-Identifier: MIT */
#include "text/docs.h"
#include <utf8proc.h>

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
