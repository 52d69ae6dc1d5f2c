/* Windows of images as rows (meaning: ref/unfold.c), each gathered in float32 and then, still in
 * the first cache level, normalised: no second pass over what is many times the image. */
/* SPDX-License-Identifier: MIT */
#include "backend/cpu/kernels/sums.h"

/* The window whose upper left corner is (top, left), into `to`. */
static void unfold_gather(const st_unfold_args *a, int64_t image, int64_t top, int64_t left,
                          float *to)
{
    int64_t k = a->kernel, area = k * k;
    for (int64_t v = 0; v < k; v++) {
        int64_t y = top + v;
        bool inside = y >= 0 && y < a->height;
        int64_t lo = left < 0 ? -left : 0, hi = at_most(k, a->width - left);
        if (!inside || lo > k) lo = k;
        if (hi < lo) hi = lo;
        for (int64_t u = 0; u < k; u++) {
            if (u >= lo && u < hi) continue;
            for (int64_t c = 0; c < a->channels; c++)
                to[c * area + v * k + u] = 0;
        }
        for (int64_t c = 0; c < a->channels && a->planes && lo < hi; c++) {
            int64_t at = ((image * a->channels + c) * a->height + y) * a->width + left;
            for (int64_t u = lo; u < hi; u++)
                to[c * area + v * k + u] = scalar_in(&a->x, at + u);
        }
        for (int64_t u = lo; u < hi && !a->planes; u++) {
            int64_t at = ((image * a->height + y) * a->width + left + u) * a->channels;
            for (int64_t c = 0; c < a->channels; c++)
                to[c * area + v * k + u] = scalar_in(&a->x, at + c);
        }
    }
}

static void unfold_norm(const st_unfold_args *a, float *x, int64_t n)
{
    double total = 0, squares = 0;
    for (int64_t j = 0; j < n; j += BLOCK)
        total += (double)sum_of(x + j, at_most(n - j, BLOCK));
    float mean = (float)(total / (double)n);
    for (int64_t j = 0; j < n; j += BLOCK) {
        int64_t m = at_most(n - j, BLOCK);
        float *part = x + j, sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < m; i++) {
            part[i] -= mean;
            sum += part[i] * part[i];
        }
        squares += (double)sum;
    }
    float rstd = (float)(1.0 / sqrt(squares / (double)n + (double)a->eps));
    for (int64_t j = 0; j < n; j += BLOCK) {
        float bg[BLOCK], *part = x + j;
        int64_t m = at_most(n - j, BLOCK);
        const float *gain = block_in(&a->gain, j, m, bg);
#pragma omp simd
        for (int64_t i = 0; i < m; i++)
            part[i] *= rstd * gain[i];
    }
}

static void unfold_store(const st_unfold_args *a, float *x, int64_t n, int64_t at)
{
    for (int64_t j = 0; j < n; j += BLOCK) {
        float bb[BLOCK];
        int64_t m = at_most(n - j, BLOCK);
        if (a->bias.data) {
            const float *bias = block_in(&a->bias, j, m, bb);
#pragma omp simd
            for (int64_t i = 0; i < m; i++)
                x[j + i] += bias[i];
        }
        if (a->y.dtype == ST_F32)
            memcpy((float *)a->y.data + at + j, x + j, (size_t)m * sizeof *x);
        else
            narrow((uint16_t *)a->y.data + at + j, x + j, m);
    }
}

void KERNEL(unfold)(st_stream *q, const st_unfold_args *a)
{
    st_unfold_shape s = st_unfold_resolve(a);
    int64_t lines = a->batch * s.rows;
    int parts = st_parts(q, lines * s.cols * s.window * 4);
    if (s.window > (int64_t)(ST_CPU_SCRATCH / sizeof(float))) {
        st_stream_latch(q, ST_EUNSUPPORTED, "unfold", "a window has more than a million numbers");
        return;
    }
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int t = 0; t < parts; t++) {
        st_span share = st_part(lines, 1, t, parts);
        float *row = (float *)(void *)st_cpu_scratch(q, t);
        for (int64_t line = share.lo; line < share.hi; line++) {
            int64_t top = line % s.rows * a->stride - a->pad;
            for (int64_t c = 0; c < s.cols; c++) {
                unfold_gather(a, line / s.rows, top, c * a->stride - a->pad, row);
                if (a->gain.data) unfold_norm(a, row, s.window);
                unfold_store(a, row, s.window, (line * s.cols + c) * s.window);
            }
        }
    }
}
