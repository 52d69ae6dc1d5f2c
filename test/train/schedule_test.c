/* Learning rates against tables worked out by hand from nanoGPT's and fly's formulas. */
/* SPDX-License-Identifier: MIT */
#include "testing.h"
#include "train/train.h"
#include <math.h>

static void near(double got, double want, int64_t step)
{
    if (fabs(got - want) <= 1e-12 * fabs(want) + 1e-18) return;
    fail_msg("step %lld: got %.17g, want %.17g", (long long)step, got, want);
}

typedef struct {
    int64_t step;
    double lr;
} point;

static double rate(st_lr_schedule kind, int64_t step, double lr, double min_lr, int64_t warmup,
                   int64_t decay)
{
    return st_lr(&(st_lr_curve){.kind = kind, .warmup = warmup, .decay_steps = decay}, step, lr,
                 min_lr);
}

static void table(st_lr_schedule kind, double lr, double min_lr, int64_t warmup, int64_t decay,
                  const point *p)
{
    for (; p->step >= 0; p++)
        near(rate(kind, p->step, lr, min_lr, warmup, decay), p->lr, p->step);
}

/* nanoGPT's defaults: lr 6e-4 -> 6e-5, warm-up 2000, decay over 600000. */
static void test_cosine(void **state)
{
    (void)state;
    const point p[] = {{0, 0.0},
                       {1, 3e-7},
                       {1999, 6e-4 * 1999.0 / 2000.0},
                       {2000, 6e-4},
                       /* a quarter, half, three quarters of the way: cos = 1/sqrt2, 0, -1/sqrt2 */
                       {151500, 6e-5 + 0.5 * (1.0 + 0.70710678118654752) * 5.4e-4},
                       {301000, 3.3e-4},
                       {450500, 6e-5 + 0.5 * (1.0 - 0.70710678118654752) * 5.4e-4},
                       {600000, 6e-5},
                       {600001, 6e-5},
                       {10000000, 6e-5},
                       {-1, 0}};
    table(ST_LR_COSINE, 6e-4, 6e-5, 2000, 600000, p);
}

/* fly's WikiText-103: lr 6e-4, W = 225, T = 22500; step s: lr s/W, then lr (T - s)/(T - W). */
static void test_linear(void **state)
{
    (void)state;
    const point p[] = {{0, 0.0},
                       {45, 6e-4 * 0.2},
                       {224, 6e-4 * 224.0 / 225.0},
                       {225, 6e-4},
                       {226, 6e-4 * 22274.0 / 22275.0},
                       {11250, 6e-4 * 11250.0 / 22275.0},
                       {22499, 6e-4 / 22275.0},
                       {22500, 0.0},
                       {22501, 0.0},
                       {-1, 0}};
    table(ST_LR_LINEAR, 6e-4, 0.0, 225, 22500, p);
}

static void test_constant(void **state)
{
    (void)state;
    const point p[] = {{0, 0.0},    {50, 3e-5},        {99, 5.94e-5},
                       {100, 6e-5}, {123456789, 6e-5}, {-1, 0}};
    table(ST_LR_CONSTANT, 6e-5, 6e-6, 100, 200, p);
}

/* nanoGPT since December 2024: lr (it + 1) / (W + 1) before W, all else as before. */
static void test_warmup_from_the_first_step(void **state)
{
    (void)state;
    st_lr_curve c = {.start = ST_WARMUP_STEP, .warmup = 2000, .decay_steps = 600000};
    near(st_lr(&c, 0, 6e-4, 6e-5), 6e-4 / 2001.0, 0);
    near(st_lr(&c, 1, 6e-4, 6e-5), 12e-4 / 2001.0, 1);
    near(st_lr(&c, 1999, 6e-4, 6e-5), 6e-4 * 2000.0 / 2001.0, 1999);
    near(st_lr(&c, 2000, 6e-4, 6e-5), 6e-4, 2000);
    near(st_lr(&c, 301000, 6e-4, 6e-5), 3.3e-4, 301000);
    c.warmup = 0;
    near(st_lr(&c, 0, 6e-4, 6e-5), 6e-4, 0);
}

/* No warm-up, nothing to decay over, all in one step. */
static void test_edges(void **state)
{
    (void)state;
    near(rate(ST_LR_COSINE, 0, 1.0, 0.1, 0, 10), 1.0, 0);
    near(rate(ST_LR_COSINE, 10, 1.0, 0.1, 0, 10), 0.1, 10);
    near(rate(ST_LR_COSINE, 5, 1.0, 0.1, 5, 5), 1.0, 5);
    near(rate(ST_LR_COSINE, 6, 1.0, 0.1, 5, 5), 0.1, 6);
    near(rate(ST_LR_LINEAR, 0, 1.0, 0.0, 0, 0), 1.0, 0);
    near(rate(ST_LR_LINEAR, 1, 1.0, 0.0, 0, 0), 0.0, 1);
    near(rate(ST_LR_LINEAR, 7, 1.0, 0.2, 4, 10), 0.6, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cosine),   cmocka_unit_test(test_linear),
        cmocka_unit_test(test_constant), cmocka_unit_test(test_warmup_from_the_first_step),
        cmocka_unit_test(test_edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
