/* Tables of comma-separated values with a line of names, over libcsv. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include <csv.h>
#include <stdlib.h>
#include <string.h>

enum { CSV_COLUMNS = 256 };

typedef struct {
    json_t *rows, *names, *row;
    int64_t line, column, most;
    st_status status;
    const char *path;
    st_err *e;
} csv_reader;

static void csv_refuse(csv_reader *c, st_status s, const char *what)
{
    if (c->status) return;
    c->status = ST_ERR(c->e, s, "%s: row %lld: %s", c->path, (long long)c->line + 1, what);
}

static void csv_field(void *data, size_t n, void *ctx)
{
    csv_reader *c = ctx;
    if (c->status) return;
    json_t *text = json_stringn(data ? data : "", n);
    if (!text) {
        csv_refuse(c, ST_EFORMAT, "expected text in UTF-8");
    } else if (c->line == 0) {
        if (c->column == CSV_COLUMNS) csv_refuse(c, ST_EFORMAT, "more than 256 columns");
        json_array_append_new(c->names, text);
    } else if (c->column >= (int64_t)json_array_size(c->names)) {
        json_decref(text);
        csv_refuse(c, ST_EFORMAT, "more fields than the first line has names");
    } else {
        const char *name = json_string_value(json_array_get(c->names, (size_t)c->column));
        json_object_set_new(c->row, name, text);
    }
    c->column++;
}

static void csv_row(int end, void *ctx)
{
    csv_reader *c = ctx;
    (void)end;
    if (c->status) return;
    if (c->line > c->most) {
        csv_refuse(c, ST_EFORMAT, "too many rows");
    } else if (c->line > 0 && c->column < (int64_t)json_array_size(c->names)) {
        csv_refuse(c, ST_EFORMAT, "fewer fields than the first line has names");
    } else if (c->line > 0) {
        json_array_append_new(c->rows, c->row);
        c->row = json_object();
    }
    c->line++;
    c->column = 0;
}

st_status st_csv_load(json_t **rows, const char *path, size_t max_bytes, int64_t most, st_err *e)
{
    char *text = NULL;
    size_t n = 0;
    struct csv_parser parser;
    *rows = NULL;
    ST_TRY(st_read_file(path, max_bytes, &text, &n, e));
    csv_reader c = {.rows = json_array(),
                    .names = json_array(),
                    .row = json_object(),
                    .most = most,
                    .path = path,
                    .e = e};
    if (csv_init(&parser, CSV_STRICT | CSV_STRICT_FINI) != 0) {
        free(text);
        return ST_NOMEM(e, path);
    }
    size_t mark = st_text_mark(text, n);
    n -= mark;
    if (csv_parse(&parser, text + mark, n, csv_field, csv_row, &c) != n ||
        csv_fini(&parser, csv_field, csv_row, &c) != 0)
        csv_refuse(&c, ST_EFORMAT, csv_strerror(csv_error(&parser)));
    csv_free(&parser);
    free(text);
    if (!c.status && json_array_size(c.names) == 0)
        c.status = ST_ERR(e, ST_EFORMAT,
                          "%s: is empty, expected a line of "
                          "column names",
                          path);
    json_decref(c.names);
    json_decref(c.row);
    if (c.status) {
        json_decref(c.rows);
        return c.status;
    }
    *rows = c.rows;
    return ST_OK;
}
