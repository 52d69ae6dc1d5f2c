/* A run's TensorBoard file, OUT/events.out.tfevents.*: what metrics.jsonl has, under the names that
 * PyTorch Lightning and fly give them, the norms, and the configuration as text. */
/* SPDX-License-Identifier: MIT */
#include "train/inner.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

st_status st_board_open(st_watch *w, const st_settings *set, int64_t purge, st_err *e)
{
    if (!set->out || set->log.tensorboard != 1) return ST_OK;
    ST_TRY(st_events_open(&w->board, set->out, purge, e));
    char *yaml = st_settings_yaml(set), *text = NULL;
    st_status s = ST_OK;
    st_events_step(w->board, purge);
    if (!yaml || asprintf(&text, "```yaml\n%s```\n", yaml) < 0)
        s = ST_NOMEM(e, "config");
    else
        s = st_events_text(w->board, "config", text, e);
    free(yaml);
    free(text);
    return s;
}

/* A column of metrics.jsonl as a tag: "lr.NAME" as "lr/NAME". */
static const char *board_tag(const char *name, char text[96])
{
    static const char *const other[][2] = {{"step_ms", "time/intra_step (ms)"},
                                           {"inter_ms", "time/inter_step (ms)"},
                                           {"epoch_seconds", "time/epoch (s)"},
                                           {"epoch", "train/epoch"},
                                           {"gflops", "train/gflops"}};
    for (size_t i = 0; i < sizeof other / sizeof other[0]; i++)
        if (strcmp(name, other[i][0]) == 0) return other[i][1];
    snprintf(text, 96, "%.90s", name);
    char *dot = strchr(text, '.');
    if (dot) *dot = '/';
    return text;
}

st_status st_board_row(st_watch *w, const st_metric *row, st_err *e)
{
    static const char *const part[] = {"train/ce", "train/kl", "train/hidden", "train/embedding"};
    st_events *b = w->board;
    bool val = !isnan(row->val_loss);
    if (!b) return ST_OK;
    st_events_step(b, row->step);
    if (val) {
        ST_TRY(st_events_scalar(b, "val/loss", row->val_loss, e));
        ST_TRY(st_events_scalar(b, "val/ppl", exp(row->val_loss), e));
        return st_events_end(b, e);
    }
    ST_TRY(st_events_scalar(b, "train/loss", row->loss, e));
    ST_TRY(st_events_scalar(b, "train/grad_norm", row->grad_norm, e));
    ST_TRY(st_events_scalar(b, "train/tokens_per_second", row->tokens_per_second, e));
    ST_TRY(st_events_scalar(b, "lr", row->lr, e));
    for (int i = 0; w->metrics.parts && i < ST_PARTS_OF_LOSS; i++)
        ST_TRY(st_events_scalar(b, part[i], row->part[i], e));
    for (int i = 0; row->more && i < w->monitor.names; i++) {
        char text[96];
        if (!isfinite(row->more[i])) continue;
        ST_TRY(st_events_scalar(b, board_tag(w->monitor.name[i], text), row->more[i], e));
    }
    return st_events_end(b, e);
}

st_status st_board_test(st_watch *w, int64_t step, double loss, st_err *e)
{
    if (!w->board) return ST_OK;
    st_events_step(w->board, step);
    ST_TRY(st_events_scalar(w->board, "test/loss", loss, e));
    ST_TRY(st_events_scalar(w->board, "test/ppl", exp(loss), e));
    return st_events_end(w->board, e);
}
