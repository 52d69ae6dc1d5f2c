/* Which checkpoint a run goes on from, and when it may. Nothing is ever written over a run that the
 * settings do not continue. */
/* SPDX-License-Identifier: MIT */
#include "train/inner.h"
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

enum { RESUME_NAME = 96 };

static bool resume_is(const char *dir)
{
    char *path = dir ? st_path_join(dir, "state.json") : NULL;
    bool is = path && st_path_exists(path);
    free(path);
    return is;
}

/* Name of some checkpoint in OUT/ckpt, best first; false if there is none. */
static bool resume_any(const char *out, char name[RESUME_NAME])
{
    char *best = st_ckpt_path(out, "best"), *dir = st_ckpt_path(out, ".");
    bool found = resume_is(best);
    snprintf(name, RESUME_NAME, "best");
    int64_t newest = -1;
    DIR *d = dir && !found ? opendir(dir) : NULL;
    for (struct dirent *item; d && (item = readdir(d));) {
        static const char *const kind[] = {"step", "progress", "top"};
        for (int i = 0; i < 3; i++) {
            int64_t n = st_ckpt_number(item->d_name, kind[i]);
            if (n <= newest) continue;
            newest = n;
            snprintf(name, RESUME_NAME, "%s-%lld", kind[i], (long long)n);
        }
    }
    if (d) closedir(d);
    free(best);
    free(dir);
    return found || newest >= 0;
}

/* A run goes on with the settings it began with, unless it is told otherwise. */
static st_status resume_same(const st_settings *set, const char *dir, st_err *e)
{
    json_t *state = NULL;
    ST_TRY(st_ckpt_json(dir, &state, e));
    const json_t *before = json_object_get(state, "settings");
    const char *key = st_set_changed(set, before);
    st_status s = ST_OK;
    if (key) {
        json_t *now = st_set_value(set, &st_set_rows[st_set_find(key)]);
        const size_t plain = JSON_ENCODE_ANY | JSON_REAL_PRECISION(9);
        char *a = json_dumps(json_object_get(before, key), plain);
        char *b = json_dumps(now, plain), place[256];
        s = ST_ERR(
            e, ST_EARG,
            "%s: found %s, but the run in %s began with %s; ckpt.resume=yes goes on with the "
            "new value, out=FOLDER starts another run",
            st_set_place(set, key, place, sizeof place), b ? b : "?", set->out, a ? a : "?");
        free(a);
        free(b);
        json_decref(now);
    }
    json_decref(state);
    return s;
}

st_status st_ckpt_choose(const st_settings *set, char **dir, st_err *e)
{
    const char *how = set->ckpt.resume;
    char *last = st_ckpt_path(set->out, "last"), other[RESUME_NAME];
    bool there = resume_is(last), no = strcmp(how, "no") == 0, yes = strcmp(how, "yes") == 0;
    st_status s = ST_OK;
    *dir = NULL;
    if (!no && !yes && strcmp(how, "auto") != 0) {
        if (!resume_is(how))
            s = ST_ERR(e, ST_EARG,
                       "ckpt.resume: found %s, which is no checkpoint (it has no state.json); "
                       "expected auto, yes, no or a checkpoint folder",
                       how);
        else if (!(*dir = strdup(how)))
            s = ST_NOMEM(e, how);
    } else if (no && (there || resume_any(set->out, other))) {
        s = ST_ERR(
            e, ST_EARG,
            "%s: holds checkpoints of a run, and ckpt.resume=no; choose another out= or remove "
            "the folder",
            set->out);
    } else if (there) {
        if (!yes) s = resume_same(set, last, e);
        if (s == ST_EFORMAT) st_ckpt_hint(set, last, e);
        *dir = last;
        last = NULL;
    } else if (resume_any(set->out, other)) {
        s = ST_ERR(e, ST_EARG,
                   "%s/ckpt: has %s but no last; ckpt.resume=%s/ckpt/%s goes on from there, "
                   "out=FOLDER starts another run",
                   set->out, other, set->out, other);
    } else if (yes) {
        s = ST_ERR(e, ST_EARG, "%s: no checkpoint to go on from, and ckpt.resume=yes", set->out);
    }
    free(last);
    if (s) {
        free(*dir);
        *dir = NULL;
    }
    return s;
}

void st_ckpt_hint(const st_settings *set, const char *broken, st_err *e)
{
    char other[RESUME_NAME];
    if (!e || !set->out || !resume_any(set->out, other)) return;
    char *path = st_ckpt_path(set->out, other);
    size_t n = strlen(e->msg);
    if (path && strcmp(path, broken) != 0) {
        snprintf(e->msg + n, sizeof e->msg - n, "; ckpt.resume=%s goes on from another checkpoint",
                 path);
    }
    free(path);
}
