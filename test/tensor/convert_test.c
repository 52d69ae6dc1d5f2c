/* bfloat16 and float16: every value to float32, and back from every value, every midpoint between
 * two neighbours and both float32 neighbours of it: the definition of round to nearest even. */
/* SPDX-License-Identifier: MIT */
#include "tensor/tensor.h"
#include "testing.h"
#include <math.h>

static float bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

static void test_bf16(void **state)
{
    (void)state;
    static const uint32_t tail[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
    for (uint32_t h = 0; h < 65536; h++) {
        float f = st_bf16_to_f32((uint16_t)h);
        assert_int_equal(bits_of(f), h << 16);
        bool nan = (h & 0x7fff) > 0x7f80;
        for (size_t i = 0; i < sizeof tail / sizeof *tail; i++) {
            uint32_t u = h << 16 | tail[i];
            uint16_t got = st_f32_to_bf16(bits(u));
            if ((u & 0x7fffffff) > 0x7f800000) { /* NaN stays NaN, with its sign */
                assert_true((got & 0x7fff) > 0x7f80);
                assert_int_equal(got >> 15, h >> 15);
                continue;
            }
            assert_false(nan);
            bool up = tail[i] > 0x8000 || (tail[i] == 0x8000 && (h & 1));
            assert_int_equal(got, h + up); /* from the largest up to infinity too */
        }
    }
}

/* The value of a finite float16 by its definition. */
static double half_value(uint32_t h)
{
    int exponent = (int)(h >> 10 & 31), mantissa = (int)(h & 1023);
    double v = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
    return h & 0x8000 ? -v : v;
}

static void test_f16_to_f32(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = st_f16_to_f32((uint16_t)h);
        assert_int_equal(bits_of(f) >> 31, h >> 15);
        if ((h & 0x7fff) < 0x7c00) {
            assert_true((double)f == half_value(h));
        } else if ((h & 0x7fff) == 0x7c00) {
            assert_true(isinf(f));
        } else {
            assert_true(isnan(f));
        }
    }
}

static void test_f32_to_f16(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7c00; h++) {
        /* Between h and its upper neighbour (65536 stands for infinity). */
        double low = half_value(h), high = h == 0x7bff ? 65536.0 : half_value(h + 1);
        float middle = (float)((low + high) / 2);
        assert_true((double)middle == (low + high) / 2);
        for (uint32_t sign = 0; sign < 2; sign++) {
            float s = sign ? -1.0f : 1.0f;
            uint32_t top = sign << 15;
            assert_int_equal(st_f32_to_f16(s * (float)low), top | h);
            assert_int_equal(st_f32_to_f16(s * nextafterf((float)low, 1e9f)), top | h);
            assert_int_equal(st_f32_to_f16(s * nextafterf(middle, 0.0f)), top | h);
            assert_int_equal(st_f32_to_f16(s * middle), top | (h & 1 ? h + 1 : h));
            assert_int_equal(st_f32_to_f16(s * nextafterf(middle, 1e9f)), top | (h + 1));
            assert_int_equal(st_f32_to_f16(s * nextafterf((float)high, 0.0f)), top | (h + 1));
        }
    }
    assert_int_equal(st_f32_to_f16(INFINITY), 0x7c00);
    assert_int_equal(st_f32_to_f16(-INFINITY), 0xfc00);
    assert_int_equal(st_f32_to_f16(3e38f), 0x7c00);
    assert_int_equal(st_f32_to_f16(bits(1)), 0); /* the smallest float32 */
    assert_int_equal(st_f32_to_f16(-bits(1)), 0x8000);
    for (uint32_t low = 1; low < 1 << 23; low += low) {
        assert_true((st_f32_to_f16(bits(0x7f800000 | low)) & 0x7fff) > 0x7c00);
        assert_true((st_f32_to_f16(bits(0xff800000 | low)) & 0xffff) > 0xfc00);
    }
    for (uint32_t h = 0x7c01; h < 0x8000; h++) {
        assert_true((st_f32_to_f16(st_f16_to_f32((uint16_t)h)) & 0x7fff) > 0x7c00);
    }
}

static void test_convert(void **state)
{
    (void)state;
    enum { N = 37 };
    static const st_dtype type[] = {ST_F32, ST_BF16, ST_F16};
    float want[N], x[N + 1], y[N + 1];
    for (int i = 0; i < N; i++)
        want[i] = (float)(i - 18) / 4;
    for (int a = 0; a < 3; a++) {
        for (int b = 0; b < 3; b++) {
            memset(x, 0xee, sizeof x);
            memset(y, 0xee, sizeof y);
            float back[N + 1];
            st_convert(x, type[a], want, ST_F32, N);
            st_convert(y, type[b], x, type[a], N);
            size_t used = N * st_dtype_size(type[b]);
            assert_int_equal(((unsigned char *)y)[used], 0xee);
            st_convert(back, ST_F32, y, type[b], N);
            for (int i = 0; i < N; i++)
                assert_true(back[i] == want[i]);
            memset(y, 0xee, sizeof y);
            st_convert(y, type[b], x, type[a], 0);
            assert_int_equal(*(unsigned char *)y, 0xee);
        }
    }
    memcpy(x, want, sizeof want);
    st_convert(x + 1, ST_F32, x, ST_F32, N); /* as memmove */
    assert_memory_equal(x + 1, want, sizeof want);
}

/* Blocks of several tables' worth: what each block's reader and writer make of it, from any float,
 * to any float. */
