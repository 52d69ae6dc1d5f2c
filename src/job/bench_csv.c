/* The rows of benchmarks as CSV (doc/FORMATS, BENCHMARKS), and which of them a file has already. */
/* SPDX-License-Identifier: MIT */
#include "job/bench.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const csv_kinds[] = {"forward", "backward", "step", "decode"};
enum { CSV_KINDS = sizeof csv_kinds / sizeof *csv_kinds, CSV_LARGEST = 1 << 28 };

/* Where a column's value stands: in the result, in its row, or in the row's times of one kind. */
typedef enum { CSV_RESULT, CSV_ROW, CSV_TIMES, CSV_KIND } csv_place;
typedef struct {
    const char *name, *key; /* of the column, of the JSON value (NULL: the same) */
    csv_place place;
} csv_column;

/* New columns go to the end: files are read by name, but people also cut columns by number. */
static const csv_column csv_columns[] = {
    {"version", NULL, CSV_RESULT},
    {"commit", NULL, CSV_RESULT},
    {"machine", NULL, CSV_RESULT},
    {"device", NULL, CSV_RESULT},
    {"threads", NULL, CSV_RESULT},
    {"what", NULL, CSV_KIND},
    {"dtype", NULL, CSV_ROW},
    {"spec", NULL, CSV_ROW},
    {"in", NULL, CSV_ROW},
    {"out", NULL, CSV_ROW},
    {"rows", NULL, CSV_ROW},
    {"batch", NULL, CSV_ROW},
    {"context", NULL, CSV_ROW},
    {"parameters", NULL, CSV_ROW},
    {"bytes", NULL, CSV_ROW},
    {"macs_per_token", NULL, CSV_ROW},
    {"median_s", "median", CSV_TIMES},
    {"p10_s", "p10", CSV_TIMES},
    {"p90_s", "p90", CSV_TIMES},
    {"reps", NULL, CSV_TIMES},
    {"gflops", NULL, CSV_TIMES},
    {"tokens_per_second", NULL, CSV_TIMES},
    {"speedup", NULL, CSV_TIMES},
    {"suite", NULL, CSV_ROW},
    {"kind", NULL, CSV_KIND},
    {"shape", NULL, CSV_ROW},
    {"name", NULL, CSV_ROW},
    {"control", NULL, CSV_ROW},
    {"factor", NULL, CSV_ROW},
    {"bytes_moved", NULL, CSV_TIMES},
    {"gbytes_per_s", NULL, CSV_TIMES},
    {"roofline_percent", NULL, CSV_TIMES},
    {"peak_gflops", NULL, CSV_TIMES},
    {"peak_gbytes_per_s", NULL, CSV_TIMES},
    {"speedup_p10", NULL, CSV_TIMES},
    {"speedup_p90", NULL, CSV_TIMES},
    {"cores", NULL, CSV_RESULT},
    {"date", NULL, CSV_RESULT},
    {"note", NULL, CSV_ROW},
};
enum { CSV_COLUMNS = sizeof csv_columns / sizeof *csv_columns };

/* ---- writing -------------------------------------------------------------------------------- */

/* Texts in quotes, quotes doubled; line ends would make a line of two. */
static void csv_text(FILE *f, const char *text)
{
    fputc('"', f);
    for (; *text; text++) {
        if (*text == '"') fputc('"', f);
        fputc(*text == '\n' || *text == '\r' ? ' ' : *text, f);
    }
    fputc('"', f);
}

static void csv_value(FILE *f, const json_t *v)
{
    if (json_is_string(v)) csv_text(f, json_string_value(v));
    if (json_is_integer(v)) fprintf(f, "%lld", (long long)json_integer_value(v));
    if (json_is_real(v)) fprintf(f, "%.9g", json_real_value(v));
}

static void csv_line(FILE *f, const json_t *result, const json_t *row, const char *kind)
{
    const json_t *of[] = {
        [CSV_RESULT] = result, [CSV_ROW] = row, [CSV_TIMES] = json_object_get(row, kind)};
    for (int i = 0; i < CSV_COLUMNS; i++) {
        const csv_column *c = &csv_columns[i];
        if (i) fputc(',', f);
        if (c->place == CSV_KIND) {
            fputs(kind, f);
        } else {
            const json_t *v = json_object_get(of[c->place], c->key ? c->key : c->name);
            if (!v && strcmp(c->name, "spec") == 0) v = json_object_get(row, "name");
            csv_value(f, v);
        }
    }
    fputc('\n', f);
}

static void csv_head(FILE *f)
{
    for (int i = 0; i < CSV_COLUMNS; i++)
        fprintf(f, "%s%s", i ? "," : "", csv_columns[i].name);
    fputc('\n', f);
}

st_status bench_csv_write(const char *path, const bench_old *old, const json_t *result, st_err *e)
{
    char *text = NULL;
    size_t n = 0, i;
    json_t *row;
    FILE *f = open_memstream(&text, &n);
    if (!f) ST_FAIL(e, ST_ENOMEM, "%s: out of memory", path);
    csv_head(f);
    if (old && old->kept) fputs(old->kept, f);
    json_array_foreach(json_object_get(result, "rows"), i, row)
    {
        bool timed = false;
        for (int k = 0; k < CSV_KINDS; k++) {
            if (!json_object_get(row, csv_kinds[k])) continue;
            csv_line(f, result, row, csv_kinds[k]);
            timed = true;
        }
        if (!timed && json_object_get(row, "note")) csv_line(f, result, row, "");
    }
    st_status s = fclose(f) == 0
                      ? st_write_file(path, text, n, e)
                      : st_fail(e, ST_ENOMEM, __FILE__, __LINE__, "%s: out of memory", path);
    free(text);
    return s;
}

