/* Products of column groups on sm_90a: Y_g = X_g W_g^T (+ epilogue), X (rows, groups * k), W
 * (groups, n, k), bfloat16 in and out, float32 sums. Dense and SS1 have one group, block-diagonal
 * matrices and Monarch's factors several.
 *
 * A block of three warpgroups stays on its multiprocessor: one thread feeds a ring of tiles through
 * the copy engine, two warpgroups multiply.
 *   together  both on one tile of 128 rows
 *   by turns  each on a tile of 64 rows, so that one's epilogue runs beside the other's products;
 *             but products of few columns, each waiting for the one before, leave the units idle
 * Weights come through the ring, half of them fetched by each of two blocks on neighbouring rows (a
 * cluster); or, for few k, those of the block's columns stay in shared memory, and
 * blocks on neighbouring columns fetch the rows for each other. What comes before (fold.cuh) is
 * done by further warps: z is written to memory, tiles of rows are marked when complete,
 * and read back while they are in L2. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CUDA_GROUPED_CUH
#define ST_CUDA_GROUPED_CUH

#include "epilogue.cuh"
#include "fold.cuh"

struct st_grouped_args {
    int row_tiles, col_tiles,
        group_tiles; /* row_tiles: of all blocks that differ in rows at once */
    int k_blocks;    /* of 64, the last filled up with zeros */
    st_epilogue_args e;
    st_ahead_args ahead;
};

template <class T> struct st_grouped_walk;

/* parts: the tile's columns belong to `parts` groups, n / parts of each. kept: blocks of k that
 * stay, 0: weights come through the ring. cluster: blocks that share rows (kept), or weights.
 * ahead: warps that make what is multiplied, 3 or 7. */
template <int n_, int parts_, int turns_, int kept_, int cluster_, int ahead_, class EPILOGUE>
struct st_grouped_kind {
    typedef EPILOGUE epilogue;
    typedef st_grouped_args args;
    typedef st_grouped_walk<st_grouped_kind> walk;
    enum {
        n = n_,
        parts = parts_,
        each = n / parts,
        turns = turns_,
        kept = kept_,
        cluster = cluster_,
        ahead = ahead_,
        rows = turns > 0 ? 64 : 128,
        ring = ahead > 0 || parts > 1 ? 2 : 4, /* boxes of output per warp on their way */
        a_bytes = rows * 128,
        b_bytes = kept > 0 ? 0 : n * 128,
        kept_bytes = n * 128 * kept,
        out_bytes = 8 * ring * 2048,
        slots = ahead > 3 ? 2 : 4, /* chunks of such a warp on their way */
        ahead_bytes = ahead * slots * ST_AHEAD_CHUNK,
        room = 227 * 1024 - 1024 - 512 - kept_bytes - out_bytes - ahead_bytes,
        fits = room / (a_bytes + b_bytes),
        stages = fits > 12 ? 12 : fits,
        bytes = 227 * 1024,
        threads = ahead > 3 ? 512 : 384,
        waits = (turns > 0 ? 4 : 8) * cluster, /* warps that free a stage */
    };
    static_assert(stages >= 3, "too little shared memory for the ring");
};

/* The tiles of a block, one after the other, from the first on in steps of stride. */
template <class T> struct st_grouped_walk {
    int at, step, end, cols, rank = T::cluster > 1 ? st_cluster_rank() : 0;
    __device__ __forceinline__ st_grouped_walk(const st_grouped_args &p, int first, int stride)
    {
        cols = p.col_tiles / (T::kept > 0 ? T::cluster : 1);
        at = blockIdx.x / T::cluster;
        step = gridDim.x / T::cluster;
        at += first * step;
        step *= stride;
        end = p.row_tiles * cols;
    }
    __device__ __forceinline__ bool next(int &row, int &col)
    {
        if (at >= end) return false;
        row = at / cols;
        col = at % cols; /* kept: the grid is a multiple of cols, so this stays */
        at += step;
        if (T::cluster > 1)
            (T::kept > 0 ? col : row) = (T::kept > 0 ? col : row) * T::cluster + rank;
        return true;
    }
};

/* The parts of a block's shared memory. */
template <class T> struct st_grouped_room {
    uint32_t a, b, out, ahead, full, empty, kept, order, fetched;
    __device__ __forceinline__ explicit st_grouped_room(char *base)
    {
        a = (st_smem(base) + 1023) & ~1023u;
        b = a + T::stages * T::a_bytes;
        out = b + T::stages * T::b_bytes + T::kept_bytes;
        ahead = out + T::out_bytes;
        full = ahead + T::ahead_bytes;
        empty = full + T::stages * 8;
        kept = empty + T::stages * 8;
        order = kept + 8;
        fetched = order + 16;
    }
    __device__ __forceinline__ void open()
    {
        for (int i = 0; i < T::stages; i++) {
            st_bar_init(full + i * 8, 1);
            st_bar_init(empty + i * 8, T::waits);
        }
        st_bar_init(kept, 1);
        st_bar_init(order, 4);
        st_bar_init(order + 8, 4);
        for (int i = 0; i < T::slots * T::ahead; i++)
            st_bar_init(fetched + i * 8, 1);
        st_bar_fence();
    }
};

