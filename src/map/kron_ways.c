/* The three ways to multiply by a sum of Kronecker products (equations: kron.c). Between products
 * the small index has to move to the other side of the large one: a permute, unless one is 1. */
/* SPDX-License-Identifier: MIT */
#include "map/kron.h"

static st_tensor kron_swap(const kron_work *w, st_tensor x, const st_permute_args *how,
                           st_tensor into)
{
    if (!into.data && (how->p == 1 || how->q == 1)) return x;
    st_permute_args a = *how;
    a.x = x;
    a.y = into.data ? into : st_take1(w->call->tmp, x.dtype, st_numel(x));
    st_stream_ops(w->call->q)->permute(w->call->q, &a);
    return a.y;
}

/* ---- A first: x (i1, i2) -> (i2, i1) -> z (i2, f, j1) -> (j1, i2, f) -> y (j1, j2) */

static st_tensor kron_a_order(const kron_work *w)
{
    const kron_size *z = &w->z;
    return kron_swap(w, w->call->x, &(st_permute_args){.rows = w->rows, .p = z->m1, .q = z->m2},
                     (st_tensor){0});
}

st_tensor map_kron_a_inner(const kron_work *w, st_tensor kept)
{
    const kron_size *z = &w->z;
    st_tensor xt = kron_a_order(w);
    bool direct = z->n1 == 1 || z->m2 * z->f == 1;
    st_tensor inner = direct && kept.data
                          ? kept
                          : st_take2(w->call->tmp, w->call->x.dtype, w->rows, z->m2 * z->f * z->n1);
    st_stream_ops(w->call->q)
        ->gemm(w->call->q, &(st_gemm_args){.m = w->rows * z->m2,
                                           .n = z->n1,
                                           .k = z->m1,
                                           .batch = z->f,
                                           .step_a = -1,
                                           .ldc = z->f * z->n1,
                                           .step_c = z->n1,
                                           .a = xt,
                                           .b = w->a,
                                           .c = inner});
    if (direct) return inner;
    return kron_swap(w, inner, &(st_permute_args){.rows = w->rows, .p = z->m2 * z->f, .q = z->n1},
                     kept);
}

/* (f, i2, j2) <-> (i2, f, j2) */
static st_tensor kron_a_pack(const kron_work *w)
{
    const kron_size *z = &w->z;
    return kron_swap(w, w->b, &(st_permute_args){.rows = 1, .p = z->f, .q = z->m2, .inner = z->n2},
                     (st_tensor){0});
}

void map_kron_a_forward(const kron_work *w)
{
    const kron_size *z = &w->z;
    st_stream_ops(w->call->q)
        ->gemm(w->call->q, &(st_gemm_args){.m = w->rows * z->n1,
                                           .n = z->n2,
                                           .k = z->m2 * z->f,
                                           .a = w->inner,
                                           .b = kron_a_pack(w),
                                           .c = w->call->y,
                                           .bias = w->call->bias,
                                           .bias_rows = z->n1});
}

/* dx (i1, i2) from dz (i2, f, j1). */
static void kron_a_inputs(const kron_work *w, st_tensor dz)
{
    const kron_size *z = &w->z;
    const st_ops *op = st_stream_ops(w->call->q);
    int64_t rows = w->rows;
    st_tensor dxt = z->m1 == 1 || z->m2 == 1
                        ? w->call->dx
                        : st_take1(w->call->tmp, w->call->x.dtype, rows * z->m1 * z->m2);
    for (int64_t f = 0; f < z->f; f++) {
        op->gemm(w->call->q, &(st_gemm_args){.m = rows * z->m2,
                                             .n = z->m1,
                                             .k = z->n1,
                                             .tb = 1,
                                             .lda = z->f * z->n1,
                                             .a = map_from(dz, f * z->n1),
                                             .b = map_from(w->a, f * z->m1 * z->n1),
                                             .c = dxt,
                                             .beta = f ? 1.0f : 0.0f});
    }
    if (dxt.data != w->call->dx.data) {
        op->permute(
            w->call->q,
            &(st_permute_args){.rows = rows, .p = z->m2, .q = z->m1, .x = dxt, .y = w->call->dx});
    }
}

