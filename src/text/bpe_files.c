/* Which files are a tokenizer: tokenizer.json (Hugging Face), vocab.json + merges.txt, OpenAI's
 * encoder.json + vocab.bpe, nanoGPT's meta.pkl, a GGUF file; with what stands beside them. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "text/bpe_draft.h"
#include "text/bpe_gguf.h"
#include <stdlib.h>
#include <string.h>

static const size_t files_max = (size_t)256 << 20;

static st_status files_merges_text(st_bpe_draft *d, const char *path, st_err *e)
{
    char *text, where[400];
    size_t n;
    ST_TRY(st_read_file(path, files_max, &text, &n, e));
    st_status s = ST_OK;
    int64_t line = 0;
    for (size_t i = st_text_mark(text, n), end; i < n && !s; i = end + 1) {
        const char *newline = memchr(text + i, '\n', n - i);
        end = newline ? (size_t)(newline - text) : n;
        size_t len = end - i;
        if (len && text[i + len - 1] == '\r') len--;
        if (++line == 1 && len >= 8 && !memcmp(text + i, "#version", 8)) continue;
        if (len == 0) continue;
        snprintf(where, sizeof where, "%.300s:%lld", path, (long long)line);
        s = st_bpe_draft_merge(d, text + i, len, where, e);
    }
    free(text);
    return s;
}

/* What a tokenizer.json says beside its vocabulary and merges. */
static st_status files_flow(st_bpe_draft *d, const json_t *root, st_err *e)
{
    d->model = json_object_get(root, "model");
    d->vocab = json_object_get(d->model, "vocab");
    json_t *added = json_object_get(root, "added_tokens");
    if (added && !json_is_null(added)) {
        json_decref(d->added);
        d->added = json_is_array(added) ? json_copy(added) : json_incref(added);
    }
    d->chars = st_bpe_is_chars(root);
    if (d->chars) return st_bpe_check_chars(root, d->what, e);
    ST_TRY(st_bpe_check_model(d->model, d->what, e));
    return st_flow_open(&d->flow, root, d->what, e);
}

/* Vocabulary and merges of a draft; `merges` NULL: those of its model. */
static st_status files_draft(st_bpe_draft *d, const char *merges, st_bpe_beside *beside,
                             st_bpe **out, st_err *e)
{
    ST_TRY(st_bpe_draft_vocab(d, e));
    if (merges)
        ST_TRY(files_merges_text(d, merges, e));
    else if (!d->chars)
        ST_TRY(st_bpe_draft_merges(d, json_object_get(d->model, "merges"), e));
    ST_TRY(st_bpe_draft_make(d, out, e));
    if (!d->chars) st_bpe_beside_roles(beside, *out);
    return ST_OK;
}

st_status st_bpe_from_json(st_bpe **out, json_t *root, st_bpe_beside *beside, const char *what,
                           st_err *e)
{
    st_bpe_draft d = {.what = what, .added = json_array()};
    *out = NULL;
    st_status s = files_flow(&d, root, e);
    if (!s) s = files_draft(&d, NULL, beside, out, e);
    st_bpe_draft_free(&d);
    return s;
}

/* Both files of `dir`; `merges` NULL: `vocab` is a tokenizer.json. */
static st_status files_load(st_bpe **out, const char *dir, const char *vocab, const char *merges,
                            st_err *e)
{
    st_bpe_draft d = {.what = vocab, .added = json_array()};
    st_bpe_beside beside = {0};
    json_t *root = NULL;
    st_status s = st_json_load(&root, vocab, files_max, e);
    d.vocab = root;
    if (!s && !merges) s = files_flow(&d, root, e);
    if (!s && json_is_array(d.added)) s = st_bpe_beside_open(&beside, dir, d.added, e);
    if (!s) s = files_draft(&d, merges, &beside, out, e);
    st_bpe_beside_close(&beside);
    st_bpe_draft_free(&d);
    json_decref(root);
    return s;
}

