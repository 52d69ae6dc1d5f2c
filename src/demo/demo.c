/* strut demo: every matrix type on real text, from tokenizer to report, in a few minutes on a CPU.
 *
 * text -> tokenizer -> shards -> dense model -> { decompose -> heal } x types x {2x, 4x}, narrow
 * dense controls -> perplexity, speed, samples -> report. How long the models train is chosen once,
 * from the pace of a few steps, so that all of it fits the budget. */
/* SPDX-License-Identifier: MIT */
#include "demo/inner.h"
#include "files/files.h"
#include "report/report.h"
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Large enough that structure shows in time and quality, small enough for minutes on two cores. */
static void demo_presets(st_demo_opts *o)
{
    static const int64_t preset[] = {2048, 4, 4, 192, 768, 128, 8};
    int64_t *const size[] = {&o->size.vocab, &o->size.layers,  &o->size.heads, &o->size.width,
                             &o->size.inner, &o->size.context, &o->size.batch};
    for (size_t i = 0; i < sizeof preset / sizeof *preset; i++)
        if (*size[i] <= 0) *size[i] = preset[i];
    if (!(o->budget > 0)) o->budget = 270;
}

/* ---- results --------------------------------------------------------------------------------- */

/* Dense models first, then by reduction, structured ones before narrow ones; else as they came. */
static int demo_rank(const json_t *row)
{
    const char *kind = st_row_str(row, "kind");
    int rank = (int)st_row_num(row, "reduction") * 2;
    return strcmp(kind, "dense") == 0 ? 0 : rank + (strcmp(kind, "narrow") == 0);
}

static st_status demo_sort(demo_run *r, st_err *e)
{
    json_t *sorted = json_array();
    size_t i;
    json_t *row;
    for (int rank = 0; rank < 32 && sorted; rank++)
        json_array_foreach(r->models, i, row) if (demo_rank(row) == rank)
            json_array_append(sorted, row);
    if (!sorted || json_array_size(sorted) != json_array_size(r->models)) {
        json_decref(sorted);
        ST_FAIL(e, ST_ENOMEM, "demo: no memory for results");
    }
    json_object_set_new(r->results, "models", sorted);
    r->models = sorted;
    return ST_OK;
}

static st_status demo_write(demo_run *r, st_err *e)
{
    char *path = st_path_join(r->out, "results.json");
    if (!path) ST_FAIL(e, ST_ENOMEM, "demo: no memory for a path");
    json_object_set_new(r->results, "seconds", json_real(st_now() - r->clock.began));
    st_status s = st_write_json(path, r->results, e);
    free(path);
    return s;
}

/* Results and page, also of a run that was stopped. */
static st_status demo_publish(demo_run *r, bool complete, st_err *e)
{
    json_object_set_new(r->results, "complete", json_boolean(complete));
    ST_TRY(demo_sort(r, e));
    ST_TRY(st_remarks_add(r->results, e));
    ST_TRY(demo_write(r, e));
    return st_report_write(r->results, r->out, e);
}

static void demo_say_row(demo_run *r)
{
    const json_t *row = json_array_get(r->models, json_array_size(r->models) - 1);
    double before = st_row_num(row, "perplexity_projected"), after = st_row_num(row, "perplexity");
    double healed = st_row_num(row, "perplexity_healed");
    if (before > 0 && healed > before)
        st_demo_say(&r->clock, "%-18s perplexity %9.1f, healed %6.1f: left as it was",
                    st_row_str(row, "name"), before, healed);
    else if (before > 0)
        st_demo_say(&r->clock, "%-18s perplexity %9.1f, healed %6.1f (%.1f %% less, lr %g)",
                    st_row_str(row, "name"), before, after, st_row_num(row, "healing_gain"),
                    st_row_num(row, "healing_rate"));
    else
        st_demo_say(&r->clock, "%-18s perplexity %6.1f after %.0f steps", st_row_str(row, "name"),
                    after, st_row_num(row, "steps"));
}

/* ---- set-up ---------------------------------------------------------------------------------- */

