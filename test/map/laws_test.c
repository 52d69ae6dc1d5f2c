/* What every matrix type must obey, on small odd shapes and both backends. */
/* SPDX-License-Identifier: MIT */
#include "lab.h"
#include "shapes.h"

static const char *const devices[] = {"ref", "cpu"};

static lab law_open(int device, const map_shape *c)
{
    print_message("         %s %s %d -> %d\n", devices[device], c->spec, (int)c->in, (int)c->out);
    return lab_open(devices[device], c->spec, c->in, c->out, c->rows);
}

/* The gate's weights, zeroed: the map is linear then. */
static void law_linear(lab *l)
{
    if (!lab_gated(&l->s)) return;
    st_tensor w = l->t.p[l->params - 2];
    memset(w.data, 0, st_bytes(w));
}

static void forward_is_the_expanded_matrix(lab *l)
{
    st_err e = {0};
    law_linear(l);
    assert_ok(st_map_expand(&l->s, &l->t, l->w, &e), &e);
    st_tensor want = st_take2(&l->a, ST_F32, l->rows, l->s.out);
    for (int bias = 0; bias < 2; bias++) {
        for (int64_t r = 0; r < l->rows; r++) {
            for (int64_t o = 0; o < l->s.out; o++) {
                double sum = bias ? (double)lab_f(l->bias)[o] : 0;
                for (int64_t i = 0; i < l->s.in; i++) {
                    sum +=
                        (double)lab_f(l->w)[o * l->s.in + i] * (double)lab_f(l->x)[r * l->s.in + i];
                }
                lab_f(want)[r * l->s.out + o] = (float)sum;
            }
        }
        lab_forward(l, &l->t, bias ? l->bias : (st_tensor){0}, l->kept);
        lab_near(l->y, want, 1e-5, bias ? "forward with bias" : "forward");
    }
}

static void backward_is_the_adjoint(lab *l)
{
    law_linear(l);
    lab_forward(l, &l->t, (st_tensor){0}, l->kept);
    lab_backward(l, l->kept, l->dx, NULL);
    double a = lab_dot(l->dy, l->y), b = lab_dot(l->dx, l->x);
    if (!(fabs(a - b) <= 1e-5 * (1 + lab_norm(l->dy) * lab_norm(l->y)))) {
        fail_msg("<dy, W x> = %.8g, <W' dy, x> = %.8g", a, b);
    }
}

/* d <dy, y> / d value by a centred difference. Every type is linear in each of its numbers alone,
 * so step 1 is exact; the gate's own weights pass through a sigmoid and get a small one. */
static double law_slope(lab *l, float *value, bool smooth)
{
    float keep = *value, step = smooth ? 1.0f / 64 : 1.0f;
    double loss[2];
    for (int i = 0; i < 2; i++) {
        *value = keep + (i ? step : -step);
        lab_forward(l, &l->t, (st_tensor){0}, (st_tensor){0});
        loss[i] = lab_dot(l->dy, l->y);
    }
    *value = keep;
    return (loss[1] - loss[0]) / (2.0 * (double)step);
}

static void gradients_are_slopes(lab *l)
{
    for (int i = 0; i < l->params; i++)
        memset(l->dt.p[i].data, 0, st_bytes(l->dt.p[i]));
    lab_forward(l, &l->t, (st_tensor){0}, l->kept);
    double scale = 1 + lab_norm(l->dy) * lab_norm(l->y);
    lab_backward(l, l->kept, l->dx, &l->dt);
    bool gated = lab_gated(&l->s);
    for (int i = 0; i < l->params; i++) {
        bool smooth = gated && i >= l->params - 2;
        for (int64_t j = 0; j < st_numel(l->t.p[i]); j++) {
            double want = law_slope(l, &lab_f(l->t.p[i])[j], smooth);
            double got = (double)lab_f(l->dt.p[i])[j];
            if (fabs(got - want) <= (smooth ? 1e-3 : 1e-5) * scale) continue;
            fail_msg("d %s[%d]: %.8g, slope %.8g", l->shape[i].name, (int)j, got, want);
        }
    }
    for (int64_t j = 0; j < st_numel(l->x); j++) {
        double want = law_slope(l, &lab_f(l->x)[j], gated), got = (double)lab_f(l->dx)[j];
        if (fabs(got - want) <= (gated ? 1e-3 : 1e-5) * scale) continue;
        fail_msg("dx[%d]: %.8g, slope %.8g", (int)j, got, want);
    }
}

