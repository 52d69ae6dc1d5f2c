/* What training is made of: batches, metrics, and the parts of a trainer. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_TRAIN_PARTS_H
#define ST_TRAIN_PARTS_H

#include "files/files.h"
#include "train/train.h"

/* ---- batch.c: windows of a token shard ------------------------------------------------------- */

typedef struct {
    st_shard shard;
    int64_t context;
    st_order order;
    uint64_t seed;
    int64_t drawn; /* rows so far: the whole state of the cursor */
} st_batch;

/* Opens a shard, checks that it holds a window of context + 1 tokens and that every token is below
 * `vocab`. */
st_status st_batch_open(st_batch *b, const char *path, int64_t vocab, int64_t context,
                        st_order order, uint64_t seed, st_err *e);
void st_batch_close(st_batch *b);
/* Non-overlapping windows of the shard: floor((tokens - 1) / context). */
int64_t st_batch_windows(const st_batch *b);
/* First token of row number `row` (from 0) of the endless sequence that order and seed define. */
int64_t st_batch_start(const st_batch *b, int64_t row);
/* The next `rows` rows: ids[r][t] = d[start + t], targets[r][t] = d[start + t + 1]. */
void st_batch_next(st_batch *b, int64_t rows, int32_t *ids, int32_t *targets);
/* Rows first .. first + rows of `total` windows spread evenly over the shard; rows from `total` on
 * have targets -1. */
void st_batch_spread(const st_batch *b, int64_t first, int64_t rows, int64_t total, int32_t *ids,
                     int32_t *targets);

/* With a teacher: cross entropy, KL, distances of the blocks' outputs and of the embedding's. */
enum { PART_CE, PART_KL, PART_HIDDEN, PART_EMBEDDING, ST_PARTS_OF_LOSS };

/* ---- metrics.c: one row a line, in JSON lines and CSV, and the curve for the result ---------- */

typedef struct {
    int64_t step, tokens;
    double loss, lr, grad_norm, tokens_per_second, seconds;
    double part[ST_PARTS_OF_LOSS]; /* with a teacher: what `loss` is a sum of, before its weights */
    double val_loss;    /* of a validation row, which has only this, step and seconds; else NAN */
    const double *more; /* values of st_metrics.name, NAN: none; used by st_metrics_add only */
} st_metric;

enum { METRIC_BUFFER = 1 << 14, ST_METRIC_COLUMNS = 64 };
typedef struct {
    FILE *json, *csv;        /* NULL: no run folder */
    char *path;              /* of json */
    bool parts;              /* rows have the parts of the loss */
    const char *const *name; /* what rows have beside the fields of st_metric: set before opening */
    int names;
    int column[ST_METRIC_COLUMNS], columns; /* of the CSV: numbers of values, -1: unknown */
    char buffer[2][METRIC_BUFFER];
    struct st_curve {
        st_metric *row;
        int64_t n, cap, stride; /* one row in `stride` is kept, so that any run fits */
        int64_t seen;
    } train, val;
} st_metrics;

/* Opens OUT/metrics.{jsonl,csv} for appending (a CSV that is there keeps its columns), locked
 * against a second process, cut after `step` (and after the validation of `evaluated`), the rows
 * before being read back. `out` NULL: memory only. train_rows, val_rows: how many will come at
 * most. */
st_status st_metrics_open(st_metrics *m, const char *out, bool parts, int64_t step,
                          int64_t evaluated, int64_t train_rows, int64_t val_rows, st_err *e);
/* Allocates nothing. ST_EIO when the disk is full. */
st_status st_metrics_add(st_metrics *m, const st_metric *row, st_err *e);
/* {"curve": ..., "validation": ...} set in `result`. */
bool st_metrics_lost(const st_metrics *m); /* is what is written to no longer at its path? */
void st_metrics_result(const st_metrics *m, json_t *result);
void st_metrics_close(st_metrics *m);

/* ---- the parts of a trainer ---------------------------------------------------------------------
 */

/* How a parameter is trained: what train.groups and the settings for all come to. */
typedef struct {
    const char *name; /* of the entry of train.groups that sets its rate, or "default" */
    double lr, min_lr, decay;
    bool schedule; /* lr follows train.schedule and train.warmup */
    bool frozen;
} st_group;

/* A contiguous range of the flat blocks that is trained alike. */
typedef struct {
    int64_t offset, n;
    st_group group;
} st_range;

