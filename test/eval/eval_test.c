/* The protocols against what their sources make of the same tiny model and texts, and the real test
 * sets' tokens against Hugging Face's tokenizer (tools/fixtures_eval.py). */
/* SPDX-License-Identifier: MIT */
#include "eval/perplexity.h"
#include "testing.h"
#include <math.h>

#define FIXTURES "test/fixtures/eval/"

static double number(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_number(v)) fail_msg("no number \"%s\"", key);
    return json_number_value(v);
}

static void assert_close(const json_t *got, const json_t *want, const char *key, double eps)
{
    double a = number(got, key), b = number(want, key);
    if (!(fabs(a - b) <= eps * (fabs(b) + 1.0))) {
        char *text = json_dumps(want, 0);
        print_error("%s: found %.9g, expected %.9g in %s\n", key, a, b, text);
        free(text);
        fail();
    }
}

static json_t *load(const char *name)
{
    char path[256];
    json_t *list = NULL;
    st_err e = {0};
    snprintf(path, sizeof path, FIXTURES "%s", name);
    assert_ok(st_json_load(&list, path, 1 << 24, &e), &e);
    assert_true(json_array_size(list) > 0);
    return list;
}

static void eval_detokenize(void **state)
{
    (void)state;
    json_t *list = load("detokenize.json"), *row;
    size_t i;
    json_array_foreach(list, i, row)
    {
        st_err e = {0};
        const json_t *text = json_object_get(row, "text");
        const char *s = json_string_value(text);
        size_t n = json_string_length(text), size;
        char *prose = NULL;
        assert_ok(st_detokenize(s, n, &prose, &size, &e), &e);
        assert_string_equal(prose, json_string_value(json_object_get(row, "prose")));
        assert_int_equal(size, json_string_length(json_object_get(row, "prose")));
        assert_int_equal(st_space_words(s, n), json_integer_value(json_object_get(row, "words")));
        assert_int_equal(st_space_tokens(s, n), json_integer_value(json_object_get(row, "tokens")));
        free(prose);
    }
    json_decref(list);
}

static void eval_case(const json_t *want)
{
    char path[256];
    st_err e = {0};
    json_t *got = NULL;
    const json_t *eos = json_object_get(want, "eos");
    const char *keys[] = {"words", "bytes", "byte_perplexity", "bits_per_byte"};
    st_perplexity_opts o = {
        .protocol = json_string_value(json_object_get(want, "protocol")),
        .form = json_string_value(json_object_get(want, "form")),
        .context = json_integer_value(json_object_get(want, "context")),
        .stride = json_integer_value(json_object_get(want, "stride")),
        .limit = json_integer_value(json_object_get(want, "limit")),
        .boundary = json_string_value(json_object_get(want, "boundary")),
        .detokenize = json_string_value(json_object_get(want, "detokenize")),
        .eos = json_is_true(eos),
    };
    snprintf(path, sizeof path, FIXTURES "%s", json_string_value(json_object_get(want, "file")));
    for (o.batch = 0; o.batch < 4; o.batch += 3) { /* together and in threes */
        assert_ok(st_perplexity(FIXTURES "model", path, &o, &got, &e), &e);
        assert_close(got, want, "tokens", 0.0);
        assert_close(got, want, "scored", 0.0);
        assert_close(got, want, "windows", 0.0);
        assert_close(got, want, "nll", 1e-5);
        assert_true(fabs(log(number(got, "token_perplexity")) - number(want, "token_nll")) < 1e-4);
        for (int k = 0; k < 4; k++)
            if (json_object_get(want, keys[k])) assert_close(got, want, keys[k], 1e-4);
        json_decref(got);
    }
}

static void eval_protocols(void **state)
{
    (void)state;
    json_t *list = load("cases.json"), *row;
    size_t i;
    json_array_foreach(list, i, row) eval_case(row);
    json_decref(list);
}

/* Rows of a table, where blank lines are empty strings, are those of the text file. */
static void eval_parquet(void **state)
{
    (void)state;
    st_err e = {0};
    st_eval_rows a, b;
    assert_ok(st_eval_rows_open(&a, FIXTURES "wiki.txt", ST_FORM_WIKITEXT, &e), &e);
    assert_ok(st_eval_rows_open(&b, FIXTURES "wiki.parquet", ST_FORM_WIKITEXT, &e), &e);
    assert_int_equal(a.rows, b.rows);
    assert_int_equal(a.bytes, b.bytes);
    assert_memory_equal(a.text, b.text, a.bytes);
    assert_memory_equal(a.row, b.row, (size_t)a.rows * sizeof *a.row);
    st_eval_rows_close(&a);
    st_eval_rows_close(&b);
}

/* --agg and --gelu change what they say, and nothing else. */
static void eval_options(void **state)
{
    (void)state;
    st_err e = {0};
    json_t *hf = NULL, *krony = NULL, *erf = NULL;
    st_perplexity_opts o = {.form = "wikitext", .protocol = "hf", .agg = "window"};
    assert_ok(st_perplexity(FIXTURES "model", FIXTURES "wiki.txt", &o, &hf, &e), &e);
    o = (st_perplexity_opts){.form = "wikitext", .protocol = "krony"};
    assert_ok(st_perplexity(FIXTURES "model", FIXTURES "wiki.txt", &o, &krony, &e), &e);
    assert_close(hf, krony, "nll", 0.0);
    o.how.gelu = "erf";
    assert_ok(st_perplexity(FIXTURES "model", FIXTURES "wiki.txt", &o, &erf, &e), &e);
    double moved = fabs(number(erf, "nll") - number(krony, "nll"));
    assert_true(moved > 1e-7 && moved < 0.05);
    json_decref(hf);
    json_decref(krony);
    json_decref(erf);
}

