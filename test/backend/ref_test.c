/* The reference backend against what it does not share a line with: hand-worked numbers, PyTorch's
 * (version 1.13), formulas in double precision and centred differences of them. */
/* Long: hand-worked numbers, a few for each operation. */
/* SPDX-License-Identifier: MIT */
#include "ref_rig.h"

static void gemm_by_hand(void **state)
{
    (void)state;
    const float a[] = {1, 2, 3, 4, 5, 6}, b[] = {1, 0, 2, -1, 0, 3}, bias[] = {10, 20};
    float c[4] = {NAN, NAN, NAN, NAN};
    st_gemm_args g = {.m = 2, .n = 2, .k = 3, .a = f32(a, 6), .b = f32(b, 6), .c = f32(c, 4)};
    op->gemm(q, &g); /* [1 2 3; 4 5 6] [1 0; 2 -1; 0 3] */
    assert_all_near(c, (double[]){5, 7, 14, 13}, 4, 0);
    g.tb = 1; /* [1 2 3; 4 5 6] [1 0 2; -1 0 3]' */
    g.beta = 2;
    g.bias = f32(bias, 2);
    op->gemm(q, &g);
    assert_all_near(c, (double[]){27, 42, 54, 60}, 4, 0);
    g = (st_gemm_args){.m = 3, .n = 1, .k = 2, .ta = 1, .a = g.a, .b = g.b, .c = f32(c, 3)};
    op->gemm(q, &g); /* [1 2 3; 4 5 6]' [1; 0] */
    assert_all_near(c, (double[]){1, 2, 3}, 3, 0);
}

static void gemm_strided_batches(void **state)
{
    (void)state;
    /* two blocks side by side in rows of 4; one shared b */
    const float a[] = {1, 2, 3, 4, 5, 6, 7, 8}, b[] = {1, 1};
    float c[6] = {0, 0, -1, 0, 0, -1};
    st_gemm_args g = {.m = 2, .n = 1, .k = 2, .batch = 2, .lda = 4, .ldc = 3, .step_a = 2};
    g.step_b = -1;
    g.step_c = 1;
    g.a = f32(a, 8), g.b = f32(b, 2), g.c = f32(c, 6);
    op->gemm(q, &g);
    assert_all_near(c, (double[]){3, 7, -1, 11, 15, -1}, 6, 0);
    g.k = 0; /* an empty sum */
    op->gemm(q, &g);
    assert_all_near(c, (double[]){0, 0, -1, 0, 0, -1}, 6, 0);
}

static void gelu_as_pytorch(void **state)
{
    (void)state;
    const float x[] = {-4, -2, -0.5f, 0, 0.5f, 1, 3}, ones[] = {1, 1, 1, 1, 1, 1, 1};
    const double tanh_y[] = {-7.02459482e-05, -0.0454023059, -0.15428599, 0,
                             0.34571401,      0.841191991,   2.99636261};
    const double tanh_d[] = {-0.000335123197, -0.0860992566, 0.132630096, 0.5,
                             0.867369904,     1.08296408,    1.01158417};
    const double erf_y[] = {-0.000126684967, -0.0455002639, -0.154268769, 0,
                            0.345731231,     0.841344746,   2.99595031};
    const double erf_d[] = {-0.000503649661, -0.0852318011, 0.132504875, 0.5,
                            0.867495125,     1.08331547,    1.01194565};
    float y[7];
    st_gelu_fwd_args a = {.x = f32(x, 7), .y = f32(y, 7), .dy = f32(ones, 7), .dx = f32(y, 7)};
    op->gelu_fwd(q, &a);
    assert_all_near(y, tanh_y, 7, 2e-7);
    op->gelu_bwd(q, &a);
    assert_all_near(y, tanh_d, 7, 2e-7);
    a.kind = ST_GELU_ERF;
    op->gelu_fwd(q, &a);
    assert_all_near(y, erf_y, 7, 2e-7);
    op->gelu_bwd(q, &a);
    assert_all_near(y, erf_d, 7, 2e-7);
}

