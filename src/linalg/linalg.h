/* linalg: host singular values and least squares over LAPACK, for decomposition only. Row-major
 * float32 in and out. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_LINALG_H
#define ST_LINALG_H

#include "tensor/tensor.h"

typedef struct {
    int64_t rank;
    float *u;     /* (m, rank) */
    float *s;     /* (rank) descending */
    float *vt;    /* (rank, n) */
    double total; /* squared Frobenius norm of the input */
} st_svd;

/* Best rank-`rank` factors of a (m, n), rank <= min(m, n) (Eckart & Young 1936). Exact through
 * LAPACK's gesdd, or, if `randomized`, by subspace iteration with oversampling (Halko et al. 2011)
 * seeded by `seed`. Signs are fixed: the largest entry of each row of vt is positive. Inputs with
 * non-finite numbers are ST_EARG. */
st_status st_svd_open(st_svd *out, const float *a, int64_t m, int64_t n, int64_t rank,
                      bool randomized, uint64_t seed, st_err *e);
void st_svd_close(st_svd *s);

/* Threads that each call of this room uses inside; returns what it was. For programs that call it
 * from several threads of their own and want 1; to be set while none of them runs. */
int st_linalg_threads(int n);

#endif
