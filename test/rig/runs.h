/* What the training tests share: a small corpus, a small model, and runs of it. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_TEST_RUNS_H
#define ST_TEST_RUNS_H

#include "testing.h"
#include "train/inner.h"
#include <math.h>

enum { RUN_VOCAB = 23, RUN_TOKENS = 6000, RUN_WORDS = 32 };

static char runs_dir[512]; /* the corpus and every run of the program are in it */

/* A text that can be learnt: mostly counting modulo RUN_VOCAB, sometimes not. */
static int runs_set_up(void **state)
{
    (void)state;
    static uint16_t token[RUN_TOKENS];
    st_rng r = {.seed = 1};
    for (int i = 0; i < RUN_TOKENS; i++) {
        int next = i ? (token[i - 1] + 1) % RUN_VOCAB : 0;
        token[i] = (uint16_t)(st_rng_below(&r, 10) ? next : (int)st_rng_below(&r, RUN_VOCAB));
    }
    snprintf(runs_dir, sizeof runs_dir, "%s", st_test_dir());
    st_test_write(st_test_path(runs_dir, "train.bin"), token, sizeof token - 2000);
    st_test_write(st_test_path(runs_dir, "val.bin"), token + RUN_TOKENS - 1000, 2000);
    return 0;
}

static int runs_tear_down(void **state)
{
    (void)state;
    st_test_remove(runs_dir);
    return 0;
}

/* Settings of a tiny run in runs_dir/NAME, and the overrides in `more` (separated by spaces). */
static st_status runs_settings(st_settings *set, const char *name, const char *more, st_err *e)
{
    static const char preset[] =
        "model.n_layer=2 model.n_head=2 model.n_embd=16 model.n_positions=16 model.vocab_size=23 "
        "train.steps=12 train.micro_batch=4 train.lr=1e-2 train.warmup=3 train.decay_steps=12 "
        "train.dropout=0 eval.every=4 eval.batches=2 ckpt.every=4 log.every=1 threads=1";
    char text[2048];
    const char *word[RUN_WORDS * 2];
    int n = 0;
    snprintf(text, sizeof text, "%s data=%s out=%s/%s %s", preset, runs_dir, runs_dir, name, more);
    for (char *p = strtok(text, " "); p; p = strtok(NULL, " "))
        word[n++] = p;
    return st_settings_load(set, NULL, word, n, e);
}

static st_status runs_train(const char *name, const char *more, json_t **result, st_err *e)
{
    st_settings set;
    *e = (st_err){0};
    *result = NULL;
    st_status s = runs_settings(&set, name, more, e);
    if (s) return s;
    s = st_train_run(&(st_train_opts){.set = &set}, result, e);
    st_settings_close(&set);
    return s;
}

/* A run that must succeed; its result is the caller's. */
static json_t *runs_good(const char *name, const char *more)
{
    json_t *result;
    st_err e;
    assert_ok(runs_train(name, more, &result, &e), &e);
    assert_non_null(result);
    return result;
}

static const char *runs_file(const char *name, const char *file)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", name, file);
    return st_test_path(runs_dir, path);
}

/* The same bytes in both files. */
static void runs_same(const char *a, const char *b)
{
    size_t n = 0, m = 0;
    char *x = st_test_read(a, &n), *y = st_test_read(b, &m);
    if (!x || !y || n != m || memcmp(x, y, n) != 0) fail_msg("%s and %s differ", a, b);
    free(x);
    free(y);
}

/* Checkpoints of two runs hold the same weights and moments, and the same numbers of progress. */
static inline void runs_same_ckpt(const char *a, const char *b)
{
    char x[600];
    snprintf(x, sizeof x, "%s", runs_file(a, "ckpt/last/model.safetensors"));
    runs_same(x, runs_file(b, "ckpt/last/model.safetensors"));
    snprintf(x, sizeof x, "%s", runs_file(a, "ckpt/last/state.safetensors"));
    runs_same(x, runs_file(b, "ckpt/last/state.safetensors"));
}

/* Metrics without what a clock says, and without validations that only one run's end caused. */
static char *runs_metrics(const char *name)
{
    size_t n = 0, used = 0;
    char *text = st_test_read(runs_file(name, "metrics.csv"), &n), *out = st_calloc(1, n + 1);
    assert_non_null(text);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        char *field[9] = {line};
        for (int i = 1; i < 9; i++) {
            field[i] = strchr(field[i - 1], ',');
            assert_non_null(field[i]);
            *field[i]++ = '\0';
        }
        used += (size_t)sprintf(out + used, "%s %s %s %s %s %s\n", field[0], field[1], field[2],
                                field[3], field[4], field[7]);
    }
    free(text);
    return out;
}

/* The same of the JSON lines, which must be the same rows. */
static char *runs_lines(const char *name)
{
    size_t n = 0, used = 0;
    char *text = st_test_read(runs_file(name, "metrics.jsonl"), &n), *out = st_calloc(1, 2 * n + 1);
    assert_non_null(text);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        json_t *row = json_loads(line, 0, NULL);
        assert_true(json_is_object(row));
        json_object_del(row, "seconds");
        static const char *const timed[] = {"tokens_per_second", "step_ms", "inter_ms",
                                            "epoch_seconds", "gflops"};
        for (int i = 0; i < 5; i++)
            json_object_del(row, timed[i]);
        char *plain = json_dumps(row, JSON_COMPACT);
        used += (size_t)sprintf(out + used, "%s\n", plain);
        free(plain);
        json_decref(row);
    }
    free(text);
    return out;
}

static inline void runs_same_metrics(const char *a, const char *b)
{
    char *x = runs_metrics(a), *y = runs_metrics(b), *p = runs_lines(a), *q = runs_lines(b);
    assert_string_equal(x, y);
    assert_string_equal(p, q);
    free(x);
    free(y);
    free(p);
    free(q);
}

static double runs_number(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_number(v)) fail_msg("no number %s in the result", key);
    return json_number_value(v);
}

#endif
