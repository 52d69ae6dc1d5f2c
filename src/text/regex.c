/* Regular expressions by PCRE2, compiled to machine code where it can be. */
/* SPDX-License-Identifier: MIT */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/regex.h"
#include "text/chars.h"
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

enum {
    REGEX_STEPS = 10000000,   /* of one match; what tokenizers use takes some per character */
    REGEX_MEMORY = 256 << 10, /* KiB, of one match */
    REGEX_PATTERN = 1 << 16,  /* bytes */
    REGEX_STACK = 16 << 20    /* of compiled matching, at most */
};

struct st_regex {
    pcre2_code *code;
    char *what;
};

void st_regex_close(st_regex *r)
{
    if (!r) return;
    pcre2_code_free(r->code);
    free(r->what);
    free(r);
}

static st_status regex_compile(st_regex *r, const st_buffer *text, st_err *e)
{
    int error = 0;
    PCRE2_SIZE at = 0;
    pcre2_compile_context *c = pcre2_compile_context_create(NULL);
    if (!c) return ST_NOMEM(e, r->what);
    pcre2_set_newline(c, PCRE2_NEWLINE_LF);
    r->code =
        pcre2_compile((PCRE2_SPTR)text->s, text->n, PCRE2_UTF | PCRE2_MULTILINE, &error, &at, c);
    pcre2_compile_context_free(c);
    if (r->code) {
        pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE); /* without it, matching is slower */
        return ST_OK;
    }
    PCRE2_UCHAR message[160];
    pcre2_get_error_message(error, message, sizeof message);
    ST_FAIL(e, ST_EFORMAT, "%s: the regular expression cannot be used: %s", r->what,
            (const char *)message);
}

st_status st_regex_open(st_regex **out, const char *pattern, size_t n, const char *what, st_err *e)
{
    st_buffer text = {0};
    *out = NULL;
    if (n > REGEX_PATTERN) {
        ST_FAIL(e, ST_EUNSUPPORTED, "%s: a regular expression of %zu bytes, at most %d can be used",
                what, n, REGEX_PATTERN);
    }
    st_regex *r = st_calloc(1, sizeof *r);
    if (!r || !(r->what = strdup(what))) {
        st_regex_close(r);
        return ST_NOMEM(e, what);
    }
    st_status s = st_regex_translate(pattern, n, what, &text, e);
    if (!s) s = regex_compile(r, &text, e);
    free(text.s);
    if (s)
        st_regex_close(r);
    else
        *out = r;
    return s;
}

/* The first byte from s[i] on that is no part of a character; n: there is none. */
static size_t regex_bad(const char *s, size_t n, size_t i)
{
    uint32_t code;
    for (size_t len; i < n && (len = st_char_at(s, n, i, &code)); i += len) {
    }
    return i;
}

/* A copy in which such bytes are control characters; *out NULL: there are none. */
static st_status regex_valid(const char *s, size_t n, char **out, st_err *e)
{
    size_t i = regex_bad(s, n, 0);
    *out = NULL;
    if (i == n) return ST_OK;
    if (!(*out = malloc(n))) return ST_NOMEM(e, NULL);
    memcpy(*out, s, n);
    for (; i < n; i = regex_bad(s, n, i + 1))
        (*out)[i] = 1;
    return ST_OK;
}

st_status st_regex_scan_open(st_regex_scan *c, const st_regex *r, const char *s, size_t n,
                             st_err *e)
{
    *c = (st_regex_scan){.r = r, .s = s, .n = n, .last = SIZE_MAX};
    ST_TRY(regex_valid(s, n, &c->valid, e));
    if (c->valid) c->s = c->valid;
    c->match = pcre2_match_data_create(1, NULL);
    pcre2_match_context *limits = c->limits = pcre2_match_context_create(NULL);
    if (!c->match || !limits) {
        st_regex_scan_close(c);
        return ST_NOMEM(e, r->what);
    }
    pcre2_set_match_limit(limits, REGEX_STEPS);
    pcre2_set_heap_limit(limits, REGEX_MEMORY);
    return ST_OK;
}

void st_regex_scan_close(st_regex_scan *c)
{
    pcre2_match_data_free(c->match);
    pcre2_match_context_free(c->limits);
    free(c->valid);
    *c = (st_regex_scan){0};
}

/* One search from `at` on. Compiled code runs on 32 KiB of stack; a match that needs more gets
 * more. */
static int regex_search(const st_regex_scan *c, size_t at)
{
    int got = pcre2_match(c->r->code, (PCRE2_SPTR)c->s, c->n, at, PCRE2_NO_UTF_CHECK, c->match,
                          c->limits);
    if (got != PCRE2_ERROR_JIT_STACKLIMIT) return got;
    pcre2_jit_stack *stack = pcre2_jit_stack_create((size_t)1 << 16, REGEX_STACK, NULL);
    if (!stack) return PCRE2_ERROR_NOMEMORY;
    pcre2_jit_stack_assign(c->limits, NULL, stack);
    got = pcre2_match(c->r->code, (PCRE2_SPTR)c->s, c->n, at, PCRE2_NO_UTF_CHECK, c->match,
                      c->limits);
    pcre2_jit_stack_assign(c->limits, NULL, NULL);
    pcre2_jit_stack_free(stack);
    return got;
}

st_status st_regex_next(st_regex_scan *c, size_t *start, size_t *end, bool *found, st_err *e)
{
    *found = false;
    while (c->at <= c->n) {
        int got = regex_search(c, c->at);
        if (got == PCRE2_ERROR_NOMATCH) return ST_OK;
        if (got < 0) {
            ST_FAIL(e, ST_EUNSUPPORTED,
                    "%s: its regular expression takes too many steps at byte %zu of a text",
                    c->r->what, c->at);
        }
        const PCRE2_SIZE *where = pcre2_get_ovector_pointer(c->match);
        bool empty = where[1] <= where[0];
        if (empty) { /* the search goes on behind the next character */
            uint32_t code;
            size_t len = where[0] < c->n ? st_char_at(c->s, c->n, where[0], &code) : 1;
            c->at = where[0] + (len ? len : 1);
            if (c->last == where[0]) continue;
        } else {
            c->at = where[1];
        }
        *start = where[0];
        *end = c->last = empty ? where[0] : where[1];
        *found = true;
        return ST_OK;
    }
    return ST_OK;
}
