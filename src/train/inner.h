/* Inside of the training job: its parts and what they share. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_TRAIN_INNER_H
#define ST_TRAIN_INNER_H

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
void st_metrics_result(const st_metrics *m, json_t *result);
void st_metrics_close(st_metrics *m);

/* ---- the trainer ----------------------------------------------------------------------------- */

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
    int64_t drawn;           /* data cursor */
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

typedef struct st_trainer {
    const st_settings *set;
    const st_config_how *how; /* NULL: not composed */
    const char *out;          /* NULL: no files */
    st_model *model;
    bool own;                /* flat is ours to free */
    float *flat;             /* host F32 weights: where they come from and are staged */
    const st_bpe *tokenizer; /* the caller's, own_tokenizer, or NULL */
    st_bpe *own_tokenizer;
    char *resume; /* folder of the checkpoint to go on from, or NULL */
    int64_t elements, parameters;

    st_stream *q;
    st_dtype dtype;
    st_arena weight_block, grad_block, optim_block, ema_block, batch_block, teacher_block, scratch;
    st_tensor w, master, grad, m, v; /* master absent in float32 */
    st_tensor ema;                   /* average of the weights, F32; absent without train.ema */
    st_tensor ids, targets, loss, norm;
    int32_t *host_ids, *host_targets;
    float *host_loss;
    st_range *range;
    int64_t ranges, frozen; /* frozen: parameters that are not trained */

    int64_t context, rows, accumulate, warmup, decay_steps;
    int64_t steps;     /* of the whole run */
    int64_t per_epoch; /* steps; without epochs as many as its windows would make */
    double min_lr;
    st_batch train, val, test;
    bool has_val, has_test;
    int warm_steps; /* that remain until operations are measured; 0: they are, or never will be */

    st_teach teach;                /* teacher NULL: none; its tensors are of t->rows rows */
    double part[ST_PARTS_OF_LOSS]; /* of the last step */

    st_train_state state;
    int64_t saved;           /* step of the newest `last` on disk, -1: none */
    int64_t saved_evaluated; /* and its state.evaluated */
    int64_t logged_tokens;   /* of the last row of metrics */
    double logged_seconds, grad_norm;
    st_metrics metrics;
    st_monitor monitor;
    double grad_macs, eval_macs; /* multiply-adds of a token, trained and validated */
    json_t *warm;                /* what a warm start took, or NULL */
    st_events *board;            /* NULL: no TensorBoard file */
    FILE *norms;                 /* NULL: no norms.jsonl */
} st_trainer;

/* ---- trainer.c: a trainer from settings ------------------------------------------------------ */

/* Model, initial weights and tokenizer (source.c). */
st_status st_trainer_model(st_trainer *t, const st_train_opts *o, st_err *e);
/* The model of a new run alone, without weights. */
st_status st_trainer_shape(st_trainer *t, st_err *e);
/* Makes *m (with its weights *flat) the model that `maps`, {GLOB: SPEC}, asks for, the nearest
 * matrix for every one that changes, and logs what each kind of change keeps; both are replaced. In
 * a resumed run they must ask for what is there. `flat` NULL: only the model (source_maps.c). */
st_status st_source_remap(const st_trainer *t, const json_t *maps, st_model **m, float **flat,
                          st_err *e);
st_status st_trainer_open(st_trainer *t, const st_train_opts *o, st_err *e);
/* What of a run's settings can be refused without weights, a device or reading all tokens: matrices
 * against shapes, sizes, groups of parameters, epochs. A run that goes on was checked when it
 * began. *work: its tokens times its parameters, 0 where that is not known. */
st_status st_trainer_check(const st_settings *set, double *work, st_err *e);
void st_trainer_close(st_trainer *t);
/* The model's weights (their average, where there is one) as host F32 into t->flat. ST_EARG naming
 * the tensor if one is not finite. */
st_status st_trainer_weights(st_trainer *t, st_err *e);
json_t *st_trainer_memory(const st_trainer *t);
/* Sum of a number per token of a micro-batch of `rows` rows on the device. */
double st_trainer_sum(st_trainer *t, st_tensor x, int64_t rows);

/* ---- result.c -------------------------------------------------------------------------------- */

