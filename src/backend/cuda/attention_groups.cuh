/* Attention by products of four warps, 64 rows each, fed by the copy engine (sm_90a), bfloat16.
 * A block of two such groups has 128 queries (forward, gq) or 128 keys (gk, gv), whose rows it
 * keeps in registers as left operands, and walks over the other side in steps of 64. Each group
 * starts the scores of a step, then the sums of the step before, and turns scores into weights
 * while those sums are still being made. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_ATTENTION_GROUPS_CUH
#define ST_ATTENTION_GROUPS_CUH

#include "attention_steps.cuh"

typedef struct {
    tile_map q, k, v, go;
} attend_maps;

/* A unit is a tile of 64 rows; PLACES pairs of units are there or on their way. */
enum { GROUPS = 2, GROUP_ROWS = 64, GROUP_THREADS = GROUPS * 128, PLACES = 4, PANEL = 64 * 128 };

#ifdef ST_SM90A

/* Shared memory of a block, as addresses. */
typedef struct {
    uint32_t own;   /* units of x, then of y, of the rows that the block keeps */
    uint32_t pairs; /* PLACES times a unit of x and one of y */
    uint32_t rows;  /* PLACES times lse2 and D of 64 queries */
    uint32_t full, empty, kept;
} group_shared;

template <int D, int OWN> __device__ __forceinline__ group_shared group_place(void)
{
    group_shared s;
    s.own = shared_at(shared_start());
    s.pairs = s.own + OWN * GROUPS * 64 * D * 2;
    s.rows = s.pairs + PLACES * 2 * 64 * D * 2;
    s.full = s.rows + PLACES * 512;
    s.empty = s.full + PLACES * 8;
    s.kept = s.empty + PLACES * 8;
    if (threadIdx.x == 0) {
        for (int i = 0; i < PLACES; i++) {
            barrier_start(s.full + 8 * i, 1);
            barrier_start(s.empty + 8 * i, GROUPS * 4);
        }
        barrier_start(s.kept, 1);
        barriers_started();
    }
    __syncthreads();
    return s;
}

template <int D>
__device__ __forceinline__ void unit_copy(const attend_view &a, const tile_map *x, int head, int t,
                                          uint32_t to, uint32_t bar)
{
#pragma unroll
    for (int p = 0; p < D / 64; p++)
        tile_copy(to + p * PANEL, x, bar, 64 * p, t, head % a.heads, head / a.heads);
}

/* What a block walks over: pairs of units of x and y, `steps` of them from position `first` on.
 * ROWS: with lse2 and D of these queries. */
typedef struct {
    const tile_map *x, *y;
    int head, first, steps, leader;
} group_walk;

template <int D, bool ROWS>
__device__ __forceinline__ void walk_fill(const attend_view &a, const group_shared &s,
                                          const group_walk &w, int i)
{
    enum { UNIT = 64 * D * 2 };
    if (i >= w.steps) return;
    uint32_t place = (uint32_t)i % PLACES, full = s.full + 8 * place, to = s.pairs + place * 2 * UNIT;
    int t = w.first + 64 * i;
    if (i >= PLACES) barrier_wait(s.empty + 8 * place, (uint32_t)(i / PLACES - 1) & 1);
    barrier_expect(full, 2 * UNIT + (ROWS ? 512 : 0));
    unit_copy<D>(a, w.x, w.head, t, to, full);
    unit_copy<D>(a, w.y, w.head, t, to + UNIT, full);
    if (ROWS) {
        const float *row = a.rows + (int64_t)w.head * a.padded + t;
        row_copy(s.rows + place * 512, row, 256, full);
        row_copy(s.rows + place * 512 + 256, row + (int64_t)a.batch * a.heads * a.padded, 256,
                 full);
    }
}

/* Waits for pair i; the leader first sends for the one that takes the place of pair i - 2, which
 * every group has left, or is about to. */
template <int D, bool ROWS>
__device__ __forceinline__ uint32_t walk_wait(const attend_view &a, const group_shared &s,
                                              const group_walk &w, int i)
{
    if (w.leader && i >= 2) walk_fill<D, ROWS>(a, s, w, i - 2 + PLACES);
    __syncwarp();
    barrier_wait(s.full + (uint32_t)i % PLACES * 8, (uint32_t)(i / PLACES) & 1);
    return s.pairs + (uint32_t)i % PLACES * 2 * 64 * D * 2;
}
__device__ __forceinline__ void walk_leave(const group_shared &s, int i)
{
    if (threadIdx.x % 32 == 0) barrier_arrive(s.empty + (uint32_t)i % PLACES * 8);
}