void map_kron_a_backward(const kron_work *w)
{
    const kron_size *z = &w->z;
    const st_ops *op = st_stream_ops(w->call->q);
    int64_t rows = w->rows, k = z->m2 * z->f;
    if (w->db.data) {
        st_tensor packed = st_take1(w->call->tmp, ST_F32, k * z->n2);
        op->gemm(w->call->q, &(st_gemm_args){.m = k,
                                             .n = z->n2,
                                             .k = rows * z->n1,
                                             .ta = 1,
                                             .a = w->inner,
                                             .b = w->call->dy,
                                             .c = packed});
        op->permute(w->call->q,
                    &(st_permute_args){
                        .rows = 1, .p = z->m2, .q = z->f, .inner = z->n2, .x = packed, .y = w->db});
    }
    st_tensor dz = st_take1(w->call->tmp, w->call->x.dtype, rows * z->n1 * k);
    op->gemm(w->call->q, &(st_gemm_args){.m = rows * z->n1,
                                         .n = k,
                                         .k = z->n2,
                                         .tb = 1,
                                         .a = w->call->dy,
                                         .b = kron_a_pack(w),
                                         .c = dz});
    dz = kron_swap(w, dz, &(st_permute_args){.rows = rows, .p = z->n1, .q = k}, (st_tensor){0});
    if (w->da.data) {
        op->gemm(w->call->q, &(st_gemm_args){.m = z->m1,
                                             .n = z->n1,
                                             .k = rows * z->m2,
                                             .batch = z->f,
                                             .ta = 1,
                                             .step_a = -1,
                                             .ldb = z->f * z->n1,
                                             .step_b = z->n1,
                                             .a = kron_a_order(w),
                                             .b = dz,
                                             .c = w->da,
                                             .beta = 1.0f});
    }
    if (w->call->dx.data) kron_a_inputs(w, dz);
}

/* ---- B first: x (i1, i2) -> z (i1, j2, f) -> (j2, f, i1) -> (j2, j1) -> y (j1, j2) */

/* (f, i2, j2) -> (i2, j2, f) */
static st_tensor kron_b_pack(const kron_work *w)
{
    const kron_size *z = &w->z;
    return kron_swap(w, w->b, &(st_permute_args){.rows = 1, .p = z->f, .q = z->m2 * z->n2},
                     (st_tensor){0});
}

st_tensor map_kron_b_inner(const kron_work *w, st_tensor kept)
{
    const kron_size *z = &w->z;
    int64_t n = z->n2 * z->f;
    bool direct = z->m1 == 1 || n == 1;
    st_tensor inner =
        direct && kept.data ? kept : st_take2(w->call->tmp, w->call->x.dtype, w->rows, z->m1 * n);
    st_stream_ops(w->call->q)
        ->gemm(w->call->q, &(st_gemm_args){.m = w->rows * z->m1,
                                           .n = n,
                                           .k = z->m2,
                                           .a = w->call->x,
                                           .b = kron_b_pack(w),
                                           .c = inner});
    if (direct) return inner;
    return kron_swap(w, inner, &(st_permute_args){.rows = w->rows, .p = z->m1, .q = n}, kept);
}

/* (j1, j2) -> (j2, j1) */
static st_tensor kron_b_order(const kron_work *w, st_tensor y, int64_t rows)
{
    const kron_size *z = &w->z;
    return kron_swap(w, y, &(st_permute_args){.rows = rows, .p = z->n1, .q = z->n2},
                     (st_tensor){0});
}

void map_kron_b_forward(const kron_work *w)
{
    const kron_size *z = &w->z;
    bool direct = z->n1 == 1 || z->n2 == 1;
    st_tensor yt =
        direct ? w->call->y : st_take1(w->call->tmp, w->call->y.dtype, w->rows * z->n1 * z->n2);
    st_tensor bias = w->call->bias.data ? kron_b_order(w, w->call->bias, 1) : w->call->bias;
    st_stream_ops(w->call->q)
        ->gemm(w->call->q, &(st_gemm_args){.m = w->rows * z->n2,
                                           .n = z->n1,
                                           .k = z->f * z->m1,
                                           .a = w->inner,
                                           .b = w->a,
                                           .c = yt,
                                           .bias = bias,
                                           .bias_rows = z->n2});
    if (direct) return;
    st_stream_ops(w->call->q)
        ->permute(
            w->call->q,
            &(st_permute_args){.rows = w->rows, .p = z->n2, .q = z->n1, .x = yt, .y = w->call->y});
}

