/* fit: structured matrices that start from trained ones: calibration, decomposition, permutations.
 */
/* SPDX-License-Identifier: MIT */
#ifndef ST_FIT_H
#define ST_FIT_H

#include "store/store.h"

/* Which order an assignment search looks for; none changes what the model computes. */
typedef enum {
    ST_PERMUTE_NONE,
    ST_PERMUTE_HIDDEN,   /* of the hidden units, block by block */
    ST_PERMUTE_RESIDUAL, /* of the residual channels, one for the whole model */
    ST_PERMUTE_ALL
} st_permute;

typedef struct {
    const char *preset;      /* name of a layout (st_presets), NULL: none; `maps` win over it */
    const char *const *maps; /* "GLOB=SPEC" on matrix names, later ones win */
    int nmaps;
    const char *const *skip; /* globs of matrices that stay as they are */
    int nskip;
    const char *const *init; /* "INIT" or "GLOB=INIT" (st_start_parse), later ones win; none: vl */
    int ninit;
    bool randomized; /* randomised SVD */
    st_gauge gauge;  /* and scalars: see st_project_opts */
    const double *scalars;
    int64_t nscalars;
    bool fold_norms;    /* first: layer norms into the matrices after them (st_model_fold_norms) */
    bool group_hidden;  /* then: important hidden units apart from their neighbours */
    st_permute permute; /* or: in the order that an assignment search finds */
    uint64_t seed;
    st_dtype dtype; /* of the stored weights */
    bool replace;
    /* Calibration: `weights` names a text (documents as st_docs reads them, through the model's
     * tokenizer), a shard of tokens or a folder of prepared data; at most `calibrate_tokens` (0:
     * 131072) of it say what the matrices' inputs are like, and each matrix is chosen by the error
     * of its outputs. `sequential`: matrix after matrix, each fed by those already replaced and
     * fitted to the outputs of the model as it was. st_decompose_weights takes the tokens
     * themselves. */
    const char *weights, *field; /* field of JSON lines; NULL: "text" */
    int64_t calibrate_tokens;
    bool sequential;
    bool fit_bias; /* a matrix's bias takes what W' loses of the mean input; else it is copied */
    const int32_t *ids;
    int64_t nids;
    /* st_model_quantize's texts: matrices of OUT in blocks of 8 and 4 bits, by a text in the order
     * of the layers (gptq.c), else to the nearest. */
    const char *const *quantize;
    int nquantize;
    st_read_how how;  /* of st_decompose */
    const char *what; /* of the progress line; NULL: "decompose", with the energy captured */
} st_decompose_opts;
/* Replaces every matching matrix of a model folder by one of its new type, started from the old one
 * as `init` says, and copies the rest. Matrices that are structured already are expanded first.
 * wte, and a tied lm_head (which is then untied), are replaced only by their exact names. Result:
 * out, seconds, parameters, parameters_before, mean_energy, energy, error (of all together),
 * matrices: a list of {name, spec, from, init, parameters, parameters_before, norm, energy, error,
 * alpha, seconds}; norm is |W| (Frobenius), error |W - W'| / |W|, energy and alpha as in st_fit.
 * With a calibration text also calibration {text, tokens, sequential} and of a matrix output_error
 * (of its outputs on the text, relative) and weighted (whether its init took notice of the text).
 * Where formats were asked for, quantized: {left: names that stay floats, matrices: a list of
 * {name, format, nearest, error} of those that were rounded by the text: what the outputs err on
 * it, relative, rounded to the nearest and as they are}.
 */
st_status st_decompose(const char *in, const char *out, const st_decompose_opts *o, json_t **result,
                       st_err *e);
/* The same in memory: *to and *to_flat (host F32) are new, *matrices a new reference. `flat` is
 * changed if `o` asks for one of the last three. */
st_status st_decompose_weights(const st_model *from, float *flat, const st_decompose_opts *o,
                               st_model **to, float **to_flat, json_t **matrices, st_err *e);

#endif
