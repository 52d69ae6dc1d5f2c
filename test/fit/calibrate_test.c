/* Calibration: what matrices are fed, by the library and by hand, and decompositions that heed it.
 */
/* Long: the oracle by hand and all that is compared with it. */
/* SPDX-License-Identifier: MIT */
#include "fit/calibrate.h"
#include "testing.h"
#include <math.h>

enum { VOCAB = 30, LEN = 8, WIDTH = 12, INNER = 48, LAYERS = 2, WIDE = 600 };
enum { TOKENS = LEN * 300 + 3 }; /* two batches, the last not full, and some left over */

typedef struct {
    st_model *m;
    float *flat;
    int32_t ids[TOKENS];
    int n; /* of them */
} tiny;

static void tiny_open(tiny *t, int inner)
{
    st_err e = {0};
    char text[256];
    snprintf(text, sizeof text,
             "{\"model_type\":\"gpt2\",\"vocab_size\":30,\"n_positions\":8,\"n_embd\":12,"
             "\"n_layer\":2,\"n_head\":2,\"initializer_range\":0.3,\"n_inner\":%d}",
             inner);
    json_t *config = NULL;
    t->n = TOKENS;
    assert_ok(st_json_parse(&config, text, strlen(text), "test", &e), &e);
    assert_ok(st_model_open(&t->m, config, &e), &e);
    json_decref(config);
    t->flat = st_calloc(st_model_elements(t->m), sizeof *t->flat);
    assert_int_equal(st_fresh_weights(t->m, 5, t->flat, NULL), ST_OK);
    st_rng rng = {.seed = 3};
    for (int i = 0; i < TOKENS; i++) {
        uint64_t a = st_rng_below(&rng, VOCAB), b = st_rng_below(&rng, VOCAB);
        t->ids[i] = (int32_t)(a < b ? a : b); /* small ids are frequent */
    }
}

static void tiny_close(tiny *t)
{
    st_model_close(t->m);
    free(t->flat);
}

/* ---- by hand: whole forwards with a tap that adds up on the host ----------------------------- */

typedef struct {
    const char *name;
    double sum[WIDE * WIDE]; /* (in, in) */
    double mean[WIDE];
} hand;

static hand *hand_new(const char *name)
{
    hand *h = st_calloc(1, sizeof *h);
    h->name = name;
    return h;
}

static void hand_tap(void *ctx, st_stream *q, const char *matrix, st_tensor x)
{
    hand *h = ctx;
    if (strcmp(matrix, h->name) != 0) return;
    float *v = st_calloc(st_numel(x), sizeof *v);
    int64_t n = x.dim[1];
    st_download(q, v, x);
    for (int64_t r = 0; r < x.dim[0]; r++) {
        for (int64_t i = 0; i < n; i++)
            h->mean[i] += (double)v[r * n + i];
        for (int64_t i = 0; i < n * n; i++)
            h->sum[i] += (double)v[r * n + i / n] * (double)v[r * n + i % n];
    }
    free(v);
}

static void hand_pass(const tiny *t, st_model *m, float *flat, st_tap_fn *tap, void *ctx)
{
    st_err e = {0};
    st_stream *q = NULL;
    st_arena tmp = {0};
    assert_ok(st_stream_open(&q, "ref", 0, &e), &e);
    assert_ok(st_device_arena(q, 1 << 24, &tmp, &e), &e);
    st_model_bind(m, st_view1(flat, ST_F32, st_model_elements(m)), (st_tensor){0});
    st_model_tap(m, tap, ctx);
    float loss[LEN];
    for (int i = 0; i + LEN <= t->n; i += LEN) {
        st_tensor ids = st_view1((int32_t *)(uintptr_t)(t->ids + i), ST_I32, LEN);
        st_lm_args a = {.batch = 1, .len = LEN, .ids = ids};
        a.targets = ids;
        a.loss = st_view1(loss, ST_F32, LEN);
        st_model_forward(m, q, &a, &tmp);
    }
    assert_ok(st_stream_sync(q, &e), &e);
    st_model_tap(m, NULL, NULL);
    st_model_bind(m, (st_tensor){0}, (st_tensor){0});
    st_device_arena_close(q, &tmp);
    st_stream_close(q);
}