/* Starts the copies of the block's own rows (OWN tensors) and of the first pairs. */
template <int D, int OWN, bool ROWS>
__device__ __forceinline__ void walk_start(const attend_view &a, const group_shared &s,
                                           const group_walk &w, const tile_map *x,
                                           const tile_map *y, int row)
{
    enum { UNIT = 64 * D * 2 };
    if (!w.leader) return;
    barrier_expect(s.kept, OWN * GROUPS * UNIT);
    for (int g = 0; g < GROUPS; g++) {
        unit_copy<D>(a, x, w.head, row + 64 * g, s.own + g * UNIT, s.kept);
        if (OWN == 2)
            unit_copy<D>(a, y, w.head, row + 64 * g, s.own + (GROUPS + g) * UNIT, s.kept);
    }
    for (int i = 0; i < PLACES; i++)
        walk_fill<D, ROWS>(a, s, w, i);
}

/* A warp's 16 rows of a unit as left operands. */
template <int D>
__device__ __forceinline__ void operand_load(uint32_t (&x)[D / 16][4], uint32_t unit)
{
    int lane = threadIdx.x % 32, row = threadIdx.x / 32 % 4 * 16 + lane % 16;
#pragma unroll
    for (int k = 0; k < D / 16; k++)
        matrices(x[k], unit + piece_at<64>(row, 2 * k + lane / 16));
}

/* s = x times the transpose of a unit. */
template <int D>
__device__ __forceinline__ void group_scores(float (&s)[8][4], const uint32_t (&x)[D / 16][4],
                                             uint32_t unit)
{
#pragma unroll
    for (int k = 0; k < D / 16; k++)
        group_product<0>(s, x[k], operand_at(unit + k / 4 * PANEL + k % 4 * 32), k > 0);
}
/* The same with x in shared memory. */
template <int D>
__device__ __forceinline__ void shared_scores(float (&s)[8][4], uint32_t x, uint32_t unit)
{
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
        uint32_t at = k / 4 * PANEL + k % 4 * 32;
        shared_product(s, operand_at(x + at), operand_at(unit + at), k > 0);
    }
}
/* c += p times a unit. */
template <int D>
__device__ __forceinline__ void group_sums(float (&c)[D / 64][8][4], const uint32_t (&p)[4][4],
                                           uint32_t unit)
{
#pragma unroll
    for (int k = 0; k < 4; k++) {
#pragma unroll
        for (int n = 0; n < D / 64; n++)
            group_product<1>(c[n], p[k], operand_at(unit + n * PANEL + k * 2048), 1);
    }
}
template <int N> __device__ __forceinline__ void hold_all(float (&c)[N][8][4])
{
#pragma unroll
    for (int n = 0; n < N; n++)
        hold(c[n]);
}

/* A warp's rows of sums, times `by`, through its part of `unit`, which nothing else uses now, so
 * that whole lines of 128 bytes are written. */
template <int D>
__device__ __forceinline__ void group_store(const attend_view &a, const attend_heads &x, int head,
                                            int t0, int end, const float (&c)[D / 64][8][4],
                                            const float (&by)[2], uint32_t unit)
{
    int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    unsigned char *base = shared_start() + (unit - shared_at(shared_start()));
#pragma unroll
    for (int n = 0; n < D / 8; n++) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const float *two = &c[n / 8][n % 8][2 * h];
            *(uint32_t *)(base + piece_at<64>(16 * warp + g + 8 * h, n) + 4 * t) =
                pack_bf16(two[0] * by[h], two[1] * by[h]);
        }
    }
    __syncwarp();
#pragma unroll
    for (int i = lane; i < 16 * D / 8; i += 32) {
        int r = i / (D / 8), piece = i % (D / 8), row = t0 + 16 * warp + r;
        if (row >= end || 8 * piece >= a.dim) continue;
        uint4 u = *(const uint4 *)(base + piece_at<64>(16 * warp + r, piece));
        *(uint4 *)(heads_row(a, x, head, row) + 8 * piece) = u;
    }
}

__device__ __forceinline__ void group_sync(int group)
{
    threads_sync(1 + group, 128);
}

