/* Inside of bench: calls timed in turn, and what is said about them. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_BENCH_H
#define ST_BENCH_H

#include "job/job.h"

/* One thing that is timed. `macs` and `tokens` of one call. */
typedef struct {
    void (*call)(void *ctx); /* to the end: the stream is synced by bench_all */
    void *ctx;
    double macs, tokens;
    double *sample; /* seconds of one call, by round */
    int64_t inner;  /* calls of a sample: short ones are timed together */
    bool quick;     /* short enough to be settled before it is timed */
} bench_item;

typedef struct {
    int64_t reps;  /* rounds at most; 0: 30 */
    double budget; /* seconds at most, warm-up included; 0: 20 */
} bench_effort;

/* Warms up, then times all items in turn, round after round, so that a slow phase of the machine
 * meets all of them. *rounds is how many there were: at least 3, or as many as twice the budget
 * allows, and never none. */
st_status bench_all(st_stream *q, bench_item *item, int64_t n, const bench_effort *how,
                    int64_t *rounds, st_err *e);
void bench_free(bench_item *item, int64_t n);
/* {median, p10, p90, best, reps, gflops, tokens_per_second, speedup}; speedup is the median of the
 * rounds' ratios to `base` (NULL: left out). */
json_t *bench_summary(const bench_item *item, const bench_item *base, int64_t rounds);
/* {version, device, threads, machine} */
json_t *bench_machine(const st_stream *q);
/* The spec of a matrix (out, in): a name without knobs ("ss1", "lowrank+blockdiag") is fitted to
 * `fit` (0: not) times fewer parameters than dense has, a spec is taken as it is. */
st_status bench_spec(st_spec *s, const char *text, int64_t in, int64_t out, double fit, st_err *e);
/* Fills a device block with N(0, std^2) numbers. */
st_status bench_fill(st_stream *q, st_tensor t, float std, uint64_t stream, st_err *e);

#endif
