/* Layer normalisation: y = (x - mean) rstd gain + bias, rstd = 1 / sqrt(var + eps) (Ba et al.
 * 2016). With n = (x - mean) rstd and d = dy gain: dx = rstd (d - mean(d) - n mean(d n)). Where
 * rows keep their mean (rms), mean, bias and mean(d) are 0. */
/* SPDX-License-Identifier: MIT */
#include "backend/ref/ref.h"
#include <math.h>

void st_ref_norm_fwd(st_stream *q, const st_norm_fwd_args *a)
{
    (void)q;
    for (int64_t r = 0; r < a->rows; r++) {
        double mean = 0, var = 0;
        int64_t x0 = r * a->width;
        for (int64_t j = 0; j < a->width; j++)
            mean += (double)ref_load(&a->x, x0 + j);
        mean = a->rms ? 0 : mean / (double)a->width;
        for (int64_t j = 0; j < a->width; j++) {
            double d = (double)ref_load(&a->x, x0 + j) - mean;
            var += d * d;
        }
        double rstd = 1.0 / sqrt(var / (double)a->width + (double)a->eps);
        for (int64_t j = 0; j < a->width; j++) {
            double n = ((double)ref_load(&a->x, x0 + j) - mean) * rstd;
            double gain = (double)ref_load(&a->gain, j);
            double bias = a->rms ? 0 : (double)ref_load(&a->bias, j);
            ref_store(&a->y, x0 + j, n * gain + bias);
        }
        if (a->mean.data) ref_store(&a->mean, r, mean);
        if (a->rstd.data) ref_store(&a->rstd, r, rstd);
    }
}

static double norm_mean(const st_norm_bwd_args *a, int64_t r)
{
    return a->rms ? 0 : (double)ref_load(&a->mean, r);
}

/* dx of one row. */
static void norm_bwd_row(const st_norm_bwd_args *a, int64_t r)
{
    double mean = norm_mean(a, r), rstd = (double)ref_load(&a->rstd, r);
    double sum_d = 0, sum_dn = 0;
    int64_t x0 = r * a->width;
    for (int64_t j = 0; j < a->width; j++) {
        double n = ((double)ref_load(&a->x, x0 + j) - mean) * rstd;
        double d = (double)ref_load(&a->dy, x0 + j) * (double)ref_load(&a->gain, j);
        sum_d += d;
        sum_dn += d * n;
    }
    sum_d = a->rms ? 0 : sum_d / (double)a->width;
    sum_dn /= (double)a->width;
    for (int64_t j = 0; j < a->width; j++) {
        double n = ((double)ref_load(&a->x, x0 + j) - mean) * rstd;
        double d = (double)ref_load(&a->dy, x0 + j) * (double)ref_load(&a->gain, j);
        double dx = rstd * (d - sum_d - n * sum_dn);
        if (a->accumulate)
            ref_add(&a->dx, x0 + j, dx);
        else
            ref_store(&a->dx, x0 + j, dx);
    }
}

void st_ref_norm_bwd(st_stream *q, const st_norm_bwd_args *a)
{
    (void)q;
    /* The sums over rows first: dx may be dy's memory. */
    for (int64_t j = 0; j < a->width; j++) {
        double gain = 0, bias = 0;
        for (int64_t r = 0; r < a->rows; r++) {
            double dy = (double)ref_load(&a->dy, r * a->width + j);
            double x = (double)ref_load(&a->x, r * a->width + j);
            gain += dy * (x - norm_mean(a, r)) * (double)ref_load(&a->rstd, r);
            bias += dy;
        }
        if (a->dgain.data) ref_add(&a->dgain, j, gain);
        if (a->dbias.data) ref_add(&a->dbias, j, bias);
    }
    for (int64_t r = 0; r < a->rows; r++)
        norm_bwd_row(a, r);
}
