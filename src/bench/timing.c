/* Timing: warm-up, interleaved repetitions, medians and spread (see inner.h). */
/* SPDX-License-Identifier: MIT */
#include "bench/inner.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 30, FILL_CHUNK = 1 << 20 };
static const double bench_budget = 20.0;
static const double bench_long = 0.2;    /* seconds: calls that need no second warm-up */
static const double bench_sample = 4e-3; /* seconds that one sample lasts at least */

/* Short calls are made for so long before they are timed: what ran before leaves caches and threads
 * in its own state, and in turns that favours whoever comes late (one model ten times: decoding
 * rose from 827 to 1637 tokens/s along the row). */
static const double bench_settle = 15e-3;

static st_status bench_settled(st_stream *q, const bench_item *item, st_err *e)
{
    double start = st_now(), now = start;
    while (item->quick && now - start < bench_settle) {
        item->call(item->ctx);
        ST_TRY(st_stream_sync(q, e));
        now = st_now();
    }
    return ST_OK;
}

static st_status bench_time(st_stream *q, const bench_item *item, double *seconds, st_err *e)
{
    double start = st_now();
    for (int64_t i = 0; i < item->inner; i++)
        item->call(item->ctx);
    ST_TRY(st_stream_sync(q, e));
    *seconds = (st_now() - start) / (double)item->inner;
    return ST_OK;
}

/* First calls touch memory and start threads; a second one, of short calls, tells how long one
 * takes. */
static st_status bench_warm(st_stream *q, bench_item *item, st_err *e)
{
    double seconds;
    item->inner = 1;
    ST_TRY(bench_time(q, item, &seconds, e));
    if (seconds < bench_long) ST_TRY(bench_time(q, item, &seconds, e));
    item->quick = seconds < bench_settle;
    if (seconds < bench_sample) item->inner = 1 + (int64_t)(bench_sample / (seconds + 1e-9));
    return ST_OK;
}

/* `spent`: the share of the budget. */
static void bench_tell(const bench_effort *how, int64_t done, int64_t total, double spent)
{
    if (how->progress) {
        how->progress(how->ctx, fmin(fmax((double)done / (double)total, spent), 1.0));
    } else {
        st_report(&(st_progress){.what = "bench",
                                 .done = done,
                                 .total = total,
                                 .unit = "rounds",
                                 .last = done == total});
    }
}

st_status bench_all(st_stream *q, bench_item *item, int64_t n, const bench_effort *how,
                    int64_t *rounds, st_err *e)
{
    double start = st_now(), budget = how->budget > 0.0 ? how->budget : bench_budget;
    int64_t most = how->reps > 0 ? how->reps : ROUNDS;
    *rounds = 0;
    for (int64_t i = 0; i < n; i++) {
        if (st_interrupted()) ST_FAIL(e, ST_EINTR, "interrupted");
        item[i].sample = st_calloc(most, sizeof *item[i].sample);
        if (!item[i].sample) return ST_NOMEM(e, NULL);
        ST_TRY(bench_warm(q, &item[i], e));
    }
    double took = 0.0; /* by the longest round: the next one will hardly be shorter */
    while (*rounds < most) {
        double now = st_now(), spent = now - start;
        if (*rounds >= BENCH_ROUNDS_LEAST && spent + took > budget) break;
        if (*rounds && spent > 2.0 * budget) break;
        for (int64_t i = 0; i < n; i++) {
            if (st_interrupted()) ST_FAIL(e, ST_EINTR, "interrupted");
            ST_TRY(bench_settled(q, &item[i], e));
            ST_TRY(bench_time(q, &item[i], &item[i].sample[*rounds], e));
        }
        if (how->roof) ST_TRY(bench_roof_probe(how->roof, e));
        if (st_now() - now > took) took = st_now() - now;
        ++*rounds;
        if (*rounds < most) bench_tell(how, *rounds, most, (st_now() - start) / budget);
    }
    bench_tell(how, *rounds, *rounds, 1.0);
    return ST_OK;
}

void bench_free(bench_item *item, int64_t n)
{
    for (int64_t i = 0; item && i < n; i++)
        free(item[i].sample);
}

