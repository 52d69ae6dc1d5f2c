/* What kernels share: numbers of either dtype as float32, sums over a warp or a block, Philox. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_DEVICE_CUH
#define ST_DEVICE_CUH

#include "backend/cuda/cuda.h"
#include "backend/cuda/philox.cuh"
#include <cuda_bf16.h>

typedef __nv_bfloat16 bf16;

static __device__ __forceinline__ float get(const float *x, int64_t i)
{
    return x[i];
}
static __device__ __forceinline__ float get(const bf16 *x, int64_t i)
{
    return __bfloat162float(x[i]);
}
static __device__ __forceinline__ void put(float *x, int64_t i, float v)
{
    x[i] = v;
}
static __device__ __forceinline__ void put(bf16 *x, int64_t i, float v)
{
    x[i] = __float2bfloat16_rn(v);
}

/* Eight numbers next to each other, at an address of 16 bytes' alignment. */
typedef struct {
    float v[8];
} eight;

static __device__ __forceinline__ eight get8(const float *x, int64_t i)
{
    float4 a = *(const float4 *)(x + i), b = *(const float4 *)(x + i + 4);
    return eight{{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
}
static __device__ __forceinline__ eight get8(const bf16 *x, int64_t i)
{
    uint4 u = *(const uint4 *)(x + i);
    const uint32_t w[4] = {u.x, u.y, u.z, u.w};
    eight r;
#pragma unroll
    for (int j = 0; j < 4; j++) {
        r.v[2 * j] = __uint_as_float(w[j] << 16);
        r.v[2 * j + 1] = __uint_as_float(w[j] & 0xffff0000u);
    }
    return r;
}
static __device__ __forceinline__ void put8(float *x, int64_t i, eight e)
{
    *(float4 *)(x + i) = make_float4(e.v[0], e.v[1], e.v[2], e.v[3]);
    *(float4 *)(x + i + 4) = make_float4(e.v[4], e.v[5], e.v[6], e.v[7]);
}
static __device__ __forceinline__ void put8(bf16 *x, int64_t i, eight e)
{
    uint32_t w[4];
#pragma unroll
    for (int j = 0; j < 4; j++) {
        __nv_bfloat162 h = __floats2bfloat162_rn(e.v[2 * j], e.v[2 * j + 1]);
        w[j] = *(uint32_t *)&h;
    }
    *(uint4 *)(x + i) = make_uint4(w[0], w[1], w[2], w[3]);
}
static inline bool aligned16(const void *p)
{
    return ((uintptr_t)p & 15) == 0;
}

static __device__ __forceinline__ float warp_sum(float v)
{
#pragma unroll
    for (int d = 16; d; d >>= 1)
        v += __shfl_xor_sync(0xffffffffu, v, d);
    return v;
}
static __device__ __forceinline__ float warp_max(float v)
{
#pragma unroll
    for (int d = 16; d; d >>= 1)
        v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, d));
    return v;
}

/* Over all threads of a block of whole warps, at most 1024; the same value in every thread. */
static __device__ float block_sum(float v)
{
    __shared__ float part[32];
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, warps = (blockDim.x + 31) >> 5;
    v = warp_sum(v);
    __syncthreads(); /* part may still be read by those behind */
    if (lane == 0) part[warp] = v;
    __syncthreads();
    return warp_sum(lane < warps ? part[lane] : 0.0f);
}
static __device__ float block_max(float v)
{
    __shared__ float part[32];
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, warps = (blockDim.x + 31) >> 5;
    v = warp_max(v);
    __syncthreads();
    if (lane == 0) part[warp] = v;
    __syncthreads();
    return warp_max(lane < warps ? part[lane] : -INFINITY);
}

/* The sum of column j of part (parts, width), in a fixed order, by a block of 32 columns and 32
 * threads for each; in the threads of y 0. */
static __device__ float column_sum(int parts, int64_t width, int64_t j, const float *part)
{
    __shared__ float sums[32][33];
    float sum = 0;
    for (int i = threadIdx.y; i < parts && j < width; i += 32)
        sum += part[i * width + j];
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    sum = 0;
    for (int y = 0; y < 32 && threadIdx.y == 0; y++)
        sum += sums[y][threadIdx.x];
    return sum;
}

/* Number i of stream (seed, 0), as ST_KEEP of ops.h takes it. */
static __device__ __forceinline__ uint32_t philox_u32(uint64_t seed, int64_t i)
{
    uint4 b = philox(seed, 0, (uint64_t)i / 4);
    int j = (int)(i & 3);
    return j == 0 ? b.x : j == 1 ? b.y : j == 2 ? b.z : b.w;
}

/* Blocks of `threads` that cover n things, at most `most` of them: kernels stride over the rest. */
static inline unsigned blocks_for(int64_t n, int64_t threads, int64_t most)
{
    int64_t b = (n + threads - 1) / threads;
    return (unsigned)(b < 1 ? 1 : b < most ? b : most);
}

#endif
