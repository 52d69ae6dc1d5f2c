/* Files that appear whole or not at all, and whole-file helpers. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "files/temp.h"
#include "files/wait.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { FILE_BUFFER = 1 << 16 };

/* A write error: what the system said, and that nothing was left. */
static st_status file_failed(const st_outfile *o, int why, st_err *e)
{
    ST_FAIL(e, ST_EIO, "%s: cannot be written: %s%s", o->path, strerror(why),
            why == ENOSPC || why == EDQUOT ? "; make room and run again, no half file is left"
                                           : "");
}

/* Refuses to replace what is not a plain writable file; `mode` is that of the file, if there. */
static st_status file_replaceable(const char *target, mode_t *mode, st_err *e)
{
    struct stat st;
    if (stat(target, &st)) return ST_OK; /* what is wrong with it shows at creation */
    if (S_ISDIR(st.st_mode)) ST_FAIL(e, ST_EARG, "%s: is a folder, expected a file name", target);
    if (!S_ISREG(st.st_mode)) {
        ST_FAIL(e, ST_EARG, "%s: is a device or pipe, expected the name of a plain file", target);
    }
    if (access(target, W_OK)) {
        ST_FAIL(e, ST_EIO, "%s: exists and may not be written: %s", target, strerror(errno));
    }
    *mode = st.st_mode & 0777;
    return ST_OK;
}

st_status st_outfile_open(st_outfile *o, const char *path, st_err *e)
{
    *o = (st_outfile){0};
    mode_t mode = 0;
    int fd = -1;
    ST_TRY(st_temp_target(&o->path, path, e));
    st_status s = file_replaceable(o->path, &mode, e);
    if (s) goto fail;
    s = st_temp_make(&o->temp, &fd, o->path, false, e);
    if (s) goto fail;
    if (mode) fchmod(fd, mode); /* best effort: else it has the mode of new files */
    o->f = fdopen(fd, "wb");
    if (!o->f) {
        s = ST_NOMEM(e, path);
        unlink(o->temp);
        close(fd);
        goto fail;
    }
    setvbuf(o->f, NULL, _IOFBF, FILE_BUFFER);
    return ST_OK;
fail:
    free(o->path);
    free(o->temp);
    *o = (st_outfile){0};
    return s;
}

st_status st_outfile_write(st_outfile *o, const void *data, size_t n, st_err *e)
{
    errno = 0;
    if (n && fwrite(data, 1, n, o->f) != n) return file_failed(o, errno ? errno : EIO, e);
    return ST_OK;
}

st_status st_outfile_flush(st_outfile *o, st_err *e)
{
    errno = 0;
    if (ferror(o->f) || fflush(o->f) || fsync(fileno(o->f)))
        return file_failed(o, errno ? errno : EIO, e);
    return ST_OK;
}

st_status st_outfile_commit(st_outfile *o, st_err *e)
{
    /* The duplicate keeps the lock until the rename is done. */
    int lock = dup(fileno(o->f)), why = 0;
    errno = 0;
    if (ferror(o->f) || fflush(o->f) || fsync(fileno(o->f))) why = errno ? errno : EIO;
    if (fclose(o->f) && !why) why = errno;
    o->f = NULL;
    if (!why && rename(o->temp, o->path)) why = errno;
    if (lock >= 0) close(lock);
    st_status s = why ? file_failed(o, why, e) : ST_OK;
    if (!s) {
        char *parent = st_temp_parent(o->path);
        if (parent) s = st_temp_sync_folder(parent, e);
        free(parent);
        free(o->temp); /* it has become the file: nothing to remove */
        o->temp = NULL;
    }
    st_outfile_discard(o);
    return s;
}

void st_outfile_discard(st_outfile *o)
{
    if (o->temp) unlink(o->temp);
    if (o->f) fclose(o->f);
    free(o->path);
    free(o->temp);
    *o = (st_outfile){0};
}

char *st_path_join(const char *dir, const char *name)
{
    size_t n = strlen(dir);
    char *path;
    const char *slash = n && dir[n - 1] == '/' ? "" : "/";
    return asprintf(&path, "%s%s%s", dir, slash, name) < 0 ? NULL : path;
}

bool st_path_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

bool st_path_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool st_path_is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

st_status st_make_dirs(const char *path, st_err *e)
{
    if (!*path) ST_FAIL(e, ST_EARG, "an empty path was given where a folder is expected");
    char *p = strdup(path);
    if (!p) return ST_NOMEM(e, path);
    int why = 0;
    for (char *slash = p; !why && slash;) {
        slash = strchr(slash + 1, '/');
        if (slash) *slash = '\0';
        if (mkdir(p, 0777) && !st_path_is_dir(p)) why = errno == EEXIST ? ENOTDIR : errno;
        if (!why && slash) *slash = '/';
    }
    st_status s = ST_OK;
    if (why == ENOTDIR) {
        s = ST_ERR(e, ST_EIO, "%s: is a file, expected a folder", p);
    } else if (why) {
        s = ST_ERR(e, ST_EIO, "%s: the folder cannot be made: %s", p, strerror(why));
    }
    free(p);
    return s;
}

