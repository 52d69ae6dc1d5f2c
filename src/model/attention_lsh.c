/* Attention among rows of like hashes: smyrf and reformer. Rows are sorted by locality-sensitive
 * hashes and cut into clusters of equal size, a few times with other hashes; a query attends
 * exactly to the keys of its clusters. O(N (cluster + log N)). Padding up to whole clusters is not
 * seen. */
/* SPDX-License-Identifier: MIT */
#include "model/attention.h"
#include <assert.h>

enum { LSH_HASHES = 64, LSH_TOKENS = 1 << 30 }; /* at most */

static st_status lsh_check(const st_attention *m, const st_attention_shape *s, int hashes, int seed,
                           st_err *e)
{
    ST_TRY(attention_range(m, hashes, 1, LSH_HASHES, "hashes, each with its clusters", e));
    ST_TRY(attention_range(m, seed, 0, INT64_MAX, "any number from 0 on", e));
    if (s->head_dim <= ST_LSH_DIM && s->q_len <= LSH_TOKENS && s->kv_len <= LSH_TOKENS)
        return ST_OK;
    ST_FAIL(e, ST_EUNSUPPORTED,
            "attention %s: %lld queries and %lld keys of %lld numbers; at most %d of %d",
            m->type->name, (long long)s->q_len, (long long)s->kv_len, (long long)s->head_dim,
            LSH_TOKENS, ST_LSH_DIM);
}

/* As many as whole pieces of `size` take. */
static int64_t lsh_pieces(int64_t n, int64_t size)
{
    return (n + size - 1) / size;
}

static int64_t lsh_least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* The order of the queries, still without size and hashes. */
static st_lsh_order_args lsh_order_args(const st_lsh_attend_args *a, st_tensor w)
{
    return (st_lsh_order_args){.h = a->h, .hashes = a->hashes, .w = w};
}

static st_tensor lsh_order(st_stream *q, st_lsh_order_args *a, st_arena *tmp)
{
    a->order = st_take1(tmp, ST_I32, a->h.batch * a->h.heads * a->hashes * a->total);
    size_t mark = st_arena_mark(tmp);
    a->work = st_take1(tmp, ST_F32, st_lsh_work(a));
    st_stream_ops(q)->lsh_order(q, a);
    st_arena_rewind(tmp, mark);
    return a->order;
}

static void lsh_attend(st_stream *q, st_lsh_attend_args *a, st_arena *tmp)
{
    int64_t work = st_lsh_attend_work(a);
    if (work) a->work = st_take1(tmp, ST_F32, work);
    st_stream_ops(q)->lsh_attend(q, a);
}

/* ---- smyrf ----------------------------------------------------------------------------------- */

enum { HASHES, Q_CLUSTER, K_CLUSTER, SEED };

static st_status smyrf_check(st_attention *m, const st_attention_shape *s, st_err *e)
{
    int64_t *knob = m->knob;
    attention_choose(m, Q_CLUSTER, s->q_len, 64);
    ST_TRY(attention_range(m, Q_CLUSTER, 1, INT32_MAX, "queries of a cluster", e));
    int64_t clusters = lsh_pieces(s->q_len, knob[Q_CLUSTER]);
    if (knob[K_CLUSTER] == 0)
        knob[K_CLUSTER] = s->kv_len == s->q_len ? knob[Q_CLUSTER] : lsh_pieces(s->kv_len, clusters);
    ST_TRY(attention_range(m, K_CLUSTER, 1, INT32_MAX, "keys of a cluster", e));
    ST_TRY(lsh_check(m, s, HASHES, SEED, e));
    if (clusters == lsh_pieces(s->kv_len, knob[K_CLUSTER])) return ST_OK;
    ST_FAIL(e, ST_ESHAPE,
            "attention smyrf: q_cluster=%lld cuts %lld queries into %lld clusters, k_cluster=%lld "
            "%lld keys into %lld; they must be as many",
            (long long)knob[Q_CLUSTER], (long long)s->q_len, (long long)clusters,
            (long long)knob[K_CLUSTER], (long long)s->kv_len,
            (long long)lsh_pieces(s->kv_len, knob[K_CLUSTER]));
}

/* (hashes, head_dim + 2), the last two columns for the lengths of keys and of queries. */
static st_tensor smyrf_draw(st_stream *q, const st_attention *m, const st_attention_shape *s,
                            uint64_t layer, st_arena *from)
{
    st_directions_args d = {.rows = m->knob[HASHES],
                            .cols = s->head_dim + 2,
                            .seed = (uint64_t)m->knob[SEED],
                            .stream = layer,
                            .std = 1};
    return attention_directions(q, d, from);
}

/* Padding comes last among the keys, and among the queries where there are as many: else those are
 * sorted by the hash of a row of zeros. */
