/* Token shards: what was written is read; files of another kind are refused. */
/* SPDX-License-Identifier: MIT */
#include "testing.h"
#include "text/text.h"

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
    int32_t id[3];
    st_shard_read(&s, 0, 3, id);
    assert_int_equal(id[0], 1);
    assert_int_equal(id[1], 0x1234);
    assert_int_equal(id[2], 0xFFFF);
    assert_string_equal(s.format, "nanoGPT");
    assert_ok(st_shard_check(&s, 65536, &e), &e);
    assert_st(st_shard_check(&s, 65535, &e), ST_EFORMAT, &e);
    assert_says(&e, "token 2 is 65535");
    assert_st(st_shard_check(&s, 0x1234, &e), ST_EFORMAT, &e);
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
        assert_ok(st_shard_check(&s, 1001, &e), &e);
        assert_st(st_shard_check(&s, 1000, &e), ST_EFORMAT, &e);
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
    assert_st(st_shard_open(&s, dir, &e), ST_EIO, &e);
    st_test_write(path, "", 0);
    assert_st(st_shard_open(&s, path, &e), ST_EFORMAT, &e);
    assert_says(&e, "0 bytes");
    st_test_write(path, "abc", 3);
    assert_st(st_shard_open(&s, path, &e), ST_EFORMAT, &e);
    assert_null(s.part);
    assert_says(&e, "3 bytes");
    st_test_remove(dir);
}

/* What a file of `n` bytes holds: format and ids; or the message with which it is refused. */
static void shard_expect(const char *name, const void *data, size_t n, const char *format,
                         const int32_t *want, int64_t count)
{
    const char *dir = st_test_dir(), *path = st_test_path(dir, name);
    st_err e = {0};
    st_shard s;
    int32_t id[8];
    st_test_write(path, data, n);
    if (!want) {
        assert_st(st_shard_open(&s, path, &e),
                  strstr(format, "must be") ? ST_EUNSUPPORTED : ST_EFORMAT, &e);
        assert_says(&e, format);
        assert_null(s.part);
    } else {
        assert_ok(st_shard_open(&s, path, &e), &e);
        assert_string_equal(s.format, format);
        assert_int_equal(s.n, count);
        st_shard_read(&s, 0, count, id);
        assert_memory_equal(id, want, 4 * (size_t)count);
        st_shard_read(&s, 1, count - 1, id);
        assert_memory_equal(id, want + 1, 4 * (size_t)(count - 1));
        st_shard_close(&s);
    }
    st_test_remove(dir);
}

static void shard_llmc(void **state)
{
    (void)state;
    int32_t gpt2[256 + 2] = {20240520, 1, 4}, llama[256 + 2] = {20240801, 7, 2};
    static const int32_t want[] = {50256, 1, 2, 65535}, wide[] = {128000, 5};
    const uint16_t token[] = {50256, 1, 2, 65535};
    memcpy(gpt2 + 256, token, sizeof token);
    memcpy(llama + 256, wide, sizeof wide);
    shard_expect("a.bin", gpt2, sizeof gpt2, "llm.c", want, 4);
    shard_expect("a.bin", llama, sizeof llama, "llm.c", wide, 2);
    shard_expect("a.bin", gpt2, sizeof gpt2 - 2, "was it cut short?", NULL, 0);
    gpt2[2] = -4;
    shard_expect("a.bin", gpt2, sizeof gpt2, "says -4 tokens", NULL, 0);
    for (int other = 0; other < 2; other++) { /* a version, a header that only tokens can have */
        const char *dir = st_test_dir(), *path = st_test_path(dir, "a.bin");
        st_err e = {0};
        st_shard s;
        gpt2[1] = other ? 1 : 2;
        gpt2[200] = other;
        st_test_write(path, gpt2, sizeof gpt2);
        assert_ok(st_shard_open(&s, path, &e), &e);
        assert_string_equal(s.format, "nanoGPT");
        assert_int_equal(s.n, 516);
        st_shard_close(&s);
        st_test_remove(dir);
    }
}

/* numpy.save's bytes: the header padded to 64, versions 1 to 3. */
static size_t shard_npy_make(char *out, int version, const char *dict, const void *data, size_t n)
{
    size_t at = version == 1 ? 10 : 12, head = 128 - at;
    memset(out, ' ', 128);
    memcpy(out, "\x93NUMPY", 6);
    out[6] = (char)version;
    out[7] = 0;
    memset(out + 8, 0, at - 8);
    out[8] = (char)head;
    memcpy(out + at, dict, strlen(dict));
    out[127] = '\n';
    memcpy(out + 128, data, n);
    return 128 + n;
}

static void shard_npy(void **state)
{
    (void)state;
    static const int32_t narrow[] = {50256, 1, 65535}, wide[] = {128000, 5, 70000};
    static const uint16_t token[] = {50256, 1, 65535};
    char file[512];
    for (int version = 1; version <= 3; version++) {
        size_t n = shard_npy_make(
            file, version, "{'descr': '<u2', 'fortran_order': False, 'shape': (3,), }", token, 6);
        shard_expect("a.npy", file, n, "npy", narrow, 3);
        shard_expect("train.bin", file, n, "npy", narrow, 3);
        shard_expect("a.npy", file, n - 1, "3 tokens of 2 bytes, but 5 bytes follow", NULL, 0);
        for (size_t k = 0; k < 128; k++) {
            if (k > 0) shard_expect("a.npy", file, k, "npy", NULL, 0);
        }
        n = shard_npy_make(file, version, "{'shape': (3,), 'fortran_order': False, 'descr': '<i4'}",
                           wide, 12);
        shard_expect("a.npy", file, n, "npy", wide, 3);
        n = shard_npy_make(file, version,
                           "{'descr': '<u4', 'fortran_order': False, 'shape': (3,), }", wide, 12);
        shard_expect("a.npy", file, n, "npy", wide, 3);
    }
    size_t n = shard_npy_make(file, 1, "{'descr': '>i8', 'fortran_order': False, 'shape': (1,), }",
                              wide, 8);
    shard_expect("a.npy", file, n, "'>i8'; token ids must be uint16", NULL, 0);
    n = shard_npy_make(file, 1, "{'descr': '<u2', 'fortran_order': False, 'shape': (1, 3), }",
                       token, 6);
    shard_expect("a.npy", file, n, "shape (1, 3), expected one row", NULL, 0);
    n = shard_npy_make(
        file, 1, "{'descr': '<u2', 'fortran_order': False, 'shape': (99999999999999999999,), }",
        token, 6);
    shard_expect("a.npy", file, n, "expected one row", NULL, 0);
    n = shard_npy_make(
        file, 1, "{'descr': '<u4', 'fortran_order': False, 'shape': (4611686018427387905,), }",
        token, 4);
    shard_expect("a.npy", file, n, "but 4 bytes follow", NULL, 0);
    shard_expect("a.npy", token, 6, "does not begin", NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shard_reads), cmocka_unit_test(shard_checks_all),
        cmocka_unit_test(shard_refuses), cmocka_unit_test(shard_llmc), cmocka_unit_test(shard_npy)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
