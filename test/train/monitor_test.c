/* What a run tells about itself: norms, learning rates, epochs, times, in files that go on. */
/* SPDX-License-Identifier: MIT */
#include "rig/runs.h"
#include "store/store.h"
#include <stdlib.h>
#include <unistd.h>

/* Row number `n` (from 0) of a file of JSON lines. */
static json_t *row_of(const char *run, const char *file, int n)
{
    char *text = st_test_read(runs_file(run, file), NULL), *line = text;
    assert_non_null(text);
    for (; n > 0 && line; n--) {
        line = strchr(line, '\n');
        if (line) line++;
    }
    json_t *row = line && *line ? json_loads(line, JSON_DISABLE_EOF_CHECK, NULL) : NULL;
    free(text);
    return row;
}

/* Of the parameter `name`: the largest and the mean magnitude. */
struct magnitude {
    const char *name;
    const float *flat;
    double most, mean, all;
};

static void magnitude(void *ctx, const st_param *p)
{
    struct magnitude *m = ctx;
    int64_t n = st_numel(p->w);
    double most = 0, sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double a = fabs((double)m->flat[p->offset + i]);
        most = fmax(most, a);
        sum += a;
    }
    m->all += sum;
    if (strcmp(p->name, m->name) != 0) return;
    m->most = most;
    m->mean = sum / (double)n;
}

/* Weights as they are before step 5, that is in the checkpoint of step 4; gradients add up to the
 * norm that the step reports. */
static void test_norms(void **state)
{
    (void)state;
    st_model *m = NULL;
    st_bpe *none = NULL;
    float *flat = NULL;
    st_err e = {0};
    json_decref(runs_good("norms", "log.norms=5 ckpt.keep=3"));
    json_t *first = row_of("norms", "norms.jsonl", 0), *row = row_of("norms", "norms.jsonl", 1);
    assert_int_equal(runs_number(first, "step"), 1);
    assert_int_equal(runs_number(row, "step"), 5);
    assert_null(row_of("norms", "norms.jsonl", 3));
    assert_ok(st_folder_read(runs_file("norms", "ckpt/step-4"), &m, &flat, &none, &e), &e);
    static const char *const name[] = {"wte.weight", "h.1.mlp.c_fc.weight", "ln_f.weight"};
    for (int i = 0; i < 3; i++) {
        struct magnitude is = {.name = name[i], .flat = flat};
        char key[64];
        st_model_params(m, magnitude, &is);
        snprintf(key, sizeof key, "stats/%s_max", name[i]);
        assert_true(fabs(runs_number(row, key) / is.most - 1) < 1e-4);
        snprintf(key, sizeof key, "stats/%s_mean", name[i]);
        assert_true(fabs(runs_number(row, key) / is.mean - 1) < 1e-4);
        assert_true(fabs(runs_number(row, "total_param_l1_norm") / is.all - 1) < 1e-4);
        snprintf(key, sizeof key, "stats/%s_grad_max", name[i]);
        double most = runs_number(row, key);
        snprintf(key, sizeof key, "stats/%s_grad_mean", name[i]);
        assert_true(most > runs_number(row, key) && runs_number(row, key) > 0);
        json_t *step = row_of("norms", "metrics.jsonl", 6); /* 1, 2, 3, 4 and two validations */
        assert_int_equal(runs_number(step, "step"), 5);
        assert_true(most <= runs_number(step, "grad_norm"));
        assert_true(runs_number(row, "total_grad_l1_norm") > runs_number(step, "grad_norm"));
        json_decref(step);
    }
    free(flat);
    st_bpe_close(none);
    st_model_close(m);
    json_decref(first);
    json_decref(row);
}

static void test_rates(void **state)
{
    (void)state;
    json_decref(runs_good("rates", "train.schedule=linear "
                                   "train.groups={norms:{lr:1e-3},wte.weight:{lr:5e-2,"
                                   "schedule:false},biases:{decay:0.5},"
                                   "h.0.*:{freeze:true}}"));
    for (int step = 1, line = 1; step <= 12; step++, line++) {
        json_t *row = row_of("rates", "metrics.jsonl", line);
        if (json_object_get(row, "val_loss")) {
            json_decref(row);
            row = row_of("rates", "metrics.jsonl", ++line);
        }
        const st_lr_curve curve = {.kind = ST_LR_LINEAR, .warmup = 3, .decay_steps = 12};
        double lr = st_lr(&curve, step - 1, 1e-2, 0);
        assert_int_equal(runs_number(row, "step"), step);
        assert_true(fabs(runs_number(row, "lr.default") - lr) < 1e-7);
        assert_true(fabs(runs_number(row, "lr.norms") - lr / 10) < 1e-7);
        assert_true(fabs(runs_number(row, "lr.wte.weight") - 5e-2) < 1e-7);
        assert_null(json_object_get(row, "lr.biases"));
        assert_null(json_object_get(row, "gflops")); /* frozen parameters are not counted */
        assert_true(fabs(runs_number(row, "epoch") - step * 4 / 312.0) < 1e-5);
        assert_true(runs_number(row, "step_ms") > 0 && runs_number(row, "inter_ms") >= 0);
        json_decref(row);
    }
}

