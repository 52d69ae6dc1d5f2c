/* An exponential moving average of the weights (Polyak & Juditsky 1992; fly's EMA callback):
 *   a <- a + (1 - d)(w - a), d = train.ema, or min(train.ema, (1 + t) / (10 + t)) in step t
 * in float32, of the master weights where there are some. It is what is validated and what a
 * checkpoint's model.safetensors holds; the weights in training are then in state.safetensors. */
/* SPDX-License-Identifier: MIT */
#include "train/inner.h"

static st_tensor ema_source(const st_net *n)
{
    return n->master.data ? n->master : n->w;
}

void st_ema_start(st_net *n)
{
    if (!n->ema.data) return;
    st_stream_ops(n->q)->copy(n->q, &(st_copy_args){.x = ema_source(n), .y = n->ema});
}

void st_ema_update(st_net *n, const st_settings *set, int64_t *averaged)
{
    if (!n->ema.data) return;
    double k = (double)++*averaged, d = set->train.ema, most = (1.0 + k) / (10.0 + k);
    if (set->train.ema_warmup == 1 && d > most) d = most;
    st_stream_ops(n->q)->average(
        n->q, &(st_average_args){.x = ema_source(n), .mean = n->ema, .rate = (float)(1.0 - d)});
}

/* In float32 the model reads the average where it is; in bfloat16 w, which is the rounded master
 * copy, holds the rounded average meanwhile. */
void st_ema_bind(st_net *n, bool on)
{
    if (!n->ema.data) return;
    if (n->master.data) {
        st_tensor from = on ? n->ema : n->master;
        st_stream_ops(n->q)->copy(n->q, &(st_copy_args){.x = from, .y = n->w});
        return;
    }
    st_model_bind(n->model, on ? n->ema : n->w, n->grad);
    st_groups_freeze(n);
}
