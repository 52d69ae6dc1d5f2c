/* Weighted projection onto a sum of Kronecker products: the A_f and B_f with the least
 *   |C^1/2 (W^T - sum_f A_f (x) B_f)|^2,   C (in, in), T = C W^T, indices (a, i) = a m2 + i of
 * `in`. For fixed B it is linear least squares in all A_f together, with normal equations sum_{g,b}
 * ( sum_{i,k} P_fg[i,k] C[(a,i),(b,k)] ) A_g[b,c] = sum_{i,j} B_f[i,j] T[(a,i),(c,j)] and P_fg =
 * B_f B_g^T; for fixed A likewise in B with S_fg = A_f A_g^T. Each step is solved exactly
 * (Cholesky), so the error falls from that of the start, the unweighted projection, to a point
 * where neither side alone can do better (alternating least squares). */
/* SPDX-License-Identifier: MIT */
#include "map/kron.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ALS_SWEEPS = 20 };
#define ALS_TOLERANCE 1e-4 /* of the error that a sweep must gain for another one */
#define ALS_JITTER    1e-9 /* of a Gram matrix's mean diagonal, where terms depend on each other */

typedef struct {
    kron_size z;
    const map_cov *k;
    double *t;                   /* T, (in, out) */
    double *a, *b;               /* (f, m1, n1), (f, m2, n2) */
    double *side, *gram, *right; /* S or P; the system */
    double total, error;         /* |C^1/2 W^T|^2 and what is left of it */
} kron_als;

/* gram (f m1)^2 and right (f m1, n1) for A. */
static void als_system_a(kron_als *s)
{
    const kron_size *z = &s->z;
    int64_t in = z->m1 * z->m2, p = z->f * z->m2, n = z->f * z->m1;
    st_product_run(
        &(st_product){.m = p, .n = p, .k = z->n2, .tb = 1, .a = s->b, .b = s->b, .c = s->side});
    memset(s->gram, 0, (size_t)(n * n) * sizeof *s->gram);
    memset(s->right, 0, (size_t)(n * z->n1) * sizeof *s->right);
    for (int64_t at = 0; at < z->f * in; at++) {
        int64_t f = at / in, a = at % in / z->m2, i = at % z->m2;
        const double *c = s->k->c + (at % in) * in, *t = s->t + (at % in) * z->n1 * z->n2;
        const double *side = s->side + (f * z->m2 + i) * p, *b = s->b + (f * z->m2 + i) * z->n2;
        for (int64_t g = 0; g <= f; g++, side += z->m2) {
            double *gram = s->gram + (f * z->m1 + a) * n + g * z->m1;
            for (int64_t j = 0; j < z->m1; j++) {
                for (int64_t k = 0; k < z->m2; k++)
                    gram[j] += side[k] * c[j * z->m2 + k];
            }
        }
        double *right = s->right + (f * z->m1 + a) * z->n1;
        for (int64_t j = 0; j < z->n1; j++) {
            for (int64_t k = 0; k < z->n2; k++)
                right[j] += b[k] * t[j * z->n2 + k];
        }
    }
}

/* gram (f m2)^2 and right (f m2, n2) for B. */
static void als_system_b(kron_als *s)
{
    const kron_size *z = &s->z;
    int64_t in = z->m1 * z->m2, p = z->f * z->m1, n = z->f * z->m2;
    st_product_run(
        &(st_product){.m = p, .n = p, .k = z->n1, .tb = 1, .a = s->a, .b = s->a, .c = s->side});
    memset(s->gram, 0, (size_t)(n * n) * sizeof *s->gram);
    memset(s->right, 0, (size_t)(n * z->n2) * sizeof *s->right);
    for (int64_t at = 0; at < z->f * in; at++) {
        int64_t f = at / in, a = at % in / z->m2, i = at % z->m2;
        const double *c = s->k->c + (at % in) * in, *t = s->t + (at % in) * z->n1 * z->n2;
        const double *side = s->side + (f * z->m1 + a) * p, *row = s->a + (f * z->m1 + a) * z->n1;
        for (int64_t g = 0; g <= f; g++, side += z->m1) {
            double *gram = s->gram + (f * z->m2 + i) * n + g * z->m2;
            for (int64_t j = 0; j < z->m1; j++) {
                for (int64_t k = 0; k < z->m2; k++)
                    gram[k] += side[j] * c[j * z->m2 + k];
            }
        }
        double *right = s->right + (f * z->m2 + i) * z->n2;
        for (int64_t j = 0; j < z->n1; j++) {
            for (int64_t k = 0; k < z->n2; k++)
                right[k] += row[j] * t[j * z->n2 + k];
        }
    }
}

