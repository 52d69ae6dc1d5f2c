/* GGUF: a file of PyPI's gguf (test/fixtures/torch/gguf, tools/fixtures_torch.py) read, and written
 * byte for byte; truncations; damaged headers. */
/* SPDX-License-Identifier: MIT */
#include "testing.h"
#include "weights/weights.h"
#include <unistd.h>

#define GGUF "test/fixtures/torch/gguf/"

enum { TENSORS = 28, LARGEST = 264 * 4 };

static int64_t elements(const int64_t *dim, int ndim)
{
    return dim[0] * (ndim == 2 ? dim[1] : 1);
}

static float number(int64_t k, int64_t i)
{
    return (float)((i * 37 + k * 11) % 101 - 50) / 8;
}

static void test_reads(void **state)
{
    (void)state;
    st_weights *w;
    st_err e;
    assert_ok(st_weights_open(&w, GGUF "gpt2.gguf", &e), &e);
    assert_string_equal(st_weights_form(w), "gguf");
    assert_int_equal(st_weights_count(w), TENSORS);
    for (int64_t k = 0; k < TENSORS; k++) { /* written in the order of these names */
        const st_stored *t = st_weights_at(w, k);
        float value[LARGEST];
        int64_t n = elements(t->dim, t->ndim);
        if (k) assert_true(strcmp(st_weights_at(w, k - 1)->name, t->name) < 0);
        assert_ok(st_stored_read(t, st_view1(value, ST_F32, n), &e), &e);
        for (int64_t i = 0; i < n; i++)
            assert_true(value[i] == number(k, i));
    }
    const st_stored *t = st_weights_find(w, "h.1.attn.c_attn.weight");
    assert_string_equal(t->dtype, "BF16");
    assert_int_equal(t->dim[0], 12);
    assert_int_equal(t->dim[1], 4);
    assert_string_equal(st_weights_find(w, "wte.weight")->dtype, "F16");
    const json_t *keys = json_object_get(st_weights_extra(w), "gguf");
    assert_string_equal(json_string_value(json_object_get(keys, "general.name")), "tiny");
    assert_int_equal(json_integer_value(json_object_get(keys, "tokenizer.ggml.eos_token_id")), 259);
    assert_true((float)json_real_value(
                    json_object_get(keys, "gpt2.attention.layer_norm_epsilon")) == 1e-5f);
    json_t *want = json_pack("{s:i, s:i, s:i, s:i, s:b}", "n_layer", 2, "n_head", 2, "n_embd", 4,
                             "block_size", 3, "bias", 1);
    assert_true(json_equal(json_object_get(st_weights_extra(w), "model_args"), want));
    json_decref(want);
    st_weights_close(w);
}

/* Items as the fixture has them, under nanoGPT's names. */
static char names[TENSORS][64];

static void list_items(st_store_item items[TENSORS])
{
    st_weights *w;
    st_err e;
    assert_ok(st_weights_open(&w, GGUF "gpt2.gguf", &e), &e);
    for (int64_t k = 0; k < TENSORS; k++) {
        const st_stored *t = st_weights_at(w, k);
        snprintf(names[k], sizeof names[k], "%s%s", k % 2 ? "transformer." : "", t->name);
        items[k] = (st_store_item){.name = names[k],
                                   .dtype = strcmp(t->dtype, "F32") == 0   ? ST_F32
                                            : strcmp(t->dtype, "F16") == 0 ? ST_F16
                                                                           : ST_BF16,
                                   .dim = {t->dim[0], t->dim[1]},
                                   .ndim = t->ndim};
    }
    st_weights_close(w);
}

static st_status fill(void *ctx, int64_t k, void *data, size_t bytes, st_err *e)
{
    const st_store_item *it = (const st_store_item *)ctx + k;
    float value[LARGEST];
    int64_t n = elements(it->dim, it->ndim);
    (void)e;
    assert_int_equal(bytes, (size_t)n * st_dtype_size(it->dtype));
    for (int64_t i = 0; i < n; i++)
        value[i] = number(k, i);
    st_convert(data, it->dtype, value, ST_F32, n);
    return ST_OK;
}

static const st_gguf_about about = {.name = "tiny",
                                    .context = 3,
                                    .width = 4,
                                    .inner = 16,
                                    .layers = 2,
                                    .heads = 2,
                                    .epsilon = 1e-5};

