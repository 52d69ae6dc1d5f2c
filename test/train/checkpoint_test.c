/* Checkpoints: kept, dropped, refused when they are not whole or not this run's, and never lost. */
/* SPDX-License-Identifier: MIT */
#include "rig/runs.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <unistd.h>

static void refused(const char *name, const char *more, st_status code, const char *says)
{
    json_t *r;
    st_err e;
    st_status s = runs_train(name, more, &r, &e);
    if (s != code || r) fail_msg("%s %s: status %d (%s), expected %d", name, more, s, e.msg, code);
    assert_says(&e, says);
}

/* ---- which there are ------------------------------------------------------------------------- */

static void test_keep(void **state)
{
    (void)state;
    json_decref(runs_good("keep", "ckpt.every=2 ckpt.keep=3"));
    const char *const there[] = {"step-8", "step-10", "step-12", "last", "best"};
    for (int i = 0; i < 5; i++) {
        char file[64];
        snprintf(file, sizeof file, "ckpt/%s/state.json", there[i]);
        if (!st_path_exists(runs_file("keep", file))) fail_msg("no %s", there[i]);
    }
    assert_int_equal(st_test_entries(runs_file("keep", "ckpt")), 5);
    json_decref(runs_good("none", "ckpt.best=false ckpt.every=2"));
    assert_int_equal(st_test_entries(runs_file("none", "ckpt")), 1);
}

static bool there(const char *name, const char *ckpt)
{
    char file[64];
    snprintf(file, sizeof file, "ckpt/%s/state.json", ckpt);
    return st_path_exists(runs_file(name, file));
}

/* Gone on with from an earlier step, what the first run left later is neither counted nor dropped.
 */
static void test_keep_later(void **state)
{
    (void)state;
    char more[600];
    json_decref(runs_good("later", "ckpt.every=2 ckpt.keep=4"));
    snprintf(more, sizeof more, "train.steps=10 ckpt.every=2 ckpt.keep=2 ckpt.resume=%s",
             runs_file("later", "ckpt/step-6"));
    json_t *r = runs_good("later", more);
    assert_int_equal(runs_number(r, "step"), 10);
    json_decref(r);
    assert_false(there("later", "step-6"));
    assert_true(there("later", "step-8"));
    assert_true(there("later", "step-10"));
    assert_true(there("later", "step-12"));
}

/* A step-N is as good a place to go on from as last. */
static void test_numbered(void **state)
{
    (void)state;
    char more[600];
    json_decref(runs_good("twelve", "ckpt.keep=3"));
    json_decref(runs_good("back", "ckpt.keep=3"));
    snprintf(more, sizeof more, "ckpt.keep=3 ckpt.resume=%s", runs_file("back", "ckpt/step-4"));
    json_t *r = runs_good("back", more);
    assert_int_equal(runs_number(r, "step"), 12);
    json_decref(r);
    runs_same_ckpt("twelve", "back");
    runs_same_metrics("twelve", "back");
}

/* A checkpoint is a model to start another run from. */
static void test_init(void **state)
{
    (void)state;
    char more[600];
    json_decref(runs_good("first", ""));
    json_t *a = runs_good("first", "");
    snprintf(
        more, sizeof more,
        "init=%s model.n_layer=null model.n_head=null model.n_embd=null model.n_positions=null "
        "model.vocab_size=null train.steps=4 train.lr=0",
        runs_file("first", "ckpt/last"));
    json_t *b = runs_good("second", more);
    const json_t *val = json_object_get(json_object_get(b, "validation"), "loss");
    assert_true(fabs(json_number_value(json_array_get(val, 0)) - runs_number(a, "val_loss")) <
                1e-12);
    json_decref(a);
    json_decref(b);
    runs_same(runs_file("first", "ckpt/last/model.safetensors"),
              runs_file("second", "ckpt/last/model.safetensors"));
    snprintf(more, sizeof more, "init=%s model.n_layer=3", runs_file("first", "ckpt/last"));
    refused("third", more, ST_EARG, "model.n_layer: found 3");
}

/* ---- going on or not ------------------------------------------------------------------------- */

