/* The average of the weights: what it is at every step, that it is what is validated and stored,
 * and that training goes on from both. */
/* SPDX-License-Identifier: MIT */
#include "rig/runs.h"
#include "store/store.h"
#include <stdlib.h>

enum { STEPS = 4 };
#define KEEP "train.steps=4 ckpt.every=1 ckpt.keep=12 eval.every=0 "

/* Weights of a checkpoint, or those before the first step. */
static float *weights(const char *run, int step, int64_t *n)
{
    st_model *m = NULL;
    st_bpe *none = NULL;
    float *flat = NULL;
    st_err e = {0};
    char at[64];
    snprintf(at, sizeof at, "ckpt/step-%d", step ? step : 1);
    assert_ok(st_folder_read(runs_file(run, at), &m, &flat, &none, &e), &e);
    *n = st_model_elements(m);
    if (!step) assert_ok(st_fresh_weights(m, 1337, flat, &e), &e);
    st_bpe_close(none);
    st_model_close(m);
    return flat;
}

/* a_t = a_(t-1) + (1 - d)(w_t - a_(t-1)) from a_0 = w_0, w of a run without an average. */
static void holds(const char *with, const char *without, double most, bool warmup)
{
    int64_t n, m;
    float *mean = weights(without, 0, &n);
    double *want = st_calloc(n, sizeof *want), off = 0;
    for (int64_t i = 0; i < n; i++)
        want[i] = (double)mean[i];
    free(mean);
    for (int t = 1; t <= STEPS; t++) {
        double d = warmup ? fmin(most, (1.0 + t) / (10.0 + t)) : most;
        float *w = weights(without, t, &m), *is = weights(with, t, &m);
        assert_int_equal(n, m);
        for (int64_t i = 0; i < n; i++) {
            want[i] += (1 - d) * ((double)w[i] - want[i]);
            off = fmax(off, fabs(want[i] - (double)is[i]));
        }
        free(w);
        free(is);
        if (off > 1e-6) fail_msg("step %d: the average is off by %g", t, off);
    }
    free(want);
}

static void test_is_the_average(void **state)
{
    (void)state;
    json_decref(runs_good("plain", KEEP));
    json_decref(runs_good("mean", KEEP "train.ema=0.8"));
    json_decref(runs_good("warm", KEEP "train.ema=0.6 train.ema_warmup=true"));
    holds("mean", "plain", 0.8, false);
    holds("warm", "plain", 0.6, true);
    json_decref(runs_good("plain16", KEEP "dtype=bfloat16"));
    json_decref(runs_good("mean16", KEEP "dtype=bfloat16 train.ema=0.8"));
    holds("mean16", "plain16", 0.8, false);
}

/* The validation loss is that of the stored model. */
static void test_is_validated(void **state)
{
    (void)state;
    json_t *a = runs_good("shown", "train.ema=0.9"), *b = runs_good("raw", "");
    assert_true(fabs(runs_number(a, "val_loss") - runs_number(b, "val_loss")) > 1e-3);
    assert_true(fabs(runs_number(a, "loss") - runs_number(b, "loss")) <= 0);
    char more[600];
    snprintf(more, sizeof more,
             "init=%s model.n_layer=null model.n_head=null model.n_embd=null "
             "model.n_positions=null model.vocab_size=null train.steps=0",
             runs_file("shown", "ckpt/last"));
    json_t *c = runs_good("again", more);
    assert_true(fabs(runs_number(a, "val_loss") - runs_number(c, "val_loss")) < 1e-12);
    const json_t *memory = json_object_get(a, "memory");
    assert_int_equal(runs_number(memory, "average"), runs_number(memory, "weights"));
    json_decref(a);
    json_decref(b);
    json_decref(c);
}

static void resumes(const char *name, const char *more)
{
    char whole[64], part[64], text[512];
    snprintf(whole, sizeof whole, "%s-whole", name);
    snprintf(part, sizeof part, "%s-part", name);
    json_decref(runs_good(whole, more));
    snprintf(text, sizeof text, "%s train.steps=8", more);
    json_decref(runs_good(part, text));
    json_decref(runs_good(part, more));
    runs_same_ckpt(whole, part);
    runs_same_metrics(whole, part);
}

static void test_resumes(void **state)
{
    (void)state;
    resumes("f32",
            "train.ema=0.9 train.ema_warmup=true train.dropout=0.1 eval.every=8 ckpt.every=0");
    resumes("bf16", "train.ema=0.9 dtype=bfloat16");
}

/* Going on without the average takes the weights in training; with one, it starts from them. */
static void test_changes(void **state)
{
    (void)state;
    json_t *r;
    st_err e;
    json_decref(runs_good("off", "train.ema=0.9 train.steps=8"));
    json_decref(runs_good("never", ""));
    assert_st(runs_train("off", "", &r, &e), ST_EARG, &e);
    assert_says(&e, "train.ema: found 0");
    json_decref(runs_good("off", "ckpt.resume=yes"));
    runs_same_ckpt("never", "off");
    json_decref(runs_good("on", "train.steps=8"));
    json_decref(runs_good("on", "train.ema=0.5 ckpt.resume=yes ckpt.keep=1"));
    int64_t n, m;
    float *a = weights("on", 12, &n);
    json_decref(runs_good("kept", "ckpt.keep=1"));
    float *b = weights("kept", 12, &m);
    double off = 0;
    for (int64_t i = 0; i < n; i++)
        off = fmax(off, fabs((double)a[i] - (double)b[i]));
    assert_true(off > 1e-4 && off < 0.1);
    free(a);
    free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_is_the_average),
        cmocka_unit_test(test_is_validated),
        cmocka_unit_test(test_resumes),
        cmocka_unit_test(test_changes),
    };
    return cmocka_run_group_tests(tests, runs_set_up, runs_tear_down);
}
