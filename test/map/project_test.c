/* Projection: the nearest matrix of each type, and what a fresh one looks like. */
/* SPDX-License-Identifier: MIT */
#include "jacobi.h"
#include "lab.h"
#include "shapes.h"

static lab project_open(int i)
{
    print_message("         %s\n", shapes[i].spec);
    return lab_open("ref", shapes[i].spec, shapes[i].in, shapes[i].out, shapes[i].in);
}

/* The squared distance of the map to l->w. */
static double project_error(lab *l, const st_theta *t)
{
    st_err e = {0};
    size_t mark = st_arena_mark(&l->a);
    st_tensor v = st_take2(&l->a, ST_F32, l->s.out, l->s.in);
    assert_ok(st_map_expand(&l->s, t, v, &e), &e);
    double sum = 0;
    for (int64_t i = 0; i < st_numel(v); i++) {
        double d = (double)lab_f(v)[i] - (double)lab_f(l->w)[i];
        sum += d * d;
    }
    st_arena_rewind(&l->a, mark);
    return sum;
}

static void test_a_matrix_of_the_type_comes_back(void **state)
{
    (void)state;
    for (int i = 0; i < SHAPES; i++) {
        if (!(shapes[i].how & PROJECT)) continue;
        lab l = project_open(i);
        st_err e = {0};
        for (int g = 0; g < 2 && lab_gated(&l.s); g++) {
            memset(l.t.p[l.params - 2 + g].data, 0, st_bytes(l.t.p[l.params - 2 + g]));
        }
        assert_ok(st_map_expand(&l.s, &l.t, l.w, &e), &e);
        st_theta got = lab_theta(&l, 300);
        assert_ok(l.s.type->project(&l.s, l.w, &got, NULL, &e), &e);
        double relative = sqrt(project_error(&l, &got)) / lab_norm(l.w);
        if (!(relative <= ((shapes[i].how & LOCAL) ? 0.15 : 1e-5)))
            fail_msg("error %.3g", relative);
        lab_close(&l);
    }
}

/* d/d theta of |W(theta) - w|^2 / 2, through the type's own backward on the identity. */
static void project_slope(lab *l, const st_theta *t, st_theta *slope)
{
    st_err e = {0};
    memset(l->x.data, 0, st_bytes(l->x));
    for (int64_t i = 0; i < l->s.in; i++)
        lab_f(l->x)[i * l->s.in + i] = 1.0f;
    st_theta keep = l->t;
    l->t = *t;
    lab_forward(l, t, (st_tensor){0}, (st_tensor){0});
    for (int64_t i = 0; i < l->s.in; i++) {
        for (int64_t o = 0; o < l->s.out; o++) {
            lab_f(l->dy)[i * l->s.out + o] =
                lab_f(l->y)[i * l->s.out + o] - lab_f(l->w)[o * l->s.in + i];
        }
    }
    for (int i = 0; i < l->params; i++)
        memset(slope->p[i].data, 0, st_bytes(slope->p[i]));
    lab_backward(l, (st_tensor){0}, (st_tensor){0}, slope);
    l->t = keep;
    assert_ok(st_stream_sync(l->q, &e), &e);
}

/* From a neighbour of the projection, gradient descent finds nothing closer: not a saddle either,
 * as the wrong singular vectors would be. */
static void test_nothing_near_is_closer(void **state)
{
    (void)state;
    for (int i = 0; i < SHAPES; i++) {
        if (!(shapes[i].how & PROJECT)) continue;
        lab l = project_open(i);
        st_err e = {0};
        lab_random(l.w, 42);
        st_theta best = lab_theta(&l, 300), slope = lab_theta(&l, 400), noise = lab_theta(&l, 500);
        assert_ok(l.s.type->project(&l.s, l.w, &best, NULL, &e), &e);
        double least = project_error(&l, &best);
        bool gated = lab_gated(&l.s);
        for (int p = 0; p < l.params; p++) {
            for (int64_t j = 0; j < st_numel(best.p[p]) && !(gated && p >= l.params - 2); j++) {
                lab_f(best.p[p])[j] += 0.05f * lab_f(noise.p[p])[j];
            }
        }
        for (int step = 0; step < 1500; step++) {
            project_slope(&l, &best, &slope);
            for (int p = 0; p < l.params; p++) {
                if (gated && p >= l.params - 2) continue;
                for (int64_t j = 0; j < st_numel(best.p[p]); j++) {
                    lab_f(best.p[p])[j] -= 0.02f * lab_f(slope.p[p])[j];
                }
            }
        }
        double found = project_error(&l, &best);
        if (!(found >= least * ((shapes[i].how & LOCAL) ? 0.98 : 1 - 1e-5) - 1e-9)) {
            fail_msg("projection leaves %.8g, a neighbour %.8g", least, found);
        }
        /* and the descent did arrive: an error stuck high above would prove nothing */
        if (!(found <= least * 1.1 + 1e-4))
            fail_msg("descent: %.8g, projection %.8g", found, least);
        lab_close(&l);
    }
}

