/* Cross entropy and distances from a teacher (formulas: ref/loss.c). Two passes over a row of
 * logits: one for the maximum and the sum of exponentials together, rescaled when the maximum
 * grows, one for the gradient. */
/* SPDX-License-Identifier: MIT */
#include "backend/cpu/kernels/sums.h"

/* A row's largest logit and sum of e^((z - top) cool), cool = 1/temperature: together exact where
 * log sum exp would round. */
typedef struct {
    float top;
    double total;
} loss_sums;

static inline loss_sums loss_row_sums(const st_tensor *logits, int64_t z0, int64_t width,
                                      float cool)
{
    float top = -INFINITY;
    double total = 0;
    for (int64_t j = 0; j < width; j += BLOCK) {
        float buf[BLOCK], most = -INFINITY, sum = 0;
        int64_t n = at_most(width - j, BLOCK);
        const float *z = block_in(logits, z0 + j, n, buf);
        /* a NaN is passed over here and found by the sum */
#pragma omp simd reduction(max : most)
        for (int64_t i = 0; i < n; i++)
            most = z[i] > most ? z[i] : most;
        if (most > top) {
            total *= (double)fast_exp((top - most) * cool);
            top = most;
        }
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < n; i++)
            sum += fast_exp((z[i] - top) * cool);
        total += (double)sum;
    }
    return (loss_sums){top, total};
}

static void loss_gradient(const st_xent_args *a, int64_t r, int32_t target, loss_sums s)
{
    float scale = target < 0 ? 0 : a->scale, share = (float)((double)scale / s.total), top = s.top;
    for (int64_t j = 0; j < a->width; j += BLOCK) {
        float buf[BLOCK], out[BLOCK];
        int64_t n = at_most(a->width - j, BLOCK), at = r * st_or(a->stride, a->width) + j;
        const float *z = block_in(&a->logits, at, n, buf);
        float *d = block_out(&a->dlogits, at, out);
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            d[i] = share * fast_exp(z[i] - top);
        if (target < 0) memset(d, 0, (size_t)n * sizeof *d);
        if (target >= j && target < j + n) d[target - j] -= scale;
        block_done(&a->dlogits, at, n, d);
    }
}

static bool loss_targets_ok(st_stream *q, const char *op, const int32_t *targets, int64_t rows,
                            int64_t width)
{
    for (int64_t r = 0; r < rows; r++) {
        if (targets[r] < width) continue;
        st_stream_latch(q, ST_EARG, op, "a target id is not below the number of classes");
        return false;
    }
    return true;
}

void KERNEL(xent)(st_stream *q, const st_xent_args *a)
{
    const int32_t *targets = a->targets.data;
    float *loss = a->loss.data;
    if (!loss_targets_ok(q, "xent", targets, a->rows, a->width)) return;
    int parts = st_parts(q, a->rows * a->width * 4);
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t r = 0; r < a->rows; r++) {
        int32_t t = targets[r];
        int64_t z0 = r * st_or(a->stride, a->width);
        loss_sums sums = {0, 1};
        if (t >= 0) sums = loss_row_sums(&a->logits, z0, a->width, 1.0f);
        double at_target = t < 0 ? 0 : (double)scalar_in(&a->logits, z0 + t);
        if (loss) loss[r] = (float)(log(sums.total) - (at_target - (double)sums.top));
        if (a->dlogits.data) loss_gradient(a, r, t, sums);
    }
}

/* The row's divergence; its gradient on the way. The three sums are of softmax(z), softmax(z / T)
 * and softmax(t / T). */
static double distill_row(const st_distill_args *a, int64_t r, int32_t target, loss_sums whole,
                          loss_sums soft, loss_sums taught)
{
    float cool = 1.0f / a->temperature, pull = a->kl_scale * a->temperature;
    float hard_share = (float)((double)a->scale / whole.total);
    float soft_share = (float)((double)pull / soft.total);
    float taught_share = (float)((double)pull / taught.total);
    double total = 0;
    for (int64_t j = 0; j < a->width; j += BLOCK) {
        float bz[BLOCK], bt[BLOCK], out[BLOCK], share[BLOCK], far[BLOCK];
        int64_t n = at_most(a->width - j, BLOCK), at = r * st_or(a->stride, a->width) + j;
        const float *z = block_in(&a->logits, at, n, bz), *t = block_in(&a->teacher, at, n, bt);
        float *d = a->dlogits.data ? block_out(&a->dlogits, at, out) : out;
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            float below = z[i] - whole.top, wants = t[i] - taught.top;
            share[i] = fast_exp(wants * cool);
            far[i] = wants - below;
            d[i] = hard_share * fast_exp(below) + soft_share * fast_exp(below * cool) -
                   taught_share * share[i];
        }
        total += (double)sum_products(share, far, n);
        if (target >= j && target < j + n) d[target - j] -= a->scale;
        if (a->dlogits.data) block_done(&a->dlogits, at, n, d);
    }
    return total * (double)cool / taught.total - log(taught.total) + log(soft.total);
}

