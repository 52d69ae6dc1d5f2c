/* Training with a teacher: gradients of every part of the objective by differences, what costs
 * nothing when it is off, teachers of other shapes, chunks, number types. */
/* SPDX-License-Identifier: MIT */
#include "slope.h"

#define SHAPE                                                                                      \
    "\"vocab_size\": 96, \"n_positions\": 16, \"n_head\": 2, \"n_inner\": 64, "                    \
    "\"initializer_range\": 0.15, \"resid_pdrop\": 0, \"embd_pdrop\": 0, \"attn_pdrop\": 0"
#define LIKE "\"n_embd\": 32, \"n_layer\": 2, " SHAPE

static const char student_config[] = "{" LIKE ", \"strut\": {\"format\": 1, \"maps\": {"
                                     "\"h.*.mlp.c_fc\": \"kron:terms=2,m1=16,n1=16,scalars=1\", "
                                     "\"h.1.attn.*\": \"lowrank:rank=4\"}}}";
static const char like_config[] = "{" LIKE "}";
static const char other_config[] = "{\"n_embd\": 48, \"n_layer\": 3, " SHAPE "}";

enum { ROWS = 14 };

typedef struct {
    rig student, teacher;
    st_lm_args a;
    st_teach teach;
} pair;

/* Other weights than the student's: all of them larger. */
static void louder(void *ctx, const st_param *p)
{
    rig *r = ctx;
    float *x = rig_get(r, p->w);
    for (int64_t i = 0; i < st_numel(p->w); i++)
        x[i] = x[i] * 1.5f + 0.01f * (float)(i % 5);
    rig_set(r, p->w, x);
    test_free(x);
}

static void pair_open_batch(pair *p, const char *device, st_dtype t, const char *teacher,
                            int64_t batch, int64_t len)
{
    json_t *s = rig_json(student_config), *c = rig_json(teacher);
    rig_open(&p->student, device, t, s);
    rig_open(&p->teacher, device, t, c);
    json_decref(s);
    json_decref(c);
    rig_random(&p->student);
    rig_random(&p->teacher);
    st_model_params(p->teacher.m, louder, &p->teacher);
    p->a = rig_batch(&p->student, batch, len, 3);
    p->teach = (st_teach){.teacher = p->teacher.m, .temperature = 2};
    p->teach.kl = st_take1(&p->student.mem, ST_F32, batch * len);
    p->teach.hidden = st_take1(&p->student.mem, ST_F32, batch * len);
    p->teach.embed = st_take1(&p->student.mem, ST_F32, batch * len);
    p->a.teach = &p->teach;
}

static void pair_open(pair *p, const char *device, st_dtype t, const char *teacher)
{
    pair_open_batch(p, device, t, teacher, 2, 7);
}

static void pair_close(pair *p)
{
    rig_close(&p->student);
    rig_close(&p->teacher);
}

/* All parts at once, and each alone, with and without the targets. */
static void gradients(const char *device, const char *teacher)
{
    const float n = 1.0f / ROWS;
    const struct {
        const char *name;
        float ce, kl, hidden, embed;
        int relative, mlp;
    } mix[] = {
        {"kl", 0, n, 0, 0, 0, 0},  {"hidden", 0, 0, n, 0, 1, 0}, {"mse", 0, 0, n, n, 0, 0},
        {"mlp", 0, 0, n, 0, 1, 1}, {"embed", 0, 0, 0, n, 1, 0},  {"all", n / 2, n, n, n, 1, 0},
    };
    for (size_t i = 0; i < sizeof mix / sizeof *mix; i++) {
        pair p;
        bool alike = strcmp(teacher, like_config) == 0;
        if ((mix[i].hidden != 0 || mix[i].embed != 0) && !alike) continue;
        if (strcmp(device, "cpu") == 0 && strcmp(mix[i].name, "all") != 0) continue;
        pair_open(&p, device, ST_F32, teacher);
        p.a.grad_scale = mix[i].ce;
        p.teach.kl_scale = mix[i].kl;
        p.teach.hidden_scale = mix[i].hidden;
        p.teach.embed_scale = mix[i].embed;
        p.teach.relative = mix[i].relative;
        p.teach.mlp = mix[i].mlp;
        if (strcmp(mix[i].name, "embed") == 0) {
            /* only wte and wpe move it: along the gradient of the others there is no slope */
            rig_zero_grads(&p.student);
            rig_run(&p.student, &p.a, true);
            float *g = rig_get(&p.student, p.student.g);
            assert_true(largest(g, 96 * 32) > 0);
            assert_true(largest(g + 96 * 32 + 16 * 32, 64) == 0);
            test_free(g);
        } else if (mix[i].hidden != 0 && mix[i].kl == 0) {
            /* ln_f is behind the last block: a little of the targets gives it a slope */
            p.a.grad_scale = n / 10;
            slope_check_batch(&p.student, &p.a, mix[i].name, true);
        } else {
            slope_check_batch(&p.student, &p.a, mix[i].name, true);
        }
        pair_close(&p);
    }
}

