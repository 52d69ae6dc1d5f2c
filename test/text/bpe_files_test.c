/* Tokenizer files: every accepted kind, saving, and files that are wrong. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "testing.h"
#include "text/text.h"

static const char hf_file[] = "test/fixtures/text/license-400.json";

/* The fixture tokenizer as JSON, for the tests to spoil. */
static json_t *files_hf(void)
{
    st_err e = {0};
    json_t *root;
    assert_ok(st_json_load(&root, hf_file, 1 << 24, &e), &e);
    return root;
}

static json_t *files_vocab(json_t *root)
{
    return json_object_get(json_object_get(root, "model"), "vocab");
}

static void files_put(const char *path, const json_t *j)
{
    char *text = json_dumps(j, JSON_ENCODE_ANY);
    st_test_write(path, text, strlen(text));
    free(text);
}

/* Both give the same ids for a text with a bit of everything, and have the same tokens. */
static void files_alike(const st_bpe *a, const st_bpe *b)
{
    static const char text[] = "Permission is hereby granted, free of charge'll  \t 12\xff\xc3\xa9";
    st_err e = {0};
    st_ids x = {0}, y = {0};
    assert_ok(st_bpe_encode(a, text, sizeof text, &x, &e), &e);
    assert_ok(st_bpe_encode(b, text, sizeof text, &y, &e), &e);
    assert_int_equal(x.n, y.n);
    assert_memory_equal(x.id, y.id, (size_t)x.n * sizeof *x.id);
    assert_int_equal(st_bpe_size(a), st_bpe_size(b));
    assert_int_equal(st_bpe_eos(a), st_bpe_eos(b));
    assert_true(st_bpe_hash(a) == st_bpe_hash(b));
    for (int32_t id = 0; id < st_bpe_size(a); id++) {
        size_t n, m;
        const char *p = st_bpe_bytes(a, id, &n), *q = st_bpe_bytes(b, id, &m);
        assert_int_equal(n, m);
        assert_memory_equal(p, q, n);
    }
    st_ids_free(&x);
    st_ids_free(&y);
}

static void files_saved_and_opened(void **state)
{
    (void)state;
    static const char *const keep[][3] = {{"tokenizer.json", NULL, "tokenizer.json"},
                                          {"vocab.json", "merges.txt", "vocab.json"},
                                          {"vocab.json", "merges.txt", "merges.txt"}};
    const char *dir = st_test_dir();
    st_err e = {0};
    st_bpe *b, *again;
    assert_ok(st_bpe_open(&b, hf_file, &e), &e);
    size_t n;
    assert_null(st_bpe_bytes(b, -1, &n));
    assert_null(st_bpe_bytes(b, 400, &n));
    char saved[512];
    snprintf(saved, sizeof saved, "%s/saved", dir);
    assert_ok(st_bpe_save(b, saved, &e), &e);
    assert_int_equal(st_test_entries(saved), 5);
    assert_ok(st_bpe_open(&again, saved, &e), &e);
    files_alike(b, again);
    st_bpe_close(again);
    for (int k = 0; k < 3; k++) {
        char copy[512];
        snprintf(copy, sizeof copy, "%s/copy%d", dir, k);
        assert_ok(st_make_dirs(copy, &e), &e);
        for (int i = 0; i < 2 && keep[k][i]; i++) {
            char *text = st_test_read(st_test_path(saved, keep[k][i]), &n);
            st_test_write(st_test_path(copy, keep[k][i]), text, n);
            free(text);
        }
        assert_ok(st_bpe_open(&again, copy, &e), &e);
        files_alike(b, again);
        st_bpe_close(again);
        assert_ok(st_bpe_open(&again, st_test_path(copy, keep[k][2]), &e), &e);
        files_alike(b, again);
        st_bpe_close(again);
    }
    st_bpe_close(b);
    st_test_remove(dir);
}

