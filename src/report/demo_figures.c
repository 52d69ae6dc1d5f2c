/* The demo's figures: perplexity against size and speed with the Pareto front, and loss curves. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "report/inner.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static st_shape plots_shape(const json_t *row)
{
    double reduction = st_row_num(row, "reduction");
    return reduction < 1.5 ? ST_DIAMOND : reduction < 3 ? ST_CIRCLE : ST_SQUARE;
}

/* ---- perplexity against x -------------------------------------------------------------------- */

typedef struct {
    const char *name, *x, *title, *x_label, *caption;
    bool larger;
} plots_scatter_kind;

static const plots_scatter_kind plots_scatters[] = {
    {"perplexity-size", "body_parameters", "Perplexity against size",
     "parameters without embeddings (fewer is better)",
     "Left and low is better. Models of one reduction have nearly the same size, so what differs "
     "between them is the structure.",
     false},
    {"perplexity-decode", "decode.tokens_per_second", "Perplexity against decoding speed",
     "decoded tokens per second at batch 1 (more is better)",
     "Right and low is better. Decoding one token at a time is bound by reading weights and by the "
     "fixed cost of each operation.",
     true},
    {"perplexity-prefill", "prefill.tokens_per_second", "Perplexity against prefill speed",
     "tokens per second, one full context at once (more is better)",
     "Right and low is better. Prefill is bound by arithmetic, as training is.", true},
    {"perplexity-train", "train.tokens_per_second", "Perplexity against training speed",
     "training tokens per second (more is better)",
     "Right and low is better. Forward and backward of one batch.", true},
};

static const st_plot_key plots_keys[] = {{"dense", ST_INK, ST_DIAMOND, false, false},
                                         {"2x fewer MLP weights", ST_INK, ST_CIRCLE, false, false},
                                         {"4x fewer", ST_INK, ST_SQUARE, false, false},
                                         {"Pareto front", ST_GREY, ST_CIRCLE, true, true}};

static st_status plots_scatter(FILE *f, const json_t *results, const plots_scatter_kind *k,
                               const char *dir, st_err *e)
{
    const json_t *row, *models = json_object_get(results, "models");
    int64_t *front, fronts;
    size_t i, n = 0, all = json_array_size(models);
    ST_TRY(st_report_front(models, k->x, k->larger, &front, &fronts, e));
    st_plot_point *pt = calloc(all + 1, sizeof *pt);
    double *xy = calloc(2 * all + 2, sizeof *xy);
    st_status s = ST_OK;
    if (!pt || !xy) {
        s = ST_ERR(e, ST_ENOMEM, "report: no memory for a figure");
        goto out;
    }
    json_array_foreach(models, i, row)
    {
        double x = st_row_num(row, k->x), y = st_row_num(row, "perplexity");
        if (!isfinite(x) || !isfinite(y)) continue;
        pt[n++] = (st_plot_point){st_row_str(row, "label"), x,    y, st_report_colour(row),
                                  plots_shape(row),         false};
    }
    for (int64_t j = 0; j < fronts; j++) {
        row = json_array_get(models, (size_t)front[j]);
        xy[j] = st_row_num(row, k->x);
        xy[all + (size_t)j] = st_row_num(row, "perplexity");
    }
    st_plot_line line = {.x = xy, .y = xy + all, .n = fronts, .colour = ST_GREY, .dashed = true};
    st_plot p = {.title = k->title,
                 .x_label = k->x_label,
                 .y_label = "validation perplexity (lower is better)",
                 .line = &line,
                 .lines = 1,
                 .point = pt,
                 .points = (int64_t)n,
                 .key = plots_keys,
                 .keys = 4,
                 .width = 640,
                 .height = 470};
    if (n) s = st_report_figure(f, &p, dir, k->name, k->caption, e);
out:
    free(front), free(pt), free(xy);
    return s;
}

/* ---- loss curves ----------------------------------------------------------------------------- */

enum { PLOTS_BINS = 60, PLOTS_LINES = 64 };

typedef struct {
    st_plot_line line[PLOTS_LINES];
    double xy[PLOTS_LINES][2][PLOTS_BINS + 1];
    int64_t n;
} plots_lines;

static void plots_add(plots_lines *l, const json_t *row, const json_t *curve, const char *label,
                      int64_t bins, bool dashed)
{
    if (l->n == PLOTS_LINES) return;
    double *x = l->xy[l->n][0], *y = l->xy[l->n][1];
    int64_t n = st_report_curve(curve, x, y, bins);
    if (n > 1)
        l->line[l->n++] = (st_plot_line){.label = label,
                                         .x = x,
                                         .y = y,
                                         .n = n,
                                         .colour = st_report_colour(row),
                                         .dashed = dashed};
}

/* The dense model after the same extra steps: it saw the same batches, so that in the difference
 * their noise goes away. NULL: not trained. */
