/* A trainer from settings: the model and where its weights come from, the plan of its memory, its
 * data. Everything that can fail for want of memory or of sense fails here, before the first step.
 */
/* Long: all that can fail before the first step, in the order in which it is made. */
/* SPDX-License-Identifier: MIT */
#include "train/inner.h"
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- sizes ----------------------------------------------------------------------------------- */

static st_status trainer_sizes(st_trainer *t, st_err *e)
{
    const st_settings *set = t->set;
    char place[256];
    int64_t longest = st_model_lm(t->model).context, per;
    t->rows = set->train.micro_batch;
    t->context = set->train.context == ST_UNSET ? longest : set->train.context;
    if (t->context > longest) {
        ST_FAIL(e, ST_EARG, "%s: found %lld, but the model has %lld positions",
                st_set_place(set, "train.context", place, sizeof place), (long long)t->context,
                (long long)longest);
    }
    per = t->rows * t->context; /* at most 2^44 by the ranges of both */
    int64_t want = set->train.tokens_per_step == ST_UNSET ? per : set->train.tokens_per_step;
    t->accumulate = want / per;
    if (want % per) {
        ST_FAIL(e, ST_EARG,
                "%s: found %lld, expected a multiple of micro_batch x context = %lld x %lld = %lld "
                "(the nearest is %lld)",
                st_set_place(set, "train.tokens_per_step", place, sizeof place), (long long)want,
                (long long)t->rows, (long long)t->context, (long long)per,
                (long long)((t->accumulate + (t->accumulate == 0 || want % per * 2 >= per)) * per));
    }
    bool line = set->train.schedule == ST_LR_LINEAR;
    t->min_lr = isnan(set->train.min_lr) ? (line ? 0.0 : set->train.lr / 10.0) : set->train.min_lr;
    return ST_OK;
}

/* ---- memory ---------------------------------------------------------------------------------- */

static st_lm_args trainer_args(const st_trainer *t)
{
    return (st_lm_args){
        .batch = t->rows, .len = t->context, .ids = t->ids, .targets = t->targets, .loss = t->loss};
}

/* Tokens of a micro-batch on the device and on the host. */
static st_status trainer_batch(st_trainer *t, st_err *e)
{
    int64_t n = t->rows * t->context;
    if (n > INT32_MAX) {
        ST_FAIL(e, ST_EARG,
                "train.micro_batch x context = %lld tokens at once; expected at most %d",
                (long long)n, INT32_MAX);
    }
    ST_TRY(st_device_arena(t->q, (size_t)n * 12 + 8 * ST_ALIGN, &t->batch_block, e));
    t->ids = st_take2(&t->batch_block, ST_I32, t->rows, t->context);
    t->targets = st_take2(&t->batch_block, ST_I32, t->rows, t->context);
    t->loss = st_take1(&t->batch_block, ST_F32, n);
    t->norm = st_take1(&t->batch_block, ST_F32, 1);
    t->host_ids = st_calloc(n, sizeof *t->host_ids);
    t->host_targets = st_calloc(n, sizeof *t->host_targets);
    t->host_loss = st_calloc(n, sizeof *t->host_loss);
    if (!t->host_ids || !t->host_targets || !t->host_loss)
        ST_FAIL(e, ST_ENOMEM, "trainer: out of memory for a micro-batch of %lld tokens",
                (long long)n);
    return ST_OK;
}

/* Scratch of a micro-batch of `rows` rows in training, if it is more than *grad. */
static st_status trainer_less(st_trainer *t, int64_t rows, size_t *grad, st_err *e)
{
    st_lm_args a = trainer_args(t);
    size_t bytes = 0;
    a.batch = rows;
    a.ids = st_rows(a.ids, 0, rows);
    a.targets = st_rows(a.targets, 0, rows);
    a.loss = st_slice(a.loss, 0, rows * t->context);
    st_teach teach;
    if (t->teach.teacher) {
        teach = st_distill_teach(t, rows, 1.0);
        a.teach = &teach;
    }
    ST_TRY(st_model_plan(t->model, t->q, t->dtype, &a, true, &bytes, NULL, e));
    if (bytes > *grad) *grad = bytes;
    return ST_OK;
}

