/* Classifiers of images: what is the same for all of them. */
/* SPDX-License-Identifier: MIT */
#include "model/inner.h"
#include <assert.h>

bool st_model_is_vision(const st_model *m)
{
    return m->type->vision != NULL;
}

st_vision_shape st_model_vision_shape(const st_model *m)
{
    return m->type->vision ? m->type->vision(m) : (st_vision_shape){0};
}

void st_model_vision_forward(st_model *m, st_stream *q, const st_vision_args *a, st_arena *tmp)
{
    assert(st_numel(a->logits) == a->batch * m->type->vision(m).classes);
    m->type->classify(m, q, a, tmp);
}

/* A copy of the way of token module i, filled in for its shape. */
static st_status vision_way(const st_vision_shape *v, int i, st_attention *way,
                            st_attention_shape *shape, st_err *e)
{
    *shape = (st_attention_shape){
        .head_dim = v->token_dim, .q_len = v->tokens[i], .kv_len = v->tokens[i]};
    if (way->type && v->performer) {
        ST_FAIL(e, ST_EARG,
                "attention %s: the model's token modules attend by random features of their "
                "own; ways to attend are for those with softmax (T2T-ViT t-7 ... t-24)",
                way->type->name);
    }
    st_status s = st_attention_check(way, shape, e);
    if (s) st_err_prefix(e, "token module %d", i + 1);
    return s;
}

static st_status vision_check(const st_vision_args *a, const st_vision_shape *v, st_err *e)
{
    int64_t pixels = v->channels * v->size * v->size;
    if (a->batch < 1 || a->batch > INT32_MAX / pixels) {
        ST_FAIL(e, ST_EARG, "batch is %lld, expected 1 to %lld images of %lld x %lld pixels",
                (long long)a->batch, (long long)(INT32_MAX / pixels), (long long)v->size,
                (long long)v->size);
    }
    for (int i = 0; i < 2; i++) {
        st_attention way = a->attention[i];
        st_attention_shape shape;
        ST_TRY(vision_way(v, i, &way, &shape, e));
    }
    return ST_OK;
}

static st_status vision_draw(const st_vision_shape *v, st_stream *q, st_attention way[2],
                             st_arena *from, st_err *e)
{
    for (int i = 0; i < 2; i++) {
        st_attention_shape shape;
        if (!way[i].type) continue;
        ST_TRY(vision_way(v, i, &way[i], &shape, e));
        ST_TRY(st_attention_keep(q, &way[i], &shape, (uint64_t)i, from, e));
    }
    return ST_OK;
}

st_status st_model_vision_keep(const st_model *m, st_stream *q, st_attention way[2], st_arena *mem,
                               st_err *e)
{
    st_vision_shape v = st_model_vision_shape(m);
    st_attention copy[2] = {way[0], way[1]};
    st_stream *dry = NULL;
    st_arena nowhere = {0};
    *mem = (st_arena){0};
    st_status s = st_stream_dry(&dry, q, e);
    if (!s) s = st_arena_open_counting(&nowhere, e);
    if (!s) s = vision_draw(&v, dry, copy, &nowhere, e);
    size_t bytes = nowhere.peak;
    st_arena_close(&nowhere);
    st_stream_close(dry);
    if (s || bytes == 0) return s;
    ST_TRY(st_device_arena(q, bytes, mem, e));
    return vision_draw(&v, q, way, mem, e);
}

static void vision_plan(st_model *m, st_stream *dry, const void *args, st_arena *mem, st_arena *tmp)
{
    const st_vision_args *given = args;
    st_vision_args a = *given;
    st_vision_shape v = m->type->vision(m);
    if (!a.pixels.data) a.pixels = st_take1(mem, ST_F32, a.batch * v.channels * v.size * v.size);
    if (!a.logits.data) a.logits = st_take2(mem, ST_F32, a.batch, v.classes);
    m->type->classify(m, dry, &a, tmp);
}

st_status st_model_vision_plan(st_model *m, const st_stream *q, st_dtype t, const st_vision_args *a,
                               size_t *bytes, st_cost *cost, st_err *e)
{
    size_t need = 0;
    if (!m->type->vision) {
        ST_FAIL(e, ST_EARG, "the model is a language model: it reads no images");
    }
    st_vision_shape v = m->type->vision(m);
    ST_TRY(vision_check(a, &v, e));
    ST_TRY(st_plan_run(m, q, t, false, vision_plan, a, &need, cost, e));
    if (bytes) *bytes = need;
    if (need != SIZE_MAX) return ST_OK;
    ST_FAIL(e, ST_ENOMEM,
            "%lld images need more memory than can be addressed; try a smaller batch or model",
            (long long)a->batch);
}
