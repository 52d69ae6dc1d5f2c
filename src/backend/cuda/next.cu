/* attend_next: one query an item over a cache whose length the device knows. The keys of a head are
 * split among the blocks of a cluster; each has the first of them in registers before the query is
 * there. */
/* SPDX-License-Identifier: MIT */
#include "attention_split.cuh"
#include "chain.cuh"
#include "few.h"
#include "next.cuh"

/* view: k, v the cache, kv_len its room. */
typedef struct {
    attend_view view;
    attend_heads new_k, new_v;
    const int32_t *at;
    bool early; /* rows of the cache may be read before what is queued has ended */
} next_view;

/* Key j of this set of lanes: of the cache, or the new one. */
template <typename T>
__device__ __forceinline__ const T *next_row(const next_view &a, const attend_heads &cache,
                                             const attend_heads &more, int head, int j, int p)
{
    return j < p ? plain_row<T>(a.view, cache, head, j) : plain_row<T>(a.view, more, head, 0);
}

__device__ __forceinline__ int next_first(const next_view &a, int p)
{
    return a.view.window && p >= a.view.window ? (int)(p + 1 - a.view.window) : 0;
}

/* Of keys j0, j0 + stride ... those from `from` to below `end`; zeros beyond. */
template <typename T>
__device__ __forceinline__ void next_load(const next_view &a, int head, int c, int j0, int stride,
                                          int from, int end, int p, eight_floats (&k)[SPLIT_AHEAD],
                                          eight_floats (&v)[SPLIT_AHEAD])
{
#pragma unroll
    for (int i = 0; i < SPLIT_AHEAD; i++) {
        int j = j0 + i * stride;
        if (j < from) continue;
        k[i] = v[i] = eight_floats{};
        if (j >= end || c >= a.view.dim) continue;
        k[i] = load_eight(next_row<T>(a, a.view.k, a.new_k, head, j, p) + c);
        v[i] = load_eight(next_row<T>(a, a.view.v, a.new_v, head, j, p) + c);
    }
}

/* The new key and value into the cache, by the lanes that have them; of heads that share them by
 * the first. */
template <typename T>
__device__ __forceinline__ void next_keep(const next_view &a, int head, int c, int p)
{
    if (c >= a.view.dim || head % a.new_k.each) return;
    T *k = plain_row<T>(a.view, a.view.k, head, p) + c,
      *v = plain_row<T>(a.view, a.view.v, head, p);
    const T *from_k = plain_row<T>(a.view, a.new_k, head, 0) + c;
    const T *from_v = plain_row<T>(a.view, a.new_v, head, 0) + c;
#pragma unroll
    for (int e = 0; e < 8; e++) {
        k[e] = from_k[e];
        v[c + e] = from_v[e];
    }
}

/* `n` records of a query at part(i), at most SPLIT_MOST, into one: columns 8 lane .. of it. All of
 * them are on their way before the first is looked at. */
template <int DP, typename P>
__device__ __forceinline__ split_part next_collect(int n, int lane, P part)
{
    float top[SPLIT_MOST], sum[SPLIT_MOST];
    eight_floats v[SPLIT_MOST];
#pragma unroll
    for (int i = 0; i < SPLIT_MOST; i++) {
        if (i >= n) break;
        const float *y = part(i);
        top[i] = y[DP], sum[i] = y[DP + 1];
        v[i] = load_eight(y + 8 * lane);
    }
    split_part x = {-INFINITY, 0, {0, 0, 0, 0, 0, 0, 0, 0}};
#pragma unroll
    for (int i = 0; i < SPLIT_MOST; i++) {
        if (i >= n) break;
        split_join(x, top[i], sum[i], v[i].v);
    }
    return x;
}

