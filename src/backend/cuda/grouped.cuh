/* Products of column groups on sm_90a: Y_g = X_g W_g^T (+ epilogue), X (rows, groups * k), W
 * (groups, n, k), bfloat16 in and out, float32 sums. Dense and SS1 have one group, block-diagonal
 * matrices and Monarch's factors several.
 *
 * A block of three warpgroups stays on its multiprocessor: one thread feeds a ring of tiles through
 * the copy engine, two warpgroups multiply.
 *   together  both on one tile of 128 rows, weights through the ring; two blocks on neighbouring
 *             rows form a cluster, each fetches half of the weights for both
 *   by turns  each on its own tile of 64 rows, so that one's epilogue runs beside the other's
 *             products; the weights of the block's columns stay in shared memory (small k)
 * factor > 0: X is folded (SS1) on its way by three further warps: z is written to memory, rows of
 * 128 are marked when complete, and read back through L2 while they are hot. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CUDA_GROUPED_CUH
#define ST_CUDA_GROUPED_CUH

#include "epilogue.cuh"
#include "fold.cuh"
#include "hopper.cuh"

struct st_grouped_args {
    int row_tiles, col_tiles, group_tiles; /* row_tiles of all blocks of a cluster at once */
    int k_blocks;                          /* of 64, the last filled up with zeros */
    st_epilogue_args e;
    st_fold_ahead_args fold;
};

/* parts: the tile's columns belong to `parts` groups, n / parts of each. */
template <int n_, int parts_, int turns_, int k_most_, int factor_, int hash_, class EPILOGUE_>
struct st_grouped_kind {
    typedef EPILOGUE_ EPILOGUE;
    enum {
        n = n_,
        parts = parts_,
        turns = turns_,
        factor = factor_,
        hash = hash_,
        k_most = k_most_, /* blocks of k that stay (by turns) */
        rows = turns ? 64 : 128,
        cluster = turns ? 1 : 2,
        ring = 2, /* boxes of output per warp on their way */
        box_bytes = 16 * 2 * EPILOGUE::BOX,
        a_bytes = rows * 128,
        b_bytes = turns ? 0 : n * 128,
        kept_bytes = turns ? n * 128 * k_most_ : 0,
        out_bytes = 8 * ring * 2048,
        room = 227 * 1024 - 1024 - 512 - kept_bytes - out_bytes,
        fits = room / (a_bytes + b_bytes),
        stages = fits > 12 ? 12 : fits & ~turns,
        rings = turns ? 2 : 1, /* by turns, each warpgroup has half of the stages to itself */
        each = stages / rings,
        bytes = 1024 + stages * (a_bytes + b_bytes) + kept_bytes + out_bytes + 512,
        threads = 384,
    };
    static_assert(each >= 3, "too little shared memory for the ring");
};

/* The tiles of a block, one after the other. */
template <class T> struct st_grouped_walk {
    int row, col, row_step, at, step, cols, rows;
    __device__ __forceinline__ st_grouped_walk(const st_grouped_args &p, int first, int stride)
    {
        cols = p.col_tiles;
        rows = p.row_tiles;
        if (T::turns) {
            col = blockIdx.x % cols;
            row_step = gridDim.x / cols;
            row = blockIdx.x / cols + first * row_step;
            row_step *= stride;
        } else {
            at = blockIdx.x / T::cluster;
            step = gridDim.x / T::cluster;
        }
    }
    __device__ __forceinline__ bool next(int &row_tile, int &col_tile)
    {
        if (T::turns) {
            if (row >= rows) return false;
            row_tile = row;
            col_tile = col;
            row += row_step;
            return true;
        }
        if (at >= rows * cols) return false;
        row_tile = at / cols * T::cluster + (T::cluster > 1 ? st_cluster_rank() : 0);
        col_tile = at % cols;
        at += step;
        return true;
    }
};

/* The parts of a block's shared memory. */
template <class T> struct st_grouped_room {
    uint32_t a, b, out, full, empty, kept;
    __device__ __forceinline__ explicit st_grouped_room(char *base)
    {
        a = (st_smem(base) + 1023) & ~1023u;
        b = a + T::stages * T::a_bytes;
        out = b + T::stages * T::b_bytes + T::kept_bytes;
        full = out + T::out_bytes;
        empty = full + T::stages * 8;
        kept = empty + T::stages * 8;
    }
};

/* The position of a producer or consumer in its ring. */
template <class T> struct st_grouped_turn {
    int stage, phase, end;
    __device__ __forceinline__ explicit st_grouped_turn(int ring)
        : stage(ring * T::each), phase(0), end(stage + T::each)
    {
    }
    __device__ __forceinline__ void next()
    {
        if (++stage == end) {
            stage -= T::each;
            phase ^= 1;
        }
    }
};

