/* Many prompts at once against each by itself: prompts of all lengths, fewer and more than fit at a
 * time, texts that end early and where the context does; and a cache of another dtype. */
/* SPDX-License-Identifier: MIT */
#include "eval/eval.h"
#include "rig/tiny.h"
#include <math.h>

enum { PROMPTS = 7, CONTEXT = 24 };

static json_t *gpt2(void)
{
    return json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:f, s:i}", "model_type", "gpt2", "vocab_size",
                     41, "n_positions", CONTEXT, "n_embd", 24, "n_layer", 2, "n_head", 3,
                     "initializer_range", 0.4, "eos_token_id", 7);
}

static json_t *llama(void)
{
    return json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:i, s:i}", "model_type",
                     "llama", "vocab_size", 41, "max_position_embeddings", CONTEXT, "hidden_size",
                     24, "num_hidden_layers", 2, "num_attention_heads", 4, "num_key_value_heads", 2,
                     "intermediate_size", 40, "initializer_range", 0.4, "eos_token_id", 7,
                     "bos_token_id", 1);
}

static void close_tiny(void)
{
    st_device_arena_close(tiny.q, &tiny.scratch);
    st_device_arena_close(tiny.q, &tiny.weights);
    st_model_close(tiny.m);
    st_stream_close(tiny.q);
}

static void prompts_fill(st_ids prompt[PROMPTS], int32_t ids[PROMPTS][CONTEXT])
{
    static const int64_t length[PROMPTS] = {3, 1, 9, CONTEXT, 2, 20, 5};
    for (int i = 0; i < PROMPTS; i++) {
        for (int64_t j = 0; j < length[i]; j++)
            ids[i][j] = (int32_t)((i * 13 + j * 5 + 2) % 41);
        prompt[i] = (st_ids){.id = ids[i], .n = length[i]};
    }
}

/* Result i of many is what one call for prompt i gives, up to where many ends at the context. */
static void same(const json_t *many, const st_ids *prompt, int i, const st_generate_opts *o)
{
    st_err e = {0};
    json_t *one = NULL;
    st_generate_opts single = *o;
    const json_t *row = json_array_get(json_object_get(many, "results"), (size_t)i);
    const json_t *got = json_object_get(row, "ids");
    const char *finish = json_string_value(json_object_get(row, "finish"));
    single.ids = prompt->id;
    single.nids = prompt->n;
    assert_ok(st_generate_ids(tiny.m, tiny.q, NULL, &single, &one, &e), &e);
    const json_t *want = json_object_get(one, "ids");
    size_t n = json_array_size(want);
    if (strcmp(finish, "context") == 0) {
        n = (size_t)(CONTEXT - prompt->n + 1);
        assert_true(json_array_size(want) >= n);
    } else {
        assert_string_equal(finish, json_string_value(json_object_get(one, "finish")));
    }
    assert_int_equal(json_array_size(got), n);
    for (size_t j = 0; j < n; j++)
        assert_int_equal(json_integer_value(json_array_get(got, j)),
                         json_integer_value(json_array_get(want, j)));
    json_decref(one);
}

static void many_equals(json_t *config, bool ignore_eos)
{
    st_err e = {0};
    st_ids prompt[PROMPTS];
    int32_t ids[PROMPTS][CONTEXT];
    tiny_open(config, 5);
    prompts_fill(prompt, ids);
    st_generate_opts o = {.tokens = 11, .top_p = 1, .ignore_eos = ignore_eos};
    for (o.batch = 1; o.batch <= 9; o.batch += 2) {
        json_t *many = NULL;
        assert_ok(st_generate_many(tiny.m, tiny.q, NULL, &o, prompt, PROMPTS, &many, &e), &e);
        assert_int_equal(json_integer_value(json_object_get(many, "batch")),
                         o.batch < PROMPTS ? o.batch : PROMPTS);
        for (int i = 0; i < PROMPTS; i++)
            same(many, &prompt[i], i, &o);
        json_decref(many);
    }
    close_tiny();
}

static void test_gpt2(void **state)
{
    (void)state;
    many_equals(gpt2(), true);
    many_equals(gpt2(), false);
}

static void test_llama(void **state)
{
    (void)state;
    many_equals(llama(), true);
    many_equals(llama(), false);
}

/* Drawn tokens: the same seed gives the same texts, whatever the batch, and the first prompt's is
 * that of one call. */
