/* st_linear: a map, its bias and their gradients; what models are built of. */
/* SPDX-License-Identifier: MIT */
#include "map/map.h"

int64_t st_linear_kept(const st_linear *l)
{
    return l->spec.type->kept(&l->spec);
}

static void linear_bias_grad(st_stream *q, const st_linear *l, st_tensor dy)
{
    st_bias_grad_args a = {.rows = dy.dim[0], .width = l->spec.out, .dy = dy, .dbias = l->dbias};
    if (l->dbias.data) st_stream_ops(q)->bias_grad(q, &a);
}

void st_linear_forward(st_stream *q, const st_linear *l, st_tensor x, st_tensor y, st_tensor kept,
                       st_arena *tmp)
{
    size_t mark = st_arena_mark(tmp);
    l->spec.type->forward(&(st_map_call){.q = q,
                                         .spec = &l->spec,
                                         .theta = &l->w,
                                         .x = x,
                                         .bias = l->bias,
                                         .y = y,
                                         .kept = kept,
                                         .tmp = tmp});
    st_arena_rewind(tmp, mark);
}

bool st_linear_folds(const st_stream *q, const st_linear *l)
{
    const st_ops *op = st_stream_ops(q);
    return op->gelu_linear && op->gelu_unfold && l->spec.type->fold && l->spec.type->last;
}

bool st_linear_norm(st_stream *q, const st_linear *l, const st_norm_fwd_args *norm, st_tensor kept)
{
    st_norm_fold_args a = {.norm = *norm};
    const st_ops *op = st_stream_ops(q);
    if (!op->norm_fold || !op->norm_unfold || !l->spec.type->fold) return false;
    l->spec.type->fold(&l->spec, norm->rows, &a.fold);
    a.fold.z = kept;
    op->norm_fold(q, &a);
    return true;
}

/* Gradients of `l`, and that of what it keeps of its input: fold->dz, from tmp. */
static void linear_kept_grad(st_stream *q, const st_linear *l, st_tensor kept, st_tensor dy,
                             st_fold_bwd_args *fold, st_arena *tmp)
{
    linear_bias_grad(q, l, dy);
    l->spec.type->fold(&l->spec, dy.dim[0], fold);
    fold->dz = st_take2(tmp, dy.dtype, kept.dim[0], kept.dim[1]);
    l->spec.type->backward(&(st_map_call){.q = q,
                                          .spec = &l->spec,
                                          .theta = &l->w,
                                          .kept = kept,
                                          .tmp = tmp,
                                          .dy = dy,
                                          .dkept = fold->dz,
                                          .dtheta = &l->dw});
}

void st_linear_norm_backward(st_stream *q, const st_linear *l, const st_norm_bwd_args *norm,
                             st_tensor kept, st_tensor dy, st_arena *tmp)
{
    st_norm_unfold_args a = {.norm = *norm};
    size_t mark = st_arena_mark(tmp);
    linear_kept_grad(q, l, kept, dy, &a.fold, tmp);
    st_stream_ops(q)->norm_unfold(q, &a);
    st_arena_rewind(tmp, mark);
}

bool st_linear_gelu(st_stream *q, const st_linear *l, const st_linear *next, st_gelu_kind kind,
                    bool keep, st_tensor x, st_tensor h, st_tensor y, st_tensor kept, st_arena *tmp)
{
    st_gelu_linear_args a = {.bias = l->bias, .h = h, .y = y, .kind = kind, .keep = keep};
    st_map_call c = {.q = q,
                     .spec = &l->spec,
                     .theta = &l->w,
                     .x = x,
                     .kept = kept,
                     .ready = !x.data,
                     .tmp = tmp};
    if (!st_stream_ops(q)->gelu_linear || !l->spec.type->last) return false;
    size_t mark = st_arena_mark(tmp);
    bool found = l->spec.type->last(&c, &a);
    if (found) {
        if (st_linear_folds(q, next)) next->spec.type->fold(&next->spec, a.rows, &a.fold);
        st_stream_ops(q)->gelu_linear(q, &a);
    }
    st_arena_rewind(tmp, mark);
    return found;
}

void st_linear_folded_forward(st_stream *q, const st_linear *l, st_tensor kept, st_tensor y,
                              st_arena *tmp)
{
    size_t mark = st_arena_mark(tmp);
    l->spec.type->forward(&(st_map_call){.q = q,
                                         .spec = &l->spec,
                                         .theta = &l->w,
                                         .bias = l->bias,
                                         .y = y,
                                         .kept = kept,
                                         .ready = true,
                                         .tmp = tmp});
    st_arena_rewind(tmp, mark);
}

void st_linear_folded_backward(st_stream *q, const st_linear *l, st_gelu_kind kind, st_tensor kept,
                               st_tensor h, st_tensor dy, st_tensor dh, st_tensor dbias,
                               st_arena *tmp)
{
    st_gelu_unfold_args a = {.h = h, .dbias = dbias, .kind = kind};
    size_t mark = st_arena_mark(tmp);
    linear_kept_grad(q, l, kept, dy, &a.fold, tmp);
    a.fold.dx = dh;
    st_stream_ops(q)->gelu_unfold(q, &a);
    st_arena_rewind(tmp, mark);
}

void st_linear_backward(st_stream *q, const st_linear *l, st_tensor x, st_tensor kept, st_tensor dy,
                        st_tensor dx, st_arena *tmp)
{
    linear_bias_grad(q, l, dy);
    size_t mark = st_arena_mark(tmp);
    l->spec.type->backward(&(st_map_call){.q = q,
                                          .spec = &l->spec,
                                          .theta = &l->w,
                                          .x = x,
                                          .kept = kept,
                                          .tmp = tmp,
                                          .dy = dy,
                                          .dx = dx,
                                          .dtheta = &l->dw});
    st_arena_rewind(tmp, mark);
}

bool st_linear_part(const st_linear *l, int64_t first, int64_t n, st_linear *part)
{
    *part = (st_linear){.spec = l->spec};
    st_dtype t = l->w.p[0].dtype;
    bool packed = t != st_dtype_plain(t);
    if (l->spec.type != &st_map_dense || (packed && (first % 16 || n % 16))) return false;
    part->spec.out = n;
    part->w.p[0] = st_rows(l->w.p[0], first, n);
    if (l->bias.data) part->bias = st_slice(l->bias, first, n);
    return true;
}

void st_linear_rows(st_stream *q, const st_linear *l, const st_embed_fwd_args *a, st_arena *tmp)
{
    size_t mark = st_arena_mark(tmp);
    l->spec.type->rows(&(st_map_call){.q = q, .spec = &l->spec, .theta = &l->w, .tmp = tmp}, a);
    st_arena_rewind(tmp, mark);
}

void st_linear_rows_backward(st_stream *q, const st_linear *l, const st_embed_bwd_args *a,
                             st_arena *tmp)
{
    size_t mark = st_arena_mark(tmp);
    l->spec.type->rows_backward(
        &(st_map_call){.q = q, .spec = &l->spec, .theta = &l->w, .tmp = tmp, .dtheta = &l->dw}, a);
    st_arena_rewind(tmp, mark);
}
