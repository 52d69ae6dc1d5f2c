/* Linformer: keys and values are mixed along the sequence by random matrices E, F (N, k) with
 * entries N(0, 1/k), and attended to exactly: o = softmax(s q (E^T K)^T) (F^T V). The published
 * network learns E and F; drawn ones, as here, keep no more than the expectation. O(N k). */
/* SPDX-License-Identifier: MIT */
#include "model/attention.h"
#include <assert.h>
#include <math.h>

enum { ROWS, SEED, SHARE };

static st_status linformer_check(st_attention *m, const st_attention_shape *s, st_err *e)
{
    (void)s;
    ST_TRY(attention_range(m, ROWS, 1, 1 << 16, "mixed keys", e));
    ST_TRY(attention_range(m, SEED, 0, INT64_MAX, "any number from 0 on", e));
    return attention_range(m, SHARE, 0, 1, "values mixed by a matrix of their own, or the keys'",
                           e);
}

/* E and, unless values are mixed by it too, F. */
static st_tensor linformer_draw(st_stream *q, const st_attention *m, const st_attention_shape *s,
                                uint64_t layer, st_arena *from)
{
    int64_t k = m->knob[ROWS], size = s->kv_len * k, parts = m->knob[SHARE] ? 1 : 2;
    st_tensor all = st_take1(from, ST_F32, parts * size);
    for (int64_t i = 0; i < parts; i++) {
        st_directions_args draw = {.rows = s->kv_len,
                                   .cols = k,
                                   .w = st_slice(all, i * size, size),
                                   .seed = (uint64_t)m->knob[SEED],
                                   .stream = 2 * layer + (uint64_t)i,
                                   .std = 1.0f / sqrtf((float)k)};
        st_stream_ops(q)->directions(q, &draw);
    }
    return all;
}

/* Matrix `part` of the projection in the dtype of the tokens. */
static st_tensor linformer_matrix(st_stream *q, const st_attention *m, const st_attend_fwd_args *a,
                                  int part, st_arena *tmp)
{
    int64_t size = a->h.kv_len * m->knob[ROWS];
    assert(st_numel(m->projection) == (m->knob[SHARE] ? 1 : 2) * size);
    st_tensor e = st_slice(m->projection, part * size, size);
    if (a->h.q.x.dtype == ST_F32) return e;
    st_tensor cast = st_take1(tmp, a->h.q.x.dtype, size);
    st_stream_ops(q)->copy(q, &(st_copy_args){.x = e, .y = cast});
    return cast;
}

/* (batch, k, heads*head_dim) of the rows of t, a tensor of a's. */
static st_strided linformer_mix(st_stream *q, const st_attention *m, const st_attend_fwd_args *a,
                                st_tensor e, st_strided t, st_arena *tmp)
{
    int64_t width = a->h.heads * a->h.head_dim, k = m->knob[ROWS];
    st_gemm_args g = {.m = k, .n = width, .k = a->h.kv_len, .ta = 1, .batch = a->h.batch};
    g.ldb = t.stride;
    g.step_a = -1;
    g.step_b = t.step;
    g.a = e;
    g.b = t.x;
    g.c = st_take2(tmp, t.x.dtype, a->h.batch * k, width);
    st_stream_ops(q)->gemm(q, &g);
    return (st_strided){.x = g.c};
}

static void linformer_forward(st_stream *q, const st_attention *m, const st_attend_fwd_args *a,
                              st_arena *tmp)
{
    st_attend_fwd_args mixed = *a;
    st_tensor e = linformer_matrix(q, m, a, 0, tmp);
    mixed.h.k = linformer_mix(q, m, a, e, a->h.k, tmp);
    if (!m->knob[SHARE]) e = linformer_matrix(q, m, a, 1, tmp);
    mixed.h.v = linformer_mix(q, m, a, e, a->h.v, tmp);
    mixed.h.kv_len = m->knob[ROWS];
    st_stream_ops(q)->attend_fwd(q, &mixed);
}

const st_attention_type st_attention_linformer = {
    .name = "linformer",
    .summary = "exact softmax over random mixtures of the keys",
    .equation = "o_i = sum_c softmax_c(s q_i.(E^T K)_c) (F^T V)_c, E, F (N, k)",
    .source = "Wang et al. 2020",
    .acausal = "every mixed key contains later ones",
    .knob = {{"k", "mixed keys", 256, ST_KNOB_SHOWN},
             {"seed", "of the mixing matrices", 0, ST_KNOB_HIDDEN},
             {"share", "1: values are mixed as keys are", 0, ST_KNOB_HIDDEN}},
    .check = linformer_check,
    .forward = linformer_forward,
    .draw = linformer_draw,
};
