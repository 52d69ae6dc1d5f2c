/* Documents: one a text file, a JSON line or a parquet row, from whatever the files are packed in.
 */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "text/bpe.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { DOCS_READ = 1 << 16 };

struct st_docs {
    const char **path;
    int paths;
    char *field;
    size_t most, piece; /* bytes; piece 0: whole documents */
    st_walk *walk;
    st_docs_opts o; /* as asked for, but for the field */
    st_unpack *file;
    st_parquet *table; /* in place of `file` */
    const char *name;  /* of the stream; NULL: none is open */
    char *table_name;
    bool json, lines; /* JSON lines, lines of any kind */
    int64_t line;
    char *data; /* of the stream, from `at` to `n`; `ended`: it has no more */
    size_t at, n, cap;
    bool ended;
    json_t *value;    /* of the line */
    const char *text; /* of the line or row: what is left of it */
    size_t left;
    bool more; /* of the document is still to come */
    int64_t done, total;
};

/* ---- opening --------------------------------------------------------------------------------- */

/* Bytes of all inputs; what is missing shows now and not after an hour. */
static st_status docs_measure(st_docs *d, st_err *e)
{
    const char *path;
    st_walk *walk;
    ST_TRY(st_walk_open(&walk, d->path, d->paths, e));
    st_status s;
    while (!(s = st_walk_next(walk, &path, e)) && path) {
        struct stat st;
        if (stat(path, &st)) {
            s = ST_ERR(e, ST_EIO, "%s: %s", path, strerror(errno));
            break;
        }
        if (S_ISREG(st.st_mode)) d->total += st.st_size;
    }
    st_walk_close(walk);
    return s;
}

st_status st_docs_open(st_docs **out, const char *const *paths, int n, const st_docs_opts *o,
                       st_err *e)
{
    *out = NULL;
    st_docs *d = st_calloc(1, sizeof *d);
    if (!d) ST_FAIL(e, ST_ENOMEM, "out of memory");
    d->most = o && o->max_doc_bytes > 0 ? (size_t)o->max_doc_bytes : (size_t)256 << 20;
    d->piece = o && o->piece_bytes > 0 ? (size_t)o->piece_bytes : 0;
    if (o) d->o = *o;
    d->field = strdup(o && o->field ? o->field : "text");
    d->path = st_calloc(n + 1, sizeof *d->path);
    st_status s = ST_OK;
    if (!d->field || !d->path) s = ST_ERR(e, ST_ENOMEM, "out of memory");
    for (; !s && d->paths < n; d->paths++) {
        d->path[d->paths] = strdup(paths[d->paths]);
        if (!d->path[d->paths]) s = ST_ERR(e, ST_ENOMEM, "out of memory");
    }
    if (!s) s = docs_measure(d, e);
    if (!s) s = st_walk_open(&d->walk, d->path, d->paths, e);
    if (s)
        st_docs_close(d);
    else
        *out = d;
    return s;
}

void st_docs_close(st_docs *d)
{
    if (!d) return;
    st_unpack_close(d->file);
    st_parquet_close(d->table);
    free(d->table_name);
    st_walk_close(d->walk);
    json_decref(d->value);
    for (int i = 0; i < d->paths; i++)
        free((char *)(uintptr_t)d->path[i]);
    free(d->path);
    free(d->field);
    free(d->data);
    free(d);
}

int64_t st_docs_done(const st_docs *d)
{
    return d->done + (d->file ? st_unpack_done(d->file) : 0) +
           (d->table ? st_parquet_done(d->table) : 0);
}

int64_t st_docs_total(const st_docs *d)
{
    return d->total;
}

bool st_docs_more(const st_docs *d)
{
    return d->more;
}

