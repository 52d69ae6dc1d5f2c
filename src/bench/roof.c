/* The machine's ceilings of the moment: a large product in float32 (and bfloat16) and passes over
 * memory of several sizes, probed in every round of a benchmark, since hosts swing by 2x. What a
 * call could take at least is the larger of its multiply-adds at the product's speed and its bytes
 * at the memory's (the roofline of Williams, Waterman & Patterson 2009). */
/* SPDX-License-Identifier: MIT */
#include "bench/inner.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE_LEAST = 128, SIDE_MOST = 1024, TRIES = 3 };
/* Elsewhere than on the host: what fills the device, and calls that are queued before a wait. */
enum { AWAY_MOST = 4096, AWAY_QUEUE = 16 };
static const double roof_call = 3e-3;  /* seconds of one product, about */
static const double roof_pass = 1e-3;  /* seconds that passes over one size are made for */
static const double roof_warm = 30e-3; /* seconds before the first: threads start, clocks rise */

/* Bytes that a probe reads and writes: from what first caches hold to what none does. */
static const int64_t roof_sets[BENCH_SETS] = {1 << 19, 1 << 21, 1 << 23, 1 << 25, 1 << 27};

static int64_t roof_most(const bench_roof *r)
{
    return st_stream_on_host(r->q) ? SIDE_MOST : AWAY_MOST;
}

static void roof_product(bench_roof *r, bool bf16)
{
    int64_t n = r->side;
    const st_tensor *t = bf16 ? r->half : r->full;
    st_tensor m[3];
    for (int i = 0; i < 3; i++)
        m[i] = st_view2(t[i].data, t[i].dtype, n, n);
    st_stream_ops(r->q)->gemm(
        r->q, &(st_gemm_args){.m = n, .n = n, .k = n, .tb = 1, .a = m[0], .b = m[1], .c = m[2]});
}

/* The best GFLOP/s of a few calls. */
static st_status roof_gflops(bench_roof *r, bool bf16, double *out, st_err *e)
{
    double best = INFINITY, work = 2e-9 * pow((double)r->side, 3);
    for (int i = 0; i < TRIES; i++) {
        double start = st_now();
        roof_product(r, bf16);
        ST_TRY(st_stream_sync(r->q, e));
        best = fmin(best, st_now() - start);
    }
    *out = work / fmax(best, 1e-9);
    return ST_OK;
}

/* The better GB/s of copying half a set onto its other half and of reading all of it. */
static st_status roof_gbytes(bench_roof *r, int64_t bytes, double *out, st_err *e)
{
    const st_ops *op = st_stream_ops(r->q);
    int64_t n = bytes / (int64_t)sizeof(float), queued = st_stream_on_host(r->q) ? 1 : AWAY_QUEUE;
    st_tensor all = st_slice(r->memory, 0, n);
    st_tensor from = st_slice(all, 0, n / 2), to = st_slice(all, n / 2, n / 2);
    double best[2] = {INFINITY, INFINITY};
    for (int kind = 0; kind < 2; kind++) {
        double first = st_now(), now = first;
        do {
            double start = now;
            for (int64_t i = 0; i < queued; i++) {
                if (kind == 0) {
                    op->copy(r->q, &(st_copy_args){.x = from, .y = to});
                } else {
                    op->sumsq(r->q, &(st_sumsq_args){.x = all, .out = r->sum});
                }
            }
            ST_TRY(st_stream_sync(r->q, e));
            now = st_now();
            best[kind] = fmin(best[kind], (now - start) / (double)queued);
        } while (now - first < roof_pass);
    }
    *out = 1e-9 * (double)bytes / fmax(fmin(best[0], best[1]), 1e-9);
    return ST_OK;
}

/* Products grow until they last, so that a plain loop and a fast library are both probed briefly;
 * what is guessed from the first probe of a cold machine would be many times too long. */
static st_status roof_size(bench_roof *r, st_err *e)
{
    double first = st_now();
    r->side = SIDE_LEAST;
    while (st_now() - first < roof_warm) {
        roof_product(r, false);
        ST_TRY(st_stream_sync(r->q, e));
    }
    for (r->side = SIDE_LEAST;; r->side *= 2) {
        double gflops;
        ST_TRY(roof_gflops(r, false, &gflops, e));
        if (r->side == roof_most(r) || 2e-9 * pow((double)r->side, 3) / gflops > roof_call / 2)
            break;
    }
    return ST_OK;
}