static void hand_run(const tiny *t, st_model *m, float *flat, hand *h)
{
    hand_pass(t, m, flat, hand_tap, h);
    for (int i = 0; i < WIDE * WIDE; i++)
        h->sum[i] /= t->n / LEN * LEN;
    for (int i = 0; i < WIDE; i++)
        h->mean[i] /= t->n / LEN * LEN;
}

static void assert_cov(const float *got, const double *want, int64_t n, const char *name)
{
    double top = 0;
    for (int64_t i = 0; i < n * n; i++)
        top = fmax(top, fabs(want[i]));
    for (int64_t i = 0; i < n * n; i++) {
        if (!(fabs((double)got[i] - want[i]) <= 2e-5 * top))
            fail_msg("%s: C[%d] is %.8g, by hand %.8g", name, (int)i, (double)got[i], want[i]);
    }
}

static void covariances_are_right(void **state)
{
    (void)state;
    tiny t;
    tiny_open(&t, INNER);
    st_err e = {0};
    st_calibration c = {0};
    assert_ok(st_calibration_open(&c, t.m, t.flat, t.ids, TOKENS, 0, false, &e), &e);
    assert_int_equal(c.sequences, 300);
    for (int layer = 0; layer <= LAYERS; layer++) {
        static const char *const places[] = {"attn.c_attn", "attn.c_proj", "mlp.c_fc",
                                             "mlp.c_proj"};
        char name[4][32];
        st_calibration_want want[4];
        int n = layer < LAYERS ? 4 : 1;
        for (int i = 0; i < n; i++) {
            snprintf(name[i], sizeof name[i], "h.%d.%s", layer, places[i]);
            if (layer == LAYERS) strcpy(name[i], "lm_head");
            int64_t in = i == 3 ? INNER : WIDTH;
            want[i] = (st_calibration_want){.name = name[i],
                                            .in = in,
                                            .cov = st_calloc(in * in, sizeof(float)),
                                            .mean = st_calloc(in, sizeof(float))};
        }
        /* without moving on, then moving on: the same */
        for (int advance = 0; advance < 2; advance++) {
            assert_ok(st_calibration_pass(&c, layer, want, n, advance && layer < LAYERS, &e), &e);
            for (int i = 0; i < n; i++) {
                hand *h = hand_new(name[i]);
                hand_run(&t, t.m, t.flat, h);
                assert_cov(want[i].cov, h->sum, want[i].in, name[i]);
                for (int64_t k = 0; k < want[i].in; k++)
                    assert_true(fabs((double)want[i].mean[k] - h->mean[k]) < 1e-5);
                free(h);
                memset(want[i].cov, 0xff, (size_t)(want[i].in * want[i].in) * sizeof(float));
            }
        }
        for (int i = 0; i < n; i++)
            free(want[i].cov), free(want[i].mean);
    }
    st_calibration_close(&c);
    tiny_close(&t);
}

/* More inputs than are multiplied at a time. */
static void wide_matrices_are_right(void **state)
{
    (void)state;
    tiny t;
    tiny_open(&t, WIDE);
    t.n = 8 * LEN;
    st_err e = {0};
    st_calibration c = {0};
    st_calibration_want want = {
        .name = "h.0.mlp.c_proj", .in = WIDE, .cov = st_calloc(WIDE * WIDE, sizeof(float))};
    hand *h = hand_new(want.name);
    assert_ok(st_calibration_open(&c, t.m, t.flat, t.ids, t.n, 0, false, &e), &e);
    assert_ok(st_calibration_pass(&c, 0, &want, 1, false, &e), &e);
    hand_run(&t, t.m, t.flat, h);
    assert_cov(want.cov, h->sum, WIDE, want.name);
    free(h);
    free(want.cov);
    st_calibration_close(&c);
    tiny_close(&t);
}

