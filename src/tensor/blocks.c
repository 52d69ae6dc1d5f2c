/* Numbers in blocks that share a scale, as ggml has them (ggml-common.h, ggml-quants.c): a block of
 * 32 (_0, _1) or 256 (_K) numbers, scales as float16, all little-endian.
 *
 *   Q8_0  x = d q                        q int8
 *   Q4_0  x = d (q - 8)                  q 4 bits: number i low, number i + 16 high in byte i
 *   Q4_1  x = d q + m
 *   Q5_0  x = d (q - 16)                 q 5 bits: the fifth ones are bits i of one uint32
 *   Q5_1  x = d q + m
 *   Q2_K  x = d s_j q - m t_j            s, t 4 bits for each 16 numbers
 *   Q3_K  x = d (s_j - 32) (q - 4)       s 6 bits for each 16 numbers
 *   Q4_K  x = d s_j q - m t_j            s, t 6 bits for each 32 numbers
 *   Q5_K  x = d s_j q - m t_j
 *   Q6_K  x = d s_j (q - 32)             s int8 for each 16 numbers */
/* SPDX-License-Identifier: MIT */
#include "tensor/tensor.h"
#include <math.h>
#include <string.h>

static float blocks_half(const uint8_t *at)
{
    uint16_t h;
    memcpy(&h, at, 2);
    return st_f16_to_f32(h);
}

static float blocks_put_half(uint8_t *at, float x)
{
    uint16_t h = st_f32_to_f16(x);
    memcpy(at, &h, 2);
    return st_f16_to_f32(h);
}

static void q8_0_read(const uint8_t *b, float *x)
{
    float d = blocks_half(b);
    for (int i = 0; i < 32; i++)
        x[i] = (float)(int8_t)b[2 + i] * d;
}

/* Writers round to the nearest as llama.cpp's do. Numbers that come from a block of the format are
 * kept as they are, whatever its scale was: then they would not always round to themselves. */
typedef void blocks_fill(const float *x, float d, float least, uint8_t *block);

/* Fills the block with scale d (and least number); whether it then says what x does. */
static bool blocks_say(const float *x, float d, float least, blocks_fill *fill,
                       void (*read)(const uint8_t *, float *), uint8_t *block)
{
    float got[32];
    fill(x, d, least, block);
    read(block, got);
    for (int i = 0; i < 32; i++) {
        if (got[i] != x[i]) return false;
    }
    return true;
}

static float blocks_rounded(float x)
{
    return st_f16_to_f32(st_f32_to_f16(x));
}

static int64_t blocks_gcd(int64_t a, int64_t b)
{
    while (b) {
        int64_t rest = a % b;
        a = b, b = rest;
    }
    return a;
}

/* The largest number of which all of x are multiples, in units of 2^(exponent - 24), if `most`, the
 * largest of x in magnitude, is at most `reach` of it; 0: there is none. */
static int64_t blocks_divisor(const float *x, float most, int reach, int *exponent)
{
    float largest = fabsf(most);
    frexpf(largest, exponent);
    float unit = ldexpf(1, *exponent - 24);
    int64_t divisor = (int64_t)(largest / unit);
    for (int i = 0; i < 32; i++) {
        float n = fabsf(x[i]) / unit;
        if (n != rintf(n)) return 0;
        divisor = blocks_gcd(divisor, (int64_t)n);
        if (largest / unit > (float)(reach * divisor)) return 0;
    }
    return divisor;
}

/* Looks for a scale by which all of x are at most `reach`; that of rounding, `first`, comes first.
 */
static bool blocks_kept(const float *x, float most, int reach, float first, blocks_fill *fill,
                        void (*read)(const uint8_t *, float *), uint8_t *block)
{
    int exponent;
    int64_t divisor = blocks_divisor(x, most, reach, &exponent);
    if (!divisor) return false;
    if (blocks_say(x, first, 0, fill, read, block)) return true;
    float d = ldexpf((float)divisor, exponent - 24);
    for (int k = 1; (float)k * fabsf(most) <= (float)reach * d; k++) {
        float part = blocks_rounded(d / (float)k);
        if (part * (float)k != d) continue;
        if (blocks_say(x, part, 0, fill, read, block)) return true;
        if (blocks_say(x, -part, 0, fill, read, block)) return true;
    }
    return false;
}

static void q8_0_fill(const float *x, float d, float least, uint8_t *b)
{
    (void)least;
    float inverse = d > 0 ? 1 / d : 0;
    blocks_put_half(b, d);
    for (int i = 0; i < 32; i++)
        b[2 + i] = (uint8_t)(int8_t)fminf(roundf(x[i] * inverse), 127);
}