static void adamw_as_pytorch(void **state)
{
    (void)state;
    const float grads[3][4] = {{0.5f, -1, 0, 3}, {0.25f, 1, -0.125f, 3}, {-0.5f, 0.5f, 1e-4f, -1}};
    const double want[3][4] = {{0.989000022, -0.489500016, 0.249750003, 1.98800004},
                               {0.978618145, -0.489536822, 0.256849855, 1.97601211},
                               {0.976531863, -0.491583169, 0.262342632, 1.96791339}};
    const double m_want[] = {0.0130000003, 0.0590000004, -0.0112399999, 0.413};
    float w[] = {1, -0.5f, 0.25f, 2}, m[4] = {0}, v[4] = {0}, twice[4];
    uint16_t rounded[4];
    for (int step = 0; step < 3; step++) {
        for (int i = 0; i < 4; i++)
            twice[i] = 2 * grads[step][i];
        st_adamw_args a = {.w = st_view1(rounded, ST_BF16, 4),
                           .master = f32(w, 4),
                           .grad = f32(twice, 4),
                           .m = f32(m, 4),
                           .v = f32(v, 4),
                           .lr = 0.01f,
                           .beta1 = 0.9f,
                           .beta2 = 0.95f,
                           .eps = 1e-8f,
                           .decay = 0.1f,
                           .grad_scale = 0.5f,
                           .step = step + 1};
        op->adamw(q, &a);
        assert_all_near(w, want[step], 4, 3e-7);
        for (int i = 0; i < 4; i++)
            assert_int_equal(rounded[i], st_f32_to_bf16(w[i]));
    }
    assert_all_near(m, m_want, 4, 1e-7);
}

enum { ROWS = 3, WIDTH = 5 };

static void norm_formula(const double *x, const float *gain, const float *bias, double *y)
{
    double mean = 0, var = 0;
    for (int j = 0; j < WIDTH; j++)
        mean += x[j] / WIDTH;
    for (int j = 0; j < WIDTH; j++)
        var += (x[j] - mean) * (x[j] - mean) / WIDTH;
    for (int j = 0; j < WIDTH; j++) {
        y[j] = (x[j] - mean) / sqrt(var + 1e-3) * (double)gain[j] + (double)bias[j];
    }
}

static void norm_by_differences(void **state)
{
    (void)state;
    float x[ROWS * WIDTH], dy[ROWS * WIDTH], gain[WIDTH], bias[WIDTH], y[ROWS * WIDTH], mean[ROWS],
        rstd[ROWS], dx[ROWS * WIDTH], dgain[WIDTH], dbias[WIDTH];
    random_fill(x, ROWS * WIDTH, 1);
    random_fill(dy, ROWS * WIDTH, 2);
    random_fill(gain, WIDTH, 3);
    random_fill(bias, WIDTH, 4);
    for (int i = 0; i < ROWS * WIDTH; i++)
        dx[i] = 100;
    for (int i = 0; i < WIDTH; i++)
        dgain[i] = dbias[i] = 50;
    st_norm_fwd_args a = {.rows = ROWS,
                          .width = WIDTH,
                          .eps = 1e-3f,
                          .accumulate = 1,
                          .x = f32(x, ROWS * WIDTH),
                          .y = f32(y, ROWS * WIDTH),
                          .gain = f32(gain, WIDTH),
                          .bias = f32(bias, WIDTH),
                          .mean = f32(mean, ROWS),
                          .rstd = f32(rstd, ROWS),
                          .dy = f32(dy, ROWS * WIDTH),
                          .dx = f32(dx, ROWS * WIDTH),
                          .dgain = f32(dgain, WIDTH),
                          .dbias = f32(dbias, WIDTH)};
    op->norm_fwd(q, &a);
    op->norm_bwd(q, &a);
    double row[WIDTH], up[WIDTH], plus[WIDTH], down[WIDTH], gain_sum[WIDTH] = {0},
                                                            bias_sum[WIDTH] = {0};
    for (int r = 0; r < ROWS; r++) {
        for (int j = 0; j < WIDTH; j++)
            row[j] = (double)x[r * WIDTH + j];
        norm_formula(row, gain, bias, up);
        assert_all_near(y + r * WIDTH, up, WIDTH, 1e-6);
        for (int j = 0; j < WIDTH; j++) {
            double d = (double)dy[r * WIDTH + j], slope = 0;
            gain_sum[j] += d * (up[j] - (double)bias[j]) / (double)gain[j];
            bias_sum[j] += d;
            double at = row[j];
            row[j] = at + 1e-5, norm_formula(row, gain, bias, plus);
            row[j] = at - 1e-5, norm_formula(row, gain, bias, down);
            row[j] = at;
            for (int i = 0; i < WIDTH; i++) {
                slope += (double)dy[r * WIDTH + i] * (plus[i] - down[i]) / 2e-5;
            }
            assert_near((double)dx[r * WIDTH + j], 100 + slope, 2e-5);
        }
    }
    for (int j = 0; j < WIDTH; j++) {
        assert_near((double)dgain[j], 50 + gain_sum[j], 1e-5);
        assert_near((double)dbias[j], 50 + bias_sum[j], 1e-5);
    }
}

