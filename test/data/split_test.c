/* nanoGPT's split: numpy's permutations, and files that are those of datasets and numpy, byte for
 * byte. */
/* SPDX-License-Identifier: MIT */
#include "data/data.h"
#include "data/prepare.h"
#include "testing.h"
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIXTURES "test/fixtures/split/"
static const char tok[] = "test/fixtures/text/license-400.json";

static void split_permutations(void **state)
{
    (void)state;
    st_err e = {0};
    json_t *cases;
    const json_t *c;
    size_t k;
    assert_ok(st_json_load(&cases, FIXTURES "permutations.json", 1 << 20, &e), &e);
    assert_true(json_array_size(cases) > 30);
    json_array_foreach(cases, k, c)
    {
        int64_t n = json_integer_value(json_object_get(c, "n"));
        uint64_t seed = (uint64_t)json_integer_value(json_object_get(c, "seed"));
        const json_t *first = json_object_get(c, "first");
        uint32_t *order = st_calloc(n, sizeof *order);
        uint64_t hash = 0xCBF29CE484222325u;
        char text[32];
        st_numpy_permutation(seed, order, n);
        for (size_t i = 0; i < json_array_size(first); i++)
            assert_int_equal(order[i], json_integer_value(json_array_get(first, i)));
        for (int64_t i = 0; i < n; i++)
            hash = (hash ^ order[i]) * 0x100000001B3u;
        snprintf(text, sizeof text, "%016llx", (unsigned long long)hash);
        assert_string_equal(text, json_string_value(json_object_get(c, "fnv")));
        free(order);
    }
    json_decref(cases);
}

static void split_corpus(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *input = FIXTURES "corpus.jsonl";
    st_err e = {0};
    for (int threads = 1; threads < 4; threads += 2) {
        json_t *r;
        st_prepare_opts o = {.tokenizer = tok,
                             .split = ST_SPLIT_NANOGPT,
                             .seed = 2357,
                             .threads = threads,
                             .replace = true};
        assert_ok(st_prepare(&input, 1, st_test_path(dir, "out"), &o, &r, &e), &e);
        assert_same_files(FIXTURES "train.bin", st_test_path(dir, "out/train.bin"));
        assert_same_files(FIXTURES "val.bin", st_test_path(dir, "out/val.bin"));
        assert_int_equal(json_integer_value(json_object_get(r, "documents")), 2100);
        assert_int_equal(json_integer_value(json_object_get(r, "val_documents")), 2);
        assert_string_equal(json_string_value(json_object_get(r, "split")), "nanogpt");
        assert_int_equal(st_test_entries(st_test_path(dir, "out")), 8);
        json_decref(r);
    }
    st_test_remove(dir);
}

/* Windows that hold no more than a few documents, and documents larger than one. */
static void split_windows(void **state)
{
    (void)state;
    enum { DOCS = 1000 };
    const char *dir = st_test_dir();
    st_err e = {0};
    st_shuffle s;
    uint32_t order[DOCS];
    uint16_t *want = st_calloc(DOCS * 40, sizeof *want);
    for (int64_t window = 1; window < 100000; window *= 9) {
        st_bin file[2];
        const char *const names[] = {"train.bin", "val.bin"};
        assert_ok(st_shuffle_open(&s, dir, 2, &e), &e);
        s.window = window;
        for (int i = 0; i < 2; i++)
            assert_ok(st_bin_open(&file[i], dir, names[i], 2, &e), &e);
        for (int32_t i = 0; i < DOCS; i++) {
            int32_t id[40];
            for (int32_t k = 0; k < i % 40; k++)
                id[k] = i + k;
            assert_ok(st_shuffle_put(&s, id, i % 40 / 2, true, &e), &e);
            assert_ok(st_shuffle_put(&s, id + i % 40 / 2, i % 40 - i % 40 / 2, false, &e), &e);
        }
        assert_ok(st_shuffle_write(&s, 0.1, 5, &file[0], &file[1], &e), &e);
        st_numpy_permutation(5, order, DOCS);
        for (int i = 0; i < 2; i++) {
            int64_t n = 0, documents = file[i].documents;
            assert_int_equal(documents, i ? 100 : 900);
            assert_ok(st_bin_close(&file[i], &e), &e);
            for (int k = i ? 0 : 100; k < (i ? 100 : DOCS); k++)
                for (uint32_t t = 0; t < order[k] % 40; t++)
                    want[n++] = (uint16_t)(order[k] + t);
            size_t bytes;
            char *got = st_test_read(st_test_path(dir, names[i]), &bytes);
            assert_int_equal(bytes, 2 * n);
            assert_memory_equal(got, want, bytes);
            free(got);
        }
        st_shuffle_drop(&s);
        assert_int_equal(st_test_entries(dir), 2);
    }
    free(want);
    st_test_remove(dir);
}

static void split_refuses(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "one.jsonl");
    st_err e = {0};
    json_t *r;
    st_prepare_opts o = {.tokenizer = tok, .split = ST_SPLIT_NANOGPT};
    st_test_write(path, "{\"text\": \"one\"}\n", 16);
    assert_st(st_prepare(&path, 1, st_test_path(dir, "out"), &o, &r, &e), ST_EARG, &e);
    assert_says(&e, "1 document, of which 1 would be for validation");
    st_test_write(path, "", 0);
    assert_st(st_prepare(&path, 1, st_test_path(dir, "out"), &o, &r, &e), ST_EARG, &e);
    assert_says(&e, "no text");
    assert_int_equal(st_test_entries(dir), 1);
    st_test_remove(dir);
}

/* In a process of its own, with no more than `limit` bytes a file. */
static void split_full_disk(void **state)
{
    (void)state;
    static const rlim_t limits[] = {4096, 100000};
    for (int i = 0; i < 2; i++) {
        const char *dir = st_test_dir(), *input = FIXTURES "corpus.jsonl";
        pid_t pid = fork();
        if (pid == 0) {
            st_err e = {0};
            json_t *r;
            st_prepare_opts o = {.tokenizer = tok, .split = ST_SPLIT_NANOGPT, .threads = 2};
            signal(SIGXFSZ, SIG_IGN);
            setrlimit(RLIMIT_FSIZE, &(struct rlimit){limits[i], limits[i]});
            st_status s = st_prepare(&input, 1, st_test_path(dir, "out"), &o, &r, &e);
            _exit(s == ST_EIO && strstr(e.msg, "cannot be written") ? 42 : 1);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 42);
        assert_int_equal(st_test_entries(dir), 0);
        st_test_remove(dir);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(split_permutations), cmocka_unit_test(split_corpus),
        cmocka_unit_test(split_windows), cmocka_unit_test(split_refuses),
        cmocka_unit_test(split_full_disk)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
