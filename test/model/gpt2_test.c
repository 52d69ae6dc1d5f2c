/* GPT-2 against Hugging Face's (test/fixtures/gpt2_tanh and others, tools/fixtures.py): logits,
 * losses, gradients, five AdamW steps, greedy text. */
/* SPDX-License-Identifier: MIT */
#include "twin.h"

static const char *const models[] = {"gpt2_tanh", "gpt2_erf", "gpt2_untied"};
enum { MODELS = 3 };

static void test_outputs(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        twin_outputs(models[i], "ref", ST_F32, 1e-5);
        twin_outputs(models[i], "cpu", ST_F32, 2e-5);
    }
}

/* Activations rounded to bfloat16 alone put a gradient of ref, whose operations are exact, 1.9 %
 * off those of float32. */
static void test_outputs_bf16(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        twin_outputs(models[i], "ref", ST_BF16, 2e-2);
        twin_outputs(models[i], "cpu", ST_BF16, 2.5e-2);
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
