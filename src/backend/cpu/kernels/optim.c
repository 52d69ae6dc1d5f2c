/* Sums of products, AdamW, averages of weights. Sums are taken over a fixed number of stretches
 * whatever the number of threads, each in float32 lanes by blocks and in double between blocks. */
/* SPDX-License-Identifier: MIT */
#include "backend/cpu/kernels/sums.h"

enum { OPTIM_STRETCHES = 256 };

static double optim_dot_all(st_stream *q, const st_tensor *a, const st_tensor *b)
{
    double part[OPTIM_STRETCHES], total = 0;
    int64_t count = st_numel(*a);
    int parts = st_parts(q, count);
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int s = 0; s < OPTIM_STRETCHES; s++) {
        part[s] = sum_dot(a, b, st_part(count, BLOCK, s, OPTIM_STRETCHES));
    }
    for (int s = 0; s < OPTIM_STRETCHES; s++)
        total += part[s];
    return total;
}

void KERNEL(dot)(st_stream *q, const st_dot_args *a)
{
    *(float *)a->c.data += (float)optim_dot_all(q, &a->a, &a->b);
}

void KERNEL(sumsq)(st_stream *q, const st_sumsq_args *a)
{
    *(float *)a->out.data += (float)optim_dot_all(q, &a->x, &a->x);
}

void KERNEL(adamw)(st_stream *q, const st_adamw_args *a)
{
    int64_t count = st_numel(a->w);
    int parts = st_parts(q, count * 4);
    const st_tensor *w = a->master.data ? &a->master : &a->w;
    double c1 = 1 - pow((double)a->beta1, (double)a->step);
    double c2 = 1 - pow((double)a->beta2, (double)a->step);
    float b1 = a->beta1, b2 = a->beta2, eps = a->eps, g_scale = a->grad_scale;
    float shrink = (float)(1 - (double)a->lr * (double)a->decay);
    float rate = (float)((double)a->lr / c1), unbias = (float)(1 / sqrt(c2));
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t i = 0; i < count; i += BLOCK) {
        int64_t n = at_most(count - i, BLOCK);
        float *m = (float *)a->m.data + i, *v = (float *)a->v.data + i, *x = (float *)w->data + i;
        const float *grad = (const float *)a->grad.data + i;
#pragma omp simd
        for (int64_t j = 0; j < n; j++) {
            float g = grad[j] * g_scale;
            float mj = b1 * m[j] + (1.0f - b1) * g, vj = b2 * v[j] + (1.0f - b2) * g * g;
            m[j] = mj;
            v[j] = vj;
            x[j] = x[j] * shrink - rate * mj / (sqrtf(vj) * unbias + eps);
        }
        if (!a->master.data) continue;
        if (a->w.dtype == ST_F32)
            memcpy((float *)a->w.data + i, x, (size_t)n * sizeof *x);
        else
            block_done(&a->w, i, n, x);
    }
}

void KERNEL(average)(st_stream *q, const st_average_args *a)
{
    int64_t count = st_numel(a->x);
    int parts = st_parts(q, count);
    float rate = a->rate;
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t i = 0; i < count; i += BLOCK) {
        int64_t n = at_most(count - i, BLOCK);
        const float *x = (const float *)a->x.data + i;
        float *mean = (float *)a->mean.data + i;
#pragma omp simd
        for (int64_t j = 0; j < n; j++)
            mean[j] += rate * (x[j] - mean[j]);
    }
}
