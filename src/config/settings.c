/* The table of settings, and settings as JSON and YAML. Names and defaults follow what users of
 * nanoGPT, llm.c and Hugging Face know. */
/* Long: a table of settings, a row each. */
/* SPDX-License-Identifier: MIT */
#include "config/value.h"
#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Positions are the values of st_dtype, st_order, st_last and st_lr_schedule. */
static const char *const set_dtypes[] = {"float32", "bfloat16", NULL};
static const char *const set_orders[] = {"random", "shuffle", "sequential", NULL};
static const char *const set_lasts[] = {"wrap", "drop", "short", "micro", NULL};
static const char *const set_schedules[] = {"cosine", "linear", "constant", NULL};
static const char *const set_starts[] = {"zero", "step", NULL}; /* st_warmup_start */
static const char *const set_windows[] = {"spread", "random", NULL};
static const char *const set_distances[] = {"relative", "mse", NULL};
static const char *const set_states[] = {"block", "mlp", NULL};
static const char *const set_inputs[] = {"own", "teacher", NULL};
static const char *const set_laws[] = {"dense", "fly", "fork", NULL}; /* st_fresh_law */
static const char *const set_watched[] = {"val_loss", "train_loss", NULL};
static const char *const set_modes[] = {"min", "max", NULL};
static const char *const set_gelus[] = {"gelu_new", "gelu", NULL};

#define AT(field) offsetof(st_settings, field)
#define BIG       9e15

