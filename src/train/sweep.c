/* Sweeps: many training runs from one command line. All jobs are composed and checked before the
 * first one starts; each has a folder named by what was swept, so that the same command goes on
 * where it was, and one with more values trains only the new ones. */
/* SPDX-License-Identifier: MIT */
#include "train/inner.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SWEEP_LABEL = 160 };

typedef struct {
    const st_sweep_opts *o;
    st_sweep words;
    st_settings *set; /* of each job */
    json_t **row;
    st_sink outer;
    int64_t now;
    char what[64];
    double began;              /* when the job at hand did */
    int64_t first, steps, all; /* of it: done before, and those of its last report */
    double *work;              /* of each job, 0: not known */
    double took,
        worked; /* seconds of the jobs trained so far, and the work that was done in them */
    st_err *e;
} sweep;

static st_config_how sweep_how(const sweep *w, int64_t job)
{
    st_config_how how = w->o->how;
    how.override = (const char *const *)(void *)w->words.job[job];
    return how;
}

/* ---- names ----------------------------------------------------------------------------------- */

/* "model.mlp.map=ss1:factor=2" becomes "map=ss1_factor=2": the end of the key, and characters that
 * every shell and disk takes. */
static void sweep_label(const sweep *w, int64_t job, char *text, size_t size)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._=+-";
    char all[4 * SWEEP_LABEL] = "";
    size_t n = 0;
    for (int k = 0; k < w->words.words; k++) {
        if (!w->words.swept[k]) continue;
        const char *word = w->words.job[job][k], *eq = strchr(word, '='), *leaf = word;
        for (const char *p = word; eq && p < eq; p++)
            if (strchr("./@~+", *p)) leaf = p + 1;
        n += (size_t)snprintf(all + n, sizeof all - n, "%s%s", n ? "," : "", leaf);
        if (n >= sizeof all) n = sizeof all - 1;
    }
    if (!n) snprintf(all, sizeof all, "run");
    for (char *p = all; *p; p++)
        if (*p != ',' && !strchr(plain, *p)) *p = '_';
    if (all[0] == '.') all[0] = '_';
    bool cut = strlen(all) >= SWEEP_LABEL - 20;
    uint64_t hash = 1;
    for (int k = 0; cut && k < w->words.words; k++)
        if (w->words.swept[k]) hash = hash * 31 + st_hash_name(w->words.job[job][k]);
    if (cut)
        snprintf(text, size, "%.*s-%016llx", SWEEP_LABEL - 20, all, (unsigned long long)hash);
    else
        snprintf(text, size, "%s", all);
}

/* Where the jobs' folders go: out if it is given and the same for all, else multirun/NAME. */
static char *sweep_dir(const sweep *w)
{
    int row = st_set_find("out");
    const st_settings *first = &w->set[0];
    bool given = first->where[row] != NULL, same = true, named = true;
    for (int64_t i = 1; i < w->words.jobs; i++) {
        same = same && strcmp(w->set[i].out, first->out) == 0;
        named = named && strcmp(w->set[i].name, first->name) == 0;
    }
    if (given) return same ? strdup(first->out) : NULL;
    const char *primary = w->o->how.file ? w->o->how.file : w->o->how.name;
    const char *slash = primary ? strrchr(primary, '/') : NULL;
    const char *stem = slash ? slash + 1 : primary ? primary : "train";
    char *name = named ? strdup(first->name) : strndup(stem, strcspn(stem, "."));
    char *dir = name ? st_path_join("multirun", name) : NULL;
    free(name);
    return dir;
}

/* Gives each job its folder; two jobs never share one. */
static st_status sweep_folders(sweep *w, const char *dir)
{
    for (int64_t i = 0; i < w->words.jobs; i++) {
        char label[2 * SWEEP_LABEL];
        sweep_label(w, i, label, sizeof label);
        char *path = dir ? st_path_join(dir, label) : strdup(w->set[i].out);
        if (!path) return ST_NOMEM(w->e, "sweep");
        st_status s = st_settings_set(&w->set[i], "out", path, w->e);
        free(path);
        ST_TRY(s);
        for (int64_t k = 0; k < i; k++)
            if (!strcmp(w->set[k].out, w->set[i].out))
                ST_FAIL(w->e, ST_EARG, "sweep: jobs %lld and %lld would both write to %s",
                        (long long)k, (long long)i, w->set[i].out);
    }
    return ST_OK;
}

/* ---- one job --------------------------------------------------------------------------------- */

static void sweep_log(void *ctx, st_log_level level, const char *text)
{
    const sweep *w = ctx;
    if (w->outer.log) w->outer.log(w->outer.ctx, level, text);
}

/* Seconds that the jobs after this one will take at the pace of those that have ended. */
static double sweep_later(const sweep *w)
{
    double left = 0;
    for (int64_t i = w->now + 1; i < w->words.jobs; i++)
        if (!w->row[i]) left += w->work[i];
    return w->worked > 0 ? w->took / w->worked * left : 0.0;
}

