/* What the figures of every report share: colours of matrix types, Pareto fronts, and a figure as
 * files and in a page. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "map/map.h"
#include "report/inner.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Controls are grey; a type's colour is its place among the table's views, or the next where the
 * label is none of theirs (a mixture of types, a type of another version). */
int st_report_colour(const json_t *row)
{
    const char *label = st_row_str(row, "label"), *kind = st_row_str(row, "kind");
    if (strcmp(kind, "dense") == 0) return ST_INK;
    if (strcmp(kind, "narrow") == 0) return ST_GREY;
    int i = 0;
    for (st_map_view view; st_map_view_at(i, &view); i++)
        if (strcmp(label, view.label) == 0) break;
    return ST_BLUE + i;
}

/* ---- Pareto front ---------------------------------------------------------------------------- */

typedef struct {
    double x, y; /* x turned so that less is better */
    int64_t i;
} figure_place;

static int figure_order(const void *a, const void *b)
{
    const figure_place *p = a, *q = b;
    if (p->x != q->x) return p->x < q->x ? -1 : 1;
    if (p->y != q->y) return p->y < q->y ? -1 : 1;
    return p->i < q->i ? -1 : p->i > q->i;
}

st_status st_report_front(const json_t *rows, const char *x, bool larger, int64_t **index,
                          int64_t *n, st_err *e)
{
    const json_t *row;
    size_t i, all = json_array_size(rows), used = 0;
    *n = 0;
    *index = calloc(all + 1, sizeof **index);
    figure_place *place = calloc(all + 1, sizeof *place);
    if (!*index || !place) {
        free(*index), free(place);
        *index = NULL;
        ST_FAIL(e, ST_ENOMEM, "report: no memory for %zu models", all);
    }
    json_array_foreach(rows, i, row)
    {
        double at = st_row_num(row, x), y = st_row_num(row, "perplexity");
        if (isfinite(at) && isfinite(y))
            place[used++] = (figure_place){larger ? -at : at, y, (int64_t)i};
    }
    qsort(place, used, sizeof *place, figure_order);
    double least = INFINITY;
    for (i = 0; i < used; i++) {
        if (place[i].y >= least) continue;
        least = place[i].y;
        (*index)[(*n)++] = place[i].i;
    }
    for (int64_t k = 0; larger && k < *n / 2; k++) {
        int64_t swap = (*index)[k];
        (*index)[k] = (*index)[*n - 1 - k];
        (*index)[*n - 1 - k] = swap;
    }
    free(place);
    return ST_OK;
}

/* ---- one figure, in the page and as files ---------------------------------------------------- */

static st_status figure_files(const st_plot *p, const char *dir, const char *name, st_err *e)
{
    char *svg = NULL, *path = NULL;
    size_t n = 0;
    st_status s = st_plot_svg(p, false, &svg, &n, e);
    for (int png = 0; png < 2 && !s; png++) {
        if (asprintf(&path, "%s/%s.%s", dir, name, png ? "png" : "svg") < 0)
            s = ST_ERR(e, ST_ENOMEM, "report: no memory for a path");
        else if (png)
            s = st_plot_png(p, 2, path, e);
        else
            s = st_write_file(path, svg, n, e);
        if (!s) free(path);
    }
    free(svg);
    return s;
}

st_status st_report_figure_linked(FILE *f, const st_plot *p, const char *dir, const char *name,
                                  const char *caption, const st_html_link *link, size_t links,
                                  st_err *e)
{
    ST_TRY(figure_files(p, dir, name, e));
    return f ? st_html_figure(f, p, p->title, caption, link, links, e) : ST_OK;
}

st_status st_report_figure(FILE *f, const st_plot *p, const char *dir, const char *name,
                           const char *caption, st_err *e)
{
    return st_report_figure_linked(f, p, dir, name, caption, NULL, 0, e);
}

/* ---- curves ---------------------------------------------------------------------------------- */

/* Copies a curve into x, y (room for `most`), thinned by means of equal bins, so that single
 * batches' noise does not hide the course. */
int64_t st_report_curve(const json_t *curve, double *x, double *y, int64_t most)
{
    const json_t *jx = json_object_get(curve, "tokens"), *jy = json_object_get(curve, "loss");
    int64_t n = (int64_t)json_array_size(jx), used = 0;
    if (n != (int64_t)json_array_size(jy) || n < 1) return 0;
    int64_t bin = (n + most - 1) / most;
    for (int64_t i = 0; i < n; i += bin) {
        double sx = 0, sy = 0;
        int64_t k = 0;
        for (; k < bin && i + k < n; k++) {
            sx += json_number_value(json_array_get(jx, (size_t)(i + k)));
            sy += json_number_value(json_array_get(jy, (size_t)(i + k)));
        }
        x[used] = sx / (double)k;
        y[used++] = sy / (double)k;
    }
    return used;
}
