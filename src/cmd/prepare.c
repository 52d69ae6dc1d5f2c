/* strut prepare: text to token shards. */
/* SPDX-License-Identifier: MIT */
#include "cmd/cmd.h"
#include <stdio.h>
#include <string.h>

static const cmd_option prepare_options[] = {
    {.name = "out", .letter = 'o', .kind = CMD_TEXT, .value = "DIR", .help = "folder to write"},
    {.name = "tokenizer",
     .letter = 't',
     .kind = CMD_TEXT,
     .value = "DIR",
     .help = "folder with tokenizer.json, vocab.json + merges.txt, or encoder.json + vocab.bpe"},
    {.name = "field",
     .kind = CMD_TEXT,
     .value = "NAME",
     .preset = "text",
     .help = "of JSON lines: where the text is"},
    {.name = "val-fraction",
     .kind = CMD_NUM,
     .value = "X",
     .lo = 1e-12,
     .hi = 0.999999,
     .help = "share of the documents (or tokens) for validation; not given: 0.0005, "
             "but at least 10,241 tokens or a tenth"},
    {.name = "split",
     .kind = CMD_TEXT,
     .value = "HOW",
     .preset = "doc",
     .choice = "doc|tokens|nanogpt",
     .help = "doc: drawn documents; tokens: the end of the text; nanogpt: its permutation"},
    {.name = "seed",
     .kind = CMD_INT,
     .value = "N",
     .preset = "2357",
     .lo = 0,
     .hi = 9e15,
     .help = "of the drawing"},
    {.name = "force", .letter = 'f', .kind = CMD_FLAG, .help = "replace DIR if it exists"},
    {0},
};

static st_split prepare_split_of(const char *name)
{
    return !strcmp(name, "doc")      ? ST_SPLIT_DOCUMENTS
           : !strcmp(name, "tokens") ? ST_SPLIT_TOKENS
                                     : ST_SPLIT_NANOGPT;
}

static st_status prepare_run(const cmd_args *a, json_t **result, st_err *e)
{
    const char *out = cmd_text(a, "out");
    if (!out) ST_FAIL(e, ST_EARG, "say --out DIR: where train.bin and val.bin are written");
    if (!cmd_has(a, "tokenizer")) {
        ST_FAIL(e, ST_EARG,
                "say --tokenizer DIR: GPT-2's vocab.json and merges.txt, or one made by "
                "strut tokenizer");
    }
    st_prepare_opts o = {
        .tokenizer = cmd_text(a, "tokenizer"),
        .field = cmd_text(a, "field"),
        .val_fraction = cmd_num(a, "val-fraction"),
        .seed = (uint64_t)cmd_int(a, "seed"),
        .split = prepare_split_of(cmd_text(a, "split")),
        .threads = (int)a->threads,
        .replace = cmd_has(a, "force"),
    };
    return st_prepare(a->word, a->words, out, &o, result, e);
}

static void prepare_show(const json_t *r)
{
    double seconds = cmd_get_num(r, "seconds");
    int64_t bytes = cmd_get_int(r, "bytes");
    bool by_tokens = !strcmp(cmd_get_str(r, "split"), "tokens");
    cmd_grid g = {.head = "<file|tokens|documents|bytes"};
    static const char *const sets[] = {"train", "val"};
    const json_t *files = json_object_get(r, "files"); /* in this order */
    for (int i = 0; i < 2; i++) {
        char key[32];
        snprintf(key, sizeof key, "%s_tokens", sets[i]);
        int64_t tokens = cmd_get_int(r, key);
        snprintf(key, sizeof key, "%s_documents", sets[i]);
        cmd_grid_add(&g, "%s", json_string_value(json_array_get(files, (size_t)i)));
        cmd_grid_add(&g, "%s", cmd_count(tokens).s);
        cmd_grid_add(&g, "%s", by_tokens ? "" : cmd_count(cmd_get_int(r, key)).s);
        cmd_grid_add(&g, "%s", cmd_bytes(2 * tokens).s);
    }
    cmd_grid_print(&g, stdout);
    int64_t documents = cmd_get_int(r, "documents");
    printf("%s of text in %s document%s, %.3g bytes a token, %s (%s/s)\n", cmd_bytes(bytes).s,
           cmd_count(documents).s, documents == 1 ? "" : "s",
           (double)bytes / (double)cmd_get_int(r, "tokens"), cmd_seconds(seconds).s,
           cmd_bytes((int64_t)((double)bytes / (seconds > 1e-6 ? seconds : 1e-6))).s);
}

const cmd_command cmd_prepare = {
    .name = "prepare",
    .summary = "turn text into token shards for training",
    .usage = "--tokenizer DIR --out DIR INPUT...",
    .detail =
        "INPUT is text, JSON lines (.jsonl .ndjson .json), a folder of such files, or any of these "
        "in .gz .xz .zst .bz2 .tar .zip, in any nesting. Writes DIR/train.bin and DIR/val.bin as "
        "nanoGPT reads them (16-bit ids, <|endoftext|> after each document), DIR/meta.json and the "
        "tokenizer's files. A text file is one document, a line of JSON lines is one.\n"
        "Documents are drawn for validation by number, so the split depends on --seed and on their "
        "order only. Where they are too few, the last ones are "
        "added; a single document is split near its end.",
    .example = "strut prepare --tokenizer tok --out data books/\n"
               "strut prepare --tokenizer gpt2 --out owt --field content owt.jsonl.zst",
    .option = prepare_options,
    .least = 1,
    .most = -1,
    .run = prepare_run,
    .show = prepare_show,
};
