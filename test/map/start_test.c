/* Inits of structured matrices: texts and refusals, |W'| = |W|, what pruning keeps and drops, the
 * gauge, Van Loan's optimum and its error, deviations of random products. */
/* SPDX-License-Identifier: MIT */
#include "lab.h"
#include "shapes.h"

static void start_init(lab *l, const char *init, const st_project_opts *how, st_fit *fit)
{
    st_err e = {0};
    st_start start;
    assert_ok(st_start_parse(&start, &l->s, init, &e), &e);
    assert_ok(st_map_start(&l->s, &start, l->w, &l->t, how, fit, &e), &e);
}

static st_tensor start_expanded(lab *l)
{
    st_err e = {0};
    st_tensor v = st_take2(&l->a, ST_F32, l->s.out, l->s.in);
    assert_ok(st_map_expand(&l->s, &l->t, v, &e), &e);
    return v;
}

static double start_distance(st_tensor a, st_tensor b)
{
    double sum = 0.0;
    for (int64_t i = 0; i < st_numel(a); i++) {
        double d = (double)lab_f(a)[i] - (double)lab_f(b)[i];
        sum += d * d;
    }
    return sqrt(sum);
}

/* With all terms W comes back; with fewer, error^2 is what the singular values of R leave, and is
 * what the fit says. */
static void start_van_loan(void **state)
{
    (void)state;
    static const char *const spec[] = {"kron:terms=6,m1=4,n1=6", "kron:terms=4,m1=12,n1=3",
                                       "kron:terms=12,m1=3,n1=4,scalars=1"};
    for (int i = 0; i < 3; i++) {
        lab l = lab_open("ref", spec[i], 12, 12, 1);
        lab_random(l.w, 3);
        st_fit fit;
        start_init(&l, NULL, NULL, &fit);
        assert_true(start_distance(l.w, start_expanded(&l)) < 1e-5 * lab_norm(l.w));
        assert_true(fit.energy > 1.0 - 1e-9 && fit.lost < 1e-10 * fit.total);
        lab_close(&l);
    }
    /* terms A (x) B with orthonormal vec A and vec B: R's singular values are 3, 2, 1 */
    lab l = lab_open("ref", "kron:terms=1,m1=2,n1=2", 6, 6, 1);
    float *w = lab_f(l.w);
    memset(w, 0, st_bytes(l.w));
    static const float sigma[] = {3.0f, 2.0f, 1.0f};
    for (int64_t k = 0; k < 3; k++) /* A = e_k e_k^T of (2, 2), B = e_k e_0^T of (3, 3) */
        w[(k % 2 * 3 + 0) * 6 + k / 2 * 3 + k] = sigma[k];
    st_fit fit;
    start_init(&l, "project", NULL, &fit);
    assert_true(fabs(fit.lost - 5.0) < 1e-5 && fabs(fit.total - 14.0) < 1e-5);
    assert_true(fabs(fit.energy - 9.0 / 14.0) < 1e-6);
    assert_true(fabs(fit.alpha - 1.0) < 1e-12);
    assert_true(fabs(start_distance(l.w, start_expanded(&l)) - sqrt(5.0)) < 1e-5);
    lab_close(&l);
}

/* alpha = |W| / |W'|, in the scalars where there are any; the energy does not change by it. */
static void start_normalized(void **state)
{
    (void)state;
    for (int i = 0; i < SHAPES; i++) {
        if (!(shapes[i].how & PROJECT)) continue;
        lab l = lab_open("ref", shapes[i].spec, shapes[i].in, shapes[i].out, 1);
        lab_random(l.w, 4);
        st_fit plain, fit;
        start_init(&l, "vl", NULL, &plain);
        float a0 = lab_f(l.t.p[0])[0];
        start_init(&l, "vl-norm", NULL, &fit);
        st_tensor v = start_expanded(&l);
        assert_true(fabs(lab_norm(v) / lab_norm(l.w) - 1.0) < 1e-5);
        assert_true(fabs(fit.energy - plain.energy) < 1e-5);
        assert_true(fabs(fit.alpha * sqrt(fit.energy) - 1.0) < 1e-3);
        assert_true(fabs(sqrt(fit.lost) - start_distance(l.w, v)) < 1e-4 * lab_norm(l.w));
        if (strstr(shapes[i].spec, "scalars=1")) {
            for (int f = 0; f < 2; f++)
                assert_true(fabs((double)lab_f(l.t.p[2])[f] - fit.alpha) < 1e-5);
            assert_true(fabsf(a0 - lab_f(l.t.p[0])[0]) < 1e-6f);
        }
        lab_close(&l);
    }
}

