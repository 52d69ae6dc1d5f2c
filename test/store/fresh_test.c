/* Which deviation each matrix of a model starts with under the three laws. */
/* SPDX-License-Identifier: MIT */
#include "store/store.h"
#include "testing.h"
#include <math.h>

typedef struct {
    const char *name;
    const float *flat;
    double std;
} fresh_look;

static void fresh_see(void *ctx, const st_param *p)
{
    fresh_look *f = ctx;
    if (strcmp(p->name, f->name) != 0) return;
    int64_t n = st_numel(p->w);
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)f->flat[p->offset + i] * (double)f->flat[p->offset + i] / (double)n;
    f->std = sqrt(sum);
}

static double fresh_std(const st_model *m, st_fresh_law law, const char *name)
{
    st_err e = {0};
    float *flat = st_calloc(st_model_elements(m), sizeof *flat);
    assert_ok(st_fresh_weights_by(m, law, 3, flat, &e), &e);
    fresh_look f = {.name = name, .flat = flat, .std = NAN};
    st_model_params(m, fresh_see, &f);
    free(flat);
    return f.std;
}

/* 8 layers: GPT-2's scaling by depth is 1/4. */
static void test_scaling_by_depth(void **state)
{
    (void)state;
    static const char text[] =
        "{\"model_type\":\"gpt2\",\"vocab_size\":300,\"n_positions\":8,\"n_embd\":64,"
        "\"initializer_range\":0.04,\"n_layer\":8,\"n_head\":2,\"strut\":{\"format\":1,\"maps\":{"
        "\"h.*.mlp.c_fc\":\"monarch:blocks=4\",\"h.3.attn.c_proj\":\"lowrank:rank=8\"}}}";
    static const struct {
        const char *name;
        double std[3];
    } row[] = {
        {"wte.weight", {0.04, 0.04, 0.04}},
        {"h.1.attn.c_proj.weight", {0.01, 0.01, 0.01}},
        {"h.1.mlp.c_proj.weight", {0.01, 0.04, 0.04}},
        {"h.3.attn.c_proj.u", {0.05946, 0.01, 0.01}}, /* sqrt(0.01 / sqrt(8)) */
        {"h.1.mlp.c_fc.l1", {0.14142, 0.14434, 0.14434}},
        {"h.1.mlp.c_fc.bias", {0, 0.03608, 0.03608}},
        {"h.1.ln_1.weight", {1, 1, 1}},
    };
    st_err e = {0};
    json_t *config = NULL;
    st_model *m = NULL;
    assert_ok(st_json_parse(&config, text, strlen(text), "test", &e), &e);
    assert_ok(st_model_open(&m, config, &e), &e);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        for (int law = 0; law < 3; law++) {
            double got = fresh_std(m, (st_fresh_law)law, row[i].name), want = row[i].std[law];
            if (!(fabs(got - want) <= 0.12 * want))
                fail_msg("%s by law %d: %.5f, wanted %.5f", row[i].name, law, got, want);
        }
    }
    st_model_close(m);
    json_decref(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_scaling_by_depth)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
