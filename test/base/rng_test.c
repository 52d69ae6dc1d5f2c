/* Random numbers: Philox4x32-10 against Random123's published vectors (its kat_vectors, and further
 * ones computed with its philox.h 1.14), cursors, distributions; FNV-1a against its authors'. */
/* SPDX-License-Identifier: MIT */
#include "testing.h"
#include <math.h>

static void test_philox_vectors(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], want[4];
    } v[] = {
        /* clang-format off */
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
        {{1, 0, 0, 0}, {0, 0}, {0xf8e4cca4, 0x5cb200db, 0xb1a574eb, 0x097eff67}},
        {{0, 1, 0, 0}, {0, 0}, {0x6ad0c5ec, 0xea236249, 0x73a459f5, 0x074944b3}},
        {{0, 0, 1, 0}, {0, 0}, {0x844515e1, 0xf08d6eaa, 0x0f19c053, 0x83f875f0}},
        {{0, 0, 0, 1}, {0, 0}, {0x2dce73e5, 0x1348e23f, 0xfcf8e0ec, 0xa287aadb}},
        {{0, 0, 0, 0}, {1, 0}, {0xe3e80670, 0xe50a0ebc, 0x95f222c0, 0xb615aa27}},
        {{0, 0, 0, 0}, {0, 1}, {0xfdde3e0b, 0xfa7e58b6, 0x3380ec46, 0xd8d55c4f}},
        {{0xdeadbeef, 7, 0x80000000, 3}, {42, 0x12345678},
         {0x4154aa02, 0x9c3f0752, 0x719a225b, 0xcd5112fe}},
        /* clang-format on */
    };
    for (size_t i = 0; i < sizeof v / sizeof *v; i++) {
        st_philox_block b = st_philox((uint64_t)v[i].key[1] << 32 | v[i].key[0],
                                      (uint64_t)v[i].counter[3] << 32 | v[i].counter[2],
                                      (uint64_t)v[i].counter[1] << 32 | v[i].counter[0]);
        for (int j = 0; j < 4; j++)
            assert_int_equal(b.v[j], v[i].want[j]);
    }
}

/* A cursor can be put down and taken up at any place, also over the 32-bit edge of the counter. */
static void test_cursor(void **state)
{
    (void)state;
    static const uint64_t start[] = {0, 3, ((uint64_t)1 << 34) - 3};
    for (size_t k = 0; k < sizeof start / sizeof *start; k++) {
        st_rng r = {.seed = 5, .stream = 9, .pos = start[k]};
        for (uint64_t i = 0; i < 12; i++) {
            uint64_t at = start[k] + i;
            assert_int_equal(r.pos, at);
            st_rng fresh = {.seed = 5, .stream = 9, .pos = at};
            uint32_t want = st_philox(5, 9, at / 4).v[at % 4];
            assert_int_equal(st_rng_u32(&fresh), want);
            assert_int_equal(st_rng_u32(&r), want);
        }
    }
    st_rng a = {.seed = 1}, b = a;
    uint64_t lo = st_rng_u32(&a), hi = st_rng_u32(&a);
    assert_true(st_rng_u64(&b) == (hi << 32 | lo));
    assert_int_equal(a.pos, b.pos);
}

static void test_uniform(void **state)
{
    (void)state;
    enum { N = 200000, BINS = 64 };
    st_rng r = {.seed = 11};
    int bin[BINS] = {0};
    double sum = 0;
    for (int i = 0; i < N; i++) {
        double u = st_rng_uniform(&r);
        assert_true(u >= 0 && u < 1);
        sum += u;
        bin[(int)(u * BINS)]++;
    }
    double chi = 0, want = (double)N / BINS;
    for (int i = 0; i < BINS; i++)
        chi += (bin[i] - want) * (bin[i] - want) / want;
    assert_true(chi > 30 && chi < 115); /* 63 degrees of freedom: 1e-4 either side */
    assert_true(fabs(sum / N - 0.5) < 4 / sqrt(12.0 * N));
}

