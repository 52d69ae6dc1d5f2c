/* strut fetch: files of a Hub repository, into the cache or a folder. The list with sizes and
 * checksums comes from the Hub's API (GET api/models/ID/revision/REV?blobs=true), the files from
 * ID/resolve/COMMIT/NAME, which redirects to where large ones are kept. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "hub/inner.h"
#include <dirent.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FETCH_JSON_MAX = 64 << 20, FETCH_FILES_MAX = 100000, FETCH_TRIES = 5 };

typedef struct {
    const st_fetch_opts *o;
    st_hub_repo repo;
    st_hub_transfer t;
    char *endpoint, *token, *url_id, *commit;
    json_t *answer; /* of the API; owns the names below */
    st_hub_file *file;
    int64_t files;
    json_t *list; /* of the result */
    int64_t bytes;
} fetch;

/* ---- the list of files ----------------------------------------------------------------------- */

static st_status fetch_take(void *ctx, const char *data, size_t n, st_err *e)
{
    st_buffer *b = ctx;
    if (n > FETCH_JSON_MAX - b->n) {
        ST_FAIL(e, ST_EFORMAT, "the list of files is longer than %d MiB", FETCH_JSON_MAX >> 20);
    }
    if (!st_buffer_put(b, data, n)) return ST_NOMEM(e, NULL);
    return ST_OK;
}

static st_status fetch_begin(void *ctx, int64_t from, st_err *e)
{
    (void)from, (void)e;
    ((st_buffer *)ctx)->n = 0; /* a second try starts anew */
    return ST_OK;
}

/* GET endpoint/api/... -> f->answer. */
static st_status fetch_api(fetch *f, st_err *e)
{
    st_buffer body = {0};
    st_http_answer a;
    char *url = NULL, *revision = st_url_escape(f->repo.revision, false);
    st_http_request r = {.begin = fetch_begin, .take = fetch_take, .ctx = &body};
    if (!revision || asprintf(&url, "%s/api/%s/%s/revision/%s?blobs=true", f->endpoint,
                              f->repo.dataset ? "datasets" : "models", f->url_id, revision) < 0) {
        free(revision);
        return ST_NOMEM(e, NULL);
    }
    r.url = url;
    st_status s = st_hub_request(&f->t, &r, &a, f->repo.id, e);
    if (!s) s = st_json_parse(&f->answer, body.s ? body.s : "", body.n, url, e);
    free(body.s);
    free(url);
    free(revision);
    return s;
}

/* One entry of "siblings". */
static st_status fetch_sibling(const fetch *f, const json_t *j, st_hub_file *out, st_err *e)
{
    const char *name = json_string_value(json_object_get(j, "rfilename"));
    const json_t *lfs = json_object_get(j, "lfs");
    const char *etag = json_string_value(json_object_get(lfs, "sha256"));
    if (!name || !st_hub_is_path(name)) {
        ST_FAIL(e, ST_EFORMAT, "%s: the Hub lists a file \"%.80s\", which is no path inside it",
                f->repo.id, name ? name : "");
    }
    if (!etag) etag = json_string_value(json_object_get(j, "blobId"));
    const json_t *size = json_object_get(lfs, "size");
    if (!size) size = json_object_get(j, "size");
    *out = (st_hub_file){.name = name, .size = -1};
    if (json_is_integer(size) && json_integer_value(size) >= 0)
        out->size = json_integer_value(size);
    if (etag && (st_hub_is_hex(etag, 40) || st_hub_is_hex(etag, 64)))
        snprintf(out->etag, sizeof out->etag, "%s", etag);
    return ST_OK;
}

static st_status fetch_list(fetch *f, st_err *e)
{
    ST_TRY(fetch_api(f, e));
    const char *sha = json_string_value(json_object_get(f->answer, "sha"));
    const json_t *all = json_object_get(f->answer, "siblings");
    if (!sha || !st_hub_is_hex(sha, 40) || !json_is_array(all)) {
        ST_FAIL(e, ST_EFORMAT,
                "%s: the answer of %s has no commit and list of files; is it a Hub (HF_ENDPOINT)?",
                f->repo.id, f->endpoint);
    }
    if (json_array_size(all) > FETCH_FILES_MAX) {
        ST_FAIL(e, ST_EFORMAT, "%s: lists %zu files, at most %d are handled", f->repo.id,
                json_array_size(all), FETCH_FILES_MAX);
    }
    f->commit = strdup(sha);
    f->file = st_calloc((int64_t)json_array_size(all), sizeof *f->file);
    if (!f->commit || !f->file) return ST_NOMEM(e, NULL);
    size_t i;
    const json_t *j;
    json_array_foreach(all, i, j)
    {
        ST_TRY(fetch_sibling(f, j, &f->file[f->files++], e));
    }
    return ST_OK;
}

