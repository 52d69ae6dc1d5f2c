/* train: training runs, their checkpoints, sweeps of them. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_TRAIN_H
#define ST_TRAIN_H

#include "config/config.h"
#include "model/model.h"
#include "text/text.h"

/* How a learning rate moves: up over `warmup` steps, then from lr to min_lr at decay_steps along
 * half a cosine or a line, min_lr after it (nanoGPT, fly). */
typedef struct {
    st_lr_schedule kind;
    st_warmup_start start;
    int64_t warmup, decay_steps;
} st_lr_curve;
/* Learning rate of step `step` = 0, 1, .. */
double st_lr(const st_lr_curve *c, int64_t step, double lr, double min_lr);

typedef struct {
    const st_settings *set;
    /* Train this model in memory: `flat`, host F32 weights in its layout, is replaced by the
     * trained ones (after an error: unspecified). NULL: as set->init and set->model say. */
    const st_model *model;
    float *flat;
    const st_bpe *tokenizer;  /* stored with checkpoints, may be NULL; used with `model` only */
    bool dry;                 /* only plan: nothing is trained or written */
    bool profile;             /* measure each operation from the third step on */
    const st_config_how *how; /* what `set` was composed of, for OUT/.hydra; may be NULL */
    /* Before the first step, with what a dry run would give; or NULL. */
    void (*begun)(void *ctx, const json_t *plan);
    void *ctx;
} st_train_opts;

/* Trains, or goes on with, the run in set->out (NULL: nothing is written to disk):
 *   OUT/config.yaml metrics.jsonl metrics.csv result.json checkpoints.json ...
 *   OUT/.hydra/config.yaml overrides.yaml   of a composed config
 *   OUT/ckpt/{last,best,step-N}/            each a model folder with state.safetensors and
 *                                           state.json
 * A resumed run gives the bits of an uninterrupted one. ST_EINTR after Ctrl-C: `last` is saved.
 * *result (new reference; also set on ST_EINTR) is what
 * doc/COMMANDS says of `train`, or of a dry run. */
st_status st_train_run(const st_train_opts *o, json_t **result, st_err *e);

/* A run for each combination of the values in how.override (sweep.c), one after another: in
 * multirun/NAME/, or in `out` where that is given, a folder called by the swept words. All are
 * checked before the first is trained. Jobs that ended before with the same settings are kept as
 * they are; one that fails does not end the others. */
typedef struct {
    st_config_how how;
    int64_t threads; /* 0: as the settings say */
    bool dry;
} st_sweep_opts;
/* *result (also set, as far as known, with an error): dir (null: each job has an `out` of its own),
 * failed, jobs [{overrides [], out, state, error?, and of the run's result step, parameters,
 * tokens_per_second, loss, val_loss, val_perplexity, best, seconds}]; state: done, kept (from
 * before), planned (dry), failed. The error is that of the first job that failed, or ST_EINTR. */
st_status st_sweep_run(const st_sweep_opts *o, json_t **result, st_err *e);

#endif
