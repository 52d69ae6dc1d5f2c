/* Configurations: what is read, what is refused and how it is said, that the printed one loads as
 * the same, and that the ones we ship load. */
/* SPDX-License-Identifier: MIT */
#include "config/value.h"
#include "tensor/tensor.h"
#include "testing.h"
#include <dirent.h>
#include <math.h>

static const char *dir;
static char file[600];

static int set_up(void **state)
{
    (void)state;
    dir = st_test_dir();
    snprintf(file, sizeof file, "%s", st_test_path(dir, "run.yaml"));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    st_test_remove(dir);
    return 0;
}

/* Loads YAML text and overrides separated by '|'. */
static st_status load(st_settings *s, const char *yaml, const char *overrides, st_err *e)
{
    char text[1024];
    const char *word[16];
    int n = 0;
    *e = (st_err){0};
    snprintf(text, sizeof text, "%s", overrides);
    for (char *p = strtok(text, "|"); p; p = strtok(NULL, "|"))
        word[n++] = p;
    if (yaml) st_test_write(file, yaml, strlen(yaml));
    return st_settings_load(s, yaml ? file : NULL, word, n, e);
}

static void test_defaults(void **state)
{
    (void)state;
    st_settings s;
    st_err e;
    assert_ok(load(&s, NULL, "", &e), &e);
    assert_string_equal(s.name, "train");
    assert_string_equal(s.out, "runs/train");
    assert_string_equal(s.init, "scratch");
    assert_null(s.data.dir);
    assert_int_equal(s.dtype, ST_F32);
    assert_int_equal(s.model.n_layer, ST_UNSET);
    assert_true(isnan(s.train.min_lr));
    assert_true(s.train.lr == 6e-4);
    assert_int_equal(s.train.schedule, ST_LR_COSINE);
    st_settings_close(&s);
}

/* One value of each kind, as people write them. */
static void test_values(void **state)
{
    (void)state;
    st_settings s;
    st_err e;
    static const char yaml[] = "# a comment\n"
                               "name: 'run 1'\n"
                               "dtype: bf16\n"
                               "seed: 1_000\n"
                               "data: some/folder\n"
                               "model:\n"
                               "  preset: gpt2-medium\n"
                               "  n_inner: null\n"
                               "  tie_word_embeddings: FALSE\n"
                               "  map:\n"
                               "    h.*.mlp.*: monarch:blocks=4\n"
                               "    'h.0.mlp.*': dense\n"
                               "  mlp: {map: lowrank:rank=8}\n"
                               "train: {lr: 1e-3, min_lr: ~, warmup: 0, beta1: .5, clip: 2}\n"
                               "eval:\n"
                               "ckpt: {best: Off}\n";
    assert_ok(load(&s, yaml, "train.steps=5_000|train.schedule=linear|data.order=shuffle", &e), &e);
    assert_string_equal(s.name, "run 1");
    assert_string_equal(s.out, "runs/run 1");
    assert_int_equal(s.dtype, ST_BF16);
    assert_int_equal(s.seed, 1000);
    assert_string_equal(s.data.dir, "some/folder");
    assert_int_equal(s.data.order, ST_ORDER_SHUFFLE);
    assert_string_equal(s.model.preset, "gpt2-medium");
    assert_int_equal(s.model.n_inner, ST_UNSET);
    assert_int_equal(s.model.tie_word_embeddings, 0);
    assert_int_equal(json_object_size(s.model.map), 2);
    assert_string_equal(json_string_value(json_object_get(s.model.map, "h.*.mlp.*")),
                        "monarch:blocks=4");
    assert_string_equal(s.model.mlp_map, "lowrank:rank=8");
    assert_true(s.train.lr == 1e-3 && s.train.beta1 == 0.5 && s.train.clip == 2.0);
    assert_true(isnan(s.train.min_lr));
    assert_int_equal(s.train.warmup, 0);
    assert_int_equal(s.train.steps, 5000);
    assert_int_equal(s.train.schedule, ST_LR_LINEAR);
    assert_int_equal(s.eval.every, 200);
    assert_int_equal(s.ckpt.best, 0);
    st_settings_close(&s);
}

