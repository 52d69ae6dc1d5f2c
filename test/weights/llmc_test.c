/* llm.c's models: files that llm.c's own writer made (test/fixtures/torch,
 * tools/fixtures_torch.py), the same bytes back, truncations, damaged headers. */
/* SPDX-License-Identifier: MIT */
#include "testing.h"
#include "weights/weights.h"
#include <unistd.h>

#define F32_FILE  "test/fixtures/torch/llmc-float32.bin"
#define BF16_FILE "test/fixtures/torch/llmc-bfloat16.bin"

enum { TENSORS = 28, LARGEST = 130 * 4 };

static const st_llmc_shape shape = {
    .context = 3, .vocab = 130, .layers = 2, .heads = 2, .width = 4};

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const st_stored *const *)a)->name, (*(const st_stored *const *)b)->name);
}

static int64_t elements(const st_stored *t)
{
    return t->dim[0] * (t->ndim == 2 ? t->dim[1] : 1);
}

static void test_reads(void **state)
{
    (void)state;
    for (int half = 0; half < 2; half++) {
        st_weights *w;
        st_err e;
        assert_ok(st_weights_open(&w, half ? BF16_FILE : F32_FILE, &e), &e);
        assert_string_equal(st_weights_form(w), "llm.c");
        assert_int_equal(st_weights_count(w), TENSORS);
        const st_stored *row[TENSORS];
        for (int64_t i = 0; i < TENSORS; i++)
            row[i] = st_weights_at(w, i);
        qsort(row, TENSORS, sizeof *row, by_name);
        for (int64_t k = 0; k < TENSORS; k++) {
            float value[LARGEST];
            int64_t n = elements(row[k]);
            assert_string_equal(row[k]->dtype, half ? "BF16" : "F32");
            assert_ok(st_stored_read(row[k], st_view1(value, ST_F32, n), &e), &e);
            for (int64_t i = 0; i < n; i++)
                assert_true(value[i] == (float)((i * 37 + k * 11) % 101 - 50) / 8);
        }
        const st_stored *t = st_weights_find(w, "transformer.wte.weight");
        assert_int_equal(t->dim[0], 130); /* of 256 in the file */
        t = st_weights_find(w, "transformer.h.1.mlp.c_fc.weight");
        assert_int_equal(t->dim[0], 16);
        assert_int_equal(t->dim[1], 4);
        json_t *want =
            json_pack("{s:{s:i, s:i, s:i, s:i, s:i, s:b}}", "model_args", "n_layer", 2, "n_head", 2,
                      "n_embd", 4, "block_size", 3, "vocab_size", 130, "bias", 1);
        assert_true(json_equal(st_weights_extra(w), want));
        json_decref(want);
        st_weights_close(w);
    }
}

/* The items of a file, last first, without "transformer."; and how they are filled. */
static void list_items(const st_weights *w, st_store_item items[TENSORS])
{
    for (int64_t i = 0; i < TENSORS; i++) {
        const st_stored *t = st_weights_at(w, TENSORS - 1 - i);
        items[i] = (st_store_item){.name = t->name + strlen("transformer."),
                                   .dtype = strcmp(t->dtype, "F32") ? ST_BF16 : ST_F32,
                                   .dim = {t->dim[0], t->dim[1]},
                                   .ndim = t->ndim};
    }
}

static st_status fill(void *ctx, int64_t item, void *data, size_t bytes, st_err *e)
{
    const st_stored *t = st_weights_at(ctx, TENSORS - 1 - item);
    assert_int_equal(bytes, t->bytes);
    return st_stored_read(
        t, st_view1(data, strcmp(t->dtype, "F32") ? ST_BF16 : ST_F32, elements(t)), e);
}

