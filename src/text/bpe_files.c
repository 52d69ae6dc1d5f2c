/* Reading a byte-level BPE: tokenizer.json (Hugging Face), vocab.json + merges.txt, or OpenAI's
 * encoder.json + vocab.bpe. All of it is checked before any of it is used: ids 0..n-1 once each,
 * all bytes there, merges of known tokens into known tokens, nothing that would tokenize otherwise
 * than GPT-2's code does. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "text/bpe.h"
#include <stdlib.h>
#include <string.h>

static const size_t files_max = (size_t)256 << 20;

typedef struct {
    const char *text;
    size_t n;
    uint8_t flags;
} files_name;

/* What is read before the tokenizer is made from it. */
typedef struct {
    const char *what;    /* for errors */
    const json_t *vocab; /* name -> id */
    json_t *added;       /* list of added tokens, with those of the files beside */
    files_name *name;    /* by id, n of them */
    int64_t n;
    st_bpe_merge *merge;
    int64_t n_merges, cap_merges;
    size_t bytes;
    bool chars; /* tokens are characters, not bytes spelled as some */
} files_draft;

/* A name for a message: at most 40 bytes, without control characters. */
typedef struct {
    char s[48];
} files_text;
static files_text files_show(const char *s, size_t n)
{
    files_text t = {{0}};
    size_t k = n < 40 ? n : 40;
    for (size_t i = 0; i < k; i++)
        t.s[i] = (uint8_t)s[i] < 32 || s[i] == 127 ? '?' : s[i];
    if (n > k) memcpy(t.s + k, "...", 4);
    return t;
}

/* ---- the vocabulary -------------------------------------------------------------------------- */

static st_status files_place(files_draft *d, const char *text, size_t n, const json_t *id,
                             uint8_t flags, st_err *e)
{
    files_text shown = files_show(text, n);
    if (!json_is_integer(id)) {
        ST_FAIL(e, ST_EFORMAT, "%s: token \"%s\": its id is not a whole number", d->what, shown.s);
    }
    int64_t at = json_integer_value(id);
    if (at < 0 || at >= d->n) {
        ST_FAIL(e, ST_EFORMAT,
                "%s: token \"%s\" has id %lld; %lld tokens must have the ids 0 to %lld", d->what,
                shown.s, (long long)at, (long long)d->n, (long long)d->n - 1);
    }
    if (d->name[at].text) {
        ST_FAIL(e, ST_EFORMAT, "%s: tokens \"%s\" and \"%s\" have the same id %lld", d->what,
                files_show(d->name[at].text, d->name[at].n).s, shown.s, (long long)at);
    }
    if (n == 0) ST_FAIL(e, ST_EFORMAT, "%s: token %lld is empty", d->what, (long long)at);
    d->name[at] = (files_name){text, n, flags};
    d->bytes += n;
    return ST_OK;
}

/* An entry of added_tokens: its name, whether the vocabulary has it too, its id. */
static st_status files_added(const files_draft *d, const json_t *entry, const json_t **content,
                             const json_t **twin, const json_t **id, st_err *e)
{
    *content = json_object_get(entry, "content");
    *id = json_object_get(entry, "id");
    if (!json_is_string(*content) || !json_is_integer(*id)) {
        ST_FAIL(e, ST_EFORMAT, "%s: added_tokens: an entry without content and id", d->what);
    }
    const char *text = json_string_value(*content);
    size_t n = json_string_length(*content);
    *twin = json_object_getn(d->vocab, text, n);
    if (*twin && !json_equal(*twin, *id)) {
        ST_FAIL(e, ST_EFORMAT,
                "%s: token \"%s\" has one id in the vocabulary and another in "
                "added_tokens",
                d->what, files_show(text, n).s);
    }
    return ST_OK;
}

/* How an added token is found in text. */
static uint8_t files_flags(const json_t *entry)
{
    static const struct {
        const char *key;
        int flag;
    } keys[] = {{"lstrip", ST_BPE_LEFT}, {"rstrip", ST_BPE_RIGHT}, {"single_word", ST_BPE_WORD}};
    int flags = json_is_true(json_object_get(entry, "special")) ? ST_BPE_SPECIAL : ST_BPE_ADDED;
    for (int i = 0; i < 3; i++)
        flags |= json_is_true(json_object_get(entry, keys[i].key)) ? keys[i].flag : 0;
    if (json_is_false(json_object_get(entry, "normalized"))) flags |= ST_BPE_LITERAL;
    return (uint8_t)flags;
}

