/* What a stream has been asked for and has not launched yet (chain.c, run.c). */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CUDA_CHAIN_H
#define ST_CUDA_CHAIN_H

#include "backend/cuda/relay.h"

enum { CHAIN_SPANS = 256 };

typedef struct {
    const char *from, *to;
} chain_span;

struct st_cuda_chain {
    bool norm, fold, product; /* which of them wait, in this order */
    st_norm_fwd_args norm_args;
    st_fold_fwd_args fold_args;
    st_few_args few; /* the product with what stands before it */
    const char *norm_tag, *fold_tag, *product_tag;
    chain_span wrote[CHAIN_SPANS]; /* by launches which may overlap with the next */
    int n;
    st_relay_step *step; /* of a recording, that are not queued yet; NULL: there is none */
    int steps;
    void *room; /* of the run that is in the recording */
};

static inline st_cuda_chain *chain_at(const st_stream *q)
{
    return st_cuda_of(q)->chain;
}

/* Launches of one step. */
void st_cuda_chain_go(st_stream *q, st_few_args *f, const char *tag);
void st_cuda_chain_attend(st_stream *q, const st_attend_next_args *a);
/* A step of a recording waits; all that wait are queued. */
void st_cuda_chain_step(st_stream *q, const st_relay_step *s);
void st_cuda_chain_emit(st_stream *q);

#endif
