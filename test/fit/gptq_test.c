/* Rounding to blocks by a covariance: never worse than rounding to the nearest in the norm that the
 * covariance gives, better where inputs go together, exact on what blocks say; and a whole model,
 * whose factors are rounded in the order of its layers. */
/* SPDX-License-Identifier: MIT */
#include "fit/fit.h"
#include "fit/quantize.h"
#include "testing.h"
#include <math.h>

enum { ROWS = 40, N = 96, TOKENS = 300 };

/* E[x^T x] of inputs that a few numbers make, near and far ones alike, the last 32 always 0 if
 * `dead`. */
static void covariance(double *c, bool dead)
{
    static float x[TOKENS * N];
    st_normal_fill(x, TOKENS * N, 0, 1, 11, 0);
    for (int t = 0; t < TOKENS; t++) {
        float few[8];
        memcpy(few, x + t * N, sizeof few);
        for (int i = 0; i < N; i++)
            x[t * N + i] = few[i % 8] + 0.5f * few[i * 5 % 7] + 0.2f * x[t * N + i];
        for (int i = N - 32; i < N && dead; i++)
            x[t * N + i] = 0;
    }
    for (int i = 0; i < N * N; i++) {
        c[i] = 0;
        for (int t = 0; t < TOKENS; t++)
            c[i] += (double)x[t * N + i / N] * (double)x[t * N + i % N] / TOKENS;
    }
}

static double error_of(const float *w, const float *v, const double *c, int row)
{
    double sum = 0;
    for (int i = 0; i < N * N; i++) {
        int a = row * N + i / N, b = row * N + i % N;
        sum += ((double)w[a] - (double)v[a]) * c[i] * ((double)w[b] - (double)v[b]);
    }
    return sum;
}

static void test_matrix(void **state)
{
    (void)state;
    static float w[ROWS * N], v[ROWS * N], near[ROWS * N], again[ROWS * N];
    static double c[N * N];
    st_normal_fill(w, ROWS * N, 0, 0.02f, 5, 0);
    for (int i = 0; i < 6; i++) {
        st_dtype t = (st_dtype)(ST_Q8_0 + i / 2);
        st_quantize_errors e2 = {0};
        st_err e = {0};
        uint8_t blocks[ROWS * N * 2];
        double sum = 0, nearest = 0;
        covariance(c, i % 2);
        memcpy(v, w, sizeof v);
        assert_ok(st_quantize_matrix(v, ROWS, N, t, c, &e2, &e), &e);
        st_convert(blocks, t, w, ST_F32, ROWS * N);
        st_convert(near, ST_F32, blocks, t, ROWS * N);
        for (int r = 0; r < ROWS; r++) {
            double own = error_of(w, v, c, r), other = error_of(w, near, c, r);
            assert_true(own <= other * (1 + 1e-9));
            sum += own;
            nearest += other;
        }
        assert_true(sum < 0.35 * nearest);
        assert_true(fabs(e2.kept - sum) < 1e-6 * sum &&
                    fabs(e2.nearest - nearest) < 1e-6 * nearest);
        st_convert(blocks, t, v, ST_F32, ROWS * N); /* what a file then holds */
        st_convert(again, ST_F32, blocks, t, ROWS * N);
        for (int k = 0; k < ROWS * N; k++)
            assert_true(again[k] == v[k]);
    }
}

/* No numbers at all go through it, and what cannot be a covariance is refused. */
static void test_degenerate(void **state)
{
    (void)state;
    static float w[ROWS * N];
    static double c[N * N];
    st_quantize_errors e2 = {0};
    st_err e = {0};
    assert_ok(st_quantize_matrix(w, ROWS, N, ST_Q4_0, c, &e2, &e), &e);
    assert_true(w[0] == 0 && e2.kept == 0);
    c[5] = c[5 * N] = (double)NAN;
    assert_st(st_quantize_matrix(w, ROWS, N, ST_Q4_0, c, &e2, &e), ST_EARG, &e);
    assert_says(&e, "is not a finite number");
}

static void test_model(void **state)
{
    (void)state;
    static const char text[] =
        "{\"model_type\":\"gpt2\",\"vocab_size\":50,\"n_positions\":16,\"n_embd\":64,\"n_layer\":2,"
        "\"n_head\":2,\"n_inner\":96,\"initializer_range\":0.3,\"strut\":{\"format\":1,\"maps\":{"
        "\"h.0.mlp.c_fc\":\"lowrank:rank=32\",\"h.1.mlp.c_fc\":\"monarch:blocks=2,inner=64\","
        "\"h.1.mlp.c_proj\":\"kron:m1=12,n1=16\"}}}";
    static int32_t ids[2000];
    json_t *config = NULL, *rows = NULL, *row;
    st_model *m = NULL;
    st_err e = {0};
    size_t i;
    assert_ok(st_json_parse(&config, text, strlen(text), "test", &e), &e);
    assert_ok(st_model_open(&m, config, &e), &e);
    json_decref(config);
    float *flat = st_calloc(st_model_elements(m), sizeof *flat);
    assert_non_null(flat);
    assert_ok(st_fresh_weights(m, 3, flat, &e), &e);
    for (int k = 0; k < 2000; k++)
        ids[k] = (int32_t)(st_philox(9, 0, (uint64_t)k).v[0] % 50);
    assert_ok(st_model_quantize(m, (const char *const[]){"q4"}, 1, NULL, &e), &e);
    assert_ok(st_quantize_all(m, flat, ids, 2000, &rows, &e), &e);
    assert_int_equal(json_array_size(rows), 7); /* not wte, not the Kronecker sum */
    assert_string_equal(json_string_value(json_object_get(json_array_get(rows, 0), "name")),
                        "h.0.attn.c_attn");
    json_array_foreach(rows, i, row)
    {
        double near = json_number_value(json_object_get(row, "nearest"));
        double error = json_number_value(json_object_get(row, "error"));
        assert_true(error > 0 && error <= near && near < 0.3);
    }
    json_decref(rows);
    free(flat);
    st_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matrix),
        cmocka_unit_test(test_degenerate),
        cmocka_unit_test(test_model),
    };
    return cmocka_run_group_tests_name("gptq", tests, NULL, NULL);
}