/* ---- which of them --------------------------------------------------------------------------- */

/* What strut reads of a model. */
static bool fetch_is_wanted(const char *name, bool safetensors)
{
    static const char *const always[] = {"config.json",        "generation_config.json",
                                         "tokenizer*.json",    "vocab.json",
                                         "merges.txt",         "special_tokens_map.json",
                                         "model*.safetensors", "model.safetensors.index.json"};
    static const char *const old[] = {"pytorch_model*.bin", "pytorch_model.bin.index.json"};
    for (size_t i = 0; i < sizeof always / sizeof *always; i++)
        if (fnmatch(always[i], name, FNM_PATHNAME) == 0) return true;
    for (size_t i = 0; !safetensors && i < 2; i++)
        if (fnmatch(old[i], name, FNM_PATHNAME) == 0) return true;
    return false;
}

static bool fetch_matches(const st_fetch_opts *o, const char *name, bool *seen)
{
    bool any = false;
    for (int i = 0; i < o->nfiles; i++) {
        if (strcmp(o->files[i], name) && fnmatch(o->files[i], name, 0)) continue;
        any = true;
        if (seen) seen[i] = true;
    }
    return any;
}

static st_status fetch_nothing(const fetch *f, const char *pattern, st_err *e)
{
    const char **names = st_calloc(f->files + 1, sizeof *names);
    for (int64_t i = 0; names && i < f->files; i++)
        names[i] = f->file[i].name;
    const char *near = names ? st_nearest(pattern, names) : NULL;
    free(names);
    ST_FAIL(e, ST_EARG, "%s: no file matches \"%s\"%s%s%s (%s at %.12s)", f->repo.id, pattern,
            near ? "; did you mean " : "", near ? near : "", near ? "?" : "",
            st_counted(f->files, "files").s, f->commit);
}

/* Keeps the files that are asked for. */
static st_status fetch_choose(fetch *f, st_err *e)
{
    const st_fetch_opts *o = f->o;
    bool safetensors = false, *seen = st_calloc(o->nfiles + 1, sizeof *seen);
    int64_t kept = 0;
    if (!seen) return ST_NOMEM(e, NULL);
    for (int64_t i = 0; i < f->files; i++)
        safetensors =
            safetensors || fnmatch("model*.safetensors", f->file[i].name, FNM_PATHNAME) == 0;
    st_status s = ST_OK;
    for (int64_t i = 0; i < f->files; i++) {
        const char *name = f->file[i].name;
        if (o->nfiles ? fetch_matches(o, name, seen)
                      : o->dataset || fetch_is_wanted(name, safetensors))
            f->file[kept++] = f->file[i];
    }
    for (int i = 0; !s && i < o->nfiles; i++)
        if (!seen[i]) s = fetch_nothing(f, o->files[i], e);
    free(seen);
    f->files = kept;
    if (!s && kept == 0) {
        s = ST_ERR(e, ST_EARG,
                   "%s: nothing in it that strut reads; name the files, or '*' for all of them",
                   f->repo.id);
    }
    return s;
}

/* ---- one file -------------------------------------------------------------------------------- */

static st_status fetch_url(const fetch *f, const char *name, char **url, st_err *e)
{
    char *escaped = st_url_escape(name, true);
    int n = escaped ? asprintf(url, "%s/%s%s/resolve/%s/%s", f->endpoint,
                               f->repo.dataset ? "datasets/" : "", f->url_id, f->commit, escaped)
                    : -1;
    free(escaped);
    if (n < 0) return ST_NOMEM(e, NULL);
    return ST_OK;
}

