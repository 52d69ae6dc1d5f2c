/* The report: Pareto fronts, remarks that follow from the numbers, and a page that holds together
 * with missing numbers and hostile text. */
/* SPDX-License-Identifier: MIT */
#include "report/inner.h"
#include "report/report.h"
#include "testing.h"
#include <math.h>

const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libfontconfig\n";
}

/* name, kind, reduction, size, perplexity before and after, decode tokens/s */
#define ROW(name, kind, red, size, before, after, speed)                                           \
    "{\"name\":\"" name "\",\"label\":\"" name "\",\"kind\":\"" kind "\",\"reduction\":" red       \
    ",\"parameters\":" size ",\"body_parameters\":" size                                           \
    ",\"tokens\":1000,\"macs_per_token\":" size ",\"perplexity_projected\":" before                \
    ",\"perplexity\":" after ",\"decode\":{\"tokens_per_second\":" speed ",\"low\":" speed         \
    ",\"high\":" speed "}}"

static const char report_text[] =
    "{\"complete\":true,\"seconds\":60,\"text\":{\"val_tokens\":5000},\"models\":[" ROW(
        "dense", "dense", "1", "1000", "null", "40.0",
        "100") "," ROW("good", "structured", "2", "600", "50", "44.0",
                       "130") "," ROW("fast", "structured", "2", "610", "90", "46.0",
                                      "150") "," ROW("poor", "structured", "2", "590", "800",
                                                     "60.0", "90") "," ROW("thin", "narrow", "2",
                                                                           "600", "null", "45.0",
                                                                           "160") "]}";

static json_t *results(void)
{
    st_err e = {0};
    json_t *j = NULL;
    assert_ok(st_json_parse(&j, report_text, strlen(report_text), "results", &e), &e);
    return j;
}

static void test_row_numbers(void **state)
{
    (void)state;
    json_t *j = results(), *row = json_array_get(json_object_get(j, "models"), 0);
    assert_true(st_row_num(row, "decode.tokens_per_second") == 100);
    assert_true(st_row_num(row, "perplexity") == 40);
    assert_true(isnan(st_row_num(row, "perplexity_projected")));
    assert_true(isnan(st_row_num(row, "decode.none")) && isnan(st_row_num(row, "a.b.c")));
    assert_true(isnan(st_row_num(NULL, "perplexity")));
    assert_string_equal(st_row_str(row, "name"), "dense");
    assert_string_equal(st_row_str(row, "perplexity"), "");
    json_decref(j);
}

static void test_front(void **state)
{
    (void)state;
    st_err e = {0};
    int64_t *index, n;
    json_t *j = results();
    /* speed: dense (100, 40), good (130, 44), thin (160, 45); fast (150, 46) is beaten by thin */
    assert_ok(st_report_front(json_object_get(j, "models"), "decode.tokens_per_second", true,
                              &index, &n, &e),
              &e);
    assert_int_equal(n, 3);
    assert_true(index[0] == 0 && index[1] == 1 && index[2] == 4);
    free(index);
    /* size: poor (590, 60), good (600, 44), dense (1000, 40); thin has good's size and is worse */
    assert_ok(
        st_report_front(json_object_get(j, "models"), "body_parameters", false, &index, &n, &e),
        &e);
    assert_int_equal(n, 3);
    assert_true(index[0] == 3 && index[1] == 1 && index[2] == 0);
    free(index);
    /* of two with the same perplexity only the faster one */
    json_t *thin = json_array_get(json_object_get(j, "models"), 4);
    json_object_set_new(thin, "perplexity", json_real(44));
    assert_ok(st_report_front(json_object_get(j, "models"), "decode.tokens_per_second", true,
                              &index, &n, &e),
              &e);
    assert_int_equal(n, 2);
    assert_true(index[0] == 0 && index[1] == 4);
    free(index);
    assert_ok(st_report_front(json_object_get(j, "models"), "nothing", false, &index, &n, &e), &e);
    assert_int_equal(n, 0);
    free(index);
    json_decref(j);
}

static bool said(const json_t *j, const char *text)
{
    size_t i;
    const json_t *s;
    json_array_foreach(json_object_get(j, "remarks"), i,
                       s) if (strstr(json_string_value(s), text)) return true;
    print_message("not said: %s\n", text);
    return false;
}

