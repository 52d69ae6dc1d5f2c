/* evaltext: what the evaluations know about texts: rows and pages of data sets, words, the
 * detokeniser. Inside job only. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_JOB_EVALTEXT_H
#define ST_JOB_EVALTEXT_H

#include "job/job.h"

/* A growing text. */
typedef struct {
    char *s;
    size_t n, cap;
} st_buffer;
bool st_buffer_put(st_buffer *b, const char *s, size_t n); /* false: out of memory */
st_status st_ids_push(st_ids *ids, int32_t id, st_err *e);

/* ---- words as Python's str and re see them (detokenize.c) ----------------------------------- */

/* Bytes of the white-space character at `s` (before `end`), or 0: what \s and str.isspace accept
 * in Python 3, UTF-8. */
int st_space_at(const char *s, const char *end);
/* Takes white space off both ends. */
void st_space_trim(const char **s, const char **end);
/* len(re.split(r"\s+", text)): runs of white space, plus one. */
int64_t st_space_words(const char *text, size_t n);
/* len(text.strip().split(" ")): the tokens of a text that is tokenised by single spaces. */
int64_t st_space_tokens(const char *text, size_t n);

/* The WikiText detokeniser of Megatron-LM's zero-shot evaluation, which lm-eval's wikitext task and
 * the fly code base share: 20 substitutions, one after the other, each over the whole text. New
 * memory; ST_ENOMEM. */
st_status st_detokenize(const char *text, size_t n, char **out, size_t *nout, st_err *e);

/* ---- rows (evalrows.c) ----------------------------------------------------------------------- */

typedef enum {
    ST_FORM_TEXT,     /* one row: the text as it is */
    ST_FORM_WIKITEXT, /* a row a line, its newline with it; a blank line is an empty row */
    ST_FORM_LINES     /* a row a line, without its newline; no blank ones */
} st_form;

typedef struct {
    char *text; /* all of it, `bytes` bytes */
    size_t bytes;
    struct {
        size_t begin, end; /* in `text` */
    } * row;
    int64_t rows;
    st_form form;
    char *path;          /* where it was read */
    const char *flavour; /* "raw", "v1" of WikiText, else NULL */
} st_eval_rows;
/* Reads a file; of JSON lines and parquet a row is a document, whatever the form. */
st_status st_eval_rows_open(st_eval_rows *out, const char *path, st_form form, st_err *e);
void st_eval_rows_close(st_eval_rows *r);

/* ---- named sets (evalset.c) ----------------------------------------------------------------- */

typedef struct {
    const char *name;    /* "wiki103" */
    const char *about;   /* one line */
    bool lambada;        /* items with a last word to guess */
    const char *flavour; /* the only one that there is, or NULL: "raw" and "v1" */
} st_evalset;
extern const st_evalset st_evalsets[]; /* ends with a NULL name */
const st_evalset *st_evalset_find(const char *name);
/* Finds and reads a set: `want` NULL or the flavour that is needed. Looks into o->data,
 * $STRUT_DATA, ./data, the Hub's cache; with o->download fetches into that cache. ST_EIO says where
 * it looked and which other flavour is there. */
st_status st_evalset_open(st_eval_rows *out, const st_evalset *set, const char *want,
                          const st_perplexity_opts *o, st_err *e);

/* ---- LAMBADA (lambada.c) -------------------------------------------------------------------- */

/* Last words of the rows; *result has accuracy, perplexity, ... */
st_status st_lambada(const st_loaded *l, const st_eval_rows *rows, const st_perplexity_opts *o,
                     const char *protocol, json_t **result, st_err *e);

#endif