static void hidden_units_are_the_diagonal(void **state)
{
    (void)state;
    tiny t;
    tiny_open(&t, INNER);
    st_err e = {0};
    float *squares = NULL;
    assert_ok(st_calibrate_squares(t.m, t.flat, t.ids, TOKENS, &squares, &e), &e);
    for (int layer = 0; layer < LAYERS; layer++) {
        char name[32];
        snprintf(name, sizeof name, "h.%d.mlp.c_proj", layer);
        hand *h = hand_new(name);
        hand_run(&t, t.m, t.flat, h);
        for (int i = 0; i < INNER; i++)
            assert_true(fabs((double)squares[layer * INNER + i] - h->sum[i * INNER + i]) <=
                        1e-5 * h->sum[i * INNER + i] + 1e-9);
        free(h);
    }
    free(squares);
    assert_st(st_calibrate_squares(t.m, t.flat, t.ids, 0, &squares, &e), ST_EARG, &e);
    assert_null(squares);
    tiny_close(&t);
}

/* ---- decompositions -------------------------------------------------------------------------- */

#define MAPS(...)                                                                                  \
    .maps = (const char *const[]){__VA_ARGS__},                                                    \
    .nmaps = sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)

typedef struct {
    st_model *m;
    float *flat;
    json_t *rows;
} made;

static made make(const tiny *t, st_decompose_opts o, bool text)
{
    st_err e = {0};
    made d = {0};
    o.ids = text ? t->ids : NULL;
    o.nids = text ? TOKENS : 0;
    assert_ok(st_decompose_weights(t->m, t->flat, &o, &d.m, &d.flat, &d.rows, &e), &e);
    return d;
}

static void unmake(made *d)
{
    st_model_close(d->m);
    free(d->flat);
    json_decref(d->rows);
}

static double row_number(const json_t *rows, const char *name, const char *key)
{
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row)
    {
        if (strcmp(json_string_value(json_object_get(row, "name")), name) == 0)
            return json_number_value(json_object_get(row, key));
    }
    fail_msg("no row %s", name);
    return 0;
}

/* The relative error of a matrix's outputs on the text, bias included, through moments by hand: of
 * W - W' and the bias's change b, E|(W - W') x - b|^2; relative to the outputs' variance, or with
 * the bias kept to their mean square. */
static double output_error(const tiny *t, const made *d, const char *name, int64_t in, int64_t out,
                           bool keep)
{
    hand *h = hand_new(name);
    st_err e = {0};
    hand_run(t, t->m, t->flat, h);
    st_theta theta = st_decompose_theta(d->m, d->flat, name);
    const float *w = st_decompose_theta(t->m, t->flat, name).p[0].data;
    float *v = st_calloc(in * out, sizeof *v);
    st_spec s;
    assert_ok(st_spec_parse(&s, "lowrank:rank=3", in, out, &e), &e);
    assert_ok(st_map_expand(&s, &theta, st_view2(v, ST_F32, out, in), &e), &e);
    double all = 0, lost = 0;
    const float *b0 = st_decompose_bias(t->m, t->flat, name).data;
    const float *b1 = st_decompose_bias(d->m, d->flat, name).data;
    for (int64_t o = 0; o < out; o++) {
        double change = (double)b1[o] - (double)b0[o];
        lost += change * change;
        for (int64_t i = 0; i < in; i++)
            lost -= 2 * change * (double)(w[o * in + i] - v[o * in + i]) * h->mean[i];
        for (int64_t i = 0; i < in * in; i++) {
            int64_t a = o * in + i / in, b = o * in + i % in;
            double about = keep ? 0 : h->mean[i / in] * h->mean[i % in];
            all += (double)w[a] * (double)w[b] * (h->sum[i] - about);
            lost += (double)(w[a] - v[a]) * (double)(w[b] - v[b]) * h->sum[i];
        }
    }
    free(h);
    free(v);
    return sqrt(lost / all);
}

