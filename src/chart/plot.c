/* Charts over cairo: one drawing, written as SVG or PNG. Layout: title, legend and the y axis' name
 * above the frame, the x axis' name below it; grid lines are faint, text is horizontal, and lines
 * are named at their ends, so that a legend is needed for shapes only. */
/* SPDX-License-Identifier: MIT */
#include "chart/pen.h"
#include "files/files.h"
#include <cairo-svg.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- limits ---------------------------------------------------------------------------------- */

typedef struct {
    double x0, x1, y0, y1;
} plot_range;

static void plot_widen(const st_plot *p, plot_range *r, double x, double y)
{
    if (!st_plot_drawable(p, x, y)) return;
    r->x0 = fmin(r->x0, x), r->x1 = fmax(r->x1, x);
    r->y0 = fmin(r->y0, y), r->y1 = fmax(r->y1, y);
}

static st_status plot_limits(const st_plot *p, plot_range *r, st_err *e)
{
    *r = (plot_range){INFINITY, -INFINITY, INFINITY, -INFINITY};
    for (int64_t i = 0; i < p->points; i++)
        plot_widen(p, r, p->point[i].x, p->point[i].y);
    for (int64_t i = 0; i < p->lines; i++)
        for (int64_t k = 0; k < p->line[i].n; k++)
            plot_widen(p, r, p->line[i].x[k], p->line[i].y[k]);
    if (!(r->x0 <= r->x1))
        ST_FAIL(e, ST_EARG, "plot '%s': no finite point to draw", p->title ? p->title : "");
    if (p->x_zero && !p->x_log && r->x0 > 0) r->x0 = 0;
    if (p->y_low < p->y_high) r->y0 = p->y_low, r->y1 = p->y_high;
    return ST_OK;
}

enum { PLOT_EDGE = 12, PLOT_KEY_ROW = 24 };

/* ---- frame ----------------------------------------------------------------------------------- */

static double plot_label_column(const st_pen *d)
{
    double most = 0;
    for (int64_t i = 0; i < d->p->lines; i++)
        if (d->p->line[i].label) most = fmax(most, st_pen_text_width(d, d->p->line[i].label));
    return most > 0 && !d->p->points ? most + 26 : 14;
}

static double plot_key_mark(const st_plot_key *k)
{
    return k->line ? 26 : 17;
}

/* Where key i stands: *x from *x on, in the next row where this one has no room for it. */
static int plot_key_place(const st_pen *d, int64_t i, double *x)
{
    const st_plot_key *k = &d->p->key[i];
    double end = *x + plot_key_mark(k) + st_pen_text_width(d, k->label);
    if (end <= d->width - 8 || *x <= PLOT_EDGE) return 0;
    *x = PLOT_EDGE;
    return 1;
}

static double plot_key_next(const st_pen *d, int64_t i, double x)
{
    return x + plot_key_mark(&d->p->key[i]) + st_pen_text_width(d, d->p->key[i].label) + 20;
}

/* Height of the legend: one row, more where the figure is too narrow. */
static double plot_keys_height(const st_pen *d)
{
    int rows = d->p->keys > 0;
    double x = PLOT_EDGE;
    for (int64_t i = 0; i < d->p->keys; i++) {
        rows += plot_key_place(d, i, &x);
        x = plot_key_next(d, i, x);
    }
    return rows * PLOT_KEY_ROW;
}

static void plot_layout(st_pen *d, const plot_range *r)
{
    const st_plot *p = d->p;
    bool named = p->y_low < p->y_high;
    st_pen_font(d, ST_PLOT_FONT, false);
    d->top = 12 + (p->title ? 24 : 0) + plot_keys_height(d) + (p->y_label ? 20 : 0) + 6;
    d->bottom = d->height - 26 - (p->x_label ? 20 : 0);
    d->right = d->width - plot_label_column(d);
    st_axis_make(&d->y, r->y0, r->y1, p->y_log, named, d->bottom - d->top, 32);
    double widest = 0;
    for (int i = 0; i < d->y.n; i++)
        widest = fmax(widest, st_pen_text_width(d, d->y.text[i]));
    d->left = 12 + widest + 10;
    double x0 = r->x0, x1 = r->x1;
    if (p->points && !p->x_log && x1 > x0) { /* room for markers and labels at the sides */
        double room = (x1 - x0) * 0.06;
        x0 = p->x_zero ? x0 : x0 - room;
        x1 += room;
    }
    st_axis_make(&d->x, x0, x1, p->x_log, !p->points && !p->x_log, d->right - d->left, 64);
}

