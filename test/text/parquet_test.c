/* Parquet: every file that pyarrow wrote gives its strings back, or is refused by name; cut short
 * or damaged ones give strings or an error, never more. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "testing.h"
#include "text/text.h"
#include <sys/mman.h>
#include <unistd.h>

#define FIXTURES "test/fixtures/parquet/"
enum { PQ_TEXT = 1 << 20 };

/* All values, each ended by a bar; the last status. */
static st_status pq_all(const char *path, const char *column, char *out, size_t cap, st_err *e)
{
    st_parquet *p;
    const char *text;
    size_t n, used = 0;
    int64_t done = 0;
    st_status s = st_parquet_open(&p, path, column, e);
    *out = '\0';
    if (s) return s;
    while (!(s = st_parquet_next(p, &text, &n, e)) && text && used + n + 2 < cap) {
        memcpy(out + used, text, n);
        used += n;
        out[used++] = '|';
        assert_true(st_parquet_done(p) >= done);
        done = st_parquet_done(p);
    }
    out[used] = '\0';
    assert_true(done >= 0);
    st_parquet_close(p);
    return s;
}

/* The same for the strings of cases.json, which are bytes as latin-1. */
static size_t pq_expected(const json_t *values, char *out)
{
    size_t i, used = 0;
    const json_t *v;
    json_array_foreach(values, i, v)
    {
        const uint8_t *s = (const uint8_t *)json_string_value(v);
        size_t n = json_string_length(v);
        for (size_t k = 0; k < n; k++) {
            if (s[k] >= 128) k++; /* two bytes, of which the first says only bits 6 and 7 */
            out[used++] = (char)(s[k] < 128 ? s[k] : (uint8_t)(s[k - 1] << 6 | (s[k] & 63)));
        }
        out[used++] = '|';
    }
    return used;
}

static void pq_fixtures(void **state)
{
    (void)state;
    static char got[PQ_TEXT], want[PQ_TEXT];
    st_err e = {0};
    json_t *cases;
    const json_t *c;
    size_t i, bytes;
    char *text = st_test_read(FIXTURES "cases.json", &bytes);
    assert_non_null(text);
    cases = json_loadb(text, bytes, JSON_ALLOW_NUL, NULL);
    assert_true(json_array_size(cases) > 30);
    json_array_foreach(cases, i, c)
    {
        const char *file = json_string_value(json_object_get(c, "file"));
        const char *says = json_string_value(json_object_get(c, "says"));
        char path[256];
        snprintf(path, sizeof path, FIXTURES "%s", file);
        memset(got, 1, sizeof got);
        st_status s =
            pq_all(path, json_string_value(json_object_get(c, "column")), got, sizeof got, &e);
        if (says) {
            assert_true(s == ST_EFORMAT || s == ST_EUNSUPPORTED);
            assert_says(&e, says);
            continue;
        }
        if (s) print_message("%s: %s\n", file, e.msg);
        assert_int_equal(s, ST_OK);
        size_t n = pq_expected(json_object_get(c, "values"), want);
        if (memcmp(got, want, n) != 0 || got[n]) fail_msg("%s: other strings", file);
    }
    json_decref(cases);
    free(text);
}

/* A row is a document; empty ones are left out unless they are asked for. */
static void pq_documents(void **state)
{
    (void)state;
    const char *path = FIXTURES "empty-strings.parquet", *text;
    st_err e = {0};
    size_t n;
    for (int empty = 0; empty < 2; empty++) {
        st_docs *d;
        int64_t rows = 0;
        assert_ok(st_docs_open(&d, &path, 1, &(st_docs_opts){.empty = empty}, &e), &e);
        while (st_docs_next(d, &text, &n, &e) == ST_OK && text)
            rows++;
        assert_int_equal(rows, empty ? 21 : 1);
        assert_true(st_docs_done(d) == st_docs_total(d));
        st_docs_close(d);
    }
    const char *dir = st_test_dir(), *all[2] = {path, FIXTURES "same.parquet"};
    char *copy = strdup(st_test_path(dir, "misnamed"));
    assert_ok(st_copy_file(all[1], copy, &e), &e);
    all[1] = copy;
    for (int piece = 0; piece < 2; piece++) {
        st_docs *d;
        int64_t docs = 0, bytes = 0;
        assert_ok(st_docs_open(&d, all, 2, &(st_docs_opts){.piece_bytes = 5 * piece}, &e), &e);
        while (st_docs_next(d, &text, &n, &e) == ST_OK && text) {
            bytes += (int64_t)n;
            docs += !st_docs_more(d);
        }
        assert_int_equal(docs, 1001);
        assert_int_equal(bytes, 1 + 1000 * 12);
        assert_true(st_docs_done(d) == st_docs_total(d));
        st_docs_close(d);
    }
    st_docs *d;
    assert_ok(st_docs_open(&d, all, 2, &(st_docs_opts){.max_doc_bytes = 11}, &e), &e);
    assert_ok(st_docs_next(d, &text, &n, &e), &e);
    assert_st(st_docs_next(d, &text, &n, &e), ST_EFORMAT, &e);
    assert_says(&e, "misnamed:1: a row is longer than 11 bytes");
    st_docs_close(d);
    free(copy);
    st_test_remove(dir);
}