static void sweep_progress(void *ctx, const st_progress *p)
{
    sweep *w = ctx;
    st_progress mine = *p;
    snprintf(w->what, sizeof w->what, "job %lld of %lld, %.32s", (long long)w->now + 1,
             (long long)w->words.jobs, p->what);
    mine.what = w->what;
    mine.later = sweep_later(w);
    if (strcmp(p->what, "train") == 0) {
        if (w->steps == 0) w->first = p->done - 1;
        w->steps = p->done;
        w->all = p->total;
    }
    if (w->outer.progress) w->outer.progress(w->outer.ctx, &mine);
}

static json_t *sweep_swept(const sweep *w, int64_t job)
{
    json_t *list = json_array();
    for (int k = 0; list && k < w->words.words; k++)
        if (w->words.swept[k]) json_array_append_new(list, st_json_text(w->words.job[job][k]));
    return list;
}

static char *sweep_result_path(const st_settings *s)
{
    char *dir = st_path_join(s->out, ".hydra"),
         *path = dir ? st_path_join(dir, "result.json") : NULL;
    free(dir);
    return path;
}

/* What may change when a run goes on, but says how long it is. */
static bool sweep_as_long(const st_settings *s, const json_t *was)
{
    static const char *const key[] = {"train.steps", "train.epochs", "stop.patience"};
    bool same = true;
    for (int i = 0; i < 3; i++) {
        json_t *now = st_set_value(s, &st_set_rows[st_set_find(key[i])]);
        const json_t *old = json_object_get(was, key[i]);
        same = same && (old ? json_equal(now, old) : json_is_null(now));
        json_decref(now);
    }
    return same;
}

/* The row of a job that ended before, if its settings are still the same; else NULL. */
static json_t *sweep_before(const st_settings *s)
{
    char *path = sweep_result_path(s);
    json_t *before = NULL, *row = NULL;
    if (path && st_path_exists(path) && !st_json_load(&before, path, 1 << 20, NULL)) {
        const json_t *was = json_object_get(before, "settings");
        if (json_is_object(was) && !st_set_changed(s, was) && sweep_as_long(s, was) &&
            json_is_object(json_object_get(before, "row")))
            row = json_incref(json_object_get(before, "row"));
    }
    json_decref(before);
    free(path);
    return row;
}

static st_status sweep_keep(const st_settings *s, json_t *row, st_err *e)
{
    char *path = sweep_result_path(s);
    json_t *all = json_pack("{s:o, s:O}", "settings", st_settings_json(s), "row", row);
    st_status status = path && all ? st_write_json(path, all, e) : ST_NOMEM(e, "sweep");
    json_decref(all);
    free(path);
    return status;
}

/* What a run's result says in the table. */
static json_t *sweep_row(const json_t *result)
{
    static const char *const key[] = {"step", "parameters", "tokens_per_second",
                                      "loss", "val_loss",   "val_perplexity",
                                      "best", "seconds",    NULL};
    json_t *row = json_object();
    for (int i = 0; row && key[i]; i++) {
        json_t *v = json_object_get(result, key[i]);
        if (v) json_object_set(row, key[i], v);
    }
    return row;
}