/* Scratch of a micro-batch in training and in validation; the last one of an epoch may be short. */
static st_status trainer_scratch(st_trainer *t, size_t *grad, size_t *eval, st_err *e)
{
    st_lm_args a = trainer_args(t);
    if (t->teach.teacher) a.teach = &t->teach;
    st_cost cost = {0};
    ST_TRY(st_model_plan(t->model, t->q, t->dtype, &a, false, eval, &cost, e));
    t->eval_macs = (double)cost.macs / (double)(t->rows * t->context);
    ST_TRY(st_model_plan(t->model, t->q, t->dtype, &a, true, grad, &cost, e));
    t->grad_macs = (double)cost.macs / (double)(t->rows * t->context);
    if (t->set->data.last < ST_LAST_SHORT) return ST_OK;
    int64_t unit = st_epoch_unit(t),
            last = st_batch_windows(&t->train) % (t->rows * t->accumulate) % unit;
    const int64_t less[] = {unit % t->rows, last % t->rows};
    for (int i = 0; i < 2; i++)
        if (less[i]) ST_TRY(trainer_less(t, less[i], grad, e));
    return ST_OK;
}

static st_status trainer_memory(st_trainer *t, st_err *e)
{
    size_t grad = 0, eval = 0, n = (size_t)t->elements, slack = 8 * ST_ALIGN;
    bool half = t->dtype != ST_F32, ema = t->set->train.ema > 0;
    ST_TRY(trainer_scratch(t, &grad, &eval, e));
    ST_TRY(st_device_arena(t->q, n * st_dtype_size(t->dtype) + slack, &t->weight_block, e));
    ST_TRY(st_device_arena(t->q, n * 4 + slack, &t->grad_block, e));
    ST_TRY(st_device_arena(t->q, n * (half ? 12 : 8) + slack, &t->optim_block, e));
    if (ema) ST_TRY(st_device_arena(t->q, n * 4 + slack, &t->ema_block, e));
    ST_TRY(st_device_arena(t->q, grad > eval ? grad : eval, &t->scratch, e));
    t->w = st_take1(&t->weight_block, t->dtype, t->elements);
    t->grad = st_take1(&t->grad_block, ST_F32, t->elements);
    t->m = st_take1(&t->optim_block, ST_F32, t->elements);
    t->v = st_take1(&t->optim_block, ST_F32, t->elements);
    if (half) t->master = st_take1(&t->optim_block, ST_F32, t->elements);
    if (ema) t->ema = st_take1(&t->ema_block, ST_F32, t->elements);
    const st_ops *op = st_stream_ops(t->q);
    op->fill(t->q, &(st_fill_args){.x = t->m});
    op->fill(t->q, &(st_fill_args){.x = t->v});
    st_upload(t->q, half ? t->master : t->w, t->flat);
    if (half) op->copy(t->q, &(st_copy_args){.x = t->master, .y = t->w});
    st_model_bind(t->model, t->w, t->grad);
    st_groups_freeze(t);
    st_ema_start(t);
    return st_stream_sync(t->q, e);
}

json_t *st_trainer_memory(const st_trainer *t)
{
    json_int_t weights = (json_int_t)st_bytes(t->w), grads = (json_int_t)st_bytes(t->grad),
               optim = (json_int_t)(st_bytes(t->m) + st_bytes(t->v)),
               acts = (json_int_t)t->scratch.cap + (json_int_t)t->batch_block.cap,
               staging = t->elements * 4, teacher = (json_int_t)t->teacher_block.cap, ema = 0;
    if (t->master.data) optim += (json_int_t)st_bytes(t->master);
    if (t->ema.data) ema = (json_int_t)st_bytes(t->ema);
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "weights", weights, "gradients",
                     grads, "optimizer", optim, "average", ema, "activations", acts, "teacher",
                     teacher, "staging", staging, "total",
                     weights + grads + optim + ema + acts + teacher + staging);
}

