/* Losses of the reference backend against hand-worked numbers, formulas in double precision and
 * centred differences of them. */
/* SPDX-License-Identifier: MIT */
#include "ref_rig.h"

static void xent_by_hand(void **state)
{
    (void)state;
    /* softmax of (ln 1, ln 2, ln 5) is (1, 2, 5)/8; of equal logits 1/3 each */
    float z[] = {0, (float)log(2), (float)log(5), 7, 7, 7, 1, 2, 3}, loss[3];
    const int32_t targets[] = {1, 2, -1};
    st_xent_args a = {.rows = 3, .width = 3, .logits = f32(z, 9), .loss = f32(loss, 3), .scale = 2};
    a.targets = st_view1((void *)(uintptr_t)targets, ST_I32, 3);
    a.dlogits = a.logits;
    op->xent(q, &a);
    assert_all_near(loss, (double[]){log(4), log(3), 0}, 3, 1e-6);
    const double want[] = {0.25, -1.5, 1.25, 2. / 3, 2. / 3, -4. / 3, 0, 0, 0};
    assert_all_near(z, want, 9, 1e-6);
}

/* scale loss + kl_scale T^2 kl of one row in double precision, for differences. */
static double distill_value(const double *z, const double *t, int n, int target, double scale,
                            double kl_scale, double temp)
{
    double s1 = 0, sz = 0, st = 0, kl = 0;
    for (int j = 0; j < n; j++) {
        s1 += exp(z[j]);
        sz += exp(z[j] / temp);
        st += exp(t[j] / temp);
    }
    for (int j = 0; j < n; j++) {
        double p = exp(z[j] / temp) / sz, q_t = exp(t[j] / temp) / st;
        kl += q_t * log(q_t / p);
    }
    return scale * (log(s1) - z[target]) + kl_scale * temp * temp * kl;
}

static void distill_by_hand(void **state)
{
    (void)state;
    /* softmax of (ln 1, ln 3) is (1, 3)/4, of the teacher's (0, 0) (1, 1)/2:
     * KL = ln(1/2 / 1/4)/2 + ln(1/2 / 3/4)/2 = ln(4/3)/2, at T = 1/2 with logits half as large */
    float z[] = {0, (float)log(3) / 2, 9, 9}, t[] = {0, 0, 1, 2}, loss[2], kl[2];
    const int32_t targets[] = {1, -1};
    st_distill_args a = {.rows = 2,
                         .width = 2,
                         .logits = f32(z, 4),
                         .teacher = f32(t, 4),
                         .loss = f32(loss, 2),
                         .kl = f32(kl, 2),
                         .kl_scale = 4,
                         .temperature = 0.5f};
    a.targets = st_view1((void *)(uintptr_t)targets, ST_I32, 2);
    a.dlogits = a.logits;
    op->distill(q, &a);
    double root = sqrt(3);
    assert_all_near(loss, (double[]){log((1 + root) / root), 0}, 2, 1e-6);
    assert_all_near(kl, (double[]){log(4. / 3) / 2, 0}, 2, 1e-6);
    assert_all_near(z, (double[]){-0.5, 0.5, 0, 0}, 4, 1e-6); /* 4 T ((1, 3)/4 - (1, 1)/2) */
}

static void distill_slope(void **state)
{
    (void)state;
    enum { N = 7 };
    float z[N], t[N], dz[N], loss[1], kl[1];
    double x[N], y[N];
    const int32_t target[] = {4};
    random_fill(z, N, 30);
    random_fill(t, N, 31);
    for (int i = 0; i < N; i++)
        x[i] = (double)z[i], y[i] = (double)t[i];
    st_distill_args a = {.rows = 1,
                         .width = N,
                         .logits = f32(z, N),
                         .teacher = f32(t, N),
                         .loss = f32(loss, 1),
                         .kl = f32(kl, 1),
                         .dlogits = f32(dz, N),
                         .scale = 0.7f,
                         .kl_scale = 0.3f,
                         .temperature = 2.5f};
    a.targets = st_view1((void *)(uintptr_t)target, ST_I32, 1);
    op->distill(q, &a);
    assert_near(0.7 * (double)loss[0] + 0.3 * 6.25 * (double)kl[0],
                distill_value(x, y, N, 4, 0.7, 0.3, 2.5), 1e-6);
    for (int i = 0; i < N; i++) {
        double was = x[i], h = 1e-4;
        x[i] = was + h;
        double up = distill_value(x, y, N, 4, (double)a.scale, (double)a.kl_scale, 2.5);
        x[i] = was - h;
        double down = distill_value(x, y, N, 4, (double)a.scale, (double)a.kl_scale, 2.5);
        x[i] = was;
        assert_near((double)dz[i], (up - down) / (2 * h), 1e-6);
    }
}

static void match_by_hand(void **state)
{
    (void)state;
    /* rows (3, 4) and (1, 1) against (0, 4) and (0, 0) */
    const float x[] = {3, 4, 1, 1}, t[] = {0, 4, 0, 0};
    float loss[] = {1, 1}, dx[] = {10, 10, 10, 10};
    st_match_args a = {.rows = 2,
                       .width = 2,
                       .x = f32(x, 4),
                       .t = f32(t, 4),
                       .loss = f32(loss, 2),
                       .dx = f32(dx, 4),
                       .scale = 2,
                       .relative = 1};
    op->match(q, &a);
    assert_all_near(loss, (double[]){1 + 9. / 16, 1}, 2, 1e-6); /* nothing of a row of zeros */
    assert_all_near(dx, (double[]){10 + 2 * 2 * 3 / 16., 10, 10, 10}, 4, 1e-6);
    a.relative = 0;
    op->match(q, &a);
    assert_all_near(loss, (double[]){1 + 9. / 16 + 4.5, 2}, 2, 1e-6);
    assert_all_near(dx, (double[]){10.75 + 6, 10, 12, 12}, 4, 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(xent_by_hand),
        cmocka_unit_test(distill_by_hand),
        cmocka_unit_test(distill_slope),
        cmocka_unit_test(match_by_hand),
    };
    return cmocka_run_group_tests(tests, ref_setup, ref_teardown);
}