/* ---- attention: two items, two heads of 3, from a cache of 2 --------------------------------- */

enum { ITEMS = 2, HEADS = 2, DIM = 3, QUERIES = 3, KEYS = 5, ACROSS = HEADS * DIM };

typedef struct {
    double q[ITEMS * QUERIES * ACROSS], k[ITEMS * KEYS * ACROSS], v[ITEMS * KEYS * ACROSS];
    double o[ITEMS * QUERIES * ACROSS];
} attend_case;

/* o from q, k, v: causal from position 2 on, scale 0.7, dropout 0.25 of seed 5. */
static void attend_formula(attend_case *c)
{
    for (int i = 0; i < ITEMS * HEADS * QUERIES; i++) {
        int t = i % QUERIES, h = i / QUERIES % HEADS, b = i / QUERIES / HEADS;
        double w[KEYS], sum = 0, *o = c->o + (b * QUERIES + t) * ACROSS + h * DIM;
        const double *query = c->q + (b * QUERIES + t) * ACROSS + h * DIM;
        for (int j = 0; j <= t + 2; j++) {
            double s = 0;
            for (int x = 0; x < DIM; x++)
                s += query[x] * c->k[(b * KEYS + j) * ACROSS + h * DIM + x];
            sum += w[j] = exp(0.7 * s);
        }
        for (int x = 0; x < DIM; x++) {
            o[x] = 0;
            for (int j = 0; j <= t + 2; j++) {
                bool keep = st_op_u32(5, 0, (int64_t)i * KEYS + j) >= (uint32_t)1 << 30;
                double weight = keep ? w[j] / sum / 0.75 : 0;
                o[x] += weight * c->v[(b * KEYS + j) * ACROSS + h * DIM + x];
            }
        }
    }
}

/* The gradient of <go, o> by x[i], against the computed ones. */
static void attend_check(attend_case *c, double *x, const float *grad, int n, const float *go)
{
    for (int i = 0; i < n; i++) {
        double at = x[i], slope = 0;
        for (int side = -1; side <= 1; side += 2) {
            x[i] = at + side * 1e-5;
            attend_formula(c);
            for (int j = 0; j < ITEMS * QUERIES * ACROSS; j++) {
                slope += side * (double)go[j] * c->o[j] / 2e-5;
            }
        }
        x[i] = at;
        assert_near((double)grad[i], slope, 2e-6);
    }
}

static void attend_by_differences(void **state)
{
    (void)state;
    enum { NQ = ITEMS * QUERIES * ACROSS, NK = ITEMS * KEYS * ACROSS };
    float query[NQ], k[NK], v[NK], o[NQ], go[NQ], gq[NQ], gk[NK], gv[NK];
    float lse[ITEMS * HEADS * QUERIES];
    random_fill(query, NQ, 1);
    random_fill(k, NK, 2);
    random_fill(v, NK, 3);
    random_fill(go, NQ, 4);
    st_attend_fwd_args a = {.h = {.batch = ITEMS,
                                  .heads = HEADS,
                                  .head_dim = DIM,
                                  .q_len = QUERIES,
                                  .kv_len = KEYS,
                                  .q = {.x = f32(query, NQ)},
                                  .k = {.x = f32(k, NK)},
                                  .v = {.x = f32(v, NK)},
                                  .o = {.x = f32(o, NQ)}},
                            .q_start = 2,
                            .causal = 1,
                            .scale = 0.7f,
                            .drop = 0.25f,
                            .seed = 5,
                            .lse = f32(lse, ITEMS * HEADS * QUERIES),
                            .go = f32(go, NQ),
                            .gq = f32(gq, NQ),
                            .gk = f32(gk, NK),
                            .gv = f32(gv, NK)};
    op->attend_fwd(q, &a);
    op->attend_bwd(q, &a);
    attend_case c;
    for (int i = 0; i < NQ; i++)
        c.q[i] = (double)query[i];
    for (int i = 0; i < NK; i++)
        c.k[i] = (double)k[i], c.v[i] = (double)v[i];
    attend_formula(&c);
    assert_all_near(o, c.o, NQ, 1e-6);
    attend_check(&c, c.q, gq, NQ, go);
    attend_check(&c, c.k, gk, NK, go);
    attend_check(&c, c.v, gv, NK, go);
}

