/* SS1 against the released code's numbers: integer vectors of the released index map, its hash
 * constants, its storage order, and the ranks that its definition implies. */
/* SPDX-License-Identifier: MIT */
#include "lab.h"
#include "linalg/linalg.h"

/* x_i = i mod 7 - 3, stored w[n][j] = (3n + 5j) mod 11 - 5, dy[n] = n mod 5 - 2; cs: sum (i+1) v_i.
 */
typedef struct {
    int in, out, factor, bn;
    int64_t r[4];
    float z[8];
    int at[5];
    float y[5];
    double cs_y;
    float dx[3];
    double cs_dx, cs_dw;
} vector;

static const vector vectors[] = {
    {128,
     40,
     2,
     32,
     {45007, 20011, 38363, 15263},
     {3, -2, 0, 2, -3, -1, 1, 3},
     {0, 1, 31, 32, 39},
     {-13, 38, 17, -106, 9},
     -877,
     {-10, 23, -3},
     1974,
     -24952},
    {256,
     70,
     4,
     32,
     {45007, 20011, 38363, 15263},
     {4, 1, -2, 2, -1, -4, 0, 4},
     {0, 1, 31, 32, 69},
     {8, -54, 66, 36, -145},
     5527,
     {-36, 41, 25},
     -4212,
     -53648},
    {256,
     70,
     8,
     64,
     {45007, 6874, 12227, 2741},
     {2, 3, -3, -2, -1, 0, 1, 2},
     {0, 1, 31, 32, 69},
     {52, 34, -33, 37, 21},
     -15594,
     {-17, 38, -17},
     20560,
     -27104},
    {128,
     40,
     2,
     32,
     {11769, 29755, 72915, 29547},
     {1, -4, -2, 0, 2, 4, -1, 1},
     {0, 1, 31, 32, 39},
     {8, 15, 60, -63, 8},
     1438,
     {19, -14, -3},
     2150,
     -24952},
};

static double checksum(const float *v, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)(i + 1) * (double)v[i];
    return sum;
}

static lab vector_lab(const vector *v)
{
    char spec[200];
    snprintf(spec, sizeof spec, "ss1:factor=%d,bk=32,bn=%d,vec=8,r0=%d,r1=%d,r2=%d,r3=%d",
             v->factor, v->bn, (int)v->r[0], (int)v->r[1], (int)v->r[2], (int)v->r[3]);
    return lab_open("ref", spec, v->in, v->out, 1);
}

static void test_released_vectors(void **state)
{
    (void)state;
    for (size_t c = 0; c < sizeof vectors / sizeof *vectors; c++) {
        const vector *v = &vectors[c];
        lab l = vector_lab(v);
        int64_t n = st_spec_weights(&l.s), width = v->in / v->factor;
        assert_int_equal(n, v->out * width);
        float *stored = calloc((size_t)n, sizeof *stored), *back = calloc((size_t)n, sizeof *back);
        for (int64_t i = 0; i < n; i++) {
            stored[i] = (float)((3 * (i / width) + 5 * (i % width)) % 11 - 5);
        }
        st_ss1_import(&l.s, stored, l.t.p[0].data);
        st_ss1_export(&l.s, l.t.p[0].data, back);
        assert_memory_equal(stored, back, (size_t)n * sizeof *back);
        assert_memory_not_equal(stored, l.t.p[0].data, (size_t)n * sizeof *back);
        for (int i = 0; i < v->in; i++)
            lab_f(l.x)[i] = (float)(i % 7 - 3);
        for (int i = 0; i < v->out; i++)
            lab_f(l.dy)[i] = (float)(i % 5 - 2);
        memset(l.dt.p[0].data, 0, st_bytes(l.dt.p[0]));
        lab_forward(&l, &l.t, (st_tensor){0}, l.kept);
        lab_backward(&l, l.kept, l.dx, &l.dt);
        /* whole numbers: exact */
        assert_memory_equal(l.kept.data, v->z, sizeof v->z);
        for (int i = 0; i < 5; i++)
            assert_true(lab_f(l.y)[v->at[i]] == v->y[i]);
        assert_true(checksum(l.y.data, v->out) == v->cs_y);
        assert_true(lab_f(l.dx)[0] == v->dx[0] && lab_f(l.dx)[1] == v->dx[1]);
        assert_true(lab_f(l.dx)[v->in - 1] == v->dx[2]);
        assert_true(checksum(l.dx.data, v->in) == v->cs_dx);
        st_ss1_export(&l.s, l.dt.p[0].data, back);
        assert_true(checksum(back, n) == v->cs_dw);
        free(stored);
        free(back);
        lab_close(&l);
    }
}