static void smyrf_forward(st_stream *q, const st_attention *m, const st_attend_fwd_args *a,
                          st_arena *tmp)
{
    st_lsh_attend_args l = {.h = a->h, .scale = a->scale, .hashes = m->knob[HASHES]};
    l.q_cluster = lsh_least(m->knob[Q_CLUSTER], a->h.q_len);
    l.k_cluster = lsh_least(m->knob[K_CLUSTER], a->h.kv_len);
    l.clusters = lsh_pieces(a->h.q_len, l.q_cluster);
    st_lsh_order_args x = lsh_order_args(&l, m->projection), y = x;
    assert(st_numel(x.w) == l.hashes * (a->h.head_dim + 2));
    int64_t q_total = l.clusters * l.q_cluster, k_total = l.clusters * l.k_cluster;
    x.total = q_total;
    x.sorted = q_total == k_total ? a->h.kv_len : q_total;
    x.mirrored = 1;
    l.q_order = lsh_order(q, &x, tmp);
    y.h.q = a->h.k;
    y.h.k = a->h.q;
    y.h.q_len = y.sorted = a->h.kv_len;
    y.h.kv_len = a->h.q_len;
    y.total = k_total;
    l.k_order = lsh_order(q, &y, tmp);
    lsh_attend(q, &l, tmp);
}

const st_attention_type st_attention_smyrf = {
    .name = "smyrf",
    .summary = "exact softmax within clusters of queries and keys of like hashes (SMYRF)",
    .equation =
        "o_i = sum_{j in C(i)} softmax_j(s q_i.k_j) v_j, C(i) = the clusters of i, sorted by "
        "w.(q, 0, far), w.(k, far, 0)",
    .source = "Daras et al. 2020",
    .acausal =
        "clusters are cut from all tokens in the order of their hashes, so later ones decide "
        "which earlier ones a token sees",
    .knob = {{"hashes", "times that tokens are hashed and clustered, 1 to 64", 2, ST_KNOB_SHOWN},
             {"q_cluster", "queries of a cluster, 1 or more; 0: 1/64 of all", 0, ST_KNOB_HIDDEN},
             {"k_cluster", "keys of a cluster, in as many clusters; 0: so many", 0, ST_KNOB_HIDDEN},
             {"seed", "of the hashes' directions", 0, ST_KNOB_HIDDEN}},
    .check = smyrf_check,
    .forward = smyrf_forward,
    .draw = smyrf_draw,
};

/* ---- reformer -------------------------------------------------------------------------------- */

enum { R_HASHES, R_BUCKET, R_SEED };

static st_status reformer_check(st_attention *m, const st_attention_shape *s, st_err *e)
{
    attention_choose(m, R_BUCKET, s->q_len, 64);
    ST_TRY(attention_range(m, R_BUCKET, 1, INT32_MAX, "queries of a bucket", e));
    ST_TRY(lsh_check(m, s, R_HASHES, R_SEED, e));
    if (s->q_len == s->kv_len) return ST_OK;
    ST_FAIL(e, ST_ESHAPE,
            "attention reformer: %lld queries and %lld keys; queries are its keys, so they must be "
            "as many",
            (long long)s->q_len, (long long)s->kv_len);
}

/* Tokens of a bucket, and buckets for `len` tokens. Two buckets see each other, so that larger ones
 * than half of the tokens change nothing. */
static int64_t reformer_bucket(const st_attention *m, int64_t len)
{
    return lsh_least(m->knob[R_BUCKET], lsh_pieces(len, 2));
}
static int64_t reformer_buckets(const st_attention *m, int64_t len)
{
    return 2 * lsh_pieces(len, 2 * reformer_bucket(m, len));
}

/* (hashes, buckets / 2, head_dim). */
static st_tensor reformer_draw(st_stream *q, const st_attention *m, const st_attention_shape *s,
                               uint64_t layer, st_arena *from)
{
    st_directions_args d = {.rows = m->knob[R_HASHES] * reformer_buckets(m, s->q_len) / 2,
                            .cols = s->head_dim,
                            .seed = (uint64_t)m->knob[R_SEED],
                            .stream = layer,
                            .std = 1};
    return attention_directions(q, d, from);
}

/* Padding is rows of zeros, all of hash 0. */
static void reformer_forward(st_stream *q, const st_attention *m, const st_attend_fwd_args *a,
                             st_arena *tmp)
{
    st_lsh_attend_args l = {.h = a->h, .scale = a->scale, .hashes = m->knob[R_HASHES]};
    l.q_cluster = reformer_bucket(m, a->h.q_len);
    l.clusters = reformer_buckets(m, a->h.q_len);
    l.shared = 1;
    l.h.k = (st_strided){0};
    st_lsh_order_args x = lsh_order_args(&l, m->projection);
    assert(st_numel(x.w) == l.hashes * l.clusters / 2 * a->h.head_dim);
    x.total = l.clusters * l.q_cluster;
    x.buckets = l.clusters;
    l.q_order = lsh_order(q, &x, tmp);
    lsh_attend(q, &l, tmp);
}

const st_attention_type st_attention_reformer = {
    .name = "reformer",
    .summary = "exact softmax among queries of like hashes, which are the keys too (Reformer)",
    .equation =
        "o_i = sum_{j in C(i)} softmax_j(s q_i.q_j / |q_j|) v_j, C(i) = i's buckets, sorted "
        "by argmax [w.q, -w.q], and those before",
    .source = "Kitaev et al. 2020",
    .acausal = "buckets are cut from all tokens in the order of their hashes, so later ones decide "
               "which earlier ones a token sees",
    .knob = {{"hashes", "times that tokens are hashed and sorted, 1 to 64", 2, ST_KNOB_SHOWN},
             {"bucket", "tokens of a bucket, 1 or more; 0: 1/64 of all", 0, ST_KNOB_HIDDEN},
             {"seed", "of the hashes' directions", 0, ST_KNOB_HIDDEN}},
    .check = reformer_check,
    .forward = reformer_forward,
    .draw = reformer_draw,
};
