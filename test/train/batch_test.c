/* Data order: what each order draws, that a cursor is all its state, and what is refused. */
/* SPDX-License-Identifier: MIT */
#include "testing.h"
#include "train/inner.h"

enum { TOKENS = 1000, CONTEXT = 16, WINDOWS = (TOKENS - 1) / CONTEXT };

static char path[256];
static const char *dir;

static int set_up(void **state)
{
    (void)state;
    uint16_t token[TOKENS];
    for (int i = 0; i < TOKENS; i++)
        token[i] = (uint16_t)i; /* a token says where it stood */
    dir = st_test_dir();
    snprintf(path, sizeof path, "%s", st_test_path(dir, "x.bin"));
    st_test_write(path, token, sizeof token);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    st_test_remove(dir);
    return 0;
}

static st_batch opened(st_order order, uint64_t seed)
{
    st_batch b;
    st_err e = {0};
    assert_ok(st_batch_open(&b, path, TOKENS, CONTEXT, order, seed, &e), &e);
    return b;
}

/* Targets are the ids one further, in every order and at both ends of the shard. */
static void test_targets(void **state)
{
    (void)state;
    for (int order = ST_ORDER_RANDOM; order <= ST_ORDER_SEQUENTIAL; order++) {
        st_batch b = opened((st_order)order, 1);
        int32_t ids[4 * CONTEXT], targets[4 * CONTEXT];
        for (int n = 0; n < 100; n++) {
            st_batch_next(&b, 4, ids, targets);
            for (int i = 0; i < 4 * CONTEXT; i++) {
                assert_int_equal(targets[i], ids[i] + 1);
                assert_int_equal(ids[i], ids[i / CONTEXT * CONTEXT] + i % CONTEXT);
                assert_in_range(targets[i], 1, TOKENS - 1);
            }
        }
        st_batch_close(&b);
    }
}

/* Uniform over [0, N - T): both ends appear, halves are balanced, other seeds give other rows. */
static void test_random(void **state)
{
    (void)state;
    st_batch b = opened(ST_ORDER_RANDOM, 7), c = opened(ST_ORDER_RANDOM, 8);
    int64_t least = TOKENS, most = 0, low = 0, same = 0;
    const int64_t draws = 20000, starts = TOKENS - CONTEXT;
    for (int64_t r = 0; r < draws; r++) {
        int64_t s = st_batch_start(&b, r);
        if (s < least) least = s;
        if (s > most) most = s;
        low += s < starts / 2;
        same += s == st_batch_start(&c, r);
    }
    assert_int_equal(least, 0);
    assert_int_equal(most, starts - 1);
    assert_in_range(low, draws / 2 - 300, draws / 2 + 300); /* 4 sigma = 283 */
    assert_in_range(same, 0, 60);                           /* expected 20 */
    st_batch_close(&b);
    st_batch_close(&c);
}

/* Every window once an epoch; epochs and seeds differ; not the identity. */
static void test_shuffle(void **state)
{
    (void)state;
    st_batch b = opened(ST_ORDER_SHUFFLE, 3);
    assert_int_equal(st_batch_windows(&b), WINDOWS);
    int moved = 0, differ = 0;
    for (int epoch = 0; epoch < 3; epoch++) {
        bool seen[WINDOWS] = {0};
        for (int64_t i = 0; i < WINDOWS; i++) {
            int64_t s = st_batch_start(&b, epoch * WINDOWS + i);
            assert_int_equal(s % CONTEXT, 0);
            assert_in_range(s / CONTEXT, 0, WINDOWS - 1);
            assert_false(seen[s / CONTEXT]);
            seen[s / CONTEXT] = true;
            moved += s / CONTEXT != i;
            differ += s != st_batch_start(&b, i);
        }
    }
    assert_in_range(moved, 3 * WINDOWS - 20, 3 * WINDOWS);
    assert_in_range(differ, 2 * WINDOWS - 20, 2 * WINDOWS);
    st_batch_close(&b);
}

