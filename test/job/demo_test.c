/* The demo's text: chapters and verses from what `bible` prints, and what is no such text. */
/* SPDX-License-Identifier: MIT */
#include "job/demo.h"
#include "testing.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chapters),
        cmocka_unit_test(test_other_text_is_refused),
        cmocka_unit_test(test_the_bible),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
