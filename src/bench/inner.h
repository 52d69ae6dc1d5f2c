/* Inside of bench: calls timed in turn, and what is said about them. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_BENCH_INNER_H
#define ST_BENCH_INNER_H

#include "map/map.h"

enum { BENCH_SETS = 5 };
typedef struct {
    double gflops[2];          /* of a large product in float32, bfloat16 */
    double gbytes[BENCH_SETS]; /* of a pass over sets of growing size */
} bench_ceiling;
typedef struct {
    st_stream *q;
    bool bf16;
    int64_t side; /* of the square product */
    st_arena mem;
    st_tensor memory, sum, full[3], half[3];
    bench_ceiling *sample; /* of n probes */
    int64_t n, cap;
} bench_roof;
/* Memory for probes; `bf16`: products in bfloat16 are probed too. */
st_status bench_roof_open(bench_roof *r, st_stream *q, bool bf16, st_err *e);
void bench_roof_close(bench_roof *r);                 /* a zeroed one is fine */
st_status bench_roof_probe(bench_roof *r, st_err *e); /* one more sample, about 30 ms */
bench_ceiling bench_roof_median(const bench_roof *r, int64_t from); /* of the samples from there */
/* Seconds that a call in dtype `t` takes at least. */
double bench_roof_least(const bench_ceiling *c, st_dtype t, double macs, double bytes);
/* The two ceilings that count for such a call. */
void bench_roof_at(const bench_ceiling *c, st_dtype t, double bytes, double *gflops,
                   double *gbytes);
/* {float32_gflops, bfloat16_gflops, memory [{bytes, gbytes_per_s}], side, probes} */
json_t *bench_roof_json(const bench_roof *r);

/* One thing that is timed. `macs`, `bytes` (moved) and `tokens` of one call. */
typedef struct {
    void (*call)(void *ctx); /* to the end: the stream is synced by bench_all */
    void *ctx;
    double macs, bytes, tokens;
    const bench_roof *roof; /* that bench_all was given, NULL: nothing is said about ceilings */
    st_dtype dtype;
    double *sample; /* seconds of one call, by round */
    int64_t inner;  /* calls of a sample: short ones are timed together */
    bool quick;     /* short enough to be settled before it is timed */
} bench_item;

typedef struct {
    int64_t reps;     /* rounds at most; 0: 30 */
    double budget;    /* seconds at most, warm-up included; 0: 20 */
    bench_roof *roof; /* probed once a round; NULL: not */
    /* Instead of a progress line of its own: told the share of the rounds that is done. */
    void (*progress)(void *ctx, double share);
    void *ctx;
} bench_effort;

/* Warms up, then times all items in turn, round after round, so that a slow phase of the machine
 * meets all of them. *rounds is how many there were: at least 3, or as many as twice the budget
 * allows, and never none. */
st_status bench_all(st_stream *q, bench_item *item, int64_t n, const bench_effort *how,
                    int64_t *rounds, st_err *e);
void bench_free(bench_item *item, int64_t n);
/* {median, p10, p90, best, reps, gflops, tokens_per_second, speedup, speedup_p10, speedup_p90};
 * speedup is the median of the rounds' ratios to `base` (NULL: left out), with its spread. Where
 * `bytes` is known also bytes_moved and gbytes_per_s; with a roof roofline_percent (the median of
 * the rounds' shares), peak_gflops and peak_gbytes_per_s. */
json_t *bench_summary(const bench_item *item, const bench_item *base, int64_t rounds);
/* Of n numbers, which are sorted; between neighbours. */
double bench_quantile(double *x, int64_t n, double share);
/* The spec of a matrix (out, in): a name without knobs ("ss1", "lowrank+blockdiag") is fitted to
 * `fit` (0: not) times fewer parameters than dense has, a spec is taken as it is. */
st_status bench_spec(st_spec *s, const char *text, int64_t in, int64_t out, double fit, st_err *e);
/* Fills a device block with N(0, std^2) numbers, which repeat after a million. */
st_status bench_fill(st_stream *q, st_tensor t, float std, uint64_t stream, st_err *e);

/* ---- one shape (shape.c) --------------------------------------------------------------------- */

enum { BENCH_ROUNDS_LEAST = 3 };

