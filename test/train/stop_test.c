/* Early stopping, the checkpoints that a run keeps by their losses, and the test at its end. */
/* SPDX-License-Identifier: MIT */
#include "rig/runs.h"

/* The loss rises from the start: every step moves the weights far. */
#define WORSE "train.lr=0.3 train.warmup=0 train.schedule=constant train.clip=0 eval.every=1 "

static json_t *read_json(const char *run, const char *file)
{
    json_t *j = json_load_file(runs_file(run, file), 0, NULL);
    if (!j) fail_msg("%s/%s is no JSON", run, file);
    return j;
}

/* Lightning's rule over the run's own validation losses, those at step 0 left out. */
static int64_t expected(const json_t *r, int patience, double delta, bool most)
{
    const json_t *v = json_object_get(r, "validation"), *step = json_object_get(v, "step"),
                 *loss = json_object_get(v, "loss");
    double best = (double)NAN;
    int wait = 0;
    for (size_t i = 1; i < json_array_size(loss); i++) {
        double now = json_number_value(json_array_get(loss, i));
        if (isnan(best) || (most ? now - delta > best : now < best - delta)) {
            best = now;
            wait = 0;
        } else if (++wait == patience) {
            return json_integer_value(json_array_get(step, i));
        }
    }
    return 0;
}

static void stops(const char *name, const char *more, int patience, double delta, bool most)
{
    char text[512], free_run[64];
    snprintf(free_run, sizeof free_run, "%s-free", name);
    snprintf(text, sizeof text, WORSE "ckpt.best=false ckpt.every=0 %s", more);
    json_t *all = runs_good(free_run, text);
    int64_t want = expected(all, patience, delta, most);
    assert_true(want > 1 && want < 12);
    snprintf(text, sizeof text,
             WORSE
             "ckpt.best=false ckpt.every=0 %s stop.patience=%d stop.min_delta=%g stop.mode=%s",
             more, patience, delta, most ? "max" : "min");
    json_t *r = runs_good(name, text);
    assert_int_equal(runs_number(r, "step"), want);
    assert_non_null(strstr(json_string_value(json_object_get(r, "stopped")), "stopped early"));
    json_decref(r);
    /* It is over: the same command does nothing. */
    r = runs_good(name, text);
    assert_int_equal(runs_number(r, "step"), want);
    json_decref(r);
    snprintf(text + strlen(text), 64, " ckpt.resume=yes train.steps=%d", (int)want + 1);
    r = runs_good(name, text);
    assert_int_equal(runs_number(r, "step"), want + 1);
    json_decref(r);
    json_decref(all);
}

static void test_stops(void **state)
{
    (void)state;
    stops("two", "", 2, 0, false);
    stops("delta", "train.lr=1e-3", 3, 0.5, false);
    stops("up", "train.lr=1e-2", 2, 0, true);
}

/* The training loss since the last validation: every validation of a frozen rate is as good. */
static void test_monitor(void **state)
{
    (void)state;
    json_t *r = runs_good("still", "train.lr=0 eval.every=2 ckpt.every=0 stop.patience=2 "
                                   "stop.monitor=train_loss stop.min_delta=1");
    assert_int_equal(runs_number(r, "step"), 6);
    json_decref(r);
    /* The same loss again is no gain, also where any gain would do. */
    r = runs_good("same", "train.lr=0 eval.every=2 ckpt.every=0 stop.patience=2");
    assert_int_equal(runs_number(r, "step"), 6);
    json_decref(r);
    st_err e;
    assert_st(runs_train("never", "eval.every=0 stop.patience=2", &r, &e), ST_EARG, &e);
    assert_says(&e, "stop.patience: it counts validations");
}

/* Interrupted in the middle of the count. */
static void test_resumes(void **state)
{
    (void)state;
    const char more[] =
        "eval.every=2 ckpt.every=2 ckpt.top_k=2 stop.monitor=train_loss "
        "ckpt.best=false train.lr=1e-3 stop.patience=4 stop.min_delta=10 train.dropout=0.1 "
        "train.ema=0.8 train.ema_warmup=true data.order=shuffle data.last=micro "
        "ckpt.progress_every=4 ";
    char text[512];
    json_t *a = runs_good("calm", more);
    assert_int_equal(runs_number(a, "step"), 10);
    for (int cut = 4; cut <= 8; cut += 4) {
        snprintf(text, sizeof text, "%s train.steps=%d", more, cut);
        json_decref(runs_good("cut", text));
    }
    json_t *b = runs_good("cut", more);
    assert_int_equal(runs_number(b, "step"), 10);
    assert_true(json_equal(json_object_get(a, "top"), json_object_get(b, "top")));
    runs_same_ckpt("calm", "cut");
    runs_same_metrics("calm", "cut");
    char x[600];
    snprintf(x, sizeof x, "%s", runs_file("calm", "checkpoints.json"));
    runs_same(x, runs_file("cut", "checkpoints.json"));
    json_decref(a);
    json_decref(b);
}

