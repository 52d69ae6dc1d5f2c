/* text inside: regular expressions as tokenizer.json has them. Inside text only.
 *
 * They are written in Oniguruma's Ruby dialect, over characters and Unicode's classes;
 * regex_dialect.c says them in PCRE2's, which matches them (Unicode 14 in Debian 12's). */
/* SPDX-License-Identifier: MIT */
#ifndef ST_TEXT_REGEX_H
#define ST_TEXT_REGEX_H

#include "base/base.h"

typedef struct st_regex st_regex;
/* `what` names its place in errors: ST_EUNSUPPORTED for what has no translation, with the piece of
 * the pattern; ST_EFORMAT for what is no pattern. */
st_status st_regex_open(st_regex **out, const char *pattern, size_t n, const char *what, st_err *e);
void st_regex_close(st_regex *r);

/* The matches of one text, from left to right, as tokenizers finds them: an empty one directly
 * after another does not count. A byte that is no part of a character is one that belongs to no
 * class. */
typedef struct {
    const st_regex *r;
    const char *s;
    size_t n, at; /* the search goes on at `at` */
    size_t last;  /* where the last match ended, SIZE_MAX: there was none */
    char *valid;  /* a copy where `s` is not UTF-8, or NULL */
    void *match, *limits;
} st_regex_scan;
st_status st_regex_scan_open(st_regex_scan *c, const st_regex *r, const char *s, size_t n,
                             st_err *e);
/* *found false: there is no more. ST_EUNSUPPORTED where a match takes too many steps. */
st_status st_regex_next(st_regex_scan *c, size_t *start, size_t *end, bool *found, st_err *e);
void st_regex_scan_close(st_regex_scan *c);

/* regex_dialect.c: the pattern in PCRE2's dialect, appended to `out`. */
st_status st_regex_translate(const char *pattern, size_t n, const char *what, st_buffer *out,
                             st_err *e);

#endif
