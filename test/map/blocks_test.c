/* Weights in blocks of 8 and 4 bits: forward gives what it gives with the same weights as floats,
 * for every type that says its parameters may be so, and operations that fuse products are not
 * given them. */
/* SPDX-License-Identifier: MIT */
#include "lab.h"

/* `factors` of the spec's parameters can be in blocks. */
static const struct {
    const char *spec;
    int64_t in, out;
    int factors;
} cases[] = {
    {"dense", 96, 70, 1},
    {"lowrank:rank=32", 96, 70, 2},
    {"lowrank:rank=20", 96, 70, 1}, /* rows of u are no whole blocks */
    {"blockdiag:blocks=3", 96, 70, 1},
    {"blockdiag:blocks=5", 96, 70, 0}, /* cut */
    {"monarch:blocks=2,inner=64", 128, 70, 2},
    {"monarch:blocks=3,inner=66", 95, 70, 0},
    {"ss1:factor=2,bk=32", 192, 70, 1},
    {"ss1:factor=4,folds=2,signs=1,bk=32,vec=4", 256, 71, 1},
    {"btt:rank=8,m1=4,n1=2", 128, 70, 2},
    {"btt:rank=8,m1=4,n1=2,group=5", 128, 70, 2},
    {"lowrank:rank=32+blockdiag:blocks=3", 96, 70, 3},
    {"lowrank:rank=32+dense+gate", 96, 70, 3}, /* not the gate's */
    {"lowrank:rank=32+monarch:blocks=2,inner=64+mean", 128, 70, 4},
    {"kron:m1=32,n1=7", 64, 70, 0},
};
enum { CASES = sizeof cases / sizeof *cases };

/* Those that can in blocks; in l->t what these say. The number of them. */
static int in_blocks(lab *l, st_dtype format, st_theta *blocks)
{
    int factors = 0;
    *blocks = l->t;
    for (int p = 0; p < l->params; p++) {
        if (!st_param_blocks(&l->shape[p])) continue;
        int64_t n = st_numel(l->t.p[p]);
        factors++;
        blocks->p[p] = st_take(&l->a, format, l->shape[p].ndim, l->shape[p].dim);
        st_convert(blocks->p[p].data, format, l->t.p[p].data, ST_F32, n);
        st_convert(l->t.p[p].data, ST_F32, blocks->p[p].data, format, n);
    }
    return factors;
}

/* Those that may be packed so. */
static void pack(lab *l, st_theta *blocks)
{
    for (int p = 0; p < l->params; p++) {
        const st_param_shape *s = &l->shape[p];
        st_tensor *w = &blocks->p[p];
        if (!st_param_blocks(s) || !(s->flags & ST_MAP_WHOLE)) continue;
        int64_t rows = s->dim[s->ndim - 2], cols = s->dim[s->ndim - 1];
        st_tensor to = st_take(&l->a, st_dtype_packed(w->dtype), s->ndim, s->dim);
        for (int64_t at = 0; at < st_numel(to); at += rows * cols)
            st_blocks_pack(st_slice(to, at, rows * cols).data, st_slice(*w, at, rows * cols).data,
                           to.dtype, rows, cols);
        *w = to;
    }
}

static void test_forward(void **state)
{
    (void)state;
    for (int i = 0; i < 3 * CASES; i++) {
        lab l = lab_open("ref", cases[i / 3].spec, cases[i / 3].in, cases[i / 3].out, 5);
        st_theta blocks;
        int factors = in_blocks(&l, (st_dtype)(ST_Q8_0 + i % 3), &blocks);
        if (factors != cases[i / 3].factors)
            fail_msg("%s: %d factors, not %d", cases[i / 3].spec, factors, cases[i / 3].factors);
        st_tensor want = st_take2(&l.a, ST_F32, l.rows, l.s.out);
        lab_forward(&l, &l.t, l.bias, l.kept);
        memcpy(want.data, l.y.data, st_bytes(want));
        lab_forward(&l, &blocks, l.bias, l.kept);
        lab_near(l.y, want, 1e-6, cases[i / 3].spec);
        lab_close(&l);
    }
}

/* On the cpu products may round the inputs to blocks too. */
static void test_forward_on_cpu(void **state)
{
    (void)state;
    for (int i = 0; i < CASES; i++) {
        lab l = lab_open("cpu", cases[i].spec, cases[i].in, cases[i].out, 37);
        st_theta blocks;
        in_blocks(&l, (st_dtype)(ST_Q8_0 + i % 3), &blocks);
        st_tensor want = st_take2(&l.a, ST_F32, l.rows, l.s.out);
        lab_forward(&l, &l.t, l.bias, (st_tensor){0});
        memcpy(want.data, l.y.data, st_bytes(want));
        lab_forward(&l, &blocks, l.bias, (st_tensor){0});
        lab_near(l.y, want, 0.02, cases[i].spec);
        pack(&l, &blocks);
        lab_forward(&l, &blocks, l.bias, (st_tensor){0});
        lab_near(l.y, want, 0.02, cases[i].spec);
        lab_close(&l);
    }
}

static void test_rows_and_parts(void **state)
{
    (void)state;
    enum { ROWS = 5 };
    static int32_t ids[ROWS] = {3, 69, 0, 3, 41};
    lab l = lab_open("ref", "dense", 96, 70, ROWS);
    st_theta blocks;
    in_blocks(&l, ST_Q4_0, &blocks);
    st_linear whole = {.spec = l.s, .w = blocks, .bias = l.bias}, part;
    st_tensor y = st_take2(&l.a, ST_F32, ROWS, 96), some = st_take2(&l.a, ST_F32, ROWS, 20);
    st_embed_fwd_args a = {.rows = ROWS, .width = 96, .len = ROWS, .y = y};
    a.ids = st_view1(ids, ST_I32, ROWS);
    st_linear_rows(l.q, &whole, &a, &l.a);
    for (int i = 0; i < ROWS; i++)
        assert_memory_equal(lab_f(y) + i * 96, lab_f(l.t.p[0]) + ids[i] * 96, 96 * sizeof(float));
    lab_forward(&l, &blocks, l.bias, (st_tensor){0});
    assert_true(st_linear_part(&whole, 40, 20, &part));
    st_linear_forward(l.q, &part, l.x, some, (st_tensor){0}, &l.a);
    for (int i = 0; i < ROWS; i++)
        assert_memory_equal(lab_f(some) + i * 20, lab_f(l.y) + i * 70 + 40, 20 * sizeof(float));
    st_gelu_linear_args fused = {0};
    st_map_call c = lab_call(&l, (st_tensor){0});
    assert_true(l.s.type->last(&c, &fused));
    c.theta = &blocks;
    assert_false(l.s.type->last(&c, &fused));
    lab_close(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),
        cmocka_unit_test(test_forward_on_cpu),
        cmocka_unit_test(test_rows_and_parts),
    };
    return cmocka_run_group_tests_name("blocks", tests, NULL, NULL);
}