static void outputs_err_less_and_the_report_says_how_much(void **state)
{
    (void)state;
    tiny t;
    tiny_open(&t, INNER);
    st_decompose_opts o = {MAPS("h.*.mlp.*=lowrank:rank=3")}, fit = o;
    fit.fit_bias = true;
    made plain = make(&t, o, false), kept = make(&t, o, true), best = make(&t, fit, true);
    assert_int_equal(json_array_size(best.rows), 4);
    for (int layer = 0; layer < LAYERS; layer++) {
        for (int proj = 0; proj < 2; proj++) {
            char name[32];
            snprintf(name, sizeof name, "h.%d.mlp.%s", layer, proj ? "c_proj" : "c_fc");
            int64_t in = proj ? INNER : WIDTH, out = proj ? WIDTH : INNER;
            double before = output_error(&t, &plain, name, in, out, true);
            double middle = output_error(&t, &kept, name, in, out, true);
            double after = output_error(&t, &best, name, in, out, false);
            assert_true(middle < 0.99 * before);
            /* the bias helps: compare on the same scale */
            double both = output_error(&t, &best, name, in, out, true);
            assert_true(both < middle);
            assert_true(fabs(row_number(kept.rows, name, "output_error") - middle) < 1e-4);
            assert_true(fabs(row_number(best.rows, name, "output_error") - after) < 1e-4);
        }
    }
    unmake(&plain);
    unmake(&kept);
    unmake(&best);
    tiny_close(&t);
}

/* Every row that a matrix is fed, (TOKENS, in). */
typedef struct {
    const char *name;
    float *row;
    int64_t n;
} hand_rows;

static void hand_rows_tap(void *ctx, st_stream *q, const char *matrix, st_tensor x)
{
    hand_rows *h = ctx;
    if (strcmp(matrix, h->name) != 0) return;
    st_download(q, h->row + h->n * x.dim[1], x);
    h->n += x.dim[0];
}

static hand_rows rows_of(const tiny *t, st_model *m, float *flat, const char *name)
{
    hand_rows h = {name, st_calloc(TOKENS * INNER, sizeof(float)), 0};
    hand_pass(t, m, flat, hand_rows_tap, &h);
    return h;
}

/* E[(a - E a)^T (b - E b)], (in, in); without `about` E[a^T b]. */
static float *moments(const hand_rows *a, const hand_rows *b, int64_t in, bool about)
{
    float *c = st_calloc(in * in, sizeof *c);
    for (int64_t i = 0; i < in * in; i++) {
        double both = 0, one = 0, two = 0;
        for (int64_t r = 0; r < a->n; r++) {
            double x = (double)a->row[r * in + i / in], y = (double)b->row[r * in + i % in];
            both += x * y;
            one += x;
            two += y;
        }
        double n = (double)a->n;
        c[i] = (float)(both / n - (about ? one / n * (two / n) : 0));
    }
    return c;
}

/* Root of E|W h + b - W' x - b'|^2 over E|W h|^2, or with the bias fitted its variation; row by
 * row. */
static double paired_error(const tiny *t, const made *d, const hand_rows *h, const hand_rows *x,
                           const float *v, bool fit)
{
    const float *w = st_decompose_theta(t->m, t->flat, h->name).p[0].data;
    const float *b0 = st_decompose_bias(t->m, t->flat, h->name).data;
    const float *b1 = st_decompose_bias(d->m, d->flat, h->name).data;
    double all = 0, lost = 0, n = (double)h->n;
    for (int64_t o = 0; o < WIDTH; o++) {
        double mean = 0, square = 0;
        for (int64_t r = 0; r < h->n; r++) {
            double y = 0, z = 0;
            for (int64_t i = 0; i < INNER; i++) {
                y += (double)w[o * INNER + i] * (double)h->row[r * INNER + i];
                z += (double)v[o * INNER + i] * (double)x->row[r * INNER + i];
            }
            lost += pow(y + (double)b0[o] - z - (double)b1[o], 2);
            square += y * y;
            mean += y / n;
        }
        all += square - (fit ? n * mean * mean : 0);
    }
    return sqrt(lost / all);
}

/* Sequential: h.0.mlp.c_proj is fed what comes out of the replaced c_fc, and fitted to what it gave
 * when it was fed by the old one. */
