/* The demo's text: chapters and verses from what `bible` prints, and what is no such text. */
/* SPDX-License-Identifier: MIT */
#include "demo/inner.h"
#include "files/files.h"
#include "map/map.h"
#include "report/inner.h"
#include "testing.h"
#include <math.h>

const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libfontconfig\n";
}

static st_status chapters(const char *text, char **out, int64_t *c, int64_t *v, st_err *e)
{
    size_t n;
    FILE *f = open_memstream(out, &n);
    st_status status = st_demo_chapters(text, strlen(text), f, c, v, e);
    fclose(f);
    return status;
}

static void test_chapters(void **state)
{
    (void)state;
    st_err e = {0};
    int64_t c, v;
    char *out;
    assert_ok(chapters("\nGenesis 1\n\n  1 In the beginning.\n  2 And \"it\" was\\\n\n"
                       "Song of Solomon 12\n\n 123 The last",
                       &out, &c, &v, &e),
              &e);
    assert_int_equal(c, 2);
    assert_int_equal(v, 3);
    char *second = strchr(out, '\n') + 1;
    json_t *a = json_loadb(out, (size_t)(second - out), 0, NULL), *b = json_loads(second, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(a, "title")), "Genesis 1");
    assert_string_equal(json_string_value(json_object_get(a, "text")),
                        "In the beginning.\nAnd \"it\" was\\");
    assert_string_equal(json_string_value(json_object_get(b, "title")), "Song of Solomon 12");
    assert_string_equal(json_string_value(json_object_get(b, "text")), "The last");
    json_decref(a);
    json_decref(b);
    free(out);
}

static void test_other_text_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "\n\n",
        "Genesis 1\n",
        "  1 A verse before its chapter\n",
        "Genesis 1\n\n  1 fine\nUsage: bible [-f]\n",
        "Genesis 1\n\n  1\n",
        "Genesis 1\n\n  1234 too many digits\n",
        "Genesis 1\n\n  1 bytes \xff\xfe that are not UTF-8\n",
        "1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        st_err e = {0};
        int64_t c, v;
        char *out;
        st_status status = chapters(bad[i], &out, &c, &v, &e);
        assert_true(status == ST_EFORMAT || status == ST_EIO);
        assert_says(&e, "bible");
        free(out);
    }
}

/* The whole text, where the package is installed: the King James Bible has 1,189 chapters. */
static void test_the_bible(void **state)
{
    (void)state;
    st_err e = {0};
    size_t n;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "kjv.jsonl");
    st_status status = st_demo_text(path, &e);
    if (status == ST_EUNSUPPORTED) {
        print_message("skipped: %s\n", e.msg);
        st_test_remove(dir);
        skip();
    }
    assert_ok(status, &e);
    char *text = st_test_read(path, &n);
    int lines = 0;
    for (const char *s = text; (s = strchr(s, '\n')); s++)
        lines++;
    assert_int_equal(lines, 1189);
    assert_non_null(strstr(text, "\\nJesus wept.\\n"));
    assert_int_equal(st_test_entries(dir), 1);
    free(text);
    st_test_remove(dir);
}

/* ---- the whole run, tiny, on this project's own prose ---------------------------------------- */

static const char *const prose[] = {"README.md", "CONTRIBUTING.md", "doc/ARCHITECTURE"};

static st_demo_opts tiny(void)
{
    st_demo_opts o = {.text = prose, .ntext = 3, .budget = 1, .steps = 16, .seed = 3};
    o.size.vocab = 400, o.size.layers = 1, o.size.heads = 2, o.size.width = 64;
    o.size.inner = 128, o.size.context = 16, o.size.batch = 2;
    return o;
}

static const json_t *find(const json_t *result, const char *name)
{
    size_t i;
    const json_t *row;
    json_array_foreach(json_object_get(result, "models"), i,
                       row) if (strcmp(st_row_str(row, "name"), name) == 0) return row;
    fail_msg("no model %s", name);
    return NULL;
}

static void check_row(const char *dir, const json_t *row)
{
    static const char *const all[] = {"parameters",
                                      "embedding_parameters",
                                      "body_parameters",
                                      "mlp_parameters",
                                      "bytes",
                                      "macs_per_token",
                                      "perplexity",
                                      "steps",
                                      "tokens",
                                      "prefill.tokens_per_second",
                                      "decode.tokens_per_second",
                                      "train.tokens_per_second"};
    char path[4096];
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!(st_row_num(row, all[i]) > 0)) fail_msg("%s: no %s", st_row_str(row, "name"), all[i]);
    assert_true(*st_row_str(row, "sample"));
    snprintf(path, sizeof path, "%s/%s/model.safetensors", dir, st_row_str(row, "folder"));
    assert_true(st_path_exists(path));
}

