/* Numbers and tables that people can read. */
/* SPDX-License-Identifier: MIT */
#include "cmd/cmd.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PRINT_COLS = 24, PRINT_CELL = 512 };

cmd_str cmd_count(int64_t n)
{
    char plain[32];
    snprintf(plain, sizeof plain, "%lld", (long long)n);
    cmd_str out = {""};
    size_t len = strlen(plain), k = 0;
    for (size_t i = 0; i < len; i++) {
        out.s[k++] = plain[i];
        size_t left = len - 1 - i;
        if (left > 0 && left % 3 == 0 && plain[i] != '-') out.s[k++] = ',';
    }
    return out;
}

cmd_str cmd_counted(int64_t n, const char *many)
{
    cmd_str out = cmd_count(n);
    st_count plain = st_counted(n, many);
    size_t at = strlen(out.s);
    snprintf(out.s + at, sizeof out.s - at, "%s", strchr(plain.s, ' '));
    return out;
}

cmd_str cmd_si(double x)
{
    static const char *const unit[] = {"", " k", " M", " G", " T", " P"};
    int i = 0;
    while (fabs(x) >= 999.95 && i < 5) {
        x /= 1000.0;
        i++;
    }
    cmd_str out;
    snprintf(out.s, sizeof out.s, i || x != floor(x) ? "%.1f%s" : "%.0f%s", x, unit[i]);
    return out;
}

cmd_str cmd_bytes(int64_t n)
{
    static const char *const unit[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double x = (double)n;
    int i = 0;
    while (x >= 1023.95 && i < 6) {
        x /= 1024.0;
        i++;
    }
    cmd_str out;
    snprintf(out.s, sizeof out.s, i ? "%.1f %s" : "%.0f %s", x, unit[i]);
    return out;
}

cmd_str cmd_seconds(double s)
{
    cmd_str out;
    if (!(s >= 0.0 && s < 1e9)) {
        snprintf(out.s, sizeof out.s, "?");
    } else if (s < 1e-3) {
        snprintf(out.s, sizeof out.s, "%.3g us", s * 1e6);
    } else if (s < 1.0) {
        snprintf(out.s, sizeof out.s, "%.3g ms", s * 1e3);
    } else if (s < 60.0) {
        snprintf(out.s, sizeof out.s, "%.1f s", s);
    } else {
        long long t = (long long)(s + 0.5);
        if (t < 3600)
            snprintf(out.s, sizeof out.s, "%lld:%02lld", t / 60, t % 60);
        else
            snprintf(out.s, sizeof out.s, "%lld:%02lld:%02lld", t / 3600, t / 60 % 60, t % 60);
    }
    return out;
}

cmd_str cmd_number(double x)
{
    cmd_str out;
    if (!isfinite(x)) {
        snprintf(out.s, sizeof out.s, "%s", isnan(x) ? "nan" : x > 0 ? "inf" : "-inf");
    } else if (fabs(x) >= 999.5 && fabs(x) < 1e15) {
        out = cmd_count((int64_t)llround(x));
    } else {
        snprintf(out.s, sizeof out.s, "%.4g", x);
    }
    return out;
}

void cmd_grid_add(cmd_grid *g, const char *fmt, ...)
{
    if (g->n == g->cap) {
        int64_t cap = g->cap ? g->cap * 2 : 64;
        char **more = realloc(g->cell, (size_t)cap * sizeof *more);
        if (!more) return;
        g->cell = more;
        g->cap = cap;
    }
    char text[PRINT_CELL];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    g->cell[g->n] = strdup(text);
    if (g->cell[g->n]) g->n++;
}

/* Characters (not bytes) of UTF-8 text. */
static int print_width(const char *s)
{
    int n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static void print_cell(FILE *f, const char *text, int width, bool left, bool last)
{
    int pad = width - print_width(text);
    if (!left) fprintf(f, "%*s", pad > 0 ? pad : 0, "");
    fputs(text, f);
    if (left && !last) fprintf(f, "%*s", pad > 0 ? pad : 0, "");
    fputs(last ? "\n" : "  ", f);
}

void cmd_grid_print(cmd_grid *g, FILE *f)
{
    char head[PRINT_COLS][64];
    bool left[PRINT_COLS] = {false};
    int width[PRINT_COLS] = {0}, cols = 0;
    for (const char *p = g->head; p && cols < PRINT_COLS;) {
        size_t n = strcspn(p, "|");
        left[cols] = *p == '<';
        snprintf(head[cols], sizeof head[cols], "%.*s", (int)n - left[cols], p + left[cols]);
        width[cols] = print_width(head[cols]);
        cols++;
        p = p[n] ? p + n + 1 : NULL;
    }
    for (int64_t i = 0; i < g->n; i++) {
        int w = print_width(g->cell[i]), c = (int)(i % cols);
        if (w > width[c]) width[c] = w;
    }
    for (int c = 0; c < cols; c++)
        print_cell(f, head[c], width[c], left[c], c == cols - 1);
    for (int64_t i = 0; i < g->n; i++) {
        int c = (int)(i % cols);
        print_cell(f, g->cell[i], width[c], left[c], c == cols - 1);
        free(g->cell[i]);
    }
    free(g->cell);
    *g = (cmd_grid){.head = g->head};
}

int64_t cmd_get_int(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return v ? json_integer_value(v) : 0;
}

double cmd_get_num(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return v ? json_number_value(v) : 0.0;
}

const char *cmd_get_str(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

/* Text without characters that speak to a terminal: '?' for C0 (but with `lines` newlines), DEL and
 * C1. New memory or NULL. */
static char *print_plain(const char *text, bool lines)
{
    char *copy = strdup(text);
    for (unsigned char *p = (unsigned char *)copy; p && *p; p++) {
        if ((*p < 0x20 && !(lines && *p == '\n')) || *p == 0x7f) *p = '?';
        if (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0) p[0] = p[1] = '?';
    }
    return copy;
}

static json_t *print_text(const char *text, bool lines)
{
    char *copy = print_plain(text, lines);
    json_t *to = copy ? json_string(copy) : NULL;
    free(copy);
    return to;
}

json_t *cmd_plain(const json_t *v)
{
    const char *key;
    json_t *item, *to = NULL;
    size_t i;
    if (json_is_string(v)) {
        to = print_text(json_string_value(v), false);
    } else if (json_is_array(v)) {
        to = json_array();
        json_array_foreach(v, i, item) json_array_append_new(to, cmd_plain(item));
    } else if (json_is_object(v)) {
        to = json_object();
        json_object_foreach((json_t *)(uintptr_t)v, key, item)
        {
            char *name = print_plain(key, false);
            bool lines = json_is_string(item) && strcmp(key, "yaml") == 0; /* a whole file */
            json_object_set_new(to, name ? name : "",
                                lines ? print_text(json_string_value(item), true)
                                      : cmd_plain(item));
            free(name);
        }
    } else {
        to = json_copy((json_t *)(uintptr_t)v);
    }
    return to;
}
