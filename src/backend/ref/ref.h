/* The reference backend: plain loops that say what every operation means. Sums are taken in double
 * precision and in index order, so that fast kernels can be measured against them. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_REF_H
#define ST_REF_H

#include "backend/stream.h"

#define ST_OP(op, required) void st_ref_##op(st_stream *q, const st_##op##_args *a);
#include "backend/ops.def"
#undef ST_OP

void st_ref_fill_table(st_ops *t);

double st_ref_gelu_value(double x, st_gelu_kind kind);
double st_ref_gelu_slope(double x, st_gelu_kind kind);

/* Element i of a float tensor. */
static inline float ref_load(const st_tensor *t, int64_t i)
{
    if (t->dtype == ST_F32) return ((const float *)t->data)[i];
    return st_bf16_to_f32(((const uint16_t *)t->data)[i]);
}

static inline void ref_store(const st_tensor *t, int64_t i, double value)
{
    if (t->dtype == ST_F32)
        ((float *)t->data)[i] = (float)value;
    else
        ((uint16_t *)t->data)[i] = st_f32_to_bf16((float)value);
}

static inline void ref_add(const st_tensor *t, int64_t i, double value)
{
    ref_store(t, i, (double)ref_load(t, i) + value);
}

/* Elements at, at + step, ... of a float tensor. */
typedef struct {
    const st_tensor *t;
    int64_t at, step;
} ref_vector;

static inline ref_vector ref_row(const st_tensor *t, int64_t at)
{
    return (ref_vector){t, at, 1};
}

/* sum + the products of the first n elements of x and y, added one by one in double precision. */
double st_ref_products(double sum, ref_vector x, ref_vector y, int64_t n);

#endif