static void test_writes(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "x.gguf");
    st_store_item items[TENSORS];
    st_gguf_about a = about;
    st_bpe *bpe;
    st_err e;
    size_t n, m;
    list_items(items);
    assert_ok(st_bpe_open(&bpe, GGUF, &e), &e);
    a.tokenizer = bpe;
    assert_ok(st_gguf_write(path, &a, items, TENSORS, fill, items, &e), &e);
    char *got = st_test_read(path, &n), *want = st_test_read(GGUF "gpt2.gguf", &m);
    for (size_t i = 0; i < n && i < m; i++) {
        if (got[i] != want[i]) print_message("first other byte: %zu\n", i);
        assert_int_equal(got[i], want[i]);
    }
    assert_int_equal(n, m);
    free(got);
    free(want);
    /* Without name and tokenizer it still is a file of the same tensors. */
    a.tokenizer = NULL;
    a.name = NULL;
    assert_ok(st_gguf_write(path, &a, items, TENSORS, fill, items, &e), &e);
    st_weights *w;
    assert_ok(st_weights_open(&w, path, &e), &e);
    assert_int_equal(st_weights_count(w), TENSORS);
    st_weights_close(w);
    st_bpe_close(bpe);
    st_test_remove(dir);
}

static void test_refuses(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "x.gguf");
    static const char *const odd[] = {
        "h.0.mlp.c_fc.blocks", "h.x.ln_1.bias", "h.0.ln_1",
        "h.0.ln_3.bias",       "wte",           "h.1234567890.ln_1.bias"};
    st_store_item items[TENSORS];
    st_gguf_about a = about;
    st_bpe *bpe;
    st_err e;
    for (int i = 0; i < 6; i++) {
        list_items(items);
        items[1].name = odd[i];
        assert_st(st_gguf_write(path, &about, items, TENSORS, fill, items, &e), ST_EARG, &e);
        assert_says(&e, odd[i]);
    }
    list_items(items);
    items[1].dtype = ST_I32;
    assert_st(st_gguf_write(path, &about, items, TENSORS, fill, items, &e), ST_EARG, &e);
    list_items(items);
    assert_st(st_gguf_write(path, &about, items, TENSORS - 1, fill, items, &e), ST_EARG, &e);
    assert_says(&e, "no tensor of the embedding");
    assert_ok(st_bpe_open(&bpe, GGUF, &e), &e);
    a.tokenizer = bpe;
    items[TENSORS - 1].dim[0] = 259;
    assert_st(st_gguf_write(path, &a, items, TENSORS, fill, items, &e), ST_EARG, &e);
    assert_says(&e, "the tokenizer has 260 tokens, the embedding only 259 rows");
    st_bpe_close(bpe);
    assert_int_equal(st_test_entries(dir), 0);
    st_test_remove(dir);
}

static size_t find(const char *in, size_t n, const char *text)
{
    const char *at = memmem(in, n, text, strlen(text));
    assert_non_null(at);
    return (size_t)(at - in);
}

