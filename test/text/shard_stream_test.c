/* Shards of tokens as one stream: folders, patterns, names that say which split they are, widths
 * that differ, and ids of 32 bits in a file without a header. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "testing.h"
#include "text/text.h"
#include <sys/stat.h>

static char said[1024];

static void listen(void *ctx, st_log_level level, const char *text)
{
    (void)ctx, (void)level;
    snprintf(said, sizeof said, "%s", text);
}

static void ignore(void *ctx, const st_progress *p)
{
    (void)ctx, (void)p;
}

/* A bare file of ids first, first + 1, ... */
static void put(const char *dir, const char *name, int first, int n)
{
    uint16_t id[64];
    for (int i = 0; i < n; i++)
        id[i] = (uint16_t)(first + i);
    st_test_write(st_test_path(dir, name), id, (size_t)n * sizeof *id);
}

/* The same as an .npy file of whole numbers of 4 or 8 bytes. */
static void put_npy(const char *dir, const char *name, int width, int64_t first, int n)
{
    char file[1024];
    int at = 10,
        head = snprintf(file + at, 200,
                        "{'descr': '<i%d', 'fortran_order': False, 'shape': (%d,), }\n", width, n);
    memcpy(file, "\x93NUMPY\1\0", 8);
    file[8] = (char)head;
    file[9] = 0;
    for (int i = 0; i < n; i++) {
        int64_t id = first + i; /* its low half comes first */
        memcpy(file + at + head + width * i, &id, (size_t)width);
    }
    st_test_write(st_test_path(dir, name), file, (size_t)(at + head + width * n));
}

/* The stream of `path` must be ids 0 to n - 1, however it is read. */
static void counts(const char *path, int64_t n, int64_t parts)
{
    st_shard s;
    st_err e;
    int32_t id[64];
    assert_ok(st_shard_open(&s, path, &e), &e);
    assert_int_equal(s.n, n);
    assert_int_equal(s.parts, parts);
    for (int64_t at = 0; at < n; at++) {
        for (int64_t take = 0; take <= n - at; take++) {
            id[take] = -7;
            st_shard_read(&s, at, take, id);
            for (int64_t i = 0; i < take; i++)
                assert_int_equal(id[i], at + i);
            assert_int_equal(id[take], -7);
        }
    }
    assert_ok(st_shard_check(&s, n, &e), &e);
    assert_st(st_shard_check(&s, n - 1, &e), ST_EFORMAT, &e);
    st_shard_close(&s);
}

static void stream_order(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    put_npy(dir, "edu_train_000002.npy", 4, 20, 13);
    put(dir, "edu_train_000001.bin", 7, 13);
    put(dir, "edu_train_000000.bin", 0, 7);
    put(dir, "edu_train_000010.bin", 33, 1);
    counts(dir, 34, 4);
    char *pattern = strdup(st_test_path(dir, "edu_train_*0[012].*"));
    counts(pattern, 33, 3);
    counts(st_test_path(dir, "edu_train_000000.bin"), 7, 1);
    free(pattern);
    /* a bad token is named in its own file */
    st_shard s;
    st_err e;
    assert_ok(st_shard_open(&s, dir, &e), &e);
    assert_st(st_shard_check(&s, 25, &e), ST_EFORMAT, &e);
    assert_says(&e, "edu_train_000002.npy: token 5 is 25, but");
    st_shard_close(&s);
    assert_st(st_shard_open(&s, st_test_path(dir, "none_*.bin"), &e), ST_EIO, &e);
    assert_says(&e, "no shards of tokens");
    put(dir, "edu_train_000003.bin", 0, 0);
    assert_st(st_shard_open(&s, dir, &e), ST_EFORMAT, &e);
    assert_says(&e, "edu_train_000003.bin: 0 bytes");
    assert_null(s.part);
    st_test_remove(dir);
}

/* numpy's own whole numbers have 8 bytes; and a folder a split. */
static void stream_long(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    assert_int_equal(mkdir(st_test_path(dir, "train"), 0700), 0);
    assert_int_equal(mkdir(st_test_path(dir, "valid"), 0700), 0);
    put_npy(dir, "train/000.npy", 8, 0, 11);
    put(dir, "train/001.bin", 11, 9);
    put_npy(dir, "valid/000.npy", 8, (int64_t)1 << 32, 2);
    char *path = st_shard_path(dir, false);
    counts(path, 20, 2);
    free(path);
    path = st_shard_path(dir, true);
    st_shard s;
    st_err e;
    assert_ok(st_shard_open(&s, path, &e), &e);
    assert_st(st_shard_check(&s, 300, &e), ST_EFORMAT, &e); /* not what its low half would be */
    assert_says(&e, "valid/000.npy: token 0 is -1, but the vocabulary has 300 ids");
    st_shard_close(&s);
    free(path);
    st_test_remove(dir);
}

static void stream_sides(void **state)
{
    (void)state;
    static const struct {
        const char *name[5], *train, *val;
    } rows[] = {
        {{"edu_val_000000.npy", "edu_train_000001.npy", "edu_train_000002.npy"}, "@1 @2", "@0"},
        {{"000.bin", "001.bin", "dev.bin", "test.bin"}, "@0 @1", "@2"},
        {{"TinyStories_train.bin", "TinyStories_val.bin"}, "@0", "@1"},
        {{"interval.bin", "Validation-0.bin", "x.txt"}, "@0", "@1"},
        {{"train.bin", "val.bin", "other_train.bin"}, "@0", "@1"},
        {{"a.bin"}, "@0", "val.bin"},
    };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        const char *dir = st_test_dir();
        for (int i = 0; i < 5 && rows[k].name[i]; i++)
            put(dir, rows[k].name[i], 0, 4);
        for (int val = 0; val < 2; val++) {
            char want[1024] = "", *got = st_shard_path(dir, val);
            for (const char *at = val ? rows[k].val : rows[k].train; *at;) {
                size_t n = strcspn(at, " ");
                char name[64];
                snprintf(name, sizeof name, "%.*s", (int)n, at);
                strcat(want, *want ? "\n" : "");
                strcat(want, st_test_path(dir, *at == '@' ? rows[k].name[at[1] - '0'] : name));
                at += n + (at[n] == ' ');
            }
            assert_string_equal(got, want);
            assert_int_equal(st_shard_there(got), !(val && k == 5));
            free(got);
        }
        assert_true(st_shard_folder_is(dir));
        st_test_remove(dir);
    }
}

static void stream_wide(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "a.bin");
    st_sink_set(&(st_sink){.log = listen, .progress = ignore});
    uint32_t wide[64];
    uint16_t narrow[128];
    for (uint32_t i = 0; i < 64; i++)
        wide[i] = 1000 + 17 * i;
    for (int i = 0; i < 128; i++)
        narrow[i] = (uint16_t)(i % 2 ? 4 : 300);
    for (int k = 0; k < 2; k++) {
        st_shard s;
        st_err e;
        said[0] = '\0';
        st_test_write(path, k ? (void *)narrow : (void *)wide, 256);
        assert_ok(st_shard_open(&s, path, &e), &e);
        assert_int_equal(s.n, 128);
        assert_int_equal(strstr(said, "looks like ids of 32 bits") != NULL, k == 0);
        st_shard_close(&s);
    }
    st_test_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stream_order),
        cmocka_unit_test(stream_long),
        cmocka_unit_test(stream_sides),
        cmocka_unit_test(stream_wide),
    };
    return cmocka_run_group_tests_name("shard stream", tests, NULL, NULL);
}
