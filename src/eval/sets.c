/* The test sets that perplexities are published for, by name: where their files are found, in which
 * flavour. WikiText's "v1" has rare words replaced by <unk>, "raw" has not; both are spaced by
 * tokens ("2 @-@ 1"). The raw test texts of WikiText-2 and WikiText-103 are the same. */
/* SPDX-License-Identifier: MIT */
#include "eval/sets.h"
#include "files/files.h"
#include "hub/hub.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const st_evalset st_evalsets[] = {
    {"wiki103", "WikiText-103 test", false, NULL},
    {"wiki2", "WikiText-2 test", false, NULL},
    {"wiki103-raw", "WikiText-103 test, raw", false, "raw"},
    {"wiki2-raw", "WikiText-2 test, raw (the same text)", false, "raw"},
    {"lambada", "LAMBADA test as published: lower case, spaced by tokens", true, "standard"},
    {"lambada_openai", "LAMBADA test as OpenAI prepared it: prose", true, "openai"},
    {0},
};

enum { SET_FILES = 5, SET_REPOS = 3 };

typedef struct {
    const char *set, *flavour;
    st_form form;
    const char *file[SET_FILES]; /* in a data folder */
    const char *repo[SET_REPOS]; /* data sets of the Hub, newest name first, that have */
    const char *hub;             /* this file */
} set_source;

/* Names on the Hub. Checked against its own listings: Salesforce/wikitext has wikitext-103-raw-v1
 * and wikitext-2-v1 so (at b08601e), wikitext-103-v1 (at 5fddba4) and wikitext-2-raw-v1 (at
 * 00aa255), EleutherAI/lambada_openai (at 900124b) its file, and cimec/lambada its train file by
 * the same pattern (at d49754d). Taken to follow it, and not seen: the test file of cimec/lambada.
 */
#define WIKI_REPO                                                                                  \
    {                                                                                              \
        "Salesforce/wikitext", "wikitext"                                                          \
    }
#define WIKI_HUB "/test-00000-of-00001.parquet"
static const set_source sources[] = {
    {"wiki103",
     "v1",
     ST_FORM_WIKITEXT,
     {"wikitext-103-v1.test.txt", "wikitext-103/wiki.test.tokens",
      "wikitext-103-v1/wiki.test.tokens", "wikitext-103-v1" WIKI_HUB},
     WIKI_REPO,
     "wikitext-103-v1" WIKI_HUB},
    {"wiki103",
     "raw",
     ST_FORM_WIKITEXT,
     {"wikitext-103-raw/wiki.test.raw", "wikitext-103-raw-v1/wiki.test.raw",
      "wikitext-103-raw-v1" WIKI_HUB, "wiki.test.raw"},
     WIKI_REPO,
     "wikitext-103-raw-v1" WIKI_HUB},
    {"wiki2",
     "v1",
     ST_FORM_WIKITEXT,
     {"wikitext-2-v1.test.txt", "wikitext-2/wiki.test.tokens", "wikitext-2-v1/wiki.test.tokens",
      "wikitext-2-v1" WIKI_HUB},
     WIKI_REPO,
     "wikitext-2-v1" WIKI_HUB},
    {"wiki2",
     "raw",
     ST_FORM_WIKITEXT,
     {"wikitext-2-raw/wiki.test.raw", "wikitext-2-raw-v1/wiki.test.raw",
      "wikitext-2-raw-v1" WIKI_HUB, "wiki.test.raw"},
     WIKI_REPO,
     "wikitext-2-raw-v1" WIKI_HUB},
    {"lambada",
     "standard",
     ST_FORM_LINES,
     {"lambada_test_plain_text.txt", "lambada/lambada_test_plain_text.txt",
      "lambada-dataset/lambada_test_plain_text.txt", "plain_text" WIKI_HUB},
     {"cimec/lambada", "lambada"},
     "plain_text" WIKI_HUB},
    {"lambada_openai",
     "openai",
     ST_FORM_LINES,
     {"lambada_test.jsonl", "lambada_openai/lambada_test.jsonl",
      "lambada_openai/data/lambada_test.jsonl"},
     {"EleutherAI/lambada_openai"},
     "data/lambada_test.jsonl"},
};
enum { SOURCES = sizeof sources / sizeof *sources };