/* The dense matrix of the released kernel, equation (2) of its index map, against ours. */
static void test_dense_form_of_the_release(void **state)
{
    (void)state;
    const vector *v = &vectors[1];
    lab l = vector_lab(v);
    st_err e = {0};
    int64_t n = st_spec_weights(&l.s), width = v->in / v->factor;
    float *stored = calloc((size_t)n, sizeof *stored);
    st_normal_fill(stored, n, 0.0f, 1.0f, 9, 9);
    st_ss1_import(&l.s, stored, l.t.p[0].data);
    assert_ok(st_map_expand(&l.s, &l.t, l.w, &e), &e);
    for (int row = 0; row < v->out; row++) {
        for (int col = 0; col < v->in; col++) {
            int64_t block = col / 32, o = col % 32, k = block / v->factor, b = block % v->factor;
            int64_t p = row / v->bn;
            int64_t rot = (v->r[3] + v->r[2] * p + v->r[1] * (k + 1) + v->r[0] * (b + 1)) * 8 % 32;
            float want = stored[row * width + k * 32 + (o - rot + 32) % 32];
            assert_true(lab_f(l.w)[row * v->in + col] == want);
        }
    }
    free(stored);
    lab_close(&l);
}

static void test_hash_constants_of_a_seed(void **state)
{
    (void)state;
    static const struct {
        uint64_t seed;
        int version;
        int64_t r[4];
    } cases[] = {
        {1024, 3, {45007, 20011, 38363, 15263}}, {1025, 3, {45007, 40705, 34282, 8274}},
        {1111, 3, {45007, 6874, 12227, 2741}},   {42, 3, {45007, 42355, 8976, 26801}},
        {1024, 1, {11769, 29755, 72915, 29547}}, {1111, 1, {39715, 37073, 37855, 15447}},
        {42, 1, {71937, 71689, 4955, 25439}},    {1024, 2, {28077, 32249, 36827, 44697}},
        {1111, 2, {14927, 29799, 33167, 22571}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t r[4];
        st_ss1_constants(cases[i].seed, cases[i].version, r);
        assert_memory_equal(r, cases[i].r, sizeof r);
    }
}

static int rank_of(const char *spec, int64_t in, int64_t out)
{
    st_err e = {0};
    lab l = lab_open("ref", spec, in, out, 1);
    assert_ok(st_map_expand(&l.s, &l.t, l.w, &e), &e);
    st_svd d = {0};
    int64_t side = in < out ? in : out;
    assert_ok(st_svd_open(&d, l.w.data, out, in, side, false, 0, &e), &e);
    int rank = 0;
    while (rank < side && d.s[rank] > 1e-5f * d.s[0])
        rank++;
    st_svd_close(&d);
    lab_close(&l);
    return rank;
}

/* ss1.md 1.3 and 1.4: the additive hash has rank in/c; independent shifts of granularity V lose
 * (c - 1) V in/(c bk); with signs the rank is full, and a few folds are nearly enough. */
static void test_ranks(void **state)
{
    (void)state;
    assert_int_equal(rank_of("ss1:factor=2", 128, 256), 64);
    assert_int_equal(rank_of("ss1:factor=4", 128, 256), 32);
    assert_int_equal(rank_of("ss1:factor=2,folds=32", 128, 512), 112);
    assert_int_equal(rank_of("ss1:factor=4,folds=32", 128, 512), 104);
    assert_int_equal(rank_of("ss1:factor=4,vec=4,folds=32", 128, 512), 116);
    assert_int_equal(rank_of("ss1:factor=2,folds=32,signs=1", 128, 512), 128);
    assert_int_equal(rank_of("ss1:factor=4,folds=32,signs=1", 128, 512), 128);
    int rank = rank_of("ss1:factor=4,folds=4,signs=1", 128, 512);
    assert_true(rank > 96 && rank <= 128);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_released_vectors),
        cmocka_unit_test(test_dense_form_of_the_release),
        cmocka_unit_test(test_hash_constants_of_a_seed),
        cmocka_unit_test(test_ranks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
