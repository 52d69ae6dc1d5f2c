/* Documents from files, folders and archives: all of them, in order, byte for byte, or an error
 * that names the file. */
/* Long: every container holds the same documents, made by the same helpers. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "testing.h"
#include "text/text.h"
#include <archive.h>
#include <archive_entry.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- making packed files --------------------------------------------------------------------- */

typedef struct {
    const char *name, *data;
    size_t n;
} text_member;

/* Writes an archive; format 0: a bare compressed stream of the first member. */
static size_t text_pack(char *out, size_t cap, int format, int filter, const text_member *m, int n)
{
    struct archive *a = archive_write_new();
    size_t used = 0;
    archive_write_add_filter(a, filter);
    archive_write_set_format(a, format ? format : ARCHIVE_FORMAT_RAW);
    archive_write_set_bytes_in_last_block(a, 1);
    assert_int_equal(archive_write_open_memory(a, out, cap, &used), ARCHIVE_OK);
    for (int i = 0; i < n; i++) {
        struct archive_entry *entry = archive_entry_new();
        archive_entry_set_pathname(entry, m[i].name);
        archive_entry_set_filetype(entry, m[i].data ? AE_IFREG : AE_IFDIR);
        archive_entry_set_perm(entry, 0644);
        archive_entry_set_size(entry, (la_int64_t)m[i].n);
        assert_int_equal(archive_write_header(a, entry), ARCHIVE_OK);
        assert_int_equal(archive_write_data(a, m[i].data, m[i].n), (la_ssize_t)m[i].n);
        archive_entry_free(entry);
    }
    assert_int_equal(archive_write_close(a), ARCHIVE_OK);
    archive_write_free(a);
    return used;
}

/* Reads all documents of one path into `out`, each with a '|' behind it; returns the last status.
 */
static st_status text_all(const char *path, const st_docs_opts *o, char *out, st_err *e)
{
    st_docs *d;
    const char *text;
    size_t n, used = 0;
    *out = '\0';
    ST_TRY(st_docs_open(&d, &path, 1, o, e));
    st_status s;
    while (!(s = st_docs_next(d, &text, &n, e)) && text) {
        assert_true(n > 0);
        memcpy(out + used, text, n);
        used += n;
        if (!st_docs_more(d)) out[used++] = '|';
        out[used] = '\0';
    }
    if (!s) assert_true(st_docs_done(d) == st_docs_total(d));
    st_docs_close(d);
    return s;
}

static void text_expect(const char *path, const char *want)
{
    static char out[1 << 16];
    st_err e = {0};
    assert_ok(text_all(path, NULL, out, &e), &e);
    assert_string_equal(out, want);
}

static void text_refused(const char *path, st_status code, const char *says)
{
    static char out[1 << 16];
    st_err e = {0};
    assert_st(text_all(path, &(st_docs_opts){.strict = true}, out, &e), code, &e);
    assert_says(&e, says);
}

static const char *text_file(const char *dir, const char *name, const char *data, size_t n)
{
    const char *path = st_test_path(dir, name);
    st_test_write(path, data, n);
    return path;
}

#define PUT(dir, name, text) text_file(dir, name, text, sizeof(text) - 1)

/* ---- plain files and folders ----------------------------------------------------------------- */

static void text_plain(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    text_expect(PUT(dir, "a.txt", "one\r\ntwo \n"), "one\r\ntwo \n|");
    text_expect(PUT(dir, "b", "\xfe\xfd no UTF-8 \x80"), "\xfe\xfd no UTF-8 \x80|");
    text_expect(PUT(dir, "empty.txt", ""), "");
    text_expect(PUT(dir, "short", "B"), "B|");
    text_expect(PUT(dir, "bz.txt", "BZh9 is not bzip2"), "BZh9 is not bzip2|");
    text_refused(st_test_path(dir, "none.txt"), ST_EIO, "none.txt");
    text_refused(PUT(dir, "x.gz", "not gzip"), ST_EFORMAT, "expected gz data");
    text_refused(PUT(dir, "y.xz", ""), ST_EFORMAT, "is empty");
    text_refused(PUT(dir, "z.tar", "short"), ST_EFORMAT, "expected tar data");
    text_refused(PUT(dir, "w.parquet", "PAR1"), ST_EFORMAT, "w.parquet");
    char junk[2048];
    memset(junk, 'x', sizeof junk);
    text_refused(text_file(dir, "v.tar", junk, sizeof junk), ST_EFORMAT, "v.tar");
    st_test_remove(dir);
}