/* Even (odd) rows of W^T stay as they are, the others become `second` times them. */
static void start_pruned(void **state)
{
    (void)state;
    static const struct {
        const char *spec, *init;
        int keep;
        float second;
        bool rows; /* of W^T: inputs; else outputs */
    } row[] = {
        {"kron:m1=3,n1=8", "prune", 0, 0.0f, true},
        {"kron:m1=3,n1=8", "prune:keep=odd", 1, 0.0f, true},
        {"kron:m1=3,n1=8", "prune:second=0.1", 0, 0.1f, true},
        {"kron:m1=3,n1=8", "prune:second=-1,keep=odd", 1, -1.0f, true},
        {"kron:m1=6,n1=4", "prune", 0, 0.0f, false},
        {"kron:m1=6,n1=4,scalars=1", "prune:keep=1,second=-0.001", 1, -0.001f, false},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        lab l = lab_open("ref", row[i].spec, 6, 8, 1);
        lab_random(l.w, 5);
        st_fit fit;
        start_init(&l, row[i].init, NULL, &fit);
        const float *w = lab_f(l.w), *v = lab_f(start_expanded(&l));
        for (int o = 0; o < 8; o++) {
            for (int in = 0; in < 6; in++) {
                int place = row[i].rows ? in : o, kept = place - place % 2 + row[i].keep;
                int from = row[i].rows ? o * 6 + kept : kept * 6 + in;
                float want = place == kept ? w[from] : row[i].second * w[from];
                assert_true(fabsf(v[o * 6 + in] - want) <= 1e-7f * fabsf(want));
            }
        }
        lab_close(&l);
    }
    /* one term per place: nothing is lost */
    lab l = lab_open("ref", "kron:terms=4,m1=3,n1=4", 6, 8, 1);
    lab_random(l.w, 6);
    start_init(&l, "prune", NULL, NULL);
    assert_true(start_distance(l.w, start_expanded(&l)) <= 0.0);
    lab_close(&l);
}

/* The same W' whoever carries its size; unit: rms(B) = 1; balanced: |A| = |B|. */
static void start_gauge(void **state)
{
    (void)state;
    lab l = lab_open("ref", "kron:terms=3,m1=4,n1=6", 12, 18, 1);
    lab_random(l.w, 7);
    start_init(&l, NULL, NULL, NULL);
    st_tensor unit = start_expanded(&l);
    for (int64_t f = 0; f < 3; f++)
        assert_true(fabs(lab_norm(st_slice(l.t.p[1], f * 9, 9)) - 3.0) < 1e-5);
    start_init(&l, NULL, &(st_project_opts){.gauge = ST_GAUGE_BALANCED}, NULL);
    for (int64_t f = 0; f < 3; f++) {
        double a = lab_norm(st_slice(l.t.p[0], f * 24, 24));
        assert_true(fabs(a / lab_norm(st_slice(l.t.p[1], f * 9, 9)) - 1.0) < 1e-5);
    }
    assert_true(start_distance(unit, start_expanded(&l)) < 1e-6 * lab_norm(unit));
    lab_close(&l);
}

/* Given scalars are where training starts; A and B stay those of the projection. */
static void start_scalars(void **state)
{
    (void)state;
    static const double value[] = {0.55, 0.25};
    st_project_opts how = {.scalars = value, .nscalars = 2};
    lab l = lab_open("ref", "kron:terms=2,m1=4,n1=3,scalars=1", 12, 6, 1);
    lab_random(l.w, 8);
    start_init(&l, "vl", &how, NULL);
    for (int f = 0; f < 2; f++)
        assert_true(fabs((double)lab_f(l.t.p[2])[f] - value[f]) < 1e-7);
    st_err e = {0};
    st_start start;
    how.nscalars = 1;
    assert_ok(st_start_parse(&start, &l.s, "vl", &e), &e);
    assert_st(st_map_start(&l.s, &start, l.w, &l.t, &how, NULL, &e), ST_EARG, &e);
    assert_says(&e, "1 scalars for 2 terms");
    lab_close(&l);
    l = lab_open("ref", "kron:terms=2,m1=4,n1=3", 12, 6, 1);
    how.nscalars = 2;
    assert_st(st_map_start(&l.s, &start, l.w, &l.t, &how, NULL, &e), ST_EARG, &e);
    assert_says(&e, "without learned scalars");
    lab_close(&l);
}

/* Entries of a random W' have the deviation asked for; std= is that of the factors. */
static void start_random(void **state)
{
    (void)state;
    static const char *const spec[] = {"kron:terms=4,m1=16,n1=16", "kron:m1=8,n1=8",
                                       "kron:terms=2,m1=8,n1=16,scalars=1", "lowrank:rank=8",
                                       "dense"};
    for (size_t i = 0; i < sizeof spec / sizeof *spec; i++) {
        lab l = lab_open("ref", spec[i], 96, 192, 1);
        st_project_opts how = {.std = 0.02f, .seed = 9, .name = "h.0.mlp.c_fc"};
        start_init(&l, "random", &how, NULL);
        double rms = lab_norm(start_expanded(&l)) / sqrt(96.0 * 192.0);
        if (fabs(rms / 0.02 - 1.0) > 0.2) fail_msg("%s: %g", spec[i], rms);
        lab_close(&l);
    }
    lab l = lab_open("ref", spec[0], 96, 192, 1);
    st_project_opts how = {.std = 0.02f};
    start_init(&l, "random:std=0.1", &how, NULL);
    for (int p = 0; p < 2; p++) {
        double rms = lab_norm(l.t.p[p]) / sqrt((double)st_numel(l.t.p[p]));
        assert_true(fabs(rms / 0.1 - 1.0) < 0.3);
    }
    lab_close(&l);
}