static void test_gradients(void **state)
{
    (void)state;
    gradients("ref", like_config);
    gradients("cpu", like_config);
    gradients("ref", other_config);
}

/* Along a block's gradient as usual; what is outside of the blocks has none. */
static void by_block_param(void *ctx, const st_param *p)
{
    slope *s = ctx;
    if (strncmp(p->name, "h.", 2) == 0)
        slope_param(ctx, p);
    else
        assert_true(largest(s->grad + p->offset, st_numel(p->w)) == 0);
}

/* Block reconstruction: block i reads the teacher's states, so that no block moves another's. */
static void by_block(int mlp)
{
    pair p;
    pair_open(&p, "ref", ST_F32, like_config);
    p.a.grad_scale = 0;
    p.teach.hidden_scale = 1.0f / ROWS;
    p.teach.relative = p.teach.by_block = 1;
    p.teach.mlp = mlp;
    slope s = {.r = &p.student, .a = &p.a, .type = "by block", .train = true};
    rig_zero_grads(&p.student);
    rig_run(&p.student, &p.a, true);
    s.grad = rig_get(&p.student, p.student.g);
    st_model_params(p.student.m, by_block_param, &s);
    test_free(s.grad);

    /* the embeddings are not read: another wte changes no bit */
    rig_run(&p.student, &p.a, true);
    float *before = rig_get(&p.student, p.teach.hidden), *w = rig_get(&p.student, p.student.w);
    w[0] += 1.0f; /* wte */
    rig_set(&p.student, p.student.w, w);
    rig_run(&p.student, &p.a, true);
    float *after = rig_get(&p.student, p.teach.hidden);
    assert_memory_equal(before, after, ROWS * 4);
    test_free(before);
    test_free(after);
    test_free(w);
    pair_close(&p);
}

static void test_by_block(void **state)
{
    (void)state;
    by_block(0);
    by_block(1);
}

static void copy_weights(rig *to, rig *from)
{
    float *w = rig_get(from, from->w);
    rig_set(to, to->w, w);
    test_free(w);
}

/* A model that is its own teacher has nothing to learn from it. */
static void test_itself(void **state)
{
    (void)state;
    pair p;
    pair_open(&p, "ref", ST_F32, student_config);
    copy_weights(&p.teacher, &p.student);
    p.a.grad_scale = 0;
    p.teach.kl_scale = p.teach.hidden_scale = p.teach.embed_scale = 1;
    rig_zero_grads(&p.student);
    rig_run(&p.student, &p.a, true);
    float *g = rig_get(&p.student, p.student.g), *h = rig_get(&p.student, p.teach.hidden);
    float *kl = rig_get(&p.student, p.teach.kl), *nll = rig_get(&p.student, p.a.loss);
    assert_true(largest(g, st_numel(p.student.g)) < 1e-6);
    assert_true(largest(h, ROWS) == 0 && largest(kl, ROWS) < 1e-6);
    assert_true(largest(nll, ROWS) > 1); /* the targets' losses are told all the same */
    test_free(g);
    test_free(h);
    test_free(kl);
    test_free(nll);
    pair_close(&p);
}

typedef struct {
    rig *r;
    const char *name;
} shift;

static void shift_param(void *ctx, const st_param *p)
{
    shift *s = ctx;
    if (strcmp(p->name, s->name) != 0) return;
    float *x = rig_get(s->r, p->w);
    for (int64_t i = 0; i < st_numel(p->w); i++)
        x[i] += 0.5f;
    rig_set(s->r, p->w, x);
    test_free(x);
}

/* Every token's mean-square distance is `want`. */
static void distance_is(pair *p, int mlp, double want)
{
    p->teach.mlp = mlp;
    rig_zero_grads(&p->student);
    rig_run(&p->student, &p->a, true);
    float *h = rig_get(&p->student, p->teach.hidden);
    for (int i = 0; i < ROWS; i++) {
        if (fabs((double)h[i] - want) > 1e-4)
            fail_msg("mlp %d: %g, not %g", mlp, (double)h[i], want);
    }
    test_free(h);
}

/* The same number on every channel of the attention's output moves the last block's output, but not
 * what its MLP adds, which reads through a layer norm; on the MLP's output it moves both. */