/* What st_train_run gives of a dry run and of others; new references. */
json_t *st_result_plan(const st_trainer *t);
json_t *st_result(const st_trainer *t, const json_t *test, bool interrupted);
/* OUT/result.json. */
st_status st_result_write(const st_trainer *t, const json_t *result, st_err *e);

/* ---- warmstart.c ----------------------------------------------------------------------------- */

/* Takes what fits of train.warmstart.path into t->flat; t->warm is {path, taken, parameters,
 * missing [NAME], skipped [{name, found, expected}], unused [NAME]}. Strict: ST_EARG if something
 * is left. */
st_status st_warm_start(st_trainer *t, st_err *e);

/* ---- validate.c ------------------------------------------------------------------------------ */

/* The first `rows` rows of the micro-batch on the host, brought to the device. */
st_lm_args st_trainer_upload(st_trainer *t, int64_t rows);
/* Loss of the validation shard into the state, with its row of metrics. ST_EINTR after Ctrl-C. */
st_status st_validate(st_trainer *t, st_err *e);
/* {loss, perplexity, tokens, step, weights} of the whole test shard with the weights of ckpt/best,
 * which stay on the device: the last thing a run does. */
st_status st_train_test(st_trainer *t, json_t **result, st_err *e);

/* ---- monitor.c ------------------------------------------------------------------------------- */

void st_monitor_open(st_trainer *t);
/* A step begins; the time since `since` was spent on its data; it has ended, and the epochs done
 * were `epoch_before`. What was done since the last of these calls is no part of a step. */
void st_monitor_begin(st_trainer *t);
void st_monitor_data(st_trainer *t, double since);
void st_monitor_end(st_trainer *t, double epoch_before);
void st_monitor_away(st_trainer *t);
/* Values of t->monitor.name since the call before. */
const double *st_monitor_values(st_trainer *t, double tokens_per_second);
/* Billions of operations a second (2 for a multiply-add), or NAN where they are not known. */
double st_monitor_gflops(const st_trainer *t, double tokens_per_second);

/* ---- board.c: TensorBoard; norms.c: norms.jsonl. Nothing where they are not asked for -------- */

st_status st_board_open(st_trainer *t, st_err *e);
st_status st_board_row(st_trainer *t, const st_metric *row, st_err *e);
st_status st_board_test(st_trainer *t, double loss, st_err *e);
/* Opens, cut after state.step. */
st_status st_norms_open(st_trainer *t, st_err *e);
void st_norms_close(st_trainer *t);
/* The row of the step whose gradients are there, if it is due; before the update. */
st_status st_norms_row(st_trainer *t, st_err *e);

/* ---- stop.c: early stopping ------------------------------------------------------------------ */

/* Refuses a patience without validations. */
st_status st_stop_open(const st_trainer *t, st_err *e);
/* After a step; after a validation (which may set state.stopped). */
void st_stop_step(st_trainer *t);
void st_stop_check(st_trainer *t);
/* Why the run was stopped. */
enum { ST_STOP_TEXT = 192 };
void st_stop_text(const st_trainer *t, char text[ST_STOP_TEXT]);
/* A stopped run is to go on: patience is full again. */
void st_stop_again(st_trainer *t);

/* ---- groups.c: which parameter gets which learning rate and decay ---------------------------- */

/* Sets t->range, the fewest ranges that cover all parameters. Refuses a glob of train.groups that
 * matches no parameter, and a model of which nothing is trained. */
st_status st_groups_open(st_trainer *t, st_err *e);
/* Takes what is frozen out of the backward pass; after every binding of the model. */
void st_groups_freeze(st_trainer *t);
/* Learning rate of the step to come, and of the step that comes after `step` others. */
double st_group_lr(const st_trainer *t, const st_group *g);
double st_group_lr_at(const st_trainer *t, const st_group *g, int64_t step);
bool st_groups_frozen(const st_trainer *t, const st_param *p);
/* [{name, shape, lr, decay, schedule, frozen}] in the model's order. New reference. */
json_t *st_groups_json(const st_trainer *t);

/* ---- epoch.c: epochs of the training shard, and how long the run is -------------------------- */

/* Steps of an epoch, steps in all and warm-up; after the data. Refuses rules for the end of epochs
 * where there are none. */
