/* The checkpoints of a run, OUT/ckpt/{last,best,step-N,top-N,progress-N}: `last` is written, the
 * others are links to its files. Each appears, and goes, whole or not at all. */
/* SPDX-License-Identifier: MIT */
#include "train/inner.h"
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CKPT_NAME = 96 };
static const char ckpt_gone[] = ".drop-"; /* a folder on its way out */

char *st_ckpt_path(const char *out, const char *name)
{
    char *path = NULL;
    return asprintf(&path, "%s/ckpt/%s", out, name) < 0 ? NULL : path;
}

int64_t st_ckpt_number(const char *name, const char *kind)
{
    int64_t n;
    size_t len = strlen(kind);
    if (strncmp(name, kind, len) != 0 || name[len] != '-') return -1;
    return st_parse_int(name + len + 1, &n) && n >= 0 ? n : -1;
}

bool st_ckpt_there(const char *out, const char *kind, int64_t step)
{
    char name[CKPT_NAME];
    snprintf(name, sizeof name, "%s-%lld/state.json", kind, (long long)step);
    char *path = st_ckpt_path(out, name);
    bool there = path && st_path_exists(path);
    free(path);
    return there;
}

/* Files of one folder in another: as links where the file system has them (files are never changed
 * in place), else copied. */
static st_status ckpt_link(const char *from, const char *to, st_err *e)
{
    DIR *d = opendir(from);
    if (!d) ST_FAIL(e, ST_EIO, "%s: %s", from, strerror(errno));
    st_status s = ST_OK;
    for (struct dirent *item; !s && (item = readdir(d));) {
        if (item->d_name[0] == '.') continue;
        char *a = st_path_join(from, item->d_name), *b = st_path_join(to, item->d_name);
        if (!a || !b)
            s = ST_NOMEM(e, to);
        else if (link(a, b) != 0)
            s = st_copy_file(a, b, e);
        free(a);
        free(b);
    }
    closedir(d);
    return s;
}

/* OUT/ckpt/NAME: written, or linked to `last`. */
static st_status ckpt_make(st_trainer *t, const char *name, bool write, st_err *e)
{
    static const char *const over[] = {"*", NULL}; /* the place is the run's alone */
    st_outdir o = {0};
    char *path = st_ckpt_path(t->disk.out, name), *last = st_ckpt_path(t->disk.out, "last");
    st_status s = path && last ? st_outdir_open(&o, path, over, e) : ST_NOMEM(e, name);
    if (!s) s = write ? st_ckpt_write(t, o.temp, e) : ckpt_link(last, o.temp, e);
    if (!s) s = st_outdir_commit(&o, e);
    st_outdir_discard(&o);
    free(path);
    free(last);
    return s;
}

/* Removes a folder of plain files: renamed first, so that no half of it looks like a checkpoint. */
static bool ckpt_drop(const char *dir, const char *name)
{
    char from[4096], to[4096];
    bool gone = strncmp(name, ckpt_gone, strlen(ckpt_gone)) == 0;
    snprintf(from, sizeof from, "%s/%s", dir, name);
    snprintf(to, sizeof to, "%s/%s%s", dir, gone ? "" : ckpt_gone, name);
    if (!gone && rename(from, to) != 0) return false;
    DIR *d = opendir(to);
    for (struct dirent *item; d && (item = readdir(d));) {
        if (strcmp(item->d_name, ".") != 0 && strcmp(item->d_name, "..") != 0)
            unlinkat(dirfd(d), item->d_name, 0);
    }
    if (d) closedir(d);
    return rmdir(to) == 0;
}

/* Keeps, of what is not later than this run's step, the newest ckpt.keep of the step-N and those
 * top-N that are in the list. */
