/* Training: AdamW (Loshchilov & Hutter 2019) on gradients accumulated over micro-batches, clipped
 * by their global norm (Pascanu et al. 2013), after a schedule. One optimiser step:
 *   g = sum over micro-batches of dL/dw, L the mean loss of all tokens of the step
 *   g = g min(1, clip / |g|)
 *   w = AdamW(w, g, lr(step))
 * Between steps: validation, checkpoints, Ctrl-C. A step is a function of weights, moments, step
 * number and data cursor alone, so a resumed run repeats the bits of an uninterrupted one. */
/* SPDX-License-Identifier: MIT */
#include "train/inner.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TRAIN_DROP_STREAM = 0xD20, TRAIN_LINE = 160 };

/* ---- one step -------------------------------------------------------------------------------- */

/* Dropout of micro-batch `micro` of a step: its own number, whatever was drawn before. */
static uint64_t train_seed(const st_trainer *t, int64_t micro)
{
    /* Where data.micro cuts a step into more pieces than usual, these have streams of their own. */
    uint64_t more = (uint64_t)(micro / t->accumulate) << 16;
    st_philox_block b =
        st_philox((uint64_t)t->set->seed, TRAIN_DROP_STREAM + more,
                  (uint64_t)(t->state.step * t->accumulate + micro % t->accumulate));
    return b.v[0] | (uint64_t)b.v[1] << 32;
}

st_lm_args st_trainer_upload(st_trainer *t, int64_t rows)
{
    st_lm_args a = {.batch = rows,
                    .len = t->context,
                    .ids = st_rows(t->ids, 0, rows),
                    .targets = st_rows(t->targets, 0, rows),
                    .loss = st_slice(t->loss, 0, rows * t->context)};
    st_upload(t->q, a.ids, t->host_ids);
    st_upload(t->q, a.targets, t->host_targets);
    return a;
}

double st_trainer_sum(st_trainer *t, st_tensor x, int64_t rows)
{
    double sum = 0;
    int64_t n = rows * t->context;
    st_download(t->q, t->host_loss, st_slice(x, 0, n));
    for (int64_t i = 0; i < n; i++)
        sum += (double)t->host_loss[i];
    return sum;
}

/* |g|^2 of what is trained. The padding between parameters has no gradient, so without frozen ones
 * the block is summed whole. */
static void train_norm(st_trainer *t)
{
    const st_ops *op = st_stream_ops(t->q);
    op->fill(t->q, &(st_fill_args){.x = t->norm});
    if (!t->frozen) {
        op->sumsq(t->q, &(st_sumsq_args){.x = t->grad, .out = t->norm});
        return;
    }
    for (int64_t i = 0; i < t->ranges; i++) {
        const st_range *r = &t->range[i];
        if (r->group.frozen) continue;
        op->sumsq(t->q, &(st_sumsq_args){.x = st_slice(t->grad, r->offset, r->n), .out = t->norm});
    }
}

/* Adds the gradients of piece `micro`, `rows` rows, of a step whose objective is a mean over
 * `tokens` of such tokens. */
static void train_micro(st_trainer *t, int64_t micro, int64_t rows, double tokens)
{
    double start = st_now();
    st_batch_next(&t->train, rows, t->host_ids, t->host_targets);
    st_lm_args a = st_trainer_upload(t, rows);
    st_monitor_data(t, start);
    a.grad_scale = st_distill_ce(t, tokens);
    a.seed = train_seed(t, micro);
    st_teach teach;
    if (t->teach.teacher) {
        teach = st_distill_teach(t, rows, tokens);
        a.teach = &teach;
    }
    st_model_grad(t->model, t->q, &a, &t->scratch);
    t->part[PART_CE] += st_trainer_sum(t, t->loss, rows);
    st_distill_sums(t, rows);
}

/* Gradients of one optimiser step; *loss is the mean over its tokens. Ctrl-C puts the cursor back:
 * the step was never taken. */
