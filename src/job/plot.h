/* plot: line and scatter charts, drawn once over cairo and written as SVG (memory) or PNG (file).
 * Inner header of the room job. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_PLOT_H
#define ST_PLOT_H

#include "io/io.h"

/* Colours are numbers, so that one figure reads well on white and on dark. The hues are those of
 * Okabe & Ito (2008), told apart with every common colour blindness; lightness is per theme. */
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
    const st_plot_key *key; /* legend, one row under the title */
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

/* ---- inside plot: ticks.c, labels.c, marks.c ------------------------------------------------ */

enum { ST_TICKS = 24 };
typedef struct {
    double lo, hi; /* limits, lo < hi; of a log axis both > 0 */
    bool log;
    int n;
    double tick[ST_TICKS];
    char text[ST_TICKS][24];
} st_axis;

/* Round limits and ticks around [lo, hi] for an axis `pixels` long with ticks at least `apart`
 * pixels from each other. `fixed`: keep the limits as they are. */
void st_axis_make(st_axis *a, double lo, double hi, bool log, bool fixed, double pixels,
                  double apart);
double st_axis_place(const st_axis *a, double v); /* 0 at lo, 1 at hi */
/* "1,234,567", "0.25", "1.2M" for people; `digits` significant ones. */
void st_format_number(char out[24], double v, int digits);

typedef struct {
    double x, y, w, h; /* top left corner, size */
} st_box;

/* Where each of n labels of size (box.w, box.h) goes: sets box.x, box.y so that labels lie near
 * their anchors (ax, ay), inside `frame`, and off each other, the anchors and the n_walls boxes as
 * far as there is room. Deterministic; O(sweeps * n * (n + n_walls)). */
void st_labels_place(st_box *box, const double *ax, const double *ay, int64_t n, const st_box *wall,
                     int64_t n_walls, st_box frame, double clear);
/* Moves the sorted or unsorted centres y[i] of n rows at least `apart` apart within [lo, hi] with
 * the least sum of squares (isotonic regression); if they cannot fit they are spread evenly. */
st_status st_rows_spread(double *y, int64_t n, double apart, double lo, double hi, st_err *e);

/* Drawing of one figure: units are pixels, y grows downward. */
typedef struct _cairo cairo_t;
typedef struct {
    cairo_t *cr;
    const st_plot *p;
    bool dark;
    st_axis x, y;
    double width, height, left, right, top, bottom; /* edges of the frame */
} st_pen;

enum { ST_PLOT_FONT = 12, ST_PLOT_TITLE = 15, ST_PLOT_MARK = 5 };

void st_pen_colour(const st_pen *d, int colour, double alpha);
void st_pen_font(const st_pen *d, double size, bool bold);
double st_pen_text_width(const st_pen *d, const char *text);
/* Text whose left end, middle or right end (align 0, 0.5, 1) is at x, its x-height centred on y. */
void st_pen_text(const st_pen *d, double x, double y, double align, const char *text);
double st_pen_x(const st_pen *d, double v);
double st_pen_y(const st_pen *d, double v);
bool st_plot_drawable(const st_plot *p, double x, double y);
void st_pen_mark(const st_pen *d, double x, double y, int colour, st_shape shape, bool hollow);
void st_pen_line(const st_pen *d, const st_plot_line *l);
/* Names of the lines in a column right of the frame, each joined to its line's last point. */
st_status st_pen_line_labels(const st_pen *d, st_err *e);
st_status st_pen_points(const st_pen *d, st_err *e);
void st_heat_draw(const st_pen *d);

#endif
