/* The three ways to multiply by a sum of Kronecker products (equations: kron.c). Between products
 * the small index has to move to the other side of the large one: a permute, unless one is 1. */
/* SPDX-License-Identifier: MIT */
#include "map/kron.h"

static st_tensor kron_swap(const kron_call *c, st_tensor x, const st_permute_args *how,
                           st_tensor into)
{
    if (!into.data && (how->p == 1 || how->q == 1)) return x;
    st_permute_args a = *how;
    a.x = x;
    a.y = into.data ? into : st_take1(c->tmp, x.dtype, st_numel(x));
    st_stream_ops(c->q)->permute(c->q, &a);
    return a.y;
}

/* ---- A first: x (i1, i2) -> (i2, i1) -> z (i2, f, j1) -> (j1, i2, f) -> y (j1, j2) */

static st_tensor kron_a_order(const kron_call *c)
{
    const kron_size *z = &c->z;
    return kron_swap(c, c->x, &(st_permute_args){.rows = c->rows, .p = z->m1, .q = z->m2},
                     (st_tensor){0});
}

st_tensor map_kron_a_inner(const kron_call *c, st_tensor kept)
{
    const kron_size *z = &c->z;
    st_tensor xt = kron_a_order(c);
    bool direct = z->n1 == 1 || z->m2 * z->f == 1;
    st_tensor inner =
        direct && kept.data ? kept : st_take2(c->tmp, c->x.dtype, c->rows, z->m2 * z->f * z->n1);
    st_stream_ops(c->q)->gemm(c->q, &(st_gemm_args){.m = c->rows * z->m2,
                                                    .n = z->n1,
                                                    .k = z->m1,
                                                    .batch = z->f,
                                                    .step_a = -1,
                                                    .ldc = z->f * z->n1,
                                                    .step_c = z->n1,
                                                    .a = xt,
                                                    .b = c->a,
                                                    .c = inner});
    if (direct) return inner;
    return kron_swap(c, inner, &(st_permute_args){.rows = c->rows, .p = z->m2 * z->f, .q = z->n1},
                     kept);
}

/* (f, i2, j2) <-> (i2, f, j2) */
static st_tensor kron_a_pack(const kron_call *c)
{
    const kron_size *z = &c->z;
    return kron_swap(c, c->b, &(st_permute_args){.rows = 1, .p = z->f, .q = z->m2, .inner = z->n2},
                     (st_tensor){0});
}

void map_kron_a_forward(const kron_call *c)
{
    const kron_size *z = &c->z;
    st_stream_ops(c->q)->gemm(c->q, &(st_gemm_args){.m = c->rows * z->n1,
                                                    .n = z->n2,
                                                    .k = z->m2 * z->f,
                                                    .a = c->inner,
                                                    .b = kron_a_pack(c),
                                                    .c = c->y,
                                                    .bias = c->bias,
                                                    .bias_rows = z->n1});
}

void map_kron_a_backward(const kron_call *c)
{
    const kron_size *z = &c->z;
    const st_ops *op = st_stream_ops(c->q);
    int64_t rows = c->rows, k = z->m2 * z->f;
    if (c->db.data) {
        st_tensor packed = st_take1(c->tmp, ST_F32, k * z->n2);
        op->gemm(c->q, &(st_gemm_args){.m = k,
                                       .n = z->n2,
                                       .k = rows * z->n1,
                                       .ta = 1,
                                       .a = c->inner,
                                       .b = c->dy,
                                       .c = packed});
        op->permute(c->q,
                    &(st_permute_args){
                        .rows = 1, .p = z->m2, .q = z->f, .inner = z->n2, .x = packed, .y = c->db});
    }
    st_tensor dz = st_take1(c->tmp, c->x.dtype, rows * z->n1 * k);
    op->gemm(c->q, &(st_gemm_args){.m = rows * z->n1,
                                   .n = k,
                                   .k = z->n2,
                                   .tb = 1,
                                   .a = c->dy,
                                   .b = kron_a_pack(c),
                                   .c = dz});
    dz = kron_swap(c, dz, &(st_permute_args){.rows = rows, .p = z->n1, .q = k}, (st_tensor){0});
    if (c->da.data) {
        op->gemm(c->q, &(st_gemm_args){.m = z->m1,
                                       .n = z->n1,
                                       .k = rows * z->m2,
                                       .batch = z->f,
                                       .ta = 1,
                                       .step_a = -1,
                                       .ldb = z->f * z->n1,
                                       .step_b = z->n1,
                                       .a = kron_a_order(c),
                                       .b = dz,
                                       .c = c->da,
                                       .beta = 1.0f});
    }
    if (!c->dx.data) return;
    st_tensor dxt =
        z->m1 == 1 || z->m2 == 1 ? c->dx : st_take1(c->tmp, c->x.dtype, rows * z->m1 * z->m2);
    for (int64_t f = 0; f < z->f; f++) {
        op->gemm(c->q, &(st_gemm_args){.m = rows * z->m2,
                                       .n = z->m1,
                                       .k = z->n1,
                                       .tb = 1,
                                       .lda = z->f * z->n1,
                                       .a = map_from(dz, f * z->n1),
                                       .b = map_from(c->a, f * z->m1 * z->n1),
                                       .c = dxt,
                                       .beta = f ? 1.0f : 0.0f});
    }
    if (dxt.data != c->dx.data) {
        op->permute(c->q,
                    &(st_permute_args){.rows = rows, .p = z->m2, .q = z->m1, .x = dxt, .y = c->dx});
    }
}

