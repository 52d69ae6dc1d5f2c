/* config.json of the Llama-shaped models as Hugging Face's LlamaConfig, MistralConfig, Qwen2Config,
 * Qwen3Config and Gemma3TextConfig write and read it: keys, defaults, and what they mean for each
 * type. What strut does not compute is refused by name. */
/* SPDX-License-Identifier: MIT */
#include "model/inner.h"
#include <float.h>
#include <math.h>
#include <string.h>

static const char *const file = "config.json";

/* Limits far above any model, low enough that products of a few of them do not overflow. */
enum {
    MAX_WIDTH = 1 << 20,
    MAX_INNER = 1 << 22,
    MAX_CONTEXT = ST_LLAMA_CONTEXT,
    MAX_VOCAB = 1 << 28,
    MAX_LAYER_TYPES = ST_LLAMA_LAYERS
};

/* What is not in config.json. */
typedef struct {
    const char *name, *architecture;
    int vocab, inner, kv_heads, head_dim, context, window, bos, eos; /* 0: as derived; -1: none */
    bool biases;   /* attention_bias is a key of it */
    bool qkv_bias; /* queries, keys and values always have one */
    bool qk_norm, mlp_bias;
    bool by_layer; /* windows where use_sliding_window and layer_types say so, else everywhere */
    bool gemma;    /* st_llama_config.gemma; windows where layer_types says so */
} llama_kind;

static const llama_kind kinds[] = {
    {"llama", "LlamaForCausalLM", 32000, 11008, 0, 0, 2048, 0, 1, 2, true, false, false, true,
     false, false},
    {"mistral", "MistralForCausalLM", 32000, 14336, 8, 0, 131072, 4096, 1, 2, false, false, false,
     false, false, false},
    {"qwen2", "Qwen2ForCausalLM", 151936, 22016, 32, 0, 32768, 4096, -1, -1, false, true, false,
     false, true, false},
    {"qwen3", "Qwen3ForCausalLM", 151936, 22016, 32, 128, 32768, 4096, -1, -1, true, false, true,
     false, true, false},
    {"gemma3_text", "Gemma3ForCausalLM", 262208, 9216, 4, 256, 131072, 4096, 2, 1, true, false,
     true, false, false, true},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static const llama_kind *config_kind(const char *name)
{
    for (int i = 0; name && i < KINDS; i++)
        if (strcmp(name, kinds[i].name) == 0) return &kinds[i];
    return &kinds[0];
}

/* Keys that change the computation in a way strut has not. */
static st_status config_unsupported(const json_t *config, st_err *e)
{
    static const char *const keys[] = {"quantization_config",
                                       "num_local_experts",
                                       "num_experts",
                                       "logit_scale",
                                       "attention_multiplier",
                                       "attn_logit_softcapping",
                                       "final_logit_softcapping",
                                       NULL};
    bool both = false;
    double part = 1.0;
    for (int i = 0; keys[i]; i++) {
        const json_t *v = json_object_get(config, keys[i]);
        if (!v || json_is_null(v)) continue;
        ST_FAIL(e, ST_EUNSUPPORTED, "%s: %s is set, expected none (not supported)", file, keys[i]);
    }
    ST_TRY(st_json_flag(config, "use_bidirectional_attention", &both, file, e));
    if (both) {
        ST_FAIL(e, ST_EUNSUPPORTED,
                "%s: use_bidirectional_attention is true, expected false (not supported)", file);
    }
    ST_TRY(st_json_num(config, "partial_rotary_factor", 0, 1, &part, file, e));
    if (part < 1) {
        ST_FAIL(e, ST_EUNSUPPORTED, "%s: partial_rotary_factor is %g, expected 1 (not supported)",
                file, part);
    }
    return ST_OK;
}

static const struct {
    const char *name;
    st_glu_kind kind;
} acts[] = {{"silu", ST_GLU_SILU},
            {"swish", ST_GLU_SILU},
            {"gelu", ST_GLU_GELU_ERF},
            {"gelu_new", ST_GLU_GELU_TANH},
            {"gelu_pytorch_tanh", ST_GLU_GELU_TANH}};

static st_status config_act(st_llama_config *c, const json_t *config, st_err *e)
{
    const char *key = c->gemma ? "hidden_activation" : "hidden_act";
    const char *name = c->gemma ? "gelu_pytorch_tanh" : "silu";
    ST_TRY(st_json_str(config, key, &name, file, e));
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++) {
        if (strcmp(name, acts[i].name)) continue;
        c->act = acts[i].kind;
        return ST_OK;
    }
    ST_FAIL(e, ST_EUNSUPPORTED,
            "%s: %s is '%.40s', expected silu, gelu, gelu_new or gelu_pytorch_tanh", file, key,
            name);
}

/* ---- windows --------------------------------------------------------------------------------- */