typedef struct bench_shape bench_shape;
typedef struct {
    st_linear l;             /* spec set; type NULL: none fits, and `note` says why */
    char name[ST_SPEC_TEXT]; /* "": the spec's label */
    const char *control;     /* "none", or what kind of control this is */
    double factor;           /* so many times fewer parameters than dense were wanted; 0: any */
    char note[256];
    /* by bench_shape_plan */
    bench_shape *of;
    st_cost forward, backward; /* of one call */
    size_t weights, grads, scratch;
    st_tensor x, y, kept, dy, dx;
} bench_layer;
struct bench_shape {
    st_stream *q;
    st_dtype dtype;
    int64_t in, out, rows; /* of dense; controls may be narrower */
    bool backward;
    bench_layer *layer; /* n of them, dense first */
    int64_t n;
    /* by bench_shape_plan */
    int64_t most_kept;
    size_t shared, weights, grads, scratch;
    st_arena mem, w, dw, tmp;
    st_tensor x, y, kept, dy, dx;
};
/* Costs of the layers and bytes of memory for all, by dry runs. */
st_status bench_shape_plan(bench_shape *s, st_err *e);
double bench_shape_bytes(const bench_shape *s);
/* Times a planned shape and appends a row for each layer. ST_EINTR: those of the rounds that were
 * done, if there are enough to say something. */
st_status bench_shape_run(bench_shape *s, const bench_effort *how, json_t *rows, st_err *e);

/* ---- suites and plans (suites.c, plan.c) ----------------------------------------------------- */

typedef struct {
    int64_t rows, in, out;
} bench_size;
typedef struct {
    const char *name, *help;
    const bench_size *size; /* rows 0 ends them */
} bench_suite;
extern const bench_suite bench_suites[]; /* ends with a NULL name */
st_status bench_suite_find(const bench_suite **out, const char *name, st_err *e);

/* Seconds that a call will take, about, and that calls in turn will: add each, then ask. */
double bench_guess(const bench_ceiling *c, st_dtype t, double macs, double bytes);
typedef struct {
    double warm, round;
} bench_time_plan;
bench_time_plan bench_time_add(bench_time_plan p, double call);
double bench_time_of(bench_time_plan p, int64_t rounds);

/* ---- CSV (csv.c) ----------------------------------------------------------------------------- */

/* What an earlier run of the same kind left. */
typedef struct {
    json_t *kept; /* rows of finished parts, as st_csv_load has them */
    json_t *done; /* {"SUITE|SHAPE|DTYPE": true} */
} bench_old;
/* Reads `path`; nothing if there is no such file. Another machine (`result` as of st_machine_json),
 * other columns and other kinds of files are errors. */
st_status bench_csv_read(bench_old *old, const char *path, const json_t *result, st_err *e);
bool bench_csv_done(const bench_old *old, const char *suite, const char *shape, st_dtype t);
/* st_bench_csv behind what `old` (may be NULL) kept. */
st_status bench_csv_write(const char *path, const bench_old *old, const json_t *result, st_err *e);
void bench_csv_free(bench_old *old);

/* ---- long benchmarks (session.c) ------------------------------------------------------------- */

/* Set what, unit, csv and resume, then: open, start, for each part turn .. save; end, result,
 * close. */
typedef struct {
    const char *what, *unit; /* "bench layer", "shapes" */
    const char *csv;         /* NULL: none */
    bool resume;
    st_stream *q;
    bench_roof roof;
    bench_ceiling now; /* when it began: guesses stand on it */
    bench_old old;
    json_t *result, *rows; /* what the caller of the job gets, its rows */
    int64_t n, at;         /* parts, the one at hand */
    char part[96];         /* its name */
    double start, budget;  /* seconds: when, in all */
    double before, share;  /* spent when the part at hand began; that it will take, about */
} bench_session;
st_status bench_session_open(bench_session *s, const char *device, st_err *e);
st_status bench_session_start(bench_session *s, int64_t parts, double budget, bool bf16, st_err *e);
/* Says what an earlier run has left to do of `all` parts, if it did any. */
void bench_session_kept(const bench_session *s, int64_t left, int64_t all);
/* Seconds that the part at hand may take (also its `share`, until the caller knows better). */
double bench_session_turn(bench_session *s);
bench_effort bench_session_effort(bench_session *s, int64_t reps, double budget);
/* Writes the CSV, after a part that went well or was interrupted; hands `so_far` on. */
st_status bench_session_save(bench_session *s, st_status so_far, st_err *e);
st_status bench_session_end(bench_session *s, st_status so_far, st_err *e);
/* For the job's caller: all of it, or what was measured before ST_EINTR; else NULL. */
json_t *bench_session_result(const bench_session *s, st_status so_far);
void bench_session_close(bench_session *s);

#endif
