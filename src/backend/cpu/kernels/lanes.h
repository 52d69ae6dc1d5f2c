/* What the kernels are written in: vectors of LANES floats, blocks of numbers in float32 whatever
 * they are stored as, exp and log.
 *
 * Every .c file of this folder is compiled once for each instruction set that it serves, with that
 * set's flags (CMakeLists.txt), and these names defined:
 *   KERNEL_SET  the set; what others call is named by it: KERNEL(gemm) is st_cpu_avx2_gemm
 *   LANES       floats in a vector
 *   TILE_ROWS   rows of the product's tile, two vectors wide
 *   HALF_TILE   for a set that multiplies bfloat16 as it is, the header of its tile; else absent
 * A family includes the shared headers that it needs and may leave some of their functions unused.
 */
/* SPDX-License-Identifier: MIT */
#ifndef ST_LANES_H
#define ST_LANES_H

#include "backend/cpu/cpu.h"
#include <assert.h>
#include <math.h>
#include <omp.h>
#include <string.h>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#define KERNEL_JOIN(set, name) st_cpu_##set##_##name
#define KERNEL_NAME(set, name) KERNEL_JOIN(set, name)
#define KERNEL(name)           KERNEL_NAME(KERNEL_SET, name)

#define ST_OP(op, required) void KERNEL(op)(st_stream * q, const st_##op##_args *a);
#include "backend/ops.def"
#undef ST_OP
st_cpu_gemm KERNEL(gemm_blocks);

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef uint32_t vec_u32 __attribute__((vector_size(4 * LANES)));
typedef uint16_t vec_u16 __attribute__((vector_size(2 * LANES)));

static inline vec vec_load(const float *p)
{
    vec v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void vec_store(float *p, vec v)
{
    memcpy(p, &v, sizeof v);
}

static inline vec vec_set(float x)
{
    return x - (vec){0};
}

/* LANES bfloat16 numbers, widened. */
static inline vec vec_widen(const uint16_t *p)
{
    vec_u16 h;
    memcpy(&h, p, sizeof h);
    return (vec)(__builtin_convertvector(h, vec_u32) << 16);
}

static inline vec vec_read(const void *p, st_dtype t, int64_t i)
{
    return t == ST_F32 ? vec_load((const float *)p + i) : vec_widen((const uint16_t *)p + i);
}

/* Two vectors interleaved: the lower half of the result, the upper half. */
#if LANES == 4
#define VEC_LOW  0, 4, 1, 5
#define VEC_HIGH 2, 6, 3, 7
#elif LANES == 8
#define VEC_LOW  0, 8, 1, 9, 2, 10, 3, 11
#define VEC_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define VEC_LOW  0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define VEC_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#endif

/* Transposes LANES vectors in place: interleaving halves log2(LANES) times. */
static inline void vec_transpose(vec v[LANES])
{
#pragma GCC unroll 4
    for (int round = 1; round < LANES; round *= 2) {
        vec next[LANES];
#pragma GCC unroll 8
        for (int i = 0; i < LANES / 2; i++) {
            next[2 * i] = __builtin_shufflevector(v[i], v[i + LANES / 2], VEC_LOW);
            next[2 * i + 1] = __builtin_shufflevector(v[i], v[i + LANES / 2], VEC_HIGH);
        }
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            v[i] = next[i];
    }
}

#undef VEC_LOW
#undef VEC_HIGH

static inline float vec_sum(vec v)
{
    float part[LANES];
    memcpy(part, &v, sizeof v);
    for (int width = LANES / 2; width; width /= 2) {
        for (int i = 0; i < width; i++)
            part[i] += part[i + width];
    }
    return part[0];
}

static inline float f32_of_bits(uint32_t u)
{
    union {
        uint32_t u;
        float f;
    } v = {.u = u};
    return v.f;
}

static inline uint32_t bits_of_f32(float f)
{
    union {
        float f;
        uint32_t u;
    } v = {.f = f};
    return v.u;
}

/* ---- blocks of BLOCK numbers, in float32 ----------------------------------------------------- */

enum { BLOCK = 512 };

static void widen(float *dst, const uint16_t *src, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        dst[i] = f32_of_bits((uint32_t)src[i] << 16);
}

/* st_f32_to_bf16 without a branch. */
static void narrow(uint16_t *dst, const float *src, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        uint32_t u = bits_of_f32(src[i]);
        uint32_t even = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16, nan = (u >> 16) | 0x40u;
        dst[i] = (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? nan : even);
    }
}

