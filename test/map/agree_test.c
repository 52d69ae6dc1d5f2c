/* The fast backend against the slow one on sizes that reach its threaded and tiled routes. */
/* SPDX-License-Identifier: MIT */
#include "lab.h"

static const struct {
    const char *spec;
    int64_t in, out, rows;
} cases[] = {
    {"dense", 160, 192, 129},
    {"lowrank:rank=20", 200, 130, 70},
    {"blockdiag:blocks=4", 192, 256, 96},
    {"blockdiag:blocks=3", 100, 200, 65},
    {"monarch:blocks=4", 192, 256, 96},
    {"monarch:blocks=4,inner=30", 130, 250, 70},
    {"butterfly:size=8,factors=2,block=16", 192, 256, 96},
    {"butterfly:size=16,factors=3,block=8", 250, 190, 70}, /* dilated and padded */
    {"butterfly:size=16,factors=2,block=8", 192, 122, 96}, /* bands joined, dilated, padded */
    {"kron:m1=96,n1=96", 96, 384, 130},
    {"kron:m1=96,n1=96,scalars=1", 384, 96, 130},
    {"kron:terms=2,m1=32,n1=64", 96, 192, 100},
    {"kron:terms=2,m1=64,n1=32", 192, 96, 100},
    {"kron:terms=4,m1=32,n1=64", 96, 192, 100},
    {"kron:m1=8,n1=16", 96, 192, 70},
    {"ss1:factor=4", 256, 192, 100},
    {"ss1:factor=2", 200, 100, 67},
    {"ss1:factor=4,folds=8,signs=1", 256, 200, 70},
    {"ss1:factor=3,folds=5,signs=1,bk=16,vec=4", 250, 64, 33},
    {"lowrank:rank=10+blockdiag:blocks=4", 192, 256, 96},
    {"lowrank:rank=10+monarch:blocks=4+gate", 192, 128, 80},
};
enum { CASES = sizeof cases / sizeof *cases };

static void test_cpu_as_ref(void **state)
{
    (void)state;
    for (int i = 0; i < CASES; i++) {
        lab l[2];
        print_message("         %s %d -> %d\n", cases[i].spec, (int)cases[i].in, (int)cases[i].out);
        for (int d = 0; d < 2; d++) {
            l[d] = lab_open(d ? "cpu" : "ref", cases[i].spec, cases[i].in, cases[i].out,
                            cases[i].rows);
            lab_forward(&l[d], &l[d].t, l[d].bias, l[d].kept);
            lab_backward(&l[d], l[d].kept, l[d].dx, &l[d].dt);
        }
        lab_near(l[1].y, l[0].y, 2e-6, "y");
        lab_near(l[1].dx, l[0].dx, 2e-6, "dx");
        for (int p = 0; p < l[0].params; p++) {
            lab_near(l[1].dt.p[p], l[0].dt.p[p], 2e-6, l[0].shape[p].name);
        }
        lab_close(&l[0]);
        lab_close(&l[1]);
    }
}

/* Every type at a ragged size of a few hundred, without a line in any table. */
static void test_every_type_on_cpu_as_on_ref(void **state)
{
    (void)state;
    static const int64_t size[][3] = {{192, 256, 70}, {260, 120, 33}};
    st_map_view view;
    for (int i = 0; st_map_view_at(i / 2, &view); i++) {
        const int64_t *n = size[i % 2];
        char text[ST_SPEC_TEXT + 64];
        st_spec s;
        lab l[2];
        if (st_spec_fit(&s, view.fit, n[0], n[1], n[0] * n[1] / 3, NULL)) continue;
        st_spec_print(&s, text);
        strcat(text, view.knobs);
        print_message("         %s %d -> %d\n", text, (int)n[0], (int)n[1]);
        for (int d = 0; d < 2; d++) {
            l[d] = lab_open(d ? "cpu" : "ref", text, n[0], n[1], n[2]);
            lab_forward(&l[d], &l[d].t, l[d].bias, l[d].kept);
            lab_backward(&l[d], l[d].kept, l[d].dx, &l[d].dt);
        }
        lab_near(l[1].y, l[0].y, 2e-6, text);
        lab_near(l[1].dx, l[0].dx, 2e-6, text);
        for (int p = 0; p < l[0].params; p++)
            lab_near(l[1].dt.p[p], l[0].dt.p[p], 1e-5, l[0].shape[p].name);
        lab_close(&l[0]);
        lab_close(&l[1]);
    }
}