/* ---- B first: x (i1, i2) -> z (i1, j2, f) -> (j2, f, i1) -> (j2, j1) -> y (j1, j2) */

/* (f, i2, j2) -> (i2, j2, f) */
static st_tensor kron_b_pack(const kron_call *c)
{
    const kron_size *z = &c->z;
    return kron_swap(c, c->b, &(st_permute_args){.rows = 1, .p = z->f, .q = z->m2 * z->n2},
                     (st_tensor){0});
}

st_tensor map_kron_b_inner(const kron_call *c, st_tensor kept)
{
    const kron_size *z = &c->z;
    int64_t n = z->n2 * z->f;
    bool direct = z->m1 == 1 || n == 1;
    st_tensor inner = direct && kept.data ? kept : st_take2(c->tmp, c->x.dtype, c->rows, z->m1 * n);
    st_stream_ops(c->q)->gemm(
        c->q,
        &(st_gemm_args){
            .m = c->rows * z->m1, .n = n, .k = z->m2, .a = c->x, .b = kron_b_pack(c), .c = inner});
    if (direct) return inner;
    return kron_swap(c, inner, &(st_permute_args){.rows = c->rows, .p = z->m1, .q = n}, kept);
}

/* (j1, j2) -> (j2, j1) */
static st_tensor kron_b_order(const kron_call *c, st_tensor y, int64_t rows)
{
    const kron_size *z = &c->z;
    return kron_swap(c, y, &(st_permute_args){.rows = rows, .p = z->n1, .q = z->n2},
                     (st_tensor){0});
}

void map_kron_b_forward(const kron_call *c)
{
    const kron_size *z = &c->z;
    bool direct = z->n1 == 1 || z->n2 == 1;
    st_tensor yt = direct ? c->y : st_take1(c->tmp, c->y.dtype, c->rows * z->n1 * z->n2);
    st_tensor bias = c->bias.data ? kron_b_order(c, c->bias, 1) : c->bias;
    st_stream_ops(c->q)->gemm(c->q, &(st_gemm_args){.m = c->rows * z->n2,
                                                    .n = z->n1,
                                                    .k = z->f * z->m1,
                                                    .a = c->inner,
                                                    .b = c->a,
                                                    .c = yt,
                                                    .bias = bias,
                                                    .bias_rows = z->n2});
    if (direct) return;
    st_stream_ops(c->q)->permute(
        c->q, &(st_permute_args){.rows = c->rows, .p = z->n2, .q = z->n1, .x = yt, .y = c->y});
}

