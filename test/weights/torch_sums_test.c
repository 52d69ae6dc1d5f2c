/* Checksums of a zip archive's tensors: one flipped bit of any of them is noticed when it is read,
 * not before, and can be waved through; 0 stands for a checksum that was not computed. */
/* SPDX-License-Identifier: MIT */
#include "testing.h"
#include "weights/weights.h"

enum { MOST = 4096 };

static int64_t numbers(const st_stored *t)
{
    int64_t n = 1;
    for (int d = 0; d < t->ndim; d++)
        n *= t->dim[d];
    assert_true(n <= MOST);
    return n;
}

static st_status read_one(const st_stored *t, st_dtype dtype, st_err *e)
{
    float value[MOST];
    return st_stored_read(t, st_view1(value, dtype, numbers(t)), e);
}

/* A copy of the fixture with the bit of tensor k's first byte flipped; the tensor's name. */
static void damaged(const char *path, const char *from, int64_t k, char name[128])
{
    size_t n;
    st_err e = {0};
    st_weights *w;
    char *all = st_test_read(from, &n);
    assert_ok(st_weights_open(&w, from, &e), &e);
    const st_stored *t = st_weights_at(w, k);
    if (t->bytes) all[t->offset] ^= 4;
    snprintf(name, 128, "%s", t->name);
    st_weights_close(w);
    st_test_write(path, all, n);
    free(all);
}

/* Alone of its storage, or one of several views of it, read as it is or converted. */
static void test_a_flipped_bit_is_seen(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "x.pt");
    static const char *const file[] = {"test/fixtures/torch/kinds.pt",
                                       "test/fixtures/torch/newer.pt"};
    int64_t seen = 0, others = 0;
    for (int f = 0; f < 2; f++) {
        st_weights *w;
        st_err e = {0};
        assert_ok(st_weights_open(&w, file[f], &e), &e);
        int64_t count = st_weights_count(w);
        st_weights_close(w);
        for (int64_t k = 0; k < count; k++) {
            char name[128];
            damaged(path, file[f], k, name);
            assert_ok(st_weights_open(&w, path, &e), &e);
            const st_stored *t = st_weights_find(w, name);
            bool real = t->dtype[0] == 'F' || t->dtype[0] == 'B';
            if (numbers(t) == 0 || !real || t->dtype[1] == '8' || t->dtype[1] == 'O') {
                st_weights_close(w);
                continue;
            }
            assert_st(read_one(t, k % 2 ? ST_F32 : ST_BF16, &e), ST_EFORMAT, &e);
            assert_says(&e, "the checksum");
            assert_says(&e, name);
            for (int64_t j = 0; j < count; j++)
                others += j != k && st_weights_at(w, j)->dtype[0] == 'F' &&
                          read_one(st_weights_at(w, j), ST_F32, &e) == ST_OK;
            st_weights_unchecked(w);
            assert_ok(read_one(t, ST_F32, &e), &e);
            st_weights_close(w);
            seen++;
        }
    }
    assert_true(seen > 5 && others > 20);
    st_test_remove(dir);
}

/* As torch.save writes with compute_crc32 off: opened and read, whatever the bytes are. */
static void test_no_checksums_are_none(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "x.pt");
    char name[128];
    size_t n;
    st_err e = {0};
    st_weights *w;
    damaged(path, "test/fixtures/torch/kinds.pt", 0, name);
    char *all = st_test_read(path, &n);
    for (size_t i = 0; i + 46 < n; i++) { /* the directory's records, then those in front of data */
        if (memcmp(all + i, "PK\1\2", 4) == 0) memset(all + i + 16, 0, 4);
        if (memcmp(all + i, "PK\3\4", 4) == 0) memset(all + i + 14, 0, 4);
    }
    st_test_write(path, all, n);
    free(all);
    assert_ok(st_weights_open(&w, path, &e), &e);
    assert_ok(read_one(st_weights_find(w, name), ST_F32, &e), &e);
    st_weights_close(w);
    st_test_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_flipped_bit_is_seen),
        cmocka_unit_test(test_no_checksums_are_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
