/* strut prepare: text to token shards. */
/* SPDX-License-Identifier: MIT */
#include "cmd/options.h"
#include "data/data.h"
#include "files/files.h"
#include <stdio.h>
#include <string.h>

static const cmd_option prepare_options[] = {
    {CMD_OUT_DIR},
    {.name = "tokenizer",
     .letter = 't',
     .kind = CMD_TEXT,
     .value = "PATH",
     .help =
         "folder with tokenizer.json, vocab.json + merges.txt, or encoder.json + vocab.bpe; one "
         "of these files; or a GGUF file"},
    {.name = "separator",
     .kind = CMD_TEXT,
     .value = "TOKEN",
     .help = "put behind each document; not given: what ends a text by the tokenizer's files"},
    {.name = "special",
     .kind = CMD_TEXT,
     .value = "HOW",
     .preset = "text",
     .choice = "text|token|split",
     .help = "special tokens that a text holds: ordinary text; tokens; tokens, and documents end "
             "at the separator"},
    {CMD_FIELD},
    {CMD_STRICT},
    {.name = "form",
     .kind = CMD_TEXT,
     .value = "NAME",
     .help = "of wikitext: articles, krony, fly or fly-eos; of lambada: krony or docs"},
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
    {CMD_FORCE("DIR")},
    {0},
};

static st_special prepare_special_of(const char *name)
{
    return !strcmp(name, "text")    ? ST_SPECIAL_TEXT
           : !strcmp(name, "token") ? ST_SPECIAL_TOKEN
                                    : ST_SPECIAL_SPLIT;
}

static st_split prepare_split_of(const char *name)
{
    return !strcmp(name, "doc")      ? ST_SPLIT_DOCUMENTS
           : !strcmp(name, "tokens") ? ST_SPLIT_TOKENS
                                     : ST_SPLIT_NANOGPT;
}

/* The options that a recipe decides itself are not to be given. */
static st_status prepare_allowed(const cmd_args *a, const st_recipe *r, st_err *e)
{
    static const struct {
        const char *name;
        int takes;
    } row[] = {{"split", ST_TAKES_SPLIT},
               {"val-fraction", ST_TAKES_SPLIT},
               {"seed", ST_TAKES_SPLIT},
               {"field", ST_TAKES_FIELD},
               {"separator", 0},
               {"special", 0},
               {"tokenizer", ST_TAKES_TOKENIZER}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        if (cmd_has(a, row[i].name) && !(r->takes & row[i].takes))
            ST_FAIL(e, ST_EARG, "--%s: the recipe %s says that itself", row[i].name, r->name);
    }
    if (cmd_has(a, "form") && !r->forms)
        ST_FAIL(e, ST_EARG, "--form: the recipe %s has one form only", r->name);
    return ST_OK;
}

static st_status prepare_recipe(const cmd_args *a, const st_recipe *r, st_prepare_opts *o,
                                json_t **result, st_err *e)
{
    ST_TRY(prepare_allowed(a, r, e));
    if (st_path_exists(r->name)) {
        st_log(ST_LOG_INFO, "%s is the recipe; for what is here under that name, say ./%s", r->name,
               r->name);
    }
    if (!cmd_has(a, "split")) o->split = ST_SPLIT_NANOGPT;
    st_recipe_opts with = {.prepare = *o, .form = cmd_text(a, "form")};
    return st_recipe_run(r->name, a->word + 1, a->words - 1, cmd_text(a, "out"), &with, result, e);
}

static st_status prepare_run(const cmd_args *a, json_t **result, st_err *e)
{
    const char *out = cmd_text(a, "out"), *near = st_recipe_near(a->word[0]);
    const st_recipe *r = st_recipe_find(a->word[0]);
    if (near && !r) {
        ST_FAIL(e, ST_EARG, "%s: no such file, and no recipe; did you mean \"%s\"?", a->word[0],
                near);
    }
    if (!out) ST_FAIL(e, ST_EARG, "say --out DIR: where train.bin and val.bin are written");
    st_prepare_opts o = {
        .tokenizer = cmd_text(a, "tokenizer"),
        .separator = cmd_text(a, "separator"),
        .special = prepare_special_of(cmd_text(a, "special")),
        .field = cmd_text(a, "field"),
        .strict = cmd_has(a, "strict"),
        .val_fraction = cmd_num(a, "val-fraction"),
        .seed = (uint64_t)cmd_int(a, "seed"),
        .split = prepare_split_of(cmd_text(a, "split")),
        .threads = (int)a->threads,
        .replace = cmd_has(a, "force"),
    };
    if (r) return prepare_recipe(a, r, &o, result, e);
    if (cmd_has(a, "form") || cmd_has(a, "detokenize")) {
        ST_FAIL(e, ST_EARG, "--%s belongs to the recipes wikitext and lambada",
                cmd_has(a, "form") ? "form" : "detokenize");
    }
    if (!o.tokenizer) {
        ST_FAIL(e, ST_EARG,
                "say --tokenizer DIR: GPT-2's vocab.json and merges.txt, or one made by "
                "strut tokenizer");
    }
    return st_prepare(a->word, a->words, out, &o, result, e);
}

