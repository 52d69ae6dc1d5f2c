/* What feeds products of four warps. A task keeps 128 rows of queries (forward, gq) or keys (gk,
 * gv), 64 for each of two groups of four warps, and walks over the other side in pairs of tiles of
 * 64 rows ("units"), which come through a ring.
 *
 * Forward, a block has one task, and a thread of its last group sends for pairs: two blocks fit on
 * a multiprocessor, and one works while the other starts or ends. Backward there is no room for
 * two: a block stays and takes one task after another, and a thread of a third group of warps keeps
 * tiles coming, for tasks ahead too. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_ATTENTION_RING_CUH
#define ST_ATTENTION_RING_CUH

#include "attention_steps.cuh"

typedef struct {
    tile_map q, k, v, go;
} attend_maps;

typedef enum { PASS_FWD, PASS_GQ, PASS_GKV } attend_pass;

enum { GROUPS = 2, FWD_THREADS = GROUPS * 128, BWD_THREADS = FWD_THREADS + 128 };
enum { TASK_ROWS = GROUPS * 64 };
enum { PANEL = 64 * 128 }; /* bytes of 64 rows and columns */

/* Where a block's shared memory holds the own rows of a task (backward of two), the ring of pairs,
 * lse2 and D of its queries, and barriers. */
template <int D, attend_pass PASS> struct ring_map {
    enum {
        PLACES = D > 64 && PASS != PASS_FWD ? 3 : 4,
        UNIT = 64 * D * 2,
        PAIR = 2 * UNIT,
        OWN = (PASS == PASS_FWD ? 1 : 2) * GROUPS * UNIT,
        PAIRS = PASS == PASS_FWD ? OWN : 2 * OWN,
        ROWS = PAIRS + PLACES * PAIR,
        FULL = ROWS + (PASS == PASS_GKV ? PLACES * 512 : 0),
        EMPTY = FULL + PLACES * 8,
        KEPT = EMPTY + PLACES * 8,
        LEFT = KEPT + 16,
        BYTES = LEFT + 16
    };
};

/* steps pairs from position `first` on; head < 0: no task. */
typedef struct {
    int head, row, first, steps;
} ring_task;

/* The place of the next pair and the parity of its turn; the number of the task at hand. */
typedef struct {
    int place, turn, task;
} group_ring;

#ifdef ST_SM90A

__device__ __forceinline__ int steps_of(int positions)
{
    return (positions + 63) / 64;
}
/* Keys that some query of rows [t0, t0 + rows) sees: those below this. */
__device__ __forceinline__ int keys_of(const attend_view &a, int t0, int rows)
{
    int end = t0 + rows < a.q_len ? t0 + rows : a.q_len;
    return end > t0 ? last_key(a, end - 1) : 0;
}

__device__ __forceinline__ int tiles_of(int length)
{
    return (length + TASK_ROWS - 1) / TASK_ROWS;
}
/* Forward: the blocks of a head are neighbours, the longest first. */
__device__ __forceinline__ ring_task fwd_task(const attend_view &a)
{
    int tiles = tiles_of(a.q_len), tile = (int)(blockIdx.x % tiles);
    ring_task t = {(int)(blockIdx.x / tiles), (a.causal ? tiles - 1 - tile : tile) * TASK_ROWS, 0,
                   0};
    t.steps = steps_of(keys_of(a, t.row, TASK_ROWS));
    return t;
}
/* Backward: task `number` of this block. Heads are taken as many at a time as there are blocks, so
 * that each block gets every length once; blocks take turns from both ends in what is left. */
template <attend_pass PASS>
__device__ __forceinline__ ring_task task_of(const attend_view &a, int number)
{
    int blocks = grid_blocks(), length = PASS == PASS_GKV ? a.kv_len : a.q_len;
    int heads = a.batch * a.heads, tiles = tiles_of(length);
    int64_t place =
        (int64_t)number * blocks + (int)(number % 2 ? blocks - 1 - blockIdx.x : blockIdx.x);
    ring_task t = {-1, 0, 0, 0};
    if (place >= (int64_t)heads * tiles) return t;
    int many = (int)(place / ((int64_t)blocks * tiles)) * blocks;
    int rest = (int)(place - (int64_t)many * tiles);
    int few = heads - many < blocks ? heads - many : blocks, rank = rest / few;
    t.head = many + rest % few;
    t.row = (PASS == PASS_GQ && a.causal ? tiles - 1 - rank : rank) * TASK_ROWS;
    t.first = PASS == PASS_GKV ? first_query(a, t.row) & ~63 : 0;
    t.steps = steps_of(PASS == PASS_GKV ? a.q_len - t.first : keys_of(a, t.row, TASK_ROWS));
    return t;
}

__device__ __forceinline__ uint32_t ring_at(int offset)
{
    return shared_at(shared_start()) + (uint32_t)offset;
}

template <int D>
__device__ __forceinline__ void unit_copy(const attend_view &a, const tile_map *x, int each,
                                          int head, int t, uint32_t to, uint32_t bar)
{
#pragma unroll
    for (int p = 0; p < D / 64; p++)
        tile_copy(to + p * PANEL, x, bar, 64 * p, t, head % a.heads / each, head / a.heads);
}

