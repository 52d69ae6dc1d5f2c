/* Figures of many runs: loss curves, perplexity against what a model costs with the Pareto front,
 * and heat maps of measured speed-ups. */
/* SPDX-License-Identifier: MIT */
#include "report/runs.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RUNS_NAMED = 18, RUNS_BINS = 80, HEAT_ROWS = 80, HEAT_COLUMNS = 24 };

static st_status runs_no_memory(st_err *e)
{
    ST_FAIL(e, ST_ENOMEM, "report: no memory for a figure");
}

/* Is run i named in the figures? All are where there are few; else those on the front (n of
 * `index`) and the best dense one. */
static bool runs_named(const json_t *runs, const int64_t *index, int64_t n, size_t i)
{
    const json_t *row, *best = NULL;
    size_t k;
    for (int64_t j = 0; j < n; j++)
        if (index[j] == (int64_t)i) return true;
    json_array_foreach(runs, k, row)
    {
        if (strcmp(st_row_str(row, "kind"), "dense") == 0 &&
            (!best || st_row_num(row, "perplexity") < st_row_num(best, "perplexity")))
            best = row;
    }
    return json_array_size(runs) <= RUNS_NAMED || json_array_get(runs, i) == best;
}

/* ---- perplexity against cost ----------------------------------------------------------------- */

typedef struct {
    const char *name, *key, *title, *x_label, *caption;
    bool larger;
} runs_scatter_kind;

static const runs_scatter_kind runs_scatters[] = {
    {"perplexity-parameters", "parameters", "Perplexity against parameters",
     "parameters, tied tensors once (fewer is better)",
     "Left and low is better; the dashed line joins the Pareto front. Point at a mark for its run, "
     "click for its settings.",
     false},
    {"perplexity-macs", "macs_per_token", "Perplexity against arithmetic",
     "multiply-adds per token of a forward pass (fewer is better)",
     "Counted by a dry run of the code that computes. Fewer parameters need not mean less "
     "arithmetic.",
     false},
    {"perplexity-forward", "forward_ms", "Perplexity against measured time",
     "milliseconds per 1,000 tokens, forward, from the benchmark (less is better)",
     "The time that the benchmarked model of the same name, maps or size took; all of one file "
     "took turns in one run.",
     false},
    {"perplexity-training", "tokens_per_second", "Perplexity against training speed",
     "tokens per second, median of each run's own rows (more is better)",
     "Right and low is better. Runs that shared the machine with other work look slower than they "
     "are: the benchmark's times are the fair ones.",
     true},
};

/* The text that a mark shows when pointed at. */
static char *runs_tip(const json_t *run)
{
    char size[24], ppl[24];
    char *text = NULL;
    st_format_number(size, st_row_num(run, "parameters"), 4);
    st_format_number(ppl, st_row_num(run, "perplexity"), 4);
    int n = asprintf(&text, "%s: %s, %s parameters, perplexity %s", st_row_str(run, "name"),
                     st_row_str(run, "maps"), size, ppl);
    return n < 0 ? NULL : text;
}

typedef struct {
    st_plot_point *point;
    double *front, *place;
    st_html_link *link;
    int64_t *index, fronts;
    size_t n;
} runs_marks;

static void runs_marks_free(runs_marks *m)
{
    for (size_t i = 0; m->link && i < m->n; i++) {
        free(m->link[i].href);
        free(m->link[i].title);
    }
    free(m->point), free(m->front), free(m->place), free(m->link), free(m->index);
}