/* Squares of the singular values that block (l, i) of w loses at the rank that its meeting has:
 * rows o b + l, columns i p + j; t with t / q = i and t mod b = l (Dao et al. 2022). */
static double project_discarded(const lab *l, int b, int p, int q, int s, int row, int col)
{
    double block[JACOBI_SIDE * JACOBI_SIDE] = {0};
    int rank = 0;
    for (int t = col * q; t < (col + 1) * q; t++)
        rank += t % b == row;
    for (int o = 0; o < s; o++) {
        for (int j = 0; j < p; j++) {
            int64_t y = (int64_t)o * b + row, x = (int64_t)col * p + j;
            if (y < l->s.out && x < l->s.in)
                block[o * p + j] = (double)((const float *)l->w.data)[y * l->s.in + x];
        }
    }
    return truncated(block, s, p, rank < p ? rank : p);
}

static void test_monarch_loses_the_discarded_singular_values(void **state)
{
    (void)state;
    static const struct {
        const char *spec;
        int in, out, blocks, inner;
    } shape[] = {
        {"monarch:blocks=2", 8, 12, 2, 4},          {"monarch:blocks=2", 12, 8, 2, 4},
        {"monarch:blocks=4", 14, 21, 4, 4},         {"monarch:blocks=4", 22, 25, 4, 6},
        {"monarch:blocks=3,inner=5", 10, 9, 3, 5},  {"monarch:blocks=3,inner=2", 9, 9, 3, 2},
        {"monarch:blocks=4,inner=9", 16, 24, 4, 9}, /* 4 does not divide 9 */
    };
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) {
        int b = shape[i].blocks, p = (shape[i].in + b - 1) / b, s = (shape[i].out + b - 1) / b;
        lab l = lab_open("ref", shape[i].spec, shape[i].in, shape[i].out, 1);
        st_err e = {0};
        lab_random(l.w, 77);
        assert_ok(l.s.type->project(&l.s, l.w, &l.t, NULL, &e), &e);
        double want = 0, got = project_error(&l, &l.t);
        for (int k = 0; k < b * b; k++)
            want += project_discarded(&l, b, p, shape[i].inner, s, k / b, k % b);
        if (!(fabs(got - want) <= 1e-5 * (want + 1)))
            fail_msg("%s: loses %.8g, the singular values are %.8g", shape[i].spec, got, want);
        lab_close(&l);
    }
}

/* ss1.md section 3: on a random matrix the fold loses 1 - 1/c of the energy. */
static void test_folding_loses_what_is_known(void **state)
{
    (void)state;
    st_err e = {0};
    for (int c = 2; c <= 8; c *= 2) {
        char spec[64];
        snprintf(spec, sizeof spec, "ss1:factor=%d,bk=4,vec=1", c);
        lab l = lab_open("ref", spec, 64, 96, 1);
        lab_random(l.w, 42);
        assert_ok(l.s.type->project(&l.s, l.w, &l.t, NULL, &e), &e);
        double lost = project_error(&l, &l.t) / lab_dot(l.w, l.w);
        assert_true(fabs(lost - (1 - 1.0 / c)) < 0.03);
        lab_close(&l);
    }
}

/* kronecker.md 8.10: as many terms as there are is exact, and the gauge is rms(B) = 1. */
static void test_kron_with_all_terms_is_exact(void **state)
{
    (void)state;
    st_err e = {0};
    lab l = lab_open("ref", "kron:terms=6,m1=4,n1=5", 8, 15, 1);
    lab_random(l.w, 42);
    assert_ok(l.s.type->project(&l.s, l.w, &l.t, NULL, &e), &e);
    assert_true(sqrt(project_error(&l, &l.t)) < 1e-5 * lab_norm(l.w));
    double b = lab_dot(l.t.p[1], l.t.p[1]) / (double)st_numel(l.t.p[1]);
    assert_true(fabs(b - 1) < 1e-5);
    lab_close(&l);
}

/* A sum is at least as near as either of its parts alone. */
static void test_a_sum_beats_its_parts(void **state)
{
    (void)state;
    st_err e = {0};
    static const char *const spec[] = {"lowrank:rank=2+blockdiag:blocks=2", "lowrank:rank=2",
                                       "blockdiag:blocks=2"};
    double error[3];
    for (int i = 0; i < 3; i++) {
        lab l = lab_open("ref", spec[i], 12, 10, 1);
        lab_random(l.w, 42);
        assert_ok(l.s.type->project(&l.s, l.w, &l.t, NULL, &e), &e);
        error[i] = project_error(&l, &l.t);
        lab_close(&l);
    }
    assert_true(error[0] < 0.9 * error[1] && error[0] < 0.9 * error[2]);
}