/* Sorted by name at every level, hidden files left out, links that lead back not followed. */
static void text_folders(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    st_err e = {0};
    assert_ok(st_make_dirs(st_test_path(dir, "b/deep"), &e), &e);
    assert_ok(st_make_dirs(st_test_path(dir, "empty"), &e), &e);
    assert_ok(st_make_dirs(st_test_path(dir, ".git"), &e), &e);
    PUT(dir, "c.txt", "3");
    PUT(dir, "a.txt", "1");
    PUT(dir, "B.txt", "0");
    PUT(dir, "b/deep/y", "2b");
    PUT(dir, "b/a.jsonl", "{\"text\":\"2a\"}\n");
    PUT(dir, ".hidden", "no");
    PUT(dir, ".git/x", "no");
    assert_int_equal(symlink("..", st_test_path(dir, "b/up")), 0);
    assert_int_equal(symlink(".", st_test_path(dir, "self")), 0);
    assert_int_equal(symlink("a.txt", st_test_path(dir, "d")), 0);
    assert_int_equal(mkfifo(st_test_path(dir, "pipe"), 0600), 0);
    text_expect(dir, "0|1|2a|2b|3|1|");
    assert_int_equal(symlink("nowhere", st_test_path(dir, "z")), 0);
    text_refused(dir, ST_EIO, "/z: ");
    st_test_remove(dir);
}

static void text_several(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    st_err e = {0};
    st_docs *d;
    const char *text;
    size_t n;
    char got[64] = "";
    char *paths[2] = {strdup(PUT(dir, "z.txt", "first")), strdup(PUT(dir, "a.txt", "second"))};
    assert_ok(st_docs_open(&d, (const char *const *)paths, 2, NULL, &e), &e);
    free(paths[0]); /* the caller's array need not outlive the call */
    free(paths[1]);
    assert_int_equal(st_docs_total(d), 11);
    while (st_docs_next(d, &text, &n, &e) == ST_OK && text)
        strncat(got, text, n);
    assert_string_equal(got, "firstsecond");
    assert_ok(st_docs_next(d, &text, &n, &e), &e); /* the end stays the end */
    assert_null(text);
    st_docs_close(d);
    st_docs_close(NULL);
    st_test_remove(dir);
}

/* ---- JSON lines ------------------------------------------------------------------------------ */

static void text_lines(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    st_err e = {0};
    char out[256];
    text_expect(PUT(dir, "a.jsonl",
                    "{\"text\":\"a\"}\n\n  \r\n{\"id\":1,\"text\":\"b\\n\\u00e9\"}\r\n"
                    "{\"text\":\"\"}\n{\"text\":\"no newline\"}"),
                "a|b\n\xc3\xa9|no newline|");
    const char *path = PUT(dir, "b.jsonl", "{\"body\":\"x\\u0000y\"}\n");
    assert_ok(text_all(path, &(st_docs_opts){.field = "body"}, out, &e), &e);
    assert_memory_equal(out, "x\0y|", 5);
    text_refused(path, ST_EFORMAT, "b.jsonl:1: no \"text\"");
    text_refused(PUT(dir, "c.jsonl", "{\"text\":\"a\"}\n{\"text\":7}\n"), ST_EFORMAT,
                 "c.jsonl:2: \"text\" is not a string");
    text_refused(PUT(dir, "d.jsonl", "{\"text\":\"a\"}\n\n{\"text\":\"b\"\n"), ST_EFORMAT,
                 "d.jsonl:3: not valid JSON");
    text_refused(PUT(dir, "e.jsonl", "1\n"), ST_EFORMAT, "e.jsonl:1: not an object");
    text_refused(PUT(dir, "f.jsonl", "{\"text\":\"\xff\"}\n"), ST_EFORMAT, "f.jsonl:1: ");
    st_test_remove(dir);
}