/* LANES numbers, rounded to bfloat16. */
static inline void vec_narrow(uint16_t *p, vec v)
{
#ifdef __AVX512BF16__
    __m256bh h = _mm512_cvtneps_pbh((__m512)v);
    memcpy(p, &h, sizeof h);
#else
    float wide[LANES];
    vec_store(wide, v);
    narrow(p, wide, LANES);
#endif
}

/* `n` elements from element `i` on, to read: in place, or widened into `buf`. */
static inline const float *floats_in(const void *data, st_dtype t, int64_t i, int64_t n, float *buf)
{
    if (t == ST_F32) return (const float *)data + i;
    widen(buf, (const uint16_t *)data + i, n);
    return buf;
}

static inline const float *block_in(const st_tensor *t, int64_t i, int64_t n, float *buf)
{
    return floats_in(t->data, t->dtype, i, n, buf);
}

/* Where to write elements from `i` on; block_done then puts them there. */
static inline float *block_out(const st_tensor *t, int64_t i, float *buf)
{
    return t->dtype == ST_F32 ? (float *)t->data + i : buf;
}

static inline void block_done(const st_tensor *t, int64_t i, int64_t n, const float *buf)
{
    if (t->dtype != ST_F32) narrow((uint16_t *)t->data + i, buf, n);
}

static inline int64_t at_most(int64_t n, int64_t limit)
{
    return n < limit ? n : limit;
}

/* y[0..count) = s x, or += if `add`; s == 1 for copies. */
static void block_scaled(const st_tensor *x, int64_t x0, const st_tensor *y, int64_t y0,
                         int64_t count, float s, bool add)
{
    for (int64_t i = 0; i < count; i += BLOCK) {
        float bx[BLOCK], by[BLOCK], old[BLOCK];
        int64_t n = at_most(count - i, BLOCK);
        const float *from = block_in(x, x0 + i, n, bx);
        const float *was = add ? block_in(y, y0 + i, n, old) : NULL;
        float *to = block_out(y, y0 + i, by);
        if (was) {
#pragma omp simd
            for (int64_t j = 0; j < n; j++)
                to[j] = was[j] + s * from[j];
        } else {
#pragma omp simd
            for (int64_t j = 0; j < n; j++)
                to[j] = s * from[j];
        }
        block_done(y, y0 + i, n, to);
    }
}

static inline float scalar_in(const st_tensor *t, int64_t i)
{
    return t->dtype == ST_F32 ? ((const float *)t->data)[i]
                              : st_bf16_to_f32(((const uint16_t *)t->data)[i]);
}

/* ---- exp, log -------------------------------------------------------------------------------- */

/* e^x within 2 ulp for x in [-87, 88]; outside, the value at that end; NaN stays NaN.
 * 2^n e^r with |r| <= ln(2)/2; the polynomial's relative error, fitted to be even, is 3e-9. */
static inline float fast_exp(float x)
{
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float t = x * 1.44269504f + magic, n = t - magic;
    float r = x - n * 0.693145752f; /* ln 2 in two parts, the first with 15 bits */
    r = r - n * 1.42860682e-6f;
    float p = 1.38144659e-3f;
    p = p * r + 8.36878053e-3f;
    p = p * r + 4.16683942e-2f;
    p = p * r + 1.66665201e-1f;
    p = p * r + 0.499999934f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return p * f32_of_bits((bits_of_f32(t) << 23) + 0x3f800000u);
}

/* ln x within 2 ulp (near 1 within 1e-7) for normal x > 0. x = 2^n (1 + f), 1 + f in
 * [0.707, 1.414); Cephes' polynomial for ln(1 + f). */
static inline float fast_log(float x)
{
    uint32_t u = bits_of_f32(x) - 0x3f3504f3u;
    float n = (float)((int32_t)u >> 23), f = f32_of_bits((u & 0x7fffffu) + 0x3f3504f3u) - 1.0f;
    float p = 7.0376836292e-2f, square = f * f;
    p = p * f - 1.1514610310e-1f;
    p = p * f + 1.1676998740e-1f;
    p = p * f - 1.2420140846e-1f;
    p = p * f + 1.4249322787e-1f;
    p = p * f - 1.6668057665e-1f;
    p = p * f + 2.0000714765e-1f;
    p = p * f - 2.4999993993e-1f;
    p = p * f + 3.3333331174e-1f;
    p = p * f * square - 2.12194440e-4f * n - 0.5f * square;
    return f + p + 0.693359375f * n;
}

#endif
