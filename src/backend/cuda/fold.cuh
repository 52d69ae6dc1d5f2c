/* SS1's fold by a few warps beside a product: z[k 32 + j] = sum_l x[(k c + l) 32 + (j + s_l) % 32].
 */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CUDA_FOLD_CUH
#define ST_CUDA_FOLD_CUH

#include "pointwise.cuh"

struct st_fold_ahead_args {
    const __nv_bfloat16 *x;
    __nv_bfloat16 *z;
    int *done; /* parts finished of each 128 rows; zeros at the start */
    int64_t ldx;
    int rows, width; /* of z */
};

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

/* Part `part` of `parts` of the fold of rows 128 tile .., by threads 32 .. 127 of a block. */
template <int factor, int hash>
static __device__ __forceinline__ void st_fold_part(const st_fold_ahead_args &f, int tile, int part,
                                                    int parts)
{
    enum { SIDE = 96, MANY = factor >= 8 ? 2 : factor >= 4 ? 3 : 6 };
    int first = tile * 128, rows = min(128, f.rows - first), units = f.width / 8;
    int total = rows > 0 ? rows * units : 0;
    int end = (int)((int64_t)total * (part + 1) / parts);
    for (int u = (int)((int64_t)total * part / parts) + threadIdx.x - 32; u < end;
         u += SIDE * MANY) {
        uint4 v[MANY][factor];
#pragma unroll
        for (int i = 0; i < MANY; i++) {
            int at = u + i * SIDE;
            if (at >= end) continue;
            st_fold_load<factor, hash>(f.x + (first + at / units) * f.ldx, at % units, v[i]);
        }
#pragma unroll
        for (int i = 0; i < MANY; i++) {
            int at = u + i * SIDE;
            if (at >= end) continue;
            ((uint4 *)f.z)[(int64_t)first * units + at] = st_fold_sum<factor>(v[i]);
        }
    }
    __threadfence();
    asm volatile("fence.proxy.async;" ::: "memory");
    asm volatile("bar.sync 1, 96;" ::: "memory");
    if (threadIdx.x == 32) {
        asm volatile("red.release.gpu.global.add.s32 [%0], 1;" ::"l"(f.done + tile) : "memory");
    }
}

/* Until all parts of rows 128 tile .. are in z, as the copy engine sees it. */
static __device__ __forceinline__ void st_fold_await(const st_fold_ahead_args &f, int tile,
                                                     int parts)
{
    int done;
    do {
        asm volatile("ld.acquire.gpu.global.s32 %0, [%1];"
                     : "=r"(done)
                     : "l"(f.done + tile)
                     : "memory");
    } while (done < parts);
    asm volatile("fence.proxy.async;" ::: "memory");
}

#endif
