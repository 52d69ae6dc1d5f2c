/* Inside of the training job: what its files do for each other. Functions take the part of a
 * trainer (parts.h) that they need. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_TRAIN_INNER_H
#define ST_TRAIN_INNER_H

#include "train/parts.h"

/* ---- step.c: one step ------------------------------------------------------------------------ */

/* Takes the step that comes after state.step others, and counts it. ST_EINTR after Ctrl-C and an
 * error leave weights and cursor as they were. */
st_status st_step(st_trainer *t, st_err *e);

/* ---- micro.c: the only place of a step where data cross between host and device ---------------
 */

st_status st_micro_open(st_micro *b, st_stream *q, int64_t rows, int64_t context, st_err *e);
void st_micro_close(st_micro *b, st_stream *q);
/* The first `rows` rows; brought to the device from host_ids and host_targets. */
st_lm_args st_micro_args(const st_micro *b, int64_t rows);
st_lm_args st_micro_upload(st_micro *b, st_stream *q, int64_t rows);
/* Sum of a number per token of `rows` rows on the device; the number in b->norm. */
double st_micro_sum(st_micro *b, st_stream *q, st_tensor x, int64_t rows);
double st_micro_norm(st_micro *b, st_stream *q);

/* ---- trainer.c: a trainer from settings ------------------------------------------------------ */

st_status st_trainer_open(st_trainer *t, const st_train_opts *o, st_err *e);
/* What of a run's settings can be refused without weights, a device or reading all tokens: matrices
 * against shapes, sizes, groups of parameters, epochs. A run that goes on was checked when it
 * began. *work: its tokens times its parameters, 0 where that is not known. */
st_status st_trainer_check(const st_settings *set, double *work, st_err *e);
void st_trainer_close(st_trainer *t);
/* The model's weights (their average, where there is one) as host F32 into net.flat. ST_EARG naming
 * the tensor if one is not finite after `step` steps. */
st_status st_trainer_weights(st_net *n, int64_t step, st_err *e);
/* Bytes of each block. */
typedef struct {
    int64_t weights, gradients, optimizer, average, activations, teacher, staging, total;
} st_trainer_bytes;
st_trainer_bytes st_trainer_memory(const st_trainer *t);

/* ---- record.c: what a run writes of itself before its first step ------------------------------
 */

/* config.yaml, .hydra, and the files of what is watched. */
st_status st_record_open(st_trainer *t, st_err *e);

/* ---- source.c: the model, and the weights it starts with --------------------------------------
 */

/* Model and tokenizer; weights that are read, and room for those that are not. */
st_status st_source_open(const st_train_opts *o, st_net *n, st_disk *disk, st_err *e);
/* Draws the weights of a run that begins (seconds for a large model, so when all that can be wrong
 * has been looked at; a dry run has none), and takes those of train.warmstart over. */
st_status st_source_begin(const st_train_opts *o, st_net *n, st_disk *disk, st_err *e);
/* The model of a new run alone, without weights. */
st_status st_source_shape(const st_settings *set, st_net *n, st_disk *disk, st_err *e);
/* A language model of a folder for `what` ("train"); `key` is the setting that names it, for
 * messages, or NULL. */
st_status st_source_folder(const st_settings *set, const char *key, const char *dir,
                           const char *what, st_model **m, float **flat, st_bpe **tokenizer,
                           st_err *e);
/* Makes *m (with its weights *flat) the model that `maps`, {GLOB: SPEC}, asks for, the nearest
 * matrix for every one that changes, and logs what each kind of change keeps; both are replaced. In
 * a run resumed from `resume` they must ask for what is there. `flat` NULL: only the model
 * (source_maps.c). */
st_status st_source_remap(const st_settings *set, const char *resume, const json_t *maps,
                          st_model **m, float **flat, st_err *e);

/* ---- data.c: shards, and how much of them a step reads ----------------------------------------
 */

st_status st_data_sizes(st_data *d, const st_settings *set, int64_t positions, st_err *e);
/* Opens the shards that the settings ask for; only the training shard, unchecked, for its length.
 */
st_status st_data_open(st_data *d, int64_t vocab, st_err *e);
st_status st_data_length(st_data *d, st_err *e);
void st_data_close(st_data *d);

/* ---- result.c -------------------------------------------------------------------------------- */