/* OUT must be ours or empty: nobody's files are overwritten. */
static st_status demo_folder(const char *out, st_err *e)
{
    char *mark = st_path_join(out, "results.json");
    bool ours = mark && st_path_exists(mark);
    free(mark);
    if (ours || !st_path_exists(out)) return st_make_dirs(out, e);
    DIR *d = opendir(out);
    if (!d) ST_FAIL(e, ST_EIO, "%s: cannot be read as a folder: %s", out, strerror(errno));
    int entries = 0;
    for (const struct dirent *f; (f = readdir(d));)
        entries += strcmp(f->d_name, ".") != 0 && strcmp(f->d_name, "..") != 0;
    closedir(d);
    if (entries)
        ST_FAIL(
            e, ST_EARG,
            "%s: holds %d files that are not an earlier demo's (no results.json), expected a new "
            "or empty folder; name another one",
            out, entries);
    return ST_OK;
}

static st_status demo_open(demo_run *r, const char *out, const st_demo_opts *o, st_err *e)
{
    char when[40], *models;
    time_t now = time(NULL);
    struct tm utc;
    *r = (demo_run){.o = *o, .out = out};
    demo_presets(&r->o);
    st_demo_choose(r);
    r->step_tokens = r->o.size.batch * r->o.size.context;
    strftime(when, sizeof when, "%Y-%m-%d %H:%M UTC", gmtime_r(&now, &utc));
    ST_TRY(demo_folder(out, e));
    r->data = st_path_join(out, "data");
    models = st_path_join(out, "models");
    r->results = json_pack("{s:s, s:s, s:I, s:f, s:b, s:o, s:[]}", "strut", ST_VERSION, "when",
                           when, "seed", (json_int_t)o->seed, "budget_seconds", r->o.budget,
                           "complete", 0, "machine", st_demo_machine(e), "models");
    r->models = json_object_get(r->results, "models");
    st_status s = ST_OK;
    if (!r->results || !r->data || !models)
        s = ST_ERR(e, ST_ENOMEM, "demo: no memory, or no cpu backend");
    else
        s = st_make_dirs(models, e);
    free(models);
    r->clock.began = st_now();
    if (!s) s = demo_write(r, e); /* from now on the folder is known as ours */
    return s;
}

static void demo_describe(demo_run *r)
{
    st_demo_recipe(r);
    json_object_set_new(r->results, "sampling",
                        json_pack("{s:f, s:i, s:i}", "temperature", ST_DEMO_HEAT, "top_k",
                                  ST_DEMO_TOP_K, "tokens", ST_DEMO_SAMPLE));
    json_object_set_new(r->results, "measure",
                        json_pack("{s:s, s:I, s:I, s:I, s:s}", "rounds",
                                  "every model once a round, in turns", "training_batch",
                                  (json_int_t)r->o.size.batch, "prefill_tokens",
                                  (json_int_t)r->o.size.context, "decode_after_tokens",
                                  (json_int_t)r->o.size.context / 2, "reported", "median"));
    char summary[400];
    snprintf(summary, sizeof summary,
             "A dense GPT-2 of %s, width %lld, is trained on %s; its MLP matrices are replaced "
             "by structured ones with 2x and 4x fewer weights, which are healed for %s.",
             st_counted(r->o.size.layers, "layers").s, (long long)r->o.size.width,
             st_row_str(json_object_get(r->results, "text"), "source"),
             st_counted(r->heal_steps, "steps").s);
    json_object_set_new(r->results, "summary", json_string(summary));
    json_object_set_new(r->results, "model",
                        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "layers",
                                  (json_int_t)r->o.size.layers, "heads",
                                  (json_int_t)r->o.size.heads, "width", (json_int_t)r->o.size.width,
                                  "MLP_width", (json_int_t)r->o.size.inner, "context",
                                  (json_int_t)r->o.size.context, "vocabulary", (json_int_t)r->vocab,
                                  "arithmetic", "float32"));
}

/* ---- the run --------------------------------------------------------------------------------- */

