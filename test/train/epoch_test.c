/* Epochs: how many rows each step has, how long a run is, and what the last step of one weighs. */
/* SPDX-License-Identifier: MIT */
#include "rig/runs.h"

/* The corpus of runs.h has 312 windows of 16; 5 x 8 rows a step: 7 full ones and 32 rows. */
enum { WINDOWS = 312, FULL = 40 };
#define EIGHT                                                                                      \
    "data.order=shuffle train.micro_batch=5 train.tokens_per_step=640 train.decay_steps=null "     \
    "eval.every=0 ckpt.every=0 "

static json_t *curve(const json_t *r, const char *key)
{
    return json_object_get(json_object_get(r, "curve"), key);
}

static double at(const json_t *list, size_t i)
{
    return json_number_value(json_array_get(list, i));
}

/* The numbers of wikitext-103: 512 rows a step of 115,156 windows are 225 steps an epoch. */
static void test_rows(void **state)
{
    (void)state;
    st_settings set = {0};
    st_err e = {0};
    assert_ok(st_settings_open(&set, &e), &e);
    st_data d = {.set = &set, .context = 1024, .rows = 128, .accumulate = 4};
    st_pace p = {.set = &set};
    d.train.context = 1024;
    d.train.shard.n = 117920140;
    set.data.order = ST_ORDER_SHUFFLE;
    set.data.last = ST_LAST_MICRO;
    set.train.epochs = 100;
    set.train.warmup_epochs = 1;
    assert_ok(st_epoch_open(&d, &p, &e), &e);
    assert_int_equal(p.steps, 22500);
    assert_int_equal(p.decay_steps, 22500);
    assert_int_equal(p.warmup, 225);
    assert_true(st_pace_lr(&p, 44) == set.train.lr * 44 / 225);
    set.train.warmup_start = ST_WARMUP_STEP;
    st_group g = {.lr = 3, .schedule = true};
    assert_true(st_pace_lr(&p, 44) == set.train.lr * 45 / 226 &&
                st_group_lr(&p, &g, 0) == 3.0 / 226);
    for (int step = 1; step <= 450; step++) {
        int64_t rows = st_epoch_rows(&d);
        assert_int_equal(rows, step % 225 ? 512 : 115156 - 224 * 512);
        d.train.drawn += rows;
    }
    assert_true(fabs(st_epoch_done(&d) - 2) < 1e-12);
    assert_int_equal(st_epoch_tokens(&d, 450), 2 * 115156 * 1024LL);
    set.data.last = ST_LAST_DROP;
    d.train.drawn = 0;
    assert_ok(st_epoch_open(&d, &p, &e), &e);
    assert_int_equal(d.per_epoch, 224);
    for (int step = 1; step <= 448; step++) {
        assert_int_equal(st_epoch_rows(&d), 512);
        d.train.drawn += 512;
        if (step == 224) assert_true(fabs(st_epoch_done(&d) - 1) < 1e-12);
    }
    assert_int_equal(d.train.drawn, 115156 + 224 * 512);
    assert_int_equal(st_epoch_tokens(&d, 448), 448 * 512 * 1024LL);
    st_settings_close(&set);
}

static void test_steps(void **state)
{
    (void)state;
    const struct {
        const char *more;
        int64_t steps, tokens;
    } want[] = {
        {"train.steps=null train.epochs=2 data.last=short", 16, 2 * WINDOWS * 16},
        {"train.steps=null train.epochs=2 data.last=drop", 14, 14 * FULL * 16},
        {"train.steps=null train.epochs=2", 16, 16 * FULL * 16},
        {"train.steps=null train.epochs=0.5 data.last=micro", 4, 4 * FULL * 16},
        {"train.steps=5 train.epochs=2 data.last=short", 5, 5 * FULL * 16},
        {"train.steps=30 train.epochs=1 data.last=short", 8, WINDOWS * 16},
    };
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        char name[16], more[512];
        snprintf(name, sizeof name, "steps%zu", i);
        snprintf(more, sizeof more, EIGHT "%s", want[i].more);
        json_t *r = runs_good(name, more);
        assert_int_equal(runs_number(r, "steps"), want[i].steps);
        assert_int_equal(runs_number(r, "step"), want[i].steps);
        assert_int_equal(runs_number(r, "tokens"), want[i].tokens);
        json_decref(r);
    }
}

/* An epoch in one step: as one micro-batch of all windows, or as 62 of 5 and one of 2. */
static void test_short(void **state)
{
    (void)state;
    const char more[] =
        "data.order=shuffle eval.every=0 ckpt.every=0 train.steps=4 data.last=short";
    char text[256];
    snprintf(text, sizeof text, "%s train.micro_batch=312", more);
    json_t *a = runs_good("one", text);
    snprintf(text, sizeof text, "%s train.micro_batch=5 train.tokens_per_step=5040", more);
    json_t *b = runs_good("many", text);
    for (size_t i = 0; i < 4; i++) {
        assert_true(fabs(at(curve(a, "loss"), i) - at(curve(b, "loss"), i)) < 1e-4);
        assert_true(fabs(at(curve(a, "grad_norm"), i) / at(curve(b, "grad_norm"), i) - 1) < 1e-3);
    }
    json_decref(a);
    json_decref(b);
}

