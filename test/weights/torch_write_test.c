/* Archives for PyTorch: read back by our reader, and by PyTorch itself where it is at hand. */
/* SPDX-License-Identifier: MIT */
#include "testing.h"
#include "weights/weights.h"
#include <unistd.h>

static const st_store_item items[] = {
    {"wte.weight", ST_F32, {5, 4}, 2},
    {"h.0.bf16", ST_BF16, {3, 2}, 2},
    {"h.0.f16", ST_F16, {7}, 1},
    {"ids", ST_I32, {2, 2}, 2},
    {"bytes", ST_U8, {3}, 1},
    {"scalar", ST_F32, {0}, 0},
    {"none", ST_F32, {0, 3}, 2},
    {"na\xc3\xafve", ST_F32, {1}, 1},
    {"lm_head.weight", ST_F32, {4, 5}, 2},
};
enum { ITEMS = sizeof items / sizeof *items };
static const int64_t tied[ITEMS] = {-1, -1, -1, -1, -1, -1, -1, -1, 0};

static float number(int64_t k, int64_t i)
{
    return (float)((i * 37 + k * 11) % 101 - (items[k].dtype > ST_F16 ? 0 : 50));
}

static int64_t elements(int64_t k)
{
    int64_t n = 1;
    for (int d = 0; d < items[k].ndim; d++)
        n *= items[k].dim[d];
    return n;
}

static st_status fill(void *ctx, int64_t k, void *data, size_t bytes, st_err *e)
{
    if (ctx && k == *(int64_t *)ctx) ST_FAIL(e, ST_EINTR, "interrupted");
    assert_int_equal(bytes, (size_t)elements(k) * st_dtype_size(items[k].dtype));
    for (int64_t i = 0; i < elements(k); i++) {
        float x = number(k, i);
        switch (items[k].dtype) {
        case ST_F32: ((float *)data)[i] = x; break;
        case ST_BF16: ((uint16_t *)data)[i] = st_f32_to_bf16(x); break;
        case ST_F16: ((uint16_t *)data)[i] = st_f32_to_f16(x); break;
        case ST_I32: ((int32_t *)data)[i] = (int32_t)x; break;
        case ST_U16: ((uint16_t *)data)[i] = (uint16_t)x; break;
        case ST_U8: ((uint8_t *)data)[i] = (uint8_t)x; break;
        default: fail_msg("items have no blocks");
        }
    }
    return ST_OK;
}

static json_t *some_extra(void)
{
    return json_pack("{s:{s:i, s:b, s:f, s:n}, s:I, s:[i, i, i, s], s:{}, s:[], s:I, s:i}",
                     "model_args", "n_layer", 12, "bias", 0, "dropout", 0.1, "none", "iter_num",
                     (json_int_t)1 << 40, "list", 255, 256, -1, "caf\xc3\xa9", "object", "empty",
                     "small", INT64_MIN, "half", 65536);
}

/* What the file must hold, for the checking script. */
static json_t *expected(const char *key, const char *prefix, const json_t *extra, bool shared)
{
    static const char *const dtypes[] = {"float32", "bfloat16", "float16", "int32", "", "uint8"};
    json_t *tensors = json_object(), *pairs = json_array();
    for (int64_t k = 0; k < ITEMS; k++) {
        int64_t from = shared && tied[k] >= 0 ? tied[k] : k;
        json_t *shape = json_array(), *numbers = json_array();
        for (int d = 0; d < items[k].ndim; d++)
            json_array_append_new(shape, json_integer(items[k].dim[d]));
        for (int64_t i = 0; i < elements(k); i++)
            json_array_append_new(numbers, json_real((double)number(from, i)));
        char name[64];
        snprintf(name, sizeof name, "%s%s", prefix, items[k].name);
        json_object_set_new(tensors, name,
                            json_pack("[s, o, o]", dtypes[items[k].dtype], shape, numbers));
    }
    if (shared) {
        char a[64], b[64];
        snprintf(a, sizeof a, "%swte.weight", prefix);
        snprintf(b, sizeof b, "%slm_head.weight", prefix);
        json_array_append_new(pairs, json_pack("[s, s]", a, b));
    }
    json_t *j = json_pack("{s:o, s:o, s:i}", "tensors", tensors, "tied", pairs, "storages",
                          ITEMS - 1 - (shared ? 1 : 0));
    json_object_set_new(j, "key", key ? json_string(key) : json_null());
    json_object_set_new(j, "extra", extra ? json_deep_copy(extra) : json_object());
    return j;
}

