/* Text as Python treats it, where data has to be what Python programs made of it. */
/* SPDX-License-Identifier: MIT */
#include "job/prepare.h"

/* Bytes of the white space at text[0..n), 0: there is none. str.isspace() is true of U+9 to D, 1C
 * to 20, 85, A0, 1680, 2000 to 200A, 2028, 2029, 202F, 205F and 3000. */
static size_t text_space(const uint8_t *s, size_t n)
{
    if (n >= 1 && ((s[0] >= 9 && s[0] <= 13) || (s[0] >= 28 && s[0] <= 32))) return 1;
    if (n >= 2 && s[0] == 0xC2 && (s[1] == 0x85 || s[1] == 0xA0)) return 2;
    if (n < 3 || s[0] < 0xE1 || s[0] > 0xE3) return 0;
    uint32_t c = (s[0] & 15u) << 12 | (s[1] & 63u) << 6 | (s[2] & 63u);
    bool space = c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
                 c == 0x202F || c == 0x205F || c == 0x3000;
    return space && s[1] >= 0x80 && s[1] < 0xC0 && s[2] >= 0x80 && s[2] < 0xC0 ? 3 : 0;
}

const char *st_text_strip(const char *text, size_t n, size_t *left)
{
    const uint8_t *s = (const uint8_t *)text;
    size_t begin = 0, k;
    while ((k = text_space(s + begin, n - begin)))
        begin += k;
    while (n > begin) {
        for (k = 1; k <= 3; k++) /* the last character may have up to three bytes */
            if (n - begin >= k && text_space(s + n - k, k) == k) break;
        if (k > 3) break;
        n -= k;
    }
    *left = n - begin;
    return text + begin;
}
