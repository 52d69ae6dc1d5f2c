/* SS1's fold, z[k 32 + j] = sum_l x[(k c + l) 32 + (j + s_l) % 32], and the sum over Kronecker's
 * column of four, z[j] = sum_c s_c x[4 j + c]: for kernels of their own, and by three warps beside
 * a product. */
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
/* ---- beside a product ----------------------------------------------------------------------- */

/* x (rows, width factor) without gaps is read in pieces of 32 factor numbers, which become 32 of
 * z (rows, width). */
struct st_ahead_args {
    const __nv_bfloat16 *x;
    __nv_bfloat16 *z;
    int *done;        /* warps that are through with each tile of rows; zeros at the start */
    int rows, pieces; /* in a row */
};

enum { ST_AHEAD_CHUNK = 4096, ST_AHEAD_SLOTS = 4, ST_AHEAD_WARPS = 3 };

/* What is done on the way; factor 0: nothing. */
template <int factor_, int hash_> struct st_ahead {
    enum {
        factor = factor_,
        hash = hash_,
        per = factor > 0 ? ST_AHEAD_CHUNK / 64 / (factor > 0 ? factor : 1)
                         : 0, /* pieces in a chunk */
        bytes = factor > 0 ? ST_AHEAD_CHUNK *ST_AHEAD_SLOTS *ST_AHEAD_WARPS : 0,
    };
    /* `count` pieces at `from` in shared memory become those of z at `to`; all is read before the
     * first number is written. */
    static __device__ __forceinline__ void chunk(const st_ahead_args &p, uint32_t from, int64_t to,
                                                 int count, int lane)
    {
        const int many = per * 4 / 32;
        uint4 *z = (uint4 *)p.z + to * 4;
        uint4 v[many + !many][factor + !factor];
#pragma unroll
        for (int m = 0; m < many; m++) {
            int u = m * 32 + lane;
#pragma unroll
            for (int i = 0; i < factor; i++) { /* neighbouring pieces start at different banks */
                int l = i ^ (u / 4 & 1);
                int at = (u / 4 * factor + l) * 4 + (u + st_fold_shift(hash, l)) % 4;
                v[m][i] = st_shared16(from + at * 16);
            }
        }
#pragma unroll
        for (int m = 0; m < many; m++)
            if (m * 32 + lane < count * 4) z[m * 32 + lane] = st_fold_sum(v[m]);
    }
};

/* Until all of a tile's rows are in z, as the copy engine sees it. */
static __device__ __forceinline__ void st_ahead_await(const st_ahead_args &f, int tile, int parts)
{
    int done;
    do {
        asm volatile("ld.acquire.gpu.global.s32 %0, [%1];"
                     : "=r"(done)
                     : "l"(f.done + tile)
                     : "memory");
    } while (done < parts * ST_AHEAD_WARPS);
    asm volatile("fence.proxy.async;" ::: "memory");
}

/* The chunks of a warp: every so many of each tile's part of the pieces. */
template <class T> struct st_ahead_walk {
    typename T::walk tiles;
    int row, at, end;
    __device__ __forceinline__ explicit st_ahead_walk(const typename T::args &p) : tiles(p, 0, 1) {}
    __device__ __forceinline__ bool tile(const typename T::args &p, int warp)
    {
        int col;
        if (!tiles.next(row, col)) return false;
        int rows = min((int)T::rows, p.ahead.rows - row * T::rows);
        int64_t total = rows > 0 ? (int64_t)rows * p.ahead.pieces : 0;
        at = (int)(total * col / p.col_tiles) + warp * T::before::per;
        end = (int)(total * (col + 1) / p.col_tiles);
        return true;
    }
};

/* Work of warps 1 .. ST_AHEAD_WARPS: chunks are fetched by the copy engine some slots ahead of
 * their use. */
template <class T>
static __device__ __forceinline__ void st_ahead_run(const typename T::args &p, uint32_t room,
                                                    uint32_t bars)
{
    typedef typename T::before B;
    int warp = threadIdx.x / 32 - 1, lane = threadIdx.x % 32, asked = 0, used = 0;
    room += warp * ST_AHEAD_CHUNK * ST_AHEAD_SLOTS;
    bars += warp * 8 * ST_AHEAD_SLOTS;
    st_ahead_walk<T> far(p), near(p);
    bool more = far.tile(p, warp);
    while (near.tile(p, warp)) {
        for (; near.at < near.end; near.at += ST_AHEAD_WARPS * B::per) {
            while (more && asked < used + ST_AHEAD_SLOTS) {
                if (far.at >= far.end) {
                    more = far.tile(p, warp);
                    continue;
                }
                int slot = asked++ % ST_AHEAD_SLOTS;
                uint32_t bytes = min((int)B::per, far.end - far.at) * 64 * B::factor;
                int64_t from = (int64_t)far.row * T::rows * p.ahead.pieces + far.at;
                if (lane == 0) {
                    st_bar_expect(bars + slot * 8, bytes);
                    st_bulk_load(room + slot * ST_AHEAD_CHUNK, p.ahead.x + from * 32 * B::factor,
                                 bytes, bars + slot * 8);
                }
                far.at += ST_AHEAD_WARPS * B::per;
            }
            int slot = used % ST_AHEAD_SLOTS;
            st_bar_wait(bars + slot * 8, used / ST_AHEAD_SLOTS & 1);
            B::chunk(p.ahead, room + slot * ST_AHEAD_CHUNK,
                     (int64_t)near.row * T::rows * p.ahead.pieces + near.at,
                     min((int)B::per, near.end - near.at), lane);
            __syncwarp();
            used++;
        }
        __syncwarp();
        if (lane == 0) {
            asm volatile("red.release.gpu.global.add.s32 [%0], 1;" ::"l"(p.ahead.done + near.row)
                         : "memory");
        }
    }
}

#endif