/* Trains a job that is not kept. */
static st_status sweep_job(sweep *w, int64_t job, json_t **row, st_err *e)
{
    st_settings *s = &w->set[job];
    st_config_how how = sweep_how(w, job);
    json_t *result = NULL;
    if (*row) return ST_OK;
    st_log(ST_LOG_INFO, "job %lld of %lld: %s", (long long)job + 1, (long long)w->words.jobs,
           s->out);
    w->began = st_now();
    w->first = w->steps = 0;
    st_status status =
        st_train_run(&(st_train_opts){.set = s, .how = &how, .dry = w->o->dry}, &result, e);
    if (!status) *row = sweep_row(result);
    json_decref(result);
    if (!status && !*row) status = ST_NOMEM(e, "sweep");
    if (!status && w->steps > w->first && w->work[job] > 0) {
        w->took += st_now() - w->began;
        w->worked += w->work[job] * (double)(w->steps - w->first) / (double)w->all;
    }
    if (!status && !w->o->dry) status = sweep_keep(s, *row, e);
    if (!status) json_object_set_new(*row, "state", json_string(w->o->dry ? "planned" : "done"));
    return status;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* Before a model is made for it: are the tokens there? */
static st_status sweep_data(const st_settings *s, st_err *e)
{
    const char *key = s->data.train ? "data.train" : "data.dir";
    const char *path = s->data.train ? s->data.train : s->data.dir;
    char place[256];
    if (!path || st_path_exists(path)) return ST_OK; /* without any, training says what to do */
    ST_FAIL(e, ST_EIO, "%s: %s is not there; say data=FOLDER (made by `strut prepare`)",
            st_set_place(s, key, place, sizeof place), path);
}

/* Which job, and what makes it that one, before what is wrong with it. */
static st_status sweep_wrong(const sweep *w, int64_t job, st_status s)
{
    char words[112] = "";
    size_t n = 0;
    for (int k = 0; s && w->e && k < w->words.words && n < sizeof words; k++)
        if (w->words.swept[k])
            n += (size_t)snprintf(words + n, sizeof words - n, "%s%s", n ? " " : "",
                                  w->words.job[job][k]);
    if (s) {
        st_err_prefix(w->e, n ? "job %lld of %lld (%s)" : "job %lld of %lld", (long long)job + 1,
                      (long long)w->words.jobs, words);
    }
    return s;
}

static st_status sweep_compose(sweep *w)
{
    w->set = st_calloc(w->words.jobs, sizeof *w->set);
    w->row = st_calloc(w->words.jobs, sizeof *w->row);
    w->work = st_calloc(w->words.jobs, sizeof *w->work);
    if (!w->set || !w->row || !w->work) return ST_NOMEM(w->e, "sweep");
    for (int64_t i = 0; i < w->words.jobs; i++) {
        st_config_how how = sweep_how(w, i);
        ST_TRY(sweep_wrong(w, i, st_settings_compose(&w->set[i], &how, NULL, w->e)));
        if (w->o->threads) w->set[i].threads = w->o->threads;
        ST_TRY(sweep_wrong(w, i, sweep_data(&w->set[i], w->e)));
    }
    return ST_OK;
}

/* The rows of jobs that ended before; the others must be jobs that can begin. */
static st_status sweep_check(sweep *w)
{
    for (int64_t i = 0; i < w->words.jobs; i++) {
        if (st_interrupted()) ST_FAIL(w->e, ST_EINTR, "interrupted before the first job");
        if (!w->o->dry) w->row[i] = sweep_before(&w->set[i]);
        if (w->row[i])
            json_object_set_new(w->row[i], "state", json_string("kept"));
        else
            ST_TRY(sweep_wrong(w, i, st_trainer_check(&w->set[i], &w->work[i], w->e)));
    }
    return ST_OK;
}

/* Every job, whatever became of the others; *failed: how many did not end well. */
static st_status sweep_jobs(sweep *w, int64_t *failed)
{
    st_err first = {0};
    *failed = 0;
    for (int64_t i = 0; i < w->words.jobs; i++) {
        st_err e = {0};
        w->now = i;
        st_status s = sweep_job(w, i, &w->row[i], &e);
        if (s == ST_EINTR)
            ST_FAIL(w->e, s, "interrupted in job %lld of %lld; the same command goes on there",
                    (long long)i + 1, (long long)w->words.jobs);
        if (!w->row[i]) w->row[i] = json_object();
        if (s) {
            st_log(ST_LOG_WARN, "job %lld of %lld failed: %s", (long long)i + 1,
                   (long long)w->words.jobs, e.msg);
            json_object_set_new(w->row[i], "state", json_string("failed"));
            json_object_set_new(w->row[i], "error", st_json_text(e.msg));
            if (!(*failed)++) first = e;
        }
        json_object_set_new(w->row[i], "overrides", sweep_swept(w, i));
        json_object_set_new(w->row[i], "out", st_json_text(w->set[i].out));
    }
    if (*failed)
        ST_FAIL(w->e, first.code, "%lld of %lld jobs failed, first: %s", (long long)*failed,
                (long long)w->words.jobs, first.msg);
    return ST_OK;
}

st_status st_sweep_run(const st_sweep_opts *o, json_t **result, st_err *e)
{
    sweep w = {.o = o, .e = e, .outer = st_sink_get()};
    char *dir = NULL;
    int64_t failed = 0;
    *result = NULL;
    ST_TRY(st_sweep_open(&w.words, o->how.override, o->how.n, e));
    st_status s = sweep_compose(&w);
    if (!s) dir = sweep_dir(&w);
    if (!s) s = sweep_folders(&w, dir);
    if (!s) s = sweep_check(&w);
    if (!s) {
        st_sink_set(&(st_sink){.log = sweep_log, .progress = sweep_progress, .ctx = &w});
        s = sweep_jobs(&w, &failed);
        st_sink_set(&w.outer);
        json_t *rows = json_array();
        for (int64_t i = 0; i < w.words.jobs; i++)
            if (w.row[i]) json_array_append(rows, w.row[i]);
        *result = json_pack("{s:o, s:I, s:o}", "dir", dir ? st_json_text(dir) : json_null(),
                            "failed", (json_int_t)failed, "jobs", rows);
    }
    for (int64_t i = 0; w.set && w.row && i < w.words.jobs; i++) {
        st_settings_close(&w.set[i]);
        json_decref(w.row[i]);
    }
    free(w.set);
    free(w.row);
    free(w.work);
    free(dir);
    st_sweep_close(&w.words);
    return s;
}
