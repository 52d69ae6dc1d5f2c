/* What attention of every kind shares: a thread's blocks, a head's matrices, which keys a query
 * sees, products of blocks and the softmax of a row. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_ATTENTION_H
#define ST_ATTENTION_H

#include "backend/cpu/kernels/drop.h"
#include "backend/cpu/kernels/panels.h"

#define attend_product     KERNEL(attend_product)
#define attend_softmax_row KERNEL(attend_softmax_row)
#define attend_fwd_weights KERNEL(attend_fwd_weights)

enum { ATTEND_Q = 112, ATTEND_KEYS = 224, ATTEND_DIM = 128 }; /* 197 tokens: 2 x 1 blocks */

_Static_assert(ATTEND_KEYS % TILE_COLS == 0 && ATTEND_DIM % TILE_COLS == 0, "whole panels");

/* One thread's blocks. Panels of up to `rows` rows and `cols` columns take (rows + TILE) * cols. */
enum {
    ATTEND_LONG = ATTEND_KEYS + 32, /* keys, or queries, with a tile to spare */
    ATTEND_PANEL = ATTEND_LONG * ATTEND_LONG,
};

typedef struct {
    float *p, *dp;           /* (ATTEND_Q, ATTEND_KEYS) probabilities, and gradients of scores */
    gemm_cell *left, *right; /* packed panels of the two factors */
    float *sum[2];           /* (ATTEND_KEYS, ATTEND_DIM) sums of outputs or gradients */
    float *top, *total, *dot;
} attend_space;

/* What is left of a thread's scratch beside them. */
enum {
    ATTEND_ROOM = (int)ST_CPU_SCRATCH - (2 * ATTEND_Q * ATTEND_KEYS + 2 * ATTEND_PANEL +
                                         2 * ATTEND_KEYS * ATTEND_DIM + 3 * ATTEND_Q) *
                                            (int)sizeof(float)
};

_Static_assert(ATTEND_ROOM >= 0, "blocks fit the scratch");

static attend_space attend_space_of(const st_stream *q, int part)
{
    float *at = (float *)(void *)st_cpu_scratch(q, part);
    attend_space s = {.p = at, .dp = at + ATTEND_Q * ATTEND_KEYS};
    float *panels = s.dp + ATTEND_Q * ATTEND_KEYS;
    s.left = (gemm_cell *)(void *)panels;
    s.right = (gemm_cell *)(void *)(panels + ATTEND_PANEL);
    s.sum[0] = panels + 2 * ATTEND_PANEL;
    s.sum[1] = s.sum[0] + ATTEND_KEYS * ATTEND_DIM;
    s.top = s.sum[1] + ATTEND_KEYS * ATTEND_DIM;
    s.total = s.top + ATTEND_Q;
    s.dot = s.total + ATTEND_Q;
    return s;
}

/* One head's matrices (rows of tokens), and its first dropout number and lse. */
typedef struct {
    const st_attend_fwd_args *a;
    gemm_view q, k, v, o, go;
    int64_t number, lse; /* of query 0 */
    int64_t q_at, k_at, v_at, o_at;
} attend_head;

static gemm_view attend_view(st_tensor t, int64_t at, int64_t stride)
{
    gemm_view v = {t.data, t.dtype, stride, 1};
    if (t.data) v.data = (const char *)t.data + at * (int64_t)st_dtype_size(t.dtype);
    return v;
}

static attend_head attend_head_of(const st_attend_fwd_args *a, int64_t index)
{
    int64_t i = index / a->h.heads, x = index % a->h.heads * a->h.head_dim;
    int64_t kv = index % a->h.heads / (a->h.heads / a->h.kv_heads) * a->h.head_dim;
    attend_head h = {.a = a, .lse = index * a->h.q_len, .number = index * a->h.q_len * a->h.kv_len};
    h.q_at = i * a->h.q.step + x;
    h.k_at = i * a->h.k.step + kv;
    h.v_at = i * a->h.v.step + kv;
    h.o_at = i * a->h.o.step + x;
    h.q = attend_view(a->h.q.x, h.q_at, a->h.q.stride);
    h.k = attend_view(a->h.k.x, h.k_at, a->h.k.stride);
    h.v = attend_view(a->h.v.x, h.v_at, a->h.v.stride);
    h.o = attend_view(a->h.o.x, h.o_at, a->h.o.stride);
    h.go = attend_view(a->go, h.o_at, a->h.o.stride);
    return h;
}

/* Query t sees keys [attend_hidden, attend_seen) of [j0, j0 + n). */
static int64_t attend_seen(const st_attend_fwd_args *a, int64_t t, int64_t j0, int64_t n)
{
    int64_t seen = st_attend_keys(a, t) - j0;
    return seen < 0 ? 0 : at_most(seen, n);
}
static int64_t attend_hidden(const st_attend_fwd_args *a, int64_t t, int64_t j0, int64_t n)
{
    int64_t hidden = st_attend_first(a, t) - j0;
    return hidden < 0 ? 0 : at_most(hidden, n);
}

static void attend_drop(const attend_head *h, int64_t t, int64_t j0, int64_t n, float *mask)
{
    drop_mask(mask, h->a->seed, h->number + t * h->a->h.kv_len + j0, n, h->a->drop);
}

/* ---- forward --------------------------------------------------------------------------------- */

/* c (m, n; rows ldc apart) = beta c + x y, where x (m, k) and y (k, n) lie anywhere. Blocks are at
 * most ATTEND_KEYS in every direction, but for k or n along a head, which is sliced. */
void attend_product(attend_space s, gemm_view x, gemm_view y, int64_t m, int64_t n, int64_t k,
                    float *c, int64_t ldc, float beta);

/* Scores of a row become weights e^(s - top), 0 from `seen` on; what was summed before is rescaled
 * by the return value. */
float attend_softmax_row(float *p, int64_t seen, int64_t n, float scale, float *top, float *total);

/* Weights of queries [t0, t0 + m) and keys [j0, j0 + n), and the sums so far made to fit them. */
void attend_fwd_weights(const attend_head *h, attend_space s, int64_t t0, int64_t m, int64_t j0,
                        int64_t n, int64_t width);

#endif
