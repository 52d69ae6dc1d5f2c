/* Rows of a text: the units that protocols join, encode or score one by one. What a row of WikiText
 * is follows Hugging Face's loader: a line with its newline; a blank line is an empty row. */
/* SPDX-License-Identifier: MIT */
#include "data/data.h"
#include "files/files.h"
#include <stdlib.h>
#include <string.h>

enum { ROWS_MAX_BYTES = 1 << 30 };

static st_status rows_add(st_eval_rows *r, int64_t *cap, size_t begin, size_t end, st_err *e)
{
    if (r->rows == *cap) {
        int64_t more = *cap ? *cap * 2 : 1024;
        void *p = realloc(r->row, (size_t)more * sizeof *r->row);
        if (!p) return ST_NOMEM(e, r->path);
        r->row = p;
        *cap = more;
    }
    r->row[r->rows].begin = begin;
    r->row[r->rows++].end = end;
    return ST_OK;
}

/* "\r\n" and "\r" become "\n", as when Python reads a text file. */
static void rows_newlines(st_eval_rows *r)
{
    size_t n = 0;
    if (!r->bytes || !memchr(r->text, '\r', r->bytes)) return;
    for (size_t i = 0; i < r->bytes; i++) {
        bool end = r->text[i] == '\r';
        i += end && i + 1 < r->bytes && r->text[i + 1] == '\n';
        r->text[n++] = end ? '\n' : r->text[i];
    }
    r->bytes = n;
    r->text[n] = '\0';
}

static st_status rows_lines(st_eval_rows *r, st_err *e)
{
    int64_t cap = 0;
    for (size_t at = 0; at < r->bytes;) {
        const char *line = r->text + at, *nl = memchr(line, '\n', r->bytes - at);
        size_t end = nl ? (size_t)(nl - r->text) : r->bytes, next = nl ? end + 1 : end;
        const char *a = line, *b = r->text + end;
        st_space_trim(&a, &b);
        if (r->form == ST_FORM_WIKITEXT) {
            ST_TRY(rows_add(r, &cap, at, a == b ? at : next, e));
        } else if (a < b) {
            ST_TRY(rows_add(r, &cap, at, end, e));
        }
        at = next;
    }
    return ST_OK;
}

/* Documents, by the reader of st_docs. Tables of WikiText have empty rows where the files have
 * blank lines (" \n"): those are put back into the text, beside the rows. */
static st_status rows_docs(st_eval_rows *r, st_err *e)
{
    st_docs *d = NULL;
    st_buffer all = {0};
    int64_t cap = 0;
    const char *path = r->path, *text;
    size_t n;
    bool wiki = r->form == ST_FORM_WIKITEXT;
    ST_TRY(st_docs_open(&d, &path, 1, &(st_docs_opts){.empty = wiki}, e));
    st_status s = st_docs_next(d, &text, &n, e);
    for (; !s && text; s = st_docs_next(d, &text, &n, e)) {
        size_t at = all.n;
        if (n > ROWS_MAX_BYTES - all.n) {
            s = ST_ERR(e, ST_EFORMAT, "%s: more than 1 GiB of text", path);
        } else if (!st_buffer_put(&all, n ? text : " \n", n || !wiki ? n : 2)) {
            s = ST_NOMEM(e, path);
        } else {
            s = rows_add(r, &cap, at, at + n, e);
        }
        if (s) break;
    }
    st_docs_close(d);
    r->text = all.s;
    r->bytes = all.n;
    return s;
}

/* The text of a plain file, or of what is packed in it, without marks of its encoding. */
static st_status rows_plain(st_eval_rows *r, st_err *e)
{
    st_docs *d = NULL;
    st_buffer all = {0};
    const char *path = r->path, *text;
    size_t n;
    ST_TRY(st_docs_open(&d, &path, 1, &(st_docs_opts){.max_doc_bytes = ROWS_MAX_BYTES}, e));
    st_status s = st_docs_next(d, &text, &n, e);
    for (; !s && text; s = st_docs_next(d, &text, &n, e)) {
        if (n > ROWS_MAX_BYTES - all.n) {
            s = ST_ERR(e, ST_EFORMAT, "%s: more than 1 GiB of text", path);
        } else if (!st_buffer_put(&all, text, n)) {
            s = ST_NOMEM(e, path);
        }
        if (s) break;
    }
    st_docs_close(d);
    r->text = all.s;
    r->bytes = all.n;
    if (!s) rows_newlines(r);
    return s;
}

/* Is it a file of documents, whatever the set's own form is? */
static bool rows_is_docs(const char *path)
{
    static const char *const end[] = {".parquet",  ".jsonl",     ".ndjson", ".json",
                                      ".jsonl.gz", ".jsonl.zst", ".csv",    ".tsv"};
    size_t n = strlen(path);
    for (size_t i = 0; i < sizeof end / sizeof *end; i++) {
        size_t m = strlen(end[i]);
        if (n > m && strcmp(path + n - m, end[i]) == 0) return true;
    }
    return false;
}

st_status st_eval_rows_open(st_eval_rows *out, const char *path, st_form form, st_err *e)
{
    *out = (st_eval_rows){.form = form, .path = strdup(path)};
    if (!out->path) return ST_NOMEM(e, path);
    int64_t cap = 0;
    bool docs = rows_is_docs(path);
    st_status s = docs ? rows_docs(out, e) : rows_plain(out, e);
    if (!s && !docs && form == ST_FORM_TEXT && out->bytes)
        s = rows_add(out, &cap, 0, out->bytes, e);
    if (!s && !docs && form != ST_FORM_TEXT) s = rows_lines(out, e);
    if (!s && out->rows == 0) {
        s = ST_ERR(e, ST_EFORMAT, "%s: no text in it", path);
    }
    if (s) st_eval_rows_close(out);
    return s;
}

void st_eval_rows_close(st_eval_rows *r)
{
    free(r->text);
    free(r->row);
    free(r->path);
    *r = (st_eval_rows){0};
}