static void check_ours(const char *path, const char *prefix, const json_t *extra, bool shared)
{
    st_weights *w;
    st_err e;
    assert_ok(st_weights_open(&w, path, &e), &e);
    assert_string_equal(st_weights_form(w), "torch");
    assert_int_equal(st_weights_count(w), ITEMS);
    for (int64_t k = 0; k < ITEMS; k++) {
        const st_stored *t = st_weights_at(w, k);
        float value[32];
        int32_t whole[32];
        bool real = items[k].dtype <= ST_F16;
        assert_int_equal(strncmp(t->name, prefix, strlen(prefix)), 0);
        assert_string_equal(t->name + strlen(prefix), items[k].name);
        assert_int_equal(t->offset % 64, 0);
        st_tensor to =
            real ? st_view1(value, ST_F32, elements(k)) : st_view1(whole, ST_I32, elements(k));
        assert_ok(st_stored_read(t, to, &e), &e);
        for (int64_t i = 0; i < elements(k); i++)
            assert_true((real ? value[i] : (float)whole[i]) ==
                        number(shared && tied[k] >= 0 ? tied[k] : k, i));
    }
    json_t *none = json_object();
    assert_true(json_equal(st_weights_extra(w), extra ? extra : none));
    json_decref(none);
    st_weights_close(w);
}

/* Debian's, which may have python3-torch, or another that the environment names. */
static const char *python(void)
{
    const char *own = getenv("PYTHON");
    return own && *own ? own : "/usr/bin/python3";
}

/* Every form of archive; with `load`, through the script of the fixtures. */
static void check_all(bool load)
{
    const char *dir = st_test_dir(), *path = st_test_path(dir, "x.pt");
    json_t *extra = some_extra();
    assert_non_null(extra);
    const struct {
        st_torch_how how;
        const char *prefix;
    } rows[] = {
        {{0}, ""},
        {{.same = tied}, ""},
        {{.key = "model", .extra = extra, .same = tied, .prefix = "_orig_mod."}, "_orig_mod."}};
    for (int i = 0; i < 3; i++) {
        const st_torch_how *how = &rows[i].how;
        st_err e;
        assert_ok(st_torch_write(path, items, ITEMS, i ? how : NULL, fill, NULL, &e), &e);
        check_ours(path, rows[i].prefix, how->extra, how->same);
        if (!load) continue;
        json_t *want = expected(how->key, rows[i].prefix, how->extra, how->same);
        const char *other = st_test_path(dir, "x.json");
        assert_int_equal(json_dump_file(want, other, 0), 0);
        json_decref(want);
        char command[2400];
        snprintf(command, sizeof command, "%s tools/fixtures_torch.py check %s %s", python(), path,
                 other);
        assert_int_equal(system(command), 0);
    }
    json_decref(extra);
    st_test_remove(dir);
}

static void test_round_trip(void **state)
{
    (void)state;
    check_all(false);
}

static void test_pytorch_loads(void **state)
{
    (void)state;
    char command[1200];
    snprintf(command, sizeof command, "%s -c 'import torch' 2>/dev/null", python());
    if (system(command)) {
        print_message("no python3-torch: that PyTorch loads what is written is not tested\n");
        skip();
    }
    check_all(true);
}

/* The same tensors give the same bytes. */
static void test_same_bytes(void **state)
{
    (void)state;
    const char *dir = st_test_dir();
    st_err e;
    assert_ok(st_torch_write(st_test_path(dir, "a"), items, ITEMS, NULL, fill, NULL, &e), &e);
    assert_ok(st_torch_write(st_test_path(dir, "b"), items, ITEMS, NULL, fill, NULL, &e), &e);
    assert_same_files(st_test_path(dir, "a"), st_test_path(dir, "b"));
    st_test_remove(dir);
}

static void test_refuses(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "x.pt");
    const st_store_item twice[] = {{"a", ST_F32, {1}, 1}, {"a", ST_F32, {1}, 1}};
    const st_store_item unknown[] = {{"a", ST_U16, {1}, 1}};
    const st_store_item huge[] = {{"a", ST_F32, {INT64_MAX / 2, 3}, 2}};
    const st_store_item bad[] = {{"\xff", ST_F32, {1}, 1}};
    int64_t same[ITEMS], last = ITEMS - 2;
    st_err e;
    assert_st(st_torch_write(path, twice, 2, NULL, fill, NULL, &e), ST_EARG, &e);
    assert_says(&e, "two tensors are named a");
    assert_st(st_torch_write(path, unknown, 1, NULL, fill, NULL, &e), ST_EARG, &e);
    assert_st(st_torch_write(path, huge, 1, NULL, fill, NULL, &e), ST_ESHAPE, &e);
    assert_st(st_torch_write(path, bad, 1, NULL, fill, NULL, &e), ST_EARG, &e);
    assert_st(st_torch_write(path, items, ITEMS, NULL, fill, &last, &e), ST_EINTR, &e);
    memcpy(same, tied, sizeof same);
    same[ITEMS - 1] = 1; /* of another type */
    assert_st(st_torch_write(path, items, ITEMS, &(st_torch_how){.same = same}, fill, NULL, &e),
              ST_EARG, &e);
    assert_says(&e, "lm_head.weight cannot share");
    json_t *deep = json_object();
    for (int i = 0; i < 70; i++)
        deep = json_pack("{s:o}", "a", deep);
    assert_st(st_torch_write(path, items, ITEMS, &(st_torch_how){.key = "model", .extra = deep},
                             fill, NULL, &e),
              ST_EARG, &e);
    json_decref(deep);
    assert_int_equal(st_test_entries(dir), 0);
    st_test_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_pytorch_loads),
        cmocka_unit_test(test_same_bytes),
        cmocka_unit_test(test_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