/* Block (split, head); the splits of a head are one cluster. */
template <typename T, int DP>
static __global__ void __launch_bounds__(SPLIT_THREADS)
    next_kernel(const __grid_constant__ next_view a)
{
    enum { LANES = DP / 8, SETS = SPLIT_THREADS / LANES, SIZE = split_record<DP>::SIZE };
    int split = (int)blockIdx.x, head = blockIdx.y, c = threadIdx.x % LANES * 8;
    int set = threadIdx.x / LANES, p = *a.at, first = next_first(a, p);
    int share = (p - first + gridDim.x) / gridDim.x, from = first + split * share + set;
    int end = min(first + (split + 1) * share, p + 1);
    float *sets = (float *)shared_start(), *out = sets + SPLIT_THREADS / 32 * SIZE;
    eight_floats k[SPLIT_AHEAD] = {}, v[SPLIT_AHEAD] = {}, q = {};
    split_part part = {-INFINITY, 0, {0, 0, 0, 0, 0, 0, 0, 0}};
    /* rows below p are of earlier calls, which have ended */
    next_load<T>(a, head, c, from, SETS, 0, end < p ? end : p, p, k, v);
    chain_next();
    chain_wait();
    if (c < a.view.dim) q = load_eight(plain_row<T>(a.view, a.view.q, head, 0) + c);
    next_load<T>(a, head, c, from, SETS, p, end, p, k, v);
    for (int j = from; __any_sync(0xffffffffu, j < end); j += SPLIT_AHEAD * SETS) {
        if (j != from) next_load<T>(a, head, c, j, SETS, 0, end, p, k, v);
        next_take<LANES>(q, a.view.scale2, j, SETS, end, k, v, part);
    }
    if (split == (int)gridDim.x - 1 && set == 0) next_keep<T>(a, head, c, p);
    next_join_warp<LANES>(part);
    int lane = threadIdx.x % LANES, warp = threadIdx.x / 32;
    if (threadIdx.x % 32 < LANES) next_record<DP>(sets + warp * SIZE, lane, part);
    __syncthreads();
    if (set == 0) {
        part = next_collect<DP>(SPLIT_THREADS / 32, lane, [=](int i) { return sets + i * SIZE; });
        next_record<DP>(out, lane, part);
    }
    if (gridDim.x > 1) cluster_sync();
    if (split == 0 && set == 0) {
        if (gridDim.x > 1)
            part = next_collect<DP>(gridDim.x, lane, [=](int i) { return cluster_at(out, i); });
        T *to = plain_row<T>(a.view, a.view.o, head, 0) + c;
#pragma unroll
        for (int e = 0; e < 8; e++)
            if (c + e < a.view.dim) plain_put(to + e, part.v[e] / part.sum);
    }
    if (gridDim.x > 1) cluster_sync();
}

/* Any width of a head: a block each, keys one after another, a thread some columns. */
template <typename T>
static __global__ void __launch_bounds__(PLAIN_THREADS)
    next_plain_kernel(const __grid_constant__ next_view a)
{
    __shared__ float part[PLAIN_THREADS / 32];
    float *o = (float *)shared_start();
    int head = blockIdx.x, p = *a.at, dim = a.view.dim;
    float top = -INFINITY, sum = 0;
    chain_wait();
    const T *q = plain_row<T>(a.view, a.view.q, head, 0);
    for (int c = threadIdx.x; c < dim; c += PLAIN_THREADS) {
        o[c] = 0;
        if (head % a.new_k.each) continue;
        plain_row<T>(a.view, a.view.k, head, p)[c] = plain_row<T>(a.view, a.new_k, head, 0)[c];
        plain_row<T>(a.view, a.view.v, head, p)[c] = plain_row<T>(a.view, a.new_v, head, 0)[c];
    }
    for (int j = next_first(a, p); j <= p; j++) {
        const T *k = next_row<T>(a, a.view.k, a.new_k, head, j, p);
        const T *v = next_row<T>(a, a.view.v, a.new_v, head, j, p);
        float dot = 0;
        for (int c = threadIdx.x; c < dim; c += PLAIN_THREADS)
            dot = fmaf(plain_get(q + c), plain_get(k + c), dot);
        float s = plain_all<false>(dot, part) * a.view.scale2, most = fmaxf(top, s);
        float by = exp2_near(top - most), w = exp2_near(s - most);
        sum = sum * by + w;
        for (int c = threadIdx.x; c < dim; c += PLAIN_THREADS)
            o[c] = o[c] * by + w * plain_get(v + c);
        top = most;
    }
    T *to = plain_row<T>(a.view, a.view.o, head, 0);
    for (int c = threadIdx.x; c < dim; c += PLAIN_THREADS)
        plain_put(to + c, o[c] / sum);
}

