/* What feeds products of four warps: a block that stays on its multiprocessor takes one task after
 * another, and one of its threads keeps tiles coming through a ring, also across tasks.
 *
 * A task keeps 128 rows of queries (forward, gq) or keys (gk, gv), 64 for each of two groups of four
 * warps, and walks over the other side in pairs of tiles of 64 rows ("units"). */
/* SPDX-License-Identifier: MIT */
#ifndef ST_ATTENTION_RING_CUH
#define ST_ATTENTION_RING_CUH

#include "attention_steps.cuh"

typedef struct {
    tile_map q, k, v, go;
} attend_maps;

typedef enum { PASS_FWD, PASS_GQ, PASS_GKV } attend_pass;

enum { GROUPS = 2, GROUP_THREADS = GROUPS * 128, TASK_ROWS = GROUPS * 64 };
enum { PLACES = 4, PANEL = 64 * 128 }; /* pairs in the ring; bytes of 64 rows and columns */

/* Where a block's shared memory holds its own rows, the ring, rows on their way out, lse2 and D of
 * the ring's queries, barriers, and what the leader notes. */
template <int D, attend_pass PASS> struct ring_map {
    enum {
        UNIT = 64 * D * 2,
        PAIR = 2 * UNIT,
        OWN_BYTES = (PASS == PASS_FWD ? 1 : 2) * GROUPS * UNIT,
        PAIRS = OWN_BYTES,
        OUT = PAIRS + PLACES * PAIR,
        ROWS = OUT + GROUPS * UNIT,
        FULL = ROWS + (PASS == PASS_GKV ? PLACES * 512 : 0),
        EMPTY = FULL + PLACES * 8,
        KEPT = EMPTY + PLACES * 8,
        LEFT = KEPT + 8,
        LEADER = LEFT + 8,
        BYTES = LEADER + 48
    };
};

/* steps pairs from position `first` on; head < 0: no task. */
typedef struct {
    int head, row, first, steps;
} ring_task;

/* Of the leader alone: pairs, and tasks whose own rows, it has sent for; the task of the next pair
 * to send, its number and which of its pairs; pairs of the task at hand that were waited for. */
typedef struct {
    int sent, owners, ahead, at, step;
    ring_task next;
} ring_leader;

