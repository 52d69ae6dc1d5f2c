/* strut as a library: open language models, run and write them, decompose them, and structured
 * matrices by themselves.
 *
 * Functions that can fail return STRUT_OK (0) or a code below, and fill `error` (which may be
 * NULL). Memory that a function hands over is freed by strut_free. A struct with a member `size`
 * begins as its macro says, `strut_open_options o = STRUT_OPEN_OPTIONS;`, which sets its size and
 * defaults: a library that knows fewer or more members than its caller goes by it.
 *
 * Threads: a model or a matrix belongs to one thread at a time; different ones may be used by
 * different threads at once. strut_log and strut_stop concern the whole process and may be called
 * from any thread. Work is spread over OMP_NUM_THREADS processors. */
/* SPDX-License-Identifier: MIT */
#ifndef STRUT_H
#define STRUT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    STRUT_OK,
    STRUT_ERROR_ARGUMENT, /* what was asked for makes no sense */
    STRUT_ERROR_IO,       /* the system refused a file */
    STRUT_ERROR_FORMAT,   /* a file is not what it should be */
    STRUT_ERROR_SHAPE,    /* sizes do not fit together */
    STRUT_ERROR_MEMORY,
    STRUT_ERROR_DEVICE,      /* a GPU or its library failed, or is not there */
    STRUT_ERROR_UNSUPPORTED, /* legal, but not in this build or on this machine */
    STRUT_ERROR_STOPPED      /* strut_stop was called */
};

typedef struct {
    int code;
    char message[512]; /* the thing, what was found, what was expected, what to do */
} strut_error;

const char *strut_version(void); /* "0.1.0" */
void strut_free(void *memory);
/* Remarks and warnings; NULL (as at the start): silence. Set it before other threads are at work.
 */
void strut_log(void (*say)(void *ctx, int warning, const char *text), void *ctx);
/* Ends what is running, in every thread, as soon as may be, with STRUT_ERROR_STOPPED; may be called
 * from a signal handler. What is begun later ends too: it is for the end of a process. */
void strut_stop(void);

/* ---- models ---------------------------------------------------------------------------------- */

typedef struct strut_model strut_model;

typedef struct {
    size_t size;
    const char *device;    /* "auto" (NULL), "cpu", "cuda", "cuda:1" */
    const char *dtype;     /* to compute in: "float32" (NULL), "bfloat16" */
    const char *tokenizer; /* folder or file; NULL: the one beside the weights */
} strut_open_options;
#define STRUT_OPEN_OPTIONS                                                                         \
    {                                                                                              \
        sizeof(strut_open_options), NULL, NULL, NULL                                               \
    }

/* Opens a language model: a folder of strut or of Hugging Face, a GGUF file, a PyTorch checkpoint
 * and whatever else `strut info` reads, or ORG/NAME of the Hub's cache. `options` may be NULL. */
int strut_model_open(strut_model **model, const char *path, const strut_open_options *options,
                     strut_error *error);
void strut_model_close(strut_model *model); /* NULL is fine */

typedef struct {
    size_t size;
    int64_t parameters, vocab, context, width, layers, heads;
    int64_t bos, eos; /* -1: none */
    int has_tokenizer;
    const char *device; /* "cpu, 2 threads, avx2 ...", the model's own */
} strut_model_info;
#define STRUT_MODEL_INFO                                                                           \
    {                                                                                              \
        sizeof(strut_model_info), 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL                                  \
    }

int strut_model_describe(const strut_model *model, strut_model_info *info, strut_error *error);

/* Token ids of a text of `bytes` bytes in UTF-8, *ids new. Special tokens in the text become their
 * ids; what a model wants before a text (bos) is not added. */
int strut_encode(const strut_model *model, const char *text, size_t bytes, int32_t **ids,
                 size_t *count, strut_error *error);
/* The text of ids, *text new and ended by a zero that *bytes does not count. */
int strut_decode(const strut_model *model, const int32_t *ids, size_t count, char **text,
                 size_t *bytes, strut_error *error);
