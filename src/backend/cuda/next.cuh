/* What kernels that attend from one query share (next.cu, relay.cu). */
/* SPDX-License-Identifier: MIT */
#ifndef ST_NEXT_CUH
#define ST_NEXT_CUH

#include "attention_split.cuh"

/* What is loaded, of which keys below `end` count, into the part. */
template <int LANES>
__device__ __forceinline__ void next_take(const eight_floats &q, float scale2, int j0, int stride,
                                          int end, const eight_floats (&k)[SPLIT_AHEAD],
                                          const eight_floats (&v)[SPLIT_AHEAD], split_part &part)
{
    float s[SPLIT_AHEAD], most = part.top;
#pragma unroll
    for (int i = 0; i < SPLIT_AHEAD; i++) {
        float dot = 0;
#pragma unroll
        for (int e = 0; e < 8; e++)
            dot = fmaf(q.v[e], k[i].v[e], dot);
        s[i] = row_sum<LANES>(dot) * scale2;
        if (j0 + i * stride >= end) s[i] = -INFINITY;
        most = fmaxf(most, s[i]);
    }
    if (most == -INFINITY) return;
    float by = exp2_near(part.top - most);
    part.top = most;
    part.sum *= by;
#pragma unroll
    for (int e = 0; e < 8; e++)
        part.v[e] *= by;
#pragma unroll
    for (int i = 0; i < SPLIT_AHEAD; i++) {
        float w = exp2_near(s[i] - most);
        part.sum += w;
#pragma unroll
        for (int e = 0; e < 8; e++)
            part.v[e] = fmaf(w, v[i].v[e], part.v[e]);
    }
}

/* Joins the parts of a warp's sets of lanes, in each of them. */
template <int LANES> __device__ __forceinline__ void next_join_warp(split_part &part)
{
#pragma unroll
    for (int m = LANES; m < 32; m *= 2) {
        float top = warp_swap(part.top, m), sum = warp_swap(part.sum, m);
        float most = fmaxf(part.top, top), base = most == -INFINITY ? 0 : most;
        float a = exp2_near(part.top - base), b = exp2_near(top - base);
        part.top = most;
        part.sum = fmaf(part.sum, a, sum * b);
#pragma unroll
        for (int e = 0; e < 8; e++)
            part.v[e] = part.v[e] * a + warp_swap(part.v[e], m) * b;
    }
}

template <int DP>
__device__ __forceinline__ void next_record(float *to, int lane, const split_part &x)
{
#pragma unroll
    for (int e = 0; e < 8; e++)
        to[8 * lane + e] = x.v[e];
    if (lane == 0) to[DP] = x.top, to[DP + 1] = x.sum;
}

#endif
