/* Windows of images as rows, as torch.nn.Unfold orders them (channel, row, column), and the same
 * normalised: y = (x - mean) rstd gain + bias of each row. */
/* SPDX-License-Identifier: MIT */
#include "backend/ref/ref.h"
#include <math.h>

/* Number j of the window whose upper left corner is (top, left). */
static double unfold_at(const st_unfold_args *a, int64_t image, int64_t top, int64_t left,
                        int64_t j)
{
    int64_t area = a->kernel * a->kernel, channel = j / area;
    int64_t y = top + j % area / a->kernel, x = left + j % a->kernel;
    if (y < 0 || x < 0 || y >= a->height || x >= a->width) return 0;
    int64_t at = a->planes ? ((image * a->channels + channel) * a->height + y) * a->width + x
                           : ((image * a->height + y) * a->width + x) * a->channels + channel;
    return (double)ref_load(&a->x, at);
}

static void unfold_row(const st_unfold_args *a, int64_t window, int64_t image, int64_t top,
                       int64_t left, int64_t to)
{
    double mean = 0, var = 0, rstd = 1;
    for (int64_t j = 0; j < window && a->gain.data; j++)
        mean += unfold_at(a, image, top, left, j) / (double)window;
    for (int64_t j = 0; j < window && a->gain.data; j++) {
        double d = unfold_at(a, image, top, left, j) - mean;
        var += d * d / (double)window;
    }
    if (a->gain.data) rstd = 1.0 / sqrt(var + (double)a->eps);
    for (int64_t j = 0; j < window; j++) {
        double y = (unfold_at(a, image, top, left, j) - mean) * rstd;
        if (a->gain.data) y *= (double)ref_load(&a->gain, j);
        if (a->bias.data) y += (double)ref_load(&a->bias, j);
        ref_store(&a->y, to + j, y);
    }
}

void st_ref_unfold(st_stream *q, const st_unfold_args *a)
{
    st_unfold_shape s = st_unfold_resolve(a);
    (void)q;
    for (int64_t i = 0; i < a->batch; i++) {
        for (int64_t r = 0; r < s.rows; r++) {
            for (int64_t c = 0; c < s.cols; c++) {
                unfold_row(a, s.window, i, r * a->stride - a->pad, c * a->stride - a->pad,
                           ((i * s.rows + r) * s.cols + c) * s.window);
            }
        }
    }
}
