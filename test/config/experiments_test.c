/* The experiments in configs/: each composes strictly, its model opens and it trains; sizes and
 * recipes are those of the papers and programs they are from. */
/* SPDX-License-Identifier: MIT */
#include "config/value.h"
#include "store/store.h"
#include "testing.h"
#include "train/train.h"
#include <math.h>
#include <stdlib.h>

static const char *dir;
static char data[600];

enum { VOCAB = 64, TOKENS = 4000 };

static int set_up(void **state)
{
    (void)state;
    uint16_t token[TOKENS];
    dir = st_test_dir();
    for (int i = 0; i < TOKENS; i++)
        token[i] = (uint16_t)(i * i % VOCAB);
    st_test_write(st_test_path(dir, "train.bin"), token, sizeof token);
    st_test_write(st_test_path(dir, "val.bin"), token, sizeof token / 4);
    snprintf(data, sizeof data, "data.dir=%s", dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    st_test_remove(dir);
    return 0;
}

/* An experiment with more words, built-in configs only. */
static void load(st_settings *s, const char *experiment, const char *const *more, int n)
{
    char word[240];
    const char *all[24] = {word};
    st_err e = {0};
    snprintf(word, sizeof word, "experiment=%s", experiment);
    for (int i = 0; i < n; i++)
        all[i + 1] = more[i];
    st_config_how how = {.name = "train", .override = all, .n = n + 1};
    if (st_settings_compose(s, &how, NULL, &e))
        fail_msg("%s %s: %s", experiment, n ? more[0] : "", e.msg);
}

static int64_t parameters(const st_settings *s)
{
    json_t *config;
    st_model *m;
    st_err e = {0};
    assert_ok(st_settings_model(s, NULL, &config, &e), &e);
    if (st_model_open(&m, config, &e)) fail_msg("%s: %s", s->name, e.msg);
    int64_t n = st_model_counts(m).parameters;
    st_model_close(m);
    json_decref(config);
    return n;
}

/* In parameters: of the SS1 paper and its release, of fly and of the fork (there without the copies
 * of biases that its low rank carries along). Medium and large: by the same counting. */
static const struct {
    const char *experiment, *more;
    int64_t parameters;
} sizes[] = {
    {"wt103/gpt2", NULL, 124439808},
    {"wt103/gpt2-hf", NULL, 124439808},
    {"wt103/gpt2-ssl", "model.mlp.map=ss1:factor=2", 96128256},
    {"wt103/gpt2-ssl", NULL, 81972480},
    {"wt103/gpt2-ssl", "model.mlp.map=ss1:factor=8", 74894592},
    {"wt103/gpt2-ssl", "mlp=ssl8x", 74894592},
    {"wt103/gpt2-monarch", "mlp=monarch2b", 103206144},
    {"wt103/gpt2-monarch", NULL, 85511424},
    {"wt103/gpt2-monarch", "mlp=monarch8b", 76664064},
    {"wt103/gpt2-blockdiag", NULL, 81972480},
    {"wt103/gpt2-fbbfly", NULL, 79613184},
    {"wt103/gpt2-fbbflylr", NULL, 82608408},
    {"wt103/gpt2-monarch-kqv", NULL, 67816704},
    {"wt103/gpt2-lowrank-kqv", NULL, 50048256},
    {"wt103/gpt2-ssl-kqv", NULL, 60738816},
    {"wt103/gpt2-lowrank", "mlp=lowrank2r", 96109824},
    {"wt103/gpt2-lowrank", "mlp=lowrank4r", 81917184},
    {"wt103/gpt2-lowrank", NULL, 74820864},
    {"wt103/gpt2-narrow", NULL, 81944832},
    {"wt103/gpt2m", NULL, 354823168},
    {"wt103/gpt2m-monarch", NULL, 216411136},
    {"wt103/gpt2m-monarch-kqv", NULL, 153496576},
    {"wt103/gpt2m-lowrank-kqv", NULL, 90483712},
    {"wt103/gpt2m-ssl-kqv", NULL, 128330752},
    {"owt/gpt2l", NULL, 774030080},
    {"owt/gpt2", "size=xl", 1557611200},
};

static void test_sizes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        st_settings s;
        load(&s, sizes[i].experiment, &sizes[i].more, sizes[i].more != NULL);
        int64_t n = parameters(&s);
        if (n != sizes[i].parameters)
            fail_msg("%s %s: %lld parameters, expected %lld", sizes[i].experiment,
                     sizes[i].more ? sizes[i].more : "", (long long)n,
                     (long long)sizes[i].parameters);
        st_settings_close(&s);
    }
}

/* fly's table of runs: peak rate, sequences on a device, steps up and in all. */
static const struct {
    const char *experiment;
    double lr;
    int64_t batch, warmup, steps, every;
} recipes[] = {
    {"wt103/gpt2", 6e-4, 16, 225, 22500, 225},
    {"wt103/gpt2m", 1.5e-4, 8, 225, 22500, 225},
    {"wt103/gpt2-ssl", 6e-4, 16, 225, 22500, 225},
    {"owt/gpt2", 6e-4, 16, 4000, 400000, 1000},
    {"owt/gpt2m", 1.5e-4, 8, 4000, 400000, 1000},
    {"owt/gpt2l-monarch", 1.5e-4, 4, 4000, 400000, 1000},
};

