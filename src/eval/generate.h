/* Inside of generate: choosing a token, and text that appears in whole characters. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_EVAL_GENERATE_H
#define ST_EVAL_GENERATE_H

#include "eval/eval.h"

/* Of random numbers; prompt i of many has this one + i. */
#define GENERATE_STREAM 0x9e4eu

typedef struct {
    double temperature, top_p;
    int64_t top_k;
    struct generate_choice {
        double p;
        int32_t id;
    } * choice; /* room for all tokens */
} generate_sampler;

/* An id < n by its probability under softmax(logits / temperature), cut to the top_k likeliest and
 * then to the likeliest with top_p of the rest's probability. Temperature 0: the likeliest, the
 * lowest id of equals. -1 if a logit is NaN or none is finite. */
int32_t generate_pick(const generate_sampler *s, const float *logits, int64_t n, st_rng *r);

/* ST_EARG where options of the choice are outside of their range. */
st_status generate_check_choice(const st_generate_opts *o, st_err *e);
/* {tokens, seconds, tokens_per_second}. */
json_t *generate_speed(int64_t tokens, double seconds);

/* Bytes in, valid UTF-8 out: every maximal part that is no character becomes U+FFFD (Unicode's
 * practice, as Python's errors="replace"), unfinished characters wait. Zeroed is empty. */
typedef struct {
    char *text;
    size_t n, cap;
    unsigned char part[4], lo, hi; /* what waits; range of its next byte */
    int have, need;
} generate_text;

bool generate_text_push(generate_text *t, const char *bytes, size_t n); /* false: out of memory */
bool generate_text_end(generate_text *t);

/* Writes the safetensors file `path`: ids (n) and logits (n, vocab), what the bound model makes of
 * each position of a text. */
st_status generate_logits(st_model *m, st_stream *q, st_dtype t, const int32_t *ids, int64_t n,
                          const char *path, st_err *e);
/* ST_EARG where such a file must not be written: see st_output_file. */
st_status generate_logits_room(const char *path, bool replace, st_err *e);

#endif
