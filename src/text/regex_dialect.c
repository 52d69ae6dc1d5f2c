/* Oniguruma's Ruby dialect of regular expressions, said in PCRE2's. What differs: \s, \w, \d, \b
 * are Unicode's; groups do not capture; sets nest ([a[bc]]) and meet ([a-z&&[^b]]); {n}+ and {n}?
 * repeat a repetition; \v and \h are no classes. What has no translation here (back references,
 * calls, POSIX brackets, conditions) is refused by name. */
/* SPDX-License-Identifier: MIT */
#include "text/chars.h"
#include "text/regex.h"
#include <stdlib.h>
#include <string.h>

#define DIALECT_SPACE                                                                              \
    "\\t-\\r\\x20\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}"            \
    "\\x{205F}\\x{3000}"
#define DIALECT_WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
enum { DIALECT_DEPTH = 64 };

typedef struct {
    const char *s, *what;
    size_t n, i;
    st_buffer *out;
    size_t group[DIALECT_DEPTH]; /* where open groups begin in `out` */
    int depth;
    size_t atom; /* where what a quantifier would repeat begins in `out`, SIZE_MAX: there is none */
    bool bad_memory;
    st_err *e;
} dialect;

static void dialect_put(dialect *d, const char *s)
{
    d->bad_memory |= !st_buffer_put(d->out, s, strlen(s));
}

static void dialect_copy(dialect *d, size_t n)
{
    d->bad_memory |= !st_buffer_put(d->out, d->s + d->i, n);
    d->i += n;
}

/* Puts a text before what stands at `at`. */
static void dialect_insert(dialect *d, size_t at, const char *s)
{
    size_t n = strlen(s), after = d->out->n - at;
    dialect_put(d, s);
    if (d->bad_memory) return;
    memmove(d->out->s + at + n, d->out->s + at, after);
    memcpy(d->out->s + at, s, n);
}

static st_status dialect_refuse(const dialect *d, size_t at, size_t n, const char *why)
{
    if (n > d->n - at) n = d->n - at;
    ST_FAIL(d->e, ST_EUNSUPPORTED, "%s: %s in the regular expression: \"%.*s\" at its byte %zu",
            d->what, why, (int)n, d->s + at, at);
}

static int dialect_peek(const dialect *d, size_t more)
{
    return d->i + more < d->n ? (uint8_t)d->s[d->i + more] : -1;
}

/* ---- escapes --------------------------------------------------------------------------------- */

/* \p{...}, \x.., \u....: the same inside sets and outside. *done: it was one of them. */
static st_status dialect_code(dialect *d, int c, bool *done)
{
    size_t from = d->i;
    *done = true;
    if (c == 'p' || c == 'P') {
        static const char *const full[][2] = {
            {"Letter}", "L}"},      {"Mark}", "M}"},   {"Number}", "N}"},
            {"Punctuation}", "P}"}, {"Symbol}", "S}"}, {"Separator}", "Z}"},
            {"Other}", "C}"},       {"Punct}", "P}"},  {"Alpha}", "Alphabetic}"}};
        const char *end = memchr(d->s + d->i, '}', d->n - d->i);
        if (dialect_peek(d, 2) != '{' || !end)
            return dialect_refuse(d, from, 3, "a class without a name");
        size_t n = (size_t)(end - d->s) - d->i + 1, head = dialect_peek(d, 3) == '^' ? 4 : 3;
        for (size_t k = 0; k < sizeof full / sizeof *full; k++) {
            size_t len = strlen(full[k][0]);
            if (n != head + len || memcmp(d->s + d->i + head, full[k][0], len)) continue;
            dialect_copy(d, head);
            dialect_put(d, full[k][1]);
            d->i = from + n;
            return ST_OK;
        }
        dialect_copy(d, n);
        return ST_OK;
    }
    if (c == 'u') {
        size_t k = 2;
        while (k < 6 && dialect_peek(d, k) >= 0 &&
               strchr("0123456789abcdefABCDEF", dialect_peek(d, k)))
            k++;
        if (k != 6) return dialect_refuse(d, from, 6, "a broken character");
        dialect_put(d, "\\x{");
        d->i += 2;
        dialect_copy(d, 4);
        dialect_put(d, "}");
        return ST_OK;
    }
    if (c == 'x') {
        dialect_copy(d, 2);
        return ST_OK;
    }
    if (c == 'v') dialect_put(d, "\\x0B");
    if (c == 'v') d->i += 2;
    if (c == 'v') return ST_OK;
    if (c >= 0 && strchr("nrtfae", c) && c) {
        dialect_copy(d, 2);
        return ST_OK;
    }
    *done = false;
    return ST_OK;
}

