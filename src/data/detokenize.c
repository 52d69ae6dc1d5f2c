/* White space as Python sees it, and the WikiText detokeniser: the substitutions that turn
 * WikiText's tokens back into something like prose ("2 @-@ 1 ( see below ) ." -> "2-1 (see
 * below)."), as Megatron-LM's zero-shot evaluation defined them and lm-eval's wikitext task
 * (version 2.0) uses them. The odd ones are kept: numbers compare only if everybody keeps them. */
/* SPDX-License-Identifier: MIT */
#include "data/data.h"
#include <stdlib.h>
#include <string.h>

/* U+0009-000D, 001C-0020, 0085, 00A0, 1680, 2000-200A, 2028, 2029, 202F, 205F, 3000. */
int st_space_at(const char *s, const char *end)
{
    if (s >= end) return 0;
    unsigned char a = (unsigned char)s[0];
    if ((a >= 9 && a <= 13) || (a >= 28 && a <= 32)) return 1;
    if (a < 0xC2 || end - s < 2) return 0;
    unsigned char b = (unsigned char)s[1];
    if (a == 0xC2) return b == 0x85 || b == 0xA0 ? 2 : 0;
    if (end - s < 3) return 0;
    unsigned char c = (unsigned char)s[2];
    if (a == 0xE1) return b == 0x9A && c == 0x80 ? 3 : 0;
    if (a == 0xE3) return b == 0x80 && c == 0x80 ? 3 : 0;
    if (a != 0xE2) return 0;
    if (b == 0x81) return c == 0x9F ? 3 : 0;
    bool in = (c >= 0x80 && c <= 0x8A) || c == 0xA8 || c == 0xA9 || c == 0xAF;
    return b == 0x80 && in ? 3 : 0;
}

void st_space_trim(const char **s, const char **end)
{
    int n;
    while ((n = st_space_at(*s, *end)))
        *s += n;
    for (bool found = true; found && *end > *s;) {
        found = false;
        for (n = 1; n <= 3 && n <= *end - *s && !found; n++) {
            found = st_space_at(*end - n, *end) == n;
            if (found) *end -= n;
        }
    }
}

int64_t st_space_words(const char *text, size_t n)
{
    const char *end = text + n;
    int64_t words = 1;
    bool inside = false;
    for (const char *s = text; s < end;) {
        int space = st_space_at(s, end);
        words += space && !inside;
        inside = space > 0;
        s += space ? space : 1;
    }
    return words;
}

int64_t st_space_tokens(const char *text, size_t n)
{
    const char *s = text, *end = text + n;
    int64_t tokens = 1;
    st_space_trim(&s, &end);
    for (; s < end; s++)
        tokens += *s == ' ';
    return tokens;
}

/* One substitution. `to` NULL: what stands between `from` and `close` loses the white space at its
 * ends (the text between is without `close`). from "/' D/": D is any digit. */
typedef struct {
    const char *from, *to;
    char close;
} detokenize_rule;

static const detokenize_rule rules[] = {
    {"s '", "s'", 0},       {"/' D/", "/'[0-9]/", 0},
    {" @-@ ", "-", 0},      {" @,@ ", ",", 0},
    {" @.@ ", ".", 0},      {" : ", ": ", 0},
    {" ; ", "; ", 0},       {" . ", ". ", 0},
    {" ! ", "! ", 0},       {" ? ", "? ", 0},
    {" , ", ", ", 0},       {"(", NULL, ')'},
    {"[", NULL, ']'},       {"{", NULL, '}'},
    {"\"", NULL, '"'},      {"'", NULL, '\''},
    {"= = = =", "====", 0}, {"= = =", "===", 0},
    {"= =", "==", 0},       {" \xC2\xB0 ", "\xC2\xB0", 0},
    {" \n", "\n", 0},       {"\n ", "\n", 0},
    {" N ", " 1 ", 0},      {" 's", "'s", 0},
};

/* Does `from` stand at s? */
static bool detokenize_is(const char *s, const char *end, const char *from, size_t n)
{
    if ((size_t)(end - s) < n) return false;
    for (size_t i = 0; i < n; i++) {
        bool digit = from[i] == 'D' && s[i] >= '0' && s[i] <= '9';
        if (s[i] != from[i] && !digit) return false;
        if (from[i] == 'D' && !digit) return false;
    }
    return true;
}

static bool detokenize_replace(const detokenize_rule *r, const char *s, const char *end,
                               st_buffer *out)
{
    size_t n = strlen(r->from), to = strlen(r->to);
    const char *kept = s;
    while (s < end) {
        if (*s != *r->from || !detokenize_is(s, end, r->from, n)) {
            s++;
            continue;
        }
        if (!st_buffer_put(out, kept, (size_t)(s - kept)) || !st_buffer_put(out, r->to, to))
            return false;
        s += n;
        kept = s;
    }
    return st_buffer_put(out, kept, (size_t)(end - kept));
}

static bool detokenize_trim(const detokenize_rule *r, const char *s, const char *end,
                            st_buffer *out)
{
    for (;;) {
        const char *open = memchr(s, *r->from, (size_t)(end - s));
        const char *close = open ? memchr(open + 1, r->close, (size_t)(end - open - 1)) : NULL;
        if (!close) return st_buffer_put(out, s, (size_t)(end - s));
        const char *a = open + 1, *b = close;
        st_space_trim(&a, &b);
        if (!st_buffer_put(out, s, (size_t)(open + 1 - s)) ||
            !st_buffer_put(out, a, (size_t)(b - a)) || !st_buffer_put(out, close, 1))
            return false;
        s = close + 1;
    }
}

st_status st_detokenize(const char *text, size_t n, char **out, size_t *nout, st_err *e)
{
    st_buffer a = {0}, b = {0};
    bool ok = st_buffer_put(&a, text, n);
    for (size_t i = 0; ok && i < sizeof rules / sizeof *rules; i++) {
        const detokenize_rule *r = &rules[i];
        b.n = 0;
        ok = (r->to ? detokenize_replace : detokenize_trim)(r, a.s, a.s + a.n, &b);
        st_buffer swap = a;
        a = b;
        b = swap;
    }
    ok = ok && st_buffer_put(&a, "", 1);
    free(b.s);
    if (!ok) {
        free(a.s);
        return ST_NOMEM(e, NULL);
    }
    *out = a.s;
    *nout = a.n - 1;
    return ST_OK;
}
