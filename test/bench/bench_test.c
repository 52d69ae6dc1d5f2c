/* Benchmarks: what is said about times that are known. */
/* SPDX-License-Identifier: MIT */
#include "bench/inner.h"
#include "testing.h"
#include <math.h>

static void same(double is, double wanted)
{
    if (fabs(is - wanted) > 1e-12 * fabs(wanted)) fail_msg("%.17g, not %.17g", is, wanted);
}

static void test_quantile(void **state)
{
    (void)state;
    double x[] = {5, 1, 4, 2, 3};
    same(bench_quantile(x, 5, 0.5), 3.0);
    same(bench_quantile(x, 5, 0.1), 1.4);
    same(bench_quantile(x, 5, 1.0), 5.0);
    same(bench_quantile(x, 1, 0.9), 1.0);
}

/* The ceiling that counts: arithmetic or memory, by dtype and by what is moved. */
static void test_roof(void **state)
{
    (void)state;
    bench_ceiling c = {.gflops = {100, 400}, .gbytes = {5, 50, 40, 30, 20}};
    same(bench_roof_least(&c, ST_F32, 50e9, 1e3), 1.0);
    same(bench_roof_least(&c, ST_BF16, 50e9, 1e3), 0.25);
    same(bench_roof_least(&c, ST_F32, 1, 40e9), 2.0);
    same(bench_roof_least(&c, ST_F32, 1, 9e6), 9e6 / 40e9);
    /* small sets are no slower than larger ones */
    same(bench_roof_least(&c, ST_F32, 1, 1e3), 1e3 / 50e9);
    bench_ceiling narrow = {.gflops = {100, 40}, .gbytes = {1, 1, 1, 1, 1}};
    same(bench_roof_least(&narrow, ST_BF16, 50e9, 1), 1.0);
}

/* Ratios are taken round by round: a slow phase that meets all of a round does not show. */
static void test_summary(void **state)
{
    (void)state;
    double dense[] = {1, 10, 2}, fast[] = {0.5, 5, 2};
    bench_ceiling probe[] = {
        {{2, 2}, {1, 1, 1, 1, 1}}, {{0.4, 0.4}, {1, 1, 1, 1, 1}}, {{1, 1}, {1, 1, 1, 1, 1}}};
    bench_roof roof = {.sample = probe, .n = 3};
    bench_item base = {.sample = dense};
    bench_item item = {.sample = fast, .macs = 0.5e9, .bytes = 1e6, .tokens = 8, .roof = &roof};
    json_t *s = bench_summary(&item, &base, 3);
    same(json_real_value(json_object_get(s, "median")), 2.0);
    same(json_real_value(json_object_get(s, "speedup")), 2.0);
    same(json_real_value(json_object_get(s, "speedup_p10")), 1.2);
    same(json_real_value(json_object_get(s, "roofline_percent")), 50.0);
    same(json_real_value(json_object_get(s, "gflops")), 0.5);
    same(json_real_value(json_object_get(s, "gbytes_per_s")), 5e-4);
    same(json_real_value(json_object_get(s, "tokens_per_second")), 4.0);
    json_decref(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantile),
        cmocka_unit_test(test_roof),
        cmocka_unit_test(test_summary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