__device__ __forceinline__ int steps_of(int keys)
{
    return (keys + 63) / 64;
}
/* Blocks are numbered so that those of a head are neighbours, the longest first. */
__device__ __forceinline__ int group_block(const attend_view &a, int length, bool down, int *head)
{
    int tiles = (length + 127) / 128, tile = (int)(blockIdx.x % tiles);
    *head = (int)(blockIdx.x / tiles);
    return (down ? tiles - 1 - tile : tile) * 128;
}
/* Keys that some query of rows [t0, t0 + rows) sees: those below this. */
__device__ __forceinline__ int keys_of(const attend_view &a, int t0, int rows)
{
    int end = t0 + rows < a.q_len ? t0 + rows : a.q_len;
    return end > t0 ? last_key(a, end - 1) : 0;
}

/* Weights of scores s with keys j and on. True: earlier sums are to be multiplied by `by`. */
template <bool DROP>
__device__ __forceinline__ bool group_weigh(const attend_view &a, float (&s)[8][4], attend_rows &r,
                                            int head, int t0, int j, float (&by)[2])
{
    if (j + 64 > last_key(a, t0)) hide_keys<8>(s, r, j);
    bool grown = soften<8>(a.scale2, s, r, by);
    if (DROP) {
        uint32_t kept[1];
        kept_by_query<8>(a, head, t0, j, kept);
        drop_weights<8>(s, kept);
    }
    return grown;
}

template <int D, bool DROP, int BLOCKS>
__global__ void __launch_bounds__(GROUP_THREADS, BLOCKS)
    groups_fwd_kernel(const __grid_constant__ attend_view a, const __grid_constant__ attend_maps m)
{
    enum { UNIT = 64 * D * 2 };
    int head, q0 = group_block(a, a.q_len, a.causal, &head), group = threadIdx.x / 128;
    int t0 = q0 + 64 * group, w0 = t0 + threadIdx.x / 32 % 4 * 16;
    group_shared at = group_place<D, 1>();
    group_walk w = {&m.k, &m.v, head, 0, steps_of(keys_of(a, q0, 128)), threadIdx.x == 128};
    int mine = steps_of(keys_of(a, t0, 64));
    walk_start<D, 1, false>(a, at, w, &m.q, NULL, q0);
    attend_rows r = rows_start(a, w0);
    r.first[0] = r.first[1] = 0;
    float o[D / 64][8][4] = {}, s[8][4], by[2];
    uint32_t q[D / 16][4], p[4][4], unit = at.own + group * UNIT;
    barrier_wait(at.kept, 0);
    operand_load<D>(q, unit);
    if (mine > 0) {
        uint32_t pair = walk_wait<D, false>(a, at, w, 0);
        products_begin();
        group_scores<D>(s, q, pair);
        products_commit();
        products_wait<0>();
        hold(s);
        group_weigh<DROP>(a, s, r, head, w0, 0, by);
        pack<8>(p, s);
        for (int i = 1; i < mine; i++) {
            uint32_t before = pair;
            pair = walk_wait<D, false>(a, at, w, i);
            hold(s);
            hold_all(o);
            products_begin();
            group_scores<D>(s, q, pair);
            products_commit();
            group_sums<D>(o, p, before + UNIT);
            products_commit();
            products_wait<1>();
            hold(s);
            bool grown = group_weigh<DROP>(a, s, r, head, w0, 64 * i, by);
            products_wait<0>();
            hold_all(o);
            walk_leave(at, i - 1);
            if (grown) {
#pragma unroll
                for (int n = 0; n < D / 64; n++)
                    rescale<8>(o[n], by);
            }
            pack<8>(p, s);
        }
        hold_all(o);
        products_begin();
        group_sums<D>(o, p, pair + UNIT);
        products_commit();
        products_wait<0>();
        hold_all(o);
        walk_leave(at, mine - 1);
    }
    for (int i = mine; i < w.steps; i++) {
        walk_wait<D, false>(a, at, w, i);
        walk_leave(at, i);
    }
    rows_finish(a, r, head, w0, by);
    group_store<D>(a, a.o, head, t0, a.q_len, o, by, unit);
}

/* ds of scores s and go.v in g, with keys j and on. */
template <bool DROP>
__device__ __forceinline__ void group_gradient_by_query(const attend_view &a, float (&s)[8][4],
                                                        float (&g)[8][4], const attend_rows &r,
                                                        const attend_known &known, int head,
                                                        int t0, int j)
{
    uint32_t kept[1] = {0};
    if (j + 64 > last_key(a, t0)) hide_keys<8>(s, r, j);
    if (DROP) kept_by_query<8>(a, head, t0, j, kept);
#pragma unroll
    for (int n = 0; n < 8; n++) {
#pragma unroll
        for (int e = 0; e < 4; e++)
            gradient<DROP>(a, s[n][e], g[n][e], known.lse2[e / 2], known.d[e / 2],
                           kept[0] >> (4 * n + e) & 1);
    }
}

