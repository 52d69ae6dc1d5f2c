/* Parameter groups: which parameter gets which learning rate and decay, in the recipes that people
 * know; what is frozen stays, costs nothing and changes nothing else; mistakes are named. */
/* SPDX-License-Identifier: MIT */
#include "rig/runs.h"
#include "store/store.h"
#include <fnmatch.h>

/* Kronecker MLPs with scalars, as the published recipes have them. */
#define KRON "model.mlp.map=kron:terms=2,m1=8,n1=8,scalars=1"

static json_t *plan(const char *more)
{
    st_settings set;
    json_t *r = NULL;
    st_err e = {0};
    assert_ok(runs_settings(&set, "dry", more, &e), &e);
    assert_ok(st_train_run(&(st_train_opts){.set = &set, .dry = true}, &r, &e), &e);
    st_settings_close(&set);
    assert_false(st_path_exists(runs_file("dry", "")));
    return r;
}

typedef struct {
    const char *glob;
    double lr, decay;
    bool schedule, frozen;
} want_row;

/* Every parameter is as the first row that matches its name says. */
static void check(const char *more, const want_row *want)
{
    json_t *r = plan(more);
    size_t i;
    const json_t *row;
    assert_int_equal(json_array_size(json_object_get(r, "groups")), 36);
    json_array_foreach(json_object_get(r, "groups"), i, row)
    {
        const char *name = json_string_value(json_object_get(row, "name"));
        const want_row *w = want;
        while (w->glob && fnmatch(w->glob, name, 0) != 0)
            w++;
        if (!w->glob) fail_msg("%s: no row", name);
        if (fabs(runs_number(row, "lr") - w->lr) > 1e-15 ||
            fabs(runs_number(row, "decay") - w->decay) > 1e-15 ||
            json_is_true(json_object_get(row, "schedule")) != w->schedule ||
            json_is_true(json_object_get(row, "frozen")) != w->frozen) {
            char *text = json_dumps(row, JSON_COMPACT);
            fail_msg("%s, expected lr %g, decay %g, schedule %d, frozen %d", text, w->lr, w->decay,
                     w->schedule, w->frozen);
        }
    }
    json_decref(r);
}

/* Without groups, as nanoGPT and (for factors) doc/MATH say. */
static void test_default(void **state)
{
    (void)state;
    check(KRON, (want_row[]){{"*.bias", 1e-2, 0, true, false},
                             {"*ln_*", 1e-2, 0, true, false},
                             {"*.mlp.*.[bs]", 1e-2, 0, true, false},
                             {"*", 1e-2, 0.1, true, false},
                             {0}});
    check(KRON " train.decay_embeddings=false train.weight_decay=0.3",
          (want_row[]){{"w?e.weight", 1e-2, 0, true, false},
                       {"*.mlp.*.a", 1e-2, 0.3, true, false},
                       {"*.attn.*.weight", 1e-2, 0.3, true, false},
                       {"*", 1e-2, 0, true, false},
                       {0}});
}

/* Krony-PT's first recipe: Kronecker tensors decay, nothing else does. */
static void test_factors_decay(void **state)
{
    (void)state;
    check(KRON " train.groups={*:{decay:0},factors:{decay:0.1}}",
          (want_row[]){{"*.mlp.*.[ab]", 1e-2, 0.1, true, false}, {"*", 1e-2, 0, true, false}, {0}});
}

/* Its second: all that has two dimensions decays; wte and the scalars have a constant rate and
 * AdamW's default decay. */
static void test_constant_rates(void **state)
{
    (void)state;
    check(KRON " train.groups={factors:{decay:0.1},wte.weight:{lr:6e-4,schedule:false,"
               "decay:0.01},scalars:{lr:6e-4,schedule:false,decay:0.01}}",
          (want_row[]){{"wte.weight", 6e-4, 0.01, false, false},
                       {"*.mlp.*.s", 6e-4, 0.01, false, false},
                       {"wpe.weight", 1e-2, 0.1, true, false},
                       {"*.mlp.*.[ab]", 1e-2, 0.1, true, false},
                       {"*.attn.*.weight", 1e-2, 0.1, true, false},
                       {"*", 1e-2, 0, true, false},
                       {0}});
}

/* Key by key, the last entry that matches counts; every class is what it says. */
static void test_later_wins(void **state)
{
    (void)state;
    check(KRON " train.groups={factors:{lr:1,decay:2},*.b:{lr:3},norms:{freeze:true},"
               "ln_f.*:{freeze:false},biases:{decay:4},matrices:{lr:5},"
               "embeddings:{decay:6}}",
          (want_row[]){{"ln_f.*", 1e-2, 0, true, false},
                       {"*ln_*", 1e-2, 0, true, true},
                       {"*.bias", 1e-2, 4, true, false},
                       {"*.mlp.*.a", 1, 2, true, false},
                       {"*.mlp.*.b", 3, 2, true, false},
                       {"*.mlp.*.s", 1e-2, 0, true, false},
                       {"*.attn.*", 5, 0.1, true, false},
                       {"w?e.weight", 1e-2, 6, true, false},
                       {0}});
}

