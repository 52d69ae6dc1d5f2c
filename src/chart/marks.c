/* What stands in a chart: colours, text, markers, lines with names, points with labels. */
/* SPDX-License-Identifier: MIT */
#include "chart/pen.h"
#include <cairo.h>
#include <math.h>
#include <stdlib.h>

typedef struct {
    double r, g, b;
} marks_rgb;

/* clang-format off */
static const marks_rgb marks_colours[2][ST_COLOURS] = {
    {{.13, .14, .16}, {.42, .43, .45}, {0, .36, .69}, {.80, .31, 0}, {0, .54, .40},
     {.67, .20, .47}, {.80, .53, 0}, {.18, .60, .84}, {.45, .40, 0}},
    {{.90, .91, .92}, {.62, .63, .65}, {.34, .66, .93}, {.96, .52, .25}, {.16, .76, .58},
     {.86, .50, .71}, {.95, .72, .20}, {.56, .83, .98}, {.78, .72, .30}}};
/* clang-format on */

/* The card a figure lies on, for the rim that parts overlapping markers. */
static const marks_rgb marks_paper[2] = {{1, 1, 1}, {.11, .12, .14}};

static marks_rgb marks_mix(marks_rgb a, marks_rgb b)
{
    const double share = 0.4;
    return (marks_rgb){a.r + share * (b.r - a.r), a.g + share * (b.g - a.g),
                       a.b + share * (b.b - a.b)};
}

void st_pen_colour(const st_pen *d, int colour, double alpha)
{
    enum { HUES = ST_COLOURS - ST_BLUE };
    int round = colour < ST_COLOURS ? 0 : (colour - ST_BLUE) / HUES % 3;
    int hue = colour < ST_COLOURS ? colour : ST_BLUE + (colour - ST_BLUE) % HUES;
    marks_rgb c = marks_colours[d->dark][hue >= 0 ? hue : ST_INK];
    if (round) c = marks_mix(c, round == 1 ? marks_colours[d->dark][ST_INK] : marks_paper[d->dark]);
    cairo_set_source_rgba(d->cr, c.r, c.g, c.b, alpha);
}

