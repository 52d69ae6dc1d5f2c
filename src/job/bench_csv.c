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

st_status st_bench_csv(const char *path, const json_t *result, st_err *e)
{
    char *text = NULL;
    size_t n = 0, i;
    json_t *row;
    FILE *f = open_memstream(&text, &n);
    if (!f) ST_FAIL(e, ST_ENOMEM, "%s: out of memory", path);
    csv_head(f);
    json_array_foreach(json_object_get(result, "rows"), i, row)
    {
        for (int k = 0; k < CSV_KINDS; k++) {
            if (json_object_get(row, csv_kinds[k])) csv_line(f, result, row, csv_kinds[k]);
        }
        if (json_object_get(row, "note") && !json_object_get(row, csv_kinds[0])) {
            csv_line(f, result, row, "");
        }
    }
    st_status s = fclose(f) == 0
                      ? st_write_file(path, text, n, e)
                      : st_fail(e, ST_ENOMEM, __FILE__, __LINE__, "%s: out of memory", path);
    free(text);
    return s;
}