static st_status runs_marks_open(runs_marks *m, const json_t *runs, const runs_scatter_kind *k,
                                 st_err *e)
{
    const json_t *row;
    size_t i, all = json_array_size(runs);
    *m = (runs_marks){.point = calloc(all + 1, sizeof *m->point),
                      .front = calloc(2 * all + 2, sizeof *m->front),
                      .place = calloc(2 * all + 2, sizeof *m->place),
                      .link = calloc(all + 1, sizeof *m->link)};
    if (!m->point || !m->front || !m->place || !m->link) return runs_no_memory(e);
    ST_TRY(st_report_front(runs, k->key, k->larger, &m->index, &m->fronts, e));
    json_array_foreach(runs, i, row)
    {
        double x = st_row_num(row, k->key), y = st_row_num(row, "perplexity");
        if (!isfinite(x) || !isfinite(y)) continue;
        bool front = false, named = runs_named(runs, m->index, m->fronts, i);
        for (int64_t j = 0; j < m->fronts; j++)
            front = front || m->index[j] == (int64_t)i;
        m->point[m->n] = (st_plot_point){
            .label = named ? st_row_str(row, "name") : NULL,
            .x = x,
            .y = y,
            .colour = st_report_colour(row),
            .shape = strcmp(st_row_str(row, "kind"), "structured") == 0 ? ST_CIRCLE : ST_DIAMOND,
            .hollow = !front};
        m->link[m->n].title = runs_tip(row);
        if (asprintf(&m->link[m->n].href, "#run-%zu", i) < 0) m->link[m->n].href = NULL;
        m->n++;
    }
    for (int64_t j = 0; j < m->fronts; j++) {
        row = json_array_get(runs, (size_t)m->index[j]);
        m->front[j] = st_row_num(row, k->key);
        m->front[all + (size_t)j] = st_row_num(row, "perplexity");
    }
    return ST_OK;
}

enum { RUNS_KEYS = 64 };

/* A legend of the matrix types that are there, and the front's line. */
static int64_t runs_keys(const json_t *runs, st_plot_key key[RUNS_KEYS])
{
    const json_t *row;
    size_t i;
    int64_t n = 0;
    json_array_foreach(runs, i, row)
    {
        const char *label = st_row_str(row, "label");
        bool known = n == RUNS_KEYS - 1;
        for (int64_t k = 0; k < n; k++)
            known = known || strcmp(key[k].label, label) == 0;
        if (known) continue;
        key[n++] = (st_plot_key){
            .label = label,
            .colour = st_report_colour(row),
            .shape = strcmp(st_row_str(row, "kind"), "structured") == 0 ? ST_CIRCLE : ST_DIAMOND};
    }
    key[n++] = (st_plot_key){"Pareto front", ST_GREY, ST_CIRCLE, true, true};
    return n;
}

static st_status runs_scatter(FILE *f, const json_t *runs, const runs_scatter_kind *k,
                              const char *dir, st_err *e)
{
    runs_marks m = {0};
    st_plot_key key[RUNS_KEYS];
    size_t all = json_array_size(runs);
    st_status s = runs_marks_open(&m, runs, k, e);
    st_plot_line line = {.x = m.front,
                         .y = m.front ? m.front + all : NULL,
                         .n = m.fronts,
                         .colour = ST_GREY,
                         .dashed = true};
    st_plot p = {.title = k->title,
                 .x_label = k->x_label,
                 .y_label = "validation perplexity (lower is better)",
                 .line = &line,
                 .lines = 1,
                 .point = m.point,
                 .points = (int64_t)m.n,
                 .key = key,
                 .keys = runs_keys(runs, key),
                 .width = 640,
                 .height = 470};
    if (!s && m.n) {
        s = st_plot_places(&p, m.place, e);
        for (size_t i = 0; i < m.n; i++)
            m.link[i].x = m.place[2 * i], m.link[i].y = m.place[2 * i + 1];
        if (!s) s = st_report_figure_linked(f, &p, dir, k->name, k->caption, m.link, m.n, e);
    }
    runs_marks_free(&m);
    return s;
}

/* ---- loss curves ----------------------------------------------------------------------------- */

/* Where the early fall would flatten the rest: limits from the later nine tenths of each curve. */
static void curves_limits(st_plot *p)
{
    double lo = INFINITY, hi = -INFINITY;
    for (int64_t i = 0; i < p->lines; i++) {
        const st_plot_line *l = &p->line[i];
        for (int64_t k = l->n / 10; k < l->n; k++)
            lo = fmin(lo, l->y[k]), hi = fmax(hi, l->y[k]);
    }
    if (!(lo < hi)) return;
    p->y_low = lo - 0.04 * (hi - lo);
    p->y_high = hi + 0.04 * (hi - lo);
}

