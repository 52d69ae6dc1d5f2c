/* Sums of products, which most of the time of this backend goes into. */
/* SPDX-License-Identifier: MIT */
#include "backend/ref/ref.h"
#include <string.h>

/* Operands lie in arenas, whose inside no sanitizer knows, and parity keeps inaccessible pages
 * round them; watched, these two functions were half of the time of sanitized tests. */
#define PRODUCTS_UNWATCHED __attribute__((no_sanitize("address", "undefined")))

PRODUCTS_UNWATCHED static inline double products_load(const void *data, bool wide, int64_t i)
{
    if (wide) return (double)((const float *)data)[i];
    uint32_t bits = (uint32_t)((const uint16_t *)data)[i] << 16; /* bfloat16 is half a float32 */
    float value;
    memcpy(&value, &bits, sizeof value);
    return (double)value;
}

PRODUCTS_UNWATCHED double st_ref_products(double sum, ref_vector x, ref_vector y, int64_t n)
{
    const void *from = x.t->data, *with = y.t->data;
    bool wide = x.t->dtype == ST_F32, other = y.t->dtype == ST_F32;
    for (int64_t i = 0; i < n; i++)
        sum += products_load(from, wide, x.at + i * x.step) *
               products_load(with, other, y.at + i * y.step);
    return sum;
}