/* Later overrides win over earlier ones and over the file; null goes back to "not given". */
static void test_overrides(void **state)
{
    (void)state;
    st_settings s;
    st_err e;
    assert_ok(load(&s, "train: {lr: 1e-3, min_lr: 1e-5}\nmodel: {n_layer: 3}\n",
                   "train.lr=2e-3|train.lr=3e-3|train.min_lr=null|model.n_layer=|data=a=b|"
                   "model.map={h.*: ss1:factor=4, lm_head: 'kron:terms=1,m1=4,n1=4'}|out=x y",
                   &e),
              &e);
    assert_true(s.train.lr == 3e-3 && isnan(s.train.min_lr));
    assert_int_equal(s.model.n_layer, ST_UNSET);
    assert_string_equal(s.data.dir, "a=b");
    assert_string_equal(s.out, "x y");
    assert_string_equal(json_string_value(json_object_get(s.model.map, "h.*")), "ss1:factor=4");
    st_settings_close(&s);
    assert_ok(load(&s, "train: {lr: 1e-3}\n", "", &e), &e);
    assert_ok(st_settings_set(&s, "train.lr", "5e-3", &e), &e);
    assert_ok(st_settings_set(&s, "init", "some folder: yes", &e), &e);
    assert_ok(st_settings_set(&s, "model.map", "{h.*: dense}", &e), &e);
    assert_ok(st_settings_set(&s, "train.min_lr", "null", &e), &e);
    assert_true(s.train.lr == 5e-3);
    assert_string_equal(s.init, "some folder: yes");
    assert_int_equal(json_object_size(s.model.map), 1);
    assert_st(st_settings_set(&s, "train.lr", "x", &e), ST_EARG, &e);
    assert_st(st_settings_set(&s, "train.lrr", "1", &e), ST_EARG, &e);
    st_settings_close(&s);
}

static const struct {
    const char *yaml, *overrides, *says[4];
} wrong[] = {
    /* unknown keys: place and the nearest legal one */
    {"train:\n  lrr: 1\n", "", {"run.yaml:2:3", "unknown key train.lrr", "did you mean train.lr?"}},
    {"train:\n  steps: 1\n  warm_up: 1\n", "", {"run.yaml:3:3", "did you mean train.warmup?"}},
    {"optim:\n  weight_decay: 1\n", "", {"run.yaml:2:3", "did you mean train.weight_decay?"}},
    {"trian: {steps: 3}\n", "", {"run.yaml:1:9", "trian.steps", "did you mean train.steps?"}},
    {"n_layer: 3\n", "", {"run.yaml:1:1", "did you mean model.n_layer?"}},
    {"xyzzy: 3\n", "", {"unknown key xyzzy", "--keys"}},
    {"train: {mlp: {map: dense}}\n", "", {"train.mlp.map", "did you mean model.mlp.map?"}},
    {NULL, "train.lrr=1", {"command line", "unknown key train.lrr", "did you mean train.lr?"}},
    {NULL, "train.lr.x=1", {"command line", "train.lr: found a section"}},
    {NULL, "train.lr=2|+train.lr=1", {"+train.lr", "has a value", "++"}},
    {NULL, "optimizer.lr=1", {"unknown key optimizer.lr; did you mean train.lr?"}},
    {NULL, "model._target_=a.B", {"model._target_", "no class is made"}},
    {NULL, "hydra.run.dir=x", {"unknown key hydra.run.dir"}},
    /* types */
    {"train:\n  lr: fast\n", "", {"run.yaml:2:7", "train.lr: found fast", "a number"}},
    {"train:\n  lr: '1e-3'\n", "", {"train.lr: found the text \"1e-3\""}},
    {"train:\n  lr: nan\n", "", {"train.lr: found nan"}},
    {"train:\n  lr: 0x10\n", "", {"train.lr: found 0x10"}},
    {"train:\n  steps: 1e3\n", "", {"train.steps: found 1e3", "a whole number"}},
    {"train:\n  steps: 1.0\n", "", {"train.steps: found 1.0"}},
    {"train:\n  steps: [1, 2]\n", "", {"run.yaml:2:10", "train.steps: found a list"}},
    {"train:\n  steps: {a: 1}\n", "", {"train.steps: found a section"}},
    {"train:\n  steps: true\n", "", {"train.steps: found true"}},
    {"train:\n  steps: 99999999999999999999\n", "", {"train.steps: found 9999"}},
    {"train: 3\n", "", {"run.yaml:1:8", "train: found 3", "a section"}},
    {"train: [lr]\n", "", {"train: found a list", "a section"}},
    {"ckpt: {best: maybe}\n", "", {"ckpt.best: found maybe", "true or false"}},
    {"ckpt: {best: 'true'}\n", "", {"ckpt.best: found the text"}},
    {"name: [a]\n", "", {"name: found a list", "a text"}},
    {"dtype: float16\n", "", {"dtype: found float16", "float32, bfloat16"}},
    {"train: {schedule: cosin}\n", "", {"found cosin", "did you mean cosine?"}},
    {"device: [cpu]\n", "", {"device: found a list", "a text"}},
    {"model: {map: dense}\n", "", {"model.map: found dense", "{GLOB: SPEC}"}},
    {"model: {map: {h.*: [dense]}}\n", "", {"model.map.h.*: found a list"}},
    {"model: {map: {h.*: }}\n", "", {"model.map.h.*: found null"}},
    {NULL, "model.map={h.*: kron:terms=1,a}", {"without ':'"}},
    {NULL, "model.map={h.*: null}", {"model.map.h.*: found null", "in quotes"}},
    {"train: {lr: null}\n", "", {"train.lr: found null"}},
    /* ranges */
    {"train:\n  steps: -1\n", "", {"run.yaml:2:10", "train.steps: found -1", "0 to"}},
    {"train: {micro_batch: 0}\n", "", {"train.micro_batch: found 0", "1 to"}},
    {"train: {beta2: 1}\n", "", {"train.beta2: found 1"}},
    {"train: {dropout: 1.0}\n", "", {"train.dropout: found 1.0", "0 to 0.99"}},
    {"log: {every: 0}\n", "", {"log.every: found 0"}},
    {NULL, "seed=-1", {"command line: seed: found -1"}},
    /* one key with another */
    {"train:\n  min_lr: 1\n", "", {"run.yaml:2:11", "train.min_lr", "above train.lr = 0.0006"}},
    {NULL, "train.decay_steps=5", {"command line: train.decay_steps", "train.warmup = 100"}},
    /* what is no configuration at all */
    {"- a\n- b\n", "", {"run.yaml:1:1", "keys and values"}},
    {"just text\n", "", {"keys and values"}},
    {"a: [1\n", "", {"run.yaml", "YAML"}},
    {"train: {lr: 1, lr: 2}\n", "", {"run.yaml:1:16"}},
    {"train: &a {lr: 1}\n", "", {"run.yaml:1:8"}},
    {NULL, "train.lr", {"train.lr", "key=value"}},
    {NULL, "=3", {"=3", "key=value"}},
    {NULL, "train..lr=3", {"train"}},
    {NULL, "train.lr=[1", {"train.lr"}},
    {NULL, "train.lr=*x", {"train.lr"}},
};

