/* Attention through features against its matrix of weights, written out in double precision: with
 * the directions known, hard inputs, masks; and how random features behave. */
/* SPDX-License-Identifier: MIT */
#include "attend_rig.h"

/* ---- weights one by one ---------------------------------------------------------------------- */

typedef struct {
    const float *w;
    int64_t rows, window;
    bool cosh, elu, relu;
    double lift;
} features;

static double feature_dot(const attend_rig *r, const features *f, const float *x, int64_t m)
{
    double dot = 0;
    for (int64_t c = 0; c < r->dim; c++)
        dot += (double)f->w[m % f->rows * r->dim + c] * (double)x[c];
    return m >= f->rows ? -dot : dot;
}

/* Log of feature m of row x, times the square root of their number; `most`: what shifts it. */
static double feature_log(const attend_rig *r, const features *f, const float *x, int64_t m,
                          double most)
{
    double half = 0, dot = f->elu ? 0 : feature_dot(r, f, x, m);
    if (f->elu) return x[m] > 0 ? log((double)x[m] + 1) : (double)x[m];
    if (f->relu) return log(fmax(0, dot * pow((double)r->dim, -0.25)) + 1e-3);
    for (int64_t c = 0; c < r->dim; c++)
        half += (double)x[c] * (double)x[c] / 2;
    double log_ = dot * sqrt((double)r->scale) - half * (double)r->scale;
    return f->lift > 0 ? log(exp(log_ - most) + f->lift) : log_;
}

static double feature_most(const attend_rig *r, const features *f, const float *x, double most)
{
    for (int64_t m = 0; m < f->rows && f->lift > 0; m++)
        most = fmax(most, feature_dot(r, f, x, m) * sqrt((double)r->scale));
    return most;
}

/* As the scatterbrain has it; without a window as performers have it. */
static double weight_favor(const attend_rig *r, void *ctx, int64_t i, int64_t h, int64_t t,
                           int64_t j)
{
    const features *f = ctx;
    int64_t w = f->window, all = f->elu ? r->dim : f->cosh ? 2 * f->rows : f->rows;
    int64_t lo = r->causal ? t - w + 1 : t - w / 2, hi = t + (w + 1) / 2;
    if (w && j >= lo && (r->causal || j < hi)) return (double)r->scale * rig_dot(r, i, h, t, j);
    const float *q = rig_row(r, r->q, r->q_len, i, h, t), *k = rig_row(r, r->k, r->kv_len, i, h, j);
    double top = -INFINITY, sum = 0, log_[512], of_q = feature_most(r, f, q, -1e300), of_k = -1e300;
    for (int64_t x = 0; x < r->kv_len; x++)
        of_k = feature_most(r, f, rig_row(r, r->k, r->kv_len, i, h, x), of_k);
    for (int64_t m = 0; m < all; m++) {
        log_[m] = feature_log(r, f, q, m, of_q) + feature_log(r, f, k, m, of_k);
        top = fmax(top, log_[m]);
    }
    for (int64_t m = 0; m < all; m++)
        sum += exp(log_[m] - top);
    return top + log(sum) - (f->elu || f->relu ? 0 : log((double)all));
}

/* ---- the cases ------------------------------------------------------------------------------- */

static void draw(float *w, int64_t rows, int64_t cols, uint64_t seed, bool equal)
{
    st_err e;
    st_stream *q;
    assert_ok(st_stream_open(&q, "ref", 1, &e), &e);
    st_directions_args a = {.rows = rows, .cols = cols, .seed = seed, .equal = equal};
    a.w = st_view1(w, ST_F32, rows * cols);
    st_stream_ops(q)->directions(q, &a);
    st_stream_close(q);
}

typedef struct {
    const char *text;
    features f;
    int64_t n;
    float std;
    int causal;
} favor_case;

