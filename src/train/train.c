/* A run: steps (step.c), and between them what is logged, validation, checkpoints, Ctrl-C. A step
 * is a function of weights, moments, step number and data cursor alone, so a resumed run repeats
 * the bits of an uninterrupted one. */
/* SPDX-License-Identifier: MIT */
#include "train/inner.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TRAIN_LINE = 160 };

/* ---- between steps --------------------------------------------------------------------------- */

static bool train_due(int64_t step, int64_t every, int64_t last)
{
    return every > 0 && (step % every == 0 || step == last);
}

static bool train_over(const st_trainer *t)
{
    return t->state.stopped || t->state.step >= t->pace.steps;
}

/* Whether `step` is to have a checkpoint of its own beside `last`. */
static bool train_wants(const st_trainer *t, const char *kind, bool due)
{
    int64_t step = t->state.step;
    return due && (t->disk.saved != step || !st_ckpt_there(t->disk.out, kind, step));
}

/* The folder of the run was removed or renamed meanwhile: the weights are saved where it was, and
 * the run ends, since metrics go nowhere. */
static st_status train_lost(st_trainer *t, st_err *e)
{
    t->disk.saved = -1;
    ST_TRY(st_ckpt_save(t, 0, e));
    ST_FAIL(e, ST_EIO,
            "%s: was removed or renamed while the run went on, and metrics and checkpoints with "
            "it; %s/ckpt/last of step %lld has been written anew, the same command goes on from it",
            t->disk.out, t->disk.out, (long long)t->state.step);
}

/* Validation and checkpoints that belong to the state after `step` steps. */
static st_status train_between(st_trainer *t, st_err *e)
{
    const st_settings *s = t->set;
    st_train_state *now = &t->state;
    unsigned what = 0;
    if (t->data.has_val && now->evaluated < now->step &&
        train_due(now->step, s->eval.every, t->pace.steps)) {
        ST_TRY(st_validate(t, e));
        bool best = now->step > 0 && now->val_loss < now->best_loss &&
                    !(now->val_loss >= s->ckpt.best_below); /* NAN: no bound */
        if (best) {
            now->best_loss = now->val_loss;
            now->best_step = now->step;
        }
        if (best && s->ckpt.best) what |= ST_CKPT_BEST;
        if (now->step > 0 && st_rank_enter(s, now)) what |= ST_CKPT_TOP;
        st_stop_check(s, now);
    }
    if (!t->disk.out || now->step == 0) return ST_OK;
    if (st_metrics_lost(&t->watch.metrics)) return train_lost(t, e);
    bool due = train_due(now->step, s->ckpt.every, t->pace.steps) || train_over(t);
    if (train_wants(t, "step", due && s->ckpt.keep > 0)) what |= ST_CKPT_STEP;
    int64_t every = s->ckpt.progress_every;
    if (train_wants(t, "progress", every > 0 && now->step % every == 0)) what |= ST_CKPT_PROGRESS;
    bool there = t->disk.saved == now->step,
         saved = there && t->disk.saved_evaluated == now->evaluated;
    if (!what && (saved || (!due && !there))) return ST_OK;
    return st_ckpt_save(t, what, e);
}

/* The line on the terminal, and every log.every steps a row of metrics. */
static st_status train_log(st_trainer *t, double lr, st_err *e)
{
    st_watch *w = &t->watch;
    int64_t step = t->state.step, tokens = st_epoch_tokens(&t->data, step);
    double since = t->state.seconds - w->logged_seconds;
    double speed = since > 0 ? (double)(tokens - w->logged_tokens) / since : 0;
    char detail[TRAIN_LINE], parts[TRAIN_LINE / 2] = "";
    const double *part = t->lesson.part;
    if (t->lesson.teach.teacher) {
        snprintf(parts, sizeof parts, " (ce %.4f, kl %.4f, hidden %.4f)", part[PART_CE],
                 part[PART_KL], part[PART_HIDDEN]);
    }
    double mfu = 100 * st_monitor_mfu(&t->net, speed);
    int n = snprintf(detail, sizeof detail, "loss %.4f%s, lr %.2e, norm %.2f, %.0f tokens/s",
                     t->state.loss, parts, lr, t->net.grad_norm, speed);
    if (isfinite(mfu) && n > 0 && n < TRAIN_LINE)
        snprintf(detail + n, sizeof detail - (size_t)n, ", MFU %.1f%%", mfu);
    st_report(&(st_progress){.what = "train",
                             .done = step,
                             .total = t->pace.steps,
                             .unit = "steps",
                             .detail = detail,
                             .last = step == t->pace.steps});
    if (step != 1 && !train_due(step, t->set->log.every, t->pace.steps)) return ST_OK;
    st_metric row = {.step = step,
                     .tokens = tokens,
                     .loss = t->state.loss,
                     .lr = lr,
                     .grad_norm = t->net.grad_norm,
                     .tokens_per_second = speed,
                     .seconds = t->state.seconds,
                     .val_loss = (double)NAN,
                     .more = st_monitor_values(&w->monitor, t, speed)};
    memcpy(row.part, part, sizeof row.part);
    w->logged_tokens = tokens;
    w->logged_seconds = t->state.seconds;
    ST_TRY(st_board_row(w, &row, e));
    return st_metrics_add(&w->metrics, &row, e);
}