/* ---- launches ------------------------------------------------------------------------------- */

static attend_heads next_heads(const st_heads *h, st_strided x, int64_t heads)
{
    return attend_heads{(char *)x.x.data, x.stride, x.step, (int)(h->heads / heads)};
}

static bool next_wide(const next_view &a)
{
    const attend_heads *all[] = {&a.view.q, &a.view.k, &a.view.v, &a.view.o, &a.new_k, &a.new_v};
    bool wide = a.view.dim % 8 == 0 && a.view.dim <= 256;
    for (int i = 0; i < 6; i++) {
        wide = wide && all[i]->stride % 8 == 0 && all[i]->step % 8 == 0 &&
               (uintptr_t)all[i]->data % 16 == 0;
    }
    return wide;
}

/* Blocks of a cluster: two for each multiprocessor, if there may be keys enough. */
template <typename T, int DP>
static cudaError_t next_launch(const next_view &a, int arch, int sms, cudaStream_t s)
{
    enum { SIZE = split_record<DP>::SIZE };
    int heads = a.view.batch * a.view.heads, splits = 2 * sms / heads;
    int most = (a.view.kv_len + SPLIT_KEYS - 1) / SPLIT_KEYS;
    if (most > SPLIT_MOST) most = SPLIT_MOST;
    splits = arch < 90 || splits < 1 ? 1 : splits > most ? most : splits;
    return chain_launch(next_kernel<T, DP>, dim3((unsigned)splits, (unsigned)heads), SPLIT_THREADS,
                        (size_t)(SPLIT_THREADS / 32 + 1) * SIZE * sizeof(float),
                        splits > 1 ? splits : 0, a.early ? arch : 0, s, a);
}

template <typename T>
static cudaError_t next_any(const next_view &a, int arch, int sms, cudaStream_t s)
{
    if (!next_wide(a) || (int64_t)a.view.batch * a.view.heads > 65535)
        return chain_launch(next_plain_kernel<T>, dim3((unsigned)(a.view.batch * a.view.heads)),
                            PLAIN_THREADS, (size_t)a.view.dim * sizeof(float), 0,
                            a.early ? arch : 0, s, a);
    if (a.view.dim <= 64) return next_launch<T, 64>(a, arch, sms, s);
    return a.view.dim <= 128 ? next_launch<T, 128>(a, arch, sms, s)
                             : next_launch<T, 256>(a, arch, sms, s);
}

extern "C" cudaError_t st_next(const st_attend_next_args *given, bool early, int arch, int sms,
                               cudaStream_t s)
{
    st_attend_next_args g = st_attend_next_resolve(given);
    next_view a = {};
    a.early = early;
    a.view.q = next_heads(&g.h, g.h.q, g.h.heads), a.view.o = next_heads(&g.h, g.h.o, g.h.heads);
    a.view.k = next_heads(&g.h, g.h.k, g.h.kv_heads);
    a.view.v = next_heads(&g.h, g.h.v, g.h.kv_heads);
    a.new_k = next_heads(&g.h, g.k, g.h.kv_heads), a.new_v = next_heads(&g.h, g.v, g.h.kv_heads);
    a.view.window = g.window;
    a.at = (const int32_t *)g.at.data;
    a.view.batch = (int)g.h.batch, a.view.heads = (int)g.h.heads, a.view.dim = (int)g.h.head_dim;
    a.view.q_len = 1, a.view.kv_len = (int)g.h.kv_len;
    a.view.scale = g.scale, a.view.scale2 = g.scale * ST_LOG2E;
    if (a.view.batch == 0 || a.view.heads == 0) return cudaSuccess;
    return g.h.q.x.dtype == ST_F32 ? next_any<float>(a, arch, sms, s)
                                   : next_any<uint16_t>(a, arch, sms, s);
}