static void test_convert_blocks(void **state)
{
    (void)state;
    enum { N = 32 * 19 };
    static const st_dtype format[] = {ST_Q8_0, ST_Q4_0, ST_Q4_1}, type[] = {ST_F32, ST_BF16};
    float x[N], want[N];
    uint8_t got[N * 4 + 1], block[64], narrow[N * 4], back[N * 4];
    for (int i = 0; i < N; i++)
        x[i] = st_bf16_to_f32(st_f32_to_bf16(sinf((float)i) * (float)(1 + i / 32)));
    for (int f = 0; f < 3; f++) {
        const st_blocks *b = st_dtype_blocks(format[f]);
        size_t bytes = st_dtype_bytes(format[f], N);
        for (int t = 0; t < 2; t++) {
            memset(got, 0xee, sizeof got);
            st_convert(narrow, type[t], x, ST_F32, N);
            st_convert(got, format[f], narrow, type[t], N);
            assert_int_equal(got[bytes], 0xee);
            for (int i = 0; i < N / 32; i++) {
                b->write(x + 32 * i, block);
                assert_memory_equal(block, got + i * b->bytes, (size_t)b->bytes);
                b->read(block, want + 32 * i);
            }
            st_convert(narrow, type[t], want, ST_F32, N);
            st_convert(back, type[t], got, format[f], N);
            assert_memory_equal(back, narrow, N * st_dtype_size(type[t]));
        }
    }
}

/* What any block says, its numbers in part of the range only, is written so that the same is read:
 * of a file that others rounded, or that was rounded with regard to its inputs. */
static void test_blocks_kept(void **state)
{
    (void)state;
    for (st_dtype t = ST_Q8_0; t <= ST_Q4_1; t++) {
        const st_blocks *b = st_dtype_blocks(t);
        for (uint64_t seed = 0; seed < 20000; seed++) {
            uint8_t block[64], again[64];
            float x[32], y[32];
            for (int i = 0; i < b->bytes; i++)
                block[i] = (uint8_t)st_philox(seed, t, (uint64_t)i).v[0];
            int scales = t == ST_Q4_1 ? 2 : 1, mask = 0x11 << (seed / 2 % 2 ? 3 : 0);
            bool few = seed % 2; /* few numbers, or of few bits */
            for (int i = 2 * scales; i < b->bytes && few; i++)
                block[i] = t == ST_Q8_0 ? block[i] % (2 + seed % 100) : (block[i] & mask) | 0x44;
            for (int i = 0; i < scales; i++) { /* others than Q4_0 have no scale below 0 */
                uint8_t *high = &block[2 * i + 1];
                *high = (*high & (i || t == ST_Q4_0 ? 0x83 : 0x03)) | 0x24 | (seed / 2 % 3) << 3;
            }
            for (int i = 2; i < b->bytes && t == ST_Q8_0; i++) /* nor this number */
                block[i] = block[i] == 0x80 ? 0 : block[i];
            b->read(block, x);
            b->write(x, again);
            b->read(again, y);
            for (int i = 0; i < 32; i++) {
                if (x[i] != y[i])
                    fail_msg("%s, seed %d: number %d is %a, was %a", b->name, (int)seed, i,
                             (double)y[i], (double)x[i]);
            }
        }
    }
}

/* Of 37 rows, two groups of 16 and five alone: where bytes go, by hand, and every row read back. */
static void test_packed(void **state)
{
    (void)state;
    enum { ROWS = 37, COLS = 96, N = ROWS * COLS };
    static float x[N], want[N], got[COLS];
    static uint8_t plain[N * 2], packed[N * 2];
    for (int i = 0; i < N; i++)
        x[i] = sinf((float)i * 0.37f) * (float)(1 + i / COLS);
    for (st_dtype t = ST_Q8_0; t < ST_Q8_0_PACKED; t++) {
        st_dtype as = st_dtype_packed(t);
        size_t block = st_dtype_bytes(t, 32), row = 3 * block, head = t == ST_Q4_1 ? 4 : 2;
        assert_int_equal(st_dtype_plain(as), t);
        assert_int_equal(st_dtype_bytes(as, N), st_dtype_bytes(t, N));
        st_convert(plain, t, x, ST_F32, N);
        st_convert(want, ST_F32, plain, t, N);
        memset(packed, 0xee, sizeof packed);
        st_blocks_pack(packed, plain, t, ROWS, COLS);
        assert_int_equal(packed[st_dtype_bytes(t, N)], 0xee);
        /* row 18 is number 2 of the second group; its block 1 begins at 16 rows' first blocks */
        const uint8_t *group = packed + 16 * row + 16 * block, *of = plain + 18 * row + block;
        assert_memory_equal(group + 2 * 2, of, 2);
        if (t == ST_Q4_1) assert_memory_equal(group + 32 + 2 * 2, of + 2, 2);
        assert_memory_equal(group + 16 * head + 64 * 3 + 4 * 2, of + head + 4 * 3, 4);
        assert_memory_equal(packed + 32 * row, plain + 32 * row, 5 * row);
        for (int r = 0; r < ROWS; r++) {
            st_blocks_read(packed, as, ROWS, COLS, r, 32, 64, got);
            assert_memory_equal(got, want + r * COLS + 32, 64 * sizeof *got);
            st_blocks_read(plain, t, ROWS, COLS, r, 32, 64, got);
            assert_memory_equal(got, want + r * COLS + 32, 64 * sizeof *got);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bf16),           cmocka_unit_test(test_f16_to_f32),
        cmocka_unit_test(test_f32_to_f16),     cmocka_unit_test(test_convert),
        cmocka_unit_test(test_convert_blocks), cmocka_unit_test(test_blocks_kept),
        cmocka_unit_test(test_packed),
    };
    return cmocka_run_group_tests_name("convert", tests, NULL, NULL);
}
