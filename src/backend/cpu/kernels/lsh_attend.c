/* Attention within clusters of an order (formulas: ref/lsh.c). The rows of a block of queries and
 * of one of keys are gathered side by side, and multiplied like those of full attention
 * (attention.h). Threads share clusters, hash after hash: a query is in one cluster of each.
 * Between hashes work keeps each query's maximum, total of weights and sum of weighted values. */
/* SPDX-License-Identifier: MIT */
#include "backend/cpu/kernels/attention.h"

enum { LSH_Q = ATTEND_Q / TILE_ROWS * TILE_ROWS }; /* queries in a block: whole tiles */

_Static_assert(2 * ATTEND_LONG * ATTEND_KEYS * (int)sizeof(float) <= ATTEND_ROOM, "tiles fit");

/* One block of queries of one cluster of one hash. */
typedef struct {
    const st_lsh_attend_args *a;
    attend_space s;
    gemm_view q, k, v;
    const int32_t *queries, *keys;  /* orders */
    float *q_rows, *k_rows;         /* gathered: (ATTEND_LONG, ATTEND_KEYS) each */
    float *kept;                    /* of the head, (q_len, 2 + head_dim): top, total, sums */
    int64_t hash, cluster, o_at, m; /* m: queries in the block */
    int32_t query[LSH_Q], key[ATTEND_KEYS];
    float inverse[ATTEND_KEYS]; /* of keys' lengths */
} lsh_block;

static inline void lsh_copy(float *to, const float *from, int64_t n)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vec_store(to + i, vec_load(from + i));
    for (; i < n; i++)
        to[i] = from[i];
}

/* rows (n; rows ld apart): `width` columns from c0 on of the rows of x that `which` names. */
static void lsh_gather(gemm_view x, const int32_t *which, int64_t n, int64_t c0, int64_t width,
                       float *rows, int64_t ld)
{
    for (int64_t i = 0; i < n; i++) {
        const void *from = gemm_at(x, which[i], c0).data;
        const float *row = floats_in(from, x.dtype, 0, width, rows + i * ld);
        if (x.dtype == ST_F32) lsh_copy(rows + i * ld, row, width);
    }
}

