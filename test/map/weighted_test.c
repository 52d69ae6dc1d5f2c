/* Projection weighted by the inputs' covariance: the least error of the outputs. Oracles do not use
 * the library's linear algebra: least squares over a basis by Gaussian elimination, singular values
 * by Jacobi rotations, and descent along each type's own gradient. */
/* Long: one property; its oracles share their linear algebra. */
/* SPDX-License-Identifier: MIT */
#include "jacobi.h"
#include "lab.h"
#include "shapes.h"

enum { SIDE = JACOBI_SIDE };

/* A type on a random w, and a covariance: uneven scales, correlated, as activations are. */
typedef struct {
    lab l;
    float cov[SIDE * SIDE];
    double c[SIDE * SIDE]; /* with the ridge, mean diagonal 1 + ridge */
} rig;

static rig rig_open(int i)
{
    rig r = {.l = lab_open("ref", shapes[i].spec, shapes[i].in, shapes[i].out, shapes[i].in)};
    int64_t n = shapes[i].in, rows = 3 * n;
    print_message("         %s\n", shapes[i].spec);
    lab_random(r.l.w, 42);
    float *x = calloc((size_t)(rows * n), sizeof *x);
    st_normal_fill(x, rows * n, 0.0f, 1.0f, 11, (uint64_t)i);
    double mean = 0.0;
    for (int64_t k = 0; k < rows; k++) {
        for (int64_t j = 0; j < n; j++)
            x[k * n + j] = x[k * n + j] * (0.5f + (float)(j % 3)) + 0.8f * x[k * n];
    }
    for (int64_t a = 0; a < n; a++) {
        for (int64_t b = 0; b < n; b++) {
            double sum = 0.0;
            for (int64_t k = 0; k < rows; k++)
                sum += (double)x[k * n + a] * (double)x[k * n + b];
            r.cov[a * n + b] = (float)(sum / (double)rows);
        }
        mean += (double)r.cov[a * n + a] / (double)n;
    }
    for (int64_t k = 0; k < n * n; k++)
        r.c[k] = (double)r.cov[k] / mean + (k % (n + 1) ? 0.0 : ST_RIDGE);
    free(x);
    return r;
}

/* trace(D (W - w) C (W - w)^T D) of the map. */
static double rig_error(rig *r, const st_theta *t, const float *weight)
{
    lab *l = &r->l;
    st_err e = {0};
    size_t mark = st_arena_mark(&l->a);
    int64_t n = l->s.in;
    st_tensor v = st_take2(&l->a, ST_F32, l->s.out, n);
    assert_ok(st_map_expand(&l->s, t, v, &e), &e);
    double sum = 0.0;
    for (int64_t o = 0; o < l->s.out; o++) {
        double d[SIDE], scale = weight ? (double)weight[o] : 1.0;
        for (int64_t i = 0; i < n; i++)
            d[i] = scale * ((double)lab_f(v)[o * n + i] - (double)lab_f(l->w)[o * n + i]);
        for (int64_t i = 0; i < n * n; i++)
            sum += d[i / n] * r->c[i] * d[i % n];
    }
    st_arena_rewind(&l->a, mark);
    return sum;
}

static st_theta rig_project(rig *r, const float *cov, const float *weight, uint64_t seed)
{
    st_err e = {0};
    st_theta t = lab_theta(&r->l, seed);
    st_project_opts how = {.in_cov = cov, .out_weight = weight};
    assert_ok(r->l.s.type->project(&r->l.s, r->l.w, &t, &how, &e), &e);
    return t;
}

static void test_every_type_has_cases(void **state)
{
    (void)state;
    for (int i = 0; st_map_types[i]; i++) {
        int found = 0;
        for (int c = 0; c < SHAPES; c++) {
            st_spec s;
            found +=
                (shapes[c].how & PROJECT) &&
                st_spec_parse(&s, shapes[c].spec, shapes[c].in, shapes[c].out, NULL) == ST_OK &&
                s.type == st_map_types[i];
        }
        if (!found)
            fail_msg("type %s has no line with PROJECT in shapes.def", st_map_types[i]->name);
    }
}

