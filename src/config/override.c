/* The override grammar of Hydra 1.3 (key=value, +key=value, ~key, group@package=option; lists,
 * maps, quotes, escapes, sweeps), read by hand in one pass. */
/* Long: one grammar; its rules call each other. */
/* SPDX-License-Identifier: MIT */
#include "config/override.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OVERRIDE_LEVELS = 32, OVERRIDE_SWEEP = 10000, OVERRIDE_BYTES = 1 << 16 };

typedef struct {
    const char *line, *p, *where;
    int level;
    st_err *e;
} reader;

static st_status reader_refuse(const reader *r, const char *what)
{
    ST_FAIL(r->e, ST_EARG, "%s: %.120s: %s", r->where, r->line, what);
}

static st_status reader_nomem(const reader *r)
{
    return ST_NOMEM(r->e, r->where);
}

static void reader_space(reader *r)
{
    r->p += strspn(r->p, " \t");
}

static bool is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* ---- what a plain word is -------------------------------------------------------------------- */

/* 0 or a number without leading zeros, single '_' between digits; moves on. */
static bool word_whole(const char **p)
{
    if (**p == '0') return ++*p, true;
    if (!is_digit(**p)) return false;
    for (++*p; is_digit(**p) || (**p == '_' && is_digit((*p)[1])); ++*p)
        ;
    return true;
}

static bool word_fraction(const char **p)
{
    if (!is_digit(**p)) return false;
    for (++*p; is_digit(**p) || (**p == '_' && is_digit((*p)[1])); ++*p)
        ;
    return true;
}

static bool word_is_int(const char *t)
{
    t += *t == '+' || *t == '-';
    return word_whole(&t) && !*t;
}

static bool word_is_float(const char *t)
{
    t += *t == '+' || *t == '-';
    if (!strcasecmp(t, "inf") || !strcasecmp(t, "nan")) return true;
    bool whole = word_whole(&t), point = *t == '.';
    if (point) {
        t++;
        if (!word_fraction(&t) && !whole) return false;
    }
    if (!whole && !point) return false;
    if (*t != 'e' && *t != 'E') return point && !*t;
    t++;
    t += *t == '+' || *t == '-';
    return word_fraction(&t) && !*t;
}

/* A plain word as a node that YAML's rules read as this grammar does. */
static st_node *word_node(const char *t, const char *where)
{
    char text[80];
    const char *d = t + (*t == '+' || *t == '-');
    if (!strcasecmp(t, "null")) return node_new(ST_NODE_SCALAR, "null", where);
    if (!strcasecmp(t, "true") || !strcasecmp(t, "false"))
        return node_new(ST_NODE_SCALAR, (*t | 32) == 't' ? "true" : "false", where);
    bool number = strlen(t) < sizeof text - 8 && (word_is_int(t) || word_is_float(t));
    if (!number) {
        st_node *n = node_new(ST_NODE_SCALAR, t, where);
        if (n) n->word = true;
        return n;
    }
    if (!strcasecmp(d, "inf") || !strcasecmp(d, "nan")) {
        bool nan = (*d | 32) == 'n';
        snprintf(text, sizeof text, "%s.%s", *t == '-' && !nan ? "-" : "", nan ? "nan" : "inf");
    } else {
        snprintf(text, sizeof text, "%.*s%s%s", (int)(d - t), t, *d == '.' ? "0" : "", d);
    }
    if (strpbrk(text, "eE")) { /* YAML has no '_' in exponents */
        size_t n = 0;
        for (size_t i = 0; text[i]; i++)
            if (text[i] != '_') text[n++] = text[i];
        text[n] = '\0';
    }
    return node_new(ST_NODE_SCALAR, text, where);
}

/* ---- primitives ------------------------------------------------------------------------------ */