/* What is escaped only because it might mean something: a mark of ASCII, any character beyond. */
static bool dialect_literal(int c)
{
    return c >= 128 ||
           (c >= 32 && c < 127 && !((c | 32) >= 'a' && (c | 32) <= 'z') && !(c >= '0' && c <= '9'));
}

static void dialect_literal_put(dialect *d)
{
    uint32_t code;
    size_t len = st_char_at(d->s, d->n, d->i + 1, &code);
    if (code < 128)
        dialect_copy(d, 2);
    else
        d->i++;
    if (code >= 128) dialect_copy(d, len ? len : 1);
}

static st_status dialect_escape(dialect *d)
{
    static const struct {
        char c;
        const char *is;
    } known[] = {
        {'d', "\\p{Nd}"},
        {'D', "\\P{Nd}"},
        {'s', "[" DIALECT_SPACE "]"},
        {'S', "[^" DIALECT_SPACE "]"},
        {'w', "[" DIALECT_WORD "]"},
        {'W', "[^" DIALECT_WORD "]"},
        {'b', "(?:(?<=[" DIALECT_WORD "])(?![" DIALECT_WORD "])|(?<![" DIALECT_WORD
              "])(?=[" DIALECT_WORD "]))"},
        {'B', "(?:(?<=[" DIALECT_WORD "])(?=[" DIALECT_WORD "])|(?<![" DIALECT_WORD
              "])(?![" DIALECT_WORD "]))"},
        {'A', "\\A"},
        {'z', "\\z"},
        {'Z', "\\Z"},
    };
    int c = dialect_peek(d, 1);
    bool done;
    d->atom = d->out->n;
    for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
        if (known[k].c != c) continue;
        dialect_put(d, known[k].is);
        d->i += 2;
        return ST_OK;
    }
    ST_TRY(dialect_code(d, c, &done));
    if (done) return ST_OK;
    if (!dialect_literal(c)) return dialect_refuse(d, d->i, 2, "an escape without a translation");
    dialect_literal_put(d);
    return ST_OK;
}

/* ---- sets ------------------------------------------------------------------------------------ */

static st_status dialect_set(dialect *d, int depth);

/* An escape in a set: *other becomes an expression where it is no part of a set in PCRE2. */
static st_status dialect_set_escape(dialect *d, const char **other)
{
    static const struct {
        char c;
        const char *in, *other;
    } known[] = {
        {'d', "\\p{Nd}", NULL},     {'D', "\\P{Nd}", NULL},
        {'s', DIALECT_SPACE, NULL}, {'S', NULL, "[^" DIALECT_SPACE "]"},
        {'w', DIALECT_WORD, NULL},  {'W', NULL, "[^" DIALECT_WORD "]"},
        {'b', "\\x08", NULL},
    };
    int c = dialect_peek(d, 1);
    bool done, class = c >= 0 && strchr("dDsSwWpP", c) && c;
    *other = NULL;
    for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
        if (known[k].c != c) continue;
        if (known[k].in) dialect_put(d, known[k].in);
        *other = known[k].other;
        d->i += 2;
        break;
    }
    if (!class || c == 'p' || c == 'P') {
        if (c == 'b') return ST_OK;
        ST_TRY(dialect_code(d, c, &done));
        if (!done && !dialect_literal(c))
            return dialect_refuse(d, d->i, 2, "an escape without a translation");
        if (!done) dialect_literal_put(d);
    }
    /* behind a class a dash is itself */
    if (class && dialect_peek(d, 0) == '-' && dialect_peek(d, 1) != ']') {
        if (!*other) dialect_put(d, "\\-");
        if (*other) return dialect_refuse(d, d->i, 2, "a range from a class");
        d->i++;
    }
    return ST_OK;
}