static void plot_frame(const st_pen *d)
{
    cairo_t *cr = d->cr;
    st_pen_font(d, ST_PLOT_FONT, false);
    cairo_set_line_width(cr, 1);
    for (int i = 0; i < d->y.n; i++) {
        double y = floor(st_pen_y(d, d->y.tick[i])) + 0.5;
        st_pen_colour(d, ST_GREY, 0.22);
        cairo_move_to(cr, d->left, y);
        cairo_line_to(cr, d->right, y);
        cairo_stroke(cr);
        st_pen_colour(d, ST_GREY, 1);
        st_pen_text(d, d->left - 8, y, 1, d->y.text[i]);
    }
    for (int i = 0; i < d->x.n; i++) {
        double x = floor(st_pen_x(d, d->x.tick[i])) + 0.5;
        st_pen_colour(d, ST_GREY, 0.8);
        cairo_move_to(cr, x, d->bottom);
        cairo_line_to(cr, x, d->bottom + 4);
        cairo_stroke(cr);
        st_pen_colour(d, ST_GREY, 1);
        double half = st_pen_text_width(d, d->x.text[i]) / 2;
        st_pen_text(d, fmin(x, d->width - 2 - half), d->bottom + 15, 0.5, d->x.text[i]);
    }
    st_pen_colour(d, ST_GREY, 0.8);
    cairo_move_to(cr, d->left, floor(d->bottom) + 0.5);
    cairo_line_to(cr, d->right, floor(d->bottom) + 0.5);
    cairo_stroke(cr);
}

static void plot_heads(const st_pen *d)
{
    const st_plot *p = d->p;
    double y = 12;
    if (p->title) {
        st_pen_font(d, ST_PLOT_TITLE, true);
        st_pen_colour(d, ST_INK, 1);
        st_pen_text(d, 12, y + 8, 0, p->title);
        y += 24;
    }
    st_pen_font(d, ST_PLOT_FONT, false);
    double x = PLOT_EDGE;
    for (int64_t i = 0; i < p->keys; i++) {
        const st_plot_key *k = &p->key[i];
        y += PLOT_KEY_ROW * plot_key_place(d, i, &x);
        if (k->line) {
            double dash[] = {5, 4};
            st_pen_colour(d, k->colour, 1);
            cairo_set_line_width(d->cr, 2);
            cairo_set_dash(d->cr, dash, k->dashed ? 2 : 0, 0);
            cairo_move_to(d->cr, x, y + 10);
            cairo_line_to(d->cr, x + 20, y + 10);
            cairo_stroke(d->cr);
            cairo_set_dash(d->cr, dash, 0, 0);
        } else {
            st_pen_mark(d, x + 6, y + 10, k->colour, k->shape, false);
        }
        st_pen_colour(d, ST_INK, 1);
        st_pen_text(d, x + plot_key_mark(k), y + 10, 0, k->label);
        x = plot_key_next(d, i, x);
    }
    if (p->keys) y += PLOT_KEY_ROW;
    st_pen_colour(d, ST_GREY, 1);
    if (p->y_label) st_pen_text(d, 12, y + 10, 0, p->y_label);
    if (p->x_label) st_pen_text(d, d->right, d->height - 14, 1, p->x_label);
}

static st_status plot_draw(cairo_t *cr, const st_plot *p, double width, double height, bool dark,
                           st_err *e)
{
    st_pen d = {.cr = cr, .p = p, .dark = dark, .width = width, .height = height};
    plot_range range;
    if (p->heat) {
        st_heat_draw(&d);
        return ST_OK;
    }
    ST_TRY(plot_limits(p, &range, e));
    plot_layout(&d, &range);
    plot_frame(&d);
    plot_heads(&d);
    for (int64_t i = 0; i < p->lines; i++)
        st_pen_line(&d, &p->line[i]);
    st_pen_font(&d, ST_PLOT_FONT, false);
    if (p->points)
        ST_TRY(st_pen_points(&d, e));
    else
        ST_TRY(st_pen_line_labels(&d, e));
    if (cairo_status(cr))
        ST_FAIL(e, ST_EARG, "plot '%s': %s", p->title ? p->title : "",
                cairo_status_to_string(cairo_status(cr)));
    return ST_OK;
}

