/* JSON files and typed fields. */
/* SPDX-License-Identifier: MIT */
#include "testing.h"
#include <math.h>

static json_t *parse(const char *text)
{
    json_t *j;
    st_err e;
    assert_ok(st_json_parse(&j, text, strlen(text), "t", &e), &e);
    return j;
}

static void test_parse(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"", "t: not valid JSON"},
        {"{", "t: not valid JSON at line 1"},
        {"{\"a\":1,\"a\":2}", "duplicate"},
        {"{}x", "end of file expected"},
        {"{} {}", "end of file expected"},
        {"{\"a\":\n tru}", "line 2"},
        {"[1e999]", "not valid JSON"},
        {"[99999999999999999999]", "too big integer"},
        {"[\"\xff\"]", "not valid JSON"},
        {"[\"\\u0000\"]", "not valid JSON"},
        {"[NaN]", "not valid JSON"},
        {"[01]", "not valid JSON"},
        {"7", "not valid JSON"},
        {"[\"a\nb\"]", "not valid JSON"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *j;
        st_err e;
        assert_st(st_json_parse(&j, bad[i].text, strlen(bad[i].text), "t", &e), ST_EFORMAT, &e);
        assert_null(j);
        assert_says(&e, bad[i].says);
    }
    size_t n = 1000000;
    char *deep = malloc(n);
    memset(deep, '[', n);
    json_t *j;
    st_err e;
    assert_st(st_json_parse(&j, deep, n, "t", &e), ST_EFORMAT, &e);
    free(deep);
}

static void test_load(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "j.json");
    json_t *j;
    st_err e;
    st_test_write(path, "{\"a\": 1}", 8);
    assert_ok(st_json_load(&j, path, 8, &e), &e);
    assert_int_equal(json_integer_value(json_object_get(j, "a")), 1);
    json_decref(j);
    assert_st(st_json_load(&j, path, 7, &e), ST_EFORMAT, &e);
    assert_says(&e, "more than 7 bytes");
    assert_null(j);
    assert_st(st_json_load(&j, st_test_path(dir, "none"), 100, &e), ST_EIO, &e);
    assert_says(&e, "No such file");
    assert_st(st_json_load(&j, dir, 100, &e), ST_EIO, &e);
    assert_st(st_json_load(&j, "/dev/zero", 1 << 20, &e), ST_EFORMAT, &e);
    /* Larger than the reader's first buffer. */
    char *big = malloc(300000);
    memset(big, ' ', 300000);
    memcpy(big, "[1,", 3);
    memcpy(big + 299998, "2]", 2);
    st_test_write(path, big, 300000);
    free(big);
    assert_ok(st_json_load(&j, path, 300000, &e), &e);
    assert_int_equal(json_array_size(j), 2);
    json_decref(j);
    st_test_remove(dir);
}

static void test_int(void **state)
{
    (void)state;
    json_t *j = parse("{\"a\": 5, \"r\": 5.0, \"n\": null, \"s\": \"5\", \"b\": true, "
                      "\"lo\": -9223372036854775808}");
    int64_t v = 99;
    st_err e;
    assert_ok(st_json_int(j, "none", 0, 9, &v, "t", &e), &e);
    assert_ok(st_json_int(j, "n", 0, 9, &v, "t", &e), &e);
    assert_int_equal(v, 99);
    assert_st(st_json_int(j, "a", 6, 9, &v, "t", &e), ST_EFORMAT, &e);
    assert_string_equal(e.msg, "t: a is 5, expected 6 to 9");
    assert_st(st_json_int(j, "a", 0, 4, &v, "t", &e), ST_EFORMAT, &e);
    static const char *const wrong[] = {"r", "s", "b"};
    for (int i = 0; i < 3; i++) {
        assert_st(st_json_int(j, wrong[i], 0, 9, &v, "t", &e), ST_EFORMAT, &e);
        assert_says(&e, "expected a whole number");
    }
    assert_int_equal(v, 99);
    assert_ok(st_json_int(j, "a", 5, 5, &v, "t", &e), &e);
    assert_int_equal(v, 5);
    assert_ok(st_json_int(j, "lo", INT64_MIN, INT64_MAX, &v, "t", &e), &e);
    assert_true(v == INT64_MIN);
    assert_ok(st_json_int(NULL, "a", 0, 9, &v, "t", &e), &e);
    json_decref(j);
    j = parse("[1]");
    assert_ok(st_json_int(j, "a", 0, 9, &v, "t", &e), &e);
    json_decref(j);
}