static void eval_lambada(void **state)
{
    (void)state;
    json_t *list = load("lambada.json"), *want, *got = NULL;
    size_t i;
    st_err e = {0};
    st_loaded l = {0};
    assert_ok(st_loaded_open(&l, FIXTURES "model", "cpu", ST_F32, &e), &e);
    json_array_foreach(list, i, want)
    {
        char path[256];
        st_eval_rows rows;
        const char *const keys[] = {"items", "tokens", "target_tokens", "accuracy",
                                    "last_token_accuracy"};
        snprintf(path, sizeof path, FIXTURES "%s",
                 json_string_value(json_object_get(want, "file")));
        assert_ok(st_eval_rows_open(&rows, path, ST_FORM_LINES, &e), &e);
        for (int64_t batch = 0; batch < 4; batch++) {
            st_perplexity_opts o = {.batch = batch};
            assert_ok(st_lambada(&l, &rows, &o, "lm-eval", &got, &e), &e);
            for (int k = 0; k < 5; k++)
                assert_close(got, want, keys[k], 1e-9);
            assert_close(got, want, "nll", 1e-5);
            assert_true(fabs(log(number(got, "perplexity")) - number(want, "nll")) < 1e-3);
            json_decref(got);
        }
        st_eval_rows_close(&rows);
    }
    st_loaded_close(&l);
    json_decref(list);
}

static st_eval_ids ids_of(const char *protocol, const st_eval_rows *rows, const st_bpe *bpe)
{
    st_err e = {0};
    st_eval_ids ids;
    const st_protocol *p;
    assert_ok(st_protocol_find(protocol, &p, &e), &e);
    assert_ok(st_protocol_ids(p, rows, bpe, &(st_perplexity_opts){0}, &ids, &e), &e);
    return ids;
}

static void check_counts(const json_t *want, const st_eval_rows *rows, const st_bpe *bpe)
{
    st_eval_ids ids = ids_of("krony", rows, bpe);
    const json_t *first = json_object_get(want, "first");
    assert_int_equal(ids.ids.n, (int64_t)number(want, "joined"));
    assert_int_equal(ids.sequences, 1);
    for (size_t i = 0; i < json_array_size(first); i++)
        assert_int_equal(ids.ids.id[i], json_integer_value(json_array_get(first, i)));
    st_eval_ids_free(&ids);
    if (!json_object_get(want, "openai")) return;
    ids = ids_of("openai", rows, bpe);
    assert_int_equal(ids.ids.n, (int64_t)number(want, "openai"));
    assert_int_equal(ids.original, (int64_t)number(want, "original"));
    st_eval_ids_free(&ids);
    ids = ids_of("fly", rows, bpe);
    assert_int_equal(ids.ids.n, (int64_t)number(want, "fly"));
    st_eval_ids_free(&ids);
    ids = ids_of("lm-eval", rows, bpe);
    assert_int_equal(ids.sequences, (int64_t)number(want, "pages"));
    assert_int_equal(ids.ids.n, (int64_t)number(want, "page_tokens"));
    assert_int_equal(ids.words, (int64_t)number(want, "words"));
    assert_int_equal(ids.bytes, (int64_t)number(want, "bytes"));
    uint64_t sum = 0; /* every page's ids, in order */
    for (int64_t s = 0, at = 0; s < ids.sequences; at = ids.end[s++])
        for (int64_t i = at + 1; i < ids.end[s]; i++)
            sum += (uint64_t)(i - at) * (uint64_t)ids.ids.id[i];
    assert_int_equal(sum % ((uint64_t)1 << 31), (uint64_t)number(want, "sum"));
    st_eval_ids_free(&ids);
}

/* kronecker.md's table: 286,657, 297,300, 429,710 tokens and their first ids. */
static void eval_real_texts(void **state)
{
    (void)state;
    st_err e = {0};
    st_bpe *bpe = NULL;
    const char *encoder = st_test_data("encoder.json");
    if (!encoder || !st_test_data("vocab.bpe")) skip();
    assert_ok(st_bpe_open(&bpe, encoder, &e), &e);
    json_t *list = load("counts.json"), *row;
    size_t i;
    bool all = true;
    json_array_foreach(list, i, row)
    {
        st_eval_rows rows;
        const char *file = json_string_value(json_object_get(row, "file")),
                   *path = st_test_data(file);
        st_form form = strncmp(file, "lambada", 7) == 0 ? ST_FORM_LINES : ST_FORM_WIKITEXT;
        all = all && path;
        if (!path) continue;
        assert_ok(st_eval_rows_open(&rows, path, form, &e), &e);
        check_counts(row, &rows, bpe);
        st_eval_rows_close(&rows);
    }
    st_bpe_close(bpe);
    json_decref(list);
    if (!all) skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eval_detokenize), cmocka_unit_test(eval_protocols),
        cmocka_unit_test(eval_options),    cmocka_unit_test(eval_lambada),
        cmocka_unit_test(eval_real_texts), cmocka_unit_test(eval_parquet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
