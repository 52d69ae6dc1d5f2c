/* A trainer from settings: the model and where its weights come from, the plan of its memory, its
 * data. Everything that can fail for want of memory or of sense fails here, before the first step.
 */
/* SPDX-License-Identifier: MIT */
#include "train/inner.h"
#include <math.h>
#include <stdlib.h>

/* ---- memory ---------------------------------------------------------------------------------- */

/* Scratch of a micro-batch of `rows` rows in training, if it is more than *grad. */
static st_status trainer_less(st_trainer *t, int64_t rows, size_t *grad, st_err *e)
{
    st_lm_args a = st_micro_args(&t->micro, rows);
    size_t bytes = 0;
    st_teach teach;
    st_distill_scale(&t->lesson, rows * t->data.context, 1.0, &teach, &a);
    ST_TRY(st_model_plan(t->net.model, t->net.q, t->net.dtype, &a, true, &bytes, NULL, e));
    if (bytes > *grad) *grad = bytes;
    return ST_OK;
}

/* Scratch of a micro-batch in training and in validation; the last one of an epoch may be short. */
static st_status trainer_scratch(st_trainer *t, size_t *grad, size_t *eval, st_err *e)
{
    st_lm_args a = st_micro_args(&t->micro, t->data.rows);
    if (t->lesson.teach.teacher) a.teach = &t->lesson.teach;
    st_cost cost = {0};
    ST_TRY(st_model_plan(t->net.model, t->net.q, t->net.dtype, &a, false, eval, &cost, e));
    t->net.eval_macs = (double)cost.macs / (double)(t->data.rows * t->data.context);
    ST_TRY(st_model_plan(t->net.model, t->net.q, t->net.dtype, &a, true, grad, &cost, e));
    t->net.grad_macs = (double)cost.macs / (double)(t->data.rows * t->data.context);
    if (t->set->data.last < ST_LAST_SHORT) return ST_OK;
    int64_t unit = st_epoch_unit(&t->data);
    int64_t last = st_batch_windows(&t->data.train) % st_epoch_step(&t->data) % unit;
    const int64_t less[] = {unit % t->data.rows, last % t->data.rows};
    for (int i = 0; i < 2; i++)
        if (less[i]) ST_TRY(trainer_less(t, less[i], grad, e));
    return ST_OK;
}

static st_status trainer_memory(st_trainer *t, st_err *e)
{
    st_net *net = &t->net;
    size_t grad = 0, eval = 0, n = (size_t)net->elements, slack = 8 * ST_ALIGN;
    bool half = net->dtype != ST_F32, ema = t->set->train.ema > 0;
    ST_TRY(trainer_scratch(t, &grad, &eval, e));
    ST_TRY(st_device_arena(net->q, n * st_dtype_size(net->dtype) + slack, &net->weight_block, e));
    ST_TRY(st_device_arena(net->q, n * 4 + slack, &net->grad_block, e));
    ST_TRY(st_device_arena(net->q, n * (half ? 12 : 8) + slack, &net->optim_block, e));
    if (ema) ST_TRY(st_device_arena(net->q, n * 4 + slack, &net->ema_block, e));
    ST_TRY(st_device_arena(net->q, grad > eval ? grad : eval, &net->scratch, e));
    net->w = st_take1(&net->weight_block, net->dtype, net->elements);
    net->grad = st_take1(&net->grad_block, ST_F32, net->elements);
    net->m = st_take1(&net->optim_block, ST_F32, net->elements);
    net->v = st_take1(&net->optim_block, ST_F32, net->elements);
    if (half) net->master = st_take1(&net->optim_block, ST_F32, net->elements);
    if (ema) net->ema = st_take1(&net->ema_block, ST_F32, net->elements);
    return ST_OK;
}

/* Weights and moments to the device. */
static st_status trainer_begin(st_net *net, st_err *e)
{
    bool half = net->dtype != ST_F32;
    const st_ops *op = st_stream_ops(net->q);
    op->fill(net->q, &(st_fill_args){.x = net->m});
    op->fill(net->q, &(st_fill_args){.x = net->v});
    st_upload(net->q, half ? net->master : net->w, net->flat);
    if (half) op->copy(net->q, &(st_copy_args){.x = net->master, .y = net->w});
    st_model_bind(net->model, net->w, net->grad);
    st_groups_freeze(net);
    st_ema_start(net);
    return st_stream_sync(net->q, e);
}