static void test_others(void **state)
{
    (void)state;
    json_t *j = parse("{\"i\": 5, \"r\": 0.5, \"n\": null, \"s\": \"x\", \"t\": true, "
                      "\"f\": false, \"l\": [], \"o\": {}}");
    double d = 99;
    bool b = true;
    const char *s = "old";
    st_err e;
    assert_ok(st_json_num(j, "n", 0, 1, &d, "t", &e), &e);
    assert_ok(st_json_num(j, "none", 0, 1, &d, "t", &e), &e);
    assert_true(d == 99);
    assert_st(st_json_num(j, "r", 0.6, 1, &d, "t", &e), ST_EFORMAT, &e);
    assert_says(&e, "r is 0.5, expected 0.6 to 1");
    assert_st(st_json_num(j, "r", NAN, 1, &d, "t", &e), ST_EFORMAT, &e);
    assert_st(st_json_num(j, "s", 0, 1, &d, "t", &e), ST_EFORMAT, &e);
    assert_says(&e, "s is a string, expected a number");
    assert_true(d == 99);
    assert_ok(st_json_num(j, "r", 0.5, 0.5, &d, "t", &e), &e);
    assert_true(d == 0.5);
    assert_ok(st_json_num(j, "i", 0, 9, &d, "t", &e), &e);
    assert_true(d == 5);

    assert_ok(st_json_flag(j, "n", &b, "t", &e), &e);
    assert_true(b);
    assert_ok(st_json_flag(j, "f", &b, "t", &e), &e);
    assert_false(b);
    assert_ok(st_json_flag(j, "t", &b, "t", &e), &e);
    assert_true(b);
    assert_st(st_json_flag(j, "i", &b, "t", &e), ST_EFORMAT, &e);
    assert_says(&e, "i is a whole number, expected true or false");

    assert_ok(st_json_str(j, "n", &s, "t", &e), &e);
    assert_string_equal(s, "old");
    assert_ok(st_json_str(j, "s", &s, "t", &e), &e);
    assert_string_equal(s, "x");
    assert_st(st_json_str(j, "l", &s, "t", &e), ST_EFORMAT, &e);
    assert_says(&e, "l is a list, expected a string");
    assert_st(st_json_str(j, "o", &s, "t", &e), ST_EFORMAT, &e);
    assert_says(&e, "an object");
    json_decref(j);
}

static void test_text(void **state)
{
    (void)state;
    static const struct {
        const char *text, *is;
    } row[] = {
        {"", ""},
        {"a\n\xc3\xa4\xf0\x9f\x98\x80", "a\n\xc3\xa4\xf0\x9f\x98\x80"},
        {"\xff", "\xef\xbf\xbd"},
        {"a\xff\xc3\xa4/\xfe.jpg", "a\xef\xbf\xbd\xc3\xa4/\xef\xbf\xbd.jpg"},
        {"\xc3", "\xef\xbf\xbd"},                                 /* cut short */
        {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},                 /* overlong */
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* half of a pair */
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        json_t *j = st_json_text(row[i].text);
        assert_string_equal(json_string_value(j), row[i].is);
        json_decref(j);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),  cmocka_unit_test(test_load), cmocka_unit_test(test_int),
        cmocka_unit_test(test_others), cmocka_unit_test(test_text),
    };
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