/* clang-format off */
const set_row st_set_rows[] = {
    {"name", SET_TEXT, AT(name), NULL, 0, 0, NULL, SET_NULL | SET_FREE,
     "name of the run; null: that of the config file"},
    {"out", SET_TEXT, AT(out), NULL, 0, 0, NULL, SET_NULL | SET_FREE,
     "folder of the run; null: runs/NAME"},
    {"device", SET_TEXT, AT(device), "auto", 0, 0, NULL, SET_FREE,
     "where to compute: cpu, cuda (cuda:1 is the second GPU), ref (plain loops), or auto: the GPU "
     "where there is one, else the cpu"},
    {"dtype", SET_CHOICE, AT(dtype), "float32", 0, 0, set_dtypes, 0,
     "weights and activations; bfloat16 keeps float32 master weights"},
    {"threads", SET_INT, AT(threads), "0", 0, 4096, NULL, SET_FREE, "0: as many as there are"},
    {"seed", SET_INT, AT(seed), "1337", 0, BIG, NULL, 0,
     "of initial weights, data order and dropout"},
    {"init", SET_TEXT, AT(init), "scratch", 0, 0, NULL, 0,
     "scratch, or a model to start from, folder or file (then model.* is its own, but for maps, "
     "onto which it is projected)"},

    {"data.dir", SET_TEXT, AT(data.dir), NULL, 0, 0, NULL, SET_NULL | SET_FREE,
     "folder with train.bin and val.bin; `data=DIR` is short for this"},
    {"data.train", SET_TEXT, AT(data.train), NULL, 0, 0, NULL, SET_NULL | SET_FREE,
     "training shard (nanoGPT's, llm.c's or .npy); null: data.dir/train.bin or train.npy"},
    {"data.val", SET_TEXT, AT(data.val), NULL, 0, 0, NULL, SET_NULL | SET_FREE,
     "validation shard; null: data.dir/val.bin, val.npy or validation.npy"},
    {"data.test", SET_TEXT, AT(data.test), NULL, 0, 0, NULL, SET_NULL | SET_FREE,
     "shard whose perplexity is measured at the end (train.test); null: data.dir/test.bin or "
     "test.npy"},
    {"data.order", SET_CHOICE, AT(data.order), "random", 0, 0, set_orders, 0,
     "random: windows from anywhere, with replacement (nanoGPT); shuffle: every window once an "
     "epoch (fly); sequential"},
    {"data.last", SET_CHOICE, AT(data.last), "wrap", 0, 0, set_lasts, 0,
     "last step of an epoch: wrap: goes on into the next; drop: left out if it is not full; short: "
     "has fewer rows; micro: likewise, and its micro-batches count alike, as PyTorch Lightning "
     "accumulates (fly)"},
    {"data.micro", SET_INT, AT(data.micro), NULL, 1, 1 << 24, NULL, SET_NULL,
     "rows of such a micro-batch, however few are computed at once (fly: 128, on 8 devices of 16); "
     "null: train.micro_batch"},

    {"model.preset", SET_TEXT, AT(model.preset), "gpt2", 0, 0, NULL, 0,
     "gpt2, gpt2-medium, gpt2-large, gpt2-xl or a config.json: what the keys below start from"},
    {"model.n_layer", SET_INT, AT(model.n_layer), NULL, 1, 4096, NULL, SET_NULL, "blocks"},
    {"model.n_head", SET_INT, AT(model.n_head), NULL, 1, 4096, NULL, SET_NULL, "attention heads"},
    {"model.n_kv_head", SET_INT, AT(model.n_kv_head), NULL, 1, 4096, NULL, SET_NULL,
     "of them those that have keys and values, for Llama's family"},
    {"model.n_embd", SET_INT, AT(model.n_embd), NULL, 1, 1 << 20, NULL, SET_NULL, "width"},
    {"model.n_inner", SET_INT, AT(model.n_inner), NULL, 1, 1 << 22, NULL, SET_NULL,
     "width inside the MLP; null: 4 n_embd"},
    {"model.n_positions", SET_INT, AT(model.n_positions), NULL, 1, 1 << 24, NULL, SET_NULL,
     "longest context"},
    {"model.vocab_size", SET_INT, AT(model.vocab_size), NULL, 1, 1 << 24, NULL, SET_NULL,
     "token ids; null: those of the tokenizer in data.dir, or the preset's"},
    {"model.activation_function", SET_TEXT, AT(model.activation_function), NULL, 0, 0, set_gelus,
     SET_NULL, "gelu_new (tanh) or gelu (erf)"},
    {"model.layer_norm_epsilon", SET_NUM, AT(model.layer_norm_epsilon), NULL, 0, DBL_MAX, NULL,
     SET_NULL, "in layer norms"},
    {"model.initializer_range", SET_NUM, AT(model.initializer_range), NULL, 0, 100, NULL, SET_NULL,
     "standard deviation of initial weights"},
    {"model.structured_init", SET_CHOICE, AT(model.structured_init), "dense", 0, 0, set_laws, 0,
     "new structured matrices: dense: as large as the dense ones would be; fly, fork: as fly's or "
     "the SS1 authors' layers start"},
    {"model.scale_attn_by_inverse_layer_idx", SET_FLAG, AT(model.scale_attn_by_inverse_layer_idx),
     NULL, 0, 0, NULL, SET_NULL, "divide the attention scores of block i by i + 1"},
    {"model.tie_word_embeddings", SET_FLAG, AT(model.tie_word_embeddings), NULL, 0, 0, NULL,
     SET_NULL, "the head is the token embedding"},
    {"model.map", SET_MAPS, AT(model.map), NULL, 0, 0, NULL, SET_NULL,
     "structured matrices {GLOB: SPEC}, e.g. {h.*.mlp.*: monarch:blocks=4}; later globs win"},
    {"model.map_preset", SET_TEXT, AT(model.map_preset), NULL, 0, 0, NULL, SET_NULL,
     "a layout by name, such as krony-81m (strut maps lists them); the three keys around win"},
    {"model.mlp.map", SET_TEXT, AT(model.mlp_map), NULL, 0, 0, NULL, SET_NULL,
     "spec of every MLP matrix; short for {h.*.mlp.*: SPEC}"},
    {"model.attn.map", SET_TEXT, AT(model.attn_map), NULL, 0, 0, NULL, SET_NULL,
     "spec of every attention matrix; short for {h.*.attn.*: SPEC}"},

    {"train.steps", SET_INT, AT(train.steps), NULL, 0, 1e12, NULL, SET_NULL | SET_FREE,
     "optimiser steps in all; null: those of train.epochs, or 1000"},
    {"train.epochs", SET_NUM, AT(train.epochs), NULL, 0, 1e9, NULL, SET_NULL | SET_FREE,
     "passes over the training windows; with train.steps too the run ends where the first of them "
     "does"},
    {"train.micro_batch", SET_INT, AT(train.micro_batch), "4", 1, 1 << 20, NULL, 0,
     "sequences computed at once; bounds the memory"},
    {"train.context", SET_INT, AT(train.context), NULL, 1, 1 << 24, NULL, SET_NULL,
     "tokens of a sequence; null: the model's n_positions"},
    {"train.tokens_per_step", SET_INT, AT(train.tokens_per_step), NULL, 1, 1e12, NULL, SET_NULL,
     "tokens of an optimiser step, a multiple of micro_batch x context; null: that product"},
    {"train.lr", SET_NUM, AT(train.lr), "6e-4", 0, 1e3, NULL, 0, "highest learning rate"},
    {"train.min_lr", SET_NUM, AT(train.min_lr), NULL, 0, 1e3, NULL, SET_NULL,
     "last learning rate; null: lr / 10 for cosine, 0 for linear"},
    {"train.warmup", SET_INT, AT(train.warmup), "100", 0, 1e12, NULL, 0,
     "steps over which the learning rate rises"},
    {"train.warmup_start", SET_CHOICE, AT(train.warmup_start), "zero", 0, 0, set_starts, 0,
     "zero: from 0, step s of W has s/W of it (fly; nanoGPT until December 2024); step: from the "
     "first step on, (s + 1)/(W + 1) (nanoGPT since)"},
    {"train.warmup_epochs", SET_NUM, AT(train.warmup_epochs), NULL, 0, 1e9, NULL, SET_NULL,
     "the same in epochs, in place of train.warmup"},
    {"train.schedule", SET_CHOICE, AT(train.schedule), "cosine", 0, 0, set_schedules, 0,
     "how it falls after that"},
    {"train.decay_steps", SET_INT, AT(train.decay_steps), NULL, 0, 1e12, NULL, SET_NULL,
     "step at which it has reached min_lr; null: train.steps"},
    {"train.weight_decay", SET_NUM, AT(train.weight_decay), "0.1", 0, 100, NULL, 0,
     "AdamW's, on matrices; never on biases and norms"},
    {"train.decay_embeddings", SET_FLAG, AT(train.decay_embeddings), "true", 0, 0, NULL, 0,
     "on embeddings too (nanoGPT: true, fly: false)"},
    {"train.groups", SET_GROUPS, AT(train.groups), NULL, 0, 0, NULL, SET_NULL,
     "parameters with a rate or decay of their own {NAME: {lr, decay, schedule, freeze}}: NAME is "
     "factors, scalars, matrices, embeddings, norms, biases or a glob of names such as h.*.b; "
     "later ones win; schedule: false holds lr from the first step to the last"},
    {"train.beta1", SET_NUM, AT(train.beta1), "0.9", 0, 0.999999, NULL, 0, "AdamW's"},
    {"train.beta2", SET_NUM, AT(train.beta2), "0.95", 0, 0.999999, NULL, 0, "AdamW's"},
    {"train.eps", SET_NUM, AT(train.eps), "1e-8", 1e-30, 1, NULL, 0, "AdamW's"},
    {"train.clip", SET_NUM, AT(train.clip), "1.0", 0, 1e9, NULL, 0,
     "largest global gradient norm; 0: no limit"},
    {"train.dropout", SET_NUM, AT(train.dropout), NULL, 0, 0.99, NULL, SET_NULL,
     "embedding, attention and residual dropout; null: as the model's config.json says"},
    {"train.ema", SET_NUM, AT(train.ema), "0", 0, 0.99999999, NULL, 0,
     "decay d of an average of the weights, a += (1 - d)(w - a) once a step, that is validated and "
     "stored as the model; 0: none"},
    {"train.ema_warmup", SET_FLAG, AT(train.ema_warmup), "false", 0, 0, NULL, 0,
     "d is at most (1 + t) / (10 + t) in step t"},
    {"train.warmstart.path", SET_TEXT, AT(train.warmstart_path), NULL, 0, 0, NULL, SET_NULL,
     "model whose parameters of the same name and shape the run begins with; null: none"},
    {"train.warmstart.strict", SET_FLAG, AT(train.warmstart_strict), "true", 0, 0, NULL, 0,
     "false: those that are missing or of another shape stay as they are"},
    {"train.test", SET_FLAG, AT(train.test), NULL, 0, 0, NULL, SET_NULL | SET_FREE,
     "measure the test shard at the end, all of it, with the weights of ckpt/best (without one: "
     "the last); null: if data.test is given"},

    {"stop.patience", SET_INT, AT(stop.patience), NULL, 1, 1e12, NULL, SET_NULL | SET_FREE,
     "end the run after so many validations in a row without a better loss; null: never"},
    {"stop.monitor", SET_CHOICE, AT(stop.monitor), "val_loss", 0, 0, set_watched, SET_FREE,
     "the loss that counts; train_loss: its mean since the validation before"},
    {"stop.min_delta", SET_NUM, AT(stop.min_delta), "0", 0, 1e6, NULL, SET_FREE,
     "only better by more than this is better"},
    {"stop.mode", SET_CHOICE, AT(stop.mode), "min", 0, 0, set_modes, SET_FREE,
     "min: lower is better; max: higher is"},

    {"distill.teacher", SET_TEXT, AT(distill.teacher), NULL, 0, 0, NULL, SET_NULL,
     "model whose outputs are learnt too; `distill=MODEL` is short for this; null: none"},
    {"distill.ce", SET_NUM, AT(distill.ce), "0.5", 0, 1e6, NULL, 0,
     "weight of the cross entropy with the text, if there is a teacher"},
    {"distill.kl", SET_NUM, AT(distill.kl), "0.5", 0, 1e6, NULL, 0,
     "weight of T^2 KL(teacher || model), both softened by the temperature T"},
    {"distill.temperature", SET_NUM, AT(distill.temperature), "2", 1e-3, 1e3, NULL, 0, "T"},
    {"distill.hidden", SET_NUM, AT(distill.hidden), "0", 0, 1e6, NULL, 0,
     "weight of the distance of every block's state from the teacher's, summed over blocks"},
    {"distill.states", SET_CHOICE, AT(distill.states), "block", 0, 0, set_states, 0,
     "what is compared of a block: its output, or what its MLP adds to it (KnGPT2)"},
    {"distill.embedding", SET_NUM, AT(distill.embedding), "0", 0, 1e6, NULL, 0,
     "weight of the distance of the embedding's output"},
    {"distill.distance", SET_CHOICE, AT(distill.distance), "relative", 0, 0, set_distances, 0,
     "|h - t|^2 / |t|^2 of each token, or its mean over the width"},
    {"distill.inputs", SET_CHOICE, AT(distill.inputs), "own", 0, 0, set_inputs, 0,
     "teacher: every block reads what the teacher's block reads and is fitted by itself "
     "(block reconstruction; distill.hidden alone)"},

    {"eval.every", SET_INT, AT(eval.every), "200", 0, 1e12, NULL, SET_FREE,
     "steps between validations; 0: none"},
    {"eval.batches", SET_INT, AT(eval.batches), "20", 0, 1e9, NULL, SET_FREE,
     "micro-batches of a validation; 0: all of the shard"},
    {"eval.order", SET_CHOICE, AT(eval.order), "spread", 0, 0, set_windows, SET_FREE,
     "spread: the same windows each time, evenly over the shard; random: others each time, from "
     "anywhere (nanoGPT)"},
    {"ckpt.every", SET_INT, AT(ckpt.every), "500", 0, 1e12, NULL, SET_FREE,
     "steps between checkpoints; 0: at the end and on Ctrl-C only"},
    {"ckpt.keep", SET_INT, AT(ckpt.keep), "0", 0, 1e6, NULL, SET_FREE,
     "step-N checkpoints kept beside last and best"},
    {"ckpt.top_k", SET_INT, AT(ckpt.top_k), "0", 0, 64, NULL, SET_FREE,
     "keep the checkpoints of so many lowest validation losses, as top-N (N their step)"},
    {"ckpt.progress_every", SET_INT, AT(ckpt.progress_every), "0", 0, 1e12, NULL, SET_FREE,
     "steps between checkpoints progress-N, which are kept for ever; 0: none"},
    {"ckpt.best", SET_FLAG, AT(ckpt.best), "true", 0, 0, NULL, SET_FREE,
     "keep the checkpoint of the lowest validation loss"},
    {"ckpt.best_below", SET_NUM, AT(ckpt.best_below), NULL, 0, 1e3, NULL, SET_NULL | SET_FREE,
     "only if that loss is below this; null: any"},
    {"ckpt.resume", SET_TEXT, AT(ckpt.resume), "auto", 0, 0, NULL, SET_FREE,
     "auto: go on if the run is there and its settings are the same; yes: go on with changed "
     "settings too; no: never; or a checkpoint folder"},
    {"log.every", SET_INT, AT(log.every), "10", 1, 1e12, NULL, SET_FREE,
     "steps between rows of metrics"},
    {"log.norms", SET_INT, AT(log.norms), "0", 0, 1e12, NULL, SET_FREE,
     "steps between rows of OUT/norms.jsonl: largest and mean magnitude of every parameter and of "
     "its gradient; 0: none"},
    {"log.tensorboard", SET_FLAG, AT(log.tensorboard), "true", 0, 0, NULL, SET_FREE,
     "write OUT/events.out.tfevents.* for TensorBoard, too"},
};

