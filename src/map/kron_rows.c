/* Rows of a Kronecker sum whose B has one column (n1 = out): an embedding of V tokens as V shorter
 * ones times a small factor (Edalati et al. 2022, KnGPT2). Row v of W is, for i = i1 m2 + i2,
 *   W[v, i] = sum_f A_f[i1, v] (s_f B_f[i2]),
 * a column of each A_f times each B_f. A is stored (f, m1, V): what the head multiplies by reads it
 * row by row, so a look-up has to gather columns. */
/* SPDX-License-Identifier: MIT */
#include "map/kron.h"

st_status map_kron_rows_check(const st_spec *s, st_err *e)
{
    kron_size z = map_kron_size(s);
    if (z.n2 == 1) return ST_OK;
    ST_FAIL(e, ST_ESHAPE, "kron: n1=%lld has no row look-up; an embedding needs n1=%lld, its rows",
            (long long)z.n1, (long long)s->out);
}

/* Columns ids of A_f, (rows, m1). */
static st_embed_fwd_args rows_of(const st_embed_fwd_args *a, const kron_size *z)
{
    return (st_embed_fwd_args){
        .rows = a->rows, .width = z->m1, .len = a->len, .ids = a->ids, .columns = 1};
}

void map_kron_rows(const st_map_call *c, const st_embed_fwd_args *a)
{
    const st_ops *op = st_stream_ops(c->q);
    kron_size z = map_kron_size(c->spec);
    int64_t each = z.m1 * z.n1;
    st_tensor b = map_kron_scaled(c);
    st_tensor g = st_take2(c->tmp, a->y.dtype, a->rows, z.m1);
    for (int64_t f = 0; f < z.f; f++) {
        st_embed_fwd_args find = rows_of(a, &z);
        find.table = st_slice(c->theta->p[KRON_A], f * each, each);
        find.y = g;
        op->embed_fwd(c->q, &find);
        op->gemm(c->q, &(st_gemm_args){.m = a->rows * z.m1,
                                       .n = z.m2,
                                       .k = 1,
                                       .a = g,
                                       .b = st_slice(b, f * z.m2, z.m2),
                                       .c = a->y,
                                       .beta = f ? 1.0f : 0.0f});
    }
    map_rows_position(c->q, a);
}

void map_kron_rows_backward(const st_map_call *c, const st_embed_bwd_args *a)
{
    const st_ops *op = st_stream_ops(c->q);
    kron_size z = map_kron_size(c->spec);
    int64_t each = z.m1 * z.n1, n = a->rows * z.m1;
    map_rows_position_backward(c->q, a);
    if (!c->dtheta->p[KRON_A].data) return;
    st_tensor b = map_kron_scaled(c), db = st_take1(c->tmp, ST_F32, z.f * z.m2);
    st_tensor g = st_take2(c->tmp, a->dy.dtype, a->rows, z.m1);
    for (int64_t f = 0; f < z.f; f++) {
        st_embed_fwd_args find = rows_of(a, &z);
        find.table = st_slice(c->theta->p[KRON_A], f * each, each);
        find.y = g;
        op->embed_fwd(c->q, &find);
        op->gemm(c->q, &(st_gemm_args){.m = 1,
                                       .n = z.m2,
                                       .k = n,
                                       .ta = 1,
                                       .a = g,
                                       .b = a->dy,
                                       .c = st_slice(db, f * z.m2, z.m2)});
        op->gemm(
            c->q,
            &(st_gemm_args){
                .m = n, .n = 1, .k = z.m2, .a = a->dy, .b = st_slice(b, f * z.m2, z.m2), .c = g});
        st_embed_bwd_args back = rows_of(a, &z);
        back.dy = g;
        back.dtable = st_slice(c->dtheta->p[KRON_A], f * each, each);
        op->embed_bwd(c->q, &back);
    }
    map_kron_scaled_backward(c, db);
}