/* Errors grow with the exponents, of which float32 keeps the relative accuracy. */
static void check(const favor_case *c, st_dtype t)
{
    enum { DIM = 8 };
    float w[256 * DIM];
    st_err e;
    st_attention m;
    features f = c->f;
    for (int device = 0; device < 2; device++) {
        attend_rig r = rig_open(2, 2, DIM, c->n, c->n, c->std, (uint64_t)c->n);
        r.causal = c->causal;
        draw(w, f.rows, DIM, 5, false);
        f.w = w;
        assert_ok(st_attention_parse(&m, c->text, &e), &e);
        if (!f.elu) m.projection = st_view1(w, ST_F32, f.rows * DIM);
        rig_run_as(&r, &m, device ? "cpu" : "ref", t);
        double exponent = 4 + (double)(c->std * c->std) * DIM,
               off = rig_error(&r, weight_favor, &f);
        double bound = t == ST_F32 ? 2e-6 * exponent : 1e-2;
        if (!(off < bound)) {
            fail_msg("%s, %d tokens, std %g, causal %d, device %d: off by %g, at most %g", c->text,
                     (int)c->n, (double)c->std, c->causal, device, off, bound);
        }
        rig_close(&r);
    }
}

static void weights_are_features_products(void **state)
{
    (void)state;
    static const favor_case c[] = {
        {"performer:features=12", {.rows = 12}, 130, 1, 0},
        {"performer:features=12", {.rows = 12}, 130, 1, 1},
        {"performer:features=49", {.rows = 49}, 101, 1, 1},
        {"performer:features=200", {.rows = 200}, 97, 1, 0},
        {"performer:features=1", {.rows = 1}, 1, 1, 1},
        {"performer:features=7,relu=1", {.rows = 7, .relu = true}, 99, 1, 0},
        {"performer:features=7,relu=1", {.rows = 7, .relu = true}, 99, 1, 1},
        {"performer:features=9,eps=4", {.rows = 9, .lift = 1e-4}, 40, 1, 0},
        {"linear:neps=0", {.elu = true, .rows = 1}, 130, 1, 0},
        {"linear:neps=0", {.elu = true, .rows = 1}, 130, 1, 1},
        {"linear:neps=0", {.elu = true, .rows = 1}, 1, 1, 1},
        {"sblocal:window=24,features=6", {.cosh = true, .rows = 3, .window = 24}, 200, 1, 0},
        {"sblocal:window=24,features=6", {.cosh = true, .rows = 3, .window = 24}, 200, 1, 1},
        {"sblocal:window=1,features=2", {.cosh = true, .rows = 1, .window = 1}, 97, 1, 0},
        {"sblocal:window=1,features=2", {.cosh = true, .rows = 1, .window = 1}, 97, 1, 1},
        {"sblocal:window=7,features=24", {.cosh = true, .rows = 12, .window = 7}, 1, 1, 0},
        {"sblocal:window=500,features=8", {.cosh = true, .rows = 4, .window = 500}, 130, 1, 0},
        {"sblocal:window=99,features=24", {.cosh = true, .rows = 12, .window = 99}, 230, 1, 0},
    };
    for (size_t i = 0; i < sizeof c / sizeof *c; i++)
        check(&c[i], ST_F32);
    check(&c[0], ST_BF16);
    check(&c[11], ST_BF16);
}

/* Rows of length about 100: products of features, and those of all keys but one, are far below
 * what float32 holds; formed naively the outputs are 0/0. */
static void large_rows_are_no_danger(void **state)
{
    (void)state;
    static const favor_case c[] = {
        {"performer:features=12", {.rows = 12}, 50, 35, 0},
        {"performer:features=12", {.rows = 12}, 120, 35, 1},
        {"sblocal:window=5,features=6", {.cosh = true, .rows = 3, .window = 5}, 120, 35, 0},
        {"sblocal:window=5,features=6", {.cosh = true, .rows = 3, .window = 5}, 120, 35, 1},
    };
    for (size_t i = 0; i < sizeof c / sizeof *c; i++)
        check(&c[i], ST_F32);
}

/* ---- random features ------------------------------------------------------------------------- */

