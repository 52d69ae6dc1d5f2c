/* bench: what structures cost, timed side by side. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_BENCH_H
#define ST_BENCH_H

#include "tensor/tensor.h"

typedef struct {
    int64_t in, out, rows;
    const char *const *maps; /* specs, or (with fit) names of types; none: every type */
    int nmaps;
    double fit;    /* this many times fewer parameters than dense */
    bool backward; /* time dx and dW too */
    int64_t reps;  /* at most; 0: 30 */
    double budget; /* seconds for all of it; 0: 20 */
    st_dtype dtype;
    const char *device;
} st_bench_map_opts;
/* Result: version, commit, device, threads, machine, rows [{name, spec, in, out, rows, parameters,
 * bytes, macs_per_token, dtype, forward {median, p10, p90, best, reps, gflops, tokens_per_second,
 * speedup}, backward {...}}]; dense first, times in seconds of one call, speedup against dense.
 * ST_EINTR: the rounds that were done, if there are enough to say something, else NULL. */
st_status st_bench_map(const st_bench_map_opts *o, json_t **result, st_err *e);

enum { ST_BENCH_LIST = 16 };
typedef struct {
    /* Folders, config.json files, names of sizes; or experiment=GROUP for all models of a group of
     * configs (or experiment=NAME), with overrides of them, "model.n_layer=2" */
    const char *const *models;
    int nmodels;
    const char *const *maps; /* "GLOB=SPEC": one more row, the first model with all of these */
    int nmaps;
    const char *const *presets; /* names of layouts: one more row each */
    int npresets;
    const char *const *ways; /* "local:window=98": of a classifier of images one more row each, the
                              * first model with dense matrices, so in its token modules */
    int nways;
    double fit;       /* not 0: one more row per type, with this many times fewer parameters in */
    const char *glob; /* these matrices; NULL: those of MLPs in blocks */
    int64_t batches[ST_BENCH_LIST], contexts[ST_BENCH_LIST]; /* each with each */
    int nbatches, ncontexts;                                 /* none: 1; the model's */
    int64_t decode; /* tokens before the one that is decoded; 0: 32 */
    bool train;
    bool controls; /* beside structured models, of as many parameters */
    bool shrink;   /* what time and memory do not allow is done smaller, or left out, and says so */
    int64_t reps;
    double budget;      /* 0: 20, of several batches, contexts or dtypes 60 each */
    st_dtype dtypes[2]; /* none: F32 */
    int ndtypes;
    const char *device;
    const char *csv; /* as of st_bench_layer_opts */
    bool resume;
} st_bench_model_opts;
/* Rows {name, suite, shape ("8x1024": as asked for), control, parameters, bytes, macs_per_token,
 * batch, context, decode_at, dtype, maps, reason} with forward, step (a training micro-step) and,
 * the first ones of a dtype, decode; of each part the first is the first model with dense matrices
 * everywhere. Of classifiers of images the context is the
 * blocks' tokens, there is only forward, which has images_per_second, too, and rows have
 * image_size. ST_EINTR: csv and result have what was done. */
st_status st_bench_model(const st_bench_model_opts *o, json_t **result, st_err *e);

typedef struct {
    int64_t width, inner, rows;
    const char *const *maps; /* both matrices: specs, or (with fit) names; none: ss1:factor=4 */
    int nmaps;
    double fit; /* this many times fewer parameters than dense */
    int64_t reps;
    double budget;
    st_dtype dtype;
    const char *device;
} st_bench_mlp_opts;
/* The MLP of a block, biases and erf GELU included. Rows as of st_bench_map with inner, spec_out
 * (of the second matrix), forward and step (forward, dx and all gradients). */
st_status st_bench_mlp(const st_bench_mlp_opts *o, json_t **result, st_err *e);

typedef struct {
    const char *suite;       /* NULL: "gpt2"; "llama", "square", "small" */
    const char *const *only; /* globs on "32768x768x3072" or "768x3072"; none: every shape */
    int nonly;
    const char *const *maps; /* names of types, specs as they are; none: every type */
    int nmaps;
    const double *factors; /* types have so many times fewer parameters; none: 1 2 4 8 16 */
    int nfactors;
    bool no_controls;
    int64_t rows;  /* tokens of every shape; 0: the suite's */
    double scale;  /* divides the suite's; 0: 1, or more where time or memory would not do */
    bool backward; /* time dx and dW too */
    int64_t reps;  /* at most; 0: 30 */
    double budget; /* seconds for all of it; 0: 120 */
    st_dtype dtypes[2];
    int ndtypes;
    const char *device;
    const char *csv; /* written after each shape, or NULL */
    bool resume;     /* shapes that csv has already are left as they are */
} st_bench_layer_opts;
/* Rows as of st_bench_map with suite, shape, control and reason. ST_EINTR: csv and result have what
 * was done. */
st_status st_bench_layer(const st_bench_layer_opts *o, json_t **result, st_err *e);

typedef struct {
    const int64_t *lens; /* nlens lengths; none: 256, 512 ... 16384 */
    int64_t nlens;
    const char *const
        *ways; /* "local:window=98"; none: every way with its presets. Full is first */
    int nways;
    int64_t heads, head_dim, batch; /* batch 0: 1 */
    int causal;
    int64_t seeds; /* random ways: distances over so many; 0: 5 */
    int64_t reps;  /* at most; 0: 30 */
    double budget; /* seconds for all of it; 0: 60 */
    st_dtype dtype;
    const char *device;
    const char *csv; /* as of st_bench_layer_opts, after each length */
    bool resume;
} st_bench_attention_opts;
/* Attention of random tokens, N(0, 1), by each way at each length, in turns with full attention.
 * Rows: name, suite, shape ("1x4096x12x64 causal": batch, tokens, heads, width), spec, batch,
 * context, heads, head_dim, causal, dtype, macs_per_token, scratch_planned and scratch_used (bytes
 * beside q, k, v, o: by dry run, and taken), tensor_bytes (of those four), error, error_sd (|o -
 * o_full| / |o_full|, mean and standard deviation over `seeds`), forward {as st_bench_map, speedup
 * against full}; or reason: why a way is left out. ST_EINTR: csv and result have what was done. */
st_status st_bench_attention(const st_bench_attention_opts *o, json_t **result, st_err *e);

/* Writes the rows of a benchmark's result as CSV (doc/FORMATS, BENCHMARKS), whole or not at all. */
st_status st_bench_csv(const char *path, const json_t *result, st_err *e);
/* Before anything is measured: may the rows be written there? ST_EARG if that would replace what is
 * no benchmark, ST_EIO if it cannot be written. */
st_status st_bench_csv_place(const char *path, st_err *e);

#endif