static st_status files_vocab(files_draft *d, st_err *e)
{
    const json_t *entry, *content, *twin, *id;
    size_t i;
    if (!json_is_object(d->vocab) || json_object_size(d->vocab) == 0) {
        ST_FAIL(e, ST_EFORMAT, "%s: no vocabulary, expected an object of token: id", d->what);
    }
    if (!json_is_array(d->added)) {
        ST_FAIL(e, ST_EFORMAT, "%s: added_tokens is not a list", d->what);
    }
    d->n = (int64_t)json_object_size(d->vocab);
    json_array_foreach(d->added, i, entry)
    {
        ST_TRY(files_added(d, entry, &content, &twin, &id, e));
        if (!twin) d->n++;
    }
    d->name = st_calloc(d->n, sizeof *d->name);
    if (!d->name || d->n > INT32_MAX) return ST_NOMEM(e, d->what);
    for (void *it = json_object_iter((json_t *)(uintptr_t)d->vocab); it;
         it = json_object_iter_next((json_t *)(uintptr_t)d->vocab, it)) {
        ST_TRY(files_place(d, json_object_iter_key(it), json_object_iter_key_len(it),
                           json_object_iter_value(it), 0, e));
    }
    json_array_foreach(d->added, i, entry)
    {
        ST_TRY(files_added(d, entry, &content, &twin, &id, e));
        if (twin)
            d->name[json_integer_value(id)].flags |= files_flags(entry);
        else
            ST_TRY(files_place(d, json_string_value(content), json_string_length(content), id,
                               files_flags(entry), e));
    }
    return ST_OK;
}

/* ---- merges ---------------------------------------------------------------------------------- */

static st_status files_part(const files_draft *d, const char *s, size_t n, const char *where,
                            int32_t *id, st_err *e)
{
    const json_t *v = json_object_getn(d->vocab, s, n);
    if (!v) {
        ST_FAIL(e, ST_EFORMAT, "%s: merge of \"%s\", which is not in the vocabulary", where,
                files_show(s, n).s);
    }
    *id = (int32_t)json_integer_value(v);
    return ST_OK;
}

/* One more merge, of the names a and b. */
static st_status files_merge(files_draft *d, const char *a, size_t an, const char *b, size_t bn,
                             const char *where, st_err *e)
{
    if (an + bn > 65536 || an == 0 || bn == 0) {
        ST_FAIL(e, ST_EFORMAT, "%s: a merge of tokens of %zu and %zu bytes", where, an, bn);
    }
    if (d->n_merges == d->cap_merges) {
        int64_t cap = d->cap_merges ? d->cap_merges * 2 : 65536;
        st_bpe_merge *more = realloc(d->merge, (size_t)cap * sizeof *more);
        if (!more) return ST_NOMEM(e, where);
        d->merge = more;
        d->cap_merges = cap;
    }
    st_bpe_merge *m = &d->merge[d->n_merges];
    char *both = malloc(an + bn), *bytes = malloc(an + bn);
    size_t unused;
    st_status s = ST_OK;
    if (!both || !bytes) {
        s = ST_NOMEM(e, where);
    } else {
        memcpy(both, a, an);
        memcpy(both + an, b, bn);
        if (!st_bpe_unspell(both, an + bn, bytes, &unused)) {
            s = ST_ERR(e, ST_EFORMAT,
                       "%s: merge into \"%s\", which is not in GPT-2's byte alphabet", where,
                       files_show(both, an + bn).s);
        }
        if (!s) s = files_part(d, a, an, where, &m->left, e);
        if (!s) s = files_part(d, b, bn, where, &m->right, e);
        if (!s) s = files_part(d, both, an + bn, where, &m->id, e);
    }
    free(both);
    free(bytes);
    if (!s) d->n_merges++;
    return s;
}

/* "left right", as in merges.txt and in older tokenizer.json. */
static st_status files_merge_line(files_draft *d, const char *line, size_t n, const char *where,
                                  st_err *e)
{
    const char *space = memchr(line, ' ', n);
    size_t an = space ? (size_t)(space - line) : n;
    if (!space || memchr(space + 1, ' ', n - an - 1)) {
        ST_FAIL(e, ST_EFORMAT,
                "%s: \"%s\" is not a merge, expected two tokens and one space between "
                "them",
                where, files_show(line, n).s);
    }
    return files_merge(d, line, an, space + 1, n - an - 1, where, e);
}