static void test_recipes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++) {
        st_settings s;
        load(&s, recipes[i].experiment, NULL, 0);
        assert_float_equal(s.train.lr, recipes[i].lr, 0);
        assert_int_equal(s.train.micro_batch, recipes[i].batch);
        assert_int_equal(s.train.warmup, recipes[i].warmup);
        assert_int_equal(s.train.steps, recipes[i].steps);
        assert_int_equal(s.train.decay_steps, recipes[i].steps);
        assert_int_equal(s.eval.every, recipes[i].every);
        assert_int_equal(s.eval.batches, 0);
        assert_int_equal(s.train.tokens_per_step, 524288);
        assert_int_equal(s.train.schedule, ST_LR_LINEAR);
        assert_float_equal(s.train.min_lr, 0, 0);
        assert_float_equal(s.train.weight_decay, 0.1, 0);
        assert_int_equal(s.train.decay_embeddings, 0);
        assert_float_equal(s.train.beta1, 0.9, 0);
        assert_float_equal(s.train.beta2, 0.999, 0);
        assert_float_equal(s.train.clip, 1, 0);
        assert_float_equal(s.train.dropout, 0.1, 0);
        assert_int_equal(s.seed, 1111);
        assert_int_equal(s.data.order, ST_ORDER_SHUFFLE);
        assert_int_equal(s.model.scale_attn_by_inverse_layer_idx, 1);
        assert_string_equal(s.model.activation_function, "gelu");
        st_settings_close(&s);
    }
}

/* What comes with fly's models beside the layer can be switched. */
static void test_confounds(void **state)
{
    (void)state;
    st_settings s;
    load(&s, "wt103/gpt2-monarch", NULL, 0);
    assert_int_equal(s.model.structured_init, ST_FRESH_FLY);
    st_settings_close(&s);
    load(&s, "wt103/gpt2-lowrank-kqv", NULL, 0);
    assert_int_equal(s.model.structured_init, ST_FRESH_FORK);
    st_settings_close(&s);
    load(&s, "wt103/gpt2-hf", NULL, 0);
    assert_int_equal(s.model.structured_init, ST_FRESH_DENSE);
    assert_string_equal(s.model.activation_function, "gelu_new");
    st_settings_close(&s);
    const char *same[] = {"model.structured_init=dense", "model.activation_function=gelu_new"};
    load(&s, "wt103/gpt2m-ssl", same, 2);
    assert_int_equal(s.model.structured_init, ST_FRESH_DENSE);
    assert_string_equal(s.model.activation_function, "gelu_new");
    st_settings_close(&s);
}

/* 20 steps of a model of two narrow blocks. */
static void train_one(const char *experiment)
{
    const char *more[] = {data,
                          "model.n_layer=2",
                          "model.n_embd=64",
                          "model.n_head=2",
                          "model.n_positions=8",
                          "model.vocab_size=64",
                          "train.context=8",
                          "train.micro_batch=2",
                          "train.__batch=4",
                          "train.steps=20",
                          "train.warmup=2",
                          "train.decay_steps=20",
                          "eval.every=20",
                          "ckpt.every=0"};
    st_settings s;
    st_err e = {0};
    json_t *result;
    load(&s, experiment, more, sizeof more / sizeof *more);
    if (strncmp(s.model.preset, "llama", 5) == 0) s.model.n_kv_head = 1;
    if (s.train.tokens_per_step > 64) s.train.tokens_per_step = 64;
    free(s.out);
    s.out = NULL; /* nothing is written */
    s.threads = 1;
    if (st_train_run(&(st_train_opts){.set = &s}, &result, &e))
        fail_msg("%s: %s", experiment, e.msg);
    assert_int_equal(json_integer_value(json_object_get(result, "step")), 20);
    double loss = json_number_value(json_object_get(result, "val_loss"));
    if (!(loss > 0 && loss < log(VOCAB) + 0.5)) fail_msg("%s: loss %g", experiment, loss);
    json_decref(result);
    st_settings_close(&s);
}

static int train_group(const char *group)
{
    char name[200];
    int n = 0;
    st_config_how how = {0};
    snprintf(name, sizeof name, "experiment/%s", group);
    char **option = st_config_options(&how, name);
    assert_non_null(option);
    for (; option[n]; n++) {
        snprintf(name, sizeof name, "%s/%s", group, option[n]);
        train_one(name);
    }
    st_configs_options_free(option);
    return n;
}

static void test_trains(void **state)
{
    (void)state;
    assert_true(train_group("wt103") >= 40);
    assert_true(train_group("owt") >= 40);
    assert_true(train_group("ssl_bench_mlp") >= 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_recipes),
        cmocka_unit_test(test_confounds),
        cmocka_unit_test(test_trains),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