static st_status runs_curves(FILE *f, const json_t *runs, const char *curve, const char *title,
                             const char *dir, const char *name, st_err *e)
{
    const json_t *row;
    int64_t *front = NULL, fronts = 0, n = 0;
    size_t i, all = json_array_size(runs);
    st_plot_line *line = calloc(all + 1, sizeof *line);
    double *xy = calloc(2 * (RUNS_BINS + 1) * (all + 1), sizeof *xy);
    st_status s = line && xy ? st_report_front(runs, "parameters", false, &front, &fronts, e)
                             : runs_no_memory(e);
    json_array_foreach(runs, i, row)
    {
        if (s) break;
        double *x = xy + 2 * (RUNS_BINS + 1) * i, *y = x + RUNS_BINS + 1;
        int64_t points = st_report_curve(json_object_get(row, curve), x, y, RUNS_BINS);
        bool named = runs_named(runs, front, fronts, i);
        if (points > 1)
            line[n++] = (st_plot_line){.label = named ? st_row_str(row, "name") : NULL,
                                       .x = x,
                                       .y = y,
                                       .n = points,
                                       .colour = st_report_colour(row),
                                       .faint = !named};
    }
    st_plot_key key[RUNS_KEYS];
    st_plot p = {.title = title,
                 .key = key,
                 .keys = all > RUNS_NAMED ? runs_keys(runs, key) - 1 : 0,
                 .x_label = "training tokens",
                 .y_label = "nats per token",
                 .line = line,
                 .lines = n,
                 .x_zero = true,
                 .width = 1180,
                 .height = 430};
    if (!s && n) {
        curves_limits(&p);
        s = st_report_figure(
            f, &p, dir, name,
            all <= RUNS_NAMED
                ? "One colour a matrix type; neighbouring rows are averaged."
                : "One colour a matrix type; named are the best dense run and those on "
                  "the Pareto front of parameters.",
            e);
    }
    free(line), free(xy), free(front);
    return s;
}

/* ---- heat maps of speed-ups ------------------------------------------------------------------ */

typedef struct {
    const char *row[HEAT_ROWS], *column[HEAT_COLUMNS];
    double value[HEAT_ROWS * HEAT_COLUMNS];
    int64_t rows, columns;
    char text[HEAT_ROWS][96];
} runs_grid;

static int64_t grid_find(const char **list, int64_t *n, int64_t most, const char *text)
{
    for (int64_t i = 0; i < *n; i++)
        if (strcmp(list[i], text) == 0) return i;
    if (*n == most) return -1;
    list[*n] = text;
    return (*n)++;
}

/* What was timed: layers of a shape, models of a batch, attention over a length. */
typedef enum { TIMED_LAYERS, TIMED_MODELS, TIMED_ATTENTION } runs_timed;
static const struct {
    const char *key, *name, *title, *against, *rows;
} runs_timings[] = {
    {"layers", "layers", "Layer", "dense", "rows: tokens \xc3\x97 inputs \xe2\x86\x92 outputs"},
    {"models", "models", "Model", "dense", "rows: batch \xc3\x97 tokens"},
    {"attention", "attention", "Attention", "exact attention", "rows: heads \xc3\x97 tokens"}};

static void grid_row_name(const json_t *row, runs_timed timed, char text[96])
{
    static const char *const first[] = {"rows", "batch", "heads"};
    static const char *const second[] = {"in", "context", "context"};
    const char *shape = st_row_str(row, "shape");
    char a[24], b[24], c[24];
    double rows = st_row_num(row, first[timed]), in = st_row_num(row, second[timed]);
    double out = st_row_num(row, "out");
    if (timed == TIMED_LAYERS) sscanf(shape, "%*fx%lfx%lf", &in, &out); /* a narrow control's */
    st_format_number(a, rows, 9);
    st_format_number(b, in, 9);
    st_format_number(c, out, 9);
    if (timed == TIMED_LAYERS)
        snprintf(text, 96, "%s \xc3\x97 %s \xe2\x86\x92 %s", a, b, c);
    else
        snprintf(text, 96, "%s%s \xc3\x97 %s", timed == TIMED_MODELS ? "batch " : "", a, b);
}

