/* Inside of charts: axes, places of labels, and the pen. Inside chart only. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CHART_PEN_H
#define ST_CHART_PEN_H

#include "chart/chart.h"

/* ---- inside plot: ticks.c, label_places.c, marks.c ------------------------------------------- */

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
