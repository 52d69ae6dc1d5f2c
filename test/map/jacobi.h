/* Singular values without the library's linear algebra. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_TEST_JACOBI_H
#define ST_TEST_JACOBI_H

#include "testing.h"
#include <math.h>

enum { JACOBI_SIDE = 24 };

/* Eigenvalues on the diagonal of a (n, n) and vectors in the columns of v, by Jacobi rotations. */
static inline void jacobi(double *a, double *v, int n)
{
    for (int i = 0; i < n * n; i++)
        v[i] = i % (n + 1) ? 0.0 : 1.0;
    for (int at = 0; at < 60 * n * n; at++) {
        int p = at / n % n, q = at % n;
        double off = a[p * n + q];
        if (p >= q || fabs(off) < 1e-15) continue;
        double phi = 0.5 * atan2(2 * off, a[q * n + q] - a[p * n + p]), c = cos(phi), s = sin(phi);
        for (int i = 0; i < n; i++) {
            double x = a[i * n + p], y = a[i * n + q];
            a[i * n + p] = c * x - s * y;
            a[i * n + q] = s * x + c * y;
            x = v[i * n + p];
            y = v[i * n + q];
            v[i * n + p] = c * x - s * y;
            v[i * n + q] = s * x + c * y;
        }
        for (int i = 0; i < n; i++) {
            double x = a[p * n + i], y = a[q * n + i];
            a[p * n + i] = c * x - s * y;
            a[q * n + i] = s * x + c * y;
        }
    }
}

/* m (rows, cols): its squared norm without its `keep` largest singular values. */
static inline double truncated(const double *m, int rows, int cols, int keep)
{
    double g[JACOBI_SIDE * JACOBI_SIDE], v[JACOBI_SIDE * JACOBI_SIDE], sum = 0.0;
    assert_true(cols <= JACOBI_SIDE);
    for (int i = 0; i < cols * cols; i++) {
        g[i] = 0.0;
        for (int r = 0; r < rows; r++)
            g[i] += m[r * cols + i / cols] * m[r * cols + i % cols];
    }
    jacobi(g, v, cols);
    for (; keep > 0; keep--) {
        int top = 0;
        for (int i = 1; i < cols; i++) {
            if (g[i * cols + i] > g[top * cols + top]) top = i;
        }
        g[top * cols + top] = 0.0;
    }
    for (int i = 0; i < cols; i++)
        sum += g[i * cols + i];
    return sum;
}

#endif
