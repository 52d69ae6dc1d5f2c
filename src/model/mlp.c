/* The MLP of a block, forward and backward: y = W2 gelu(W1 x + b1) + b2, or with a gate y =
 * W2 (act(Wg x + bg) (W1 x + b1)) + b2 (Shazeer 2020). A backward under its forward reads from its
 * end. */
/* SPDX-License-Identifier: MIT */
#include "model/inner.h"

/* A tap wants to see the rows between the matrices. */
static bool mlp_tapped(const st_mlp *m)
{
    return (m->in->tap && m->in->tap->fn) || (m->out->tap && m->out->tap->fn);
}

/* From x to what `out` multiplies in one operation, where there is one. */
static bool mlp_fused(st_stream *q, const st_mlp *m, bool train, st_tensor x, st_tensor y,
                      st_mlp_acts *k, st_arena *tmp)
{
    int64_t n = y.dim[0], kept = st_linear_kept(&m->out->l);
    bool folds = st_linear_folds(q, &m->out->l);
    if (mlp_tapped(m)) return false;
    size_t mark = st_arena_mark(tmp);
    st_tensor z = k->fc; /* which is scratch if nothing is to be kept */
    if (folds || train) z = st_take2(tmp, y.dtype, n, folds ? kept : k->fc.dim[1]);
    st_stream_tag(q, m->in->name);
    if (!st_linear_gelu(q, &m->in->l, &m->out->l, m->gelu, train, x, k->fc, z, k->in, tmp)) {
        st_arena_rewind(tmp, mark);
        return false;
    }
    if (folds) {
        st_stream_tag(q, m->out->name);
        k->out = z;
        st_linear_folded_forward(q, &m->out->l, z, y, tmp);
        return true;
    }
    k->act = z;
    k->out = st_matrix_kept(m->out, train, y.dtype, n, tmp);
    st_matrix_forward(q, m->out, k->act, y, k->out, tmp);
    return true;
}

/* ---- with a gate ----------------------------------------------------------------------------- */

static void mlp_gated(st_stream *q, const st_mlp *m, bool train, st_tensor x, st_tensor y,
                      st_mlp_acts *k, st_arena *tmp)
{
    st_dtype t = x.dtype;
    int64_t n = x.dim[0], inner = m->in->l.spec.out;
    k->gate = st_take2(tmp, t, n, inner);
    k->by_gate = st_matrix_kept(m->gate, train, t, n, tmp);
    st_matrix_forward(q, m->gate, x, k->gate, k->by_gate, tmp);
    st_matrix_forward(q, m->in, x, k->fc, k->in, tmp);

    k->act = train ? st_take2(tmp, t, n, inner) : k->fc;
    st_stream_ops(q)->glu_fwd(
        q, &(st_glu_fwd_args){.g = k->gate, .u = k->fc, .y = k->act, .kind = m->act});

    k->out = st_matrix_kept(m->out, train, t, n, tmp);
    st_matrix_forward(q, m->out, k->act, y, k->out, tmp);
}

static void mlp_gated_back(st_stream *q, const st_mlp *m, const st_mlp_acts *k, st_tensor dy,
                           st_tensor dx, st_arena *tmp)
{
    size_t mark = st_arena_mark(tmp);
    st_tensor dact = st_take2(tmp, dy.dtype, dy.dim[0], m->in->l.spec.out);
    st_tensor dgate = st_take2(tmp, dy.dtype, dy.dim[0], m->in->l.spec.out);
    st_matrix_backward(q, m->out, k->act, k->out, dy, dact, tmp);
    st_stream_ops(q)->glu_bwd(
        q, &(st_glu_bwd_args){
               .g = k->gate, .u = k->fc, .dy = dact, .dg = dgate, .du = dact, .kind = m->act});
    st_matrix_backward(q, m->in, k->x, k->in, dact, dx, tmp);
    st_matrix_backward_add(q, m->gate, k->x, k->by_gate, dgate, dx, tmp);
    st_arena_rewind(tmp, mark);
}

/* ---- either ---------------------------------------------------------------------------------- */

void st_mlp_forward(st_stream *q, const st_mlp *m, bool train, st_tensor x, st_tensor z,
                    st_tensor y, st_mlp_acts *k, st_arena *tmp)
{
    st_dtype t = y.dtype;
    int64_t n = y.dim[0], inner = m->in->l.spec.out;
    *k = (st_mlp_acts){.x = x, .fc = st_take2(tmp, t, n, inner), .in = z};
    if (!z.data) k->in = st_matrix_kept(m->in, train, t, n, tmp);
    if (m->gate) {
        mlp_gated(q, m, train, x, y, k, tmp);
        return;
    }
    if (mlp_fused(q, m, train, x, y, k, tmp)) return;
    if (x.data) {
        st_matrix_forward(q, m->in, x, k->fc, k->in, tmp);
    } else {
        st_stream_tag(q, m->in->name);
        st_linear_folded_forward(q, &m->in->l, k->in, k->fc, tmp);
    }

    k->act = train ? st_take2(tmp, t, n, inner) : k->fc;
    st_stream_ops(q)->gelu_fwd(q, &(st_gelu_fwd_args){.x = k->fc, .y = k->act, .kind = m->gelu});

    k->out = st_matrix_kept(m->out, train, t, n, tmp);
    st_matrix_forward(q, m->out, k->act, y, k->out, tmp);
}

void st_mlp_backward(st_stream *q, const st_mlp *m, const st_mlp_acts *k, st_tensor dy,
                     st_tensor dx, const st_norm_bwd_args *norm, st_arena *tmp)
{
    if (m->gate) {
        mlp_gated_back(q, m, k, dy, dx, tmp);
        return;
    }
    size_t mark = st_arena_mark(tmp);
    st_tensor dfc = st_take2(tmp, dy.dtype, dy.dim[0], m->in->l.spec.out);
    st_matrix in = *m->in;
    if (k->act.data) {
        st_matrix_backward(q, m->out, k->act, k->out, dy, dfc, tmp);
        st_stream_ops(q)->gelu_bwd(
            q, &(st_gelu_bwd_args){.x = k->fc, .dy = dfc, .dx = dfc, .kind = m->gelu});
    } else {
        st_stream_tag(q, m->out->name);
        st_linear_folded_backward(q, &m->out->l, m->gelu, k->out, k->fc, dy, dfc, in.l.dbias, tmp);
        in.l.dbias = (st_tensor){0}; /* done with it */
    }
    if (k->x.data) {
        st_matrix_backward(q, &in, k->x, k->in, dfc, dx, tmp);
    } else {
        st_stream_tag(q, in.name);
        st_linear_norm_backward(q, &in.l, norm, k->in, dfc, tmp);
    }
    st_arena_rewind(tmp, mark);
}
