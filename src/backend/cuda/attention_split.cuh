/* Attention of few queries over many keys (decoding), either dtype: the keys of a head are split
 * among blocks, each keeps its own largest score, and their sums are put together in order: through
 * the shared memory of a cluster of blocks (sm_90 and up), or through scratch by a second kernel.
 *
 * DP / 8 lanes hold a row, eight numbers each; each such set of lanes has keys of its own. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_ATTENTION_SPLIT_CUH
#define ST_ATTENTION_SPLIT_CUH

#include "attention_plain.cuh"

enum { SPLIT_THREADS = 128, SPLIT_MOST = 8, SPLIT_QUERIES = 16, SPLIT_KEYS = 64 };
enum { SPLIT_AHEAD = 4 }; /* keys that a set of lanes loads at a time */

typedef struct {
    float v[8];
} eight_floats;

__device__ __forceinline__ eight_floats load_eight(const float *x)
{
    float4 a = *(const float4 *)x, b = *(const float4 *)(x + 4);
    return eight_floats{{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
}
__device__ __forceinline__ eight_floats load_eight(const uint16_t *x)
{
    uint4 u = *(const uint4 *)x;
    const uint32_t w[4] = {u.x, u.y, u.z, u.w};
    eight_floats r;
#pragma unroll
    for (int e = 0; e < 4; e++) {
        r.v[2 * e] = __uint_as_float(w[e] << 16);
        r.v[2 * e + 1] = __uint_as_float(w[e] & 0xffff0000u);
    }
    return r;
}

/* Sum of the lanes of a row, in each of them. */
template <int LANES> __device__ __forceinline__ float row_sum(float x)
{
#pragma unroll
    for (int m = 1; m < LANES; m *= 2)
        x += warp_swap(x, m);
    return x;
}

/* One query's keys so far: largest score (times log2 e), sum of weights, weighted values. */
typedef struct {
    float top, sum, v[8];
} split_part;

/* Takes y's keys into x. */
__device__ __forceinline__ void split_join(split_part &x, float top, float sum, const float *v)
{
    float most = fmaxf(x.top, top);
    if (most == -INFINITY) return;
    float a = exp2_near(x.top - most), b = exp2_near(top - most);
    x.top = most;
    x.sum = x.sum * a + sum * b;
#pragma unroll
    for (int e = 0; e < 8; e++)
        x.v[e] = x.v[e] * a + v[e] * b;
}

/* Keys [from, to) of this set of lanes, `stride` apart, into QT queries' parts. */
template <typename T, int DP, int QT>
__device__ __forceinline__ void split_walk(const attend_view &a, int head, int t0, int from, int to,
                                           int stride, const eight_floats (&q)[QT],
                                           split_part (&part)[QT])
{
    enum { LANES = DP / 8 };
    int c = threadIdx.x % LANES * 8;
    bool there = c < a.dim;
    /* the sets of a warp stay together, for row_sum */
    for (int j0 = from; __any_sync(0xffffffffu, j0 < to); j0 += SPLIT_AHEAD * stride) {
        eight_floats k[SPLIT_AHEAD] = {}, v[SPLIT_AHEAD] = {};
#pragma unroll
        for (int i = 0; i < SPLIT_AHEAD; i++) {
            int j = j0 + i * stride;
            if (j < to && there) {
                k[i] = load_eight(plain_row<T>(a, a.k, head, j) + c);
                v[i] = load_eight(plain_row<T>(a, a.v, head, j) + c);
            }
        }
#pragma unroll
        for (int n = 0; n < QT; n++) {
            float s[SPLIT_AHEAD], most = part[n].top;
            int first = first_key(a, t0 + n), last = last_key(a, t0 + n);
#pragma unroll
            for (int i = 0; i < SPLIT_AHEAD; i++) {
                int j = j0 + i * stride;
                float dot = 0;
#pragma unroll
                for (int e = 0; e < 8; e++)
                    dot = fmaf(q[n].v[e], k[i].v[e], dot);
                s[i] = row_sum<LANES>(dot) * a.scale2;
                if (j < first || j >= last || j >= to) s[i] = -INFINITY;
                most = fmaxf(most, s[i]);
            }
            float base = most == -INFINITY ? 0 : most, by = exp2_near(part[n].top - base);
            part[n].top = most;
            part[n].sum *= by;
#pragma unroll
            for (int e = 0; e < 8; e++)
                part[n].v[e] *= by;
#pragma unroll
            for (int i = 0; i < SPLIT_AHEAD; i++) {
                float p = exp2_near(s[i] - base);
                part[n].sum += p;
#pragma unroll
                for (int e = 0; e < 8; e++)
                    part[n].v[e] = fmaf(p, v[i].v[e], part[n].v[e]);
            }
        }
    }
}

/* A record of a query's part: DP sums, largest score, sum of weights. */
template <int DP> struct split_record {
    enum { SIZE = DP + 4 };
};

/* Joins the parts of a block's sets of lanes, in order, in shared memory: `sets` records of each of
 * QT queries become one, at `out` + n * SIZE. */
template <int DP, int QT>
__device__ __forceinline__ void split_gather(const split_part (&part)[QT], float *sets, float *out)
{
    enum { LANES = DP / 8, SETS = SPLIT_THREADS / LANES, SIZE = split_record<DP>::SIZE };
    int set = threadIdx.x / LANES, lane = threadIdx.x % LANES;
#pragma unroll
    for (int n = 0; n < QT; n++) {
        float *to = sets + (n * SETS + set) * SIZE;
#pragma unroll
        for (int e = 0; e < 8; e++)
            to[8 * lane + e] = part[n].v[e];
        if (lane == 0) {
            to[DP] = part[n].top;
            to[DP + 1] = part[n].sum;
        }
    }
    __syncthreads();
    for (int n = set; n < QT; n += SETS) {
        split_part x = {-INFINITY, 0, {0, 0, 0, 0, 0, 0, 0, 0}};
        for (int i = 0; i < SETS; i++) {
            const float *y = sets + (n * SETS + i) * SIZE;
            split_join(x, y[DP], y[DP + 1], y + 8 * lane);
        }
        float *to = out + n * SIZE;
#pragma unroll
        for (int e = 0; e < 8; e++)
            to[8 * lane + e] = x.v[e];
        if (lane == 0) {
            to[DP] = x.top;
            to[DP + 1] = x.sum;
        }
    }
}

/* Query t from its parts: record i of them at part(i). */
template <typename T, int DP, typename P>
__device__ __forceinline__ void split_finish(const attend_view &a, int head, int t, P part)
{
    int c = threadIdx.x % (DP / 8) * 8;
    split_part x = {-INFINITY, 0, {0, 0, 0, 0, 0, 0, 0, 0}};
    for (int i = 0; i < a.splits; i++) {
        const float *y = part(i);
        split_join(x, y[DP], y[DP + 1], y + c);
    }
    float by = x.sum > 0 ? 1 / x.sum : 0;
    T *to = plain_row<T>(a, a.o, head, t) + c;
#pragma unroll
    for (int e = 0; e < 8; e++)
        if (c + e < a.dim) plain_put(to + e, x.v[e] * by);
    if (a.lse && c == 0)
        a.lse[(int64_t)head * a.q_len + t] =
            x.sum > 0 ? (x.top + log2f(x.sum)) * 0.6931471805599453f : -INFINITY;
}

/* Block (split, head, chunk of QT queries). CLUSTER: the splits of a head are one cluster. */
template <typename T, int DP, int QT, bool CLUSTER>
__global__ void __launch_bounds__(SPLIT_THREADS) split_kernel(attend_view a)
{
    enum { LANES = DP / 8, SETS = SPLIT_THREADS / LANES, SIZE = split_record<DP>::SIZE };
    int split = blockIdx.x, head = blockIdx.y, t0 = (int)blockIdx.z * QT;
    int lane = threadIdx.x % LANES, set = threadIdx.x / LANES;
    int end = t0 + QT < a.q_len ? t0 + QT : a.q_len;
    int first = first_key(a, t0), last = last_key(a, end - 1);
    int share = (last - first + a.splits - 1) / a.splits, from = first + split * share;
    int to = from + share < last ? from + share : last;
    float *sets = (float *)shared_start(), *out = sets + QT * SETS * SIZE;
    split_part part[QT];
    eight_floats q[QT] = {};
#pragma unroll
    for (int n = 0; n < QT; n++) {
        part[n] = split_part{-INFINITY, 0, {0, 0, 0, 0, 0, 0, 0, 0}};
        if (t0 + n < a.q_len && 8 * lane < a.dim)
            q[n] = load_eight(plain_row<T>(a, a.q, head, t0 + n) + 8 * lane);
    }
    split_walk<T, DP, QT>(a, head, t0, from + set, to, SETS, q, part);
    split_gather<DP, QT>(part, sets, out);
    if (CLUSTER) {
        cluster_sync();
        if (split == 0)
            for (int n = set; n < QT && t0 + n < a.q_len; n += SETS)
                split_finish<T, DP>(a, head, t0 + n,
                                    [=](int i) { return cluster_at(out + n * SIZE, i); });
        cluster_sync();
        return;
    }
    __syncthreads();
    for (int n = 0; n < QT && t0 + n < a.q_len; n++) {
        float *record = a.parts + (((int64_t)head * a.q_len + t0 + n) * a.splits + split) * SIZE;
        for (int c = threadIdx.x; c < DP + 2; c += SPLIT_THREADS)
            record[c] = out[n * SIZE + c];
    }
}

/* One query a set of lanes. */
template <typename T, int DP>
__global__ void __launch_bounds__(SPLIT_THREADS) split_finish_kernel(attend_view a)
{
    enum { SETS = SPLIT_THREADS / (DP / 8), SIZE = split_record<DP>::SIZE };
    int64_t row = (int64_t)blockIdx.x * SETS + threadIdx.x / (DP / 8);
    if (row >= (int64_t)a.batch * a.heads * a.q_len) return;
    const float *record = a.parts + row * a.splits * SIZE;
    split_finish<T, DP>(a, (int)(row / a.q_len), (int)(row % a.q_len),
                        [=](int i) { return record + i * SIZE; });
}

#endif
