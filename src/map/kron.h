/* Inside of kron: the three ways to multiply (kron_ways.c), where factors come from
 * (kron_init.c), weighted projection (kron_weighted.c, kron_als.c). */
/* SPDX-License-Identifier: MIT */
#ifndef ST_MAP_KRON_H
#define ST_MAP_KRON_H

#include "map/weighted.h"

typedef struct {
    int64_t f, m1, n1, m2, n2; /* terms, A (m1, n1), B (m2, n2) */
    bool scalars;
} kron_size;

enum { KRON_A, KRON_B, KRON_S }; /* in st_theta */

kron_size map_kron_size(const st_spec *s);

/* A forward or backward. b is s_f B_f; inner is what lies between the two products (kron_kept).
 * Absent gradients are not wanted; da is added to, db (scratch) is set. */
typedef struct {
    const st_map_call *call;
    kron_size z;
    int64_t rows;
    st_tensor a, b, inner, da, db;
} kron_work;

/* The first product, into `kept` unless absent. */
st_tensor map_kron_a_inner(const kron_work *w, st_tensor kept);
st_tensor map_kron_b_inner(const kron_work *w, st_tensor kept);
/* The second: inner -> y. */
void map_kron_a_forward(const kron_work *w);
void map_kron_b_forward(const kron_work *w);
void map_kron_whole_forward(const kron_work *w);
void map_kron_a_backward(const kron_work *w);
void map_kron_b_backward(const kron_work *w);
void map_kron_whole_backward(const kron_work *w);

/* s_f B_f, (f, m2, n2); and its gradient db (set by the caller) to those of B_f and s_f. */
st_tensor map_kron_scaled(const st_map_call *c);
void map_kron_scaled_backward(const st_map_call *c, st_tensor db);

/* Row look-up (kron_rows.c). */
st_status map_kron_rows_check(const st_spec *s, st_err *e);
void map_kron_rows(const st_map_call *c, const st_embed_fwd_args *a);
void map_kron_rows_backward(const st_map_call *c, const st_embed_bwd_args *a);

/* R[(i1, j1), (i2, j2)] = W^T[i1 m2 + i2, j1 n2 + j2] of w (out, in). */
void map_kron_rearrange(const kron_size *z, const float *w, float *r);
/* A and B nearest to w (out, in) unweighted, and the scalars. */
st_status map_kron_van_loan(const st_spec *s, const float *w, const st_theta *t,
                            const st_project_opts *how, st_err *e);
st_status map_kron_project(const st_spec *s, st_tensor w, const st_theta *t,
                           const st_project_opts *how, st_err *e);
st_status map_kron_prune(const st_spec *s, st_tensor w, const st_theta *t, const double *knob,
                         const st_project_opts *how, st_err *e);
void map_kron_scale(const st_spec *s, const st_theta *t, float by);
st_status map_kron_expand(const st_spec *s, const st_theta *t, st_tensor w, st_err *e);
/* From a start, in a (f, m1, n1) and b (f, m2, n2), to a nearest sum under C, in place; w (out,
 * in). Never worse than the start; rms(b_f) = 1. */
st_status map_kron_als(const kron_size *z, const map_cov *k, const float *w, float *a, float *b,
                       st_err *e);

#endif
