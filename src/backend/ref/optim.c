/* Sums of products, AdamW and averages of weights. */
/* SPDX-License-Identifier: MIT */
#include "backend/ref/ref.h"
#include <math.h>

void st_ref_dot(st_stream *q, const st_dot_args *a)
{
    (void)q;
    int64_t n = st_numel(a->a);
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)ref_load(&a->a, i) * (double)ref_load(&a->b, i);
    ref_add(&a->c, 0, sum);
}

void st_ref_sumsq(st_stream *q, const st_sumsq_args *a)
{
    (void)q;
    int64_t n = st_numel(a->x);
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)ref_load(&a->x, i) * (double)ref_load(&a->x, i);
    ref_add(&a->out, 0, sum);
}

void st_ref_adamw(st_stream *q, const st_adamw_args *a)
{
    (void)q;
    int64_t n = st_numel(a->w);
    const st_tensor *w = a->master.data ? &a->master : &a->w;
    double b1 = (double)a->beta1, b2 = (double)a->beta2, lr = (double)a->lr;
    double c1 = 1 - pow(b1, (double)a->step), c2 = 1 - pow(b2, (double)a->step);
    for (int64_t i = 0; i < n; i++) {
        double g = (double)ref_load(&a->grad, i) * (double)a->grad_scale;
        double m = b1 * (double)ref_load(&a->m, i) + (1 - b1) * g;
        double v = b2 * (double)ref_load(&a->v, i) + (1 - b2) * g * g;
        double x = (double)ref_load(w, i) * (1 - lr * (double)a->decay);
        x -= lr * (m / c1) / (sqrt(v / c2) + (double)a->eps);
        ref_store(&a->m, i, m);
        ref_store(&a->v, i, v);
        ref_store(w, i, x);
        if (a->master.data) ref_store(&a->w, i, (double)(float)x);
    }
}

void st_ref_average(st_stream *q, const st_average_args *a)
{
    (void)q;
    int64_t n = st_numel(a->x);
    for (int64_t i = 0; i < n; i++) {
        double mean = (double)ref_load(&a->mean, i);
        ref_store(&a->mean, i, mean + (double)a->rate * ((double)ref_load(&a->x, i) - mean));
    }
}
