/* SS1's fold, z[k 32 + j] = sum_l x[(k c + l) 32 + (j + s_l) % 32], and the sum over Kronecker's
 * column of four, z[j] = sum_c s_c x[4 j + c]: for kernels of their own, and by warps
 * beside a product. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CUDA_FOLD_CUH
#define ST_CUDA_FOLD_CUH

#include "hopper.cuh"
#include "pointwise.cuh"

/* Eight numbers of z, from `factor` places of a row of x. */
template <int factor, int hash>
static __device__ __forceinline__ void st_fold_load(const __nv_bfloat16 *row, int unit,
                                                    uint4 (&v)[factor])
{
#pragma unroll
    for (int l = 0; l < factor; l++) {
        int at = (unit / 4 * factor + l) * 4 + (unit + st_fold_shift(hash, l)) % 4;
        v[l] = __ldg((const uint4 *)row + at);
    }
}
template <int factor> static __device__ __forceinline__ uint4 st_fold_sum(const uint4 (&v)[factor])
{
    float z[8], x[8];
    st_unpack8(v[0], z);
#pragma unroll
    for (int l = 1; l < factor; l++) {
        st_unpack8(v[l], x);
#pragma unroll
        for (int i = 0; i < 8; i++)
            z[i] += x[i];
    }
    return st_pack8(z);
}

/* Two numbers of z from eight of x, Kronecker's column of four. */
static __device__ __forceinline__ uint32_t st_gather_pair(uint4 v, float4 s)
{
    float t[8];
    st_unpack8(v, t);
    return st_pack(t[0] * s.x + t[1] * s.y + t[2] * s.z + t[3] * s.w,
                   t[4] * s.x + t[5] * s.y + t[6] * s.z + t[7] * s.w);
}

/* ---- beside a product ----------------------------------------------------------------------- */

/* Warps beside those of a product make what it multiplies: z (rows, width) from x, whose rows of
 * width factor numbers follow each other without gaps. The blocks that multiply a tile of rows
 * share its making, and count what is complete. */
struct st_ahead_args {
    const __nv_bfloat16 *x;
    __nv_bfloat16 *z;
    const float *scale; /* four: Kronecker's column, in place of SS1's fold */
    int *done;          /* blocks that are through; for each tile, warps that are. Zeros */
    int rows, pieces;   /* of 32 numbers of z in a row */
    int factor;
};

enum { ST_AHEAD_CHUNK = 4096 };

/* `count` pieces at `from` in shared memory become those of z at `to`. */
template <int factor>
static __device__ __forceinline__ void st_ahead_fold(uint32_t from, uint4 *to, int count, int lane)
{
    const int many = ST_AHEAD_CHUNK / 16 / factor / 32;
    uint4 v[many][factor];
#pragma unroll
    for (int m = 0; m < many; m++) {
        int u = m * 32 + lane;
#pragma unroll
        for (int i = 0; i < factor; i++) { /* neighbouring pieces start at different banks */
            int l = i ^ (u / 4 & 1);
            int at = (u / 4 * factor + l) * 4 + (u + st_fold_shift(3, l)) % 4;
            v[m][i] = st_shared16(from + at * 16);
        }
    }
#pragma unroll
    for (int m = 0; m < many; m++)
        if (m * 32 + lane < count * 4) to[m * 32 + lane] = st_fold_sum(v[m]);
}
static __device__ __forceinline__ void st_ahead_gather(uint32_t from, uint32_t *to, int count,
                                                       float4 scale, int lane)
{
    uint4 v[ST_AHEAD_CHUNK / 512];
#pragma unroll
    for (int m = 0; m < ST_AHEAD_CHUNK / 512; m++)
        v[m] = st_shared16(from + (m * 32 + lane) * 16);
#pragma unroll
    for (int m = 0; m < ST_AHEAD_CHUNK / 512; m++)
        if (m * 32 + lane < count * 16) to[m * 32 + lane] = st_gather_pair(v[m], scale);
}
static __device__ __forceinline__ void st_ahead_chunk(const st_ahead_args &p, uint32_t from,
                                                      int64_t piece, int count, float4 scale,
                                                      int lane)
{
    uint4 *to = (uint4 *)p.z + piece * 4;
    if (p.scale)
        st_ahead_gather(from, (uint32_t *)to, count, scale, lane);
    else if (p.factor == 2)
        st_ahead_fold<2>(from, to, count, lane);
    else if (p.factor == 4)
        st_ahead_fold<4>(from, to, count, lane);
    else
        st_ahead_fold<8>(from, to, count, lane);
}