/* Fetches what one tile multiplies. */
template <class T>
static __device__ __forceinline__ void
st_grouped_fetch(const CUtensorMap *a, const CUtensorMap *b, const st_grouped_args &p,
                 const st_grouped_room<T> &s, st_grouped_turn<T> &turn, int row, int group, int n0)
{
    int rank = T::cluster > 1 ? st_cluster_rank() : 0, half = T::n / T::cluster;
    for (int i = 0; i < T::parts * p.k_blocks; i++) {
        int k = i % p.k_blocks * 64, part = T::parts > 1 ? i / p.k_blocks : group;
        uint32_t full = s.full + turn.stage * 8;
        st_bar_wait(s.empty + turn.stage * 8, turn.phase ^ 1);
        st_bar_expect(full, T::a_bytes + T::b_bytes);
        st_tma_load(s.a + turn.stage * T::a_bytes, a, full, k, part, row * T::rows);
        if (!T::turns) {
            st_tma_load_all(s.b + turn.stage * T::b_bytes + rank * half * 128, b, full, k,
                            n0 + rank * half, group, (1 << T::cluster) - 1);
        }
        turn.next();
    }
}

template <class T>
static __device__ __forceinline__ void st_grouped_feed(const CUtensorMap *a, const CUtensorMap *b,
                                                       const st_grouped_args &p,
                                                       const st_grouped_room<T> &s)
{
    const int each = T::n / T::parts;
    st_grouped_walk<T> walk(p, 0, 1);
    st_grouped_turn<T> even(0), odd(T::rings - 1);
    int row, col, count = 0;
    while (walk.next(row, col)) {
        int group = col / p.group_tiles, n0 = col % p.group_tiles * each;
        if (T::turns && count == 0) {
            st_bar_expect(s.kept, T::parts * p.k_blocks * each * 128);
            for (int i = 0; i < T::parts * p.k_blocks; i++) {
                st_tma_load(s.b + i * each * 128, b, s.kept, i % p.k_blocks * 64, n0,
                            T::parts > 1 ? i / p.k_blocks : group);
            }
        }
        if (T::factor) st_fold_await(p.fold, row, p.col_tiles);
        if (T::turns && count % 2) {
            st_grouped_fetch<T>(a, b, p, s, odd, row, group, n0);
        } else {
            st_grouped_fetch<T>(a, b, p, s, even, row, group, n0);
        }
        count++;
    }
}

/* This warp is done with a stage. */
template <class T>
static __device__ __forceinline__ void st_grouped_free(const st_grouped_room<T> &s, int stage,
                                                       int lane)
{
    if (T::cluster == 1) {
        if (lane == 0) st_bar_arrive(s.empty + stage * 8);
    } else if (lane < T::cluster) {
        st_bar_arrive_at(s.empty + stage * 8, lane);
    }
}

/* d = the products of one tile. */
template <class T>
static __device__ __forceinline__ void
st_grouped_multiply(float (&d)[T::parts][T::n / T::parts / 2], const st_grouped_args &p,
                    const st_grouped_room<T> &s, st_grouped_turn<T> &turn, int half, int lane)
{
    int before = -1;
#pragma unroll
    for (int part = 0; part < T::parts; part++) {
        for (int k = 0; k < p.k_blocks; k++) {
            uint32_t at = T::turns ? s.b + (part * p.k_blocks + k) * (T::n / T::parts) * 128
                                   : s.b + turn.stage * T::b_bytes;
            uint64_t a = st_wgmma_rows(s.a + turn.stage * T::a_bytes + half * 8192);
            uint64_t b = st_wgmma_rows(at);
            st_bar_wait(s.full + turn.stage * 8, turn.phase);
            st_wgmma_fence();
#pragma unroll
            for (int i = 0; i < 4; i++)
                st_wgmma(d[part], a + 2 * i, b + 2 * i, k + i > 0);
            st_wgmma_commit();
            st_wgmma_wait<1>();
            if (before >= 0) st_grouped_free<T>(s, before, lane);
            before = turn.stage;
            turn.next();
        }
    }
    st_wgmma_wait<0>();
    st_grouped_free<T>(s, before, lane);
}

