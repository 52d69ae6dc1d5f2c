/* Truncated SVD: factors, order, signs, best approximation; exact and randomised. */
/* SPDX-License-Identifier: MIT */
#include "linalg/linalg.h"
#include "testing.h"
#include <math.h>

/* A (m, n) = P diag(s) Q^T with orthonormal columns from Gram-Schmidt on random ones. */
static void basis(double *q, int64_t rows, int64_t cols, uint64_t seed)
{
    float *g = calloc((size_t)(rows * cols), sizeof *g);
    st_normal_fill(g, rows * cols, 0.0f, 1.0f, seed, 1);
    for (int64_t j = 0; j < cols; j++) {
        for (int64_t i = 0; i < rows; i++)
            q[i * cols + j] = (double)g[i * cols + j];
        for (int again = 0; again < 2; again++) {
            for (int64_t k = 0; k < j; k++) {
                double dot = 0;
                for (int64_t i = 0; i < rows; i++)
                    dot += q[i * cols + j] * q[i * cols + k];
                for (int64_t i = 0; i < rows; i++)
                    q[i * cols + j] -= dot * q[i * cols + k];
            }
        }
        double norm = 0;
        for (int64_t i = 0; i < rows; i++)
            norm += q[i * cols + j] * q[i * cols + j];
        for (int64_t i = 0; i < rows; i++)
            q[i * cols + j] /= sqrt(norm);
    }
    free(g);
}

static float *known(int64_t m, int64_t n, const double *s)
{
    int64_t k = m < n ? m : n;
    double *p = calloc((size_t)(m * k), sizeof *p), *q = calloc((size_t)(n * k), sizeof *q);
    float *a = calloc((size_t)(m * n), sizeof *a);
    basis(p, m, k, 5);
    basis(q, n, k, 6);
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) {
            double sum = 0;
            for (int64_t r = 0; r < k; r++)
                sum += p[i * k + r] * s[r] * q[j * k + r];
            a[i * n + j] = (float)sum;
        }
    }
    free(p);
    free(q);
    return a;
}

/* |a - u s vt|_F^2, and how far u^T u and vt vt^T are from I. */
static double residual(const st_svd *d, const float *a, int64_t m, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) {
            double v = (double)a[i * n + j];
            for (int64_t r = 0; r < d->rank; r++) {
                v -= (double)d->u[i * d->rank + r] * (double)d->s[r] * (double)d->vt[r * n + j];
            }
            sum += v * v;
        }
    }
    return sum;
}

static double crooked(const st_svd *d, int64_t m, int64_t n)
{
    double worst = 0;
    for (int64_t a = 0; a < d->rank; a++) {
        for (int64_t b = 0; b < d->rank; b++) {
            double u = a == b ? -1 : 0, v = u;
            for (int64_t i = 0; i < m; i++) {
                u += (double)d->u[i * d->rank + a] * (double)d->u[i * d->rank + b];
            }
            for (int64_t i = 0; i < n; i++)
                v += (double)d->vt[a * n + i] * (double)d->vt[b * n + i];
            worst = fmax(worst, fmax(fabs(u), fabs(v)));
        }
    }
    return worst;
}

enum { SIDE = 24 };
static const int64_t shapes[][3] = {{40, SIDE, 7},   {SIDE, 40, 7}, {SIDE, SIDE, SIDE},
                                    {500, SIDE, 24}, {SIDE, 90, 1}, {1, 1, 1}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static void test_known_singular_values(void **state)
{
    (void)state;
    double s[SIDE], tail;
    for (int i = 0; i < SIDE; i++)
        s[i] = 10.0 * pow(0.7, i);
    for (int i = 0; i < SHAPES; i++) {
        for (int randomized = 0; randomized < 2; randomized++) {
            int64_t m = shapes[i][0], n = shapes[i][1], r = shapes[i][2];
            int64_t side = m < n ? m : n;
            float *a = known(m, n, s);
            st_svd d = {0};
            st_err e = {0};
            assert_ok(st_svd_open(&d, a, m, n, r, randomized, 1, &e), &e);
            tail = 0;
            double total = 0;
            for (int64_t j = 0; j < side; j++) {
                total += s[j] * s[j];
                if (j >= r) tail += s[j] * s[j];
                if (j < r) assert_true(fabs((double)d.s[j] - s[j]) < 1e-5 * s[0]);
            }
            assert_true(fabs(d.total - total) < 1e-5 * total);
            assert_true(fabs(residual(&d, a, m, n) - tail) < 1e-5 * total);
            assert_true(crooked(&d, m, n) < 1e-5);
            for (int64_t j = 0; j < r; j++) {
                float top = 0;
                for (int64_t k = 0; k < n; k++) {
                    if (fabsf(d.vt[j * n + k]) > fabsf(top)) top = d.vt[j * n + k];
                }
                assert_true(top > 0);
            }
            st_svd_close(&d);
            free(a);
        }
    }
}

/* Rank 3 asked as rank 6: what is beyond is zero, the vectors stay orthonormal. */
static void test_deficient_rank(void **state)
{
    (void)state;
    double s[SIDE] = {5, 3, 1};
    float *a = known(30, SIDE, s);
    for (int randomized = 0; randomized < 2; randomized++) {
        st_svd d = {0};
        st_err e = {0};
        assert_ok(st_svd_open(&d, a, 30, SIDE, 6, randomized, 1, &e), &e);
        for (int j = 3; j < 6; j++)
            assert_true(d.s[j] >= 0 && d.s[j] < 1e-5f);
        assert_true(crooked(&d, 30, SIDE) < 1e-5);
        assert_true(residual(&d, a, 30, SIDE) < 1e-9);
        st_svd_close(&d);
    }
    free(a);
    float zero[12] = {0};
    st_svd d = {0};
    st_err e = {0};
    assert_ok(st_svd_open(&d, zero, 4, 3, 2, false, 0, &e), &e);
    assert_true(d.s[0] == 0 && d.total == 0);
    st_svd_close(&d);
}

/* On a flat spectrum the sketch is within a percent of the best error, and repeatable. */
static void test_randomised_on_noise(void **state)
{
    (void)state;
    enum { M = 120, N = 80, R = 20 };
    static float a[M * N];
    st_normal_fill(a, M * N, 0.0f, 1.0f, 3, 3);
    st_svd exact = {0}, one = {0}, two = {0};
    st_err e = {0};
    assert_ok(st_svd_open(&exact, a, M, N, R, false, 0, &e), &e);
    assert_ok(st_svd_open(&one, a, M, N, R, true, 8, &e), &e);
    assert_ok(st_svd_open(&two, a, M, N, R, true, 8, &e), &e);
    assert_true(residual(&one, a, M, N) < 1.01 * residual(&exact, a, M, N));
    assert_memory_equal(one.u, two.u, M * R * sizeof(float));
    st_svd_close(&exact);
    st_svd_close(&one);
    st_svd_close(&two);
}

static void test_numbers_that_are_none(void **state)
{
    (void)state;
    float a[6] = {1, 2, INFINITY, 4, 5, 6};
    st_svd d = {0};
    st_err e = {0};
    assert_st(st_svd_open(&d, a, 2, 3, 1, false, 0, &e), ST_EARG, &e);
    assert_says(&e, "(0, 2)");
    assert_null(d.u);
    st_svd_close(&d);
    st_svd_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_singular_values),
        cmocka_unit_test(test_deficient_rank),
        cmocka_unit_test(test_randomised_on_noise),
        cmocka_unit_test(test_numbers_that_are_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
