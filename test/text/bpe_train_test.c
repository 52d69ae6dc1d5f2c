/* Learning merges: the same as Hugging Face's BpeTrainer (fixtures of tools/fixtures_text.py). */
/* SPDX-License-Identifier: MIT */
#include "testing.h"
#include "text/text.h"

static st_bpe *train_on(const json_t *texts, const char *text, size_t n, int64_t vocab,
                        int64_t min_count)
{
    st_bpe_trainer *t;
    st_bpe *b;
    st_err e = {0};
    const json_t *item;
    size_t i;
    assert_ok(st_bpe_trainer_open(&t, &e), &e);
    if (text) assert_ok(st_bpe_trainer_feed(t, text, n, &e), &e);
    json_array_foreach(texts, i, item)
    {
        assert_ok(st_bpe_trainer_feed(t, json_string_value(item), json_string_length(item), &e),
                  &e);
    }
    assert_ok(st_bpe_trainer_finish(t, vocab, min_count, &b, &e), &e);
    st_bpe_trainer_close(t);
    return b;
}

/* The lines of merges.txt after its first, as saved. */
static char *train_merges(const st_bpe *b, const char *dir)
{
    st_err e = {0};
    size_t n;
    assert_ok(st_bpe_save(b, dir, &e), &e);
    char *text = st_test_read(st_test_path(dir, "merges.txt"), &n);
    assert_memory_equal(text, "#version: 0.2\n", 14);
    memmove(text, text + 14, n - 13);
    return text;
}

static void train_check_case(const json_t *row, const char *text, size_t n, const char *dir)
{
    const json_t *want = json_object_get(row, "merges"), *item;
    st_bpe *b = train_on(json_object_get(row, "texts"), text, n,
                         json_integer_value(json_object_get(row, "vocab")),
                         json_integer_value(json_object_get(row, "min_count")));
    char *merges = train_merges(b, dir), *p = merges;
    int64_t lines = 0, skip_lines = 0;
    for (char *q = merges; *q; q++)
        lines += *q == '\n';
    const char *fnv = json_string_value(json_object_get(row, "fnv"));
    if (fnv) {
        char hash[17];
        snprintf(hash, sizeof hash, "%016llx", (unsigned long long)st_hash_name(merges));
        assert_int_equal(lines, json_integer_value(json_object_get(row, "count")));
        skip_lines = lines - (int64_t)json_array_size(want);
        assert_string_equal(hash, fnv);
    } else {
        assert_int_equal(lines, json_array_size(want));
    }
    size_t i;
    for (int64_t k = 0; k < skip_lines; k++)
        p = strchr(p, '\n') + 1;
    json_array_foreach(want, i, item)
    {
        char *end = strchr(p, '\n');
        *end = '\0';
        assert_string_equal(p, json_string_value(item));
        p = end + 1;
    }
    size_t len;
    assert_int_equal(st_bpe_eos(b), st_bpe_size(b) - 1);
    assert_memory_equal(st_bpe_bytes(b, st_bpe_eos(b), &len), "<|endoftext|>", 13);
    free(merges);
    st_bpe_close(b);
}

static void train_as_hugging_face(void **state)
{
    (void)state;
    json_t *rows, *row;
    size_t i, missing = 0;
    st_err e = {0};
    const char *dir = st_test_dir();
    assert_ok(st_json_load(&rows, "test/fixtures/text/training.json", 1 << 24, &e), &e);
    json_array_foreach(rows, i, row)
    {
        const char *name = json_string_value(json_object_get(row, "text"));
        char *text = NULL;
        size_t n = 0;
        if (!json_is_array(json_object_get(row, "texts"))) {
            const char *path = strcmp(name, "license") ? st_test_data(name) : "LICENSE";
            if (!path && ++missing) continue;
            text = st_test_read(path, &n);
        }
        print_message("%s, %lld\n", name, json_integer_value(json_object_get(row, "vocab")));
        train_check_case(row, text, n, dir);
        free(text);
    }
    json_decref(rows);
    st_test_remove(dir);
    if (missing) skip();
}

static void train_limits(void **state)
{
    (void)state;
    st_bpe_trainer *t;
    st_bpe *b;
    st_err e = {0};
    assert_ok(st_bpe_trainer_open(&t, &e), &e);
    assert_ok(st_bpe_trainer_feed(t, "ab ab", 5, &e), &e);
    assert_st(st_bpe_trainer_finish(t, 256, 0, &b, &e), ST_EARG, &e);
    assert_null(b);
    assert_st(st_bpe_trainer_finish(t, (int64_t)1 << 40, 0, &b, &e), ST_EARG, &e);
    assert_ok(st_bpe_trainer_finish(t, 257, 0, &b, &e), &e);
    assert_int_equal(st_bpe_size(b), 257);
    st_bpe_close(b);
    /* "ab", " ab" and no more */
    assert_ok(st_bpe_trainer_finish(t, 1000, 0, &b, &e), &e);
    assert_int_equal(st_bpe_size(b), 259);
    st_ids ids = {0};
    assert_ok(st_bpe_encode(b, " ab", 3, &ids, &e), &e);
    assert_int_equal(ids.n, 1);
    assert_int_equal(ids.id[0], 257);
    st_ids_free(&ids);
    st_bpe_close(b);
    st_bpe_trainer_close(t);
    st_bpe_trainer_close(NULL);
}

/* No text: the bytes and <|endoftext|>. */
static void train_nothing(void **state)
{
    (void)state;
    st_bpe *b = train_on(NULL, NULL, 0, 300, 0);
    assert_int_equal(st_bpe_size(b), 257);
    st_bpe_close(b);
}

/* Runs longer than 65,536 bytes count as any other (tools/fixtures_runs.py). */
static void train_long_runs(void **state)
{
    (void)state;
    enum { LINE = 90000, LINES = 3 };
    static char text[LINES * (LINE + 1)];
    uint32_t x = 1;
    size_t n = 0, size;
    for (int k = 0; k < LINES; k++) {
        for (int i = 0; i < LINE; i++) {
            x = x * 1664525 + 1013904223;
            text[n++] = "ACGT"[x >> 30 & 3];
        }
        text[n++] = '\n';
    }
    char *want = st_test_read("test/fixtures/text/runs.txt", &size);
    st_bpe *b = train_on(NULL, text, n, 301, 2);
    const char *dir = st_test_dir();
    char *got = train_merges(b, dir);
    assert_true(st_bpe_merges(b) == 44);
    assert_string_equal(got, strchr(want, '\n') + 1);
    free(got);
    free(want);
    st_bpe_close(b);
    st_test_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(train_long_runs), cmocka_unit_test(train_as_hugging_face),
        cmocka_unit_test(train_limits), cmocka_unit_test(train_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
