/* The tokenizer against Hugging Face's (fixtures of tools/fixtures_text.py), token counts of real
 * texts, files of every accepted kind, and files that lie. */
/* SPDX-License-Identifier: MIT */
#include "testing.h"
#include "text/text.h"

static st_bpe *bpe_gpt2(void)
{
    st_bpe *b;
    st_err e = {0};
    const char *path = st_test_data("encoder.json");
    if (!path || !st_test_data("vocab.bpe")) skip();
    assert_ok(st_bpe_open(&b, path, &e), &e);
    return b;
}

static size_t bpe_unhex(const char *hex, char *out)
{
    size_t n = strlen(hex) / 2;
    for (size_t i = 0; i < n; i++) {
        unsigned byte;
        assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
        out[i] = (char)byte;
    }
    return n;
}

/* Every row's bytes give its ids, and the ids give the bytes. */
static void bpe_check_rows(const st_bpe *b, const char *path, size_t least)
{
    st_err e = {0};
    json_t *rows, *row;
    size_t i;
    assert_ok(st_json_load(&rows, path, 1 << 24, &e), &e);
    assert_true(json_array_size(rows) >= least);
    json_array_foreach(rows, i, row)
    {
        char text[4096], back[4096];
        const json_t *want = json_object_get(row, "ids");
        size_t n = bpe_unhex(json_string_value(json_object_get(row, "hex")), text), used = 0;
        st_ids ids = {0};
        assert_ok(st_bpe_encode(b, text, n, &ids, &e), &e);
        bool same = ids.n == (int64_t)json_array_size(want);
        for (int64_t k = 0; same && k < ids.n; k++)
            same = ids.id[k] == json_integer_value(json_array_get(want, (size_t)k));
        if (!same) fail_msg("row %zu: %s", i, json_string_value(json_object_get(row, "hex")));
        for (int64_t k = 0; k < ids.n; k++) {
            size_t len;
            const char *bytes = st_bpe_bytes(b, ids.id[k], &len);
            memcpy(back + used, bytes, len);
            used += len;
        }
        assert_int_equal(used, n);
        assert_memory_equal(back, text, n);
        st_ids_free(&ids);
    }
    json_decref(rows);
}

static void bpe_as_hugging_face(void **state)
{
    (void)state;
    st_bpe *b = bpe_gpt2();
    assert_int_equal(st_bpe_size(b), 50257);
    assert_int_equal(st_bpe_eos(b), 50256);
    for (int pass = 0; pass < 2; pass++) /* the second from the cache */
        bpe_check_rows(b, "test/fixtures/text/gpt2.json", 250);
    st_bpe_close(b);
}

static void bpe_small_as_hugging_face(void **state)
{
    (void)state;
    st_bpe *b;
    st_err e = {0};
    assert_ok(st_bpe_open(&b, "test/fixtures/text/license-400.json", &e), &e);
    assert_int_equal(st_bpe_size(b), 400);
    assert_int_equal(st_bpe_eos(b), 0);
    for (int pass = 0; pass < 2; pass++)
        bpe_check_rows(b, "test/fixtures/text/license-400.ids.json", 100);
    st_bpe_close(b);
}

/* Lines of `path` as rows of a data set, joined with "\n\n". WikiText's rows keep their line's end
 * and are empty where the line is blank. */
static char *bpe_joined(const char *path, bool wiki, size_t *out_n)
{
    size_t n, k = 0;
    char *text = st_test_read(path, &n), *out = malloc(4 * n + 1);
    for (char *p = text, *end; *p; p = end + 1) {
        end = strchr(p, '\n');
        size_t len = end ? (size_t)(end - p) : strlen(p);
        if (k || p != text) {
            out[k++] = '\n';
            out[k++] = '\n';
        }
        if (!wiki || strspn(p, " ") < len) {
            memcpy(out + k, p, len);
            k += len;
            if (wiki) out[k++] = '\n';
        }
        if (!end) break;
    }
    free(text);
    *out_n = k;
    return out;
}

