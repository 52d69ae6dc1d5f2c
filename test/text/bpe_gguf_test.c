/* Tokenizers in GGUF files: read as Hugging Face's tokenizers runs the same ones
 * (test/fixtures/tokens, tools/fixtures_tokens.py), written as keys and read again, saved as
 * tokenizer.json; what has no form or no meaning is refused by name. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "testing.h"
#include "text/bpe_gguf.h"

#define TOKENS "test/fixtures/tokens/"

static json_t *gguf_load(const char *name)
{
    st_err e;
    json_t *j;
    assert_ok(st_json_load(&j, name, 1 << 24, &e), &e);
    return j;
}

/* All texts of a fixture. */
static void gguf_same(const st_bpe *b, const char *kind)
{
    char file[96];
    snprintf(file, sizeof file, TOKENS "%s.want.json", kind);
    json_t *texts = gguf_load(TOKENS "texts.json"), *want = gguf_load(file);
    const json_t *text;
    size_t i;
    json_array_foreach(texts, i, text)
    {
        const json_t *row = json_array_get(json_object_get(want, "special"), i);
        st_ids ids = {0};
        st_err e;
        assert_ok(st_bpe_encode_with(b, json_string_value(text), json_string_length(text), true,
                                     &ids, &e),
                  &e);
        bool same = (size_t)ids.n == json_array_size(row);
        for (int64_t k = 0; same && k < ids.n; k++)
            same = ids.id[k] == json_integer_value(json_array_get(row, (size_t)k));
        if (!same) fail_msg("%s: text %zu: \"%s\"", kind, i, json_string_value(text));
        st_ids_free(&ids);
    }
    const json_t *before = json_object_get(want, "before");
    assert_int_equal(st_bpe_before(b)->n, json_array_size(before));
    if (json_array_size(before))
        assert_int_equal(st_bpe_before(b)->id[0], json_integer_value(json_array_get(before, 0)));
    json_decref(texts);
    json_decref(want);
}

static const char *const kinds[] = {"llama3", "qwen2", "smollm", "deepseek", "llama2", "gemma"};
enum { KINDS = sizeof kinds / sizeof *kinds };

static void gguf_as_hugging_face(void **state)
{
    (void)state;
    for (int i = 0; i < KINDS; i++) {
        char file[96];
        st_bpe *b, *again;
        st_err e;
        const char *dir = st_test_dir();
        snprintf(file, sizeof file, TOKENS "%s.gguf", kinds[i]);
        assert_ok(st_bpe_open(&b, file, &e), &e);
        gguf_same(b, kinds[i]);
        assert_int_equal(strlen(st_bpe_chat(b)), 400 * strlen("{{ '<|im_start|>' }}"));
        assert_ok(st_bpe_save(b, dir, &e), &e);
        assert_ok(st_bpe_open(&again, dir, &e), &e);
        gguf_same(again, kinds[i]);
        assert_true(st_bpe_hash(b) == st_bpe_hash(again));
        assert_string_equal(st_bpe_chat(again), st_bpe_chat(b));
        st_bpe_close(again);
        st_bpe_close(b);
        st_test_remove(dir);
    }
}

/* A tokenizer.json as keys, with rows beyond its ids, and back. */
static void gguf_there_and_back(void **state)
{
    (void)state;
    static const char *const also[] = {"o200k", "bloom"};
    for (int i = 0; i < KINDS + 2; i++) {
        const char *kind = i < KINDS ? kinds[i] : also[i - KINDS];
        char file[96];
        st_bpe *b, *again;
        st_err e;
        json_t *keys, *first;
        snprintf(file, sizeof file, TOKENS "%s.json", kind);
        assert_ok(st_bpe_open(&b, file, &e), &e);
        int64_t size = st_bpe_size(b);
        assert_ok(st_bpe_gguf_keys(b, size + 5, &keys, &e), &e);
        assert_int_equal(json_array_size(json_object_get(keys, "tokenizer.ggml.tokens")), size + 5);
        assert_ok(st_bpe_from_gguf(&again, keys, "keys", &e), &e);
        assert_int_equal(st_bpe_size(again), size);
        if (i < KINDS)
            gguf_same(again, kind); /* the others have added tokens that GGUF does not know */
        first = keys;
        assert_ok(st_bpe_gguf_keys(again, size + 5, &keys, &e), &e);
        assert_true(json_equal(first, keys));
        json_decref(first);
        json_decref(keys);
        st_bpe_close(again);
        st_bpe_close(b);
    }
}

