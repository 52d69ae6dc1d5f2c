/* safetensors: the reference implementation's files (test/fixtures/io, tools/fixtures_io.py), round
 * trips, every truncation, every flipped bit of a header, hostile headers, files that change. */
/* Long: one format under everything that can break it. */
/* SPDX-License-Identifier: MIT */
#include "testing.h"
#include "weights/weights.h"
#include <sys/stat.h>
#include <unistd.h>

/* Element i of tensor k of the fixtures. */
static int64_t whole(int64_t k, int64_t i)
{
    return (i * 37 + k * 11) % 101;
}

static float real(int64_t k, int64_t i)
{
    return (float)(whole(k, i) - 50) / 8;
}

static void test_reference_file(void **state)
{
    (void)state;
    static const struct {
        const char *name, *dtype;
        int ndim;
        int64_t dim[5];
    } want[] = {
        {"f64", "F64", 2, {3, 2}},   {"f32", "F32", 3, {2, 3, 4}},
        {"f16", "F16", 1, {5}},      {"bf16", "BF16", 1, {7}},
        {"i64", "I64", 1, {2}},      {"i32", "I32", 2, {2, 2}},
        {"u16", "U16", 1, {3}},      {"u8", "U8", 5, {3, 1, 1, 1, 2}},
        {"bool", "BOOL", 1, {5}},    {"scalar", "F32", 0, {0}},
        {"empty", "F32", 2, {0, 4}}, {"\xc3\xa9\xe4\xb8\xad \"\\/\t", "F32", 1, {1}},
    };
    const int n = sizeof want / sizeof *want;
    st_weights *f;
    st_err e;
    assert_ok(st_weights_open(&f, "test/fixtures/io/every.safetensors", &e), &e);
    assert_int_equal(st_weights_count(f), n);
    assert_string_equal(st_weights_meta(f, "format"), "pt");
    assert_string_equal(st_weights_meta(f, "na\xc3\xafve"), "caf\xc3\xa9 \"quoted\"\n");
    assert_null(st_weights_meta(f, "none"));
    assert_null(st_weights_find(f, "none"));
    for (int64_t k = 0; k < n; k++) {
        const st_stored *t = st_weights_find(f, want[k].name);
        assert_non_null(t);
        assert_string_equal(t->name, want[k].name);
        assert_string_equal(t->dtype, want[k].dtype);
        assert_int_equal(t->ndim, want[k].ndim);
        int64_t count = 1;
        for (int d = 0; d < t->ndim; d++) {
            assert_int_equal(t->dim[d], want[k].dim[d]);
            count *= t->dim[d];
        }
        float value[32];
        st_status s = st_stored_read(t, st_view1(value, ST_F32, count), &e);
        if (strchr(t->dtype, 'F')) {
            assert_ok(s, &e);
            for (int64_t i = 0; i < count; i++)
                assert_true(value[i] == real(k, i));
        } else {
            assert_st(s, ST_EFORMAT, &e);
            assert_says(&e, t->dtype);
        }
        assert_st(st_stored_read(t, st_view1(value, ST_F32, count + 1), &e), ST_ESHAPE, &e);
    }
    int32_t i32[4];
    assert_ok(st_stored_read(st_weights_find(f, "i32"), st_view1(i32, ST_I32, 4), &e), &e);
    for (int64_t i = 0; i < 4; i++)
        assert_int_equal(i32[i], whole(5, i));
    st_weights_close(f);
}

/* Fills item i of a list as the fixtures do; `ctx` is the list. */
static st_status fill_item(void *ctx, int64_t k, void *data, size_t bytes, st_err *e)
{
    (void)e;
    const st_store_item *it = (const st_store_item *)ctx + k;
    int64_t n = (int64_t)(bytes / st_dtype_size(it->dtype));
    for (int64_t i = 0; i < n; i++) {
        float r = real(k, i);
        switch (it->dtype) {
        case ST_F32: ((float *)data)[i] = r; break;
        case ST_BF16: ((uint16_t *)data)[i] = st_f32_to_bf16(r); break;
        case ST_F16: ((uint16_t *)data)[i] = st_f32_to_f16(r); break;
        case ST_I32: ((int32_t *)data)[i] = (int32_t)whole(k, i); break;
        case ST_U16: ((uint16_t *)data)[i] = (uint16_t)whole(k, i); break;
        case ST_U8: ((uint8_t *)data)[i] = (uint8_t)whole(k, i); break;
        default: fail_msg("no numbers of %s here", st_dtype_name(it->dtype));
        }
    }
    return ST_OK;
}