static void test_below(void **state)
{
    (void)state;
    st_rng r = {.seed = 3};
    for (int i = 0; i < 100; i++)
        assert_int_equal(st_rng_below(&r, 1), 0);
    int count[3] = {0};
    for (int i = 0; i < 30000; i++)
        count[st_rng_below(&r, 3)]++;
    for (int i = 0; i < 3; i++)
        assert_in_range(count[i], 9650, 10350);
    /* Of 2^64 values a plain remainder would give the lower half of 3 * 2^62 twice as often. */
    uint64_t limit = (uint64_t)3 << 62;
    int low = 0;
    for (int i = 0; i < 30000; i++) {
        uint64_t v = st_rng_below(&r, limit);
        assert_true(v < limit);
        low += v < (uint64_t)1 << 62;
    }
    assert_in_range(low, 9650, 10350);
    assert_true(st_rng_below(&r, UINT64_MAX) < UINT64_MAX);
}

static void test_normal(void **state)
{
    (void)state;
    enum { N = 400000 };
    float *x = malloc(N * sizeof *x), y[11];
    assert_non_null(x);
    st_normal_fill(x, N, 0.5f, 2.0f, 7, 13);
    double m[5] = {0};
    for (int i = 0; i < N; i++) {
        double z = ((double)x[i] - 0.5) / 2;
        assert_true(isfinite(z) && fabs(z) < 7);
        for (int k = 1; k < 5; k++)
            m[k] += pow(z, k) / N;
    }
    double root = sqrt((double)N);
    assert_true(fabs(m[1]) < 4 / root);
    assert_true(fabs(m[2] - 1) < 4 * sqrt(2.0) / root);
    assert_true(fabs(m[3]) < 4 * sqrt(15.0) / root);
    assert_true(fabs(m[4] - 3) < 4 * sqrt(96.0) / root);
    double lag[4] = {0};
    for (int i = 0; i + 4 < N; i++) {
        for (int k = 0; k < 4; k++) {
            lag[k] += ((double)x[i] - 0.5) * ((double)x[i + k + 1] - 0.5) / 4 / N;
        }
    }
    for (int k = 0; k < 4; k++)
        assert_true(fabs(lag[k]) < 4 / root);
    /* A number depends on its place only, not on how many were asked for. */
    for (int n = 0; n <= 11; n++) {
        for (int i = 0; i < 11; i++)
            y[i] = -77.0f;
        st_normal_fill(y, n, 0.5f, 2.0f, 7, 13);
        assert_memory_equal(y, x, (size_t)n * sizeof *y);
        for (int i = n; i < 11; i++)
            assert_true(y[i] == -77.0f);
    }
    st_normal_fill(y, 5, 0.5f, 2.0f, 7, 14);
    assert_true(y[0] != x[0] && y[1] != x[1]);
    st_normal_fill(y, 5, 1.0f, 0.0f, 7, 14);
    for (int i = 0; i < 5; i++)
        assert_true(y[i] == 1.0f);
    free(x);
}

/* Vectors of the FNV authors' test suite (64-bit FNV-1a). */
static void test_hash(void **state)
{
    (void)state;
    assert_true(st_hash_name("") == 0xcbf29ce484222325u);
    assert_true(st_hash_name("a") == 0xaf63dc4c8601ec8cu);
    assert_true(st_hash_name("foobar") == 0x85944171f73967e8u);
    assert_true(st_hash_name("\xff") == 0xaf64724c8602eb6eu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox_vectors), cmocka_unit_test(test_cursor),
        cmocka_unit_test(test_uniform),        cmocka_unit_test(test_below),
        cmocka_unit_test(test_normal),         cmocka_unit_test(test_hash),
    };
    return cmocka_run_group_tests_name("rng", tests, NULL, NULL);
}