/* Micro-batches (a, b) and (c) count alike: as a, b, c, c in one. */
static void test_micro(void **state)
{
    (void)state;
    uint16_t token[65];
    for (int i = 0; i < 65; i++)
        token[i] = (uint16_t)((i < 48 ? i : i - 16) * 7 % RUN_VOCAB);
    token[64] = token[48] = token[32];
    st_test_write(runs_file(".", "four.bin"), token, sizeof token);
    st_test_write(runs_file(".", "three.bin"), token, 49 * sizeof token[0]);
    char text[700];
    const char more[] =
        "data.order=sequential eval.every=0 ckpt.every=0 train.steps=3 train.lr=1e-3";
    snprintf(text, sizeof text, "%s data.train=%s train.micro_batch=4", more,
             runs_file(".", "four.bin"));
    json_t *a = runs_good("abcc", text);
    snprintf(text, sizeof text,
             "%s data.train=%s train.micro_batch=2 train.tokens_per_step=64 data.last=micro", more,
             runs_file(".", "three.bin"));
    json_t *b = runs_good("abc", text);
    snprintf(text + strlen(text) - 5, 6, "short");
    json_t *c = runs_good("abc-short", text);
    for (size_t i = 0; i < 3; i++) {
        double x = at(curve(a, "grad_norm"), i), y = at(curve(b, "grad_norm"), i);
        if (fabs(x / y - 1) > 1e-4) fail_msg("step %zu: gradient norm %g, expected %g", i, y, x);
        assert_true(fabs(at(curve(c, "grad_norm"), i) / x - 1) > 1e-3);
    }
    /* The same micro-batches, computed row by row. */
    snprintf(text, sizeof text,
             "%s data.train=%s train.micro_batch=1 train.tokens_per_step=64 data.last=micro "
             "data.micro=2",
             more, runs_file(".", "three.bin"));
    json_t *d = runs_good("abc-rows", text);
    for (size_t i = 0; i < 3; i++)
        assert_true(fabs(at(curve(d, "grad_norm"), i) / at(curve(a, "grad_norm"), i) - 1) < 1e-4);
    json_decref(a);
    json_decref(b);
    json_decref(c);
    json_decref(d);
}

/* Pieces that do not divide the micro-batches end where these do; a full step is the plain mean. */
static void test_pieces(void **state)
{
    (void)state;
    const char more[] = "data.order=shuffle eval.every=0 ckpt.every=0 train.steps=9 "
                        "train.tokens_per_step=640 data.last=micro data.micro=20";
    char text[300];
    snprintf(text, sizeof text, "%s train.micro_batch=20", more);
    json_t *a = runs_good("by20", text);
    snprintf(text, sizeof text, "%s train.micro_batch=8", more);
    json_t *b = runs_good("by8", text);
    for (size_t i = 0; i < 9; i++)
        assert_true(fabs(at(curve(a, "grad_norm"), i) / at(curve(b, "grad_norm"), i) - 1) < 2e-3);
    json_decref(a);
    json_decref(b);
}

/* In the middle of an epoch, with a short step behind and before. */
static void test_resumes(void **state)
{
    (void)state;
    static const char *const last[] = {"wrap", "drop", "short", "micro"};
    for (int i = 0; i < 4; i++) {
        char whole[32], part[32], more[512], text[600];
        snprintf(whole, sizeof whole, "whole-%s", last[i]);
        snprintf(part, sizeof part, "part-%s", last[i]);
        snprintf(more, sizeof more, EIGHT "train.dropout=0.1 train.decay_steps=20 data.last=%s",
                 last[i]);
        snprintf(text, sizeof text, "%s train.steps=20", more);
        json_decref(runs_good(whole, text));
        snprintf(text, sizeof text, "%s train.steps=11", more);
        json_decref(runs_good(part, text));
        snprintf(text, sizeof text, "%s train.steps=20", more);
        json_decref(runs_good(part, text));
        runs_same_ckpt(whole, part);
        runs_same_metrics(whole, part);
    }
}

static void test_refuses(void **state)
{
    (void)state;
    json_t *r;
    st_err e;
    assert_st(runs_train("bad", "data.last=short", &r, &e), ST_EARG, &e);
    assert_says(&e, "data.last: windows in data.order=random");
    assert_st(runs_train("bad", "data.order=shuffle data.last=drop train.micro_batch=400", &r, &e),
              ST_EARG, &e);
    assert_says(&e, "400 rows is more than the shard's 312 windows");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),    cmocka_unit_test(test_steps),
        cmocka_unit_test(test_short),   cmocka_unit_test(test_micro),
        cmocka_unit_test(test_pieces),  cmocka_unit_test(test_resumes),
        cmocka_unit_test(test_refuses),
    };
    return cmocka_run_group_tests(tests, runs_set_up, runs_tear_down);
}