st_status st_bench_csv(const char *path, const json_t *result, st_err *e)
{
    return bench_csv_write(path, NULL, result, e);
}

/* ---- reading -------------------------------------------------------------------------------- */

/* The end of the line at p, which is at its '\n' or at the end of the text. */
static char *csv_end(char *p)
{
    bool quoted = false;
    for (; *p && (quoted || *p != '\n'); p++)
        quoted ^= *p == '"';
    return p;
}

/* Field i of a line, quotes taken off; "" if there is none or it is longer than cap. */
static const char *csv_field(const char *line, int i, char *out, size_t cap)
{
    bool quoted = false;
    size_t n = 0;
    const char *p = line;
    for (; i > 0 && *p; p++) {
        quoted ^= *p == '"';
        i -= *p == ',' && !quoted;
    }
    for (quoted = false; i == 0 && *p && (quoted || *p != ',') && n + 1 < cap; p++) {
        if (*p != '"') {
            out[n++] = *p;
        } else if (quoted && p[1] == '"') {
            out[n++] = *++p;
        } else {
            quoted = !quoted;
        }
    }
    out[n] = '\0';
    return out;
}

static const char *csv_named(const char *line, const char *name, char *out, size_t cap)
{
    int i = 0;
    while (strcmp(csv_columns[i].name, name) != 0)
        i++;
    return csv_field(line, i, out, cap);
}

static void csv_key(char *key, size_t cap, const char *suite, const char *shape, const char *dtype)
{
    snprintf(key, cap, "%s|%s|%s", suite, shape, dtype);
}

static void csv_line_key(const char *line, char *key, size_t cap)
{
    char suite[64], shape[64], dtype[16];
    csv_key(key, cap, csv_named(line, "suite", suite, sizeof suite),
            csv_named(line, "shape", shape, sizeof shape),
            csv_named(line, "dtype", dtype, sizeof dtype));
}

/* Rows of two machines in one file would be compared. */
static st_status csv_same(const char *path, const char *line, const json_t *result, st_err *e)
{
    static const char *const names[] = {"machine", "device"};
    char text[256];
    for (int i = 0; i < 2; i++) {
        const char *now = json_string_value(json_object_get(result, names[i]));
        csv_named(line, names[i], text, sizeof text);
        if (strcmp(text, now) == 0) continue;
        ST_FAIL(e, ST_EARG,
                "%s: measured on \"%.100s\", this is \"%.100s\"; give another file or leave out "
                "--resume",
                path, text, now);
    }
    return ST_OK;
}

static st_status csv_check_head(const char *path, const char *text, st_err *e)
{
    char *head = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&head, &n);
    if (!f) ST_FAIL(e, ST_ENOMEM, "%s: out of memory", path);
    csv_head(f);
    bool same = fclose(f) == 0 && strncmp(text, head, n) == 0;
    free(head);
    if (same) return ST_OK;
    ST_FAIL(e, ST_EFORMAT,
            "%s: its first line is not that of benchmarks of this version of strut; give another "
            "file or leave out --resume",
            path);
}

/* Notes which groups have times, then keeps the lines of those. */
static st_status csv_keep(bench_old *old, const char *path, char *text, const json_t *result,
                          st_err *e)
{
    char key[192], kind[16];
    size_t used = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (char *p = csv_end(text), *end; *p && p[1]; p = end) {
            end = csv_end(p + 1);
            char was = *end;
            *end = '\0';
            csv_line_key(p + 1, key, sizeof key);
            bool timed = csv_named(p + 1, "kind", kind, sizeof kind)[0] != '\0';
            if (pass == 0) {
                ST_TRY(csv_same(path, p + 1, result, e));
                if (timed) json_object_set_new(old->done, key, json_true());
            } else if (json_object_get(old->done, key)) {
                used += (size_t)sprintf(old->kept + used, "%s\n", p + 1);
                old->rows++;
            }
            *end = was;
        }
    }
    return ST_OK;
}

st_status bench_csv_read(bench_old *old, const char *path, const json_t *result, st_err *e)
{
    char *text = NULL;
    size_t n = 0;
    *old = (bench_old){.done = json_object()};
    if (!old->done) ST_FAIL(e, ST_ENOMEM, "out of memory");
    if (!st_path_exists(path)) return ST_OK;
    ST_TRY(st_read_file(path, CSV_LARGEST, &text, &n, e));
    old->kept = st_calloc((int64_t)n + 2, 1);
    st_status s = old->kept ? csv_check_head(path, text, e)
                            : st_fail(e, ST_ENOMEM, __FILE__, __LINE__, "out of memory");
    if (!s) s = csv_keep(old, path, text, result, e);
    free(text);
    return s;
}

bool bench_csv_done(const bench_old *old, const char *suite, const char *shape, st_dtype t)
{
    char key[192];
    csv_key(key, sizeof key, suite, shape, st_dtype_name(t));
    return json_object_get(old->done, key) != NULL;
}

void bench_csv_free(bench_old *old)
{
    free(old->kept);
    json_decref(old->done);
    *old = (bench_old){0};
}
