/* GELU and its slope, to the precision of what follows: float32, or bfloat16 (FAST). */
/* SPDX-License-Identifier: MIT */
#ifndef ST_GELU_CUH
#define ST_GELU_CUH

#include "backend/cuda/cuda.h"
#include <math.h>

#define GELU_SQRT_2_PI 0.7978845608028654f
#define GELU_CUBE      0.044715f

/* e^x and x / y to float32's precision, or, where bfloat16 follows, to that of the special units.
 */
template <bool FAST> static __device__ __forceinline__ float gelu_exp(float x)
{
    return FAST ? __expf(x) : expf(x);
}
template <bool FAST> static __device__ __forceinline__ float gelu_ratio(float x, float y)
{
    return FAST ? __fdividef(x, y) : x / y;
}

/* x F(x), F(x) = 1 / (1 + e^-2u) in the tanh form, which does not cancel where F is small. */
template <bool FAST> static __device__ __forceinline__ float gelu_value(float x, st_gelu_kind kind)
{
    if (kind == ST_GELU_ERF) return 0.5f * x * erfcf(-x * 0.70710678118654752f);
    float u = GELU_SQRT_2_PI * (x + GELU_CUBE * x * x * x);
    if (FAST) u = fmaxf(u, -40.0f); /* beyond, the ratio's range ends; NaN stays in x */
    return gelu_ratio<FAST>(x, 1.0f + gelu_exp<FAST>(-2.0f * u));
}

template <bool FAST> static __device__ __forceinline__ float gelu_slope(float x, st_gelu_kind kind)
{
    if (kind == ST_GELU_ERF) {
        float density = expf(-0.5f * x * x) * 0.5f * GELU_SQRT_2_PI;
        return 0.5f * erfcf(-x * 0.70710678118654752f) + x * density;
    }
    x = fabsf(x) > 100.0f ? copysignf(100.0f, x) : x; /* flat from there on; NaN stays */
    float u = GELU_SQRT_2_PI * (x + GELU_CUBE * x * x * x), e = gelu_exp<FAST>(-2.0f * fabsf(u));
    float large = gelu_ratio<FAST>(1.0f, 1.0f + e), small = e * large;
    float slope = 2.0f * x * small * large * GELU_SQRT_2_PI * (1.0f + 3.0f * GELU_CUBE * x * x);
    return (u < 0 ? small : large) + slope;
}

#endif
