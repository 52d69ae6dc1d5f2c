/* report: the demo's results as a page for people. Inner header of report.
 *
 * Results are one JSON object, results.json:
 *   strut, when, seed, seconds, complete, budget {..}, machine {cpu, cores, memory_bytes, system,
 *   device}, text {source, bytes, vocab, train_tokens, val_tokens, bytes_per_token}, model {layers,
 *   heads, width, inner, context, vocab, ...}, recipe {train {..}, heal {..}, measure {..}}, prompt
 *   models: list of {
 *     name "monarch 2x", label "monarch", kind "dense" | "narrow" | "structured", reduction 1 2 4,
 *     maps {c_fc, c_proj}, inner, folder, parameters, embedding_parameters, mlp_parameters, bytes,
 *     macs_per_token, perplexity_projected, perplexity, steps, tokens, run_tokens_per_second,
 * train, prefill, decode {tokens_per_second, low, high}, curve {tokens [], loss []}, validation
 *     {tokens [], loss []}, sample }
 * A key that could not be measured is absent; everything below copes with that. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_REPORT_INNER_H
#define ST_REPORT_INNER_H

#include "report/html.h"

/* Draws the figures: each as OUT/plots/NAME.png and .svg and, if f is not NULL, into the page. */
st_status st_report_figures(FILE *f, const json_t *results, const char *dir, st_err *e);

/* ---- figure.c: what figures share ------------------------------------------------------------ */

/* The colour of a row's matrix type, by its "label" and "kind". */
int st_report_colour(const json_t *row);
/* Draws DIR/NAME.png and .svg and, if f is not NULL, the figure into the page. */
st_status st_report_figure(FILE *f, const st_plot *p, const char *dir, const char *name,
                           const char *caption, st_err *e);
st_status st_report_figure_linked(FILE *f, const st_plot *p, const char *dir, const char *name,
                                  const char *caption, const st_html_link *link, size_t links,
                                  st_err *e);
/* Copies a curve {tokens [], loss []} into x, y (room for `most`), thinned by means of equal bins,
 * so that single batches' noise does not hide the course; returns how many points. */
int64_t st_report_curve(const json_t *curve, double *x, double *y, int64_t most);
/* Indices (new memory, *n of them) of the rows on the Pareto front: none is both better in `x`
 * (larger if `larger`, else smaller) and lower in perplexity. By rising x. */
st_status st_report_front(const json_t *rows, const char *x, bool larger, int64_t **index,
                          int64_t *n, st_err *e);

#endif
