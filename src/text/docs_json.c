/* Texts in JSON, as Python's json module reads it (RFC 8259, and NaN, Infinity, surrogates alone):
 * one value is checked whole, and the texts under one field of it are decoded. */
/* SPDX-License-Identifier: MIT */
#include "text/docs.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { JSON_DEPTH = 900 };

/* What the values so far have under the field. */
typedef struct {
    size_t n; /* bytes of `texts` texts */
    int64_t texts, missed;
    docs_json_kind kind; /* of the first that is missed */
} scan_got;

typedef struct {
    docs_json *j;
    const char *begin, *at, *end;
    scan_got got;
    bool stop, nomem; /* got.kind is why */
    int depth;
} scan_reader;

static void scan_broken(scan_reader *r, const char *why)
{
    if (r->stop) return;
    r->stop = true;
    r->got.kind = DOCS_BROKEN;
    snprintf(r->j->why, sizeof r->j->why, "%s", why);
    r->j->column = r->at - r->begin + 1;
}

static void scan_short(scan_reader *r)
{
    if (r->stop) return;
    scan_broken(r, "it ends within a value");
    r->got.kind = DOCS_SHORT;
}

static void scan_blank(scan_reader *r)
{
    while (r->at < r->end && strchr(" \t\r\n", *r->at) && *r->at)
        r->at++;
}

/* ---- texts ----------------------------------------------------------------------------------- */

/* Appends bytes to a text that is wanted. */
static void scan_put(scan_reader *r, bool wanted, const char *s, size_t n)
{
    docs_json *j = r->j;
    if (!wanted || r->stop || !n) return;
    if (r->got.n + n > j->cap) {
        size_t cap = 2 * (r->got.n + n) + 64;
        char *more = realloc(j->text, cap);
        if (!more) {
            r->stop = r->nomem = true;
            return;
        }
        j->text = more;
        j->cap = cap;
    }
    memcpy(j->text + r->got.n, s, n);
    r->got.n += n;
}

/* A text that is wanted ends here. */
static void scan_found(scan_reader *r)
{
    docs_json *j = r->j;
    if (r->stop) return;
    if (r->got.texts == j->ends) {
        int64_t ends = 2 * j->ends + 1;
        size_t *more = realloc(j->end, (size_t)ends * sizeof *more);
        if (!more) {
            r->stop = r->nomem = true;
            return;
        }
        j->end = more;
        j->ends = ends;
    }
    j->end[r->got.texts++] = r->got.n;
}

/* Where the field leads is no text, but that. */
static void scan_missed(scan_reader *r, docs_json_kind kind)
{
    if (!r->stop && !r->got.missed++) r->got.kind = kind;
}

/* Four hexadecimal digits, or -1. */
static int scan_hex(scan_reader *r)
{
    int x = 0;
    if (r->end - r->at < 4) return -1;
    for (int i = 0; i < 4; i++) {
        const char *digits = "0123456789abcdef0123456789ABCDEF", *d = strchr(digits, r->at[i]);
        if (!d || !r->at[i]) return -1;
        x = 16 * x + (int)((d - digits) % 16);
    }
    r->at += 4;
    return x;
}

/* What follows "\u": one character, of one escape or two. */
static void scan_unicode(scan_reader *r, bool wanted)
{
    utf8proc_uint8_t bytes[4];
    int c = scan_hex(r);
    if (c < 0) {
        scan_broken(r, "an escape that is no \\uXXXX");
        return;
    }
    if (c >= 0xd800 && c < 0xdc00 && r->end - r->at >= 6 && r->at[0] == '\\' && r->at[1] == 'u') {
        r->at += 2;
        int low = scan_hex(r);
        if (low >= 0xdc00 && low < 0xe000)
            c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        else
            r->at -= low < 0 ? 2 : 6; /* by itself, or no escape: it comes next */
    }
    if (c >= 0xd800 && c < 0xe000) c = 0xfffd;
    scan_put(r, wanted, (char *)bytes, (size_t)utf8proc_encode_char(c, bytes));
}