/* Deep nesting in a line must not overflow the stack. */
static void text_deep_json(void **state)
{
    (void)state;
    enum { N = 1 << 20 };
    const char *dir = st_test_dir();
    char *deep = malloc(N);
    memset(deep, '[', N);
    text_refused(text_file(dir, "deep.jsonl", deep, N), ST_EFORMAT, "deep.jsonl:1: ");
    free(deep);
    st_test_remove(dir);
}

/* ---- archives -------------------------------------------------------------------------------- */

static const int text_filters[] = {ARCHIVE_FILTER_NONE, ARCHIVE_FILTER_GZIP, ARCHIVE_FILTER_BZIP2,
                                   ARCHIVE_FILTER_XZ, ARCHIVE_FILTER_ZSTD};
static const char *const text_suffix[] = {"", ".gz", ".bz2", ".xz", ".zst"};
enum { FILTERS = 5, PACKED = 1 << 16 };
static const text_member text_members[] = {
    {"d/", NULL, 0},
    {"d/2.txt", "two", 3},
    {"d/1.jsonl", "{\"text\":\"x\"}\n{\"text\":\"y\"}\n", 26},
    {"d/.hid", "no", 2},
    {"empty", "", 0},
    {"last", "end\n", 4}};

static void text_compressed(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    char data[PACKED], name[64];
    for (int f = 1; f < FILTERS; f++) {
        size_t n = text_pack(data, sizeof data, 0, text_filters[f],
                             &(text_member){"x", "some text\n", 10}, 1);
        snprintf(name, sizeof name, "a.txt%s", text_suffix[f]);
        text_expect(text_file(dir, name, data, n), "some text\n|");
        text_expect(text_file(dir, "misnamed.txt", data, n), "some text\n|");
        n = text_pack(data, sizeof data, 0, text_filters[f], &text_members[2], 1);
        snprintf(name, sizeof name, "a.jsonl%s", text_suffix[f]);
        text_expect(text_file(dir, name, data, n), "x|y|");
        n = text_pack(data, sizeof data, 0, text_filters[f], &(text_member){"x", "", 0}, 1);
        snprintf(name, sizeof name, "nothing%s", text_suffix[f]);
        text_expect(text_file(dir, name, data, n), "");
    }
    st_test_remove(dir);
}

static void text_archives(void **state)
{
    (void)state;
    static const int formats[] = {ARCHIVE_FORMAT_TAR_USTAR, ARCHIVE_FORMAT_TAR_PAX_RESTRICTED,
                                  ARCHIVE_FORMAT_TAR_GNUTAR, ARCHIVE_FORMAT_ZIP,
                                  ARCHIVE_FORMAT_TAR}; /* the last: pax with headers */
    const char *dir = st_test_dir();
    char data[PACKED], name[64];
    for (int k = 0; k < 5; k++) {
        for (int f = 0; f < FILTERS; f++) {
            size_t n = text_pack(data, sizeof data, formats[k], text_filters[f], text_members, 6);
            snprintf(name, sizeof name, "a.%s%s", k == 3 ? "zip" : "tar", text_suffix[f]);
            text_expect(text_file(dir, name, data, n), "two|x|y|end\n|");
        }
    }
    st_test_remove(dir);
}

/* As OpenWebText comes: a tar.xz of .xz that are tars of texts; and a zip in a tar in a gz. */
static void text_nested(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    static char inner[PACKED], zip[PACKED], outer[PACKED];
    size_t n = text_pack(inner, sizeof inner, ARCHIVE_FORMAT_TAR_USTAR, ARCHIVE_FILTER_XZ,
                         text_members, 6);
    size_t z = text_pack(zip, sizeof zip, ARCHIVE_FORMAT_ZIP, ARCHIVE_FILTER_NONE, text_members, 6);
    const text_member both[] = {{"o/subset0_data.xz", inner, n},
                                {"o/a.txt", "A", 1},
                                {"o/b.zip", zip, z},
                                {"o/subset1_data.xz", inner, n}};
    size_t k = text_pack(outer, sizeof outer, ARCHIVE_FORMAT_TAR_USTAR, ARCHIVE_FILTER_XZ, both, 4);
    text_expect(text_file(dir, "owt.tar.xz", outer, k),
                "two|x|y|end\n|A|two|x|y|end\n|two|x|y|end\n|");
    st_test_remove(dir);
}

