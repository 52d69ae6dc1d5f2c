/* strut perplexity: how well a model predicts a text. */
/* SPDX-License-Identifier: MIT */
#include "cmd/options.h"
#include "eval/eval.h"
#include <stdio.h>
#include <string.h>

static const cmd_option perplexity_options[] = {
    {.name = "protocol",
     .letter = 'p',
     .kind = CMD_TEXT,
     .value = "NAME",
     .help =
         "which definition: hf, krony, openai, lm-eval, fly; not given: hf, of LAMBADA lm-eval"},
    {.name = "context",
     .letter = 'c',
     .kind = CMD_INT,
     .value = "N",
     .lo = 2,
     .hi = 1 << 24,
     .help = "tokens of a window; not given: the protocol's or the model's"},
    {.name = "stride",
     .kind = CMD_INT,
     .value = "N",
     .lo = 1,
     .hi = 1 << 24,
     .help =
         "tokens from one window's start to the next; not given: the protocol's or the context"},
    {CMD_LIMIT, .help = "use the first N tokens only (pages of lm-eval, items of LAMBADA)"},
    {.name = "agg",
     .kind = CMD_TEXT,
     .value = "HOW",
     .help = "average over tokens, or over the means of windows; not given: the protocol's",
     .choice = "token|window"},
    {.name = "boundary",
     .kind = CMD_TEXT,
     .value = "HOW",
     .help = "outside: the token after a window is its last target; inside: its first token is "
             "context only; not given: the protocol's",
     .choice = "inside|outside"},
    {.name = "detokenize",
     .kind = CMD_TEXT,
     .value = "HOW",
     .help = "turn WikiText's tokens back into prose first; not given: as the protocol says",
     .choice = "none|wikitext"},
    {.name = "eos", .kind = CMD_FLAG, .help = "protocol fly: an end-of-text token after each row"},
    CMD_READ_OPTIONS,
    {.name = "form",
     .kind = CMD_TEXT,
     .value = "FORM",
     .help = "of a file: one text, WikiText's lines, a passage a line",
     .choice = "text|wikitext|lines",
     .preset = "text"},
    {.name = "flavour",
     .kind = CMD_TEXT,
     .value = "NAME",
     .help = "of WikiText; not given: what the protocol is defined for",
     .choice = "raw|v1"},
    {.name = "data",
     .kind = CMD_TEXT,
     .value = "DIR",
     .help = "look for named sets here first; then in $STRUT_DATA, ./data, the Hub's cache"},
    {.name = "download", .kind = CMD_FLAG, .help = "fetch a named set that is not on disk"},
    {CMD_NO_SPECIAL("the text")},
    {CMD_BATCH, .help = "windows or items at a time (speed only)"},
    {CMD_ATTENTION("how tokens see each other", CMD_WAYS_CAUSAL)},
    {CMD_DTYPE_COMPUTED},
    {CMD_DEVICE},
    {0},
};

static st_status perplexity_run(const cmd_args *a, json_t **result, st_err *e)
{
    st_perplexity_opts o = {.protocol = cmd_text(a, "protocol"),
                            .context = cmd_int(a, "context"),
                            .stride = cmd_int(a, "stride"),
                            .limit = cmd_int(a, "limit"),
                            .batch = cmd_int(a, "batch"),
                            .agg = cmd_text(a, "agg"),
                            .boundary = cmd_text(a, "boundary"),
                            .detokenize = cmd_text(a, "detokenize"),
                            .plain = cmd_has(a, "no-special"),
                            .eos = cmd_has(a, "eos"),
                            .how = cmd_read_how(a),
                            .form = cmd_text(a, "form"),
                            .flavour = cmd_text(a, "flavour"),
                            .data = cmd_text(a, "data"),
                            .download = cmd_has(a, "download"),
                            .attention = cmd_text(a, "attention"),
                            .dtype = cmd_dtype(a, "dtype"),
                            .device = cmd_text(a, "device")};
    return st_perplexity(a->word[0], a->word[1], &o, result, e);
}

static void perplexity_show_text(const json_t *r)
{
    const char *path = cmd_get_str(r, "path"), *flavour = cmd_get_str(r, "flavour");
    printf("text        %s", cmd_get_str(r, "text"));
    if (*path && strcmp(path, cmd_get_str(r, "text")) != 0) printf(" (%s)", path);
    if (*flavour) printf(", %s", flavour);
    if (cmd_get_int(r, "bytes")) printf(", %s bytes", cmd_count(cmd_get_int(r, "bytes")).s);
    if (cmd_get_int(r, "words")) printf(", %s words", cmd_count(cmd_get_int(r, "words")).s);
    printf("\n");
}