void map_kron_b_backward(const kron_call *c)
{
    const kron_size *z = &c->z;
    const st_ops *op = st_stream_ops(c->q);
    int64_t rows = c->rows, n = z->n2 * z->f;
    st_tensor dyt = kron_b_order(c, c->dy, c->rows);
    if (c->da.data) {
        op->gemm(c->q, &(st_gemm_args){.m = z->f * z->m1,
                                       .n = z->n1,
                                       .k = rows * z->n2,
                                       .ta = 1,
                                       .a = c->inner,
                                       .b = dyt,
                                       .c = c->da,
                                       .beta = 1.0f});
    }
    st_tensor dz = st_take1(c->tmp, c->x.dtype, rows * z->m1 * n);
    op->gemm(c->q, &(st_gemm_args){.m = rows * z->n2,
                                   .n = z->f * z->m1,
                                   .k = z->n1,
                                   .tb = 1,
                                   .a = dyt,
                                   .b = c->a,
                                   .c = dz});
    dz = kron_swap(c, dz, &(st_permute_args){.rows = rows, .p = n, .q = z->m1}, (st_tensor){0});
    if (c->db.data) {
        st_tensor packed = st_take1(c->tmp, ST_F32, z->m2 * n);
        op->gemm(
            c->q,
            &(st_gemm_args){
                .m = z->m2, .n = n, .k = rows * z->m1, .ta = 1, .a = c->x, .b = dz, .c = packed});
        op->permute(c->q, &(st_permute_args){
                              .rows = 1, .p = z->m2 * z->n2, .q = z->f, .x = packed, .y = c->db});
    }
    if (!c->dx.data) return;
    op->gemm(c->q, &(st_gemm_args){.m = rows * z->m1,
                                   .n = z->m2,
                                   .k = n,
                                   .tb = 1,
                                   .a = dz,
                                   .b = kron_b_pack(c),
                                   .c = c->dx});
}

/* ---- whole: R (i1, j1, i2, j2) = sum_f vec A_f vec B_f^T -> W^T (i1, i2, j1, j2) */

static st_tensor kron_whole(const kron_call *c)
{
    const kron_size *z = &c->z;
    int64_t m = z->m1 * z->n1, n = z->m2 * z->n2;
    st_tensor r = st_take1(c->tmp, c->a.dtype, m * n);
    st_stream_ops(c->q)->gemm(
        c->q, &(st_gemm_args){.m = m, .n = n, .k = z->f, .ta = 1, .a = c->a, .b = c->b, .c = r});
    return kron_swap(c, r,
                     &(st_permute_args){.rows = z->m1, .p = z->n1, .q = z->m2, .inner = z->n2},
                     (st_tensor){0});
}

static st_tensor kron_wide(const kron_call *c, st_tensor x)
{

    if (x.dtype == ST_F32) return x;
    st_tensor y = st_take1(c->tmp, ST_F32, st_numel(x));
    st_stream_ops(c->q)->copy(c->q, &(st_copy_args){.x = x, .y = y});
    return y;
}

void map_kron_whole_forward(const kron_call *c)
{
    const kron_size *z = &c->z;
    st_stream_ops(c->q)->gemm(c->q, &(st_gemm_args){.m = c->rows,
                                                    .n = z->n1 * z->n2,
                                                    .k = z->m1 * z->m2,
                                                    .a = c->x,
                                                    .b = kron_whole(c),
                                                    .c = c->y,
                                                    .bias = c->bias});
}

void map_kron_whole_backward(const kron_call *c)
{
    const kron_size *z = &c->z;
    const st_ops *op = st_stream_ops(c->q);
    int64_t rows = c->rows, in = z->m1 * z->m2, out = z->n1 * z->n2;
    int64_t m = z->m1 * z->n1, n = z->m2 * z->n2;
    if (c->dx.data) {
        op->gemm(
            c->q,
            &(st_gemm_args){
                .m = rows, .n = in, .k = out, .tb = 1, .a = c->dy, .b = kron_whole(c), .c = c->dx});
    }
    if (!c->da.data) return;
    st_tensor dw = st_take1(c->tmp, ST_F32, in * out);
    op->gemm(c->q, &(st_gemm_args){
                       .m = in, .n = out, .k = rows, .ta = 1, .a = c->x, .b = c->dy, .c = dw});
    st_tensor dr =
        kron_swap(c, dw, &(st_permute_args){.rows = z->m1, .p = z->m2, .q = z->n1, .inner = z->n2},
                  (st_tensor){0});
    op->gemm(c->q, &(st_gemm_args){.m = z->f,
                                   .n = m,
                                   .k = n,
                                   .tb = 1,
                                   .a = kron_wide(c, c->b),
                                   .b = dr,
                                   .c = c->da,
                                   .beta = 1.0f});
    op->gemm(c->q, &(st_gemm_args){
                       .m = z->f, .n = n, .k = m, .a = kron_wide(c, c->a), .b = dr, .c = c->db});
}
