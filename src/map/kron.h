/* Inside of kron: the three ways to multiply (kron_ways.c). */
/* SPDX-License-Identifier: MIT */
#ifndef ST_MAP_KRON_H
#define ST_MAP_KRON_H

#include "map/inner.h"

typedef struct {
    int64_t f, m1, n1, m2, n2; /* terms, A (m1, n1), B (m2, n2) */
} kron_size;

/* One forward or backward. b is s_f B_f; inner is what lies between the two products (kron_kept).
 * Absent gradients are not wanted; da is added to, dx and db (scratch) are set. */
typedef struct {
    st_stream *q;
    st_arena *tmp;
    kron_size z;
    int64_t rows;
    st_tensor a, b, x, inner, bias, y, dy, dx, da, db;
} kron_call;

/* The first product, into `kept` unless absent. */
st_tensor map_kron_a_inner(const kron_call *c, st_tensor kept);
st_tensor map_kron_b_inner(const kron_call *c, st_tensor kept);
/* The second: inner -> y. */
void map_kron_a_forward(const kron_call *c);
void map_kron_b_forward(const kron_call *c);
void map_kron_whole_forward(const kron_call *c);
void map_kron_a_backward(const kron_call *c);
void map_kron_b_backward(const kron_call *c);
void map_kron_whole_backward(const kron_call *c);

#endif