const set_row st_set_group_rows[] = {
    {"lr", SET_NUM, offsetof(set_group, lr), NULL, 0, 1e3, NULL, SET_NULL,
     "highest learning rate; null: train.lr"},
    {"decay", SET_NUM, offsetof(set_group, decay), NULL, 0, 100, NULL, SET_NULL,
     "AdamW's weight decay; null: train.weight_decay where that applies"},
    {"schedule", SET_FLAG, offsetof(set_group, schedule), NULL, 0, 0, NULL, SET_NULL,
     "false: lr at every step, whatever train.schedule and train.warmup say"},
    {"freeze", SET_FLAG, offsetof(set_group, freeze), NULL, 0, 0, NULL, SET_NULL,
     "true: not trained, and not part of the gradient's norm"},
    {0},
};
/* clang-format on */

int st_set_count(void)
{
    return (int)(sizeof st_set_rows / sizeof st_set_rows[0]);
}

int st_set_find(const char *key)
{
    for (int i = 0; i < st_set_count(); i++)
        if (strcmp(st_set_rows[i].key, key) == 0) return i;
    return -1;
}

const char *st_set_place(const st_settings *s, const char *key, char *text, size_t n)
{
    int i = st_set_find(key);
    const char *where = i >= 0 && s->where ? s->where[i] : NULL;
    snprintf(text, n, "%s%s%s", where ? where : "", where ? ": " : "", key);
    return text;
}

