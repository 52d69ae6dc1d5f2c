/* Softmax attention (formulas: ref/attention.c) in blocks of queries and keys, so that memory does
 * not grow with their product (Milakov & Gimelshein 2018; Dao et al. 2022). Scores of a block are
 * products of packed panels (panels.h; where these hold bf16, weights are rounded to it); only
 * blocks that a causal mask leaves visible are computed. Forward keeps a running maximum and sum
 * for every query. Backward recomputes probabilities from lse. Threads share (batch item, head,
 * block) triples, each computed by one thread in a fixed order. A thread's scratch holds blocks of
 * heads up to ATTEND_DIM wide; wider ones are taken in slices. */
/* SPDX-License-Identifier: MIT */
#include "backend/cpu/kernels/attention.h"
#include "backend/cpu/kernels/rows.h"

void attend_product(attend_space s, gemm_view x, gemm_view y, int64_t m, int64_t n, int64_t k,
                    float *c, int64_t ldc, float beta)
{
    for (int64_t z = 0; z < k; z += ATTEND_KEYS) {
        int64_t depth = at_most(k - z, ATTEND_KEYS);
        gemm_pack_a(s.left, gemm_at(x, 0, z), m, depth);
        gemm_pack_b(s.right, gemm_transposed(gemm_at(y, z, 0)), n, depth);
        gemm_enter();
        gemm_block(m, n, depth, s.left, s.right, (gemm_sink){c, ldc, NULL, z ? 1.0f : beta, NULL});
        gemm_leave();
    }
}

float attend_softmax_row(float *p, int64_t seen, int64_t n, float scale, float *top, float *total)
{
    float most = -INFINITY, sum = 0;
#pragma omp simd reduction(max : most)
    for (int64_t j = 0; j < seen; j++)
        most = p[j] > most ? p[j] : most;
    most = most * scale > *top ? most * scale : *top;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < seen; j++) {
        p[j] = fast_exp(p[j] * scale - most);
        sum += p[j];
    }
    for (int64_t j = seen; j < n; j++)
        p[j] = 0;
    float shrink = *top == -INFINITY ? 0 : fast_exp(*top - most);
    *total = *total * shrink + sum;
    *top = most;
    return shrink;
}

/* Weights of queries [t0, t0 + m) and keys [j0, j0 + n), and the sums so far made to fit them. */
void attend_fwd_weights(const attend_head *h, attend_space s, int64_t t0, int64_t m, int64_t j0,
                        int64_t n, int64_t width)
{
    const st_attend_fwd_args *a = h->a;
    attend_product(s, gemm_at(h->q, t0, 0), gemm_transposed(gemm_at(h->k, j0, 0)), m, n,
                   a->h.head_dim, s.p, ATTEND_KEYS, 0);
    for (int64_t i = 0; i < m; i++) {
        float *p = s.p + i * ATTEND_KEYS, mask[ATTEND_KEYS];
        int64_t seen = attend_seen(a, t0 + i, j0, n), hidden = attend_hidden(a, t0 + i, j0, n);
        if (seen <= hidden) {
            memset(p, 0, (size_t)n * sizeof *p);
            continue;
        }
        memset(p, 0, (size_t)hidden * sizeof *p);
        float shrink = attend_softmax_row(p + hidden, seen - hidden, n - hidden, a->scale,
                                          &s.top[i], &s.total[i]);
        float *sum = s.sum[0] + i * ATTEND_DIM;
        for (int64_t c = 0; c < width; c++)
            sum[c] *= shrink;
        if (!(a->drop > 0)) continue;
        attend_drop(h, t0 + i, j0, seen, mask);
        for (int64_t j = 0; j < seen; j++)
            p[j] *= mask[j];
    }
}

/* Columns [c0, c0 + width) of the output of queries [t0, t0 + m). */
static void attend_fwd_block(const attend_head *h, attend_space s, int64_t t0, int64_t m,
                             int64_t c0, int64_t width)
{
    const st_attend_fwd_args *a = h->a;
    int64_t first = st_attend_first(a, t0), keys = st_attend_keys(a, t0 + m - 1);
    for (int64_t i = 0; i < m; i++)
        s.top[i] = -INFINITY, s.total[i] = 0;
    memset(s.sum[0], 0, (size_t)(m * ATTEND_DIM) * sizeof(float));
    for (int64_t j = first; j < keys; j += ATTEND_KEYS) {
        int64_t n = at_most(keys - j, ATTEND_KEYS);
        attend_fwd_weights(h, s, t0, m, j, n, width);
        attend_product(s, gemm_cells(s.p, m, n, ATTEND_KEYS), gemm_at(h->v, j, c0), m, width, n,
                       s.sum[0], ATTEND_DIM, 1);
    }
    for (int64_t i = 0; i < m; i++) {
        float buf[ATTEND_DIM], *sum = s.sum[0] + i * ATTEND_DIM;
        float share = s.total[i] > 0 ? 1.0f / s.total[i] : 0.0f;
        int64_t at = h->o_at + (t0 + i) * a->h.o.stride + c0;
        float *o = block_out(&a->h.o.x, at, buf);
        for (int64_t c = 0; c < width; c++)
            o[c] = sum[c] * share;
        block_done(&a->h.o.x, at, width, o);
        float *lse = a->lse.data;
        if (lse && c0 == 0) lse[h->lse + t0 + i] = s.top[i] + logf(s.total[i]);
    }
}

