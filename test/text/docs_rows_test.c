/* Rows of text as people have them: what Python's json, csv and codecs read (test/fixtures/rows,
 * tools/fixtures_rows.py), arrays and values over many lines, marks of encodings, and what is left
 * out. */
/* SPDX-License-Identifier: MIT */
#include "rig/said.h"
#include "text/text.h"
#include <sys/stat.h>

#define ROWS "test/fixtures/rows/"

/* All documents of a path, each with a '|' behind it. */
static st_status rows_all(const char *path, const st_docs_opts *o, char *out, st_err *e)
{
    st_docs *d;
    const char *text;
    size_t n, used = 0;
    *out = '\0';
    ST_TRY(st_docs_open(&d, &path, 1, o, e));
    st_status s;
    while (!(s = st_docs_next(d, &text, &n, e)) && text) {
        memcpy(out + used, text, n);
        used += n;
        out[used++] = '|';
        out[used] = '\0';
    }
    st_docs_close(d);
    return s;
}

static char rows_out[1 << 18];

static void rows_expect(const char *path, const char *field, const char *want)
{
    st_err e;
    assert_ok(rows_all(path, &(st_docs_opts){.field = field}, rows_out, &e), &e);
    assert_string_equal(rows_out, want);
}

static void rows_refused(const char *path, bool strict, const char *says)
{
    st_err e;
    assert_st(rows_all(path, &(st_docs_opts){.strict = strict}, rows_out, &e), ST_EFORMAT, &e);
    assert_says(&e, says);
}

static const char *rows_file(const char *dir, const char *name, const char *data)
{
    const char *path = st_test_path(dir, name);
    st_test_write(path, data, strlen(data));
    return path;
}

/* ---- against Python -------------------------------------------------------------------------- */

/* The documents of `path` in hexadecimal, one a line, against the file `want`. */
static void rows_same(const char *path, const char *field, const char *want)
{
    st_docs *d;
    st_err e;
    const char *text;
    size_t n, size;
    char *expected = st_test_read(want, &size), *at = expected;
    assert_ok(st_docs_open(&d, &path, 1, &(st_docs_opts){.field = field}, &e), &e);
    for (;;) {
        assert_ok(st_docs_next(d, &text, &n, &e), &e);
        if (!text) break;
        for (size_t i = 0; i < n; i++, at += 2) {
            char hex[3];
            snprintf(hex, sizeof hex, "%02x", (unsigned char)text[i]);
            assert_memory_equal(at, hex, 2);
        }
        assert_int_equal(*at++, '\n');
    }
    st_docs_close(d);
    char says[64] = "";
    if (sscanf(at, "bad %63s", says) == 1) {
        strcat(says, " row");
        assert_non_null(strstr(said, says));
    } else {
        assert_int_equal(at - expected, size);
    }
    free(expected);
}

static void rows_python(void **state)
{
    (void)state;
    rows_same(ROWS "lines.jsonl", NULL, ROWS "lines.want");
    said[0] = '\0';
    rows_same(ROWS "table.csv", NULL, ROWS "table.want");
    rows_same(ROWS "table-crlf.csv", NULL, ROWS "table-crlf.want");
    rows_same(ROWS "nested.json", "data.paragraphs.context", ROWS "nested.want");
    assert_string_equal(said, "");
    rows_same(ROWS "columns.json", "data.text", ROWS "columns.want");
}

