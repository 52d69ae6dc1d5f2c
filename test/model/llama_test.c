/* Llama, Mistral, Qwen2, Qwen3 and Gemma 3 against Hugging Face's (test/fixtures/llama_plain and
 * others, tools/fixtures_llama.py): logits, losses, gradients, five AdamW steps, greedy text; and
 * other weights of the same function. */
/* SPDX-License-Identifier: MIT */
#include "twin.h"

static const char *const models[] = {"llama_plain", "llama_long",    "mistral_window",
                                     "qwen2_mixed", "qwen3_dynamic", "gemma3_mixed"};
enum { MODELS = sizeof models / sizeof *models };

static void test_outputs(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        twin_outputs(models[i], "ref", ST_F32, 2e-5);
        twin_outputs(models[i], "cpu", ST_F32, 3e-5);
    }
}

static void test_outputs_bf16(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        bool gemma =
            strncmp(models[i], "gemma", 5) == 0; /* transformers, gains rounded too: 1.6e-1 */
        twin_outputs(models[i], "ref", ST_BF16, gemma ? 2e-1 : 5e-2);
        twin_outputs(models[i], "cpu", ST_BF16, gemma ? 2e-1 : 5e-2);
    }
}

static void test_steps(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        twin_steps(models[i], "ref", 1e-4);
        twin_steps(models[i], "cpu", 1e-4);
    }
}

static void test_greedy(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        twin_greedy(models[i], "ref");
        twin_greedy(models[i], "cpu");
    }
}

/* ---- symmetries ------------------------------------------------------------------------------ */

/* 0 .. n - 1 in another order. */
static void shuffled(int64_t *order, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        order[i] = (i * 11 + 3) % n;
}

/* Folded norms, permuted units and channels: other weights, the same logits. */
static void test_symmetries(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        twin t;
        int64_t n, order[32];
        st_err e = {0};
        twin_open(&t, models[i], "ref", ST_F32);
        st_lm_args a = twin_batch(&t, "", 0, 13);
        st_lm_shape lm = st_model_lm(t.r.m);
        const float *want = stored_find(&t.expect, "logits", &n);
        float *flat = rig_get(&t.r, t.r.w);
        assert_ok(st_model_fold_norms(t.r.m, flat, &e), &e);
        shuffled(order, lm.inner);
        assert_ok(st_model_permute_hidden(t.r.m, 1, order, flat, &e), &e);
        shuffled(order, lm.width);
        assert_ok(st_model_permute_residual(t.r.m, order, flat, &e), &e);
        rig_set(&t.r, t.r.w, flat);
        float *got = rig_logits(&t.r, &a);
        assert_close(models[i], got, want, n, 3e-5);
        test_free(got);
        test_free(flat);
        twin_close(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outputs),    cmocka_unit_test(test_outputs_bf16),
        cmocka_unit_test(test_steps),      cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_symmetries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