static void test_wrong(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        st_settings s;
        st_err e;
        st_status st = load(&s, wrong[i].yaml, wrong[i].overrides, &e);
        const char *what = wrong[i].yaml ? wrong[i].yaml : wrong[i].overrides;
        if (st == ST_OK) fail_msg("accepted: %s", what);
        for (int j = 0; j < 4 && wrong[i].says[j]; j++)
            if (!strstr(e.msg, wrong[i].says[j]))
                fail_msg("%s\nsays:    %s\nwithout: %s", what, e.msg, wrong[i].says[j]);
    }
}

/* Long and deep names neither overflow nor match. */
static void test_hostile(void **state)
{
    (void)state;
    st_settings s;
    st_err e;
    char key[3000];
    memset(key, 'a', sizeof key);
    memcpy(key + 2990, "=1", 3);
    const char *word = key;
    assert_st(st_settings_load(&s, NULL, &word, 1, &e), ST_EARG, &e);
    char yaml[4000] = "";
    for (int i = 0; i < 40; i++)
        strcat(yaml, "{abcdefgh: ");
    for (int i = 0; i < 40; i++)
        strcat(yaml, "}");
    assert_int_not_equal(load(&s, yaml, "", &e), ST_OK);
    assert_says(&e, "unknown key");
    assert_int_not_equal(st_settings_load(&s, "/nowhere/x.yaml", NULL, 0, &e), ST_OK);
    assert_says(&e, "/nowhere/x.yaml");
}

/* Printed and loaded again: every row the same. */
static void round_trip(const char *yaml, const char *overrides)
{
    st_settings a, b;
    st_err e;
    assert_ok(load(&a, yaml, overrides, &e), &e);
    char *text = st_settings_yaml(&a);
    assert_non_null(text);
    assert_ok(load(&b, text, "", &e), &e);
    json_t *x = st_settings_json(&a), *y = st_settings_json(&b);
    if (!json_equal(x, y)) fail_msg("not the same again:\n%s", text);
    assert_int_equal(json_object_size(x), st_set_count());
    json_decref(x);
    json_decref(y);
    free(text);
    st_settings_close(&a);
    st_settings_close(&b);
}