/* A list without checksums (a mirror's): asks for the file's headers. */
static st_status fetch_about(fetch *f, st_hub_file *file, const char *url, st_err *e)
{
    st_http_answer a;
    st_http_request r = {.url = url, .head = true};
    if (*file->etag) return ST_OK;
    ST_TRY(st_hub_request(&f->t, &r, &a, file->name, e));
    bool plain = *a.etag && strspn(a.etag, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ"
                                           "RSTUVWXYZ-_") == strlen(a.etag);
    if (!plain || strlen(a.etag) >= sizeof file->etag) {
        ST_FAIL(e, ST_EFORMAT, "%s: %s names no ETag for it, so that it cannot be cached",
                file->name, a.host);
    }
    snprintf(file->etag, sizeof file->etag, "%s", a.etag);
    if (file->size < 0) file->size = a.length;
    return ST_OK;
}

/* Where a file goes and where its parts gather. */
static st_status fetch_places(const fetch *f, const st_hub_file *file, char **path, char **part,
                              st_err *e)
{
    const char *dir = f->o->to ? f->o->to : f->repo.folder;
    *part = NULL;
    int n = f->o->to ? asprintf(path, "%s/%s", dir, file->name)
                     : asprintf(path, "%s/blobs/%s", dir, file->etag);
    if (n < 0) *path = NULL;
    if (!*path || asprintf(part, "%s%s%s.incomplete", *path, f->o->to ? "." : "",
                           f->o->to ? file->etag : "") < 0) {
        *part = NULL;
        return ST_NOMEM(e, NULL);
    }
    char *above = strdup(*path);
    if (!above) return ST_NOMEM(e, NULL);
    *strrchr(above, '/') = '\0';
    st_status s = st_make_dirs(*above ? above : "/", e);
    free(above);
    return s;
}

static bool fetch_has(const fetch *f, const st_hub_file *file, const char *path)
{
    /* A blob appears under its checksum only when that is right; a plain file may be anything. */
    return f->o->to ? st_hub_same(path, file) : st_path_exists(path);
}

static st_status fetch_file(fetch *f, st_hub_file *file, st_err *e)
{
    char *url = NULL, *path = NULL, *part = NULL, *shown = NULL;
    bool there = false;
    st_status s = fetch_url(f, file->name, &url, e);
    if (!s) s = fetch_about(f, file, url, e);
    if (!s) s = fetch_places(f, file, &path, &part, e);
    if (!s) there = fetch_has(f, file, path);
    if (!s && there && file->size > 0) f->t.done += file->size;
    if (!s && !there) s = st_hub_download(&f->t, url, file, path, part, e);
    if (!s && !f->o->to) s = st_hub_link(&f->repo, f->commit, file, e);
    if (!s && !f->o->to &&
        asprintf(&shown, "%s/snapshots/%s/%s", f->repo.folder, f->commit, file->name) < 0)
        shown = NULL;
    if (!s) {
        json_array_append_new(f->list, json_pack("{s:s, s:o, s:I, s:b}", "name", file->name, "path",
                                                 st_json_text(shown ? shown : path), "bytes",
                                                 (json_int_t)file->size, "fetched", !there));
        if (file->size > 0) f->bytes += file->size;
    }
    free(shown);
    free(url);
    free(path);
    free(part);
    return s;
}

/* ---- offline --------------------------------------------------------------------------------- */

/* Lists what the cache has below `dir`; names begin with `lead`. */
static void fetch_walk(fetch *f, const char *dir, const char *lead, int depth)
{
    DIR *d = depth < 16 ? opendir(dir) : NULL;
    for (struct dirent *x; d && (x = readdir(d));) {
        char *path = st_path_join(dir, x->d_name), *name = NULL;
        if (asprintf(&name, "%s%s", lead, x->d_name) < 0) name = NULL;
        bool dots = strcmp(x->d_name, ".") == 0 || strcmp(x->d_name, "..") == 0;
        if (path && name && !dots && st_path_is_dir(path)) {
            char *more = NULL;
            if (asprintf(&more, "%s/", name) >= 0) fetch_walk(f, path, more, depth + 1);
            free(more);
        } else if (path && name && !dots && st_path_exists(path) &&
                   (!f->o->nfiles || fetch_matches(f->o, name, NULL))) {
            json_array_append_new(f->list, json_pack("{s:o, s:o, s:b}", "name", st_json_text(name),
                                                     "path", st_json_text(path), "fetched", 0));
        }
        free(path);
        free(name);
    }
    if (d) closedir(d);
}

