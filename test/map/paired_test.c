/* Projection of a matrix that is fed other rows than its replacement (in_cross): the outputs of the
 * rows themselves are compared, and least squares is solved by Gaussian elimination over them. */
/* SPDX-License-Identifier: MIT */
#include "lab.h"
#include "shapes.h"

enum { SIDE = 24, ROWS = 60 };

/* Rows h of W and x of W', their moments, and the ridge of the mean diagonal. */
typedef struct {
    lab l;
    double h[ROWS * SIDE], x[ROWS * SIDE];
    float cov[SIDE * SIDE], cross[SIDE * SIDE];
    double ridge;
} rig;

/* Sums settle near a stationary point only, also without a text. */
static bool rig_wanted(int i)
{
    return shapes[i].how & FULL || (shapes[i].how & (PROJECT | LOCAL)) == PROJECT;
}

static void rig_moments(rig *r)
{
    int n = (int)r->l.s.in;
    r->ridge = 0.0;
    for (int a = 0; a < n; a++) {
        for (int b = 0; b < n; b++) {
            double cov = 0.0, cross = 0.0;
            for (int k = 0; k < ROWS; k++) {
                cov += r->x[k * n + a] * r->x[k * n + b];
                cross += r->h[k * n + a] * r->x[k * n + b];
            }
            r->cov[a * n + b] = (float)(cov / ROWS);
            r->cross[a * n + b] = (float)(cross / ROWS);
        }
        r->ridge += ST_RIDGE * (double)r->cov[a * n + a] / n;
    }
}

/* x: h shifted by an input, another scale each, and noise, so that X is far from symmetric. */
static rig rig_open(int i)
{
    rig r = {.l = lab_open("ref", shapes[i].spec, shapes[i].in, shapes[i].out, shapes[i].in)};
    int n = (int)shapes[i].in;
    float noise[2 * ROWS * SIDE];
    print_message("         %s\n", shapes[i].spec);
    lab_random(r.l.w, 42);
    st_normal_fill(noise, 2 * ROWS * SIDE, 0.0f, 1.0f, 11, (uint64_t)i);
    for (int k = 0; k < ROWS * n; k++)
        r.h[k] = (double)noise[k] * (1.0 + k % n % 3) + 0.5;
    for (int k = 0; k < ROWS * n; k++) {
        int from = k / n * n + (k % n + 1) % n;
        r.x[k] = 0.4 * r.h[k] + 0.7 * r.h[from] + 0.3 * (double)noise[ROWS * SIDE + k];
    }
    rig_moments(&r);
    return r;
}

static st_theta rig_start(rig *r, const char *init, const float *cross, uint64_t seed, st_fit *fit)
{
    st_err e = {0};
    st_start start;
    st_theta t = lab_theta(&r->l, seed);
    st_project_opts how = {.in_cov = r->cov, .in_cross = cross, .std = 0.1f, .name = "w"};
    assert_ok(st_start_parse(&start, &r->l.s, init, &e), &e);
    assert_ok(st_map_start(&r->l.s, &start, r->l.w, &t, &how, fit, &e), &e);
    return t;
}

/* v (out, in) of theta. */
static void rig_expand(rig *r, const st_theta *t, float *v)
{
    st_err e = {0};
    st_tensor to = st_view2(v, ST_F32, r->l.s.out, r->l.s.in);
    assert_ok(st_map_expand(&r->l.s, t, to, &e), &e);
}

/* E|W h - W' x|^2 + ridge |W - W'|^2 */
static double rig_error(rig *r, const st_theta *t)
{
    int n = (int)r->l.s.in, m = (int)r->l.s.out;
    float v[SIDE * SIDE];
    const float *w = lab_f(r->l.w);
    double sum = 0.0;
    rig_expand(r, t, v);
    for (int o = 0; o < m; o++) {
        for (int k = 0; k < ROWS; k++) {
            double d = 0.0;
            for (int i = 0; i < n; i++)
                d +=
                    (double)w[o * n + i] * r->h[k * n + i] - (double)v[o * n + i] * r->x[k * n + i];
            sum += d * d / ROWS;
        }
        for (int i = 0; i < n; i++)
            sum += r->ridge * pow((double)w[o * n + i] - (double)v[o * n + i], 2);
    }
    return sum;
}

/* a (n, n) | b (n) -> its solution in b. */
static void eliminate(double *a, double *b, int n)
{
    for (int j = 0; j < n; j++) { /* positive definite: no pivoting */
        for (int i = 0; i < n; i++) {
            double by = i == j ? 0.0 : a[i * n + j] / a[j * n + j];
            for (int k = 0; k < n; k++)
                a[i * n + k] -= by * a[j * n + k];
            b[i] -= by * b[j];
        }
    }
    for (int j = 0; j < n; j++)
        b[j] /= a[j * n + j];
}