static st_status config_layer_types(st_llama_config *c, const json_t *list, st_err *e)
{
    if (!json_is_array(list) || (int64_t)json_array_size(list) != c->layers) {
        ST_FAIL(e, ST_EFORMAT, "%s: layer_types: expected a list of num_hidden_layers = %lld names",
                file, (long long)c->layers);
    }
    for (int64_t i = 0; i < c->layers; i++) {
        const char *name = json_string_value(json_array_get(list, (size_t)i));
        bool slides = name && strcmp(name, "sliding_attention") == 0;
        if (!name || (!slides && strcmp(name, "full_attention"))) {
            ST_FAIL(e, ST_EUNSUPPORTED,
                    "%s: layer_types[%lld] is '%.40s', expected full_attention or "
                    "sliding_attention",
                    file, (long long)i, name ? name : "no text");
        }
        c->slides[i] = slides;
    }
    return ST_OK;
}

static st_status config_windows(st_llama_config *c, const llama_kind *kind, const json_t *config,
                                st_err *e)
{
    const json_t *window = json_object_get(config, "sliding_window");
    const json_t *list = json_object_get(config, "layer_types");
    bool use = !kind->by_layer;
    int64_t from = kind->by_layer ? 28 : 0;        /* Qwen2Config's max_window_layers */
    int64_t pattern = kind->gemma ? 6 : INT32_MAX; /* each such block has no window */
    if (kind->by_layer) ST_TRY(st_json_flag(config, "use_sliding_window", &use, file, e));
    c->window = json_is_null(window) || !use ? 0 : kind->window;
    if (use && kind->window)
        ST_TRY(st_json_int(config, "sliding_window", 1, MAX_CONTEXT, &c->window, file, e));
    if (kind->by_layer)
        ST_TRY(st_json_int(config, "max_window_layers", 0, INT32_MAX, &from, file, e));
    if (kind->gemma)
        ST_TRY(st_json_int(config, "sliding_window_pattern", 1, INT32_MAX, &pattern, file, e));
    for (int64_t i = 0; i < c->layers; i++)
        c->slides[i] = (c->window || kind->gemma) && i >= from && (i + 1) % pattern;
    if ((kind->gemma || (kind->by_layer && c->window)) && list && !json_is_null(list))
        return config_layer_types(c, list, e);
    return ST_OK;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static st_status config_heads(st_llama_config *c, const llama_kind *kind, const json_t *config,
                              st_err *e)
{
    const json_t *few = json_object_get(config, "num_key_value_heads");
    ST_TRY(st_json_int(config, "num_attention_heads", 1, MAX_WIDTH, &c->heads, file, e));
    c->kv_heads = !few && kind->kv_heads ? kind->kv_heads : c->heads;
    ST_TRY(st_json_int(config, "num_key_value_heads", 1, MAX_WIDTH, &c->kv_heads, file, e));
    if (c->heads % c->kv_heads) {
        ST_FAIL(e, ST_EFORMAT,
                "%s: num_key_value_heads is %lld, expected a divisor of num_attention_heads = %lld",
                file, (long long)c->kv_heads, (long long)c->heads);
    }
    c->head_dim = kind->head_dim;
    ST_TRY(st_json_int(config, "head_dim", 1, MAX_WIDTH, &c->head_dim, file, e));
    if (!c->head_dim && c->width % c->heads) {
        ST_FAIL(e, ST_EFORMAT,
                "%s: num_attention_heads is %lld, expected a divisor of hidden_size = %lld (or a "
                "head_dim)",
                file, (long long)c->heads, (long long)c->width);
    }
    if (!c->head_dim) c->head_dim = c->width / c->heads;
    bool pairs = c->head_dim % 2 == 0 && c->head_dim <= 2 * ST_ROTARY;
    if (pairs && (c->head_dim > 2 || c->rope.kind != ST_ROPE_DYNAMIC)) return ST_OK;
    ST_FAIL(e, ST_EUNSUPPORTED,
            "%s: head_dim is %lld, expected an even number up to %d (rotary positions turn pairs)",
            file, (long long)c->head_dim, 2 * ST_ROTARY);
}

/* eos_token_id may be a list, of which the first one ends a text; all of it is handed on. */
static st_status config_ends(st_llama_config *c, const json_t *config, st_err *e)
{
    const json_t *eos = json_object_get(config, "eos_token_id");
    ST_TRY(st_json_int(config, "bos_token_id", -1, INT32_MAX, &c->bos, file, e));
    if (json_is_array(eos) && json_is_integer(json_array_get(eos, 0)))
        c->eos = json_integer_value(json_array_get(eos, 0));
    else
        ST_TRY(st_json_int(config, "eos_token_id", -1, INT32_MAX, &c->eos, file, e));
    if (c->bos >= c->vocab) c->bos = -1;
    if (c->eos >= c->vocab || c->eos < -1) c->eos = -1;
    return ST_OK;
}

st_status st_llama_config_read(st_llama_config *c, const json_t *config, st_err *e)
{
    const char *name = json_string_value(json_object_get(config, "model_type"));
    const llama_kind *kind = config_kind(name && !strncmp(name, "strut_", 6) ? name + 6 : name);
    *c = (st_llama_config){.type = kind->name,
                           .vocab = kind->vocab,
                           .context = kind->context,
                           .width = 4096,
                           .layers = 32,
                           .heads = 32,
                           .inner = kind->inner,
                           .bos = kind->bos,
                           .eos = kind->eos,
                           .eps = 1e-6,
                           .init = 0.02,
                           .qk_norm = kind->qk_norm,
                           .tied = kind->gemma,
                           .gemma = kind->gemma};
    if (kind->gemma) c->width = 2304, c->layers = 26, c->heads = 8;
    ST_TRY(config_unsupported(config, e));
    ST_TRY(st_json_int(config, "vocab_size", 1, MAX_VOCAB, &c->vocab, file, e));
    ST_TRY(st_json_int(config, "max_position_embeddings", 1, MAX_CONTEXT, &c->context, file, e));
    ST_TRY(st_json_int(config, "hidden_size", 1, MAX_WIDTH, &c->width, file, e));
    ST_TRY(st_json_int(config, "num_hidden_layers", 1, MAX_LAYER_TYPES, &c->layers, file, e));
    ST_TRY(st_json_int(config, "intermediate_size", 1, MAX_INNER, &c->inner, file, e));
    ST_TRY(st_rope_read(c, config, e));
    ST_TRY(config_heads(c, kind, config, e));
    c->score = kind->gemma ? 256 : (double)c->head_dim;
    if (kind->gemma)
        ST_TRY(st_json_num(config, "query_pre_attn_scalar", 1e-6, 1e6, &c->score, file, e));
    ST_TRY(config_windows(c, kind, config, e));
    ST_TRY(config_act(c, config, e));
    ST_TRY(st_json_num(config, "attention_dropout", 0.0, 0.99, &c->drop_attn, file, e));
    ST_TRY(st_json_num(config, "rms_norm_eps", 0.0, DBL_MAX, &c->eps, file, e));
    ST_TRY(st_json_num(config, "initializer_range", 0.0, 10.0, &c->init, file, e));
    ST_TRY(st_json_flag(config, "tie_word_embeddings", &c->tied, file, e));
    if (kind->biases) ST_TRY(st_json_flag(config, "attention_bias", &c->out_bias, file, e));
    if (kind->mlp_bias) ST_TRY(st_json_flag(config, "mlp_bias", &c->mlp_bias, file, e));
    c->qkv_bias = kind->qkv_bias || c->out_bias;
    return config_ends(c, config, e);
}

static json_t *config_types_json(const st_llama_config *c)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < c->layers; i++)
        json_array_append_new(list,
                              json_string(c->slides[i] ? "sliding_attention" : "full_attention"));
    return list;
}

