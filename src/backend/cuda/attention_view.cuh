/* What attention's kernels share: the arguments as they see them, which keys a query sees, which
 * weights dropout keeps, and tiles of bfloat16 rows in shared memory.
 *
 * A tile of R rows and D columns lies as D / 64 panels of R rows of 128 bytes; the 16-byte piece c
 * of row r is at place c ^ (r % 8). The copy engine and the products of four warps know this form
 * as the 128-byte swizzle; fragments of one warp are read from it without bank conflicts. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_ATTENTION_VIEW_CUH
#define ST_ATTENTION_VIEW_CUH

#include "attention_ptx.cuh"
#include "backend/cuda/philox.cuh"

#define ST_LOG2E 1.4426950408889634f

/* One tensor of heads: item i, position t, head h starts at i*step + t*stride + h*dim. `each` (k
 * and v): so many heads of queries read one. */
typedef struct {
    char *data;
    int64_t stride, step;
    int each;
} attend_heads;

typedef struct {
    attend_heads q, k, v, o, go, gq, gk, gv;
    float *lse;   /* (batch, heads, q_len) or NULL */
    float *rows;  /* bwd: lse log2(e), then go.o, each (batch*heads, padded) */
    float *parts; /* decoding: sums of parts of the keys */
    int64_t window, q_start;
    uint64_t seed;
    int batch, heads, dim, q_len, kv_len, padded, splits, causal;
    float scale, scale2; /* scale2 = scale log2(e) */
    float kept;          /* 1 / (1 - drop) */
    uint32_t below;      /* weights whose number is below are dropped; 0: no dropout */
    int wide;            /* rows can be read and written 16 bytes at a time */
} attend_view;

__device__ __forceinline__ int clamp_key(const attend_view &a, int64_t j)
{
    return (int)(j < 0 ? 0 : j < a.kv_len ? j : a.kv_len);
}
/* The keys that query t sees: from first_key to below last_key. */
__device__ __forceinline__ int last_key(const attend_view &a, int t)
{
    int64_t at = a.q_start + t;
    if (a.causal) return clamp_key(a, at + 1);
    return a.window ? clamp_key(a, at + (a.window + 1) / 2) : a.kv_len;
}
__device__ __forceinline__ int first_key(const attend_view &a, int t)
{
    if (!a.window) return 0;
    return clamp_key(a, a.q_start + t - (a.causal ? a.window - 1 : a.window / 2));
}
/* The queries that see key j: from first_query to below end_query. A window is causal. */
__device__ __forceinline__ int first_query(const attend_view &a, int j)
{
    int64_t t = a.causal ? j - a.q_start : 0;
    return (int)(t < 0 ? 0 : t < a.q_len ? t : a.q_len);
}
__device__ __forceinline__ int end_query(const attend_view &a, int j)
{
    int64_t t = a.window ? j - a.q_start + a.window : a.q_len;
    return (int)(t < 0 ? 0 : t < a.q_len ? t : a.q_len);
}

/* ---- dropout -------------------------------------------------------------------------------- */

__device__ __forceinline__ uint32_t attend_kept4(const attend_view &a, int64_t block)
{
    uint4 x = philox(a.seed, 0, (uint64_t)block);
    return (uint32_t)(x.x >= a.below) | (uint32_t)(x.y >= a.below) << 1 |
           (uint32_t)(x.z >= a.below) << 2 | (uint32_t)(x.w >= a.below) << 3;
}
__device__ __forceinline__ bool attend_keeps(const attend_view &a, int64_t number)
{
    return attend_kept4(a, number >> 2) >> (number & 3) & 1;
}
/* Number of the dropout decision on key 0 of query t; head = item * heads + head. */
__device__ __forceinline__ int64_t attend_number(const attend_view &a, int head, int t)
{
    return ((int64_t)head * a.q_len + t) * a.kv_len;
}

/* Decisions on an accumulator of 16 queries from t0 on and NT*8 keys from j0 on (a multiple of 8):
 * bit 4*n + e of word[n / 8] is that on number e of accumulator n. Where lengths allow, four lanes
 * that share blocks of four numbers draw each once. */
template <int NT>
__device__ __forceinline__ void kept_by_query(const attend_view &a, int head, int t0, int j0,
                                              uint32_t (&word)[(NT + 7) / 8])
{
    int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    int64_t row0 = attend_number(a, head, t0 + g), row8 = row0 + 8 * (int64_t)a.kv_len;
#pragma unroll
    for (int w = 0; w < (NT + 7) / 8; w++)
        word[w] = 0;
    if (a.kv_len % 4 == 0) {
        /* lane t % 2 of a pair draws for the first or second row; pair t / 2 has four keys */
        int64_t mine = t % 2 ? row8 : row0;
#pragma unroll
        for (int n = 0; n < NT; n++) {
            uint32_t own = attend_kept4(a, (mine + j0 + 8 * n + t / 2 * 4) >> 2);
            uint32_t other = __shfl_xor_sync(0xffffffffu, own, 1);
            uint32_t low = t % 2 ? other >> 2 : own & 3, high = t % 2 ? own >> 2 : other & 3;
            word[n / 8] |= (low | high << 2) << n % 8 * 4;
        }
        return;
    }
#pragma unroll 1
    for (int n = 0; n < NT; n++) {
        int64_t at = j0 + 8 * n + 2 * t;
        uint32_t bits = (uint32_t)attend_keeps(a, row0 + at) |
                        (uint32_t)attend_keeps(a, row0 + at + 1) << 1 |
                        (uint32_t)attend_keeps(a, row8 + at) << 2 |
                        (uint32_t)attend_keeps(a, row8 + at + 1) << 3;
#pragma unroll
        for (int w = 0; w < (NT + 7) / 8; w++)
            word[w] |= n / 8 == w ? bits << n % 8 * 4 : 0;
    }
}

