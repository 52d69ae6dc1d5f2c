/* The MLP of a block, y = W2 gelu(W1 x + b1) + b2, forward and backward. The backward under the
 * forward reads from its end. */
/* SPDX-License-Identifier: MIT */
#include "model/inner.h"

static st_tensor mlp_kept(const st_matrix *w, bool train, st_dtype t, int64_t rows, st_arena *tmp)
{
    int64_t n = train ? st_linear_kept(&w->l) : 0;
    return n ? st_take2(tmp, t, rows, n) : (st_tensor){0};
}

void st_mlp_forward(st_stream *q, const st_mlp *m, bool train, st_tensor x, st_tensor y,
                    st_mlp_acts *k, st_arena *tmp)
{
    st_dtype t = x.dtype;
    int64_t n = x.dim[0], inner = m->in->l.spec.out;
    k->x = x;
    k->fc = st_take2(tmp, t, n, inner);
    k->in = mlp_kept(m->in, train, t, n, tmp);
    st_matrix_forward(q, m->in, x, k->fc, k->in, tmp);

    k->act = train ? st_take2(tmp, t, n, inner) : k->fc;
    st_stream_ops(q)->gelu_fwd(q, &(st_gelu_fwd_args){.x = k->fc, .y = k->act, .kind = m->gelu});

    k->out = mlp_kept(m->out, train, t, n, tmp);
    st_matrix_forward(q, m->out, k->act, y, k->out, tmp);
}

void st_mlp_backward(st_stream *q, const st_mlp *m, const st_mlp_acts *k, st_tensor dy,
                     st_tensor dx, st_arena *tmp)
{
    size_t mark = st_arena_mark(tmp);
    st_tensor dfc = st_take2(tmp, dy.dtype, dy.dim[0], m->in->l.spec.out);
    st_matrix_backward(q, m->out, k->act, k->out, dy, dfc, tmp);
    st_stream_ops(q)->gelu_bwd(
        q, &(st_gelu_bwd_args){.x = k->fc, .dy = dfc, .dx = dfc, .kind = m->gelu});
    st_matrix_backward(q, m->in, k->x, k->in, dfc, dx, tmp);
    st_arena_rewind(tmp, mark);
}