static void ckpt_prune(const st_settings *set, const st_train_state *s)
{
    char *dir = st_ckpt_path(set->out, ".");
    for (bool more = dir != NULL; more;) {
        int64_t oldest = INT64_MAX, count = 0;
        char name[CKPT_NAME];
        DIR *d = opendir(dir);
        for (struct dirent *item; d && (item = readdir(d));) {
            int64_t n = st_ckpt_number(item->d_name, "step");
            int64_t top = st_ckpt_number(item->d_name, "top");
            bool out = top >= 0 && top <= s->step && !st_rank_has(s, top);
            if (out || strncmp(item->d_name, ckpt_gone, strlen(ckpt_gone)) == 0)
                ckpt_drop(dir, item->d_name);
            if (n < 0 || n > s->step) continue;
            count++;
            if (n >= oldest) continue;
            oldest = n;
            snprintf(name, sizeof name, "%.64s", item->d_name);
        }
        if (d) closedir(d);
        more = count > set->ckpt.keep && ckpt_drop(dir, name);
    }
    free(dir);
}

static st_status ckpt_links(st_trainer *t, unsigned what, st_err *e)
{
    static const char *const kind[] = {NULL, "step", "top", "progress"};
    st_status s = what & ST_CKPT_BEST ? ckpt_make(t, "best", false, e) : ST_OK;
    for (int i = 1; !s && i < 4; i++) {
        char name[CKPT_NAME];
        if (!(what & 1u << i)) continue;
        snprintf(name, sizeof name, "%s-%lld", kind[i], (long long)t->state.step);
        s = ckpt_make(t, name, false, e);
    }
    return s;
}

st_status st_ckpt_save(st_trainer *t, unsigned what, st_err *e)
{
    bool saved = t->disk.saved == t->state.step && t->disk.saved_evaluated == t->state.evaluated;
    st_status s = st_trainer_weights(&t->net, t->state.step, e);
    if (!s && !saved) s = ckpt_make(t, "last", true, e);
    if (!s) {
        t->disk.saved = t->state.step;
        t->disk.saved_evaluated = t->state.evaluated;
        s = ckpt_links(t, what, e);
        if (!s && what & (ST_CKPT_STEP | ST_CKPT_TOP)) ckpt_prune(t->set, &t->state);
        if (!s) s = st_rank_write(t->set, &t->state, e);
    }
    if (s && s != ST_EARG && e) {
        size_t n = strlen(e->msg);
        if (t->disk.saved >= 0)
            snprintf(e->msg + n, sizeof e->msg - n,
                     "; %s/ckpt/last of step %lld is whole, run the "
                     "same command again to go on from it",
                     t->disk.out, (long long)t->disk.saved);
    }
    return s;
}

/* Step of OUT/ckpt/best, -1: none. */
static int64_t ckpt_best_step(const char *out)
{
    int64_t step = -1;
    json_t *j = NULL;
    char *dir = st_ckpt_path(out, "best");
    if (dir && st_ckpt_json(dir, &j, NULL) == ST_OK && json_is_object(j))
        st_json_int(j, "step", 0, INT64_MAX / 4, &step, "best", NULL);
    json_decref(j);
    free(dir);
    return step;
}

st_status st_ckpt_repair(st_trainer *t, st_err *e)
{
    const st_train_state *s = &t->state;
    char *last = st_ckpt_path(t->disk.out, "last");
    bool own = last && strcmp(last, t->disk.resume) == 0;
    unsigned what = 0;
    free(last);
    if (!own) return ST_OK;
    if (t->set->ckpt.best && s->best_step == s->step && ckpt_best_step(t->disk.out) != s->step)
        what |= ST_CKPT_BEST;
    if (st_rank_has(s, s->step) && !st_ckpt_there(t->disk.out, "top", s->step)) what |= ST_CKPT_TOP;
    if (what) return st_ckpt_save(t, what, e);
    /* What a kill between the last checkpoint and the end of its save has left. */
    char *dir = st_ckpt_path(t->disk.out, ".");
    if (dir) st_sweep_folder(dir);
    free(dir);
    st_sweep_folder(t->disk.out);
    ckpt_prune(t->set, s);
    return st_rank_write(t->set, s, e);
}