static st_status train_gradients(st_trainer *t, double *loss, st_err *e)
{
    int64_t drawn = t->train.drawn, all = st_epoch_rows(t), unit = st_epoch_unit(t);
    double parts = (double)(t->rows * t->accumulate) / (double)unit;
    const st_ops *op = st_stream_ops(t->q);
    op->fill(t->q, &(st_fill_args){.x = t->grad});
    memset(t->part, 0, sizeof t->part);
    for (int64_t micro = 0, done = 0; done < all; micro++) {
        if (st_interrupted()) {
            t->train.drawn = drawn;
            return ST_EINTR;
        }
        /* What counts as one micro-batch ends with the step, or where the next begins. */
        int64_t end = (done / unit + 1) * unit, alike = unit;
        if (end > all) alike = all - (end - unit), end = all;
        int64_t rows = end - done < t->rows ? end - done : t->rows;
        train_micro(t, micro, rows, parts * (double)(alike * t->context));
        done += rows;
    }
    for (int i = 0; i < ST_PARTS_OF_LOSS; i++)
        t->part[i] /= (double)(all * t->context);
    float square = 0;
    train_norm(t);
    st_download(t->q, &square, t->norm);
    t->grad_norm = sqrt((double)square);
    *loss = st_distill_loss(t);
    return st_stream_sync(t->q, e);
}

static double train_lr(const st_trainer *t)
{
    const st_settings *s = t->set;
    return st_lr((st_lr_schedule)s->train.schedule, t->state.step, s->train.lr, t->min_lr,
                 t->warmup, t->decay_steps);
}

static void train_update(st_trainer *t)
{
    const st_settings *s = t->set;
    double scale = 1.0;
    if (s->train.clip > 0 && t->grad_norm > s->train.clip)
        scale = s->train.clip / (t->grad_norm + 1e-6); /* PyTorch's clip_grad_norm_ */
    for (int64_t i = 0; i < t->ranges; i++) {
        const st_range *r = &t->range[i];
        if (r->group.frozen) continue;
        st_adamw_args a = {.w = st_slice(t->w, r->offset, r->n),
                           .grad = st_slice(t->grad, r->offset, r->n),
                           .m = st_slice(t->m, r->offset, r->n),
                           .v = st_slice(t->v, r->offset, r->n),
                           .lr = (float)st_group_lr(t, &r->group),
                           .beta1 = (float)s->train.beta1,
                           .beta2 = (float)s->train.beta2,
                           .eps = (float)s->train.eps,
                           .decay = (float)r->group.decay,
                           .grad_scale = (float)scale,
                           .step = t->state.step + 1};
        if (t->master.data) a.master = st_slice(t->master, r->offset, r->n);
        st_stream_ops(t->q)->adamw(t->q, &a);
    }
}

static st_status train_stop_nan(const st_trainer *t, double loss, double lr, st_err *e)
{
    char saved[96] = "no checkpoint was written yet";
    if (t->saved >= 0) {
        snprintf(saved, sizeof saved, "the last good checkpoint is ckpt/last of step %lld",
                 (long long)t->saved);
    }
    ST_FAIL(e, ST_EARG,
            "step %lld: the loss is %g and the gradient norm %g, expected finite numbers (lr %g); "
            "training stopped before the update and %s%s%s; try a lower train.lr, a longer "
            "train.warmup or a smaller train.clip",
            (long long)t->state.step + 1, loss, t->grad_norm, lr, saved, t->out ? " in " : "",
            t->out ? t->out : "");
}

/* ---- between steps --------------------------------------------------------------------------- */

static bool train_due(int64_t step, int64_t every, int64_t last)
{
    return every > 0 && (step % every == 0 || step == last);
}

static bool train_over(const st_trainer *t)
{
    return t->state.stopped || t->state.step >= t->steps;
}

/* Whether `step` is to have a checkpoint of its own beside `last`. */
static bool train_wants(const st_trainer *t, const char *kind, bool due)
{
    int64_t step = t->state.step;
    return due && (t->saved != step || !st_ckpt_there(t, kind, step));
}

