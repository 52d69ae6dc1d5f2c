/* One optimiser step: AdamW (Loshchilov & Hutter 2019) on gradients accumulated over micro-batches,
 * clipped by their global norm (Pascanu et al. 2013), after a schedule:
 *   g = sum over micro-batches of dL/dw, L the mean loss of all tokens of the step
 *   g = g min(1, clip / |g|)
 *   w = AdamW(w, g, lr(step)), for each range of parameters that are trained alike
 *   a = average of w, where one is kept
 * st_step is the page to read; what it calls stands above it. */
/* SPDX-License-Identifier: MIT */
#include "train/inner.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STEP_DROP_STREAM = 0xD20 };

/* Dropout of micro-batch `micro` of a step: its own number, whatever was drawn before. */
static uint64_t step_seed(const st_trainer *t, int64_t micro)
{
    /* Where data.micro cuts a step into more pieces than usual, these have streams of their own. */
    int64_t usual = t->data.accumulate;
    uint64_t more = (uint64_t)(micro / usual) << 16;
    st_philox_block b = st_philox((uint64_t)t->set->seed, STEP_DROP_STREAM + more,
                                  (uint64_t)(t->state.step * usual + micro % usual));
    return b.v[0] | (uint64_t)b.v[1] << 32;
}

/* Adds the gradients of piece `micro`, `rows` rows, of a step whose objective is a mean over
 * `tokens` of such tokens: tokens to the device, forward, backward, losses back. */
static void step_micro(st_trainer *t, int64_t micro, int64_t rows, double tokens)
{
    st_net *n = &t->net;
    double start = st_now();
    st_teach teach;
    st_batch_next(&t->data.train, rows, t->micro.host_ids, t->micro.host_targets);
    st_lm_args a = st_micro_upload(&t->micro, n->q, rows);
    st_monitor_data(&t->watch.monitor, start);
    st_distill_scale(&t->lesson, rows * t->data.context, tokens, &teach, &a);
    a.seed = step_seed(t, micro);
    st_model_grad(n->model, n->q, &a, &n->scratch);
    st_distill_add(&t->lesson, &t->micro, n->q, rows);
}

/* The gradients of `all` rows. Ctrl-C: ST_EINTR. */
static st_status step_gradients(st_trainer *t, int64_t all)
{
    const st_data *d = &t->data;
    int64_t unit = st_epoch_unit(d);
    double parts = (double)st_epoch_step(d) / (double)unit;
    st_stream_ops(t->net.q)->fill(t->net.q, &(st_fill_args){.x = t->net.grad});
    memset(t->lesson.part, 0, sizeof t->lesson.part);
    for (int64_t micro = 0, done = 0; done < all; micro++) {
        if (st_interrupted()) return ST_EINTR;
        /* What counts as one micro-batch ends with the step, or where the next begins. */
        int64_t end = (done / unit + 1) * unit, alike = unit;
        if (end > all) alike = all - (end - unit), end = all;
        int64_t rows = end - done < d->rows ? end - done : d->rows;
        step_micro(t, micro, rows, parts * (double)(alike * d->context));
        done += rows;
    }
    return ST_OK;
}

/* |g| of what is trained. The padding between parameters has no gradient, so without frozen ones
 * the block is summed whole. */
static double step_norm(const st_net *n, st_micro *b)
{
    const st_ops *op = st_stream_ops(n->q);
    op->fill(n->q, &(st_fill_args){.x = b->norm});
    if (!n->frozen) op->sumsq(n->q, &(st_sumsq_args){.x = n->grad, .out = b->norm});
    for (int64_t i = 0; n->frozen && i < n->ranges; i++) {
        const st_range *r = &n->range[i];
        if (r->group.frozen) continue;
        op->sumsq(n->q, &(st_sumsq_args){.x = st_slice(n->grad, r->offset, r->n), .out = b->norm});
    }
    return sqrt(st_micro_norm(b, n->q));
}

/* Of a block on the host: how many tensors are not finite, the last of these in the order of the
 * network, and the tensor with the largest number. */
typedef struct {
    const float *flat;
    int64_t bad, all;
    const char *last, *largest;
    float most;
} step_seen;

static void step_see(void *ctx, const st_param *p)
{
    step_seen *s = ctx;
    int64_t n = st_numel(p->w), bad = 0;
    for (int64_t i = 0; i < n; i++) {
        float x = fabsf(s->flat[p->offset + i]);
        bad += !isfinite(x);
        if (!(x > s->most)) continue;
        s->most = x;
        s->largest = p->name;
    }
    s->all++;
    s->bad += bad > 0;
    if (bad) s->last = p->name;
}

