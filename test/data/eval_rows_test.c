/* Rows of evaluation texts: the same whatever the file's line ends, mark and encoding are. */
/* SPDX-License-Identifier: MIT */
#include "data/data.h"
#include "testing.h"
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static const char plain[] = " \n = Title = \n \n One line , of text . \n\nAnother one\n";

typedef enum { LF, CRLF, CR, MARK, WIDE, PACKED, FORMS } form;

/* The text in one of these forms, in new memory. */
static char *formed(form f, size_t *n)
{
    char *out = calloc(4, sizeof plain), *to = out;
    if (f == MARK) to = stpcpy(to, "\xef\xbb\xbf");
    if (f == WIDE) to = stpcpy(to, "\xff\xfe");
    for (const char *c = plain; *c; c++) {
        if (*c == '\n' && f == CRLF) *to++ = '\r';
        *to++ = *c == '\n' && f == CR ? '\r' : *c;
        if (f == WIDE) *to++ = '\0';
    }
    *n = (size_t)(to - out);
    return out;
}

static void same_rows(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "t.txt"),
               *packed = st_test_path(dir, "t.txt.gz");
    for (int kind = ST_FORM_TEXT; kind <= ST_FORM_LINES; kind++) {
        for (int f = LF; f < FORMS; f++) {
            st_eval_rows r;
            st_err e;
            size_t n;
            char *text = formed((form)f, &n);
            st_test_write(path, text, n);
            if (f == PACKED) {
                gzFile z = gzopen(packed, "wb");
                assert_int_equal(gzwrite(z, text, (unsigned)n), n);
                assert_int_equal(gzclose(z), Z_OK);
            }
            free(text);
            assert_ok(st_eval_rows_open(&r, f == PACKED ? packed : path, (st_form)kind, &e), &e);
            assert_int_equal(r.bytes, sizeof plain - 1);
            assert_memory_equal(r.text, plain, sizeof plain - 1);
            assert_int_equal(r.rows, kind == ST_FORM_TEXT ? 1 : kind == ST_FORM_WIKITEXT ? 6 : 3);
            st_eval_rows_close(&r);
        }
    }
    st_test_remove(dir);
}

static void nothing(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "t.txt");
    static const char *const text[] = {"", "\xef\xbb\xbf"};
    for (int i = 0; i < 2; i++) {
        st_eval_rows r;
        st_err e;
        st_test_write(path, text[i], strlen(text[i]));
        assert_st(st_eval_rows_open(&r, path, ST_FORM_LINES, &e), ST_EFORMAT, &e);
        assert_says(&e, "no text in it");
    }
    st_test_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_rows), cmocka_unit_test(nothing)};
    return cmocka_run_group_tests_name("eval rows", tests, NULL, NULL);
}