/* ---- output ---------------------------------------------------------------------------------- */

typedef struct {
    FILE *f;
} plot_out;

static cairo_status_t plot_write(void *ctx, const unsigned char *data, unsigned n)
{
    plot_out *o = ctx;
    return fwrite(data, 1, n, o->f) == n ? CAIRO_STATUS_SUCCESS : CAIRO_STATUS_WRITE_ERROR;
}

/* Draws on `s` and ends it; for a stream surface the data is complete after this. */
static st_status plot_on(cairo_surface_t *s, const st_plot *p, double w, double h, double scale,
                         bool dark, bool paper, plot_out *png, st_err *e)
{
    cairo_t *cr = cairo_create(s);
    cairo_scale(cr, scale, scale);
    if (paper) {
        cairo_set_source_rgb(cr, 1, 1, 1);
        cairo_paint(cr);
    }
    st_status status = plot_draw(cr, p, w, h, dark, e);
    cairo_destroy(cr);
    cairo_surface_flush(s);
    cairo_status_t wrote = CAIRO_STATUS_SUCCESS;
    if (!status && png) wrote = cairo_surface_write_to_png_stream(s, plot_write, png);
    cairo_surface_finish(s);
    if (!wrote) wrote = cairo_surface_status(s);
    cairo_surface_destroy(s);
    if (!status && wrote)
        return ST_ERR(e, ST_EIO, "plot '%s': %s", p->title ? p->title : "",
                      cairo_status_to_string(wrote));
    return status;
}

static double plot_size(double given, double preset)
{
    return given >= 120 && given <= 8192 ? given : preset;
}

st_status st_plot_svg(const st_plot *p, bool dark, char **svg, size_t *n, st_err *e)
{
    double w = plot_size(p->width, 760), h = plot_size(p->height, 440);
    *svg = NULL;
    plot_out out = {open_memstream(svg, n)};
    if (!out.f) ST_FAIL(e, ST_ENOMEM, "plot: no memory for an SVG");
    cairo_surface_t *s = cairo_svg_surface_create_for_stream(plot_write, &out, w, h);
    cairo_svg_surface_set_document_unit(s, CAIRO_SVG_UNIT_PX);
    st_status status = plot_on(s, p, w, h, 1, dark, false, NULL, e);
    if (fclose(out.f) && !status) status = ST_ERR(e, ST_ENOMEM, "plot: no memory for an SVG");
    if (status) free(*svg), *svg = NULL;
    return status;
}

st_status st_plot_places(const st_plot *p, double *place, st_err *e)
{
    double w = plot_size(p->width, 760), h = plot_size(p->height, 440);
    cairo_surface_t *s = cairo_recording_surface_create(CAIRO_CONTENT_COLOR_ALPHA, NULL);
    st_pen d = {.cr = cairo_create(s), .p = p, .width = w, .height = h};
    plot_range range;
    st_status status = plot_limits(p, &range, e);
    if (!status) plot_layout(&d, &range);
    for (int64_t i = 0; i < p->points && !status; i++) {
        bool drawn = st_plot_drawable(p, p->point[i].x, p->point[i].y);
        place[2 * i] = drawn ? st_pen_x(&d, p->point[i].x) / w : (double)NAN;
        place[2 * i + 1] = drawn ? st_pen_y(&d, p->point[i].y) / h : (double)NAN;
    }
    cairo_destroy(d.cr);
    cairo_surface_destroy(s);
    return status;
}

st_status st_plot_png(const st_plot *p, double scale, const char *path, st_err *e)
{
    double w = plot_size(p->width, 760), h = plot_size(p->height, 440);
    if (!(scale > 0.1 && scale <= 8)) scale = 2;
    char *png = NULL;
    size_t n = 0;
    plot_out out = {open_memstream(&png, &n)};
    if (!out.f) ST_FAIL(e, ST_ENOMEM, "plot: no memory for a PNG");
    cairo_surface_t *s =
        cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)(w * scale), (int)(h * scale));
    st_status status = plot_on(s, p, w, h, scale, false, true, &out, e);
    if (fclose(out.f) && !status) status = ST_ERR(e, ST_ENOMEM, "plot: no memory for a PNG");
    if (!status) status = st_write_file(path, png, n, e);
    free(png);
    return status;
}
