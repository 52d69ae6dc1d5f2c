/* Attention by products of single warps, 16 rows each (sm_80 and up), bfloat16. A block of four
 * warps has 64 queries (forward, gq) or 64 keys (gk, gv) and walks over the other side, whose tiles
 * are copied ahead where shared memory has room for two. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_ATTENTION_WARPS_CUH
#define ST_ATTENTION_WARPS_CUH

#include "attention_steps.cuh"

enum { WARP_ROWS = 64, WARP_THREADS = 128 };

/* c (16, NT*8) = rows row0 .. row0 + 15 of tile x times the transpose of tile y. */
template <int NT, int D, int XR, int YR>
__device__ __forceinline__ void rows_by_rows(float (&c)[NT][4], uint32_t x, int row0, uint32_t y)
{
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int n = 0; n < NT; n++)
        c[n][0] = c[n][1] = c[n][2] = c[n][3] = 0;
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
        uint32_t u[4], v[4];
        matrices(u, x + piece_at<XR>(row0 + lane % 16, 2 * k + lane / 16));
#pragma unroll
        for (int n = 0; n < NT; n += 2) {
            matrices(v, y + piece_at<YR>(8 * n + lane / 16 * 8 + lane % 8, 2 * k + lane / 8 % 2));
            warp_product(c[n], u, v[0], v[1]);
            warp_product(c[n + 1], u, v[2], v[3]);
        }
    }
}

/* c (16, NT*8) += p (16, KT*16) times columns from c0 on of tile y. */
template <int NT, int KT, int YR>
__device__ __forceinline__ void weights_by_rows(float (&c)[NT][4], const uint32_t (&p)[KT][4],
                                                uint32_t y, int c0)
{
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < KT; k++) {
#pragma unroll
        for (int n = 0; n < NT; n += 2) {
            uint32_t v[4];
            matrices_turned(v, y + piece_at<YR>(16 * k + lane % 16, c0 / 8 + n + lane / 16));
            warp_product(c[n], p[k], v[0], v[1]);
            warp_product(c[n + 1], p[k], v[2], v[3]);
        }
    }
}

/* Tiles of two tensors, rows of both from `first` on, to one of STAGES places. */
template <int ROWS, int D, int STAGES>
__device__ __forceinline__ void pair_load(const attend_view &a, const attend_heads &x,
                                          const attend_heads &y, int head, int first, int end,
                                          uint32_t to)
{
    enum { BYTES = ROWS * D * 2 };
    uint32_t at = to + first / ROWS % STAGES * 2 * BYTES;
    tile_load<ROWS, D, WARP_THREADS>(a, x, head, first, end, at);
    tile_load<ROWS, D, WARP_THREADS>(a, y, head, first, end, at + BYTES);
    copy_commit();
}
/* Makes the pair at `first` there, with the next on its way if there are two places. Returns where.
 */
template <int ROWS, int D, int STAGES>
__device__ __forceinline__ uint32_t pair_next(const attend_view &a, const attend_heads &x,
                                              const attend_heads &y, int head, int first, int end,
                                              int stop, uint32_t to)
{
    if (STAGES == 1) {
        __syncthreads();
        pair_load<ROWS, D, STAGES>(a, x, y, head, first, end, to);
        copy_wait<0>();
    } else {
        copy_wait<0>();
    }
    __syncthreads();
    if (STAGES == 2 && first + ROWS < stop)
        pair_load<ROWS, D, STAGES>(a, x, y, head, first + ROWS, end, to);
    return to + first / ROWS % STAGES * 2 * ROWS * D * 2;
}

/* Blocks are numbered so that those with most keys start first. */
__device__ __forceinline__ int block_of(const attend_view &a, int length, int rows, int *head)
{
    int tiles = (length + rows - 1) / rows, tile = (int)(blockIdx.x % tiles);
    *head = (int)(blockIdx.x / tiles);
    return (a.causal ? tiles - 1 - tile : tile) * rows;
}

