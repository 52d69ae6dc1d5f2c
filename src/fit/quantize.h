/* Inside of fit: weights rounded to blocks of 8 and 4 bits with regard to a text. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_FIT_QUANTIZE_H
#define ST_FIT_QUANTIZE_H

#include "fit/decompose.h"

/* Squared errors of the outputs, summed: |W x|^2, |(W - W') x|^2 with W' rounded to the nearest,
 * and with the W' that is kept. */
typedef struct {
    double total, nearest, kept;
} st_quantize_errors;

/* w (rows, n), n a multiple of 32, becomes numbers that blocks of `format` say exactly, with C (n,
 * n), E[x^T x] of what it is fed; *errors are added to (gptq.c). */
st_status st_quantize_matrix(float *w, int64_t rows, int64_t n, st_dtype format, const double *c,
                             st_quantize_errors *errors, st_err *e);

/* Rounds the parameters of `to` that have a block format, layer by layer, each fed by the text as
 * it comes through those that are rounded already; what no layer multiplies by, or has no
 * covariance of its own, is left to the writer, which rounds to the nearest. *rows: a list of
 * {name, format, nearest, error}: relative errors of the outputs on the text. */
st_status st_quantize_all(const st_model *to, float *flat, const int32_t *ids, int64_t nids,
                          json_t **rows, st_err *e);

#endif