static void trainer_say(const st_trainer *t)
{
    const double mib = 1048576.0;
    json_t *j = st_trainer_memory(t);
    static const char *const key[] = {"weights",     "gradients", "optimizer", "average",
                                      "activations", "teacher",   "staging",   "total"};
    double x[8];
    for (int i = 0; i < 8; i++)
        x[i] = (double)json_integer_value(json_object_get(j, key[i])) / mib;
    json_decref(j);
    double room = st_memory_free() / mib;
    if (st_stream_on_host(t->q) && x[7] > room)
        st_log(ST_LOG_WARN,
               "training wants %.1f GiB, and %.1f GiB are free to use: the system may end it; a "
               "smaller train.micro_batch needs less and gives the same steps with the same "
               "train.tokens_per_step",
               x[7] / 1024, room / 1024);
    st_log(ST_LOG_INFO,
           "memory: weights %.1f, gradients %.1f, optimizer %.1f, average %.1f, activations %.1f, "
           "teacher %.1f, staging %.1f; together %.1f MiB",
           x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]);
    st_log(
        ST_LOG_INFO,
        "%lld parameters, %s on %s; %lld tokens per step = micro_batch %lld x context %lld x %lld "
        "accumulated",
        (long long)t->parameters, st_dtype_name(t->dtype), st_stream_describe(t->q),
        (long long)(t->rows * t->context * t->accumulate), (long long)t->rows,
        (long long)t->context, (long long)t->accumulate);
}

/* ---- data ------------------------------------------------------------------------------------ */

/* DIR/test.bin, or test.npy if that is there and the first is not. */
static char *trainer_test_path(const char *dir)
{
    char *bin = st_path_join(dir, "test.bin"), *npy = st_path_join(dir, "test.npy");
    bool other = bin && npy && !st_path_exists(bin) && st_path_exists(npy);
    free(other ? bin : npy);
    return other ? npy : bin;
}

/* Where the tokens of `b` are; new memory. */
static st_status trainer_path(const st_trainer *t, const st_batch *b, const char *key,
                              const char *given, char **path, st_err *e)
{
    char place[256];
    if (!given && !t->set->data.dir) {
        ST_FAIL(e, ST_EARG,
                "%s: nothing to train on; say data=FOLDER (made by `strut prepare`) or %s",
                st_set_place(t->set, "data.dir", place, sizeof place), key);
    }
    *path = given           ? strdup(given)
            : b == &t->test ? trainer_test_path(t->set->data.dir)
                            : st_shard_path(t->set->data.dir, b == &t->val);
    if (!*path) ST_FAIL(e, ST_ENOMEM, "%s: out of memory", key);
    return ST_OK;
}

static st_status trainer_shard(st_trainer *t, st_batch *b, const char *key, const char *given,
                               st_err *e)
{
    char place[256], *path;
    int64_t vocab = st_model_lm(t->model).vocab;
    ST_TRY(trainer_path(t, b, key, given, &path, e));
    st_order order = (st_order)t->set->data.order;
    uint64_t seed = (uint64_t)t->set->seed;
    if (b == &t->test) order = ST_ORDER_SEQUENTIAL;
    if (b == &t->val) {
        order = t->set->eval.order ? ST_ORDER_RANDOM : ST_ORDER_SEQUENTIAL;
        seed++; /* of the windows it draws: not those of the training shard */
    }
    st_status s = st_batch_open(b, path, vocab, t->context, order, seed, e);
    free(path);
    if (s && e) st_err_prefix(e, "%s", st_set_place(t->set, key, place, sizeof place));
    return s;
}