json_t *st_llama_config_json(const st_llama_config *c)
{
    const llama_kind *kind = config_kind(c->type);
    bool dynamic = c->rope.kind == ST_ROPE_DYNAMIC;
    int act = c->act == ST_GLU_SILU ? 0 : c->act == ST_GLU_GELU_ERF ? 2 : 4;
    json_t *to = json_pack(
        "{s:[s], s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:f, s:f, s:f, s:b, s:f, s:o,"
        " s:o, s:o, s:b}",
        "architectures", kind->architecture, "model_type", kind->name, "vocab_size",
        (json_int_t)c->vocab, "max_position_embeddings",
        (json_int_t)(dynamic ? c->rope.original : c->context), "hidden_size", (json_int_t)c->width,
        "intermediate_size", (json_int_t)c->inner, "num_hidden_layers", (json_int_t)c->layers,
        "num_attention_heads", (json_int_t)c->heads, "num_key_value_heads", (json_int_t)c->kv_heads,
        "head_dim", (json_int_t)c->head_dim, c->gemma ? "hidden_activation" : "hidden_act",
        acts[act].name, "rms_norm_eps", c->eps, "initializer_range", c->init, "attention_dropout",
        c->drop_attn, "tie_word_embeddings", c->tied, "rope_theta", c->rope.theta, "rope_scaling",
        st_rope_json(&c->rope), "bos_token_id", c->bos >= 0 ? json_integer(c->bos) : json_null(),
        "eos_token_id", c->eos >= 0 ? json_integer(c->eos) : json_null(), "use_cache", 1);
    if (kind->biases) json_object_set_new(to, "attention_bias", json_boolean(c->out_bias));
    if (kind->mlp_bias) json_object_set_new(to, "mlp_bias", json_boolean(c->mlp_bias));
    if (kind->window)
        json_object_set_new(to, "sliding_window",
                            c->window ? json_integer(c->window) : json_null());
    if (kind->by_layer) json_object_set_new(to, "use_sliding_window", json_boolean(c->window));
    if ((kind->by_layer && c->window) || c->gemma)
        json_object_set_new(to, "layer_types", config_types_json(c));
    if (!c->gemma) return to;
    bool whole = c->score == floor(c->score); /* transformers takes no other number */
    json_object_set_new(to, "query_pre_attn_scalar",
                        whole ? json_integer((json_int_t)c->score) : json_real(c->score));
    json_object_set_new(to, "rope_local_base_freq", json_real(c->local.theta));
    return to;
}
