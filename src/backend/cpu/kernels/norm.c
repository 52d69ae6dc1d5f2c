/* Layer normalisation, forward and backward (formulas: ref/norm.c), a row at a time. The gradients
 * of gain and bias sum over rows: each thread owns columns, so the order of the sum is fixed. */
/* SPDX-License-Identifier: MIT */
#include "backend/cpu/kernels/sums.h"

/* One row's mean (0 if rms) and 1 / sqrt(variance + eps), in two passes. */
static void norm_moments(const st_norm_fwd_args *a, int64_t x0, float *mean, float *rstd)
{
    float buf[BLOCK];
    double total = 0, squares = 0;
    for (int64_t j = 0; !a->rms && j < a->width; j += BLOCK) {
        int64_t n = at_most(a->width - j, BLOCK);
        total += (double)sum_of(block_in(&a->x, x0 + j, n, buf), n);
    }
    float m = *mean = (float)(total / (double)a->width);
    for (int64_t j = 0; j < a->width; j += BLOCK) {
        int64_t n = at_most(a->width - j, BLOCK);
        const float *x = block_in(&a->x, x0 + j, n, buf);
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < n; i++)
            sum += (x[i] - m) * (x[i] - m);
        squares += (double)sum;
    }
    *rstd = (float)(1.0 / sqrt(squares / (double)a->width + (double)a->eps));
}

static void norm_fwd_row(const st_norm_fwd_args *a, int64_t r)
{
    float bx[BLOCK], bg[BLOCK], bb[BLOCK], by[BLOCK], mean, rstd;
    int64_t x0 = r * a->width;
    norm_moments(a, x0, &mean, &rstd);
    for (int64_t j = 0; j < a->width; j += BLOCK) {
        int64_t n = at_most(a->width - j, BLOCK);
        const float *x = block_in(&a->x, x0 + j, n, bx), *gain = block_in(&a->gain, j, n, bg);
        const float *bias = a->rms ? NULL : block_in(&a->bias, j, n, bb);
        float *y = block_out(&a->y, x0 + j, by);
        if (!bias) {
#pragma omp simd
            for (int64_t i = 0; i < n; i++)
                y[i] = x[i] * rstd * gain[i];
        } else {
#pragma omp simd
            for (int64_t i = 0; i < n; i++)
                y[i] = (x[i] - mean) * rstd * gain[i] + bias[i];
        }
        block_done(&a->y, x0 + j, n, y);
    }
    if (a->mean.data) ((float *)a->mean.data)[r] = mean;
    if (a->rstd.data) ((float *)a->rstd.data)[r] = rstd;
}

void KERNEL(norm_fwd)(st_stream *q, const st_norm_fwd_args *a)
{
    int parts = st_parts(q, a->rows * a->width * 2);
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t r = 0; r < a->rows; r++)
        norm_fwd_row(a, r);
}

/* mean(d) and mean(d n) of a row: what its dx needs besides itself. */
static void norm_bwd_means(const st_norm_bwd_args *a, int64_t x0, float mean, float rstd,
                           float *mean_d, float *mean_dn)
{
    float bx[BLOCK], bg[BLOCK], bd[BLOCK];
    double sum_d = 0, sum_dn = 0;
    for (int64_t j = 0; j < a->width; j += BLOCK) {
        int64_t n = at_most(a->width - j, BLOCK);
        const float *x = block_in(&a->x, x0 + j, n, bx), *gain = block_in(&a->gain, j, n, bg);
        const float *dy = block_in(&a->dy, x0 + j, n, bd);
        float d = 0, dn = 0;
#pragma omp simd reduction(+ : d, dn)
        for (int64_t i = 0; i < n; i++) {
            float t = dy[i] * gain[i];
            d += t;
            dn += t * ((x[i] - mean) * rstd);
        }
        sum_d += (double)d;
        sum_dn += (double)dn;
    }
    *mean_d = a->rms ? 0.0f : (float)(sum_d / (double)a->width);
    *mean_dn = (float)(sum_dn / (double)a->width);
}