/* Until all of a tile's rows are in z, as the copy engine sees it. */
/* warps: that count, of all blocks. */
static __device__ __forceinline__ void st_ahead_await(const st_ahead_args &p, int row, int warps)
{
    int done;
    do {
        asm volatile("ld.acquire.gpu.global.s32 %0, [%1];"
                     : "=r"(done)
                     : "l"(p.done + 1 + row)
                     : "memory");
    } while (done < warps);
    asm volatile("fence.proxy.async;" ::: "memory");
}
/* Said by each block when all of its tiles were there: nobody counts any more once all have, and
 * the last leaves zeros. */
static __device__ __forceinline__ void st_ahead_through(const st_ahead_args &p, int tiles)
{
    if (atomicAdd(p.done, 1) + 1 < (int)gridDim.x) return;
    for (int i = 0; i <= tiles; i++)
        p.done[i] = 0;
}

/* The chunks of a warp: every so many of its block's part of each tile. */
template <class T> struct st_ahead_walk {
    typename T::walk tiles;
    int row, at, end;
    __device__ __forceinline__ explicit st_ahead_walk(const typename T::args &p) : tiles(p, 0, 1) {}
    __device__ __forceinline__ bool next(const typename T::args &p, int warp, int per)
    {
        int col;
        if (!tiles.next(row, col)) return false;
        int rows = min((int)T::rows, p.ahead.rows - row * T::rows);
        int64_t total = rows > 0 ? (int64_t)rows * p.ahead.pieces : 0;
        at = (int)(total * col / p.col_tiles) + warp * per;
        end = (int)(total * (col + 1) / p.col_tiles);
        return true;
    }
};

/* The work of a warp of T::ahead: chunks are fetched by the copy engine some slots ahead of their
 * use. */
template <class T>
static __device__ __forceinline__ void st_ahead_run(const typename T::args &a, uint32_t room,
                                                    uint32_t bars, int warp)
{
    const st_ahead_args &p = a.ahead;
    int lane = threadIdx.x % 32, asked = 0, used = 0, per = ST_AHEAD_CHUNK / 64 / p.factor;
    float4 scale = p.scale ? *(const float4 *)p.scale : make_float4(0, 0, 0, 0);
    room += warp * ST_AHEAD_CHUNK * T::slots;
    bars += warp * 8 * T::slots;
    st_ahead_walk<T> far(a), near(a);
    bool more = far.next(a, warp, per);
    while (near.next(a, warp, per)) {
        for (; near.at < near.end; near.at += T::ahead * per) {
            while (more && asked < used + T::slots) {
                if (far.at >= far.end) {
                    more = far.next(a, warp, per);
                    continue;
                }
                int slot = asked++ % T::slots;
                uint32_t bytes = min(per, far.end - far.at) * 64 * p.factor;
                int64_t from = (int64_t)far.row * T::rows * p.pieces + far.at;
                if (lane == 0) {
                    st_bar_expect(bars + slot * 8, bytes);
                    st_bulk_load(room + slot * ST_AHEAD_CHUNK, p.x + from * 32 * p.factor, bytes,
                                 bars + slot * 8);
                }
                far.at += T::ahead * per;
            }
            int slot = used % T::slots;
            st_bar_wait(bars + slot * 8, used / T::slots & 1);
            st_ahead_chunk(p, room + slot * ST_AHEAD_CHUNK,
                           (int64_t)near.row * T::rows * p.pieces + near.at,
                           min(per, near.end - near.at), scale, lane);
            __syncwarp();
            used++;
        }
        __syncwarp();
        if (lane == 0) {
            asm volatile("red.release.gpu.global.add.s32 [%0], 1;" ::"l"(p.done + 1 + near.row)
                         : "memory");
        }
    }
}

#endif
