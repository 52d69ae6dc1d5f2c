/* The report of many runs: what is read of each, which benchmark belongs to which, what is left
 * out, and a page that holds hostile text. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "report/report.h"
#include "report/runs.h"
#include "testing.h"
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libfontconfig\n";
}

#define CSV_HEAD                                                                                   \
    "version,commit,machine,device,threads,what,dtype,spec,in,out,rows,batch,context,parameters,"  \
    "bytes,macs_per_token,median_s,p10_s,p90_s,reps,gflops,tokens_per_second,speedup\n"

static const char *put(const char *dir, const char *name, const char *text)
{
    const char *path = st_test_path(dir, name);
    st_test_write(path, text, strlen(text));
    return path;
}

/* DIR/NAME as a run: `inner` and `maps` of its model, three rows, two validations. */
static void make_run(const char *dir, const char *name, const char *inner, const char *maps,
                     const char *val)
{
    char text[1200], path[256];
    const char *run = st_test_path(dir, name);
    mkdir(run, 0755);
    snprintf(path, sizeof path, "%s/ckpt", name);
    mkdir(st_test_path(dir, path), 0755);
    snprintf(path, sizeof path, "%s/ckpt/best", name);
    mkdir(st_test_path(dir, path), 0755);
    snprintf(path, sizeof path, "%s/ckpt/best/config.json", name);
    snprintf(text, sizeof text,
             "{\"model_type\":\"gpt2\",\"vocab_size\":50,\"n_positions\":8,\"n_embd\":16,"
             "\"n_layer\":1,\"n_head\":2,\"n_inner\":%s%s}",
             inner, maps);
    put(dir, path, text);
    snprintf(text, sizeof text,
             "name: %s\ndtype: bfloat16\nseed: 7\ntrain:\n  steps: 4\n  # <b>&\n", name);
    snprintf(path, sizeof path, "%s/config.yaml", name);
    put(dir, path, text);
    snprintf(text, sizeof text,
             "{\"step\": 0, \"seconds\": 0, \"val_loss\": 3.9}\n"
             "{\"step\": 1, \"tokens\": 100, \"loss\": 3.8, \"tokens_per_second\": 10, "
             "\"seconds\": 10}\n"
             "{\"step\": 2, \"tokens\": 200, \"loss\": 3.5, \"tokens_per_second\": 30, "
             "\"seconds\": 20}\n"
             "{\"step\": 2, \"seconds\": 20, \"val_loss\": %s}\n"
             "{\"step\": 3, \"tokens\": 300, \"loss\": 3.4, \"tokens_per_second\": 20, "
             "\"seconds\": 30}\n"
             "{\"step\": 4, \"tokens\": 400, \"lo",
             val);
    snprintf(path, sizeof path, "%s/metrics.jsonl", name);
    put(dir, path, text);
}

static const json_t *run_of(const json_t *found, const char *name)
{
    size_t i;
    const json_t *row;
    json_array_foreach(json_object_get(found, "runs"), i, row)
    {
        if (strcmp(st_row_str(row, "name"), name) == 0) return row;
    }
    fail_msg("no run %s", name);
    return NULL;
}

static json_t *find(const char *const *paths, int n)
{
    st_err e = {0};
    json_t *found = NULL;
    assert_ok(st_runs_find(paths, n, &found, &e), &e);
    return found;
}

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-9 * fabs(b);
}

static void test_run(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    make_run(dir, "dense", "64", "", "3.0");
    make_run(dir, "small", "32", "", "3.25");
    make_run(dir, "mapped", "64",
             ",\"strut\":{\"format\":1,\"maps\":{\"h.*.mlp.*\":\"lowrank:rank=4\"}}", "3.5");
    json_t *found = find(&dir, 1);
    assert_int_equal(json_array_size(json_object_get(found, "runs")), 3);
    const json_t *r = run_of(found, "dense");
    assert_true(near(st_row_num(r, "perplexity"), exp(3.0)) && st_row_num(r, "best_step") == 2);
    assert_true(st_row_num(r, "step") == 3 && st_row_num(r, "steps") == 4);
    assert_true(json_is_false(json_object_get(r, "complete")));
    assert_true(st_row_num(r, "tokens_per_second") == 20 && st_row_num(r, "seconds") == 30);
    assert_string_equal(st_row_str(r, "dtype"), "bfloat16");
    assert_string_equal(st_row_str(r, "kind"), "dense");
    /* wte 50x16, wpe 8x16, norms 3x2x16, qkv 16x48+48, proj 16x16+16, mlp 2x16x64+64+16 */
    assert_true(st_row_num(r, "parameters") == 800 + 128 + 96 + 816 + 272 + 2048 + 80);
    assert_true(st_row_num(r, "body_parameters") == 96 + 816 + 272 + 2048 + 80);
    const json_t *val = json_object_get(r, "validation");
    assert_true(json_number_value(json_array_get(json_object_get(val, "tokens"), 1)) == 200);
    assert_string_equal(st_row_str(run_of(found, "small"), "kind"), "narrow");
    r = run_of(found, "mapped");
    assert_string_equal(st_row_str(r, "kind"), "structured");
    assert_string_equal(st_row_str(r, "label"), "lowrank");
    assert_string_equal(st_row_str(r, "maps"), "lowrank:rank=4");
    json_decref(found);
    st_test_remove(dir);
}

