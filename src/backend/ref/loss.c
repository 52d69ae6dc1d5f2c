/* Cross entropy of a softmax over each row: loss = logsumexp(z) - z[target],
 * dz = scale (softmax(z) - onehot(target)). Rows with target < 0 count for nothing. */
/* SPDX-License-Identifier: MIT */
#include "backend/ref/ref.h"
#include <math.h>

static void loss_row(const st_xent_args *a, int64_t r, int32_t target)
{
    int64_t z0 = r * a->width;
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