static void test_states(void **state)
{
    (void)state;
    pair p;
    pair_open(&p, "ref", ST_F32, student_config);
    copy_weights(&p.teacher, &p.student);
    p.a.grad_scale = 0;
    p.teach.hidden_scale = 1;
    shift s = {&p.teacher, "h.1.attn.c_proj.bias"};
    st_model_params(p.teacher.m, shift_param, &s);
    distance_is(&p, 0, 0.25);
    distance_is(&p, 1, 0);
    s.name = "h.1.mlp.c_proj.bias";
    st_model_params(p.teacher.m, shift_param, &s);
    distance_is(&p, 0, 1);
    distance_is(&p, 1, 0.25);
    p.teach.by_block = 1;
    distance_is(&p, 1, 0.25);
    pair_close(&p);
}

/* Off, the teacher changes no bit; a hidden part alone leaves the logits' work as it was. */
static void test_off(void **state)
{
    (void)state;
    pair p;
    pair_open(&p, "cpu", ST_F32, like_config);
    rig_zero_grads(&p.student);
    rig_run(&p.student, &p.a, true);
    float *with = rig_get(&p.student, p.student.g);
    p.a.teach = NULL;
    rig_zero_grads(&p.student);
    rig_run(&p.student, &p.a, true);
    float *without = rig_get(&p.student, p.student.g);
    assert_memory_equal(with, without, (size_t)st_numel(p.student.g) * 4);
    test_free(with);
    test_free(without);
    pair_close(&p);
}

/* More rows than the heads take at a time: everything is that of the halves. */
static void test_chunks(void **state)
{
    (void)state;
    enum { BATCH = 90, LEN = 16, HALF = BATCH * LEN / 2 };
    pair p;
    pair_open_batch(&p, "cpu", ST_F32, like_config, BATCH, LEN);
    p.teach.kl_scale = p.teach.hidden_scale = p.teach.embed_scale = p.a.grad_scale;
    rig_zero_grads(&p.student);
    rig_run(&p.student, &p.a, true);
    float *kl = rig_get(&p.student, p.teach.kl), *hidden = rig_get(&p.student, p.teach.hidden),
          *grad = rig_get(&p.student, p.student.g);
    st_lm_args half = p.a;
    st_teach teach = p.teach;
    half.batch = BATCH / 2;
    half.teach = &teach;
    rig_zero_grads(&p.student);
    for (int64_t i = 0; i < 2; i++) {
        half.ids = st_slice(p.a.ids, i * HALF, HALF);
        half.targets = st_slice(p.a.targets, i * HALF, HALF);
        half.loss = st_slice(p.a.loss, i * HALF, HALF);
        teach.kl = st_slice(p.teach.kl, i * HALF, HALF);
        teach.hidden = st_slice(p.teach.hidden, i * HALF, HALF);
        teach.embed = st_slice(p.teach.embed, i * HALF, HALF);
        rig_run(&p.student, &half, true);
    }
    float *kl2 = rig_get(&p.student, p.teach.kl), *hidden2 = rig_get(&p.student, p.teach.hidden),
          *grad2 = rig_get(&p.student, p.student.g);
    assert_close("kl", kl, kl2, 2 * HALF, 1e-5);
    assert_close("hidden", hidden, hidden2, 2 * HALF, 1e-5);
    assert_close("grad", grad, grad2, st_numel(p.student.g), 5e-6);
    float *x[] = {kl, kl2, hidden, hidden2, grad, grad2};
    for (int i = 0; i < 6; i++)
        test_free(x[i]);
    pair_close(&p);
}

/* bfloat16 agrees with float32 as far as its rounding lets it. */
static void test_bf16(void **state)
{
    (void)state;
    pair a, b;
    pair_open(&a, "cpu", ST_F32, like_config);
    pair_open(&b, "cpu", ST_BF16, like_config);
    pair *both[] = {&a, &b};
    float *kl[2], *hidden[2], *grad[2];
    for (int i = 0; i < 2; i++) {
        pair *p = both[i];
        p->teach.kl_scale = p->teach.hidden_scale = p->teach.embed_scale = 1.0f / ROWS;
        p->teach.relative = 1;
        rig_zero_grads(&p->student);
        rig_run(&p->student, &p->a, true);
        kl[i] = rig_get(&p->student, p->teach.kl);
        hidden[i] = rig_get(&p->student, p->teach.hidden);
        grad[i] = rig_get(&p->student, p->student.g);
    }
    assert_close("kl", kl[1], kl[0], ROWS, 5e-2);
    assert_close("hidden", hidden[1], hidden[0], ROWS, 5e-2);
    assert_close("gradient", grad[1], grad[0], st_numel(a.student.g), 5e-2);
    for (int i = 0; i < 2; i++) {
        test_free(kl[i]);
        test_free(hidden[i]);
        test_free(grad[i]);
        pair_close(both[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients), cmocka_unit_test(test_by_block),
        cmocka_unit_test(test_itself),    cmocka_unit_test(test_off),
        cmocka_unit_test(test_chunks),    cmocka_unit_test(test_states),
        cmocka_unit_test(test_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