/* The nearest multiples of a scale that reaches the largest number. */
static void q8_0_write(const float *x, uint8_t *b)
{
    float most = 0;
    for (int i = 0; i < 32; i++)
        most = fmaxf(most, fabsf(x[i]));
    if (most > 0 && blocks_kept(x, most, 127, most / 127, q8_0_fill, q8_0_read, b)) return;
    q8_0_fill(x, most / 127, 0, b);
}

static void q4_0_read(const uint8_t *b, float *x)
{
    float d = blocks_half(b);
    for (int i = 0; i < 16; i++) {
        x[i] = (float)((b[2 + i] & 15) - 8) * d;
        x[i + 16] = (float)((b[2 + i] >> 4) - 8) * d;
    }
}

static int blocks_nibble(float x)
{
    int q = (int)x;
    return q < 0 ? 0 : q > 15 ? 15 : q;
}

static void q4_0_fill(const float *x, float d, float least, uint8_t *b)
{
    (void)least;
    float inverse = d != 0 ? 1 / d : 0;
    blocks_put_half(b, d);
    for (int i = 0; i < 16; i++) {
        int lo = blocks_nibble(x[i] * inverse + 8.5f);
        b[2 + i] = (uint8_t)(lo | blocks_nibble(x[i + 16] * inverse + 8.5f) << 4);
    }
}

/* The number of largest magnitude becomes -8 d exactly. */
static void q4_0_write(const float *x, uint8_t *b)
{
    float most = 0;
    for (int i = 0; i < 32; i++) {
        if (fabsf(x[i]) > fabsf(most)) most = x[i];
    }
    if (most != 0 && blocks_kept(x, most, 8, most / -8, q4_0_fill, q4_0_read, b)) return;
    q4_0_fill(x, most / -8, 0, b);
}

static void q4_1_read(const uint8_t *b, float *x)
{
    float d = blocks_half(b), m = blocks_half(b + 2);
    for (int i = 0; i < 16; i++) {
        x[i] = (float)(b[4 + i] & 15) * d + m;
        x[i + 16] = (float)(b[4 + i] >> 4) * d + m;
    }
}

static void q4_1_fill(const float *x, float d, float least, uint8_t *b)
{
    float inverse = d > 0 ? 1 / d : 0;
    blocks_put_half(b, d);
    blocks_put_half(b + 2, least);
    for (int i = 0; i < 16; i++) {
        int lo = blocks_nibble((x[i] - least) * inverse + 0.5f);
        b[4 + i] = (uint8_t)(lo | blocks_nibble((x[i + 16] - least) * inverse + 0.5f) << 4);
    }
}

/* Is every number about a multiple of d away from the least? */
static bool q4_1_steps(const float *x, float least, float d)
{
    for (int i = 0; i < 32; i++) {
        float steps = (x[i] - least) / d;
        if (fabsf(steps - roundf(steps)) > 0.02f) return false;
    }
    return true;
}

/* From the least number to the largest in 15 steps; of a block's own numbers (two at least), which
 * need not reach both ends, in n steps that begin with number `low`. */
static void q4_1_write(const float *x, uint8_t *b)
{
    float least = x[0], most = x[0];
    for (int i = 1; i < 32; i++) {
        least = fminf(least, x[i]);
        most = fmaxf(most, x[i]);
    }
    for (int n = 15; n > 0 && most > least; n--) {
        float d = blocks_rounded((most - least) / (float)n);
        for (int low = 0; low <= 15 - n && d > 0 && q4_1_steps(x, least, d); low++) {
            float m = blocks_rounded(least - (float)low * d);
            if (blocks_say(x, d, m, q4_1_fill, q4_1_read, b)) return;
        }
    }
    q4_1_fill(x, (most - least) / 15, least, b);
}

/* The 5-bit number i of a block whose high bits are at `h` and low ones at `q`. */
static int blocks_five(const uint8_t *h, const uint8_t *q, int i)
{
    int low = i < 16 ? q[i] & 15 : q[i - 16] >> 4;
    return low | (h[i / 8] >> (i % 8) & 1) << 4;
}

static void q5_0_read(const uint8_t *b, float *x)
{
    float d = blocks_half(b);
    for (int i = 0; i < 32; i++)
        x[i] = (float)(blocks_five(b + 2, b + 6, i) - 16) * d;
}

static void q5_1_read(const uint8_t *b, float *x)
{
    float d = blocks_half(b), m = blocks_half(b + 2);
    for (int i = 0; i < 32; i++)
        x[i] = (float)blocks_five(b + 4, b + 8, i) * d + m;
}