/* A second map under the same heading and shape gets a column of its own. */
static void grid_add(runs_grid *g, const json_t *row, runs_timed timed)
{
    double speedup = st_row_num(row, "speedup");
    const char *spec = st_row_str(row, *st_row_str(row, "label") ? "label" : "spec");
    const char *heading = st_row_str(row, *st_row_str(row, "heading") ? "heading" : "spec");
    bool control = *st_row_str(row, "control") && strcmp(st_row_str(row, "control"), "none") != 0;
    const char *base = timed == TIMED_ATTENTION ? "full" : "dense";
    if (!isfinite(speedup) || g->rows == HEAT_ROWS) return;
    if (!control && strcmp(st_row_str(row, "spec"), base) == 0) return;
    grid_row_name(row, timed, g->text[g->rows]);
    int64_t i = grid_find(g->row, &g->rows, HEAT_ROWS, g->text[g->rows]);
    int64_t j = grid_find(g->column, &g->columns, HEAT_COLUMNS, heading);
    if (j >= 0 && isfinite(g->value[i * HEAT_COLUMNS + j]))
        j = grid_find(g->column, &g->columns, HEAT_COLUMNS, spec);
    if (i >= 0 && j >= 0) g->value[i * HEAT_COLUMNS + j] = speedup;
}

static st_status runs_heat(FILE *f, const json_t *rows, runs_timed timed, const char *what,
                           const char *dtype, const char *dir, st_err *e)
{
    const json_t *row;
    size_t i;
    char title[120], name[80];
    runs_grid *g = calloc(1, sizeof *g);
    if (!g) return runs_no_memory(e);
    for (i = 0; i < HEAT_ROWS * HEAT_COLUMNS; i++)
        g->value[i] = (double)NAN;
    json_array_foreach(rows, i, row)
    {
        if (strcmp(st_row_str(row, "what"), what) == 0 &&
            strcmp(st_row_str(row, "dtype"), dtype) == 0)
            grid_add(g, row, timed);
    }
    double *value = calloc((size_t)(g->rows * g->columns) + 1, sizeof *value);
    for (int64_t k = 0; value && k < g->rows * g->columns; k++)
        value[k] = g->value[k / g->columns * HEAT_COLUMNS + k % g->columns];
    st_plot_heat h = {g->row, g->column, value, g->rows, g->columns};
    snprintf(title, sizeof title, "%s speed against %s: %.16s, %.16s", runs_timings[timed].title,
             runs_timings[timed].against, what, dtype);
    snprintf(name, sizeof name, "%s-%.16s-%.16s", runs_timings[timed].name, what, dtype);
    st_plot p = {.title = title,
                 .x_label = runs_timings[timed].rows,
                 .heat = &h,
                 .width = g->columns > 5 ? 1180 : 640,
                 .height = st_heat_height(&h)};
    st_status s = value ? ST_OK : runs_no_memory(e);
    if (!s && g->rows)
        s = st_report_figure(f, &p, dir, name,
                             "Times as fast as that of the same run (medians): blue is faster, red "
                             "slower; a dot was not measured. *: controls of the same size.",
                             e);
    free(value), free(g);
    return s;
}

/* One heat map for each thing timed and each dtype, in the order they come. */
static st_status runs_heats(FILE *f, const json_t *found, runs_timed timed, const char *dir,
                            st_err *e)
{
    const json_t *rows = json_object_get(found, runs_timings[timed].key);
    const char *seen[32][2];
    const json_t *row;
    size_t i;
    int n = 0;
    json_array_foreach(rows, i, row)
    {
        const char *what = st_row_str(row, "what"), *dtype = st_row_str(row, "dtype");
        bool known = false;
        for (int k = 0; k < n; k++)
            known = known || (strcmp(seen[k][0], what) == 0 && strcmp(seen[k][1], dtype) == 0);
        if (known || n == 32) continue;
        seen[n][0] = what;
        seen[n++][1] = dtype;
        ST_TRY(runs_heat(f, rows, timed, what, dtype, dir, e));
    }
    return ST_OK;
}

st_status st_runs_figures(FILE *f, const json_t *found, const char *dir, st_err *e)
{
    const json_t *runs = json_object_get(found, "runs");
    for (size_t i = 0; i < sizeof runs_scatters / sizeof *runs_scatters; i++)
        ST_TRY(runs_scatter(f, runs, &runs_scatters[i], dir, e));
    ST_TRY(runs_curves(f, runs, "validation", "Validation loss", dir, "loss-validation", e));
    ST_TRY(runs_curves(f, runs, "curve", "Training loss", dir, "loss-training", e));
    ST_TRY(runs_heats(f, found, TIMED_LAYERS, dir, e));
    ST_TRY(runs_heats(f, found, TIMED_MODELS, dir, e));
    return runs_heats(f, found, TIMED_ATTENTION, dir, e);
}