/* A step, and what the run remembers of it. */
static st_status train_step(st_trainer *t, st_err *e)
{
    st_train_state *s = &t->state;
    double start = st_now(), epoch = st_epoch_done(&t->data);
    double lr = st_pace_lr(&t->pace, s->step);
    st_monitor_begin(&t->watch.monitor);
    ST_TRY(st_step(t, e));
    st_stop_step(s);
    s->seconds += st_now() - start;
    st_monitor_end(&t->watch.monitor);
    if (floor(st_epoch_done(&t->data)) > floor(epoch)) { /* validations and checkpoints left out */
        s->epoch_seconds = s->seconds - s->epoch_began;
        s->epoch_began = s->seconds;
    }
    return train_log(t, lr, e);
}

/* Ctrl-C: what was done is saved, and the message says how to go on. */
static st_status train_interrupted(st_trainer *t, st_err *e)
{
    long long step = t->state.step;
    if (t->disk.out && step > 0 && t->disk.saved != step) ST_TRY(st_ckpt_save(t, 0, e));
    if (!t->disk.out || step == 0)
        ST_FAIL(e, ST_EINTR, "interrupted after %s; nothing was saved",
                st_counted(step, "steps").s);
    ST_FAIL(
        e, ST_EINTR,
        "interrupted; %s/ckpt/last holds step %lld of %lld: run the same command again to go on",
        t->disk.out, step, (long long)t->pace.steps);
}

static st_status train_loop(st_trainer *t, st_err *e)
{
    if (t->disk.out && t->disk.resume) ST_TRY(st_ckpt_repair(t, e));
    if (t->state.stopped) return ST_OK;
    for (;;) {
        st_status s = st_interrupted() ? ST_EINTR : train_between(t, e);
        if (!s && train_over(t)) return ST_OK;
        st_monitor_away(&t->watch.monitor);
        if (t->watch.warm_steps > 0 && --t->watch.warm_steps == 0 && !s)
            s = st_stream_profile(t->net.q, true, e);
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
    char why[160];
    if (!t->disk.out || !t->set->ckpt.best || t->state.best_step > 0) return;
    if (t->state.evaluated <= 0) {
        snprintf(why, sizeof why, "nothing was validated%s",
                 t->set->eval.every == 0 ? " (eval.every=0)" : "");
    } else if (isnan(below)) {
        snprintf(why, sizeof why, "no validation loss was a number");
    } else {
        snprintf(why, sizeof why,
                 "no validation loss was below ckpt.best_below = %.6g (the last is %.4f)", below,
                 t->state.val_loss);
    }
    st_log(ST_LOG_WARN, "no ckpt/best: %s; ckpt/last has the weights", why);
}

static st_status train_whole(st_trainer *t, const st_train_opts *o, json_t **result, st_err *e)
{
    json_t *plan = o->begun ? st_result_plan(t) : NULL, *test = NULL;
    if (plan) o->begun(o->ctx, plan);
    json_decref(plan);
    t->watch.warm_steps = o->profile ? 3 : 0;
    st_status s = train_loop(t, e);
    if (!s) train_no_best(t);
    if (!s && o->model) s = st_trainer_weights(&t->net, t->state.step, e);
    if (!s && t->data.has_test) s = st_train_test(t, &test, e);
    if (!s || s == ST_EINTR) {
        *result = st_result(t, test, s == ST_EINTR);
        st_status written = *result ? st_result_write(t->disk.out, *result, s ? NULL : e)
                                    : ST_NOMEM(s ? NULL : e, "train");
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
        st_stop_text(o->set, &t.state, text);
        st_log(ST_LOG_WARN, "%s is complete: step %lld, %s; ckpt.resume=yes goes on with it",
               t.disk.out, (long long)t.state.step, text);
    } else if (!s && t.state.step >= t.pace.steps && t.disk.resume) {
        st_log(ST_LOG_WARN, "%s is complete at step %lld; a larger train.steps goes on with it",
               t.disk.out, (long long)t.state.step);
    }
    if (!s && o->dry) {
        *result = st_result_plan(&t);
        if (!*result) s = ST_NOMEM(e, "train");
    } else if (!s) {
        s = train_whole(&t, o, result, e);
    }
    st_trainer_close(&t);
    return s;
}