static void gradients_accumulate(lab *l)
{
    st_theta start = {0}, once = {0};
    lab_forward(l, &l->t, (st_tensor){0}, l->kept);
    for (int i = 0; i < l->params; i++) {
        once.p[i] = st_take(&l->a, ST_F32, l->shape[i].ndim, l->shape[i].dim);
        start.p[i] = st_take(&l->a, ST_F32, l->shape[i].ndim, l->shape[i].dim);
        memset(once.p[i].data, 0, st_bytes(once.p[i]));
        memcpy(start.p[i].data, l->dt.p[i].data, st_bytes(once.p[i]));
    }
    lab_backward(l, l->kept, l->dx, &once);
    lab_backward(l, l->kept, l->dx, &l->dt);
    for (int i = 0; i < l->params; i++) {
        for (int64_t j = 0; j < st_numel(once.p[i]); j++) {
            lab_f(start.p[i])[j] += lab_f(once.p[i])[j];
        }
        lab_near(l->dt.p[i], start.p[i], 1e-6, l->shape[i].name);
    }
}

static void kept_changes_nothing(lab *l)
{
    st_tensor y = st_take2(&l->a, ST_F32, l->rows, l->s.out);
    st_tensor dx = st_take2(&l->a, ST_F32, l->rows, l->s.in);
    lab_forward(l, &l->t, l->bias, (st_tensor){0});
    memcpy(y.data, l->y.data, st_bytes(y));
    lab_forward(l, &l->t, l->bias, l->kept);
    lab_near(l->y, y, 1e-6, "forward");
    st_theta a = {0}, b = {0};
    for (int i = 0; i < l->params; i++) {
        a.p[i] = st_take(&l->a, ST_F32, l->shape[i].ndim, l->shape[i].dim);
        b.p[i] = st_take(&l->a, ST_F32, l->shape[i].ndim, l->shape[i].dim);
        memset(a.p[i].data, 0, st_bytes(a.p[i]));
        memset(b.p[i].data, 0, st_bytes(b.p[i]));
    }
    lab_backward(l, l->kept, l->dx, &a);
    lab_backward(l, (st_tensor){0}, dx, &b);
    lab_near(dx, l->dx, 1e-6, "dx");
    for (int i = 0; i < l->params; i++)
        lab_near(b.p[i], a.p[i], 1e-6, l->shape[i].name);
    lab_backward(l, l->kept, l->dx, NULL);
    lab_near(l->dx, dx, 1e-6, "dx without weight gradients");
    for (int i = 0; i < l->params; i++)
        memset(b.p[i].data, 0, st_bytes(b.p[i]));
    lab_backward(l, l->kept, (st_tensor){0}, &b);
    for (int i = 0; i < l->params; i++)
        lab_near(b.p[i], a.p[i], 1e-6, l->shape[i].name);
}

static void law_all(lab *l, st_stream *q, st_arena *a)
{
    st_map_call c = lab_call(l, l->kept);
    c.q = q;
    c.tmp = a;
    c.bias = l->bias;
    c.y = l->y;
    l->s.type->forward(&c);
    c.kept = c.bias = c.y = (st_tensor){0};
    c.dy = l->dy;
    c.dx = l->dx;
    c.dtheta = &l->dt;
    l->s.type->backward(&c);
}

static void dry_run_needs_what_the_real_one_needs(lab *l)
{
    st_arena real = {0}, counted = {0};
    st_stream *dry = NULL;
    st_err e = {0};
    assert_ok(st_stream_dry(&dry, l->q, &e), &e);
    assert_ok(st_arena_open(&real, LAB_BYTES, &e), &e);
    assert_ok(st_arena_open_counting(&counted, &e), &e);
    law_all(l, l->q, &real);
    law_all(l, dry, &counted);
    assert_int_equal(real.peak, counted.peak);
    assert_true(st_stream_cost(dry).launches > 0);
    st_arena_close(&real);
    st_arena_close(&counted);
    st_stream_close(dry);
}