json_t *st_set_value(const st_settings *s, const set_row *r)
{
    const void *at = (const char *)s + r->at;
    const char *text;
    switch (r->kind) {
    case SET_TEXT: return (text = *(char *const *)at) ? st_json_text(text) : json_null();
    case SET_NUM: return isnan(*(const double *)at) ? json_null() : json_real(*(const double *)at);
    case SET_MAPS:
    case SET_GROUPS: return *(json_t *const *)at ? json_incref(*(json_t *const *)at) : json_null();
    default: break;
    }
    int64_t i = *(const int64_t *)at;
    if (i == ST_UNSET) return json_null();
    if (r->kind == SET_FLAG) return json_boolean(i != 0);
    return r->kind == SET_CHOICE ? json_string(r->choice[i]) : json_integer(i);
}

json_t *st_settings_json(const st_settings *s)
{
    json_t *o = json_object();
    for (int i = 0; o && i < st_set_count(); i++)
        json_object_set_new(o, st_set_rows[i].key, st_set_value(s, &st_set_rows[i]));
    return o;
}

/* The order of an object counts: later globs win. */
static bool settings_same(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b))
        return fabs(json_number_value(a) - json_number_value(b)) <= 0.0;
    if (!json_equal(a, b)) return false;
    if (!json_is_object(a)) return true;
    void *p = json_object_iter((json_t *)(uintptr_t)a),
         *q = json_object_iter((json_t *)(uintptr_t)b);
    while (p && strcmp(json_object_iter_key(p), json_object_iter_key(q)) == 0) {
        p = json_object_iter_next((json_t *)(uintptr_t)a, p);
        q = json_object_iter_next((json_t *)(uintptr_t)b, q);
    }
    return !p;
}

