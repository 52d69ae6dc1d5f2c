/* perplexity: what a protocol is, and the tokens that it makes of a text. Inside eval only. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_EVAL_PERPLEXITY_H
#define ST_EVAL_PERPLEXITY_H

#include "eval/sets.h"

typedef enum {
    ST_JOIN_BLANK, /* rows with "\n\n" between them, encoded together */
    ST_JOIN_WHOLE, /* the text as it is */
    ST_JOIN_APART, /* every row is encoded by itself, the ids follow each other */
    ST_JOIN_PAGES  /* every page of WikiText is a sequence of its own */
} st_join;

typedef enum {
    ST_TAIL_SHORT, /* the last window is as short as what is left */
    ST_TAIL_FILL,  /* it reaches back and is as long as the others */
    ST_TAIL_DROP   /* it is left out */
} st_tail;

typedef enum {
    ST_PER_TOKEN,    /* exp(mean NLL of the scored tokens) */
    ST_PER_ORIGINAL, /* the mean scaled by tokens per original token */
    ST_PER_WORD      /* exp(sum / words) */
} st_per;

typedef struct {
    const char *name, *definition;
    const char *flavour; /* of WikiText; NULL: any */
    st_join join;
    bool detokenize, prefix; /* prefix: end-of-text before each sequence */
    bool outside;            /* a window's last target is the token after it: all inputs score */
    st_tail tail;
    bool window_mean; /* exp of the unweighted mean of the windows' means */
    st_per per;
    int64_t context, stride; /* 0: the model's, the context */
} st_protocol;

extern const st_protocol st_protocols[]; /* ends with a NULL name */
st_status st_protocol_find(const char *name, const st_protocol **out, st_err *e);
/* The protocol with what the options override. */
st_status st_protocol_with(const st_protocol *p, const st_perplexity_opts *o, st_protocol *out,
                           st_err *e);

/* Sequences of ids: windows do not cross from one into the next. */
typedef struct {
    st_ids ids;
    int64_t *end; /* of each sequence, in ids */
    int64_t sequences, cap;
    int64_t words, bytes, original; /* of the text before the detokeniser; 0: not known */
} st_eval_ids;
st_status st_protocol_ids(const st_protocol *p, const st_eval_rows *rows, const st_bpe *bpe,
                          const st_perplexity_opts *o, st_eval_ids *out, st_err *e);
st_status st_eval_ids_end(st_eval_ids *t, st_err *e); /* a sequence ends here */
void st_eval_ids_free(st_eval_ids *t);

/* Measures; *result as st_perplexity_ids. */
st_status st_perplexity_windows(st_model *m, st_stream *q, const st_protocol *p,
                                const st_eval_ids *text, const st_perplexity_opts *o,
                                json_t **result, st_err *e);

#endif