static st_status reader_quoted(reader *r, st_node **out)
{
    char quote = *r->p, *text = st_calloc((int64_t)strlen(r->p) + 1, 1);
    size_t n = 0;
    if (!text) return reader_nomem(r);
    const char *p = r->p + 1;
    for (; *p && *p != quote;) {
        size_t slashes = strspn(p, "\\");
        bool before = p[slashes] == quote; /* only there are backslashes escapes */
        size_t keep = before ? slashes / 2 : slashes;
        memset(text + n, '\\', keep);
        n += keep;
        p += slashes;
        if (before ? slashes % 2 : *p && *p != quote) text[n++] = *p++;
    }
    if (!*p) {
        free(text);
        return reader_refuse(r, quote == '\'' ? "a ' that is not closed" : "a \" not closed");
    }
    r->p = p + 1;
    *out = node_new(ST_NODE_SCALAR, text, r->where);
    free(text);
    if (!*out) return reader_nomem(r);
    (*out)->quoted = true;
    reader_space(r);
    return ST_OK;
}

/* Length of "${...}" at p, or 0 if it is not closed. */
static size_t interpolation_length(const char *p)
{
    int open = 0;
    for (size_t i = 0; p[i]; i++) {
        if (p[i] == '{') open++;
        if (p[i] == '}' && --open == 0) return i + 1;
    }
    return 0;
}

/* After a comma: does " KNOB=VALUE" follow, with no ':' in it? Then it belongs to the spec before.
 */
static bool knob_follows(const char *p)
{
    p += 1 + strspn(p + 1, " \t");
    if (!is_alpha(*p)) return false;
    while (is_alpha(*p) || is_digit(*p))
        p++;
    if (*p != '=') return false;
    p += strcspn(p, ",:+]})"); /* "block=32+lowrank:rank=8" is one, too */
    return *p != ':';
}

typedef struct {
    char *text;
    size_t n, end;    /* `end`: without white space at the end */
    bool escaped;     /* so it is a string */
    bool colon, knob; /* it has a ':', and a '=' after it */
} word;

/* One step of a plain value. False: it ends here. */
static bool word_step(reader *r, word *w, bool key, st_status *s)
{
    static const char plain[] = "/-\\+.$%*@?|";
    const char c = *r->p;
    size_t take = 1;
    if (c == '\\' && r->p[1] && strchr("\\()[]{}:=, \t", r->p[1])) {
        w->escaped = true;
        r->p++;
        w->text[w->n++] = *r->p++;
        w->end = w->n;
        return true;
    }
    if (c == '$' && r->p[1] == '{') {
        take = interpolation_length(r->p);
        if (!take || key) {
            *s = reader_refuse(r, key ? "an interpolation as a key" : "a ${ that is not closed");
            return false;
        }
    } else if (c == ':' || c == '=') {
        if (key) return false;
        w->knob = w->knob || (c == '=' && w->colon);
        w->colon = w->colon || c == ':';
    } else if (c == ',' && w->colon && w->knob && !key) {
        if (!knob_follows(r->p)) return false;
    } else if (!c || strchr(",]})", c)) {
        return false;
    } else if (!is_alpha(c) && !is_digit(c) && !strchr(plain, c) && c != ' ' && c != '\t' &&
               (unsigned char)c < 0x80) {
        char what[96];
        snprintf(what, sizeof what, "a %c in a plain value; put the value in quotes, 'a%cb'", c,
                 c == '\'' ? '"' : c);
        *s = reader_refuse(r, (unsigned char)c < 32 ? "a control character" : what);
        return false;
    }
    memcpy(w->text + w->n, r->p, take);
    w->n += take;
    r->p += take;
    if (c != ' ' && c != '\t') w->end = w->n;
    return true;
}

