/* The files of paths and folders, sorted, without holding more than the folders on the way. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { WALK_DEPTH = 128 };

/* An open folder: its names, sorted, and the one that is next. */
typedef struct {
    char *path, *text; /* the names, each with its NUL */
    char **name;       /* into text */
    int64_t n, next;
    dev_t dev;
    ino_t ino;
} walk_folder;

struct st_walk {
    const char *const *path;
    int paths, next;
    walk_folder folder[WALK_DEPTH];
    int depth;
    char *current;
};

static int walk_compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names in an open folder, one after the other. */
static st_status walk_names(DIR *dir, walk_folder *f, st_err *e)
{
    size_t used = 0, cap = 0;
    errno = 0;
    for (struct dirent *d; (d = readdir(dir)); errno = 0) {
        if (d->d_name[0] == '.') continue;
        size_t n = strlen(d->d_name) + 1;
        if (used + n > cap) {
            char *more = realloc(f->text, cap = 2 * cap + n + 4096);
            if (!more) ST_FAIL(e, ST_ENOMEM, "%s: out of memory for its file names", f->path);
            f->text = more;
        }
        memcpy(f->text + used, d->d_name, n);
        used += n;
        f->n++;
    }
    if (errno) ST_FAIL(e, ST_EIO, "%s: cannot be read: %s", f->path, strerror(errno));
    f->name = st_calloc(f->n + 1, sizeof *f->name);
    if (!f->name) ST_FAIL(e, ST_ENOMEM, "%s: out of memory for its file names", f->path);
    char *p = f->text;
    for (int64_t i = 0; i < f->n; i++, p += strlen(p) + 1)
        f->name[i] = p;
    if (f->n) qsort(f->name, (size_t)f->n, sizeof *f->name, walk_compare);
    return ST_OK;
}

static void walk_leave(st_walk *w)
{
    walk_folder *f = &w->folder[--w->depth];
    free(f->path);
    free(f->text);
    free(f->name);
    *f = (walk_folder){0};
}

static st_status walk_enter(st_walk *w, const char *path, const struct stat *st, st_err *e)
{
    for (int i = 0; i < w->depth; i++) {
        if (w->folder[i].dev != st->st_dev || w->folder[i].ino != st->st_ino) continue;
        st_log(ST_LOG_WARN, "%s: a link to a folder around it, not followed", path);
        return ST_OK;
    }
    if (w->depth == WALK_DEPTH) {
        ST_FAIL(e, ST_EUNSUPPORTED, "%s: more than %d folders in each other", path, WALK_DEPTH);
    }
    walk_folder *f = &w->folder[w->depth++];
    *f = (walk_folder){.path = strdup(path), .dev = st->st_dev, .ino = st->st_ino};
    if (!f->path) return ST_NOMEM(e, path);
    DIR *dir = opendir(path);
    if (!dir) ST_FAIL(e, ST_EIO, "%s: %s", path, strerror(errno));
    st_status s = walk_names(dir, f, e);
    closedir(dir);
    return s;
}

st_status st_walk_open(st_walk **out, const char *const *paths, int n, st_err *e)
{
    *out = st_calloc(1, sizeof **out);
    if (!*out) return ST_NOMEM(e, NULL);
    (*out)->path = paths;
    (*out)->paths = n;
    return ST_OK;
}

st_status st_walk_next(st_walk *w, const char **path, st_err *e)
{
    *path = NULL;
    for (;;) {
        walk_folder *top = w->depth ? &w->folder[w->depth - 1] : NULL;
        if (top && top->next == top->n) {
            walk_leave(w);
            continue;
        }
        if (!top && w->next == w->paths) return ST_OK;
        free(w->current);
        w->current =
            top ? st_path_join(top->path, top->name[top->next++]) : strdup(w->path[w->next++]);
        if (!w->current) ST_FAIL(e, ST_ENOMEM, "out of memory for a file name");
        struct stat st;
        if (stat(w->current, &st)) {
            if (!top) ST_FAIL(e, ST_EIO, "%s: %s", w->current, strerror(errno));
            *path = w->current;
            return ST_OK;
        }
        if (S_ISDIR(st.st_mode)) {
            ST_TRY(walk_enter(w, w->current, &st, e));
        } else if (!top || S_ISREG(st.st_mode)) {
            *path = w->current; /* a pipe is fine where it was named, not where it was found */
            return ST_OK;
        } else {
            st_log(ST_LOG_WARN, "%s: not a plain file, left out", w->current);
        }
    }
}

bool st_walk_named(const st_walk *w)
{
    return w->depth == 0;
}

void st_walk_close(st_walk *w)
{
    if (!w) return;
    while (w->depth)
        walk_leave(w);
    free(w->current);
    free(w);
}
