/* The cache of keys and values, and attention over it. */
/* SPDX-License-Identifier: MIT */
#include "model/inner.h"
#include <assert.h>

void st_kv_take(st_kv *kv, const st_model *m, st_dtype t, int64_t batch, int64_t capacity,
                st_arena *a)
{
    st_lm_shape lm = m->lm->shape;
    int64_t dim[] = {lm.layers, batch, capacity, lm.kv_heads * lm.head_dim};
    *kv = (st_kv){.batch = batch, .capacity = capacity};
    kv->k = st_take(a, t, 4, dim);
    kv->v = st_take(a, t, 4, dim);
}

/* Where item i of a layer begins. */
static int64_t kv_at(const st_kv *kv, int64_t layer, int64_t i)
{
    return (layer * kv->batch + i) * kv->capacity * kv->k.dim[3];
}

void st_kv_move(st_stream *q, const st_kv *from, const st_kv *to, int64_t i, int64_t len)
{
    int64_t n = len * to->k.dim[3];
    for (int64_t layer = 0; layer < to->k.dim[0]; layer++) {
        st_copy_args copy = {.x = st_slice(from->k, kv_at(from, layer, 0), n),
                             .y = st_slice(to->k, kv_at(to, layer, i), n)};
        st_stream_ops(q)->copy(q, &copy);
        copy.x = st_slice(from->v, kv_at(from, layer, 0), n);
        copy.y = st_slice(to->v, kv_at(to, layer, i), n);
        st_stream_ops(q)->copy(q, &copy);
    }
}

/* The cache of a layer, from item i on, in the place of the new keys and values. */
static void kv_cached(const st_kv *kv, int64_t layer, int64_t i, st_heads *h)
{
    int64_t width = kv->k.dim[3], item = kv->capacity * width, first = kv_at(kv, layer, i);
    h->k = (st_strided){st_from(kv->k, first), width, item};
    h->v = (st_strided){st_from(kv->v, first), width, item};
}

static void kv_next(st_stream *q, const st_kv *kv, int64_t layer, const st_attend_fwd_args *at)
{
    st_attend_next_args a = {.h = at->h,
                             .k = at->h.k,
                             .v = at->h.v,
                             .at = kv->at,
                             .window = at->window,
                             .scale = at->scale};
    a.h.kv_len = kv->capacity;
    kv_cached(kv, layer, 0, &a.h);
    st_stream_ops(q)->attend_next(q, &a);
}

/* New keys and values of item i of `h` become rows from `row` on of item `item` of the cache. */
static void kv_put(st_stream *q, const st_kv *kv, int64_t layer, int64_t item, int64_t row,
                   const st_heads *h, int64_t i)
{
    int64_t width = kv->k.dim[3], to = kv_at(kv, layer, item) + row * width;
    st_copy_args copy = {.rows = h->kv_len, .cols = width, .ldx = h->k.stride};
    copy.x = st_from(h->k.x, i * h->k.step);
    copy.y = st_slice(kv->k, to, h->kv_len * width);
    st_stream_ops(q)->copy(q, &copy);
    copy.ldx = h->v.stride;
    copy.x = st_from(h->v.x, i * h->v.step);
    copy.y = st_slice(kv->v, to, h->kv_len * width);
    st_stream_ops(q)->copy(q, &copy);
}

static void kv_append(st_stream *q, const st_kv *kv, int64_t layer, st_attend_fwd_args *at)
{
    assert(kv->batch == at->h.batch && kv->used + at->h.kv_len <= kv->capacity);
    for (int64_t i = 0; i < kv->batch; i++)
        kv_put(q, kv, layer, i, kv->used, &at->h, i);
    kv_cached(kv, layer, 0, &at->h);
    at->h.kv_len += kv->used;
    at->q_start = kv->used;
}

/* One token an item, of which each has a length of its own. */
static void kv_each(st_stream *q, const st_kv *kv, int64_t layer, const st_attend_fwd_args *at)
{
    assert(kv->batch == at->h.batch && at->h.q_len == 1 && !at->lse.data);
    int64_t row = at->h.heads * at->h.head_dim;
    for (int64_t i = 0; i < kv->batch; i++) {
        st_attend_fwd_args one = *at;
        assert(kv->each[i] < kv->capacity);
        kv_put(q, kv, layer, i, kv->each[i], &at->h, i);
        one.h.batch = 1;
        one.h.q.x = st_from(at->h.q.x, i * at->h.q.step);
        one.h.o.x = st_from(at->h.o.x, i * row);
        kv_cached(kv, layer, i, &one.h);
        one.h.kv_len = kv->each[i] + 1;
        one.q_start = kv->each[i];
        st_stream_ops(q)->attend_fwd(q, &one);
    }
}

void st_pass_attend(st_stream *q, const st_pass *p, int64_t layer, st_attend_fwd_args *at,
                    st_arena *tmp)
{
    const st_ops *op = st_stream_ops(q);
    int64_t rows = at->h.batch * at->h.q_len, width = at->h.heads * at->h.head_dim;
    st_tensor out = at->h.o.x;
    st_dtype t = p->kv ? p->kv->k.dtype : out.dtype;
    if (t != out.dtype) {
        st_tensor query = st_take2(tmp, t, rows, width);
        op->copy(
            q, &(st_copy_args){
                   .rows = rows, .cols = width, .ldx = at->h.q.stride, .x = at->h.q.x, .y = query});
        at->h.q = (st_strided){query, width, at->h.q_len * width};
        at->h.o.x = st_take2(tmp, t, rows, width);
    }
    if (st_pass_next(p)) {
        kv_next(q, p->kv, layer, at);
    } else if (p->kv && p->kv->each) {
        kv_each(q, p->kv, layer, at);
    } else {
        if (p->kv) kv_append(q, p->kv, layer, at);
        if (p->attention && p->len > 1) {
            at->seed = (uint64_t)layer;
            st_attention_forward(q, p->attention, at, tmp);
        } else {
            op->attend_fwd(q, at);
        }
    }
    if (t != out.dtype) op->copy(q, &(st_copy_args){.x = at->h.o.x, .y = out});
}