/* Permutations of every small size, where the network is walked most. */
static void test_shuffle_sizes(void **state)
{
    (void)state;
    for (int64_t n = 1; n <= 70; n++) {
        st_batch b = {.shard = {.n = n + 1}, .context = 1, .order = ST_ORDER_SHUFFLE, .seed = 5};
        bool seen[70] = {0};
        for (int64_t i = 0; i < n; i++) {
            int64_t s = st_batch_start(&b, i);
            assert_in_range(s, 0, n - 1);
            assert_false(seen[s]);
            seen[s] = true;
        }
    }
}

static void test_sequential(void **state)
{
    (void)state;
    st_batch b = opened(ST_ORDER_SEQUENTIAL, 3);
    for (int64_t r = 0; r < 3 * WINDOWS; r++)
        assert_int_equal(st_batch_start(&b, r), r % WINDOWS * CONTEXT);
    st_batch_close(&b);
}

/* Rows do not depend on how they are grouped into batches, nor on what was drawn before. */
static void test_cursor(void **state)
{
    (void)state;
    for (int order = ST_ORDER_RANDOM; order <= ST_ORDER_SEQUENTIAL; order++) {
        st_batch b = opened((st_order)order, 9), c = opened((st_order)order, 9);
        int32_t ids[6 * CONTEXT], targets[6 * CONTEXT], one[CONTEXT], next[CONTEXT];
        st_batch_next(&b, 6, ids, targets);
        st_batch_next(&b, 6, ids, targets);
        c.drawn = 6;
        for (int r = 0; r < 6; r++) {
            st_batch_next(&c, 1, one, next);
            assert_memory_equal(one, ids + r * CONTEXT, sizeof one);
        }
        assert_int_equal(b.drawn, c.drawn);
        st_batch_close(&b);
        st_batch_close(&c);
    }
}

/* Validation windows: all of them, or some spread evenly; the rest of a batch does not count. */
static void test_spread(void **state)
{
    (void)state;
    st_batch b = opened(ST_ORDER_SEQUENTIAL, 0);
    int32_t ids[4 * CONTEXT], targets[4 * CONTEXT];
    st_batch_spread(&b, 60, 4, WINDOWS, ids, targets);
    for (int r = 0; r < 4; r++) {
        assert_int_equal(ids[r * CONTEXT], 60 + r < WINDOWS ? (60 + r) * CONTEXT : 0);
        assert_int_equal(targets[r * CONTEXT], 60 + r < WINDOWS ? (60 + r) * CONTEXT + 1 : -1);
    }
    st_batch_spread(&b, 0, 4, 4, ids, targets);
    for (int r = 0; r < 4; r++)
        assert_int_equal(ids[r * CONTEXT], r * WINDOWS / 4 * CONTEXT);
    st_batch_close(&b);
}

static void test_refused(void **state)
{
    (void)state;
    st_batch b;
    st_err e = {0};
    assert_st(st_batch_open(&b, path, TOKENS - 1, CONTEXT, ST_ORDER_RANDOM, 0, &e), ST_EFORMAT, &e);
    assert_says(&e, "999");
    assert_st(st_batch_open(&b, path, TOKENS, TOKENS, ST_ORDER_RANDOM, 0, &e), ST_EARG, &e);
    assert_says(&e, "1001");
    assert_ok(st_batch_open(&b, path, TOKENS, TOKENS - 1, ST_ORDER_RANDOM, 0, &e), &e);
    assert_int_equal(st_batch_start(&b, 12345), 0);
    st_batch_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_targets),    cmocka_unit_test(test_random),
        cmocka_unit_test(test_shuffle),    cmocka_unit_test(test_shuffle_sizes),
        cmocka_unit_test(test_sequential), cmocka_unit_test(test_cursor),
        cmocka_unit_test(test_spread),     cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