static void prepare_show(const json_t *r)
{
    static const char *const sets[] = {"train", "val", "test"};
    double seconds = cmd_get_num(r, "seconds");
    int64_t bytes = cmd_get_int(r, "bytes"), documents = cmd_get_int(r, "documents");
    cmd_grid g = {.head = "<file|tokens|documents|bytes"};
    const json_t *files = json_object_get(r, "files"); /* in this order */
    size_t file = 0;
    for (int i = 0; i < 3; i++) {
        char tokens[32], docs[32];
        snprintf(tokens, sizeof tokens, "%s_tokens", sets[i]);
        snprintf(docs, sizeof docs, "%s_documents", sets[i]);
        if (!json_object_get(r, tokens)) continue;
        cmd_grid_add(&g, "%s", json_string_value(json_array_get(files, file++)));
        cmd_grid_add(&g, "%s", cmd_count(cmd_get_int(r, tokens)).s);
        cmd_grid_add(&g, "%s", json_object_get(r, docs) ? cmd_count(cmd_get_int(r, docs)).s : "");
        cmd_grid_add(&g, "%s", cmd_bytes(2 * cmd_get_int(r, tokens)).s);
    }
    cmd_grid_print(&g, stdout);
    printf("%s of text in %s document%s, %.3g bytes a token, %s (%s/s)\n", cmd_bytes(bytes).s,
           cmd_count(documents).s, documents == 1 ? "" : "s",
           (double)bytes / (double)cmd_get_int(r, "tokens"), cmd_seconds(seconds).s,
           cmd_bytes((int64_t)((double)bytes / (seconds > 1e-6 ? seconds : 1e-6))).s);
}

const cmd_command cmd_prepare = {
    .name = "prepare",
    .summary = "turn text into token shards for training",
    .usage = "--tokenizer DIR --out DIR INPUT...\nRECIPE --out DIR INPUT...",
    .detail =
        "INPUT is text, JSON (.jsonl .ndjson .json), tables (.csv .tsv .parquet), a folder of such "
        "files, or text in .gz .xz .zst .bz2 .tar .zip, in any nesting. Writes DIR/train.bin and "
        "DIR/val.bin as nanoGPT reads them (16-bit ids, <|endoftext|> after each document), "
        "DIR/meta.json and the tokenizer's files. A text file is one document, a value of JSON "
        "and a row of a table is one. Rows without a text are left out and counted, unless "
        "--strict.\n"
        "Documents are drawn for validation by number, so the split depends on --seed and on their "
        "order only. Where they are too few, the last ones are added; a single document is split "
        "near its end. --split nanogpt shuffles both files as nanoGPT's recipe does.\n"
        "RECIPE is one of these; a file or folder of the same name is given as ./NAME. GPT-2's "
        "tokenizer is taken from $STRUT_DATA, ./data/gpt2, ./gpt2, ./data or the Hub's cache, "
        "unless "
        "--tokenizer names one.\n"
        "owt: OpenWebText with nanoGPT's split, from the original tar of tars, text files, JSON "
        "lines or parquet. No more than one empty line in a row is kept, and none at the ends.\n"
        "shakespeare, shakespeare_char: one text, split at 90% of its characters; by GPT-2's "
        "tokens, "
        "or by characters with nanoGPT's meta.pkl.\n"
        "wikitext: files named train, valid and test become train.bin, val.bin and test.bin. "
        "--form "
        "articles: a document from title to title; krony: rows joined with two newlines; fly: each "
        "row by itself; fly-eos: with <|endoftext|> after it.\n"
        "lambada: the same; --form krony: joined; docs: a document a line.",
    .example = "strut prepare --tokenizer tok --out data books/\n"
               "strut prepare --tokenizer gpt2 --out news --field content news.jsonl.zst\n"
               "strut prepare owt --out data/owt openwebtext.tar.xz\n"
               "strut prepare shakespeare_char --out data/char input.txt",
    .option = prepare_options,
    .least = 1,
    .most = -1,
    .run = prepare_run,
    .show = prepare_show,
};