static void test_writes(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "x.bin");
    for (int half = 0; half < 2; half++) {
        st_weights *w;
        st_err e;
        st_store_item items[TENSORS];
        assert_ok(st_weights_open(&w, half ? BF16_FILE : F32_FILE, &e), &e);
        list_items(w, items);
        assert_ok(st_llmc_write(path, &shape, items, TENSORS, fill, w, &e), &e);
        assert_same_files(path, half ? BF16_FILE : F32_FILE);
        st_weights_close(w);
    }
    st_test_remove(dir);
}

static void test_refuses(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "x.bin");
    st_weights *w;
    st_err e;
    st_store_item items[TENSORS + 1];
    st_llmc_shape other = shape;
    assert_ok(st_weights_open(&w, F32_FILE, &e), &e);
    list_items(w, items);
    assert_st(st_llmc_write(path, &shape, items, TENSORS - 1, fill, w, &e), ST_EARG, &e);
    assert_says(&e, "27 tensors of float32, an llm.c model of 2 layers has 28");
    items[TENSORS] = (st_store_item){"lm_head.weight", ST_F32, {130, 4}, 2};
    assert_st(st_llmc_write(path, &shape, items, TENSORS + 1, fill, w, &e), ST_EARG, &e);
    assert_says(&e, "the head is not tied");
    other.vocab = 131;
    assert_st(st_llmc_write(path, &other, items, TENSORS, fill, w, &e), ST_EARG, &e);
    assert_says(&e, "wte.weight has not the shape");
    items[3].dtype = ST_BF16;
    assert_st(st_llmc_write(path, &shape, items, TENSORS, fill, w, &e), ST_EARG, &e);
    list_items(w, items);
    items[3].name = "h.0.mlp.c_fc.blocks";
    assert_st(st_llmc_write(path, &shape, items, TENSORS, fill, w, &e), ST_EARG, &e);
    assert_says(&e, "no tensor h.0.mlp.c_proj.bias");
    other = shape;
    other.width = INT64_C(1) << 40;
    assert_st(st_llmc_write(path, &other, items, TENSORS, fill, w, &e), ST_ESHAPE, &e);
    assert_int_equal(st_test_entries(dir), 0);
    st_weights_close(w);
    st_test_remove(dir);
}

static void test_damaged(void **state)
{
    (void)state;
    static const struct {
        int at;
        int32_t value;
        const char *says;
    } rows[] = {
        {1, 1, "of version 1, expected 3"},
        {1, 4, "of version 4"},
        {2, 0, "a context of 0"},
        {3, -1, "a vocabulary of -1"},
        {3, 257, "257 tokens padded to 256"},
        {4, INT32_MAX, "more than 2^48"},
        {4, 1, "it has a foreign tail"},
        {4, 3, "it is truncated"},
        {5, 3, "width 4 and 3 heads"},
        {6, INT32_MAX - 1, "more than 2^48"},
        {6, 8, "it is truncated"},
        {7, INT32_MAX, "it is truncated"},
    };
    const char *dir = st_test_dir(), *path = st_test_path(dir, "x.bin");
    size_t n;
    char *all = st_test_read(F32_FILE, &n);
    st_weights *w;
    st_err e;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int32_t old;
        memcpy(&old, all + rows[i].at * 4, 4);
        memcpy(all + rows[i].at * 4, &rows[i].value, 4);
        st_test_write(path, all, n);
        memcpy(all + rows[i].at * 4, &old, 4);
        st_status s = st_weights_open(&w, path, &e);
        assert_true(s == ST_EFORMAT || s == ST_EUNSUPPORTED);
        assert_says(&e, rows[i].says);
    }
    st_test_write(path, all, n);
    assert_int_equal(truncate(path, (off_t)n + 1), 0);
    for (size_t cut = n + 1; cut-- > 0;) {
        if (cut + 1 != n) assert_st(st_weights_open(&w, path, &e), ST_EFORMAT, &e);
        assert_int_equal(truncate(path, (off_t)cut), 0);
    }
    free(all);
    st_test_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads),
        cmocka_unit_test(test_writes),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