/* Operations a second are 2 a multiply-add: three times the forward's in a training step, but for
 * the look-up of tokens. */
static void test_speed(void **state)
{
    (void)state;
    json_t *r = runs_good("speed", "train.micro_batch=60 train.steps=12 data.order=shuffle "
                                   "ckpt.every=0 eval.every=0");
    json_t *row = row_of("speed", "metrics.jsonl", 11);
    double speed = runs_number(row, "tokens_per_second");
    double macs = runs_number(row, "gflops") * 1e9 / 2 / speed;
    assert_true(macs > 2.5 * runs_number(r, "macs_per_token"));
    assert_true(macs < 3.1 * runs_number(r, "macs_per_token"));
    /* 312 windows of 16 are over in the sixth step of 60. */
    assert_true(runs_number(row, "epoch_seconds") > 0);
    assert_true(runs_number(row, "epoch_seconds") < runs_number(row, "seconds"));
    json_decref(row);
    json_decref(r);
}

/* A run begun before there were these columns keeps those it has; one that was cut off in the
 * middle of a row goes on behind the last whole one. */
static void test_old_files(void **state)
{
    (void)state;
    static const char head[] =
        "step,tokens,loss,lr,grad_norm,tokens_per_second,seconds,val_loss,val_perplexity\n";
    json_decref(runs_good("whole", "log.norms=1"));
    json_decref(runs_good("old", "train.steps=4 log.norms=1"));
    char *csv = st_test_read(runs_file("old", "metrics.csv"), NULL), text[2048];
    size_t n = (size_t)snprintf(text, sizeof text, "%s", head);
    for (char *line = strtok(strchr(csv, '\n') + 1, "\n"); line; line = strtok(NULL, "\n")) {
        char *end = line;
        for (int comma = 0; *end && (comma += *end == ',') < 9; end++) {
        }
        n += (size_t)snprintf(text + n, sizeof text - n, "%.*s\n", (int)(end - line), line);
    }
    st_test_write(runs_file("old", "metrics.csv"), text, n);
    free(csv);
    char *norms = st_test_read(runs_file("old", "norms.jsonl"), &n);
    st_test_write(runs_file("old", "norms.jsonl"), norms, n - 100);
    free(norms);
    json_decref(runs_good("old", "log.norms=1 ckpt.resume=yes"));
    csv = st_test_read(runs_file("old", "metrics.csv"), NULL);
    assert_memory_equal(csv, head, strlen(head));
    int lines = 0;
    for (char *line = strtok(csv, "\n"); line; line = strtok(NULL, "\n"), lines++) {
        int commas = 0;
        for (char *p = line; *p; p++)
            commas += *p == ',';
        assert_int_equal(commas, 8);
    }
    assert_int_equal(lines, 1 + 12 + 4);
    free(csv);
    runs_same_metrics("whole", "old");
    json_t *row = row_of("old", "norms.jsonl", 3); /* row 4 was cut short */
    assert_int_equal(runs_number(row, "step"), 5);
    json_decref(row);
}

/* The same rows whether a run is cut or not, norms and all. */
static void test_resumes(void **state)
{
    (void)state;
    const char more[] = "log.norms=2 train.ema=0.9 data.order=shuffle data.last=short "
                        "train.groups={norms:{lr:1e-3}} log.every=3 ckpt.keep=2 ";
    char text[512], x[600];
    json_decref(runs_good("calm", more));
    snprintf(text, sizeof text, "%s train.steps=8", more);
    json_decref(runs_good("cut", text));
    snprintf(text, sizeof text, "%s ckpt.resume=%s", more, runs_file("cut", "ckpt/step-4"));
    json_decref(runs_good("cut", text));
    runs_same_ckpt("calm", "cut");
    snprintf(x, sizeof x, "%s", runs_file("calm", "norms.jsonl"));
    runs_same(x, runs_file("cut", "norms.jsonl"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norms),   cmocka_unit_test(test_rates),
        cmocka_unit_test(test_speed),   cmocka_unit_test(test_old_files),
        cmocka_unit_test(test_resumes),
    };
    return cmocka_run_group_tests(tests, runs_set_up, runs_tear_down);
}
