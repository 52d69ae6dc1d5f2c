/* Token shards as one stream: a file, the files of a folder, or those that a pattern names. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "text/shard.h"
#include <ctype.h>
#include <dirent.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>

enum { SHARD_BLOCK = 1 << 14, SHARD_PARTS = 1 << 16 };

/* ---- names ----------------------------------------------------------------------------------- */

bool st_shard_is(const char *path)
{
    return st_name_ends(path, ".bin") || st_name_ends(path, ".npy");
}

/* What a file's name says of it: 1 validation, 2 test, else 0 training. */
static int shard_side(const char *name)
{
    static const char *const words[] = {"val", "valid", "validation", "dev", "test"};
    for (const char *at = name; *at;) {
        size_t n = 0;
        while (isalpha((unsigned char)at[n]))
            n++;
        for (size_t i = 0; n && i < sizeof words / sizeof *words; i++)
            if (strlen(words[i]) == n && !strncasecmp(at, words[i], n)) return i == 4 ? 2 : 1;
        at += n ? n : 1;
    }
    return 0;
}

static int shard_order(const void *a, const void *b)
{
    return strcmp((*(struct dirent *const *)a)->d_name, (*(struct dirent *const *)b)->d_name);
}

/* Shards of a folder, of one side (-1: all), as a list of paths with newlines between; NULL: none.
 */
static char *shard_folder(const char *dir, int side)
{
    struct dirent **entry;
    char *list = NULL;
    int n = scandir(dir, &entry, NULL, NULL);
    if (n > 0) qsort(entry, (size_t)n, sizeof *entry, shard_order);
    for (int i = 0; i < n; i++) {
        const char *name = entry[i]->d_name;
        bool wanted = *name != '.' && st_shard_is(name) && (side < 0 || shard_side(name) == side);
        char *path = wanted ? st_path_join(dir, name) : NULL, *more = NULL;
        if (path && asprintf(&more, "%s%s%s", list ? list : "", list ? "\n" : "", path) >= 0) {
            free(list);
            list = more;
        }
        free(path);
        free(entry[i]);
    }
    if (n >= 0) free(entry);
    return list;
}

/* The shards of folders within, called train or by one of the words of validation; NULL: none. */
static char *shard_inner(const char *dir, bool val)
{
    struct dirent **entry;
    char *list = NULL;
    int n = scandir(dir, &entry, NULL, NULL);
    for (int i = 0; i < n; i++) {
        const char *name = entry[i]->d_name;
        bool wanted = val ? shard_side(name) == 1
                          : !strcasecmp(name, "train") || !strcasecmp(name, "training");
        char *path = wanted && !list ? st_path_join(dir, name) : NULL;
        if (path && st_path_is_dir(path)) list = shard_folder(path, -1);
        free(path);
        free(entry[i]);
    }
    if (n >= 0) free(entry);
    return list;
}

char *st_shard_path(const char *dir, bool val)
{
    static const char *const name[2][3] = {{"train.bin", "train.npy"},
                                           {"val.bin", "val.npy", "validation.npy"}};
    for (int i = 0; i < 3 && name[val][i]; i++) {
        char *path = st_path_join(dir, name[val][i]);
        if (!path || st_path_exists(path)) return path;
        free(path);
    }
    char *list = shard_folder(dir, val);
    if (!list) list = shard_inner(dir, val);
    return list ? list : st_path_join(dir, name[val][0]);
}

bool st_shard_there(const char *path)
{
    char *first = strndup(path, strcspn(path, "\n"));
    bool there = first && st_path_is_file(first);
    free(first);
    return there;
}

bool st_shard_folder_is(const char *path)
{
    char *list = st_path_is_dir(path) ? shard_folder(path, -1) : NULL;
    bool is = list != NULL;
    free(list);
    return is;
}

/* The files that a pattern names, sorted, as such a list; NULL: none. */
static char *shard_glob(const char *pattern)
{
    glob_t found;
    char *list = NULL;
    if (glob(pattern, 0, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc; i++) {
            char *more = NULL;
            if (asprintf(&more, "%s%s%s", list ? list : "", list ? "\n" : "", found.gl_pathv[i]) <
                0)
                break;
            free(list);
            list = more;
        }
    }
    globfree(&found);
    return list;
}

