/* The named evaluation sets, and LAMBADA. Inside eval only. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_EVAL_SETS_H
#define ST_EVAL_SETS_H

#include "data/data.h"
#include "eval/eval.h"

/* ---- named sets (sets.c) --------------------------------------------------------------------- */

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

/* ---- LAMBADA (lambada.c) --------------------------------------------------------------------- */

/* Last words of the rows; *result has accuracy, perplexity, ... */
st_status st_lambada(const st_loaded *l, const st_eval_rows *rows, const st_perplexity_opts *o,
                     const char *protocol, json_t **result, st_err *e);

#endif