/* Where it may have begun: if the loss is finite, in the backward pass, at the last gradient of the
 * network that is not; else where weights are largest. The weights on the host are lost. */
static void step_blame(const st_net *n, double loss, char out[200])
{
    st_tensor from = isfinite(loss) ? n->grad : n->master.data ? n->master : n->w;
    int64_t all = st_numel(from);
    void *raw = malloc((size_t)all * st_dtype_size(from.dtype));
    step_seen s = {.flat = n->flat};
    out[0] = '\0';
    if (raw) st_download(n->q, raw, from);
    if (raw && !st_stream_sync(n->q, NULL)) {
        st_convert(n->flat, ST_F32, raw, from.dtype, all);
        st_model_params(n->model, step_see, &s);
    }
    free(raw);
    if (isfinite(loss) && s.bad) {
        snprintf(out, 200,
                 "; of %lld gradients %lld are not finite, nearest to the loss that of %.80s",
                 (long long)s.all, (long long)s.bad, s.last);
    } else if (!isfinite(loss) && s.largest) {
        snprintf(out, 200, "; the largest weight, %g, is in %.80s", (double)s.most, s.largest);
    }
}

static st_status step_stop_nan(const st_trainer *t, double loss, st_err *e)
{
    const st_disk *disk = &t->disk;
    double lr = st_pace_lr(&t->pace, t->state.step);
    char saved[96] = "no checkpoint was written yet", blame[200];
    step_blame(&t->net, loss, blame);
    if (disk->saved >= 0) {
        snprintf(saved, sizeof saved, "the last good checkpoint is ckpt/last of step %lld",
                 (long long)disk->saved);
    }
    ST_FAIL(
        e, ST_EARG,
        "step %lld: the loss is %g and the gradient norm %g, expected finite numbers (lr %g)%s; "
        "training stopped before the update and %s%s%s; try a lower train.lr, a longer "
        "train.warmup or a smaller train.clip",
        (long long)t->state.step + 1, loss, t->net.grad_norm, lr, blame, saved,
        disk->out ? " in " : "", disk->out ? disk->out : "");
}

/* w of every range that is trained, from gradients times `scale`; step: of this update, from 1. */
static void step_adamw(const st_net *n, const st_pace *p, double scale, int64_t step)
{
    const st_settings *s = p->set;
    for (int64_t i = 0; i < n->ranges; i++) {
        const st_range *r = &n->range[i];
        if (r->group.frozen) continue;
        st_adamw_args a = {.w = st_slice(n->w, r->offset, r->n),
                           .grad = st_slice(n->grad, r->offset, r->n),
                           .m = st_slice(n->m, r->offset, r->n),
                           .v = st_slice(n->v, r->offset, r->n),
                           .lr = (float)st_group_lr(p, &r->group, step - 1),
                           .beta1 = (float)s->train.beta1,
                           .beta2 = (float)s->train.beta2,
                           .eps = (float)s->train.eps,
                           .decay = (float)r->group.decay,
                           .grad_scale = (float)scale,
                           .step = step};
        if (n->master.data) a.master = st_slice(n->master, r->offset, r->n);
        st_stream_ops(n->q)->adamw(n->q, &a);
    }
}

st_status st_step(st_trainer *t, st_err *e)
{
    st_net *n = &t->net;
    st_train_state *now = &t->state;

    /* Gradients, a micro-batch at a time. Ctrl-C puts the cursor back: the step was never taken. */
    int64_t drawn = t->data.train.drawn, rows = st_epoch_rows(&t->data);
    if (step_gradients(t, rows)) {
        t->data.train.drawn = drawn;
        return ST_EINTR;
    }

    /* Their norm, and the loss. What is not finite updates nothing. */
    n->grad_norm = step_norm(n, &t->micro);
    double loss = st_distill_loss(&t->lesson, (double)(rows * t->data.context));
    ST_TRY(st_stream_sync(n->q, e));
    if (!isfinite(loss) || !isfinite(n->grad_norm)) return step_stop_nan(t, loss, e);
    ST_TRY(st_norms_row(&t->watch, t->set, n, now->step + 1, e));

    /* Clipped as PyTorch's clip_grad_norm_ does. */
    double clip = t->set->train.clip, scale = 1.0;
    if (clip > 0 && n->grad_norm > clip) scale = clip / (n->grad_norm + 1e-6);

    step_adamw(n, &t->pace, scale, now->step + 1);
    now->step++;
    now->loss = loss;
    st_ema_update(n, t->set, &now->averaged);
    return st_stream_sync(n->q, e);
}
