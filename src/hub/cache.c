/* The Hub's cache as huggingface_hub lays it out, so that other programs find what strut fetched
 * and the other way round. In CACHE/models--org--name (or datasets--...):
 *   blobs/ETAG              the content, under its checksum
 *   refs/main               the commit that "main" was last seen at
 *   snapshots/COMMIT/NAME   a link to ../../blobs/ETAG */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "hub/inner.h"
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HUB_NAME_MAX = 96, HUB_PATH_MAX = 1024 };

/* ---- names ----------------------------------------------------------------------------------- */

bool st_hub_is_hex(const char *s, size_t n)
{
    return strlen(s) == n && strspn(s, "0123456789abcdef") == n;
}

bool st_hub_is_path(const char *file)
{
    if (!*file || *file == '/' || strlen(file) > HUB_PATH_MAX) return false;
    for (const char *p = file; *p; p++)
        if ((unsigned char)*p < 32 || *p == 127 || *p == '\\') return false;
    for (const char *part = file; part;) {
        size_t n = strcspn(part, "/");
        if (n == 0 || (n == 1 && part[0] == '.') || (n == 2 && strncmp(part, "..", 2) == 0))
            return false;
        if (n > 255) return false;
        part = part[n] ? part + n + 1 : NULL;
    }
    return true;
}

/* One part of "org/name": letters, digits, - _ . with no "--" or "..", neither first nor last. */
static bool hub_is_name(const char *s, size_t n)
{
    if (n == 0 || n > HUB_NAME_MAX) return false;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        bool sign = c == '-' || c == '.';
        if (c > 127 || (!isalnum(c) && c != '_' && !sign)) return false;
        if (sign && (i == 0 || i + 1 == n || s[i - 1] == s[i])) return false;
    }
    return true;
}

static bool hub_is_id(const char *id)
{
    const char *slash = strchr(id, '/');
    if (!slash) return hub_is_name(id, strlen(id));
    return hub_is_name(id, (size_t)(slash - id)) && hub_is_name(slash + 1, strlen(slash + 1));
}

st_status st_hub_open(st_hub_repo *out, const char *name, bool dataset, const char *revision,
                      st_err *e)
{
    *out = (st_hub_repo){.dataset = dataset};
    const char *at = strchr(name, '@');
    if (at && revision && strcmp(at + 1, revision)) {
        ST_FAIL(e, ST_EARG, "%s: the revision is %s here and %s in the options", name, at + 1,
                revision);
    }
    if (at) revision = at + 1;
    if (!revision) revision = "main";
    char *cache = st_hub_cache(), *id = strndup(name, at ? (size_t)(at - name) : strlen(name));
    st_status s = ST_OK;
    out->id = id;
    out->revision = strdup(revision);
    if (!cache || !id || !out->revision) {
        s = ST_NOMEM(e, NULL);
    } else if (!hub_is_id(id)) {
        s = ST_ERR(e, ST_EARG,
                   "%s: no name of a repository; expected ORG/NAME or NAME of letters, digits and "
                   "-_. (as in openai-community/gpt2)",
                   id);
    } else if (!st_hub_is_path(revision)) {
        s = ST_ERR(e, ST_EARG, "%s: \"%s\" is no name of a branch, tag or commit", id, revision);
    }
    const char *slash = s ? NULL : strchr(id, '/');
    int org = slash ? (int)(slash - id) : 0;
    if (!s && asprintf(&out->folder, "%s/%s--%.*s%s%s", cache, dataset ? "datasets" : "models", org,
                       id, slash ? "--" : "", slash ? slash + 1 : id) < 0) {
        out->folder = NULL;
        s = ST_NOMEM(e, NULL);
    }
    free(cache);
    if (s) st_hub_close(out);
    return s;
}

void st_hub_close(st_hub_repo *r)
{
    free(r->id);
    free(r->revision);
    free(r->folder);
    *r = (st_hub_repo){0};
}

/* ---- environment ----------------------------------------------------------------------------- */

static const char *hub_env(const char *name)
{
    const char *s = getenv(name);
    return s && *s ? s : NULL;
}

/* $HF_HOME or its usual place; new memory. */
static char *hub_home(void)
{
    const char *home = hub_env("HF_HOME"), *cache = hub_env("XDG_CACHE_HOME");
    char *path = NULL;
    if (home) return strdup(home);
    if (cache) return st_path_join(cache, "huggingface");
    const char *user = hub_env("HOME");
    return asprintf(&path, "%s/.cache/huggingface", user ? user : ".") < 0 ? NULL : path;
}

char *st_hub_cache(void)
{
    const char *cache = hub_env("HF_HUB_CACHE");
    if (!cache) cache = hub_env("HUGGINGFACE_HUB_CACHE");
    if (cache) return strdup(cache);
    char *home = hub_home(), *path = home ? st_path_join(home, "hub") : NULL;
    free(home);
    return path;
}

