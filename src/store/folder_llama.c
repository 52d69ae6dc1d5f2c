/* A config.json for Llama-shaped weights in a GGUF file, from its keys (llama.cpp's gguf-py,
 * "Keys"): ARCH.block_count, ARCH.rope.freq_base and so on, and what its tensors show. */
/* SPDX-License-Identifier: MIT */
#include "store/folder.h"
#include <math.h>
#include <string.h>

static const char *llama_arch(const st_folder *f)
{
    const json_t *keys = json_object_get(f->extra, "gguf");
    return json_string_value(json_object_get(keys, "general.architecture"));
}

/* Architectures and the model_type of what they compute. */
static const char *const llama_archs[][2] = {
    {"llama", "llama"}, {"qwen2", "qwen2"}, {"qwen3", "qwen3"}, {"gemma3", "gemma3_text"}};

/* The model_type, or NULL. */
static const char *llama_type(const st_folder *f)
{
    const char *arch = llama_arch(f);
    for (size_t i = 0; arch && i < sizeof llama_archs / sizeof *llama_archs; i++)
        if (strcmp(arch, llama_archs[i][0]) == 0) return llama_archs[i][1];
    return NULL;
}

bool st_folder_is_llama(const st_folder *f)
{
    return llama_type(f) != NULL;
}

/* llama.cpp's "llama" turns neighbours; its gains are whole. */
st_row_form st_folder_llama_form(const st_folder *f, const char *name)
{
    const char *arch = llama_arch(f), *end = strrchr(name, '.');
    bool turned = strstr(name, ".self_attn.q_proj.") || strstr(name, ".self_attn.k_proj.");
    if (!arch || !end) return ST_ROW_PLAIN;
    if (strcmp(arch, "llama") == 0 && turned) return ST_ROW_PAIRS;
    bool norm = end >= name + 4 && strncmp(end - 4, "norm.weight", 11) == 0;
    return strcmp(arch, "gemma3") == 0 && norm ? ST_ROW_GAIN : ST_ROW_PLAIN;
}

/* ARCH.KEY, or NULL. */
static const json_t *llama_key(const st_folder *f, const char *key)
{
    char full[96];
    snprintf(full, sizeof full, "%s.%s", llama_arch(f), key);
    return json_object_get(json_object_get(f->extra, "gguf"), full);
}

/* Keys that are config.json's under other names. */
static const struct {
    const char *theirs, *ours;
    bool needed;
} llama_keys[] = {
    {"context_length", "max_position_embeddings", true},
    {"embedding_length", "hidden_size", true},
    {"feed_forward_length", "intermediate_size", true},
    {"block_count", "num_hidden_layers", true},
    {"attention.head_count", "num_attention_heads", true},
    {"attention.head_count_kv", "num_key_value_heads", false},
    {"attention.key_length", "head_dim", false},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", true},
    {"rope.freq_base", "rope_theta", false},
    {"rope.freq_base_swa", "rope_local_base_freq", false},
    {"final_logit_softcapping", "final_logit_softcapping", false},
};

static st_status llama_known(const st_folder *f, json_t *config)
{
    for (size_t i = 0; i < sizeof llama_keys / sizeof *llama_keys; i++) {
        const json_t *value = llama_key(f, llama_keys[i].theirs);
        if (value) json_object_set(config, llama_keys[i].ours, (json_t *)(uintptr_t)value);
        if (value || !llama_keys[i].needed) continue;
        ST_FAIL(f->e, ST_EFORMAT, "%s: no key %s.%s, which every such model has; get it again",
                f->file, llama_arch(f), llama_keys[i].theirs);
    }
    return ST_OK;
}

/* ---- rotary positions ------------------------------------------------------------------------ */

/* Llama 3's scaling as its converter writes it: what each frequency is divided by, float32, in
 * rope_freqs.weight. The largest one is the factor; Llama 3.1's other numbers must give the rest.
 */