template <int D, int BN, int STAGES, bool DROP>
__global__ void __launch_bounds__(WARP_THREADS) warps_fwd_kernel(attend_view a)
{
    enum { NT = BN / 8, Q_BYTES = WARP_ROWS * D * 2 };
    int head, q0 = block_of(a, a.q_len, WARP_ROWS, &head), row0 = threadIdx.x / 32 * 16;
    uint32_t q = shared_at(shared_start()), kv = q + Q_BYTES;
    int end = q0 + WARP_ROWS < a.q_len ? q0 + WARP_ROWS : a.q_len;
    int first = first_key(a, q0) / BN * BN, last = last_key(a, end - 1);
    attend_rows r = rows_start(a, q0 + row0);
    float o[D / 8][4] = {}, by[2];
    tile_load<WARP_ROWS, D, WARP_THREADS>(a, a.q, head, q0, a.q_len, q);
    if (STAGES == 2 && first < last)
        pair_load<BN, D, STAGES>(a, a.k, a.v, head, first, a.kv_len, kv);
    copy_commit();
    for (int j = first; j < last; j += BN) {
        uint32_t k = pair_next<BN, D, STAGES>(a, a.k, a.v, head, j, a.kv_len, last, kv);
        float s[NT][4];
        rows_by_rows<NT, D, WARP_ROWS, BN>(s, q, row0, k);
        if (a.window || j + BN > last_key(a, q0 + row0)) hide_keys<NT>(s, r, j);
        if (soften<NT>(a.scale2, s, r, by)) rescale<D / 8>(o, by);
        if (DROP) {
            uint32_t kept[(NT + 7) / 8];
            kept_by_query<NT>(a, head, q0 + row0, j, kept);
            drop_weights<NT>(s, kept);
        }
        uint32_t p[NT / 2][4];
        pack<NT>(p, s);
        weights_by_rows<D / 8, NT / 2, BN>(o, p, k + BN * D * 2, 0);
    }
    copy_wait<0>();
    rows_finish(a, r, head, q0 + row0, by);
    rows_store<D / 8>(a, a.o, head, q0 + row0, a.q_len, 0, o, by[0], by[1]);
}

/* gq = scale ds k, ds = p (m go.v - D). */
template <int D, int BN, int STAGES, bool DROP>
__global__ void __launch_bounds__(WARP_THREADS) warps_gq_kernel(attend_view a)
{
    enum { NT = BN / 8, Q_BYTES = WARP_ROWS * D * 2 };
    int head, q0 = block_of(a, a.q_len, WARP_ROWS, &head), row0 = threadIdx.x / 32 * 16;
    uint32_t q = shared_at(shared_start()), go = q + Q_BYTES, kv = go + Q_BYTES;
    int end = q0 + WARP_ROWS < a.q_len ? q0 + WARP_ROWS : a.q_len, last = last_key(a, end - 1);
    attend_rows r = rows_start(a, q0 + row0);
    float c[D / 8][4] = {};
    tile_load<WARP_ROWS, D, WARP_THREADS>(a, a.q, head, q0, a.q_len, q);
    tile_load<WARP_ROWS, D, WARP_THREADS>(a, a.go, head, q0, a.q_len, go);
    if (STAGES == 2 && last > 0) pair_load<BN, D, STAGES>(a, a.k, a.v, head, 0, a.kv_len, kv);
    copy_commit();
    attend_known known = rows_know(a, head, q0 + row0);
    for (int j = 0; j < last; j += BN) {
        uint32_t k = pair_next<BN, D, STAGES>(a, a.k, a.v, head, j, a.kv_len, last, kv);
        float s[NT][4], g[NT][4];
        rows_by_rows<NT, D, WARP_ROWS, BN>(s, q, row0, k);
        rows_by_rows<NT, D, WARP_ROWS, BN>(g, go, row0, k + BN * D * 2);
        if (j + BN > last_key(a, q0 + row0)) hide_keys<NT>(s, r, j);
        uint32_t kept[(NT + 7) / 8] = {}, ds[NT / 2][4];
        if (DROP) kept_by_query<NT>(a, head, q0 + row0, j, kept);
#pragma unroll
        for (int n = 0; n < NT; n++) {
#pragma unroll
            for (int e = 0; e < 4; e++)
                gradient<DROP>(a, s[n][e], g[n][e], known.lse2[e / 2], known.d[e / 2],
                               kept[n / 8] >> (n % 8 * 4 + e) & 1);
        }
        pack<NT>(ds, g);
        weights_by_rows<D / 8, NT / 2, BN>(c, ds, k, 0);
    }
    copy_wait<0>();
    rows_store<D / 8>(a, a.gq, head, q0 + row0, a.q_len, 0, c, a.scale, a.scale);
}

