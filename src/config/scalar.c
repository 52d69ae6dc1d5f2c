/* What the text of a scalar means: as OmegaConf reads YAML 1.1 ("1e-3" is a number, "1_000" too,
 * dates are text), and back to text as Python's str() writes it. */
/* SPDX-License-Identifier: MIT */
#include "config/node.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "yes", "Yes" or "YES". */
static bool scalar_spelt(const char *t, const char *word)
{
    if (strcasecmp(t, word) != 0) return false;
    if (strcmp(t + 1, word + 1) == 0) return true;
    while (*t && *t < 'a')
        t++;
    return !*t;
}

static bool scalar_flag(const char *t, bool *out)
{
    static const char *const word[] = {"false", "true", "no", "yes", "off", "on"};
    for (int i = 0; i < 6; i++) {
        *out = i % 2;
        if (scalar_spelt(t, word[i])) return true;
    }
    return false;
}

/* Digits with '_' after the first, at least one; moves on. */
static bool scalar_digits(const char **p)
{
    const char *from = *p;
    if (*from < '0' || *from > '9') return false;
    *p += strspn(from, "0123456789_");
    return true;
}

/* Digits and single '_' between them. */
static bool scalar_run(const char **p)
{
    if (!scalar_digits(p)) return false;
    return (*p)[-1] != '_';
}

static bool scalar_is_float(const char *t)
{
    bool sign = *t == '+' || *t == '-', lead;
    const char *p = t + sign;
    if (*p == '.' && (!strcmp(p, ".inf") || !strcmp(p, ".Inf") || !strcmp(p, ".INF"))) return true;
    if (!sign && (!strcmp(p, ".nan") || !strcmp(p, ".NaN") || !strcmp(p, ".NAN"))) return true;
    lead = scalar_run(&p);
    if (!lead && (sign || *p != '.' || p[1] < '0' || p[1] > '9')) return false;
    bool point = *p == '.';
    if (point) p += 1 + strspn(p + 1, "0123456789_");
    if (*p != 'e' && *p != 'E') return point && !*p;
    p++;
    if (*p == '+' || *p == '-')
        p++;
    else if (!lead)
        return false;
    return *p && p[strspn(p, "0123456789")] == '\0';
}

static double scalar_to_num(const char *t)
{
    char text[64];
    size_t n = 0;
    const char *p = t + (*t == '+' || *t == '-');
    double sign = *t == '-' ? -1.0 : 1.0;
    if (*p == '.' && (p[1] | 32) == 'i') return sign * (double)INFINITY;
    if (*p == '.' && (p[1] | 32) == 'n') return (double)NAN;
    for (; *p && n + 1 < sizeof text; p++)
        if (*p != '_') text[n++] = *p;
    text[n] = '\0';
    return sign * strtod(text, NULL);
}

/* 0b1, 0x1F, 017, 12, 1:30 (sexagesimal), with '_' anywhere but first. */
static bool scalar_int(const char *t, int64_t *out)
{
    bool minus = *t == '-';
    const char *p = t + (minus || *t == '+'), *digits = "0123456789_";
    int64_t base = 10, v = 0, part = 0;
    bool sexagesimal = *p >= '1' && *p <= '9' && strchr(p, ':');
    if (*p < '0' || *p > '9') return false;
    if (p[0] == '0' && p[1] == 'b') base = 2, p += 2, digits = "01_";
    if (p[0] == '0' && p[1] == 'x') base = 16, p += 2, digits = "0123456789abcdefABCDEF_";
    if (base == 10 && p[0] == '0' && p[1]) base = 8, p++, digits = "01234567_";
    if (!*p || p[strspn(p, digits)] != (sexagesimal ? ':' : '\0')) return false;
    for (; *p; p++) {
        if (*p == '_') continue;
        if (*p == ':') {
            size_t n = strspn(p + 1, "0123456789");
            if (__builtin_mul_overflow(v, 60, &v) || n < 1 || n > 2 || (n == 2 && p[1] > '5') ||
                (p[1 + n] && p[1 + n] != ':'))
                return false;
            part = strtol(p + 1, NULL, 10);
            p += n;
        } else {
            if (__builtin_mul_overflow(v, base, &v)) return false;
            part = *p <= '9' ? *p - '0' : (*p | 32) - 'a' + 10;
        }
        if (__builtin_add_overflow(v, part, &v)) return false;
    }
    *out = minus ? -v : v;
    return true;
}

st_scalar st_node_scalar(const st_node *n)
{
    st_scalar s = {.kind = ST_SCALAR_TEXT};
    const char *t = n->text;
    if (n->kind != ST_NODE_SCALAR || n->quoted || n->word) return s;
    if (!*t || strcmp(t, "~") == 0 || scalar_spelt(t, "null"))
        s.kind = ST_SCALAR_NULL;
    else if (scalar_flag(t, &s.flag))
        s.kind = ST_SCALAR_FLAG;
    else if (scalar_int(t, &s.i))
        s.kind = ST_SCALAR_INT, s.x = (double)s.i;
    else if (scalar_is_float(t))
        s.kind = ST_SCALAR_NUM, s.x = scalar_to_num(t);
    return s;
}

