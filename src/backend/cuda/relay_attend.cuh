/* How blocks attend in a run (relay.h): those of a head share its keys. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_RELAY_ATTEND_CUH
#define ST_RELAY_ATTEND_CUH

#include "backend/cuda/next.cuh"
#include "backend/cuda/relay.cuh"

static __device__ __forceinline__ eight_floats floats_of(uint4 u)
{
    return load_eight((const uint16_t *)&u);
}

/* The parts at part(0) .. part(n - 1) as one, whose columns 8 lane .. this lane has. */
template <int DP, int MOST, typename P>
static __device__ split_part relay_join(int n, int lane, P part)
{
    float weight[MOST];
    split_part x = {-INFINITY, 0, {0, 0, 0, 0, 0, 0, 0, 0}};
#pragma unroll
    for (int i = 0; i < MOST; i++) {
        weight[i] = i < n ? part(i)[DP] : -INFINITY;
        x.top = fmaxf(x.top, weight[i]);
    }
    float base = x.top == -INFINITY ? 0 : x.top;
#pragma unroll
    for (int i = 0; i < MOST; i++) {
        if (i >= n) break;
        const float *y = part(i);
        float w = exp2_near(weight[i] - base);
        eight_floats v = load_eight(y + 8 * lane);
        x.sum = fmaf(w, y[DP + 1], x.sum);
#pragma unroll
        for (int e = 0; e < 8; e++)
            x.v[e] = fmaf(w, v.v[e], x.v[e]);
    }
    return x;
}

/* The part of this block for others to read, and those of all blocks of the head in its place. */
template <int DP>
static __device__ split_part relay_gather(const st_relay_next &o, uint32_t *words, int splits,
                                          int split, int head, int lane, float *records,
                                          const split_part &mine)
{
    enum { SIZE = DP + RELAY_PAST };
    int size = o.dim + RELAY_PAST, c = 8 * lane;
    uint32_t *all = words + o.parts_at + (int64_t)head * RELAY_SPLITS * size;
    uint32_t *to = all + split * size;
#pragma unroll
    for (int e = 0; e < 8; e++)
        if (c < o.dim) word_put(to + c + e, __float_as_uint(mine.v[e]));
    if (lane == 0) word_put(to + o.dim, __float_as_uint(mine.top));
    if (lane == 0) word_put(to + o.dim + 1, __float_as_uint(mine.sum));
    if (split) return mine;
    uint32_t lanes = DP / 8 == 32 ? 0xffffffffu : (1u << DP / 8) - 1;
    __syncwarp(lanes);
    for (int i = 0; i < splits; i++) {
        if (c < o.dim) {
            uint4 a = words_take(all + i * size + c), b = words_take(all + i * size + c + 4);
            *(uint4 *)(records + i * SIZE + c) = a, *(uint4 *)(records + i * SIZE + c + 4) = b;
        }
        if (lane < 2)
            records[i * SIZE + DP + lane] =
                __uint_as_float(word_take(all + i * size + o.dim + lane));
    }
    __syncwarp(lanes);
    return relay_join<DP, RELAY_SPLITS>(splits, lane, [=](int i) { return records + i * SIZE; });
}

/* What a head gives: o, from the part of all its keys. */
static __device__ void relay_give(const st_relay_next &o, uint32_t *words, int head, int c,
                                  const split_part &x)
{
    if (c >= o.dim) return;
    int at = head * o.dim + c;
    float by = 1.0f / x.sum;
    uint32_t w[4];
#pragma unroll
    for (int e = 0; e < 4; e++) {
        w[e] = word_of(x.v[2 * e] * by, x.v[2 * e + 1] * by);
        word_put(words + o.o_at + at / 2 + e, w[e]);
    }
    if (o.o) *(uint4 *)(o.o + at) = make_uint4(w[0], w[1], w[2], w[3]);
}

/* Which keys of which head a block has. */
typedef struct {
    int head, split, splits, shared, from, end;
} relay_keys;

