/* How a block goes through the products of a run (relay.h). Its warps but the last multiply; the
 * last one copies the block's rows of each step's W to shared memory, as far ahead as there is
 * room. Rows lie 64 bytes past multiples of 128 there, so that the pieces of two rows that a
 * quarter of a warp reads meet no bank twice. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_RELAY_CUH
#define ST_RELAY_CUH

#include "backend/cuda/device.cuh"
#include "backend/cuda/hopper.cuh"
#include "backend/cuda/pointwise.cuh"
#include "backend/cuda/relay.h"

#define RELAY_NONE 0xffffffffu

enum { WARPS = 12, THREADS = 32 * WARPS, STAGES = 4, STAGE = 44 << 10, ROWS = 32 };

/* How a block sees the launch. */
typedef struct {
    const st_relay_op *op; /* in memory */
    int n, blocks, row_bytes, record;
    uint32_t *words[2]; /* results of this launch and, emptied by it, of the next; or the reverse */
    int64_t count;
    int *turn; /* of each block: launches so far */
} relay_view;

/* Its shared memory after the stages. */
typedef struct {
    unsigned char *stage, *x, *z;
    float *part, *stats, *records;
    st_relay_op *op;
} relay_room;

/* Barriers in shared memory: a stage is full, or may be filled again. */
static __device__ __forceinline__ uint32_t relay_full(uint32_t bars, int stage)
{
    return bars + 8 * stage;
}
static __device__ __forceinline__ uint32_t relay_empty(uint32_t bars, int stage)
{
    return bars + 8 * (STAGES + stage);
}

/* Where a warp is in the ring of stages. */
typedef struct {
    int stage;
    uint32_t phase;
} relay_place;

