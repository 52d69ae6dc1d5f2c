/* Products and positive definite systems in float64 over BLAS and LAPACK: the normal equations of
 * weighted least squares. A row-major matrix is its column-major transpose, so nothing is copied.
 */
/* SPDX-License-Identifier: MIT */
#include "linalg/linalg.h"
#include <assert.h>
#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <stdlib.h>

enum { INNER_ROWS = 256 }; /* of w that st_inner_under widens at a time */

void st_product_run(const st_product *p)
{
    assert(p->m <= INT32_MAX && p->n <= INT32_MAX && p->k <= INT32_MAX);
    int64_t lda = p->lda ? p->lda : p->ta ? p->m : p->k;
    int64_t ldb = p->ldb ? p->ldb : p->tb ? p->k : p->n;
    cblas_dgemm(CblasRowMajor, p->ta ? CblasTrans : CblasNoTrans, p->tb ? CblasTrans : CblasNoTrans,
                (int)p->m, (int)p->n, (int)p->k, 1.0, p->a, (int)lda, p->b, (int)ldb, p->beta, p->c,
                (int)(p->ldc ? p->ldc : p->n));
}

st_status st_cholesky(double *a, int64_t n, st_err *e)
{
    assert(n > 0 && n <= INT32_MAX);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j <= i; j++) {
            if (isfinite(a[i * n + j])) continue;
            ST_FAIL(e, ST_EARG, "Cholesky: entry (%lld, %lld) of the matrix is not a finite number",
                    (long long)i, (long long)j);
        }
        for (int64_t j = i + 1; j < n; j++)
            a[i * n + j] = 0.0;
    }
    lapack_int info = LAPACKE_dpotrf(LAPACK_COL_MAJOR, 'U', (lapack_int)n, a, (lapack_int)n);
    if (!info) return ST_OK;
    ST_FAIL(e, ST_EARG,
            "Cholesky: the %lld x %lld matrix is not positive definite (row %lld depends on those "
            "before it)",
            (long long)n, (long long)n, (long long)info);
}

void st_lower_times(const double *l, int64_t n, double *b, int64_t m)
{
    cblas_dtrmm(CblasRowMajor, CblasRight, CblasLower, CblasNoTrans, CblasNonUnit, (int)m, (int)n,
                1.0, l, (int)n, b, (int)n);
}

void st_lower_over(const double *l, int64_t n, double *b, int64_t m)
{
    cblas_dtrsm(CblasRowMajor, CblasRight, CblasLower, CblasNoTrans, CblasNonUnit, (int)m, (int)n,
                1.0, l, (int)n, b, (int)n);
}

void st_lower_left_t(const double *l, int64_t n, double *b, int64_t m)
{
    cblas_dtrsm(CblasRowMajor, CblasLeft, CblasLower, CblasTrans, CblasNonUnit, (int)n, (int)m, 1.0,
                l, (int)n, b, (int)m);
}

void st_cholesky_solve(const double *l, int64_t n, double *b, int64_t m)
{
    cblas_dtrsm(CblasRowMajor, CblasLeft, CblasLower, CblasNoTrans, CblasNonUnit, (int)n, (int)m,
                1.0, l, (int)n, b, (int)m);
    st_lower_left_t(l, n, b, m);
}

double st_inner_under(const float *w, const float *v, int64_t m, int64_t n, const double *c)
{
    int64_t most = m < INNER_ROWS ? m : INNER_ROWS;
    double *wide = st_calloc(2 * most * n, sizeof *wide), sum = wide ? 0.0 : (double)NAN;
    for (int64_t at = 0; at < m && wide; at += most) {
        int64_t rows = m - at < most ? m - at : most;
        double *product = wide + most * n;
        for (int64_t i = 0; i < rows * n; i++)
            wide[i] = (double)w[at * n + i];
        st_product_run(&(st_product){.m = rows, .n = n, .k = n, .a = wide, .b = c, .c = product});
        for (int64_t i = 0; i < rows * n; i++)
            sum += (double)v[at * n + i] * product[i];
    }
    free(wide);
    return sum;
}