/* ---- which files ----------------------------------------------------------------------------- */

static const char *const files_pairs[][2] = {{"tokenizer.json", NULL},
                                             {"vocab.json", "merges.txt"},
                                             {"encoder.json", "vocab.bpe"},
                                             {"meta.pkl", NULL}};
enum { FILES_PAIRS = sizeof files_pairs / sizeof *files_pairs };

bool st_bpe_there(const char *dir)
{
    bool there = false;
    for (int k = 0; k < FILES_PAIRS && !there; k++) {
        char *path = st_path_join(dir, files_pairs[k][0]);
        there = path && st_path_exists(path);
        free(path);
    }
    return there;
}

/* Opens row k of files_pairs in `dir`; *tried says whether its first file is there. */
static st_status files_open_pair(st_bpe **out, const char *dir, int k, bool *tried, st_err *e)
{
    const char *second = files_pairs[k][1];
    char *vocab = st_path_join(dir, files_pairs[k][0]);
    char *merges = second ? st_path_join(dir, second) : NULL;
    st_status s = ST_OK;
    if (!vocab || (second && !merges)) {
        s = ST_NOMEM(e, dir);
        *tried = true;
    } else if ((*tried = st_path_exists(vocab))) {
        bool pickle = st_name_ends(vocab, ".pkl");
        s = pickle ? st_bpe_open_pickle(out, vocab, e) : files_load(out, dir, vocab, merges, e);
    }
    free(vocab);
    free(merges);
    return s;
}

/* The tokenizer among the keys of a GGUF file. */
static st_status files_gguf(st_bpe **out, const char *path, st_err *e)
{
    st_gguf *g;
    ST_TRY(st_gguf_open(&g, path, true, e));
    st_status s = st_bpe_from_gguf(out, st_gguf_keys(g), path, e);
    st_gguf_close(g);
    return s;
}

bool st_bpe_inside(const char *path)
{
    st_gguf *g;
    if (st_path_is_dir(path) || !st_gguf_is(path) || st_gguf_open(&g, path, false, NULL))
        return false;
    bool inside = json_object_get(st_gguf_keys(g), "tokenizer.ggml.model") != NULL;
    st_gguf_close(g);
    return inside;
}

st_status st_bpe_open(st_bpe **out, const char *path, st_err *e)
{
    *out = NULL;
    if (!st_path_is_dir(path) && st_gguf_is(path)) return files_gguf(out, path, e);
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    bool dir = st_path_is_dir(path), tried = false;
    char *parent = dir     ? strdup(path)
                   : slash ? strndup(path, (size_t)(slash - path) + 1)
                           : strdup(".");
    st_status s = ST_OK;
    if (!parent) return ST_NOMEM(e, path);
    if (!dir && !st_path_exists(path)) {
        tried = true;
        s = ST_ERR(e, ST_EIO, "%s: no such file or folder, expected a tokenizer", path);
    }
    for (int k = 0; k < FILES_PAIRS && !tried; k++) {
        const char *const *row = files_pairs[k];
        if (dir || !strcmp(base, row[0]) || (row[1] && !strcmp(base, row[1]))) {
            s = files_open_pair(out, parent, k, &tried, e);
        }
    }
    if (!tried && !dir && st_name_ends(base, ".json")) {
        tried = true;
        s = files_load(out, parent, path, NULL, e);
    }
    if (!tried && !dir && st_name_ends(base, ".pkl")) {
        tried = true;
        s = st_bpe_open_pickle(out, path, e);
    }
    free(parent);
    if (tried) return s;
    ST_FAIL(e, dir ? ST_EIO : ST_EARG,
            "%s: %s, expected %stokenizer.json, vocab.json + merges.txt, "
            "encoder.json + vocab.bpe, meta.pkl, or a GGUF file",
            path, dir ? "no tokenizer here" : "not a tokenizer file",
            dir ? "" : "a folder with these or one of ");
}