bool st_hub_offline(void)
{
    static const char *const yes[] = {"1", "on", "yes", "true"};
    const char *s = hub_env("HF_HUB_OFFLINE");
    if (!s) s = hub_env("TRANSFORMERS_OFFLINE");
    for (size_t i = 0; s && i < sizeof yes / sizeof *yes; i++)
        if (strcasecmp(s, yes[i]) == 0) return true;
    return false;
}

/* Its first line; NULL where it has a character that may not stand in a header. */
static char *hub_clean_token(char *s)
{
    size_t n = s ? strcspn(s, "\r\n") : 0;
    while (n && isspace((unsigned char)s[n - 1]))
        n--;
    bool ok = n > 0;
    for (size_t i = 0; i < n; i++)
        ok = ok && (unsigned char)s[i] > 32 && (unsigned char)s[i] < 127;
    if (ok) {
        s[n] = '\0';
        return s;
    }
    free(s);
    return NULL;
}

char *st_hub_token(void)
{
    const char *env = hub_env("HF_TOKEN"), *file = hub_env("HF_TOKEN_PATH");
    if (!env) env = hub_env("HUGGING_FACE_HUB_TOKEN");
    if (env) return hub_clean_token(strdup(env));
    char *home = hub_home(), *text = NULL,
         *path = file   ? strdup(file)
                 : home ? st_path_join(home, "token")
                        : NULL;
    size_t n;
    if (path && st_path_exists(path)) st_read_file(path, 4096, &text, &n, NULL);
    free(home);
    free(path);
    return hub_clean_token(text);
}

/* ---- the cache ------------------------------------------------------------------------------- */

char *st_hub_commit(const st_hub_repo *r)
{
    char *path = NULL, *text = NULL;
    size_t n = 0;
    if (st_hub_is_hex(r->revision, 40)) return strdup(r->revision);
    if (asprintf(&path, "%s/refs/%s", r->folder, r->revision) < 0) return NULL;
    if (st_path_exists(path)) st_read_file(path, 4096, &text, &n, NULL);
    free(path);
    if (text) text[strcspn(text, "\r\n ")] = '\0';
    if (text && st_hub_is_hex(text, 40)) return text;
    free(text);
    return NULL;
}

char *st_hub_find(const char *repo, bool dataset, const char *revision, const char *file)
{
    st_hub_repo r;
    char *path = NULL;
    if (!st_hub_is_path(file) || st_hub_open(&r, repo, dataset, revision, NULL)) return NULL;
    char *commit = st_hub_commit(&r);
    if (commit && asprintf(&path, "%s/snapshots/%s/%s", r.folder, commit, file) < 0) path = NULL;
    free(commit);
    st_hub_close(&r);
    if (path && st_path_exists(path) && !st_path_is_dir(path)) return path;
    free(path);
    return NULL;
}

/* Folders above `path`. */
static st_status hub_parents(const char *path, st_err *e)
{
    char *dir = strdup(path);
    if (!dir) return ST_NOMEM(e, NULL);
    *strrchr(dir, '/') = '\0';
    st_status s = st_make_dirs(dir, e);
    free(dir);
    return s;
}

/* A link beside its place, renamed into it: there is always the old one or the new one. */
static st_status hub_symlink(const char *target, const char *path, st_err *e)
{
    char *temp = NULL;
    if (asprintf(&temp, "%s.%ld", path, (long)getpid()) < 0) return ST_NOMEM(e, NULL);
    unlink(temp);
    int why = symlink(target, temp) || rename(temp, path) ? errno : 0;
    if (why) unlink(temp);
    free(temp);
    if (why) ST_FAIL(e, ST_EIO, "%s: the link cannot be made: %s", path, strerror(why));
    return ST_OK;
}

st_status st_hub_link(const st_hub_repo *r, const char *commit, const st_hub_file *f, st_err *e)
{
    char *path = NULL, up[3 * (HUB_PATH_MAX / 2 + 3) + 8] = "", *target = NULL;
    for (const char *p = f->name; p; p = strchr(p, '/') ? strchr(p, '/') + 1 : NULL)
        strcat(up, "../");
    if (asprintf(&path, "%s/snapshots/%s/%s", r->folder, commit, f->name) < 0) path = NULL;
    if (asprintf(&target, "%s../blobs/%s", up, f->etag) < 0) target = NULL;
    st_status s = path && target ? hub_parents(path, e) : ST_NOMEM(e, NULL);
    if (!s) s = hub_symlink(target, path, e);
    free(path);
    free(target);
    return s;
}

st_status st_hub_ref(const st_hub_repo *r, const char *commit, st_err *e)
{
    char *path = NULL;
    if (strcmp(r->revision, commit) == 0) return ST_OK;
    if (asprintf(&path, "%s/refs/%s", r->folder, r->revision) < 0) return ST_NOMEM(e, NULL);
    st_status s = hub_parents(path, e);
    if (!s) s = st_write_file(path, commit, strlen(commit), e);
    free(path);
    return s;
}