static void bpe_real_texts(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool wiki;
        int64_t tokens;
        int32_t first[8];
    } row[] = {
        {"wiki.test.raw", true, 287644, {628, 796, 5199, 347, 2852, 353, 796, 220}},
        {"wikitext-103-v1.test.txt", true, 286657, {628, 796, 5199, 347, 2852, 353, 796, 220}},
        {"wikitext-2-v1.test.txt", true, 297300, {628, 796, 5199, 1279, 2954, 29, 796, 220}},
        {"lambada_test_plain_text.txt",
         false,
         429710,
         {259, 616, 18057, 318, 257, 1598, 7815, 837}},
    };
    st_bpe *b = bpe_gpt2();
    st_err e = {0};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        const char *path = st_test_data(row[i].name);
        if (!path) skip();
        size_t n;
        char *text = bpe_joined(path, row[i].wiki, &n);
        st_ids ids = {0};
        assert_ok(st_bpe_encode(b, text, n, &ids, &e), &e);
        assert_int_equal(ids.n, row[i].tokens);
        assert_memory_equal(ids.id, row[i].first, sizeof row[i].first);
        st_ids_free(&ids);
        free(text);
    }
    st_bpe_close(b);
}

/* Words of 10 MB: one letter, random bytes, white space; each must take seconds at most. */
static void bpe_long_words(void **state)
{
    (void)state;
    enum { N = 10 << 20 };
    st_bpe *b;
    st_err e = {0};
    char *text = malloc(N);
    assert_ok(st_bpe_open(&b, "test/fixtures/text/license-400.json", &e), &e);
    for (int kind = 0; kind < 3; kind++) {
        st_rng r = {.seed = 7};
        for (int i = 0; i < N; i++)
            text[i] = kind == 0 ? 'o' : kind == 1 ? (char)('a' + st_rng_below(&r, 26)) : ' ';
        double start = st_now();
        st_ids ids = {0};
        assert_ok(st_bpe_encode(b, text, N, &ids, &e), &e);
        assert_true(st_now() - start < 60); /* 2 s here; quadratic would be days */
        int64_t bytes = 0;
        for (int64_t k = 0; k < ids.n; k++) {
            size_t len;
            assert_non_null(st_bpe_bytes(b, ids.id[k], &len));
            bytes += (int64_t)len;
        }
        assert_int_equal(bytes, N);
        st_ids_free(&ids);
    }
    free(text);
    st_bpe_close(b);
}

/* More words than are remembered, some of them alike to the hash: every one comes back. */
static void bpe_many_words(void **state)
{
    (void)state;
    enum { WORDS = 400000, LEN = 8 };
    st_bpe *b;
    st_err e = {0};
    st_rng r = {.seed = 4};
    char *text = malloc(WORDS * LEN);
    for (int i = 0; i < WORDS * LEN; i++)
        text[i] = i % LEN ? (char)('a' + st_rng_below(&r, 26)) : ' ';
    assert_ok(st_bpe_open(&b, "test/fixtures/text/license-400.json", &e), &e);
    for (int pass = 0; pass < 2; pass++) {
        st_ids ids = {0};
        size_t at = 0;
        assert_ok(st_bpe_encode(b, text, WORDS * LEN, &ids, &e), &e);
        for (int64_t k = 0; k < ids.n; k++) {
            size_t n;
            const char *bytes = st_bpe_bytes(b, ids.id[k], &n);
            assert_true(at + n <= WORDS * LEN && !memcmp(bytes, text + at, n));
            at += n;
        }
        assert_int_equal(at, WORDS * LEN);
        st_ids_free(&ids);
    }
    free(text);
    st_bpe_close(b);
}

static void bpe_endless_word(void **state)
{
    (void)state;
    st_bpe *b;
    st_err e = {0};
    size_t n = (32 << 20) + 1;
    char *text = calloc(n, 1);
    st_ids ids = {0};
    assert_ok(st_bpe_open(&b, "test/fixtures/text/license-400.json", &e), &e);
    assert_st(st_bpe_encode(b, text, n, &ids, &e), ST_EUNSUPPORTED, &e);
    assert_says(&e, "without a word boundary");
    st_ids_free(&ids);
    free(text);
    st_bpe_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bpe_as_hugging_face), cmocka_unit_test(bpe_small_as_hugging_face),
        cmocka_unit_test(bpe_real_texts),      cmocka_unit_test(bpe_long_words),
        cmocka_unit_test(bpe_many_words),      cmocka_unit_test(bpe_endless_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