static void scan_escape(scan_reader *r, bool wanted)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (r->at == r->end) return;
    char c = *r->at++;
    const char *known = c ? strchr(from, c) : NULL;
    if (c == 'u') {
        scan_unicode(r, wanted);
    } else if (known) {
        scan_put(r, wanted, &to[known - from], 1);
    } else {
        r->at--;
        scan_broken(r, "an escape that JSON has not");
    }
}

/* A text, from its quote on; behind j->text if it is wanted. */
static void scan_string(scan_reader *r, bool wanted)
{
    r->at++;
    while (!r->stop && r->at < r->end && *r->at != '"') {
        const char *from = r->at;
        while (r->at < r->end && (unsigned char)*r->at >= ' ' && (unsigned char)*r->at < 128 &&
               *r->at != '"' && *r->at != '\\')
            r->at++;
        scan_put(r, wanted, from, (size_t)(r->at - from));
        if (r->at == r->end || *r->at == '"') continue;
        if (*r->at == '\\') {
            r->at++;
            scan_escape(r, wanted);
            continue;
        }
        utf8proc_int32_t c;
        utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)r->at, r->end - r->at, &c);
        if (n < 2) {
            scan_broken(r, n == 1 ? "a control character in a text" : "bytes that are not UTF-8");
            return;
        }
        scan_put(r, wanted, r->at, (size_t)n);
        r->at += n;
    }
    if (r->stop) return;
    if (r->at == r->end)
        scan_broken(r, "a text that does not end");
    else
        r->at++;
}

/* ---- values ---------------------------------------------------------------------------------- */

static bool scan_word(scan_reader *r, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(r->end - r->at) < n || memcmp(r->at, word, n)) return false;
    r->at += n;
    return true;
}

static size_t scan_digits(scan_reader *r)
{
    const char *from = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9')
        r->at++;
    return (size_t)(r->at - from);
}

static bool scan_number(scan_reader *r)
{
    scan_word(r, "-");
    if (scan_word(r, "Infinity")) return true;
    if (!scan_word(r, "0") && !scan_digits(r)) return false;
    if (scan_word(r, ".") && !scan_digits(r)) return false;
    if (!scan_word(r, "e") && !scan_word(r, "E")) return true;
    if (!scan_word(r, "+")) scan_word(r, "-");
    return scan_digits(r) > 0;
}

static void scan_value(scan_reader *r, const char *field);

/* The rest of the field after a key that leads to it; NULL: another one. */
static const char *scan_after(const char *field, const char *key, size_t n)
{
    if (!field || !*field || strlen(field) < n || (n && memcmp(field, key, n))) return NULL;
    return field[n] == '.' ? field + n + 1 : field[n] ? NULL : field + n;
}

/* A key and its colon; it is decoded where the next text will be. The rest of the field after it,
 * or NULL. */
static const char *scan_key(scan_reader *r, const char *field)
{
    docs_json *j = r->j;
    size_t from = r->got.n;
    if (r->at < r->end && *r->at != '"') scan_broken(r, "no name of a value in quotes");
    if (r->at == r->end) scan_short(r);
    if (r->stop) return NULL;
    scan_string(r, true);
    size_t n = r->got.n - from;
    r->got.n = from;
    if (r->stop) return NULL;
    const char *key = n ? j->text + from : "", *after = scan_after(field, key, n);
    if (!j->key[0]) snprintf(j->key, sizeof j->key, "%.*s", (int)(n < 64 ? n : 64), key);
    scan_blank(r);
    if (r->at == r->end) scan_short(r);
    if (!r->stop && *r->at != ':') scan_broken(r, "no : after a name");
    if (!r->stop) r->at++;
    return after;
}

/* An object, to its closing bracket. Of a key given twice the last counts. */
static void scan_object(scan_reader *r, const char *field)
{
    scan_got before = r->got;
    bool found = false;
    for (bool first = true; !r->stop; first = false) {
        scan_blank(r);
        if (first && r->at < r->end && *r->at == '}') break;
        const char *after = scan_key(r, field);
        if (r->stop) return;
        if (after && found) r->got = before;
        found |= after != NULL;
        scan_value(r, after);
        scan_blank(r);
        if (!r->stop && r->at == r->end) scan_short(r);
        if (r->stop || *r->at == '}') break;
        if (*r->at != ',') scan_broken(r, "no , between values");
        r->at++;
    }
    if (field && !found) scan_missed(r, *field ? DOCS_ABSENT : DOCS_OTHER);
}