/* A plain or quoted value; `key`: of a map. */
static st_status reader_primitive(reader *r, bool key, st_node **out)
{
    reader_space(r);
    if (*r->p == '\'' || *r->p == '"') return reader_quoted(r, out); /* keys too, as in YAML */
    word w = {.text = st_calloc((int64_t)strlen(r->p) + 1, 1)};
    st_status s = w.text ? ST_OK : reader_nomem(r);
    while (!s && word_step(r, &w, key, &s))
        ;
    if (!s && w.end == 0) s = reader_refuse(r, "an empty value; expected '' for empty text");
    if (!s) {
        w.text[w.end] = '\0';
        *out = w.escaped ? node_new(ST_NODE_SCALAR, w.text, r->where) : word_node(w.text, r->where);
        if (!*out) s = reader_nomem(r);
    }
    if (!s && w.escaped) (*out)->word = true;
    free(w.text);
    return s;
}

/* ---- lists and maps -------------------------------------------------------------------------- */

static st_status reader_element(reader *r, st_node **out);

static st_status reader_pair(reader *r, st_node *map)
{
    st_node *key = NULL, *item = NULL;
    st_status s = reader_primitive(r, true, &key);
    if (!s && *r->p != ':') s = reader_refuse(r, "a map {KEY: VALUE} without ':'");
    if (!s) {
        r->p++;
        s = reader_element(r, &item);
    }
    if (!s && node_put(map, key->text, strlen(key->text), item, r->where, r->e)) s = ST_ENOMEM;
    st_node_free(key);
    return s;
}

static st_status reader_items(reader *r, st_node *n, char close)
{
    r->p++;
    reader_space(r);
    if (*r->p == close) return r->p++, ST_OK;
    for (;;) {
        st_node *item = NULL;
        if (n->kind == ST_NODE_MAP) {
            ST_TRY(reader_pair(r, n));
        } else {
            ST_TRY(reader_element(r, &item));
            if (!node_add(n, NULL, NULL, item)) return reader_nomem(r);
        }
        reader_space(r);
        if (*r->p == close) return r->p++, ST_OK;
        if (*r->p != ',')
            return reader_refuse(r, close == ']' ? "a [ that is not closed" : "a { not closed");
        r->p++;
    }
}

/* "NAME (" at p: its length without the bracket, else 0. */
static size_t function_name(const char *p)
{
    size_t n = 0;
    if (!is_alpha(*p)) return 0;
    while (is_alpha(p[n]) || is_digit(p[n]) || p[n] == '-')
        n++;
    return p[n + strspn(p + n, " \t")] == '(' ? n : 0;
}

/* CAST(VALUE). */
static st_status reader_cast(reader *r, size_t n, int cast, st_node **out)
{
    r->p += n + strspn(r->p + n, " \t") + 1;
    if (r->level++ >= OVERRIDE_LEVELS) return reader_refuse(r, "more than 32 levels of brackets");
    ST_TRY(reader_element(r, out));
    r->level--;
    reader_space(r);
    bool closed = *r->p == ')', fine = closed && config_cast_node(*out, cast);
    if (closed) r->p++;
    reader_space(r);
    if (fine) return ST_OK;
    st_node_free(*out);
    *out = NULL;
    return reader_refuse(r, closed ? "a value that cannot be cast so" : "a ( that is not closed");
}

static st_status reader_element(reader *r, st_node **out)
{
    *out = NULL;
    reader_space(r);
    size_t name = function_name(r->p);
    int cast = name ? config_cast(r->p, name) : -1;
    if (cast >= 0) return reader_cast(r, name, cast, out);
    if (*r->p != '[' && *r->p != '{') return reader_primitive(r, false, out);
    if (r->level >= OVERRIDE_LEVELS) return reader_refuse(r, "more than 32 levels of brackets");
    bool list = *r->p == '[';
    st_node *n = node_new(list ? ST_NODE_LIST : ST_NODE_MAP, NULL, r->where);
    if (!n) return reader_nomem(r);
    r->level++;
    st_status s = reader_items(r, n, list ? ']' : '}');
    r->level--;
    if (s) {
        st_node_free(n);
        return s;
    }
    reader_space(r);
    *out = n;
    return ST_OK;
}

/* ---- sweeps ---------------------------------------------------------------------------------- */

