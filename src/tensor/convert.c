/* Conversion between float formats on the host. */
/* SPDX-License-Identifier: MIT */
#include "tensor/tensor.h"
#include <assert.h>
#include <string.h>

float st_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, mag = h & 0x7fffu, u;
    if (mag >= 0x7c00u) {
        u = 0x7f800000u | (mag & 0x3ffu) << 13; /* infinity, NaN */
    } else if (mag >= 0x400u) {
        u = (mag << 13) + 0x38000000u;
    } else {
        float f = (float)mag * 0x1p-24f; /* subnormal: exact in float32 */
        memcpy(&u, &f, 4);
    }
    u |= sign;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

uint16_t st_f32_to_f16(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    uint32_t sign = (u >> 16) & 0x8000u, mag = u & 0x7fffffffu;
    if (mag > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (mag >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* 65520 and above round to inf */
    if (mag >= 0x38800000u) {
        uint32_t r = mag - 0x38000000u;
        return (uint16_t)(sign | ((r + 0xfffu + ((r >> 13) & 1u)) >> 13));
    }
    float a;
    memcpy(&a, &mag, 4);
    a += 0.5f; /* the hardware rounds to a multiple of 2^-24, half to even */
    memcpy(&mag, &a, 4);
    return (uint16_t)(sign | (mag - 0x3f000000u));
}

static float convert_load(const void *src, st_dtype t, int64_t i)
{
    if (t == ST_F32) return ((const float *)src)[i];
    uint16_t h = ((const uint16_t *)src)[i];
    return t == ST_BF16 ? st_bf16_to_f32(h) : st_f16_to_f32(h);
}

void st_convert(void *dst, st_dtype dt, const void *src, st_dtype st, int64_t n)
{
    assert(dt <= ST_F16 && st <= ST_F16);
    if (dt == st) {
        memmove(dst, src, (size_t)n * st_dtype_size(dt));
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        float f = convert_load(src, st, i);
        if (dt == ST_F32)
            ((float *)dst)[i] = f;
        else
            ((uint16_t *)dst)[i] = dt == ST_BF16 ? st_f32_to_bf16(f) : st_f32_to_f16(f);
    }
}