/* The settings that Hugging Face's GPT2TokenizerFast reads. */
static void files_saved_settings(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    st_err e = {0};
    st_bpe *b;
    json_t *j;
    assert_ok(st_bpe_open(&b, hf_file, &e), &e);
    assert_ok(st_bpe_save(b, dir, &e), &e);
    assert_ok(st_json_load(&j, st_test_path(dir, "tokenizer_config.json"), 1 << 20, &e), &e);
    assert_string_equal(json_string_value(json_object_get(j, "tokenizer_class")), "GPT2Tokenizer");
    assert_string_equal(json_string_value(json_object_get(j, "eos_token")), "<|endoftext|>");
    assert_true(json_is_false(json_object_get(j, "add_prefix_space")));
    json_decref(j);
    assert_ok(st_json_load(&j, st_test_path(dir, "special_tokens_map.json"), 1 << 20, &e), &e);
    assert_string_equal(json_string_value(json_object_get(j, "bos_token")), "<|endoftext|>");
    json_decref(j);
    assert_ok(st_json_load(&j, st_test_path(dir, "tokenizer.json"), 1 << 20, &e), &e);
    const json_t *added = json_array_get(json_object_get(j, "added_tokens"), 0);
    assert_int_equal(json_integer_value(json_object_get(added, "id")), 0);
    assert_true(json_is_true(json_object_get(added, "special")));
    json_t *merges = json_object_get(json_object_get(j, "model"), "merges");
    assert_true(json_is_string(json_array_get(merges, 0)));
    json_decref(j);
    st_bpe_close(b);
    st_test_remove(dir);
}

/* Merges may also be pairs; a model without "type", an empty normalizer, an added token beyond the
 * vocabulary and one whose name is not in the byte alphabet are fine. */
static void files_variants(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "tokenizer.json");
    st_err e = {0};
    st_bpe *a, *b;
    json_t *root = files_hf(), *model = json_object_get(root, "model"), *item;
    json_t *pairs = json_array();
    size_t i;
    json_array_foreach(json_object_get(model, "merges"), i, item)
    {
        char left[99], right[99];
        if (json_is_array(item)) {
            json_array_append(pairs, item);
            continue;
        }
        assert_int_equal(sscanf(json_string_value(item), "%98s %98s", left, right), 2);
        json_array_append_new(pairs, json_pack("[s, s]", left, right));
    }
    json_object_set_new(model, "merges", pairs);
    json_object_del(model, "type");
    json_object_set_new(root, "normalizer",
                        json_pack("{s:s, s:[]}", "type", "Sequence", "normalizers"));
    files_put(path, root);
    assert_ok(st_bpe_open(&a, hf_file, &e), &e);
    assert_ok(st_bpe_open(&b, path, &e), &e);
    files_alike(a, b);
    st_bpe_close(a);
    st_bpe_close(b);
    json_array_append_new(
        json_object_get(root, "added_tokens"),
        json_pack("{s:i, s:s, s:b}", "id", 400, "content", "\xe2\x96\x81 x", "special", 1));
    files_put(path, root);
    assert_ok(st_bpe_open(&a, path, &e), &e);
    size_t n;
    assert_memory_equal(st_bpe_bytes(a, 400, &n), "\xe2\x96\x81 x", 5);
    assert_int_equal(n, 5);
    assert_ok(st_bpe_save(a, dir, &e), &e);
    assert_ok(st_bpe_open(&b, dir, &e), &e);
    files_alike(a, b);
    st_bpe_close(a);
    st_bpe_close(b);
    json_decref(root);
    st_test_remove(dir);
}

