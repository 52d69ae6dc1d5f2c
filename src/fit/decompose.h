/* Inside of decomposition: the matrices that change, and how they are worked through. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_FIT_DECOMPOSE_H
#define ST_FIT_DECOMPOSE_H

#include "fit/fit.h"

/* One matrix that changes. */
typedef struct {
    const char *name;
    st_spec from, to;
    st_start start;
    const char *init; /* its text */
    float std;        /* of a fresh W */
    /* from text: where the forward comes to it, and what it is fed (NULL: not known) */
    int64_t layer, place;
    const float *in_cov, *out_weight;
    const float *in_mean; /* the bias takes what W' loses of it; in_cov is then about it */
    /* sequential: E[h^T x], E[h^T h] and E[h] of the rows h that W was fed where W' is fed x */
    const float *in_cross, *was_cov, *was_mean;
    st_fit fit;
    double output_error; /* |W h - W' x| on the text, relative to |W h|; NAN: not known */
    double seconds;
} st_decompose_item;

/* From `flat` of model `from` to `to_flat` of model `to`. */
typedef struct {
    const st_model *from, *to;
    const float *flat;
    float *to_flat;
    const st_decompose_opts *o;
    st_decompose_item *item;
    int64_t n;
} st_decompose_run;

/* The tensor of one name in a model's host block (data NULL: none), and those of one matrix in its
 * type's order, the bias not among them; a tied lm_head is wte. */
st_tensor st_decompose_find(const st_model *m, const float *flat, const char *name);
st_theta st_decompose_theta(const st_model *m, const float *flat, const char *matrix);
/* The bias of a matrix (data NULL: none). */
st_tensor st_decompose_bias(const st_model *m, const float *flat, const char *matrix);
/* Every item, spread over the processors, with progress. ST_EINTR after Ctrl-C. */
st_status st_decompose_all(st_decompose_run *r, st_err *e);
/* Items [first, last) of them, silently, and the report at the end of all. */
st_status st_decompose_range(st_decompose_run *r, int64_t first, int64_t last, st_err *e);
void st_decompose_done(const st_decompose_run *r);

#endif