static void test_round_trip(void **state)
{
    (void)state;
    round_trip(NULL, "");
    round_trip(
        "name: 'null'\nout: '3'\ninit: \"a: b #\\n\\\"'\"\ndata: '~'\n"
        "model: {map: {'*': ss1:factor=4, 'a b': 'true', h.0: '-'}, mlp: {map: 'x, y'}}\n",
        "train.lr=0.1|train.eps=1.2345678901234567e-9|train.min_lr=3e-5|seed=9000000000000000");
    round_trip("model: {map: {}}\n", "ckpt.resume='yes'|dtype=bf16|data.train=/a b/ü.bin");
}

/* Every default passes its own check, keys are unique, and the listing has all. */
static void test_table(void **state)
{
    (void)state;
    json_t *keys = st_settings_keys();
    assert_int_equal(json_array_size(keys), st_set_count());
    for (int i = 0; i < st_set_count(); i++) {
        const set_row *r = &st_set_rows[i];
        assert_int_equal(st_set_find(r->key), i);
        const json_t *k = json_array_get(keys, (size_t)i);
        assert_string_equal(json_string_value(json_object_get(k, "key")), r->key);
        assert_true(r->help && *r->help);
        assert_true(r->preset || r->flags & SET_NULL);
    }
    json_decref(keys);
}

/* What may change between two parts of a run, and what may not. */
static void test_changed(void **state)
{
    (void)state;
    st_settings a, b;
    st_err e;
    assert_ok(load(&a, NULL, "", &e), &e);
    json_t *before = st_settings_json(&a);
    assert_ok(load(&b, NULL, "name=x|out=y|threads=2|train.steps=9|ckpt.keep=3|log.every=2", &e),
              &e);
    assert_null(st_set_changed(&b, before));
    st_settings_close(&b);
    const char *const key[] = {"seed=1",
                               "train.lr=1e-5",
                               "model.n_layer=2",
                               "model.map={h: d}",
                               "train.schedule=linear",
                               "dtype=bf16",
                               "data.order=shuffle",
                               "train.min_lr=1e-6",
                               "init=x"};
    for (size_t i = 0; i < sizeof key / sizeof key[0]; i++) {
        assert_ok(load(&b, NULL, key[i], &e), &e);
        const char *got = st_set_changed(&b, before);
        if (!got || strncmp(key[i], got, strlen(got)) != 0)
            fail_msg("%s: %s", key[i], got ? got : "no change seen");
        st_settings_close(&b);
    }
    json_decref(before);
    st_settings_close(&a);
}

static int shipped_in(const char *folder)
{
    DIR *d = opendir(folder);
    int n = 0;
    assert_non_null(d);
    for (struct dirent *item; (item = readdir(d));) {
        const char *end = strrchr(item->d_name, '.');
        if (!end || strcmp(end, ".yaml") != 0) continue;
        char path[512];
        st_settings s;
        st_err e;
        snprintf(path, sizeof path, "%s/%s", folder, item->d_name);
        assert_ok(st_settings_load(&s, path, NULL, 0, &e), &e);
        st_settings_close(&s);
        n++;
    }
    closedir(d);
    return n;
}

/* configs/: each loads, and says what the recipe says (test/fit/krony.bats trains them). */
static void test_shipped(void **state)
{
    (void)state;
    assert_true(shipped_in("configs") >= 5);
    assert_true(shipped_in("configs/krony") >= 12);
    st_settings s;
    st_err e;
    assert_ok(st_settings_load(&s, "configs/gpt2-124m.yaml", NULL, 0, &e), &e);
    assert_true(s.train.lr == 6e-4 && s.train.min_lr == 6e-5 && s.train.beta2 == 0.95);
    assert_int_equal(s.train.steps, 600000);
    assert_int_equal(s.train.warmup, 2000);
    assert_int_equal(s.train.decay_steps, 600000);
    assert_int_equal(s.train.tokens_per_step, 491520);
    assert_int_equal(s.train.tokens_per_step % (s.train.micro_batch * 1024), 0);
    assert_true(s.train.dropout == 0.0);
    st_settings_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),  cmocka_unit_test(test_values),
        cmocka_unit_test(test_overrides), cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_hostile),   cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_table),     cmocka_unit_test(test_changed),
        cmocka_unit_test(test_shipped),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
