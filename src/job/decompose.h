/* Inside of decomposition: the matrices that change, and how they are worked through. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_JOB_DECOMPOSE_H
#define ST_JOB_DECOMPOSE_H

#include "job/job.h"

/* One matrix that changes. */
typedef struct {
    const char *name;
    st_spec from, to;
    st_start start;
    const char *init; /* its text */
    float std;        /* of a fresh W */
    st_fit fit;
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
/* Every item, spread over the processors, with progress. ST_EINTR after Ctrl-C. */
st_status st_decompose_all(st_decompose_run *r, st_err *e);

#endif