static st_store_item layout[] = {
    {"b.u8", ST_U8, {3}, 1},    {"wte.weight", ST_F32, {5, 4}, 2}, {"a.u16", ST_U16, {2, 3}, 2},
    {"h.0.x", ST_BF16, {3}, 1}, {"h.1.y", ST_F16, {1, 3}, 2},      {"ids", ST_I32, {2}, 1},
    {"h.10.z", ST_F32, {2}, 1}, {"h.2.z", ST_F32, {1}, 1},         {"scalar", ST_F32, {0}, 0},
    {"none", ST_F32, {0}, 1},
};
enum { LAYOUT = sizeof layout / sizeof *layout };

/* Our bytes are those of the reference implementation for the same tensors. */
static void test_writer_is_reference(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "x.safetensors");
    st_err e;
    assert_ok(st_safetensors_write(path, layout, LAYOUT, NULL, fill_item, layout, &e), &e);
    assert_same_files(path, "test/fixtures/io/layout.safetensors");
    st_test_remove(dir);
}

static void test_round_trip(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "x.safetensors");
    st_err e;
    json_t *meta = json_pack("{s:s, s:s}", "spec", "monarch:blocks=4", "format", "other");
    assert_ok(st_safetensors_write(path, layout, LAYOUT, meta, fill_item, layout, &e), &e);
    json_decref(meta);
    st_weights *f;
    assert_ok(st_weights_open(&f, path, &e), &e);
    assert_string_equal(st_weights_meta(f, "format"), "pt");
    assert_string_equal(st_weights_meta(f, "spec"), "monarch:blocks=4");
    for (int64_t k = 0; k < LAYOUT; k++) {
        const st_stored *t = st_weights_find(f, layout[k].name);
        assert_non_null(t);
        unsigned char got[128], want[128];
        int64_t count = (int64_t)(t->bytes / st_dtype_size(layout[k].dtype));
        assert_ok(st_stored_read(t, st_view1(got, layout[k].dtype, count), &e), &e);
        fill_item(layout, k, want, t->bytes, NULL);
        assert_memory_equal(got, want, t->bytes);
        if (layout[k].dtype > ST_F16) continue;
        float wide[32];
        assert_ok(st_stored_read(t, st_view1(wide, ST_F32, count), &e), &e);
        for (int64_t i = 0; i < count; i++)
            assert_true(wide[i] == real(k, i));
    }
    st_weights_close(f);
    st_test_remove(dir);
}

/* Conversions larger than the reader's buffer. */
static void test_long_tensors(void **state)
{
    (void)state;
    enum { N = 10007 };
    const char *dir = st_test_dir(), *path = st_test_path(dir, "x.safetensors");
    st_store_item items[] = {{"b", ST_BF16, {N}, 1}, {"h", ST_F16, {N}, 1}, {"f", ST_F32, {N}, 1}};
    st_weights *f;
    st_err e;
    assert_ok(st_safetensors_write(path, items, 3, NULL, fill_item, items, &e), &e);
    assert_ok(st_weights_open(&f, path, &e), &e);
    float *wide = calloc(N, sizeof *wide);
    uint16_t *half = calloc(N, sizeof *half);
    for (int k = 0; k < 3; k++) {
        const st_stored *t = st_weights_find(f, items[k].name);
        assert_ok(st_stored_read(t, st_view1(wide, ST_F32, N), &e), &e);
        for (int64_t i = 0; i < N; i++)
            assert_true(wide[i] == real(k, i));
        assert_ok(st_stored_read(t, st_view1(half, ST_BF16, N), &e), &e);
        for (int64_t i = 0; i < N; i++)
            assert_true(st_bf16_to_f32(half[i]) == real(k, i));
    }
    free(wide);
    free(half);
    st_weights_close(f);
    st_test_remove(dir);
}

static st_status fill_fails(void *ctx, int64_t k, void *data, size_t bytes, st_err *e)
{
    (void)ctx;
    memset(data, 0, bytes);
    if (k == 1) ST_FAIL(e, ST_EARG, "no more");
    return ST_OK;
}