static void test_equal_inputs_change_nothing(void **state)
{
    (void)state;
    for (int i = 0; i < SHAPES; i++) {
        if (!(shapes[i].how & PROJECT)) continue;
        rig r = rig_open(i);
        lab *l = &r.l;
        st_err e = {0};
        float one[SIDE * SIDE] = {0};
        for (int64_t k = 0; k < l->s.in; k++)
            one[k * l->s.in + k] = 3.0f;
        st_theta plain = rig_project(&r, NULL, NULL, 300), same = rig_project(&r, one, NULL, 400);
        st_tensor a = st_take2(&l->a, ST_F32, l->s.out, l->s.in);
        st_tensor b = st_take2(&l->a, ST_F32, l->s.out, l->s.in);
        assert_ok(st_map_expand(&l->s, &plain, a, &e), &e);
        assert_ok(st_map_expand(&l->s, &same, b, &e), &e);
        lab_near(b, a, 1e-5, "expanded");
        lab_close(l);
    }
}

static void test_the_outputs_err_less(void **state)
{
    (void)state;
    for (int i = 0; i < SHAPES; i++) {
        if (!(shapes[i].how & PROJECT)) continue;
        rig r = rig_open(i);
        st_theta plain = rig_project(&r, NULL, NULL, 300), best = rig_project(&r, r.cov, NULL, 400);
        double before = rig_error(&r, &plain, NULL), after = rig_error(&r, &best, NULL);
        if (!(after <= before * (1 + 1e-5) + 1e-6))
            fail_msg("%.8g, unweighted %.8g", after, before);
        lab_close(&r.l);
    }
}

/* ---- types linear in their weights: least squares over the basis ----------------------------- */

/* Gaussian elimination with pivots; unknowns without a pivot are 0. a (n, n + 1). */
static void solve(double *a, int n)
{
    for (int j = 0; j < n; j++) {
        int top = j;
        for (int i = j; i < n; i++) {
            if (fabs(a[i * (n + 1) + j]) > fabs(a[top * (n + 1) + j])) top = i;
        }
        for (int k = 0; k <= n; k++) {
            double keep = a[j * (n + 1) + k];
            a[j * (n + 1) + k] = a[top * (n + 1) + k];
            a[top * (n + 1) + k] = keep;
        }
        double pivot = a[j * (n + 1) + j];
        for (int k = 0; k <= n; k++)
            a[j * (n + 1) + k] = fabs(pivot) < 1e-9 ? 0.0 : a[j * (n + 1) + k] / pivot;
        for (int i = 0; i < n && fabs(pivot) >= 1e-9; i++) {
            double by = a[i * (n + 1) + j];
            for (int k = 0; k <= n && i != j; k++)
                a[i * (n + 1) + k] -= by * a[j * (n + 1) + k];
        }
    }
}

/* Column p of the basis: W of theta = e_p, all else 0. */
static double *basis_of(rig *r, int64_t count)
{
    lab *l = &r->l;
    st_err e = {0};
    int64_t n = l->s.in * l->s.out;
    double *basis = calloc((size_t)(count * n), sizeof *basis);
    st_tensor v = st_take2(&l->a, ST_F32, l->s.out, l->s.in);
    st_theta t = lab_theta(l, 900);
    memset(t.p[0].data, 0, st_bytes(t.p[0]));
    for (int64_t p = 0; p < count; p++) {
        lab_f(t.p[0])[p] = 1.0f;
        assert_ok(st_map_expand(&l->s, &t, v, &e), &e);
        for (int64_t i = 0; i < n; i++)
            basis[p * n + i] = (double)lab_f(v)[i];
        lab_f(t.p[0])[p] = 0.0f;
    }
    return basis;
}

/* <X C, Y> for (out, in) matrices. */
static double product_under(const double *c, const double *x, const double *y, int64_t out,
                            int64_t in)
{
    double sum = 0.0;
    for (int64_t o = 0; o < out; o++) {
        for (int64_t i = 0; i < in * in; i++)
            sum += x[o * in + i / in] * c[i] * y[o * in + i % in];
    }
    return sum;
}

