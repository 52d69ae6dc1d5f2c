/* text inside: a tokenizer while it is read. Inside text only. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_TEXT_BPE_DRAFT_H
#define ST_TEXT_BPE_DRAFT_H

#include "text/bpe.h"

/* What is read before the tokenizer is made from it. */
typedef struct {
    const char *what;    /* for errors */
    const json_t *vocab; /* name -> id */
    const json_t *model; /* of a tokenizer.json, or NULL */
    json_t *added;       /* list of added tokens, with those of the files beside */
    struct st_draft_name {
        const char *text;
        size_t n;
        uint16_t flags;
    } * name; /* by id, n of them */
    int64_t n;
    st_bpe_merge *merge;
    int64_t n_merges, cap_merges;
    size_t bytes;
    bool chars;    /* tokens are characters, not bytes spelled as some (WordLevel) */
    st_flow *flow; /* of a tokenizer.json, or NULL */
} st_bpe_draft;

st_status st_bpe_draft_vocab(st_bpe_draft *d, st_err *e);
/* model.merges: "left right" or ["left", "right"]. */
st_status st_bpe_draft_merges(st_bpe_draft *d, const json_t *merges, st_err *e);
/* One merge as text. */
st_status st_bpe_draft_merge(st_bpe_draft *d, const char *line, size_t n, const char *where,
                             st_err *e);
/* Takes over d->flow. */
st_status st_bpe_draft_make(st_bpe_draft *d, st_bpe **out, st_err *e);
void st_bpe_draft_free(st_bpe_draft *d);

#endif