static st_status llama_freqs(st_folder *f, int64_t head_dim, double theta, json_t *config)
{
    enum { ORIGINAL = 8192, MOST = 512 };
    st_folder_row *row = st_folder_find(f, "rope_freqs.weight");
    float by[MOST] = {0};
    double factor = 0;
    if (!row) return ST_OK;
    int64_t n = row->stored->ndim == 1 ? row->stored->dim[0] : -1;
    if (n != head_dim / 2 || n > MOST) {
        ST_FAIL(f->e, ST_ESHAPE, "%s: tensor rope_freqs.weight: expected %lld numbers", f->file,
                (long long)(head_dim / 2));
    }
    row->used = true;
    ST_TRY(st_stored_read(row->stored, st_view1(by, ST_F32, n), f->e));
    for (int64_t i = 0; i < n; i++)
        factor = fmax(factor, (double)by[i]);
    for (int64_t i = 0; i < n; i++) {
        double turns = ORIGINAL * pow(theta, -2.0 * (double)i / (double)head_dim) / (2 * M_PI);
        double smooth = fmin(fmax((turns - 1) / 3, 0), 1);
        double want = 1 / ((1 - smooth) / factor + smooth);
        if (fabs(want - (double)by[i]) <= 1e-3 * want) continue;
        ST_FAIL(f->e, ST_EUNSUPPORTED,
                "%s: tensor rope_freqs.weight: number %lld is %g, expected %g, as Llama 3.1's "
                "scaling by %g has it (no other is read)",
                f->file, (long long)i, (double)by[i], want, factor);
    }
    json_object_set_new(config, "rope_scaling",
                        json_pack("{s:s, s:f, s:f, s:f, s:i}", "rope_type", "llama3", "factor",
                                  factor, "low_freq_factor", 1.0, "high_freq_factor", 4.0,
                                  "original_max_position_embeddings", ORIGINAL));
    return ST_OK;
}

static st_status llama_rope(st_folder *f, json_t *config)
{
    const char *type = json_string_value(llama_key(f, "rope.scaling.type"));
    const json_t *turned = llama_key(f, "rope.dimension_count");
    int64_t heads = json_integer_value(json_object_get(config, "num_attention_heads"));
    int64_t width = json_integer_value(json_object_get(config, "hidden_size"));
    const json_t *dim = json_object_get(config, "head_dim"), *base;
    int64_t head_dim = dim ? json_integer_value(dim) : heads > 0 ? width / heads : 0;
    if (turned && json_integer_value(turned) != head_dim) {
        ST_FAIL(f->e, ST_EUNSUPPORTED,
                "%s: %s.rope.dimension_count is %lld, expected the head's %lld (parts of heads are "
                "not supported)",
                f->file, llama_arch(f), (long long)json_integer_value(turned), (long long)head_dim);
    }
    base = json_object_get(config, "rope_theta");
    ST_TRY(llama_freqs(f, head_dim, base ? json_number_value(base) : 10000.0, config));
    if (!type || strcmp(type, "none") == 0) return ST_OK;
    if (strcmp(type, "linear") && strcmp(type, "yarn")) {
        ST_FAIL(f->e, ST_EUNSUPPORTED,
                "%s: %s.rope.scaling.type is '%.40s', expected none, linear or yarn", f->file,
                llama_arch(f), type);
    }
    json_t *scaling = json_pack("{s:s}", "rope_type", type);
    const json_t *factor = llama_key(f, "rope.scaling.factor");
    const json_t *original = llama_key(f, "rope.scaling.original_context_length");
    if (factor) json_object_set(scaling, "factor", (json_t *)(uintptr_t)factor);
    if (original)
        json_object_set(scaling, "original_max_position_embeddings", (json_t *)(uintptr_t)original);
    json_object_set_new(config, "rope_scaling", scaling);
    return ST_OK;
}

/* ---- windows --------------------------------------------------------------------------------- */

/* ARCH.attention.sliding_window, and in which blocks: where sliding_window_pattern lists it or has
 * every nth block without, else as the model_type has it. */
