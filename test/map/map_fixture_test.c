/* Every type against PyTorch (tools/fixtures_map.py): the conventions that laws cannot see. */
/* SPDX-License-Identifier: MIT */
#include "lab.h"

static const char fixture[] = "test/fixtures/map/maps.json";

/* Copies the numbers of obj[key] into t, or compares them with t. */
static void numbers(const json_t *obj, const char *key, st_tensor t, double tolerance)
{
    const json_t *list = json_object_get(obj, key);
    assert_int_equal(json_array_size(list), st_numel(t));
    double off = 0, size = 0;
    for (int64_t i = 0; i < st_numel(t); i++) {
        double v = json_number_value(json_array_get(list, (size_t)i));
        off = fmax(off, fabs(v - (double)lab_f(t)[i]));
        size = fmax(size, fabs(v));
        if (tolerance <= 0) lab_f(t)[i] = (float)v;
    }
    if (tolerance > 0 && !(off <= tolerance * size)) {
        fail_msg("%s is off by %.3g of %.3g", key, off, size);
    }
}

static void fixture_case(const json_t *c, const char *device)
{
    const char *spec = json_string_value(json_object_get(c, "spec"));
    print_message("         %s %s\n", device, spec);
    lab l = lab_open(device, spec, json_integer_value(json_object_get(c, "in")),
                     json_integer_value(json_object_get(c, "out")),
                     json_integer_value(json_object_get(c, "rows")));
    numbers(c, "x", l.x, 0);
    numbers(c, "dy", l.dy, 0);
    numbers(c, "bias", l.bias, 0);
    const json_t *parameters = json_object_get(c, "parameters");
    assert_int_equal(json_array_size(parameters), l.params);
    for (int i = 0; i < l.params; i++) {
        const json_t *p = json_array_get(parameters, (size_t)i);
        const json_t *shape = json_object_get(p, "shape");
        assert_string_equal(l.shape[i].name, json_string_value(json_object_get(p, "name")));
        assert_int_equal(l.shape[i].ndim, json_array_size(shape));
        for (int d = 0; d < l.shape[i].ndim; d++) {
            assert_int_equal(l.shape[i].dim[d],
                             json_integer_value(json_array_get(shape, (size_t)d)));
        }
        numbers(p, "value", l.t.p[i], 0);
        memset(l.dt.p[i].data, 0, st_bytes(l.dt.p[i]));
    }
    lab_forward(&l, &l.t, l.bias, l.kept);
    numbers(c, "y", l.y, 1e-5);
    lab_backward(&l, l.kept, l.dx, &l.dt);
    numbers(c, "dx", l.dx, 1e-5);
    for (int i = 0; i < l.params; i++) {
        numbers(json_array_get(parameters, (size_t)i), "grad", l.dt.p[i], 1e-5);
    }
    lab_close(&l);
}

static void test_as_pytorch(void **state)
{
    (void)state;
    st_err e = {0};
    json_t *root = NULL;
    assert_ok(st_json_load(&root, fixture, 1 << 24, &e), &e);
    const json_t *cases = json_object_get(root, "cases");
    assert_true(json_array_size(cases) > 10);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        fixture_case(json_array_get(cases, i), "ref");
        fixture_case(json_array_get(cases, i), "cpu");
    }
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_as_pytorch)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
