/* Added tokens: where Hugging Face's tokenizers finds them (test/fixtures/added,
 * tools/fixtures_added.py), the companions of older tokenizers, ids of config.json, nanoGPT's
 * meta.pkl; and that nothing of it is lost when it is saved. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "testing.h"
#include "text/text.h"
#include <unistd.h>

#define BYTES(text) text, sizeof(text) - 1
#define ADDED       "test/fixtures/added/"

static void same_ids(const st_bpe *b, const json_t *row, const char *key, bool special)
{
    const json_t *text = json_object_get(row, "text"), *want = json_object_get(row, key);
    st_ids ids = {0};
    st_err e;
    assert_ok(
        st_bpe_encode_with(b, json_string_value(text), json_string_length(text), special, &ids, &e),
        &e);
    bool same = (size_t)ids.n == json_array_size(want);
    for (int64_t i = 0; same && i < ids.n; i++)
        same = ids.id[i] == json_integer_value(json_array_get(want, (size_t)i));
    if (!same) fail_msg("%s: \"%s\"", key, json_string_value(text));
    st_ids_free(&ids);
}

/* The tokenizer in `dir` finds what the list in `want` says, and begins, ends and pads so. */
static void same_texts(const char *dir, const char *want, const int32_t role[3])
{
    st_bpe *b;
    st_err e;
    json_t *rows;
    const json_t *row;
    size_t i;
    assert_ok(st_bpe_open(&b, dir, &e), &e);
    assert_ok(st_json_load(&rows, want, 1 << 20, &e), &e);
    assert_true(json_array_size(rows) > 20);
    json_array_foreach(rows, i, row)
    {
        same_ids(b, row, "special", true);
        same_ids(b, row, "plain", false);
    }
    assert_int_equal(st_bpe_bos(b), role[0]);
    assert_int_equal(st_bpe_eos(b), role[1]);
    assert_int_equal(st_bpe_pad(b), role[2]);
    json_decref(rows);
    st_bpe_close(b);
}

static const struct {
    const char *dir, *want;
    int32_t role[3];
} sets[] = {{ADDED "one", ADDED "one/want.json", {262, 261, 263}},
            {ADDED "pair", ADDED "pair/want.json", {262, 261, 263}}};

static void added_found(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++)
        same_texts(sets[i].dir, sets[i].want, sets[i].role);
}

static void added_saved(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        const char *dir = st_test_dir();
        st_bpe *b;
        st_err e;
        assert_ok(st_bpe_open(&b, sets[i].dir, &e), &e);
        assert_ok(st_bpe_save(b, dir, &e), &e);
        same_texts(dir, sets[i].want, sets[i].role);
        if (i == 1) { /* and the older files alone say it, too */
            assert_int_equal(unlink(st_test_path(dir, "tokenizer.json")), 0);
            same_texts(dir, sets[i].want, sets[i].role);
        }
        st_bpe_close(b);
        st_test_remove(dir);
    }
}

static void copy(const char *from, const char *dir, const char *name)
{
    st_err e;
    assert_ok(st_copy_file(st_test_path(from, name), st_test_path(dir, name), &e), &e);
}

/* Without a word of the tokenizer's own files, config.json's ids count. */
static void added_config(void **state)
{
    (void)state;
    static const struct {
        const char *config;
        int32_t bos, eos;
    } rows[] = {{"{\"bos_token_id\": 0, \"eos_token_id\": 1}", 0, 1},
                {"{\"bos_token_id\": 50256, \"eos_token_id\": 50256}", 261, 261},
                {"{\"eos_token_id\": null}", 261, 261}};
    const char *dir = st_test_dir();
    copy(ADDED "pair", dir, "vocab.json");
    copy(ADDED "pair", dir, "merges.txt");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        st_bpe *b;
        st_err e;
        st_test_write(st_test_path(dir, "config.json"), rows[i].config, strlen(rows[i].config));
        assert_ok(st_bpe_open(&b, dir, &e), &e);
        assert_int_equal(st_bpe_bos(b), rows[i].bos);
        assert_int_equal(st_bpe_eos(b), rows[i].eos);
        assert_int_equal(st_bpe_pad(b), -1);
        st_bpe_close(b);
    }
    st_test_remove(dir);
}

static void added_counts(void **state)
{
    (void)state;
    static const char text[] = "<|pad|> and __sep__ and <|endoftext|>";
    st_bpe *b;
    st_err e;
    int32_t first = -1;
    assert_ok(st_bpe_open(&b, ADDED "pair", &e), &e);
    assert_int_equal(st_bpe_specials(b, text, sizeof text - 1, &first), 2);
    assert_int_equal(first, 263);
    assert_true(st_bpe_pieces(b));
    /* rows that the model lacks: only if they are added ones */
    assert_ok(st_bpe_cut(b, 263, &e), &e);
    assert_int_equal(st_bpe_size(b), 263);
    assert_int_equal(st_bpe_pad(b), -1);
    assert_int_equal(st_bpe_specials(b, text, sizeof text - 1, &first), 1);
    assert_st(st_bpe_cut(b, 200, &e), ST_EFORMAT, &e);
    st_bpe_close(b);
    assert_ok(st_bpe_open(&b, ADDED "one", &e), &e);
    assert_false(st_bpe_pieces(b)); /* "two words", and white space that goes along */
    st_bpe_close(b);
}

/* {"stoi": {"\n": 0, "b": 1, "a": 2}}, protocol 4, and damaged ones. */
static void added_pickle(void **state)
{
    (void)state;
    static const char good[] = "\x80\x04}\x8c\4stoi}(\x8c\1\nK\0\x8c\1bK\1\x8c\1aK\2us.";
    static const struct {
        const char *text;
        size_t n;
        const char *says;
    } bad[] = {
        {BYTES("\x80\x04}."), "no dict \"stoi\""},
        {BYTES("\x80\x04}\x8c\4stoi}(\x8c\1bK\1us."), "no ids 0 to 0 of characters"},
        {BYTES("\x80\x04}\x8c\4stoi}(\x8c\1bK\0\x8c\1aK\0us."), "no ids 0 to 1 of characters"},
        {BYTES("\x80\x04}\x8c\4stoi}(\x8c\2abK\0us."), "no single character"},
    };
    const char *dir = st_test_dir(), *path = st_test_path(dir, "meta.pkl");
    st_bpe *b;
    st_err e;
    st_ids ids = {0};
    st_test_write(path, good, sizeof good - 1);
    for (int i = 0; i < 2; i++) {
        assert_ok(st_bpe_open(&b, i ? dir : path, &e), &e);
        assert_int_equal(st_bpe_size(b), 3);
        ids.n = 0;
        assert_ok(st_bpe_encode(b, "ab\n", 3, &ids, &e), &e);
        assert_true(ids.n == 3 && ids.id[0] == 2 && ids.id[1] == 1 && ids.id[2] == 0);
        size_t n;
        assert_true(*st_bpe_bytes(b, 1, &n) == 'b' && n == 1);
        st_bpe_close(b);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        st_test_write(path, bad[i].text, bad[i].n);
        st_status s = st_bpe_open(&b, path, &e);
        assert_true(s == ST_EFORMAT || s == ST_EUNSUPPORTED);
        assert_null(b);
        assert_says(&e, bad[i].says);
    }
    st_ids_free(&ids);
    st_test_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(added_found),  cmocka_unit_test(added_saved),
        cmocka_unit_test(added_config), cmocka_unit_test(added_counts),
        cmocka_unit_test(added_pickle),
    };
    return cmocka_run_group_tests_name("added tokens", tests, NULL, NULL);
}
