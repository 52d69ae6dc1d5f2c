/* GPT-2's config.json as Hugging Face's GPT2Config writes and reads it (its
 * configuration_gpt2.py): keys, aliases, defaults. What strut does not compute is refused by name.
 */
/* SPDX-License-Identifier: MIT */
#include "model/inner.h"
#include <float.h>
#include <string.h>

static const char *const file = "config.json";

/* Limits far above any GPT-2, low enough that products of a few of them do not overflow. */
enum {
    MAX_LAYERS = 1024,
    MAX_WIDTH = 1 << 20,
    MAX_INNER = 1 << 22,
    MAX_CONTEXT = 1 << 24,
    MAX_VOCAB = 1 << 28
};

/* config[key], or under GPT2Config's other name for it; both are fine if they agree. */
static st_status config_size(const json_t *config, const char *key, const char *alias, int64_t hi,
                             int64_t *out, st_err *e)
{
    int64_t a = -1, b = -1;
    ST_TRY(st_json_int(config, key, 1, hi, &a, file, e));
    ST_TRY(st_json_int(config, alias, 1, hi, &b, file, e));
    if (a >= 0 && b >= 0 && a != b) {
        ST_FAIL(e, ST_EFORMAT, "%s: %s is %lld but %s is %lld, expected the same", file, key,
                (long long)a, alias, (long long)b);
    }
    if (a >= 0 || b >= 0) *out = a >= 0 ? a : b;
    return ST_OK;
}

/* Keys that change the computation in a way strut has not: only their default is legal. */
static st_status config_unsupported(const json_t *config, st_err *e)
{
    static const char *const flags[] = {"add_cross_attention", "is_encoder_decoder", NULL};
    for (int i = 0; flags[i]; i++) {
        bool on = false;
        ST_TRY(st_json_flag(config, flags[i], &on, file, e));
        if (on) {
            ST_FAIL(e, ST_EUNSUPPORTED, "%s: %s is true, expected false (not supported)", file,
                    flags[i]);
        }
    }
    if (json_object_size(json_object_get(config, "pruned_heads")) > 0) {
        ST_FAIL(e, ST_EUNSUPPORTED, "%s: pruned_heads is set, expected none (not supported)", file);
    }
    const json_t *quant = json_object_get(config, "quantization_config");
    if (quant && !json_is_null(quant)) {
        ST_FAIL(e, ST_EUNSUPPORTED, "%s: quantization_config is set, expected unquantized weights",
                file);
    }
    return ST_OK;
}

static st_status config_gelu(const json_t *config, st_gelu_kind *kind, st_err *e)
{
    const char *name = "gelu_new";
    ST_TRY(st_json_str(config, "activation_function", &name, file, e));
    *kind = strcmp(name, "gelu") ? ST_GELU_TANH : ST_GELU_ERF;
    if (strcmp(name, "gelu") && strcmp(name, "gelu_new") && strcmp(name, "gelu_pytorch_tanh")) {
        ST_FAIL(e, ST_EUNSUPPORTED,
                "%s: activation_function is '%.40s', expected gelu_new, "
                "gelu_pytorch_tanh or gelu",
                file, name);
    }
    return ST_OK;
}