static char *make_page(const char *dir, const char *const *paths, int n)
{
    st_err e = {0};
    size_t bytes;
    json_t *result = NULL;
    const char *out = st_test_path(dir, "page.html");
    assert_ok(st_report_runs(paths, n, out, "a <title>", true, &result, &e), &e);
    char *html = st_test_read(out, &bytes);
    assert_non_null(html);
    json_decref(result);
    return html;
}

/* Controls, columns and the three kinds of a benchmark's rows. */
static void test_bench(void **state)
{
    (void)state;
    static const char text[] =
        "what,dtype,spec,name,in,out,rows,context,heads,parameters,median_s,speedup,shape,control,"
        "factor\n"
        "forward,float32,monarch:blocks=8,m,768,3072,8,,,368640,1e-3,2,8x768x3072,none,4\n"
        "forward,float32,dense,\"dense, 768 outputs\",768,768,8,,,589824,1e-3,3,8x768x3072,narrow,"
        "4\n"
        "forward,float32,ss1:factor=2,s,64,64,8,,,2048,1e-3,2,,,\n"
        "forward,float32,gpt2,gpt2,,,,16,,5,1e-3,1,,none,\n"
        "forward,float32,local:window=8,local,,,,256,1,,1e-3,1.5,,,\n";
    const char *dir = st_test_dir(), *path = put(dir, "b.csv", text);
    json_t *found = find(&path, 1);
    const json_t *layers = json_object_get(found, "layers");
    assert_int_equal(json_array_size(layers), 3);
    static const char *const heading[] = {"monarch 4x", "narrow* 4x", "ss1 2x"};
    for (size_t i = 0; i < 3; i++)
        assert_string_equal(st_row_str(json_array_get(layers, i), "heading"), heading[i]);
    assert_string_equal(st_row_str(json_array_get(layers, 2), "label"), "ss1:factor=2");
    const json_t *ways = json_object_get(found, "attention");
    assert_int_equal(json_array_size(ways), 1);
    assert_string_equal(st_row_str(json_array_get(ways, 0), "heading"), "local");
    assert_int_equal(json_array_size(json_object_get(found, "models")), 1);
    json_decref(found);
    char *html = make_page(dir, &path, 1);
    assert_non_null(strstr(html, "dense, 768 outputs (control: narrow)"));
    assert_true(st_path_exists(st_test_path(dir, "page_files/attention-forward-float32.svg")));
    free(html);
    st_test_remove(dir);
}

/* By name first, then by size, and not where two models could be meant. */
static void test_join(void **state)
{
    (void)state;
    st_err e = {0};
    json_t *found = NULL;
    static const char text[] =
        "{\"runs\":[{\"name\":\"a\",\"parameters\":100},{\"name\":\"b\",\"parameters\":200},"
        "{\"name\":\"c\",\"maps\":\"m\",\"parameters\":300},{\"name\":\"d\",\"parameters\":400}],"
        "\"models\":["
        "{\"spec\":\"x\",\"what\":\"forward\",\"parameters\":100,\"batch\":1,\"context\":4,"
        "\"tokens_per_second\":1000,\"dtype\":\"float32\"},"
        "{\"spec\":\"a\",\"what\":\"forward\",\"parameters\":100,\"batch\":1,"
        "\"tokens_per_second\":2000},"
        "{\"spec\":\"a\",\"what\":\"forward\",\"parameters\":100,\"batch\":8,"
        "\"tokens_per_second\":4000},"
        "{\"spec\":\"y\",\"what\":\"forward\",\"parameters\":200,\"tokens_per_second\":500},"
        "{\"spec\":\"z\",\"what\":\"forward\",\"parameters\":200,\"tokens_per_second\":600},"
        "{\"spec\":\"m\",\"what\":\"decode\",\"parameters\":300,\"tokens_per_second\":5},"
        "{\"spec\":\"m\",\"what\":\"forward\",\"parameters\":300,\"tokens_per_second\":700},"
        "{\"spec\":\"d\",\"what\":\"forward\",\"parameters\":401,\"tokens_per_second\":700}]}";
    assert_ok(st_json_parse(&found, text, strlen(text), "found", &e), &e);
    st_runs_join(found);
    assert_true(near(st_row_num(run_of(found, "a"), "forward_ms"), 1e6 / 4000));
    assert_true(isnan(st_row_num(run_of(found, "b"), "forward_ms")));
    assert_true(near(st_row_num(run_of(found, "c"), "forward_ms"), 1e6 / 700));
    assert_true(isnan(st_row_num(run_of(found, "d"), "forward_ms")));
    json_decref(found);
}

