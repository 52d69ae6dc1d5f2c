/* Learning rates: nanoGPT's warm-up + cosine, fly's warm-up + linear, constant. With s the step
 * from 0, W = warmup, D = decay_steps:
 *   s < W    lr s / W, or (nanoGPT since its change 578, December 2024) lr (s + 1) / (W + 1)
 *   s > D    min
 *   cosine   min + (lr - min) (1 + cos(pi (s - W) / (D - W))) / 2
 *   linear   min + (lr - min) (D - s) / (D - W) */
/* SPDX-License-Identifier: MIT */
#include "train/train.h"
#include <math.h>

double st_lr(const st_lr_curve *c, int64_t step, double lr, double min_lr)
{
    int64_t more = c->start == ST_WARMUP_STEP, warmup = c->warmup, end = c->decay_steps;
    if (step < warmup) return lr * (double)(step + more) / (double)(warmup + more);
    if (c->kind == ST_LR_CONSTANT) return lr;
    if (step > end) return min_lr;
    if (end <= warmup) return lr; /* step == warmup == decay_steps: nothing to decay over */
    double done = (double)(step - warmup) / (double)(end - warmup);
    double left =
        c->kind == ST_LR_LINEAR ? 1.0 - done : 0.5 * (1.0 + cos(3.141592653589793 * done));
    return min_lr + left * (lr - min_lr);
}
