/* Rows of text: lines, JSON (a value a line, values over many lines, arrays of them) and tables of
 * comma-separated values. A row without a text is counted and left out, unless the caller is
 * strict. */
/* SPDX-License-Identifier: MIT */
#include "text/docs.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

st_status docs_bad(st_docs *d, st_err *e, const char *fmt, ...)
{
    char why[DOCS_WHY];
    va_list args;
    va_start(args, fmt);
    vsnprintf(why, sizeof why, fmt, args);
    va_end(args);
    if (d->o.strict) ST_FAIL(e, ST_EFORMAT, "%s:%lld: %s", d->name, (long long)d->line, why);
    if (!d->bad++)
        snprintf(d->why, sizeof d->why, "%.200s:%lld: %s", d->name, (long long)d->line, why);
    return ST_OK;
}

/* Goes on by n bytes of the stream, counting lines. */
static void rows_eat(st_docs *d, size_t n)
{
    const char *at = d->data + d->at, *end = at + n;
    while ((at = memchr(at, '\n', (size_t)(end - at)))) {
        d->line++;
        at++;
    }
    d->at += n;
}

/* The bytes up to the next newline and with it, or to the end; 0: there are none. */
static st_status rows_line(st_docs *d, size_t *n, st_err *e)
{
    for (size_t seen = 0;;) {
        size_t have = d->n - d->at;
        const char *from = d->data + d->at,
                   *end = have > seen ? memchr(from + seen, '\n', have - seen) : NULL;
        *n = end ? (size_t)(end - from) + 1 : have;
        if (end || d->ended) return ST_OK;
        seen = have;
        ST_TRY(docs_fill(d, "a line", d->most, e));
    }
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static st_status rows_missed(st_docs *d, docs_json_kind kind, st_err *e)
{
    const docs_json *j = &d->json;
    switch (kind) {
    case DOCS_TEXT: return ST_OK;
    case DOCS_NULL: return docs_bad(d, e, "\"%.60s\" is null", d->field);
    case DOCS_OTHER: return docs_bad(d, e, "\"%.60s\" is not a string", d->field);
    case DOCS_SCALAR: return docs_bad(d, e, "not an object, expected one with \"%.60s\"", d->field);
    case DOCS_ABSENT:
        return docs_bad(d, e, "no \"%.40s\" in this object%s%.40s%s; choose with --field", d->field,
                        *j->key ? ", which begins with \"" : "", j->key, *j->key ? "\"" : "");
    case DOCS_SHORT:
    case DOCS_BROKEN: break;
    }
    return docs_bad(d, e, "not valid JSON at column %lld: %s; expected one object a line",
                    (long long)j->column, j->why);
}

/* The next text of the value that was read last. */
static bool rows_given(st_docs *d)
{
    docs_json *j = &d->json;
    if (j->given == j->texts) return false;
    size_t from = j->given ? j->end[j->given - 1] : 0;
    d->left = j->end[j->given++] - from;
    d->text = d->left ? j->text + from : "";
    return true;
}

/* Takes the texts out of the value s[0..n), and counts what has none. */
static st_status rows_value(st_docs *d, const char *s, size_t n, bool *found, st_err *e)
{
    docs_json_kind kind;
    ST_TRY(docs_json_texts(&d->json, s, n, d->field, &kind, e));
    if (kind != DOCS_TEXT) ST_TRY(rows_missed(d, kind, e));
    if (d->json.missed > 1) d->bad += d->json.missed - 1;
    *found = rows_given(d);
    return ST_OK;
}

/* Where the value ends that begins where the stream stands; n of docs_json_end. */
static st_status rows_extent(st_docs *d, size_t *n, bool *whole, st_err *e)
{
    docs_extent x = {0};
    for (size_t seen = 0;;) {
        size_t have = d->n - d->at, end = docs_json_end(&x, d->data + d->at + seen, have - seen);
        *whole = end <= have - seen;
        *n = seen + (*whole ? end : have - seen);
        if (*whole || d->ended) return ST_OK;
        seen = have;
        ST_TRY(docs_fill(d, "a value", d->most, e));
    }
}

/* A line of JSON, or the value that begins in it and goes on over further lines. */
static st_status rows_json_line(st_docs *d, bool *found, st_err *e)
{
    size_t line, n;
    bool whole = true;
    ST_TRY(rows_line(d, &line, e));
    n = line;
    while (n && strchr(" \t\r\n", d->data[d->at + n - 1]))
        n--;
    if (n && strchr("{[,:", d->data[d->at + n - 1])) {
        size_t all;
        ST_TRY(rows_extent(d, &all, &whole, e));
        if (whole && all > n) { /* only if it is a value: else the line by itself is bad */
            docs_json_kind kind;
            ST_TRY(docs_json_texts(&d->json, d->data + d->at, all, d->field, &kind, e));
            if (kind < DOCS_SHORT) line = n = all;
        }
    }
    d->line++;
    ST_TRY(rows_value(d, d->data + d->at, n, found, e));
    rows_eat(d, line);
    d->line -= line && d->data[d->at - 1] == '\n';
    return ST_OK;
}

/* An element of an array, or its end. */
static st_status rows_json_element(st_docs *d, bool *found, st_err *e)
{
    size_t n;
    bool whole;
    char c = d->data[d->at];
    if (c == ']' || (c == ',' && d->after)) {
        d->array = c == ',';
        d->after = false;
        d->at++;
        return ST_OK;
    }
    ST_TRY(rows_extent(d, &n, &whole, e));
    if (!whole || d->after || !n) {
        ST_FAIL(e, ST_EFORMAT, "%s:%lld: not valid JSON: %s", d->name, (long long)d->line + 1,
                !whole ? "the file ends within an array" : "no , between the values of an array");
    }
    d->line++;
    ST_TRY(rows_value(d, d->data + d->at, n, found, e));
    d->line--;
    rows_eat(d, n);
    d->after = true;
    return ST_OK;
}

/* Stands before the next character that is not blank; *n: how many bytes are there from it on. */
static st_status rows_blank(st_docs *d, size_t *n, st_err *e)
{
    for (;;) {
        size_t blank = 0, have = d->n - d->at;
        while (blank < have && strchr(" \t\r\n", d->data[d->at + blank]) && d->data[d->at + blank])
            blank++;
        if (have) rows_eat(d, blank);
        *n = d->n - d->at;
        if (*n || d->ended) return ST_OK;
        ST_TRY(docs_fill(d, "white space", d->most, e));
    }
}

static st_status rows_json(st_docs *d, bool *found, st_err *e)
{
    size_t n;
    ST_TRY(rows_blank(d, &n, e));
    if (!n && d->array) {
        ST_FAIL(e, ST_EFORMAT, "%s:%lld: not valid JSON: the file ends within an array", d->name,
                (long long)d->line + 1);
    }
    if (!n) return ST_OK;
    if (d->array) return rows_json_element(d, found, e);
    if (d->data[d->at] != '[') return rows_json_line(d, found, e);
    d->array = true;
    d->at++;
    return ST_OK;
}

/* ---- tables ---------------------------------------------------------------------------------- */

/* The bytes of the next record with its line's end; a field that begins with a quote may have
 * newlines. */
static st_status rows_record(st_docs *d, size_t *n, st_err *e)
{
    bool quoted = false, opens = true; /* a quote here would open a text, or go on with one */
    for (size_t i = 0;; i++) {
        while (d->at + i == d->n && !d->ended)
            ST_TRY(docs_fill(d, "a row", d->most, e));
        *n = i;
        if (d->at + i == d->n) return ST_OK;
        char c = d->data[d->at + i];
        bool quote = c == '"' && (quoted || opens);
        opens = quote ? quoted : !quoted && (c == d->table.delimiter || c == '\n');
        quoted ^= quote;
        if (c != '\n' || quoted) continue;
        *n = i + 1;
        return ST_OK;
    }
}

/* The field that begins at s[*at], into t->value; *at moves behind it and its comma. */
static st_status rows_field(docs_table *t, const char *s, size_t n, size_t *at, st_err *e)
{
    bool quoted = *at < n && s[*at] == '"';
    if (t->cap < n + 1) {
        char *more = realloc(t->value, 2 * n + 64);
        if (!more) ST_FAIL(e, ST_ENOMEM, "out of memory for a row of %zu bytes", n);
        t->value = more;
        t->cap = 2 * n + 64;
    }
    t->n = 0;
    for (*at += quoted; *at < n; ++*at) {
        if (quoted && s[*at] == '"') {
            if (*at + 1 < n && s[*at + 1] == '"')
                ++*at;
            else
                quoted = false;
            if (!quoted) continue;
        }
        if (!quoted && s[*at] == t->delimiter) break;
        t->value[t->n++] = s[*at];
    }
    t->value[t->n] = '\0';
    ++*at;
    return ST_OK;
}

/* The names of the first line, as t->delimiter divides it: which column the field is, and the first
 * of the names for a message. */
static st_status rows_names(st_docs *d, const char *s, size_t n, char names[128], st_err *e)
{
    docs_table *t = &d->table;
    size_t used = 0, at = 0;
    t->columns = 0;
    names[0] = '\0';
    while (at < n) {
        ST_TRY(rows_field(t, s, n, &at, e));
        if (strcmp(t->value, d->field) == 0) t->column = t->columns;
        if (used + t->n + 3 < 128)
            used += (size_t)sprintf(names + used, "%s%s", used ? ", " : "", t->value);
        t->columns++;
    }
    return ST_OK;
}

/* The first line. Where commas do not make the field a name, but what else spreadsheets write
 * between columns does, it is that. */
static st_status rows_head(st_docs *d, const char *s, size_t n, st_err *e)
{
    static const char others[] = ";\t|";
    docs_table *t = &d->table;
    char names[128], again[128], first = t->delimiter;
    ST_TRY(rows_names(d, s, n, names, e));
    for (const char *c = others; *c && t->column < 0; c++) {
        t->delimiter = *c;
        ST_TRY(rows_names(d, s, n, again, e));
    }
    if (t->column >= 0) return ST_OK;
    t->delimiter = first;
    ST_FAIL(e, ST_EFORMAT, "%s: no column \"%.60s\"; it has: %s; choose with --field", d->name,
            d->field, names);
}

static st_status rows_table(st_docs *d, bool *found, st_err *e)
{
    docs_table *t = &d->table;
    size_t record, at = 0;
    ST_TRY(rows_record(d, &record, e));
    if (!record) return ST_OK;
    const char *s = d->data + d->at;
    size_t n = record;
    while (n && (s[n - 1] == '\n' || s[n - 1] == '\r'))
        n--;
    if (n && !t->columns) {
        ST_TRY(rows_head(d, s, n, e));
    } else if (n) {
        int64_t k = -1;
        while (k < t->column && at < n + (k >= 0)) {
            ST_TRY(rows_field(t, s, n, &at, e));
            k++;
        }
        d->line++;
        if (k < t->column)
            ST_TRY(docs_bad(d, e, "%s, expected %lld", st_counted(k + 1, "fields").s,
                            (long long)t->columns));
        else
            *found = true;
        d->line--;
        d->text = t->value;
        d->left = *found ? t->n : 0;
    }
    rows_eat(d, record);
    return ST_OK;
}

/* ---- all of them ----------------------------------------------------------------------------- */

static st_status rows_parquet(st_docs *d, bool *found, st_err *e)
{
    int64_t nulls = st_parquet_nulls(d->parquet);
    ST_TRY(st_parquet_next(d->parquet, &d->text, &d->left, e));
    nulls = st_parquet_nulls(d->parquet) - nulls;
    *found = d->text != NULL;
    if (nulls) {
        d->line++;
        ST_TRY(docs_bad(d, e, "\"%.60s\" is null", d->field));
        d->bad += nulls - 1;
        d->line += nulls - 1;
    }
    d->line += *found;
    if (d->left <= d->most) return ST_OK;
    ST_FAIL(e, ST_EFORMAT, "%s:%lld: a row is longer than %zu bytes", d->name, (long long)d->line,
            d->most);
}

st_status docs_row(st_docs *d, bool *found, st_err *e)
{
    *found = false;
    if (d->parquet) return rows_parquet(d, found, e);
    for (;;) {
        size_t line;
        if (d->form == DOCS_JSON && (*found = rows_given(d))) return ST_OK;
        if (d->at == d->n && d->ended && !d->array) return ST_OK;
        if (d->form == DOCS_JSON) {
            ST_TRY(rows_json(d, found, e));
        } else if (d->form == DOCS_TABLE) {
            ST_TRY(rows_table(d, found, e));
        } else {
            ST_TRY(rows_line(d, &line, e));
            *found = line > 0;
            d->text = d->data + d->at;
            d->left = line - (line && d->text[line - 1] == '\n');
            d->left -= d->left && d->left < line && d->text[d->left - 1] == '\r';
            d->at += line;
            d->line++;
        }
        if (*found) return ST_OK;
    }
}
