/* Row look-up: rows of the matrix that is not formed, and the gradients of what stands for it. */
/* SPDX-License-Identifier: MIT */
#include "lab.h"
#include "shapes.h"

/* Adding a type with row look-up: add a line. */
enum { ROWS = 8, LEN = 4, START = 2 };
static const char *const devices[] = {"ref", "cpu"};

typedef struct {
    lab l;
    int32_t ids[ROWS];
    st_tensor position, dposition, y, dy;
} rig;

/* Rows can be looked up in some types, in some of their shapes. */
static bool rig_wanted(int i)
{
    st_spec s;
    assert_ok(st_spec_parse(&s, shapes[i].spec, shapes[i].in, shapes[i].out, NULL), NULL);
    return st_spec_rows(&s, NULL) == ST_OK;
}

static void rig_open(rig *r, int device, int i)
{
    print_message("         %s %s\n", devices[device], shapes[i].spec);
    *r = (rig){.l = lab_open(devices[device], shapes[i].spec, shapes[i].in, shapes[i].out, 1)};
    int64_t in = shapes[i].in;
    r->position = st_take2(&r->l.a, ST_F32, START + LEN, in);
    r->dposition = st_take2(&r->l.a, ST_F32, START + LEN, in);
    r->y = st_take2(&r->l.a, ST_F32, ROWS, in);
    r->dy = st_take2(&r->l.a, ST_F32, ROWS, in);
    lab_random(r->position, 30);
    lab_random(r->dy, 31);
    for (int k = 0; k < ROWS; k++) /* some twice, the last one too */
        r->ids[k] = (int32_t)(k == 3 ? shapes[i].out - 1 : (k * k) % shapes[i].out);
}

static st_embed_fwd_args rig_args(rig *r)
{
    return (st_embed_fwd_args){.rows = ROWS,
                               .width = r->l.s.in,
                               .len = LEN,
                               .start = START,
                               .ids = st_view1(r->ids, ST_I32, ROWS)};
}

static void rig_rows(rig *r, st_tensor position)
{
    size_t mark = st_arena_mark(&r->l.a);
    st_embed_fwd_args a = rig_args(r);
    a.position = position;
    a.y = r->y;
    memset(r->y.data, 0xff, st_bytes(r->y));
    lab_poison(&r->l, mark);
    st_map_call c = lab_call(&r->l, (st_tensor){0});
    r->l.s.type->rows(&c, &a);
    st_arena_rewind(&r->l.a, mark);
}

static void rig_back(rig *r, const st_theta *dt, st_tensor dposition)
{
    size_t mark = st_arena_mark(&r->l.a);
    st_embed_bwd_args a = rig_args(r);
    a.dposition = dposition;
    a.dy = r->dy;
    lab_poison(&r->l, mark);
    st_map_call c = lab_call(&r->l, (st_tensor){0});
    c.dtheta = dt;
    r->l.s.type->rows_backward(&c, &a);
    st_arena_rewind(&r->l.a, mark);
}

static void rows_are_those_of_w(rig *r)
{
    st_err e = {0};
    int64_t in = r->l.s.in;
    st_tensor want = st_take2(&r->l.a, ST_F32, ROWS, in);
    assert_ok(st_spec_rows(&r->l.s, &e), &e);
    assert_ok(st_map_expand(&r->l.s, &r->l.t, r->l.w, &e), &e);
    for (int with = 0; with < 2; with++) {
        for (int64_t k = 0; k < ROWS * in; k++) {
            float p = lab_f(r->position)[(START + k / in % LEN) * in + k % in];
            lab_f(want)[k] = lab_f(r->l.w)[r->ids[k / in] * in + k % in] + (with ? p : 0.0f);
        }
        rig_rows(r, with ? r->position : (st_tensor){0});
        lab_near(r->y, want, 1e-6, "rows");
    }
}

static double rig_loss(rig *r)
{
    rig_rows(r, r->position);
    return lab_dot(r->y, r->dy);
}

/* Types are linear in each of their numbers: a centred difference with step 1 is exact. */
static void assert_slopes(rig *r, st_tensor w, st_tensor dw, const char *name)
{
    double scale = 1 + lab_norm(r->dy);
    for (int64_t j = 0; j < st_numel(w); j++) {
        float *value = &lab_f(w)[j], keep = *value;
        double loss[2];
        for (int i = 0; i < 2; i++) {
            *value = keep + (i ? 1.0f : -1.0f);
            loss[i] = rig_loss(r);
        }
        *value = keep;
        double want = (loss[1] - loss[0]) / 2, got = (double)lab_f(dw)[j];
        if (fabs(got - want) > 2e-5 * scale)
            fail_msg("d %s[%d]: %.8g, slope %.8g", name, (int)j, got, want);
    }
}

static void gradients_are_slopes_and_add_up(rig *r)
{
    lab *l = &r->l;
    for (int i = 0; i < l->params; i++)
        memset(l->dt.p[i].data, 0, st_bytes(l->dt.p[i]));
    memset(r->dposition.data, 0, st_bytes(r->dposition));
    rig_back(r, &l->dt, r->dposition);
    for (int i = 0; i < l->params; i++)
        assert_slopes(r, l->t.p[i], l->dt.p[i], l->shape[i].name);
    assert_slopes(r, r->position, r->dposition, "position");
    st_theta once = {0};
    for (int i = 0; i < l->params; i++) {
        once.p[i] = st_take(&l->a, ST_F32, l->shape[i].ndim, l->shape[i].dim);
        for (int64_t j = 0; j < st_numel(once.p[i]); j++)
            lab_f(once.p[i])[j] = 2 * lab_f(l->dt.p[i])[j];
    }
    rig_back(r, &l->dt, (st_tensor){0});
    for (int i = 0; i < l->params; i++)
        lab_near(l->dt.p[i], once.p[i], 1e-6, "twice");
    /* frozen: only the position learns */
    memset(r->dposition.data, 0, st_bytes(r->dposition));
    rig_back(r, &(st_theta){0}, r->dposition);
    assert_slopes(r, r->position, r->dposition, "position alone");
}

