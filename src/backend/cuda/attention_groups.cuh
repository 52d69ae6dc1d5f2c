/* Attention by products of four warps (sm_90a), bfloat16, head_dim at most 128. Rows that a group
 * keeps are left operands in registers. It starts the scores of a step, then the sums of the step
 * before, and turns scores into weights while those sums are still being made. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_ATTENTION_GROUPS_CUH
#define ST_ATTENTION_GROUPS_CUH

#include "attention_ring.cuh"

/* Elsewhere the kernels are there by name, and empty. */
#ifdef ST_SM90A

/* ---- forward -------------------------------------------------------------------------------- */

/* Weights of scores s with keys j and on, of which a warp's 16 queries all see those below `whole`.
 * True: earlier sums are to be multiplied by `by`. */
template <bool DROP>
__device__ __forceinline__ bool group_weigh(const attend_view &a, float (&s)[8][4], attend_rows &r,
                                            int whole, int head, int t0, int j, float (&by)[2])
{
    if (j + 64 > whole) hide_keys<8>(s, r, j);
    bool grown = soften<8>(a.scale2, s, r, by);
    if (DROP) {
        uint32_t kept[1];
        kept_by_query<8>(a, head, t0, j, kept);
        drop_weights<8>(s, kept);
    }
    return grown;
}
template <int D> __device__ __forceinline__ void fwd_leave(int i)
{
    barrier_arrive(ring_at(ring_map<D, PASS_FWD>::EMPTY) + i % 4 * 8);
}

