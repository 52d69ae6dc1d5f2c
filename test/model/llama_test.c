/* Llama, Mistral, Qwen2 and Qwen3 against Hugging Face's (test/fixtures/llama_plain and others,
 * tools/fixtures_llama.py): logits, losses, gradients, five AdamW steps, greedy text. */
/* SPDX-License-Identifier: MIT */
#include "twin.h"

static const char *const models[] = {"llama_plain", "llama_long", "mistral_window", "qwen2_mixed",
                                     "qwen3_dynamic"};
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
        twin_outputs(models[i], "ref", ST_BF16, 4e-2);
        twin_outputs(models[i], "cpu", ST_BF16, 4e-2);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outputs),
        cmocka_unit_test(test_outputs_bf16),
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_greedy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
