/* Runs and benchmarks among files and folders, and which benchmark belongs to which run. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "map/map.h"
#include "report/runs.h"
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FIND_DEPTH = 12, FIND_RUNS = 20000, FIND_CSV = 1 << 26, FIND_ROWS = 200000 };

/* ---- benchmarks ------------------------------------------------------------------------------ */

/* Columns whose text stays text. */
static bool find_is_text(const char *key)
{
    static const char *const text[] = {"version", "commit",  "machine", "device", "what",
                                       "kind",    "dtype",   "spec",    "suite",  "shape",
                                       "date",    "control", "name",    "reason"};
    for (size_t i = 0; i < sizeof text / sizeof *text; i++)
        if (strcmp(key, text[i]) == 0) return true;
    return false;
}

static json_t *find_numbers(const json_t *from, const char *path)
{
    json_t *row = json_object(), *v;
    const char *key;
    double x;
    json_object_foreach((json_t *)(uintptr_t)from, key, v)
    {
        const char *text = json_string_value(v);
        if (!*text) continue;
        if (!find_is_text(key) && st_parse_num(text, &x))
            json_object_set_new(row, key, json_real(x));
        else
            json_object_set(row, key, v);
    }
    json_object_set_new(row, "file", st_json_text(path));
    return row;
}

/* Gives a layer's row its spec as people write it, and its heading in a heat map: the type and how
 * many times smaller than dense it is ("monarch 4x"), which is alike for all shapes. */
static void find_label(json_t *row)
{
    double in = st_row_num(row, "in"), out = st_row_num(row, "out");
    double asked = st_row_num(row, "factor");
    double ratio = asked > 0 ? asked : in * out / st_row_num(row, "parameters");
    const char *text = st_row_str(row, "spec"), *control = st_row_str(row, "control");
    char type[120], label[ST_SPEC_TEXT];
    size_t n = 0;
    bool knobs = false;
    st_spec spec;
    for (const char *c = text; *c && n + 1 < sizeof type; c++) {
        knobs = *c == '+' ? false : knobs || *c == ':';
        if (!knobs) type[n++] = *c;
    }
    type[n] = '\0';
    if (in >= 1 && out >= 1 && in < 1e9 && out < 1e9 &&
        st_spec_parse(&spec, text, (int64_t)in, (int64_t)out, NULL) == ST_OK) {
        st_spec_label(&spec, label);
        json_object_set_new(row, "label", st_json_text(label));
    }
    if (!(ratio > 0 && ratio < 1e6)) return;
    if (*control && strcmp(control, "none") != 0) snprintf(type, sizeof type, "%.60s*", control);
    bool whole = fabs(ratio - round(ratio)) < 0.12 * ratio;
    snprintf(label, sizeof label, whole ? "%s %.0fx" : "%s %.1fx", type, ratio);
    json_object_set_new(row, "heading", st_json_text(label));
}

st_status st_runs_csv(const char *path, json_t *found, st_err *e)
{
    json_t *rows = NULL, *row;
    size_t i;
    ST_TRY(st_csv_load(&rows, path, FIND_CSV, FIND_ROWS, e));
    const json_t *first = json_array_get(rows, 0);
    if (first && (!json_object_get(first, "spec") || !json_object_get(first, "median_s"))) {
        json_decref(rows);
        ST_FAIL(e, ST_EFORMAT,
                "%s: has no columns spec and median_s; expected what strut bench --csv writes",
                path);
    }
    json_array_foreach(rows, i, row)
    {
        json_t *r = find_numbers(row, path);
        bool layer = isfinite(st_row_num(r, "in")) && isfinite(st_row_num(r, "out"));
        bool attention = isfinite(st_row_num(r, "heads"));
        if (layer) find_label(r);
        if (attention) json_object_set(r, "heading", json_object_get(r, "name"));
        json_array_append_new(json_object_get(found, layer       ? "layers"
                                                     : attention ? "attention"
                                                                 : "models"),
                              r);
    }
    json_decref(rows);
    return ST_OK;
}

/* ---- folders --------------------------------------------------------------------------------- */

typedef struct {
    json_t *found;
    st_runs_cache cache;
    int64_t runs, searched;
    st_err *e;
} find_walk;

static void find_leave_out(find_walk *w, const char *path, const char *why)
{
    st_log(ST_LOG_WARN, "%s is left out: %s", path, why);
    json_t *entry = json_pack("{s:o, s:o}", "path", st_json_text(path), "why", st_json_text(why));
    if (entry) json_array_append_new(json_object_get(w->found, "left_out"), entry);
}

static st_status find_run(find_walk *w, const char *dir)
{
    st_err why = {0};
    json_t *row = NULL;
    st_report(&(st_progress){.what = "report", .done = w->runs, .unit = "runs"});
    st_status s = st_runs_read(dir, &w->cache, &row, &why);
    if (s == ST_ENOMEM) ST_FAIL(w->e, s, "%s", why.msg);
    if (s)
        find_leave_out(w, dir, why.msg);
    else
        json_array_append_new(json_object_get(w->found, "runs"), row);
    if (++w->runs > FIND_RUNS)
        ST_FAIL(w->e, ST_EARG, "%s: more than %d runs; name fewer folders", dir, FIND_RUNS);
    return ST_OK;
}

static int find_shown(const struct dirent *d)
{
    return d->d_name[0] != '.';
}