/* o = weights times values over `mine` > 0 steps. */
template <int D, bool DROP>
__device__ __forceinline__ void fwd_walk(const attend_view &a, const attend_maps &m,
                                         const ring_task &t, uint32_t own, attend_rows &r, int w0,
                                         int mine, float (&o)[D / 64][8][4])
{
    enum { UNIT = 64 * D * 2 };
    int whole = last_key(a, w0);
    float s[8][4], by[2];
    uint32_t q[D / 16][4], p[4][4], pair = ring_follow<D>(a, m, t, 0);
    operand_load<D>(q, own);
    products_begin();
    group_scores<D, true>(s, q, own, pair);
    products_commit();
    products_wait<0>();
    hold(s);
    group_weigh<DROP>(a, s, r, whole, t.head, w0, 0, by);
    pack<8>(p, s);
    for (int i = 1; i < mine; i++) {
        uint32_t before = pair;
        pair = ring_follow<D>(a, m, t, i);
        hold(s);
        hold_all(o);
        products_begin();
        group_scores<D, true>(s, q, own, pair);
        products_commit();
        group_sums<D>(o, p, before + UNIT);
        products_commit();
        products_wait<1>();
        hold(s);
        bool grown = group_weigh<DROP>(a, s, r, whole, t.head, w0, 64 * i, by);
        products_wait<0>();
        hold_all(o);
        fwd_leave<D>(i - 1);
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
    fwd_leave<D>(mine - 1);
}

#endif
template <int D, bool DROP>
__global__ void __launch_bounds__(FWD_THREADS, D == 64 ? 2 : 1)
    groups_fwd_kernel(const __grid_constant__ attend_view a, const __grid_constant__ attend_maps m)
{
#ifdef ST_SM90A
    int group = threadIdx.x / 128;
    ring_task t = fwd_task(a);
    ring_start<D, PASS_FWD>();
    if (threadIdx.x == FWD_THREADS - 128) {
        ring_send_own<D, PASS_FWD>(a, m, group_ring{0, 0, 0}, t);
#pragma unroll 1
        for (int i = 0; i < 4; i++)
            ring_lead<D>(a, m, t, i);
    }
    int t0 = t.row + 64 * group, w0 = t0 + threadIdx.x / 32 % 4 * 16;
    int mine = steps_of(keys_of(a, t0, 64));
    attend_rows r = rows_start(a, w0);
    float o[D / 64][8][4], by[2];
    r.first[0] = r.first[1] = 0;
    clear_all(o);
    uint32_t own = ring_own<D, PASS_FWD>(group_ring{0, 0, 0}, group);
    if (mine > 0) fwd_walk<D, DROP>(a, m, t, own, r, w0, mine, o);
#pragma unroll 1
    for (int i = mine; i < t.steps; i++) {
        ring_follow<D>(a, m, t, i);
        fwd_leave<D>(i);
    }
    rows_finish(a, r, t.head, w0, by);
    group_store<D>(a, a.o, t.head, t0, a.q_len, o, by, own);
#endif
}
#ifdef ST_SM90A

/* ---- the gradient of queries ---------------------------------------------------------------- */

/* ds of scores s and go.v in g, with keys j and on. */
template <bool DROP>
__device__ __forceinline__ void
gradient_by_query(const attend_view &a, float (&s)[8][4], float (&g)[8][4], const attend_rows &r,
                  const attend_known &known, int whole, int head, int t0, int j)
{
    uint32_t kept[1] = {0};
    if (j + 64 > whole) hide_keys<8>(s, r, j);
    if (DROP) kept_by_query<8>(a, head, t0, j, kept);
#pragma unroll
    for (int n = 0; n < 8; n++) {
#pragma unroll
        for (int e = 0; e < 4; e++)
            gradient<DROP>(a, s[n][e], g[n][e], known.lse2[e / 2], known.d[e / 2],
                           kept[0] >> (4 * n + e) & 1);
    }
}

#define GQ_HELD(D) ((D) == 64)

/* c = ds times keys over `mine` > 0 steps. */
template <int D, bool DROP>
__device__ __forceinline__ void gq_walk(const attend_view &a, group_ring &g, uint32_t own,
                                        const attend_rows &r, const attend_known &known, int head,
                                        int w0, int mine, float (&c)[D / 64][8][4])
{
    enum { UNIT = 64 * D * 2 };
    int whole = last_key(a, w0);
    float s[8][4], gv[8][4];
    uint32_t q[D / 16][4], go[D / 16][4], ds[4][4];
    ring_pair pair = ring_wait<D, PASS_GQ>(g);
    if (GQ_HELD(D)) {
        operand_load<D>(q, own);
        operand_load<D>(go, own + GROUPS * UNIT);
    }
    products_begin();
    group_scores<D, GQ_HELD(D)>(s, q, own, pair.at);
    group_scores<D, GQ_HELD(D)>(gv, go, own + GROUPS * UNIT, pair.at + UNIT);
    products_commit();
    products_wait<0>();
    hold(s);
    hold(gv);
    gradient_by_query<DROP>(a, s, gv, r, known, whole, head, w0, 0);
    pack<8>(ds, gv);
    for (int i = 1; i < mine; i++) {
        ring_pair before = pair;
        pair = ring_wait<D, PASS_GQ>(g);
        hold(s);
        hold(gv);
        hold_all(c);
        products_begin();
        group_scores<D, GQ_HELD(D)>(s, q, own, pair.at);
        group_scores<D, GQ_HELD(D)>(gv, go, own + GROUPS * UNIT, pair.at + UNIT);
        products_commit();
        group_sums<D>(c, ds, before.at);
        products_commit();
        products_wait<1>();
        hold(s);
        hold(gv);
        gradient_by_query<DROP>(a, s, gv, r, known, whole, head, w0, 64 * i);
        hold(gv);
        stay(gv[7][3]);
        products_wait<0>();
        hold_all(c);
        ring_leave<D, PASS_GQ>(before);
        pack<8>(ds, gv);
    }
    hold_all(c);
    products_begin();
    group_sums<D>(c, ds, pair.at);
    products_commit();
    products_wait<0>();
    hold_all(c);
    ring_leave<D, PASS_GQ>(pair);
}

#endif
template <int D, bool DROP>
__global__ void __launch_bounds__(BWD_THREADS, 1)
    groups_gq_kernel(const __grid_constant__ attend_view a, const __grid_constant__ attend_maps m)
{
#ifdef ST_SM90A
    ring_start<D, PASS_GQ>();
    if (ring_feed<D, PASS_GQ>(a, m)) return;
    const float by[2] = {a.scale, a.scale};
    int group = group_of();
    group_ring g = {0, 0, 0};
    for (ring_task t; (t = task_of<PASS_GQ>(a, g.task)).head >= 0;) {
        int t0 = t.row + 64 * group, w0 = t0 + threadIdx.x / 32 % 4 * 16;
        int mine = steps_of(keys_of(a, t0, 64));
        attend_rows r = rows_start(a, w0);
        attend_known known = rows_know(a, t.head, w0);
        float c[D / 64][8][4];
        r.first[0] = r.first[1] = 0;
        clear_all(c);
        uint32_t own = ring_own<D, PASS_GQ>(g, group);
        if (mine > 0) gq_walk<D, DROP>(a, g, own, r, known, t.head, w0, mine, c);
        ring_skip<D, PASS_GQ>(g, t.steps - mine);
        group_sync(group);
        group_store<D>(a, a.gq, t.head, t0, a.q_len, c, by, own);
        ring_next<D, PASS_GQ>(g);
    }
#endif
}
#ifdef ST_SM90A

/* ---- the gradients of keys and values ------------------------------------------------------- */

/* Dropped weights and ds of scores s and go.v in g, of keys k0 and on with 64 queries from t on,
 * whose lse2 and D lie at `rows`; query t is shift + t past key k0, and sees it if that is no less
 * than 0. */
template <bool DROP>
__device__ __forceinline__ void gradient_by_key(const attend_view &a, float (&s)[8][4],
                                                float (&g)[8][4], const float *rows, int shift,
                                                int head, int k0, int t)
{
    uint32_t kept[1] = {0};
    int lane = threadIdx.x % 32;
    if (DROP) kept_by_key<8>(a, head, k0, t, kept);
    if (shift + t < 15) {
        int past = shift + t + lane % 4 * 2 - lane / 4;
#pragma unroll
        for (int n = 0; n < 8; n++) {
#pragma unroll
            for (int e = 0; e < 4; e++)
                if (past + 8 * n + e % 2 - e / 2 * 8 < 0) s[n][e] = -INFINITY;
        }
    }
#pragma unroll
    for (int n = 0; n < 8; n++) {
        float2 lse2 = *(const float2 *)(rows + 8 * n + lane % 4 * 2);
        float2 d = *(const float2 *)(rows + 64 + 8 * n + lane % 4 * 2);
#pragma unroll
        for (int e = 0; e < 4; e++)
            gradient<DROP>(a, s[n][e], g[n][e], e % 2 ? lse2.y : lse2.x, e % 2 ? d.y : d.x,
                           kept[0] >> (4 * n + e) & 1);
    }
}

/* Where lse2 and D of a pair lie. */
template <int D> __device__ __forceinline__ const float *ring_rows(const ring_pair &p)
{
    return (const float *)(shared_start() + ring_map<D, PASS_GKV>::ROWS) + p.place * 128;
}

#define KEYS_HELD(D)   ((D) == 64)
#define VALUES_HELD(D) ((D) == 64)

template <int D>
__device__ __forceinline__ void gkv_sums(float (&ck)[D / 64][8][4], float (&cv)[D / 64][8][4],
                                         const uint32_t (&p)[4][4], const uint32_t (&ds)[4][4],
                                         const ring_pair &pair)
{
    hold_all(ck);
    hold_all(cv);
    products_begin();
    group_sums<D>(cv, p, pair.at + 64 * D * 2);
    group_sums<D>(ck, ds, pair.at);
    products_commit();
    products_wait<0>();
    hold_all(ck);
    hold_all(cv);
}

/* ck = ds' times queries, cv = weights' times go over `mine` > 0 steps from query t on. */
template <int D, bool DROP>
__device__ __forceinline__ void gkv_walk(const attend_view &a, group_ring &g, uint32_t own,
                                         int head, int k0, int t, int mine,
                                         float (&ck)[D / 64][8][4], float (&cv)[D / 64][8][4])
{
    enum { UNIT = 64 * D * 2 };
    int shift = a.causal ? (int)(a.q_start < a.kv_len ? a.q_start : a.kv_len) - k0 : 1 << 30;
    float s[8][4], gv[8][4];
    uint32_t k[D / 16][4], v[D / 16][4], p[4][4], ds[4][4];
    ring_pair pair = ring_wait<D, PASS_GKV>(g);
    if (KEYS_HELD(D)) operand_load<D>(k, own);
    if (VALUES_HELD(D)) operand_load<D>(v, own + GROUPS * UNIT);
    products_begin();
    group_scores<D, KEYS_HELD(D)>(s, k, own, pair.at);
    group_scores<D, VALUES_HELD(D)>(gv, v, own + GROUPS * UNIT, pair.at + UNIT);
    products_commit();
    products_wait<0>();
    hold(s);
    hold(gv);
    gradient_by_key<DROP>(a, s, gv, ring_rows<D>(pair), shift, head, k0, t);
    pack<8>(p, s);
    pack<8>(ds, gv);
    for (int i = 1; i < mine; i++) {
        if (D > 64) gkv_sums<D>(ck, cv, p, ds, pair); /* not beside scores: registers are short */
        ring_pair before = pair;
        pair = ring_wait<D, PASS_GKV>(g);
        hold(s);
        hold(gv);
        hold_all(ck);
        hold_all(cv);
        products_begin();
        group_scores<D, KEYS_HELD(D)>(s, k, own, pair.at);
        group_scores<D, VALUES_HELD(D)>(gv, v, own + GROUPS * UNIT, pair.at + UNIT);
        products_commit();
        if (D == 64) {
            group_sums<D>(cv, p, before.at + UNIT);
            group_sums<D>(ck, ds, before.at);
        }
        products_commit();
        products_wait<1>();
        hold(s);
        hold(gv);
        gradient_by_key<DROP>(a, s, gv, ring_rows<D>(pair), shift, head, k0, t + 64 * i);
        hold(s);
        hold(gv);
        stay(gv[7][3]);
        products_wait<0>();
        hold_all(ck);
        hold_all(cv);
        ring_leave<D, PASS_GKV>(before);
        pack<8>(p, s);
        pack<8>(ds, gv);
    }
    gkv_sums<D>(ck, cv, p, ds, pair);
    ring_leave<D, PASS_GKV>(pair);
}

#endif
template <int D, bool DROP>
__global__ void __launch_bounds__(BWD_THREADS, 1)
    groups_gkv_kernel(const __grid_constant__ attend_view a, const __grid_constant__ attend_maps m)
{
#ifdef ST_SM90A
    enum { UNIT = 64 * D * 2 };
    ring_start<D, PASS_GKV>();
    if (ring_feed<D, PASS_GKV>(a, m)) return;
    const float by_k[2] = {a.scale, a.scale}, by_v[2] = {a.kept, a.kept};
    int group = group_of();
    group_ring g = {0, 0, 0};
    for (ring_task t; (t = task_of<PASS_GKV>(a, g.task)).head >= 0;) {
        int g0 = t.row + 64 * group, k0 = g0 + threadIdx.x / 32 % 4 * 16;
        int from = g0 < a.kv_len ? ((first_query(a, g0) & ~63) - t.first) / 64 : t.steps;
        float ck[D / 64][8][4], cv[D / 64][8][4];
        if (from > t.steps) from = t.steps;
        clear_all(ck);
        clear_all(cv);
        uint32_t own = ring_own<D, PASS_GKV>(g, group);
        ring_skip<D, PASS_GKV>(g, from);
        if (from < t.steps)
            gkv_walk<D, DROP>(a, g, own, t.head, k0, t.first + 64 * from, t.steps - from, ck, cv);
        group_sync(group);
        group_store<D>(a, a.gk, t.head, g0, a.kv_len, ck, by_k, own);
        group_store<D>(a, a.gv, t.head, g0, a.kv_len, cv, by_v, own + GROUPS * UNIT);
        ring_next<D, PASS_GKV>(g);
    }
#endif
}

#endif
