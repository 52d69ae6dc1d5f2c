/* Views and dtypes. */
/* SPDX-License-Identifier: MIT */
#include "tensor/tensor.h"
#include "testing.h"

static void test_dtypes(void **state)
{
    (void)state;
    static const struct {
        const char *name, *alias;
        st_dtype t;
        size_t size;
    } all[] = {
        {"float32", "f32", ST_F32, 4},   {"float32", "fp32", ST_F32, 4},
        {"float32", "float", ST_F32, 4}, {"bfloat16", "bf16", ST_BF16, 2},
        {"float16", "f16", ST_F16, 2},   {"float16", "fp16", ST_F16, 2},
        {"float16", "half", ST_F16, 2},  {"int32", "i32", ST_I32, 4},
        {"uint16", "u16", ST_U16, 2},    {"uint8", "u8", ST_U8, 1},
        {"Q8_0", "q8", ST_Q8_0, 0},      {"Q8_0", "q8_0", ST_Q8_0, 0},
        {"Q4_0", "q4", ST_Q4_0, 0},      {"Q4_1", "q4_1", ST_Q4_1, 0},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        st_dtype t = ST_U8;
        assert_string_equal(st_dtype_name(all[i].t), all[i].name);
        if (all[i].size)
            assert_int_equal(st_dtype_size(all[i].t), all[i].size);
        else
            assert_string_equal(st_dtype_blocks(all[i].t)->name, all[i].name);
        assert_true(st_dtype_parse(all[i].name, &t) && t == all[i].t);
        assert_true(st_dtype_parse(all[i].alias, &t) && t == all[i].t);
    }
    static const char *const bad[] = {"", "F32", "float64", "bf", "float32 ", "int"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        st_dtype t = ST_U8;
        assert_false(st_dtype_parse(bad[i], &t));
        assert_int_equal(t, ST_U8);
    }
}

static void test_views(void **state)
{
    (void)state;
    float x[24];
    st_tensor t = st_view(x, ST_F32, 3, (int64_t[]){2, 3, 4});
    assert_int_equal(t.ndim, 3);
    assert_int_equal(st_numel(t), 24);
    assert_int_equal(st_bytes(t), 96);
    st_tensor s = st_slice(t, 5, 7);
    assert_ptr_equal(s.data, x + 5);
    assert_int_equal(s.ndim, 1);
    assert_int_equal(s.dim[0], 7);
    assert_int_equal(st_numel(st_slice(t, 24, 0)), 0);
    st_tensor m = st_view2(x, ST_BF16, 6, 4), r = st_rows(m, 2, 3);
    assert_ptr_equal(r.data, (char *)x + 2 * 4 * 2);
    assert_int_equal(r.dim[0], 3);
    assert_int_equal(r.dim[1], 4);
    assert_int_equal(r.dtype, ST_BF16);
    assert_int_equal(st_numel(st_rows(m, 6, 0)), 0);
    st_tensor scalar = st_view(x, ST_U8, 0, NULL);
    assert_int_equal(st_numel(scalar), 1);
    assert_int_equal(st_bytes(scalar), 1);
    assert_int_equal(st_numel(st_view1(x, ST_F32, 0)), 0);
}

/* Rows of a block format are cut between blocks. */
static void test_block_views(void **state)
{
    (void)state;
    static const struct {
        st_dtype t;
        size_t bytes;
    } of[] = {{ST_Q8_0, 34}, {ST_Q4_0, 18}, {ST_Q4_1, 20}};
    char x[1];
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        st_tensor w = st_view2(x, of[i].t, 6, 96), r = st_rows(w, 2, 3);
        assert_int_equal(st_bytes(w), 6 * 3 * of[i].bytes);
        assert_ptr_equal(r.data, x + 2 * 3 * of[i].bytes);
        assert_int_equal(st_bytes(r), 3 * 3 * of[i].bytes);
        assert_ptr_equal(st_slice(w, 64, 96).data, x + 2 * of[i].bytes);
        assert_int_equal(st_dtype_bytes(of[i].t, 320), 10 * of[i].bytes);
    }
    assert_null(st_dtype_blocks(ST_U8));
}

static void test_take(void **state)
{
    (void)state;
    st_arena a;
    st_err e;
    assert_ok(st_arena_open(&a, 4096, &e), &e);
    st_tensor x = st_take2(&a, ST_BF16, 3, 5), y = st_take1(&a, ST_F32, 2);
    st_tensor z = st_take(&a, ST_U8, 4, (int64_t[]){1, 2, 1, 2});
    assert_int_equal((char *)y.data - (char *)x.data, 64);
    assert_int_equal((char *)z.data - (char *)y.data, 64);
    assert_int_equal(st_numel(z), 4);
    assert_int_equal(x.dim[1], 5);
    memset(x.data, 1, st_bytes(x));
    assert_true(((float *)y.data)[0] == 0.0f);
    st_arena_close(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dtypes),
        cmocka_unit_test(test_views),
        cmocka_unit_test(test_block_views),
        cmocka_unit_test(test_take),
    };
    return cmocka_run_group_tests_name("tensor", tests, NULL, NULL);
}