/* And without a bias, without gradients of the weights, without anything kept. */
static void test_cpu_as_ref_bare(void **state)
{
    (void)state;
    for (int i = 0; i < CASES; i++) {
        lab l[2];
        for (int d = 0; d < 2; d++) {
            l[d] = lab_open(d ? "cpu" : "ref", cases[i].spec, cases[i].in, cases[i].out,
                            cases[i].rows);
            lab_forward(&l[d], &l[d].t, (st_tensor){0}, (st_tensor){0});
            lab_backward(&l[d], (st_tensor){0}, l[d].dx, NULL);
        }
        lab_near(l[1].y, l[0].y, 2e-6, cases[i].spec);
        lab_near(l[1].dx, l[0].dx, 2e-6, cases[i].spec);
        lab_close(&l[0]);
        lab_close(&l[1]);
    }
}

/* Same inputs, same bits: twice on one stream. */
static void test_twice_the_same(void **state)
{
    (void)state;
    for (int i = 0; i < CASES; i++) {
        lab l[2];
        for (int d = 0; d < 2; d++) {
            l[d] = lab_open("cpu", cases[i].spec, cases[i].in, cases[i].out, cases[i].rows);
            lab_forward(&l[d], &l[d].t, l[d].bias, l[d].kept);
            lab_backward(&l[d], l[d].kept, l[d].dx, &l[d].dt);
        }
        assert_memory_equal(l[0].y.data, l[1].y.data, st_bytes(l[0].y));
        assert_memory_equal(l[0].dx.data, l[1].dx.data, st_bytes(l[0].dx));
        for (int p = 0; p < l[0].params; p++) {
            assert_memory_equal(l[0].dt.p[p].data, l[1].dt.p[p].data, st_bytes(l[0].dt.p[p]));
        }
        lab_close(&l[0]);
        lab_close(&l[1]);
    }
}

/* Rows are independent: all at once, and few at a time, which may take other ways. */
static void test_many_rows_as_few(void **state)
{
    (void)state;
    enum { FEW = 13 };
    for (int i = 0; i < CASES; i++) {
        lab all = lab_open("cpu", cases[i].spec, cases[i].in, cases[i].out, cases[i].rows),
            few = all;
        st_tensor y = st_take2(&all.a, ST_F32, all.rows, all.s.out);
        st_tensor dx = st_take2(&all.a, ST_F32, all.rows, all.s.in);
        few.dt = lab_theta(&all, 200);
        few.a = all.a;
        for (int64_t r = 0; r < all.rows; r += FEW) {
            int64_t n = all.rows - r < FEW ? all.rows - r : FEW;
            few.rows = n;
            few.x = st_view2(lab_f(all.x) + r * all.s.in, ST_F32, n, all.s.in);
            few.dy = st_view2(lab_f(all.dy) + r * all.s.out, ST_F32, n, all.s.out);
            few.y = st_view2(lab_f(y) + r * all.s.out, ST_F32, n, all.s.out);
            few.dx = st_view2(lab_f(dx) + r * all.s.in, ST_F32, n, all.s.in);
            lab_forward(&few, &all.t, all.bias, (st_tensor){0});
            lab_backward(&few, (st_tensor){0}, few.dx, &few.dt);
        }
        lab_forward(&all, &all.t, all.bias, all.kept);
        lab_backward(&all, all.kept, all.dx, &all.dt);
        lab_near(y, all.y, 2e-6, cases[i].spec);
        lab_near(dx, all.dx, 2e-6, cases[i].spec);
        for (int p = 0; p < all.params; p++)
            lab_near(few.dt.p[p], all.dt.p[p], 5e-6, all.shape[p].name);
        lab_close(&all);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cpu_as_ref),       cmocka_unit_test(test_every_type_on_cpu_as_on_ref),
        cmocka_unit_test(test_cpu_as_ref_bare),  cmocka_unit_test(test_twice_the_same),
        cmocka_unit_test(test_many_rows_as_few),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