static void rows_wide(void **state)
{
    (void)state;
    char *want = malloc(1 << 18);
    size_t n = 0;
    for (int i = 0; i < 1100; i++)
        n += (size_t)sprintf(want + n, "UTF-16: \u00e9 \u6f22\u5b57 \U0001F600 and\nmore lines\n");
    strcpy(want + n, "\U0001F600|");
    rows_expect(ROWS "utf16le.txt", NULL, want);
    rows_expect(ROWS "utf16be.txt", NULL, want);
    rows_expect(ROWS "utf16.jsonl", NULL, "a \U0001F600|");
    free(want);
    const char *dir = st_test_dir(), *path = st_test_path(dir, "odd.txt");
    st_test_write(path,
                  "\xff\xfe"
                  "a\0\x3d\xd8"
                  "b",
                  7);
    rows_expect(path, NULL, "a\ufffd|"); /* half a character, and half of a unit */
    /* without a mark, where nothing else can be meant; and what is not read */
    path = st_test_path(dir, "bare.csv");
    st_test_write(path, "\0t\0e\0x\0t\0\n\0a\0\n\0b", 16);
    rows_expect(path, NULL, "a|b|");
    path = st_test_path(dir, "bare.txt");
    st_test_write(path, "h\0e\0l\0l\0o\0!\0", 12);
    rows_expect(path, NULL, "hello!|");
    path = st_test_path(dir, "u32.txt");
    st_test_write(path, "\xff\xfe\0\0a\0\0\0", 8);
    st_err e;
    assert_st(rows_all(path, &(st_docs_opts){0}, rows_out, &e), ST_EUNSUPPORTED, &e);
    assert_says(&e, "u32.txt: is UTF-32, expected UTF-8 or UTF-16");
    rows_expect(rows_file(dir, "RC_2005-12", "{\"body\":\"a\"}\n{\"body\":\"b\"}\n"), "body",
                "a|b|");
    rows_expect(rows_file(dir, "RC_2005-13", "{\"body\"\n"), NULL, "{\"body\"\n|");
    st_test_remove(dir);
    rows_expect(ROWS "window31.jsonl.zst", NULL, "a window of 2^31 bytes|");
}

/* ---- by hand --------------------------------------------------------------------------------- */

static void rows_marks(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    rows_expect(rows_file(dir, "a.jsonl", "\xef\xbb\xbf{\"text\":\"a\"}\n{\"text\":\"b\"}\n"), NULL,
                "a|b|");
    rows_expect(rows_file(dir, "a.txt", "\xef\xbb\xbfone \xef\xbb\xbf"), NULL, "one \xef\xbb\xbf|");
    rows_expect(rows_file(dir, "b.txt", "\xef\xbb"), NULL, "\xef\xbb|");
    rows_refused(
        rows_file(dir, "p.jsonl",
                  "version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n"),
        false, "p.jsonl: is a Git LFS pointer, not the data");
    rows_refused(rows_file(dir, "p.txt", "version https://git-lfs.github.com/spec/v1\noid x"),
                 false, "a Git LFS pointer");
    st_test_remove(dir);
}

static void rows_arrays(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    rows_expect(
        rows_file(dir, "a.json", " [ {\"text\":\"a]\"} , {\"x\":[1],\"text\":\"b\"},\"c\"] "), NULL,
        "a]|b|c|");
    rows_expect(
        rows_file(dir, "b.json", "[]\n[{\"text\":\"a\"}]\n[{\"text\":\"b\"}]\n{\"text\":\"c\"}"),
        NULL, "a|b|c|");
    rows_expect(
        rows_file(dir, "c.json", "{\n  \"text\": \"a\",\n  \"n\": [\n1]\n}\n{\n\"text\":\"b\"\n}"),
        NULL, "a|b|");
    assert_string_equal(said, "");
    rows_expect(
        rows_file(dir, "d.json", "[\n{\"text\":\"a\"},\n{\"text\":null},\n{\"text\":\"b\"}\n]"),
        NULL, "a|b|");
    assert_non_null(strstr(said, "left out: 1 row without a text (the first: "));
    assert_non_null(strstr(said, "d.json:3: \"text\" is null)"));
    rows_refused(rows_file(dir, "e.json", "[{\"text\":\"a\"},"), false, "ends within an array");
    rows_refused(rows_file(dir, "f.json", "[{\"text\":\"a\"} {\"text\":\"b\"}]"), false,
                 "no , between");
    rows_refused(rows_file(dir, "g.json", "[{\"text\":\"a\"}"), false, "ends within an array");
    /* a broken line that begins a value does not take the next ones with it */
    rows_expect(
        rows_file(dir, "h.jsonl", "{\"text\":\"a\",\n{\"text\":\"b\"}\n{\n{\"text\":\"c\"}\n"),
        NULL, "b|c|");
    rows_expect(rows_file(dir, "i.jsonl", "{\n{\"text\":\"d\"}\n}\n"), NULL, "d|");
    st_test_remove(dir);
}

