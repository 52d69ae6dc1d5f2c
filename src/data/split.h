/* The state of st_prepare, shared by prepare.c and split.c. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_DATA_SPLIT_H
#define ST_DATA_SPLIT_H

#include "data/data.h"
#include "data/prepare.h"

enum { TRAIN, VAL };

typedef struct {
    const st_prepare_opts *o;
    double fraction;
    st_split split; /* as asked for, or as a single document asks for */
    int32_t eos;
    st_bin file[2];
    st_shuffle shuffle;
    int64_t documents, tokens; /* documents that were begun */
    bool within;               /* the next ids go on with a document */
    int side;                  /* where they go */
    int64_t bytes;             /* of text */
    char *text;                /* a document that was changed */
    size_t text_cap;
} prepare_state;

/* Moves the end of train.bin behind val.bin, as the split asks for. */
st_status prepare_split(prepare_state *p, st_err *e);

#endif
