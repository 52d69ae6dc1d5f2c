/* Antialiased resizing in two passes as Pillow does it, bit for bit: the filter is stretched by the
 * scale when a picture shrinks, its taps are normalised, rounded to 22 bits after the point, summed
 * with rounding and clipped to a byte, first along rows, then along columns. Then the network's
 * planes: centre crop, bytes to floats. */
/* SPDX-License-Identifier: MIT */
#include "image/image.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RESIZE_BITS = 22 };

/* Taps of outputs begin .. begin+n of one axis. */
typedef struct {
    int64_t n, most; /* outputs; taps of the largest */
    int32_t *first, *count;
    int32_t *tap; /* (n, most) */
} resize_axis;

/* Keys' cubic convolution with a = -1/2. */
static double resize_cubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    return x < 2.0 ? (((x - 5) * x + 8) * x - 4) * a : 0.0;
}

static double resize_triangle(double x)
{
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

static void resize_axis_free(resize_axis *a)
{
    free(a->first);
    free(a->count);
    free(a->tap);
}

/* Weights of output `at`, before rounding: w[0..count). */
static void resize_weights(resize_axis *a, int64_t i, double centre, double stretch, double support,
                           int64_t in, double (*filter)(double), double *w)
{
    double sum = 0.0;
    int64_t lo = (int64_t)(centre - support + 0.5), hi = (int64_t)(centre + support + 0.5);
    if (lo < 0) lo = 0;
    if (hi > in) hi = in;
    a->first[i] = (int32_t)lo;
    a->count[i] = (int32_t)(hi - lo);
    for (int64_t x = 0; x < hi - lo; x++)
        sum += w[x] = filter(((double)(x + lo) - centre + 0.5) * (1.0 / stretch));
    for (int64_t x = 0; x < hi - lo; x++) {
        double v = (sum != 0.0 ? w[x] / sum : w[x]) * (1 << RESIZE_BITS);
        a->tap[i * a->most + x] = (int32_t)(v < 0 ? v - 0.5 : v + 0.5);
    }
}

/* Outputs begin .. begin+n of an axis of `in` pixels that becomes `out`. */
static st_status resize_axis_open(resize_axis *a, int64_t in, int64_t out, int64_t begin, int64_t n,
                                  st_filter kind, st_err *e)
{
    double (*filter)(double) = kind == ST_BILINEAR ? resize_triangle : resize_cubic;
    double scale = (double)in / (double)out, stretch = scale < 1.0 ? 1.0 : scale;
    double support = (kind == ST_BILINEAR ? 1.0 : 2.0) * stretch;
    *a = (resize_axis){.n = n, .most = (int64_t)ceil(support) * 2 + 1};
    a->first = st_calloc(n, sizeof *a->first);
    a->count = st_calloc(n, sizeof *a->count);
    a->tap = a->most < INT32_MAX ? st_calloc(n * a->most, sizeof *a->tap) : NULL;
    double *w = st_calloc(a->most, sizeof *w);
    if (!a->first || !a->count || !a->tap || !w) {
        free(w);
        ST_FAIL(e, ST_ENOMEM, "out of memory to resize a picture");
    }
    for (int64_t i = 0; i < n; i++) {
        double centre = ((double)(begin + i) + 0.5) * scale;
        resize_weights(a, i, centre, stretch, support, in, filter, w);
    }
    free(w);
    return ST_OK;
}

static uint8_t resize_clip(int32_t sum)
{
    sum >>= RESIZE_BITS;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

static void resize_row(const resize_axis *a, const uint8_t *from, uint8_t *to)
{
    for (int64_t i = 0; i < a->n; i++, to += 3) {
        const uint8_t *p = from + (int64_t)a->first[i] * 3;
        const int32_t *tap = a->tap + i * a->most;
        int32_t r = 1 << (RESIZE_BITS - 1), g = r, b = r;
        for (int32_t x = 0; x < a->count[i]; x++, p += 3) {
            r += p[0] * tap[x];
            g += p[1] * tap[x];
            b += p[2] * tap[x];
        }
        to[0] = resize_clip(r);
        to[1] = resize_clip(g);
        to[2] = resize_clip(b);
    }
}

/* Output row i of the second pass; sum: n int32. */
static void resize_column(const resize_axis *a, int64_t i, const uint8_t *from, int64_t n,
                          int32_t *sum, uint8_t *to)
{
    const int32_t *tap = a->tap + i * a->most;
    for (int64_t x = 0; x < n; x++)
        sum[x] = 1 << (RESIZE_BITS - 1);
    for (int32_t k = 0; k < a->count[i]; k++) {
        const uint8_t *row = from + k * n;
        for (int64_t x = 0; x < n; x++)
            sum[x] += row[x] * tap[k];
    }
    for (int64_t x = 0; x < n; x++)
        to[x] = resize_clip(sum[x]);
}

/* Pixels x, y to x+w, y+h of the picture as it would be with width x height pixels. */
typedef struct {
    int64_t width, height, x, y, w, h;
} resize_window;

/* Both passes; a pass that would change nothing is not made, as in Pillow. */
static st_status resize_run(const st_image *in, const resize_window *r, const resize_axis *across,
                            const resize_axis *down, uint8_t *out, st_err *e)
{
    const bool rows = r->width != in->width, columns = r->height != in->height;
    int64_t lo = columns ? down->first[0] : r->y, hi = r->y + r->h, n = r->w * 3;
    if (columns) hi = down->first[r->h - 1] + down->count[r->h - 1];
    uint8_t *half = columns ? malloc((size_t)((hi - lo) * n)) : out;
    int32_t *sum = st_calloc(n, sizeof *sum);
    if (half && sum) {
        for (int64_t y = lo; y < hi; y++) {
            const uint8_t *from = in->rgb + y * in->width * 3;
            uint8_t *to = half + (y - lo) * n;
            if (rows)
                resize_row(across, from, to);
            else
                memcpy(to, from + r->x * 3, (size_t)n);
        }
        for (int64_t i = 0; columns && i < r->h; i++)
            resize_column(down, i, half + (down->first[i] - lo) * n, n, sum, out + i * n);
    }
    st_status s = half && sum ? ST_OK : ST_ERR(e, ST_ENOMEM, "out of memory to resize a picture");
    if (half != out) free(half);
    free(sum);
    return s;
}

static st_status resize_cut(const st_image *in, const resize_window *r, st_filter kind,
                            uint8_t *out, st_err *e)
{
    resize_axis across = {0}, down = {0};
    st_status s = resize_axis_open(&across, in->width, r->width, r->x, r->w, kind, e);
    if (!s) s = resize_axis_open(&down, in->height, r->height, r->y, r->h, kind, e);
    if (!s) s = resize_run(in, r, &across, &down, out, e);
    resize_axis_free(&across);
    resize_axis_free(&down);
    return s;
}

st_status st_image_resize(st_image *out, const st_image *in, int64_t width, int64_t height,
                          st_filter kind, st_err *e)
{
    *out = (st_image){.width = width, .height = height};
    if (width < 1 || height < 1 || width > INT32_MAX / height / 3) {
        ST_FAIL(e, ST_EARG, "a picture cannot be made %lld x %lld pixels", (long long)width,
                (long long)height);
    }
    out->rgb = malloc((size_t)(width * height * 3));
    if (!out->rgb) ST_FAIL(e, ST_ENOMEM, "out of memory to resize a picture");
    resize_window all = {.width = width, .height = height, .w = width, .h = height};
    st_status s = resize_cut(in, &all, kind, out->rgb, e);
    if (s) st_image_free(out);
    return s;
}

/* ---- for a network --------------------------------------------------------------------------- */

/* One axis of the crop: where the window begins and how long it is, and how many zeros are before
 * it where the picture is smaller than the crop. Offsets round half to even, as Python does. */
static void resize_centre(int64_t length, int64_t size, int64_t *begin, int64_t *n, int64_t *pad)
{
    *n = length < size ? length : size;
    *pad = length < size ? (size - length) / 2 : 0;
    *begin = length < size ? 0 : (int64_t)nearbyint((double)(length - size) / 2.0);
}

st_status st_image_check_fit(const st_image_fit *f, st_err *e)
{
    if (f->size < 1 || f->size > 65536) {
        ST_FAIL(e, ST_EARG, "image size %lld, expected 1 to 65536 pixels", (long long)f->size);
    }
    /* The short side becomes size / crop: at least 1, and no longer than anyone can mean. */
    if (!(f->crop > 0.0) || f->crop > (double)f->size || (double)f->size / f->crop > 1e6) {
        ST_FAIL(e, ST_EARG, "crop fraction %g, expected a part of the short side such as 0.9 or 1",
                f->crop);
    }
    for (int k = 0; k < 3; k++) {
        if (isfinite(f->mean[k]) && isfinite(f->std[k]) && f->std[k] > 0) continue;
        ST_FAIL(e, ST_EARG, "mean %g and std %g of channel %d, expected numbers and a std above 0",
                (double)f->mean[k], (double)f->std[k], k);
    }
    return ST_OK;
}

st_status st_image_planes(const st_image *in, const st_image_fit *f, float *planes, st_err *e)
{
    ST_TRY(st_image_check_fit(f, e));
    resize_window r = {0};
    int64_t size = f->size, edge = (int64_t)floor((double)size / f->crop), left, top;
    int64_t brief = in->width < in->height ? in->width : in->height;
    int64_t along = in->width < in->height ? in->height : in->width;
    int64_t other = (int64_t)((double)(edge * along) / (double)brief);
    r.width = in->width <= in->height ? edge : other;
    r.height = in->width <= in->height ? other : edge;
    resize_centre(r.width, size, &r.x, &r.w, &left);
    resize_centre(r.height, size, &r.y, &r.h, &top);
    uint8_t *rgb = malloc((size_t)(r.w * r.h * 3));
    if (!rgb) ST_FAIL(e, ST_ENOMEM, "out of memory to resize a picture");
    st_status s = resize_cut(in, &r, f->filter, rgb, e);
    float value[3][256];
    for (int v = 0; v < 3 * 256; v++)
        value[v / 256][v % 256] = ((float)(v % 256) / 255.0f - f->mean[v / 256]) / f->std[v / 256];
    for (int64_t y = 0; !s && y < size; y++) {
        for (int64_t x = 0; x < size; x++) {
            bool inside = y >= top && y < top + r.h && x >= left && x < left + r.w;
            const uint8_t *p = rgb + (inside ? ((y - top) * r.w + x - left) * 3 : 0);
            for (int k = 0; k < 3; k++)
                planes[(k * size + y) * size + x] = value[k][inside ? p[k] : 0];
        }
    }
    free(rgb);
    return s;
}