/* Arrays within an object: each of their values, whatever lies around them, in pieces, too. */
static void rows_nested(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    const char *path =
        rows_file(dir, "a.json",
                  "{\"n\":[1,{\"text\":\"no\"}],\"data\":[{\"text\":\"a\",\"x\":[[]]},"
                  "{\"text\":null},{\"y\":1},3,[{\"text\":\"b\"}],{\"text\":[\"c\",\"\",2]}],"
                  "\"text\":\"no\"}\n{\"data\":{\"text\":\"d\"}}");
    rows_expect(path, "data.text", "a|b|c|d|");
    assert_non_null(strstr(said, "left out: 4 rows without a text (the first: "));
    assert_non_null(strstr(said, "a.json:1: \"data.text\" is null)"));
    said[0] = '\0';
    rows_expect(path, NULL, "no|");
    rows_refused(path, true, "a.json:2: no \"text\" in this object, which begins with \"data\"");
    /* what the first of two had is no document */
    path = rows_file(dir, "b.jsonl",
                     "{\"d\":[{\"t\":\"x\"},{}],\"d\":[{\"t\":\"y\"},{\"t\":\"z\"}]}\n"
                     "{\"d\":[]}\n{\"d\":[{\"t\":\"w\"},{\"t\":\"v\"}\n{\"d\":{\"t\":[\"u\"]}}");
    said[0] = '\0';
    rows_expect(path, "d.t", "y|z|u|");
    assert_non_null(strstr(said, "2 rows without a text (the first: "));
    assert_non_null(strstr(said, "b.jsonl:2: \"d.t\" is not a string"));
    char *want = malloc(1 << 17), *all = malloc(1 << 18);
    size_t n = (size_t)sprintf(all, "{\"data\":["), w = 0;
    for (int i = 0; i < 9000; i++) { /* beyond a buffer's end */
        n += (size_t)sprintf(all + n, "%s{\"text\":\"t%d\"}", i ? ",\n" : "", i);
        w += (size_t)sprintf(want + w, "t%d|", i);
    }
    strcpy(all + n, "]}");
    rows_expect(rows_file(dir, "c.json", all), "data.text", want);
    free(want);
    free(all);
    st_test_remove(dir);
}

static void rows_fields(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    const char *path = rows_file(dir, "a.jsonl",
                                 "{\"a\":{\"b\":\"x\",\"c\":{\"d\":\"y\"}},\"a.b\":1}\n"
                                 "{\"a\":3}\n{\"a\":{\"b\":\"z\",\"c\":{\"d\":\"w\"}}}\n");
    rows_expect(path, "a.c.d", "y|w|");
    assert_non_null(
        strstr(said, "a.jsonl:2: no \"a.c.d\" in this object, which begins with \"a\""));
    rows_expect(path, "a.b", "z|");
    path = rows_file(dir, "b.csv", "id,body\n1,x\n");
    rows_refused(path, false, "b.csv: no column \"text\"; it has: id, body; choose with --field");
    rows_expect(path, "body", "x|");
    rows_expect(rows_file(dir, "c.tsv", "text\tid\na,b\t1\n"), NULL, "a,b|");
    /* what else spreadsheets write between columns; not where a comma makes the name */
    rows_expect(rows_file(dir, "e.csv", "id;text\n1;\"a;b\"\n2;c,d\n"), NULL, "a;b|c,d|");
    rows_expect(rows_file(dir, "f.csv", "id\ttext\n1\ta\n"), NULL, "a|");
    rows_expect(rows_file(dir, "g.csv", "text,a;text\nx,y;z\n"), NULL, "x|");
    rows_refused(rows_file(dir, "h.csv", "id;body\n1;a\n"), false,
                 "h.csv: no column \"text\"; it has: id;body; choose");
    said[0] = '\0';
    rows_expect(rows_file(dir, "d.csv", "id,text\n1,a\n2\n\n3,b"), NULL, "a|b|");
    assert_non_null(strstr(said, "1 row without a text (the first: "));
    assert_non_null(strstr(said, "d.csv:3: 1 field, expected 2"));
    st_test_remove(dir);
}

