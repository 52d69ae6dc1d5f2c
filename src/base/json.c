/* JSON files and typed fields, with messages a person can act on. */
/* SPDX-License-Identifier: MIT */
#include "base/base.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { JSON_LOOK = 200 /* ms between looks for Ctrl-C */ };

st_status st_json_parse(json_t **out, const char *text, size_t n, const char *what, st_err *e)
{
    json_error_t err;
    size_t mark = st_text_mark(text, n);
    *out = json_loadb(text + mark, n - mark, JSON_REJECT_DUPLICATES, &err);
    if (!*out) {
        ST_FAIL(e, ST_EFORMAT, "%s: not valid JSON at line %d, column %d: %s", what, err.line,
                err.column, err.text);
    }
    return ST_OK;
}

/* Bytes of the character at `text`, 0 if it is none in UTF-8. */
static size_t json_character(const char *text)
{
    size_t n = 0;
    for (size_t k = 1; k <= 4 && text[k - 1] && !n; k++) {
        json_t *one = json_stringn(text, k);
        if (one) n = k;
        json_decref(one);
    }
    return n;
}

json_t *st_json_text(const char *text)
{
    json_t *whole = json_string(text);
    if (whole) return whole;
    char *copy = malloc(3 * strlen(text) + 1), *to = copy;
    if (!copy) return NULL;
    while (*text) {
        size_t n = json_character(text);
        memcpy(to, n ? text : "\xef\xbf\xbd", n ? n : 3);
        to += n ? n : 3;
        text += n ? n : 1;
    }
    whole = json_stringn(copy, (size_t)(to - copy));
    free(copy);
    return whole;
}

/* read(2) of what may be a pipe that nobody writes to: Ctrl-C ends that (EINTR). What is there is
 * read after Ctrl-C too: a job that ends in order looks at its files. */
static ssize_t json_read(int fd, char *data, size_t n)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    for (;;) {
        while (poll(&p, 1, JSON_LOOK) <= 0) {
            if (!st_interrupted()) continue;
            errno = EINTR;
            return -1;
        }
        ssize_t got = read(fd, data, n);
        if (got >= 0 || (errno != EINTR && errno != EAGAIN)) return got;
    }
}

st_status st_json_load(json_t **out, const char *path, size_t max_bytes, st_err *e)
{
    *out = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) ST_FAIL(e, ST_EIO, "%s: %s", path, strerror(errno));
    char *text = NULL;
    size_t n = 0, cap = 0;
    st_status s = ST_OK;
    for (;;) {
        if (n == cap) {
            cap = cap ? cap * 2 : 65536;
            char *more = realloc(text, cap);
            if (!more) {
                s = ST_NOMEM(e, path);
                goto out;
            }
            text = more;
        }
        ssize_t got = json_read(fd, text + n, cap - n);
        if (got < 0 && errno == EINTR) {
            s = ST_ERR(e, ST_EINTR, "interrupted while reading %s", path);
            goto out;
        }
        if (got < 0) {
            s = ST_ERR(e, ST_EIO, "%s: cannot be read: %s", path, strerror(errno));
            goto out;
        }
        n += (size_t)got;
        if (n > max_bytes) {
            s = ST_ERR(e, ST_EFORMAT, "%s: more than %zu bytes, which no file of this kind has",
                       path, max_bytes);
            goto out;
        }
        if (got == 0) break;
    }
    s = st_lfs_refuse(path, text, n, e);
    if (!s) s = st_json_parse(out, text, n, path, e);
out:
    free(text);
    close(fd);
    return s;
}

static const char *json_kind(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "a list";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "a whole number";
    case JSON_REAL: return "a number";
    case JSON_TRUE: return "true";
    case JSON_FALSE: return "false";
    case JSON_NULL: return "null";
    }
    return "something else";
}

st_status st_json_int(const json_t *obj, const char *key, int64_t lo, int64_t hi, int64_t *out,
                      const char *what, st_err *e)
{
    const json_t *v = json_object_get(obj, key);
    if (!v || json_is_null(v)) return ST_OK;
    if (!json_is_integer(v)) {
        ST_FAIL(e, ST_EFORMAT, "%s: %s is %s, expected a whole number", what, key, json_kind(v));
    }
    int64_t x = json_integer_value(v);
    if (x < lo || x > hi) {
        ST_FAIL(e, ST_EFORMAT, "%s: %s is %lld, expected %lld to %lld", what, key, (long long)x,
                (long long)lo, (long long)hi);
    }
    *out = x;
    return ST_OK;
}

st_status st_json_num(const json_t *obj, const char *key, double lo, double hi, double *out,
                      const char *what, st_err *e)
{
    const json_t *v = json_object_get(obj, key);
    if (!v || json_is_null(v)) return ST_OK;
    if (!json_is_number(v)) {
        ST_FAIL(e, ST_EFORMAT, "%s: %s is %s, expected a number", what, key, json_kind(v));
    }
    double x = json_number_value(v);
    if (!(x >= lo && x <= hi)) {
        ST_FAIL(e, ST_EFORMAT, "%s: %s is %g, expected %g to %g", what, key, x, lo, hi);
    }
    *out = x;
    return ST_OK;
}

st_status st_json_flag(const json_t *obj, const char *key, bool *out, const char *what, st_err *e)
{
    const json_t *v = json_object_get(obj, key);
    if (!v || json_is_null(v)) return ST_OK;
    if (!json_is_boolean(v)) {
        ST_FAIL(e, ST_EFORMAT, "%s: %s is %s, expected true or false", what, key, json_kind(v));
    }
    *out = json_is_true(v);
    return ST_OK;
}

st_status st_json_str(const json_t *obj, const char *key, const char **out, const char *what,
                      st_err *e)
{
    const json_t *v = json_object_get(obj, key);
    if (!v || json_is_null(v)) return ST_OK;
    if (!json_is_string(v)) {
        ST_FAIL(e, ST_EFORMAT, "%s: %s is %s, expected a string", what, key, json_kind(v));
    }
    *out = json_string_value(v);
    return ST_OK;
}

/* ---- rows of results ------------------------------------------------------------------------- */

double st_row_num(const json_t *row, const char *path)
{
    char key[64];
    const char *dot;
    while ((dot = strchr(path, '.')) != NULL) {
        snprintf(key, sizeof key, "%.*s", (int)(dot - path), path);
        row = json_object_get(row, key);
        path = dot + 1;
    }
    const json_t *v = json_object_get(row, path);
    return json_is_number(v) ? json_number_value(v) : (double)NAN;
}

const char *st_row_str(const json_t *row, const char *key)
{
    const char *s = json_string_value(json_object_get(row, key));
    return s ? s : "";
}