static void test_linear_types_solve_least_squares(void **state)
{
    (void)state;
    for (int i = 0; i < SHAPES; i++) {
        if (!(shapes[i].how & PROJECT)) continue;
        if (shapes[i].kind != LINEAR) continue;
        rig r = rig_open(i);
        lab *l = &r.l;
        int64_t in = l->s.in, out = l->s.out, n = in * out;
        int count = (int)st_numel(l->t.p[0]);
        double *basis = basis_of(&r, count), *w = calloc((size_t)n, sizeof *w);
        double *a = calloc((size_t)(count * (count + 1)), sizeof *a);
        for (int64_t k = 0; k < n; k++)
            w[k] = (double)lab_f(l->w)[k];
        for (int p = 0; p < count; p++) {
            for (int q = 0; q < count; q++)
                a[p * (count + 1) + q] = product_under(r.c, basis + p * n, basis + q * n, out, in);
            a[p * (count + 1) + count] = product_under(r.c, basis + p * n, w, out, in);
        }
        solve(a, count);
        st_theta got = rig_project(&r, r.cov, NULL, 300);
        for (int p = 0; p < count; p++) {
            double want = a[p * (count + 1) + count], is = (double)lab_f(got.p[0])[p];
            if (!(fabs(is - want) <= 2e-5 * (1 + fabs(want)))) {
                fail_msg("weight %d is %.8g, least squares %.8g", p, is, want);
            }
        }
        free(basis);
        free(w);
        free(a);
        lab_close(l);
    }
}

/* ---- truncations: the singular values of W C^1/2 --------------------------------------------- */

/* D W C^1/2, (out, in). */
static double *whitened(const rig *r, const float *weight)
{
    int n = (int)r->l.s.in, out = (int)r->l.s.out;
    double a[SIDE * SIDE], v[SIDE * SIDE], root[SIDE * SIDE] = {0};
    memcpy(a, r->c, sizeof a);
    jacobi(a, v, n);
    for (int i = 0; i < n * n; i++) {
        for (int k = 0; k < n; k++)
            root[i] += v[i / n * n + k] * sqrt(a[k * n + k]) * v[i % n * n + k];
    }
    double *m = calloc((size_t)(n * out), sizeof *m);
    for (int i = 0; i < n * out; i++) {
        for (int k = 0; k < n; k++)
            m[i] += (double)lab_f(r->l.w)[i / n * n + k] * root[k * n + i % n];
        if (weight) m[i] *= (double)weight[i / n];
    }
    return m;
}

static const st_map_type *rig_type(int i)
{
    st_spec s;
    assert_ok(st_spec_parse(&s, shapes[i].spec, shapes[i].in, shapes[i].out, NULL), NULL);
    return s.type;
}

static void test_truncations_are_optimal(void **state)
{
    (void)state;
    for (int weighted = 0; weighted < 2; weighted++) {
        for (int i = 0; i < SHAPES; i++) {
            const st_map_type *type = rig_type(i);
            bool low = type == &st_map_lowrank;
            if (!(shapes[i].how & PROJECT) || shapes[i].kind != EXACT) continue;
            if (!low && type != st_map_find("kron")) continue; /* whose singular values are known */
            rig r = rig_open(i);
            const st_spec *s = &r.l.s;
            float weight[SIDE];
            for (int o = 0; o < SIDE; o++)
                weight[o] = 0.5f + 0.37f * (float)(o % 5);
            /* row weights go with A's columns, which n2 = 2 would share */
            if (weighted && !low) {
                lab_close(&r.l);
                continue;
            }
            const float *rows = weighted ? weight : NULL;
            double *m = whitened(&r, rows), want;
            if (low) {
                want = truncated(m, (int)s->out, (int)s->in, (int)s->knob[0]);
            } else { /* rows (i, j1), columns j2; knobs terms, m1, n1 */
                int n1 = (int)s->knob[2], n2 = (int)s->out / n1, in = (int)s->in;
                double *x = calloc((size_t)(in * (int)s->out), sizeof *x);
                for (int k = 0; k < in * (int)s->out; k++) {
                    int o = k / in, at = k % in;
                    x[(at * n1 + o / n2) * n2 + o % n2] = m[k];
                }
                want = truncated(x, in * n1, n2, (int)s->knob[0]);
                free(x);
            }
            st_theta t = rig_project(&r, r.cov, rows, 300);
            double got = rig_error(&r, &t, rows);
            if (!(fabs(got - want) <= 2e-5 * want)) fail_msg("error %.8g, least %.8g", got, want);
            free(m);
            lab_close(&r.l);
        }
    }
}

