/* calibrate: what a model's matrices are fed by real text, layer by layer. Inside fit only. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_FIT_CALIBRATE_H
#define ST_FIT_CALIBRATE_H

#include "fit/decompose.h"
#include "model/model.h"
#include "text/text.h"

/* A copy of a model with every block's matrices dense, and the residual stream of a text that has
 * got as far as some layer: memory of sequences * len * width numbers beside the weights. */
typedef struct {
    st_model *m;
    st_arena weights;
    st_tensor hidden;
} st_calibration_side;

/* A text on its way through a model, and beside it, if wanted, through the model as it was. */
typedef struct {
    st_calibration_side now, was; /* matrices of `now` can be replaced; was.m NULL: not wanted */
    st_stream *q;
    st_arena mem; /* ids, residual streams and scratch */
    st_tensor ids, chunk, loss;
    int64_t sequences, len, batch, layers, width, vocab;
    int64_t done, total; /* tokens through a layer, for progress */
    const char *detail;
} st_calibration;

/* `n` ids in sequences of at most `len` tokens (0: the model's context; one shorter one if there
 * are fewer; what is over is left out). Ids beyond the vocabulary are ST_EFORMAT. `beside`: with
 * the model as it was. Close in any case. */
st_status st_calibration_open(st_calibration *c, const st_model *m, const float *flat,
                              const int32_t *ids, int64_t n, int64_t len, bool beside, st_err *e);
void st_calibration_close(st_calibration *c);

/* A matrix to be watched. */
typedef struct {
    const char *name;
    int64_t in;
    float *cov;  /* (in, in) host, E[x^T x]; set */
    float *mean; /* (in) host, E[x]; set unless NULL */
    /* of the rows h that it is fed in the model as it was: E[h^T x], E[h^T h], E[h]; set unless
     * NULL, all or none of the first two */
    float *cross, *was_cov, *was_mean;
} st_calibration_want;
/* Runs all text through layer `layer` (the number of layers: through the head), which is where the
 * text has got to, and fills what the wanted matrices of that layer saw. `advance`: the text is
 * then behind the layer. */
st_status st_calibration_pass(st_calibration *c, int64_t layer, st_calibration_want *want, int n,
                              bool advance, st_err *e);
/* From now on matrix `name` is W (host, dense), and its bias `bias` unless NULL. */
void st_calibration_put(st_calibration *c, const char *name, const float *w, const float *bias);
/* The layer of each of the run's items and its place in the order of the forward; the number of
 * layers for a head, -1 for what no layer multiplies by (an embedding). */
st_status st_calibration_order(st_calibration *c, st_decompose_run *r, st_err *e);
/* How often each id occurs in the text, (vocab). NULL: out of memory. */
float *st_calibration_counts(const st_calibration *c);

/* Does a decomposition whose options have text: every item from the statistics of its input. */
st_status st_calibrate_all(st_decompose_run *r, st_err *e);
/* E[h_k^2] of the hidden units of each layer, what its MLP's last matrix reads: (layers, inner) in
 * new memory. */
st_status st_calibrate_squares(const st_model *m, const float *flat, const int32_t *ids, int64_t n,
                               float **out, st_err *e);
/* At most `limit` ids of a text (documents of files, folders and archives, each followed by
 * end-of-text) or, for PATH.bin and a folder with train.bin, of a shard: then in runs of `run` from
 * all over it. */
st_status st_calibrate_read(const char *path, const char *field, const st_bpe *tokenizer,
                            int64_t limit, int64_t run, st_ids *ids, st_err *e);

#endif