template <int D, bool DROP>
__global__ void __launch_bounds__(GROUP_THREADS, 1)
    groups_gq_kernel(const __grid_constant__ attend_view a, const __grid_constant__ attend_maps m)
{
    enum { UNIT = 64 * D * 2 };
    int head, q0 = group_block(a, a.q_len, a.causal, &head), group = threadIdx.x / 128;
    int t0 = q0 + 64 * group, w0 = t0 + threadIdx.x / 32 % 4 * 16;
    group_shared at = group_place<D, 2>();
    group_walk w = {&m.k, &m.v, head, 0, steps_of(keys_of(a, q0, 128)), threadIdx.x == 128};
    int mine = steps_of(keys_of(a, t0, 64));
    walk_start<D, 2, false>(a, at, w, &m.q, &m.go, q0);
    attend_rows r = rows_start(a, w0);
    r.first[0] = r.first[1] = 0;
    attend_known known = rows_know(a, head, w0);
    float c[D / 64][8][4] = {}, s[8][4], g[8][4], by[2] = {a.scale, a.scale};
    uint32_t q[D / 16][4], go[D / 16][4], ds[4][4], unit = at.own + group * UNIT;
    barrier_wait(at.kept, 0);
    operand_load<D>(q, unit);
    operand_load<D>(go, unit + GROUPS * UNIT);
    if (mine > 0) {
        uint32_t pair = walk_wait<D, false>(a, at, w, 0);
        products_begin();
        group_scores<D>(s, q, pair);
        group_scores<D>(g, go, pair + UNIT);
        products_commit();
        products_wait<0>();
        hold(s);
        hold(g);
        group_gradient_by_query<DROP>(a, s, g, r, known, head, w0, 0);
        pack<8>(ds, g);
        for (int i = 1; i < mine; i++) {
            uint32_t before = pair;
            pair = walk_wait<D, false>(a, at, w, i);
            hold(s);
            hold(g);
            hold_all(c);
            products_begin();
            group_scores<D>(s, q, pair);
            group_scores<D>(g, go, pair + UNIT);
            products_commit();
            group_sums<D>(c, ds, before);
            products_commit();
            products_wait<1>();
            hold(s);
            hold(g);
            group_gradient_by_query<DROP>(a, s, g, r, known, head, w0, 64 * i);
            products_wait<0>();
            hold_all(c);
            walk_leave(at, i - 1);
            pack<8>(ds, g);
        }
        hold_all(c);
        products_begin();
        group_sums<D>(c, ds, pair);
        products_commit();
        products_wait<0>();
        hold_all(c);
        walk_leave(at, mine - 1);
    }
    for (int i = mine; i < w.steps; i++) {
        walk_wait<D, false>(a, at, w, i);
        walk_leave(at, i);
    }
    group_store<D>(a, a.gq, head, t0, a.q_len, c, by, unit);
}

/* Dropped weights and ds of scores s and go.v in g, of keys k0 and on with 64 queries from t on,
 * whose lse2 and D lie at `rows`. */
template <bool DROP>
__device__ __forceinline__ void group_gradient_by_key(const attend_view &a, float (&s)[8][4],
                                                      float (&g)[8][4], const float *rows,
                                                      int head, int k0, int t)
{
    uint32_t kept[1] = {0};
    int lane = threadIdx.x % 32, key = k0 + lane / 4;
    bool hidden = a.causal && a.q_start + t < k0 + 15;
    if (DROP) kept_by_key<8>(a, head, k0, t, kept);
#pragma unroll
    for (int n = 0; n < 8; n++) {
        float2 lse2 = *(const float2 *)(rows + 8 * n + lane % 4 * 2);
        float2 d = *(const float2 *)(rows + 64 + 8 * n + lane % 4 * 2);
        if (hidden) {
#pragma unroll
            for (int e = 0; e < 4; e++)
                if (key + e / 2 * 8 > a.q_start + t + 8 * n + lane % 4 * 2 + e % 2)
                    s[n][e] = -INFINITY;
        }
#pragma unroll
        for (int e = 0; e < 4; e++)
            gradient<DROP>(a, s[n][e], g[n][e], e % 2 ? lse2.y : lse2.x, e % 2 ? d.y : d.x,
                           kept[0] >> (4 * n + e) & 1);
    }
}