static void test_remarks_follow_the_numbers(void **state)
{
    (void)state;
    st_err e = {0};
    json_t *j = results();
    assert_ok(st_remarks_add(j, &e), &e);
    assert_true(said(j, "from 40.0 to 50 (good) or as far as 800 (poor)"));
    assert_true(said(j, "between 44.0 (good) and 60.0 (poor): +10.0 % and +50.0 %"));
    assert_true(said(j, "reaches 45.0: better than 2 of the 3 structured models"));
    assert_true(said(j, "The best of them, good, reaches 44.0 (-2.2 %)"));
    assert_true(said(j, "at 2x 2 of 3 structured models (fast 1.50x, good 1.30x, ... poor 0.90x; "
                        "narrow control 1.60x)"));
    /* other numbers, other words */
    json_t *poor = json_array_get(json_object_get(j, "models"), 3);
    json_object_set_new(poor, "perplexity", json_real(41));
    assert_ok(st_remarks_add(j, &e), &e);
    assert_true(said(j, "between 41.0 (poor) and 46.0 (fast)"));
    assert_true(said(j, "better than 1 of the 3"));
    json_decref(j);
}

static char *page(const json_t *j)
{
    st_err e = {0};
    size_t n;
    const char *dir = st_test_dir();
    assert_ok(st_report_write(j, dir, &e), &e);
    char *html = st_test_read(st_test_path(dir, "report.html"), &n);
    assert_non_null(html);
    assert_int_equal(strlen(html), n);
    st_test_remove(dir);
    return html;
}

/* Of tags that must balance, as many are closed as are opened. */
static void check_balance(const char *html)
{
    static const char *const tag[] = {"table",   "thead",   "tbody",  "tr",   "figure",
                                      "details", "ul",      "dl",     "main", "body",
                                      "html",    "picture", "script", "style"};
    for (size_t t = 0; t < sizeof tag / sizeof *tag; t++) {
        char open[20], close[20];
        int opened = 0, closed = 0;
        size_t n = (size_t)snprintf(open, sizeof open, "<%s", tag[t]);
        snprintf(close, sizeof close, "</%s>", tag[t]);
        for (const char *s = html; (s = strstr(s, open)); s += n)
            opened += s[n] == '>' || s[n] == ' ';
        for (const char *s = html; (s = strstr(s, close)); s++)
            closed++;
        if (opened != closed) fail_msg("<%s>: %d opened, %d closed", tag[t], opened, closed);
    }
}

static void test_page(void **state)
{
    (void)state;
    json_t *j = results();
    char *html = page(j);
    check_balance(html);
    assert_non_null(strstr(html, "data:image/svg+xml;base64,"));
    assert_non_null(strstr(html, ">44<"));
    assert_null(strstr(html, "http://"));
    assert_null(strstr(html, "https://"));
    assert_null(strstr(html, "stopped before its end"));
    free(html);
    json_object_set_new(j, "complete", json_false());
    html = page(j);
    assert_non_null(strstr(html, "stopped before its end"));
    free(html);
    json_decref(j);
}

/* Text from models and file names is data, never markup; bytes of any kind pass through. */
static void test_hostile_text(void **state)
{
    (void)state;
    static const char evil[] = "</td><script>alert(1)</script>\"'&";
    json_t *j = results(), *row = json_array_get(json_object_get(j, "models"), 1);
    json_object_set_new(row, "sample", json_string(evil));
    json_object_set_new(row, "name", json_string(evil));
    json_object_set_new(row, "folder", json_string(evil));
    json_object_set_new(j, "prompt", json_string(evil));
    json_object_set_new(j, "machine", json_pack("{s:s}", "cpu", evil));
    char *html = page(j);
    check_balance(html);
    assert_null(strstr(html, "<script>alert"));
    assert_non_null(strstr(html, "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;"));
    free(html);
    json_decref(j);
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    st_html_text(f, "a\xff\x80z\xed\xa0\x80\xc3\xa9\x01\xf0\x9f\x98\x80\xe2\x82");
    fclose(f);
    assert_string_equal(text,
                        "a\xef\xbf\xbd\xef\xbf\xbdz\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xc3\xa9"
                        "\xef\xbf\xbd\xf0\x9f\x98\x80\xef\xbf\xbd\xef\xbf\xbd");
    free(text);
}

static void test_missing_everything(void **state)
{
    (void)state;
    st_err e = {0};
    json_t *j = json_object();
    assert_ok(st_remarks_add(j, &e), &e);
    char *html = page(j);
    check_balance(html);
    free(html);
    json_decref(j);
    j = json_pack("{s:[{},{s:n,s:s},[],i]}", "models", "name", "kind", "structured", 3);
    assert_ok(st_remarks_add(j, &e), &e);
    html = page(j);
    check_balance(html);
    free(html);
    json_decref(j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_row_numbers),
        cmocka_unit_test(test_front),
        cmocka_unit_test(test_remarks_follow_the_numbers),
        cmocka_unit_test(test_page),
        cmocka_unit_test(test_hostile_text),
        cmocka_unit_test(test_missing_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
