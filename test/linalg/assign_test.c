/* Linear assignment: the best of all permutations of small matrices, planted and tied ones, no ring
 * of exchanges that gains in larger ones. */
/* SPDX-License-Identifier: MIT */
#include "linalg/linalg.h"
#include "testing.h"
#include <math.h>

static double gain_of(const float *g, int64_t n, const int64_t *row_of)
{
    bool seen[1024] = {0};
    double sum = 0;
    for (int64_t j = 0; j < n; j++) {
        assert_true(row_of[j] >= 0 && row_of[j] < n && !seen[row_of[j]]);
        seen[row_of[j]] = true;
        sum += (double)g[row_of[j] * n + j];
    }
    return sum;
}

static double best_of_all(const float *g, int64_t n, int64_t j, unsigned used)
{
    if (j == n) return 0;
    double best = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
        if (used & 1u << i) continue;
        best = fmax(best, (double)g[i * n + j] + best_of_all(g, n, j + 1, used | 1u << i));
    }
    return best;
}

static void assign_small(void **state)
{
    (void)state;
    float g[64];
    int64_t row_of[8];
    st_err e = {0};
    for (int64_t n = 1; n <= 7; n++) {
        for (uint64_t seed = 0; seed < 200; seed++) {
            st_normal_fill(g, n * n, 0.0f, 1.0f, seed, 1);
            /* ties: few different numbers; and rows that all want the same */
            for (int64_t i = 0; i < n * n && seed % 3 == 1; i++)
                g[i] = roundf(g[i]);
            for (int64_t i = 0; i < n * n && seed % 3 == 2; i++)
                g[i] = g[i % n] * (1.0f + (float)(i / n));
            assert_ok(st_assign(g, n, row_of, &e), &e);
            assert_true(fabs(gain_of(g, n, row_of) - best_of_all(g, n, 0, 0)) < 1e-5);
        }
    }
    memset(g, 0, sizeof g);
    assert_ok(st_assign(g, 8, row_of, &e), &e);
    assert_true(gain_of(g, 8, row_of) <= 0.0);
}

/* Gains <x_i, y_j> of a hidden permutation with noise. */
static void assign_planted(void **state)
{
    (void)state;
    enum { N = 300, K = 40 };
    static float x[N * K], y[N * K], g[N * N];
    int64_t row_of[N];
    st_err e = {0};
    st_normal_fill(x, N * K, 0.0f, 1.0f, 1, 1);
    st_normal_fill(y, N * K, 0.0f, 0.1f, 1, 2);
    for (int64_t j = 0; j < N; j++) {
        for (int64_t k = 0; k < K; k++)
            y[j * K + k] += x[j * 7 % N * K + k]; /* 7 and 300 share no factor */
    }
    for (int64_t i = 0; i < N; i++) {
        for (int64_t j = 0; j < N; j++) {
            double sum = 0;
            for (int64_t k = 0; k < K; k++)
                sum += (double)x[i * K + k] * (double)y[j * K + k];
            g[i * N + j] = (float)sum;
        }
    }
    assert_ok(st_assign(g, N, row_of, &e), &e);
    for (int64_t j = 0; j < N; j++)
        assert_int_equal(row_of[j], j * 7 % N);
}

/* Optimal if and only if no rows gain by handing their columns round in a ring: potentials of
 * columns by Bellman and Ford's longest paths, which settle unless there is such a ring. */
static bool assign_is_best(const float *g, int64_t n, const int64_t *row_of)
{
    static double far[1024];
    bool moved = true;
    memset(far, 0, sizeof far);
    for (int64_t turn = 0; turn <= n && moved; turn++) {
        moved = false;
        for (int64_t j = 0; j < n; j++) {
            const float *row = g + row_of[j] * n;
            for (int64_t k = 0; k < n; k++) {
                double x = far[j] + (double)row[k] - (double)row[j];
                if (x <= far[k] + 1e-9) continue;
                far[k] = x;
                moved = true;
            }
        }
    }
    return !moved;
}

/* Columns in groups of four that want the same rows in different measure, which leaves many rows
 * without a column to the paths; ties; noise. */
static void assign_crowded(void **state)
{
    (void)state;
    enum { N = 200, MOST = 257 };
    static const float slot[] = {1.0f, 0.6f, 0.3f, 0.05f};
    static float g[MOST * MOST], x[MOST * MOST];
    int64_t r[MOST];
    st_err e = {0};
    for (int kind = 0; kind < 3; kind++) {
        int64_t n = kind == 2 ? MOST : N;
        st_normal_fill(x, n * n, 0.0f, 1.0f, 4, (uint64_t)kind);
        for (int64_t i = 0; i < n; i++) {
            for (int64_t j = 0; j < n; j++) {
                float group = x[i * n + j / 4] + (float)(i == j) * 3.0f;
                g[i * n + j] = kind ? x[i * n + j] : slot[j % 4] * group;
                if (kind == 1) g[i * n + j] = roundf(2.0f * g[i * n + j]);
            }
        }
        assert_ok(st_assign(g, n, r, &e), &e);
        gain_of(g, n, r);
        assert_true(assign_is_best(g, n, r));
        int64_t swap = r[3];
        r[3] = r[9];
        r[9] = swap;
        assert_true(kind == 1 || !assign_is_best(g, n, r));
    }
    g[5] = NAN;
    assert_st(st_assign(g, MOST, r, &e), ST_EARG, &e);
    assert_says(&e, "(0, 5)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(assign_small),
        cmocka_unit_test(assign_planted),
        cmocka_unit_test(assign_crowded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
