/* Random directions: Gram-Schmidt of normal rows, twice for accuracy, which is the QR with a
 * positive diagonal and so uniform among orthogonal matrices (Mezzadri 2007). */
/* SPDX-License-Identifier: MIT */
#include "backend/ref/ref.h"
#include <math.h>

enum { CHUNK = 256 };

/* The length of row r's normal vector. */
static double directions_length(const st_directions_args *a, int64_t r)
{
    double sum = 0;
    float part[CHUNK];
    if (a->equal) return sqrt((double)a->cols);
    for (int64_t c = 0; c < a->cols; c += CHUNK) {
        int64_t n = a->cols - c < CHUNK ? a->cols - c : CHUNK;
        uint64_t place = (uint64_t)(r * a->cols + c) + 1;
        st_normal_fill(part, n, 0, 1, a->seed, a->stream ^ place << 32);
        for (int64_t i = 0; i < n; i++)
            sum += (double)part[i] * (double)part[i];
    }
    return sqrt(sum);
}

/* Row r made orthogonal to rows [from, r), which have length 1, and of length 1. */
static void directions_orthogonal(float *w, int64_t cols, int64_t from, int64_t r)
{
    double norm = 0;
    float *row = w + r * cols;
    for (int64_t i = from; i < r; i++) {
        double dot = 0;
        const float *other = w + i * cols;
        for (int64_t c = 0; c < cols; c++)
            dot += (double)row[c] * (double)other[c];
        for (int64_t c = 0; c < cols; c++)
            row[c] = (float)((double)row[c] - dot * (double)other[c]);
    }
    for (int64_t c = 0; c < cols; c++)
        norm += (double)row[c] * (double)row[c];
    for (int64_t c = 0; c < cols; c++)
        row[c] = (float)((double)row[c] / sqrt(norm));
}

void st_ref_directions(st_stream *q, const st_directions_args *a)
{
    float *w = a->w.data;
    (void)q;
    st_normal_fill(w, a->rows * a->cols, 0, a->std > 0 ? a->std : 1, a->seed, a->stream);
    if (a->std > 0) return;
    for (int64_t r = 0; r < a->rows; r++) {
        directions_orthogonal(w, a->cols, r - r % a->cols, r);
        directions_orthogonal(w, a->cols, r - r % a->cols, r);
    }
    for (int64_t r = 0; r < a->rows; r++) {
        float length = (float)directions_length(a, r);
        for (int64_t c = 0; c < a->cols; c++)
            w[r * a->cols + c] *= length;
    }
}