static void directions_are_orthogonal(void **state)
{
    (void)state;
    enum { ROWS = 70, DIM = 32 };
    float w[ROWS * DIM], again[ROWS * DIM];
    double mean = 0;
    for (int equal = 0; equal < 2; equal++) {
        draw(w, ROWS, DIM, 9, equal);
        for (int a = 0; a < ROWS; a++) {
            double length = 0;
            for (int b = 0; b < ROWS; b++) {
                double dot = 0;
                for (int c = 0; c < DIM; c++)
                    dot += (double)w[a * DIM + c] * (double)w[b * DIM + c];
                if (a == b) length = dot;
                if (a != b && a / DIM == b / DIM) assert_true(fabs(dot) < 1e-4);
            }
            if (equal) assert_true(fabs(length - DIM) < 1e-3);
            mean += equal ? 0 : length / ROWS;
        }
    }
    assert_true(fabs(mean - DIM) < 5 * 8 / sqrt(ROWS)); /* chi^2: DIM +- sqrt(2 DIM) */
    draw(again, ROWS, DIM, 9, true);
    assert_memory_equal(w, again, sizeof w);
    draw(again, ROWS, DIM, 10, true);
    assert_memory_not_equal(w, again, sizeof w);
}

/* The mean of phi(x).phi(y) over many draws is e^(x.y), for both kinds of directions' features. */
static void features_are_unbiased(void **state)
{
    (void)state;
    enum { DIM = 8, DRAWS = 2000, ROWS = 8 };
    float w[ROWS * DIM], x[DIM], y[DIM];
    double want = 0, half = 0;
    st_normal_fill(x, DIM, 0, 0.4f, 1, 1);
    st_normal_fill(y, DIM, 0, 0.4f, 1, 2);
    for (int c = 0; c < DIM; c++) {
        want += (double)(x[c] * y[c]);
        half += (double)(x[c] * x[c] + y[c] * y[c]) / 2;
    }
    for (int both = 0; both < 2; both++) {
        double mean = 0, square = 0;
        for (int d = 0; d < DRAWS; d++) {
            double sum = 0;
            draw(w, ROWS, DIM, (uint64_t)d, false);
            for (int m = 0; m < ROWS; m++) {
                double dot = 0;
                for (int c = 0; c < DIM; c++)
                    dot += (double)w[m * DIM + c] * (double)(x[c] + y[c]);
                sum += exp(dot - half) + (both ? exp(-dot - half) : 0);
            }
            sum /= ROWS * (both + 1);
            mean += sum / DRAWS;
            square += sum * sum / DRAWS;
        }
        double error = sqrt((square - mean * mean) / DRAWS);
        assert_true(fabs(mean - exp(want)) < 4 * error && error < 0.03);
    }
}

static double distance(const char *text, uint64_t layer)
{
    attend_rig r = rig_open(1, 1, 16, 128, 128, 0.4f, 3);
    double off = 0, all = 0;
    float *exact = st_calloc(128 * 16, sizeof *exact);
    assert_non_null(exact);
    rig_run(&r, "full", "cpu");
    memcpy(exact, r.o, 128 * 16 * sizeof *exact);
    r.layer = layer;
    rig_run(&r, text, "cpu");
    for (int i = 0; i < 128 * 16; i++) {
        double want = (double)exact[i];
        off += pow((double)r.o[i] - want, 2);
        all += want * want;
    }
    free(exact);
    rig_close(&r);
    return sqrt(off / all);
}

/* The error falls as the root of the number of features, or nearly. */
static void more_features_are_nearer(void **state)
{
    (void)state;
    double was[2] = {0};
    for (int features_ = 16; features_ <= 1024; features_ *= 4) {
        double now[2] = {0};
        for (int seed = 0; seed < 6; seed++) {
            char text[2][64];
            snprintf(text[0], 64, "performer:features=%d,seed=%d", features_, seed);
            snprintf(text[1], 64, "sblocal:window=16,features=%d,seed=%d", features_, seed);
            for (int i = 0; i < 2; i++)
                now[i] += distance(text[i], 0) / 6;
        }
        for (int i = 0; i < 2; i++) {
            assert_true(was[i] == 0 || now[i] < 0.7 * was[i]);
            was[i] = now[i];
        }
    }
    assert_true(was[0] < 0.06 && was[1] < 0.06);
}

static void draws_have_numbers(void **state)
{
    (void)state;
    assert_true(distance("performer:features=8", 0) == distance("performer:features=8,seed=0", 0));
    assert_true(distance("performer:features=8", 0) != distance("performer:features=8", 1));
    assert_true(distance("performer:features=8", 0) != distance("performer:features=8,seed=1", 0));
}

/* ---- what comes later counts for nothing ----------------------------------------------------- */