static void test_damaged(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "x.gguf");
    size_t n;
    char *all = st_test_read(GGUF "gpt2.gguf", &n);
    size_t info = find(all, n, "blk.0.attn_qkv.bias") + 19; /* ndim, dim, type, offset */
    size_t tokens = find(all, n, "tokenizer.ggml.tokens") + 21;
    size_t align = find(all, n, "general.alignment") + 17;
    const struct {
        size_t at, bytes;
        uint64_t value;
        const char *says;
    } rows[] = {
        {4, 4, 1, "GGUF version 1, expected 2 or 3"},
        {4, 4, 0x03000000, "(little-endian)"},
        {8, 8, 1 << 20, "too many entries"},
        {8, 8, UINT64_MAX, "too many entries"},
        {16, 8, 40000, "too many entries"},
        {24, 8, UINT64_MAX, "ends within a text"},
        {tokens, 4, 13, "a value of unknown type"},
        {tokens + 4, 4, 9, "a list of lists"},
        {tokens + 8, 8, UINT64_MAX, "ends within a list"},
        {tokens + 8, 8, 100000, "ends within a list"},
        {align + 4, 4, 0, "general.alignment is 0"},
        {align + 4, 4, 64, "not aligned"},
        {info, 4, 5, "more than 4 dimensions"},
        {info + 4, 8, UINT64_MAX, "a dimension beyond 2^63"},
        {info + 4, 8, INT64_MAX, "more than 2^63 bytes"},
        {info + 4, 8, 1 << 20, "the file ends before"},
        {info + 12, 4, 2, "rows are no whole blocks"},
        {info + 12, 4, 15, "of ggml's type Q8_K (15)"},
        {info + 12, 4, 99, "of ggml's type unknown (99)"},
        {info + 16, 8, 8, "not aligned"},
        {info + 16, 8, 1 << 20, "the file ends before"},
        {info + 16, 8, INT64_MAX - 31, "the file ends before"},
        {info + 16, 8, UINT64_MAX, "a tensor's place"},
    };
    st_weights *w;
    st_err e;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char old[8];
        memcpy(old, all + rows[i].at, 8);
        memcpy(all + rows[i].at, &rows[i].value, rows[i].bytes);
        st_test_write(path, all, n);
        memcpy(all + rows[i].at, old, 8);
        st_status s = st_weights_open(&w, path, &e);
        assert_true(s == ST_EFORMAT || s == ST_EUNSUPPORTED);
        assert_says(&e, rows[i].says);
    }
    st_test_write(path, all, n);
    for (size_t cut = n; cut-- > 0;) {
        assert_int_equal(truncate(path, (off_t)cut), 0);
        assert_st(st_weights_open(&w, path, &e), ST_EFORMAT, &e);
    }
    free(all);
    st_test_remove(dir);
}

/* Every block format, as gguf reads and writes it (tools/fixtures_gguf.py). */
static void test_blocks(void **state)
{
    enum { ROWS = 3, COLS = 512, ALL = ROWS * COLS };
    static const char *const formats[] = {"Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1",
                                          "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"};
    static float got[ALL], want[ALL], numbers[ALL];
    (void)state;
    size_t size;
    st_weights *w;
    st_err e;
    char *all = st_test_read(GGUF "blocks.gguf", &size);
    assert_ok(st_weights_open(&w, GGUF "blocks.gguf", &e), &e);
    const st_stored *from = st_weights_find(w, "numbers");
    assert_ok(st_stored_read(from, st_view2(numbers, ST_F32, ROWS, COLS), &e), &e);
    for (size_t k = 0; k < sizeof formats / sizeof *formats; k++) {
        char values[32];
        snprintf(values, sizeof values, "%s.values", formats[k]);
        const st_stored *t = st_weights_find(w, formats[k]), *v = st_weights_find(w, values);
        const st_blocks *b = st_blocks_find(formats[k]);
        assert_true(t && v && b);
        assert_string_equal(t->dtype, formats[k]);
        assert_int_equal(t->bytes, (size_t)(ALL / b->numbers * b->bytes));
        assert_ok(st_stored_read(t, st_view2(got, ST_F32, ROWS, COLS), &e), &e);
        assert_ok(st_stored_read(v, st_view2(want, ST_F32, ROWS, COLS), &e), &e);
        for (int i = 0; i < ALL; i++) {
            if (got[i] != want[i])
                fail_msg("%s: number %d is %a, not %a", formats[k], i, (double)got[i],
                         (double)want[i]);
        }
        for (int i = 0; b->write && i < ALL / b->numbers; i++) {
            uint8_t block[256];
            b->write(numbers + i * b->numbers, block);
            if (memcmp(block, all + t->offset + i * b->bytes, (size_t)b->bytes) == 0) continue;
            b->read(block, got); /* what a scale holds exactly is not rounded */
            if (memcmp(got, numbers + i * b->numbers, (size_t)b->numbers * sizeof *got) != 0)
                fail_msg("%s: block %d is written otherwise", formats[k], i);
        }
    }
    st_weights_close(w);
    /* fewer than 2^63 bytes of more than 2^63 numbers */
    const char *dir = st_test_dir(), *path = st_test_path(dir, "x.gguf");
    int64_t rows = (int64_t)1 << 55;
    memcpy(all + find(all, size, "Q2_K") + 4 + 4 + 8, &rows, 8);
    st_test_write(path, all, size);
    assert_st(st_weights_open(&w, path, &e), ST_EFORMAT, &e);
    assert_says(&e, "more than 2^63 bytes");
    free(all);
    st_test_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads),   cmocka_unit_test(test_writes),
        cmocka_unit_test(test_refuses), cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
