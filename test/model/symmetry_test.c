/* Changes of weights that leave the function alone: logits of a dense model before and after, a
 * permutation and its inverse, numbers that must be where the contract says, refusals. */
/* SPDX-License-Identifier: MIT */
#include "model/toy.h"
#include <math.h>

enum { WIDTH = 12, INNER = 24 };

/* Every tensor random, layer norms too: 1 + N(0, 0.3^2) and N(0, 0.3^2). */
static void toy_random(void *ctx, const st_param *p)
{
    toy *t = ctx;
    bool gain = (p->flags & ST_P_NORM) && !(p->flags & ST_P_BIAS);
    st_normal_fill(t->flat + p->offset, st_numel(p->w), gain ? 1.0f : 0.0f, 0.3f, 3,
                   st_hash_name(p->name));
}

static toy toy_open(const char *more)
{
    toy t = toy_new(WIDTH, INNER, more);
    st_model_params(t.m, toy_random, &t);
    return t;
}

static void toy_same(const float *a, const float *b)
{
    for (int i = 0; i < TOY_LOGITS; i++)
        if (!(fabsf(a[i] - b[i]) < 1e-4f))
            fail_msg("logit %d: %g, %g", i, (double)a[i], (double)b[i]);
}

static void symmetry_fold(void **state)
{
    (void)state;
    st_err e = {0};
    toy t = toy_open("");
    float before[TOY_LOGITS];
    toy_run(&t);
    memcpy(before, t.logits, sizeof before);
    float far = 0.0f;
    for (int i = 1; i < TOY_LOGITS; i++)
        far = fmaxf(far, fabsf(before[i] - before[0]));
    assert_true(far > 0.5f); /* logits that say something */
    assert_ok(st_model_fold_norms(t.m, t.flat, &e), &e);
    toy_run(&t);
    toy_same(t.logits, before);
    static const char *const one[] = {"h.0.ln_1.weight", "h.1.ln_2.weight"};
    static const char *const zero[] = {"h.1.ln_1.bias", "h.0.ln_2.bias"};
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < WIDTH; i++) {
            assert_true(toy_tensor(&t, one[k])[i] == 1.0f);
            assert_true(toy_tensor(&t, zero[k])[i] == 0.0f);
        }
    }
    toy_close(&t);
    t = toy_open(",\"strut\":{\"format\":1,\"maps\":{\"h.1.mlp.c_fc\":\"lowrank:rank=2\"}}");
    float *copy = malloc((size_t)st_model_elements(t.m) * sizeof *copy);
    memcpy(copy, t.flat, (size_t)st_model_elements(t.m) * sizeof *copy);
    assert_st(st_model_fold_norms(t.m, t.flat, &e), ST_EARG, &e);
    assert_says(&e, "h.1.mlp.c_fc is lowrank already");
    assert_memory_equal(copy, t.flat, (size_t)st_model_elements(t.m) * sizeof *copy);
    free(copy);
    toy_close(&t);
}

/* from[p] = (a p + b) mod n, and its inverse. */
static void toy_order(int64_t *from, int64_t *back, int64_t n, int64_t a, int64_t b)
{
    for (int64_t p = 0; p < n; p++) {
        from[p] = (a * p + b) % n;
        back[from[p]] = p;
    }
}

/* The logits stay (8.10.7), every number moves, and the inverse brings every bit back. */
static void symmetry_permute(void **state)
{
    (void)state;
    static const char *const more[] = {"", ",\"tie_word_embeddings\":false"};
    int64_t from[INNER], back[INNER];
    st_err e = {0};
    for (int k = 0; k < 4; k++) {
        bool hidden = k % 2;
        toy t = toy_open(more[k / 2]);
        int64_t n = st_model_elements(t.m);
        float before[TOY_LOGITS], *copy = malloc((size_t)n * sizeof *copy);
        memcpy(copy, t.flat, (size_t)n * sizeof *copy);
        toy_run(&t);
        memcpy(before, t.logits, sizeof before);
        toy_order(from, back, hidden ? INNER : WIDTH, 5, 3);
        const char *name = hidden ? "h.1.mlp.c_fc.bias" : "ln_f.bias";
        if (hidden)
            assert_ok(st_model_permute_hidden(t.m, 1, from, t.flat, &e), &e);
        else
            assert_ok(st_model_permute_residual(t.m, from, t.flat, &e), &e);
        const float *old = copy + (toy_tensor(&t, name) - t.flat);
        for (int p = 0; p < WIDTH; p++)
            assert_true(toy_tensor(&t, name)[p] == old[from[p]]);
        toy_run(&t);
        toy_same(t.logits, before);
        if (hidden)
            assert_ok(st_model_permute_hidden(t.m, 1, back, t.flat, &e), &e);
        else
            assert_ok(st_model_permute_residual(t.m, back, t.flat, &e), &e);
        assert_memory_equal(t.flat, copy, (size_t)n * sizeof *copy);
        free(copy);
        toy_close(&t);
    }
}

static void symmetry_refusals(void **state)
{
    (void)state;
    st_err e = {0};
    int64_t from[INNER], back[INNER];
    toy_order(from, back, INNER, 1, 0);
    toy t = toy_open(",\"strut\":{\"format\":1,\"maps\":{\"h.1.mlp.c_proj\":\"kron:m1=4,n1=4\"}}");
    assert_st(st_model_permute_hidden(t.m, 1, from, t.flat, &e), ST_EARG, &e);
    assert_says(&e, "h.1.mlp.c_proj is kron already");
    assert_ok(st_model_permute_hidden(t.m, 0, from, t.flat, &e), &e);
    assert_st(st_model_permute_residual(t.m, from, t.flat, &e), ST_EARG, &e);
    from[3] = 4;
    assert_st(st_model_permute_hidden(t.m, 0, from, t.flat, &e), ST_EARG, &e);
    assert_says(&e, "not a permutation of 24 numbers");
    from[3] = -1;
    assert_st(st_model_permute_hidden(t.m, 0, from, t.flat, &e), ST_EARG, &e);
    toy_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(symmetry_fold),
        cmocka_unit_test(symmetry_permute),
        cmocka_unit_test(symmetry_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