/* s.p (m, n) = q.k, in whole tiles: what stands behind the last row or column means nothing. */
static void lsh_scores(lsh_block *b, int64_t n)
{
    int64_t dim = b->a->h.head_dim;
    int64_t rows = (b->m + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS;
    int64_t cols = (n + TILE_COLS - 1) / TILE_COLS * TILE_COLS;
    for (int64_t j = 0; j < n; j++)
        b->inverse[j] = 0;
    for (int64_t c = 0; c < dim; c += ATTEND_KEYS) {
        int64_t width = at_most(dim - c, ATTEND_KEYS);
        gemm_view q = {b->q_rows, ST_F32, width, 1}, k = {b->k_rows, ST_F32, width, 1};
        lsh_gather(b->q, b->query, b->m, c, width, b->q_rows, width);
        lsh_gather(b->k, b->key, n, c, width, b->k_rows, width);
        attend_product(b->s, q, gemm_transposed(k), rows, cols, width, b->s.p, ATTEND_KEYS,
                       c ? 1.0f : 0.0f);
        for (int64_t j = 0; j < n && b->a->shared; j++) {
            const float *x = b->k_rows + j * width;
            float square = 0;
#pragma omp simd reduction(+ : square)
            for (int64_t i = 0; i < width; i++)
                square += x[i] * x[i];
            b->inverse[j] += square;
        }
    }
    for (int64_t j = 0; j < n; j++) {
        float length = sqrtf(b->inverse[j]);
        b->inverse[j] = 1.0f / (length > 1e-12f ? length : 1e-12f);
    }
}

/* Scores of a query with shared keys. */
static void lsh_shared(const lsh_block *b, int64_t i, int64_t n)
{
    float *p = b->s.p + i * ATTEND_KEYS, scale = b->a->scale;
    int32_t own = b->query[i];
#pragma omp simd
    for (int64_t j = 0; j < n; j++)
        p[j] = b->key[j] == own ? -5e4f : p[j] * scale * b->inverse[j];
}

/* Keys at places [j0, j0 + ATTEND_KEYS) of those of the cluster, less padding. */
static int64_t lsh_find_keys(lsh_block *b, int64_t j0)
{
    int64_t n = 0, end = at_most(st_lsh_keys(b->a), j0 + ATTEND_KEYS);
    for (int64_t j = j0; j < end; j++) {
        int32_t key = b->keys[st_lsh_place(b->a, b->cluster, j)];
        b->key[n] = key;
        n += key < b->a->h.kv_len;
    }
    return n;
}

/* Queries at places [t0, t0 + LSH_Q) of the cluster, less padding. */
static void lsh_find_queries(lsh_block *b, int64_t t0)
{
    const int32_t *order = b->queries + b->cluster * b->a->q_cluster;
    b->m = 0;
    for (int64_t t = t0; t < at_most(b->a->q_cluster, t0 + LSH_Q); t++) {
        b->query[b->m] = order[t];
        b->m += order[t] < b->a->h.q_len;
    }
}

static void lsh_begin(const lsh_block *b, int64_t c0, int64_t width)
{
    for (int64_t i = 0; i < b->m; i++) {
        const float *kept = b->kept + b->query[i] * (b->a->h.head_dim + 2);
        float *sum = b->s.sum[0] + i * ATTEND_DIM;
        b->s.top[i] = b->hash ? kept[0] : -INFINITY;
        b->s.total[i] = b->hash ? kept[1] : 0;
        for (int64_t c = 0; c < width; c++)
            sum[c] = b->hash ? kept[2 + c0 + c] : 0;
    }
}

/* What was summed is kept for the next hash, or is the output. */
static void lsh_end(const lsh_block *b, int64_t c0, int64_t width)
{
    const st_lsh_attend_args *a = b->a;
    for (int64_t i = 0; i < b->m; i++) {
        const float *sum = b->s.sum[0] + i * ATTEND_DIM;
        float buf[ATTEND_DIM], share = b->s.total[i] > 0 ? 1.0f / b->s.total[i] : 0.0f;
        int64_t at = b->o_at + b->query[i] * a->h.o.stride + c0;
        if (b->hash + 1 < a->hashes) {
            float *kept = b->kept + b->query[i] * (a->h.head_dim + 2);
            lsh_copy(kept + 2 + c0, sum, width);
            if (c0 + width < a->h.head_dim) continue; /* the next columns begin with the same */
            kept[0] = b->s.top[i];
            kept[1] = b->s.total[i];
            continue;
        }
        float *o = block_out(&a->h.o.x, at, buf);
        for (int64_t c = 0; c < width; c++)
            o[c] = sum[c] * share;
        block_done(&a->h.o.x, at, width, o);
    }
}

/* Columns [c0, c0 + width) of a block's sums. */
static void lsh_columns(lsh_block *b, int64_t c0, int64_t width)
{
    attend_space s = b->s;
    int64_t rows = (b->m + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS;
    lsh_begin(b, c0, width);
    for (int64_t j = 0; j < st_lsh_keys(b->a); j += ATTEND_KEYS) {
        int64_t n = lsh_find_keys(b, j);
        if (n == 0) continue;
        lsh_scores(b, n);
        for (int64_t i = 0; i < b->m; i++) {
            float *p = s.p + i * ATTEND_KEYS, *sum = s.sum[0] + i * ATTEND_DIM;
            if (b->a->shared) lsh_shared(b, i, n);
            float shrink = attend_softmax_row(p, n, n, b->a->shared ? 1.0f : b->a->scale, &s.top[i],
                                              &s.total[i]);
            for (int64_t c = 0; c < width; c++)
                sum[c] *= shrink;
        }
        gemm_view v = {b->k_rows, ST_F32, width, 1};
        lsh_gather(b->v, b->key, n, c0, width, b->k_rows, width);
        attend_product(s, gemm_cells(s.p, rows, n, ATTEND_KEYS), v, rows, width, n, s.sum[0],
                       ATTEND_DIM, 1);
    }
    lsh_end(b, c0, width);
}

static lsh_block lsh_block_of(const st_stream *q, const st_lsh_attend_args *a, int64_t pair,
                              int64_t hash)
{
    int64_t i = pair / a->h.heads, x = pair % a->h.heads * a->h.head_dim;
    int64_t order = (pair * a->hashes + hash) * a->clusters;
    lsh_block b = {.a = a, .s = attend_space_of(q, omp_get_thread_num()), .hash = hash};
    b.q = attend_view(a->h.q.x, i * a->h.q.step + x, a->h.q.stride);
    b.k = attend_view(a->h.k.x, i * a->h.k.step + x, a->h.k.stride);
    b.v = attend_view(a->h.v.x, i * a->h.v.step + x, a->h.v.stride);
    b.o_at = i * a->h.o.step + x;
    b.queries = (const int32_t *)a->q_order.data + order * a->q_cluster;
    b.keys = (const int32_t *)a->k_order.data + order * a->k_cluster;
    b.q_rows = b.s.dot + ATTEND_Q;
    b.k_rows = b.q_rows + ATTEND_LONG * ATTEND_KEYS;
    if (a->hashes > 1) b.kept = (float *)a->work.data + pair * a->h.q_len * (a->h.head_dim + 2);
    return b;
}

void KERNEL(lsh_attend)(st_stream *q, const st_lsh_attend_args *given)
{
    st_lsh_attend_args a = st_lsh_attend_resolve(given);
    int64_t pairs = a.h.batch * a.h.heads, blocks = (a.q_cluster + LSH_Q - 1) / LSH_Q;
    int parts = st_parts(q, pairs * a.h.q_len * st_lsh_keys(&a) * a.h.head_dim / 8);
    assert(!a.shared || (a.clusters >= 2 && a.h.kv_len == a.h.q_len));
    for (int64_t hash = 0; hash < a.hashes; hash++) {
#pragma omp parallel for num_threads(parts) schedule(dynamic)
        for (int64_t unit = 0; unit < pairs * a.clusters * blocks; unit++) {
            lsh_block b = lsh_block_of(q, &a, unit / blocks / a.clusters, hash);
            b.cluster = unit / blocks % a.clusters;
            lsh_find_queries(&b, unit % blocks * LSH_Q);
            for (int64_t c = 0; c < a.h.head_dim && b.m; c += ATTEND_DIM)
                lsh_columns(&b, c, at_most(a.h.head_dim - c, ATTEND_DIM));
        }
    }
}