/* ---- few queries: products of a row need no panels ------------------------------------------- */

/* Columns [c0, c0 + width) of one query's output. */
static void attend_fwd_query(const attend_head *h, attend_space s, int64_t t, int64_t c0,
                             int64_t width)
{
    const st_attend_fwd_args *a = h->a;
    int64_t first = st_attend_first(a, t), keys = st_attend_keys(a, t);
    int64_t at = h->o_at + t * a->h.o.stride;
    float *sum = s.sum[0], *query = (float *)(void *)s.left, top = -INFINITY, total = 0,
          mask[ATTEND_KEYS];
    st_tensor qt = a->h.q.x;
    for (int64_t c = 0; c < width; c++)
        sum[c] = 0;
    for (int64_t j = first; j < keys; j += ATTEND_KEYS) {
        int64_t n = at_most(keys - j, ATTEND_KEYS);
        st_tensor scores = st_view1(s.p, ST_F32, n);
        rows_part dots = {.m = 1,
                          .k = a->h.head_dim,
                          .ldb = a->h.k.stride,
                          .dtype = a->h.k.x.dtype,
                          .c = scores,
                          .row = n,
                          .col = 1};
        dots.a = rows_gather(&qt, h->q_at + t * a->h.q.stride, 0, 1, 1, a->h.head_dim, query);
        dots.b = gemm_at(h->k, j, 0).data;
        rows_across(&dots, (st_span){0, n});
        float shrink = attend_softmax_row(s.p, n, n, a->scale, &top, &total);
        if (a->drop > 0) {
            attend_drop(h, t, j, n, mask);
            for (int64_t i = 0; i < n; i++)
                s.p[i] *= mask[i];
        }
        rows_part mix = {.m = 1,
                         .k = n,
                         .ldb = a->h.v.stride,
                         .dtype = a->h.v.x.dtype,
                         .a = s.p,
                         .c = st_view1(sum, ST_F32, width),
                         .row = width,
                         .col = 1,
                         .beta = shrink};
        mix.b = gemm_at(h->v, j, c0).data;
        rows_down(&mix, (st_span){0, width}, (st_span){0, n}, NULL);
    }
    float buf[ATTEND_DIM], *o = block_out(&a->h.o.x, at + c0, buf), *lse = a->lse.data;
    for (int64_t c = 0; c < width; c++)
        o[c] = total > 0 ? sum[c] / total : 0.0f;
    block_done(&a->h.o.x, at + c0, width, o);
    if (lse && c0 == 0) lse[h->lse + t] = top + logf(total);
}

/* Queries in a block. One reads window + step keys for its step queries: a narrow window wants
 * few, packed panels want many. */
static int64_t attend_step(const st_attend_fwd_args *a)
{
    int64_t tiles = a->window / 2 / TILE_ROWS + 1;
    return a->window ? at_most(tiles * TILE_ROWS, ATTEND_Q) : ATTEND_Q;
}

void KERNEL(attend_fwd)(st_stream *q, const st_attend_fwd_args *given)
{
    st_attend_fwd_args a = st_attend_resolve(given);
    bool few = a.h.q_len < 8 && (size_t)a.h.head_dim <= ATTEND_PANEL;
    int64_t step = few ? 1 : attend_step(&a), blocks = (a.h.q_len + step - 1) / step;
    int64_t keys = a.window ? at_most(a.window + step, a.h.kv_len) : a.h.kv_len;
    int parts = st_parts(q, a.h.batch * a.h.heads * a.h.q_len * keys * a.h.head_dim / 8);
    int64_t units = a.h.batch * a.h.heads * blocks;
#pragma omp parallel for num_threads(parts) schedule(dynamic)
    for (int64_t unit = 0; unit < units; unit++) {
        attend_space s = attend_space_of(q, omp_get_thread_num());
        attend_head h = attend_head_of(&a, unit % (a.h.batch * a.h.heads));
        int64_t t = (blocks - 1 - unit / (a.h.batch * a.h.heads)) * step; /* long rows first */
        for (int64_t c = 0; c < a.h.head_dim; c += ATTEND_DIM) {
            int64_t width = at_most(a.h.head_dim - c, ATTEND_DIM);
            if (few)
                attend_fwd_query(&h, s, t, c, width);
            else
                attend_fwd_block(&h, s, t, at_most(a.h.q_len - t, step), c, width);
        }
    }
}