/* Validation and checkpoints that belong to the state after `step` steps. */
static st_status train_between(st_trainer *t, st_err *e)
{
    const st_settings *s = t->set;
    st_train_state *now = &t->state;
    unsigned what = 0;
    if (t->has_val && now->evaluated < now->step && train_due(now->step, s->eval.every, t->steps)) {
        ST_TRY(st_validate(t, e));
        bool best = now->step > 0 && now->val_loss < now->best_loss &&
                    !(now->val_loss >= s->ckpt.best_below); /* NAN: no bound */
        if (best) {
            now->best_loss = now->val_loss;
            now->best_step = now->step;
        }
        if (best && s->ckpt.best) what |= ST_CKPT_BEST;
        if (now->step > 0 && st_rank_enter(t)) what |= ST_CKPT_TOP;
        st_stop_check(t);
    }
    if (!t->out || now->step == 0) return ST_OK;
    bool due = train_due(now->step, s->ckpt.every, t->steps) || train_over(t);
    if (train_wants(t, "step", due && s->ckpt.keep > 0)) what |= ST_CKPT_STEP;
    int64_t every = s->ckpt.progress_every;
    if (train_wants(t, "progress", every > 0 && now->step % every == 0)) what |= ST_CKPT_PROGRESS;
    bool there = t->saved == now->step, saved = there && t->saved_evaluated == now->evaluated;
    if (!what && (saved || (!due && !there))) return ST_OK;
    return st_ckpt_save(t, what, e);
}

static st_status train_log(st_trainer *t, double lr, st_err *e)
{
    int64_t step = t->state.step, tokens = st_epoch_tokens(t);
    double since = t->state.seconds - t->logged_seconds;
    double speed = since > 0 ? (double)(tokens - t->logged_tokens) / since : 0;
    char detail[TRAIN_LINE], parts[TRAIN_LINE / 2] = "";
    if (t->teach.teacher) {
        snprintf(parts, sizeof parts, " (ce %.4f, kl %.4f, hidden %.4f)", t->part[PART_CE],
                 t->part[PART_KL], t->part[PART_HIDDEN]);
    }
    snprintf(detail, sizeof detail, "loss %.4f%s, lr %.2e, norm %.2f, %.0f tokens/s", t->state.loss,
             parts, lr, t->grad_norm, speed);
    st_report(&(st_progress){.what = "train",
                             .done = step,
                             .total = t->steps,
                             .unit = "steps",
                             .detail = detail,
                             .last = step == t->steps});
    if (step != 1 && !train_due(step, t->set->log.every, t->steps)) return ST_OK;
    st_metric row = {.step = step,
                     .tokens = tokens,
                     .loss = t->state.loss,
                     .lr = lr,
                     .grad_norm = t->grad_norm,
                     .tokens_per_second = speed,
                     .seconds = t->state.seconds,
                     .val_loss = (double)NAN,
                     .more = st_monitor_values(t, speed)};
    memcpy(row.part, t->part, sizeof row.part);
    t->logged_tokens = tokens;
    t->logged_seconds = t->state.seconds;
    ST_TRY(st_board_row(t, &row, e));
    return st_metrics_add(&t->metrics, &row, e);
}

static st_status train_step(st_trainer *t, st_err *e)
{
    double start = st_now(), loss = 0, lr = train_lr(t), epoch = st_epoch_done(t);
    st_monitor_begin(t);
    ST_TRY(train_gradients(t, &loss, e));
    if (!isfinite(loss) || !isfinite(t->grad_norm)) return train_stop_nan(t, loss, lr, e);
    ST_TRY(st_norms_row(t, e));
    train_update(t);
    t->state.step++;
    st_ema_update(t);
    ST_TRY(st_stream_sync(t->q, e));
    t->state.loss = loss;
    st_stop_step(t);
    t->state.drawn = t->train.drawn;
    t->state.seconds += st_now() - start;
    st_monitor_end(t, epoch);
    return train_log(t, lr, e);
}