static const json_t *plots_reference(const json_t *results)
{
    size_t i;
    const json_t *row;
    json_array_foreach(json_object_get(results, "models"), i,
                       row) if (strcmp(st_row_str(row, "label"), "dense, continued") ==
                                0) return json_object_get(row, "curve");
    return NULL;
}

/* `curve` less `reference`, step by step (new reference); `curve` itself where they do not match.
 */
static json_t *plots_above(const json_t *curve, const json_t *reference)
{
    json_t *out = json_deep_copy(curve), *loss = json_object_get(out, "loss");
    const json_t *from = json_object_get(reference, "loss");
    if (json_array_size(loss) != json_array_size(from)) return out;
    for (size_t i = 0; i < json_array_size(loss); i++) {
        double v = json_number_value(json_array_get(loss, i));
        json_array_set_new(loss, i, json_real(v - json_number_value(json_array_get(from, i))));
    }
    return out;
}

static st_status plots_training(FILE *f, const json_t *results, const char *dir, plots_lines *l,
                                st_err *e)
{
    size_t i;
    const json_t *row;
    l->n = 0;
    json_array_foreach(json_object_get(results, "models"), i, row)
    {
        const char *label = st_row_str(row, "label");
        if (strcmp(label, "dense") != 0 && strcmp(label, "narrow") != 0) continue;
        const json_t *val = json_object_get(row, "validation");
        plots_add(l, row, json_object_get(row, "curve"), st_row_str(row, "name"), PLOTS_BINS,
                  false);
        plots_add(l, row, val, NULL, PLOTS_BINS, true);
    }
    st_plot p = {.title = "Training from scratch",
                 .x_label = "training tokens",
                 .y_label = "loss (nats per token); dashed: validation",
                 .line = l->line,
                 .lines = l->n,
                 .x_zero = true,
                 .width = 1180,
                 .height = 430};
    if (!l->n) return ST_OK;
    return st_report_figure(f, &p, dir, "loss-training",
                            "The dense model and the narrow dense controls. Solid: training loss, "
                            "averaged over neighbouring steps; dashed: validation loss.",
                            e);
}

static st_status plots_healing(FILE *f, const json_t *results, const char *dir, int reduction,
                               plots_lines *l, st_err *e)
{
    char title[80], name[40];
    size_t i;
    const json_t *row, *reference = plots_reference(results);
    double highest = -INFINITY, lowest = 0;
    l->n = 0;
    json_array_foreach(json_object_get(results, "models"), i, row)
    {
        if (strcmp(st_row_str(row, "kind"), "structured") != 0 ||
            (int)st_row_num(row, "reduction") != reduction)
            continue;
        json_t *curve = plots_above(json_object_get(row, "curve"), reference);
        plots_add(l, row, curve, st_row_str(row, "label"), 24, false);
        json_decref(curve);
    }
    if (!l->n) return ST_OK;
    if (!reference) lowest = INFINITY;
    for (int64_t k = 0; k < l->n; k++)
        for (int64_t j = 0; j < l->line[k].n; j++) {
            lowest = fmin(lowest, l->line[k].y[j]);
            if (j) highest = fmax(highest, l->line[k].y[j]); /* the start may be far off */
        }
    snprintf(title, sizeof title, "Healing at %dx fewer MLP weights", reduction);
    snprintf(name, sizeof name, "loss-healing-%dx", reduction);
    st_plot p = {.title = title,
                 .x_label = "tokens of healing",
                 .y_label = reference ? "training loss above dense, continued (nats per token)"
                                      : "training loss (nats per token)",
                 .line = l->line,
                 .lines = l->n,
                 .x_zero = true,
                 .y_low = lowest - 0.01,
                 .y_high = highest + 0.02,
                 .width = 640,
                 .height = 430};
    return st_report_figure(f, &p, dir, name,
                            reference
                                ? "Every structured model sees the same batches as the dense "
                                  "model that is trained on, so their noise cancels in the "
                                  "difference; 0 is as good as dense."
                                : "Every structured model sees the same batches, averaged over "
                                  "neighbouring steps.",
                            e);
}

st_status st_report_figures(FILE *f, const json_t *results, const char *dir, st_err *e)
{
    char *path = st_path_join(dir, "plots");
    plots_lines *l = calloc(1, sizeof *l);
    st_status s = ST_OK;
    if (!path || !l) {
        s = ST_ERR(e, ST_ENOMEM, "report: no memory for figures");
        goto out;
    }
    s = st_make_dirs(path, e);
    for (size_t i = 0; i < sizeof plots_scatters / sizeof *plots_scatters && !s; i++)
        s = plots_scatter(f, results, &plots_scatters[i], path, e);
    if (!s) s = plots_training(f, results, path, l, e);
    for (int reduction = 2; reduction <= 4 && !s; reduction += 2)
        s = plots_healing(f, results, path, reduction, l, e);
out:
    free(path), free(l);
    return s;
}