const char *st_set_changed(const st_settings *s, const json_t *before)
{
    for (int i = 0; i < st_set_count(); i++) {
        const set_row *r = &st_set_rows[i];
        const json_t *old = json_object_get(before, r->key);
        if (!old || r->flags & SET_FREE) continue; /* a key younger than the run has its default */
        json_t *now = st_set_value(s, r);
        bool same = settings_same(now, old);
        json_decref(now);
        if (!same) return r->key;
    }
    return NULL;
}

/* ---- printing -------------------------------------------------------------------------------- */

/* A string as a YAML scalar: plain where no reader can mistake it, else double-quoted. */
static void settings_put_text(FILE *f, const char *text)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-";
    static const char *const words[] = {"null", "true", "false", "yes", "no",
                                        "on",   "off",  "y",     "n",   NULL};
    bool odd = !*text || strspn(text, plain) != strlen(text) || !strchr(plain, text[0]) ||
               text[0] == '-' || (text[0] >= '0' && text[0] <= '9') || text[0] == '.';
    for (int i = 0; words[i]; i++)
        odd = odd || strcasecmp(text, words[i]) == 0;
    if (!odd) {
        fputs(text, f);
        return;
    }
    json_t *j = st_json_text(text);
    char *quoted = j ? json_dumps(j, JSON_ENCODE_ANY) : NULL; /* YAML reads JSON strings */
    fputs(quoted ? quoted : "\"\"", f);
    free(quoted);
    json_decref(j);
}

