/* A map on a stream with random weights, input and output gradient, for the tests of this folder.
 */
/* SPDX-License-Identifier: MIT */
#ifndef ST_TEST_LAB_H
#define ST_TEST_LAB_H

#include "map/map.h"
#include "testing.h"
#include <math.h>

typedef struct {
    st_stream *q;
    st_arena a;
    st_spec s;
    int params;
    st_param_shape shape[ST_PARAMS];
    st_theta t, dt;
    int64_t rows;
    st_tensor x, y, dy, dx, kept, bias, w; /* w (out, in) */
} lab;

enum { LAB_BYTES = 1 << 22, LAB_POISON = 1 << 18 };

static inline void lab_random(st_tensor t, uint64_t stream)
{
    st_normal_fill(t.data, st_numel(t), 0.0f, 1.0f, 7, stream);
}

static inline float *lab_f(st_tensor t)
{
    return t.data;
}

static inline st_theta lab_theta(lab *l, uint64_t seed)
{
    st_theta t = {0};
    for (int i = 0; i < l->params; i++) {
        t.p[i] = st_take(&l->a, ST_F32, l->shape[i].ndim, l->shape[i].dim);
        lab_random(t.p[i], seed + (uint64_t)i);
    }
    return t;
}

static inline lab lab_open(const char *device, const char *spec, int64_t in, int64_t out,
                           int64_t rows)
{
    lab l = {.rows = rows};
    st_err e = {0};
    assert_ok(st_spec_parse(&l.s, spec, in, out, &e), &e);
    assert_ok(st_stream_open(&l.q, device, 2, &e), &e);
    assert_ok(st_arena_open(&l.a, LAB_BYTES, &e), &e);
    l.params = l.s.type->params(&l.s, 1.0f, l.shape);
    l.t = lab_theta(&l, 100);
    l.dt = lab_theta(&l, 200);
    l.x = st_take2(&l.a, ST_F32, rows, in);
    l.dx = st_take2(&l.a, ST_F32, rows, in);
    l.y = st_take2(&l.a, ST_F32, rows, out);
    l.dy = st_take2(&l.a, ST_F32, rows, out);
    l.bias = st_take1(&l.a, ST_F32, out);
    l.w = st_take2(&l.a, ST_F32, out, in);
    int64_t kept = l.s.type->kept(&l.s);
    if (kept) l.kept = st_take2(&l.a, ST_F32, rows, kept);
    lab_random(l.x, 1);
    lab_random(l.dy, 2);
    lab_random(l.bias, 3);
    return l;
}

static inline void lab_close(lab *l)
{
    st_err e = {0};
    assert_ok(st_stream_sync(l->q, &e), &e);
    st_arena_close(&l->a);
    st_stream_close(l->q);
}

/* NaN in the scratch that a small case uses. */
static inline void lab_poison(lab *l, size_t mark)
{
    size_t left = LAB_BYTES - mark;
    memset(l->a.base + mark, 0xff, left < LAB_POISON ? left : LAB_POISON);
}

/* What both directions are called with; the rest of the call is zero. */
static inline st_map_call lab_call(lab *l, st_tensor kept)
{
    return (st_map_call){
        .q = l->q, .spec = &l->s, .theta = &l->t, .x = l->x, .kept = kept, .tmp = &l->a};
}

/* The map's forward; NaN in y, kept and scratch first, so that leftovers show. */
static inline void lab_forward(lab *l, const st_theta *t, st_tensor bias, st_tensor kept)
{
    memset(l->y.data, 0xff, st_bytes(l->y));
    if (kept.data) memset(kept.data, 0xff, st_bytes(kept));
    size_t mark = st_arena_mark(&l->a);
    lab_poison(l, mark);
    st_map_call c = lab_call(l, kept);
    c.theta = t;
    c.bias = bias;
    c.y = l->y;
    l->s.type->forward(&c);
    st_arena_rewind(&l->a, mark);
}

static inline void lab_backward(lab *l, st_tensor kept, st_tensor dx, const st_theta *dt)
{
    if (dx.data) memset(dx.data, 0xff, st_bytes(dx));
    size_t mark = st_arena_mark(&l->a);
    lab_poison(l, mark);
    st_map_call c = lab_call(l, kept);
    c.dy = l->dy;
    c.dx = dx;
    c.dtheta = dt;
    l->s.type->backward(&c);
    st_arena_rewind(&l->a, mark);
}

static inline double lab_dot(st_tensor a, st_tensor b)
{
    double sum = 0;
    for (int64_t i = 0; i < st_numel(a); i++)
        sum += (double)lab_f(a)[i] * (double)lab_f(b)[i];
    return sum;
}

static inline double lab_norm(st_tensor a)
{
    return sqrt(lab_dot(a, a));
}

/* |a - b| <= tolerance * (1 + |b|), as vectors. */
static inline void lab_near(st_tensor a, st_tensor b, double tolerance, const char *what)
{
    double d = 0;
    for (int64_t i = 0; i < st_numel(a); i++) {
        double one = (double)lab_f(a)[i] - (double)lab_f(b)[i];
        d += one * one;
    }
    if (!(sqrt(d) <= tolerance * (1 + lab_norm(b)))) {
        fail_msg("%s: off by %.3g of %.3g", what, sqrt(d), lab_norm(b));
    }
}

static inline bool lab_gated(const st_spec *s)
{
    return strcmp(s->type->name, "sum") == 0 && s->knob[0] == 1;
}

#endif