/* Pairs that this thread's group has waited for; the number of the task at hand. */
typedef struct {
    int got, task;
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

/* Task `number` of this block. Heads are taken as many at a time as there are blocks, so that each
 * block gets every length once; blocks take turns from both ends in what is left. */
template <attend_pass PASS>
__device__ __forceinline__ ring_task task_of(const attend_view &a, int number)
{
    int blocks = grid_blocks(), length = PASS == PASS_GKV ? a.kv_len : a.q_len;
    int heads = a.batch * a.heads, tiles = (length + TASK_ROWS - 1) / TASK_ROWS;
    int64_t place = (int64_t)number * blocks +
                    (int)(number % 2 ? blocks - 1 - blockIdx.x : blockIdx.x);
    ring_task t = {-1, 0, 0, 0};
    if (place >= (int64_t)heads * tiles) return t;
    int many = (int)(place / ((int64_t)blocks * tiles)) * blocks;
    int rest = (int)(place - (int64_t)many * tiles);
    int few = heads - many < blocks ? heads - many : blocks, rank = rest / few;
    t.head = many + rest % few;
    t.row = (PASS != PASS_GKV && a.causal ? tiles - 1 - rank : rank) * TASK_ROWS;
    t.first = PASS == PASS_GKV ? first_query(a, t.row) & ~63 : 0;
    t.steps = steps_of(PASS == PASS_GKV ? a.q_len - t.first : keys_of(a, t.row, TASK_ROWS));
    return t;
}

/* The leader is the first thread of a group that has as many steps as the task. */
template <attend_pass PASS> __device__ __forceinline__ bool ring_leads(void)
{
    return threadIdx.x == (PASS == PASS_GKV ? 0 : 128 * (GROUPS - 1));
}
template <int D, attend_pass PASS> __device__ __forceinline__ ring_leader *ring_notes(void)
{
    return (ring_leader *)(shared_start() + ring_map<D, PASS>::LEADER);
}
__device__ __forceinline__ uint32_t ring_at(int offset)
{
    return shared_at(shared_start()) + (uint32_t)offset;
}

template <int D>
__device__ __forceinline__ void unit_copy(const attend_view &a, const tile_map *x, int head, int t,
                                          uint32_t to, uint32_t bar)
{
#pragma unroll
    for (int p = 0; p < D / 64; p++)
        tile_copy(to + p * PANEL, x, bar, 64 * p, t, head % a.heads, head / a.heads);
}

/* The leader sends for the own rows of the task after those it has sent for. */
template <int D, attend_pass PASS>
__device__ __forceinline__ void ring_send_own(const attend_view &a, const attend_maps &m)
{
    typedef ring_map<D, PASS> at;
    ring_leader *r = ring_notes<D, PASS>();
    int n = r->owners;
    ring_task t = task_of<PASS>(a, n);
    uint32_t kept = ring_at(at::KEPT);
    if (t.head < 0) return;
    if (n) barrier_wait(ring_at(at::LEFT), (uint32_t)(n - 1) & 1);
    r->owners = n + 1;
    barrier_expect(kept, at::OWN_BYTES);
    for (int g = 0; g < GROUPS; g++) {
        uint32_t to = ring_at(g * at::UNIT);
        unit_copy<D>(a, PASS == PASS_GKV ? &m.k : &m.q, t.head, t.row + 64 * g, to, kept);
        if (PASS != PASS_FWD)
            unit_copy<D>(a, PASS == PASS_GKV ? &m.v : &m.go, t.head, t.row + 64 * g,
                         to + GROUPS * at::UNIT, kept);
    }
}

/* The leader sends for the next pair, of this task or of one after it. */
template <int D, attend_pass PASS>
__device__ __forceinline__ void ring_send(const attend_view &a, const attend_maps &m)
{
    typedef ring_map<D, PASS> at;
    ring_leader *r = ring_notes<D, PASS>();
    while (r->next.head >= 0 && r->at == r->next.steps) {
        r->next = task_of<PASS>(a, ++r->ahead);
        r->at = 0;
    }
    int head = r->next.head, t = r->next.first + 64 * r->at, n = r->sent;
    if (head < 0) return;
    uint32_t place = (uint32_t)n % PLACES, full = ring_at(at::FULL) + 8 * place;
    uint32_t to = ring_at(at::PAIRS) + place * at::PAIR;
    if (n >= PLACES) barrier_wait(ring_at(at::EMPTY) + 8 * place, (uint32_t)(n / PLACES - 1) & 1);
    barrier_expect(full, at::PAIR + (PASS == PASS_GKV ? 512 : 0));
    unit_copy<D>(a, PASS == PASS_GKV ? &m.q : &m.k, head, t, to, full);
    unit_copy<D>(a, PASS == PASS_GKV ? &m.go : &m.v, head, t, to + at::UNIT, full);
    if (PASS == PASS_GKV) {
        const float *row = a.rows + (int64_t)head * a.padded + t;
        uint32_t rows = ring_at(at::ROWS) + place * 512;
        row_copy(rows, row, 256, full);
        row_copy(rows + 256, row + (int64_t)a.batch * a.heads * a.padded, 256, full);
    }
    r->at++;
    r->sent = n + 1;
}

template <int D, attend_pass PASS>
__device__ __forceinline__ group_ring ring_start(const attend_view &a, const attend_maps &m)
{
    typedef ring_map<D, PASS> at;
    group_ring r = {0, 0};
    if (ring_leads<PASS>()) {
        ring_leader *notes = ring_notes<D, PASS>();
        for (int i = 0; i < PLACES; i++) {
            barrier_start(ring_at(at::FULL + 8 * i), 1);
            barrier_start(ring_at(at::EMPTY + 8 * i), GROUPS * 4);
        }
        barrier_start(ring_at(at::KEPT), 1);
        barrier_start(ring_at(at::LEFT), GROUPS * 4);
        barriers_started();
        notes->sent = notes->owners = notes->ahead = notes->at = notes->step = 0;
        notes->next = task_of<PASS>(a, 0);
        ring_send_own<D, PASS>(a, m);
#pragma unroll 1
        for (int i = 0; i < PLACES; i++)
            ring_send<D, PASS>(a, m);
    }
    __syncthreads();
    return r;
}

/* Waits for the next pair and returns where it is. Before that the leader sends for the one that
 * takes the place of the last but one, which its group has left, and once both groups are at work,
 * for the next task's own rows, unless (HOLD) these are needed to the end. */
template <int D, attend_pass PASS, bool HOLD>
__device__ __forceinline__ uint32_t ring_wait(const attend_view &a, const attend_maps &m,
                                              group_ring &r)
{
    typedef ring_map<D, PASS> at;
    if (ring_leads<PASS>() && r.got >= 2) {
        ring_send<D, PASS>(a, m);
        if (!HOLD && ++ring_notes<D, PASS>()->step == 3) ring_send_own<D, PASS>(a, m);
    }
    __syncwarp();
    uint32_t place = (uint32_t)r.got % PLACES;
    barrier_wait(ring_at(at::FULL) + 8 * place, (uint32_t)(r.got / PLACES) & 1);
    r.got++;
    return ring_at(at::PAIRS) + place * at::PAIR;
}
/* For a whole warp: after what all of its lanes did. */
__device__ __forceinline__ void warp_arrive(uint32_t bar)
{
    __syncwarp();
    if (threadIdx.x % 32 == 0) barrier_arrive(bar);
}
/* Gives back the last pair but `before`. */
template <int D, attend_pass PASS>
__device__ __forceinline__ void ring_leave(const group_ring &r, int before)
{
    warp_arrive(ring_at(ring_map<D, PASS>::EMPTY) + (uint32_t)(r.got - 1 - before) % PLACES * 8);
}
template <int D, attend_pass PASS, bool HOLD>
__device__ __forceinline__ void ring_skip(const attend_view &a, const attend_maps &m,
                                          group_ring &r, int steps)
{
#pragma unroll 1
    for (int i = 0; i < steps; i++) {
        ring_wait<D, PASS, HOLD>(a, m, r);
        ring_leave<D, PASS>(r, 0);
    }
}
/* Waits for the own rows of the task at hand; then ring_left once they are not needed any more, and
 * ring_end. */
template <int D, attend_pass PASS> __device__ __forceinline__ void ring_own(const group_ring &r)
{
    barrier_wait(ring_at(ring_map<D, PASS>::KEPT), (uint32_t)r.task & 1);
}
template <int D, attend_pass PASS> __device__ __forceinline__ void ring_left(void)
{
    warp_arrive(ring_at(ring_map<D, PASS>::LEFT));
}
template <int D, attend_pass PASS>
__device__ __forceinline__ void ring_end(const attend_view &a, const attend_maps &m, group_ring &r)
{
    r.task++;
    if (ring_leads<PASS>()) {
        ring_leader *notes = ring_notes<D, PASS>();
        notes->step = 0;
        if (notes->owners == r.task) ring_send_own<D, PASS>(a, m);
    }
    __syncwarp();
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

/* s = x times the transpose of a unit. */
template <int D>
__device__ __forceinline__ void group_scores(float (&s)[8][4], const uint32_t (&x)[D / 16][4],
                                             uint32_t unit)
{
    uint64_t y = operand_at(unit);
#pragma unroll
    for (int k = 0; k < D / 16; k++)
        group_product<0>(s, x[k], operand_on(y, k / 4 * PANEL + k % 4 * 32), k > 0);
}
/* The same with x in shared memory. */
template <int D>
__device__ __forceinline__ void shared_scores(float (&s)[8][4], uint32_t x, uint32_t unit)
{
    uint64_t own = operand_at(x), y = operand_at(unit);
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
        int at = k / 4 * PANEL + k % 4 * 32;
        shared_product(s, operand_on(own, at), operand_on(y, at), k > 0);
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

/* A warp's rows of sums, times `by`, through its part of `unit`, so that whole lines of 128 bytes
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
