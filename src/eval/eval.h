/* eval: perplexity by every protocol, LAMBADA, generation. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_EVAL_H
#define ST_EVAL_H

#include "store/store.h"

typedef struct {
    const char *protocol;           /* NULL: "hf"; of LAMBADA "lm-eval" */
    int64_t context, stride, batch; /* 0: as the protocol and the model say */
    int64_t limit; /* that many tokens of the text, pages (lm-eval) or LAMBADA items; 0: all */
    const char *agg, *boundary, *detokenize; /* "token|window", "inside|outside", "none|wikitext";
                                                NULL: as the protocol says */
    bool plain;                              /* special tokens in the text are ordinary text */
    bool eos;                                /* protocol fly: end-of-text after each row */
    st_read_how how;                         /* of st_perplexity */
    const char *form;                        /* of a file: "text" (NULL), "wikitext", "lines" */
    const char *flavour;                     /* of a set: "raw", "v1"; NULL: as the protocol says */
    const char *data;                        /* a folder to look for sets in, or NULL */
    bool download;                           /* sets that are not on disk */
    const char *attention; /* a way to attend, "local:window=256"; NULL: exactly */
    st_dtype dtype;
    const char *device; /* NULL: "auto" */
} st_perplexity_opts;
/* `text`: a set by name (st_evalsets), "all", a text (encoded by the folder's tokenizer) or a shard
 * of tokens (.bin). Result: perplexity, nll (nats, as the protocol averages them),
 * token_perplexity, bits_per_token, tokens, scored, windows, protocol, context, stride, agg,
 * boundary, definition, seconds, tokens_per_second; of a text: path, bytes, words and, where every
 * token is scored, word_perplexity, byte_perplexity, bits_per_byte. Last words of LAMBADA:
 * accuracy, accuracy_stderr, perplexity, nll, last_token_accuracy, items, tokens, target_tokens.
 * "all": {results: [...]}. */
st_status st_perplexity(const char *model, const char *text, const st_perplexity_opts *o,
                        json_t **result, st_err *e);
/* The same for a bound model and ids in memory. */
st_status st_perplexity_ids(st_model *m, st_stream *q, const int32_t *ids, int64_t n,
                            const st_perplexity_opts *o, json_t **result, st_err *e);

typedef struct {
    const char *prompt; /* text of `prompt_bytes` bytes, or NULL: `ids` */
    size_t prompt_bytes;
    const char *chat;   /* a question, put in the model's chat form (st_chat), or NULL */
    const char *system; /* beside it: the system's text, NULL: the form's own, if it has one */
    const int32_t *ids; /* none of these: the bos token, else the eos token starts the text */
    int64_t nids, tokens;
    bool plain;         /* special tokens in the prompt are ordinary text */
    double temperature; /* 0: the likeliest token */
    double top_p;  /* keep the likeliest tokens with this much probability, at least one; 1: all */
    int64_t top_k; /* keep that many of the likeliest tokens; 0: all */
    uint64_t seed;
    bool ignore_eos;
    const char *attention; /* a way to attend while several tokens are read; NULL: exactly */
    st_dtype dtype;
    const char *device; /* NULL: "auto" */
    /* Text as it appears, in whole UTF-8 characters (others become U+FFFD); false ends it. */
    bool (*say)(void *ctx, const char *text, size_t n);
    void *ctx;
    int64_t batch;      /* of st_generate_many: so many prompts at once; 0: 8 */
    const char *logits; /* write the logits of the prompt's positions to this file, or NULL */
    bool replace;       /* the file may be there, as an earlier call wrote it */
    st_read_how how;    /* of st_generate */
} st_generate_opts;
/* Result: ids (new ones, without end-of-text), text, prompt_ids, finish ("eos", "length",
 * "interrupted"), prefill {tokens, seconds, tokens_per_second}, decode {...}. Beyond the model's
 * context the second half of it is read again and the text goes on (sliding window). */
st_status st_generate(const char *model, const st_generate_opts *o, json_t **result, st_err *e);
/* The same for a bound model; `tokenizer` may be NULL (then text is ""). */
st_status st_generate_ids(st_model *m, st_stream *q, const st_bpe *tokenizer,
                          const st_generate_opts *o, json_t **result, st_err *e);

/* The same for n prompts of ids, o->batch at a time; of `o` the prompt, what is said and logits do
 * not count, and a text ends where the context does. A prompt's text is that of st_generate_ids up
 * to rounding (products of several rows), with random numbers of its own. Result: results (a list
 * of {ids, text, finish ("eos", "length", "context"), prompt_tokens} in order), batch, prefill,
 * decode.
 */
st_status st_generate_many(st_model *m, st_stream *q, const st_bpe *tokenizer,
                           const st_generate_opts *o, const st_ids *prompts, int64_t n,
                           json_t **result, st_err *e);

/* The same for a model's folder and the prompts of a file: a line each, or a row of what st_docs
 * reads under `field`. Every result has its prompt. */
st_status st_generate_prompts(const char *model, const char *path, const char *field,
                              const st_generate_opts *o, json_t **result, st_err *e);

/* Logits (n, vocab) F32 of each position of a text, on the device until the close. */
typedef struct {
    st_stream *stream;
    st_arena memory;
    st_tensor logits;
} st_logits;
st_status st_logits_open(st_logits *out, st_model *m, st_stream *q, st_dtype t, const int32_t *ids,
                         int64_t n, st_err *e);
void st_logits_close(st_logits *l);

#endif