static void test_writer_refuses(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "x.safetensors");
    st_err e;
    st_store_item twice[] = {{"a", ST_F32, {1}, 1}, {"a", ST_U8, {1}, 1}};
    assert_st(st_safetensors_write(path, twice, 2, NULL, fill_item, twice, &e), ST_EARG, &e);
    assert_says(&e, "named a");
    st_store_item huge[] = {{"a", ST_F32, {INT64_MAX / 2, 4}, 2}};
    assert_st(st_safetensors_write(path, huge, 1, NULL, fill_item, huge, &e), ST_ESHAPE, &e);
    assert_st(st_safetensors_write(path, layout, 3, NULL, fill_fails, NULL, &e), ST_EARG, &e);
    json_t *meta = json_pack("{s:i}", "n", 1);
    assert_st(st_safetensors_write(path, layout, 3, meta, fill_item, layout, &e), ST_EARG, &e);
    json_decref(meta);
    assert_int_equal(st_test_entries(dir), 0);
    assert_ok(st_safetensors_write(path, NULL, 0, NULL, NULL, NULL, &e), &e);
    st_weights *f;
    assert_ok(st_weights_open(&f, path, &e), &e);
    assert_int_equal(st_weights_count(f), 0);
    assert_null(st_weights_find(f, "a"));
    st_weights_close(f);
    st_test_remove(dir);
}

static void test_every_truncation(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "x");
    size_t n;
    char *all = st_test_read("test/fixtures/io/every.safetensors", &n);
    st_weights *f;
    st_err e;
    char *more = malloc(n + 1);
    memcpy(more, all, n);
    more[n] = 0;
    for (size_t cut = 0; cut <= n + 1; cut++) {
        if (cut == n) continue;
        st_test_write(path, more, cut);
        assert_st(st_weights_open(&f, path, &e), ST_EFORMAT, &e);
        assert_null(f);
        assert_says(&e, path);
    }
    free(more);
    free(all);
    st_test_remove(dir);
}

/* A flipped bit of the header is an error, or changes a name or a metadata text: the data is then
 * still what it was. */
static void test_every_flip(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "x");
    size_t n, opened = 0, refused = 0;
    char *all = st_test_read("test/fixtures/io/layout.safetensors", &n);
    uint64_t length;
    memcpy(&length, all, 8);
    for (size_t at = 0; at < 8 + length; at++) {
        for (int bit = 0; bit < 8; bit++) {
            all[at] = (char)(all[at] ^ (1 << bit));
            st_test_write(path, all, n);
            all[at] = (char)(all[at] ^ (1 << bit));
            st_weights *f;
            st_err e;
            if (st_weights_open(&f, path, &e)) {
                refused++;
                assert_true(e.code == ST_EFORMAT);
                continue;
            }
            opened++;
            int64_t end = 8 + (int64_t)length;
            for (int64_t i = 0; i < st_weights_count(f); i++) {
                const st_stored *t = st_weights_at(f, i);
                assert_int_equal(t->offset, end);
                end += (int64_t)t->bytes;
                float value[64];
                assert_true(t->bytes <= sizeof value);
                (void)st_stored_read(t, st_view1(value, ST_F32, (int64_t)t->bytes / 4), &e);
            }
            assert_int_equal(end, n);
            st_weights_close(f);
        }
    }
    assert_true(refused > 5 * opened);
    assert_true(opened > 100);
    free(all);
    st_test_remove(dir);
}

/* Opens a file of this header (length as given unless `length` says otherwise) and `data` bytes. */
static st_status open_header(const char *path, const char *header, uint64_t length, size_t data,
                             st_err *e)
{
    size_t n = strlen(header);
    char *all = calloc(1, 8 + n + data);
    assert_non_null(all);
    if (!length) length = n;
    memcpy(all, &length, 8);
    memcpy(all + 8, header, n);
    st_test_write(path, all, 8 + n + data);
    free(all);
    st_weights *f;
    st_status s = st_weights_open(&f, path, e);
    if (!s) st_weights_close(f);
    return s;
}

#define T(body)           "{\"a\":{" body "}}"
#define F32(shape, range) T("\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":" range)