static st_status demo_structured(demo_run *r, st_err *e)
{
    int all = 2 * r->types;
    for (int i = 0; i < all; i++) {
        int reduction = i % 2 ? 4 : 2, left = all - 1 - i;
        double later = st_demo_seconds_left(r, left + 1, 1);
        st_demo_stage(&r->clock, st_demo_seconds_left(r, left + 2, 1) - later, later,
                      "decomposing and healing, %d of %d", i + 1, all);
        ST_TRY(st_demo_structured(r, i / 2, reduction, e));
        demo_say_row(r);
    }
    return ST_OK;
}

static st_status demo_models(demo_run *r, st_err *e)
{
    int all = 2 * r->types;
    double later = st_demo_seconds_left(r, all + 1, 2);
    double dense = (double)r->steps * r->step_seconds;
    st_demo_stage(&r->clock, dense, later, "dense model");
    ST_TRY(st_demo_dense(r, e));
    demo_say_row(r);
    later = st_demo_seconds_left(r, all + 1, 1);
    st_demo_stage(&r->clock, st_demo_seconds_left(r, all + 1, 2) - later, later,
                  "narrow control, 4x");
    ST_TRY(st_demo_narrow(r, 4, e));
    demo_say_row(r);
    ST_TRY(demo_structured(r, e));
    later = st_demo_seconds_left(r, 0, 1);
    st_demo_stage(&r->clock, st_demo_seconds_left(r, 1, 1) - later, later, "dense, continued");
    ST_TRY(st_demo_continued(r, e));
    demo_say_row(r);
    later = st_demo_seconds_left(r, 0, 0);
    double narrow = st_demo_seconds_left(r, 0, 1) - later, past = st_now() - r->clock.began;
    if (!r->o.steps && past + narrow + later > r->o.budget * 1.2) {
        st_demo_say(&r->clock, "narrow 2x          left out: %.0f s are over, the budget is %.0f s",
                    past, r->o.budget);
        return ST_OK;
    }
    st_demo_stage(&r->clock, narrow, later, "narrow control, 2x");
    ST_TRY(st_demo_narrow(r, 2, e));
    demo_say_row(r);
    return ST_OK;
}

static st_status demo_all(demo_run *r, st_err *e)
{
    st_demo_stage(&r->clock, 6, r->o.budget - 6, "text, tokenizer and shards");
    ST_TRY(st_demo_prepare(r, e));
    st_demo_stage(&r->clock, 3, r->o.budget - 9, "timing a few steps");
    ST_TRY(st_demo_plan(r, e));
    demo_describe(r);
    st_demo_say(&r->clock, "%s of %lld tokens for the dense model (%.0f s), %lld for healing",
                st_counted(r->steps, "steps").s, (long long)r->step_tokens,
                (double)r->steps * r->step_seconds, (long long)r->heal_steps);
    ST_TRY(demo_models(r, e));
    ST_TRY(demo_sort(r, e));
    st_demo_stage(&r->clock, ST_DEMO_RACE * r->o.budget, 0, "measuring speed, models in turns");
    return st_demo_race(r, e);
}

st_status st_demo(const char *out, const st_demo_opts *o, json_t **result, st_err *e)
{
    demo_run r = {0};
    st_err second = {0};
    st_status s = demo_open(&r, out, o, e);
    if (s) goto out;
    st_demo_clock_open(&r.clock, r.o.budget);
    s = demo_all(&r, e);
    st_demo_clock_close(&r.clock, !s);
    if (!s) {
        s = demo_publish(&r, true, e);
    } else if (json_array_size(r.models) && !demo_publish(&r, false, &second) && e) {
        size_t used = strlen(e->msg);
        snprintf(e->msg + used, sizeof e->msg - used,
                 "; the %d models that are finished are in %s/models and %s/report.html",
                 (int)json_array_size(r.models), out, out);
    }
out:
    if (!s) *result = json_incref(r.results);
    json_decref(r.results);
    free(r.data), free(r.tokenizer);
    return s;
}