static void test_drawn(void **state)
{
    (void)state;
    st_err e = {0};
    st_ids prompt[PROMPTS];
    int32_t ids[PROMPTS][CONTEXT];
    json_t *a = NULL, *b = NULL;
    tiny_open(gpt2(), 5);
    prompts_fill(prompt, ids);
    st_generate_opts o = {.tokens = 9, .top_p = 0.9, .temperature = 1, .seed = 4, .batch = 2};
    assert_ok(st_generate_many(tiny.m, tiny.q, NULL, &o, prompt, PROMPTS, &a, &e), &e);
    same(a, &prompt[0], 0, &o);
    o.batch = 5;
    assert_ok(st_generate_many(tiny.m, tiny.q, NULL, &o, prompt, PROMPTS, &b, &e), &e);
    assert_true(json_equal(json_object_get(a, "results"), json_object_get(b, "results")));
    json_decref(a);
    json_decref(b);
    close_tiny();
}

static void test_refused(void **state)
{
    (void)state;
    st_err e = {0};
    json_t *many = NULL;
    int32_t bad[] = {3, 41}, long_one[CONTEXT + 1] = {0};
    st_ids prompt[2] = {{.id = bad, .n = 2}, {.id = bad, .n = 0}};
    st_generate_opts o = {.tokens = 9, .top_p = 1};
    tiny_open(gpt2(), 5);
    assert_int_equal(st_generate_many(tiny.m, tiny.q, NULL, &o, prompt, 1, &many, &e), ST_EARG);
    assert_non_null(strstr(e.msg, "prompt 1: token 1 is id 41"));
    bad[1] = 4;
    assert_int_equal(st_generate_many(tiny.m, tiny.q, NULL, &o, prompt, 2, &many, &e), ST_EARG);
    assert_non_null(strstr(e.msg, "prompt 2 has 0 tokens"));
    prompt[0] = (st_ids){.id = long_one, .n = CONTEXT + 1};
    assert_int_equal(st_generate_many(tiny.m, tiny.q, NULL, &o, prompt, 1, &many, &e), ST_EARG);
    assert_non_null(strstr(e.msg, "expected 1 to 24"));
    close_tiny();
}

/* ---- keys and values in bfloat16 ------------------------------------------------------------- */

static void cache_logits(st_dtype t, const int32_t *ids, float *logits)
{
    st_err e = {0};
    st_kv kv;
    size_t mark = st_arena_mark(&tiny.scratch);
    int64_t vocab = st_model_lm(tiny.m).vocab;
    st_kv_take(&kv, tiny.m, t, 1, 8, &tiny.scratch);
    st_tensor to = st_take2(&tiny.scratch, ST_F32, 1, vocab);
    for (int64_t at = 0, n = 5; at < 8; at += n, n = 1) {
        st_lm_args a = {.batch = 1, .len = n, .ids = tiny_ids(ids + at, n), .last_only = 1};
        a.logits = to;
        a.kv = &kv;
        st_model_forward(tiny.m, tiny.q, &a, &tiny.scratch);
    }
    assert_ok(st_stream_sync(tiny.q, &e), &e);
    st_download(tiny.q, logits, to);
    st_arena_rewind(&tiny.scratch, mark);
}

static void test_cache(void **state)
{
    (void)state;
    json_t *(*const config[])(void) = {gpt2, llama};
    int32_t ids[] = {1, 2, 3, 4, 5, 6, 8, 9};
    for (int c = 0; c < 2; c++) {
        float want[41], f32[41], bf16[41];
        double off = 0, size = 0;
        tiny_open(config[c](), 9);
        tiny_logits(ids, 8, want);
        cache_logits(ST_F32, ids, f32);
        cache_logits(ST_BF16, ids, bf16);
        for (int i = 0; i < 41; i++) {
            assert_true(fabsf(f32[i] - want[i]) < 1e-4f);
            off += pow((double)(bf16[i] - want[i]), 2);
            size += pow((double)want[i], 2);
        }
        if (!(off > 0 && sqrt(off / size) < 0.08))
            fail_msg("config %d: off by %g", c, sqrt(off / size));
        close_tiny();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gpt2),    cmocka_unit_test(test_llama), cmocka_unit_test(test_drawn),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_cache),
    };
    return cmocka_run_group_tests_name("generate_many", tests, NULL, NULL);
}
