/* TensorBoard's event files: records as its reader checks them, byte for byte. What they say is
 * read back by tools/check_tensorboard.py with the reader itself. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "testing.h"
#include <dirent.h>
#include <string.h>

/* CRC-32C of "123456789" is e3069283 (RFC 3720), masked ((c >> 15 | c << 17) + 0xa282ead8). */
static void test_checksum(void **state)
{
    (void)state;
    uint32_t c = 0xe3069283u;
    assert_int_equal(st_events_mask("123456789", 9), (c >> 15 | c << 17) + 0xa282ead8u);
    assert_int_equal(st_events_mask("", 0), 0xa282ead8u);
}

/* The newest event file of `dir` in new memory, and its name. */
static uint8_t *newest(const char *dir, size_t *n, char name[256])
{
    DIR *d = opendir(dir);
    name[0] = '\0';
    for (struct dirent *f; (f = readdir(d));)
        if (strstr(f->d_name, "tfevents") && strcmp(f->d_name, name) > 0)
            snprintf(name, 256, "%s", f->d_name);
    closedir(d);
    return (uint8_t *)st_test_read(st_test_path(dir, name), n);
}

/* Message number `at` of the file, its checksums checked; NULL: there are fewer. */
static const uint8_t *record(const uint8_t *p, size_t n, int at, size_t *size)
{
    for (const uint8_t *end = p + n; p < end; at--) {
        uint64_t length;
        uint32_t crc;
        assert_true(end - p >= 16);
        memcpy(&length, p, 8);
        memcpy(&crc, p + 8, 4);
        assert_int_equal(crc, st_events_mask(p, 8));
        assert_true(length <= (uint64_t)(end - p) - 16);
        memcpy(&crc, p + 12 + length, 4);
        assert_int_equal(crc, st_events_mask(p + 12, length));
        *size = (size_t)length;
        if (at == 0) return p + 12;
        p += 16 + length;
    }
    return NULL;
}

static void test_records(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    st_events *v;
    st_err e = {0};
    size_t n, size = 0;
    char name[256], again[256];
    assert_ok(st_events_open(&v, dir, 300, &e), &e);
    st_events_step(v, 300);
    assert_ok(st_events_scalar(v, "loss", 1.5, &e), &e);
    assert_ok(st_events_scalar(v, "lr", -2, &e), &e);
    assert_ok(st_events_end(v, &e), &e);
    st_events_close(v);
    uint8_t *all = newest(dir, &n, name);
    const uint8_t *r = record(all, n, 0, &size);
    assert_memory_equal(r + size - 15,
                        "\x1a\x0d"
                        "brain.Event:2",
                        15);
    r = record(all, n, 1, &size); /* step 300; SessionLog {status: START} */
    assert_memory_equal(r + 9, "\x10\xac\x02\x3a\x02\x08\x01", 7);
    assert_int_equal(size, 16);
    r = record(all, n, 2, &size);
    static const uint8_t want[] = {0x10, 0xac, 2,   0x2a, 24,   10, 11,   10,   4,   'l',
                                   'o',  's',  's', 0x15, 0,    0,  0xc0, 0x3f, 10,  9,
                                   10,   2,    'l', 'r',  0x15, 0,  0,    0,    0xc0};
    assert_int_equal(size, 9 + sizeof want);
    assert_memory_equal(r + 9, want, sizeof want);
    assert_null(record(all, n, 3, &size));
    free(all);
    /* In the same second, by the same process: a later name. */
    assert_ok(st_events_open(&v, dir, -1, &e), &e);
    st_events_close(v);
    free(newest(dir, &n, again));
    assert_true(strcmp(again, name) > 0);
    st_test_remove(dir);
}

/* More values than one record holds, and texts longer than are taken. */
static void test_large(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    st_events *v;
    st_err e = {0};
    size_t n, size, tags = 0;
    char name[256], tag[1000];
    memset(tag, 'x', sizeof tag - 1);
    tag[999] = '\0';
    assert_ok(st_events_open(&v, dir, -1, &e), &e);
    st_events_step(v, 7);
    for (int i = 0; i < 1000; i++)
        assert_ok(st_events_scalar(v, tag, i, &e), &e);
    assert_ok(st_events_end(v, &e), &e);
    char *text = st_calloc(200001, 1);
    memset(text, 'y', 200000);
    assert_ok(st_events_text(v, "t", text, &e), &e);
    st_events_close(v);
    uint8_t *all = newest(dir, &n, name);
    for (int i = 1; record(all, n, i, &size); i++)
        tags += size / 260; /* a value of the longest tag has 262 bytes and more */
    assert_true(tags >= 1000);
    free(all);
    free(text);
    st_test_remove(dir);
    assert_st(st_events_open(&v, "/nowhere", -1, &e), ST_EIO, &e);
    assert_null(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checksum),
        cmocka_unit_test(test_records),
        cmocka_unit_test(test_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