/* logits (count, vocab) of what follows each of `count` tokens, 1 .. context. */
int strut_logits(strut_model *model, const int32_t *ids, size_t count, float *logits,
                 strut_error *error);

typedef struct {
    size_t size;
    int64_t tokens;     /* at most that many new ones */
    double temperature; /* 0: the likeliest token */
    double top_p;       /* in (0, 1]; 1: all */
    int64_t top_k;      /* 0: all */
    uint64_t seed;
    int ignore_eos;
    /* The text as it grows, whole characters at a time; 0 ends it. Needs a tokenizer. */
    int (*say)(void *ctx, const char *text, size_t bytes);
    void *ctx;
} strut_generate_options;
#define STRUT_GENERATE_OPTIONS                                                                     \
    {                                                                                              \
        sizeof(strut_generate_options), 128, 0.0, 1.0, 0, 0, 0, NULL, NULL                         \
    }

/* Goes on after `ids`: *out new, *made of them, without the token that ended the text. `options`
 * may be NULL: 128 tokens, the likeliest each. */
int strut_generate(strut_model *model, const int32_t *ids, size_t count,
                   const strut_generate_options *options, int32_t **out, size_t *made,
                   strut_error *error);

typedef struct {
    size_t size;
    const char *weights;      /* text, shard or data folder to calibrate on; NULL: none */
    int64_t tokens;           /* of it, at most; 0: 131072 */
    int sequential;           /* each matrix is fitted to what those before it leave */
    const char *const *inits; /* "INIT" or "GLOB=INIT" */
    size_t ninits;
    int replace; /* `out` may be there */
} strut_decompose_options;
#define STRUT_DECOMPOSE_OPTIONS                                                                    \
    {                                                                                              \
        sizeof(strut_decompose_options), NULL, 0, 0, NULL, 0, 0                                    \
    }

/* Writes the model at `in` to the folder `out` with other matrices: `maps` are "GLOB=SPEC", such as
 * "h.*.mlp.*=lowrank:rank=128", later ones win. *energy (may be NULL): how much of the replaced
 * matrices is kept, 0 to 1. `options` may be NULL. */
int strut_decompose(const char *in, const char *out, const char *const *maps, size_t nmaps,
                    const strut_decompose_options *options, double *energy, strut_error *error);

/* ---- structured matrices --------------------------------------------------------------------- */

typedef struct strut_matrix strut_matrix;

/* Names of the matrix types, in turn; NULL beyond the last. */
const char *strut_matrix_type(int index);
/* A matrix W (outputs, inputs) as `spec` says, "monarch:blocks=4", with random numbers from `seed`,
 * in float32 on the CPU. */
int strut_matrix_open(strut_matrix **matrix, const char *spec, int64_t inputs, int64_t outputs,
                      uint64_t seed, strut_error *error);
void strut_matrix_close(strut_matrix *matrix); /* NULL is fine */
/* The spec in full, which gives the same matrix type again; the matrix's own. */
const char *strut_matrix_spec(const strut_matrix *matrix);
int64_t strut_matrix_parameters(const strut_matrix *matrix);
/* Factor number `index`: its name, its sizes (dims of up to 4) and its numbers, which may be
 * written. 0 beyond the last. */
int strut_matrix_factor(strut_matrix *matrix, int index, const char **name, int *ndim,
                        int64_t dims[4], float **numbers);
/* Becomes the nearest to w (outputs, inputs): in the Frobenius norm, or with `covariance`
 * E[x^T x] (inputs, inputs) of its inputs in the norm of its outputs. *error_norm (may be NULL):
 * |w - W| / |w|. */
int strut_matrix_project(strut_matrix *matrix, const float *w, const float *covariance,
                         double *error_norm, strut_error *error);
/* w (outputs, inputs) = W. */
int strut_matrix_expand(const strut_matrix *matrix, float *w, strut_error *error);
/* y (rows, outputs) = x (rows, inputs) W^T. */
int strut_matrix_apply(strut_matrix *matrix, const float *x, int64_t rows, float *y,
                       strut_error *error);

#ifdef __cplusplus
}
#endif

#endif