static void distill_nothing(const st_distill_args *a, int64_t r)
{
    size_t size = a->dlogits.data ? st_dtype_size(a->dlogits.dtype) : 0;
    char *row = (char *)a->dlogits.data + (size_t)(r * st_or(a->stride, a->width)) * size;
    if (size) memset(row, 0, (size_t)a->width * size);
    if (a->loss.data) ((float *)a->loss.data)[r] = 0;
    if (a->kl.data) ((float *)a->kl.data)[r] = 0;
}

void KERNEL(distill)(st_stream *q, const st_distill_args *a)
{
    const int32_t *targets = a->targets.data;
    float *loss = a->loss.data, *kl = a->kl.data, cool = 1.0f / a->temperature;
    if (!loss_targets_ok(q, "distill", targets, a->rows, a->width)) return;
    int parts = st_parts(q, a->rows * a->width * 8);
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t r = 0; r < a->rows; r++) {
        int64_t z0 = r * st_or(a->stride, a->width);
        if (targets[r] < 0) {
            distill_nothing(a, r);
            continue;
        }
        loss_sums whole = loss_row_sums(&a->logits, z0, a->width, 1.0f), soft = whole;
        if (a->temperature != 1.0f) soft = loss_row_sums(&a->logits, z0, a->width, cool);
        loss_sums taught = loss_row_sums(&a->teacher, z0, a->width, cool);
        double at_target = (double)scalar_in(&a->logits, z0 + targets[r]);
        if (loss) loss[r] = (float)(log(whole.total) - (at_target - (double)whole.top));
        double far = distill_row(a, r, targets[r], whole, soft, taught);
        if (kl) kl[r] = (float)far;
    }
}

/* One row's squared distance and the teacher's squared size. */
static void match_sums(const st_match_args *a, int64_t x0, double *far, double *size)
{
    *far = *size = 0;
    for (int64_t j = 0; j < a->width; j += BLOCK) {
        float bx[BLOCK], bt[BLOCK], d[BLOCK];
        int64_t n = at_most(a->width - j, BLOCK);
        const float *x = block_in(&a->x, x0 + j, n, bx), *t = block_in(&a->t, x0 + j, n, bt);
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            d[i] = x[i] - t[i];
        *far += (double)sum_products(d, d, n);
        *size += (double)sum_products(t, t, n);
    }
}

void KERNEL(match)(st_stream *q, const st_match_args *a)
{
    float *loss = a->loss.data;
    int parts = st_parts(q, a->rows * a->width * 2);
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t r = 0; r < a->rows; r++) {
        int64_t x0 = r * a->width;
        double far, size;
        match_sums(a, x0, &far, &size);
        double w = !a->relative ? 1.0 / (double)a->width : size > 0 ? 1.0 / size : 0.0;
        float slope = (float)(2.0 * (double)a->scale * w);
        if (loss) loss[r] += (float)(w * far);
        for (int64_t j = 0; j < a->width; j += BLOCK) {
            float bx[BLOCK], bt[BLOCK], bd[BLOCK], out[BLOCK];
            int64_t n = at_most(a->width - j, BLOCK), at = x0 + j;
            const float *x = block_in(&a->x, at, n, bx), *t = block_in(&a->t, at, n, bt);
            const float *old = block_in(&a->dx, at, n, bd);
            float *d = block_out(&a->dx, at, out);
#pragma omp simd
            for (int64_t i = 0; i < n; i++)
                d[i] = old[i] + slope * (x[i] - t[i]);
            block_done(&a->dx, at, n, d);
        }
    }
}