template <int D>
__device__ __forceinline__ void key_scores(float (&s)[8][4], float (&g)[8][4],
                                           const uint32_t (&k)[D / 16][4],
                                           const uint32_t (&v)[D / 16][4], uint32_t own,
                                           uint32_t pair)
{
    enum { UNIT = 64 * D * 2 };
    if (D == 64) {
        group_scores<D>(s, k, pair);
        group_scores<D>(g, v, pair + UNIT);
    } else { /* registers are short */
        shared_scores<D>(s, own, pair);
        shared_scores<D>(g, own + GROUPS * UNIT, pair + UNIT);
    }
}

template <int D, bool DROP>
__global__ void __launch_bounds__(GROUP_THREADS, 1)
    groups_gkv_kernel(const __grid_constant__ attend_view a, const __grid_constant__ attend_maps m)
{
    enum { UNIT = 64 * D * 2 };
    int head, b0 = group_block(a, a.kv_len, false, &head), group = threadIdx.x / 128;
    int g0 = b0 + 64 * group, k0 = g0 + threadIdx.x / 32 % 4 * 16, first = first_query(a, b0) & ~63;
    group_shared at = group_place<D, 2>();
    group_walk w = {&m.q, &m.go, head, first, steps_of(a.q_len - first), threadIdx.x == 0};
    int from = ((first_query(a, g0 < a.kv_len ? g0 : a.kv_len - 1) & ~63) - first) / 64;
    if (g0 >= a.kv_len) from = w.steps;
    walk_start<D, 2, true>(a, at, w, &m.k, &m.v, b0);
    float ck[D / 64][8][4] = {}, cv[D / 64][8][4] = {}, s[8][4], g[8][4];
    uint32_t k[D / 16][4], v[D / 16][4], p[4][4], ds[4][4], own = at.own + group * UNIT;
    const float *rows = (const float *)(shared_start() + (at.rows - shared_at(shared_start())));
    barrier_wait(at.kept, 0);
    if (D == 64) {
        operand_load<D>(k, own);
        operand_load<D>(v, own + GROUPS * UNIT);
    }
    for (int i = 0; i < from; i++) {
        walk_wait<D, true>(a, at, w, i);
        walk_leave(at, i);
    }
    if (from < w.steps) {
        uint32_t pair = walk_wait<D, true>(a, at, w, from);
        products_begin();
        key_scores<D>(s, g, k, v, own, pair);
        products_commit();
        products_wait<0>();
        hold(s);
        hold(g);
        group_gradient_by_key<DROP>(a, s, g, rows + from % PLACES * 128, head, k0,
                                    first + 64 * from);
        pack<8>(p, s);
        pack<8>(ds, g);
        for (int i = from + 1; i < w.steps; i++) {
            uint32_t before = pair;
            pair = walk_wait<D, true>(a, at, w, i);
            hold(s);
            hold(g);
            hold_all(ck);
            hold_all(cv);
            products_begin();
            key_scores<D>(s, g, k, v, own, pair);
            products_commit();
            group_sums<D>(cv, p, before + UNIT);
            group_sums<D>(ck, ds, before);
            products_commit();
            products_wait<1>();
            hold(s);
            hold(g);
            group_gradient_by_key<DROP>(a, s, g, rows + i % PLACES * 128, head, k0,
                                        first + 64 * i);
            products_wait<0>();
            hold_all(ck);
            hold_all(cv);
            walk_leave(at, i - 1);
            pack<8>(p, s);
            pack<8>(ds, g);
        }
        hold_all(ck);
        hold_all(cv);
        products_begin();
        group_sums<D>(cv, p, pair + UNIT);
        group_sums<D>(ck, ds, pair);
        products_commit();
        products_wait<0>();
        hold_all(ck);
        hold_all(cv);
        walk_leave(at, w.steps - 1);
    }
    if (D > 64) group_sync(group); /* all products have read the rows */
    const float by_k[2] = {a.scale, a.scale}, by_v[2] = {a.kept, a.kept};
    group_store<D>(a, a.gk, head, g0, a.kv_len, ck, by_k, own);
    group_store<D>(a, a.gv, head, g0, a.kv_len, cv, by_v, own + GROUPS * UNIT);
}

#endif
#endif