static void attend_sees_all_without_mask(void **state)
{
    (void)state;
    /* equal scores: the output is the mean of the values, and lse the log of their number */
    const float zero[4] = {0}, v[] = {1, 2, 3, 6};
    float o[4], lse[4];
    st_attend_fwd_args a = {.h = {.batch = 1,
                                  .heads = 1,
                                  .head_dim = 1,
                                  .q_len = 4,
                                  .kv_len = 4,
                                  .q = {.x = f32(zero, 4)},
                                  .k = {.x = f32(zero, 4)},
                                  .v = {.x = f32(v, 4)},
                                  .o = {.x = f32(o, 4)}},
                            .scale = 1,
                            .lse = f32(lse, 4)};
    op->attend_fwd(q, &a);
    assert_all_near(o, (double[]){3, 3, 3, 3}, 4, 1e-7);
    a.causal = 1;
    op->attend_fwd(q, &a);
    assert_all_near(o, (double[]){1, 1.5, 2, 3}, 4, 1e-7);
    assert_all_near(lse, (double[]){0, log(2), log(3), log(4)}, 4, 1e-7);
}

/* ---- loss, gate ------------------------------------------------------------------------------ */

static void gate_by_hand(void **state)
{
    (void)state;
    /* z = ln 3: g = 3/4 */
    const float s[] = {4, 8}, l[] = {8, 0}, z[] = {(float)log(3)}, dy[] = {1, 2};
    float y[2], ds[2], dl[2], dz[1];
    st_gate_fwd_args a = {.rows = 1,
                          .width = 2,
                          .s = f32(s, 2),
                          .l = f32(l, 2),
                          .z = f32(z, 1),
                          .y = f32(y, 2),
                          .dy = f32(dy, 2),
                          .ds = f32(ds, 2),
                          .dl = f32(dl, 2),
                          .dz = f32(dz, 1)};
    op->gate_fwd(q, &a);
    assert_all_near(y, (double[]){7, 2}, 2, 1e-6);
    op->gate_bwd(q, &a);
    assert_all_near(ds, (double[]){0.25, 0.5}, 2, 1e-6);
    assert_all_near(dl, (double[]){0.75, 1.5}, 2, 1e-6);
    assert_near((double)dz[0], 3. / 16 * (1 * 4 + 2 * -8), 1e-6);
}

/* ---- moves ----------------------------------------------------------------------------------- */

/* The integer vectors of the SS1 specification: x_i = (i mod 7) - 3. */
static void fold_vectors(void **state)
{
    (void)state;
    static const struct {
        int cols, factor, r0;
        double z[8];
    } cases[] = {{128, 2, 45007, {3, -2, 0, 2, -3, -1, 1, 3}},
                 {256, 4, 45007, {4, 1, -2, 2, -1, -4, 0, 4}},
                 {256, 8, 45007, {2, 3, -3, -2, -1, 0, 1, 2}},
                 {128, 2, 11769, {1, -4, -2, 0, 2, 4, -1, 1}}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float x[256], z[256] = {0}, dx[256];
        int64_t cols = cases[i].cols, width = cols / cases[i].factor;
        for (int j = 0; j < cols; j++)
            x[j] = (float)(j % 7 - 3);
        st_fold_fwd_args a = {.rows = 1,
                              .cols = cols,
                              .block = 32,
                              .factor = cases[i].factor,
                              .supers = width / 32,
                              .folds = 1,
                              .vec = 8,
                              .r0 = cases[i].r0,
                              .x = f32(x, cols),
                              .z = f32(z, width),
                              .dz = f32(z, width),
                              .dx = f32(dx, cols)};
        op->fold_fwd(q, &a);
        assert_all_near(z, cases[i].z, 8, 0);
        op->fold_bwd(q, &a); /* <fold x, z> = <x, fold' z> */
        double left = 0, right = 0;
        for (int j = 0; j < width; j++)
            left += (double)(z[j] * z[j]);
        for (int j = 0; j < cols; j++)
            right += (double)(x[j] * dx[j]);
        assert_near(left, right, 0);
    }
}