st_status bench_roof_open(bench_roof *r, st_stream *q, bool bf16, st_err *e)
{
    *r = (bench_roof){.q = q, .bf16 = bf16};
    const int64_t n = roof_most(r) * roof_most(r);
    const int64_t most = roof_sets[BENCH_SETS - 1] / (int64_t)sizeof(float);
    size_t bytes = (size_t)(most + 3 * n * 2 + 64) * sizeof(float) + 8 * ST_ALIGN;
    ST_TRY(st_device_arena(q, bytes, &r->mem, e));
    r->memory = st_take1(&r->mem, ST_F32, most);
    r->sum = st_take1(&r->mem, ST_F32, 1);
    for (int i = 0; i < 3; i++) {
        r->full[i] = st_take1(&r->mem, ST_F32, n);
        r->half[i] = st_take1(&r->mem, ST_BF16, n);
        if (i == 2) break;
        ST_TRY(bench_fill(q, r->full[i], 1.0f, (uint64_t)i, e));
        ST_TRY(bench_fill(q, r->half[i], 1.0f, (uint64_t)i, e));
    }
    return roof_size(r, e);
}

void bench_roof_close(bench_roof *r)
{
    if (r->q) st_device_arena_close(r->q, &r->mem);
    free(r->sample);
    *r = (bench_roof){0};
}

st_status bench_roof_probe(bench_roof *r, st_err *e)
{
    if (r->n == r->cap) {
        int64_t cap = r->cap ? 2 * r->cap : 64;
        bench_ceiling *more = realloc(r->sample, (size_t)cap * sizeof *more);
        if (!more) return ST_NOMEM(e, NULL);
        r->sample = more;
        r->cap = cap;
    }
    bench_ceiling *c = &r->sample[r->n];
    *c = (bench_ceiling){0};
    ST_TRY(roof_gflops(r, false, &c->gflops[0], e));
    c->gflops[1] = c->gflops[0];
    if (r->bf16) ST_TRY(roof_gflops(r, true, &c->gflops[1], e));
    for (int i = 0; i < BENCH_SETS; i++)
        ST_TRY(roof_gbytes(r, roof_sets[i], &c->gbytes[i], e));
    r->n++;
    return ST_OK;
}

/* Numbers in bfloat16 may be multiplied as either type. */
static double roof_peak(const bench_ceiling *c, st_dtype t)
{
    return t == ST_BF16 ? fmax(c->gflops[0], c->gflops[1]) : c->gflops[0];
}

/* Of sets from the largest one that is not larger than what the call moves: a ceiling is rather too
 * high than too low, and small sets, where starting threads takes longest, are at least as fast as
 * large ones. */
static double roof_band(const bench_ceiling *c, double bytes)
{
    int i = 0;
    while (i + 1 < BENCH_SETS && (double)roof_sets[i + 1] <= bytes)
        i++;
    double best = c->gbytes[i];
    while (++i < BENCH_SETS)
        best = fmax(best, c->gbytes[i]);
    return best;
}

double bench_roof_least(const bench_ceiling *c, st_dtype t, double macs, double bytes)
{
    return fmax(2e-9 * macs / roof_peak(c, t), 1e-9 * bytes / roof_band(c, bytes));
}

bench_ceiling bench_roof_median(const bench_roof *r, int64_t from)
{
    int64_t n = r->n - from;
    bench_ceiling m = {0};
    double *x = st_calloc(n, sizeof *x);
    for (int k = 0; x && n > 0 && k < 2 + BENCH_SETS; k++) {
        for (int64_t i = 0; i < n; i++) {
            const bench_ceiling *c = &r->sample[from + i];
            x[i] = k < 2 ? c->gflops[k] : c->gbytes[k - 2];
        }
        *(k < 2 ? &m.gflops[k] : &m.gbytes[k - 2]) = bench_quantile(x, n, 0.5);
    }
    free(x);
    return m;
}

void bench_roof_at(const bench_ceiling *c, st_dtype t, double bytes, double *gflops, double *gbytes)
{
    *gflops = roof_peak(c, t);
    *gbytes = roof_band(c, bytes);
}

json_t *bench_roof_json(const bench_roof *r)
{
    bench_ceiling m = bench_roof_median(r, 0);
    json_t *sets = json_array();
    for (int i = 0; i < BENCH_SETS; i++) {
        json_array_append_new(sets, json_pack("{s:I, s:f}", "bytes", (json_int_t)roof_sets[i],
                                              "gbytes_per_s", m.gbytes[i]));
    }
    json_t *out = json_pack("{s:f, s:o, s:I, s:I}", "float32_gflops", m.gflops[0], "memory", sets,
                            "side", (json_int_t)r->side, "probes", (json_int_t)r->n);
    if (r->bf16) json_object_set_new(out, "bfloat16_gflops", json_real(m.gflops[1]));
    return out;
}