/* The three lowest of the run's validation losses, and nothing else, in order. */
static void test_top(void **state)
{
    (void)state;
    json_t *r = runs_good("top", "train.lr=0.05 eval.every=1 ckpt.top_k=3 ckpt.every=0 "
                                 "ckpt.progress_every=5");
    const json_t *loss = json_object_get(json_object_get(r, "validation"), "loss");
    json_t *list = read_json("top", "checkpoints.json");
    const json_t *top = json_object_get(list, "top");
    assert_int_equal(json_array_size(top), 3);
    for (size_t k = 0; k < 3; k++) {
        int64_t step = (int64_t)runs_number(json_array_get(top, k), "step");
        double is = json_number_value(json_array_get(loss, (size_t)step));
        size_t lower = 0;
        for (size_t i = 1; i < json_array_size(loss); i++)
            lower += json_number_value(json_array_get(loss, i)) < is;
        assert_int_equal(lower, k);
        assert_true(fabs(runs_number(json_array_get(top, k), "val_loss") - is) < 1e-9);
        char file[64];
        snprintf(file, sizeof file, "ckpt/top-%d/state.json", (int)step);
        json_t *s = read_json("top", file);
        assert_int_equal(runs_number(s, "step"), step);
        json_decref(s);
    }
    /* top x 3, best, last, progress-5, progress-10 */
    assert_int_equal(st_test_entries(runs_file("top", "ckpt")), 7);
    assert_true(st_path_exists(runs_file("top", "ckpt/progress-5/model.safetensors")));
    assert_int_equal(json_array_size(json_object_get(list, "progress")), 2);
    json_decref(list);
    json_decref(r);
}

/* What a crash between `last` and its links has left out is made when the run goes on. */
static void test_repairs(void **state)
{
    (void)state;
    const char more[] = "ckpt.top_k=1 train.steps=4";
    json_decref(runs_good("crash", more));
    assert_true(st_path_exists(runs_file("crash", "ckpt/top-4")));
    st_test_remove(runs_file("crash", "ckpt/top-4"));
    st_test_remove(runs_file("crash", "ckpt/best"));
    json_decref(runs_good("crash", more));
    char x[600];
    snprintf(x, sizeof x, "%s", runs_file("crash", "ckpt/last/model.safetensors"));
    runs_same(x, runs_file("crash", "ckpt/top-4/model.safetensors"));
    runs_same(x, runs_file("crash", "ckpt/best/model.safetensors"));
}

/* The test is made with the best weights, over all windows of its shard. */
static void test_test(void **state)
{
    (void)state;
    char more[700];
    size_t n;
    char *val = st_test_read(runs_file(".", "val.bin"), &n);
    st_test_write(runs_file(".", "test.bin"), val, n);
    free(val);
    for (int i = 0; i < 3; i++) {
        static const char *const kind[] = {"", "train.ema=0.5", "dtype=bf16"};
        char name[16];
        snprintf(name, sizeof name, "test%d", i);
        snprintf(more, sizeof more, WORSE "eval.batches=0 ckpt.every=0 train.test=true %s",
                 kind[i]);
        json_t *r = runs_good(name, more);
        const json_t *best = json_object_get(r, "best"), *test = json_object_get(r, "test");
        assert_int_equal(runs_number(test, "step"), runs_number(best, "step"));
        assert_int_equal(runs_number(test, "tokens"), 999 / 16 * 16);
        /* The same shard as the validation's, and all of it there, too. */
        assert_true(fabs(runs_number(test, "loss") - runs_number(best, "val_loss")) < 1e-9);
        assert_true(runs_number(r, "val_loss") > runs_number(best, "val_loss") + 1e-3);
        json_decref(r);
    }
    snprintf(more, sizeof more, "ckpt.best=false eval.batches=0 data.test=%s",
             runs_file(".", "val.bin"));
    json_t *r = runs_good("test-last", more);
    assert_true(fabs(runs_number(json_object_get(r, "test"), "loss") - runs_number(r, "val_loss")) <
                1e-9);
    json_decref(r);
    st_err e;
    assert_st(runs_train("test-none", "data.test=/nowhere.bin", &r, &e), ST_EIO, &e);
    assert_says(&e, "data.test");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stops),   cmocka_unit_test(test_monitor),
        cmocka_unit_test(test_resumes), cmocka_unit_test(test_top),
        cmocka_unit_test(test_repairs), cmocka_unit_test(test_test),
    };
    return cmocka_run_group_tests(tests, runs_set_up, runs_tear_down);
}
