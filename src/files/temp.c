/* Temporary files and folders that take the place of others by rename. While its maker lives a
 * temporary is locked with flock(2): whoever can lock one knows that its maker is gone, also across
 * containers and hosts that share a disk, where process numbers say nothing. */
/* SPDX-License-Identifier: MIT */
#include "files/temp.h"
#include "files/files.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* Bytes of a long name kept in its temporary's name, which must stay under NAME_MAX (255). */
enum { TEMP_NAME = 200, TEMP_TRIES = 1000 };

st_status st_temp_target(char **out, const char *path, st_err *e)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    if (n == 0) ST_FAIL(e, ST_EARG, "an empty path was given where a file or folder is expected");
    char *plain = strndup(path, n);
    if (!plain) return ST_NOMEM(e, path);
    struct stat st;
    if (lstat(plain, &st) || !S_ISLNK(st.st_mode)) {
        *out = plain;
        return ST_OK;
    }
    *out = realpath(plain, NULL);
    free(plain);
    if (!*out) {
        ST_FAIL(e, ST_EARG,
                "%s: a symbolic link that leads nowhere (%s); remove it or make its "
                "target",
                path, strerror(errno));
    }
    return ST_OK;
}

static const char *temp_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

char *st_temp_parent(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash) return strdup(".");
    return strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

/* "PARENT/.NAME.KIND-" */
static char *temp_stem(const char *target, const char *kind)
{
    const char *base = temp_base(target);
    char *stem;
    int lead = (int)(base - target), keep = (int)strnlen(base, TEMP_NAME);
    return asprintf(&stem, "%.*s.%.*s.%s-", lead, target, keep, base, kind) < 0 ? NULL : stem;
}

static char *temp_name(const char *target, const char *kind, int n)
{
    char *stem = temp_stem(target, kind), *name = NULL;
    if (stem && asprintf(&name, "%s%ld-%d", stem, (long)getpid(), n) < 0) name = NULL;
    free(stem);
    return name;
}

/* The tail of a temporary's name: "PID-N". */
static bool temp_is_tail(const char *s)
{
    size_t a = strspn(s, "0123456789");
    if (a == 0 || s[a] != '-') return false;
    size_t b = strspn(s + a + 1, "0123456789");
    return b > 0 && s[a + 1 + b] == '\0';
}

static bool temp_same(int fd, const char *path)
{
    struct stat a, b;
    return fstat(fd, &a) == 0 && lstat(path, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

static int temp_remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st;
    (void)type;
    (void)where;
    remove(path); /* best effort: what cannot be removed stays, under its hidden name */
    return 0;
}

void st_temp_remove(const char *path)
{
    nftw(path, temp_remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* A leftover whose maker is gone: an old folder set aside is put back if its place is empty (the
 * maker died between two renames), anything else is removed. */
static void temp_sweep_one(const char *path, const char *target, bool aside)
{
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0 && temp_same(fd, path)) {
        bool back = aside && access(target, F_OK) != 0 && rename(path, target) == 0;
        if (!back) st_temp_remove(path);
    }
    close(fd);
}

void st_temp_sweep(const char *target)
{
    char *parent = st_temp_parent(target);
    DIR *dir = parent ? opendir(parent) : NULL;
    /* "strutold" first: where the place is empty the old folder must be back before others go. */
    for (int pass = 0; dir && pass < 2; pass++, rewinddir(dir)) {
        char *stem = temp_stem(target, pass == 0 ? "strutold" : "strut");
        if (!stem) break;
        const char *name = temp_base(stem);
        size_t n = strlen(name);
        for (struct dirent *d; (d = readdir(dir));) {
            if (strncmp(d->d_name, name, n) || !temp_is_tail(d->d_name + n)) continue;
            char *path;
            if (asprintf(&path, "%s/%s", parent, d->d_name) < 0) break;
            temp_sweep_one(path, target, pass == 0);
            free(path);
        }
        free(stem);
    }
    if (dir) closedir(dir);
    free(parent);
}

void st_sweep_folder(const char *folder)
{
    DIR *dir = opendir(folder);
    for (struct dirent *d; dir && (d = readdir(dir));) {
        char *name = d->d_name[0] == '.' ? strdup(d->d_name + 1) : NULL, *tail = NULL;
        for (char *p = name; p && (p = strstr(p, ".strut")); p++)
            tail = p; /* the last: names may have it too */
        if (tail && tail > name) {
            *tail = '\0';
            char *target;
            if (asprintf(&target, "%s/%s", folder, name) >= 0) {
                st_temp_sweep(target);
                free(target);
            }
        }
        free(name);
    }
    if (dir) closedir(dir);
}

/* Creates `name` and locks it. 0, or -1 with errno; EEXIST: the name is taken, try another. */
static int temp_create(const char *name, int *fd, bool folder)
{
    if (folder) {
        if (mkdir(name, 0777)) return -1;
        *fd = open(name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    } else {
        *fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    }
    if (*fd < 0) {
        int why = errno;
        if (folder) rmdir(name);
        errno = why;
        return -1;
    }
    bool locked = flock(*fd, LOCK_EX | LOCK_NB) == 0;
    if ((locked && temp_same(*fd, name)) || (!locked && errno != EWOULDBLOCK)) return 0;
    close(*fd); /* a sweeper was faster and is removing it */
    errno = EEXIST;
    return -1;
}

st_status st_temp_make(char **temp, int *fd, const char *target, bool folder, st_err *e)
{
    st_temp_sweep(target);
    for (int n = 0; n < TEMP_TRIES; n++) {
        *temp = temp_name(target, "strut", n);
        if (!*temp) return ST_NOMEM(e, target);
        if (temp_create(*temp, fd, folder) == 0) return ST_OK;
        int why = errno;
        free(*temp);
        *temp = NULL;
        if (why == EEXIST) continue;
        ST_FAIL(e, ST_EIO, "%s: cannot be written: %s", target, strerror(why));
    }
    ST_FAIL(e, ST_EIO, "%s: cannot be written: %d temporary names beside it are taken", target,
            TEMP_TRIES);
}

bool st_temp_within(const char *inner, const char *outer)
{
    size_t n = strlen(outer);
    return strncmp(inner, outer, n) == 0 && (inner[n] == '\0' || inner[n] == '/' || n == 1);
}

char *st_temp_aside(const char *target)
{
    for (int n = 0; n < TEMP_TRIES; n++) {
        char *name = temp_name(target, "strutold", n);
        if (!name || access(name, F_OK)) return name;
        free(name);
    }
    return NULL;
}

st_status st_temp_sync_folder(const char *folder, st_err *e)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* Some file systems cannot sync folders (EINVAL): then there is nothing to be had. */
    int failed = fd < 0 || (fsync(fd) && errno != EINVAL), why = errno;
    if (fd >= 0) close(fd);
    if (failed) ST_FAIL(e, ST_EIO, "%s: cannot be written to disk: %s", folder, strerror(why));
    return ST_OK;
}

static int temp_sync_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)where;
    if (type == FTW_F && !S_ISREG(st->st_mode)) return 0;
    if (type != FTW_F && type != FTW_DP) return 0;
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    int failed = fd < 0 || (fsync(fd) && errno != EINVAL), why = errno;
    if (fd >= 0) close(fd);
    errno = why;
    return failed ? -1 : 0;
}

st_status st_temp_sync_tree(const char *folder, st_err *e)
{
    if (nftw(folder, temp_sync_one, 16, FTW_DEPTH | FTW_PHYS)) {
        ST_FAIL(e, ST_EIO, "%s: cannot be written to disk: %s", folder, strerror(errno));
    }
    return ST_OK;
}
