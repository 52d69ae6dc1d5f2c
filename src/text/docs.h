/* docs inside: what the files of the reader of documents share. docs.c: streams and pieces;
 * docs_rows.c: rows of lines, JSON and tables; docs_json.c: texts in JSON; docs_beside.c: what is
 * left out. Inside text only. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_TEXT_DOCS_H
#define ST_TEXT_DOCS_H

#include "files/files.h"
#include "text/text.h"

enum { DOCS_READ = 1 << 16, DOCS_WHY = 160 };

/* ---- docs_json.c ----------------------------------------------------------------------------- */

typedef enum {
    DOCS_TEXT,
    DOCS_NULL,
    DOCS_ABSENT, /* an object without the field */
    DOCS_OTHER,  /* what is there is no text */
    DOCS_SCALAR, /* no object at all */
    DOCS_SHORT,  /* it ends within the value */
    DOCS_BROKEN  /* no JSON, for the reason in `why` */
} docs_json_kind;

typedef struct {
    char *text; /* decoded, one behind the other */
    size_t cap;
    size_t *end; /* of each of the `texts` texts */
    int64_t texts, ends, given;
    int64_t missed; /* places where the field leads that have none */
    char key[64];   /* the first of the object */
    char why[DOCS_WHY];
    int64_t column; /* from 1, of what is broken */
} docs_json;

/* The texts under `field` ("a.b": in an object under a; an array there is each of its values) of
 * the one value in s[0..n), which is all that Python's json reads; a text itself is one. *kind says
 * why the first place that has none has none; DOCS_TEXT: none is missed. Of a key given twice the
 * last counts. Surrogates without their other half become U+FFFD. Fails for want of memory only. */
st_status docs_json_texts(docs_json *j, const char *s, size_t n, const char *field,
                          docs_json_kind *kind, st_err *e);

/* Finds where a value ends, from pieces of it. Zeroed is before it. */
typedef struct {
    int64_t depth;
    bool begun, within, escaped; /* within a text */
} docs_extent;
/* The bytes of s[0..n) up to the value's end; n + 1: it goes on. */
size_t docs_json_end(docs_extent *x, const char *s, size_t n);

/* ---- the reader ------------------------------------------------------------------------------ */

typedef enum { DOCS_WHOLE, DOCS_LINES, DOCS_JSON, DOCS_TABLE } docs_form;

typedef struct {
    char delimiter;
    int64_t column, columns; /* of the field; -1: the head is not read */
    char *value;             /* the field, without its quotes */
    size_t n, cap;
} docs_table;

struct st_docs {
    const char **path;
    int paths;
    char *field;
    size_t most, piece; /* bytes; piece 0: whole documents */
    st_walk *walk;
    st_docs_opts o; /* as asked for, but for the field */
    st_unpack *file;
    st_parquet *parquet; /* in place of `file` */
    bool found;          /* the file was in a folder */
    size_t named;        /* bytes of its name */
    const char *name;    /* of the stream; NULL: none is open */
    char *parquet_name;
    docs_form form;
    int wide;       /* UTF-16: 1 little-endian, 2 big-endian */
    int high, half; /* unfinished of it: the half of a character, the first byte of a unit */
    bool odd;       /* there is such a byte */
    int64_t line;   /* or row, or piece */
    char *data;     /* of the stream, from `at` to `n`; `ended`: it has no more */
    size_t at, n, cap;
    bool ended;
    bool array; /* within an array of JSON; `after` a value of it */
    bool after;
    docs_json json;
    docs_table table;
    const char *text; /* of the row: what is left of it */
    size_t left;
    bool more; /* of the document is still to come */
    int64_t done, total;
    int64_t given, bad; /* documents; rows without a text */
    char why[400];      /* of the first of these */
    int64_t beside;     /* files left out */
    char names[160];
};

/* Room for n more bytes of `what`. */
st_status docs_room(st_docs *d, size_t n, const char *what, st_err *e);
/* Reads more of the stream behind what is there, which is `what` and may have `most` bytes. */
st_status docs_fill(st_docs *d, const char *what, size_t most, st_err *e);
/* docs_wide.c: what the beginning of the stream says of its encoding: d->wide, and d->at behind a
 * mark. UTF-32 is ST_EUNSUPPORTED. */
st_status docs_encoding(st_docs *d, st_err *e);
/* n bytes of UTF-16 behind what is there; none: it has ended. What is no character
 * becomes U+FFFD. */
st_status docs_narrow(st_docs *d, const char *raw, size_t n, st_err *e);
/* docs_rows.c: the next row of the stream into d->text and d->left; *found false: there is none. */
st_status docs_row(st_docs *d, bool *found, st_err *e);
/* A row without a text: counted, or with o.strict an error. */
st_status docs_bad(st_docs *d, st_err *e, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* docs_beside.c: is a file of that name, found in a folder or archive, no text but a card, licence
 * or code that lies beside texts? Then it is counted. */
bool docs_beside(st_docs *d, const char *name);
/* Does d->name say that the stream is no text (a picture, an archive of another kind)? Then it is
 * counted, if it was found so, and else an error. */
st_status docs_closed(st_docs *d, bool found, bool *is, st_err *e);
/* Has a stream that has begun zero bytes at its beginning, and is it neither UTF-16 nor called a
 * text? If it was found so, it is counted and left out (true); if it was named, a remark says so.
 */
bool docs_binary(st_docs *d, bool found);
/* One remark on what was left out; an error if that was all. */
st_status docs_remark(const st_docs *d, st_err *e);

#endif