static void test_left_out(void **state)
{
    (void)state;
    st_err e = {0};
    json_t *found = NULL;
    const char *dir = st_test_dir();
    make_run(dir, "good", "64", "", "3.0");
    make_run(dir, "bad", "64", ",\"strut\":{\"format\":1,\"maps\":{\"nothing\":\"dense\"}}", "3.0");
    make_run(dir, "worse", "64", "", "3.0");
    put(dir, "worse/config.yaml", "a: [1\n");
    make_run(dir, "empty", "64", "", "3.0");
    put(dir, "empty/metrics.jsonl", "");
    assert_int_equal(symlink(".", st_test_path(dir, "loop")), 0);
    found = find(&dir, 1);
    assert_int_equal(json_array_size(json_object_get(found, "runs")), 2);
    assert_int_equal(json_array_size(json_object_get(found, "left_out")), 2);
    json_decref(found);
    put(dir, "empty/config.yaml", "name: good\n"); /* as a sweep's runs have one name */
    found = find(&dir, 1);
    assert_non_null(run_of(found, "good good"));
    assert_non_null(run_of(found, "good empty"));
    json_decref(found);
    const char *none = put(dir, "notes.csv", "a,b\n1,2\n");
    assert_st(st_runs_find(&none, 1, &found, &e), ST_EFORMAT, &e);
    assert_says(&e, "no columns spec and median_s");
    none = st_test_path(dir, "good/ckpt");
    assert_st(st_runs_find(&none, 1, &found, &e), ST_EARG, &e);
    assert_says(&e, "nothing to report");
    none = st_test_path(dir, "gone");
    assert_st(st_runs_find(&none, 1, &found, &e), ST_EIO, &e);
    st_test_remove(dir);
}

static void test_page(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    make_run(dir, "one", "64", "", "3.0");
    make_run(dir, "two", "64",
             ",\"strut\":{\"format\":1,\"maps\":{\"h.*.mlp.*\":\"lowrank:rank=4\"}}", "3.5");
    const char *paths[] = {
        dir, put(dir, "l.csv",
                 CSV_HEAD "1,,\"<i>\",cpu,2,forward,float32,dense,16,64,8,,,1024,4096,1024,1e-3,"
                          "1e-3,2e-3,5,1,1,1\n"
                          "1,,m,cpu,2,forward,float32,\"<script>alert(1)</script>\",16,64,8,,,320,"
                          "1280,320,5e-4,5e-4,5e-4,5,1,1,2\n"
                          "1,,m,cpu,2,forward,float32,monarch:blocks=4,16,64,8,,,256,"
                          "1280,320,nan,5e-4,5e-4,5,1,1,inf\n")};
    char *html = make_page(dir, paths, 2);
    assert_null(strstr(html, "<script>alert"));
    assert_null(strstr(html, "<i>"));
    assert_null(strstr(html, "# <b>"));
    assert_null(strstr(html, "http://"));
    assert_null(strstr(html, "https://"));
    assert_non_null(strstr(html, "a &lt;title&gt;"));
    assert_non_null(strstr(html, "id=\"run-1\""));
    assert_non_null(strstr(html, "href=\"#run-1\" title=\"two: lowrank:rank=4"));
    static const char *const file[] = {"perplexity-parameters", "perplexity-macs",
                                       "perplexity-training",   "loss-training",
                                       "loss-validation",       "layers-forward-float32"};
    for (size_t i = 0; i < sizeof file / sizeof *file; i++) {
        char name[80];
        snprintf(name, sizeof name, "page_files/%s.png", file[i]);
        assert_true(st_path_exists(st_test_path(dir, name)));
    }
    assert_false(st_path_exists(st_test_path(dir, "page_files/perplexity-forward.png")));
    free(html);
    st_test_remove(dir);
}

/* Marks are where the figure draws them: the drawing of a point alone is dark there. */
static void test_places(void **state)
{
    (void)state;
    st_err e = {0};
    st_plot_point pt[] = {{.x = 1, .y = 1}, {.x = 3, .y = 2}, {.x = (double)NAN, .y = 1}};
    st_plot p = {.title = "t", .point = pt, .points = 3, .width = 400, .height = 300};
    double place[6];
    assert_ok(st_plot_places(&p, place, &e), &e);
    assert_true(place[0] > 0.02 && place[0] < place[2] && place[2] < 1);
    assert_true(place[3] > 0.02 && place[3] < place[1] && place[1] < 1);
    assert_true(isnan(place[4]) && isnan(place[5]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_run),  cmocka_unit_test(test_bench),
                                       cmocka_unit_test(test_join), cmocka_unit_test(test_left_out),
                                       cmocka_unit_test(test_page), cmocka_unit_test(test_places)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
