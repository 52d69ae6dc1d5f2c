/* CSV tables: names to fields, quotes, and what is refused. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "testing.h"

static json_t *load(const char *text, size_t n, int64_t most, st_status want, const char *says)
{
    st_err e = {0};
    json_t *rows = NULL;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "t.csv");
    st_test_write(path, text, n);
    assert_st(st_csv_load(&rows, path, 1 << 20, most, &e), want, &e);
    if (says) assert_says(&e, says);
    st_test_remove(dir);
    return rows;
}

static const char *cell(const json_t *rows, size_t i, const char *key)
{
    return json_string_value(json_object_get(json_array_get(rows, i), key));
}

static void test_fields(void **state)
{
    (void)state;
    const char *text = "a,\"b \"\"c\"\"\",d\n1,\"x,\ny\",\n \"2\" ,,\xc3\xa9\r\n";
    json_t *rows = load(text, strlen(text), 10, ST_OK, NULL);
    assert_int_equal(json_array_size(rows), 2);
    assert_string_equal(cell(rows, 0, "a"), "1");
    assert_string_equal(cell(rows, 0, "b \"c\""), "x,\ny");
    assert_string_equal(cell(rows, 0, "d"), "");
    assert_string_equal(cell(rows, 1, "d"), "\xc3\xa9");
    json_decref(rows);
    rows = load("a,b\n", 4, 10, ST_OK, NULL);
    assert_int_equal(json_array_size(rows), 0);
    json_decref(rows);
    rows = load("a\n1", 3, 1, ST_OK, NULL); /* no end of line at the end */
    assert_string_equal(cell(rows, 0, "a"), "1");
    json_decref(rows);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } bad[] = {{"", "is empty"},
               {"a,b\n1,2\n3\n", "row 3: fewer fields"},
               {"a,b\n1,2,3\n", "row 2: more fields"},
               {"a,b\n\"1,2\n", "row 2"},
               {"a,b\n\xff,2\n", "row 2: expected text in UTF-8"},
               {"a,b\n1\"x,2\n", "row 2"},
               {"a\n1\n2\n3\n", "row 4: too many rows"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_null(load(bad[i].text, strlen(bad[i].text), 2, ST_EFORMAT, bad[i].says));
    char wide[2000];
    memset(wide, ',', sizeof wide);
    assert_null(load(wide, sizeof wide, 2, ST_EFORMAT, "256 columns"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_fields),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
