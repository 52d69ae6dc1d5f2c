/* strut tokenizer: learns a byte-level BPE from text. */
/* SPDX-License-Identifier: MIT */
#include "cmd/options.h"
#include "data/data.h"
#include <stdio.h>

static const cmd_option tokenizer_options[] = {
    {.name = "vocab",
     .letter = 'v',
     .kind = CMD_INT,
     .value = "N",
     .lo = 257,
     .hi = 65536,
     .help = "ids: 256 bytes, <|endoftext|> and learned tokens"},
    {CMD_OUT_DIR},
    {CMD_FIELD},
    {CMD_STRICT},
    {.name = "min-count",
     .kind = CMD_INT,
     .value = "N",
     .preset = "2",
     .lo = 1,
     .hi = 1e15,
     .help = "a pair of tokens must be seen this often to become one"},
    {CMD_FORCE("DIR")},
    {0},
};

static st_status tokenizer_run(const cmd_args *a, json_t **result, st_err *e)
{
    const char *out = cmd_text(a, "out");
    if (!out) ST_FAIL(e, ST_EARG, "say --out DIR: where the tokenizer is written");
    if (!cmd_has(a, "vocab")) {
        ST_FAIL(e, ST_EARG, "say --vocab N: how many tokens, for example 8192 (GPT-2 has 50257)");
    }
    st_tokenizer_opts o = {
        .vocab = cmd_int(a, "vocab"),
        .min_count = cmd_int(a, "min-count"),
        .field = cmd_text(a, "field"),
        .strict = cmd_has(a, "strict"),
        .replace = cmd_has(a, "force"),
    };
    return st_tokenizer(a->word, a->words, out, &o, result, e);
}

static void tokenizer_show(const json_t *r)
{
    int64_t documents = cmd_get_int(r, "documents");
    printf("%s: %s tokens, %s merges, learned from %s in %s document%s (%s)\n",
           cmd_get_str(r, "out"), cmd_count(cmd_get_int(r, "vocab_size")).s,
           cmd_count(cmd_get_int(r, "merges")).s, cmd_bytes(cmd_get_int(r, "bytes")).s,
           cmd_count(documents).s, documents == 1 ? "" : "s",
           cmd_seconds(cmd_get_num(r, "seconds")).s);
}

const cmd_command cmd_tokenizer = {
    .name = "tokenizer",
    .summary = "learn a byte-level BPE tokenizer from text",
    .usage = "--vocab N --out DIR INPUT...",
    .detail =
        "INPUT is text, JSON (.jsonl .ndjson .json), tables (.csv .tsv .parquet), a folder of such "
        "files, or text "
        "in .gz .xz .zst .bz2 .tar .zip. The tokenizer splits text as GPT-2's does, knows every "
        "byte, and is written in Hugging Face's files.",
    .example = "strut tokenizer --vocab 8192 --out tok books/",
    .option = tokenizer_options,
    .least = 1,
    .most = -1,
    .run = tokenizer_run,
    .show = tokenizer_show,
};
