/* The names of GPT-2's tensors in GGUF (llama.cpp's src/llama-arch.cpp). */
/* SPDX-License-Identifier: MIT */
#include "weights/gguf.h"
#include <stdlib.h>
#include <string.h>

/* The part before ".weight" or ".bias", of the whole model and of a layer. */
static const char *const gguf_model[][2] = {
    {"wte", "token_embd"},
    {"wpe", "position_embd"},
    {"ln_f", "output_norm"},
    {"lm_head", "output"},
};
static const char *const gguf_layer[][2] = {
    {"ln_1", "attn_norm"}, {"attn.c_attn", "attn_qkv"}, {"attn.c_proj", "attn_output"},
    {"ln_2", "ffn_norm"},  {"mlp.c_fc", "ffn_up"},      {"mlp.c_proj", "ffn_down"},
};

/* Translates [PREFIX N "."] PART (".weight" | ".bias") from column `from` of the tables. */
static bool gguf_translate(const char *name, const char *const prefix[2], int from,
                           char out[ST_GGUF_NAME])
{
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
    size_t rows =
        layer ? sizeof gguf_layer / sizeof *gguf_layer : sizeof gguf_model / sizeof *gguf_model;
    for (size_t i = 0; i < rows; i++) {
        const char *const *row = layer ? gguf_layer[i] : gguf_model[i];
        if (rest > dot || strlen(row[from]) != (size_t)(dot - rest)) continue;
        if (strncmp(rest, row[from], (size_t)(dot - rest))) continue;
        snprintf(out, ST_GGUF_NAME, "%s%s%s", front, row[1 - from], dot);
        return true;
    }
    return false;
}

static const char *const gguf_prefix[] = {"h.", "blk."};

bool st_gguf_name(const char *gpt2, char out[ST_GGUF_NAME])
{
    size_t n = strlen("transformer.");
    if (strncmp(gpt2, "transformer.", n) == 0) gpt2 += n;
    return gguf_translate(gpt2, gguf_prefix, 0, out);
}

bool st_gguf_unname(const char *name, char out[ST_GGUF_NAME])
{
    return gguf_translate(name, gguf_prefix, 1, out);
}
