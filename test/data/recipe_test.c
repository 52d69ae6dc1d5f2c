/* Recipes: files that are those of nanoGPT's own scripts, byte for byte, and the published counts
 * of tokens where the real texts are at hand. */
/* SPDX-License-Identifier: MIT */
#include "data/recipe.h"
#include "testing.h"

#define FIXTURES "test/fixtures/recipes/"
static const char tok[] = "test/fixtures/text/license-400.json";

static int64_t recipe_int(const json_t *r, const char *key)
{
    assert_true(json_is_integer(json_object_get(r, key)));
    return json_integer_value(json_object_get(r, key));
}

/* Runs a recipe into DIR/out; the result, NULL after an error. */
static json_t *recipe_run(const char *name, const char *input, const char *dir,
                          const st_recipe_opts *o, st_status *s, st_err *e)
{
    json_t *r = NULL;
    st_recipe_opts with = *o;
    with.prepare.replace = true;
    with.prepare.threads = 2;
    *s = st_recipe_run(name, &input, 1, st_test_path(dir, "out"), &with, &r, e);
    assert_true((*s == ST_OK) == (r != NULL));
    return r;
}

static void recipe_owt(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    st_err e = {0};
    st_status s;
    st_recipe_opts o = {.prepare = {.tokenizer = tok, .split = ST_SPLIT_NANOGPT, .seed = 2357}};
    json_t *r = recipe_run("owt", FIXTURES "openwebtext.tar.xz", dir, &o, &s, &e);
    assert_ok(s, &e);
    assert_same_files(FIXTURES "owt-train.bin", st_test_path(dir, "out/train.bin"));
    assert_same_files(FIXTURES "owt-val.bin", st_test_path(dir, "out/val.bin"));
    assert_int_equal(recipe_int(r, "documents"), 90);
    assert_string_equal(json_string_value(json_object_get(r, "recipe")), "owt");
    json_decref(r);
    /* what a fetched folder has besides is no document */
    assert_ok(st_make_dirs(st_test_path(dir, "in"), &e), &e);
    assert_ok(st_copy_file(FIXTURES "openwebtext.tar.xz", st_test_path(dir, "in/o.tar.xz"), &e),
              &e);
    st_test_write(st_test_path(dir, "in/README.md"), "no", 2);
    st_test_write(st_test_path(dir, "in/dataset_infos.json"), "{", 1);
    r = recipe_run("owt", st_test_path(dir, "in"), dir, &o, &s, &e);
    assert_ok(s, &e);
    assert_same_files(FIXTURES "owt-train.bin", st_test_path(dir, "out/train.bin"));
    json_decref(r);
    st_test_remove(dir);
}

static void recipe_shakespeare(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    st_err e = {0};
    st_status s;
    st_recipe_opts o = {.prepare = {.tokenizer = tok}};
    json_decref(recipe_run("shakespeare", FIXTURES "input.txt", dir, &o, &s, &e));
    assert_ok(s, &e);
    assert_same_files(FIXTURES "bpe-train.bin", st_test_path(dir, "out/train.bin"));
    assert_same_files(FIXTURES "bpe-val.bin", st_test_path(dir, "out/val.bin"));
    st_test_remove(dir);
}

/* nanoGPT's files, and a tokenizer that opens, encodes and decodes the text. */
static void recipe_chars(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    st_err e = {0};
    st_status s;
    json_t *r =
        recipe_run("shakespeare_char", FIXTURES "input.txt", dir, &(st_recipe_opts){0}, &s, &e);
    assert_ok(s, &e);
    assert_same_files(FIXTURES "char-train.bin", st_test_path(dir, "out/train.bin"));
    assert_same_files(FIXTURES "char-val.bin", st_test_path(dir, "out/val.bin"));
    assert_same_files(FIXTURES "meta.pkl", st_test_path(dir, "out/meta.pkl"));
    st_bpe *b;
    st_ids ids = {0};
    assert_ok(st_bpe_open(&b, st_test_path(dir, "out"), &e), &e);
    assert_int_equal(st_bpe_size(b), recipe_int(r, "vocab_size"));
    assert_int_equal(st_bpe_eos(b), -1);
    static const char text[] = "naïve 日本 😀\n'tis";
    assert_ok(st_bpe_encode(b, text, strlen(text), &ids, &e), &e);
    assert_int_equal(ids.n, 15);
    size_t at = 0;
    for (int64_t i = 0; i < ids.n; i++) {
        size_t n;
        const char *bytes = st_bpe_bytes(b, ids.id[i], &n);
        assert_memory_equal(bytes, text + at, n);
        at += n;
    }
    assert_int_equal(at, strlen(text));
    assert_st(st_bpe_encode(b, "a~b", 3, &ids, &e), ST_EFORMAT, &e);
    assert_says(&e, "\"~\" (U+007E) is none of the");
    assert_st(st_bpe_encode(b, "\xff", 1, &ids, &e), ST_EFORMAT, &e);
    assert_says(&e, "0xFF is not UTF-8");
    st_ids_free(&ids);
    st_bpe_close(b);
    json_decref(r);
    st_test_remove(dir);
}

