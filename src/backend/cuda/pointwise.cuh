/* Numbers in registers: packing bfloat16, GELU and its derivative, SS1's shifts. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CUDA_POINTWISE_CUH
#define ST_CUDA_POINTWISE_CUH

#include <cuda_bf16.h>
#include <stdint.h>

/* Low half first. */
static __device__ __forceinline__ uint32_t st_pack(float a, float b)
{
    uint32_t v;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(v) : "f"(b), "f"(a));
    return v;
}
static __device__ __forceinline__ float st_low(uint32_t v)
{
    return __uint_as_float(v << 16);
}
static __device__ __forceinline__ float st_high(uint32_t v)
{
    return __uint_as_float(v & 0xffff0000u);
}
static __device__ __forceinline__ void st_unpack8(uint4 v, float (&x)[8])
{
    uint32_t w[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        x[2 * i] = st_low(w[i]);
        x[2 * i + 1] = st_high(w[i]);
    }
}
static __device__ __forceinline__ uint4 st_pack8(const float (&x)[8])
{
    return make_uint4(st_pack(x[0], x[1]), st_pack(x[2], x[3]), st_pack(x[4], x[5]),
                      st_pack(x[6], x[7]));
}

enum { ST_FUSED_NONE, ST_FUSED_TANH, ST_FUSED_ERF }; /* which GELU */

static __device__ __forceinline__ float st_tanh(float x)
{
    float y;
    asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
/* erf(|x|) by Abramowitz & Stegun 7.1.26 and e = exp(-x^2); the error is below 2e-7. */
static __device__ __forceinline__ float st_erf(float x, float e)
{
    float t = __fdividef(1.0f, fmaf(0.3275911f, fabsf(x), 1.0f));
    float p = fmaf(t, 1.061405429f, -1.453152027f);
    p = fmaf(p, t, 1.421413741f);
    p = fmaf(p, t, -0.284496736f);
    p = fmaf(p, t, 0.254829592f);
    return copysignf(fmaf(-p * t, e, 1.0f), x);
}

/* t of GELU(x) = x (1 + t) / 2. erf(x / sqrt 2) is the tanh of a polynomial whose coefficients were
 * fitted so that GELU is off by 3e-5 at most, a hundredth of bfloat16's rounding near 1; beyond 7
 * it would turn back. */
template <int kind> static __device__ __forceinline__ float st_gelu_turn(float x)
{
    if (kind == ST_FUSED_TANH)
        return st_tanh(x * fmaf(0.044715f * 0.7978845608f, x * x, 0.7978845608f));
    float s = fminf(x * x, 49.0f);
    return st_tanh(x * fmaf(fmaf(-3.5170241e-4f, s, 3.7006724e-2f), s, 7.9750681e-1f));
}

template <int kind> static __device__ __forceinline__ float st_gelu(float x)
{
    if (kind == ST_FUSED_NONE) return x;
    float half = 0.5f * x;
    return fmaf(half, st_gelu_turn<kind>(x), half);
}

/* A sum of GELUs, with x / 2 outside of it. */
template <int kind> struct st_gelu_sum {
    float a = 0.0f, b = 0.0f;
    __device__ __forceinline__ void add(float x)
    {
        a += x;
        if (kind != ST_FUSED_NONE) b = fmaf(x, st_gelu_turn<kind>(x), b);
    }
    __device__ __forceinline__ float sum() const
    {
        return kind == ST_FUSED_NONE ? a : 0.5f * (a + b);
    }
};

template <int kind> static __device__ __forceinline__ float st_gelu_slope(float x)
{
    if (kind == ST_FUSED_TANH) {
        float t = st_tanh(x * fmaf(0.044715f * 0.7978845608f, x * x, 0.7978845608f));
        float du = fmaf(3 * 0.044715f * 0.7978845608f, x * x, 0.7978845608f);
        return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * du;
    }
    if (kind == ST_FUSED_ERF) {
        float z = 0.7071067812f * x, e = __expf(-z * z);
        return 0.5f * (1.0f + st_erf(z, e)) + x * e * 0.3989422804f;
    }
    return 1.0f;
}

/* SS1's shift of input block l, in units of 8 of its 32 numbers; hash = r0 mod 4. */
static __host__ __device__ __forceinline__ int st_fold_shift(int hash, int l)
{
    return hash * (l + 1) % 4;
}

#endif
