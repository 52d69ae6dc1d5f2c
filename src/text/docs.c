/* Documents: one a text file, a line or row of a table, from whatever the files are packed in. */
/* SPDX-License-Identifier: MIT */
#include "text/docs.h"
#include "text/bpe.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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
    if (!d) return ST_NOMEM(e, NULL);
    d->most = o && o->max_doc_bytes > 0 ? (size_t)o->max_doc_bytes : (size_t)256 << 20;
    d->piece = o && o->piece_bytes > 0 ? (size_t)o->piece_bytes : 0;
    if (o) d->o = *o;
    d->field = strdup(o && o->field ? o->field : "text");
    d->path = st_calloc(n + 1, sizeof *d->path);
    st_status s = ST_OK;
    if (!d->field || !d->path) s = ST_NOMEM(e, NULL);
    for (; !s && d->paths < n; d->paths++) {
        d->path[d->paths] = strdup(paths[d->paths]);
        if (!d->path[d->paths]) s = ST_NOMEM(e, NULL);
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
    st_parquet_close(d->parquet);
    free(d->parquet_name);
    st_walk_close(d->walk);
    free(d->json.text);
    free(d->json.end);
    free(d->table.value);
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
           (d->parquet ? st_parquet_done(d->parquet) : 0);
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

/* Is the file or stream one to read? `found`: its name was not given, it was in a folder. */
static bool docs_wanted(st_docs *d, const char *name, bool found)
{
    if (d->o.wanted) return d->o.wanted(d->o.ctx, name);
    return !found || !docs_beside(d, name);
}

static st_status docs_parquet(st_docs *d, const char *path, st_err *e)
{
    ST_TRY(st_parquet_open(&d->parquet, path, d->field, e));
    d->line = 0;
    d->name = d->parquet_name = strdup(path);
    if (!d->name) return ST_NOMEM(e, path);
    return ST_OK;
}

static docs_form docs_form_of(const st_docs *d)
{
    static const struct {
        const char *end;
        docs_form form;
    } known[] = {{".jsonl", DOCS_JSON},
                 {".ndjson", DOCS_JSON},
                 {".json", DOCS_JSON},
                 {".csv", DOCS_TABLE},
                 {".tsv", DOCS_TABLE}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (st_name_ends(d->name, known[i].end)) return known[i].form;
    }
    return d->o.rows ? DOCS_LINES : DOCS_WHOLE;
}

/* A name without a suffix says nothing: if its first line is a whole object, it is JSON lines
 * (RC_2005-12, of Reddit's archives). */
static st_status docs_guess(st_docs *d, st_err *e)
{
    const char *base = strrchr(d->name, '/'), *line = d->data + d->at;
    size_t n = d->n - d->at;
    docs_json_kind kind;
    if (strchr(base ? base : d->name, '.') || d->form != DOCS_WHOLE || !n || *line != '{')
        return ST_OK;
    const char *end = memchr(line, '\n', n);
    if (!end && !d->ended) return ST_OK;
    ST_TRY(docs_json_texts(&d->json, line, end ? (size_t)(end - line) : n, d->field, &kind, e));
    d->json.texts = 0; /* it is read again as a row */
    if (kind < DOCS_SCALAR) d->form = DOCS_JSON;
    return ST_OK;
}

/* The first bytes of a stream: marks of its encoding are no text, and a pointer of Git LFS is not
 * what it points to. */
static st_status docs_begin(st_docs *d, st_err *e)
{
    d->form = docs_form_of(d);
    d->table.column = -1;
    d->table.columns = 0;
    d->table.delimiter = st_name_ends(d->name, ".tsv") ? '\t' : ',';
    d->line = 0;
    d->at = d->n = 0;
    d->wide = d->high = 0;
    d->ended = d->array = d->after = d->odd = false;
    while (d->n < 64 && !d->ended)
        ST_TRY(docs_fill(d, "its beginning", DOCS_READ, e));
    ST_TRY(st_lfs_refuse(d->name, d->data, d->n, e));
    ST_TRY(docs_encoding(d, e));
    if (!d->wide) return docs_guess(d, e);
    char *raw = malloc(d->n + 1);
    if (!raw) return ST_NOMEM(e, d->name);
    size_t n = d->n - d->at;
    memcpy(raw, d->data + d->at, n);
    d->at = 0;
    d->n = 0;
    st_status s = docs_narrow(d, raw, n, e);
    if (!s && d->ended) s = docs_narrow(d, raw, 0, e);
    free(raw);
    return s ? s : docs_guess(d, e);
}

/* Goes to the next stream that is wanted by its name; d->name NULL: there is none. *found: that was
 * not given, it was in a folder or archive. */
static st_status docs_next(st_docs *d, bool *found, st_err *e)
{
    d->name = NULL;
    if (d->parquet) d->done += st_parquet_done(d->parquet);
    st_parquet_close(d->parquet);
    free(d->parquet_name);
    d->parquet = NULL;
    d->parquet_name = NULL;
    for (;;) {
        if (!d->file) {
            const char *path;
            ST_TRY(st_walk_next(d->walk, &path, e));
            if (!path) return ST_OK;
            d->found = !st_walk_named(d->walk);
            d->named = strlen(path);
            *found = d->found;
            if (st_parquet_is(path)) {
                if (docs_wanted(d, path, d->found)) return docs_parquet(d, path, e);
                continue;
            }
            ST_TRY(st_unpack_open(&d->file, path, e));
        }
        ST_TRY(st_unpack_next(d->file, &d->name, e));
        bool member = d->name && strlen(d->name) > d->named && d->name[d->named] == ':';
        *found = d->found || member;
        bool closed = false;
        bool wanted = d->name && docs_wanted(d, d->name, *found);
        if (wanted) ST_TRY(docs_closed(d, *found, &closed, e));
        if (wanted && !closed) return ST_OK;
        if (d->name) continue;
        d->done += st_unpack_done(d->file);
        st_unpack_close(d->file);
        d->file = NULL;
    }
}

static st_status docs_advance(st_docs *d, st_err *e)
{
    bool found = false;
    do {
        ST_TRY(docs_next(d, &found, e));
        if (!d->name || d->parquet) return ST_OK;
        ST_TRY(docs_begin(d, e));
    } while (docs_binary(d, found));
    return ST_OK;
}

st_status docs_room(st_docs *d, size_t n, const char *what, st_err *e)
{
    if (d->cap - d->n >= n) return ST_OK;
    size_t cap = d->cap + d->cap / 2 + n + DOCS_READ;
    char *more = realloc(d->data, cap);
    if (!more) ST_FAIL(e, ST_ENOMEM, "%s: out of memory for %s", d->name, what);
    d->data = more;
    d->cap = cap;
    return ST_OK;
}

st_status docs_fill(st_docs *d, const char *what, size_t most, st_err *e)
{
    char raw[DOCS_READ];
    if (d->at) memmove(d->data, d->data + d->at, d->n - d->at);
    d->n -= d->at;
    d->at = 0;
    if (d->n > most) {
        ST_FAIL(e, ST_EFORMAT, "%s: %s is longer than %zu bytes", d->name, what, most);
    }
    ST_TRY(docs_room(d, DOCS_READ, what, e));
    size_t got;
    char *to = d->wide ? raw : d->data + d->n;
    ST_TRY(st_unpack_read(d->file, to, DOCS_READ, &got, e));
    d->ended = got == 0;
    if (d->wide) return docs_narrow(d, raw, got, e);
    d->n += got;
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

/* The same as late as `letters` allows it. */
static size_t docs_cut(const st_docs *d, const char *s, size_t n)
{
    if (!d->o.letters) return st_text_cut(s, n);
    for (size_t i = n; i-- > 1;) {
        bool word = (uint8_t)((s[i - 1] | 32) - 'a') < 26 || (uint8_t)(s[i - 1] - '0') < 10;
        if (word && (s[i] == ' ' || s[i] == '\n')) return i;
    }
    return 0;
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
        if (d->ended || (cut = docs_cut(d, d->data + d->at, d->n - d->at))) break;
        want = 2 * (d->n - d->at);
    }
    *n = d->ended ? d->n - d->at : cut;
    if (*n || (first && d->o.empty)) *text = *n ? d->data + d->at : "";
    d->at += *n;
    d->more = !d->ended;
    return ST_OK;
}

/* ---- documents ------------------------------------------------------------------------------- */

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
        if ((cut = docs_cut(d, d->text, try))) take = cut;
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

st_status st_docs_next(st_docs *d, const char **text, size_t *n, st_err *e)
{
    d->more = false;
    for (;;) {
        *text = NULL;
        *n = 0;
        if (!d->name) {
            ST_TRY(docs_advance(d, e));
            if (!d->name) return docs_remark(d, e);
        }
        if (d->parquet || d->form != DOCS_WHOLE)
            ST_TRY(docs_row_piece(d, text, n, e));
        else
            ST_TRY(docs_file_piece(d, text, n, e));
        d->given += *text != NULL;
        if (*text) return ST_OK;
        d->name = NULL;
    }
}