/* ---- all: descent finds nothing closer ------------------------------------------------------- */

/* d/d theta of half the error: |(W - w) X^T|^2 with rows x of X = C^1/2, through the type's own
 * backward. */
static void slope_of(rig *r, const st_theta *t, st_theta *slope, const double *root,
                     const float *weight)
{
    lab *l = &r->l;
    int64_t in = l->s.in, out = l->s.out;
    for (int64_t i = 0; i < in * in; i++)
        lab_f(l->x)[i] = (float)root[i];
    st_theta keep = l->t;
    l->t = *t;
    lab_forward(l, t, (st_tensor){0}, (st_tensor){0});
    for (int64_t i = 0; i < in * out; i++) {
        int64_t row = i / out, o = i % out;
        double want = 0.0, scale = weight ? (double)weight[o] : 1.0;
        for (int64_t k = 0; k < in; k++)
            want += (double)lab_f(l->w)[o * in + k] * root[row * in + k];
        lab_f(l->dy)[i] = (float)(scale * scale * ((double)lab_f(l->y)[i] - want));
    }
    for (int p = 0; p < l->params; p++)
        memset(slope->p[p].data, 0, st_bytes(slope->p[p]));
    lab_backward(l, (st_tensor){0}, (st_tensor){0}, slope);
    l->t = keep;
}

static void square_root(const rig *r, double *root)
{
    int n = (int)r->l.s.in;
    double a[SIDE * SIDE], v[SIDE * SIDE];
    memcpy(a, r->c, sizeof a);
    jacobi(a, v, n);
    for (int i = 0; i < n * n; i++) {
        root[i] = 0.0;
        for (int k = 0; k < n; k++)
            root[i] += v[i / n * n + k] * sqrt(a[k * n + k]) * v[i % n * n + k];
    }
}

static void descend(rig *r, st_theta *t, const float *weight)
{
    lab *l = &r->l;
    double root[SIDE * SIDE];
    st_theta slope = lab_theta(l, 700);
    square_root(r, root);
    for (int step = 0; step < 2500; step++) {
        slope_of(r, t, &slope, root, weight);
        for (int p = 0; p < l->params - (lab_gated(&l->s) ? 2 : 0); p++) {
            for (int64_t j = 0; j < st_numel(t->p[p]); j++)
                lab_f(t->p[p])[j] -= 0.004f * lab_f(slope.p[p])[j];
        }
    }
}

static void test_nothing_near_is_closer(void **state)
{
    (void)state;
    for (int i = 0; i < SHAPES; i++) {
        if (!(shapes[i].how & PROJECT)) continue;
        if (shapes[i].kind == LINEAR) continue;
        rig r = rig_open(i);
        lab *l = &r.l;
        st_theta t = rig_project(&r, r.cov, NULL, 300), noise = lab_theta(l, 500);
        double least = rig_error(&r, &t, NULL);
        for (int p = 0; p < l->params - (lab_gated(&l->s) ? 2 : 0); p++) {
            for (int64_t j = 0; j < st_numel(t.p[p]); j++)
                lab_f(t.p[p])[j] += 0.03f * lab_f(noise.p[p])[j];
        }
        descend(&r, &t, NULL);
        double found = rig_error(&r, &t, NULL);
        if (!(found >= least * (shapes[i].kind == EXACT ? 1 - 1e-5 : 0.98))) {
            fail_msg("%s: projection leaves %.8g, a neighbour %.8g", shapes[i].spec, least, found);
        }
        /* and the descent did arrive: an error stuck high above would prove nothing */
        if (!(found <= least * 1.15 + 1e-3))
            fail_msg("descent: %.8g, projection %.8g", found, least);
        lab_close(l);
    }
}

