/* Kernels that treat every number alike: 8 of them at a time where all operands are aligned, else
 * one. What is done is a struct with `template <int N> __device__ void run(int64_t i) const`, for
 * numbers i .. i + N - 1. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_PACK_CUH
#define ST_PACK_CUH

#include "backend/cuda/device.cuh"

template <int N> struct pack {
    float v[N];
};

template <int N, typename T> static __device__ __forceinline__ pack<N> load(const T *x, int64_t i)
{
    pack<N> p;
    if (N == 8) {
        eight e = get8(x, i);
#pragma unroll
        for (int j = 0; j < N; j++)
            p.v[j] = e.v[j];
    } else {
        p.v[0] = get(x, i);
    }
    return p;
}

template <int N, typename T>
static __device__ __forceinline__ void store(T *x, int64_t i, const pack<N> &p)
{
    if (N == 8) {
        eight e;
#pragma unroll
        for (int j = 0; j < N; j++)
            e.v[j] = p.v[j];
        put8(x, i, e);
    } else {
        put(x, i, p.v[0]);
    }
}

template <typename F> static __global__ void each_kernel(int64_t n, int64_t wide, F f)
{
    int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    int64_t all = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = at; i < wide; i += all)
        f.template run<8>(i * 8);
    for (int64_t i = wide * 8 + at; i < n; i += all)
        f.template run<1>(i);
}

/* Runs f over n numbers. */
template <typename F>
static void each(st_stream *q, const char *op, int64_t n, bool aligned, const F &f)
{
    int64_t wide = aligned ? n / 8 : 0, work = wide ? wide : n;
    if (n <= 0) return;
    each_kernel<F>
        <<<blocks_for(work, 256, 16 * st_cuda_of(q)->sms), 256, 0, st_cuda_stream(q)>>>(n, wide, f);
    st_cuda_launched(q, op);
}

#endif
