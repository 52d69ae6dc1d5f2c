/* The MLP where its backend has one operation for the first half, GELU and fold (ref), against one
 * that composes it (cpu): outputs, gradients, and rows seen by a tap. */
/* SPDX-License-Identifier: MIT */
#include "model/model.h"
#include "testing.h"
#include <math.h>

enum { ROWS = 7, WIDTH = 64, INNER = 256, MOST = INNER * WIDTH, PARTS = 7 };

/* y, dx, the gradients of both matrices and biases, and y without training. */
typedef struct {
    float part[PARTS][MOST];
} mlp_results;

static st_tensor mlp_fill(float *to, int64_t n, float std, uint64_t stream)
{
    st_normal_fill(to, n, 0, std, 11, stream);
    return st_view1(to, ST_F32, n);
}

static st_linear mlp_linear(const char *spec, int64_t in, int64_t out, float *w, float *b,
                            float *dw, float *db, uint64_t stream)
{
    st_linear l = {0};
    st_err e;
    assert_int_equal(st_spec_parse(&l.spec, spec, in, out, &e), ST_OK);
    int64_t n = st_spec_weights(&l.spec);
    l.w.p[0] = mlp_fill(w, n, 0.2f, stream);
    l.bias = mlp_fill(b, out, 0.5f, stream + 1);
    l.dw.p[0] = st_view1(dw, ST_F32, n);
    l.dbias = st_view1(db, ST_F32, out);
    return l;
}

static int mlp_seen;

static void mlp_tap(void *ctx, st_stream *q, const char *name, st_tensor x)
{
    (void)ctx, (void)q, (void)name;
    mlp_seen += (int)x.dim[1];
}

static st_tensor mlp_rows(float *data, int64_t cols)
{
    st_tensor t = st_view1(data, ST_F32, ROWS * cols);
    t.ndim = 2;
    t.dim[0] = ROWS;
    t.dim[1] = cols;
    return t;
}

/* The block on `device`, its results in *r. */
static void mlp_run(const char *device, const char *first, const char *second, const st_tap *tap,
                    mlp_results *r)
{
    static float w[2][MOST], b[2][INNER], x[ROWS * WIDTH], dy[ROWS * WIDTH];
    st_stream *q;
    st_arena tmp;
    st_err e;
    *r = (mlp_results){0};
    assert_int_equal(st_stream_open(&q, device, 1, &e), ST_OK);
    assert_int_equal(st_arena_open(&tmp, 4 << 20, &e), ST_OK);
    mlp_fill(x, ROWS * WIDTH, 1, 8);
    mlp_fill(dy, ROWS * WIDTH, 1, 9);
    st_matrix in = {mlp_linear(first, WIDTH, INNER, w[0], b[0], r->part[2], r->part[3], 1), "in",
                    tap};
    st_matrix out = {mlp_linear(second, INNER, WIDTH, w[1], b[1], r->part[4], r->part[5], 3), "out",
                     tap};
    st_mlp m = {.in = &in, .out = &out, .gelu = ST_GELU_TANH};
    st_mlp_acts k;
    st_mlp_forward(q, &m, true, mlp_rows(x, WIDTH), (st_tensor){0}, mlp_rows(r->part[0], WIDTH), &k,
                   &tmp);
    st_mlp_backward(q, &m, &k, mlp_rows(dy, WIDTH), mlp_rows(r->part[1], WIDTH), NULL, &tmp);
    st_arena_rewind(&tmp, 0);
    st_mlp_forward(q, &m, false, mlp_rows(x, WIDTH), (st_tensor){0}, mlp_rows(r->part[6], WIDTH),
                   &k, &tmp);
    assert_int_equal(st_stream_sync(q, &e), ST_OK);
    for (int i = 0; i < ROWS * WIDTH; i++)
        assert_true(fabsf(r->part[6][i] - r->part[0][i]) < 1e-5f);
    st_arena_close(&tmp);
    st_stream_close(q);
}

static void mlp_same(const char *first, const char *second, const st_tap *tap)
{
    static mlp_results one, two;
    mlp_run("ref", first, second, tap, &one);
    mlp_run("cpu", first, second, tap, &two);
    for (int p = 0; p < PARTS; p++) {
        double off = 0, size = 0;
        for (int i = 0; i < MOST; i++) {
            double d = (double)one.part[p][i] - (double)two.part[p][i];
            off += d * d;
            size += (double)two.part[p][i] * (double)two.part[p][i];
        }
        assert_true(size > 0);
        assert_true(sqrt(off / size) < 1e-5);
    }
}

static void mlp_agrees(void **state)
{
    (void)state;
    mlp_same("ss1:factor=4", "ss1:factor=4", NULL);
    mlp_same("ss1:factor=2", "ss1:factor=8", NULL);
    mlp_same("dense", "ss1:factor=4,folds=2,signs=1", NULL);
    mlp_same("ss1:factor=4", "dense", NULL);
    mlp_same("dense", "blockdiag:blocks=4", NULL);
    mlp_same("blockdiag:blocks=4", "ss1:factor=4", NULL);
}

static void mlp_taps_see(void **state)
{
    (void)state;
    st_tap tap = {.fn = mlp_tap};
    mlp_seen = 0;
    mlp_same("ss1:factor=4", "ss1:factor=4", &tap);
    assert_int_equal(mlp_seen, 4 * (WIDTH + INNER)); /* two devices, twice forward */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mlp_agrees),
        cmocka_unit_test(mlp_taps_see),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