/* The same on an accumulator of 16 keys from j0 on (a multiple of 16) and NT*8 queries. */
template <int NT>
__device__ __forceinline__ void kept_by_key(const attend_view &a, int head, int j0, int t0,
                                            uint32_t (&word)[(NT + 7) / 8])
{
    int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int w = 0; w < (NT + 7) / 8; w++)
        word[w] = 0;
    if (a.kv_len % 4 == 0) {
        /* lanes of rows 4r .. 4r + 3 share four blocks; the e-th of them draws block e */
        int e = g % 4, first = lane & ~12;
#pragma unroll
        for (int n = 0; n < NT; n++) {
            int64_t row = attend_number(a, head, t0 + 8 * n + 2 * t + e % 2);
            uint32_t own = attend_kept4(a, (row + j0 + (g & ~3) + e / 2 * 8) >> 2), bits = 0;
#pragma unroll
            for (int f = 0; f < 4; f++)
                bits |= (__shfl_sync(0xffffffffu, own, first + 4 * f) >> e & 1) << f;
            word[n / 8] |= bits << n % 8 * 4;
        }
        return;
    }
#pragma unroll 1
    for (int n = 0; n < NT; n++) {
        int64_t row = attend_number(a, head, t0 + 8 * n + 2 * t) + j0 + g, next = row + a.kv_len;
        uint32_t bits = (uint32_t)attend_keeps(a, row) | (uint32_t)attend_keeps(a, next) << 1 |
                        (uint32_t)attend_keeps(a, row + 8) << 2 |
                        (uint32_t)attend_keeps(a, next + 8) << 3;
#pragma unroll
        for (int w = 0; w < (NT + 7) / 8; w++)
            word[w] |= n / 8 == w ? bits << n % 8 * 4 : 0;
    }
}

/* ---- rows and tiles ------------------------------------------------------------------------- */

/* Element where position t of a head (item * heads + head) starts. */
__device__ __forceinline__ int64_t heads_at(const attend_view &a, const attend_heads &x, int head,
                                            int t)
{
    return head / a.heads * x.step + (int64_t)t * x.stride +
           (int64_t)(head % a.heads / x.each) * a.dim;
}
__device__ __forceinline__ uint16_t *heads_row(const attend_view &a, const attend_heads &x,
                                               int head, int t)
{
    return (uint16_t *)x.data + heads_at(a, x, head, t);
}

/* Where piece c (eight columns) of row r lies in a tile of ROWS rows. */
template <int ROWS> __device__ __forceinline__ uint32_t piece_at(int r, int c)
{
    return (uint32_t)(((c >> 3) * ROWS + r) * 128 + ((c & 7) ^ (r & 7)) * 16);
}

/* Rows from `first` on to a tile, zeros for those from `end` on and for columns past dim. Wide
 * rows are copied beside the arithmetic. */
template <int ROWS, int D, int THREADS>
__device__ __forceinline__ void tile_load(const attend_view &a, const attend_heads &x, int head,
                                          int first, int end, uint32_t to)
{
    for (int i = threadIdx.x; i < ROWS * (D / 8); i += THREADS) {
        int r = i / (D / 8), c = i % (D / 8), left = a.dim - 8 * c;
        bool there = first + r < end && left > 0;
        const uint16_t *row = heads_row(a, x, head, there ? first + r : 0) + (there ? 8 * c : 0);
        if (a.wide) {
            copy_16(to + piece_at<ROWS>(r, c), row, there);
            continue;
        }
        uint32_t w[4];
#pragma unroll
        for (int e = 0; e < 4; e++) {
            w[e] = there && 2 * e < left ? row[2 * e] : 0;
            if (there && 2 * e + 1 < left) w[e] |= (uint32_t)row[2 * e + 1] << 16;
        }
        store_16(to + piece_at<ROWS>(r, c), w);
    }
}

/* Rows t0 + g and t0 + g + 8 of an accumulator of NT*8 columns from c0 on, times `by` of each. */
template <int NT>
__device__ __forceinline__ void rows_store(const attend_view &a, const attend_heads &x, int head,
                                           int t0, int end, int c0, const float (&c)[NT][4],
                                           float by0, float by8)
{
    int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int row = t0 + g + 8 * half;
        if (row >= end) continue;
        uint16_t *to = heads_row(a, x, head, row);
        float by = half ? by8 : by0;
#pragma unroll
        for (int n = 0; n < NT; n++) {
            int col = c0 + 8 * n + 2 * t;
            uint32_t two = pack_bf16(c[n][2 * half] * by, c[n][2 * half + 1] * by);
            if (a.wide && col < a.dim) {
                *(uint32_t *)(to + col) = two;
            } else {
                if (col < a.dim) to[col] = (uint16_t)two;
                if (col + 1 < a.dim) to[col + 1] = (uint16_t)(two >> 16);
            }
        }
    }
}

#endif
