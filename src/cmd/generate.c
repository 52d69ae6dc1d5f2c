/* strut generate: text from a model. */
/* SPDX-License-Identifier: MIT */
#include "cmd/options.h"
#include "eval/eval.h"
#include "files/files.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROMPT_MAX = 1 << 26 };

static const cmd_option generate_options[] = {
    {.name = "prompt", .letter = 'p', .kind = CMD_TEXT, .value = "TEXT", .help = "how it begins"},
    {.name = "prompt-file",
     .kind = CMD_TEXT,
     .value = "FILE",
     .help = "read the prompt from a file (- is standard input)"},
    {.name = "prompts",
     .kind = CMD_TEXT,
     .value = "FILE",
     .help = "many prompts: a line each, or the rows of JSON lines, CSV or parquet under --field"},
    {.name = "batch",
     .kind = CMD_INT,
     .value = "N",
     .lo = 1,
     .hi = 64,
     .help = "with --prompts: so many at once, which share the reading of the weights",
     .preset = "8"},
    {CMD_FIELD},
    {.name = "chat",
     .kind = CMD_TEXT,
     .value = "TEXT",
     .help = "a question, put in the form that the model was tuned on; it ends with the answer"},
    {.name = "system",
     .kind = CMD_TEXT,
     .value = "TEXT",
     .help = "with --chat: what the model is told about its task"},
    {.name = "ids",
     .kind = CMD_TEXT,
     .value = "1,2,3",
     .help = "the prompt as token ids; needs no tokenizer"},
    {.name = "tokens",
     .letter = 'n',
     .kind = CMD_INT,
     .value = "N",
     .lo = 0,
     .hi = 1e9,
     .help = "how many new tokens at most",
     .preset = "128"},
    {.name = "temperature",
     .letter = 't',
     .kind = CMD_NUM,
     .value = "T",
     .lo = 0,
     .hi = 100,
     .help = "0 takes the likeliest token every time",
     .preset = "0.8"},
    {.name = "top-k",
     .kind = CMD_INT,
     .value = "K",
     .lo = 0,
     .hi = 1e9,
     .help = "choose among the K likeliest tokens; 0: all",
     .preset = "200"},
    {.name = "top-p",
     .kind = CMD_NUM,
     .value = "P",
     .lo = 0,
     .hi = 1,
     .help = "then among the likeliest with this much probability; 0: the likeliest alone, 1: all",
     .preset = "1"},
    {CMD_SEED, .help = "of the choices"},
    {CMD_NO_SPECIAL("the prompt")},
    {.name = "ignore-eos", .kind = CMD_FLAG, .help = "go on after the end of a text"},
    {.name = "logits",
     .kind = CMD_TEXT,
     .value = "FILE",
     .help = "write the logits of the prompt's positions, as safetensors: ids (n), logits (n, "
             "vocab)"},
    {CMD_FORCE("the file of --logits")},
    CMD_READ_OPTIONS,
    {CMD_ATTENTION("how the prompt is read", CMD_WAYS_CAUSAL)},
    {CMD_DTYPE_COMPUTED},
    {CMD_DEVICE},
    {0},
};

/* Text goes out as it comes; false (stop) when nobody reads it any more. */
static bool generate_say(void *ctx, const char *text, size_t n)
{
    (void)ctx;
    cmd_progress_clear();
    return fwrite(text, 1, n, stdout) == n && fflush(stdout) == 0;
}

static st_status generate_parse(const char *text, int32_t **ids, int64_t *n, st_err *e)
{
    *n = 0;
    *ids = st_calloc((int64_t)strlen(text) / 2 + 1, sizeof **ids);
    char *copy = strdup(text), *rest = copy;
    st_status s = ST_OK;
    if (!*ids || !copy) s = ST_NOMEM(e, NULL);
    for (char *word; !s && (word = strsep(&rest, ","));) {
        int64_t v;
        word += strspn(word, " ");
        if (!st_parse_int(word, &v) || v < 0 || v > INT32_MAX) {
            s = ST_ERR(e, ST_EARG,
                       "--ids: \"%s\" is not a token id; expected numbers as in 15496,995", word);
        } else {
            (*ids)[(*n)++] = (int32_t)v;
        }
    }
    free(copy);
    return s;
}

/* Prompts and what followed, as they stand in the file. */
static void generate_print(const json_t *result)
{
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(result, "results"), i, row)
    {
        if (i) putchar('\n');
        const json_t *text = json_object_get(row, "text");
        printf("%s", cmd_get_str(row, "prompt"));
        fwrite(json_string_value(text), 1, json_string_length(text), stdout);
        putchar('\n');
    }
}

static void generate_remark(const cmd_args *a, const json_t *result)
{
    const json_t *pre = json_object_get(result, "prefill"),
                 *dec = json_object_get(result, "decode");
    const char *finish = json_string_value(json_object_get(result, "finish"));
    if (a->quiet) return;
    fflush(stdout);
    fprintf(stderr, "[%s; prompt: %s, %s/s; then %s, %s/s]\n", finish ? finish : "done",
            cmd_counted(cmd_get_int(pre, "tokens"), "tokens").s,
            cmd_number(cmd_get_num(pre, "tokens_per_second")).s,
            cmd_counted(cmd_get_int(dec, "tokens"), "tokens").s,
            cmd_number(cmd_get_num(dec, "tokens_per_second")).s);
}