static __device__ __forceinline__ relay_keys relay_part(const st_relay_next &o, int blocks,
                                                        int once, int p)
{
    relay_keys k;
    int start = o.window && p >= o.window ? p + 1 - o.window : 0, keys = p + 1 - start;
    k.splits = min(min((keys + once - 1) / once, blocks / o.heads), (int)RELAY_SPLITS);
    k.head = blockIdx.x / k.splits, k.split = blockIdx.x - k.head * k.splits;
    k.shared = k.head / o.each;
    int share = (keys + k.splits - 1) / k.splits;
    k.from = start + k.split * share;
    k.end = min(k.from + share, p + 1);
    return k;
}

/* Keys that a set of lanes has at once, as they lie in memory; i of them are `stride` apart. */
typedef struct {
    uint4 k[SPLIT_AHEAD], v[SPLIT_AHEAD];
} relay_rows_of;

static __device__ __forceinline__ void relay_load(const st_relay_next &o, int c, int j0, int stride,
                                                  int end, relay_rows_of &x)
{
#pragma unroll
    for (int i = 0; i < SPLIT_AHEAD; i++) {
        int j = j0 + i * stride;
        x.k[i] = x.v[i] = make_uint4(0, 0, 0, 0);
        if (j >= end) continue;
        x.k[i] = *(const uint4 *)(o.k + j * o.k_stride + c);
        x.v[i] = *(const uint4 *)(o.v + j * o.v_stride + c);
    }
}

/* DP / 8 lanes have a row, each set of them keys of its own. */
template <int DP>
static __device__ void relay_attend(const relay_view &r, const st_relay_next &given,
                                    const relay_room &s, uint32_t *words)
{
    enum { LANES = DP / 8, SETS = THREADS / LANES, SIZE = DP + RELAY_PAST };
    const st_relay_next o = given;
    int p = *o.at;
    relay_keys t = relay_part(o, r.blocks, SPLIT_AHEAD * SETS, p);
    if (t.head >= o.heads) return;
    int lane = threadIdx.x % LANES, from = t.from + (int)threadIdx.x / LANES;
    bool there = 8 * lane < o.dim;
    int c = there ? 8 * lane : 0, column = t.shared * o.dim + c;
    bool newest = from <= p && p < t.end && (p - from) % SETS == 0; /* key p is of this set */
    relay_rows_of rows;
    split_part part = {-INFINITY, 0, {0, 0, 0, 0, 0, 0, 0, 0}};
    relay_load(o, column, from, SETS, min(t.end, p), rows);
    const uint32_t *at = words + o.q_at + (t.head * o.dim + c) / 2;
    const uint32_t *at_k = newest ? words + o.k_at + column / 2 : at;
    const uint32_t *at_v = newest ? words + o.v_at + column / 2 : at;
    uint4 query, key, value;
    do {
        query = words_look(at), key = words_look(at_k), value = words_look(at_v);
    } while (words_none(query) || words_none(key) || words_none(value));
    eight_floats q = load_eight((const uint16_t *)&query), none = {};
    if (!there) q = none;
    for (int j0 = from; __any_sync(0xffffffffu, j0 < t.end); j0 += SPLIT_AHEAD * SETS) {
        eight_floats k[SPLIT_AHEAD], v[SPLIT_AHEAD];
        if (j0 != from) relay_load(o, column, j0, SETS, min(t.end, p), rows);
#pragma unroll
        for (int i = 0; i < SPLIT_AHEAD; i++) {
            bool last = newest && j0 + i * SETS == p;
            uint4 a = last ? key : rows.k[i], b = last ? value : rows.v[i];
            k[i] = load_eight((const uint16_t *)&a), v[i] = load_eight((const uint16_t *)&b);
        }
        next_take<LANES>(q, o.scale2, j0, SETS, t.end, k, v, part);
    }
    if (newest && there && t.head % o.each == 0) {
        *(uint4 *)(o.k + p * o.k_stride + column) = key;
        *(uint4 *)(o.v + p * o.v_stride + column) = value;
    }
    next_join_warp<LANES>(part);
    if (threadIdx.x % 32 < LANES) next_record<DP>(s.records + threadIdx.x / 32 * SIZE, lane, part);
    relay_meet();
    if (threadIdx.x >= LANES) return;
    part = relay_join<DP, WARPS>(WARPS, lane, [=](int i) { return s.records + i * SIZE; });
    if (t.splits > 1)
        part = relay_gather<DP>(o, words, t.splits, t.split, t.head, lane, s.records, part);
    if (t.split == 0) relay_give(o, words, t.head, 8 * lane, part);
}

#endif