/* ---- opening --------------------------------------------------------------------------------- */

static st_status shard_add(st_shard *s, const char *path, st_err *e)
{
    if (s->parts == SHARD_PARTS) ST_FAIL(e, ST_EARG, "%s: more than %d shards", path, SHARD_PARTS);
    if ((s->parts & (s->parts - 1)) == 0) {
        size_t room = s->parts ? 2 * (size_t)s->parts : 1;
        st_shard_part *more = realloc(s->part, room * sizeof *more);
        if (!more) return ST_NOMEM(e, path);
        s->part = more;
    }
    st_shard_part *p = &s->part[s->parts];
    ST_TRY(st_part_open(p, path, e));
    s->parts++;
    p->from = s->n;
    p->path = strdup(path);
    s->n += p->n;
    s->bytes += p->bytes;
    s->format = s->part[0].format;
    return p->path ? ST_OK : ST_NOMEM(e, path);
}

/* The paths of a list. */
static st_status shard_list(st_shard *s, char *list, st_err *e)
{
    char *save = NULL;
    for (char *path = strtok_r(list, "\n", &save); path; path = strtok_r(NULL, "\n", &save))
        ST_TRY(shard_add(s, path, e));
    return ST_OK;
}

st_status st_shard_open(st_shard *out, const char *path, st_err *e)
{
    *out = (st_shard){0};
    bool there = st_path_exists(path), folder = there && st_path_is_dir(path);
    char *list = folder                           ? shard_folder(path, -1)
                 : !there && strpbrk(path, "*?[") ? shard_glob(path)
                                                  : strdup(path);
    st_status s = list ? shard_list(out, list, e)
                       : ST_ERR(e, ST_EIO, "%s: no shards of tokens (.bin, .npy) %s", path,
                                folder ? "in this folder" : "of such a name");
    free(list);
    if (s) st_shard_close(out);
    return s;
}

void st_shard_close(st_shard *s)
{
    for (int64_t i = 0; i < s->parts; i++) {
        free(s->part[i].path);
        st_part_close(&s->part[i]);
    }
    free(s->part);
    *s = (st_shard){0};
}

/* ---- ids ------------------------------------------------------------------------------------- */

/* The file that has id `at` of the stream. */
static const st_shard_part *shard_part(const st_shard *s, int64_t at)
{
    int64_t lo = 0, hi = s->parts;
    while (hi - lo > 1) {
        int64_t mid = lo + (hi - lo) / 2;
        if (s->part[mid].from <= at)
            lo = mid;
        else
            hi = mid;
    }
    return &s->part[lo];
}

void st_shard_read(const st_shard *s, int64_t at, int64_t n, int32_t *ids)
{
    while (n > 0) {
        const st_shard_part *p = shard_part(s, at);
        int64_t left = p->from + p->n - at, take = n < left ? n : left;
        st_part_read(p, at - p->from, take, ids);
        ids += take;
        at += take;
        n -= take;
    }
}

st_status st_shard_check(const st_shard *s, int64_t vocab, st_err *e)
{
    int32_t id[SHARD_BLOCK];
    for (int64_t i = 0; i < s->n; i += SHARD_BLOCK) {
        int64_t n = s->n - i < SHARD_BLOCK ? s->n - i : SHARD_BLOCK, k = 0;
        uint32_t most = 0;
        st_shard_read(s, i, n, id);
        for (int64_t j = 0; j < n; j++)
            most = (uint32_t)id[j] > most ? (uint32_t)id[j] : most;
        if (most < (uint64_t)vocab) continue;
        while ((uint32_t)id[k] < (uint64_t)vocab)
            k++;
        const st_shard_part *p = shard_part(s, i + k);
        ST_FAIL(e, ST_EFORMAT,
                "%s: token %lld is %d, but the vocabulary has %lld ids; was it prepared "
                "with another tokenizer?",
                p->path, (long long)(i + k - p->from), id[k], (long long)vocab);
    }
    return ST_OK;
}