st_status st_gpt2_config_read(st_gpt2_config *c, const json_t *config, st_err *e)
{
    *c = (st_gpt2_config){.vocab = 50257,
                          .context = 1024,
                          .width = 768,
                          .layers = 12,
                          .heads = 12,
                          .inner = 0,
                          .bos = 50256,
                          .eos = 50256,
                          .eps = 1e-5,
                          .init = 0.02,
                          .drop_resid = 0.1,
                          .drop_embed = 0.1,
                          .drop_attn = 0.1,
                          .scale = true,
                          .tied = true};
    ST_TRY(config_unsupported(config, e));
    ST_TRY(st_json_int(config, "vocab_size", 1, MAX_VOCAB, &c->vocab, file, e));
    ST_TRY(
        config_size(config, "n_positions", "max_position_embeddings", MAX_CONTEXT, &c->context, e));
    ST_TRY(config_size(config, "n_embd", "hidden_size", MAX_WIDTH, &c->width, e));
    ST_TRY(config_size(config, "n_layer", "num_hidden_layers", MAX_LAYERS, &c->layers, e));
    ST_TRY(config_size(config, "n_head", "num_attention_heads", MAX_WIDTH, &c->heads, e));
    if (c->width % c->heads) {
        ST_FAIL(e, ST_EFORMAT, "%s: n_head is %lld, expected a divisor of n_embd = %lld", file,
                (long long)c->heads, (long long)c->width);
    }
    ST_TRY(st_json_int(config, "n_inner", 1, MAX_INNER, &c->inner, file, e));
    if (!c->inner) c->inner = 4 * c->width;
    ST_TRY(config_gelu(config, &c->gelu, e));
    ST_TRY(st_json_num(config, "resid_pdrop", 0.0, 0.99, &c->drop_resid, file, e));
    ST_TRY(st_json_num(config, "embd_pdrop", 0.0, 0.99, &c->drop_embed, file, e));
    ST_TRY(st_json_num(config, "attn_pdrop", 0.0, 0.99, &c->drop_attn, file, e));
    ST_TRY(st_json_num(config, "layer_norm_epsilon", 0.0, DBL_MAX, &c->eps, file, e));
    ST_TRY(st_json_num(config, "initializer_range", 0.0, 10.0, &c->init, file, e));
    ST_TRY(st_json_flag(config, "scale_attn_weights", &c->scale, file, e));
    ST_TRY(st_json_flag(config, "scale_attn_by_inverse_layer_idx", &c->scale_by_layer, file, e));
    ST_TRY(st_json_flag(config, "tie_word_embeddings", &c->tied, file, e));
    ST_TRY(st_json_flag(config, "lm_head_bias", &c->head_bias, file, e)); /* ours */
    ST_TRY(st_json_int(config, "bos_token_id", -1, INT32_MAX, &c->bos, file, e));
    ST_TRY(st_json_int(config, "eos_token_id", -1, INT32_MAX, &c->eos, file, e));
    /* GPT2Config writes its default, 50256, for small vocabularies too: then there is none. */
    if (c->bos >= c->vocab) c->bos = -1;
    if (c->eos >= c->vocab) c->eos = -1;
    return ST_OK;
}

json_t *st_gpt2_config_json(const st_gpt2_config *c)
{
    json_t *eos = c->eos >= 0 ? json_integer(c->eos) : json_null();
    json_t *bos = c->bos >= 0 ? json_integer(c->bos) : json_null();
    json_t *inner = c->inner == 4 * c->width ? json_null() : json_integer(c->inner);
    json_t *bias = c->head_bias ? json_true() : NULL; /* nobody else knows the key */
    return json_pack(
        "{s:[s], s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:s, s:f, s:f, s:f, s:f, s:f, s:b, s:b,"
        " s:b, s:b, s:b, s:o, s:o, s:o*}",
        "architectures", "GPT2LMHeadModel", "model_type", "gpt2", "vocab_size",
        (json_int_t)c->vocab, "n_positions", (json_int_t)c->context, "n_ctx",
        (json_int_t)c->context, "n_embd", (json_int_t)c->width, "n_layer", (json_int_t)c->layers,
        "n_head", (json_int_t)c->heads, "n_inner", inner, "activation_function",
        c->gelu == ST_GELU_ERF ? "gelu" : "gelu_new", "resid_pdrop", c->drop_resid, "embd_pdrop",
        c->drop_embed, "attn_pdrop", c->drop_attn, "layer_norm_epsilon", c->eps,
        "initializer_range", c->init, "scale_attn_weights", c->scale,
        "scale_attn_by_inverse_layer_idx", c->scale_by_layer, "reorder_and_upcast_attn", 0,
        "tie_word_embeddings", c->tied, "use_cache", 1, "bos_token_id", bos, "eos_token_id", eos,
        "lm_head_bias", bias);
}
