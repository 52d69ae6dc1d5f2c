/* Normalizers: NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents, Prepend, Replace. Bytes that
 * are no part of a character stay what they are. Unicode 15.0 (utf8proc). */
/* SPDX-License-Identifier: MIT */
#include "text/chars.h"
#include "text/flow.h"
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* ---- reading --------------------------------------------------------------------------------- */

void st_normal_close(st_normal *k)
{
    st_regex_close(k->regex);
}

st_status st_flow_read_normal(st_flow *f, const json_t *part, const char *where, st_err *e)
{
    static const struct {
        const char *type;
        st_normal_kind kind;
    } kinds[] = {{"NFC", ST_NORMAL_NFC},         {"NFD", ST_NORMAL_NFD},
                 {"NFKC", ST_NORMAL_NFKC},       {"NFKD", ST_NORMAL_NFKD},
                 {"Lowercase", ST_NORMAL_LOWER}, {"StripAccents", ST_NORMAL_ACCENTS},
                 {"Strip", ST_NORMAL_STRIP},     {"Prepend", ST_NORMAL_PREPEND},
                 {"Replace", ST_NORMAL_REPLACE}};
    enum { KINDS = sizeof kinds / sizeof *kinds };
    int k = 0;
    while (k < KINDS && strcmp(kinds[k].type, st_flow_type(part)))
        k++;
    if (k == KINDS || f->normals == 64) return st_flow_refuse(part, "type", where, e);
    st_normal *step = &f->normal[f->normals++];
    step->kind = kinds[k].kind;
    if (step->kind == ST_NORMAL_STRIP) {
        ST_TRY(st_json_flag(part, "strip_left", &step->left, where, e));
        ST_TRY(st_json_flag(part, "strip_right", &step->right, where, e));
    }
    const char *key = step->kind == ST_NORMAL_PREPEND ? "prepend" : "content";
    const json_t *to = json_object_get(part, key);
    if (step->kind != ST_NORMAL_PREPEND && step->kind != ST_NORMAL_REPLACE) return ST_OK;
    if (!json_is_string(to)) return st_flow_refuse(part, key, where, e);
    step->to = json_string_value(to);
    step->to_n = json_string_length(to);
    if (step->kind == ST_NORMAL_PREPEND) return ST_OK;
    return st_flow_pattern(part, where, &step->from, &step->from_n, &step->regex, e);
}

/* ---- Unicode's forms ------------------------------------------------------------------------- */

typedef struct {
    int32_t *c;
    size_t n, cap;
} normal_text;

static bool normal_room(normal_text *t, size_t more)
{
    if (t->cap - t->n >= more) return true;
    size_t cap = t->cap ? 2 * t->cap + more : 256;
    int32_t *c = realloc(t->c, cap * sizeof *c);
    if (!c) return false;
    t->c = c;
    t->cap = cap;
    return true;
}

typedef struct {
    int32_t c;
    int order;
    size_t at;
} normal_mark;

static int normal_by_order(const void *x, const void *y)
{
    const normal_mark *a = x, *b = y;
    return a->order != b->order ? a->order - b->order : (a->at > b->at) - (a->at < b->at);
}

/* Puts marks behind their base into canonical order, equal ones as they stand: n log n also for
 * texts of marks alone. */
static bool normal_sort(normal_text *t, size_t from)
{
    size_t n = t->n - from;
    bool sorted = true;
    for (size_t i = 1; i < n && sorted; i++)
        sorted =
            st_char_order((uint32_t)t->c[from + i - 1]) <= st_char_order((uint32_t)t->c[from + i]);
    if (sorted) return true;
    normal_mark *m = st_calloc((int64_t)n, sizeof *m);
    if (!m) return false;
    for (size_t i = 0; i < n; i++)
        m[i] = (normal_mark){t->c[from + i], st_char_order((uint32_t)t->c[from + i]), i};
    qsort(m, n, sizeof *m, normal_by_order);
    for (size_t i = 0; i < n; i++)
        t->c[from + i] = m[i].c;
    free(m);
    return true;
}

/* Decomposes s[0..n), which is UTF-8. */
static bool normal_decompose(const char *s, size_t n, bool compat, normal_text *t)
{
    utf8proc_option_t options = UTF8PROC_DECOMPOSE | (compat ? UTF8PROC_COMPAT : 0);
    size_t marks = 0; /* where the marks at the end begin */
    for (size_t i = 0, len; i < n; i += len) {
        uint32_t code = 0;
        int unused = UTF8PROC_BOUNDCLASS_START;
        if (!(len = st_char_at(s, n, i, &code)) || !normal_room(t, 32)) return false;
        utf8proc_ssize_t got =
            utf8proc_decompose_char((utf8proc_int32_t)code, t->c + t->n, 32, options, &unused);
        if (got <= 0 || got > 32) return false;
        for (utf8proc_ssize_t k = 0; k < got; k++) {
            bool base = !st_char_order((uint32_t)t->c[t->n]);
            if (base && !normal_sort(t, marks)) return false;
            t->n++;
            if (base) marks = t->n;
        }
    }
    return normal_sort(t, marks);
}