/* Ctrl-C after some models: they stay, the page says that it is not complete. */
static void stop_after(void *ctx, st_log_level level, const char *text)
{
    (void)level;
    int *models = ctx;
    if (strstr(text, "perplexity") && --*models == 0) st_interrupt();
}

/* The folder may be used again, and the same seed gives the same models, here until it is stopped.
 */
static void test_again(const char *dir, const st_demo_opts *o, const json_t *result)
{
    st_err e = {0};
    json_t *none = NULL, *left = NULL;
    int models = 5;
    st_sink_set(&(st_sink){.log = stop_after, .ctx = &models});
    assert_st(st_demo(dir, o, &none, &e), ST_EINTR, &e);
    st_sink_set(NULL);
    assert_null(none);
    assert_says(&e, "the 5 models that are finished");
    assert_ok(st_json_load(&left, st_test_path(dir, "results.json"), 1 << 24, &e), &e);
    assert_true(json_is_false(json_object_get(left, "complete")));
    const json_t *rows = json_object_get(left, "models"), *row;
    assert_int_equal(json_array_size(rows), 5);
    size_t i, n;
    json_array_foreach(rows, i, row)
    {
        const json_t *was = find(result, st_row_str(row, "name"));
        assert_true(st_row_num(row, "perplexity") == st_row_num(was, "perplexity"));
    }
    char *html = st_test_read(st_test_path(dir, "report.html"), &n);
    assert_non_null(strstr(html, "stopped before its end"));
    free(html);
    json_decref(left);
}

static void test_whole_run(void **state)
{
    (void)state;
    st_err e = {0};
    json_t *result = NULL;
    st_demo_opts o = tiny();
    const char *dir = st_test_dir();
    assert_ok(st_demo(dir, &o, &result, &e), &e);
    const json_t *models = json_object_get(result, "models"), *dense = find(result, "dense");
    assert_true(json_is_true(json_object_get(result, "complete")));
    int types = 0;
    for (st_map_view view; st_map_view_at(types, &view); types++) { /* every row of the table */
        char name[64];
        snprintf(name, sizeof name, "%s 2x", view.label);
        assert_non_null(find(result, name));
    }
    assert_int_equal(json_array_size(models), 4 + 2 * types);
    size_t i, worse = 0;
    const json_t *row;
    json_array_foreach(models, i, row)
    {
        check_row(dir, row);
        double share = st_row_num(row, "mlp_parameters") * st_row_num(row, "reduction") /
                       st_row_num(dense, "mlp_parameters");
        assert_true(share > 0.85 && share < 1.15);
        if (strcmp(st_row_str(row, "kind"), "structured") != 0) continue;
        double before = st_row_num(row, "perplexity_projected"),
               now = st_row_num(row, "perplexity");
        double healed = st_row_num(row, "perplexity_healed");
        assert_true(before > 0 && now <= before); /* healing costs nobody anything */
        assert_true(now == (healed > before ? before : healed));
        assert_true(fabs(st_row_num(row, "healing_gain") - 100 * (1 - healed / before)) < 1e-9);
        assert_true(st_row_num(row, "healing_rate") >= 3e-5);
        worse += healed > before;
    }
    print_message("         %zu were left as projected\n", worse);
    /* the whole MLP is narrow, so the control is exactly as small */
    assert_true(st_row_num(find(result, "narrow 2x"), "mlp_parameters") * 2 ==
                st_row_num(dense, "mlp_parameters"));
    assert_true(st_path_exists(st_test_path(dir, "report.html")));
    assert_true(st_path_exists(st_test_path(dir, "plots/loss-healing-4x.png")));
    test_again(dir, &o, result);
    json_decref(result);
    st_test_remove(dir);
}

/* A folder with somebody's files is left alone. */
static void test_foreign_folder(void **state)
{
    (void)state;
    st_err e = {0};
    json_t *result = NULL;
    st_demo_opts o = tiny();
    const char *dir = st_test_dir();
    st_test_write(st_test_path(dir, "thesis.tex"), "x", 1);
    assert_st(st_demo(dir, &o, &result, &e), ST_EARG, &e);
    assert_says(&e, "results.json");
    assert_int_equal(st_test_entries(dir), 1);
    assert_st(st_demo(st_test_path(dir, "thesis.tex"), &o, &result, &e), ST_EIO, &e);
    st_test_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chapters),  cmocka_unit_test(test_other_text_is_refused),
        cmocka_unit_test(test_the_bible), cmocka_unit_test(test_foreign_folder),
        cmocka_unit_test(test_whole_run), /* last: the process stays interrupted */
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