static void recipe_pickles(void **state)
{
    (void)state;
    static const int counts[] = {1, 300, 1000, 1001, 2000};
    const char *dir = st_test_dir(), *path = st_test_path(dir, "meta.pkl");
    st_err e = {0};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        char text[3 * 2000], want[128];
        for (int k = 0; k < counts[i]; k++) { /* U+4E00 and on */
            int c = 0x4E00 + k;
            text[3 * k] = (char)(0xE0 | c >> 12);
            text[3 * k + 1] = (char)(0x80 | (c >> 6 & 63));
            text[3 * k + 2] = (char)(0x80 | (c & 63));
        }
        st_bpe *b;
        assert_ok(st_bpe_from_text(&b, text, 3 * (size_t)counts[i], &e), &e);
        assert_ok(st_pickle_chars(b, path, &e), &e);
        snprintf(want, sizeof want, FIXTURES "han-%d.pkl", counts[i]);
        assert_same_files(want, path);
        st_bpe_close(b);
    }
    st_test_remove(dir);
}

/* Rows, titles and splits by names. */
static void recipe_forms(void **state)
{
    (void)state;
    static const char wiki[] = " \n = One = \n \n First . \n = = Part = = \n = Two = \n \n Second";
    static const struct {
        const char *form, *text; /* '|': <|endoftext|> */
        bool detokenize;
    } want[] = {
        {"krony",
         "\n\n = One = \n\n\n\n\n First . \n\n\n = = Part = = \n\n\n = Two = "
         "\n\n\n\n\n Second\n",
         false},
        {"fly", " = One = \n First . \n = = Part = = \n = Two = \n Second\n", false},
        {"fly-eos", " = One = \n| First . \n| = = Part = = \n| = Two = \n| Second\n|", false},
        {"articles", " = One = \n \n First . \n = = Part = = \n| = Two = \n \n Second\n|", false},
        {"fly-eos", " = One =\n| First.\n| == Part ==\n| = Two =\n| Second\n|", true}};
    const char *dir = st_test_dir();
    st_err e = {0};
    st_status s;
    st_bpe *b;
    assert_ok(st_make_dirs(st_test_path(dir, "in"), &e), &e);
    st_test_write(st_test_path(dir, "in/wiki.test.raw"), wiki, strlen(wiki));
    st_test_write(st_test_path(dir, "in/wiki.valid.raw"), " = V = \n", 8);
    st_test_write(st_test_path(dir, "in/README.md"), "no", 2);
    assert_ok(st_bpe_open(&b, tok, &e), &e);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        st_recipe_opts o = {
            .prepare = {.tokenizer = tok}, .form = want[i].form, .detokenize = want[i].detokenize};
        json_t *r = recipe_run("wikitext", st_test_path(dir, "in"), dir, &o, &s, &e);
        assert_ok(s, &e);
        char got[512] = "";
        size_t bytes, n;
        char *file = st_test_read(st_test_path(dir, "out/test.bin"), &bytes);
        const uint16_t *token = (const uint16_t *)(const void *)file;
        for (size_t k = 0; k < bytes / 2; k++) {
            const char *text = st_bpe_bytes(b, token[k], &n);
            bool end = token[k] == 0;
            snprintf(got + strlen(got), sizeof got - strlen(got), "%.*s", end ? 1 : (int)n,
                     end ? "|" : text);
        }
        assert_string_equal(got, want[i].text);
        assert_int_equal(recipe_int(r, "test_tokens"), bytes / 2);
        assert_true(recipe_int(r, "val_tokens") > 0);
        assert_null(json_object_get(r, "train_tokens"));
        free(file);
        json_decref(r);
    }
    st_bpe_close(b);
    st_test_remove(dir);
}

static void recipe_fails(const char *name, const char *input, st_recipe_opts o, const char *says)
{
    const char *dir = st_test_dir();
    st_err e = {0};
    st_status s;
    if (!o.prepare.tokenizer) o.prepare.tokenizer = tok;
    assert_null(recipe_run(name, input, dir, &o, &s, &e));
    assert_true(s == ST_EARG || s == ST_EFORMAT);
    assert_says(&e, says);
    assert_int_equal(st_test_entries(dir), 0);
    st_test_remove(dir);
}