static void moves_by_hand(void **state)
{
    (void)state;
    const float x[] = {1, 2, 3, 4, 5, 6};
    float y[8] = {9, 9, 9, 9, 9, 9, 9, 9};
    op->permute(q, &(st_permute_args){.rows = 1, .p = 2, .q = 3, .x = f32(x, 6), .y = f32(y, 6)});
    assert_all_near(y, (double[]){1, 4, 2, 5, 3, 6, 9, 9}, 8, 0);
    op->permute(q, &(st_permute_args){.rows = 1,
                                      .p = 3,
                                      .q = 1,
                                      .inner = 2,
                                      .accumulate = 1,
                                      .x = f32(x, 6),
                                      .y = f32(y, 6)});
    assert_all_near(y, (double[]){2, 6, 5, 9, 8, 12, 9, 9}, 8, 0);
    op->copy(
        q, &(st_copy_args){
               .rows = 2, .cols = 2, .ldx = 3, .ldy = 4, .pad = 3, .x = f32(x, 6), .y = f32(y, 8)});
    assert_all_near(y, (double[]){1, 2, 0, 9, 4, 5, 0, 9}, 8, 0);
    const float dy[] = {1, 2, 10, 20, 100, 200};
    const int32_t ids[] = {1, 0, 1};
    float table[4] = {0}, position[6] = {0};
    st_embed_bwd_args e = {.rows = 3,
                           .width = 2,
                           .len = 2,
                           .start = 1,
                           .dy = f32(dy, 6),
                           .dtable = f32(table, 4),
                           .dposition = f32(position, 6)};
    e.ids = st_view1((void *)(uintptr_t)ids, ST_I32, 3);
    op->embed_bwd(q, &e);
    assert_all_near(table, (double[]){10, 20, 101, 202}, 4, 0);
    assert_all_near(position, (double[]){0, 0, 101, 202, 10, 20}, 6, 0);
    /* the table turned: ids are columns; then rows that are there and only get a position */
    float turned[4] = {0}, out[6];
    e.columns = 1;
    e.dtable = f32(turned, 4);
    e.dposition = (st_tensor){0};
    op->embed_bwd(q, &e);
    assert_all_near(turned, (double[]){10, 101, 20, 202}, 4, 0);
    e.table = f32(turned, 4);
    e.y = f32(out, 6);
    op->embed_fwd(q, &e);
    assert_all_near(out, (double[]){101, 202, 10, 20, 101, 202}, 6, 0);
    e.table = (st_tensor){0};
    e.position = f32(position, 6);
    op->embed_fwd(q, &e);
    assert_all_near(out, (double[]){202, 404, 20, 40, 202, 404}, 6, 0);
}

static void dropout_keeps_its_share(void **state)
{
    (void)state;
    enum { N = 100000 };
    float *x = st_calloc(N, sizeof *x), *y = st_calloc(N, sizeof *y);
    for (int i = 0; i < N; i++)
        x[i] = 3;
    op->residual_fwd(
        q, &(st_residual_fwd_args){.b = f32(x, N), .y = f32(y, N), .drop = 0.25f, .seed = 7});
    int kept = 0;
    for (int i = 0; i < N; i++) {
        if (y[i] != 0) kept++, assert_near((double)y[i], 4, 1e-6);
    }
    assert_near(kept / (double)N, 0.75, 5 * sqrt(0.75 * 0.25 / N));
    free(x);
    free(y);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gemm_by_hand),
        cmocka_unit_test(gemm_strided_batches),
        cmocka_unit_test(gelu_as_pytorch),
        cmocka_unit_test(adamw_as_pytorch),
        cmocka_unit_test(norm_by_differences),
        cmocka_unit_test(attend_by_differences),
        cmocka_unit_test(attend_sees_all_without_mask),
        cmocka_unit_test(gate_by_hand),
        cmocka_unit_test(fold_vectors),
        cmocka_unit_test(moves_by_hand),
        cmocka_unit_test(dropout_keeps_its_share),
    };
    return cmocka_run_group_tests(tests, ref_setup, ref_teardown);
}