/* The members up to ] or && as one expression for one character: [...], or (?:[...]|...) where some
 * are sets of their own. */
static st_status dialect_members(dialect *d, int depth)
{
    st_buffer *whole = d->out, others = {0}, plain = {0};
    st_status s = ST_OK;
    size_t from = d->i;
    for (int c; !s && (c = dialect_peek(d, 0)) >= 0 && !d->bad_memory;) {
        const char *other = NULL;
        bool meet = c == '&' && dialect_peek(d, 1) == '&';
        if ((c == ']' && d->i > from) || meet) break;
        d->out = &plain;
        if (c == '\\') {
            s = dialect_set_escape(d, &other);
            d->out = &others;
            if (other) dialect_put(d, "|");
            if (other) dialect_put(d, other);
        } else if (c == '[') {
            d->out = &others;
            dialect_put(d, "|");
            if (dialect_peek(d, 1) == ':')
                s = dialect_refuse(d, d->i, 8, "a POSIX bracket");
            else
                s = dialect_set(d, depth + 1);
        } else {
            if (c == ']' || (c == '^' && !plain.n)) dialect_put(d, "\\");
            dialect_copy(d, 1);
        }
    }
    d->out = whole;
    if (others.n) dialect_put(d, "(?:");
    if (plain.n) dialect_put(d, "[");
    if (plain.n) d->bad_memory |= !st_buffer_put(d->out, plain.s, plain.n);
    if (plain.n) dialect_put(d, "]");
    size_t skip = plain.n ? 0 : 1; /* the first bar */
    if (others.n) d->bad_memory |= !st_buffer_put(d->out, others.s + skip, others.n - skip);
    if (others.n) dialect_put(d, ")");
    if (!s && !plain.n && !others.n) s = dialect_refuse(d, from, 4, "an empty set");
    free(others.s);
    free(plain.s);
    return s;
}

static st_status dialect_set(dialect *d, int depth)
{
    size_t from = d->i, at = d->out->n;
    bool negated = dialect_peek(d, 1) == '^', met = false;
    if (depth >= DIALECT_DEPTH) return dialect_refuse(d, from, 8, "too many sets in sets");
    d->i += negated ? 2 : 1;
    for (;;) {
        size_t part = d->out->n;
        ST_TRY(dialect_members(d, depth));
        if (dialect_peek(d, 0) == ']') break;
        if (dialect_peek(d, 0) < 0) return dialect_refuse(d, from, 8, "a set that does not end");
        d->i += 2; /* && */
        dialect_insert(d, part, "(?=");
        dialect_put(d, ")");
        met = true;
    }
    d->i++;
    if (met) dialect_insert(d, at, "(?:");
    if (met) dialect_put(d, ")");
    if (!negated || d->bad_memory) return ST_OK;
    if (d->out->s[at] == '[' && !met && d->out->s[d->out->n - 1] == ']') {
        dialect_insert(d, at + 1, "^");
    } else {
        dialect_insert(d, at, "(?:(?!");
        dialect_put(d, ")[\\x{0}-\\x{10FFFF}])");
    }
    return ST_OK;
}

/* ---- groups and repetitions ------------------------------------------------------------------ */