/* An array, to its closing bracket: the field is in each of its values. */
static void scan_array(scan_reader *r, const char *field)
{
    for (bool first = true; !r->stop; first = false) {
        scan_blank(r);
        if (first && r->at < r->end && *r->at == ']') break;
        scan_value(r, field);
        scan_blank(r);
        if (!r->stop && r->at == r->end) scan_short(r);
        if (r->stop || *r->at == ']') break;
        if (*r->at != ',') scan_broken(r, "no , between values");
        r->at++;
    }
}

/* `field`: NULL: not wanted; "": this is it; else it is in this. */
static void scan_value(scan_reader *r, const char *field)
{
    docs_json_kind missed = field && !*field ? DOCS_OTHER : DOCS_ABSENT;
    scan_blank(r);
    if (r->at == r->end) {
        scan_short(r);
        return;
    }
    char c = *r->at;
    if (c == '{' || c == '[') {
        r->at++;
        if (++r->depth > JSON_DEPTH) scan_broken(r, "more than 900 levels of values");
        (c == '{' ? scan_object : scan_array)(r, field);
        if (r->stop) return;
        r->at++;
        r->depth--;
        return;
    }
    if (c == '"' && missed == DOCS_OTHER) {
        scan_string(r, true);
        scan_found(r);
        return;
    }
    if (c == '"')
        scan_string(r, false);
    else if (scan_word(r, "null"))
        missed = missed == DOCS_OTHER ? DOCS_NULL : missed;
    else if (!scan_word(r, "true") && !scan_word(r, "false") && !scan_word(r, "NaN") &&
             !scan_number(r))
        r->at == r->end ? scan_short(r) : scan_broken(r, "no value");
    if (field) scan_missed(r, missed);
}

st_status docs_json_texts(docs_json *j, const char *s, size_t n, const char *field,
                          docs_json_kind *kind, st_err *e)
{
    scan_reader r = {.j = j, .begin = s, .at = s, .end = s + n, .got.kind = DOCS_ABSENT};
    j->key[0] = '\0';
    scan_blank(&r);
    char first = r.at < r.end ? *r.at : 0;
    if (first == '"') field = ""; /* a text itself */
    scan_value(&r, field);
    scan_blank(&r);
    if (!r.stop && r.at < r.end) scan_broken(&r, "something after the value");
    if (r.nomem) ST_FAIL(e, ST_ENOMEM, "out of memory for a text of %zu bytes", n);
    j->texts = r.stop ? 0 : r.got.texts;
    j->missed = r.stop ? 0 : r.got.missed;
    j->given = 0;
    *kind = r.got.kind;
    if (r.stop) return ST_OK;
    if (!j->texts && !j->missed) *kind = DOCS_OTHER; /* empty arrays */
    if (first != '{' && first != '"') *kind = DOCS_SCALAR;
    if (j->texts && !j->missed) *kind = DOCS_TEXT;
    return ST_OK;
}

/* ---- where a value ends ---------------------------------------------------------------------- */

size_t docs_json_end(docs_extent *x, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        if (x->within) {
            if (x->escaped)
                x->escaped = false;
            else if (c == '\\')
                x->escaped = true;
            else if (c == '"')
                x->within = false;
            if (!x->within && !x->depth) return i + 1;
            continue;
        }
        bool blank = c == ' ' || c == '\t' || c == '\n' || c == '\r';
        if (!x->depth && x->begun && (blank || c == ',' || c == ']')) return i;
        if (blank) continue;
        x->begun = true;
        x->within = c == '"';
        if (c == '{' || c == '[') x->depth++;
        if ((c == '}' || c == ']') && --x->depth <= 0) return i + 1;
    }
    return n + 1;
}