/* A folder of runs, sorted; links to folders are not followed below the top. */
static st_status find_folder(find_walk *w, const char *dir, int depth)
{
    struct dirent **item = NULL;
    if (st_interrupted()) ST_FAIL(w->e, ST_EINTR, "interrupted");
    if (st_runs_is(dir)) return find_run(w, dir);
    if (depth == FIND_DEPTH) return ST_OK;
    int n = scandir(dir, &item, find_shown, versionsort);
    st_status s = ST_OK;
    if (n < 0) find_leave_out(w, dir, "the folder cannot be read");
    for (int i = 0; i < n; i++) {
        char *path = s ? NULL : st_path_join(dir, item[i]->d_name);
        bool folder = item[i]->d_type == DT_DIR ||
                      (item[i]->d_type == DT_UNKNOWN && path && st_path_is_dir(path));
        if (path && folder) s = find_folder(w, path, depth + 1);
        free(path);
        free(item[i]);
    }
    free(item);
    return s;
}

/* Runs of one name (a sweep's) are told apart by their folders. */
static void find_names(json_t *runs)
{
    json_t *row, *count = json_object();
    size_t i;
    json_array_foreach(runs, i, row)
    {
        json_t *n = json_object_get(count, st_row_str(row, "name"));
        json_object_set_new(count, st_row_str(row, "name"),
                            json_integer(json_integer_value(n) + 1));
    }
    json_array_foreach(runs, i, row)
    {
        const char *name = st_row_str(row, "name"), *folder = st_row_str(row, "folder");
        const char *slash = strrchr(folder, '/');
        char *both = NULL;
        if (json_integer_value(json_object_get(count, name)) < 2) continue;
        if (asprintf(&both, "%s %s", name, slash && slash[1] ? slash + 1 : folder) < 0) continue;
        json_object_set_new(row, "name", st_json_text(both));
        free(both);
    }
    json_decref(count);
}

st_status st_runs_find(const char *const *paths, int n, json_t **found, st_err *e)
{
    char when[40];
    time_t now = time(NULL);
    struct tm tm;
    strftime(when, sizeof when, "%Y-%m-%d %H:%M UTC", gmtime_r(&now, &tm));
    *found = json_pack("{s:s, s:s, s:[], s:[], s:[], s:[], s:[]}", "strut", ST_VERSION, "when",
                       when, "runs", "layers", "models", "attention", "left_out");
    if (!*found) return ST_NOMEM(e, "report");
    find_walk w = {.found = *found, .e = e};
    st_status s = ST_OK;
    for (int i = 0; i < n && !s; i++) {
        size_t before = json_array_size(json_object_get(*found, "runs"));
        if (!st_path_exists(paths[i]))
            s = ST_ERR(e, ST_EIO, "%s: no such file or folder", paths[i]);
        else if (!st_path_is_dir(paths[i]))
            s = st_runs_csv(paths[i], *found, e);
        else
            s = find_folder(&w, paths[i], 0);
        if (!s && st_path_is_dir(paths[i]) &&
            json_array_size(json_object_get(*found, "runs")) == before)
            st_log(ST_LOG_WARN, "%s: no run in it (a folder with metrics.jsonl)", paths[i]);
    }
    if (!s && json_array_size(json_object_get(*found, "runs")) +
                      json_array_size(json_object_get(*found, "layers")) +
                      json_array_size(json_object_get(*found, "attention")) +
                      json_array_size(json_object_get(*found, "models")) ==
                  0)
        s = ST_ERR(e, ST_EARG,
                   "nothing to report: expected folders of training runs (with metrics.jsonl) or "
                   "CSV files of strut bench");
    json_decref(w.cache.facts);
    if (!s) st_runs_join(*found);
    if (!s) find_names(json_object_get(*found, "runs"));
    if (s) {
        json_decref(*found);
        *found = NULL;
    }
    return s;
}

/* ---- which benchmark is which run ------------------------------------------------------------ */

/* The forward row of the largest batch for this run; NULL if none, or several models, could be. */
static const json_t *join_row(const json_t *models, const json_t *run)
{
    const json_t *row, *best = NULL;
    size_t i;
    int rank = 0;
    bool twice = false;
    json_array_foreach(models, i, row)
    {
        const char *spec = st_row_str(row, "spec");
        int now = 0;
        if (strcmp(st_row_str(row, "what"), "forward") != 0) continue;
        if (fabs(st_row_num(row, "parameters") - st_row_num(run, "parameters")) < 0.5) now = 1;
        if (now && strcmp(spec, st_row_str(run, "maps")) == 0) now = 2;
        if (now && strcmp(spec, st_row_str(run, "name")) == 0) now = 3;
        if (now == 0 || now < rank) continue;
        bool other = best && strcmp(spec, st_row_str(best, "spec")) != 0;
        twice = now == rank ? twice || other : false;
        if (now > rank || !best || st_row_num(row, "batch") > st_row_num(best, "batch")) best = row;
        rank = now;
    }
    return rank == 1 && twice ? NULL : best;
}

void st_runs_join(json_t *found)
{
    json_t *run;
    size_t i;
    json_array_foreach(json_object_get(found, "runs"), i, run)
    {
        const json_t *row = join_row(json_object_get(found, "models"), run);
        double speed = st_row_num(row, "tokens_per_second");
        if (!row || !(speed > 0)) continue;
        char of[160];
        snprintf(of, sizeof of, "%.60s, batch %.0f x %.0f, %.20s", st_row_str(row, "spec"),
                 st_row_num(row, "batch"), st_row_num(row, "context"), st_row_str(row, "dtype"));
        json_object_set_new(run, "forward_ms", json_real(1e6 / speed));
        json_object_set_new(run, "forward_of", st_json_text(of));
    }
}