/* bfloat16 tensors all through: as float32 up to a few roundings of 2^-8. */
static void bfloat16_is_near(lab *l)
{
    lab_forward(l, &l->t, l->bias, l->kept);
    for (int i = 0; i < l->params; i++)
        memset(l->dt.p[i].data, 0, st_bytes(l->dt.p[i]));
    lab_backward(l, l->kept, l->dx, &l->dt);
    lab h = *l;
    st_tensor *half[] = {&h.x,      &h.dy,     &h.bias,   &h.y,      &h.dx,     &h.kept,  &h.t.p[0],
                         &h.t.p[1], &h.t.p[2], &h.t.p[3], &h.t.p[4], &h.t.p[5], &h.t.p[6]};
    for (size_t i = 0; i < sizeof half / sizeof *half; i++) {
        st_tensor f = *half[i];
        if (!f.data) continue;
        *half[i] = st_take(&l->a, ST_BF16, f.ndim, f.dim);
        st_convert(half[i]->data, ST_BF16, f.data, ST_F32, st_numel(f));
    }
    for (int i = 0; i < l->params; i++) {
        h.dt.p[i] = st_take(&l->a, ST_F32, l->shape[i].ndim, l->shape[i].dim);
        memset(h.dt.p[i].data, 0, st_bytes(h.dt.p[i]));
    }
    h.a = l->a;
    lab_forward(&h, &h.t, h.bias, h.kept);
    lab_backward(&h, h.kept, h.dx, &h.dt);
    st_tensor y = st_take2(&h.a, ST_F32, l->rows, l->s.out);
    st_convert(y.data, ST_F32, h.y.data, ST_BF16, st_numel(y));
    lab_near(y, l->y, 0.03, "y");
    st_tensor dx = st_take2(&h.a, ST_F32, l->rows, l->s.in);
    st_convert(dx.data, ST_F32, h.dx.data, ST_BF16, st_numel(dx));
    lab_near(dx, l->dx, 0.03, "dx");
    for (int i = 0; i < l->params; i++)
        lab_near(h.dt.p[i], l->dt.p[i], 0.03, l->shape[i].name);
}

static void law_each(void (*law)(lab *))
{
    for (int d = 0; d < 2; d++) {
        for (int i = 0; i < SHAPES; i++) {
            lab l = law_open(d, &shapes[i]);
            law(&l);
            lab_close(&l);
        }
    }
}

#define LAW(name)                                                                                  \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        law_each(name);                                                                            \
    }
LAW(forward_is_the_expanded_matrix)
LAW(backward_is_the_adjoint)
LAW(gradients_are_slopes)
LAW(gradients_accumulate)
LAW(kept_changes_nothing)
LAW(dry_run_needs_what_the_real_one_needs)
LAW(bfloat16_is_near)

static void test_every_type_has_cases(void **state)
{
    (void)state;
    for (int i = 0; st_map_types[i]; i++) {
        int found = 0;
        for (int c = 0; c < SHAPES; c++) {
            st_spec s;
            found +=
                st_spec_parse(&s, shapes[c].spec, shapes[c].in, shapes[c].out, NULL) == ST_OK &&
                s.type == st_map_types[i];
        }
        if (!found) fail_msg("type %s has no line in shapes.def", st_map_types[i]->name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_type_has_cases),
        cmocka_unit_test(test_forward_is_the_expanded_matrix),
        cmocka_unit_test(test_backward_is_the_adjoint),
        cmocka_unit_test(test_gradients_are_slopes),
        cmocka_unit_test(test_gradients_accumulate),
        cmocka_unit_test(test_kept_changes_nothing),
        cmocka_unit_test(test_dry_run_needs_what_the_real_one_needs),
        cmocka_unit_test(test_bfloat16_is_near),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