static __device__ __forceinline__ void place_next(relay_place &p)
{
    if (++p.stage == STAGES) p.stage = 0, p.phase ^= 1;
}
/* The block that writes what all of them have alike: the last one has a share of every product. */
static __device__ __forceinline__ bool relay_keeps()
{
    return blockIdx.x == gridDim.x - 1;
}
/* A block's share of a product's rows, in pairs, and how many lie in a stage how far apart. */
static __device__ __forceinline__ void relay_share(st_relay_product &o, int blocks)
{
    int64_t pairs = (o.n + 1) / 2, b = blockIdx.x;
    int bytes = o.k * 2;
    o.from = 2 * (int)(b * pairs / blocks);
    o.to = min(2 * (int)((b + 1) * pairs / blocks), o.n);
    o.pitch = bytes + (64 - bytes % 128 + 128) % 128;
    o.most = min(STAGE / o.pitch & ~1, (int)ROWS);
}
/* The first warps of those that multiply, or all. */
static __device__ __forceinline__ void relay_meet(int id = 1, int threads = THREADS)
{
    __syncwarp();
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/* ---- words ---------------------------------------------------------------------------------- */

static __device__ __forceinline__ uint32_t word_look(const uint32_t *p)
{
    uint32_t v;
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
}
static __device__ __forceinline__ uint32_t word_take(const uint32_t *p)
{
    uint32_t v = word_look(p);
    while (v == RELAY_NONE)
        v = word_look(p);
    return v;
}
static __device__ __forceinline__ uint4 words_look(const uint32_t *p)
{
    uint4 v;
    asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p)
                 : "memory");
    return v;
}
static __device__ __forceinline__ bool words_none(uint4 v)
{
    return v.x == RELAY_NONE || v.y == RELAY_NONE || v.z == RELAY_NONE || v.w == RELAY_NONE;
}
/* Four words, when all of them are there. */
static __device__ __forceinline__ uint4 words_take(const uint32_t *p)
{
    uint4 v = words_look(p);
    while (words_none(v))
        v = words_look(p);
    return v;
}
/* No number is RELAY_NONE, which as two NaN becomes another two. */
static __device__ __forceinline__ void word_put(uint32_t *p, uint32_t v)
{
    if (v == RELAY_NONE) v = 0x7fff7fffu;
    asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
static __device__ __forceinline__ float word_half(uint32_t v, int high)
{
    return __uint_as_float(high ? v & 0xffff0000u : v << 16);
}
static __device__ __forceinline__ uint32_t word_of(float a, float b)
{
    __nv_bfloat162 h = __floats2bfloat162_rn(a, b);
    return *(uint32_t *)&h;
}

/* ---- the first operand ---------------------------------------------------------------------- */

/* What is left of a warp's numbers about the mean: x n, the number that others are compared with,
 * the sum of what they exceed it by and of its squares. */
static __device__ __forceinline__ float relay_spread(float4 x, float mean)
{
    float off = x.y - mean;
    return fmaf(off, fmaf(off, x.x, 2 * x.z), x.w);
}

/* Eight numbers of a thread, normed; called by the warps that have columns, together: others wait
 * where they meet. Sums of a warp are of what exceeds one of its numbers, so that little is lost
 * where the mean is far from 0. */
static __device__ __forceinline__ uint4 relay_norm(const st_relay_product &o, const relay_room &s,
                                                   uint4 u, bool own, uint4 gain, uint4 shift)
{
    int warps = (o.cols + 255) >> 8;
    float from = __shfl_sync(0xffffffffu, __uint_as_float(u.x << 16), 0), sum = 0, square = 0;
    eight v = get8((const bf16 *)&u, 0);
#pragma unroll
    for (int e = 0; e < 8; e++) {
        float x = own ? v.v[e] - from : 0;
        sum += x, square = fmaf(x, x, square);
    }
#pragma unroll
    for (int d = 16; d; d >>= 1) {
        sum += __shfl_xor_sync(0xffffffffu, sum, d);
        square += __shfl_xor_sync(0xffffffffu, square, d);
    }
    float4 *stats = (float4 *)s.stats;
    int warp = threadIdx.x >> 5;
    float n = (float)min(o.cols - warp * 256, 256);
    if ((threadIdx.x & 31) == 0) stats[warp] = make_float4(n, from, sum, square);
    relay_meet(2, 32 * warps);
    float mean = 0, spread = 0, each = o.each;
    if (warps <= 4) {
        float4 x[4];
#pragma unroll
        for (int w = 0; w < 4; w++)
            x[w] = w < warps ? stats[w] : make_float4(0, 0, 0, 0);
#pragma unroll
        for (int w = 0; w < 4; w++)
            mean += fmaf(x[w].x, x[w].y, x[w].z);
        mean *= each;
#pragma unroll
        for (int w = 0; w < 4; w++)
            spread += relay_spread(x[w], mean);
    } else {
        for (int w = 0; w < warps; w++)
            mean += fmaf(stats[w].x, stats[w].y, stats[w].z);
        mean *= each;
        for (int w = 0; w < warps; w++)
            spread += relay_spread(stats[w], mean);
    }
    float rstd = rsqrtf(fmaf(spread, each, o.eps));
    eight g = get8((const bf16 *)&gain, 0), b = get8((const bf16 *)&shift, 0);
#pragma unroll
    for (int e = 0; e < 8; e++)
        v.v[e] = fmaf((v.v[e] - mean) * rstd, g.v[e], b.v[e]);
    if (relay_keeps() && threadIdx.x == 0) {
        if (o.mean) *o.mean = mean;
        if (o.rstd) *o.rstd = rstd;
    }
    uint4 y;
    put8((bf16 *)&y, 0, v);
    return y;
}

/* z from x, both in shared memory: eight numbers a thread, which lie together in each term. */
static __device__ __forceinline__ void relay_fold(const st_relay_product &o, const relay_room &s)
{
    int turns = o.block / 8, more = o.turn, factor = o.factor, cols = o.cols, block = o.block;
    for (int u = threadIdx.x; u < o.width / 8; u += THREADS) {
        int super = u / turns, at = u - super * turns, c0 = super * factor * block;
        eight sum = {};
        for (int l = 0; l < factor; l++, c0 += block) {
            at = at + more < turns ? at + more : at + more - turns;
            int c = c0 + at * 8;
            if (c >= cols) continue;
            eight x = get8((const bf16 *)s.x, c);
#pragma unroll
            for (int e = 0; e < 8; e++)
                sum.v[e] += x.v[e];
        }
        put8((bf16 *)s.z, u * 8, sum);
        if (relay_keeps() && o.folded) put8((bf16 *)o.folded, u * 8, sum);
    }
}

/* The row that W is multiplied with, in shared memory. */
static __device__ __forceinline__ const unsigned char *
relay_operand(const st_relay_product &o, const relay_room &s, const uint32_t *words)
{
    int c = 8 * threadIdx.x, cols = o.cols;
    const uint16_t *gains = o.gain;
    uint4 gain = {}, shift = {};
    if (gains && c < cols) {
        gain = __ldg((const uint4 *)(gains + c));
        shift = __ldg((const uint4 *)(o.shift + c));
    }
    /* whole warps go on while one of their lanes has columns */
    for (; c - 8 * (int)(threadIdx.x & 31) < cols; c += 8 * THREADS) {
        bool own = c < cols;
        uint4 u = {};
        if (own) u = o.x_at < 0 ? *(const uint4 *)(o.x + c) : words_take(words + o.x_at + c / 2);
        if (gains) u = relay_norm(o, s, u, own, gain, shift);
        if (own) *(uint4 *)(s.x + 2 * c) = u;
        if (own && relay_keeps() && o.normed) *(uint4 *)(o.normed + c) = u;
    }
    relay_meet();
    if (!o.block) return s.x;
    relay_fold(o, s);
    relay_meet();
    return s.z;
}

/* ---- a product ------------------------------------------------------------------------------ */

static __device__ __forceinline__ void relay_mma(float (&c)[4], uint32_t a0, uint32_t a1,
                                                 uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

/* Sums of a warp's share of the columns for the stage's rows, into part (WARPS, ROWS). Of the
 * product's second operand one column counts; a lane takes eight numbers next to each other for two
 * products, in the order that gives both operands alike. */
static __device__ __forceinline__ void relay_multiply(int all, int rows, int pitch,
                                                      const unsigned char *w,
                                                      const unsigned char *x, float *part)
{
    int warp = threadIdx.x >> 5, g = (threadIdx.x & 31) >> 2, t = threadIdx.x & 3;
    const unsigned char *at[4];
    float c[2][4] = {};
#pragma unroll
    for (int m = 0; m < 4; m++)
        at[m] = w + min(8 * m + g, rows - 1) * pitch;
#pragma unroll 2
    for (int k = 32 * warp + 8 * t; k - 8 * t < all; k += 32 * WARPS) {
        bool in = k < all;
        uint4 v = {}, a[4] = {};
        if (in && g == 0) v = *(const uint4 *)(x + 2 * k);
#pragma unroll
        for (int m = 0; m < 4; m++)
            if (in && (m < 2 || rows > 16)) a[m] = *(const uint4 *)(at[m] + 2 * k);
        relay_mma(c[0], a[0].x, a[1].x, a[0].y, a[1].y, v.x, v.y);
        relay_mma(c[0], a[0].z, a[1].z, a[0].w, a[1].w, v.z, v.w);
        if (rows <= 16) continue;
        relay_mma(c[1], a[2].x, a[3].x, a[2].y, a[3].y, v.x, v.y);
        relay_mma(c[1], a[2].z, a[3].z, a[2].w, a[3].w, v.z, v.w);
    }
    if (t) return;
    part += warp * ROWS + g;
    part[0] = c[0][0], part[8] = c[0][2];
    if (rows > 16) part[16] = c[1][0], part[24] = c[1][2];
}

/* What becomes of a lane's number of y, known before its product is: what is added to it, and where
 * it goes. */
typedef struct {
    uint32_t bias, add;
    int add_at, y_at, gelu, wide;
    void *h, *y;
} relay_beside;

static __device__ __forceinline__ relay_beside relay_ask(const st_relay_product &o,
                                                         const uint32_t *words, int row, bool mine)
{
    relay_beside b = {0, 0, o.add_at, o.y_at, o.gelu, o.wide, o.h, o.y};
    if (mine && o.bias) b.bias = __ldg(o.bias + row);
    if (mine && o.add) b.add = (uint32_t)o.add[row] << (row & 1 ? 16 : 0);
    if (mine && b.add_at >= 0) b.add = word_look(words + b.add_at + row / 2);
    return b;
}

static __device__ __forceinline__ float relay_rounded(float x)
{
    return __bfloat162float(__float2bfloat16_rn(x));
}

/* Number `row` of y from its sums, in lane row - first of the first warp. */
static __device__ __forceinline__ void relay_finish(uint32_t *words, int row, bool mine,
                                                    const float *part, relay_beside b)
{
    float v = __uint_as_float(b.bias << 16), sum[4] = {};
#pragma unroll
    for (int i = 0; i < WARPS; i++)
        sum[i % 4] += part[i * ROWS];
    v += (sum[0] + sum[1]) + (sum[2] + sum[3]);
    if (b.wide) {
        if (mine) ((float *)b.y)[row] = v;
        return;
    }
    v = relay_rounded(v);
    if (mine && b.h) put((bf16 *)b.h, row, v);
    if (b.gelu == 1)
        v = st_gelu<ST_FUSED_TANH>(v);
    else if (b.gelu)
        v = st_gelu<ST_FUSED_ERF>(v);
    if (mine && b.add_at >= 0 && b.add == RELAY_NONE) b.add = word_take(words + b.add_at + row / 2);
    v += word_half(b.add, row & 1);
    float next = __shfl_down_sync(0xffffffffu, mine ? v : 0, 1);
    if (!mine) return;
    if (row % 2 == 0) word_put(words + b.y_at + row / 2, word_of(v, next));
    if (b.y) put((bf16 *)b.y, row, v);
}

static __device__ __forceinline__ void relay_product(const st_relay_product &o, const relay_room &s,
                                                     uint32_t bars, uint32_t *words,
                                                     relay_place &place, int &tick)
{
    int from = o.from, to = o.to, most = o.most, k = o.k, pitch = o.pitch;
    int lane = threadIdx.x & 31;
    bool first = threadIdx.x < 32;
    relay_beside beside = {};
    if (from >= to) return;
    if (first) beside = relay_ask(o, words, from + lane, lane < min(most, to - from));
    const unsigned char *x = relay_operand(o, s, words);
    for (int at = from; at < to; at += most) {
        int rows = min(most, to - at);
        float *part = s.part + tick * WARPS * ROWS;
        if (first && at != from) beside = relay_ask(o, words, at + lane, lane < rows);
        st_bar_wait(relay_full(bars, place.stage), place.phase);
        relay_multiply(k, rows, pitch, s.stage + place.stage * STAGE, x, part);
        relay_meet();
        if (threadIdx.x == 32) st_bar_arrive(relay_empty(bars, place.stage));
        place_next(place);
        if (first) relay_finish(words, at + lane, lane < rows, part + lane, beside);
        tick ^= 1;
    }
}

#endif