/* A bad row is counted, but for all of them bad; or it ends everything. */
static void rows_strict(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    const char *path = rows_file(dir, "a.jsonl", "{\"text\":\"ok\"}\n{\"text\":null}\nx\n");
    rows_expect(path, NULL, "ok|");
    assert_non_null(strstr(said, "left out: 2 rows without a text (the first: "));
    rows_refused(path, true, "a.jsonl:2: \"text\" is null");
    rows_refused(rows_file(dir, "b.jsonl", "{\"body\":\"x\"}\n{\"body\":\"y\"}\n"), false,
                 "b.jsonl:1: no \"text\" in this object, which begins with \"body\"; choose with");
    st_test_remove(dir);
}

/* Cards, licences and code are left out of folders, unless they are named. */
static void rows_beside(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    const char *card = rows_file(dir, "README.md", "card");
    rows_expect(card, NULL, "card|");
    rows_refused(dir, false, "files that are no text (README.md)");
    assert_string_equal(said, "");
    rows_file(dir, "LICENSE", "licence");
    rows_file(dir, "load.py", "code");
    rows_file(dir, "readmes.txt", "r");
    assert_int_equal(mkdir(st_test_path(dir, "data"), 0700), 0);
    rows_file(dir, "data/train.jsonl", "{\"text\":\"a\"}\n{\"text\":1}\n");
    rows_file(dir, "data/README.md", "card");
    rows_expect(dir, NULL, "a|r|");
    assert_non_null(strstr(said, "1 row without a text (the first: "));
    assert_non_null(
        strstr(said, "4 files beside the texts (LICENSE, README.md, load.py): name them"));
    assert_null(strchr(strchr(said, '\n') + 1, '\n')); /* one remark */
    st_test_remove(dir);
    /* what else is published beside texts, and what is no text by its name */
    said[0] = '\0';
    dir = st_test_dir();
    static const char *const more[] = {"CHANGELOG.md", "AUTHORS",    "SHA256SUMS", "md5sum.txt",
                                       "x.R",          "Dockerfile", "a.pdf",      "b.docx",
                                       "c.arrow",      "d.PNG",      "e.7z",       "VERSION"};
    rows_file(dir, "authors-of-old.txt", "a");
    rows_file(dir, "changed.md", "b");
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        rows_file(dir, more[i], strstr(more[i], "docx") ? "PK\3\4" : "x");
    rows_expect(dir, NULL, "a|b|");
    assert_non_null(strstr(said, "left out: 12 files beside the texts (AUTHORS, CHANGELOG.md, "));
    st_err e;
    assert_st(rows_all(st_test_path(dir, "b.docx"), &(st_docs_opts){0}, rows_out, &e),
              ST_EUNSUPPORTED, &e);
    assert_says(&e, "b.docx: files of this kind cannot be read; expected text or JSON lines");
    st_test_remove(dir);
    /* nor what is no text at all, unless it is named, or called one */
    said[0] = '\0';
    dir = st_test_dir();
    rows_file(dir, "jokes", "text");
    const char *index = st_test_path(dir, "jokes.dat");
    st_test_write(index, "\0\0\0\2ab", 6);
    st_test_write(st_test_path(dir, "odd.txt"), "x\0", 2);
    rows_expect(dir, NULL, "text|x");
    assert_non_null(strstr(said, "1 file beside the texts (jokes.dat)"));
    said[0] = '\0';
    rows_expect(index, NULL, "");
    assert_non_null(strstr(said, "jokes.dat: has zero bytes, as no text has; it is read as it is"));
    st_test_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(rows_python, said_open),
        cmocka_unit_test_setup(rows_wide, said_open),
        cmocka_unit_test_setup(rows_marks, said_open),
        cmocka_unit_test_setup(rows_arrays, said_open),
        cmocka_unit_test_setup(rows_fields, said_open),
        cmocka_unit_test_setup(rows_strict, said_open),
        cmocka_unit_test_setup(rows_beside, said_open),
        cmocka_unit_test_setup(rows_nested, said_open),
    };
    return cmocka_run_group_tests_name("rows", tests, NULL, NULL);
}
