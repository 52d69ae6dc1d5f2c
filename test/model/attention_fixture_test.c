/* Ways to attend against fly's modules (tools/fixtures_attention.py), directions injected. */
/* SPDX-License-Identifier: MIT */
#include "attend_rig.h"

static float *numbers(const json_t *of, const char *key, int64_t *n)
{
    const json_t *list = json_object_get(of, key), *x;
    size_t i;
    *n = (int64_t)json_array_size(list);
    float *to = st_calloc(*n + 1, sizeof *to);
    assert_non_null(to);
    json_array_foreach(list, i, x) to[i] = (float)json_number_value(x);
    return to;
}

static void set(float *to, int64_t want, const json_t *of, const char *key)
{
    int64_t n;
    float *from = numbers(of, key, &n);
    assert_int_equal(n, want);
    memcpy(to, from, (size_t)n * sizeof *to);
    free(from);
}

static void check(const json_t *all, const json_t *c, const char *device)
{
    st_err e;
    st_attention m;
    int64_t heads = json_integer_value(json_object_get(all, "heads"));
    int64_t tokens = json_integer_value(json_object_get(all, "tokens"));
    int64_t dim = json_integer_value(json_object_get(all, "head_dim"));
    int64_t n = heads * tokens * dim, got = 0, given = 0;
    const char *text = json_string_value(json_object_get(c, "attention"));
    attend_rig r = rig_open(1, heads, dim, tokens, tokens, 1, 0);
    set(r.q, n, all, "q");
    set(r.k, n, all, "k");
    set(r.v, n, all, "v");
    r.scale = (float)json_number_value(json_object_get(c, "scale"));
    r.causal = (int)json_integer_value(json_object_get(c, "causal"));
    assert_ok(st_attention_parse(&m, text, &e), &e);
    float *want = numbers(c, "o", &got), *w = numbers(c, "projection", &given);
    assert_int_equal(got, n);
    if (given) m.projection = st_view1(w, ST_F32, given);
    rig_run_as(&r, &m, device, ST_F32);
    for (int64_t i = 0; i < n; i++) {
        if (fabsf(r.o[i] - want[i]) < 1e-5f) continue;
        fail_msg("%s on %s, number %d: %.8g, fly has %.8g", text, device, (int)i, (double)r.o[i],
                 (double)want[i]);
    }
    free(want);
    free(w);
    rig_close(&r);
}

static void modules_agree(void **state)
{
    (void)state;
    st_err e;
    size_t i;
    json_t *all;
    const json_t *c;
    assert_ok(st_json_load(&all, "test/fixtures/attention/attention.json", 1 << 24, &e), &e);
    assert_true(json_array_size(json_object_get(all, "cases")) > 30);
    json_array_foreach(json_object_get(all, "cases"), i, c)
    {
        check(all, c, "ref");
        check(all, c, "cpu");
    }
    json_decref(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(modules_agree)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
