/* Checkpoints with objects of programs in them (test/fixtures/foreign, tools/fixtures_foreign.py):
 * inert beside the weights, named in the place of a tensor. */
/* SPDX-License-Identifier: MIT */
#include "rig/json.h"
#include "weights/weights.h"
#include <dirent.h>

static float real(int64_t k, int64_t i)
{
    return (float)((i * 37 + k * 11) % 101 - 50) / 8;
}

#define FOREIGN "test/fixtures/foreign/"

/* Beside the weights they mean nothing, whatever they are. */
static void test_beside(void **state)
{
    (void)state;
    DIR *dir = opendir(FOREIGN "beside");
    assert_non_null(dir);
    int files = 0;
    for (struct dirent *d; (d = readdir(dir));) {
        if (d->d_name[0] == '.') continue;
        char path[400];
        st_weights *w;
        st_err e;
        float value[6];
        snprintf(path, sizeof path, FOREIGN "beside/%s", d->d_name);
        assert_ok(st_weights_open(&w, path, &e), &e);
        assert_int_equal(st_weights_count(w), 1);
        const st_stored *t = st_weights_find(w, "w");
        assert_non_null(t);
        assert_true(t->ndim == 2 && t->dim[0] == 2 && t->dim[1] == 3);
        assert_ok(st_stored_read(t, st_view1(value, ST_F32, 6), &e), &e);
        for (int64_t i = 0; i < 6; i++)
            assert_true(value[i] == real(0, i));
        st_weights_close(w);
        files++;
    }
    closedir(dir);
    assert_int_equal(files, 36);
}

/* Their plain attributes can be looked at. */
static void test_attributes(void **state)
{
    (void)state;
    static const struct {
        const char *name, *has;
    } rows[] = {
        {"dataclass", "{\"block_size\": 8, \"n_layer\": 2, \"n_head\": 2, \"n_embd\": 6, "
                      "\"rate\": 0.5, \"name\": \"tiny\"}"},
        {"dataclass-legacy", "{\"block_size\": 8, \"n_layer\": 2, \"n_head\": 2, \"n_embd\": 6, "
                             "\"rate\": 0.5, \"name\": \"tiny\"}"},
        {"slots", "{\"n_head\": 4}"},
        {"cyclic", "{\"n_head\": 4}"},
        {"attributes", "{\"lr\": 0.001, \"note\": \"x\"}"},
        {"bytearray", "{}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char path[128];
        st_weights *w;
        st_err e;
        snprintf(path, sizeof path, FOREIGN "beside/%s.pt", rows[i].name);
        assert_ok(st_weights_open(&w, path, &e), &e);
        same_json(json_object_get(st_weights_extra(w), "hyper_parameters"), rows[i].has);
        assert_int_equal(json_integer_value(json_object_get(st_weights_extra(w), "step")), 3);
        st_weights_close(w);
    }
}

/* In place of a tensor they are named. */
static void test_needed(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"sparse", "{\"w\": \"torch._utils._rebuild_sparse_tensor\"}"},
        {"quantized", "{\"w\": \"torch._utils._rebuild_qtensor\"}"},
        {"call", "{\"w\": \"__main__.hook\"}"},
    };
    st_weights *w;
    st_err e;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char path[128];
        snprintf(path, sizeof path, FOREIGN "needed/%s.pt", rows[i][0]);
        assert_ok(st_weights_open(&w, path, &e), &e);
        assert_int_equal(st_weights_count(w), 1);
        same_json(st_weights_unread(w), rows[i][1]);
        st_weights_close(w);
    }
    assert_st(st_weights_open(&w, FOREIGN "needed/around.pt", &e), ST_EFORMAT, &e);
    assert_says(&e, "its model was made by __main__.hook, which is not read");
    assert_st(st_weights_open(&w, FOREIGN "needed/whole.pt", &e), ST_EFORMAT, &e);
    assert_says(&e, "holds an object of torch.nn.modules.linear.Linear, which is not read");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_beside),
        cmocka_unit_test(test_attributes),
        cmocka_unit_test(test_needed),
    };
    return cmocka_run_group_tests_name("torch foreign", tests, NULL, NULL);
}
