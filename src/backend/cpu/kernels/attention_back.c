/* The gradients of attention.c's attention: probabilities are computed again from lse. */
/* SPDX-License-Identifier: MIT */
#include "backend/cpu/kernels/attention.h"
#include "backend/cpu/kernels/sums.h"

/* D of the formulas: dot[i] = go.o of queries [t0, t0 + m). */
static void attend_bwd_dots(const attend_head *h, attend_space s, int64_t t0, int64_t m)
{
    const st_attend_bwd_args *a = h->a;
    for (int64_t i = 0; i < m; i++) {
        int64_t at = h->o_at + (t0 + i) * a->h.o.stride;
        s.dot[i] = (float)sum_dot(&a->go, &a->h.o.x, (st_span){at, at + a->h.head_dim});
    }
}

/* For queries [t0, t0 + m) and keys [j0, j0 + n): s.p = kept weights m p, s.dp = scale ds. */
static void attend_bwd_weights(const attend_head *h, attend_space s, int64_t t0, int64_t m,
                               int64_t j0, int64_t n)
{
    const st_attend_bwd_args *a = h->a;
    const float *lse = (const float *)a->lse.data + h->lse + t0;
    attend_product(s, gemm_at(h->q, t0, 0), gemm_transposed(gemm_at(h->k, j0, 0)), m, n,
                   a->h.head_dim, s.p, ATTEND_KEYS, 0);
    attend_product(s, gemm_at(h->go, t0, 0), gemm_transposed(gemm_at(h->v, j0, 0)), m, n,
                   a->h.head_dim, s.dp, ATTEND_KEYS, 0);
    attend_bwd_dots(h, s, t0, m);
    for (int64_t i = 0; i < m; i++) {
        float *p = s.p + i * ATTEND_KEYS, *dp = s.dp + i * ATTEND_KEYS, mask[ATTEND_KEYS];
        int64_t seen = attend_seen(a, t0 + i, j0, n), hidden = attend_hidden(a, t0 + i, j0, n);
        float scale = a->scale, top = lse[i], dot = s.dot[i];
        for (int64_t j = 0; j < seen; j++)
            mask[j] = 1;
        if (a->drop > 0) attend_drop(h, t0 + i, j0, seen, mask);
#pragma omp simd
        for (int64_t j = hidden; j < seen; j++) {
            float weight = fast_exp(p[j] * scale - top);
            dp[j] = scale * weight * (mask[j] * dp[j] - dot);
            p[j] = weight * mask[j];
        }
        for (int64_t j = 0; j < hidden; j++)
            p[j] = dp[j] = 0;
        for (int64_t j = seen; j < n; j++)
            p[j] = dp[j] = 0;
    }
}

/* Rows of sums to rows of a gradient. */
static void attend_bwd_write(const st_tensor *g, int64_t at, int64_t stride, const float *sum,
                             int64_t rows, int64_t width)
{
    for (int64_t i = 0; i < rows; i++) {
        float buf[ATTEND_DIM], *to = block_out(g, at + i * stride, buf);
        memcpy(to, sum + i * ATTEND_DIM, (size_t)width * sizeof *to);
        block_done(g, at + i * stride, width, to);
    }
}

/* Sums of a head's gq, row 0 at `at`; NULL: not wanted. */
typedef struct {
    float *at;
    int64_t ld;
} attend_all;

/* Where a head's gq is summed: in its own memory or, bf16, beside the blocks, as its group's g-th.
 */
static attend_all attend_all_of(const attend_head *h, attend_space s, int64_t g, int64_t c0)
{
    const st_attend_bwd_args *a = h->a;
    if (a->gq.dtype == ST_F32)
        return (attend_all){(float *)a->gq.data + h->q_at + c0, a->h.q.stride};
    return (attend_all){s.dot + ATTEND_Q + g * a->h.q_len * ATTEND_DIM, ATTEND_DIM};
}

/* What head h adds to the sums of gk and gv of keys [j0, j0 + n), columns [c0, c0 + width), and
 * these keys to `all`, which the first keys set: every query sees key 0, but for a window. */
static void attend_bwd_keys(const attend_head *h, attend_space s, int64_t j0, int64_t n, int64_t c0,
                            int64_t width, attend_all all)
{
    const st_attend_bwd_args *a = h->a;
    int64_t first = a->causal && j0 > a->q_start ? (j0 - a->q_start) / ATTEND_Q * ATTEND_Q : 0;
    int64_t end = st_attend_queries(a, j0 + n - 1);
    for (int64_t t = first; t < end; t += ATTEND_Q) {
        int64_t m = at_most(end - t, ATTEND_Q);
        attend_bwd_weights(h, s, t, m, j0, n);
        attend_product(s, gemm_transposed(gemm_cells(s.dp, m, n, ATTEND_KEYS)),
                       gemm_at(h->q, t, c0), n, width, m, s.sum[0], ATTEND_DIM, 1);
        attend_product(s, gemm_transposed(gemm_cells(s.p, m, n, ATTEND_KEYS)),
                       gemm_at(h->go, t, c0), n, width, m, s.sum[1], ATTEND_DIM, 1);
        if (!all.at) continue;
        attend_product(s, gemm_cells(s.dp, m, n, ATTEND_KEYS), gemm_at(h->k, j0, c0), m, width, n,
                       all.at + t * all.ld, all.ld, j0 || a->window ? 1.0f : 0.0f);
    }
}

/* Key head `kv`, which a group of heads reads: gk and gv of keys [j0, j0 + n); gq too if `whole`.
 */