static void norm_bwd_row(const st_norm_bwd_args *a, int64_t r)
{
    float bx[BLOCK], bg[BLOCK], bd[BLOCK], bo[BLOCK], old[BLOCK], mean_d, mean_dn;
    int64_t x0 = r * a->width;
    float mean = a->rms ? 0.0f : ((const float *)a->mean.data)[r];
    float rstd = ((const float *)a->rstd.data)[r];
    norm_bwd_means(a, x0, mean, rstd, &mean_d, &mean_dn);
    for (int64_t j = 0; j < a->width; j += BLOCK) {
        int64_t n = at_most(a->width - j, BLOCK);
        const float *x = block_in(&a->x, x0 + j, n, bx), *gain = block_in(&a->gain, j, n, bg);
        const float *dy = block_in(&a->dy, x0 + j, n, bd);
        const float *add = a->accumulate ? block_in(&a->dx, x0 + j, n, old) : NULL;
        float *dx = block_out(&a->dx, x0 + j, bo);
        if (add) {
#pragma omp simd
            for (int64_t i = 0; i < n; i++) {
                float norm = (x[i] - mean) * rstd;
                dx[i] = add[i] + rstd * (dy[i] * gain[i] - mean_d - norm * mean_dn);
            }
        } else {
#pragma omp simd
            for (int64_t i = 0; i < n; i++) {
                float norm = (x[i] - mean) * rstd;
                dx[i] = rstd * (dy[i] * gain[i] - mean_d - norm * mean_dn);
            }
        }
        block_done(&a->dx, x0 + j, n, dx);
    }
}

enum { NORM_COLS = 64 };

/* dgain and dbias of columns [j, j + n), n <= NORM_COLS. */
static void norm_bwd_cols(const st_norm_bwd_args *a, int64_t j, int64_t n)
{
    float gain[NORM_COLS] = {0}, bias[NORM_COLS] = {0}, bx[NORM_COLS], bd[NORM_COLS];
    const float *mean = a->mean.data, *rstd = a->rstd.data;
    for (int64_t r = 0; r < a->rows; r++) {
        const float *x = block_in(&a->x, r * a->width + j, n, bx);
        const float *dy = block_in(&a->dy, r * a->width + j, n, bd);
        float m = a->rms ? 0.0f : mean[r], s = rstd[r];
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            gain[i] += dy[i] * ((x[i] - m) * s);
            bias[i] += dy[i];
        }
    }
    float *dgain = a->dgain.data, *dbias = a->dbias.data;
    for (int64_t i = 0; i < n && dgain; i++)
        dgain[j + i] += gain[i];
    for (int64_t i = 0; i < n && dbias; i++)
        dbias[j + i] += bias[i];
}

void KERNEL(norm_bwd)(st_stream *q, const st_norm_bwd_args *a)
{
    int parts = st_parts(q, a->rows * a->width * 4);
    int64_t stretches = (a->width + NORM_COLS - 1) / NORM_COLS;
    if (!a->dgain.data && !a->dbias.data) stretches = 0;
#pragma omp parallel num_threads(parts)
    {
        /* first, as dx may be dy's memory */
#pragma omp for schedule(static)
        for (int64_t s = 0; s < stretches; s++) {
            norm_bwd_cols(a, s * NORM_COLS, at_most(a->width - s * NORM_COLS, NORM_COLS));
        }
#pragma omp for schedule(static)
        for (int64_t r = 0; r < a->rows; r++)
            norm_bwd_row(a, r);
    }
}

/* dbias += column sums: each thread owns columns. */
void KERNEL(bias_grad)(st_stream *q, const st_bias_grad_args *a)
{
    int parts = st_parts(q, a->rows * a->width);
    int64_t stretches = (a->width + NORM_COLS - 1) / NORM_COLS;
    float *dbias = a->dbias.data;
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t s = 0; s < stretches; s++) {
        float sum[NORM_COLS] = {0}, buf[NORM_COLS];
        int64_t j = s * NORM_COLS, n = at_most(a->width - j, NORM_COLS);
        for (int64_t r = 0; r < a->rows; r++) {
            const float *dy = block_in(&a->dy, r * a->width + j, n, buf);
#pragma omp simd
            for (int64_t i = 0; i < n; i++)
                sum[i] += dy[i];
        }
        for (int64_t i = 0; i < n; i++)
            dbias[j + i] += sum[i];
    }
}
