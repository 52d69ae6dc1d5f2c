/* Token shards: what was written is read; files of another kind are refused. */
/* SPDX-License-Identifier: MIT */
#include "io/io.h"
#include "testing.h"

static void shard_reads(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    const char *path = st_test_path(dir, "train.bin");
    st_err e = {0};
    st_shard s;
    static const uint8_t bytes[] = {0x01, 0x00, 0x34, 0x12, 0xFF, 0xFF};
    st_test_write(path, bytes, sizeof bytes);
    assert_ok(st_shard_open(&s, path, &e), &e);
    assert_int_equal(s.n, 3);
    assert_int_equal(s.token[0], 1);
    assert_int_equal(s.token[1], 0x1234);
    assert_int_equal(s.token[2], 0xFFFF);
    assert_ok(st_shard_check(&s, 65536, path, &e), &e);
    assert_st(st_shard_check(&s, 65535, path, &e), ST_EFORMAT, &e);
    assert_says(&e, "token 2 is 65535");
    assert_st(st_shard_check(&s, 0x1234, path, &e), ST_EFORMAT, &e);
    assert_says(&e, "token 1 is 4660");
    st_shard_close(&s);
    st_shard_close(&s);
    st_test_remove(dir);
}

/* The first bad token is named wherever it stands, across the blocks of the check. */
static void shard_checks_all(void **state)
{
    (void)state;
    enum { N = 200001 };
    const char *dir = st_test_dir();
    const char *path = st_test_path(dir, "train.bin");
    st_err e = {0};
    static uint16_t token[N];
    static const int64_t at[] = {0, 65535, 65536, 131072, N - 1};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        char says[64];
        st_shard s;
        token[at[i]] = 1000;
        token[N - 1] = 1000;
        st_test_write(path, token, sizeof token);
        assert_ok(st_shard_open(&s, path, &e), &e);
        assert_ok(st_shard_check(&s, 1001, path, &e), &e);
        assert_st(st_shard_check(&s, 1000, path, &e), ST_EFORMAT, &e);
        snprintf(says, sizeof says, "token %lld is 1000", (long long)at[i]);
        assert_says(&e, says);
        st_shard_close(&s);
        token[at[i]] = 0;
    }
    st_test_remove(dir);
}

static void shard_refuses(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    const char *path = st_test_path(dir, "x.bin");
    st_err e = {0};
    st_shard s;
    assert_st(st_shard_open(&s, path, &e), ST_EIO, &e);
    assert_st(st_shard_open(&s, dir, &e), ST_EARG, &e);
    st_test_write(path, "", 0);
    assert_st(st_shard_open(&s, path, &e), ST_EFORMAT, &e);
    assert_says(&e, "0 bytes");
    st_test_write(path, "abc", 3);
    assert_st(st_shard_open(&s, path, &e), ST_EFORMAT, &e);
    assert_null(s.map);
    int32_t llmc[256 + 2] = {20240520, 1, 4};
    st_test_write(path, llmc, sizeof llmc);
    assert_st(st_shard_open(&s, path, &e), ST_EFORMAT, &e);
    assert_says(&e, "llm.c");
    st_test_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(shard_reads),
                                       cmocka_unit_test(shard_checks_all),
                                       cmocka_unit_test(shard_refuses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