const st_evalset *st_evalset_find(const char *name)
{
    for (const st_evalset *s = st_evalsets; s->name; s++) {
        if (strcmp(s->name, name) == 0) return s;
    }
    return NULL;
}

/* The name that the rows above know a set by. */
static bool set_is(const st_evalset *set, const set_source *s)
{
    size_t n = strlen(s->set);
    bool raw = strcmp(set->name + strlen(set->name) - 4, "-raw") == 0;
    return raw ? strncmp(set->name, s->set, n) == 0 && set->name[n] == '-'
               : strcmp(set->name, s->set) == 0;
}

/* In one folder: new memory, or NULL. */
static char *set_in_folder(const set_source *s, const char *dir)
{
    for (int i = 0; i < SET_FILES && s->file[i]; i++) {
        char *path = st_path_join(dir, s->file[i]);
        if (path && st_path_exists(path) && !st_path_is_dir(path)) return path;
        free(path);
    }
    return NULL;
}

static char *set_on_disk(const set_source *s, const char *data)
{
    const char *const dir[] = {data, getenv("STRUT_DATA"), "data"};
    char *path = NULL;
    for (size_t i = 0; !path && i < sizeof dir / sizeof *dir; i++) {
        if (dir[i] && *dir[i]) path = set_in_folder(s, dir[i]);
    }
    for (int i = 0; !path && i < SET_REPOS && s->repo[i]; i++)
        path = st_hub_find(s->repo[i], true, NULL, s->hub);
    return path;
}

static st_status set_read(st_eval_rows *out, const set_source *s, const char *path, st_err *e)
{
    ST_TRY(st_eval_rows_open(out, path, s->form, e));
    out->flavour = s->flavour;
    return ST_OK;
}

static st_status set_download(st_eval_rows *out, const set_source *s, st_err *e)
{
    json_t *result = NULL;
    const char *const file[] = {s->hub};
    ST_TRY(st_fetch(s->repo[0], &(st_fetch_opts){.dataset = true, .files = file, .nfiles = 1},
                    &result, e));
    json_decref(result);
    char *path = st_hub_find(s->repo[0], true, NULL, s->hub);
    if (!path) ST_FAIL(e, ST_EIO, "%s: %s was fetched and is not there", s->repo[0], s->hub);
    st_status status = set_read(out, s, path, e);
    free(path);
    return status;
}

/* Nothing found: says where it was looked for, and what else is there. */
static st_status set_missing(const st_evalset *set, const set_source *first, const char *want,
                             const char *other, const st_perplexity_opts *o, st_err *e)
{
    if (other) {
        ST_FAIL(e, ST_EIO,
                "%s: this needs the %s flavour (%s), and only the %s one is there; get it with "
                "--download, or measure another number with --flavour %s",
                set->name, want, first->file[0], other, other);
    }
    const char *env = getenv("STRUT_DATA");
    ST_FAIL(e, ST_EIO,
            "%s (%s): no %s in %s%s%s%s./data, and not in the Hub's cache; name the folder with "
            "--data DIR, or say --download (from %s)",
            set->name, set->about, first->file[0], o->data ? o->data : "", o->data ? ", " : "",
            env && *env ? env : "", env && *env ? ", " : "", first->repo[0]);
}

st_status st_evalset_open(st_eval_rows *out, const st_evalset *set, const char *want,
                          const st_perplexity_opts *o, st_err *e)
{
    const set_source *first = NULL;
    const char *other = NULL;
    *out = (st_eval_rows){0};
    if (set->flavour) want = set->flavour;
    for (int i = 0; i < SOURCES; i++) {
        const set_source *s = &sources[i];
        if (!set_is(set, s)) continue;
        bool wanted = !want || strcmp(want, s->flavour) == 0;
        char *path = set_on_disk(s, o->data);
        if (wanted && !first) first = s;
        if (path && wanted) {
            st_status status = set_read(out, s, path, e);
            free(path);
            return status;
        }
        if (path) other = s->flavour;
        free(path);
    }
    if (!first) ST_FAIL(e, ST_EARG, "%s has no flavour \"%s\"", set->name, want);
    if (o->download) return set_download(out, first, e);
    return set_missing(set, first, want, other, o, e);
}