st_trainer_bytes st_trainer_memory(const st_trainer *t)
{
    const st_net *n = &t->net;
    st_trainer_bytes b = {
        .weights = (int64_t)st_bytes(n->w),
        .gradients = (int64_t)st_bytes(n->grad),
        .optimizer = (int64_t)(st_bytes(n->m) + st_bytes(n->v)),
        .activations = (int64_t)n->scratch.cap + (int64_t)t->micro.block.cap,
        .teacher = (int64_t)t->lesson.block.cap,
        .staging = n->elements * 4,
    };
    if (n->master.data) b.optimizer += (int64_t)st_bytes(n->master);
    if (n->ema.data) b.average = (int64_t)st_bytes(n->ema);
    b.total =
        b.weights + b.gradients + b.optimizer + b.average + b.activations + b.teacher + b.staging;
    return b;
}

static void trainer_say(const st_trainer *t)
{
    const double mib = 1048576.0;
    st_trainer_bytes b = st_trainer_memory(t);
    double total = (double)b.total / mib, room = st_memory_free() / mib;
    if (st_stream_on_host(t->net.q) && total > room)
        st_log(ST_LOG_WARN,
               "training wants %.1f GiB, and %.1f GiB are free to use: the system may end it; a "
               "smaller train.micro_batch needs less and gives the same steps with the same "
               "train.tokens_per_step",
               total / 1024, room / 1024);
    st_log(ST_LOG_INFO,
           "memory: weights %.1f, gradients %.1f, optimizer %.1f, average %.1f, activations %.1f, "
           "teacher %.1f, staging %.1f; together %.1f MiB",
           (double)b.weights / mib, (double)b.gradients / mib, (double)b.optimizer / mib,
           (double)b.average / mib, (double)b.activations / mib, (double)b.teacher / mib,
           (double)b.staging / mib, total);
    const st_data *d = &t->data;
    st_log(
        ST_LOG_INFO,
        "%lld parameters, %s on %s; %lld tokens per step = micro_batch %lld x context %lld x %lld "
        "accumulated",
        (long long)t->net.parameters, st_dtype_name(t->net.dtype), st_stream_describe(t->net.q),
        (long long)(d->rows * d->context * d->accumulate), (long long)d->rows,
        (long long)d->context, (long long)d->accumulate);
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* What follows from the model's shape alone. */
static st_status trainer_plan(st_trainer *t, st_err *e)
{
    const st_settings *set = t->set;
    bool line = set->train.schedule == ST_LR_LINEAR;
    ST_TRY(st_data_sizes(&t->data, set, st_model_lm(t->net.model).context, e));
    t->pace = (st_pace){.set = set, .min_lr = set->train.min_lr};
    if (isnan(t->pace.min_lr)) t->pace.min_lr = line ? 0.0 : set->train.lr / 10.0;
    return st_groups_open(&t->net, &t->pace, e);
}

static st_status trainer_device(st_trainer *t, st_err *e)
{
    char place[256];
    st_status s = st_stream_open(&t->net.q, t->set->device, (int)t->set->threads, e);
    if (s == ST_EARG && e)
        st_err_prefix(e, "%s", st_set_place(t->set, "device", place, sizeof place));
    return s;
}

st_status st_trainer_open(st_trainer *t, const st_train_opts *o, st_err *e)
{
    const st_settings *set = o->set;
    *t = (st_trainer){
        .set = set,
        .disk = {.how = o->how, .out = o->dry ? NULL : set->out, .saved = -1},
        .net = {.dtype = (st_dtype)set->dtype},
        .state = {.evaluated = -1,
                  .best_step = -1,
                  .best_loss = INFINITY,
                  .val_loss = (double)NAN,
                  .stop_best = (double)NAN,
                  .loss = (double)NAN},
    };
    st_net *n = &t->net;
    st_data *d = &t->data;
    st_status s = t->disk.out ? st_ckpt_choose(set, &t->disk.resume, e) : ST_OK;
    if (!s) s = st_source_open(o, n, &t->disk, e);
    if (s == ST_EFORMAT && t->disk.resume) st_ckpt_hint(set, t->disk.resume, e);
    if (!s) s = trainer_plan(t, e);
    if (!s) s = trainer_device(t, e);
    if (!s) s = st_data_open(d, st_model_lm(n->model).vocab, e);
    if (!s) s = st_epoch_open(d, &t->pace, e);
    if (!s) s = st_stop_open(set, d->has_val, e);
    if (!s) s = st_micro_open(&t->micro, n->q, d->rows, d->context, e);
    if (!s) s = st_distill_open(&t->lesson, n, d, e);
    if (!s) s = trainer_memory(t, e);
    if (!s) trainer_say(t);
    if (!s) s = st_source_begin(o, n, &t->disk, e);
    if (!s) s = trainer_begin(n, e);
    if (!s && t->disk.resume) {
        s = st_ckpt_load(t, e);
        if (s == ST_EFORMAT || s == ST_ESHAPE) st_ckpt_hint(set, t->disk.resume, e);
    }
    if (!s) st_monitor_open(&t->watch.monitor, n);
    if (!s && !o->dry) s = st_record_open(t, e);
    return s;
}

st_status st_trainer_check(const st_settings *set, double *work, st_err *e)
{
    st_trainer t = {.set = set};
    char *resume = NULL;
    bool begun = st_ckpt_choose(set, &resume, NULL) || resume;
    free(resume);
    if (begun) e = NULL;
    st_status s = st_source_shape(set, &t.net, &t.disk, e);
    if (!s) s = trainer_plan(&t, e);
    if (!s) s = st_data_length(&t.data, e);
    if (!s) s = st_epoch_open(&t.data, &t.pace, e);
    double tokens = (double)(st_epoch_step(&t.data) * t.data.context);
    *work = s ? 0.0 : tokens * (double)t.pace.steps * (double)t.net.parameters;
    st_trainer_close(&t);
    return begun ? ST_OK : s;
}

static void trainer_close_net(st_net *n)
{
    st_arena *block[] = {&n->weight_block, &n->grad_block, &n->optim_block, &n->ema_block,
                         &n->scratch};
    for (int i = 0; n->q && i < 5; i++)
        st_device_arena_close(n->q, block[i]);
    st_stream_close(n->q);
    st_model_close(n->model);
    if (n->own) free(n->flat);
    free(n->range);
}

void st_trainer_close(st_trainer *t)
{
    st_metrics_close(&t->watch.metrics);
    st_norms_close(&t->watch);
    st_events_close(t->watch.board);
    json_decref(t->disk.warm);
    st_bpe_close(t->disk.own_tokenizer);
    free(t->disk.resume);
    st_data_close(&t->data);
    st_distill_close(&t->lesson, t->net.q);
    st_micro_close(&t->micro, t->net.q);
    trainer_close_net(&t->net);
    *t = (st_trainer){0};
}

struct trainer_finite {
    const float *flat;
    const char *bad; /* name of the first parameter that is not finite */
};

static void trainer_finite(void *ctx, const st_param *p)
{
    struct trainer_finite *f = ctx;
    int64_t n = st_numel(p->w), i = 0;
    while (!f->bad && i < n && isfinite(f->flat[p->offset + i]))
        i++;
    if (i < n && !f->bad) f->bad = p->name;
}

st_status st_trainer_weights(st_net *n, int64_t step, st_err *e)
{
    st_download(n->q, n->flat, n->ema.data ? n->ema : n->master.data ? n->master : n->w);
    ST_TRY(st_stream_sync(n->q, e));
    struct trainer_finite f = {.flat = n->flat};
    st_model_params(n->model, trainer_finite, &f);
    if (f.bad) {
        ST_FAIL(e, ST_EARG, "step %lld: %s is no longer finite; train again with a lower train.lr",
                (long long)step, f.bad);
    }
    return ST_OK;
}
