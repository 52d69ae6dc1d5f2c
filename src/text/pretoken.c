/* GPT-2's pre-tokeniser (Radford et al. 2019, encoder.py), by hand:
 *     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 * Categories are Unicode 15.0's (utf8proc); \s is the White_Space property. The pattern is only
 * defined on characters: a byte that is not part of valid UTF-8 counts as one character of the
 * third kind (as U+FFFD, or Python's surrogateescape, would), so any bytes split and none are lost.
 */
/* SPDX-License-Identifier: MIT */
#include "text/bpe.h"
#include <utf8proc.h>

enum { OTHER, LETTER, NUMBER, SPACE };

static inline int pretoken_ascii(uint8_t c)
{
    if ((uint8_t)((c | 32) - 'a') < 26) return LETTER;
    if (c == ' ' || (uint8_t)(c - '\t') < 5) return SPACE;
    return (uint8_t)(c - '0') < 10 ? NUMBER : OTHER;
}

/* White_Space beyond ASCII (PropList.txt, 25 code points in all). */
static bool pretoken_space(int32_t c)
{
    return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
           c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

/* Class of the character at s[i]; its length in bytes goes to *len. */
static inline int pretoken_class(const uint8_t *s, size_t n, size_t i, size_t *len)
{
    *len = 1;
    if (s[i] < 128) return pretoken_ascii(s[i]);
    int32_t c;
    size_t left = n - i;
    utf8proc_ssize_t got = utf8proc_iterate(s + i, left < 4 ? (utf8proc_ssize_t)left : 4, &c);
    if (got <= 0) return OTHER;
    *len = (size_t)got;
    if (pretoken_space(c)) return SPACE;
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: return LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: return NUMBER;
    default: return OTHER;
    }
}

/* Length of 's 't 'm 'd 're 've 'll at s[i] == '\'', or 0. */
static size_t pretoken_contraction(const uint8_t *s, size_t n, size_t i)
{
    if (i + 1 >= n) return 0;
    uint8_t a = s[i + 1];
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if (i + 2 >= n) return 0;
    uint8_t b = s[i + 2];
    return ((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

bool st_pretoken_word(const char *text, size_t n, size_t i)
{
    const uint8_t *s = (const uint8_t *)text;
    size_t len;
    int32_t c = s[i];
    int class = pretoken_class(s, n, i, &len);
    if (class == LETTER || class == NUMBER || c == '_') return true;
    if (c < 128 || utf8proc_iterate(s + i, (utf8proc_ssize_t)(n - i), &c) <= 0) return false;
    utf8proc_category_t category = utf8proc_category(c);
    return category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC ||
           category == UTF8PROC_CATEGORY_ME || category == UTF8PROC_CATEGORY_PC;
}

size_t st_pretoken_end(const char *text, size_t n, size_t i)
{
    const uint8_t *s = (const uint8_t *)text;
    size_t len, start = i, last = i;
    if (s[i] == '\'') {
        len = pretoken_contraction(s, n, i);
        if (len) return i + len;
    }
    int class = pretoken_class(s, n, i, &len);
    if (s[i] == ' ' && i + 1 < n) {
        size_t next_len;
        int next = pretoken_class(s, n, i + 1, &next_len);
        if (next != SPACE) {
            class = next;
            len = 1 + next_len;
        }
    }
    for (i += len; i < n; i += len) {
        if (pretoken_class(s, n, i, &len) != class) break;
        last = i;
    }
    /* White space before a word gives up its last character, if it has more than one. */
    return class == SPACE && i < n && last > start ? last : i;
}

bool st_pretoken_blank(const char *text, size_t end, size_t i)
{
    const uint8_t *s = (const uint8_t *)text;
    size_t len;
    if (pretoken_class(s, end, i, &len) != SPACE) return false;
    return i + len >= end || pretoken_class(s, end, i + len, &len) == SPACE;
}