/* In bfloat16 up to a few roundings; and its forward into float32 rounds nothing more. */
static void bfloat16_is_near(rig *r)
{
    lab *l = &r->l;
    rig_rows(r, r->position);
    st_theta f32 = l->t, half = {0};
    st_tensor y = st_take2(&l->a, ST_BF16, ROWS, l->s.in), p = r->position, wide = r->y;
    for (int i = 0; i < l->params; i++) {
        half.p[i] = st_take(&l->a, ST_BF16, l->shape[i].ndim, l->shape[i].dim);
        st_convert(half.p[i].data, ST_BF16, f32.p[i].data, ST_F32, st_numel(f32.p[i]));
    }
    r->position = st_take(&l->a, ST_BF16, p.ndim, p.dim);
    st_convert(r->position.data, ST_BF16, p.data, ST_F32, st_numel(p));
    l->t = half;
    r->y = y;
    rig_rows(r, r->position);
    st_tensor back = st_take2(&l->a, ST_F32, ROWS, l->s.in);
    st_convert(back.data, ST_F32, y.data, ST_BF16, st_numel(y));
    lab_near(back, wide, 0.02, "bfloat16");
    st_tensor x = st_take2(&l->a, ST_BF16, 1, l->s.in), f = l->y;
    st_convert(x.data, ST_BF16, l->x.data, ST_F32, st_numel(x));
    lab_forward(l, &f32, (st_tensor){0}, (st_tensor){0});
    st_tensor want = st_take2(&l->a, ST_F32, 1, l->s.out);
    memcpy(want.data, f.data, st_bytes(f));
    st_tensor keep = l->x;
    l->x = x;
    lab_forward(l, &half, (st_tensor){0}, (st_tensor){0});
    lab_near(l->y, want, 0.03, "forward into float32");
    l->x = keep;
}

static void dry_runs_need_the_same(rig *r)
{
    st_stream *dry = NULL;
    st_arena real = {0}, counted = {0};
    st_err e = {0};
    assert_ok(st_stream_dry(&dry, r->l.q, &e), &e);
    assert_ok(st_arena_open(&real, LAB_BYTES, &e), &e);
    assert_ok(st_arena_open_counting(&counted, &e), &e);
    for (int i = 0; i < 2; i++) {
        st_map_call c = lab_call(&r->l, (st_tensor){0});
        c.q = i ? dry : r->l.q;
        c.tmp = i ? &counted : &real;
        st_embed_fwd_args args = rig_args(r);
        args.y = r->y;
        r->l.s.type->rows(&c, &args);
        args.dy = r->dy;
        c.dtheta = &r->l.dt;
        r->l.s.type->rows_backward(&c, &args);
    }
    assert_int_equal(real.peak, counted.peak);
    assert_true(st_stream_cost(dry).launches > 0);
    st_arena_close(&real);
    st_arena_close(&counted);
    st_stream_close(dry);
}

#define LAW(name)                                                                                  \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        for (int i = 0; i < 2 * SHAPES; i++) {                                                     \
            if (!rig_wanted(i / 2)) continue;                                                      \
            rig r;                                                                                 \
            rig_open(&r, i % 2, i / 2);                                                            \
            name(&r);                                                                              \
            lab_close(&r.l);                                                                       \
        }                                                                                          \
    }
LAW(rows_are_those_of_w)
LAW(gradients_are_slopes_and_add_up)
LAW(bfloat16_is_near)
LAW(dry_runs_need_the_same)

static void test_who_has_none_says_so(void **state)
{
    (void)state;
    static const char *const none[] = {"monarch:blocks=2", "blockdiag:blocks=2", "ss1:factor=2",
                                       "lowrank:rank=1+blockdiag:blocks=2"};
    st_spec s;
    st_err e = {0};
    for (int i = 0; i < 4; i++) {
        assert_ok(st_spec_parse(&s, none[i], 8, 12, &e), &e);
        assert_st(st_spec_rows(&s, &e), ST_EUNSUPPORTED, &e);
        assert_says(&e, "row look-up");
        assert_says(&e, "lowrank");
    }
    assert_ok(st_spec_parse(&s, "kron:m1=4,n1=6", 8, 12, &e), &e);
    assert_st(st_spec_rows(&s, &e), ST_ESHAPE, &e);
    assert_says(&e, "n1=12");
    for (int i = 0; st_map_types[i]; i++) {
        int found = 0;
        for (int c = 0; c < SHAPES; c++) {
            found +=
                st_spec_parse(&s, shapes[c].spec, shapes[c].in, shapes[c].out, NULL) == ST_OK &&
                s.type == st_map_types[i] && rig_wanted(c);
        }
        if (st_map_types[i]->rows && !found)
            fail_msg("type %s has no line with row look-up in shapes.def", st_map_types[i]->name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_are_those_of_w),
        cmocka_unit_test(test_gradients_are_slopes_and_add_up),
        cmocka_unit_test(test_bfloat16_is_near),
        cmocka_unit_test(test_dry_runs_need_the_same),
        cmocka_unit_test(test_who_has_none_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