static void attend_bwd_group(const st_attend_bwd_args *a, attend_space s, int64_t kv, int64_t j0,
                             int64_t n, int64_t c0, int64_t width, bool whole)
{
    int64_t group = a->h.heads / a->h.kv_heads;
    attend_head h = attend_head_of(a, kv * group);
    memset(s.sum[0], 0, (size_t)(n * ATTEND_DIM) * sizeof(float));
    memset(s.sum[1], 0, (size_t)(n * ATTEND_DIM) * sizeof(float));
    for (int64_t g = 0; g < group; g++) {
        attend_all all = {0};
        h = attend_head_of(a, kv * group + g);
        if (whole) all = attend_all_of(&h, s, g, c0);
        for (int64_t t = 0; whole && a->window && j0 == 0 && t < a->h.q_len; t++)
            memset(all.at + t * all.ld, 0, (size_t)width * sizeof(float));
        attend_bwd_keys(&h, s, j0, n, c0, width, all);
    }
    attend_bwd_write(&a->gk, h.k_at + j0 * a->h.k.stride + c0, a->h.k.stride, s.sum[0], n, width);
    attend_bwd_write(&a->gv, h.v_at + j0 * a->h.v.stride + c0, a->h.v.stride, s.sum[1], n, width);
}

/* Columns [c0, c0 + width) of gq of queries [t0, t0 + m). */
static void attend_bwd_queries(const attend_head *h, attend_space s, int64_t t0, int64_t m,
                               int64_t c0, int64_t width)
{
    const st_attend_bwd_args *a = h->a;
    int64_t keys = st_attend_keys(a, t0 + m - 1);
    memset(s.sum[0], 0, (size_t)(m * ATTEND_DIM) * sizeof(float));
    for (int64_t j = st_attend_first(a, t0); j < keys; j += ATTEND_KEYS) {
        int64_t n = at_most(keys - j, ATTEND_KEYS);
        attend_bwd_weights(h, s, t0, m, j, n);
        attend_product(s, gemm_cells(s.dp, m, n, ATTEND_KEYS), gemm_at(h->k, j, c0), m, width, n,
                       s.sum[0], ATTEND_DIM, 1);
    }
    attend_bwd_write(&a->gq, h->q_at + t0 * a->h.q.stride + c0, a->h.q.stride, s.sum[0], m, width);
}

/* Unit `unit` of the backward pass: the queries' blocks of all heads, then the keys'; or, if a key
 * head is not cut, its keys' blocks one after the other, which give gq as well. */
static void attend_bwd_unit(const st_attend_bwd_args *a, attend_space s, int64_t unit, bool whole,
                            int64_t c0, int64_t width)
{
    int64_t heads = a->h.batch * a->h.heads, kv_heads = a->h.batch * a->h.kv_heads;
    int64_t blocks = whole ? 0 : (a->h.q_len + ATTEND_Q - 1) / ATTEND_Q;
    if (unit < heads * blocks) {
        attend_head h = attend_head_of(a, unit % heads);
        int64_t t = (blocks - 1 - unit / heads) * ATTEND_Q; /* long rows first */
        attend_bwd_queries(&h, s, t, at_most(a->h.q_len - t, ATTEND_Q), c0, width);
        return;
    }
    unit -= heads * blocks;
    int64_t j = unit / kv_heads * ATTEND_KEYS, kv = unit % kv_heads;
    do {
        attend_bwd_group(a, s, kv, j, at_most(a->h.kv_len - j, ATTEND_KEYS), c0, width, whole);
        j += ATTEND_KEYS;
    } while (whole && j < a->h.kv_len);
    int64_t group = a->h.heads / a->h.kv_heads;
    for (int64_t g = 0; whole && a->gq.dtype != ST_F32 && g < group; g++) {
        attend_head h = attend_head_of(a, kv * group + g);
        float *sums = attend_all_of(&h, s, g, c0).at;
        attend_bwd_write(&a->gq, h.q_at + c0, a->h.q.stride, sums, a->h.q_len, width);
    }
}

void KERNEL(attend_bwd)(st_stream *q, const st_attend_bwd_args *given)
{
    assert(!given->window || given->causal);
    st_attend_bwd_args a = st_attend_resolve(given);
    int64_t heads = a.h.batch * a.h.heads, kv_heads = a.h.batch * a.h.kv_heads;
    int parts = st_parts(q, heads * a.h.q_len * a.h.kv_len * a.h.head_dim / 4);
    int64_t rows = a.h.heads / a.h.kv_heads * a.h.q_len; /* of a group's gq */
    bool room = rows <= ATTEND_ROOM / (ATTEND_DIM * (int64_t)sizeof(float));
    bool whole = (a.gq.dtype == ST_F32 || room) && kv_heads >= parts;
    int64_t q_blocks = (a.h.q_len + ATTEND_Q - 1) / ATTEND_Q;
    int64_t blocks = (a.h.kv_len + ATTEND_KEYS - 1) / ATTEND_KEYS;
    int64_t units = whole ? kv_heads : heads * q_blocks + kv_heads * blocks;
    for (int64_t c = 0; c < a.h.head_dim; c += ATTEND_DIM) {
#pragma omp parallel for num_threads(parts) schedule(dynamic)
        for (int64_t unit = 0; unit < units; unit++) {
            attend_space s = attend_space_of(q, omp_get_thread_num());
            attend_bwd_unit(&a, s, unit, whole, c, at_most(a.h.head_dim - c, ATTEND_DIM));
        }
    }
}