/* ---- freezing -------------------------------------------------------------------------------- */

struct frozen_check {
    const float *before, *after;
    const char *glob; /* of what is trained; "!GLOB": of what is not */
};

static void frozen_param(void *ctx, const st_param *p)
{
    const struct frozen_check *c = ctx;
    size_t bytes = (size_t)st_numel(p->w) * 4;
    bool same = memcmp(c->before + p->offset, c->after + p->offset, bytes) == 0;
    bool but = c->glob[0] == '!', match = fnmatch(c->glob + but, p->name, 0) == 0;
    if (same != (match == but)) fail_msg("%s: same is %d", p->name, same);
}

/* Trains some steps; what does not match `trained` keeps its bits, what matches moves. */
#define WTE " model.map={wte:'kron:terms=1,m1=8,n1=23'}"

static void trains_only(const char *name, const char *groups, const char *trained)
{
    char more[512];
    st_model *m, *n;
    float *before, *after;
    st_bpe *none;
    st_err e = {0};
    json_decref(runs_good("dense", KRON WTE " train.steps=4"));
    snprintf(more, sizeof more, "init=%s %s", runs_file("dense", "ckpt/last"), groups);
    json_decref(runs_good(name, more));
    assert_ok(st_folder_read(runs_file("dense", "ckpt/last"), &m, &before, &none, &e), &e);
    assert_ok(st_folder_read(runs_file(name, "ckpt/last"), &n, &after, &none, &e), &e);
    st_model_params(m, frozen_param, &(struct frozen_check){before, after, trained});
    st_model_close(m);
    st_model_close(n);
    free(before);
    free(after);
    st_test_remove(runs_file("dense", ""));
}

static void test_freeze(void **state)
{
    (void)state;
    trains_only("only-factors", "train.groups={*:{freeze:true},factors:{freeze:false}}", "*.[ab]");
    trains_only("only-b", "train.groups={*:{freeze:true},*.mlp.*.b:{freeze:false}}", "*.mlp.*.b");
    trains_only("no-wte", "train.groups={wte.*:{freeze:true}}", "!wte.*");
    trains_only("only-wte", "train.groups={*:{freeze:true},wte.b:{freeze:false}}", "wte.b");
}

/* A frozen run resumes to the same bits, in every way that a learning rate can be given. */
static void test_resume(void **state)
{
    (void)state;
    const char more[] = KRON " train.groups={h.0.*:{freeze:true},factors:{lr:3e-3},"
                             "scalars:{lr:1e-3,schedule:false}}";
    char part[512];
    json_decref(runs_good("whole", more));
    snprintf(part, sizeof part, "%s train.steps=8", more);
    json_decref(runs_good("part", part));
    json_decref(runs_good("part", more));
    runs_same_ckpt("whole", "part");
    runs_same_metrics("whole", "part");
}

/* ---- mistakes -------------------------------------------------------------------------------- */

static void refuses(const char *groups, const char *says)
{
    char more[512];
    json_t *r;
    st_err e;
    snprintf(more, sizeof more, KRON " train.groups=%s", groups);
    st_status s = runs_train("refused", more, &r, &e);
    assert_int_equal(s, ST_EARG);
    assert_says(&e, says);
    assert_null(r);
}

static void test_mistakes(void **state)
{
    (void)state;
    refuses("{factor:{lr:1}}", "did you mean factors?");
    refuses("{h.0.mlp.c_fc.x:{lr:1}}", "h.0.mlp.c_fc.a");
    refuses("{factors:{decat:1}}", "did you mean decay?");
    refuses("{factors:1}", "train.groups.factors: found 1");
    refuses("{factors:{lr:-1}}", "train.groups.factors.lr: found -1");
    refuses("{factors:{freeze:3}}", "train.groups.factors.freeze");
    refuses("4", "train.groups: found 4");
    refuses("{*:{freeze:true}}", "every parameter is frozen");
    json_decref(runs_good("kept", KRON " train.groups={*:{lr:1},factors:{lr:2}}"));
    json_t *r;
    st_err e;
    assert_st(runs_train("kept", KRON " train.groups={factors:{lr:2},*:{lr:1}}", &r, &e), ST_EARG,
              &e); /* the order counts */
    assert_says(&e, "began with");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_default),        cmocka_unit_test(test_factors_decay),
        cmocka_unit_test(test_constant_rates), cmocka_unit_test(test_later_wins),
        cmocka_unit_test(test_freeze),         cmocka_unit_test(test_resume),
        cmocka_unit_test(test_mistakes),
    };
    return cmocka_run_group_tests(tests, runs_set_up, runs_tear_down);
}
