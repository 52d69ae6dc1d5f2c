/* Learning rates: nanoGPT's warm-up + cosine, fly's warm-up + linear, constant. With s the step
 * from 0, W = warmup, D = decay_steps:
 *   s < W    lr s / W
 *   s > D    min
 *   cosine   min + (lr - min) (1 + cos(pi (s - W) / (D - W))) / 2
 *   linear   min + (lr - min) (D - s) / (D - W) */
/* SPDX-License-Identifier: MIT */
#include "train/train.h"
#include <math.h>

double st_lr(st_lr_schedule kind, int64_t step, double lr, double min_lr, int64_t warmup,
             int64_t decay_steps)
{
    if (step < warmup) return lr * (double)step / (double)warmup;
    if (kind == ST_LR_CONSTANT) return lr;
    if (step > decay_steps) return min_lr;
    if (decay_steps <= warmup) return lr; /* step == warmup == decay_steps: nothing to decay over */
    double done = (double)(step - warmup) / (double)(decay_steps - warmup);
    double left = kind == ST_LR_LINEAR ? 1.0 - done : 0.5 * (1.0 + cos(3.141592653589793 * done));
    return min_lr + left * (lr - min_lr);
}