/* What st_train_run gives of a dry run and of others; new references. */
json_t *st_result_plan(const st_trainer *t);
json_t *st_result(const st_trainer *t, const json_t *test, bool interrupted);
/* OUT/result.json. */
st_status st_result_write(const char *out, const json_t *result, st_err *e);

/* ---- warmstart.c ----------------------------------------------------------------------------- */

/* Takes what fits of train.warmstart.path into n->flat; *report is {path, taken, parameters,
 * missing [NAME], skipped [{name, found, expected}], unused [NAME]}. Strict: ST_EARG if something
 * is left. */
st_status st_warm_start(const st_settings *set, st_net *n, json_t **report, st_err *e);

/* ---- validate.c ------------------------------------------------------------------------------ */

/* Loss of the validation shard into the state, with its row of metrics. ST_EINTR after Ctrl-C. */
st_status st_validate(st_trainer *t, st_err *e);
/* {loss, perplexity, tokens, step, weights} of the whole test shard with the weights of ckpt/best,
 * which stay on the device: the last thing a run does. */
st_status st_train_test(st_trainer *t, json_t **result, st_err *e);

/* ---- monitor.c ------------------------------------------------------------------------------- */

void st_monitor_open(st_monitor *m, const st_net *n);
/* A step begins; the time since `since` was spent on its data; it has ended. What was done since
 * the last of these calls is no part of a step. */
void st_monitor_begin(st_monitor *m);
void st_monitor_data(st_monitor *m, double since);
void st_monitor_end(st_monitor *m);
void st_monitor_away(st_monitor *m);
/* Values of m->name since the call before. */
const double *st_monitor_values(st_monitor *m, const st_trainer *t, double tokens_per_second);
/* Billions of operations a second (2 for a multiply-add), or NAN where they are not known. */
double st_monitor_gflops(const st_net *n, double tokens_per_second);
/* Share of what the device's data sheet promises, or NAN. */
double st_monitor_mfu(const st_net *n, double tokens_per_second);

/* ---- board.c: TensorBoard; norms.c: norms.jsonl. Nothing where they are not asked for -------- */

/* `purge`: the first step whose rows no longer count, 0 of a new run. */
st_status st_board_open(st_watch *w, const st_settings *set, int64_t purge, st_err *e);
st_status st_board_row(st_watch *w, const st_metric *row, st_err *e);
st_status st_board_test(st_watch *w, int64_t step, double loss, st_err *e);
/* Opens, cut after `step`. */
st_status st_norms_open(st_watch *w, const st_settings *set, int64_t step, st_err *e);
void st_norms_close(st_watch *w);
/* The row of step `step` (from 1), whose gradients are there, if it is due; before the update. */
st_status st_norms_row(st_watch *w, const st_settings *set, st_net *n, int64_t step, st_err *e);

/* ---- stop.c: early stopping ------------------------------------------------------------------ */

/* Refuses a patience without validations. */
st_status st_stop_open(const st_settings *set, bool has_val, st_err *e);
/* After a step; after a validation (which may set `stopped`). */
void st_stop_step(st_train_state *s);
void st_stop_check(const st_settings *set, st_train_state *s);
/* Why the run was stopped. */
enum { ST_STOP_TEXT = 192 };
void st_stop_text(const st_settings *set, const st_train_state *s, char text[ST_STOP_TEXT]);
/* A stopped run is to go on: patience is full again. */
void st_stop_again(st_train_state *s);

/* ---- groups.c: which parameter gets which learning rate and decay ---------------------------- */

/* Sets n->range, the fewest ranges that cover all parameters. Refuses a glob of train.groups that
 * matches no parameter, and a model of which nothing is trained. */
st_status st_groups_open(st_net *n, const st_pace *p, st_err *e);
/* Takes what is frozen out of the backward pass; after every binding of the model. */
void st_groups_freeze(const st_net *n);
bool st_groups_frozen(const st_net *n, const st_param *p);
/* Learning rate of the step that comes after `step` others: train.lr, and a group's. */
double st_pace_lr(const st_pace *p, int64_t step);
double st_group_lr(const st_pace *p, const st_group *g, int64_t step);
/* [{name, shape, lr, decay, schedule, frozen}] in the model's order. New reference. */
json_t *st_groups_json(const st_net *n, const st_pace *p);

