/* Heat maps: a grid of ratios, rows and columns named, each cell with its number. The colour is the
 * ratio's logarithm: 1 is the page, slower is red, faster is blue. */
/* SPDX-License-Identifier: MIT */
#include "chart/pen.h"
#include <cairo.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { HEAT_CELL = 26, HEAT_GAP = 2, HEAT_HEAD = 12 };

typedef struct {
    double left, top, cell, heads; /* of the grid; width of a cell; height of the column names */
} heat_layout;

static const double heat_slant = 0.62; /* radians that column names rise by */

static double heat_longest(const st_pen *d, const char *const *text, int64_t n)
{
    double most = 0;
    for (int64_t i = 0; i < n; i++)
        most = fmax(most, st_pen_text_width(d, text[i]));
    return most;
}

static heat_layout heat_place(const st_pen *d)
{
    const st_plot_heat *h = d->p->heat;
    st_pen_font(d, ST_PLOT_FONT, false);
    double rows = heat_longest(d, h->row, h->rows),
           columns = heat_longest(d, h->column, h->columns);
    double rise = columns * sin(heat_slant) + 16;
    heat_layout l = {.left = HEAT_HEAD + rows + 12, .heads = rise};
    l.top = HEAT_HEAD + (d->p->title ? 24 : 0) + (d->p->x_label ? 20 : 0) + rise;
    double room = d->width - l.left - fmax(HEAT_HEAD, columns * cos(heat_slant) - 20);
    l.cell = fmin(86, room / (double)h->columns);
    return l;
}

/* Height in pixels that `rows` rows and column names of `longest` characters need. */
double st_heat_height(const st_plot_heat *h)
{
    size_t longest = 0;
    for (int64_t i = 0; i < h->columns; i++)
        longest = strlen(h->column[i]) > longest ? strlen(h->column[i]) : longest;
    return 90 + (double)longest * 7.0 * sin(heat_slant) + (double)(h->rows * HEAT_CELL);
}

static void heat_cell(const st_pen *d, double x, double y, double w, double v)
{
    char text[24];
    if (!isfinite(v) || v <= 0) {
        st_pen_colour(d, ST_GREY, 0.8);
        st_pen_text(d, x + w / 2, y + HEAT_CELL / 2.0, 0.5, "\xc2\xb7");
        return;
    }
    double strength = fmin(1, fabs(log2(v)) / 2.5);
    st_pen_colour(d, v >= 1 ? ST_BLUE : ST_RED, 0.06 + 0.64 * strength);
    cairo_rectangle(d->cr, x, y, w - HEAT_GAP, HEAT_CELL - HEAT_GAP);
    cairo_fill(d->cr);
    snprintf(text, sizeof text, v >= 9.95 ? "%.0f" : v >= 0.995 ? "%.1f" : "%.2f", v);
    st_pen_colour(d, ST_INK, 1);
    st_pen_text(d, x + (w - HEAT_GAP) / 2, y + (HEAT_CELL - HEAT_GAP) / 2.0, 0.5, text);
}

static void heat_heads(const st_pen *d, const heat_layout *l)
{
    const st_plot *p = d->p;
    const st_plot_heat *h = p->heat;
    if (p->title) {
        st_pen_font(d, ST_PLOT_TITLE, true);
        st_pen_colour(d, ST_INK, 1);
        st_pen_text(d, HEAT_HEAD, 20, 0, p->title);
    }
    st_pen_font(d, ST_PLOT_FONT, false);
    st_pen_colour(d, ST_GREY, 1);
    if (p->x_label) st_pen_text(d, HEAT_HEAD, (p->title ? 24 : 0) + 22, 0, p->x_label);
    st_pen_colour(d, ST_INK, 1);
    for (int64_t j = 0; j < h->columns; j++) {
        cairo_save(d->cr);
        cairo_translate(d->cr, l->left + ((double)j + 0.4) * l->cell, l->top - 8);
        cairo_rotate(d->cr, -heat_slant);
        st_pen_text(d, 0, 0, 0, h->column[j]);
        cairo_restore(d->cr);
    }
}

void st_heat_draw(const st_pen *d)
{
    const st_plot_heat *h = d->p->heat;
    heat_layout l = heat_place(d);
    heat_heads(d, &l);
    for (int64_t i = 0; i < h->rows; i++) {
        double y = l.top + (double)(i * HEAT_CELL);
        st_pen_colour(d, ST_INK, 1);
        st_pen_text(d, l.left - 10, y + (HEAT_CELL - HEAT_GAP) / 2.0, 1, h->row[i]);
        for (int64_t j = 0; j < h->columns; j++)
            heat_cell(d, l.left + (double)j * l.cell, y, l.cell, h->value[i * h->columns + j]);
    }
}
