/* The names of GPT-2's and of Llama-shaped models' tensors in GGUF (llama.cpp's
 * src/llama-arch.cpp). */
/* SPDX-License-Identifier: MIT */
#include "weights/gguf.h"
#include <stdlib.h>
#include <string.h>

enum { NAMES_ARCHS = 4, NAMES_ROWS = 16 };

/* Ours and theirs: the part before ".weight" or ".bias", of the whole model and of a layer. */
static const struct {
    const char *arch[NAMES_ARCHS], *before, *prefix[2]; /* before: what Hugging Face has in front */
    const char *model[NAMES_ROWS][2], *layer[NAMES_ROWS][2];
} names_families[] = {
    {.arch = {"gpt2"},
     .before = "transformer.",
     .prefix = {"h.", "blk."},
     .model = {{"wte", "token_embd"},
               {"wpe", "position_embd"},
               {"ln_f", "output_norm"},
               {"lm_head", "output"}},
     .layer = {{"ln_1", "attn_norm"},
               {"attn.c_attn", "attn_qkv"},
               {"attn.c_proj", "attn_output"},
               {"ln_2", "ffn_norm"},
               {"mlp.c_fc", "ffn_up"},
               {"mlp.c_proj", "ffn_down"}}},
    {.arch = {"llama", "qwen2", "qwen3"},
     .before = "model.",
     .prefix = {"layers.", "blk."},
     .model = {{"embed_tokens", "token_embd"},
               {"norm", "output_norm"},
               {"lm_head", "output"},
               {"rope_freqs", "rope_freqs"}},
     .layer = {{"input_layernorm", "attn_norm"},
               {"self_attn.q_proj", "attn_q"},
               {"self_attn.k_proj", "attn_k"},
               {"self_attn.v_proj", "attn_v"},
               {"self_attn.o_proj", "attn_output"},
               {"self_attn.q_norm", "attn_q_norm"},
               {"self_attn.k_norm", "attn_k_norm"},
               {"post_attention_layernorm", "ffn_norm"},
               {"mlp.gate_proj", "ffn_gate"},
               {"mlp.up_proj", "ffn_up"},
               {"mlp.down_proj", "ffn_down"}}},
    {.arch = {"gemma3"},
     .before = "model.",
     .prefix = {"layers.", "blk."},
     .model = {{"embed_tokens", "token_embd"}, {"norm", "output_norm"}, {"lm_head", "output"}},
     .layer = {{"input_layernorm", "attn_norm"},
               {"self_attn.q_proj", "attn_q"},
               {"self_attn.k_proj", "attn_k"},
               {"self_attn.v_proj", "attn_v"},
               {"self_attn.o_proj", "attn_output"},
               {"self_attn.q_norm", "attn_q_norm"},
               {"self_attn.k_norm", "attn_k_norm"},
               {"post_attention_layernorm", "post_attention_norm"},
               {"pre_feedforward_layernorm", "ffn_norm"},
               {"post_feedforward_layernorm", "post_ffw_norm"},
               {"mlp.gate_proj", "ffn_gate"},
               {"mlp.up_proj", "ffn_up"},
               {"mlp.down_proj", "ffn_down"}}},
};
enum { NAMES_FAMILIES = sizeof names_families / sizeof *names_families };

static int names_family(const char *arch)
{
    for (int i = 0; arch && i < NAMES_FAMILIES; i++) {
        for (int k = 0; k < NAMES_ARCHS && names_families[i].arch[k]; k++)
            if (strcmp(arch, names_families[i].arch[k]) == 0) return i;
    }
    return -1;
}

bool st_gguf_known(const char *arch)
{
    return names_family(arch) >= 0;
}

/* Translates [PREFIX N "."] PART (".weight" | ".bias") from column `from` of the tables. */
static bool names_translate(int family, const char *name, int from, char out[ST_GGUF_NAME])
{
    const char *const *prefix = names_families[family].prefix;
    const char *rest = name, *dot = strrchr(name, '.');
    char front[32] = "";
    size_t n = strlen(prefix[from]);
    bool layer = strncmp(name, prefix[from], n) == 0;
    if (!dot || (strcmp(dot, ".weight") && strcmp(dot, ".bias"))) return false;
    if (layer) {
        size_t digits = strspn(name + n, "0123456789");
        if (!digits || digits > 9 || name[n + digits] != '.') return false;
        snprintf(front, sizeof front, "%s%.*s.", prefix[1 - from], (int)digits, name + n);
        rest = name + n + digits + 1;
    }
    for (int i = 0; i < NAMES_ROWS; i++) {
        const char *const *row =
            layer ? names_families[family].layer[i] : names_families[family].model[i];
        if (!row[0]) return false;
        if (rest > dot || strlen(row[from]) != (size_t)(dot - rest)) continue;
        if (strncmp(rest, row[from], (size_t)(dot - rest))) continue;
        snprintf(out, ST_GGUF_NAME, "%s%s%s", front, row[1 - from], dot);
        return true;
    }
    return false;
}

bool st_gguf_name(const char *arch, const char *ours, char out[ST_GGUF_NAME])
{
    int family = names_family(arch);
    if (family < 0) return false;
    size_t n = strlen(names_families[family].before);
    if (strncmp(ours, names_families[family].before, n) == 0) ours += n;
    return names_translate(family, ours, 0, out);
}

bool st_gguf_unname(const char *arch, const char *name, char out[ST_GGUF_NAME])
{
    int family = names_family(arch);
    return family >= 0 && names_translate(family, name, 1, out);
}