static void sequential_fits_the_old_outputs(void **state)
{
    (void)state;
    tiny t;
    tiny_open(&t, INNER);
    for (int fit = 0; fit < 2; fit++) {
        st_err e = {0};
        st_decompose_opts o = {MAPS("h.0.mlp.c_fc=lowrank:rank=3"), .fit_bias = fit};
        made first = make(&t, o, true);
        st_decompose_opts seq = {MAPS("h.0.mlp.*=lowrank:rank=3"), .sequential = true,
                                 .fit_bias = fit};
        made both = make(&t, seq, true);
        hand_rows h = rows_of(&t, t.m, t.flat, "h.0.mlp.c_proj");
        hand_rows x = rows_of(&t, first.m, first.flat, "h.0.mlp.c_proj");
        float *cov = moments(&x, &x, INNER, fit), *cross = moments(&h, &x, INNER, fit);
        st_spec s;
        st_start start;
        assert_ok(st_spec_parse(&s, "lowrank:rank=3", INNER, WIDTH, &e), &e);
        assert_ok(st_start_parse(&start, &s, NULL, &e), &e);
        st_theta got = st_decompose_theta(both.m, both.flat, h.name), want = {0};
        for (int i = 0; i < 2; i++) {
            want.p[i] = got.p[i];
            want.p[i].data = st_calloc(st_numel(got.p[i]), sizeof(float));
        }
        st_project_opts how = {.in_cov = cov, .in_cross = cross};
        st_tensor w = st_decompose_theta(t.m, t.flat, h.name).p[0];
        assert_ok(st_map_start(&s, &start, w, &want, &how, NULL, &e), &e);
        float a[INNER * WIDTH], b[INNER * WIDTH];
        assert_ok(st_map_expand(&s, &got, st_view2(a, ST_F32, WIDTH, INNER), &e), &e);
        assert_ok(st_map_expand(&s, &want, st_view2(b, ST_F32, WIDTH, INNER), &e), &e);
        double top = 0, off = 0;
        for (int i = 0; i < INNER * WIDTH; i++) {
            top = fmax(top, fabs((double)b[i]));
            off = fmax(off, fabs((double)a[i] - (double)b[i]));
        }
        if (!(off <= 1e-3 * top)) fail_msg("off by %.3g of %.3g", off, top);
        double is = row_number(both.rows, h.name, "output_error");
        double by_hand = paired_error(&t, &both, &h, &x, a, fit);
        if (!(fabs(is - by_hand) < 1e-4)) fail_msg("output_error %.6g, by hand %.6g", is, by_hand);
        free(h.row), free(x.row), free(cov), free(cross);
        for (int i = 0; i < 2; i++)
            free(want.p[i].data);
        unmake(&first);
        unmake(&both);
    }
    tiny_close(&t);
}

/* Beside itself a model sees itself: X = C. More than one piece of the text, and the head. */
static void nothing_replaced_is_the_same_text(void **state)
{
    (void)state;
    tiny t;
    tiny_open(&t, INNER);
    st_err e = {0};
    st_calibration c = {0};
    assert_ok(st_calibration_open(&c, t.m, t.flat, t.ids, TOKENS, 0, true, &e), &e);
    for (int layer = 0; layer <= LAYERS; layer++) {
        char name[32];
        snprintf(name, sizeof name, layer < LAYERS ? "h.%d.mlp.c_fc" : "lm_head", layer);
        float m[3][WIDTH * WIDTH], mean[2][WIDTH];
        st_calibration_want want = {.name = name,
                                    .in = WIDTH,
                                    .cov = m[0],
                                    .mean = mean[0],
                                    .cross = m[1],
                                    .was_cov = m[2],
                                    .was_mean = mean[1]};
        assert_ok(st_calibration_pass(&c, layer, &want, 1, layer < LAYERS, &e), &e);
        assert_memory_equal(m[0], m[2], sizeof m[0]);
        assert_memory_equal(mean[0], mean[1], sizeof mean[0]);
        for (int i = 0; i < WIDTH * WIDTH; i++)
            assert_true(fabs((double)m[0][i] - (double)m[1][i]) <= 1e-5 * (double)m[0][0]);
    }
    st_calibration_close(&c);
    tiny_close(&t);
}

