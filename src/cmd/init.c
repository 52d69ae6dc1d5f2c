/* strut init: a model with fresh weights. */
/* SPDX-License-Identifier: MIT */
#include "cmd/options.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const cmd_option init_options[] = {
    {CMD_PRESET},
    {CMD_MAPS, .help = "structure of the matrices whose name matches; later ones win"},
    {CMD_SEED, .help = "of the weights"},
    {.name = "structured-init",
     .kind = CMD_TEXT,
     .value = "LAW",
     .help = "of structured matrices: as large as dense ones, or as fly's or its fork's layers",
     .choice = "dense|fly|fork",
     .preset = "dense"},
    {CMD_DTYPE_STORED},
    {.name = "tokenizer",
     .kind = CMD_TEXT,
     .value = "DIR",
     .help = "store this tokenizer with the model"},
    {CMD_IMAGE_SIZE, .help = "of a T2T-ViT: a multiple of 16; not given: 224"},
    {.name = "classes",
     .kind = CMD_INT,
     .value = "N",
     .lo = 1,
     .hi = 1 << 24,
     .help = "of a T2T-ViT; not given: 1000"},
    {CMD_FORCE("OUT")},
    {0},
};

static st_fresh_law init_law(const char *text)
{
    if (strcmp(text, "fly") == 0) return ST_FRESH_FLY;
    return strcmp(text, "fork") == 0 ? ST_FRESH_FORK : ST_FRESH_DENSE;
}

static st_status init_run(const cmd_args *a, json_t **result, st_err *e)
{
    int n;
    const char **maps = cmd_many(a, "map", &n);
    st_init_opts o = {.preset = cmd_text(a, "preset"),
                      .maps = maps,
                      .nmaps = n,
                      .seed = (uint64_t)cmd_int(a, "seed"),
                      .law = init_law(cmd_text(a, "structured-init")),
                      .dtype = cmd_dtype(a, "dtype"),
                      .tokenizer = cmd_text(a, "tokenizer"),
                      .image_size = cmd_int(a, "image-size"),
                      .classes = cmd_int(a, "classes"),
                      .replace = cmd_has(a, "force")};
    st_status s = st_init_model(a->word[0], a->word[1], &o, result, e);
    free(maps);
    return s;
}

static void init_show(const json_t *r)
{
    if (json_object_get(r, "classes")) {
        printf("%s: %s parameters, %s multiply-adds per image\n", cmd_get_str(r, "out"),
               cmd_count(cmd_get_int(r, "parameters")).s,
               cmd_si(cmd_get_num(r, "macs_per_image")).s);
        return;
    }
    printf("%s: %s parameters (%s of them embeddings), %s multiply-adds per token\n",
           cmd_get_str(r, "out"), cmd_count(cmd_get_int(r, "parameters")).s,
           cmd_count(cmd_get_int(r, "embedding_parameters")).s,
           cmd_si(cmd_get_num(r, "macs_per_token")).s);
}

const cmd_command cmd_init = {
    .name = "init",
    .summary = "make a model with fresh weights",
    .usage = "gpt2|gpt2-medium|llama-135m|t2t-vit-14|...|FILE.json OUT [options]",
    .detail =
        "Writes the folder OUT with config.json and model.safetensors. Names are GPT-2's sizes "
        "(gpt2, "
        "gpt2-medium, gpt2-large, gpt2-xl), llama-135m, llama-360m, llama-1b, tinyllama, "
        "qwen2.5-0.5b and T2T-ViT's: t2t-vit-7, -10, -12, -14, -19, -24 with performer token "
        "modules, t2t-vit-t-7, "
        "-t-14, -t-19, -t-24 with transformer ones. FILE.json is the "
        "config.json of any of them, with or without our key \"strut\". Matrices are named wte, "
        "h.N.attn.c_attn, h.N.attn.c_proj, h.N.mlp.c_fc, h.N.mlp.c_proj and lm_head (of "
        "Llama-shaped "
        "models embed_tokens, layers.N.self_attn.q_proj, k_proj, v_proj, o_proj, "
        "layers.N.mlp.gate_proj, up_proj, down_proj and lm_head); the "
        "embedding, and a lm_head tied to it (which is then untied), are replaced by their "
        "exact names only, not by '*'. "
        "Every weight has a random stream of its own, from the seed and its name.",
    .example = "strut init gpt2 out/gpt2\n"
               "strut init gpt2 out/krony --preset krony-81m\n"
               "strut init gpt2 out/small --map 'h.*.mlp.*=ss1:factor=4' --seed 1\n"
               "strut init t2t-vit-t-14 out/t2t --image-size 384 --classes 10\n"
               "strut init my/config.json out/mine --tokenizer tok/ --dtype bf16",
    .option = init_options,
    .least = 2,
    .most = 2,
    .run = init_run,
    .show = init_show,
};