static void test_settings(void **state)
{
    (void)state;
    json_decref(runs_good("same", "train.steps=4"));
    refused("same", "train.lr=2e-2", ST_EARG, "train.lr: found 0.02");
    refused("same", "train.micro_batch=2", ST_EARG, "train.micro_batch");
    refused("same", "ckpt.resume=no", ST_EARG, "ckpt.resume=no");
    refused("other", "ckpt.resume=yes", ST_EARG, "no checkpoint to go on from");
    refused("other", "ckpt.resume=/nowhere", ST_EARG, "/nowhere");
    refused("same", "model.n_layer=3 ckpt.resume=yes", ST_ESHAPE, "another model");
    json_t *r = runs_good("same", "train.lr=2e-2 train.steps=5 ckpt.resume=yes");
    assert_int_equal(runs_number(r, "step"), 5);
    json_decref(r);
    /* Complete: nothing is done, nothing is lost. */
    r = runs_good("same", "train.lr=2e-2 train.steps=5");
    assert_int_equal(runs_number(r, "step"), 5);
    json_decref(r);
    /* Only best is left: not taken for a fresh start. */
    char last[600];
    snprintf(last, sizeof last, "%s", runs_file("same", "ckpt/last"));
    assert_int_equal(rename(last, runs_file("same", "ckpt/elsewhere")), 0);
    refused("same", "", ST_EARG, "/ckpt/best goes on from there");
}

/* A second process in the same folder is refused before it writes. */
static void test_two(void **state)
{
    (void)state;
    json_decref(runs_good("two", "train.steps=4"));
    int fd = open(runs_file("two", "metrics.jsonl"), O_RDONLY);
    assert_true(fd >= 0 && flock(fd, LOCK_SH) == 0);
    refused("two", "train.steps=8", ST_EARG, "another process");
    close(fd);
    json_decref(runs_good("two", "train.steps=8"));
}

/* ---- hostile --------------------------------------------------------------------------------- */

static void spoil(const char *file, const char *find, const char *put)
{
    size_t n;
    char *text = st_test_read(runs_file("bad", file), &n);
    assert_non_null(text);
    char *at = memmem(text, n, find, strlen(find));
    if (!at) fail_msg("%s has no %s", file, find);
    assert_int_equal(strlen(find), strlen(put));
    memcpy(at, put, strlen(put));
    unlink(runs_file("bad", file)); /* the file may be linked to others */
    st_test_write(runs_file("bad", file), text, n);
    free(text);
}

static void restore(const char *file)
{
    size_t n;
    char from[64];
    snprintf(from, sizeof from, "ckpt/step-4%s", strrchr(file, '/'));
    char *text = st_test_read(runs_file("bad", from), &n);
    assert_non_null(text);
    unlink(runs_file("bad", file));
    st_test_write(runs_file("bad", file), text, n);
    free(text);
}

/* Cut short at many places, every file of a checkpoint is refused by name. */
static void test_truncated(void **state)
{
    (void)state;
    json_decref(runs_good("bad", "train.steps=4 ckpt.keep=2 ckpt.best=false"));
    const char *const file[] = {"ckpt/last/state.safetensors", "ckpt/last/model.safetensors",
                                "ckpt/last/state.json", "ckpt/last/config.json"};
    for (int i = 0; i < 4; i++) {
        size_t n;
        char *text = st_test_read(runs_file("bad", file[i]), &n);
        const size_t cut[] = {0, 1, 7, 8, 100, n / 2, n - 4, n - 2};
        for (size_t c = 0; c < sizeof cut / sizeof cut[0]; c++) {
            unlink(runs_file("bad", file[i]));
            st_test_write(runs_file("bad", file[i]), text, cut[c]);
            refused("bad", "", ST_EFORMAT, strrchr(file[i], '/') + 1);
        }
        free(text);
        restore(file[i]);
    }
    json_decref(runs_good("bad", ""));
}

