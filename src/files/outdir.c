/* Folders that appear whole or not at all: written beside their place, then renamed into it. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "files/temp.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static bool outdir_ours(const char *const *over, const char *name)
{
    for (; *over; over++)
        if (fnmatch(*over, name, 0) == 0) return true;
    return false;
}

/* What must not be replaced: the working folder and those above it, folders with folders in them,
 * which are someone's collection and no result of one command, and folders with files that `over`
 * does not name. *empty: nothing is in it. */
static st_status outdir_replaceable(const char *target, const char *const *over, bool *empty,
                                    st_err *e)
{
    *empty = true;
    DIR *dir = opendir(target);
    if (!dir && errno == ENOENT) return ST_OK;
    if (!dir && errno == ENOTDIR) {
        ST_FAIL(e, ST_EARG, "%s: is a file, expected a folder or a new name", target);
    }
    if (!dir) ST_FAIL(e, ST_EIO, "%s: %s", target, strerror(errno));
    char inner[256] = "", alien[256] = "";
    for (struct dirent *d; (d = readdir(dir));) {
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0) continue;
        *empty = false;
        struct stat st;
        if (fstatat(dirfd(dir), d->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode)) {
            snprintf(inner, sizeof inner, "%s", d->d_name);
        } else if (over && !*alien && !outdir_ours(over, d->d_name)) {
            snprintf(alien, sizeof alien, "%s", d->d_name);
        }
    }
    closedir(dir);
    if (!*empty && !over) {
        ST_FAIL(e, ST_EARG,
                "%s: exists and is not empty; choose another name, or say --force to "
                "replace it",
                target);
    }
    if (*inner) {
        ST_FAIL(e, ST_EARG,
                "%s: holds a folder (%s), so it is not replaced; choose another name, "
                "or remove it yourself",
                target, inner);
    }
    if (*alien) {
        ST_FAIL(e, ST_EARG,
                "%s: holds %s, which is no file of such a result, so it is not replaced; choose "
                "another name, or remove it yourself",
                target, alien);
    }
    char *cwd = getcwd(NULL, 0), *real = realpath(target, NULL);
    bool inside = cwd && real && st_temp_within(cwd, real);
    free(cwd);
    free(real);
    if (inside) {
        ST_FAIL(e, ST_EARG,
                "%s: is the working folder or one above it, so it is not replaced; "
                "choose another name",
                target);
    }
    return ST_OK;
}

static void outdir_free(st_outdir *o)
{
    if (o->temp) close(o->lock);
    free(o->path);
    free(o->temp);
    *o = (st_outdir){0};
}

st_status st_outdir_open(st_outdir *o, const char *path, const char *const *over, st_err *e)
{
    *o = (st_outdir){0};
    bool empty;
    ST_TRY(st_temp_target(&o->path, path, e));
    o->over = over;
    st_temp_sweep(o->path); /* may put an old folder back, which is then in the way */
    st_status s = outdir_replaceable(o->path, over, &empty, e);
    char *parent = s ? NULL : st_temp_parent(o->path);
    if (!s && !parent) s = ST_NOMEM(e, path);
    if (!s) s = st_make_dirs(parent, e);
    if (!s) s = st_temp_make(&o->temp, &o->lock, o->path, true, e);
    free(parent);
    if (s) outdir_free(o);
    return s;
}

/* Puts `temp` where the folder `path` is; the old one is then at the name left in *old. On file
 * systems that cannot exchange, the old folder steps aside first (locked: see temp_sweep_one). */
static int outdir_exchange(const char *temp, const char *path, char **old)
{
    *old = strdup(temp);
    if (!*old) return ENOMEM;
    if (renameat2(AT_FDCWD, temp, AT_FDCWD, path, RENAME_EXCHANGE) == 0) return 0;
    if (errno != EINVAL && errno != ENOSYS && errno != ENOTSUP) return errno;
    free(*old);
    *old = st_temp_aside(path);
    if (!*old) return ENOMEM;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), why = 0;
    if (fd >= 0) flock(fd, LOCK_EX | LOCK_NB);
    if (rename(path, *old)) {
        why = errno;
    } else if (rename(temp, path)) {
        why = errno;
        rename(*old, path);
    }
    if (fd >= 0) close(fd);
    return why;
}

st_status st_outdir_commit(st_outdir *o, st_err *e)
{
    bool empty;
    char *old = NULL;
    st_status s = st_temp_sync_tree(o->temp, e);
    if (!s) s = outdir_replaceable(o->path, o->over, &empty, e); /* hours may have passed */
    if (s) goto out;
    int why = 0;
    if (empty)
        why = rename(o->temp, o->path) ? errno : 0;
    else
        why = outdir_exchange(o->temp, o->path, &old);
    if (why) {
        s = ST_ERR(e, ST_EIO, "%s: cannot be put in place: %s", o->path, strerror(why));
        goto out;
    }
    char *parent = st_temp_parent(o->path);
    if (parent) s = st_temp_sync_folder(parent, e);
    free(parent);
    if (old) st_temp_remove(old);
    outdir_free(o); /* before discard: the temporary name is gone or was the old folder */
out:
    free(old);
    st_outdir_discard(o);
    return s;
}

void st_outdir_discard(st_outdir *o)
{
    if (o->temp) st_temp_remove(o->temp);
    outdir_free(o);
}