/* One run of UTF-8 in the form of `kind`. */
static bool normal_run(st_normal_kind kind, const char *s, size_t n, st_buffer *out)
{
    normal_text t = {0};
    bool compat = kind == ST_NORMAL_NFKC || kind == ST_NORMAL_NFKD;
    bool good = normal_decompose(s, n, compat, &t);
    if (good && (kind == ST_NORMAL_NFC || kind == ST_NORMAL_NFKC) && t.n) {
        utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
        utf8proc_ssize_t left = utf8proc_normalize_utf32(t.c, (utf8proc_ssize_t)t.n, options);
        good = left >= 0;
        t.n = good ? (size_t)left : 0;
    }
    for (size_t i = 0; i < t.n && good; i++) {
        char utf8[4];
        good = st_buffer_put(out, utf8, st_char_put((uint32_t)t.c[i], utf8));
    }
    free(t.c);
    return good;
}

/* ASCII is its own form, and joins what follows it only as a base: runs of other characters, each
 * with the character before it, are worked on. */
static bool normal_form(st_normal_kind kind, const char *s, size_t n, st_buffer *out)
{
    bool good = true;
    for (size_t i = 0, at = 0; i < n && good; at = i) {
        uint32_t code;
        while (i < n && (uint8_t)s[i] < 128)
            i++;
        size_t from = i > at && i < n ? i - 1 : i;
        good = st_buffer_put(out, s + at, from - at);
        while (i < n && (uint8_t)s[i] >= 128 && good) {
            size_t len = st_char_at(s, n, i, &code);
            i += len;
            if (len) continue;
            good = normal_run(kind, s + from, i - from, out) && st_buffer_put(out, s + i, 1);
            from = ++i;
        }
        good = good && normal_run(kind, s + from, i - from, out);
    }
    return good;
}

/* ---- the others ------------------------------------------------------------------------------ */

static bool normal_lower(const char *s, size_t n, st_buffer *out)
{
    bool good = true;
    for (size_t i = 0, len; i < n && good; i += len) {
        uint32_t code = 0;
        char utf8[4];
        len = st_char_at(s, n, i, &code);
        if (!len) {
            len = 1;
            good = st_buffer_put(out, s + i, 1);
            continue;
        }
        uint32_t small = (uint32_t)utf8proc_tolower((utf8proc_int32_t)code);
        if (code == 0x130) { /* the one letter that becomes two: i and a dot above */
            good = st_buffer_put(out, "i\xCC\x87", 3);
            continue;
        }
        good = st_buffer_put(out, utf8, st_char_put(small, utf8));
    }
    return good;
}

static bool normal_accents(const char *s, size_t n, st_buffer *out)
{
    bool good = true;
    for (size_t i = 0, len; i < n && good; i += len) {
        uint32_t code = 0;
        len = st_char_at(s, n, i, &code);
        bool mark = len && st_char_mark(code);
        if (!len) len = 1;
        good = mark || st_buffer_put(out, s + i, len);
    }
    return good;
}

/* How long the character is that ends before s[i]; 1 for a byte that is none. */
static size_t normal_before(const char *s, size_t n, size_t i, uint32_t *code)
{
    for (size_t k = 1; k <= 4 && k <= i; k++)
        if (st_char_at(s, n, i - k, code) == k) return k;
    *code = 0xFFFD;
    return 1;
}

static bool normal_strip(const st_normal *k, const char *s, size_t n, st_buffer *out)
{
    size_t at = 0, end = n, len;
    uint32_t code = 0;
    while (k->left && at < end && (len = st_char_at(s, n, at, &code)) && st_char_space(code))
        at += len;
    while (k->right && end > at && (len = normal_before(s, n, end, &code)) && st_char_space(code))
        end -= len;
    return st_buffer_put(out, s + at, end - at);
}

static bool normal_replace(const st_normal *k, const char *s, size_t n, st_buffer *out)
{
    size_t at = 0;
    bool good = true;
    for (const char *hit;
         good && k->from_n && (hit = memmem(s + at, n - at, k->from, k->from_n));) {
        size_t to = (size_t)(hit - s);
        good = st_buffer_put(out, s + at, to - at) && st_buffer_put(out, k->to, k->to_n);
        at = to + k->from_n;
    }
    return good && st_buffer_put(out, s + at, n - at);
}

static st_status normal_replace_regex(const st_normal *k, const char *s, size_t n, st_buffer *out,
                                      st_err *e)
{
    st_regex_scan c;
    size_t at = 0, start = 0, end = 0;
    bool found = true, good = true;
    ST_TRY(st_regex_scan_open(&c, k->regex, s, n, e));
    st_status status = ST_OK;
    while (!status && good && !(status = st_regex_next(&c, &start, &end, &found, e)) && found) {
        good = st_buffer_put(out, s + at, start - at) && st_buffer_put(out, k->to, k->to_n);
        at = end;
    }
    st_regex_scan_close(&c);
    if (!status && !(good && st_buffer_put(out, s + at, n - at))) return ST_NOMEM(e, NULL);
    return status;
}

st_status st_normal_run(const st_normal *k, const char *s, size_t n, st_buffer *out, st_err *e)
{
    bool good = true;
    switch (k->kind) {
    case ST_NORMAL_LOWER: good = normal_lower(s, n, out); break;
    case ST_NORMAL_ACCENTS: good = normal_accents(s, n, out); break;
    case ST_NORMAL_STRIP: good = normal_strip(k, s, n, out); break;
    case ST_NORMAL_PREPEND:
        good = (!n || st_buffer_put(out, k->to, k->to_n)) && st_buffer_put(out, s, n);
        break;
    case ST_NORMAL_REPLACE:
        if (k->regex) return normal_replace_regex(k, s, n, out, e);
        good = normal_replace(k, s, n, out);
        break;
    default: good = normal_form(k->kind, s, n, out);
    }
    if (good) return ST_OK;
    return ST_NOMEM(e, NULL);
}
