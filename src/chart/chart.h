/* chart: line and scatter charts and heat maps, drawn once over cairo and written as SVG (memory)
 * or PNG (file). */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CHART_H
#define ST_CHART_H

#include "base/base.h"

/* Colours are numbers, so that one figure reads well on white and on dark. The hues are those of
 * Okabe & Ito (2008), told apart with every common colour blindness; lightness is per theme.
 * Numbers from ST_COLOURS on are the hues ST_BLUE to ST_OLIVE again, darker, then lighter; and so
 * on. */
enum {
    ST_INK,
    ST_GREY,
    ST_BLUE,
    ST_RED,
    ST_GREEN,
    ST_PURPLE,
    ST_ORANGE,
    ST_SKY,
    ST_OLIVE,
    ST_COLOURS
};
typedef enum { ST_CIRCLE, ST_SQUARE, ST_DIAMOND, ST_TRIANGLE } st_shape;

typedef struct {
    const char *label;   /* written beside the line's end; NULL: none */
    const double *x, *y; /* n points in drawing order; non-finite ones break the line */
    int64_t n;
    int colour;
    bool dashed, faint;
} st_plot_line;

typedef struct {
    const char *label; /* written near the point where there is room; NULL: none */
    double x, y;       /* a non-finite or (log axis) non-positive point is left out */
    int colour;
    st_shape shape;
    bool hollow;
} st_plot_point;

typedef struct {
    const char *label;
    int colour;
    st_shape shape;
    bool line; /* a stroke instead of a marker */
    bool dashed;
} st_plot_key;

/* A grid of ratios (heat.c): value (rows, columns), above 0; not finite: nothing to show. */
typedef struct {
    const char *const *row, *const *column; /* names */
    const double *value;
    int64_t rows, columns;
} st_plot_heat;

typedef struct {
    const char *title, *x_label, *y_label; /* UTF-8; NULL: none */
    const st_plot_heat *heat; /* a heat map: of the rest, only x_label (a line under the title) and
                               * the size count */
    bool x_log, y_log;
    bool x_zero;          /* the x axis begins at 0 (linear only) */
    double y_low, y_high; /* limits; equal: from the data. Lines are clipped to them */
    const st_plot_line *line;
    int64_t lines;
    const st_plot_point *point;
    int64_t points;
    const st_plot_key *key; /* legend, in rows under the title */
    int64_t keys;
    double width, height; /* pixels; 0 = 760 x 440 */
} st_plot;

/* *svg in new memory (NUL added, not counted in *n). ST_EARG if there is nothing finite to draw. */
st_status st_plot_svg(const st_plot *p, bool dark, char **svg, size_t *n, st_err *e);
/* Where the points are drawn: place[2 i] and [2 i + 1] from 0 to 1, from the left and the top; NAN
 * for those left out. `place` has 2 * p->points numbers. */
st_status st_plot_places(const st_plot *p, double *place, st_err *e);
double st_heat_height(const st_plot_heat *h); /* that a heat map needs, in pixels */
/* The same drawing on white as PNG, `scale` pixels per unit. Atomic. */
st_status st_plot_png(const st_plot *p, double scale, const char *path, st_err *e);
/* "1,234,567", "0.25", "1.2M" for people; `digits` significant ones. */
void st_format_number(char out[24], double v, int digits);

#endif