/* Adds a value (taken over) written in from[0..n). */
static st_status values_add(const reader *r, override *o, st_node *node, const char *from, size_t n)
{
    while (n && (*from == ' ' || *from == '\t'))
        from++, n--;
    while (n > 1 && strchr(" \t", from[n - 1]) && from[n - 2] != '\\')
        n--;
    if ((o->n & (o->n - 1)) == 0) {
        void *p = realloc(o->value, (size_t)(o->n ? 2 * o->n : 1) * sizeof *o->value);
        if (!p) {
            st_node_free(node);
            return reader_nomem(r);
        }
        o->value = p;
    }
    o->value[o->n] = (override_value){node, strndup(from, n)};
    if (!o->value[o->n++].text) return reader_nomem(r);
    if (o->n > OVERRIDE_SWEEP) return reader_refuse(r, "a sweep of more than 10000 values");
    return ST_OK;
}

/* Elements between commas up to `close` (which is passed) or the end. */
static st_status values_list(reader *r, override *o, char close)
{
    for (;;) {
        const char *from = r->p;
        st_node *node = NULL;
        ST_TRY(reader_element(r, &node));
        ST_TRY(values_add(r, o, node, from, (size_t)(r->p - from)));
        if (*r->p == close) return r->p += close != 0, ST_OK;
        if (*r->p != ',') return reader_refuse(r, "brackets or quotes that do not match");
        r->p++;
    }
}

/* range(stop), range(start, stop), range(start, stop, step), by name too. */
static st_status range_arguments(reader *r, double x[3], bool *whole)
{
    static const char *const name[] = {"start", "stop", "step"};
    bool given[3] = {0};
    *whole = true;
    for (int i = 0;; i++) {
        st_node *node = NULL;
        int at = i;
        reader_space(r);
        for (int k = 0; k < 3; k++) {
            size_t n = strlen(name[k]);
            if (strncmp(r->p, name[k], n) != 0 || r->p[n] != '=') continue;
            at = k;
            r->p += n + 1;
        }
        ST_TRY(reader_element(r, &node));
        st_scalar v = st_node_scalar(node);
        st_node_free(node);
        if (at > 2 || (v.kind != ST_SCALAR_INT && v.kind != ST_SCALAR_NUM))
            return reader_refuse(r, "expected range(START, STOP[, STEP]) of numbers");
        *whole = *whole && v.kind == ST_SCALAR_INT;
        x[at] = v.x;
        given[at] = true;
        if (*r->p == ')') break;
        if (*r->p != ',') return reader_refuse(r, "a ( that is not closed");
        r->p++;
    }
    r->p++;
    if (!given[1] && given[0]) x[1] = x[0], x[0] = 0;
    if (!given[2]) x[2] = 1;
    bool finite = isfinite(x[0]) && isfinite(x[1]) && isfinite(x[2]);
    if (!finite || !(fabs(x[2]) > 0.0))
        return reader_refuse(r, "a range needs finite numbers and a step that is not 0");
    return ST_OK;
}

static st_status values_range(reader *r, override *o)
{
    double x[3] = {0};
    bool whole;
    ST_TRY(range_arguments(r, x, &whole));
    for (int64_t i = 0;; i++) {
        double v = x[0] + x[2] * (double)i;
        char text[48];
        if (x[2] > 0 ? v >= x[1] : v <= x[1]) break;
        if (whole)
            snprintf(text, sizeof text, "%.0f", v);
        else
            scalar_put_num(v, text, sizeof text);
        st_node *node = node_new(ST_NODE_SCALAR, text, r->where);
        if (!node) return reader_nomem(r);
        ST_TRY(values_add(r, o, node, text, strlen(text)));
    }
    return o->n ? ST_OK : reader_refuse(r, "an empty range");
}