static void settings_put_value(FILE *f, const json_t *v, int depth)
{
    const char *key;
    json_t *item;
    double d;
    switch (json_typeof(v)) {
    case JSON_STRING: settings_put_text(f, json_string_value(v)); break;
    case JSON_INTEGER: fprintf(f, "%lld", (long long)json_integer_value(v)); break;
    case JSON_TRUE: fputs("true", f); break;
    case JSON_FALSE: fputs("false", f); break;
    case JSON_REAL:
        for (int digits = 1; digits <= 17; digits++) {
            char text[40];
            snprintf(text, sizeof text, "%.*g", digits, json_real_value(v));
            d = strtod(text, NULL);
            if (digits < 17 && fabs(d - json_real_value(v)) > 0.0) continue;
            fputs(text, f);
            break;
        }
        break;
    case JSON_OBJECT:
        if (json_object_size(v) == 0) fputs("{}", f);
        json_object_foreach((json_t *)(uintptr_t)v, key, item)
        {
            fprintf(f, "\n%*s", 2 * depth, "");
            settings_put_text(f, key);
            fputs(": ", f);
            settings_put_value(f, item, depth + 1);
        }
        break;
    default: fputs("null", f);
    }
}

/* Opens the sections of `key` that `before` was not in and prints its last name. Returns its depth.
 */
static int settings_put_key(FILE *f, const char *before, const char *key)
{
    int depth = 0;
    const char *at = key;
    bool shared = true;
    for (const char *dot; (dot = strchr(at, '.')); at = dot + 1, depth++) {
        shared = shared && strncmp(before, key, (size_t)(dot + 1 - key)) == 0;
        if (shared) continue;
        fprintf(f, "%*s%.*s:\n", 2 * depth, "", (int)(dot - at), at);
    }
    fprintf(f, "%*s%s: ", 2 * depth, "", at);
    return depth;
}

char *st_settings_yaml(const st_settings *s)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (!f) return NULL;
    const char *before = "";
    for (int i = 0; i < st_set_count(); i++) {
        int depth = settings_put_key(f, before, st_set_rows[i].key);
        json_t *v = st_set_value(s, &st_set_rows[i]);
        settings_put_value(f, v, depth + 1);
        json_decref(v);
        fputc('\n', f);
        before = st_set_rows[i].key;
    }
    if (fclose(f) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

static void settings_legal(const set_row *r, char *text, size_t n)
{
    size_t at = 0;
    text[0] = '\0';
    if (r->choice) {
        for (int i = 0; r->choice[i] && at < n; i++)
            at += (size_t)snprintf(text + at, n - at, "%s%s", i ? ", " : "", r->choice[i]);
    } else if (r->kind == SET_INT || r->kind == SET_NUM) {
        at += (size_t)snprintf(text, n, "%.6g to %.6g", r->lo, r->hi);
    } else if (r->kind == SET_FLAG) {
        at += (size_t)snprintf(text, n, "true, false");
    }
    if (r->flags & SET_NULL && at < n) snprintf(text + at, n - at, "%snull", at ? ", " : "");
}

json_t *st_settings_keys(void)
{
    static const char *const type[] = {"text",   "integer", "number", "flag",
                                       "choice", "maps",    "groups"};
    json_t *list = json_array();
    for (int i = 0; list && i < st_set_count(); i++) {
        const set_row *r = &st_set_rows[i];
        char legal[256];
        settings_legal(r, legal, sizeof legal);
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:s, s:s, s:s}", "key", r->key, "type",
                                        type[r->kind], "default", r->preset ? r->preset : "null",
                                        "legal", legal, "help", r->help));
    }
    return list;
}
