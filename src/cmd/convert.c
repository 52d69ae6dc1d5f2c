/* strut convert: a model from one format into another. */
/* SPDX-License-Identifier: MIT */
#include "convert/convert.h"
#include "cmd/options.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const cmd_option convert_options[] = {
    {.name = "to",
     .kind = CMD_TEXT,
     .value = "FORMAT",
     .help = "what OUT becomes (see the list above)"},
    {.name = "dtype",
     .kind = CMD_TEXT,
     .value = "TYPE",
     .help = "of the stored weights; not given: as they are in MODEL",
     .choice = "f32|f16|bf16|float32|float16|bfloat16"},
    {.name = "quantize",
     .kind = CMD_TEXT,
     .many = true,
     .value = "FORMAT[:GLOB]",
     .help = "matrices in blocks of 8 or 4 bits: q8, q4, q4_1, or none; later ones win"},
    CMD_READ_OPTIONS,
    {CMD_IMAGE_SIZE, .help = "of a T2T-ViT: interpolate its positions for images of that size"},
    {.name = "shard-size",
     .kind = CMD_TEXT,
     .value = "SIZE",
     .help = "weights of a folder in files of at most SIZE, such as 500MB or 2GiB",
     .preset = "5GB"},
    {CMD_FORCE("OUT")},
    {0},
};

/* "500MB", "2GiB", "1000000". */
static st_status convert_size(const char *text, int64_t *out, st_err *e)
{
    static const struct {
        const char *unit;
        double bytes;
    } units[] = {{"", 1},     {"B", 1},        {"KB", 1e3},        {"MB", 1e6},
                 {"GB", 1e9}, {"KiB", 1024.0}, {"MiB", 1048576.0}, {"GiB", 1073741824.0}};
    size_t digits = strspn(text, "0123456789.");
    char number[32];
    double x = 0.0;
    snprintf(number, sizeof number, "%.*s", digits < 31 ? (int)digits : 31, text);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (strcmp(text + digits, units[i].unit) != 0 || !st_parse_num(number, &x)) continue;
        x *= units[i].bytes;
        if (!(x >= 1.0 && x < 9e18)) break;
        *out = (int64_t)x;
        return ST_OK;
    }
    ST_FAIL(e, ST_EARG,
            "--shard-size: \"%.40s\" is no size; expected a number and B, KB, MB, GB, "
            "KiB, MiB or GiB",
            text);
}

static st_status convert_run(const cmd_args *a, json_t **result, st_err *e)
{
    st_convert_opts o = {.to = cmd_text(a, "to"),
                         .dtype = cmd_text(a, "dtype"),
                         .how = cmd_read_how(a),
                         .image_size = cmd_int(a, "image-size"),
                         .replace = cmd_has(a, "force")};
    ST_TRY(convert_size(cmd_text(a, "shard-size"), &o.shard_bytes, e));
    const char **quantize = cmd_many(a, "quantize", &o.nquantize);
    if (!quantize) return ST_NOMEM(e, NULL);
    o.quantize = quantize;
    st_status s = st_convert_model(a->word[0], a->word[1], &o, result, e);
    free(quantize);
    return s;
}

static void convert_show(const json_t *r)
{
    size_t dense = json_array_size(json_object_get(r, "densified"));
    printf("%s: %s to %s, %s parameters in %s, %s\n", cmd_get_str(r, "out"), cmd_get_str(r, "from"),
           cmd_get_str(r, "to"), cmd_count(cmd_get_int(r, "parameters")).s, cmd_get_str(r, "dtype"),
           cmd_seconds(cmd_get_num(r, "seconds")).s);
    if (dense) {
        printf("%zu structured matri%s written as dense, factors and scalars multiplied out\n",
               dense, dense == 1 ? "x" : "ces");
    }
}

const cmd_command cmd_convert = {
    .name = "convert",
    .summary = "write a model in another format",
    .usage = "MODEL OUT [--to FORMAT] [options]",
    .detail =
        "MODEL is anything strut reads: a model folder or checkpoint, a Hugging Face GPT-2 "
        "(safetensors or pytorch_model.bin, sharded or not), a nanoGPT or Krony-PT .pt, a "
        "safetensors file, an llm.c .bin, a T2T-ViT .pth.tar. Numbers are kept: converting there "
        "and back gives the same file. Without --to the name of OUT decides: strut if it ends in "
        "/, pt if in .pt, .pth or .pth.tar, safetensors, gguf. FORMAT is one of\n"
        "strut: a model folder of strut, structured matrices as they are;\n"
        "hf (also: dense): a Hugging Face GPT-2, every matrix dense;\n"
        "hf-code: as strut, with modeling_strut.py for AutoModelForCausalLM and "
        "trust_remote_code=True;\n"
        "nanogpt: ckpt.pt of nanoGPT, dense;\n"
        "krony: Krony-PT's .pt, Kronecker MLPs as they are;\n"
        "pt, safetensors: one file with strut's names and config, structured matrices as they "
        "are;\n"
        "llmc: llm.c's .bin, dense, f32 or bf16;\n"
        "gguf: for llama.cpp, dense.\n"
        "strut, safetensors and gguf keep matrices in blocks of 8 or 4 bits, which --quantize asks "
        "for: q8, q4 (llama.cpp's Q8_0, Q4_0), q4_1, or none, floats.",
    .example = "strut convert krony-trained/ gpt2-small/ --to hf\n"
               "strut convert ckpt.pt gpt2/ --to hf --heads 12\n"
               "strut convert small/ small-hf/ --to hf-code\n"
               "strut convert 81.7_T2T_ViTt_14.pth.tar t2t-vit-t-14/\n"
               "strut convert gpt2/ gpt2.gguf --to gguf --dtype f16\n"
               "strut convert gpt2/ gpt2-q4/ --quantize q4 --quantize q8:wte",
    .option = convert_options,
    .least = 2,
    .most = 2,
    .run = convert_run,
    .show = convert_show,
};