static void perplexity_show_speed(const json_t *r)
{
    printf("protocol    %s: %s\n", cmd_get_str(r, "protocol"), cmd_get_str(r, "definition"));
    printf("speed       %s tokens/s, %s\n", cmd_number(cmd_get_num(r, "tokens_per_second")).s,
           cmd_seconds(cmd_get_num(r, "seconds")).s);
}

/* Last words of LAMBADA. */
static void perplexity_show_words(const json_t *r)
{
    printf("accuracy    %.2f %% of last words (+- %.2f), %.2f %% of last tokens\n",
           100.0 * cmd_get_num(r, "accuracy"), 100.0 * cmd_get_num(r, "accuracy_stderr"),
           100.0 * cmd_get_num(r, "last_token_accuracy"));
    printf("perplexity  %.4f of the last word\n", cmd_get_num(r, "perplexity"));
    perplexity_show_text(r);
    printf("items       %s, %s tokens, %s of last words\n", cmd_count(cmd_get_int(r, "items")).s,
           cmd_count(cmd_get_int(r, "tokens")).s, cmd_count(cmd_get_int(r, "target_tokens")).s);
    perplexity_show_speed(r);
}

static void perplexity_show_one(const json_t *r)
{
    if (json_object_get(r, "items")) {
        perplexity_show_words(r);
        return;
    }
    printf("perplexity  %.4f by %s\n", cmd_get_num(r, "perplexity"), cmd_get_str(r, "agg"));
    printf("            %.4f by token, %.4f bits per token\n", cmd_get_num(r, "token_perplexity"),
           cmd_get_num(r, "bits_per_token"));
    if (json_object_get(r, "word_perplexity")) {
        printf("            %.4f by word, %.4f by byte, %.4f bits per byte\n",
               cmd_get_num(r, "word_perplexity"), cmd_get_num(r, "byte_perplexity"),
               cmd_get_num(r, "bits_per_byte"));
    }
    perplexity_show_text(r);
    printf("tokens      %s, %s scored\n", cmd_count(cmd_get_int(r, "tokens")).s,
           cmd_count(cmd_get_int(r, "scored")).s);
    printf("windows     %s of %s tokens, stride %s\n", cmd_count(cmd_get_int(r, "windows")).s,
           cmd_count(cmd_get_int(r, "context")).s, cmd_count(cmd_get_int(r, "stride")).s);
    perplexity_show_speed(r);
}

static void perplexity_show(const json_t *r)
{
    size_t i;
    const json_t *one;
    json_array_foreach(json_object_get(r, "results"), i, one)
    {
        perplexity_show_one(one);
        printf("\n");
    }
    if (!json_object_get(r, "results")) perplexity_show_one(r);
    const char *act = cmd_get_str(r, "gelu");
    bool gelu = strcmp(act, "tanh") == 0 || strcmp(act, "erf") == 0;
    printf("computed    %s, %s%s, attention %s, %s\n", cmd_get_str(r, "dtype"), gelu ? "gelu " : "",
           act, cmd_get_str(r, "attention"), cmd_get_str(r, "device"));
}

const cmd_command cmd_perplexity = {
    .name = "perplexity",
    .summary = "measure how well a model predicts a text",
    .usage = "MODEL wiki103|wiki2|wiki103-raw|wiki2-raw|lambada|lambada_openai|all [options]\n"
             "MODEL TEXT|TOKENS.bin [options]",
    .detail =
        "A set has a name, `all` is wiki103, wiki2 and lambada; anything else is a file: text that "
        "the tokenizer in the model's folder encodes, or a .bin of uint16 tokens (strut prepare, "
        "nanoGPT). Sets are found in --data DIR, $STRUT_DATA, ./data and the Hub's cache, and "
        "downloaded only with --download.\n"
        "Papers define perplexity in different ways, so each is a named protocol, and the answer "
        "says what was scored and how it was averaged. WikiText exists with <unk> (v1) and "
        "without (raw): each protocol knows which it is defined for. Of LAMBADA, hf, krony and fly "
        "measure the running text; lm-eval and openai the last words, with accuracy.",
    .example = "strut perplexity gpt2/ all --protocol krony\n"
               "strut perplexity gpt2/ wiki2 --protocol lm-eval\n"
               "strut perplexity gpt2/ lambada_openai\n"
               "strut perplexity gpt2/ wiki2-raw --stride 512\n"
               "strut perplexity small/ data/val.bin --protocol krony --json",
    .option = perplexity_options,
    .least = 2,
    .most = 2,
    .run = perplexity_run,
    .show = perplexity_show,
};