/* monitor.c: what rows of metrics have beside losses. Times since the row before, in seconds. */
enum { ST_MONITOR_RATES = 24, ST_MONITOR_VALUES = 5 + ST_MONITOR_RATES };
typedef struct {
    const char *name[ST_MONITOR_VALUES];
    double value[ST_MONITOR_VALUES];
    int names;
    st_group rate[ST_MONITOR_RATES]; /* groups of different learning rates; none if there is one */
    int rates;
    char text[ST_MONITOR_RATES][80]; /* their names */
    double mark, intra, inter;       /* the last moment taken; within steps; between them */
    int64_t steps;
} st_monitor;

/* A checkpoint among those of the lowest validation losses. */
enum { ST_RANKS = 64 };
typedef struct {
    int64_t step;
    double loss;
} st_rank;

/* What a checkpoint remembers beside weights and moments. */
typedef struct {
    int64_t step, evaluated; /* steps done; last validated step, -1: none */
    int64_t averaged;        /* steps that the average of the weights has seen */
    int64_t best_step;       /* -1: none */
    double best_loss, val_loss, loss, seconds;
    st_rank rank[ST_RANKS + 1]; /* best first */
    int64_t ranked;
    /* Early stopping: the best so far (NAN: none), validations since; the sum of the training
     * losses since the last one and of how many steps it is. */
    double stop_best, loss_sum;
    int64_t stop_wait, loss_steps;
    double epoch_began, epoch_seconds; /* `seconds` when it began; of the last whole epoch */
    bool stopped;                      /* the run is over */
} st_train_state;

/* Where data stand. The training shard's `drawn` is the run's one cursor. */
typedef struct {
    const st_settings *set;
    int64_t context, rows, accumulate; /* a micro-batch is rows x context tokens; of a step */
    int64_t per_epoch;                 /* steps; without epochs as many as its windows would make */
    st_batch train, val, test;
    bool has_val, has_test;
} st_data;

/* How long the run is, and how its learning rate moves. */
typedef struct {
    const st_settings *set;
    int64_t steps, warmup, decay_steps; /* steps: of the whole run */
    double min_lr;
} st_pace;

/* What a step works on: a model, a device, flat blocks of one layout, and how each range of them is
 * trained. */
typedef struct {
    st_model *model;
    int64_t elements, parameters;
    st_stream *q;
    st_dtype dtype;
    st_arena weight_block, grad_block, optim_block, ema_block, scratch;
    st_tensor w, master, grad, m, v; /* master absent in float32 */
    st_tensor ema;                   /* average of the weights, F32; absent without train.ema */
    st_range *range;
    int64_t ranges, frozen;      /* frozen: parameters that are not trained */
    float *flat;                 /* host F32 weights: where they come from and are staged */
    bool own;                    /* flat is ours to free */
    double grad_norm;            /* of the last step, before clipping */
    double grad_macs, eval_macs; /* multiply-adds of a token, trained and validated */
} st_net;

/* A micro-batch: where host and device meet in a step. */
typedef struct {
    int64_t context;
    st_arena block;
    st_tensor ids, targets, loss, norm;
    int32_t *host_ids, *host_targets;
    float *host_loss;
} st_micro;

/* A teacher, and what the loss is a sum of. */
typedef struct {
    const st_settings *set;
    st_arena block;
    st_teach teach;                /* teacher NULL: none; its tensors are of a whole micro-batch */
    double part[ST_PARTS_OF_LOSS]; /* of the last step */
} st_lesson;

/* What is watched. */
typedef struct {
    st_metrics metrics;
    st_monitor monitor;
    st_events *board;      /* NULL: no TensorBoard file */
    FILE *norms;           /* NULL: no norms.jsonl */
    int64_t logged_tokens; /* of the last row of metrics */
    double logged_seconds;
    int warm_steps; /* that remain until operations are measured; 0: they are, or never will be */
} st_watch;

/* What is written, and what a run goes on from. */
typedef struct {
    const char *out;          /* NULL: no files */
    const st_config_how *how; /* NULL: not composed */
    char *resume;             /* folder of the checkpoint to go on from, or NULL */
    int64_t saved;            /* step of the newest `last` on disk, -1: none */
    int64_t saved_evaluated;  /* and its state.evaluated */
    const st_bpe *tokenizer;  /* the caller's, own_tokenizer, or NULL */
    st_bpe *own_tokenizer;
    json_t *warm; /* what a warm start took, or NULL */
} st_disk;

typedef struct st_trainer {
    const st_settings *set;
    st_net net;
    st_data data;
    st_pace pace;
    st_micro micro;
    st_lesson lesson;
    st_train_state state;
    st_watch watch;
    st_disk disk;
} st_trainer;

#endif
