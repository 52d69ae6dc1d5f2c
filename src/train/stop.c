/* Early stopping (Prechelt 1998; PyTorch Lightning's rule): a run ends when stop.patience
 * validations in a row have not improved the watched loss by more than stop.min_delta. The count is
 * part of a checkpoint, so a resumed run stops where an uninterrupted one does. */
/* SPDX-License-Identifier: MIT */
#include "train/inner.h"
#include <math.h>
#include <stdio.h>

static const char *const stop_watched[] = {"validation", "training"};

st_status st_stop_open(const st_settings *set, bool has_val, st_err *e)
{
    char place[256];
    if (set->ckpt.top_k > 0 && !has_val)
        st_log(ST_LOG_WARN,
               "ckpt.top_k = %lld keeps nothing: there are no validations to rank by "
               "(eval.every)",
               (long long)set->ckpt.top_k);
    if (set->stop.patience == ST_UNSET || has_val) return ST_OK;
    ST_FAIL(e, ST_EARG, "%s: it counts validations, and there are none; set eval.every above 0",
            st_set_place(set, "stop.patience", place, sizeof place));
}

/* The mean training loss since the validation before, so that one lucky step does not count. */
void st_stop_step(st_train_state *s)
{
    s->loss_sum += s->loss;
    s->loss_steps++;
}

void st_stop_check(const st_settings *set, st_train_state *s)
{
    double now = set->stop.monitor ? s->loss_sum / (double)s->loss_steps : s->val_loss;
    bool first = s->loss_steps == 0, most = set->stop.mode == 1;
    s->loss_sum = 0;
    s->loss_steps = 0;
    if (set->stop.patience == ST_UNSET || first) return; /* nothing was trained before step 1 */
    double gain = most ? now - s->stop_best : s->stop_best - now;
    if (isnan(s->stop_best) || gain > set->stop.min_delta) {
        s->stop_best = now;
        s->stop_wait = 0;
        return;
    }
    if (++s->stop_wait < set->stop.patience) return;
    s->stopped = true;
    char text[ST_STOP_TEXT];
    st_stop_text(set, s, text);
    st_log(ST_LOG_INFO, "step %lld: %s", (long long)s->step, text);
}

void st_stop_text(const st_settings *set, const st_train_state *s, char text[ST_STOP_TEXT])
{
    snprintf(text, ST_STOP_TEXT,
             "stopped early: for %lld validations the %s loss has not %s %.6g by more than %g",
             (long long)s->stop_wait, stop_watched[set->stop.monitor],
             set->stop.mode ? "risen over" : "fallen below", s->stop_best, set->stop.min_delta);
}

void st_stop_again(st_train_state *s)
{
    s->stopped = false;
    s->stop_wait = 0;
}
