/* config.json of Llama-shaped models: what older and newer files say alike, totals of published
 * shapes, the round trip, and what is refused by name. */
/* SPDX-License-Identifier: MIT */
#include "rig.h"

#define TINY                                                                                       \
    "\"vocab_size\": 67, \"hidden_size\": 20, \"intermediate_size\": 28, \"num_hidden_layers\": "  \
    "2, \"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"max_position_embeddings\": 64"
#define LLAMA(x) "{\"model_type\": \"llama\", " TINY ", " x "}"
#define GEMMA(x) "{\"model_type\": \"gemma3_text\", " TINY ", " x "}"

/* Parameters of published models, tied tensors once. */
static const struct {
    const char *config;
    int64_t total;
} totals[] = {
    /* SmolLM2-135M */
    {"{\"model_type\": \"llama\", \"vocab_size\": 49152, \"hidden_size\": 576, "
     "\"intermediate_size\": 1536, \"num_hidden_layers\": 30, \"num_attention_heads\": 9, "
     "\"num_key_value_heads\": 3, \"max_position_embeddings\": 8192, \"tie_word_embeddings\": "
     "true}",
     134515008},
    /* TinyLlama-1.1B */
    {"{\"model_type\": \"llama\", \"vocab_size\": 32000, \"hidden_size\": 2048, "
     "\"intermediate_size\": 5632, \"num_hidden_layers\": 22, \"num_attention_heads\": 32, "
     "\"num_key_value_heads\": 4}",
     1100048384},
    /* Mistral-7B */
    {"{\"model_type\": \"mistral\"}", 7241732096},
    /* Qwen2.5-0.5B */
    {"{\"model_type\": \"qwen2\", \"hidden_size\": 896, \"intermediate_size\": 4864, "
     "\"num_hidden_layers\": 24, \"num_attention_heads\": 14, \"num_key_value_heads\": 2, "
     "\"tie_word_embeddings\": true}",
     494032768},
    /* Qwen3-0.6B */
    {"{\"model_type\": \"qwen3\", \"hidden_size\": 1024, \"intermediate_size\": 3072, "
     "\"num_hidden_layers\": 28, \"num_attention_heads\": 16, \"num_key_value_heads\": 8, "
     "\"tie_word_embeddings\": true}",
     596049920},
    /* Gemma-3-270M, and the text half of Gemma-3-4B */
    {"{\"model_type\": \"gemma3_text\", \"vocab_size\": 262144, \"hidden_size\": 640, "
     "\"intermediate_size\": 2048, \"num_hidden_layers\": 18, \"num_attention_heads\": 4, "
     "\"num_key_value_heads\": 1}",
     268098176},
    {"{\"model_type\": \"gemma3_text\", \"hidden_size\": 2560, \"intermediate_size\": 10240, "
     "\"num_hidden_layers\": 34}",
     3880263168},
};

static void test_totals(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof totals / sizeof *totals; i++) {
        st_model *m = rig_model(totals[i].config);
        assert_int_equal(st_model_counts(m).parameters, totals[i].total);
        st_model_close(m);
    }
}

/* Pairs that are the same model. */
static const char *const same[][2] = {
    {LLAMA("\"rope_theta\": 500.0, \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2.0}"),
     LLAMA("\"rope_parameters\": {\"rope_type\": \"linear\", \"factor\": 2, \"rope_theta\": 500}")},
    {LLAMA("\"head_dim\": null, \"rope_scaling\": null"), LLAMA("\"head_dim\": 10")},
    {LLAMA("\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 2}"),
     LLAMA("\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 2, "
           "\"original_max_position_embeddings\": 64, \"beta_fast\": 32, \"beta_slow\": null}")},
    {LLAMA("\"hidden_act\": \"swish\", \"sliding_window\": 4"), LLAMA("\"bos_token_id\": 1")},
    {"{\"model_type\": \"strut_qwen2\", " TINY ", \"use_sliding_window\": true, "
     "\"sliding_window\": 8, \"max_window_layers\": 1}",
     "{\"model_type\": \"qwen2\", " TINY ", \"use_sliding_window\": true, \"sliding_window\": 8, "
     "\"layer_types\": [\"full_attention\", \"sliding_attention\"]}"},
    {"{\"model_type\": \"qwen3\", " TINY "}",
     "{\"model_type\": \"qwen3\", " TINY ", \"head_dim\": 128, \"use_sliding_window\": false}"},
    {GEMMA("\"sliding_window_pattern\": 2, \"rope_theta\": 500.0, \"rope_local_base_freq\": 20.0, "
           "\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 8.0}"),
     GEMMA("\"layer_types\": [\"sliding_attention\", \"full_attention\"], \"rope_parameters\": "
           "{\"full_attention\": {\"rope_type\": \"linear\", \"factor\": 8, \"rope_theta\": 500}, "
           "\"sliding_attention\": {\"rope_type\": \"default\", \"rope_theta\": 20}}")},
    {GEMMA("\"hidden_activation\": \"gelu_pytorch_tanh\", \"tie_word_embeddings\": true"),
     GEMMA("\"head_dim\": 256, \"query_pre_attn_scalar\": 256, \"rope_theta\": 1000000, "
           "\"final_logit_softcapping\": null, \"use_bidirectional_attention\": false")},
};

