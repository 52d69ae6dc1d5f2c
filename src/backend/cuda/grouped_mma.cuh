/* The products of grouped.cuh with mma.sync, for sm_80 and later: tiles of rows x n by four warps,
 * two stages of 64 k filled by cp.async, the same epilogues. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CUDA_GROUPED_MMA_CUH
#define ST_CUDA_GROUPED_MMA_CUH

#include "epilogue.cuh"

struct st_mma_args {
    const __nv_bfloat16 *x, *w;
    __nv_bfloat16 *y, *h;
    int64_t ldx, ldw, ldy, ldh;
    int k, group_tiles, y_cols; /* y_cols: of one group */
    st_epilogue_args e;
};

/* halves: times 16 rows a warp. parts as in st_grouped_kind. */
template <int n_, int halves_, int parts_, class EPILOGUE> struct st_mma_kind {
    typedef EPILOGUE epilogue;
    enum {
        n = n_,
        halves = halves_,
        parts = parts_,
        each = n / parts,
        rows = 64 * halves,
        a_bytes = rows * 128,
        stage_bytes = a_bytes + each * 128,
        bytes = 2 * stage_bytes + 4 * 2048,
    };
};

/* Where 16 bytes of a row of 128 are: no two of eight rows in the same banks. */
static __device__ __forceinline__ uint32_t st_mma_place(int row, int chunk)
{
    return row * 128 + ((chunk ^ (row & 7)) << 4);
}
static __device__ __forceinline__ void st_mma_copy(uint32_t to, const void *from, bool there)
{
    int bytes = there ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes)
                 : "memory");
}
static __device__ __forceinline__ void st_mma_load(uint32_t at, uint32_t (&v)[4])
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
                 : "r"(at)
                 : "memory");
}
static __device__ __forceinline__ void st_mma(float *d, const uint32_t (&a)[4], uint32_t b0,
                                              uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* A warp's boxes of 16 rows on their way to memory, through 2 KB of shared memory of its own. */
template <class T> struct st_mma_out {
    const st_mma_args &p;
    uint32_t base;
    int lane;

    __device__ __forceinline__ uint32_t open()
    {
        __syncwarp();
        return base;
    }
    __device__ __forceinline__ void write(uint32_t at, int row, int chunk, uint4 v)
    {
        *(uint4 *)__cvta_shared_to_generic(at + st_mma_place(row, chunk)) = v;
    }
    __device__ __forceinline__ uint4 chunk(uint32_t at, int row, int chunk)
    {
        return *(const uint4 *)__cvta_shared_to_generic(at + st_mma_place(row, chunk));
    }
    template <int groups> __device__ __forceinline__ uint32_t put(const uint32_t (&v)[groups][2])
    {
        uint32_t at = open();
#pragma unroll
        for (int i = 0; i < groups; i++) {
#pragma unroll
            for (int r = 0; r < 2; r++) {
                uint32_t to = at + st_mma_place(lane / 4 + 8 * r, i) + lane % 4 * 4;
                *(uint32_t *)__cvta_shared_to_generic(to) = v[i][r];
            }
        }
        __syncwarp();
        return at;
    }
    /* `chunks` times 8 columns from `col` on, of a group that has `cols`. */
    __device__ __forceinline__ void send(uint32_t at, __nv_bfloat16 *to, int64_t ld, int chunks,
                                         int col, int cols, int row)
    {
        for (int i = lane; i < 16 * chunks; i += 32) {
            int r = i / chunks, c = i % chunks;
            if (row + r < p.e.rows && col + c * 8 < cols) {
                *(uint4 *)(to + (row + r) * ld + col + c * 8) = chunk(at, r, c);
            }
        }
    }
    template <int groups>
    __device__ __forceinline__ void first(const uint32_t (&v)[groups][2], int col, int group,
                                          int row)
    {
        send(put(v), p.y + (int64_t)group * p.y_cols, p.ldy, groups, col, p.y_cols, row);
    }
    __device__ __forceinline__ void second(const uint32_t (&v)[8][2], int col, int group, int row)
    {
        send(put(v), p.h + (int64_t)group * p.e.cols, p.ldh, 8, col, p.e.cols, row);
    }
    __device__ __forceinline__ void close(uint32_t at, int col, int row)
    {
        __syncwarp();
        send(at, p.y, p.ldy, 8, col, p.y_cols, row);
    }
    __device__ __forceinline__ uint32_t stage(const uint32_t (&v)[8][2])
    {
        return put(v);
    }
};

/* Starts fetching block k of part `part` into a stage. */
template <class T>
static __device__ __forceinline__ void st_mma_fetch(const st_mma_args &p, uint32_t to, int row0,
                                                    int n0, int group, int k0)
{
    const __nv_bfloat16 *x = p.x + (int64_t)group * p.k,
                        *w = p.w + (int64_t)group * p.e.cols * p.ldw;
    for (int i = threadIdx.x; i < T::rows * 8; i += 128) {
        int r = i / 8, c = i % 8, row = row0 + r, k = k0 + c * 8;
        bool there = row < p.e.rows && k < p.k;
        st_mma_copy(to + st_mma_place(r, c), there ? x + row * p.ldx + k : p.x, there);
    }
    for (int i = threadIdx.x; i < T::each * 8; i += 128) {
        int r = i / 8, c = i % 8, col = n0 + r, k = k0 + c * 8;
        bool there = col < p.e.cols && k < p.k;
        st_mma_copy(to + T::a_bytes + st_mma_place(r, c), there ? w + col * p.ldw + k : p.w, there);
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* d += what a stage holds. */
template <class T>
static __device__ __forceinline__ void st_mma_stage(uint32_t from, int warp, int lane,
                                                    float (&d)[T::halves][T::n / 2], int part)
{
#pragma unroll
    for (int k = 0; k < 4; k++) {
        uint32_t a[T::halves][4];
#pragma unroll
        for (int h = 0; h < T::halves; h++) {
            int row = warp * 16 * T::halves + h * 16 + lane % 16;
            st_mma_load(from + st_mma_place(row, 2 * k + lane / 16), a[h]);
        }
#pragma unroll
        for (int j = 0; j < T::each / 16; j++) {
            uint32_t b[4];
            int row = j * 16 + lane % 8 + lane / 16 * 8;
            st_mma_load(from + T::a_bytes + st_mma_place(row, 2 * k + lane / 8 % 2), b);
#pragma unroll
            for (int h = 0; h < T::halves; h++) {
                float *to = d[h] + part * (T::each / 2) + j * 8;
                st_mma(to, a[h], b[0], b[1]);
                st_mma(to + 4, a[h], b[2], b[3]);
            }
        }
    }
}

template <class T> __global__ void __launch_bounds__(128) st_mma_kernel(const st_mma_args p)
{
    extern __shared__ char room[];
    uint32_t base = ((uint32_t)__cvta_generic_to_shared(room) + 127) & ~127u;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, blocks = (p.k + 63) / 64;
    int group = blockIdx.x / p.group_tiles, n0 = blockIdx.x % p.group_tiles * T::each;
    int row0 = blockIdx.y * T::rows, part0 = T::parts > 1 ? 0 : group;
    float d[T::halves][T::n / 2] = {};
    st_mma_fetch<T>(p, base, row0, n0, part0, 0);
#pragma unroll
    for (int part = 0; part < T::parts; part++) {
        for (int k = 0; k < blocks; k++) {
            int at = part * blocks + k, next = at + 1;
            if (next < T::parts * blocks) {
                st_mma_fetch<T>(p, base + next % 2 * T::stage_bytes, row0, n0,
                                part0 + next / blocks, next % blocks * 64);
                asm volatile("cp.async.wait_group 1;" ::: "memory");
            } else {
                asm volatile("cp.async.wait_group 0;" ::: "memory");
            }
            __syncthreads();
            st_mma_stage<T>(base + at % 2 * T::stage_bytes, warp, lane, d, part);
            __syncthreads();
        }
    }
    st_mma_out<T> out = {p, base + 2 * T::stage_bytes + warp * 2048, lane};
#pragma unroll
    for (int h = 0; h < T::halves; h++) {
        st_warp_tile t = {lane, row0 + (warp * T::halves + h) * 16, n0, group};
        typename T::epilogue::bias bias(p.e, t);
        T::epilogue::run(d[h], p.e, t, bias, out);
    }
}

#endif