const char *st_docs_name(const st_docs *d)
{
    return d->name;
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static bool docs_wanted(const st_docs *d, const char *name)
{
    return !d->o.wanted || d->o.wanted(d->o.ctx, name);
}

static st_status docs_table(st_docs *d, const char *path, st_err *e)
{
    ST_TRY(st_parquet_open(&d->table, path, d->field, e));
    d->line = 0;
    d->name = d->table_name = strdup(path);
    if (!d->name) ST_FAIL(e, ST_ENOMEM, "%s: out of memory", path);
    return ST_OK;
}

/* Goes to the next stream; d->name NULL: there is none. */
static st_status docs_advance(st_docs *d, st_err *e)
{
    d->name = NULL;
    if (d->table) d->done += st_parquet_done(d->table);
    st_parquet_close(d->table);
    free(d->table_name);
    d->table = NULL;
    d->table_name = NULL;
    for (;;) {
        if (!d->file) {
            const char *path;
            ST_TRY(st_walk_next(d->walk, &path, e));
            if (!path) return ST_OK;
            if (st_parquet_is(path)) {
                if (docs_wanted(d, path)) return docs_table(d, path, e);
                continue;
            }
            ST_TRY(st_unpack_open(&d->file, path, e));
        }
        ST_TRY(st_unpack_next(d->file, &d->name, e));
        if (d->name && docs_wanted(d, d->name)) break;
        if (d->name) continue;
        d->done += st_unpack_done(d->file);
        st_unpack_close(d->file);
        d->file = NULL;
    }
    d->json = st_name_ends(d->name, ".jsonl") || st_name_ends(d->name, ".ndjson") ||
              st_name_ends(d->name, ".json");
    d->lines = d->json || d->o.rows;
    d->line = 0;
    d->at = d->n = 0;
    d->ended = false;
    return ST_OK;
}

/* Reads more of the stream behind what is there, which is `what` and may have `most` bytes. */
static st_status docs_fill(st_docs *d, const char *what, size_t most, st_err *e)
{
    if (d->at) memmove(d->data, d->data + d->at, d->n - d->at);
    d->n -= d->at;
    d->at = 0;
    if (d->n > most) {
        ST_FAIL(e, ST_EFORMAT, "%s: %s is longer than %zu bytes", d->name, what, most);
    }
    if (d->cap - d->n < DOCS_READ) {
        size_t cap = d->cap + d->cap / 2 + 2 * DOCS_READ;
        char *more = realloc(d->data, cap);
        if (!more) ST_FAIL(e, ST_ENOMEM, "%s: out of memory for %s", d->name, what);
        d->data = more;
        d->cap = cap;
    }
    size_t got;
    ST_TRY(st_unpack_read(d->file, d->data + d->n, DOCS_READ, &got, e));
    d->n += got;
    d->ended = got == 0;
    return ST_OK;
}

/* ---- pieces ---------------------------------------------------------------------------------- */

size_t st_text_cut(const char *s, size_t n)
{
    /* No word goes on from a visible character to white space. */
    for (size_t i = n; i-- > 1;)
        if ((s[i] == ' ' || s[i] == '\n') && s[i - 1] > ' ' && s[i - 1] < 127) return i;
    size_t cut = 0;
    /* Elsewhere a word's end is certain if a whole character follows it. White space does not do:
     * at the end of a text it keeps the last character that it gives up before a word. */
    for (size_t i = 0, end; i < n; i = end) {
        end = st_pretoken_end(s, n, i);
        if (end + 4 <= n && !st_pretoken_blank(s, end, i)) cut = end;
    }
    return cut;
}

static const char docs_run[] = "a run without a word boundary";
static const size_t docs_run_most = ST_BPE_WORD_MAX;

/* The next piece of a text file. *text NULL: the stream is over. */
static st_status docs_file_piece(st_docs *d, const char **text, size_t *n, st_err *e)
{
    const char *what = d->piece ? docs_run : "this document";
    bool first = !d->line++; /* what is counted of a text file are pieces */
    size_t want = d->piece, cut = 0,
           most = d->piece && d->most > docs_run_most ? docs_run_most : d->most;
    for (;;) {
        while (!d->ended && (!d->piece || d->n - d->at < want))
            ST_TRY(docs_fill(d, what, most, e));
        if (d->ended || (cut = st_text_cut(d->data + d->at, d->n - d->at))) break;
        want = 2 * (d->n - d->at);
    }
    *n = d->ended ? d->n - d->at : cut;
    if (*n || (first && d->o.empty)) *text = *n ? d->data + d->at : "";
    d->at += *n;
    d->more = !d->ended;
    return ST_OK;
}

/* ---- JSON lines ------------------------------------------------------------------------------ */

/* The next line without its end; *line NULL: no more. */
static st_status docs_line(st_docs *d, const char **line, size_t *n, st_err *e)
{
    size_t seen = 0;
    for (;;) {
        size_t have = d->n - d->at;
        const char *end = have > seen ? memchr(d->data + d->at + seen, '\n', have - seen) : NULL;
        if (end || (d->ended && have)) {
            *line = d->data + d->at;
            *n = end ? (size_t)(end - *line) : have;
            d->at += *n + (end != NULL);
            d->line++;
            return ST_OK;
        }
        *line = NULL;
        if (d->ended) return ST_OK;
        seen = have;
        ST_TRY(docs_fill(d, "a line", d->most, e));
    }
}

/* Takes the text out of a line. */
static st_status docs_parse(st_docs *d, const char *line, size_t n, st_err *e)
{
    json_error_t err;
    json_decref(d->value);
    d->value = json_loadb(line, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &err);
    const json_t *text = json_object_get(d->value, d->field);
    if (!d->value) {
        ST_FAIL(e, ST_EFORMAT,
                "%s:%lld: not valid JSON at column %d: %s; expected one object a line", d->name,
                (long long)d->line, err.column, err.text);
    }
    if (!json_is_object(d->value)) {
        ST_FAIL(e, ST_EFORMAT, "%s:%lld: not an object, expected one with \"%s\"", d->name,
                (long long)d->line, d->field);
    }
    if (!text) {
        const char *key = json_object_iter_key(json_object_iter(d->value));
        ST_FAIL(e, ST_EFORMAT, "%s:%lld: no \"%.60s\" in this object%s%.60s%s; choose with --field",
                d->name, (long long)d->line, d->field, key ? ", which begins with \"" : "",
                key ? key : "", key ? "\"" : "");
    }
    if (!json_is_string(text)) {
        ST_FAIL(e, ST_EFORMAT, "%s:%lld: \"%.60s\" is not a string", d->name, (long long)d->line,
                d->field);
    }
    d->text = json_string_value(text);
    d->left = json_string_length(text);
    return ST_OK;
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* The next row of a table or of lines, into d->text and d->left; *found false: there is none. */
static st_status docs_row(st_docs *d, bool *found, st_err *e)
{
    const char *line;
    size_t n;
    *found = false;
    if (d->table) {
        ST_TRY(st_parquet_next(d->table, &d->text, &d->left, e));
        *found = d->text != NULL;
        d->line++;
        if (d->left <= d->most) return ST_OK;
        ST_FAIL(e, ST_EFORMAT, "%s:%lld: a row is longer than %zu bytes", d->name,
                (long long)d->line, d->most);
    }
    for (;;) {
        ST_TRY(docs_line(d, &line, &n, e));
        *found = line != NULL;
        if (!line) return ST_OK;
        if (!d->json) {
            d->text = line;
            d->left = n && line[n - 1] == '\r' ? n - 1 : n;
            return ST_OK;
        }
        while (n && strchr(" \t\r", line[n - 1]))
            n--;
        if (n) return docs_parse(d, line, n, e);
    }
}

/* The next row, or the next piece of it. *text NULL: the stream is over. */
static st_status docs_row_piece(st_docs *d, const char **text, size_t *n, st_err *e)
{
    for (bool found = true; !d->left;) {
        ST_TRY(docs_row(d, &found, e));
        if (!found) return ST_OK;
        if (d->o.empty) break;
    }
    size_t take = d->left, cut = 0;
    for (size_t try = d->piece; d->piece && !cut && try < d->left; try *= 2)
        if ((cut = st_text_cut(d->text, try))) take = cut;
    if (d->piece && !cut && take > docs_run_most) {
        ST_FAIL(e, ST_EFORMAT, "%s:%lld: %s is longer than %zu bytes", d->name, (long long)d->line,
                docs_run, docs_run_most);
    }
    *text = d->text;
    *n = take;
    d->text += take;
    d->left -= take;
    d->more = d->left > 0;
    return ST_OK;
}

/* ---- documents ------------------------------------------------------------------------------- */

st_status st_docs_next(st_docs *d, const char **text, size_t *n, st_err *e)
{
    d->more = false;
    for (;;) {
        *text = NULL;
        *n = 0;
        if (!d->name) {
            ST_TRY(docs_advance(d, e));
            if (!d->name) return ST_OK;
        }
        if (d->table || d->lines)
            ST_TRY(docs_row_piece(d, text, n, e));
        else
            ST_TRY(docs_file_piece(d, text, n, e));
        if (*text) return ST_OK;
        d->name = NULL;
    }
}