/* A position in the ring. */
template <class T> struct st_grouped_turn {
    int stage, phase;
    __device__ __forceinline__ void next()
    {
        if (++stage == T::stages) {
            stage = 0;
            phase ^= 1;
        }
    }
    __device__ __forceinline__ void skip(int count)
    {
        stage += count;
        phase ^= stage / T::stages & 1;
        stage %= T::stages;
    }
};

/* Fetches what one tile multiplies. */
template <class T>
static __device__ __forceinline__ void
st_grouped_fetch(const CUtensorMap *a, const CUtensorMap *b, const st_grouped_args &p,
                 const st_grouped_room<T> &s, st_grouped_turn<T> &turn, int row, int group, int n0)
{
    const int all = (1 << T::cluster) - 1;
    int rank = T::cluster > 1 ? st_cluster_rank() : 0;
    for (int part = 0; part < T::parts; part++) {
        for (int k = 0; k < p.k_blocks; k++) {
            uint32_t full = s.full + turn.stage * 8, to = s.a + turn.stage * T::a_bytes;
            int from = T::parts > 1 ? part : group;
            st_bar_wait(s.empty + turn.stage * 8, turn.phase ^ 1);
            st_bar_expect(full, T::a_bytes + T::b_bytes);
            if (T::kept == 0 || T::cluster == 1) {
                st_tma_load(to, a, full, k * 64, from, row * T::rows);
            } else if ((part * p.k_blocks + k) % T::cluster == rank) { /* for all, by turns */
                st_tma_load_all(to, a, full, k * 64, from, row * T::rows, all);
            }
            if (T::kept == 0) {
                const int share = T::n / T::cluster;
                st_tma_load_all(s.b + turn.stage * T::b_bytes + rank * share * 128, b, full, k * 64,
                                n0 + rank * share, group, all);
            }
            turn.next();
        }
    }
}

template <class T>
static __device__ __forceinline__ void st_grouped_feed(const CUtensorMap *a, const CUtensorMap *b,
                                                       const st_grouped_args &p,
                                                       const st_grouped_room<T> &s)
{
    st_grouped_walk<T> walk(p, 0, 1);
    st_grouped_turn<T> turn = {0, 0};
    int row, col;
    bool first = T::kept > 0;
    while (walk.next(row, col)) {
        int group = col / p.group_tiles, n0 = col % p.group_tiles * T::each;
        if (first) {
            st_bar_expect(s.kept, T::parts * p.k_blocks * T::each * 128);
            for (int i = 0; i < T::parts * p.k_blocks; i++) {
                st_tma_load(s.b + i * T::each * 128, b, s.kept, i % p.k_blocks * 64, n0,
                            T::parts > 1 ? i / p.k_blocks : group);
            }
            first = false;
        }
        st_await_last();
        if (T::ahead > 0) st_ahead_await(p.ahead, row, p.col_tiles * T::ahead);
        st_grouped_fetch<T>(a, b, p, s, turn, row, group, n0);
    }
}

/* This warp is done with the next stage. */
template <class T>
static __device__ __forceinline__ void st_grouped_free(const st_grouped_room<T> &s,
                                                       st_grouped_turn<T> &done, int lane)
{
    if (T::cluster == 1) {
        if (lane == 0) st_bar_arrive(s.empty + done.stage * 8);
    } else if (lane < T::cluster) {
        st_bar_arrive_at(s.empty + done.stage * 8, lane);
    }
    done.next();
}

/* d = the products of one tile. By turns, the other warpgroup may start before these have ended. A
 * stage is free when the products after it are under way: free earlier, the ring would be deeper,
 * but the matrix units would wait; several blocks of k at once cost more stages than they save. */
template <class T>
static __device__ __forceinline__ void
st_grouped_multiply(float (&d)[T::parts][T::each / 2], const st_grouped_args &p,
                    const st_grouped_room<T> &s, st_grouped_turn<T> &turn, int who, int lane)
{
    st_grouped_turn<T> done = turn;
#pragma unroll
    for (int part = 0; part < T::parts; part++) {
        for (int k = 0; k < p.k_blocks; k++) {
            uint32_t at = T::kept > 0 ? s.b + (part * p.k_blocks + k) * T::each * 128
                                      : s.b + turn.stage * T::b_bytes;
            uint64_t a = st_wgmma_rows(s.a + turn.stage * T::a_bytes + (T::turns ? 0 : who) * 8192);
            uint64_t b = st_wgmma_rows(at);
            st_bar_wait(s.full + turn.stage * 8, turn.phase);
            st_wgmma_fence();
#pragma unroll
            for (int i = 0; i < 4; i++)
                st_wgmma(d[part], a + 2 * i, b + 2 * i, k + i > 0);
            st_wgmma_commit();
            turn.next();
            st_wgmma_wait<1>();
            if (part + k > 0) st_grouped_free<T>(s, done, lane);
        }
    }
    if (T::turns && lane == 0) st_bar_arrive(s.order + (1 - who) * 8);
    st_wgmma_wait<0>();
    st_grouped_free<T>(s, done, lane);
}