/* The shortest digits that give x back, as Python's repr lays them out. */
void scalar_put_num(double x, char *text, size_t n)
{
    char e[40];
    int digits = 1;
    if (isnan(x) || isinf(x)) {
        snprintf(text, n, "%s", isnan(x) ? "nan" : x < 0 ? "-inf" : "inf");
        return;
    }
    for (; digits <= 17; digits++) {
        snprintf(e, sizeof e, "%.*e", digits - 1, x);
        if (!(fabs(strtod(e, NULL) - x) > 0.0)) break;
    }
    int power = atoi(strchr(e, 'e') + 1);
    if (power < -4 || power >= 16) {
        snprintf(text, n, "%s", e);
    } else {
        int after = digits - 1 - power;
        snprintf(text, n, "%.*f", after > 0 ? after : 1, x);
    }
}

st_status scalar_str(const st_node *n, char *text, size_t size, const char **out, st_err *e)
{
    st_scalar s = st_node_scalar(n);
    if (n->kind != ST_NODE_SCALAR)
        ST_FAIL(e, ST_EARG, "%s: a %s inside a text; refer to one of its values", n->where,
                n->kind == ST_NODE_LIST ? "list" : "section");
    *out = text;
    switch (s.kind) {
    case ST_SCALAR_NULL: snprintf(text, size, "None"); break;
    case ST_SCALAR_FLAG: snprintf(text, size, "%s", s.flag ? "True" : "False"); break;
    case ST_SCALAR_INT: snprintf(text, size, "%lld", (long long)s.i); break;
    case ST_SCALAR_NUM: scalar_put_num(s.x, text, size); break;
    default: *out = n->text;
    }
    return ST_OK;
}

json_t *st_node_json(const st_node *n)
{
    if (n->kind == ST_NODE_LIST) {
        json_t *list = json_array();
        for (int64_t i = 0; list && i < n->n; i++)
            json_array_append_new(list, st_node_json(n->item[i]));
        return list;
    }
    if (n->kind == ST_NODE_MAP) {
        json_t *map = json_object();
        for (int64_t i = 0; map && i < n->n; i++)
            json_object_set_new(map, n->key[i], st_node_json(n->item[i]));
        return map;
    }
    st_scalar s = st_node_scalar(n);
    switch (s.kind) {
    case ST_SCALAR_NULL: return json_null();
    case ST_SCALAR_FLAG: return json_boolean(s.flag);
    case ST_SCALAR_INT: return json_integer(s.i);
    case ST_SCALAR_NUM: return isfinite(s.x) ? json_real(s.x) : st_json_text(n->text);
    default: return st_json_text(n->text);
    }
}

/* ---- YAML ------------------------------------------------------------------------------------ */

/* Plain where every reader takes it for what it is, else double-quoted as JSON. */
static void scalar_put(FILE *f, const char *text, bool string)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-+";
    st_node n = {.kind = ST_NODE_SCALAR};
    char copy[128];
    bool odd = string && (!*text || text[strspn(text, plain)] || !strchr(plain, text[0]) ||
                          text[0] == '-' || text[0] == '.' || strlen(text) >= sizeof copy ||
                          !strcasecmp(text, "y") || !strcasecmp(text, "n"));
    if (string && !odd) {
        n.text = copy;
        snprintf(copy, sizeof copy, "%s", text);
        odd = st_node_scalar(&n).kind != ST_SCALAR_TEXT;
    }
    json_t *j = odd ? st_json_text(text) : NULL;
    char *quoted = j ? json_dumps(j, JSON_ENCODE_ANY) : NULL; /* YAML reads JSON strings */
    fputs(quoted ? quoted : *text ? text : "null", f);
    free(quoted);
    json_decref(j);
}

static void scalar_put_node(FILE *f, const st_node *n, int depth)
{
    if (n->kind == ST_NODE_SCALAR) {
        fputc(' ', f);
        scalar_put(f, n->text, st_node_scalar(n).kind == ST_SCALAR_TEXT);
        fputc('\n', f);
        return;
    }
    if (n->n == 0) fputs(n->kind == ST_NODE_LIST ? " []\n" : " {}\n", f);
    if (n->n && depth) fputc('\n', f);
    for (int64_t i = 0; i < n->n; i++) {
        fprintf(f, "%*s", 2 * depth, "");
        if (n->kind == ST_NODE_LIST) fputs("-", f);
        if (n->kind == ST_NODE_MAP) scalar_put(f, n->key[i], true), fputc(':', f);
        scalar_put_node(f, n->item[i], depth + 1);
    }
}

char *st_node_yaml(const st_node *n)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (!f) return NULL;
    scalar_put_node(f, n, 0);
    if (fclose(f) == 0) return text;
    free(text);
    return NULL;
}
