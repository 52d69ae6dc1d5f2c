/* Changes of weights that leave the function alone: logits of a dense model before and after, a
 * permutation and its inverse, numbers that must be where the contract says, refusals. */
/* SPDX-License-Identifier: MIT */
#include "model/model.h"
#include "testing.h"
#include <math.h>

enum { WIDTH = 12, INNER = 24, VOCAB = 30, LEN = 7 };

typedef struct {
    st_model *m;
    float *flat, logits[LEN * VOCAB];
} toy;

/* Every tensor random, layer norms too: 1 + N(0, 0.3^2) and N(0, 0.3^2). */
static void toy_param(void *ctx, const st_param *p)
{
    toy *t = ctx;
    bool gain = (p->flags & ST_P_NORM) && !(p->flags & ST_P_BIAS);
    st_normal_fill(t->flat + p->offset, st_numel(p->w), gain ? 1.0f : 0.0f, 0.3f, 3,
                   st_hash_name(p->name));
}

static toy toy_open(const char *more)
{
    st_err e = {0};
    toy t = {0};
    char text[400];
    json_t *config = NULL;
    snprintf(text, sizeof text,
             "{\"model_type\":\"gpt2\",\"vocab_size\":%d,\"n_positions\":8,\"n_embd\":%d,"
             "\"n_layer\":2,\"n_head\":2,\"n_inner\":%d%s}",
             VOCAB, WIDTH, INNER, more);
    assert_ok(st_json_parse(&config, text, strlen(text), "test", &e), &e);
    assert_ok(st_model_open(&t.m, config, &e), &e);
    json_decref(config);
    t.flat = st_calloc(st_model_elements(t.m), sizeof *t.flat);
    st_model_params(t.m, toy_param, &t);
    return t;
}

static void toy_close(toy *t)
{
    st_model_close(t->m);
    free(t->flat);
}

static void toy_run(toy *t)
{
    static int32_t ids[LEN] = {3, 1, 4, 1, 5, 9, 2};
    st_err e = {0};
    st_stream *q = NULL;
    st_arena a = {0};
    int64_t n = st_model_elements(t->m);
    assert_ok(st_stream_open(&q, "ref", 1, &e), &e);
    assert_ok(st_arena_open(&a, 1 << 20, &e), &e);
    st_model_bind(t->m, st_view1(t->flat, ST_F32, n), (st_tensor){0});
    st_lm_args args = {.batch = 1,
                       .len = LEN,
                       .ids = st_view2(ids, ST_I32, 1, LEN),
                       .logits = st_view2(t->logits, ST_F32, LEN, VOCAB)};
    st_model_forward(t->m, q, &args, &a);
    assert_ok(st_stream_sync(q, &e), &e);
    st_arena_close(&a);
    st_stream_close(q);
}

typedef struct {
    const char *name;
    int64_t offset, n;
} toy_place;

static void toy_find(void *ctx, const st_param *p)
{
    toy_place *x = ctx;
    if (strcmp(p->name, x->name) != 0) return;
    x->offset = p->offset;
    x->n = st_numel(p->w);
}

static float *toy_tensor(const toy *t, const char *name, int64_t *n)
{
    toy_place x = {.name = name};
    st_model_params(t->m, toy_find, &x);
    if (x.n == 0) fail_msg("no %s", name);
    if (n) *n = x.n;
    return t->flat + x.offset;
}

static void toy_same(const float *a, const float *b)
{
    for (int i = 0; i < LEN * VOCAB; i++)
        if (!(fabsf(a[i] - b[i]) < 1e-4f))
            fail_msg("logit %d: %g, %g", i, (double)a[i], (double)b[i]);
}

static void symmetry_fold(void **state)
{
    (void)state;
    st_err e = {0};
    toy t = toy_open("");
    float before[LEN * VOCAB];
    toy_run(&t);
    memcpy(before, t.logits, sizeof before);
    float far = 0.0f;
    for (int i = 1; i < LEN * VOCAB; i++)
        far = fmaxf(far, fabsf(before[i] - before[0]));
    assert_true(far > 0.5f); /* logits that say something */
    assert_ok(st_model_fold_norms(t.m, t.flat, &e), &e);
    toy_run(&t);
    toy_same(t.logits, before);
    static const char *const one[] = {"h.0.ln_1.weight", "h.1.ln_2.weight"};
    static const char *const zero[] = {"h.1.ln_1.bias", "h.0.ln_2.bias"};
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < WIDTH; i++) {
            assert_true(toy_tensor(&t, one[k], NULL)[i] == 1.0f);
            assert_true(toy_tensor(&t, zero[k], NULL)[i] == 0.0f);
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
        float before[LEN * VOCAB], *copy = malloc((size_t)n * sizeof *copy);
        memcpy(copy, t.flat, (size_t)n * sizeof *copy);
        toy_run(&t);
        memcpy(before, t.logits, sizeof before);
        toy_order(from, back, hidden ? INNER : WIDTH, 5, 3);
        const char *name = hidden ? "h.1.mlp.c_fc.bias" : "ln_f.bias";
        if (hidden)
            assert_ok(st_model_permute_hidden(t.m, 1, from, t.flat, &e), &e);
        else
            assert_ok(st_model_permute_residual(t.m, from, t.flat, &e), &e);
        const float *old = copy + (toy_tensor(&t, name, NULL) - t.flat);
        for (int p = 0; p < WIDTH; p++)
            assert_true(toy_tensor(&t, name, NULL)[p] == old[from[p]]);
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