/* Ctrl-C: what was done is saved, and the message says how to go on. */
static st_status train_interrupted(st_trainer *t, st_err *e)
{
    long long step = t->state.step;
    if (t->out && step > 0 && t->saved != step) ST_TRY(st_ckpt_save(t, 0, e));
    if (!t->out || step == 0)
        ST_FAIL(e, ST_EINTR, "interrupted after %lld steps; nothing was saved", step);
    ST_FAIL(
        e, ST_EINTR,
        "interrupted; %s/ckpt/last holds step %lld of %lld: run the same command again to go on",
        t->out, step, (long long)t->steps);
}

static st_status train_loop(st_trainer *t, st_err *e)
{
    if (t->out && t->resume) ST_TRY(st_ckpt_repair(t, e));
    if (t->state.stopped) return ST_OK;
    for (;;) {
        st_status s = st_interrupted() ? ST_EINTR : train_between(t, e);
        if (!s && train_over(t)) return ST_OK;
        st_monitor_away(t);
        if (t->warm_steps > 0 && --t->warm_steps == 0 && !s) s = st_stream_profile(t->q, true, e);
        if (!s) s = train_step(t, e);
        if (s == ST_EINTR) return train_interrupted(t, e);
        if (s) return s;
    }
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* Whoever looks for ckpt/best should know why there is none. */
static void train_no_best(const st_trainer *t)
{
    double below = t->set->ckpt.best_below;
    if (!t->out || !t->set->ckpt.best || !t->has_val || t->state.best_step > 0 || isnan(below))
        return;
    if (!isfinite(t->state.val_loss)) return;
    st_log(ST_LOG_WARN,
           "no ckpt/best: no validation loss was below ckpt.best_below = %.6g (the last is %.4f); "
           "ckpt/last has the weights",
           below, t->state.val_loss);
}

static st_status train_whole(st_trainer *t, const st_train_opts *o, json_t **result, st_err *e)
{
    json_t *plan = o->begun ? st_result_plan(t) : NULL, *test = NULL;
    if (plan) o->begun(o->ctx, plan);
    json_decref(plan);
    t->warm_steps = o->profile ? 3 : 0;
    st_status s = train_loop(t, e);
    if (!s) train_no_best(t);
    if (!s && o->model) s = st_trainer_weights(t, e);
    if (!s && t->has_test) s = st_train_test(t, &test, e);
    if (!s || s == ST_EINTR) {
        *result = st_result(t, test, s == ST_EINTR);
        st_status written = *result ? st_result_write(t, *result, s ? NULL : e)
                                    : ST_ERR(s ? NULL : e, ST_ENOMEM, "train: out of memory");
        if (!s) s = written;
    }
    if (s && s != ST_EINTR) {
        json_decref(*result);
        *result = NULL;
    }
    json_decref(test);
    return s;
}

st_status st_train_run(const st_train_opts *o, json_t **result, st_err *e)
{
    st_trainer t;
    *result = NULL;
    st_status s = st_trainer_open(&t, o, e);
    if (!s && t.state.stopped) {
        char text[ST_STOP_TEXT];
        st_stop_text(&t, text);
        st_log(ST_LOG_WARN, "%s is complete: step %lld, %s; ckpt.resume=yes goes on with it", t.out,
               (long long)t.state.step, text);
    } else if (!s && t.state.step >= t.steps && t.resume) {
        st_log(ST_LOG_WARN, "%s is complete at step %lld; a larger train.steps goes on with it",
               t.out, (long long)t.state.step);
    }
    if (!s && o->dry) {
        *result = st_result_plan(&t);
        if (!*result) s = ST_ERR(e, ST_ENOMEM, "train: out of memory");
    } else if (!s) {
        s = train_whole(&t, o, result, e);
    }
    st_trainer_close(&t);
    return s;
}