static void test_hostile_headers(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        uint64_t length;
        size_t data;
        const char *says;
    } bad[] = {
        {"{}", 1, 0, "header damaged"},
        {"{}", 0, 1, "foreign tail"},
        {"{}", 100000001, 0, "at most 100000000"},
        {"{}", UINT64_MAX, 0, "at most 100000000"},
        {"{}", UINT64_MAX / 2 - 6, 0, "at most 100000000"},
        {"{}", 3, 0, "truncated"},
        {" {}", 0, 0, "expected '{'"},
        {"[]", 0, 0, "expected '{'"},
        {"{} x", 0, 0, "nothing but spaces"},
        {"{}{}", 0, 0, "nothing but spaces"},
        {"{\"a\"}", 0, 0, "expected ':'"},
        {"{\"a\":1}", 0, 0, "expected '{'"},
        {"{\"a\":{}}", 0, 0, "expected a string"},
        {"{,}", 0, 0, "expected a string"},
        {"{\"a\":null}", 0, 0, "expected '{'"},
        {F32("[1]", "[0,4]"), 0, 3, "truncated"},
        {F32("[1]", "[0,4]"), 0, 5, "foreign tail"},
        {F32("[1]", "[1,5]"), 0, 5, "a hole"},
        {F32("[1]", "[0,8]"), 0, 8, "do not fit"},
        {F32("[1]", "[4,0]"), 0, 4, "do not fit"},
        {F32("[-1]", "[0,4]"), 0, 4, "whole number"},
        {F32("[1.0]", "[0,4]"), 0, 4, "expected ','"},
        {F32("[1e0]", "[0,4]"), 0, 4, "expected ','"},
        {F32("[01]", "[0,4]"), 0, 4, "whole number"},
        {F32("[]]", "[0,4]"), 0, 4, "expected ','"},
        {F32("[1,]", "[0,4]"), 0, 4, "whole number"},
        {F32("[\"1\"]", "[0,4]"), 0, 4, "whole number"},
        {F32("[1,1,1,1,1,1,1,1,1]", "[0,4]"), 0, 4, "more than 8"},
        {F32("[9223372036854775807]", "[0,4]"), 0, 4, "2^60"},
        {F32("[9223372036854775808]", "[0,4]"), 0, 4, "below 2^63"},
        {F32("[99999999999999999999999]", "[0,4]"), 0, 4, "below 2^63"},
        {F32("[4294967296,4294967296]", "[0,4]"), 0, 4, "2^60"},
        {F32("[4611686018427387905,4]", "[0,16]"), 0, 16, "2^60"},
        {F32("[1]", "[0]"), 0, 4, "two data_offsets"},
        {F32("[1]", "[0,4,8]"), 0, 4, "more than 2"},
        {F32("[1]", "[0,9223372036854775807]"), 0, 4, "do not fit"},
        {F32("[0]", "[4,4]"), 0, 4, "a hole"},
        {T("\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]"), 0, 4, "unknown dtype F33"},
        {T("\"dtype\":\"\",\"shape\":[1],\"data_offsets\":[0,4]"), 0, 4, "unknown dtype"},
        {T("\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]"), 0, 4, "a string"},
        {T("\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]"), 0, 1, "1.5 bytes"},
        {T("\"dtype\":\"F32\",\"shape\":[1]"), 0, 4, "no data_offsets"},
        {T("\"shape\":[1],\"data_offsets\":[0,4]"), 0, 4, "no dtype"},
        {T("\"dtype\":\"F32\",\"data_offsets\":[0,4]"), 0, 4, "no shape"},
        {T("\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]"), 0, 4,
         "second key dtype"},
        {T("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1"), 0, 4,
         "unknown key x"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
         0, 8, "two tensors are named a"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"\\u0061\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
         0, 8, "two tensors are named a"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
         0, 8, "an overlap"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
         0, 4, "an overlap"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}",
         0, 12, "a hole"},
        {"{\"__metadata__\":{\"a\":1}}", 0, 0, "a string"},
        {"{\"__metadata__\":{\"a\":\"x\",\"a\":\"y\"}}", 0, 0, "has a twice"},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, 0, "two __metadata__"},
        {"{\"__metadata__\":[]}", 0, 0, "expected '{'"},
        {"{\"\\ud800\":{}}", 0, 0, "a character"},
        {"{\"\\u0000\":{}}", 0, 0, "a character"},
        {"{\"\\x\":{}}", 0, 0, "escape"},
        {"{\"\xff\":{}}", 0, 0, "UTF-8"},
        {"{\"\xc0\x80\":{}}", 0, 0, "UTF-8"},
        {"{\"\xed\xa0\x80\":{}}", 0, 0, "UTF-8"},
        {"{\"a\nb\":{}}", 0, 0, "control character"},
        {"{\"a", 0, 0, "the end of a string"},
        {"{\"a\\", 0, 0, "escape"},
        {"{\"a\\u12", 0, 0, "a character"},
    };
    const char *dir = st_test_dir(), *path = st_test_path(dir, "x");
    st_err e;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        st_status s = open_header(path, bad[i].header, bad[i].length, bad[i].data, &e);
        if (s != ST_EFORMAT) print_error("case %zu: %s\n", i, bad[i].header);
        assert_st(s, ST_EFORMAT, &e);
        assert_says(&e, bad[i].says);
    }
    static const struct {
        const char *header;
        size_t data;
    } good[] = {
        {"{}", 0},
        {"{ }      ", 0},
        {"{\"__metadata__\":{}}", 0},
        {F32("[]", "[0,4]"), 4},
        {F32("[ 1 , 1 ]", "[ 0 , 4 ]"), 4},
        {F32("[0,9223372036854775807]", "[0,0]"), 0},
        {F32("[0,8,4611686018427387904]", "[0,0]"), 0},
        {T("\"data_offsets\":[0,3],\"shape\":[2,2],\"dtype\":\"F6_E2M3\""), 3},
        {"{\"\\u00e9\\ud83d\\ude00\\n\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
         1},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_ok(open_header(path, good[i].header, 0, good[i].data, &e), &e);
    }
    st_test_remove(dir);
}

