/* Characters: UTF-8, and Unicode's classes by utf8proc. */
/* SPDX-License-Identifier: MIT */
#include "text/chars.h"
#include <utf8proc.h>

size_t st_char_at(const char *text, size_t n, size_t i, uint32_t *code)
{
    const uint8_t *s = (const uint8_t *)text + i;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (s[0] < 0x80) {
        *code = s[0];
        return 1;
    }
    size_t k = s[0] < 0xC2 ? 0 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
    if (s[0] > 0xF4 || k > n - i) return 0;
    *code = k ? s[0] & (0xFFu >> (k + 1)) : 0;
    for (size_t j = 1; j < k; j++) {
        if ((s[j] & 0xC0) != 0x80) return 0;
        *code = *code << 6 | (s[j] & 63u);
    }
    bool fine = k && *code >= least[k] && *code < 0x110000 && !(*code >= 0xD800 && *code < 0xE000);
    return fine ? k : 0;
}

size_t st_char_put(uint32_t code, char *out)
{
    size_t k = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const uint8_t head[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t j = k; j-- > 1; code >>= 6)
        out[j] = (char)(0x80 | (code & 63));
    out[0] = (char)(head[k] | code);
    return k;
}

bool st_char_space(uint32_t c)
{
    return c == ' ' || c - '\t' < 5 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
           c == 0x205F || c == 0x3000;
}

bool st_char_number(uint32_t c)
{
    if (c < 128) return c - '0' < 10;
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
}

bool st_char_punct(uint32_t c)
{
    if (c < 128) return c > 32 && c < 127 && c - '0' >= 10 && (c | 32) - 'a' >= 26;
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO;
}

bool st_char_mark(uint32_t c)
{
    return c >= 0x300 && utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_MN;
}

int st_char_order(uint32_t c)
{
    if (c < 0x300) return 0;
    return utf8proc_get_property((utf8proc_int32_t)c)->combining_class;
}