/* An embedding's frequent rows come closer, seldom ones pay for them. */
static void frequent_tokens_come_closer(void **state)
{
    (void)state;
    tiny t;
    tiny_open(&t, INNER);
    st_decompose_opts o = {MAPS("wte=lowrank:rank=5")};
    made plain = make(&t, o, false), best = make(&t, o, true);
    double lost[2][2] = {{0}}; /* plain or weighted; ids below 6 or not */
    st_err e = {0};
    const float *w = st_decompose_theta(t.m, t.flat, "wte").p[0].data;
    for (int k = 0; k < 2; k++) {
        const made *d = k ? &best : &plain;
        st_theta theta = st_decompose_theta(d->m, d->flat, "wte");
        float v[VOCAB * WIDTH];
        st_spec s;
        assert_ok(st_spec_parse(&s, "lowrank:rank=5", WIDTH, VOCAB, &e), &e);
        assert_ok(st_map_expand(&s, &theta, st_view2(v, ST_F32, VOCAB, WIDTH), &e), &e);
        for (int i = 0; i < VOCAB * WIDTH; i++)
            lost[k][i / WIDTH >= 6] += pow((double)(w[i] - v[i]), 2);
    }
    assert_true(lost[1][0] < 0.9 * lost[0][0]);
    assert_true(lost[1][1] > lost[0][1]);
    unmake(&plain);
    unmake(&best);
    tiny_close(&t);
}

/* ---- text ------------------------------------------------------------------------------------ */

static void shards_are_read_all_over(void **state)
{
    (void)state;
    const char *dir = st_test_dir(), *path = st_test_path(dir, "train.bin");
    uint16_t token[1000];
    st_err e = {0};
    for (int i = 0; i < 1000; i++)
        token[i] = (uint16_t)i;
    st_test_write(path, token, sizeof token);
    const char *paths[] = {path, dir};
    for (int i = 0; i < 2; i++) {
        st_ids ids = {0};
        assert_ok(st_calibrate_read(paths[i], NULL, NULL, 30, 10, &ids, &e), &e);
        assert_int_equal(ids.n, 30);
        assert_int_equal(ids.id[0], 0);
        assert_int_equal(ids.id[10], 495);
        assert_int_equal(ids.id[29], 999);
        st_ids_free(&ids);
        assert_ok(st_calibrate_read(paths[i], NULL, NULL, 1 << 20, 10, &ids, &e), &e);
        assert_int_equal(ids.n, 1000);
        for (int k = 0; k < 1000; k++)
            assert_int_equal(ids.id[k], k);
        st_ids_free(&ids);
    }
    st_ids ids = {0};
    path = st_test_path(dir, "a.txt");
    st_test_write(path, "text", 4);
    assert_st(st_calibrate_read(path, NULL, NULL, 30, 10, &ids, &e), ST_EARG, &e);
    assert_says(&e, "tokenizer");
    st_test_remove(dir);
}

static void foreign_ids_are_refused(void **state)
{
    (void)state;
    tiny t;
    tiny_open(&t, INNER);
    st_err e = {0};
    st_calibration c = {0};
    t.ids[7] = VOCAB;
    assert_st(st_calibration_open(&c, t.m, t.flat, t.ids, TOKENS, 0, false, &e), ST_EFORMAT, &e);
    assert_says(&e, "token 7 is id 30");
    st_calibration_close(&c);
    assert_st(st_calibration_open(&c, t.m, t.flat, t.ids, 0, 0, false, &e), ST_EARG, &e);
    st_calibration_close(&c);
    /* fewer tokens than the context are one short sequence */
    assert_ok(st_calibration_open(&c, t.m, t.flat, t.ids, 3, 0, false, &e), &e);
    assert_int_equal(c.len, 3);
    st_calibration_close(&c);
    tiny_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(covariances_are_right),
        cmocka_unit_test(wide_matrices_are_right),
        cmocka_unit_test(hidden_units_are_the_diagonal),
        cmocka_unit_test(outputs_err_less_and_the_report_says_how_much),
        cmocka_unit_test(sequential_fits_the_old_outputs),
        cmocka_unit_test(nothing_replaced_is_the_same_text),
        cmocka_unit_test(frequent_tokens_come_closer),
        cmocka_unit_test(shards_are_read_all_over),
        cmocka_unit_test(foreign_ids_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
