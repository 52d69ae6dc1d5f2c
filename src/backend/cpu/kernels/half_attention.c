/* Softmax attention over all keys for inference from bfloat16 (formulas: ref/attention.c). Keys and
 * values of a head are packed once for all queries that a thread takes; TILE_ROWS queries at a time
 * meet PAIRS_KEYS keys, and scores, weights and sums of these stay in the nearest cache levels. The
 * left factors of both products are read from rows a constant apart (gemm_rows), so they need no
 * panels. Weights are powers of 2, rounded to bfloat16 like the values that they meet; their sums
 * are float32. */
/* SPDX-License-Identifier: MIT */
#include "backend/cpu/kernels/attention.h"
#include "backend/cpu/kernels/half_rows.h"

enum {
    PAIRS_KEYS = 224, /* 197 tokens: one block */
    PAIRS_Q = 4 * TILE_ROWS,
    PAIRS_DIM = 128,
};

typedef struct {
    float *scores, *sum, *total; /* rows of PAIRS_KEYS, of PAIRS_DIM, of LANES parts of a sum */
    float *top, *shrink;
    gemm_cell *q, *weights, *k, *v; /* rows of PAIRS_DIM, of PAIRS_KEYS; panels */
} pairs_space;

enum {
    PAIRS_FLOATS = TILE_ROWS * PAIRS_KEYS + PAIRS_Q * (PAIRS_DIM + LANES + 2),
    PAIRS_CELLS = PAIRS_Q * PAIRS_DIM + TILE_ROWS * PAIRS_KEYS,
    PAIRS_ROOM = ((int)ST_CPU_SCRATCH - PAIRS_FLOATS * 4) / 2 - PAIRS_CELLS, /* cells of k and v */
};

static pairs_space pairs_space_of(const st_stream *q, int part, int64_t panels)
{
    pairs_space s = {.k = (gemm_cell *)(void *)st_cpu_scratch(q, part)};
    s.v = s.k + panels;
    s.q = s.v + panels;
    s.weights = s.q + PAIRS_Q * PAIRS_DIM;
    s.scores = (float *)(void *)(s.weights + TILE_ROWS * PAIRS_KEYS);
    s.sum = s.scores + TILE_ROWS * PAIRS_KEYS;
    s.total = s.sum + PAIRS_Q * PAIRS_DIM;
    s.top = s.total + PAIRS_Q * LANES;
    s.shrink = s.top + PAIRS_Q;
    return s;
}

/* Cells of a head's packed keys, and of its values. */
static int64_t pairs_panels(const st_attend_fwd_args *a)
{
    int64_t keys = (a->h.kv_len + TILE_COLS - 1) / TILE_COLS * TILE_COLS;
    return keys * a->h.head_dim;
}

static bool pairs_serve(const st_attend_fwd_args *a)
{
    return !a->lse.data && !a->causal && !a->window && !(a->drop > 0) && a->scale > 0 &&
           a->h.q_len >= 8 && a->h.head_dim % TILE_COLS == 0 && a->h.head_dim <= PAIRS_DIM &&
           2 * pairs_panels(a) <= PAIRS_ROOM;
}

/* 2^x within 2^-13 of itself for x <= 0: a product less than half_exp2, as a weight is rounded to
 * 2^-9 of itself next. */
static inline __m512 pairs_exp2(__m512 x)
{
    __m512 r = _mm512_reduce_ps(x, 1); /* x - floor(x) */
    __m512 p = _mm512_set1_ps(0.0780245226f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.226067155f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.695833541f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.999925222f));
    return _mm512_scalef_ps(p, x);
}