static void q2_k_read(const uint8_t *b, float *x)
{
    float d = blocks_half(b + 80), m = blocks_half(b + 82);
    for (int i = 0; i < 256; i++) {
        uint8_t scale = b[i / 16];
        int q = b[16 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
        x[i] = d * (float)(scale & 15) * (float)q - m * (float)(scale >> 4);
    }
}

/* 6-bit scale j of 16 in 12 bytes: the low nibbles, then two bits each in the last four bytes. */
static int q3_k_scale(const uint8_t *s, int j)
{
    int low = j < 8 ? s[j] & 15 : s[j - 8] >> 4;
    return (low | (s[8 + j % 4] >> (j / 4 * 2) & 3) << 4) - 32;
}

static void q3_k_read(const uint8_t *b, float *x)
{
    float d = blocks_half(b + 108);
    for (int i = 0; i < 256; i++) {
        int low = b[32 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
        int high = b[i % 32] >> (i / 32) & 1;
        x[i] = d * (float)q3_k_scale(b + 96, i / 16) * (float)(low + 4 * high - 4);
    }
}

/* 6-bit scale and minimum j of 8 in 12 bytes. */
static void q4_k_scale(const uint8_t *s, int j, float *scale, float *least)
{
    int a = s[j] & 63, m = s[j + 4] & 63;
    if (j >= 4) {
        a = (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
        m = s[j + 4] >> 4 | s[j] >> 6 << 4;
    }
    *scale = (float)a;
    *least = (float)m;
}

/* Q4_K, and with the fifth bits at `high` Q5_K. */
static void q4_k_numbers(const uint8_t *b, const uint8_t *high, const uint8_t *q, float *x)
{
    float d = blocks_half(b), m = blocks_half(b + 2), scale, least;
    for (int j = 0; j < 8; j++) {
        q4_k_scale(b + 4, j, &scale, &least);
        for (int i = 0; i < 32; i++) {
            uint8_t byte = q[j / 2 * 32 + i];
            int n = j % 2 ? byte >> 4 : byte & 15;
            if (high) n |= (high[i] >> j & 1) << 4;
            x[j * 32 + i] = d * scale * (float)n - m * least;
        }
    }
}

static void q4_k_read(const uint8_t *b, float *x)
{
    q4_k_numbers(b, NULL, b + 16, x);
}

static void q5_k_read(const uint8_t *b, float *x)
{
    q4_k_numbers(b, b + 16, b + 48, x);
}

static void q6_k_read(const uint8_t *b, float *x)
{
    float d = blocks_half(b + 208);
    for (int i = 0; i < 256; i++) {
        int half = i / 128, part = i % 128 / 32, at = i % 32;
        uint8_t byte = b[half * 64 + part % 2 * 32 + at];
        int low = part < 2 ? byte & 15 : byte >> 4;
        int high = b[128 + half * 32 + at] >> (part * 2) & 3;
        x[i] = d * (float)(int8_t)b[192 + i / 16] * (float)((low | high << 4) - 32);
    }
}

/* Those of st_dtype first, in its order. */
static const st_blocks blocks_all[] = {
    {"Q8_0", 32, 34, q8_0_read, q8_0_write}, {"Q4_0", 32, 18, q4_0_read, q4_0_write},
    {"Q4_1", 32, 20, q4_1_read, q4_1_write}, {"Q5_0", 32, 22, q5_0_read, NULL},
    {"Q5_1", 32, 24, q5_1_read, NULL},       {"Q2_K", 256, 84, q2_k_read, NULL},
    {"Q3_K", 256, 110, q3_k_read, NULL},     {"Q4_K", 256, 144, q4_k_read, NULL},
    {"Q5_K", 256, 176, q5_k_read, NULL},     {"Q6_K", 256, 210, q6_k_read, NULL},
};

const st_blocks *st_blocks_find(const char *name)
{
    for (size_t i = 0; name && i < sizeof blocks_all / sizeof *blocks_all; i++) {
        if (strcmp(name, blocks_all[i].name) == 0) return &blocks_all[i];
    }
    return NULL;
}

const st_blocks *st_dtype_blocks(st_dtype t)
{
    return t < ST_Q8_0 ? NULL : &blocks_all[st_dtype_plain(t) - ST_Q8_0];
}

float st_blocks_round(st_dtype t, const uint8_t *block, float x)
{
    float d = blocks_half(block), inverse = d != 0 ? 1 / d : 0;
    if (t == ST_Q8_0) return d * fminf(fmaxf(roundf(x * inverse), -127), 127);
    if (t == ST_Q4_0) return d * (float)(blocks_nibble(x * inverse + 8.5f) - 8);
    float least = blocks_half(block + 2);
    return (float)blocks_nibble((x - least) * inverse + 0.5f) * d + least;
}
