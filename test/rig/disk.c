/* The judge of disk.h. What was synced is known by inode, size and time of change: whatever is
 * written later changes one of them (a folder's size is its number of entries here). */
/* SPDX-License-Identifier: MIT */
#include "rig/disk.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { DISK_SYNCED = 8192, DISK_OWED = 64, DISK_NOTES = 1 << 15 };

typedef struct {
    dev_t dev;
    ino_t ino;
    int64_t size;
    struct timespec changed;
} disk_state;

static pthread_mutex_t disk_lock = PTHREAD_MUTEX_INITIALIZER;
static disk_state disk_synced[DISK_SYNCED]; /* the last so many */
static size_t disk_syncs;
static struct {
    disk_state folder;
    char path[1024];
} disk_owed[DISK_OWED];
static int disk_owing, disk_named;
static char disk_notes[DISK_NOTES];

static void disk_note(const char *what, const char *path)
{
    size_t used = strlen(disk_notes);
    snprintf(disk_notes + used, sizeof disk_notes - used, "%s %s\n", what, path);
}

static int64_t disk_entries(DIR *dir)
{
    int64_t n = 0;
    while (dir && readdir(dir))
        n++;
    if (dir) closedir(dir);
    return n;
}

static disk_state disk_of(const struct stat *st, DIR *(*open_it)(const void *), const void *what)
{
    bool folder = S_ISDIR(st->st_mode);
    return (disk_state){st->st_dev, st->st_ino, folder ? disk_entries(open_it(what)) : st->st_size,
                        st->st_mtim};
}

static DIR *disk_open_fd(const void *fd)
{
    int again = openat(*(const int *)fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = again < 0 ? NULL : fdopendir(again);
    if (!dir && again >= 0) close(again);
    return dir;
}

static DIR *disk_open_path(const void *path)
{
    return opendir(path);
}

static bool disk_same(const disk_state *a, const disk_state *b)
{
    return a->dev == b->dev && a->ino == b->ino;
}

int fsync(int fd)
{
    struct stat st;
    if (fstat(fd, &st)) return -1;
    disk_state now = disk_of(&st, disk_open_fd, &fd);
    if (syscall(SYS_fsync, fd)) return -1;
    pthread_mutex_lock(&disk_lock);
    disk_synced[disk_syncs++ % DISK_SYNCED] = now;
    for (int i = disk_owing - 1; i >= 0; i--)
        if (disk_same(&disk_owed[i].folder, &now)) disk_owed[i] = disk_owed[--disk_owing];
    pthread_mutex_unlock(&disk_lock);
    return 0;
}

/* Whether the last sync of this file or folder saw it as it is now. */
static bool disk_is_synced(const disk_state *now)
{
    size_t first = disk_syncs > DISK_SYNCED ? disk_syncs - DISK_SYNCED : 0;
    for (size_t i = disk_syncs; i > first; i--) {
        const disk_state *was = &disk_synced[(i - 1) % DISK_SYNCED];
        if (!disk_same(was, now)) continue;
        return was->size == now->size && was->changed.tv_sec == now->changed.tv_sec &&
               was->changed.tv_nsec == now->changed.tv_nsec;
    }
    return false;
}

static int disk_judge_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)type;
    (void)where;
    if (!S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode)) return 0;
    disk_state now = disk_of(st, disk_open_path, path);
    if (!disk_is_synced(&now)) disk_note("early", path);
    return 0;
}

/* Names with a dot in front are no promise: temporaries, and what is on its way out. */
static bool disk_hidden(const char *path)
{
    const char *slash = strrchr(path, '/');
    return (slash ? slash[1] : path[0]) == '.';
}

/* Libraries keep files of their own (fontconfig's cache). */
static bool disk_ours(const char *path)
{
    const char *under = getenv("ST_DISK_UNDER");
    return path[0] != '/' || !under || strncmp(path, under, strlen(under)) == 0;
}

static void disk_owe(const char *path)
{
    char parent[1024] = ".";
    struct stat st;
    const char *slash = strrchr(path, '/');
    if (slash)
        snprintf(parent, sizeof parent, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    if (stat(parent, &st) || disk_owing == DISK_OWED) {
        disk_note("unsynced", parent);
        return;
    }
    disk_owed[disk_owing].folder = (disk_state){.dev = st.st_dev, .ino = st.st_ino};
    snprintf(disk_owed[disk_owing++].path, sizeof parent, "%s", parent);
}

int renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
    bool shown = from_fd == AT_FDCWD && to_fd == AT_FDCWD && !disk_hidden(to) && disk_ours(to);
    pthread_mutex_lock(&disk_lock);
    if (shown) nftw(from, disk_judge_one, 16, FTW_DEPTH | FTW_PHYS);
    int failed = (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, flags), why = errno;
    if (!failed && shown) {
        disk_named++;
        disk_owe(to);
    }
    pthread_mutex_unlock(&disk_lock);
    errno = why;
    return failed;
}

int rename(const char *from, const char *to)
{
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int unlinkat(int fd, const char *path, int flags)
{
    pthread_mutex_lock(&disk_lock);
    if (disk_owing && disk_ours(path)) disk_note("removed", path);
    pthread_mutex_unlock(&disk_lock);
    return (int)syscall(SYS_unlinkat, fd, path, flags);
}

int unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}

int rmdir(const char *path)
{
    return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

int remove(const char *path)
{
    struct stat st;
    bool folder = lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
    return folder ? rmdir(path) : unlink(path);
}

const char *disk_broken(void)
{
    static char text[DISK_NOTES];
    pthread_mutex_lock(&disk_lock);
    while (disk_owing)
        disk_note("unsynced", disk_owed[--disk_owing].path);
    memcpy(text, disk_notes, sizeof text);
    disk_notes[0] = '\0';
    pthread_mutex_unlock(&disk_lock);
    return text;
}

int disk_renames(void)
{
    return disk_named;
}

__attribute__((destructor)) static void disk_report(void)
{
    const char *path = getenv("ST_DISK_LOG");
    FILE *f = path ? fopen(path, "a") : NULL;
    if (!f) return;
    fprintf(f, "%srenames %d\n", disk_broken(), disk_named);
    fclose(f);
}