/* --prompts, with which nothing of one prompt goes. */
static st_status generate_many(const cmd_args *a, const st_generate_opts *o, json_t **result,
                               st_err *e)
{
    static const char *const other[] = {"prompt", "prompt-file", "ids", "chat", "system", "logits"};
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        if (cmd_has(a, other[i])) ST_FAIL(e, ST_EARG, "--prompts does not go with --%s", other[i]);
    }
    ST_TRY(st_generate_prompts(a->word[0], cmd_text(a, "prompts"), cmd_text(a, "field"), o, result,
                               e));
    if (a->json) return ST_OK;
    cmd_progress_clear();
    generate_print(*result);
    generate_remark(a, *result);
    return ST_OK;
}

static st_status generate_prompt(const cmd_args *a, st_generate_opts *o, char **text, int32_t **ids,
                                 st_err *e)
{
    int given =
        cmd_has(a, "prompt") + cmd_has(a, "prompt-file") + cmd_has(a, "ids") + cmd_has(a, "chat");
    if (given > 1) ST_FAIL(e, ST_EARG, "give one of --prompt, --prompt-file, --chat and --ids");
    o->chat = cmd_text(a, "chat");
    o->system = cmd_text(a, "system");
    if (o->system && !o->chat) {
        ST_FAIL(e, ST_EARG, "--system goes with --chat: a prompt is written as it stands");
    }
    o->prompt = cmd_text(a, "prompt");
    if (o->prompt) o->prompt_bytes = strlen(o->prompt);
    const char *file = cmd_text(a, "prompt-file"), *list = cmd_text(a, "ids");
    if (file) {
        if (strcmp(file, "-") == 0) file = "/dev/stdin";
        ST_TRY(st_read_file(file, PROMPT_MAX, text, &o->prompt_bytes, e));
        size_t mark = st_text_mark(*text, o->prompt_bytes);
        o->prompt = *text + mark;
        o->prompt_bytes -= mark;
    }
    if (list) {
        ST_TRY(generate_parse(list, ids, &o->nids, e));
        o->ids = *ids;
    }
    return ST_OK;
}

static st_status generate_run(const cmd_args *a, json_t **result, st_err *e)
{
    char *text = NULL;
    int32_t *ids = NULL;
    st_generate_opts o = {.tokens = cmd_int(a, "tokens"),
                          .temperature = cmd_num(a, "temperature"),
                          .top_k = cmd_int(a, "top-k"),
                          .plain = cmd_has(a, "no-special"),
                          .top_p = cmd_num(a, "top-p"),
                          .seed = (uint64_t)cmd_int(a, "seed"),
                          .ignore_eos = cmd_has(a, "ignore-eos"),
                          .attention = cmd_text(a, "attention"),
                          .dtype = cmd_dtype(a, "dtype"),
                          .device = cmd_text(a, "device"),
                          .logits = cmd_text(a, "logits"),
                          .replace = cmd_has(a, "force"),
                          .batch = cmd_int(a, "batch"),
                          .how = cmd_read_how(a),
                          .say = a->json ? NULL : generate_say};
    if (cmd_has(a, "prompts")) return generate_many(a, &o, result, e);
    if (cmd_has(a, "batch") || cmd_has(a, "field")) {
        ST_FAIL(e, ST_EARG, "--%s goes with --prompts", cmd_has(a, "batch") ? "batch" : "field");
    }
    st_status s = generate_prompt(a, &o, &text, &ids, e);
    if (!s) s = st_generate(a->word[0], &o, result, e);
    free(text);
    free(ids);
    if (s || a->json) return s;
    putchar('\n');
    generate_remark(a, *result);
    return s;
}

const cmd_command cmd_generate = {
    .name = "generate",
    .summary = "write text with a model",
    .usage =
        "MODEL [--prompt TEXT | --prompt-file FILE | --chat TEXT | --ids 1,2,3 | --prompts FILE] "
        "[options]",
    .detail =
        "Prints what follows the prompt, as it appears, in whole characters. It ends after "
        "--tokens tokens or at the end-of-text token. When the model's context is full, its "
        "second half is read again and the text goes on (sliding window). The same seed gives "
        "the same text. Without a prompt it begins as a new text. --chat knows the forms ChatML, "
        "Llama 2, Llama 3, Mistral, Gemma, Phi-3 and Zephyr by the model's chat template or "
        "tokens (strut info names it). --prompts writes on after many prompts, several at a "
        "time, each until the model's context is full.",
    .example = "strut generate gpt2/ --prompt 'In the beginning' --tokens 64\n"
               "strut generate gpt2/ --prompt-file story.txt --temperature 0\n"
               "strut generate smollm2/ --chat 'How do I boil an egg?'\n"
               "strut generate smollm2/ --prompts questions.txt --batch 8 --json\n"
               "strut generate small/ --ids 15496,995 --json",
    .option = generate_options,
    .least = 1,
    .most = 1,
    .run = generate_run,
};