static st_status dialect_open(dialect *d)
{
    static const char *const known[] = {"(?:",  "(?=",  "(?!",  "(?>",
                                        "(?<=", "(?<!", "(?i:", "(?-i:"};
    size_t n = 1;
    if (dialect_peek(d, 1) == '?') {
        for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
            size_t len = strlen(known[k]);
            if (d->n - d->i >= len && !memcmp(d->s + d->i, known[k], len)) n = len;
        }
        bool all = d->i == 0 && d->n > 4 && !memcmp(d->s, "(?i)", 4);
        if (all) {
            dialect_copy(d, 4);
            return ST_OK;
        }
        if (n == 1) return dialect_refuse(d, d->i, 4, "a group without a translation");
    }
    if (d->depth == DIALECT_DEPTH) return dialect_refuse(d, d->i, n, "too many groups in groups");
    d->group[d->depth++] = d->out->n;
    d->atom = SIZE_MAX;
    if (n == 1) dialect_put(d, "(?:");
    if (n == 1)
        d->i++;
    else
        dialect_copy(d, n);
    return ST_OK;
}

/* {n}, {n,}, {,m}, {n,m} at d->i: its length, 0 if it is none; *exact: {n}. */
static size_t dialect_interval(const dialect *d, bool *exact)
{
    size_t k = 1, digits = 0, comma = 0;
    for (int c; (c = dialect_peek(d, k)) >= 0 && c != '}'; k++) {
        if (c == ',' && !comma)
            comma = k;
        else if (c >= '0' && c <= '9')
            digits++;
        else
            return 0;
    }
    *exact = !comma;
    return dialect_peek(d, k) == '}' && digits ? k + 1 : 0;
}

static st_status dialect_repeat(dialect *d)
{
    bool exact = false;
    size_t n = dialect_peek(d, 0) == '{' ? dialect_interval(d, &exact) : 1, atom = d->atom;
    if (!n) { /* a brace that is itself */
        d->atom = d->out->n;
        dialect_put(d, "\\");
        dialect_copy(d, 1);
        return ST_OK;
    }
    if (atom == SIZE_MAX) return dialect_refuse(d, d->i, n, "a repetition of nothing");
    if (dialect_peek(d, 0) != '{') {
        dialect_copy(d, 1);
        if (dialect_peek(d, 0) == '?' || dialect_peek(d, 0) == '+') dialect_copy(d, 1);
    } else {
        bool least = dialect_peek(d, 1) == ',';
        if (least) dialect_put(d, "{0");
        if (least) d->i++;
        dialect_copy(d, least ? n - 1 : n);
        if (dialect_peek(d, 0) == '?' && !exact) dialect_copy(d, 1);
    }
    int next = dialect_peek(d, 0);
    if (next == '?' || next == '+' || next == '*' || next == '{') { /* of the repetition */
        dialect_insert(d, atom, "(?:");
        dialect_put(d, ")");
        d->atom = atom;
    } else {
        d->atom = SIZE_MAX;
    }
    return ST_OK;
}

static st_status dialect_step(dialect *d)
{
    int c = dialect_peek(d, 0);
    switch (c) {
    case '\\': return dialect_escape(d);
    case '[': d->atom = d->out->n; return dialect_set(d, 0);
    case '(': return dialect_open(d);
    case ')':
        if (!d->depth) return dialect_refuse(d, d->i, 1, "a bracket too many");
        d->atom = d->group[--d->depth];
        dialect_copy(d, 1);
        return ST_OK;
    case '*':
    case '+':
    case '?':
    case '{': return dialect_repeat(d);
    case '|':
        d->atom = SIZE_MAX;
        dialect_copy(d, 1);
        return ST_OK;
    default: break;
    }
    uint32_t code;
    size_t len = st_char_at(d->s, d->n, d->i, &code);
    d->atom = d->out->n;
    dialect_copy(d, len ? len : 1);
    return ST_OK;
}

st_status st_regex_translate(const char *pattern, size_t n, const char *what, st_buffer *out,
                             st_err *e)
{
    dialect d = {.s = pattern, .n = n, .what = what, .out = out, .atom = SIZE_MAX, .e = e};
    while (d.i < n && !d.bad_memory)
        ST_TRY(dialect_step(&d));
    if (d.depth) return dialect_refuse(&d, 0, n < 20 ? n : 20, "a bracket that does not close");
    if (d.bad_memory || !st_buffer_put(out, "", 0)) return ST_NOMEM(e, what);
    return ST_OK;
}
