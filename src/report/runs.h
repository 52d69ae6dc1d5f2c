/* runs: training runs and benchmarks of many folders and files, compared on one page. Inner header
 * of job.
 *
 * What was found is one JSON object:
 *   strut, when, left_out: list of {path, why}
 *   runs: list of {
 *     name, folder, label (a matrix type, "dense" or "narrow"), kind "dense" | "narrow" |
 *     "structured", maps (text for people), parameters, embedding_parameters, body_parameters,
 *     macs_per_token, perplexity (of the lowest validation loss), best_step, test_perplexity, step,
 *     steps, complete, tokens, tokens_per_second (median of the run's rows), seconds, dtype, seed,
 *     machine, status, config (YAML text), forward_ms and forward_of (from a benchmark of the same
 * model), curve {tokens [], loss []}, validation {tokens [], loss []} } layers, models, attention:
 * lists of the benchmarks' rows, numbers as numbers, each with `file` A key that is not known is
 * absent. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_REPORT_RUNS_H
#define ST_REPORT_RUNS_H

#include "report/inner.h"

/* Models of the runs met so far: a sweep's runs have few different ones. */
typedef struct {
    json_t *facts; /* config.json as text -> facts */
} st_runs_cache;

bool st_runs_is(const char *dir); /* does this folder hold a run's metrics? */
/* One run as a row (new reference). */
st_status st_runs_read(const char *dir, st_runs_cache *cache, json_t **row, st_err *e);
/* The rows of a benchmark's CSV added to found["layers"] or found["models"]. */
st_status st_runs_csv(const char *path, json_t *found, st_err *e);
/* Everything in `paths`: folders are searched for runs, .csv files are benchmarks. */
st_status st_runs_find(const char *const *paths, int n, json_t **found, st_err *e);
/* Gives each run the forward time of the benchmarked model that it is (the same name or maps, else
 * the same number of parameters, if only one has it). */
void st_runs_join(json_t *found);

/* The figures: into DIR/NAME.png and .svg and, with links to the runs, into the page. */
st_status st_runs_figures(FILE *f, const json_t *found, const char *dir, st_err *e);
st_status st_runs_page(FILE *f, const json_t *found, const char *title, const char *dir, st_err *e);

#endif