/* Archives in archives without end, and streams that unpack without end. */
static void text_bombs(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    static char a[1 << 20], b[1 << 20];
    size_t n = 1;
    *a = 'x';
    for (int i = 0; i < 18; i++) {
        n = text_pack(b, sizeof b, ARCHIVE_FORMAT_TAR_USTAR, ARCHIVE_FILTER_NONE,
                      &(text_member){i ? "in.tar" : "x", a, n}, 1);
        memcpy(a, b, n);
        if (i == 14) text_expect(text_file(dir, "fine.tar", a, n), "x|");
    }
    text_refused(text_file(dir, "deep.tar", a, n), ST_EFORMAT, "archives inside each other");
    st_err e = {0};
    char *zeros = calloc(64, 1 << 20), out[16];
    n = text_pack(a, sizeof a, 0, ARCHIVE_FILTER_GZIP, &(text_member){"x", zeros, 64u << 20}, 1);
    free(zeros);
    const char *path = text_file(dir, "zeros.txt.gz", a, n);
    assert_st(text_all(path, &(st_docs_opts){.max_doc_bytes = 1 << 20}, out, &e), ST_EFORMAT, &e);
    assert_says(&e, "zeros.txt");
    assert_says(&e, "longer than 1048576 bytes");
    st_docs_opts pieces = {.max_doc_bytes = 1 << 20, .piece_bytes = 4096};
    assert_st(text_all(path, &pieces, out, &e), ST_EFORMAT, &e);
    assert_says(&e, "without a word boundary");
    path = text_file(dir, "zeros.jsonl.gz", a, n);
    assert_st(text_all(path, &pieces, out, &e), ST_EFORMAT, &e);
    assert_says(&e, "a line is longer");
    st_test_remove(dir);
}

/* Cut off anywhere, a compressed file or archive is an error, not a shorter text. */
static void text_truncated(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    static char data[PACKED], body[6000], out[PACKED];
    st_rng r = {.seed = 3};
    st_err e = {0};
    for (size_t i = 0; i < sizeof body; i++)
        body[i] = (char)('a' + st_rng_below(&r, 26));
    for (int f = 0; f < FILTERS; f++) {
        for (int tar = f == 0; tar < 3; tar++) {
            static const int format[] = {0, ARCHIVE_FORMAT_TAR_USTAR, ARCHIVE_FORMAT_ZIP};
            static const char *const base[] = {"t.txt", "t.tar", "t.zip"};
            size_t n = text_pack(data, sizeof data, format[tar], text_filters[f],
                                 &(text_member){"m.txt", body, sizeof body}, 1);
            char name[32];
            snprintf(name, sizeof name, "%s%s", base[tar], text_suffix[f]);
            /* tar's end is two empty blocks: without them it is still whole */
            size_t whole = tar == 1 && f == 0 ? 512 + 6144 : n;
            for (size_t cut = 0; cut < whole; cut += 1 + cut / 7) {
                const char *path = text_file(dir, name, data, cut);
                st_status s = text_all(path, NULL, out, &e);
                if (s != ST_EFORMAT) fail_msg("%s cut at %zu of %zu: %d", name, cut, n, s);
                assert_says(&e, "/t.");
            }
        }
    }
    st_test_remove(dir);
}

/* ---- pieces ---------------------------------------------------------------------------------- */