/* Deep and long headers take neither stack nor gigabytes nor minutes. */
static void test_large_headers(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "x");
    st_err e;
    const size_t n = 8000000;
    char *text = malloc(n + 1);
    assert_non_null(text);
    for (int c = 0; c < 2; c++) {
        memset(text, c ? '{' : '[', n);
        text[n] = '\0';
        text[0] = '{';
        assert_st(open_header(path, text, 0, 0, &e), ST_EFORMAT, &e);
    }
    memset(text, '1', n);
    memcpy(text, "{\"a\":{\"shape\":[", 15);
    assert_st(open_header(path, text, 0, 0, &e), ST_EFORMAT, &e);
    size_t used = 1;
    text[0] = '{';
    int64_t count = 0;
    while (used + 100 < n) {
        used += (size_t)sprintf(text + used,
                                "%s\"t%lld\":{\"dtype\":\"U8\",\"shape\":[0],"
                                "\"data_offsets\":[0,0]}",
                                count ? "," : "", (long long)count);
        count++;
    }
    strcpy(text + used, "}");
    double start = st_now();
    assert_ok(open_header(path, text, 0, 0, &e), &e);
    assert_true(count > 100000);
    assert_true(st_now() - start < 20);
    free(text);
    st_test_remove(dir);
}

static void test_no_file_of_this_kind(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "x");
    static const char lfs[] = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    st_weights *f;
    st_err e;
    st_test_write(path, lfs, sizeof lfs - 1);
    assert_st(st_weights_open(&f, path, &e), ST_EFORMAT, &e);
    assert_says(&e, "git lfs pull");
    st_test_write(path, "PK\3\4aaaaaaaaaaaaaaaa", 20);
    assert_st(st_weights_open(&f, path, &e), ST_EFORMAT, &e);
    assert_says(&e, "zip archive");
    assert_st(st_weights_open(&f, dir, &e), ST_EARG, &e);
    assert_st(st_weights_open(&f, "/dev/zero", &e), ST_EARG, &e);
    assert_st(st_weights_open(&f, st_test_path(dir, "none"), &e), ST_EIO, &e);
    assert_int_equal(mkfifo(st_test_path(dir, "fifo"), 0600), 0);
    assert_st(st_weights_open(&f, st_test_path(dir, "fifo"), &e), ST_EARG, &e);
    st_weights_close(NULL);
    st_test_remove(dir);
}

/* A file that is cut short after it was opened. */
static void test_shrinking_file(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "x");
    size_t n;
    char *all = st_test_read("test/fixtures/io/layout.safetensors", &n);
    st_test_write(path, all, n);
    free(all);
    st_weights *f;
    st_err e;
    assert_ok(st_weights_open(&f, path, &e), &e);
    assert_int_equal(truncate(path, (off_t)n - 1), 0);
    uint8_t last[3];
    const st_stored *t = st_weights_find(f, "b.u8");
    assert_st(st_stored_read(t, st_view1(last, ST_U8, 3), &e), ST_EIO, &e);
    assert_says(&e, "something is writing");
    st_weights_close(f);
    st_test_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference_file), cmocka_unit_test(test_writer_is_reference),
        cmocka_unit_test(test_round_trip),     cmocka_unit_test(test_writer_refuses),
        cmocka_unit_test(test_long_tensors),   cmocka_unit_test(test_every_truncation),
        cmocka_unit_test(test_every_flip),     cmocka_unit_test(test_hostile_headers),
        cmocka_unit_test(test_large_headers),  cmocka_unit_test(test_no_file_of_this_kind),
        cmocka_unit_test(test_shrinking_file),
    };
    return cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
}
