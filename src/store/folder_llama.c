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

bool st_folder_is_llama(const st_folder *f)
{
    const char *arch = llama_arch(f);
    return arch && (!strcmp(arch, "llama") || !strcmp(arch, "qwen2") || !strcmp(arch, "qwen3"));
}

bool st_folder_has_pairs(const st_folder *f, const char *name)
{
    const char *arch = llama_arch(f);
    return arch && strcmp(arch, "llama") == 0 &&
           (strstr(name, ".self_attn.q_proj.") || strstr(name, ".self_attn.k_proj."));
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

/* ---- the whole ------------------------------------------------------------------------------- */

static bool llama_has(const st_folder *f, const char *name)
{
    return st_folder_find(f, name) != NULL;
}

st_status st_folder_guess_llama(st_folder *f)
{
    const char *arch = llama_arch(f);
    const st_folder_row *table = st_folder_find(f, "embed_tokens.weight");
    const json_t *keys = json_object_get(f->extra, "gguf"), *window;
    f->guessed = true;
    if (!table || table->stored->ndim != 2) {
        ST_FAIL(f->e, ST_EFORMAT, "%s: no matrix token_embd.weight, which every %s has", f->file,
                arch);
    }
    json_t *config = f->config = json_pack(
        "{s:s, s:I, s:b, s:b, s:b, s:O?, s:O?}", "model_type", arch, "vocab_size",
        (json_int_t)table->stored->dim[0], "tie_word_embeddings", !llama_has(f, "lm_head.weight"),
        "attention_bias", llama_has(f, "layers.0.self_attn.o_proj.bias"), "mlp_bias",
        llama_has(f, "layers.0.mlp.up_proj.bias"), "bos_token_id",
        json_object_get(keys, "tokenizer.ggml.bos_token_id"), "eos_token_id",
        json_object_get(keys, "tokenizer.ggml.eos_token_id"));
    if (!config) return ST_NOMEM(f->e, f->path);
    window = llama_key(f, "attention.sliding_window");
    if (window && json_integer_value(window) > 0) {
        ST_FAIL(f->e, ST_EUNSUPPORTED,
                "%s: %s.attention.sliding_window is %lld: which blocks have it is not said; put a "
                "config.json beside it",
                f->file, arch, (long long)json_integer_value(window));
    }
    ST_TRY(llama_known(f, config));
    return llama_rope(f, config);
}