static void start_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *spec, *init, *says;
    } row[] = {
        {"kron:m1=3,n1=8", "prun", "did you mean \"prune\"?"},
        {"kron:m1=3,n1=8", "", "the choice is: prune, vl, vl-norm, random"},
        {"lowrank:rank=2", "prune", "lowrank has no init \"prune\"; the choice is: vl"},
        {"kron:m1=3,n1=8", "prune:secnd=1", "did you mean \"second\"?"},
        {"kron:m1=3,n1=8", "prune:second", "expected -1e+06 to 1e+06"},
        {"kron:m1=3,n1=8", "prune:keep=left", "expected even|odd or 0 to 1e+06"},
        {"kron:m1=3,n1=8", "vl:rank=1", "no option of init vl called \"rank\""},
        {"kron:m1=3,n1=8", "random:std=nan", "\"nan\""},
        {"kron:m1=3,n1=8", "random:std=-1", "std is \"-1\", expected 0 to 100"},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        st_err e = {0};
        st_spec s;
        st_start start;
        assert_ok(st_spec_parse(&s, row[i].spec, 6, 8, &e), &e);
        assert_st(st_start_parse(&start, &s, row[i].init, &e), ST_EARG, &e);
        assert_says(&e, row[i].says);
    }
    char longer[400];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    st_err e = {0};
    st_start start;
    st_spec s;
    assert_ok(st_spec_parse(&s, "kron:m1=3,n1=8", 6, 8, &e), &e);
    assert_st(st_start_parse(&start, &s, longer, &e), ST_EARG, &e);
    lab l = lab_open("ref", "kron:m1=3,n1=8", 6, 8, 1);
    static const char *const keep[] = {"prune:keep=2", "prune:keep=0.5"};
    for (int i = 0; i < 2; i++) {
        assert_ok(st_start_parse(&start, &l.s, keep[i], &e), &e);
        assert_st(st_map_start(&l.s, &start, l.w, &l.t, NULL, NULL, &e), ST_EARG, &e);
        assert_says(&e, "B has 2 x 1 entries");
    }
    lab_close(&l);
}

/* Copies the numbers of obj[key] into t, or compares them with t. */
static void start_numbers(const json_t *obj, const char *key, st_tensor t, double tolerance)
{
    const json_t *list = json_object_get(obj, key);
    assert_int_equal(json_array_size(list), st_numel(t));
    for (int64_t i = 0; i < st_numel(t); i++) {
        double v = json_number_value(json_array_get(list, (size_t)i));
        if (tolerance <= 0.0) lab_f(t)[i] = (float)v;
        if (tolerance > 0.0 && !(fabs(v - (double)lab_f(t)[i]) <= tolerance))
            fail_msg("%s: %s[%lld] is %g, not %g", json_string_value(json_object_get(obj, "spec")),
                     key, (long long)i, (double)lab_f(t)[i], v);
    }
}

static double start_number(const json_t *obj, const char *key)
{
    return json_number_value(json_object_get(obj, key));
}

/* Against numpy (tools/fixtures_init.py): factors, W', energy, alpha, pruning. */
static void start_as_numpy(void **state)
{
    (void)state;
    st_err e = {0};
    json_t *file = NULL;
    assert_ok(st_json_load(&file, "test/fixtures/map/inits.json", 1 << 20, &e), &e);
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(file, "cases"), i, c)
    {
        lab l = lab_open("ref", json_string_value(json_object_get(c, "spec")),
                         (int64_t)start_number(c, "in"), (int64_t)start_number(c, "out"), 1);
        start_numbers(c, "w", l.w, 0.0);
        st_fit fit;
        start_init(&l, "vl", NULL, &fit);
        start_numbers(c, "a", l.t.p[0], 1e-4);
        start_numbers(c, "b", l.t.p[1], 1e-4);
        start_numbers(c, "near", start_expanded(&l), 2e-5);
        assert_true(fabs(fit.energy - start_number(c, "energy")) < 1e-6);
        assert_true(fabs(sqrt(fit.lost / fit.total) - start_number(c, "error")) < 1e-5);
        start_init(&l, "vl-norm", NULL, &fit);
        assert_true(fabs(fit.alpha - start_number(c, "alpha")) < 1e-5);
        assert_true(fabs(sqrt(fit.lost / fit.total) - start_number(c, "error_norm")) < 1e-5);
        if (l.s.knob[0] == 1) {
            start_init(&l, "prune:second=0.1", NULL, NULL);
            start_numbers(c, "prune", start_expanded(&l), 1e-6);
        }
        lab_close(&l);
    }
    assert_int_equal(i, 7);
    json_decref(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(start_van_loan), cmocka_unit_test(start_normalized),
        cmocka_unit_test(start_pruned),   cmocka_unit_test(start_gauge),
        cmocka_unit_test(start_scalars),  cmocka_unit_test(start_random),
        cmocka_unit_test(start_refusals), cmocka_unit_test(start_as_numpy),
        cmocka_unit_test(start_as_numpy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