/* A randomised projection is nearly as near as the exact one, and repeatable. */
static void test_randomised_is_near(void **state)
{
    (void)state;
    st_err e = {0};
    lab l = lab_open("ref", "lowrank:rank=5", 60, 40, 1);
    lab_random(l.w, 42);
    assert_ok(l.s.type->project(&l.s, l.w, &l.t, NULL, &e), &e);
    double exact = project_error(&l, &l.t);
    st_project_opts how = {.randomized = true, .seed = 3};
    st_theta a = lab_theta(&l, 300), b = lab_theta(&l, 400);
    assert_ok(l.s.type->project(&l.s, l.w, &a, &how, &e), &e);
    assert_ok(l.s.type->project(&l.s, l.w, &b, &how, &e), &e);
    assert_true(project_error(&l, &a) < 1.01 * exact);
    assert_memory_equal(a.p[0].data, b.p[0].data, st_bytes(a.p[0]));
    lab_close(&l);
}

static void test_a_matrix_with_nan_is_refused(void **state)
{
    (void)state;
    static const char *const spec[] = {"lowrank:rank=2", "monarch:blocks=2", "kron:m1=4,n1=4",
                                       "lowrank:rank=2+blockdiag:blocks=2"};
    for (int i = 0; i < 4; i++) {
        st_err e = {0};
        lab l = lab_open("ref", spec[i], 8, 8, 1);
        lab_random(l.w, 42);
        lab_f(l.w)[13] = NAN;
        assert_st(l.s.type->project(&l.s, l.w, &l.t, NULL, &e), ST_EARG, &e);
        assert_says(&e, "finite");
        lab_close(&l);
    }
}

/* Fresh weights: W's entries have mean 0 and the asked deviation (over the whole matrix, zeros of
 * the pattern included). */
static void fresh_deviation(const char *spec)
{
    st_err e = {0};
    lab l = lab_open("ref", spec, 192, 128, 1);
    st_param_shape shape[ST_PARAMS];
    double sum = 0, mean = 0, least = INFINITY;
    enum { DRAWS = 12 };
    for (uint64_t draw = 0; draw < DRAWS; draw++) {
        int n = l.s.type->params(&l.s, 0.02f, shape);
        for (int p = 0; p < n; p++) {
            st_normal_fill(l.t.p[p].data, st_numel(l.t.p[p]), shape[p].init_mean, shape[p].init_std,
                           draw, st_hash_name(shape[p].name));
            if (shape[p].init_std > 0) least = fmin(least, (double)st_numel(l.t.p[p]));
        }
        assert_ok(st_map_expand(&l.s, &l.t, l.w, &e), &e);
        sum += lab_dot(l.w, l.w) / (double)st_numel(l.w) / DRAWS;
        for (int64_t j = 0; j < st_numel(l.w); j++) {
            mean += (double)lab_f(l.w)[j] / (double)st_numel(l.w) / DRAWS;
        }
    }
    /* of a chi-square mean over few numbers: a factor of 2 x 2 says little about its deviation */
    double noise = fmax(0.06, 2.0 * sqrt(2.0 / (DRAWS * least)));
    if (!(fabs(sqrt(sum) / 0.02 - 1) < noise) || !(fabs(mean) < 0.002)) {
        fail_msg("%s: deviation %.5f, mean %.5f, wanted 0.02 and 0", spec, sqrt(sum), mean);
    }
    lab_close(&l);
}

static void test_fresh_weights_have_the_asked_deviation(void **state)
{
    (void)state;
    static const char *const spec[] = {
        "dense",
        "lowrank:rank=16",
        "monarch:blocks=4,inner=10",
        "monarch:blocks=5",
        "butterfly",
        "butterfly:size=8,factors=1,block=8",
        "kron:terms=1,m1=6,n1=4",
        "kron:terms=3,m1=12,n1=8,scalars=1",
        "ss1:factor=4,folds=4,signs=1",
        "lowrank:rank=8+blockdiag:blocks=2",
        "lowrank:rank=8+monarch:blocks=4+gate",
    };
    for (size_t i = 0; i < sizeof spec / sizeof *spec; i++)
        fresh_deviation(spec[i]);
    st_map_view view;
    for (int i = 0; st_map_view_at(i, &view); i++) { /* every type */
        char text[ST_SPEC_TEXT];
        st_spec s;
        assert_ok(st_spec_fit(&s, view.fit, 192, 128, 192 * 128 / 4, NULL), NULL);
        st_spec_print(&s, text);
        fresh_deviation(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_matrix_of_the_type_comes_back),
        cmocka_unit_test(test_nothing_near_is_closer),
        cmocka_unit_test(test_monarch_loses_the_discarded_singular_values),
        cmocka_unit_test(test_folding_loses_what_is_known),
        cmocka_unit_test(test_kron_with_all_terms_is_exact),
        cmocka_unit_test(test_a_sum_beats_its_parts),
        cmocka_unit_test(test_randomised_is_near),
        cmocka_unit_test(test_a_matrix_with_nan_is_refused),
        cmocka_unit_test(test_fresh_weights_have_the_asked_deviation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
