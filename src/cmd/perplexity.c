/* strut perplexity: how well a model predicts a text. */
/* SPDX-License-Identifier: MIT */
#include "cmd/cmd.h"
#include <stdio.h>

static const cmd_option perplexity_options[] = {
    {.name = "protocol",
     .letter = 'p',
     .kind = CMD_TEXT,
     .value = "NAME",
     .help = "which definition of perplexity: hf (mean over tokens), krony (mean of window means)",
     .preset = "hf"},
    {.name = "context",
     .letter = 'c',
     .kind = CMD_INT,
     .value = "N",
     .lo = 2,
     .hi = 1 << 24,
     .help = "tokens of a window; not given: the model's"},
    {.name = "stride",
     .kind = CMD_INT,
     .value = "N",
     .lo = 1,
     .hi = 1 << 24,
     .help = "tokens from one window's start to the next; not given: the context"},
    {.name = "limit",
     .letter = 'n',
     .kind = CMD_INT,
     .value = "N",
     .lo = 2,
     .hi = 9e15,
     .help = "use the first N tokens only"},
    {.name = "batch",
     .letter = 'b',
     .kind = CMD_INT,
     .value = "N",
     .lo = 1,
     .hi = 65536,
     .help = "windows at a time (speed only)"},
    {.name = "dtype",
     .kind = CMD_TEXT,
     .value = "TYPE",
     .help = "to compute in",
     .choice = CMD_DTYPES,
     .preset = "f32"},
    {.name = "device",
     .kind = CMD_TEXT,
     .value = "NAME",
     .help = "cpu, or ref (plain loops)",
     .preset = "cpu"},
    {0},
};

static st_status perplexity_run(const cmd_args *a, json_t **result, st_err *e)
{
    st_perplexity_opts o = {.protocol = cmd_text(a, "protocol"),
                            .context = cmd_int(a, "context"),
                            .stride = cmd_int(a, "stride"),
                            .limit = cmd_int(a, "limit"),
                            .batch = cmd_int(a, "batch"),
                            .dtype = cmd_dtype(a, "dtype"),
                            .device = cmd_text(a, "device")};
    return st_perplexity(a->word[0], a->word[1], &o, result, e);
}

static void perplexity_show(const json_t *r)
{
    printf("perplexity  %.4f\n", cmd_get_num(r, "perplexity"));
    printf("nll         %.6f nats per token, %.4f bits\n", cmd_get_num(r, "nll"),
           cmd_get_num(r, "bits_per_token"));
    printf("text        %s", cmd_get_str(r, "text"));
    if (cmd_get_int(r, "bytes")) printf(", %s bytes", cmd_count(cmd_get_int(r, "bytes")).s);
    printf("\ntokens      %s, %s scored\n", cmd_count(cmd_get_int(r, "tokens")).s,
           cmd_count(cmd_get_int(r, "scored")).s);
    printf("windows     %s of %s tokens, stride %s\n", cmd_count(cmd_get_int(r, "windows")).s,
           cmd_count(cmd_get_int(r, "context")).s, cmd_count(cmd_get_int(r, "stride")).s);
    printf("protocol    %s: %s\n", cmd_get_str(r, "protocol"), cmd_get_str(r, "definition"));
    printf("speed       %s tokens/s, %s (%s, %s)\n",
           cmd_number(cmd_get_num(r, "tokens_per_second")).s,
           cmd_seconds(cmd_get_num(r, "seconds")).s, cmd_get_str(r, "dtype"),
           cmd_get_str(r, "device"));
}

const cmd_command cmd_perplexity = {
    .name = "perplexity",
    .summary = "measure how well a model predicts a text",
    .usage = "MODEL TEXT|TOKENS.bin [options]",
    .detail =
        "A text is encoded by the tokenizer in the model's folder; a .bin is a shard of uint16 "
        "tokens (strut prepare, nanoGPT). Papers define perplexity in different ways, so each "
        "is a named protocol, and the answer says what was scored and how it was averaged.",
    .example = "strut perplexity gpt2/ wiki.test.raw\n"
               "strut perplexity gpt2/ wiki.test.raw --stride 512\n"
               "strut perplexity small/ data/val.bin --protocol krony --json",
    .option = perplexity_options,
    .least = 2,
    .most = 2,
    .run = perplexity_run,
    .show = perplexity_show,
};
