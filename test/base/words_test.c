/* Number parsing, spelling suggestions, messages. */
/* SPDX-License-Identifier: MIT */
#include "testing.h"
#include <math.h>

static void test_parse_int(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t want;
    } good[] = {
        {"0", 0},
        {"7", 7},
        {"-7", -7},
        {"+7", 7},
        {"007", 7},
        {"1_000", 1000},
        {"1_000_000", 1000000},
        {"-1_0", -10},
        {"9223372036854775807", INT64_MAX},
        {"9_223_372_036_854_775_807", INT64_MAX},
        {"-9223372036854775808", INT64_MIN},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        int64_t v = 99;
        assert_true(st_parse_int(good[i].text, &v));
        assert_true(v == good[i].want);
    }
    static const char *const bad[] = {
        "",
        " ",
        "-",
        "+",
        "x",
        " 7",
        "7 ",
        "7\n",
        "\t7",
        "7x",
        "0x10",
        "1e3",
        "1.0",
        "1.",
        "--7",
        "+-7",
        "64k",
        "2M",
        "_1",
        "1_",
        "1__0",
        "-_1",
        "_",
        "9223372036854775808",
        "-9223372036854775809",
        "99999999999999999999999999999999999999999999",
        "1 000",
        "1,000",
        "\xd9\xa1",
        "7\xc2\xa0",
        "nan",
        "true",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int64_t v = 99;
        if (st_parse_int(bad[i], &v)) print_error("accepted '%s'\n", bad[i]);
        assert_false(st_parse_int(bad[i], &v));
        assert_int_equal(v, 99);
    }
}

static void test_parse_num(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double want;
    } good[] = {
        {"0", 0},        {"1e-3", 1e-3},
        {"6E-4", 6e-4},  {"-.5", -.5},
        {"5.", 5},       {"1_000.5", 1000.5},
        {"+2", 2},       {"1e308", 1e308},
        {"1e-400", 0},   {"5e-324", 5e-324},
        {"0.1", 0.1},    {"3.141592653589793238462643383279", 3.141592653589793238462643383279},
        {"1e1_0", 1e10},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        double v = 99;
        assert_true(st_parse_num(good[i].text, &v));
        assert_true(v == good[i].want);
    }
    static const char *const bad[] = {
        "",      ".",    "-",   "e",    "e5",   "1e",     "1e+",      " 1",    "1 ",     "1x",
        "0x1p3", "0X10", "inf", "-inf", "nan",  "NAN(1)", "infinity", "1e309", "-1e999", "1,5",
        "1.5.2", "_1",   "1_",  "1_.5", "1._5", "1__0",   "1e_5",     "64k",   "1f",     "1d0",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        double v = 99;
        if (st_parse_num(bad[i], &v)) print_error("accepted '%s'\n", bad[i]);
        assert_false(st_parse_num(bad[i], &v));
        assert_true(v == 99);
    }
}

static void test_nearest(void **state)
{
    (void)state;
    static const char *const keys[] = {"train.lr", "train.steps", "model", "data", "lr", NULL};
    assert_string_equal(st_nearest("train.lr", keys), "train.lr");
    assert_string_equal(st_nearest("trian.lr", keys), "train.lr"); /* one transposition */
    assert_string_equal(st_nearest("train.step", keys), "train.steps");
    assert_string_equal(st_nearest("modle", keys), "model");
    assert_string_equal(st_nearest("dtaa", keys), "data");
    assert_string_equal(st_nearest("ln", keys), "lr");
    assert_null(st_nearest("quantisation", keys));
    static const char *const none[] = {NULL};
    assert_null(st_nearest("x", none));
    /* A transposition costs 1, as do insertion, deletion and replacement; 3 of 5 letters do not
     * suggest a word. */
    static const char *const word[] = {"abcde", NULL};
    assert_non_null(st_nearest("abdce", word));
    assert_non_null(st_nearest("badce", word));
    assert_null(st_nearest("xyzde", word));
    /* The nearer one wins, the first of equals. */
    static const char *const two[] = {"monarch", "monarchs", "monarck", NULL};
    assert_string_equal(st_nearest("monarchs", two), "monarchs");
    assert_string_equal(st_nearest("monarcx", two), "monarch");
    /* Long words: equal or not at all, without touching memory beyond the table. */
    char a[400], b[400];
    memset(a, 'a', sizeof a);
    memset(b, 'a', sizeof b);
    a[399] = b[399] = '\0';
    const char *list[] = {b, NULL};
    assert_ptr_equal(st_nearest(a, list), b);
    a[0] = 'b';
    assert_null(st_nearest(a, list));
    assert_null(st_nearest("", word));
    for (size_t n = 60; n < 70; n++) {
        a[0] = 'c';
        a[n] = b[n] = '\0';
        const char *near = st_nearest(a, list);
        assert_true(near == NULL || near == b);
        a[n] = b[n] = 'a';
    }
}

