/* The inside of learning a tokenizer: words and how often they occur. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_TEXT_BPE_TRAIN_H
#define ST_TEXT_BPE_TRAIN_H

#include "text/bpe.h"

typedef struct {
    size_t at;     /* in bytes */
    int64_t count; /* 0: an empty slot */
    uint32_t len, hash;
} st_word;
typedef struct {
    st_word *slot; /* open-addressed, slots of them (a power of two), n in use */
    int64_t slots, n;
    char *bytes;
    size_t used, cap;
} st_words;

st_status st_words_feed(st_words *w, const char *text, size_t n, st_err *e);
void st_words_free(st_words *w);

#endif