static st_status files_merges_text(files_draft *d, const char *path, st_err *e)
{
    char *text, where[400];
    size_t n;
    ST_TRY(st_read_file(path, files_max, &text, &n, e));
    st_status s = ST_OK;
    int64_t line = 0;
    for (size_t i = 0, end; i < n && !s; i = end + 1) {
        const char *newline = memchr(text + i, '\n', n - i);
        end = newline ? (size_t)(newline - text) : n;
        size_t len = end - i;
        if (len && text[i + len - 1] == '\r') len--;
        if (++line == 1 && len >= 8 && !memcmp(text + i, "#version", 8)) continue;
        if (len == 0) continue;
        snprintf(where, sizeof where, "%.300s:%lld", path, (long long)line);
        s = files_merge_line(d, text + i, len, where, e);
    }
    free(text);
    return s;
}

static st_status files_merges_json(files_draft *d, const json_t *merges, st_err *e)
{
    char where[400];
    const json_t *entry;
    size_t i;
    if (!json_is_array(merges)) {
        ST_FAIL(e, ST_EFORMAT, "%s: model.merges is not a list", d->what);
    }
    json_array_foreach(merges, i, entry)
    {
        const json_t *a = json_array_get(entry, 0), *b = json_array_get(entry, 1);
        snprintf(where, sizeof where, "%.300s: model.merges[%zu]", d->what, i);
        if (json_is_string(entry)) {
            ST_TRY(
                files_merge_line(d, json_string_value(entry), json_string_length(entry), where, e));
        } else if (json_array_size(entry) == 2 && json_is_string(a) && json_is_string(b)) {
            ST_TRY(files_merge(d, json_string_value(a), json_string_length(a), json_string_value(b),
                               json_string_length(b), where, e));
        } else {
            ST_FAIL(e, ST_EFORMAT, "%s: expected \"left right\" or [\"left\", \"right\"]", where);
        }
    }
    return ST_OK;
}

/* ---- from draft to tokenizer ----------------------------------------------------------------- */

static st_status files_make(const files_draft *d, st_bpe **out, st_err *e)
{
    st_bpe *b;
    ST_TRY(st_bpe_make(&b, d->n, d->bytes, d->n_merges, e));
    for (int64_t id = 0; id < d->n; id++) {
        const files_name *name = &d->name[id];
        char *bytes = b->bytes + b->start[id];
        size_t n;
        b->flags[id] = name->flags;
        if (d->chars || !st_bpe_unspell(name->text, name->n, bytes, &n)) {
            b->flags[id] |= ST_BPE_RAW;
            n = name->n;
            memcpy(bytes, name->text, n);
        }
        b->start[id + 1] = b->start[id] + n;
    }
    if (d->n_merges) memcpy(b->merge, d->merge, (size_t)d->n_merges * sizeof *b->merge);
    st_status s = d->chars ? st_bpe_link_chars(b, d->what, e) : st_bpe_link(b, d->what, e);
    if (s)
        st_bpe_close(b);
    else
        *out = b;
    return s;
}

/* Both files of `dir`; `merges` NULL: `vocab` is a tokenizer.json. */
static st_status files_load(st_bpe **out, const char *dir, const char *vocab, const char *merges,
                            st_err *e)
{
    files_draft d = {.what = vocab, .added = json_array()};
    st_bpe_beside beside = {0};
    json_t *root = NULL;
    st_status s = st_json_load(&root, vocab, files_max, e);
    d.vocab = root;
    if (!s && !merges) {
        d.chars = st_bpe_is_chars(root);
        s = d.chars ? st_bpe_check_chars(root, vocab, e) : st_bpe_check_json(root, vocab, e);
        d.vocab = json_object_get(json_object_get(root, "model"), "vocab");
        json_t *added = json_object_get(root, "added_tokens");
        if (added && !json_is_null(added)) {
            json_decref(d.added);
            d.added = json_is_array(added) ? json_copy(added) : json_incref(added);
        }
    }
    if (!s && json_is_array(d.added)) s = st_bpe_beside_open(&beside, dir, d.added, e);
    if (!s) s = files_vocab(&d, e);
    if (!s && !d.chars) {
        const json_t *list = json_object_get(json_object_get(root, "model"), "merges");
        s = merges ? files_merges_text(&d, merges, e) : files_merges_json(&d, list, e);
    }
    if (!s) s = files_make(&d, out, e);
    if (!s && !d.chars) st_bpe_beside_roles(&beside, *out);
    st_bpe_beside_close(&beside);
    json_decref(d.added);
    free(d.name);
    free(d.merge);
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

st_status st_bpe_open(st_bpe **out, const char *path, st_err *e)
{
    *out = NULL;
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
            "encoder.json + vocab.bpe, or meta.pkl",
            path, dir ? "no tokenizer here" : "not a tokenizer file",
            dir ? "" : "a folder with these or one of ");
}
