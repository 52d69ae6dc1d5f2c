/* Training with a teacher: it helps, it resumes to the same bits, it tells the parts of the loss,
 * and teachers that do not fit are refused. */
/* SPDX-License-Identifier: MIT */
#include "rig/runs.h"

static char teacher[600];

static int set_up(void **state)
{
    runs_set_up(state);
    json_decref(
        runs_good("teacher", "train.steps=80 train.decay_steps=80 eval.every=0 model.n_embd=32"));
    snprintf(teacher, sizeof teacher, "%s", runs_file("teacher", "ckpt/last"));
    return 0;
}

static const char *with(const char *more)
{
    static char text[1200];
    snprintf(text, sizeof text, "distill=%s %s", teacher, more);
    return text;
}

/* The student sees little text; what a trained teacher says about it makes up for some of that. */
static void test_helps(void **state)
{
    (void)state;
    json_t *alone = runs_good("alone", ""), *taught = runs_good("taught", with("distill.ce=0.2"));
    double a = runs_number(alone, "val_loss"), b = runs_number(taught, "val_loss");
    if (!(b < a - 0.02)) fail_msg("validation loss %.4f alone, %.4f with a teacher", a, b);
    const json_t *curve = json_object_get(taught, "curve");
    for (size_t i = 0; i < 12; i++) {
        double loss = json_number_value(json_array_get(json_object_get(curve, "loss"), i));
        double ce = json_number_value(json_array_get(json_object_get(curve, "ce"), i));
        double kl = json_number_value(json_array_get(json_object_get(curve, "kl"), i));
        assert_true(fabs(loss - (0.2 * ce + 0.5 * 4 * kl)) < 1e-6);
        assert_true(ce > 0 && kl > 0);
    }
    assert_null(json_object_get(json_object_get(alone, "curve"), "ce"));
    const json_t *m = json_object_get(taught, "memory"), *n = json_object_get(alone, "memory");
    assert_int_equal(runs_number(n, "teacher"), 0);
    assert_true(runs_number(m, "teacher") > 4 * 32 * 32);
    json_decref(alone);
    json_decref(taught);
}

static void resumes(const char *name, const char *more)
{
    char whole[64], part[64], text[1500], all[1400];
    snprintf(whole, sizeof whole, "%s-whole", name);
    snprintf(part, sizeof part, "%s-part", name);
    snprintf(all, sizeof all, "%s", with(more));
    snprintf(text, sizeof text, "%s train.steps=8", all);
    json_decref(runs_good(whole, all));
    json_decref(runs_good(part, text));
    json_t *r = runs_good(part, all);
    assert_int_equal(json_array_size(json_object_get(json_object_get(r, "curve"), "kl")), 12);
    static const char *const key[] = {"ce", "kl", "hidden"};
    double parts = 0; /* of a row that was read back */
    for (int i = 0; i < 3; i++)
        parts += json_number_value(
            json_array_get(json_object_get(json_object_get(r, "curve"), key[i]), 1));
    assert_true(parts > 0);
    json_decref(r);
    runs_same_ckpt(whole, part);
    runs_same_metrics(whole, part);
}

static void test_resume(void **state)
{
    (void)state;
    resumes("f32", "train.dropout=0.1 model.n_embd=32 distill.hidden=1 distill.embedding=0.5");
    resumes("bf16", "dtype=bf16 train.tokens_per_step=128 distill.temperature=1");
}

/* Rows have the parts; a table that began without them keeps its columns, and its rows. */
static void test_columns(void **state)
{
    (void)state;
    json_decref(runs_good("table", with("")));
    char *csv = st_test_read(runs_file("table", "metrics.csv"), NULL);
    assert_non_null(strstr(csv, ",val_perplexity,ce,kl,hidden,embedding,epoch,"));
    free(csv);
    json_decref(runs_good("plain", "train.steps=4"));
    json_decref(runs_good("plain", with("ckpt.resume=yes")));
    csv = st_test_read(runs_file("plain", "metrics.csv"), NULL);
    assert_null(strstr(csv, "kl"));
    int lines = 0;
    for (const char *p = csv; *p; p++)
        lines += *p == '\n';
    assert_int_equal(lines, 1 + 12 + 4);
    free(csv);
    char *jsonl = st_test_read(runs_file("plain", "metrics.jsonl"), NULL);
    assert_non_null(strstr(jsonl, "\"kl\": "));
    free(jsonl);
    json_decref(runs_good("back", with("train.steps=4"))); /* and the other way round */
    json_decref(runs_good("back", "ckpt.resume=yes"));
    csv = st_test_read(runs_file("back", "metrics.csv"), NULL);
    assert_non_null(strstr(csv, ",,,,,,,0.153846,")); /* none for its parts, its epoch */
    free(csv);
}