/* A warp's boxes of 16 rows on their way to memory. */
template <class T> struct st_grouped_out {
    const CUtensorMap *y, *h;
    uint32_t base;
    int lane, slot;
    static const int box = T::EPILOGUE::BOX;

    static __device__ __forceinline__ uint32_t place(int row, int chunk, int cols)
    {
        return cols == 64 ? row * 128 + ((chunk ^ (row & 7)) << 4)
                          : row * 64 + ((chunk ^ (row >> 1 & 3)) << 4);
    }
    template <int groups> __device__ __forceinline__ uint32_t put(const uint32_t (&v)[groups][2])
    {
        uint32_t at = base + slot * 2048;
        slot = (slot + 1) % T::ring;
        if (lane == 0) st_tma_store_read<T::ring - 1>();
        __syncwarp();
        int row = (lane & 7) + (lane >> 3 & 1) * 8;
#pragma unroll
        for (int i = 0; i < groups / 2; i++) {
            st_stmatrix(at + place(row, 2 * i + (lane >> 4), groups * 8), v[2 * i][0], v[2 * i][1],
                        v[2 * i + 1][0], v[2 * i + 1][1]);
        }
        return at;
    }
    template <int groups>
    __device__ __forceinline__ void send(const CUtensorMap *to, const uint32_t (&v)[groups][2],
                                         int col, int group, int row)
    {
        uint32_t at = put(v);
        st_fence_async();
        __syncwarp();
        if (lane == 0) st_tma_store(to, at, col, group, row);
    }
    __device__ __forceinline__ void first(const uint32_t (&v)[box / 8][2], int col, int group,
                                          int row)
    {
        send(y, v, col, group, row);
    }
    __device__ __forceinline__ void second(const uint32_t (&v)[8][2], int col, int group, int row)
    {
        send(h, v, col, group, row);
    }
    __device__ __forceinline__ uint32_t stage(const uint32_t (&v)[8][2])
    {
        uint32_t at = put(v);
        __syncwarp();
        return at;
    }
    __device__ __forceinline__ uint4 chunk(uint32_t at, int row, int chunk)
    {
        uint4 v;
        asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                     : "r"(at + place(row, chunk, 64)));
        return v;
    }
};

template <class T>
static __device__ __forceinline__ void
st_grouped_consume(const CUtensorMap *y, const CUtensorMap *h, const st_grouped_args &p,
                   const st_grouped_room<T> &s)
{
    int who = threadIdx.x / 128 - 1, warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
    int row, col;
    st_grouped_walk<T> walk(p, T::turns ? who : 0, T::turns ? 2 : 1);
    st_grouped_turn<T> turn(T::turns ? who : 0);
    st_grouped_out<T> out = {y, h, s.out + (who * 4 + warp) * T::ring * 2048, lane, 0};
    if (T::turns) st_bar_wait(s.kept, 0);
    while (walk.next(row, col)) {
        float d[T::parts][T::n / T::parts / 2];
        st_grouped_multiply<T>(d, p, s, turn, T::turns ? 0 : who, lane);
        st_warp_tile t = {lane, row * T::rows + (T::turns ? 0 : who * 64) + warp * 16,
                          col % p.group_tiles * (T::n / T::parts), col / p.group_tiles};
        T::EPILOGUE::run(*(float(*)[T::n / 2]) & d, p.e, t, out);
    }
    if (lane == 0) st_tma_store_done();
}

template <class T>
__global__ void __launch_bounds__(T::threads, 1)
    st_grouped_kernel(const __grid_constant__ CUtensorMap a, const __grid_constant__ CUtensorMap b,
                      const __grid_constant__ CUtensorMap y, const __grid_constant__ CUtensorMap h,
                      const __grid_constant__ st_grouped_args p)
{
    extern __shared__ char base[];
    st_grouped_room<T> s(base);
    if (threadIdx.x == 0) {
        for (int i = 0; i < T::stages; i++) {
            st_bar_init(s.full + i * 8, 1);
            st_bar_init(s.empty + i * 8, (T::turns ? 4 : 8) * T::cluster);
        }
        st_bar_init(s.kept, 1);
        st_bar_fence();
    }
    __syncthreads();
    if (T::cluster > 1) st_cluster_sync();
    if (threadIdx.x < 128) {
        st_regs_down<T::factor ? 104 : 40>();
        if (threadIdx.x == 0) {
            st_grouped_feed<T>(&a, &b, p, s);
        } else if (T::factor && threadIdx.x >= 32) {
            st_grouped_walk<T> walk(p, 0, 1);
            int row, col;
            while (walk.next(row, col))
                st_fold_part<T::factor ? T::factor : 1, T::hash>(p.fold, row, col, p.col_tiles);
        }
    } else {
        st_regs_up<T::factor ? 200 : 232>();
        st_grouped_consume<T>(&y, &h, p, s);
    }
    __syncwarp();
    if (T::cluster > 1) st_cluster_sync(); /* a neighbour may still write here */
}

#endif