/* gv = (m p)' go and gk = scale ds' q, of columns [part*DO, part*DO + DO). */
template <int D, int BN, int STAGES, int DO, bool DROP>
__global__ void __launch_bounds__(WARP_THREADS) warps_gkv_kernel(attend_view a)
{
    enum { NT = BN / 8, K_BYTES = WARP_ROWS * D * 2 };
    int head, k0 = block_of(a, a.kv_len, WARP_ROWS, &head), row0 = threadIdx.x / 32 * 16;
    uint32_t k = shared_at(shared_start()), v = k + K_BYTES, pair = v + K_BYTES;
    int lane = threadIdx.x % 32, c0 = (int)blockIdx.y * DO, key = k0 + row0 + lane / 4;
    int64_t all = (int64_t)a.batch * a.heads * a.padded;
    float ck[DO / 8][4] = {}, cv[DO / 8][4] = {};
    tile_load<WARP_ROWS, D, WARP_THREADS>(a, a.k, head, k0, a.kv_len, k);
    tile_load<WARP_ROWS, D, WARP_THREADS>(a, a.v, head, k0, a.kv_len, v);
    int start = first_query(a, k0) / BN * BN;
    if (STAGES == 2 && start < a.q_len)
        pair_load<BN, D, STAGES>(a, a.q, a.go, head, start, a.q_len, pair);
    copy_commit();
    for (int t = start; t < a.q_len; t += BN) {
        uint32_t q = pair_next<BN, D, STAGES>(a, a.q, a.go, head, t, a.q_len, a.q_len, pair);
        uint32_t go = q + BN * D * 2, kept[(NT + 7) / 8] = {}, x[NT / 2][4];
        float s[NT][4], g[NT][4];
        rows_by_rows<NT, D, WARP_ROWS, BN>(s, k, row0, q);
        rows_by_rows<NT, D, WARP_ROWS, BN>(g, v, row0, go);
        if (DROP) kept_by_key<NT>(a, head, k0 + row0, t, kept);
        bool hidden = a.causal && last_key(a, t) < k0 + row0 + 16;
#pragma unroll
        for (int n = 0; n < NT; n++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int query = t + 8 * n + lane % 4 * 2 + e % 2;
                const float *row = a.rows + (int64_t)head * a.padded + query;
                if (hidden && key + e / 2 * 8 > a.q_start + query) s[n][e] = -INFINITY;
                gradient<DROP>(a, s[n][e], g[n][e], row[0], row[all],
                               kept[n / 8] >> (n % 8 * 4 + e) & 1);
            }
        }
        pack<NT>(x, s);
        weights_by_rows<DO / 8, NT / 2, BN>(cv, x, go, c0);
        pack<NT>(x, g);
        weights_by_rows<DO / 8, NT / 2, BN>(ck, x, q, c0);
    }
    copy_wait<0>();
    rows_store<DO / 8>(a, a.gk, head, k0 + row0, a.kv_len, c0, ck, a.scale, a.scale);
    rows_store<DO / 8>(a, a.gv, head, k0 + row0, a.kv_len, c0, cv, a.kept, a.kept);
}

#endif