/* Tokens of the pieces are the tokens of the whole, wherever they are cut. */
static void text_pieces_of(const char *path, const char *text, size_t n, int64_t piece)
{
    st_err e = {0};
    st_bpe *b;
    st_docs *d;
    st_ids whole = {0}, parts = {0};
    const char *part;
    size_t k, at = 0;
    st_bpe_trainer *t; /* a tokenizer that has tokens for what is in the text */
    assert_ok(st_bpe_trainer_open(&t, &e), &e);
    assert_ok(st_bpe_trainer_feed(t, text, n, &e), &e);
    assert_ok(st_bpe_trainer_finish(t, 1000, 2, &b, &e), &e);
    st_bpe_trainer_close(t);
    assert_ok(st_bpe_encode(b, text, n, &whole, &e), &e);
    assert_ok(st_docs_open(&d, &path, 1, &(st_docs_opts){.piece_bytes = piece}, &e), &e);
    do {
        assert_ok(st_docs_next(d, &part, &k, &e), &e);
        assert_non_null(part);
        assert_true(at + k <= n);
        assert_memory_equal(part, text + at, k);
        at += k;
        assert_ok(st_bpe_encode(b, part, k, &parts, &e), &e);
    } while (st_docs_more(d));
    assert_int_equal(at, n);
    assert_int_equal(parts.n, whole.n);
    assert_memory_equal(parts.id, whole.id, (size_t)whole.n * sizeof *whole.id);
    assert_ok(st_docs_next(d, &part, &k, &e), &e);
    assert_null(part);
    st_docs_close(d);
    st_ids_free(&whole);
    st_ids_free(&parts);
    st_bpe_close(b);
}

static void text_pieces(void **state)
{
    (void)state;
    static const char *const bit[] = {"a",           "the",
                                      " ",           "  ",
                                      "\n",          "'s",
                                      "'",           "\xe3\x80\x80",
                                      "7",           "\xf0\x9f\x98\x80",
                                      "\xff",        "\xe9",
                                      "!",           "\xc2\xa0",
                                      "\xe6\x97\xa5"};
    const char *dir = st_test_dir();
    static char text[400000];
    for (int seed = 0; seed < 6; seed++) {
        st_rng r = {.seed = (uint64_t)seed};
        size_t n = 0;
        while (n + 8 < sizeof text) { /* odd seeds: no ASCII white space, the slow way */
            uint64_t k = st_rng_below(&r, 15);
            if (seed % 2 && k >= 2 && k <= 4) continue;
            n += (size_t)sprintf(text + n, "%s", bit[k]);
        }
        const char *path = text_file(dir, "p.txt", text, n);
        text_pieces_of(path, text, n, 1);
        text_pieces_of(path, text, n, 70000);
        text_pieces_of(path, text, n, (int64_t)n + 1);
    }
    st_test_remove(dir);
}

/* Small pieces of one JSON text: thousands of cuts, at every kind of place. */
static void text_json_pieces(void **state)
{
    (void)state;
    static const char *const bit[] = {"a",
                                      "the",
                                      " ",
                                      "  ",
                                      "   ",
                                      "\n",
                                      "\n\n\n",
                                      "'s",
                                      "'re",
                                      "7",
                                      "\xe3\x80\x80",
                                      "\xc2\xa0",
                                      "\xf0\x9f\x98\x80",
                                      "!",
                                      "\xc3\xa9"};
    const char *dir = st_test_dir();
    static char text[100000];
    for (int seed = 0; seed < 4; seed++) {
        st_rng r = {.seed = (uint64_t)seed};
        size_t n = 0;
        while (n + 8 < sizeof text)
            n += (size_t)sprintf(text + n, "%s", bit[st_rng_below(&r, seed % 2 ? 15 : 8)]);
        json_t *row = json_pack("{s:s%}", "text", text, n);
        char *line = json_dumps(row, 0);
        text_pieces_of(text_file(dir, "p.jsonl", line, strlen(line)), text, n, 37);
        free(line);
        json_decref(row);
    }
    st_test_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_plain),     cmocka_unit_test(text_folders),
        cmocka_unit_test(text_several),   cmocka_unit_test(text_lines),
        cmocka_unit_test(text_deep_json), cmocka_unit_test(text_compressed),
        cmocka_unit_test(text_archives),  cmocka_unit_test(text_nested),
        cmocka_unit_test(text_bombs),     cmocka_unit_test(text_truncated),
        cmocka_unit_test(text_pieces),    cmocka_unit_test(text_json_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