static st_status llama_window(st_folder *f, json_t *config)
{
    const json_t *window = llama_key(f, "attention.sliding_window");
    const json_t *pattern = llama_key(f, "attention.sliding_window_pattern"), *in;
    const char *arch = llama_arch(f);
    bool gemma = strcmp(arch, "gemma3") == 0, qwen = strncmp(arch, "qwen", 4) == 0;
    int64_t n = json_integer_value(window);
    if (gemma && n <= 0) json_object_set_new(config, "sliding_window", json_null());
    if (n <= 0) return ST_OK;
    json_object_set_new(config, "sliding_window", json_integer(n));
    if (qwen && !json_is_array(pattern)) {
        ST_FAIL(f->e, ST_EUNSUPPORTED,
                "%s: %s.attention.sliding_window is %lld, but no sliding_window_pattern lists the "
                "blocks that have it; put a config.json beside it",
                f->file, arch, (long long)n);
    }
    if (qwen) json_object_set_new(config, "use_sliding_window", json_true());
    /* of this architecture only Mistral has one, in every block */
    if (!qwen && !gemma) json_object_set_new(config, "model_type", json_string("mistral"));
    if (gemma && json_is_integer(pattern))
        json_object_set(config, "sliding_window_pattern", (json_t *)(uintptr_t)pattern);
    if (!json_is_array(pattern)) return ST_OK;
    json_t *types = json_array();
    size_t i;
    json_array_foreach((json_t *)(uintptr_t)pattern, i, in)
    {
        bool slides = json_is_true(in) || json_integer_value(in) > 0;
        json_array_append_new(types, json_string(slides ? "sliding_attention" : "full_attention"));
    }
    json_object_set_new(config, "layer_types", types);
    return ST_OK;
}

/* What llama.cpp's gemma3 divides scores by: sqrt(head_dim), but for the largest model. */
static st_status llama_score(const st_folder *f, json_t *config)
{
    int64_t layers = json_integer_value(json_object_get(config, "num_hidden_layers"));
    int64_t heads = json_integer_value(json_object_get(config, "num_attention_heads"));
    int64_t width = json_integer_value(json_object_get(config, "hidden_size"));
    json_t *score = json_object_get(config, "head_dim");
    if (strcmp(llama_arch(f), "gemma3")) return ST_OK;
    if (layers == ST_GGUF_GEMMA3_27B && heads > 0)
        json_object_set_new(config, "query_pre_attn_scalar", json_integer(width / heads));
    else if (score)
        json_object_set(config, "query_pre_attn_scalar", score);
    return ST_OK;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static bool llama_has(const st_folder *f, const char *name)
{
    return st_folder_find(f, name) != NULL;
}

st_status st_folder_guess_llama(st_folder *f)
{
    const char *arch = llama_arch(f);
    const st_folder_row *table = st_folder_find(f, "embed_tokens.weight");
    const json_t *keys = json_object_get(f->extra, "gguf");
    f->guessed = true;
    if (!table || table->stored->ndim != 2) {
        ST_FAIL(f->e, ST_EFORMAT, "%s: no matrix token_embd.weight, which every %s has", f->file,
                arch);
    }
    json_t *config = f->config = json_pack(
        "{s:s, s:I, s:b, s:b, s:b, s:O?, s:O?}", "model_type", llama_type(f), "vocab_size",
        (json_int_t)table->stored->dim[0], "tie_word_embeddings", !llama_has(f, "lm_head.weight"),
        "attention_bias", llama_has(f, "layers.0.self_attn.o_proj.bias"), "mlp_bias",
        llama_has(f, "layers.0.mlp.up_proj.bias"), "bos_token_id",
        json_object_get(keys, "tokenizer.ggml.bos_token_id"), "eos_token_id",
        json_object_get(keys, "tokenizer.ggml.eos_token_id"));
    if (!config) return ST_NOMEM(f->e, f->path);
    ST_TRY(llama_known(f, config));
    if (!json_object_get(config, "num_key_value_heads"))
        json_object_set(config, "num_key_value_heads",
                        json_object_get(config, "num_attention_heads"));
    ST_TRY(llama_window(f, config));
    ST_TRY(llama_score(f, config));
    return llama_rope(f, config);
}
