/* Data sets by name: what nanoGPT, krony-PT and fly make of OpenWebText, Shakespeare, WikiText and
 * LAMBADA. Nothing is downloaded: who has no text yet is told where people get it. */
/* SPDX-License-Identifier: MIT */
#include "data/recipe.h"
#include "hub/hub.h"
#include <stdlib.h>
#include <string.h>

const st_recipe st_recipes[] = {
    {.name = "owt",
     .summary = "OpenWebText as nanoGPT prepares it",
     .source =
         "openwebtext.tar.xz (https://skylion007.github.io/OpenWebTextCorpus), or the parquet "
         "files of the data set Skylion007/openwebtext (strut fetch)",
     .takes = ST_TAKES_SPLIT | ST_TAKES_FIELD | ST_TAKES_TOKENIZER,
     .run = st_recipe_owt},
    {.name = "wikitext",
     .summary = "WikiText, raw or with <unk>, in one of four forms",
     .source = "the folder with wiki.train.raw, wiki.valid.raw and wiki.test.raw (or .tokens), or "
               "that of one configuration of the data set Salesforce/wikitext (strut fetch)",
     .forms = "articles|krony|fly|fly-eos",
     .takes = ST_TAKES_FIELD | ST_TAKES_TOKENIZER,
     .run = st_recipe_sets},
    {.name = "lambada",
     .summary = "LAMBADA, joined as krony-PT does or a document a line",
     .source = "lambada_test_plain_text.txt, lambada_test.jsonl or the data set cimec/lambada "
               "(strut fetch)",
     .forms = "krony|docs",
     .takes = ST_TAKES_FIELD | ST_TAKES_TOKENIZER,
     .run = st_recipe_sets},
    {.name = "shakespeare",
     .summary = "one text, its first nine tenths for training, as nanoGPT prepares it",
     .source = "input.txt of https://github.com/karpathy/char-rnn, data/tinyshakespeare",
     .takes = ST_TAKES_TOKENIZER,
     .run = st_recipe_shakespeare},
    {.name = "shakespeare_char",
     .summary = "the same by characters, with nanoGPT's meta.pkl",
     .source = "input.txt of https://github.com/karpathy/char-rnn, data/tinyshakespeare",
     .chars = true,
     .run = st_recipe_shakespeare},
    {0},
};

const st_recipe *st_recipe_find(const char *name)
{
    for (const st_recipe *r = st_recipes; r->name; r++)
        if (!strcmp(r->name, name)) return r;
    return NULL;
}

const char *st_recipe_near(const char *word)
{
    const char *names[16] = {0};
    if (strpbrk(word, "./") || st_path_exists(word)) return NULL;
    for (int i = 0; st_recipes[i].name; i++)
        names[i] = st_recipes[i].name;
    return st_nearest(word, names);
}

/* ---- GPT-2's tokenizer ----------------------------------------------------------------------- */

static bool recipe_has(const char *dir)
{
    static const char *const file[] = {"tokenizer.json", "vocab.json", "encoder.json"};
    bool there = false;
    for (int i = 0; i < 3 && !there; i++) {
        char *path = st_path_join(dir, file[i]);
        there = path && st_path_exists(path);
        free(path);
    }
    return there;
}

/* The folder of GPT-2's files in the Hub's cache, NULL: not there. New memory. */
static char *recipe_cached(void)
{
    static const char *const repo[] = {"openai-community/gpt2", "gpt2"}, *const file[] = {
                                                                             "tokenizer.json",
                                                                             "vocab.json"};
    char *path = NULL;
    for (int i = 0; i < 4 && !path; i++)
        path = st_hub_find(repo[i / 2], false, NULL, file[i % 2]);
    char *slash = path ? strrchr(path, '/') : NULL;
    if (slash) *slash = '\0';
    return path;
}

st_status st_gpt2_tokenizer(char **path, st_err *e)
{
    const char *data = getenv("STRUT_DATA");
    char *below = data && *data ? st_path_join(data, "gpt2") : NULL;
    const char *const dir[] = {data && *data ? data : NULL, below, "data/gpt2", "gpt2", "data"};
    *path = NULL;
    for (size_t i = 0; i < sizeof dir / sizeof *dir && !*path; i++)
        if (dir[i] && recipe_has(dir[i])) *path = strdup(dir[i]);
    if (!*path) *path = recipe_cached();
    free(below);
    if (*path) return ST_OK;
    ST_FAIL(e, ST_EARG,
            "GPT-2's tokenizer is not in $STRUT_DATA, ./data/gpt2, ./gpt2, ./data or the Hub's "
            "cache; say --tokenizer DIR (with vocab.json and merges.txt, or encoder.json and "
            "vocab.bpe), or get it: strut fetch openai-community/gpt2");
}

/* ---- running --------------------------------------------------------------------------------- */

st_status st_recipe_owt(const st_recipe *r, const char *const *inputs, int n, const char *out,
                        const st_recipe_opts *o, json_t **result, st_err *e)
{
    (void)r;
    st_prepare_opts p = o->prepare;
    p.openwebtext = true;
    return st_prepare(inputs, n, out, &p, result, e);
}

/* GPT-2's, found where none was named, must be GPT-2's: the counts that people compare are. */
static st_status recipe_is_gpt2(const char *path, st_err *e)
{
    st_bpe *b;
    ST_TRY(st_bpe_open(&b, path, e));
    int64_t n = st_bpe_size(b);
    st_bpe_close(b);
    if (n == 50257) return ST_OK;
    ST_FAIL(e, ST_EARG,
            "%s: a tokenizer of %lld ids, GPT-2's has 50257; say which with --tokenizer", path,
            (long long)n);
}

st_status st_recipe_run(const char *name, const char *const *inputs, int n, const char *out,
                        const st_recipe_opts *o, json_t **result, st_err *e)
{
    const st_recipe *r = st_recipe_find(name);
    st_recipe_opts with = *o;
    char *tokenizer = NULL;
    *result = NULL;
    if (!r) ST_FAIL(e, ST_EARG, "no recipe \"%s\"", name);
    if (!n) ST_FAIL(e, ST_EARG, "%s: which text? %s", r->name, r->source);
    if (!with.form && r->forms) with.form = r->forms; /* the first */
    st_status s = ST_OK;
    if (!r->chars && !with.prepare.tokenizer) {
        s = st_gpt2_tokenizer(&tokenizer, e);
        if (!s) s = recipe_is_gpt2(tokenizer, e);
        if (!s) st_log(ST_LOG_INFO, "GPT-2's tokenizer: %s", tokenizer);
        with.prepare.tokenizer = tokenizer;
    }
    if (!s) s = r->run(r, inputs, n, out, &with, result, e);
    if (!s) json_object_set_new(*result, "recipe", json_string(r->name));
    free(tokenizer);
    return s;
}