template <int D, attend_pass PASS> __device__ __forceinline__ void ring_turn(group_ring &r)
{
    if (++r.place == ring_map<D, PASS>::PLACES) {
        r.place = 0;
        r.turn ^= 1;
    }
}

/* Sends for the own rows of task t, the r.task-th, once those of the last but one are left. */
template <int D, attend_pass PASS>
__device__ __forceinline__ void ring_send_own(const attend_view &a, const attend_maps &m,
                                              const group_ring &r, const ring_task &t)
{
    typedef ring_map<D, PASS> at;
    int half = r.task % 2, own = PASS == PASS_GKV ? a.k.each : 1;
    uint32_t kept = ring_at(at::KEPT) + 8 * half, to = ring_at(0) + half * at::OWN;
    if (r.task >= 2) barrier_wait(ring_at(at::LEFT) + 8 * half, (uint32_t)(r.task / 2 - 1) & 1);
    barrier_expect(kept, at::OWN);
    for (int g = 0; g < GROUPS; g++, to += at::UNIT) {
        unit_copy<D>(a, PASS == PASS_GKV ? &m.k : &m.q, own, t.head, t.row + 64 * g, to, kept);
        if (PASS != PASS_FWD)
            unit_copy<D>(a, PASS == PASS_GKV ? &m.v : &m.go, own, t.head, t.row + 64 * g,
                         to + GROUPS * at::UNIT, kept);
    }
}

/* Sends for the pair at position t, once its place is empty. */
template <int D, attend_pass PASS>
__device__ __forceinline__ void ring_send(const attend_view &a, const attend_maps &m, int place,
                                          int turn, int head, int t)
{
    typedef ring_map<D, PASS> at;
    uint32_t full = ring_at(at::FULL) + 8 * place, to = ring_at(at::PAIRS) + place * at::PAIR;
    int each = PASS == PASS_GKV ? 1 : a.k.each;
    barrier_wait(ring_at(at::EMPTY) + 8 * place, (uint32_t)turn ^ 1);
    barrier_expect(full, at::PAIR + (PASS == PASS_GKV ? 512 : 0));
    unit_copy<D>(a, PASS == PASS_GKV ? &m.q : &m.k, each, head, t, to, full);
    unit_copy<D>(a, PASS == PASS_GKV ? &m.go : &m.v, each, head, t, to + at::UNIT, full);
    if (PASS == PASS_GKV) {
        const float *row = a.rows + (int64_t)head * a.padded + t;
        uint32_t rows = ring_at(at::ROWS) + place * 512;
        row_copy(rows, row, 256, full);
        row_copy(rows + 256, row + (int64_t)a.batch * a.heads * a.padded, 256, full);
    }
}

template <int D, attend_pass PASS> __device__ __forceinline__ void ring_start(void)
{
    typedef ring_map<D, PASS> at;
    if (threadIdx.x == 0) {
        for (int i = 0; i < at::PLACES; i++) {
            barrier_start(ring_at(at::FULL + 8 * i), 1);
            barrier_start(ring_at(at::EMPTY + 8 * i), GROUPS * 128); /* every lane, see doc/PERF */
        }
        for (int i = 0; i < 2; i++) {
            barrier_start(ring_at(at::KEPT + 8 * i), 1);
            barrier_start(ring_at(at::LEFT + 8 * i), GROUPS * 128);
        }
        barriers_started();
    }
    __syncthreads();
}

/* Forward: the leader sends for pair i of task t, if there is one. */
template <int D>
__device__ __forceinline__ void ring_lead(const attend_view &a, const attend_maps &m,
                                          const ring_task &t, int i)
{
    if (i < t.steps) ring_send<D, PASS_FWD>(a, m, i % 4, i / 4 & 1, t.head, 64 * i);
}
/* Forward: waits for pair i and returns where it is. Before that the leader sends for the one that
 * takes the place of pair i - 2, which its group has left. */
template <int D>
__device__ __forceinline__ uint32_t ring_follow(const attend_view &a, const attend_maps &m,
                                                const ring_task &t, int i)
{
    typedef ring_map<D, PASS_FWD> at;
    if (threadIdx.x == FWD_THREADS - 128 && i >= 2) ring_lead<D>(a, m, t, i + 2);
    __syncwarp();
    barrier_wait(ring_at(at::FULL) + i % 4 * 8, (uint32_t)i / 4 & 1);
    return ring_at(at::PAIRS) + i % 4 * at::PAIR;
}

/* Backward: the last group feeds the others until there are no tasks, and leaves them registers.
 * True: this thread is of that group, and done. */
template <int D, attend_pass PASS>
__device__ __forceinline__ bool ring_feed(const attend_view &a, const attend_maps &m)
{
    if (threadIdx.x < GROUPS * 128) {
        registers_more<232>();
        return false;
    }
    registers_fewer<40>();
    if (threadIdx.x > GROUPS * 128) return true;
    group_ring r = {0, 0, 0};
    for (ring_task t; (t = task_of<PASS>(a, r.task)).head >= 0; r.task++) {
        ring_send_own<D, PASS>(a, m, r, t);
        for (int i = 0; i < t.steps; i++, ring_turn<D, PASS>(r))
            ring_send<D, PASS>(a, m, r.place, r.turn, t.head, t.first + 64 * i);
    }
    return true;
}