static void causal_forms_do_not_look_ahead(void **state)
{
    (void)state;
    static const char *const texts[] = {"full", "local:window=9", "performer:features=16",
                                        "sblocal:window=9,features=8", "linear"};
    enum { N = 150, CUT = 71, WIDTH = 2 * 8 };
    for (size_t x = 0; x < sizeof texts / sizeof *texts; x++) {
        attend_rig a = rig_open(1, 2, 8, N, N, 1, 4), b = rig_open(1, 2, 8, N, N, 1, 4);
        a.causal = b.causal = 1;
        for (int i = CUT * WIDTH; i < N * WIDTH; i++)
            b.k[i] *= 20, b.v[i] = 1e4f;
        rig_run(&a, texts[x], "cpu");
        rig_run(&b, texts[x], "cpu");
        for (int i = 0; i < CUT * WIDTH; i++)
            assert_true(fabsf(a.o[i] - b.o[i]) < 2e-4f);
        rig_close(&a);
        rig_close(&b);
    }
}

static void what_cannot_be_causal_says_so(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } c[] = {{"linformer", "later ones"},
             {"performer:eps=4", "later ones"},
             {"performer:features=0,neps=6", "later ones"}};
    st_err e;
    st_attention m;
    st_attention_shape s = {.head_dim = 8, .q_len = 64, .kv_len = 64};
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        assert_ok(st_attention_parse(&m, c[i].text, &e), &e);
        s.causal = 0;
        assert_ok(st_attention_check(&m, &s, &e), &e);
        s.causal = 1;
        assert_st(st_attention_check(&m, &s, &e), ST_EUNSUPPORTED, &e);
        assert_says(&e, c[i].says);
    }
    assert_ok(st_attention_parse(&m, "sblocal:features=3", &e), &e);
    assert_st(st_attention_check(&m, &s, &e), ST_ESHAPE, &e);
    assert_says(&e, "features=3 must be even");
    assert_ok(st_attention_parse(&m, "performer:features=5000", &e), &e);
    assert_st(st_attention_check(&m, &s, &e), ST_ESHAPE, &e);
    assert_says(&e, "1..1024");
}

/* ---- linformer ------------------------------------------------------------------------------- */

static void linformer_mixes_the_keys(void **state)
{
    (void)state;
    enum { N = 37, K = 5, DIM = 4 };
    float mix[2 * N * K];
    st_err e;
    st_attention m;
    st_normal_fill(mix, 2 * N * K, 0, 0.5f, 8, 8);
    assert_ok(st_attention_parse(&m, "linformer:k=5", &e), &e);
    m.projection = st_view1(mix, ST_F32, 2 * N * K);
    attend_rig r = rig_open(2, 3, DIM, N, N, 1, 6), small = rig_open(2, 3, DIM, N, K, 1, 6);
    memset(small.k, 0, 2 * K * 3 * DIM * sizeof(float));
    memset(small.v, 0, 2 * K * 3 * DIM * sizeof(float));
    for (int64_t i = 0; i < 2 * N * K; i++) {
        int64_t item = i / (N * K), j = i / K % N, x = i % K;
        for (int64_t c = 0; c < 3 * DIM; c++) {
            int64_t from = (item * N + j) * 3 * DIM + c, to = (item * K + x) * 3 * DIM + c;
            small.k[to] += mix[j * K + x] * r.k[from];
            small.v[to] += mix[(N + j) * K + x] * r.v[from];
        }
    }
    rig_run_as(&r, &m, "cpu", ST_F32);
    memcpy(small.q, r.q, 2 * N * 3 * DIM * sizeof(float));
    rig_run(&small, "full", "ref");
    for (int i = 0; i < 2 * N * 3 * DIM; i++)
        assert_true(fabsf(r.o[i] - small.o[i]) < 2e-5f);
    rig_close(&r);
    rig_close(&small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_are_features_products),
        cmocka_unit_test(large_rows_are_no_danger),
        cmocka_unit_test(directions_are_orthogonal),
        cmocka_unit_test(features_are_unbiased),
        cmocka_unit_test(more_features_are_nearer),
        cmocka_unit_test(draws_have_numbers),
        cmocka_unit_test(causal_forms_do_not_look_ahead),
        cmocka_unit_test(what_cannot_be_causal_says_so),
        cmocka_unit_test(linformer_mixes_the_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