/* More sequences at once or one after the other: the same objective. */
static void test_accumulation(void **state)
{
    (void)state;
    const char more[] = "train.tokens_per_step=64 model.n_embd=32 distill.hidden=1";
    char pieces[256];
    snprintf(pieces, sizeof pieces, "%s train.micro_batch=1", more);
    json_t *a = runs_good("whole4", with(more)), *b = runs_good("pieces4", with(pieces));
    const char *const key[] = {"loss", "ce", "kl", "hidden", "grad_norm"};
    for (int k = 0; k < 5; k++) {
        const json_t *x = json_object_get(json_object_get(a, "curve"), key[k]);
        const json_t *y = json_object_get(json_object_get(b, "curve"), key[k]);
        for (size_t i = 0; i < 12; i++) {
            double p = json_number_value(json_array_get(x, i)),
                   q = json_number_value(json_array_get(y, i));
            if (fabs(p - q) > 1e-3 * fabs(p)) fail_msg("%s %zu: %.8f and %.8f", key[k], i, p, q);
        }
    }
    json_decref(a);
    json_decref(b);
}

/* Every block by itself comes nearer to the teacher's; what no block reads stays. */
static void test_by_block(void **state)
{
    (void)state;
    json_t *r =
        runs_good("by-block", with("model.n_embd=32 distill.ce=0 distill.kl=0 distill.hidden=1 "
                                   "distill.inputs=teacher train.groups={*:{decay:0}}"));
    const json_t *curve = json_object_get(r, "curve");
    const json_t *hidden = json_object_get(curve, "hidden"), *loss = json_object_get(curve, "loss");
    double first = json_number_value(json_array_get(hidden, 0)),
           last = json_number_value(json_array_get(hidden, 11));
    if (!(last < 0.7 * first)) fail_msg("distance %.4f, then %.4f", first, last);
    assert_true(json_equal(hidden, loss));
    json_decref(r);
    runs_same(runs_file("by-block", "ckpt/last/config.json"),
              runs_file("teacher", "ckpt/last/config.json"));
    resumes("blocks", "model.n_embd=32 distill.ce=0 distill.kl=0 distill.hidden=1 "
                      "distill.inputs=teacher train.dropout=0.1");
}

static void refuses(const char *more, const char *says)
{
    json_t *r;
    st_err e;
    assert_st(runs_train("refused", more, &r, &e), ST_EARG, &e);
    assert_says(&e, says);
    assert_null(r);
}

static void test_mistakes(void **state)
{
    (void)state;
    refuses(with("model.vocab_size=24"), "has 23 token ids, this model needs exactly 24");
    refuses(with("model.n_positions=20"), "has 16 positions, this model needs at least 20");
    refuses(with("distill.hidden=1"), "has 32 of width, this model needs exactly 16");
    refuses(with("distill.embedding=1"), "width");
    refuses(with("distill.hidden=1 model.n_embd=32 model.n_layer=1"), "has 2 blocks");
    refuses(with("distill.ce=0 distill.kl=0"), "nothing would be learnt");
    refuses(with("distill.inputs=teacher model.n_embd=32 distill.hidden=1"), "distill.ce");
    refuses(with("distill.inputs=teacher distill.ce=0 distill.kl=0"), "distill.hidden above 0");
    refuses(with("distill.temperature=0"), "distill.temperature");
    json_t *r;
    st_err e;
    st_status s = runs_train("refused", "distill=nowhere", &r, &e);
    assert_int_not_equal(s, ST_OK);
    assert_says(&e, "distill.teacher");
    assert_says(&e, "nowhere");
    /* fewer positions used, another depth and width: the outputs can be compared */
    json_decref(runs_good("short", with("train.context=8 model.n_layer=1 train.steps=2")));
    assert_st(runs_train("short", "train.context=8 model.n_layer=1 train.steps=2", &r, &e), ST_EARG,
              &e);
    assert_says(&e, "distill.teacher");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_helps),    cmocka_unit_test(test_resume),
        cmocka_unit_test(test_columns),  cmocka_unit_test(test_accumulation),
        cmocka_unit_test(test_by_block), cmocka_unit_test(test_mistakes),
    };
    return cmocka_run_group_tests(tests, set_up, runs_tear_down);
}