/* A warp's boxes of 16 rows on their way to memory. */
template <class T> struct st_grouped_out {
    const CUtensorMap *y, *h;
    uint32_t base;
    int lane, slot;
    static const int box = T::epilogue::BOX;

    static __device__ __forceinline__ uint32_t place(int row, int chunk, int cols)
    {
        return cols == 64 ? row * 128 + ((chunk ^ (row & 7)) << 4)
                          : row * 64 + ((chunk ^ (row >> 1 & 3)) << 4);
    }
    template <int groups> __device__ __forceinline__ uint32_t put(const uint32_t (&v)[groups][2])
    {
        uint32_t at = open();
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
    /* The next box, to be written by lanes and sent. */
    __device__ __forceinline__ uint32_t open()
    {
        uint32_t at = base + slot * 2048;
        slot = (slot + 1) % T::ring;
        if (lane == 0) st_tma_store_read<T::ring - 1>();
        __syncwarp();
        return at;
    }
    __device__ __forceinline__ void write(uint32_t at, int row, int chunk, uint4 v)
    {
        *(uint4 *)__cvta_shared_to_generic(at + place(row, chunk, 64)) = v;
    }
    __device__ __forceinline__ void close(uint32_t at, int col, int row)
    {
        st_fence_async();
        __syncwarp();
        if (lane == 0) st_tma_store(y, at, col, 0, row);
    }
    __device__ __forceinline__ uint32_t stage(const uint32_t (&v)[8][2])
    {
        uint32_t at = put(v);
        __syncwarp();
        return at;
    }
    __device__ __forceinline__ uint4 chunk(uint32_t at, int row, int chunk)
    {
        return st_shared16(at + place(row, chunk, 64));
    }
};

template <class T>
static __device__ __forceinline__ void
st_grouped_consume(const CUtensorMap *y, const CUtensorMap *h, const st_grouped_args &p,
                   const st_grouped_room<T> &s)
{
    int who = threadIdx.x / 128 - 1, warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
    int stages = T::parts * p.k_blocks, row, col, phase = who ^ 1;
    st_grouped_walk<T> walk(p, T::turns ? who : 0, T::turns ? 2 : 1);
    st_grouped_turn<T> turn = {0, 0};
    st_grouped_out<T> out = {y, h, s.out + (who * 4 + warp) * T::ring * 2048, lane, 0};
    if (T::turns) turn.skip(who * stages);
    if (T::kept) st_bar_wait(s.kept, 0);
    while (walk.next(row, col)) {
        float d[T::parts][T::each / 2];
        st_warp_tile t = {lane, row * T::rows + (T::turns ? 0 : who * 64) + warp * 16,
                          col % p.group_tiles * T::each, col / p.group_tiles};
        typename T::epilogue::bias bias(p.e, t);
        if (T::turns) { /* the first of the first warpgroup passes: nothing went before */
            st_bar_wait(s.order + who * 8, phase);
            phase ^= 1;
        }
        st_grouped_multiply<T>(d, p, s, turn, who, lane);
        T::epilogue::run(*(float(*)[T::n / 2]) & d, p.e, t, bias, out);
        if (T::turns) turn.skip(stages);
    }
    if (lane == 0) st_tma_store_done();
}

template <class T>
__global__ void __launch_bounds__(T::threads, 1)
    st_grouped_kernel(const __grid_constant__ CUtensorMap a, const __grid_constant__ CUtensorMap b,
                      const __grid_constant__ CUtensorMap y, const __grid_constant__ CUtensorMap h,
                      const __grid_constant__ st_grouped_args p)
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    extern __shared__ char base[];
    st_grouped_room<T> s(base);
    if (threadIdx.x == 0) s.open();
    __syncthreads();
    if (T::cluster > 1) st_cluster_sync();
    if (threadIdx.x < 128) {
        st_regs_down<(T::ahead > 3 ? 96 : T::ahead > 0 ? 104 : 40)>();
        if (threadIdx.x == 0) {
            st_grouped_feed<T>(&a, &b, p, s);
            if (T::ahead > 0) st_ahead_through(p.ahead, p.row_tiles * T::cluster);
        } else if (T::ahead > 0 && threadIdx.x >= 32) {
            st_ahead_run<T>(p, s.ahead, s.fetched, threadIdx.x / 32 - 1);
        }
    } else if (T::ahead > 3 && threadIdx.x >= 384) {
        st_regs_down<96>();
        st_ahead_run<T>(p, s.ahead, s.fetched, threadIdx.x / 32 - 9);
    } else {
        st_regs_up<(T::ahead > 3 ? 160 : T::ahead > 0 ? 200 : 232)>();
        st_grouped_consume<T>(&y, &h, p, s);
    }
    __syncwarp();
    if (T::cluster > 1) st_cluster_sync(); /* a neighbour may still write here */
#else                                      /* never launched: grouped.cu asks for the generation */
    __trap();
#endif
}

#endif