static void pq_refuses(void **state)
{
    (void)state;
    static char out[PQ_TEXT];
    const char *dir = st_test_dir(), *path = st_test_path(dir, "a.parquet");
    st_err e = {0};
    assert_st(pq_all(path, "text", out, sizeof out, &e), ST_EIO, &e);
    assert_st(pq_all(dir, "text", out, sizeof out, &e), ST_EUNSUPPORTED, &e);
    st_test_write(path, "PAR1", 4);
    assert_st(pq_all(path, "text", out, sizeof out, &e), ST_EFORMAT, &e);
    st_test_write(path, "some other kind of file", 23);
    assert_st(pq_all(path, "text", out, sizeof out, &e), ST_EFORMAT, &e);
    assert_says(&e, "expected parquet data as its name says");
    st_test_write(path, "PAR1\xff\xff\xff\x7fPAR1", 12);
    assert_st(pq_all(path, "text", out, sizeof out, &e), ST_EFORMAT, &e);
    assert_says(&e, "a footer of");
    st_test_write(path, "PAR1\0\0\0\0PARE", 12);
    assert_st(pq_all(path, "text", out, sizeof out, &e), ST_EUNSUPPORTED, &e);
    st_test_remove(dir);
}

/* A file in memory: its path, and what it holds. */
static const char *pq_memory(int *fd)
{
    static char path[64];
    *fd = memfd_create("parquet", 0);
    assert_true(*fd >= 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", *fd);
    return path;
}

static void pq_put(int fd, const char *data, size_t n)
{
    assert_int_equal(ftruncate(fd, (off_t)n), 0);
    assert_int_equal(pwrite(fd, data, n, 0), n);
}

/* Every shorter file is an error; no strings but the true ones come before it. */
static void pq_truncated(void **state)
{
    (void)state;
    static char out[PQ_TEXT];
    static const char *const names[] = {"none-v1", "groups", "zstd-plain-v2",
                                        "delta_byte_array-v1"};
    int fd;
    const char *path = pq_memory(&fd);
    st_err e = {0};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char from[256];
        size_t n;
        snprintf(from, sizeof from, FIXTURES "%s.parquet", names[i]);
        char *data = st_test_read(from, &n);
        assert_non_null(data);
        for (size_t k = 0; k < n; k++) {
            pq_put(fd, data, k);
            st_status s = pq_all(path, "text", out, sizeof out, &e);
            if (s != ST_EFORMAT) fail_msg("%s cut to %zu bytes: status %d", names[i], k, s);
        }
        free(data);
    }
    close(fd);
}

/* Every byte changed, and pairs of bytes at random: no crash, no endless loop; checksums are looked
 * at. */
static void pq_mutated(void **state)
{
    (void)state;
    static char out[PQ_TEXT];
    static const char *const names[] = {"none-v1",
                                        "none-plain-v2",
                                        "snappy-v1",
                                        "gzip-plain-v1",
                                        "zstd-v2",
                                        "delta_byte_array-v2",
                                        "delta_length_byte_array-v1",
                                        "groups",
                                        "null"};
    int fd;
    const char *path = pq_memory(&fd);
    st_err e = {0};
    st_rng r = {.seed = 3};
    int64_t fine = 0, refused = 0, sums = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char from[256];
        size_t n;
        snprintf(from, sizeof from, FIXTURES "%s.parquet", names[i]);
        char *data = st_test_read(from, &n);
        for (size_t k = 0; k < 2 * n; k++) {
            size_t a = k % n, b = k < n ? a : (size_t)st_rng_below(&r, n);
            char was = data[a], other = data[b];
            data[a] = (char)(k % 3 == 0 ? was ^ 1 << k % 8 : k % 3 == 1 ? 0xFF : 0);
            data[b] = (char)(k < n ? data[a] : (char)st_rng_u32(&r));
            pq_put(fd, data, n);
            st_status s = pq_all(path, "text", out, sizeof out, &e);
            assert_true(s == ST_OK || s == ST_EFORMAT || s == ST_EUNSUPPORTED || s == ST_ENOMEM);
            *(s ? &refused : &fine) += 1;
            sums += s && strstr(e.msg, "another checksum");
            data[b] = other;
            data[a] = was;
        }
        free(data);
    }
    assert_true(fine > 0 && refused > 0 && sums > 1000); /* of "groups" */
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pq_fixtures), cmocka_unit_test(pq_documents), cmocka_unit_test(pq_refuses),
        cmocka_unit_test(pq_truncated), cmocka_unit_test(pq_mutated)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