static void test_spoilt(void **state)
{
    (void)state;
    st_test_remove(runs_file("bad", ""));
    json_decref(runs_good("bad", "train.steps=4 ckpt.keep=2 ckpt.best=false"));
    const struct {
        const char *file, *find, *put;
        st_status code;
        const char *says;
    } bad[] = {
        {"state.safetensors", "[23,16]", "[16,23]", ST_ESHAPE,
         "m.wte.weight is 16x23, expected 23x16"},
        {"state.safetensors", "\"m.wte.weight\"", "\"m.wtf.weight\"", ST_EFORMAT,
         "m.wte.weight is missing"},
        {"state.json", "\"format\": 1", "\"format\": 9", ST_EUNSUPPORTED, "newer strut"},
        {"state.json", "\"step\": 4", "\"step\":-4", ST_EFORMAT, "step"},
        {"state.json", "\"step\": 4", "\"stap\": 4", ST_EFORMAT, "step"},
        {"state.json", "\"drawn\": 16", "\"drawn\": []", ST_EFORMAT, "drawn"},
        {"state.json", "\"best_step\": 4", "\"best_step\": 9", ST_EFORMAT, "best_step"},
        {"state.json", "\"tokens\": 5000", "\"tokens\": 4999", ST_EARG, "4999"},
        {"config.json", "\"n_layer\": 2", "\"n_layer\": 1", ST_EFORMAT, "model.safetensors"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char file[64];
        snprintf(file, sizeof file, "ckpt/last/%s", bad[i].file);
        spoil(file, bad[i].find, bad[i].put);
        refused("bad", "", bad[i].code, bad[i].says);
        restore(file);
    }
    /* A not-a-number among the moments, and a negative square. */
    for (int i = 0; i < 2; i++) {
        const float poison = i ? -1.0f : (float)NAN;
        size_t n;
        char *text = st_test_read(runs_file("bad", "ckpt/last/state.safetensors"), &n);
        memcpy(text + n - 4, &poison, 4);
        unlink(runs_file("bad", "ckpt/last/state.safetensors"));
        st_test_write(runs_file("bad", "ckpt/last/state.safetensors"), text, n);
        refused("bad", "", ST_EFORMAT, "state.safetensors: v.");
        free(text);
        restore("ckpt/last/state.safetensors");
    }
    /* One bit of a weight or a moment. */
    static const char *const tensors[] = {"ckpt/last/state.safetensors",
                                          "ckpt/last/model.safetensors"};
    for (int i = 0; i < 2; i++) {
        size_t n;
        char *text = st_test_read(runs_file("bad", tensors[i]), &n);
        text[n - 4] ^= 1;
        unlink(runs_file("bad", tensors[i]));
        st_test_write(runs_file("bad", tensors[i]), text, n);
        refused("bad", "", ST_EFORMAT, "safetensors: its CRC-32 is");
        free(text);
        restore(tensors[i]);
    }
    /* The other checkpoint is as it was, and the message names it. */
    char more[600];
    spoil("ckpt/last/state.json", "\"step\"", "\"stap\"");
    refused("bad", "", ST_EFORMAT, "ckpt/step-4 goes on from another checkpoint");
    snprintf(more, sizeof more, "ckpt.resume=%s", runs_file("bad", "ckpt/step-4"));
    json_t *r = runs_good("bad", more);
    assert_int_equal(runs_number(r, "step"), 12);
    json_decref(r);
}

/* ---- a full disk ----------------------------------------------------------------------------- */

/* No file may be longer than a part of the checkpoint: the old one stays, nothing half-written is
 * left, and with room the run goes on to the same end. */
static void test_full(void **state)
{
    (void)state;
    json_decref(runs_good("room", ""));
    json_decref(runs_good("full", "train.steps=4"));
    struct rlimit old, low;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    low = old;
    low.rlim_cur = 8192;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &low);
    json_t *r;
    st_err e;
    st_status s = runs_train("full", "", &r, &e);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_st(s, ST_EIO, &e);
    assert_null(r);
    assert_says(&e, "ckpt/last of step 4 is whole");
    assert_int_equal(st_test_entries(runs_file("full", "ckpt")),
                     2); /* last, best: no temporaries */
    json_decref(runs_good("full", ""));
    runs_same_ckpt("room", "full");
    runs_same_metrics("room", "full");
}

/* ---- other bad input ------------------------------------------------------------------------- */

static void test_input(void **state)
{
    (void)state;
    char more[600];
    refused("in", "train.context=17", ST_EARG, "train.context: found 17");
    refused("in", "train.tokens_per_step=100", ST_EARG, "the nearest is 128");
    refused("in", "train.tokens_per_step=1", ST_EARG, "the nearest is 64");
    refused("in", "model.vocab_size=22", ST_EFORMAT, "train.bin");
    refused("in", "model.n_head=3", ST_EFORMAT, "n_head");
    refused("in", "model.mlp.map=lowrnk:rank=2", ST_EARG, "lowrank");
    refused("in", "model.preset=gpt3", ST_EARG, "gpt2");
    refused("in", "data.val=/nowhere/val.bin", ST_EIO, "/nowhere/val.bin");
    refused("in", "data.dir=null", ST_EARG, "data=FOLDER");
    refused("in", "init=/nowhere", ST_EIO, "/nowhere");
    refused("in", "model.n_positions=4096", ST_EARG, "4097");
    refused("in", "device=gpu", ST_EARG, "cpu");
    snprintf(more, sizeof more, "data.train=%s", runs_file("in", "empty.bin"));
    assert_ok(st_make_dirs(runs_file("in", ""), NULL), NULL);
    st_test_write(runs_file("in", "empty.bin"), "", 0);
    refused("in", more, ST_EFORMAT, "empty.bin");
    assert_int_equal(st_test_entries(runs_file("in", "")), 1); /* nothing was begun */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keep),      cmocka_unit_test(test_keep_later),
        cmocka_unit_test(test_numbered),  cmocka_unit_test(test_init),
        cmocka_unit_test(test_settings),  cmocka_unit_test(test_two),
        cmocka_unit_test(test_truncated), cmocka_unit_test(test_spoilt),
        cmocka_unit_test(test_full),      cmocka_unit_test(test_input),
    };
    return cmocka_run_group_tests(tests, runs_set_up, runs_tear_down);
}
