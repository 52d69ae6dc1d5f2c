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

/* Numbers of one side in float32. */
static const float *convert_read(const void *src, st_dtype t, int64_t n, float *room)
{
    const st_blocks *b = st_dtype_blocks(t);
    if (t == ST_F32) return src;
    for (int64_t i = 0; b && i < n; i += b->numbers)
        b->read((const uint8_t *)src + st_dtype_bytes(t, i), room + i);
    for (int64_t i = 0; !b && i < n; i++)
        room[i] = convert_load(src, t, i);
    return room;
}

static void convert_write(void *dst, st_dtype t, int64_t n, const float *x)
{
    const st_blocks *b = st_dtype_blocks(t);
    for (int64_t i = 0; b && i < n; i += b->numbers)
        b->write(x + i, (uint8_t *)dst + st_dtype_bytes(t, i));
    for (int64_t i = 0; !b && i < n; i++)
        ((uint16_t *)dst)[i] = t == ST_BF16 ? st_f32_to_bf16(x[i]) : st_f32_to_f16(x[i]);
}

void st_convert(void *dst, st_dtype dt, const void *src, st_dtype st, int64_t n)
{
    enum { AT_ONCE = 256 }; /* whole blocks */
    assert((dt <= ST_F16 || dt >= ST_Q8_0) && (st <= ST_F16 || st >= ST_Q8_0));
    if (dt == st) {
        memmove(dst, src, st_dtype_bytes(dt, n));
        return;
    }
    for (int64_t i = 0; i < n; i += AT_ONCE) {
        float room[AT_ONCE];
        int64_t part = n - i < AT_ONCE ? n - i : AT_ONCE;
        char *to = (char *)dst + st_dtype_bytes(dt, i);
        const float *x = convert_read((const char *)src + st_dtype_bytes(st, i), st, part,
                                      dt == ST_F32 ? (float *)(void *)to : room);
        if (dt != ST_F32) convert_write(to, dt, part, x);
    }
}
