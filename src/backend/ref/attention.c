/* Softmax attention, one (batch item, head, query) at a time.
 *   s_j = scale q.k_j;  lse = log sum exp s_j;  p_j = exp(s_j - lse);  o = sum_j m_j p_j v_j
 * with m_j = 1/(1 - drop) where weight j is kept, else 0. Backward, with D = go.o:
 *   gv_j += m_j p_j go;  ds_j = p_j (m_j go.v_j - D);  gq += scale ds_j k_j;  gk_j += scale ds_j q.
 */
/* SPDX-License-Identifier: MIT */
#include "backend/ref/ref.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>

/* First elements of query t, output t and key 0 of one head. */
typedef struct {
    int64_t q, o, k, v, number; /* number: of the first dropout decision of the query */
} attention_at;

static attention_at attention_locate(const st_attend_fwd_args *a, int64_t i, int64_t h, int64_t t)
{
    int64_t head = h * a->h.head_dim, kv = h / (a->h.heads / a->h.kv_heads) * a->h.head_dim;
    return (attention_at){.q = i * a->h.q.step + t * a->h.q.stride + head,
                          .o = i * a->h.o.step + t * a->h.o.stride + head,
                          .k = i * a->h.k.step + kv,
                          .v = i * a->h.v.step + kv,
                          .number = ((i * a->h.heads + h) * a->h.q_len + t) * a->h.kv_len};
}

static double attention_score(const st_attend_fwd_args *a, attention_at at, int64_t j)
{
    ref_vector q = ref_row(&a->h.q.x, at.q), k = ref_row(&a->h.k.x, at.k + j * a->h.k.stride);
    return (double)a->scale * st_ref_products(0, q, k, a->h.head_dim);
}

/* m_j of the head comment. */
static double attention_mask(const st_attend_fwd_args *a, attention_at at, int64_t j)
{
    if (!(a->drop > 0)) return 1.0;
    bool keep = ST_KEEP(a->seed, at.number + j, st_drop_below(a->drop));
    return keep ? 1.0 / (1.0 - (double)a->drop) : 0.0;
}

/* Sums over keys or queries are kept for this many columns of a head at a time. */
enum { CHUNK = 128 };

static void attention_fwd_query(const st_attend_fwd_args *a, int64_t i, int64_t h, int64_t t,
                                double *weight)
{
    attention_at at = attention_locate(a, i, h, t);
    int64_t first = st_attend_first(a, t), keys = st_attend_keys(a, t);
    double top = -INFINITY, total = 0;
    for (int64_t j = first; j < keys; j++)
        top = fmax(top, weight[j] = attention_score(a, at, j));
    for (int64_t j = first; j < keys; j++)
        total += exp(weight[j] - top);
    double lse = top + log(total);
    for (int64_t j = first; j < keys; j++)
        weight[j] = exp(weight[j] - lse) * attention_mask(a, at, j);
    for (int64_t c0 = 0; c0 < a->h.head_dim; c0 += CHUNK) {
        double sum[CHUNK] = {0};
        int64_t n = a->h.head_dim - c0 < CHUNK ? a->h.head_dim - c0 : CHUNK;
        for (int64_t j = first; j < keys; j++) {
            int64_t v0 = at.v + j * a->h.v.stride + c0;
            for (int64_t c = 0; c < n; c++)
                sum[c] += weight[j] * (double)ref_load(&a->h.v.x, v0 + c);
        }
        for (int64_t c = 0; c < n; c++)
            ref_store(&a->h.o.x, at.o + c0 + c, sum[c]);
    }
    if (a->lse.data) ref_store(&a->lse, (i * a->h.heads + h) * a->h.q_len + t, lse);
}

void st_ref_attend_fwd(st_stream *q, const st_attend_fwd_args *given)
{
    st_attend_fwd_args a = st_attend_resolve(given);
    double *weight = st_calloc(a.h.kv_len, sizeof *weight);
    if (!weight) {
        st_stream_latch(q, ST_ENOMEM, "attend_fwd", "out of memory");
        return;
    }
    for (int64_t i = 0; i < a.h.batch; i++) {
        for (int64_t h = 0; h < a.h.heads; h++) {
            for (int64_t t = 0; t < a.h.q_len; t++)
                attention_fwd_query(&a, i, h, t, weight);
        }
    }
    free(weight);
}

/* Row p of a cache becomes the item's row of `from`. */
static void attention_append(const st_heads *h, const st_strided *cache, const st_strided *from,
                             int64_t p)
{
    for (int64_t i = 0; i < h->batch; i++) {
        for (int64_t c = 0; c < h->kv_heads * h->head_dim; c++) {
            double x = (double)ref_load(&from->x, i * from->step + c);
            ref_store(&cache->x, i * cache->step + p * cache->stride + c, x);
        }
    }
}

void st_ref_attend_next(st_stream *q, const st_attend_next_args *given)
{
    st_attend_next_args a = st_attend_next_resolve(given);
    int64_t p = *(const int32_t *)a.at.data;
    attention_append(&a.h, &a.h.k, &a.k, p);
    attention_append(&a.h, &a.h.v, &a.v, p);
    a.h.kv_len = p + 1;
    st_ref_attend_fwd(
        q, &(st_attend_fwd_args){
               .h = a.h, .scale = a.scale, .q_start = p, .window = a.window, .causal = 1});
}

