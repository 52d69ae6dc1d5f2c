/* The rows of benchmarks as CSV (doc/FORMATS, BENCHMARKS), and which of them a file has already. */
/* SPDX-License-Identifier: MIT */
#include "bench/bench.h"
#include "bench/inner.h"
#include "files/files.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const csv_kinds[] = {"forward", "backward", "step", "decode"};
enum {
    CSV_KINDS = sizeof csv_kinds / sizeof *csv_kinds,
    CSV_LARGEST = 1 << 28,
    CSV_ROWS = 1000000
};

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
    {"reason", NULL, CSV_ROW},
    {"heads", NULL, CSV_ROW},
    {"head_dim", NULL, CSV_ROW},
    {"scratch_planned", NULL, CSV_ROW},
    {"scratch_used", NULL, CSV_ROW},
    {"tensor_bytes", NULL, CSV_ROW},
    {"error", NULL, CSV_ROW},
    {"error_sd", NULL, CSV_ROW},
    {"seeds", NULL, CSV_ROW},
    {"images_per_second", NULL, CSV_TIMES},
};
enum { CSV_COLUMNS = sizeof csv_columns / sizeof *csv_columns };

/* ---- writing --------------------------------------------------------------------------------- */

/* Texts with commas or quotes in quotes, quotes doubled; line ends would make a line of two. */
static void csv_text(FILE *f, const char *text)
{
    if (!strpbrk(text, ",\"\r\n")) {
        fputs(text, f);
        return;
    }
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

/* Times may say better than their row what they are of (decoding has a batch of its own). */
static const json_t *csv_find(const csv_column *c, const json_t *result, const json_t *row,
                              const json_t *times)
{
    const char *key = c->key ? c->key : c->name;
    const json_t *v = json_object_get(c->place == CSV_RESULT ? result : times, key);
    if (!v && c->place == CSV_ROW) v = json_object_get(row, key);
    if (!v && strcmp(c->name, "spec") == 0) v = json_object_get(row, "name");
    return v;
}

static void csv_line(FILE *f, const json_t *result, const json_t *row, const char *kind)
{
    const json_t *times = json_object_get(row, kind);
    for (int i = 0; i < CSV_COLUMNS; i++) {
        const csv_column *c = &csv_columns[i];
        if (i) fputc(',', f);
        if (c->place == CSV_KIND)
            fputs(kind, f);
        else
            csv_value(f, csv_find(c, result, row, times));
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
    if (!f) return ST_NOMEM(e, path);
    csv_head(f);
    json_array_foreach(old ? old->kept : NULL, i, row)
    {
        for (int k = 0; k < CSV_COLUMNS; k++) {
            if (k) fputc(',', f);
            csv_text(f, json_string_value(json_object_get(row, csv_columns[k].name)));
        }
        fputc('\n', f);
    }
    json_array_foreach(json_object_get(result, "rows"), i, row)
    {
        bool timed = false;
        for (int k = 0; k < CSV_KINDS; k++) {
            if (!json_object_get(row, csv_kinds[k])) continue;
            csv_line(f, result, row, csv_kinds[k]);
            timed = true;
        }
        if (!timed && json_object_get(row, "reason")) csv_line(f, result, row, "");
    }
    st_status s = fclose(f) == 0 ? st_write_file(path, text, n, e) : ST_NOMEM(e, path);
    free(text);
    return s;
}

st_status st_bench_csv(const char *path, const json_t *result, st_err *e)
{
    return bench_csv_write(path, NULL, result, e);
}

st_status st_bench_csv_place(const char *path, st_err *e)
{
    static const char head[] = "version,commit,machine,";
    char found[sizeof head] = "";
    st_outfile o = {0};
    ST_TRY(st_outfile_open(&o, path, e)); /* a plain file that may be written, or none yet */
    st_outfile_discard(&o);
    FILE *f = st_path_is_file(path) ? fopen(path, "re") : NULL;
    size_t n = f ? fread(found, 1, sizeof found - 1, f) : 0;
    if (f) fclose(f);
    if (n && strcmp(found, head) != 0)
        ST_FAIL(e, ST_EARG, "%s: is there and no benchmark of strut's; give another name", path);
    return ST_OK;
}

/* ---- reading --------------------------------------------------------------------------------- */

static const char *csv_get(const json_t *row, const char *name)
{
    const char *text = json_string_value(json_object_get(row, name));
    return text ? text : "";
}

static void csv_key(char *key, size_t cap, const char *suite, const char *shape, const char *dtype)
{
    snprintf(key, cap, "%s|%s|%s", suite, shape, dtype);
}

/* Rows of two machines in one file would be compared. */
static st_status csv_same(const char *path, const json_t *row, const json_t *result, st_err *e)
{
    static const char *const names[] = {"machine", "device"};
    for (int i = 0; i < 2; i++) {
        const char *now = json_string_value(json_object_get(result, names[i]));
        const char *was = csv_get(row, names[i]);
        if (strcmp(was, now) == 0) continue;
        ST_FAIL(e, ST_EARG,
                "%s: measured on \"%.100s\", this is \"%.100s\"; give another file or leave out "
                "--resume",
                path, was, now);
    }
    return ST_OK;
}

static st_status csv_columns_there(const char *path, const json_t *row, st_err *e)
{
    for (int i = 0; i < CSV_COLUMNS; i++) {
        if (json_object_get(row, csv_columns[i].name)) continue;
        ST_FAIL(
            e, ST_EFORMAT,
            "%s: there is no column %s, so this version of strut did not write it; give another "
            "file or leave out --resume",
            path, csv_columns[i].name);
    }
    return ST_OK;
}

/* Notes which parts have times, then keeps the rows of those. */
static st_status csv_keep(bench_old *old, const char *path, const json_t *rows,
                          const json_t *result, st_err *e)
{
    char key[256];
    size_t i;
    json_t *row;
    for (int pass = 0; pass < 2; pass++) {
        json_array_foreach(rows, i, row)
        {
            csv_key(key, sizeof key, csv_get(row, "suite"), csv_get(row, "shape"),
                    csv_get(row, "dtype"));
            if (pass && json_object_get(old->done, key)) json_array_append(old->kept, row);
            if (pass) continue;
            ST_TRY(csv_columns_there(path, row, e));
            ST_TRY(csv_same(path, row, result, e));
            if (csv_get(row, "kind")[0]) json_object_set_new(old->done, key, json_true());
        }
    }
    return ST_OK;
}

st_status bench_csv_read(bench_old *old, const char *path, const json_t *result, st_err *e)
{
    json_t *rows = NULL;
    *old = (bench_old){.done = json_object(), .kept = json_array()};
    if (!old->done || !old->kept) return ST_NOMEM(e, NULL);
    if (!st_path_exists(path)) return ST_OK;
    ST_TRY(st_csv_load(&rows, path, CSV_LARGEST, CSV_ROWS, e));
    st_status s = csv_keep(old, path, rows, result, e);
    json_decref(rows);
    return s;
}

bool bench_csv_done(const bench_old *old, const char *suite, const char *shape, st_dtype t)
{
    char key[256];
    csv_key(key, sizeof key, suite, shape, st_dtype_name(t));
    return json_object_get(old->done, key) != NULL;
}

void bench_csv_free(bench_old *old)
{
    json_decref(old->kept);
    json_decref(old->done);
    *old = (bench_old){0};
}