/* x (n, m) <- the solution of the system just made; false, x unchanged, where it has none. */
static bool als_solve(kron_als *s, double *x, int64_t n, int64_t m)
{
    double mean = 0.0, gain = 0.0;
    for (int64_t i = 0; i < n; i++)
        mean += s->gram[i * n + i] / (double)n;
    for (int64_t i = 0; i < n; i++)
        s->gram[i * n + i] += ALS_JITTER * mean;
    if (!(mean > 0.0) || st_cholesky(s->gram, n, NULL)) return false;
    double *y = s->side; /* done with, and large enough */
    memcpy(y, s->right, (size_t)(n * m) * sizeof *y);
    st_cholesky_solve(s->gram, n, y, m);
    for (int64_t i = 0; i < n * m; i++)
        gain += y[i] * s->right[i];
    if (!(s->total - gain <= s->error)) return false;
    s->error = s->total - gain;
    memcpy(x, y, (size_t)(n * m) * sizeof *x);
    return true;
}

/* rms(B_f) = 1: what a system in A is best conditioned with. A is solved for anew after it. */
static void als_gauge(kron_als *s)
{
    int64_t n = s->z.m2 * s->z.n2;
    for (int64_t f = 0; f < s->z.f; f++) {
        double sum = 0.0, *b = s->b + f * n;
        for (int64_t i = 0; i < n; i++)
            sum += b[i] * b[i];
        for (int64_t i = 0; i < n && sum > 0.0; i++)
            b[i] /= sqrt(sum / (double)n);
    }
}

static void als_sweeps(kron_als *s)
{
    const kron_size *z = &s->z;
    int64_t nb = z->f * z->m2 * z->n2;
    als_system_a(s);
    if (!als_solve(s, s->a, z->f * z->m1, z->n1)) return;
    double *before = s->b + nb;
    for (int i = 0; i < ALS_SWEEPS; i++) {
        double last = s->error;
        memcpy(before, s->b, (size_t)nb * sizeof *before);
        als_system_b(s);
        if (!als_solve(s, s->b, z->f * z->m2, z->n2)) return;
        als_gauge(s);
        als_system_a(s);
        if (!als_solve(s, s->a, z->f * z->m1, z->n1)) {
            memcpy(s->b, before, (size_t)nb * sizeof *before); /* the pair that fits */
            return;
        }
        if (last - s->error <= ALS_TOLERANCE * last) return;
    }
}

/* T = C W^T and |C^1/2 W^T|^2. */
static st_status als_target(kron_als *s, const float *w, st_err *e)
{
    int64_t in = s->k->n, out = s->z.n1 * s->z.n2;
    double *wide = st_calloc(in * out, sizeof *wide);
    s->t = st_calloc(in * out, sizeof *s->t);
    if (!wide || !s->t) {
        free(wide);
        ST_FAIL(e, ST_ENOMEM, "kron: no memory for %lld numbers", (long long)(in * out));
    }
    for (int64_t i = 0; i < in * out; i++)
        wide[i] = (double)w[i];
    st_product_run(
        &(st_product){.m = in, .n = out, .k = in, .tb = 1, .a = s->k->c, .b = wide, .c = s->t});
    for (int64_t i = 0; i < in; i++) {
        for (int64_t o = 0; o < out; o++)
            s->total += wide[o * in + i] * s->t[i * out + o];
    }
    free(wide);
    return ST_OK;
}

static st_status als_open(kron_als *s, const float *w, st_err *e)
{
    const kron_size *z = &s->z;
    int64_t n = z->f * map_max(z->m1, z->m2);
    int64_t most = z->f * map_max(z->m1 * z->n1, z->m2 * z->n2);
    s->a = st_calloc(z->f * z->m1 * z->n1, sizeof *s->a);
    s->b = st_calloc(2 * z->f * z->m2 * z->n2, sizeof *s->b);
    s->side = st_calloc(map_max(n * n, most), sizeof *s->side);
    s->gram = st_calloc(n * n, sizeof *s->gram);
    s->right = st_calloc(most, sizeof *s->right);
    if (s->a && s->b && s->side && s->gram && s->right) return als_target(s, w, e);
    ST_FAIL(e, ST_ENOMEM, "kron: no memory for a system of %lld unknowns", (long long)n);
}

st_status map_kron_als(const kron_size *z, const map_cov *k, const float *w, float *a, float *b,
                       st_err *e)
{
    kron_als s = {.z = *z, .k = k, .error = INFINITY};
    int64_t na = z->f * z->m1 * z->n1, nb = z->f * z->m2 * z->n2;
    st_status status = als_open(&s, w, e);
    for (int64_t i = 0; i < na && !status; i++)
        s.a[i] = (double)a[i];
    for (int64_t i = 0; i < nb && !status; i++)
        s.b[i] = (double)b[i];
    if (!status) als_sweeps(&s);
    for (int64_t i = 0; i < na && !status; i++)
        a[i] = (float)s.a[i];
    for (int64_t i = 0; i < nb && !status; i++)
        b[i] = (float)s.b[i];
    free(s.t);
    free(s.a);
    free(s.b);
    free(s.side);
    free(s.gram);
    free(s.right);
    return status;
}