/* What one (query, key) pair contributes with: m p and ds of the head comment. */
typedef struct {
    double mp, ds;
} attention_pair;

/* d: D of every head and query of the item. */
static attention_pair attention_pair_at(const st_attend_bwd_args *a, int64_t i, int64_t h,
                                        int64_t t, int64_t j, const double *d)
{
    attention_at at = attention_locate(a, i, h, t);
    double lse = (double)ref_load(&a->lse, (i * a->h.heads + h) * a->h.q_len + t);
    double p = exp(attention_score(a, at, j) - lse), m = attention_mask(a, at, j);
    ref_vector go = ref_row(&a->go, at.o), v = ref_row(&a->h.v.x, at.v + j * a->h.v.stride);
    double dp = st_ref_products(0, go, v, a->h.head_dim);
    return (attention_pair){.mp = m * p, .ds = p * (m * dp - d[h * a->h.q_len + t])};
}

/* gq of query t. */
static void attention_bwd_query(const st_attend_bwd_args *a, int64_t i, int64_t h, int64_t t,
                                const double *d)
{
    attention_at at = attention_locate(a, i, h, t);
    int64_t first = st_attend_first(a, t), keys = st_attend_keys(a, t);
    for (int64_t c0 = 0; c0 < a->h.head_dim; c0 += CHUNK) {
        double sum[CHUNK] = {0};
        int64_t n = a->h.head_dim - c0 < CHUNK ? a->h.head_dim - c0 : CHUNK;
        for (int64_t j = first; j < keys; j++) {
            double ds = attention_pair_at(a, i, h, t, j, d).ds * (double)a->scale;
            int64_t k0 = at.k + j * a->h.k.stride + c0;
            for (int64_t c = 0; c < n; c++)
                sum[c] += ds * (double)ref_load(&a->h.k.x, k0 + c);
        }
        for (int64_t c = 0; c < n; c++)
            ref_store(&a->gq, at.q + c0 + c, sum[c]);
    }
}

/* gk and gv of key j of key head `kv`, which a group of heads reads. */
static void attention_bwd_key(const st_attend_bwd_args *a, int64_t i, int64_t kv, int64_t j,
                              const double *d)
{
    int64_t group = a->h.heads / a->h.kv_heads;
    for (int64_t c0 = 0; c0 < a->h.head_dim; c0 += CHUNK) {
        double gk[CHUNK] = {0}, gv[CHUNK] = {0};
        int64_t n = a->h.head_dim - c0 < CHUNK ? a->h.head_dim - c0 : CHUNK;
        for (int64_t u = 0; u < group * a->h.q_len; u++) {
            int64_t h = kv * group + u / a->h.q_len, t = u % a->h.q_len;
            if (j < st_attend_first(a, t) || j >= st_attend_keys(a, t)) continue;
            attention_at at = attention_locate(a, i, h, 0);
            attention_pair pair = attention_pair_at(a, i, h, t, j, d);
            int64_t q0 = at.q + t * a->h.q.stride + c0, o0 = at.o + t * a->h.o.stride + c0;
            for (int64_t c = 0; c < n; c++) {
                gk[c] += pair.ds * (double)a->scale * (double)ref_load(&a->h.q.x, q0 + c);
                gv[c] += pair.mp * (double)ref_load(&a->go, o0 + c);
            }
        }
        attention_at at = attention_locate(a, i, kv * group, 0);
        for (int64_t c = 0; c < n; c++) {
            ref_store(&a->gk, at.k + j * a->h.k.stride + c0 + c, gk[c]);
            ref_store(&a->gv, at.v + j * a->h.v.stride + c0 + c, gv[c]);
        }
    }
}

void st_ref_attend_bwd(st_stream *q, const st_attend_bwd_args *given)
{
    assert(!given->window || given->causal);
    st_attend_bwd_args a = st_attend_resolve(given);
    int64_t queries = a.h.heads * a.h.q_len;
    double *d = st_calloc(queries, sizeof *d);
    if (!d) {
        st_stream_latch(q, ST_ENOMEM, "attend_bwd", "out of memory");
        return;
    }
    for (int64_t i = 0; i < a.h.batch; i++) {
        for (int64_t u = 0; u < queries; u++) {
            int64_t at = attention_locate(&a, i, u / a.h.q_len, u % a.h.q_len).o;
            d[u] = st_ref_products(0, ref_row(&a.go, at), ref_row(&a.h.o.x, at), a.h.head_dim);
        }
        for (int64_t u = 0; u < queries; u++)
            attention_bwd_query(&a, i, u / a.h.q_len, u % a.h.q_len, d);
        for (int64_t u = 0; u < a.h.kv_heads * a.h.kv_len; u++)
            attention_bwd_key(&a, i, u / a.h.kv_len, u % a.h.kv_len, d);
    }
    free(d);
}