static st_status reader_value(reader *r, override *o)
{
    reader_space(r);
    size_t n = function_name(r->p);
    if (n && config_cast(r->p, n) < 0) {
        bool choice = n == 6 && !strncmp(r->p, "choice", n);
        if (!choice && !(n == 5 && !strncmp(r->p, "range", n)))
            return reader_refuse(r,
                                 "an unknown function; expected choice(...), range(...) or a cast "
                                 "(int, float, bool, str); "
                                 "plain brackets stand in quotes");
        r->p += n + strspn(r->p + n, " \t") + 1;
        o->sweep = true;
        ST_TRY(choice ? values_list(r, o, ')') : values_range(r, o));
        reader_space(r);
        return *r->p ? reader_refuse(r, "something after the )") : ST_OK;
    }
    ST_TRY(values_list(r, o, '\0'));
    o->sweep = o->commas = o->n > 1;
    return ST_OK;
}

/* ---- keys ------------------------------------------------------------------------------------ */

static bool key_is_legal(const char *key, bool package)
{
    bool slash = strchr(key, '/') != NULL, dot = strchr(key, '.') != NULL;
    if (!*key || (slash && (dot || package))) return package && !*key;
    for (const char *p = key;; p++) {
        size_t n = strcspn(p, "./");
        if (n == 0 || p[0] == '-') return false;
        for (size_t i = 0; i < n; i++)
            if (!is_alpha(p[i]) && !is_digit(p[i]) && p[i] != '-' && p[i] != '$') return false;
        p += n;
        if (!*p) return true;
    }
}

static st_status reader_key(reader *r, override *o)
{
    o->kind = *r->p == '~' ? OVERRIDE_DELETE : *r->p == '+' ? OVERRIDE_ADD : OVERRIDE_SET;
    r->p += o->kind != OVERRIDE_SET;
    if (o->kind == OVERRIDE_ADD && *r->p == '+') o->kind = OVERRIDE_FORCE, r->p++;
    size_t n = strcspn(r->p, "="), at = strcspn(r->p, "@=");
    o->key = strndup(r->p, at);
    if (at < n) o->package = strndup(r->p + at + 1, n - at - 1);
    if (!o->key || (at < n && !o->package)) return reader_nomem(r);
    bool legal = key_is_legal(o->key, false) && (!o->package || key_is_legal(o->package, true));
    if (!legal || (!r->p[n] && o->kind != OVERRIDE_DELETE))
        return reader_refuse(r, "not an override; expected key=value, +key=value, ~key or "
                                "group=option, e.g. train.lr=1e-3");
    o->given = r->p[n] == '=';
    r->p += n + o->given;
    return ST_OK;
}

st_status override_parse(override *o, const char *line, st_err *e)
{
    reader r = {.line = line, .p = line, .where = "command line", .e = e};
    *o = (override){.line = line};
    if (strlen(line) > OVERRIDE_BYTES)
        ST_FAIL(e, ST_EARG, "command line: %.40s...: more than %d bytes", line, OVERRIDE_BYTES);
    st_status s = reader_key(&r, o);
    if (!s && o->given) {
        reader_space(&r);
        if (*r.p) {
            s = reader_value(&r, o);
        } else {
            st_node *empty = node_new(ST_NODE_SCALAR, "", r.where);
            if (empty) empty->word = true;
            s = empty ? values_add(&r, o, empty, "", 0) : reader_nomem(&r);
        }
    }
    if (s) override_free(o);
    return s;
}

st_status override_element(st_node **out, const char *text, const char *where, st_err *e)
{
    reader r = {.line = text, .p = text, .where = where, .e = e};
    ST_TRY(reader_element(&r, out));
    if (!*r.p) return ST_OK;
    st_node_free(*out);
    *out = NULL;
    return reader_refuse(&r, "something after the value");
}

void override_free(override *o)
{
    for (int64_t i = 0; i < o->n; i++) {
        st_node_free(o->value[i].node);
        free(o->value[i].text);
    }
    free(o->value);
    free(o->key);
    free(o->package);
    *o = (override){0};
}