static st_status trainer_data(st_trainer *t, st_err *e)
{
    const st_settings *set = t->set;
    ST_TRY(trainer_shard(t, &t->train, "data.train", set->data.train, e));
    ST_TRY(st_epoch_open(t, e));
    if (set->train.test == ST_UNSET ? set->data.test != NULL : set->train.test) {
        ST_TRY(trainer_shard(t, &t->test, "data.test", set->data.test, e));
        t->has_test = true;
    }
    if (set->eval.every == 0) return ST_OK;
    if (!set->data.val && !set->data.dir) {
        char place[256];
        ST_FAIL(e, ST_EARG, "%s: no validation shard; name one or set eval.every=0",
                st_set_place(set, "data.val", place, sizeof place));
    }
    ST_TRY(trainer_shard(t, &t->val, "data.val", set->data.val, e));
    t->has_val = true;
    return ST_OK;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static int64_t trainer_rows(int64_t steps, int64_t every)
{
    return every > 0 ? steps / every + 3 : 0;
}

/* The settings as they were given, with what followed from them as remarks. */
static char *trainer_yaml(const st_trainer *t)
{
    char *yaml = st_settings_yaml(t->set), *text = NULL;
    int n = !yaml ? -1
                  : asprintf(&text,
                             "# `strut train %s/config.yaml` goes on with this run. The null below "
                             "stand for:\n#   train.context %lld, train.tokens_per_step %lld, "
                             "train.min_lr %g, train.decay_steps %lld, train.steps %lld (%lld an "
                             "epoch);\n#   model.*: see ckpt/last/config.json\n%s",
                             t->out, (long long)t->context,
                             (long long)(t->rows * t->context * t->accumulate), t->min_lr,
                             (long long)t->decay_steps, (long long)t->steps,
                             (long long)t->per_epoch, yaml);
    free(yaml);
    return n < 0 ? NULL : text;
}

/* What the run was composed of, where Hydra's users look for it. */
static st_status trainer_hydra(const st_trainer *t, st_err *e)
{
    if (!t->how) return ST_OK;
    char *dir = st_path_join(t->out, ".hydra"), *text = NULL, *words = NULL;
    char *config = dir ? st_path_join(dir, "config.yaml") : NULL;
    char *overrides = dir ? st_path_join(dir, "overrides.yaml") : NULL;
    size_t size = 0;
    FILE *f = open_memstream(&words, &size);
    for (int i = 0; f && i < t->how->n; i++) {
        json_t *word = json_string(t->how->override[i]);
        fputs("- ", f);
        json_dumpf(word, f, JSON_ENCODE_ANY); /* YAML reads JSON strings */
        fputc('\n', f);
        json_decref(word);
    }
    bool told = f && fclose(f) == 0;
    st_status s = config && overrides && told ? st_make_dirs(dir, e)
                                              : ST_ERR(e, ST_ENOMEM, ".hydra: out of memory");
    if (!s && !(text = st_config_text(t->how, false, e))) s = ST_EFORMAT;
    if (!s) s = st_write_file(config, text, strlen(text), e);
    if (!s) s = st_write_file(overrides, words, strlen(words), e);
    free(words);
    free(text);
    free(overrides);
    free(config);
    free(dir);
    return s;
}

static st_status trainer_record(st_trainer *t, st_err *e)
{
    const st_settings *set = t->set;
    st_status s = ST_OK;
    if (t->out) {
        ST_TRY(st_make_dirs(t->out, e));
        char *yaml = trainer_yaml(t), *path = st_path_join(t->out, "config.yaml");
        s = yaml && path ? st_write_file(path, yaml, strlen(yaml), e)
                         : ST_ERR(e, ST_ENOMEM, "config.yaml: out of memory");
        free(yaml);
        free(path);
        if (!s) s = trainer_hydra(t, e);
    }
    t->metrics.name = t->monitor.name;
    t->metrics.names = t->monitor.names;
    if (!s) {
        s = st_metrics_open(&t->metrics, t->out, t->teach.teacher != NULL, t->state.step,
                            t->state.evaluated, trainer_rows(t->steps, set->log.every),
                            trainer_rows(t->steps, set->eval.every), e);
    }
    if (!s) s = st_norms_open(t, e);
    if (!s) s = st_board_open(t, e);
    return s;
}

static st_status trainer_device(st_trainer *t, st_err *e)
{
    char place[256];
    st_status s = st_stream_open(&t->q, t->set->device, (int)t->set->threads, e);
    if (s == ST_EARG && e)
        st_err_prefix(e, "%s", st_set_place(t->set, "device", place, sizeof place));
    return s;
}

st_status st_trainer_open(st_trainer *t, const st_train_opts *o, st_err *e)
{
    *t = (st_trainer){.set = o->set,
                      .how = o->how,
                      .out = o->dry ? NULL : o->set->out,
                      .dtype = (st_dtype)o->set->dtype,
                      .saved = -1,
                      .state = {.evaluated = -1,
                                .best_step = -1,
                                .best_loss = INFINITY,
                                .val_loss = (double)NAN,
                                .stop_best = (double)NAN,
                                .loss = (double)NAN}};
    st_status s = t->out ? st_ckpt_choose(t->set, &t->resume, e) : ST_OK;
    if (!s) s = st_trainer_model(t, o, e);
    if (s == ST_EFORMAT && t->resume) st_ckpt_hint(t->set, t->resume, e);
    if (!s) s = trainer_sizes(t, e);
    if (!s) s = st_groups_open(t, e);
    if (!s) s = trainer_device(t, e);
    if (!s) s = trainer_data(t, e);
    if (!s) s = st_stop_open(t, e);
    if (!s) s = trainer_batch(t, e);
    if (!s) s = st_distill_open(t, e);
    if (!s) s = trainer_memory(t, e);
    if (!s) trainer_say(t);
    if (!s && t->resume) {
        s = st_ckpt_load(t, e);
        if (s == ST_EFORMAT || s == ST_ESHAPE) st_ckpt_hint(t->set, t->resume, e);
    }
    if (!s) st_monitor_open(t);
    if (!s && !o->dry) s = trainer_record(t, e);
    return s;
}

/* How long it is, by the size of the training shard. */
static st_status trainer_length(st_trainer *t, st_err *e)
{
    char *path, place[256];
    ST_TRY(trainer_path(t, &t->train, "data.train", t->set->data.train, &path, e));
    st_status s = st_shard_open(&t->train.shard, path, e);
    free(path);
    t->train.context = t->context;
    if (s && e) st_err_prefix(e, "%s", st_set_place(t->set, "data.train", place, sizeof place));
    return s ? s : st_epoch_open(t, e);
}

st_status st_trainer_check(const st_settings *set, double *work, st_err *e)
{
    st_trainer t = {.set = set};
    char *resume = NULL;
    bool begun = st_ckpt_choose(set, &resume, NULL) || resume;
    free(resume);
    if (begun) e = NULL;
    st_status s = st_trainer_shape(&t, e);
    if (!s) s = trainer_sizes(&t, e);
    if (!s) s = st_groups_open(&t, e);
    if (!s) s = trainer_length(&t, e);
    *work =
        s ? 0.0
          : (double)(t.rows * t.context * t.accumulate) * (double)t.steps * (double)t.parameters;
    st_trainer_close(&t);
    return begun ? ST_OK : s;
}

void st_trainer_close(st_trainer *t)
{
    st_metrics_close(&t->metrics);
    st_norms_close(t);
    st_events_close(t->board);
    json_decref(t->warm);
    st_batch_close(&t->train);
    st_batch_close(&t->val);
    st_batch_close(&t->test);
    st_arena *block[] = {&t->weight_block, &t->grad_block,    &t->optim_block, &t->ema_block,
                         &t->batch_block,  &t->teacher_block, &t->scratch};
    for (int i = 0; t->q && i < 7; i++)
        st_device_arena_close(t->q, block[i]);
    st_stream_close(t->q);
    st_model_close(t->model);
    st_distill_close(t);
    st_bpe_close(t->own_tokenizer);
    if (t->own) free(t->flat);
    free(t->host_ids);
    free(t->host_targets);
    free(t->host_loss);
    free(t->range);
    free(t->resume);
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

st_status st_trainer_weights(st_trainer *t, st_err *e)
{
    st_download(t->q, t->flat, t->ema.data ? t->ema : t->master.data ? t->master : t->w);
    ST_TRY(st_stream_sync(t->q, e));
    struct trainer_finite f = {.flat = t->flat};
    st_model_params(t->model, trainer_finite, &f);
    if (f.bad) {
        ST_FAIL(e, ST_EARG, "step %lld: %s is no longer finite; train again with a lower train.lr",
                (long long)t->state.step, f.bad);
    }
    return ST_OK;
}