static void gguf_no_form(void **state)
{
    (void)state;
    static const char *const rows[][2] = {{"falcon", "GGUF has no name for how this tokenizer"},
                                          {"prefix", "GGUF has no name for how this tokenizer"},
                                          {"nfkc", "GGUF has no name for how this tokenizer"},
                                          {"words", "GGUF has no form for this tokenizer"},
                                          {"unfused", "GGUF has no form for this tokenizer"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char file[96];
        st_bpe *b;
        st_err e;
        json_t *keys;
        snprintf(file, sizeof file, TOKENS "%s.json", rows[i][0]);
        assert_ok(st_bpe_open(&b, file, &e), &e);
        assert_st(st_bpe_gguf_keys(b, st_bpe_size(b), &keys, &e), ST_EUNSUPPORTED, &e);
        assert_says(&e, rows[i][1]);
        json_decref(keys);
        st_bpe_close(b);
    }
}

/* One key changed (or, with null, left out). */
static void gguf_refused(void **state)
{
    (void)state;
    static const struct {
        const char *kind, *key, *value, *says;
    } rows[] = {
        {"llama3", "model", "null", "no tokenizer in it"},
        {"llama3", "model", "\"t5\"", "tokenizer.ggml.model is \"t5\""},
        {"llama3", "pre", "\"never-heard\"", "tokenizer.ggml.pre is \"never-heard\""},
        {"llama3", "pre", "\"llama3 llama-v3\"", "tokenizer.ggml.pre is \"llama3 llama-v3\""},
        {"llama3", "tokens", "null", "no tokens in it"},
        {"llama3", "tokens", "[\"a\", 7]", "token 1 is no text"},
        {"llama3", "tokens", "[\"a\", \"a\"]", "has \"a\" twice"},
        {"llama3", "tokens", "[\"a\", \"<\\u0000|end|>\"]", "has a zero byte"},
        {"llama3", "merges", "null", "no merges in it"},
        {"llama3", "merges", "[\"zz zz\"]", "\"zz\", which is not in the vocabulary"},
        {"llama2", "scores", "[1.0]", "tokenizer.ggml.scores has fewer than"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char file[96], key[96];
        st_bpe *b;
        st_err e;
        st_gguf *g;
        snprintf(file, sizeof file, TOKENS "%s.gguf", rows[i].kind);
        snprintf(key, sizeof key, "tokenizer.ggml.%s", rows[i].key);
        assert_ok(st_gguf_open(&g, file, true, &e), &e);
        json_t *keys = json_copy((json_t *)(uintptr_t)st_gguf_keys(g));
        json_t *value = json_loads(rows[i].value, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        json_object_del(keys, key);
        if (!json_is_null(value)) json_object_set(keys, key, value);
        st_status s = st_bpe_from_gguf(&b, keys, "keys", &e);
        assert_true(s == ST_EFORMAT || s == ST_EUNSUPPORTED);
        assert_says(&e, rows[i].says);
        assert_null(b);
        json_decref(value);
        json_decref(keys);
        st_gguf_close(g);
    }
}

/* Cut off anywhere, a file is refused. */
static void gguf_truncated(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "cut.gguf");
    size_t n;
    char *all = st_test_read(TOKENS "llama2.gguf", &n);
    for (size_t cut = 0; cut < n - 40; cut += 101) {
        st_bpe *b;
        st_err e;
        st_test_write(path, all, cut);
        st_status s = st_bpe_open(&b, path, &e);
        assert_true(s == ST_EFORMAT || s == ST_EARG);
        assert_null(b);
    }
    free(all);
    st_test_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gguf_as_hugging_face), cmocka_unit_test(gguf_there_and_back),
        cmocka_unit_test(gguf_no_form),         cmocka_unit_test(gguf_refused),
        cmocka_unit_test(gguf_truncated),
    };
    return cmocka_run_group_tests_name("tokenizers in GGUF", tests, NULL, NULL);
}