static int bench_order(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

double bench_quantile(double *x, int64_t n, double share)
{
    qsort(x, (size_t)n, sizeof *x, bench_order);
    double at = share * (double)(n - 1);
    int64_t i = (int64_t)at;
    return i + 1 < n ? x[i] + (at - (double)i) * (x[i + 1] - x[i]) : x[n - 1];
}

/* What the rounds' ratios to the base say. */
static void bench_against(json_t *s, const bench_item *item, const bench_item *base, int64_t rounds,
                          double *x)
{
    for (int64_t i = 0; i < rounds; i++)
        x[i] = base->sample[i] / fmax(item->sample[i], 1e-12);
    json_object_set_new(s, "speedup", json_real(bench_quantile(x, rounds, 0.5)));
    json_object_set_new(s, "speedup_p10", json_real(bench_quantile(x, rounds, 0.1)));
    json_object_set_new(s, "speedup_p90", json_real(bench_quantile(x, rounds, 0.9)));
}

/* What the rounds' ceilings say: the roof's last `rounds` samples were taken beside the item's. */
static void bench_under(json_t *s, const bench_item *item, int64_t rounds, double *x)
{
    const bench_roof *r = item->roof;
    int64_t from = r->n - rounds;
    if (from < 0) return;
    for (int64_t i = 0; i < rounds; i++) {
        double least = bench_roof_least(&r->sample[from + i], item->dtype, item->macs, item->bytes);
        x[i] = 100.0 * least / fmax(item->sample[i], 1e-12);
    }
    double gflops, gbytes;
    bench_ceiling m = bench_roof_median(r, from);
    bench_roof_at(&m, item->dtype, item->bytes, &gflops, &gbytes);
    json_object_set_new(s, "roofline_percent", json_real(bench_quantile(x, rounds, 0.5)));
    json_object_set_new(s, "peak_gflops", json_real(gflops));
    json_object_set_new(s, "peak_gbytes_per_s", json_real(gbytes));
}

json_t *bench_summary(const bench_item *item, const bench_item *base, int64_t rounds)
{
    double *x = st_calloc(rounds, sizeof *x);
    if (!x || rounds < 1) {
        free(x);
        return json_object();
    }
    memcpy(x, item->sample, (size_t)rounds * sizeof *x);
    double median = bench_quantile(x, rounds, 0.5), safe = fmax(median, 1e-12);
    json_t *s = json_pack("{s:f, s:f, s:f, s:f, s:I, s:f, s:f}", "median", median, "p10",
                          bench_quantile(x, rounds, 0.1), "p90", bench_quantile(x, rounds, 0.9),
                          "best", x[0], "reps", (json_int_t)rounds, "gflops",
                          2e-9 * item->macs / safe, "tokens_per_second", item->tokens / safe);
    if (item->bytes > 0.0) {
        json_object_set_new(s, "bytes_moved", json_integer((json_int_t)item->bytes));
        json_object_set_new(s, "gbytes_per_s", json_real(1e-9 * item->bytes / safe));
    }
    if (base) bench_against(s, item, base, rounds, x);
    if (item->roof) bench_under(s, item, rounds, x);
    free(x);
    return s;
}

st_status bench_fill(st_stream *q, st_tensor t, float std, uint64_t stream, st_err *e)
{
    int64_t n = st_numel(t), most = n < FILL_CHUNK ? n : FILL_CHUNK;
    float *x = st_calloc(most, sizeof *x);
    void *y = st_calloc(most, st_dtype_size(t.dtype));
    st_status s = ST_OK;
    if (!x || !y) s = ST_NOMEM(e, NULL);
    if (!s) {
        st_normal_fill(x, most, 0.0f, std, 1, stream);
        st_convert(y, t.dtype, x, ST_F32, most);
    }
    for (int64_t i = 0; !s && i < n; i += most) {
        int64_t m = n - i < most ? n - i : most;
        st_upload(q, st_slice(t, i, m), y);
    }
    free(x);
    free(y);
    return s;
}

st_status bench_spec(st_spec *s, const char *text, int64_t in, int64_t out, double fit, st_err *e)
{
    bool named = strpbrk(text, ":=") == NULL && strcmp(text, "dense") != 0;
    st_status status;
    if (named && fit > 0.0) {
        int64_t params = (int64_t)((double)in * (double)out / fit + 0.5);
        status = st_spec_fit(s, text, in, out, params > 0 ? params : 1, e);
    } else {
        status = st_spec_parse(s, text, in, out, e);
    }
    if (status) st_err_prefix(e, "map %s", text);
    return status;
}