/* Frequent rows of an embedding: kron with n2 = 1, m2 = 2 (KnGPT2's), by descent too. */
static void test_frequent_rows_come_closer(void **state)
{
    (void)state;
    st_err e = {0};
    static const char *const spec[] = {"lowrank:rank=2", "kron:terms=1,m1=3,n1=10"};
    for (int i = 0; i < 2; i++) {
        rig r = {.l = lab_open("ref", spec[i], 6, 10, 6)};
        lab *l = &r.l;
        float weight[10];
        for (int k = 0; k < 36; k++)
            r.c[k] = k % 7 ? 0.0 : 1.0;
        for (int o = 0; o < 10; o++)
            weight[o] = o == 3 ? 4.0f : o < 3 ? 0.4f : 1.0f;
        lab_random(l->w, 42);
        st_theta plain = rig_project(&r, NULL, NULL, 300), t = rig_project(&r, NULL, weight, 400);
        double before = rig_error(&r, &plain, weight), least = rig_error(&r, &t, weight);
        if (!(least < 0.99 * before)) fail_msg("%.6g, unweighted %.6g", least, before);
        descend(&r, &t, weight);
        assert_true(rig_error(&r, &t, weight) >= least * (1 - 1e-5));
        assert_ok(st_stream_sync(l->q, &e), &e);
        lab_close(l);
    }
}

/* ---- what may come in ------------------------------------------------------------------------ */

static void test_broken_covariances_are_refused(void **state)
{
    (void)state;
    for (int i = 0; i < SHAPES; i++) {
        if (!(shapes[i].how & PROJECT)) continue;
        if (strcmp(shapes[i].spec, "dense") == 0) continue;
        rig r = rig_open(i);
        st_err e = {0};
        st_project_opts how = {.in_cov = r.cov};
        r.cov[0] = NAN;
        assert_st(r.l.s.type->project(&r.l.s, r.l.w, &r.l.t, &how, &e), ST_EARG, &e);
        assert_says(&e, "covariance");
        r.cov[0] = 1.0f;
        r.cov[1] = r.cov[shapes[i].in] = 100.0f; /* indefinite */
        assert_st(r.l.s.type->project(&r.l.s, r.l.w, &r.l.t, &how, &e), ST_EARG, &e);
        assert_says(&e, "covariance");
        lab_close(&r.l);
    }
}

/* Inputs that were always 0, all or some, and fewer tokens than inputs: all have an answer. */
static void test_silent_inputs_are_fine(void **state)
{
    (void)state;
    for (int i = 0; i < SHAPES; i++) {
        if (!(shapes[i].how & PROJECT)) continue;
        rig r = rig_open(i);
        int64_t n = shapes[i].in;
        for (int some = 0; some < 2; some++) {
            memset(r.cov, 0, sizeof r.cov);
            for (int64_t k = 0; k < n && some; k++)
                r.cov[k] = r.cov[k * n] = 0.0f, r.cov[0] = 5.0f;
            st_theta t = rig_project(&r, r.cov, NULL, 300);
            assert_true(isfinite(rig_error(&r, &t, NULL)));
        }
        lab_close(&r.l);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_type_has_cases),
        cmocka_unit_test(test_equal_inputs_change_nothing),
        cmocka_unit_test(test_the_outputs_err_less),
        cmocka_unit_test(test_linear_types_solve_least_squares),
        cmocka_unit_test(test_truncations_are_optimal),
        cmocka_unit_test(test_nothing_near_is_closer),
        cmocka_unit_test(test_frequent_rows_come_closer),
        cmocka_unit_test(test_broken_covariances_are_refused),
        cmocka_unit_test(test_silent_inputs_are_fine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