void map_kron_b_backward(const kron_work *w)
{
    const kron_size *z = &w->z;
    const st_ops *op = st_stream_ops(w->call->q);
    int64_t rows = w->rows, n = z->n2 * z->f;
    st_tensor dyt = kron_b_order(w, w->call->dy, w->rows);
    if (w->da.data) {
        op->gemm(w->call->q, &(st_gemm_args){.m = z->f * z->m1,
                                             .n = z->n1,
                                             .k = rows * z->n2,
                                             .ta = 1,
                                             .a = w->inner,
                                             .b = dyt,
                                             .c = w->da,
                                             .beta = 1.0f});
    }
    st_tensor dz = st_take1(w->call->tmp, w->call->x.dtype, rows * z->m1 * n);
    op->gemm(w->call->q, &(st_gemm_args){.m = rows * z->n2,
                                         .n = z->f * z->m1,
                                         .k = z->n1,
                                         .tb = 1,
                                         .a = dyt,
                                         .b = w->a,
                                         .c = dz});
    dz = kron_swap(w, dz, &(st_permute_args){.rows = rows, .p = n, .q = z->m1}, (st_tensor){0});
    if (w->db.data) {
        st_tensor packed = st_take1(w->call->tmp, ST_F32, z->m2 * n);
        op->gemm(w->call->q, &(st_gemm_args){.m = z->m2,
                                             .n = n,
                                             .k = rows * z->m1,
                                             .ta = 1,
                                             .a = w->call->x,
                                             .b = dz,
                                             .c = packed});
        op->permute(
            w->call->q,
            &(st_permute_args){.rows = 1, .p = z->m2 * z->n2, .q = z->f, .x = packed, .y = w->db});
    }
    if (!w->call->dx.data) return;
    op->gemm(w->call->q, &(st_gemm_args){.m = rows * z->m1,
                                         .n = z->m2,
                                         .k = n,
                                         .tb = 1,
                                         .a = dz,
                                         .b = kron_b_pack(w),
                                         .c = w->call->dx});
}

/* ---- whole: R (i1, j1, i2, j2) = sum_f vec A_f vec B_f^T -> W^T (i1, i2, j1, j2) */

static st_tensor kron_whole(const kron_work *w)
{
    const kron_size *z = &w->z;
    int64_t m = z->m1 * z->n1, n = z->m2 * z->n2;
    st_tensor r = st_take1(w->call->tmp, w->a.dtype, m * n);
    st_stream_ops(w->call->q)
        ->gemm(w->call->q,
               &(st_gemm_args){.m = m, .n = n, .k = z->f, .ta = 1, .a = w->a, .b = w->b, .c = r});
    return kron_swap(w, r,
                     &(st_permute_args){.rows = z->m1, .p = z->n1, .q = z->m2, .inner = z->n2},
                     (st_tensor){0});
}

static st_tensor kron_wide(const kron_work *w, st_tensor x)
{
    if (x.dtype == ST_F32) return x;
    st_tensor y = st_take1(w->call->tmp, ST_F32, st_numel(x));
    st_stream_ops(w->call->q)->copy(w->call->q, &(st_copy_args){.x = x, .y = y});
    return y;
}

void map_kron_whole_forward(const kron_work *w)
{
    const kron_size *z = &w->z;
    st_stream_ops(w->call->q)
        ->gemm(w->call->q, &(st_gemm_args){.m = w->rows,
                                           .n = z->n1 * z->n2,
                                           .k = z->m1 * z->m2,
                                           .a = w->call->x,
                                           .b = kron_whole(w),
                                           .c = w->call->y,
                                           .bias = w->call->bias});
}

void map_kron_whole_backward(const kron_work *w)
{
    const kron_size *z = &w->z;
    const st_ops *op = st_stream_ops(w->call->q);
    int64_t rows = w->rows, in = z->m1 * z->m2, out = z->n1 * z->n2;
    int64_t m = z->m1 * z->n1, n = z->m2 * z->n2;
    if (w->call->dx.data) {
        op->gemm(w->call->q, &(st_gemm_args){.m = rows,
                                             .n = in,
                                             .k = out,
                                             .tb = 1,
                                             .a = w->call->dy,
                                             .b = kron_whole(w),
                                             .c = w->call->dx});
    }
    if (!w->da.data) return;
    st_tensor dw = st_take1(w->call->tmp, ST_F32, in * out);
    op->gemm(
        w->call->q,
        &(st_gemm_args){
            .m = in, .n = out, .k = rows, .ta = 1, .a = w->call->x, .b = w->call->dy, .c = dw});
    st_tensor dr =
        kron_swap(w, dw, &(st_permute_args){.rows = z->m1, .p = z->m2, .q = z->n1, .inner = z->n2},
                  (st_tensor){0});
    op->gemm(w->call->q, &(st_gemm_args){.m = z->f,
                                         .n = m,
                                         .k = n,
                                         .tb = 1,
                                         .a = kron_wide(w, w->b),
                                         .b = dr,
                                         .c = w->da,
                                         .beta = 1.0f});
    op->gemm(
        w->call->q,
        &(st_gemm_args){.m = z->f, .n = n, .k = m, .a = kron_wide(w, w->a), .b = dr, .c = w->db});
}
