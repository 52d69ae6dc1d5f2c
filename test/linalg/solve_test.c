/* Products and positive definite systems against plain loops. */
/* SPDX-License-Identifier: MIT */
#include "linalg/linalg.h"
#include "testing.h"
#include <math.h>

enum { N = 7, M = 5 };

static void fill(double *x, int n, uint64_t stream)
{
    float f[N * N];
    st_normal_fill(f, n, 0.0f, 1.0f, 5, stream);
    for (int i = 0; i < n; i++)
        x[i] = (double)f[i];
}

/* a a^T + 1, positive definite. */
static void spd(double *c)
{
    double a[N * N];
    fill(a, N * N, 1);
    for (int i = 0; i < N * N; i++) {
        c[i] = i % (N + 1) ? 0.0 : 1.0;
        for (int k = 0; k < N; k++)
            c[i] += a[i / N * N + k] * a[i % N * N + k];
    }
}

static void near(const double *got, const double *want, int n, const char *what)
{
    for (int i = 0; i < n; i++) {
        if (!(fabs(got[i] - want[i]) < 1e-10))
            fail_msg("%s[%d] is %.12g, expected %.12g", what, i, got[i], want[i]);
    }
}

/* out = a b, (m, k) (k, n). */
static void times(double *out, const double *a, const double *b, int m, int k, int n)
{
    for (int i = 0; i < m * n; i++) {
        out[i] = 0.0;
        for (int j = 0; j < k; j++)
            out[i] += a[i / n * k + j] * b[j * n + i % n];
    }
}

static void a_factor_gives_the_matrix_back(void **state)
{
    (void)state;
    double c[N * N], l[N * N], t[N * N], back[N * N];
    st_err e = {0};
    spd(c);
    memcpy(l, c, sizeof l);
    for (int i = 0; i < N * N; i++) { /* the upper triangle is not read */
        if (i % N > i / N) l[i] = (double)NAN;
    }
    assert_ok(st_cholesky(l, N, &e), &e);
    for (int i = 0; i < N * N; i++) {
        t[i] = l[i % N * N + i / N];
        if (i % N > i / N) assert_true(l[i] == 0.0);
    }
    times(back, l, t, N, N, N);
    near(back, c, N * N, "L L^T");
}

static void systems_are_solved(void **state)
{
    (void)state;
    double c[N * N], l[N * N], lt[N * N], b[M * N], x[M * N], want[M * N];
    st_err e = {0};
    spd(c);
    memcpy(l, c, sizeof l);
    assert_ok(st_cholesky(l, N, &e), &e);
    for (int i = 0; i < N * N; i++)
        lt[i] = l[i % N * N + i / N];
    fill(b, M * N, 2);
    memcpy(x, b, sizeof x);
    st_lower_times(l, N, x, M);
    times(want, b, l, M, N, N);
    near(x, want, M * N, "b L");
    st_lower_over(l, N, x, M);
    near(x, b, M * N, "b L L^-1");
    st_lower_left_t(l, N, x, M); /* (N, M) now */
    times(want, lt, x, N, N, M);
    near(want, b, M * N, "L^T L^-T b");
    memcpy(x, b, sizeof x);
    st_cholesky_solve(l, N, x, M);
    times(want, c, x, N, N, M);
    near(want, b, M * N, "C C^-1 b");
}

static void products_and_norms(void **state)
{
    (void)state;
    double c[N * N], a[M * N], at[M * N], got[M * M], want[M * M], half[M * N];
    float w[M * N], v[M * N];
    spd(c);
    fill(a, M * N, 3);
    for (int i = 0; i < M * N; i++)
        at[i % N * M + i / N] = a[i];
    times(want, a, at, M, N, M);
    for (int way = 0; way < 4; way++) {
        for (int i = 0; i < M * M; i++)
            got[i] = 1.0;
        st_product_run(&(st_product){.m = M,
                                     .n = M,
                                     .k = N,
                                     .ta = way & 1,
                                     .tb = way >> 1,
                                     .a = way & 1 ? at : a,
                                     .b = way >> 1 ? a : at,
                                     .c = got,
                                     .beta = -2.0});
        for (int i = 0; i < M * M; i++)
            got[i] += 2.0;
        near(got, want, M * M, "product");
    }
    double sum = 0.0;
    for (int i = 0; i < M * N; i++) {
        w[i] = (float)a[i];
        a[i] = (double)w[i];
    }
    times(half, a, c, M, N, N);
    for (int i = 0; i < M * N; i++)
        sum += half[i] * (double)(v[i] = w[(i + 3) % (M * N)]);
    assert_true(fabs(st_inner_under(w, v, M, N, c) - sum) < 1e-9 * (1 + fabs(sum)));
}

static void what_is_not_definite_is_refused(void **state)
{
    (void)state;
    double c[N * N];
    st_err e = {0};
    spd(c);
    c[3 * N + 3] = -1.0;
    assert_st(st_cholesky(c, N, &e), ST_EARG, &e);
    assert_says(&e, "row 4");
    spd(c);
    c[2 * N + 1] = (double)NAN;
    assert_st(st_cholesky(c, N, &e), ST_EARG, &e);
    assert_says(&e, "(2, 1)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_factor_gives_the_matrix_back),
        cmocka_unit_test(systems_are_solved),
        cmocka_unit_test(products_and_norms),
        cmocka_unit_test(what_is_not_definite_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
