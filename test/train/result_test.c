/* What a run says of itself: the plan, the result, result.json, and what a warm start took. */
/* SPDX-License-Identifier: MIT */
#include "rig/runs.h"

static json_t *read_result(const char *run)
{
    json_t *j = json_load_file(runs_file(run, "result.json"), 0, NULL);
    if (!j) fail_msg("%s/result.json is no JSON", run);
    return j;
}

static const char *text_of(const json_t *r, const char *key)
{
    const char *text = json_string_value(json_object_get(r, key));
    if (!text) fail_msg("no text %s in the result", key);
    return text;
}

static void test_result(void **state)
{
    (void)state;
    json_t *r = runs_good("end", "model.mlp.map=lowrank:rank=3 data.order=shuffle "
                                 "train.groups={h.0.*:{freeze:true}}");
    json_t *file = read_result("end");
    json_t *few = json_copy(r);
    json_object_del(few, "curve");
    json_object_del(few, "validation");
    json_object_set_new(few, "format", json_integer(1));
    assert_int_equal(json_object_size(file), json_object_size(few));
    assert_string_equal(text_of(file, "status"), "complete");
    assert_string_equal(text_of(json_object_get(file, "maps"), "h.1.mlp.c_fc"), "lowrank:rank=3");
    assert_int_equal(json_object_size(json_object_get(file, "maps")), 4);
    assert_int_equal(runs_number(file, "parameters"),
                     runs_number(file, "trainable") + runs_number(file, "frozen"));
    assert_true(runs_number(file, "frozen") > 0);
    assert_true(text_of(file, "machine")[0] && text_of(file, "device")[0]);
    assert_true(fabs(runs_number(file, "epochs") - 48 / 312.0) < 1e-9);
    assert_true(fabs(runs_number(file, "val_loss") - runs_number(r, "val_loss")) < 1e-12);
    assert_true(json_is_null(json_object_get(file, "gflops")));
    json_decref(few);
    json_decref(file);
    json_decref(r);
    json_decref(runs_good("early", "train.lr=0 eval.every=1 stop.patience=2"));
    file = read_result("early");
    assert_string_equal(text_of(file, "status"), "stopped");
    assert_non_null(strstr(text_of(file, "stopped"), "for 2 validations"));
    json_decref(file);
}

static void interrupt(void *ctx, const st_progress *p)
{
    (void)ctx;
    if (strcmp(p->what, "train") == 0 && p->done == 5) st_interrupt();
}

/* The plan's layers add up to the model; nothing is written for it. */
static void plan_of(void *ctx, const json_t *plan)
{
    size_t i;
    const json_t *row;
    int64_t sum = 0, matrices = 0;
    json_array_foreach(json_object_get(plan, "layers"), i, row)
    {
        sum += (int64_t)runs_number(row, "parameters");
        matrices += json_object_get(row, "in") != NULL;
    }
    assert_int_equal(sum, runs_number(plan, "parameters"));
    assert_int_equal(matrices, 9); /* wte and four of each of two blocks; the head is tied */
    assert_true(runs_number(plan, "training_macs_per_token") >
                2.5 * runs_number(plan, "macs_per_token"));
    assert_int_equal(runs_number(plan, "steps_per_epoch"), 78);
    *(int *)ctx += 1;
}

static void test_plan(void **state)
{
    (void)state;
    st_settings set;
    st_err e = {0};
    json_t *r;
    int begun = 0;
    assert_ok(runs_settings(&set, "plan", "", &e), &e);
    st_train_opts o = {.set = &set, .begun = plan_of, .ctx = &begun, .dry = true};
    assert_ok(st_train_run(&o, &r, &e), &e);
    assert_int_equal(begun, 0); /* a dry run has it as its result */
    plan_of(&begun, r);
    json_decref(r);
    assert_false(st_path_exists(runs_file("plan", "")));
    o.dry = false;
    assert_ok(st_train_run(&o, &r, &e), &e);
    assert_int_equal(begun, 2);
    json_decref(r);
    st_settings_close(&set);
}

/* ---- warm start ------------------------------------------------------------------------------ */

static void test_warm(void **state)
{
    (void)state;
    json_t *r;
    st_err e;
    char more[700];
    json_decref(runs_good("source", ""));
    /* All of it: the first validation is the source's last. */
    snprintf(more, sizeof more, "train.warmstart.path=%s train.lr=0 train.steps=1",
             runs_file("source", "ckpt/last"));
    r = runs_good("same", more);
    const json_t *warm = json_object_get(r, "warmstart");
    assert_int_equal(runs_number(warm, "parameters"), runs_number(r, "parameters"));
    runs_same(runs_file("source", "ckpt/last/model.safetensors"),
              runs_file("same", "ckpt/last/model.safetensors"));
    json_decref(r);
    /* Another MLP and another context: what fits. */
    const char other[] = "model.mlp.map=lowrank:rank=3 model.n_positions=8";
    snprintf(more, sizeof more, "%s train.warmstart.path=%s", other,
             runs_file("source", "ckpt/last"));
    assert_st(runs_train("strict", more, &r, &e), ST_EARG, &e);
    assert_says(&e, "h.0.mlp.c_fc.u");
    assert_says(&e, "train.warmstart.strict=false");
    snprintf(more, sizeof more, "%s train.warmstart.path=%s train.warmstart.strict=false", other,
             runs_file("source", "ckpt/last"));
    r = runs_good("fits", more);
    warm = json_object_get(r, "warmstart");
    assert_int_equal(json_array_size(json_object_get(warm, "missing")), 8); /* u, v of four */
    assert_int_equal(json_array_size(json_object_get(warm, "unused")), 4);
    const json_t *skipped = json_array_get(json_object_get(warm, "skipped"), 0);
    assert_int_equal(json_array_size(json_object_get(warm, "skipped")), 1);
    assert_string_equal(text_of(skipped, "name"), "wpe.weight");
    assert_int_equal(json_integer_value(json_array_get(json_object_get(skipped, "found"), 0)), 16);
    json_decref(r);
    /* A run that goes on does not start warm again. */
    snprintf(more + strlen(more), 40, " train.steps=13");
    r = runs_good("fits", more);
    assert_int_equal(runs_number(r, "step"), 13);
    assert_null(json_object_get(r, "warmstart"));
    json_decref(r);
    assert_st(runs_train("none", "train.warmstart.path=/nowhere", &r, &e), ST_EIO, &e);
    assert_says(&e, "train.warmstart.path");
}

/* Last: an interrupt stays. */
static void test_interrupted(void **state)
{
    (void)state;
    json_t *r;
    st_err e;
    st_sink_set(&(st_sink){.progress = interrupt});
    assert_st(runs_train("cut", "ckpt.every=0", &r, &e), ST_EINTR, &e);
    st_sink_set(NULL);
    json_decref(r);
    r = read_result("cut");
    assert_string_equal(text_of(r, "status"), "interrupted");
    assert_int_equal(runs_number(r, "step"), 5);
    json_decref(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_result),
        cmocka_unit_test(test_plan),
        cmocka_unit_test(test_warm),
        cmocka_unit_test(test_interrupted),
    };
    return cmocka_run_group_tests(tests, runs_set_up, runs_tear_down);
}