static st_status fetch_offline(fetch *f, st_err *e)
{
    char *dir = NULL;
    if (f->o->to) {
        ST_FAIL(e, ST_EARG,
                "%s: HF_HUB_OFFLINE is set, and --to downloads; leave out --to for what "
                "the cache has",
                f->repo.id);
    }
    f->commit = st_hub_commit(&f->repo);
    if (f->commit && asprintf(&dir, "%s/snapshots/%s", f->repo.folder, f->commit) >= 0)
        fetch_walk(f, dir, "", 0);
    free(dir);
    if (json_array_size(f->list)) return ST_OK;
    ST_FAIL(
        e, ST_EIO,
        "%s@%s: HF_HUB_OFFLINE is set and the cache (%s) does not have %s; unset it to download",
        f->repo.id, f->repo.revision, f->repo.folder,
        f->commit && f->o->nfiles ? f->o->files[0] : "it");
}

/* ---- all of it ------------------------------------------------------------------------------- */

static st_status fetch_open(fetch *f, const char *repo, st_err *e)
{
    const char *at = getenv("HF_ENDPOINT"), *stall = getenv("HF_HUB_DOWNLOAD_TIMEOUT");
    ST_TRY(st_hub_open(&f->repo, repo, f->o->dataset, f->o->revision, e));
    f->endpoint = strdup(at && *at ? at : "https://huggingface.co");
    f->url_id = st_url_escape(f->repo.id, true);
    f->list = json_array();
    if (!f->endpoint || !f->url_id || !f->list) return ST_NOMEM(e, NULL);
    for (size_t n = strlen(f->endpoint); n && f->endpoint[n - 1] == '/'; n--)
        f->endpoint[n - 1] = '\0';
    if (strncmp(f->endpoint, "http://", 7) && strncmp(f->endpoint, "https://", 8)) {
        ST_FAIL(e, ST_EARG, "HF_ENDPOINT is \"%s\", expected http://... or https://...",
                f->endpoint);
    }
    f->token = st_hub_token();
    f->t.token = f->token;
    f->t.tries = f->o->tries ? (int)f->o->tries : FETCH_TRIES;
    if (stall && (!st_parse_int(stall, &f->t.stall) || f->t.stall < 1)) f->t.stall = 0;
    return ST_OK;
}

static st_status fetch_run(fetch *f, st_err *e)
{
    ST_TRY(fetch_list(f, e));
    ST_TRY(fetch_choose(f, e));
    for (int64_t i = 0; i < f->files; i++)
        f->t.total += f->file[i].size > 0 ? f->file[i].size : 0;
    for (int64_t i = 0; i < f->files; i++)
        ST_TRY(fetch_file(f, &f->file[i], e));
    st_report(&(st_progress){
        .what = "fetch", .done = f->t.done, .total = f->t.total, .unit = "bytes", .last = true});
    return f->o->to ? ST_OK : st_hub_ref(&f->repo, f->commit, e);
}

st_status st_fetch(const char *repo, const st_fetch_opts *o, json_t **result, st_err *e)
{
    fetch f = {.o = o};
    double start = st_now();
    *result = NULL;
    st_status s = fetch_open(&f, repo, e);
    if (!s) s = st_hub_offline() ? fetch_offline(&f, e) : fetch_run(&f, e);
    if (!s) {
        char *folder = NULL;
        int n = o->to ? asprintf(&folder, "%s", o->to)
                      : asprintf(&folder, "%s/snapshots/%s", f.repo.folder, f.commit);
        if (n < 0) folder = NULL;
        *result = json_pack("{s:s, s:s, s:s, s:o*, s:O, s:I, s:I, s:f}", "repo", f.repo.id,
                            "revision", f.repo.revision, "commit", f.commit, "folder",
                            folder ? st_json_text(folder) : NULL, "files", f.list, "bytes",
                            (json_int_t)f.bytes, "fetched", (json_int_t)f.t.fetched, "seconds",
                            st_now() - start);
        free(folder);
        if (!*result) s = ST_NOMEM(e, NULL);
    }
    st_hub_close(&f.repo);
    json_decref(f.answer);
    json_decref(f.list);
    free(f.endpoint);
    free(f.token);
    free(f.url_id);
    free(f.commit);
    free(f.file);
    return s;
}