/* Settings of tokenizer.json that are not understood: refused by name. */
static void files_other_tokenizers(void **state)
{
    (void)state;
    static const struct {
        const char *part, *key, *value, *says;
    } row[] = {
        {"model", "type", "\"Unigram\"", "model.type is Unigram"},
        {"model", "continuing_subword_prefix", "\"##\"", "continuing_subword_prefix"},
        {"model", "end_of_word_suffix", "\"</w>\"", "end_of_word_suffix"},
        {"model", "dropout", "0.1", "dropout is 0.1"},
        {NULL, "normalizer", "{\"type\":\"Precompiled\"}", "normalizer: Precompiled.type"},
        {NULL, "normalizer", "{\"type\":\"Prepend\"}", "Prepend.prepend is not there"},
        {NULL, "pre_tokenizer", "{\"type\":\"UnicodeScripts\"}", "UnicodeScripts.type"},
        {NULL, "pre_tokenizer",
         "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a)\\\\1\"},\"behavior\":\"Isolated\"}",
         "an escape without a translation in the regular expression: \"\\1\" at its byte 3"},
        {NULL, "pre_tokenizer",
         "{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":\"Upwards\"}",
         "Split.behavior is \"Upwards\""},
        {NULL, "post_processor", "{\"type\":\"TemplateProcessing\",\"single\":7}",
         "TemplateProcessing.single is 7"},
        {NULL, "decoder", "{\"type\":\"WordPiece\"}", "decoder: WordPiece.type is \"WordPiece\""},
    };
    const char *dir = st_test_dir(), *path = st_test_path(dir, "tokenizer.json");
    st_err e = {0};
    st_bpe *b;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        json_t *root = files_hf();
        json_t *value = json_loads(row[i].value, JSON_DECODE_ANY, NULL);
        json_t *part = row[i].part ? json_object_get(root, row[i].part) : root;
        json_object_set_new(part, row[i].key, value);
        files_put(path, root);
        assert_st(st_bpe_open(&b, path, &e), ST_EUNSUPPORTED, &e);
        assert_null(b);
        assert_says(&e, row[i].says);
        json_decref(root);
    }
    st_test_remove(dir);
}

static void files_bad_vocabularies(void **state)
{
    (void)state;
    static const struct {
        const char *token, *value, *says;
    } row[] = {
        {"!", "2", "have the same id 2"},
        {"!", "400", "must have the ids 0 to 399"},
        {"!", "-1", "has id -1"},
        {"!", "1.5", "not a whole number"},
        {"!", "\"1\"", "not a whole number"},
        {"!", "null", "not a whole number"},
        {"!", "9223372036854775807", "must have the ids"},
    };
    const char *dir = st_test_dir(), *path = st_test_path(dir, "tokenizer.json");
    st_err e = {0};
    st_bpe *b;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        json_t *root = files_hf();
        json_object_set_new(files_vocab(root), row[i].token,
                            json_loads(row[i].value, JSON_DECODE_ANY, NULL));
        files_put(path, root);
        assert_st(st_bpe_open(&b, path, &e), ST_EFORMAT, &e);
        assert_says(&e, row[i].says);
        json_decref(root);
    }
    json_t *root = files_hf(); /* a byte renamed away */
    json_t *id = json_incref(json_object_get(files_vocab(root), "q"));
    json_object_del(files_vocab(root), "q");
    json_object_set_new(files_vocab(root), "qqq", id);
    json_object_set_new(json_object_get(root, "model"), "merges", json_array());
    files_put(path, root);
    assert_st(st_bpe_open(&b, path, &e), ST_EFORMAT, &e);
    assert_says(&e, "no token for byte 0x71");
    json_decref(root);
    st_test_remove(dir);
}

static void files_bad_merges(void **state)
{
    (void)state;
    static const struct {
        const char *merge, *says;
    } row[] = {
        {"\"t h e\"", "is not a merge"},
        {"\"the\"", "is not a merge"},
        {"\"zz q\"", "\"zz\", which is not in the vocabulary"},
        {"\"q q\"", "\"qq\", which is not in the vocabulary"},
        {"\" q\"", "tokens of 0 and 1 bytes"},
        {"[\"q\"]", "expected \"left right\""},
        {"[\"q\", 1]", "expected \"left right\""},
        {"7", "expected \"left right\""},
        {"[\"a b\", \"c\"]", "byte alphabet"},
    };
    const char *dir = st_test_dir(), *path = st_test_path(dir, "tokenizer.json");
    st_err e = {0};
    st_bpe *b;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        json_t *root = files_hf(),
               *merges = json_object_get(json_object_get(root, "model"), "merges");
        json_array_set_new(merges, 3, json_loads(row[i].merge, JSON_DECODE_ANY, NULL));
        files_put(path, root);
        assert_st(st_bpe_open(&b, path, &e), ST_EFORMAT, &e);
        assert_says(&e, row[i].says);
        assert_says(&e, "merges[3]");
        json_decref(root);
    }
    json_t *root = files_hf(), *merges = json_object_get(json_object_get(root, "model"), "merges");
    json_array_append(merges, json_array_get(merges, 4));
    files_put(path, root);
    assert_st(st_bpe_open(&b, path, &e), ST_EFORMAT, &e);
    assert_says(&e, "merges 5 and ");
    json_decref(root);
    st_test_remove(dir);
}

