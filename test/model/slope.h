/* Gradients of whole models by differences of the objective. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_TEST_SLOPE_H
#define ST_TEST_SLOPE_H

#include "rig.h"

typedef struct {
    rig *r;
    const st_lm_args *a;
    bool train; /* the loss of the training call (with dropout), not of the forward */
    float *grad;
    const char *type;
} slope;

/* scale times the sum of a number per token. */
static inline double slope_part(slope *s, st_tensor x, float scale)
{
    if (scale == 0.0f) return 0.0;
    float *each = rig_get(s->r, x);
    double sum = 0;
    for (int64_t i = 0; i < st_numel(x); i++)
        sum += (double)each[i];
    test_free(each);
    return sum * (double)scale;
}

/* The objective whose gradient st_model_grad adds. */
static inline double slope_loss(slope *s)
{
    (s->train ? st_model_grad : st_model_forward)(s->r->m, s->r->q, s->a, &s->r->tmp);
    double sum = slope_part(s, s->a->loss, s->a->grad_scale);
    const st_teach *t = s->a->teach;
    if (t) {
        sum += slope_part(s, t->kl, t->kl_scale * t->temperature * t->temperature);
        sum += slope_part(s, t->hidden, t->hidden_scale);
        sum += slope_part(s, t->embed, t->embed_scale);
    }
    return sum;
}

/* d loss / d h at w + h v by a five-point difference, error O(h^4); h up to 1 % of w, or 0.01. */
static inline double slope_along(slope *s, st_tensor w, const float *v)
{
    int64_t n = st_numel(w);
    float *w0 = rig_get(s->r, w), *x = test_malloc((size_t)n * sizeof *x);
    double sum = 0, length = 0;
    for (int64_t i = 0; i < n; i++)
        length += (double)w0[i] * (double)w0[i];
    const float step = (float)(0.005 * fmax(1.0, sqrt(length)));
    static const struct {
        float at;
        double weight;
    } point[] = {{-2, 1}, {-1, -8}, {1, 8}, {2, -1}};
    for (int k = 0; k < 4; k++) {
        for (int64_t i = 0; i < n; i++)
            x[i] = w0[i] + point[k].at * step * v[i];
        rig_set(s->r, w, x);
        sum += point[k].weight * slope_loss(s);
    }
    rig_set(s->r, w, w0);
    test_free(w0);
    test_free(x);
    return sum / (12.0 * (double)step);
}

static inline double slope_unit(float *v, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)v[i] * (double)v[i];
    double norm = sqrt(sum);
    for (int64_t i = 0; i < n; i++)
        v[i] = (float)((double)v[i] / norm);
    return norm;
}

/* Along the gradient and along a random direction. */
static inline void slope_param(void *ctx, const st_param *p)
{
    slope *s = ctx;
    int64_t n = st_numel(p->w);
    const float *g = s->grad + p->offset;
    float *v = test_malloc((size_t)n * sizeof *v);
    memcpy(v, g, (size_t)n * sizeof *v);
    double norm = slope_unit(v, n), got = slope_along(s, p->w, v);
    if (!(norm > 0) || fabs(got - norm) > 5e-3 * norm + 2e-6) {
        fail_msg("%s on %s: %s: gradient's length is %g, slope along it %g", s->type,
                 st_stream_device(s->r->q), p->name, norm, got);
    }
    st_normal_fill(v, n, 0, 1, 77, st_hash_name(p->name));
    slope_unit(v, n);
    double want = 0;
    for (int64_t i = 0; i < n; i++)
        want += (double)v[i] * (double)g[i];
    got = slope_along(s, p->w, v);
    if (fabs(got - want) > 5e-3 * norm + 2e-6) {
        fail_msg("%s: %s: slope is %g, expected %g (gradient's length %g)", s->type, p->name, got,
                 want, norm);
    }
    test_free(v);
}

static inline void slope_check_batch(rig *r, const st_lm_args *a, const char *type, bool train)
{
    slope s = {.r = r, .a = a, .type = type, .train = train};
    rig_zero_grads(r);
    rig_run(r, a, true);
    s.grad = rig_get(r, r->g);
    st_model_params(r->m, slope_param, &s);
    test_free(s.grad);
}

static inline void slope_check(rig *r, const char *type, bool train)
{
    st_lm_args a = rig_batch(r, 2, 7, 3);
    slope_check_batch(r, &a, type, train);
}

#endif