static void recipe_refuses(void **state)
{
    (void)state;
    char *dir = strdup(st_test_dir()), *two = strdup(st_test_path(dir, "in"));
    st_err e = {0};
    json_t *r;
    assert_ok(st_make_dirs(two, &e), &e);
    st_test_write(st_test_path(dir, "in/a.txt"), "a", 1);
    recipe_fails("shakespeare", two, (st_recipe_opts){0}, "too short");
    st_test_write(st_test_path(dir, "in/b.txt"), "b", 1);
    recipe_fails("shakespeare", two, (st_recipe_opts){0}, "b.txt: a second text");
    recipe_fails("wikitext", two, (st_recipe_opts){0}, "no file is named train, valid or test");
    recipe_fails("wikitext", two, (st_recipe_opts){.form = "docs"}, "articles|krony|fly|fly-eos");
    recipe_fails("wikitext", two, (st_recipe_opts){.detokenize = true}, "only the forms fly");
    st_test_write(st_test_path(dir, "in/1.test.txt"), "a", 1);
    st_test_write(st_test_path(dir, "in/2.valid.txt"), "a", 1);
    st_test_write(st_test_path(dir, "in/3.test.txt"), "a", 1);
    recipe_fails("lambada", two, (st_recipe_opts){0}, "3.test.txt: the test split once more");
    st_test_write(st_test_path(dir, "x.txt"),
                  "ab\xff"
                  "cdefghijkl",
                  13);
    recipe_fails("shakespeare_char", st_test_path(dir, "x.txt"), (st_recipe_opts){0},
                 "byte 2, 0xFF, is not UTF-8");
    assert_st(st_recipe_run("owt", NULL, 0, dir, &(st_recipe_opts){0}, &r, &e), ST_EARG, &e);
    assert_says(&e, "openwebtext.tar.xz");
    assert_string_equal(st_recipe_near("shakespere"), "shakespeare");
    assert_null(st_recipe_near("./owtt"));
    assert_null(st_recipe_near("README"));
    st_test_remove(dir);
    free(dir);
    free(two);
}

/* The counts that papers and READMEs give, on the real texts with GPT-2's tokens. */
static void recipe_counts(void **state)
{
    (void)state;
    static const struct {
        const char *name, *file, *form, *key;
        int64_t want;
    } row[] = {{"wikitext", "wikitext-103-v1.test.txt", "krony", "test_tokens", 286657},
               {"wikitext", "wikitext-2-v1.test.txt", "krony", "test_tokens", 297300},
               {"wikitext", "wiki.test.raw", "krony", "test_tokens", 287644},
               {"wikitext", "wiki.test.raw", "fly", "test_tokens", 283287},
               {"wikitext", "wiki.test.raw", "articles", "test_documents", 62},
               {"lambada", "lambada_test_plain_text.txt", "krony", "test_tokens", 429710},
               {"lambada", "lambada_test.jsonl", "docs", "test_tokens", 430230 + 5153}};
    const char *vocab = st_test_data("encoder.json"), *dir = st_test_dir();
    int missing = !vocab;
    for (size_t i = 0; vocab && i < sizeof row / sizeof *row; i++) {
        const char *input = st_test_data(row[i].file);
        st_err e = {0};
        st_status s;
        if (!input) {
            missing++;
            continue;
        }
        st_recipe_opts o = {.prepare = {.tokenizer = vocab}, .form = row[i].form};
        json_t *r = recipe_run(row[i].name, input, dir, &o, &s, &e);
        assert_ok(s, &e);
        assert_int_equal(recipe_int(r, row[i].key), row[i].want);
        json_decref(r);
    }
    st_test_remove(dir);
    if (missing) skip();
}

/* Tiny Shakespeare: 301,966 and 36,059 of GPT-2's tokens, 1,003,854 and 111,540 of 65 characters.
 */
static void recipe_tiny_shakespeare(void **state)
{
    (void)state;
    const char *vocab = st_test_data("encoder.json"), *input = st_test_data("tinyshakespeare.txt");
    if (!vocab || !input) skip();
    const char *dir = st_test_dir();
    st_err e = {0};
    st_status s;
    st_recipe_opts o = {.prepare = {.tokenizer = vocab}};
    json_t *r = recipe_run("shakespeare", input, dir, &o, &s, &e);
    assert_ok(s, &e);
    assert_int_equal(recipe_int(r, "train_tokens"), 301966);
    assert_int_equal(recipe_int(r, "val_tokens"), 36059);
    json_decref(r);
    r = recipe_run("shakespeare_char", input, dir, &(st_recipe_opts){0}, &s, &e);
    assert_ok(s, &e);
    assert_int_equal(recipe_int(r, "vocab_size"), 65);
    assert_int_equal(recipe_int(r, "train_tokens"), 1003854);
    assert_int_equal(recipe_int(r, "val_tokens"), 111540);
    json_decref(r);
    st_test_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recipe_owt),    cmocka_unit_test(recipe_shakespeare),
        cmocka_unit_test(recipe_chars),  cmocka_unit_test(recipe_pickles),
        cmocka_unit_test(recipe_forms),  cmocka_unit_test(recipe_refuses),
        cmocka_unit_test(recipe_counts), cmocka_unit_test(recipe_tiny_shakespeare)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