static void test_same(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        st_model *a = rig_model(same[i][0]), *b = rig_model(same[i][1]);
        json_t *x = st_model_config(a), *y = st_model_config(b);
        if (!json_equal(x, y)) {
            fail_msg("%s is not %s: %s, %s", same[i][0], same[i][1], json_dumps(x, 0),
                     json_dumps(y, 0));
        }
        st_err e = {0};
        st_model *again;
        assert_ok(st_model_open(&again, x, &e), &e);
        json_t *z = st_model_config(again);
        assert_true(json_equal(x, z));
        json_decref(x);
        json_decref(y);
        json_decref(z);
        st_model_close(a);
        st_model_close(b);
        st_model_close(again);
    }
}

static const struct {
    const char *config;
    st_status code;
    const char *says;
} wrong[] = {
    {LLAMA("\"hidden_act\": \"relu2\""), ST_EUNSUPPORTED, "hidden_act is 'relu2'"},
    {LLAMA("\"num_key_value_heads\": 3"), ST_EFORMAT, "num_key_value_heads is 3"},
    {LLAMA("\"head_dim\": 7"), ST_EUNSUPPORTED, "head_dim is 7"},
    {LLAMA("\"head_dim\": 514"), ST_EUNSUPPORTED, "head_dim is 514"},
    {LLAMA("\"num_attention_heads\": 3"), ST_EFORMAT, "num_attention_heads is 3"},
    {LLAMA("\"rope_scaling\": {\"rope_type\": \"longrope\"}"), ST_EUNSUPPORTED, "'longrope'"},
    {LLAMA("\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 0}"), ST_EFORMAT,
     "factor is 0"},
    {LLAMA("\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4}"),
     ST_EFORMAT, "high_freq_factor is 4"},
    {LLAMA("\"rope_scaling\": [1]"), ST_EFORMAT, "rope_scaling: expected an object"},
    {LLAMA("\"rope_theta\": 0"), ST_EFORMAT, "rope_theta is 0"},
    {LLAMA("\"partial_rotary_factor\": 0.5"), ST_EUNSUPPORTED, "partial_rotary_factor is 0.5"},
    {LLAMA("\"quantization_config\": {}"), ST_EUNSUPPORTED, "quantization_config"},
    {LLAMA("\"num_experts\": 8"), ST_EUNSUPPORTED, "num_experts"},
    {LLAMA("\"num_hidden_layers\": 100000"), ST_EFORMAT, "num_hidden_layers is 100000"},
    {LLAMA("\"vocab_size\": 16777216, \"hidden_size\": 1048576, \"head_dim\": 8"), ST_ENOMEM,
     "parameters"},
    {"{\"model_type\": \"qwen2\", " TINY ", \"use_sliding_window\": true, \"layer_types\": "
     "[\"full_attention\"]}",
     ST_EFORMAT, "layer_types"},
    {"{\"model_type\": \"qwen3\", " TINY ", \"use_sliding_window\": true, \"layer_types\": "
     "[\"full_attention\", \"chunked_attention\"]}",
     ST_EUNSUPPORTED, "chunked_attention"},
    {"{\"model_type\": \"mistral\", " TINY ", \"sliding_window\": -3}", ST_EFORMAT,
     "sliding_window is -3"},
    {GEMMA("\"final_logit_softcapping\": 30.0"), ST_EUNSUPPORTED, "final_logit_softcapping is set"},
    {GEMMA("\"use_bidirectional_attention\": true"), ST_EUNSUPPORTED,
     "use_bidirectional_attention is true"},
    {GEMMA("\"hidden_activation\": \"relu\""), ST_EUNSUPPORTED, "hidden_activation is 'relu'"},
    {GEMMA("\"query_pre_attn_scalar\": 0"), ST_EFORMAT, "query_pre_attn_scalar is 0"},
    {GEMMA("\"rope_parameters\": {\"sliding_attention\": {\"rope_type\": \"linear\", \"factor\": "
           "2}}"),
     ST_EUNSUPPORTED, "sliding_attention: rope_type is 'linear'"},
    {LLAMA("\"strut\": {\"format\": 1, \"maps\": {\"layers.*.mlp.up\": \"lowrank:rank=2\"}}"),
     ST_EARG, "'layers.*.mlp.up' matches none"},
};

static void test_wrong(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        st_model *m = (st_model *)1;
        st_err e = {0};
        json_t *config = rig_json(wrong[i].config);
        st_status got = st_model_open(&m, config, &e);
        if (got != wrong[i].code) fail_msg("%s: status %d: %s", wrong[i].config, got, e.msg);
        assert_says(&e, wrong[i].says);
        assert_null(m);
        json_decref(config);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_totals),
        cmocka_unit_test(test_same),
        cmocka_unit_test(test_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