st_status st_read_file(const char *path, size_t max, char **out, size_t *n, st_err *e)
{
    *out = NULL;
    *n = 0;
    int fd = st_wait_open(path);
    if (fd < 0) ST_FAIL(e, ST_EIO, "%s: %s", path, strerror(errno));
    char *text = NULL;
    size_t used = 0, cap = 0;
    ssize_t got;
    st_status s = ST_OK;
    do {
        if (cap - used < 2) { /* one for data, one for the NUL */
            cap = cap ? cap * 2 : 65536;
            char *more = realloc(text, cap);
            if (!more) {
                s = ST_NOMEM(e, path);
                break;
            }
            text = more;
        }
        got = st_wait_read(fd, text + used, cap - used - 1);
        if (got > 0) used += (size_t)got;
        if (got < 0 && errno == EINTR) {
            s = ST_ERR(e, ST_EINTR, "interrupted while reading %s", path);
        } else if (got < 0) {
            s = ST_ERR(e, ST_EIO, "%s: cannot be read: %s", path, strerror(errno));
        } else if (used > max) {
            s = ST_ERR(e, ST_EFORMAT, "%s: more than %zu bytes, which no file of this kind has",
                       path, max);
        }
    } while (!s && got > 0);
    close(fd);
    if (!s) s = st_lfs_refuse(path, text, used, e);
    if (s) {
        free(text);
        return s;
    }
    text[used] = '\0';
    *out = text;
    *n = used;
    return ST_OK;
}

st_status st_write_file(const char *path, const void *data, size_t n, st_err *e)
{
    st_outfile o;
    ST_TRY(st_outfile_open(&o, path, e));
    st_status s = st_outfile_write(&o, data, n, e);
    if (!s) s = st_outfile_commit(&o, e);
    st_outfile_discard(&o);
    return s;
}

/* JSON with numbers as short as 15 digits make them where that loses nothing (0.1 and not
 * 0.10000000000000001), else with all 17. */
static char *file_json(const json_t *j)
{
    const size_t flags = JSON_INDENT(2) | JSON_ENCODE_ANY;
    char *text = json_dumps(j, flags | JSON_REAL_PRECISION(15));
    json_t *back = text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
    bool same = back && json_equal(j, back);
    json_decref(back);
    if (same || !text) return text;
    free(text);
    return json_dumps(j, flags);
}

st_status st_write_json(const char *path, const json_t *j, st_err *e)
{
    char *text = file_json(j);
    if (!text) ST_FAIL(e, ST_ENOMEM, "%s: out of memory, or text that is not UTF-8", path);
    size_t n = strlen(text);
    text[n] = '\n'; /* in place of the NUL, which is not written */
    st_status s = st_write_file(path, text, n + 1, e);
    free(text);
    return s;
}

st_status st_file_crc32(const char *path, uint32_t *crc, st_err *e)
{
    FILE *f = st_path_is_file(path) ? fopen(path, "rbe") : NULL;
    if (!f) ST_FAIL(e, ST_EIO, "%s: %s", path, errno ? strerror(errno) : "is no plain file");
    unsigned char *buffer = malloc(FILE_BUFFER);
    st_status s = buffer ? ST_OK : ST_NOMEM(e, path);
    *crc = 0;
    for (size_t got; !s && (got = fread(buffer, 1, FILE_BUFFER, f)) > 0;)
        *crc = (uint32_t)crc32_z(*crc, buffer, got);
    if (!s && ferror(f)) s = ST_ERR(e, ST_EIO, "%s: cannot be read: %s", path, strerror(errno));
    free(buffer);
    fclose(f);
    return s;
}

st_status st_copy_file(const char *from, const char *to, st_err *e)
{
    if (st_path_exists(from) && !st_path_is_file(from))
        ST_FAIL(e, ST_EIO, "%s: is no plain file, so it is not copied", from);
    FILE *f = fopen(from, "rbe");
    if (!f) ST_FAIL(e, ST_EIO, "%s: %s", from, strerror(errno));
    char *buffer = malloc(FILE_BUFFER);
    st_outfile o = {0};
    st_status s = buffer ? st_outfile_open(&o, to, e) : ST_NOMEM(e, to);
    for (size_t got; !s && (got = fread(buffer, 1, FILE_BUFFER, f)) > 0;) {
        s = st_outfile_write(&o, buffer, got, e);
    }
    if (!s && ferror(f)) {
        s = ST_ERR(e, ST_EIO, "%s: cannot be read: %s", from, strerror(errno));
    }
    if (!s) s = st_outfile_commit(&o, e);
    st_outfile_discard(&o);
    free(buffer);
    fclose(f);
    return s;
}
