/* st_linear: a map, its bias and their gradients; what models are built of. */
/* SPDX-License-Identifier: MIT */
#include "map/map.h"

int64_t st_linear_kept(const st_linear *l)
{
    return l->spec.type->kept(&l->spec);
}

void st_linear_forward(st_stream *q, const st_linear *l, st_tensor x, st_tensor y, st_tensor kept,
                       st_arena *tmp)
{
    size_t mark = st_arena_mark(tmp);
    l->spec.type->forward(q, &l->spec, &l->w, x, l->bias, y, kept, tmp);
    st_arena_rewind(tmp, mark);
}

void st_linear_backward(st_stream *q, const st_linear *l, st_tensor x, st_tensor kept, st_tensor dy,
                        st_tensor dx, st_arena *tmp)
{
    if (l->dbias.data) {
        st_stream_ops(q)->bias_grad(
            q, &(st_bias_grad_args){
                   .rows = x.dim[0], .width = l->spec.out, .dy = dy, .dbias = l->dbias});
    }
    size_t mark = st_arena_mark(tmp);
    l->spec.type->backward(q, &l->spec, &l->w, x, kept, dy, dx, &l->dw, tmp);
    st_arena_rewind(tmp, mark);
}

void st_linear_rows(st_stream *q, const st_linear *l, const st_embed_fwd_args *a, st_arena *tmp)
{
    size_t mark = st_arena_mark(tmp);
    l->spec.type->rows(q, &l->spec, &l->w, a, tmp);
    st_arena_rewind(tmp, mark);
}

void st_linear_rows_backward(st_stream *q, const st_linear *l, const st_embed_bwd_args *a,
                             st_arena *tmp)
{
    size_t mark = st_arena_mark(tmp);
    l->spec.type->rows_backward(q, &l->spec, &l->w, a, &l->dw, tmp);
    st_arena_rewind(tmp, mark);
}