/* A pair that was waited for. */
typedef struct {
    uint32_t at;
    int place;
} ring_pair;

template <int D, attend_pass PASS> __device__ __forceinline__ ring_pair ring_wait(group_ring &r)
{
    typedef ring_map<D, PASS> at;
    ring_pair p = {ring_at(at::PAIRS) + r.place * at::PAIR, r.place};
    barrier_wait(ring_at(at::FULL) + 8 * r.place, (uint32_t)r.turn);
    ring_turn<D, PASS>(r);
    return p;
}
template <int D, attend_pass PASS> __device__ __forceinline__ void ring_leave(const ring_pair &p)
{
    barrier_arrive(ring_at(ring_map<D, PASS>::EMPTY) + 8 * p.place);
}
template <int D, attend_pass PASS>
__device__ __forceinline__ void ring_skip(group_ring &r, int steps)
{
#pragma unroll 1
    for (int i = 0; i < steps; i++)
        ring_leave<D, PASS>(ring_wait<D, PASS>(r));
}
/* Waits for the own rows of the task at hand and returns where this group's are. */
template <int D, attend_pass PASS>
__device__ __forceinline__ uint32_t ring_own(const group_ring &r, int group)
{
    typedef ring_map<D, PASS> at;
    barrier_wait(ring_at(at::KEPT) + r.task % 2 * 8, (uint32_t)(r.task / 2) & 1);
    return ring_at(0) + r.task % 2 * at::OWN + group * at::UNIT;
}
/* Before rows that a group's products read are overwritten. */
__device__ __forceinline__ void group_sync(int group)
{
    threads_sync(1 + group, 128);
}
/* Gives them back and goes to the next task. */
template <int D, attend_pass PASS> __device__ __forceinline__ void ring_next(group_ring &r)
{
    shared_written();
    barrier_arrive(ring_at(ring_map<D, PASS>::LEFT) + r.task % 2 * 8);
    r.task++;
}
/* The same number in all threads of a warp, known to be so. */
__device__ __forceinline__ int group_of(void)
{
    return (int)__shfl_sync(0xffffffffu, threadIdx.x / 128, 0);
}

/* ---- operands and results ------------------------------------------------------------------- */

/* A warp's 16 rows of a unit as left operands. */
template <int D>
__device__ __forceinline__ void operand_load(uint32_t (&x)[D / 16][4], uint32_t unit)
{
    int lane = threadIdx.x % 32, row = threadIdx.x / 32 % 4 * 16 + lane % 16;
#pragma unroll
    for (int k = 0; k < D / 16; k++)
        matrices(x[k], unit + piece_at<64>(row, 2 * k + lane / 16));
}

/* s = x times the transpose of a unit; x in registers if HELD, else at `own`. */
template <int D, bool HELD>
__device__ __forceinline__ void group_scores(float (&s)[8][4], const uint32_t (&x)[D / 16][4],
                                             uint32_t own, uint32_t unit)
{
    uint64_t rows = operand_at(own), y = operand_at(unit);
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
        int at = k / 4 * PANEL + k % 4 * 32;
        if (HELD)
            group_product<0>(s, x[k], operand_on(y, at), k > 0);
        else
            shared_product(s, operand_on(rows, at), operand_on(y, at), k > 0);
    }
}
/* c += p times a unit. */
template <int D>
__device__ __forceinline__ void group_sums(float (&c)[D / 64][8][4], const uint32_t (&p)[4][4],
                                           uint32_t unit)
{
    uint64_t y = operand_at(unit);
#pragma unroll
    for (int k = 0; k < 4; k++) {
#pragma unroll
        for (int n = 0; n < D / 64; n++)
            group_product<1>(c[n], p[k], operand_on(y, n * PANEL + k * 2048), 1);
    }
}
template <int N> __device__ __forceinline__ void hold_all(float (&c)[N][8][4])
{
#pragma unroll
    for (int n = 0; n < N; n++)
        hold(c[n]);
}
template <int N> __device__ __forceinline__ void clear_all(float (&c)[N][8][4])
{
#pragma unroll
    for (int n = 0; n < N; n++) {
#pragma unroll
        for (int i = 0; i < 8; i++)
            c[n][i][0] = c[n][i][1] = c[n][i][2] = c[n][i][3] = 0;
    }
}

/* A warp's rows of sums, times `by`, through its rows of `unit`, so that whole lines of 128 bytes
 * are written. */
template <int D>
__device__ __forceinline__ void group_store(const attend_view &a, const attend_heads &x, int head,
                                            int t0, int end, const float (&c)[D / 64][8][4],
                                            const float (&by)[2], uint32_t unit)
{
    int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    unsigned char *base = shared_start() + (unit - shared_at(shared_start()));
    __syncwarp();
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

#endif
#endif
