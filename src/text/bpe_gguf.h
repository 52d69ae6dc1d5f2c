/* text inside: tokenizers in the keys of a GGUF file. Inside text only. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_TEXT_BPE_GGUF_H
#define ST_TEXT_BPE_GGUF_H

#include "text/bpe.h"

enum { ST_PRE_PATTERNS = 6 };
/* A family of byte-level tokenizers (bpe_pre.c). */
typedef struct {
    const char *names;  /* of tokenizer.ggml.pre, with spaces between; the first is written */
    const char *normal; /* "NFC" or NULL */
    const char *pattern[ST_PRE_PATTERNS];
    bool ignore_merges, bos; /* bos: it begins texts where no key says otherwise */
} st_bpe_pre;
const st_bpe_pre *st_bpe_pre_find(const char *name); /* NULL: it is not known */
json_t *st_bpe_pre_json(const st_bpe_pre *row);      /* a pre_tokenizer; NULL: out of memory */
/* The family that cuts text so, NULL: there is none. */
const st_bpe_pre *st_bpe_pre_of(const st_flow *f, bool ignore_merges);

/* Types of tokens in tokenizer.ggml.token_type. */
enum {
    ST_GGUF_NORMAL = 1,
    ST_GGUF_UNKNOWN,
    ST_GGUF_CONTROL,
    ST_GGUF_DEFINED,
    ST_GGUF_UNUSED,
    ST_GGUF_BYTE
};

/* A tokenizer from such keys, an object with lists. */
st_status st_bpe_from_gguf(st_bpe **out, const json_t *keys, const char *what, st_err *e);

#endif