/* merges.txt: line numbers in messages, CRLF and a missing last newline accepted. */
static void files_merges_text(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "vocab.json");
    const char *merges = st_test_path(dir, "merges.txt");
    st_err e = {0};
    st_bpe *b;
    json_t *root = files_hf();
    files_put(path, files_vocab(root));
    json_decref(root);
    assert_st(st_bpe_open(&b, dir, &e), ST_EIO, &e);
    assert_says(&e, "merges.txt");
    st_test_write(merges, "#version: 0.2\r\nh e\r\n\xc4\xa0 t\r\n", 26);
    assert_ok(st_bpe_open(&b, dir, &e), &e);
    st_bpe_close(b);
    st_test_write(merges, "h e\n\xc4\xa0 t", 8);
    assert_ok(st_bpe_open(&b, dir, &e), &e);
    st_ids ids = {0};
    assert_ok(st_bpe_encode(b, "he t", 4, &ids, &e), &e);
    assert_int_equal(ids.n, 2);
    st_ids_free(&ids);
    st_bpe_close(b);
    st_test_write(merges, "#version: 0.2\nh e\nt h e\n", 24);
    assert_st(st_bpe_open(&b, dir, &e), ST_EFORMAT, &e);
    assert_says(&e, "merges.txt:3: ");
    st_test_write(merges, "\xff\xfe\x00\x01 \x80\n", 7);
    assert_st(st_bpe_open(&b, dir, &e), ST_EFORMAT, &e);
    st_test_remove(dir);
}

/* Cut off anywhere, tokenizer.json is refused. */
static void files_truncated(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "tokenizer.json");
    st_err e = {0};
    st_bpe *b;
    size_t n;
    char *text = st_test_read(hf_file, &n);
    while (n && (text[n - 1] == '\n' || text[n - 1] == ' '))
        n--;
    for (size_t cut = 0; cut < n; cut += cut < n - 40 ? 97 : 1) {
        st_test_write(path, text, cut);
        assert_st(st_bpe_open(&b, path, &e), ST_EFORMAT, &e);
        assert_null(b);
    }
    free(text);
    st_test_remove(dir);
}

static void files_nothing_there(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    st_err e = {0};
    st_bpe *b;
    assert_st(st_bpe_open(&b, dir, &e), ST_EIO, &e);
    assert_says(&e, "no tokenizer here");
    assert_st(st_bpe_open(&b, st_test_path(dir, "tokenizer.json"), &e), ST_EIO, &e);
    st_test_write(st_test_path(dir, "x.txt"), "x", 1);
    assert_st(st_bpe_open(&b, st_test_path(dir, "x.txt"), &e), ST_EARG, &e);
    st_test_write(st_test_path(dir, "config.json"), "{\"n_embd\": 3}", 13);
    assert_st(st_bpe_open(&b, st_test_path(dir, "config.json"), &e), ST_EFORMAT, &e);
    assert_says(&e, "is this a tokenizer.json?");
    st_test_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_saved_and_opened), cmocka_unit_test(files_saved_settings),
        cmocka_unit_test(files_variants),         cmocka_unit_test(files_other_tokenizers),
        cmocka_unit_test(files_bad_vocabularies), cmocka_unit_test(files_bad_merges),
        cmocka_unit_test(files_merges_text),      cmocka_unit_test(files_truncated),
        cmocka_unit_test(files_nothing_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
