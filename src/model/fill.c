/* Fresh values that are no independent normal numbers. */
/* SPDX-License-Identifier: MIT */
#include "model/inner.h"
#include <math.h>

void st_fill_sinusoid(const st_param *p, uint64_t seed, float *out)
{
    int64_t rows = p->w.dim[1], width = p->w.dim[2];
    (void)seed;
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < width; j++) {
            double angle = (double)i / pow(10000.0, (double)(2 * (j / 2)) / (double)width);
            out[i * width + j] = (float)(j % 2 ? cos(angle) : sin(angle));
        }
    }
}

/* a -= (a.b) b for vectors whose numbers are `step` apart. */
static double fill_dot(const float *a, const float *b, int64_t n, int64_t step)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i * step] * (double)b[i * step];
    return sum;
}

/* Gram-Schmidt on normal vectors, twice: what a QR decomposition with positive diagonal gives. */
void st_fill_orthogonal(const st_param *p, uint64_t seed, float *out)
{
    int64_t m = p->w.dim[0], n = p->w.dim[1];
    bool tall = m > n;
    int64_t vectors = tall ? n : m, len = tall ? m : n, next = tall ? 1 : n, step = tall ? n : 1;
    st_normal_fill(out, m * n, 0.0f, 1.0f, seed, st_hash_name(p->name));
    for (int64_t i = 0; i < vectors; i++) {
        float *a = out + i * next;
        for (int64_t k = 0; k < 2 * i; k++) {
            const float *b = out + k % i * next;
            double dot = fill_dot(a, b, len, step) / fill_dot(b, b, len, step);
            for (int64_t x = 0; x < len; x++)
                a[x * step] = (float)((double)a[x * step] - dot * (double)b[x * step]);
        }
        double scale = sqrt((double)m / fill_dot(a, a, len, step));
        for (int64_t x = 0; x < len; x++)
            a[x * step] = (float)((double)a[x * step] * scale);
    }
}