static void test_messages(void **state)
{
    (void)state;
    st_err e = {0};
    assert_int_equal(st_fail(&e, ST_EARG, "f.c", 12, "h.%d: %s", 3, "bad"), ST_EARG);
    assert_int_equal(e.code, ST_EARG);
    assert_int_equal(e.line, 12);
    assert_string_equal(e.file, "f.c");
    assert_string_equal(e.msg, "h.3: bad");
    st_err_prefix(&e, "model %s", "x");
    assert_string_equal(e.msg, "model x: h.3: bad");
    assert_int_equal(st_fail(NULL, ST_EIO, "f.c", 1, "x"), ST_EIO);
    st_err_prefix(NULL, "x");
    /* A name may not move the cursor, colour the terminal or start a line. */
    st_fail(&e, ST_EARG, "f.c", 1, "%s",
            "a\x1b[31mb\r\n\t\x7f\xc2\x9b"
            "c\xc3\xa9");
    assert_string_equal(e.msg, "a?[31mb??????c\xc3\xa9");
    /* Cut at the buffer's end, never inside a character. */
    char text[2000];
    for (size_t shift = 0; shift < 4; shift++) {
        for (int width = 2; width <= 4; width++) {
            static const char *const unit[] = {NULL, NULL, "\xc3\xa9", "\xe4\xb8\xad",
                                               "\xf0\x9f\x98\x80"};
            memset(text, 'a', shift);
            text[shift] = '\0';
            while (strlen(text) + 5 < sizeof text)
                strcat(text, unit[width]);
            st_fail(&e, ST_EARG, "f.c", 1, "%s", text);
            size_t n = strlen(e.msg);
            assert_in_range(n, sizeof e.msg - 4, sizeof e.msg - 1);
            assert_int_equal((n - shift) % (size_t)width, 0);
            st_err_prefix(&e, "p");
            assert_int_equal(strncmp(e.msg, "p: ", 3), 0);
            assert_true(strlen(e.msg) < sizeof e.msg);
        }
    }
    memset(text, 'p', sizeof text);
    text[sizeof text - 1] = '\0';
    st_err_prefix(&e, "%s", text);
    assert_int_equal(strlen(e.msg), sizeof e.msg - 1);
}

struct heard {
    int logs, reports;
    st_log_level level;
    char text[64];
};

static void hear_log(void *ctx, st_log_level level, const char *text)
{
    struct heard *h = ctx;
    h->logs++;
    h->level = level;
    snprintf(h->text, sizeof h->text, "%s", text);
}

static void hear_progress(void *ctx, const st_progress *p)
{
    struct heard *h = ctx;
    h->reports += (int)p->done;
}

static void test_sink(void **state)
{
    (void)state;
    struct heard h = {0};
    st_log(ST_LOG_WARN, "nobody listens");
    st_report(&(st_progress){.done = 1});
    st_sink_set(&(st_sink){.log = hear_log, .progress = hear_progress, .ctx = &h});
    st_log(ST_LOG_WARN, "%d%%", 5);
    st_report(&(st_progress){.done = 3});
    assert_int_equal(h.logs, 1);
    assert_int_equal(h.level, ST_LOG_WARN);
    assert_string_equal(h.text, "5%");
    assert_int_equal(h.reports, 3);
    st_sink_set(NULL);
    st_log(ST_LOG_INFO, "silence again");
    assert_int_equal(h.logs, 1);
    double a = st_now(), b = st_now();
    assert_true(b >= a);
    assert_false(st_interrupted());
    st_interrupt();
    assert_true(st_interrupted());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_int), cmocka_unit_test(test_parse_num),
        cmocka_unit_test(test_nearest),   cmocka_unit_test(test_messages),
        cmocka_unit_test(test_sink),
    };
    return cmocka_run_group_tests_name("words", tests, NULL, NULL);
}
