/* Cross entropy of a softmax over each row: loss = logsumexp(z) - z[target],
 * dz = scale (softmax(z) - onehot(target)). Rows with target < 0 count for nothing. And what is
 * learnt from a teacher: its probabilities (Hinton et al. 2015), its states (Romero et al. 2015).
 */
/* SPDX-License-Identifier: MIT */
#include "backend/ref/ref.h"
#include <math.h>

static void loss_row(const st_xent_args *a, int64_t r, int32_t target)
{
    int64_t z0 = r * st_or(a->stride, a->width);
    double top = -INFINITY, total = 0;
    for (int64_t j = 0; j < a->width; j++)
        top = fmax(top, (double)ref_load(&a->logits, z0 + j));
    for (int64_t j = 0; j < a->width; j++) {
        total += exp((double)ref_load(&a->logits, z0 + j) - top);
    }
    double lse = top + log(total);
    if (a->loss.data) {
        ref_store(&a->loss, r, target < 0 ? 0 : lse - (double)ref_load(&a->logits, z0 + target));
    }
    if (!a->dlogits.data) return;
    for (int64_t j = 0; j < a->width; j++) {
        double p = exp((double)ref_load(&a->logits, z0 + j) - lse) - (j == target ? 1.0 : 0.0);
        ref_store(&a->dlogits, z0 + j, target < 0 ? 0 : (double)a->scale * p);
    }
}

void st_ref_xent(st_stream *q, const st_xent_args *a)
{
    const int32_t *targets = a->targets.data;
    for (int64_t r = 0; r < a->rows; r++) {
        if (targets[r] >= a->width) {
            st_stream_latch(q, ST_EARG, "xent", "a target id is not below the number of classes");
            return;
        }
    }
    for (int64_t r = 0; r < a->rows; r++)
        loss_row(a, r, targets[r]);
}

/* log sum_j e^(x[j] / temperature) */
static double loss_lse(const st_tensor *x, int64_t at, int64_t width, double temperature)
{
    double top = -INFINITY, total = 0;
    for (int64_t j = 0; j < width; j++)
        top = fmax(top, (double)ref_load(x, at + j) / temperature);
    for (int64_t j = 0; j < width; j++)
        total += exp((double)ref_load(x, at + j) / temperature - top);
    return top + log(total);
}

static void distill_row(const st_distill_args *a, int64_t r, int32_t target)
{
    int64_t z0 = r * st_or(a->stride, a->width);
    double temp = (double)a->temperature, kl = 0, lse = loss_lse(&a->logits, z0, a->width, 1.0);
    double lse_z = loss_lse(&a->logits, z0, a->width, temp);
    double lse_t = loss_lse(&a->teacher, z0, a->width, temp);
    if (a->loss.data) {
        ref_store(&a->loss, r, target < 0 ? 0 : lse - (double)ref_load(&a->logits, z0 + target));
    }
    for (int64_t j = 0; j < a->width; j++) {
        double z = (double)ref_load(&a->logits, z0 + j);
        double log_p = z / temp - lse_z,
               log_t = (double)ref_load(&a->teacher, z0 + j) / temp - lse_t;
        double d = (double)a->scale * (exp(z - lse) - (j == target ? 1.0 : 0.0));
        d += (double)a->kl_scale * temp * (exp(log_p) - exp(log_t));
        kl += exp(log_t) * (log_t - log_p);
        if (a->dlogits.data) ref_store(&a->dlogits, z0 + j, target < 0 ? 0 : d);
    }
    if (a->kl.data) ref_store(&a->kl, r, target < 0 ? 0 : kl);
}

void st_ref_distill(st_stream *q, const st_distill_args *a)
{
    const int32_t *targets = a->targets.data;
    for (int64_t r = 0; r < a->rows; r++) {
        if (targets[r] >= a->width) {
            st_stream_latch(q, ST_EARG, "distill",
                            "a target id is not below the number of classes");
            return;
        }
    }
    for (int64_t r = 0; r < a->rows; r++)
        distill_row(a, r, targets[r]);
}

void st_ref_match(st_stream *q, const st_match_args *a)
{
    (void)q;
    for (int64_t r = 0; r < a->rows; r++) {
        int64_t x0 = r * a->width;
        double far = 0, size = 0;
        for (int64_t j = 0; j < a->width; j++) {
            double t = (double)ref_load(&a->t, x0 + j), d = (double)ref_load(&a->x, x0 + j) - t;
            far += d * d;
            size += t * t;
        }
        double w = !a->relative ? 1.0 / (double)a->width : size > 0 ? 1.0 / size : 0.0;
        if (a->loss.data) ref_add(&a->loss, r, w * far);
        for (int64_t j = 0; j < a->width; j++) {
            double d = (double)ref_load(&a->x, x0 + j) - (double)ref_load(&a->t, x0 + j);
            ref_add(&a->dx, x0 + j, 2.0 * (double)a->scale * w * d);
        }
    }
}
