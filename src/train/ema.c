/* An exponential moving average of the weights (Polyak & Juditsky 1992; fly's EMA callback):
 *   a <- a + (1 - d)(w - a), d = train.ema, or min(train.ema, (1 + t) / (10 + t)) in step t
 * in float32, of the master weights where there are some. It is what is validated and what a
 * checkpoint's model.safetensors holds; the weights in training are then in state.safetensors. */
/* SPDX-License-Identifier: MIT */
#include "train/inner.h"

static st_tensor ema_source(const st_trainer *t)
{
    return t->master.data ? t->master : t->w;
}

void st_ema_start(st_trainer *t)
{
    if (!t->ema.data) return;
    st_stream_ops(t->q)->copy(t->q, &(st_copy_args){.x = ema_source(t), .y = t->ema});
    t->state.averaged = 0;
}

void st_ema_update(st_trainer *t)
{
    if (!t->ema.data) return;
    double n = (double)++t->state.averaged, d = t->set->train.ema, most = (1.0 + n) / (10.0 + n);
    if (t->set->train.ema_warmup == 1 && d > most) d = most;
    st_stream_ops(t->q)->average(
        t->q, &(st_average_args){.x = ema_source(t), .mean = t->ema, .rate = (float)(1.0 - d)});
}

/* In float32 the model reads the average where it is; in bfloat16 w, which is the rounded master
 * copy, holds the rounded average meanwhile. */
void st_ema_bind(st_trainer *t, bool on)
{
    if (!t->ema.data) return;
    if (t->master.data) {
        st_tensor from = on ? t->ema : t->master;
        st_stream_ops(t->q)->copy(t->q, &(st_copy_args){.x = from, .y = t->w});
        return;
    }
    st_model_bind(t->model, on ? t->ema : t->w, t->grad);
    st_groups_freeze(t);
}