st_status st_epoch_open(st_trainer *t, st_err *e);
/* Rows of the step to come; first moves the cursor past those that are left out. */
int64_t st_epoch_rows(st_trainer *t);
/* Rows that count as one micro-batch: all of a step's, but for data.last=micro. */
int64_t st_epoch_unit(const st_trainer *t);
/* Epochs and tokens of the steps done. */
double st_epoch_done(const st_trainer *t);
int64_t st_epoch_tokens(const st_trainer *t);

/* ---- ema.c: the average of the weights ------------------------------------------------------- */

/* The average begins as the weights are now. */
void st_ema_start(st_trainer *t);
/* After the update of step state.step (counted from 1). */
void st_ema_update(st_trainer *t);
/* Binds the model to the average (`on`) or back to the weights that are trained; without an average
 * nothing happens. */
void st_ema_bind(st_trainer *t, bool on);

/* ---- distill.c: a teacher -------------------------------------------------------------------- */

/* Loads distill.teacher, if there is one, and checks that it can teach this model; after the sizes
 * and before the memory. */
st_status st_distill_open(st_trainer *t, st_err *e);
void st_distill_close(st_trainer *t);
/* Scale of each token's cross entropy where the objective is a mean over `tokens` tokens. */
float st_distill_ce(const st_trainer *t, double tokens);
/* The teacher for a micro-batch of `rows` rows of such an objective. */
st_teach st_distill_teach(const st_trainer *t, int64_t rows, double tokens);
/* Adds the sums of a micro-batch's parts but the cross entropy to t->part. */
void st_distill_sums(st_trainer *t, int64_t rows);
/* The loss that the parts (means over tokens) come to. */
double st_distill_loss(const st_trainer *t);

/* ---- resume.c -------------------------------------------------------------------------------- */

/* Which checkpoint the settings ask to go on from (*dir: new memory, NULL: a new run). Refuses to
 * write over a run that it may not continue. */
st_status st_ckpt_choose(const st_settings *set, char **dir, st_err *e);
/* Adds to the message of a checkpoint that cannot be used which other one the run has. */
void st_ckpt_hint(const st_settings *set, const char *broken, st_err *e);

/* ---- checkpoint.c: one ----------------------------------------------------------------------- */

st_status st_ckpt_json(const char *dir, json_t **state, st_err *e); /* DIR/state.json */
/* Checks the whole checkpoint, then reads moments and state. The weights are read by the opener. */
st_status st_ckpt_load(st_trainer *t, st_err *e);
/* The trainer as it is, its weights in t->flat, into an empty folder. */
st_status st_ckpt_write(st_trainer *t, const char *dir, st_err *e);

/* ---- checkpoints.c: those of a run ----------------------------------------------------------- */

char *st_ckpt_path(const char *out, const char *name);      /* "OUT/ckpt/NAME", new memory */
int64_t st_ckpt_number(const char *name, const char *kind); /* N of "KIND-N", else -1 */
bool st_ckpt_there(const st_trainer *t, const char *kind, int64_t step); /* OUT/ckpt/KIND-STEP */
/* Writes `last` and, as links to the same files, what is asked for; then removes the oldest step-N
 * beyond ckpt.keep and the top-N that no longer are. A failure leaves all older checkpoints as they
 * were. */
enum { ST_CKPT_BEST = 1, ST_CKPT_STEP = 2, ST_CKPT_TOP = 4, ST_CKPT_PROGRESS = 8 };
st_status st_ckpt_save(st_trainer *t, unsigned what, st_err *e);
/* Makes again what a crash between `last` and its links has left out. */
st_status st_ckpt_repair(st_trainer *t, st_err *e);

/* ---- ranks.c: the checkpoints of the lowest validation losses -------------------------------- */

/* Enters the validation just made into the state's list; false: it is not among the ckpt.top_k. */
bool st_rank_enter(st_trainer *t);
bool st_rank_has(const st_trainer *t, int64_t step);
/* [{step, val_loss}], new reference; and read back from a checkpoint. */
json_t *st_rank_json(const st_trainer *t);
st_status st_rank_read(st_train_state *s, const json_t *list, const char *what, st_err *e);
/* OUT/checkpoints.json. */
st_status st_rank_write(const st_trainer *t, st_err *e);

#endif