void st_pen_font(const st_pen *d, double size, bool bold)
{
    cairo_select_font_face(d->cr, "sans-serif", CAIRO_FONT_SLANT_NORMAL,
                           bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(d->cr, size);
}

double st_pen_text_width(const st_pen *d, const char *text)
{
    cairo_text_extents_t size;
    cairo_text_extents(d->cr, text, &size);
    return size.x_advance;
}

void st_pen_text(const st_pen *d, double x, double y, double align, const char *text)
{
    cairo_font_extents_t font;
    cairo_font_extents(d->cr, &font);
    cairo_move_to(d->cr, x - align * st_pen_text_width(d, text),
                  y + (font.ascent - font.descent) * 0.42);
    cairo_show_text(d->cr, text);
}

double st_pen_x(const st_pen *d, double v)
{
    return d->left + st_axis_place(&d->x, v) * (d->right - d->left);
}

double st_pen_y(const st_pen *d, double v)
{
    return d->bottom - st_axis_place(&d->y, v) * (d->bottom - d->top);
}

bool st_plot_drawable(const st_plot *p, double x, double y)
{
    return isfinite(x) && isfinite(y) && (!p->x_log || x > 0) && (!p->y_log || y > 0);
}

/* ---- marks ----------------------------------------------------------------------------------- */

void st_pen_mark(const st_pen *d, double x, double y, int colour, st_shape shape, bool hollow)
{
    cairo_t *cr = d->cr;
    double s = ST_PLOT_MARK;
    cairo_new_path(cr);
    if (shape == ST_CIRCLE) {
        cairo_arc(cr, x, y, s, 0, 2 * 3.14159265358979);
    } else if (shape == ST_SQUARE) {
        cairo_rectangle(cr, x - s * 0.9, y - s * 0.9, 1.8 * s, 1.8 * s);
    } else if (shape == ST_DIAMOND) {
        double t = s * 1.35;
        cairo_move_to(cr, x, y - t), cairo_line_to(cr, x + t, y);
        cairo_line_to(cr, x, y + t), cairo_line_to(cr, x - t, y);
        cairo_close_path(cr);
    } else {
        cairo_move_to(cr, x, y - s * 1.2), cairo_line_to(cr, x + s * 1.15, y + s * 0.9);
        cairo_line_to(cr, x - s * 1.15, y + s * 0.9);
        cairo_close_path(cr);
    }
    marks_rgb rim = marks_paper[d->dark];
    cairo_set_source_rgb(cr, rim.r, rim.g, rim.b);
    cairo_set_line_width(cr, 3);
    cairo_stroke_preserve(cr);
    st_pen_colour(d, colour, hollow ? 0.2 : 1);
    cairo_fill_preserve(cr);
    st_pen_colour(d, colour, 1);
    cairo_set_line_width(cr, hollow ? 1.8 : 0.5);
    cairo_stroke(cr);
}

void st_pen_line(const st_pen *d, const st_plot_line *l)
{
    cairo_t *cr = d->cr;
    double dash[] = {6, 4};
    bool on = false;
    cairo_save(cr);
    cairo_rectangle(cr, d->left, d->top - 2, d->right - d->left + 2, d->bottom - d->top + 2);
    cairo_clip(cr);
    cairo_new_path(cr);
    for (int64_t i = 0; i < l->n; i++) {
        if (!st_plot_drawable(d->p, l->x[i], l->y[i])) {
            on = false;
            continue;
        }
        double x = st_pen_x(d, l->x[i]), y = fmax(-1e4, fmin(1e4, st_pen_y(d, l->y[i])));
        if (on)
            cairo_line_to(cr, x, y);
        else
            cairo_move_to(cr, x, y);
        on = true;
    }
    st_pen_colour(d, l->colour, l->faint ? 0.28 : 0.95);
    cairo_set_line_width(cr, l->faint ? 1 : l->dashed ? 1.4 : 2);
    cairo_set_line_join(cr, CAIRO_LINE_JOIN_ROUND);
    cairo_set_dash(cr, dash, l->dashed ? 2 : 0, 0);
    cairo_stroke(cr);
    cairo_restore(cr);
}

st_status st_pen_line_labels(const st_pen *d, st_err *e)
{
    const st_plot *p = d->p;
    int64_t n = 0;
    double *y = calloc((size_t)p->lines * 2 + 1, sizeof *y), *from = y + p->lines;
    if (!y) ST_FAIL(e, ST_ENOMEM, "plot: no memory for %lld labels", (long long)p->lines);
    int64_t *which = calloc((size_t)p->lines + 1, sizeof *which);
    if (!which) {
        free(y);
        ST_FAIL(e, ST_ENOMEM, "plot: no memory for %lld labels", (long long)p->lines);
    }
    for (int64_t i = 0; i < p->lines; i++) {
        const st_plot_line *l = &p->line[i];
        if (!l->label || l->n < 1 || !st_plot_drawable(p, l->x[l->n - 1], l->y[l->n - 1])) continue;
        which[n] = i;
        from[n] = fmax(d->top, fmin(d->bottom, st_pen_y(d, l->y[l->n - 1])));
        y[n] = from[n];
        n++;
    }
    st_status s = st_rows_spread(y, n, ST_PLOT_FONT + 3, d->top, d->bottom, e);
    for (int64_t k = 0; k < n && !s; k++) {
        const st_plot_line *l = &p->line[which[k]];
        double x = fmin(d->right, st_pen_x(d, l->x[l->n - 1]));
        st_pen_colour(d, l->colour, 0.6);
        cairo_set_line_width(d->cr, 1);
        cairo_move_to(d->cr, x + 2, from[k]);
        cairo_line_to(d->cr, d->right + 16, y[k]);
        cairo_stroke(d->cr);
        st_pen_colour(d, l->colour, 1);
        st_pen_text(d, d->right + 20, y[k], 0, l->label);
    }
    free(y), free(which);
    return s;
}

/* ---- scatter --------------------------------------------------------------------------------- */

/* Boxes along the drawn lines, so that labels keep off them. */
static int64_t marks_walls(const st_pen *d, st_box *wall, int64_t most)
{
    int64_t n = 0;
    for (int64_t i = 0; i < d->p->lines; i++) {
        const st_plot_line *l = &d->p->line[i];
        for (int64_t k = 1; k < l->n; k++) {
            if (!st_plot_drawable(d->p, l->x[k - 1], l->y[k - 1]) ||
                !st_plot_drawable(d->p, l->x[k], l->y[k]))
                continue;
            double x = st_pen_x(d, l->x[k - 1]), y = st_pen_y(d, l->y[k - 1]);
            double dx = st_pen_x(d, l->x[k]) - x, dy = st_pen_y(d, l->y[k]) - y;
            int steps = (int)fmin(200, 1 + hypot(dx, dy) / 6);
            for (int s = 0; s <= steps && n < most; s++)
                wall[n++] = (st_box){x + dx * s / steps - 2, y + dy * s / steps - 2, 4, 4};
        }
    }
    return n;
}

static void marks_point_label(const st_pen *d, st_box b, double ax, double ay,
                              const st_plot_point *pt)
{
    double nx = fmax(b.x, fmin(b.x + b.w, ax)), ny = fmax(b.y, fmin(b.y + b.h, ay));
    double far = hypot(nx - ax, ny - ay);
    if (far > ST_PLOT_MARK + 7) {
        double from = (ST_PLOT_MARK + 2) / far;
        st_pen_colour(d, pt->colour, 0.7);
        cairo_set_line_width(d->cr, 0.9);
        cairo_move_to(d->cr, ax + (nx - ax) * from, ay + (ny - ay) * from);
        cairo_line_to(d->cr, nx, ny);
        cairo_stroke(d->cr);
    }
    st_pen_colour(d, pt->colour, 1);
    st_pen_text(d, b.x, b.y + b.h / 2, 0, pt->label);
}

st_status st_pen_points(const st_pen *d, st_err *e)
{
    enum { WALLS = 800 };
    const st_plot *p = d->p;
    size_t n = (size_t)p->points;
    int64_t used = 0;
    st_box *box = calloc(n + WALLS, sizeof *box), *wall = box + n;
    double *at = calloc(2 * n + 1, sizeof *at);
    int64_t *which = calloc(n + 1, sizeof *which);
    if (!box || !at || !which) {
        free(box), free(at), free(which);
        ST_FAIL(e, ST_ENOMEM, "plot: no memory for %lld points", (long long)p->points);
    }
    double *ax = at, *ay = at + n;
    for (int64_t i = 0; i < p->points; i++) {
        const st_plot_point *pt = &p->point[i];
        if (!st_plot_drawable(p, pt->x, pt->y)) continue;
        ax[used] = st_pen_x(d, pt->x), ay[used] = st_pen_y(d, pt->y);
        box[used].w = pt->label ? st_pen_text_width(d, pt->label) : 1;
        box[used].h = pt->label ? ST_PLOT_FONT + 2 : 1;
        which[used++] = i;
    }
    int64_t walls = marks_walls(d, wall, WALLS);
    st_box frame = {d->left + 2, d->top, d->width - 4 - d->left, d->bottom - d->top - 2};
    st_labels_place(box, ax, ay, used, wall, walls, frame, ST_PLOT_MARK);
    for (int64_t k = 0; k < used; k++) {
        const st_plot_point *pt = &p->point[which[k]];
        st_pen_mark(d, ax[k], ay[k], pt->colour, pt->shape, pt->hollow);
    }
    for (int64_t k = 0; k < used; k++)
        if (p->point[which[k]].label)
            marks_point_label(d, box[k], ax[k], ay[k], &p->point[which[k]]);
    free(box), free(at), free(which);
    return ST_OK;
}