/* Scores of a query become weights 2^(scale s - top), zeros after them up to a pair of vectors. */
static void pairs_weights(pairs_space s, int64_t i, int64_t row, int64_t n, float scale)
{
    float *score = s.scores + i * PAIRS_KEYS, was = s.top[row];
    gemm_cell *weight = s.weights + i * PAIRS_KEYS;
    const __m512 none = _mm512_set1_ps(-INFINITY);
    __m512 most[2] = {none, none}, sum[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    if (n % TILE_COLS) {
        uint32_t have = half_mask(n % TILE_COLS);
        float *last = score + n / TILE_COLS * TILE_COLS;
        _mm512_storeu_ps(last, _mm512_mask_loadu_ps(none, (__mmask16)have, last));
        _mm512_storeu_ps(last + LANES,
                         _mm512_mask_loadu_ps(none, (__mmask16)(have >> LANES), last + LANES));
    }
    for (int64_t j = 0; j < n; j += TILE_COLS) {
        most[0] = _mm512_max_ps(_mm512_loadu_ps(score + j), most[0]);
        most[1] = _mm512_max_ps(_mm512_loadu_ps(score + j + LANES), most[1]);
    }
    float top = _mm512_reduce_max_ps(_mm512_max_ps(most[0], most[1])) * scale;
    top = top > was ? top : was;
    __m512 factor = _mm512_set1_ps(scale), less = _mm512_set1_ps(top);
    for (int64_t j = 0; j < n; j += TILE_COLS) {
        __m512 x0 = _mm512_fmsub_ps(_mm512_loadu_ps(score + j), factor, less);
        __m512 x1 = _mm512_fmsub_ps(_mm512_loadu_ps(score + j + LANES), factor, less);
        x0 = pairs_exp2(x0);
        x1 = pairs_exp2(x1);
        sum[0] = _mm512_add_ps(sum[0], x0);
        sum[1] = _mm512_add_ps(sum[1], x1);
        __m512bh both = _mm512_cvtne2ps_pbh(x1, x0);
        memcpy(weight + j, &both, sizeof both);
    }
    /* what was summed before and its total err alike, so this power may err too */
    float shrink = _mm512_cvtss_f32(pairs_exp2(_mm512_set1_ps(was - top)));
    vec total = vec_load(s.total + row * LANES) * shrink + (vec)_mm512_add_ps(sum[0], sum[1]);
    vec_store(s.total + row * LANES, total);
    s.top[row] = top;
    s.shrink[row] = shrink;
}

/* Queries [t, t + m) of a head whose keys and values are packed; m <= PAIRS_Q. */
static void pairs_block(const attend_head *h, pairs_space s, int64_t t, int64_t m)
{
    const st_attend_fwd_args *a = h->a;
    float scale = a->scale * 1.44269504f; /* powers of 2 instead of e */
    for (int64_t i = 0; i < PAIRS_Q; i++) {
        memcpy(s.q + i * PAIRS_DIM, gemm_at(h->q, t + at_most(i, m - 1), 0).data,
               (size_t)a->h.head_dim * sizeof *s.q);
        s.top[i] = -INFINITY;
    }
    memset(s.total, 0, PAIRS_Q * LANES * sizeof *s.total);
    memset(s.sum, 0, PAIRS_Q * PAIRS_DIM * sizeof *s.sum);
    for (int64_t j = 0; j < a->h.kv_len; j += PAIRS_KEYS) {
        int64_t n = at_most(a->h.kv_len - j, PAIRS_KEYS);
        for (int64_t i = 0; i < m; i += TILE_ROWS) {
            int64_t rows = at_most(m - i, TILE_ROWS);
            gemm_rows(rows, n, a->h.head_dim, s.q + i * PAIRS_DIM, PAIRS_DIM,
                      s.k + j * a->h.head_dim, a->h.head_dim, s.scores, PAIRS_KEYS, NULL);
            for (int64_t r = 0; r < rows; r++)
                pairs_weights(s, r, i + r, n, scale);
            gemm_rows(rows, a->h.head_dim, n, s.weights, PAIRS_KEYS, s.v + j * TILE_COLS,
                      gemm_depth(a->h.kv_len), s.sum + i * PAIRS_DIM, PAIRS_DIM, s.shrink + i);
        }
    }
    for (int64_t i = 0; i < m; i++) {
        vec share = vec_set(1.0f / vec_sum(vec_load(s.total + i * LANES)));
        uint16_t *o = (uint16_t *)a->h.o.x.data + h->o_at + (t + i) * a->h.o.stride;
        for (int64_t c = 0; c < a->h.head_dim; c += LANES)
            vec_narrow(o + c, vec_load(s.sum + i * PAIRS_DIM + c) * share);
    }
}

/* Threads share heads, or stretches of queries where heads are few. */
static void pairs_attend_fwd(st_stream *q, const st_attend_fwd_args *a)
{
    int parts = st_parts(q, a->h.batch * a->h.heads * a->h.q_len * a->h.kv_len * a->h.head_dim / 8);
    int64_t heads = a->h.batch * a->h.heads;
    int64_t cuts = heads % parts == 0 || heads > 4 * parts ? 1 : parts;
#pragma omp parallel for num_threads(parts) schedule(dynamic)
    for (int64_t unit = 0; unit < heads * cuts; unit++) {
        st_span part = st_part(a->h.q_len, TILE_ROWS, unit % cuts, cuts);
        if (part.lo >= part.hi) continue;
        attend_head h = attend_head_of(a, unit / cuts);
        pairs_space s = pairs_space_of(q, omp_get_thread_num(), pairs_panels(a));
        gemm_pack_b(s.k, h.k, a->h.kv_len, a->h.head_dim);
        gemm_pack_b(s.v, gemm_transposed(h.v), a->h.head_dim, a->h.kv_len);
        gemm_enter();
        for (int64_t t = part.lo; t < part.hi; t += PAIRS_Q)
            pairs_block(&h, s, t, at_most(part.hi - t, PAIRS_Q));
        gemm_leave();
    }
}

/* Weights are rounded: not where gradients will be taken, which felt it (2.5 % of a bias's). */
void half_attend_fwd(st_stream *q, const st_attend_fwd_args *a)
{
    st_attend_fwd_args all = st_attend_resolve(a);
    if (a->h.q.x.dtype != ST_BF16 || a->lse.data)
        st_cpu_wide(q)->attend_fwd(q, a);
    else if (pairs_serve(&all))
        pairs_attend_fwd(q, &all);
    else
        KERNEL(attend_fwd)(q, a);
}