/* ---- epoch.c: epochs of the training shard, and how long the run is -------------------------- */

/* Steps of an epoch, steps in all and warm-up; after the data. Refuses rules for the end of epochs
 * where there are none. */
st_status st_epoch_open(st_data *d, st_pace *p, st_err *e);
/* Rows of the step to come; first moves the cursor past those that are left out. */
int64_t st_epoch_rows(st_data *d);
/* Rows that count as one micro-batch: all of a step's, but for data.last=micro. */
int64_t st_epoch_unit(const st_data *d);
/* Rows of a full step. */
int64_t st_epoch_step(const st_data *d);
/* Epochs done, and the tokens of `steps` steps done. */
double st_epoch_done(const st_data *d);
int64_t st_epoch_tokens(const st_data *d, int64_t steps);

/* ---- ema.c: the average of the weights ------------------------------------------------------- */

/* The average begins as the weights are now. */
void st_ema_start(st_net *n);
/* After an update; *averaged counts them. */
void st_ema_update(st_net *n, const st_settings *set, int64_t *averaged);
/* Binds the model to the average (`on`) or back to the weights that are trained; without an average
 * nothing happens. */
void st_ema_bind(st_net *n, bool on);

/* ---- distill.c: a teacher -------------------------------------------------------------------- */

/* Loads distill.teacher, if there is one, and checks that it can teach this model; after the sizes
 * and before the memory. */
st_status st_distill_open(st_lesson *l, const st_net *n, const st_data *d, st_err *e);
void st_distill_close(st_lesson *l, st_stream *q);
/* Makes a micro-batch of `count` tokens one of an objective that is a mean over `tokens` tokens:
 * its scales, and the teacher (`teach`: room for it). */
void st_distill_scale(const st_lesson *l, int64_t count, double tokens, st_teach *teach,
                      st_lm_args *a);
/* Adds the sums of a micro-batch's parts to l->part; once all are there, makes them means over
 * `tokens` tokens and gives the loss that they come to. */
void st_distill_add(st_lesson *l, st_micro *b, st_stream *q, int64_t rows);
double st_distill_loss(st_lesson *l, double tokens);

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
/* The trainer as it is, its weights in net.flat, into an empty folder. */
/* sums.c: the CRC-32 of each safetensors file of a folder, {NAME: hex}; ST_EFORMAT where one is
 * another now. NULL has none to check. */
st_status st_ckpt_sums(const char *dir, json_t **out, st_err *e);
st_status st_ckpt_sums_check(const char *dir, const json_t *sums, st_err *e);
st_status st_ckpt_write(st_trainer *t, const char *dir, st_err *e);

/* ---- checkpoints.c: those of a run ----------------------------------------------------------- */

char *st_ckpt_path(const char *out, const char *name);      /* "OUT/ckpt/NAME", new memory */
int64_t st_ckpt_number(const char *name, const char *kind); /* N of "KIND-N", else -1 */
bool st_ckpt_there(const char *out, const char *kind, int64_t step); /* OUT/ckpt/KIND-STEP */
/* Writes `last` and, as links to the same files, what is asked for; then removes the oldest step-N
 * beyond ckpt.keep and the top-N that no longer are. A failure leaves all older checkpoints as they
 * were. */
enum { ST_CKPT_BEST = 1, ST_CKPT_STEP = 2, ST_CKPT_TOP = 4, ST_CKPT_PROGRESS = 8 };
st_status st_ckpt_save(st_trainer *t, unsigned what, st_err *e);
/* Makes again what a crash between `last` and its links has left out. */
st_status st_ckpt_repair(st_trainer *t, st_err *e);

/* ---- ranks.c: the checkpoints of the lowest validation losses -------------------------------- */

/* Enters the validation just made into the state's list; false: it is not among the ckpt.top_k. */
bool st_rank_enter(const st_settings *set, st_train_state *s);
bool st_rank_has(const st_train_state *s, int64_t step);
/* [{step, val_loss}], new reference; and read back from a checkpoint. */
json_t *st_rank_json(const st_train_state *s);
st_status st_rank_read(st_train_state *s, const json_t *list, const char *what, st_err *e);
/* OUT/checkpoints.json. */
st_status st_rank_write(const st_settings *set, const st_train_state *s, st_err *e);

#endif