/* Each output of W' apart: the rows (x, target W h) and, sqrt(ridge) times, (e_i, target W e_i). */
static void test_full_matrices_solve_least_squares(void **state)
{
    (void)state;
    for (int c = 0; c < SHAPES; c++) {
        if (!(shapes[c].how & FULL)) continue;
        rig r = rig_open(c);
        int n = (int)r.l.s.in;
        float v[SIDE * SIDE];
        const float *w = lab_f(r.l.w);
        st_theta t = rig_start(&r, "vl", r.cross, 300, NULL);
        rig_expand(&r, &t, v);
        for (int o = 0; o < r.l.s.out; o++) {
            double a[SIDE * SIDE] = {0}, b[SIDE];
            for (int i = 0; i < n; i++) {
                a[i * n + i] = r.ridge;
                b[i] = r.ridge * (double)w[o * n + i];
            }
            for (int k = 0; k < ROWS; k++) {
                double y = 0.0;
                for (int i = 0; i < n; i++)
                    y += (double)w[o * n + i] * r.h[k * n + i];
                for (int i = 0; i < n; i++)
                    b[i] += r.x[k * n + i] * y / ROWS;
                for (int i = 0; i < n * n; i++)
                    a[i] += r.x[k * n + i / n] * r.x[k * n + i % n] / ROWS;
            }
            eliminate(a, b, n);
            for (int i = 0; i < n; i++) {
                if (!(fabs((double)v[o * n + i] - b[i]) <= 1e-4 * (1 + fabs(b[i]))))
                    fail_msg("W'[%d, %d] is %.7g, least squares %.7g", o, i, (double)v[o * n + i],
                             b[i]);
            }
        }
        lab_close(&r.l);
    }
}

/* One weight more or less of it does not help. */
static void test_nothing_near_is_closer(void **state)
{
    (void)state;
    for (int c = 0; c < SHAPES; c++) {
        if (!rig_wanted(c)) continue;
        rig r = rig_open(c);
        st_theta t = rig_start(&r, "vl", r.cross, 300, NULL);
        st_theta other = rig_start(&r, "vl", NULL, 400, NULL);
        double best = rig_error(&r, &t);
        assert_true(best < 0.9 * rig_error(&r, &other));
        for (int p = 0; p < r.l.params; p++) {
            for (int64_t i = 0; i < st_numel(t.p[p]); i++) {
                float *at = &lab_f(t.p[p])[i], keep = *at;
                for (int sign = -1; sign <= 1; sign += 2) {
                    *at = keep + 0.05f * (float)sign;
                    double is = rig_error(&r, &t);
                    if (!(is >= best * (1 - (shapes[c].kind == ALTERNATING ? 5e-4 : 1e-5))))
                        fail_msg("%s[%d] off: %.8g, was %.8g", r.l.shape[p].name, (int)i, is, best);
                }
                *at = keep;
            }
        }
        lab_close(&r.l);
    }
}

static void test_the_same_rows_change_nothing(void **state)
{
    (void)state;
    for (int c = 0; c < SHAPES; c++) {
        if (!rig_wanted(c)) continue;
        rig r = rig_open(c);
        memcpy(r.h, r.x, sizeof r.h);
        rig_moments(&r);
        st_theta t = rig_start(&r, "vl", r.cross, 300, NULL);
        st_theta plain = rig_start(&r, "vl", NULL, 400, NULL);
        float v[2][SIDE * SIDE];
        rig_expand(&r, &t, v[0]);
        rig_expand(&r, &plain, v[1]);
        for (int64_t i = 0; i < r.l.s.in * r.l.s.out; i++) {
            double off = fabs((double)v[0][i] - (double)v[1][i]);
            if (!(off < 1e-4)) fail_msg("%s[%d]: %g apart", shapes[c].spec, (int)i, off);
        }
        lab_close(&r.l);
    }
}

/* Silent inputs leave W to be followed; the fit is to W; inits that heed no text take W. */
static void test_w_stays_what_is_measured_against(void **state)
{
    (void)state;
    rig r = rig_open(3);
    float v[SIDE * SIDE], same[SIDE * SIDE], zero[SIDE * SIDE] = {0};
    int64_t n = r.l.s.in * r.l.s.out;
    double lost = 0.0, ww = 0.0, vv = 0.0;
    st_fit fit;
    st_theta t = rig_start(&r, "vl", r.cross, 300, &fit);
    rig_expand(&r, &t, v);
    for (int64_t i = 0; i < n; i++) {
        lost += pow((double)lab_f(r.l.w)[i] - (double)v[i], 2);
        ww += pow((double)lab_f(r.l.w)[i], 2);
    }
    assert_true(fabs(fit.total - ww) < 1e-5 * ww && fabs(fit.lost - lost) < 1e-4 * lost);
    t = rig_start(&r, "vl-norm", r.cross, 400, &fit);
    rig_expand(&r, &t, v);
    for (int64_t i = 0; i < n; i++)
        vv += pow((double)v[i], 2);
    assert_true(fabs(vv - ww) < 1e-4 * ww);
    t = rig_start(&r, "random", r.cross, 500, NULL);
    rig_expand(&r, &t, v);
    t = rig_start(&r, "random", NULL, 600, NULL);
    rig_expand(&r, &t, same);
    assert_memory_equal(v, same, (size_t)n * sizeof *v);
    lab_close(&r.l);

    r = rig_open(0);
    memcpy(r.cov, zero, sizeof zero);
    t = rig_start(&r, "vl", zero, 300, NULL);
    rig_expand(&r, &t, v);
    for (int64_t i = 0; i < r.l.s.in * r.l.s.out; i++)
        assert_true(fabs((double)v[i] - (double)lab_f(r.l.w)[i]) < 1e-6);
    lab_close(&r.l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_matrices_solve_least_squares),
        cmocka_unit_test(test_nothing_near_is_closer),
        cmocka_unit_test(test_the_same_rows_change_nothing),
        cmocka_unit_test(test_w_stays_what_is_measured_against),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
