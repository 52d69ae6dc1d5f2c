/* A long benchmark: parts in a row, each with its share of the time, what is measured written after
 * each, so that Ctrl-C loses little and a later run goes on. */
/* SPDX-License-Identifier: MIT */
#include "bench/inner.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { SESSION_PROBES = 3 };

st_status bench_session_open(bench_session *s, const char *device, st_err *e)
{
    if (s->resume && !s->csv) ST_FAIL(e, ST_EARG, "--resume goes on with a file: give --csv FILE");
    ST_TRY(st_stream_open(&s->q, device, 0, e));
    s->rows = json_array();
    s->result = st_machine_json(st_stream_describe(s->q), st_stream_threads(s->q));
    json_object_set(s->result, "rows", s->rows);
    return s->resume ? bench_csv_read(&s->old, s->csv, s->result, e) : ST_OK;
}

st_status bench_session_start(bench_session *s, int64_t parts, double budget, bool bf16, st_err *e)
{
    s->n = parts;
    s->budget = budget;
    ST_TRY(bench_roof_open(&s->roof, s->q, bf16, e));
    for (int i = 0; i < SESSION_PROBES; i++)
        ST_TRY(bench_roof_probe(&s->roof, e));
    s->now = bench_roof_median(&s->roof, 0);
    s->start = st_now();
    return ST_OK;
}

double bench_session_turn(bench_session *s)
{
    s->before = st_now() - s->start;
    s->share = fmax(s->budget - s->before, 0.0) / (double)(s->n - s->at);
    return s->share;
}

void bench_session_kept(const bench_session *s, int64_t left, int64_t all)
{
    size_t kept = json_array_size(s->old.kept);
    if (!kept) return;
    st_log(ST_LOG_INFO, "%s: has %s already; left of %lld %s: %lld", s->csv,
           st_counted((int64_t)kept, "rows").s, (long long)all, s->unit, (long long)left);
}

static void session_progress(void *ctx, double share)
{
    bench_session *s = ctx;
    double after = s->before + s->share, each = after / (double)(s->at + 1);
    char detail[128];
    snprintf(detail, sizeof detail, "%.80s, %lld of %lld %s", s->part, (long long)s->at + 1,
             (long long)s->n, s->unit);
    st_report(&(st_progress){.what = s->what,
                             .done = (int64_t)(s->before + share * s->share),
                             .total = (int64_t)ceil(after + each * (double)(s->n - 1 - s->at)),
                             .unit = "s",
                             .detail = detail});
}

bench_effort bench_session_effort(bench_session *s, int64_t reps, double budget)
{
    return (bench_effort){
        .reps = reps, .budget = budget, .roof = &s->roof, .progress = session_progress, .ctx = s};
}

st_status bench_session_save(bench_session *s, st_status so_far, st_err *e)
{
    if (!s->csv || (so_far && so_far != ST_EINTR)) return so_far;
    bool none = json_array_size(s->rows) + json_array_size(s->old.kept) == 0;
    if (so_far && none) return so_far; /* an earlier file of that name is worth more */
    st_status wrote = bench_csv_write(s->csv, &s->old, s->result, so_far ? NULL : e);
    return so_far ? so_far : wrote;
}

st_status bench_session_end(bench_session *s, st_status so_far, st_err *e)
{
    json_object_set_new(s->result, "ceilings", bench_roof_json(&s->roof));
    if (so_far == ST_EINTR) {
        size_t n = json_array_size(s->rows);
        if (n == 0)
            ST_FAIL(e, ST_EINTR, "interrupted before anything was measured%s%s",
                    s->csv ? "; unchanged: " : "", s->csv ? s->csv : "");
        ST_FAIL(e, ST_EINTR, "interrupted after %lld of %lld %s; %zu row%s %s %s%s%s",
                (long long)s->at - 1, (long long)s->n, s->unit, n, n == 1 ? "" : "s",
                n == 1 ? "is" : "are", s->csv ? "in " : "printed", s->csv ? s->csv : "",
                s->csv ? ", and --resume goes on" : "");
    }
    if (so_far) return so_far;
    char detail[48];
    int64_t took = (int64_t)ceil(st_now() - s->start);
    snprintf(detail, sizeof detail, "%lld %.*s", (long long)s->n,
             (int)strlen(s->unit) - (s->n == 1), s->unit); /* shapes, parts */
    st_report(&(st_progress){
        .what = s->what, .done = took, .total = took, .unit = "s", .detail = detail, .last = true});
    return ST_OK;
}

json_t *bench_session_result(const bench_session *s, st_status so_far)
{
    bool some = so_far == ST_EINTR && json_array_size(s->rows) > 0;
    return !so_far || some ? json_incref(s->result) : NULL;
}

void bench_session_close(bench_session *s)
{
    bench_roof_close(&s->roof);
    bench_csv_free(&s->old);
    st_stream_close(s->q);
    json_decref(s->rows);
    json_decref(s->result);
    *s = (bench_session){0};
}
