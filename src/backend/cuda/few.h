/* Products of few rows, as decoding is made of: C (rows, n) = A (rows, k) W^T, a warp for each row
 * of W, with what stands before (a layer norm, SS1's fold) and behind (bias, GELU, a residual) in
 * the same launch. Launches are chained: the weights of one are on their way while the one before
 * still works. For C and CUDA C. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CUDA_FEW_H
#define ST_CUDA_FEW_H

#include "backend/cuda/cuda.h"
#ifdef __cplusplus
extern "C" {
#endif

enum { ST_FEW_ROWS = 4 };

/* What stands before: the norm of `from`'s rows, kept in norm.y, then the fold of these, kept in
 * fold.z; each if it is there (width 0, block 0: not). */
typedef struct {
    st_dtype dtype;
    bool wide; /* c is float32 */
    int rows, groups;
    int64_t n, k, ldw, step_w, step_x, ldy, step_y, step_bias;
    const void *x; /* (rows, ldx); the first operand, or what the first step before reads */
    int64_t ldx;
    st_norm_fwd_args norm;
    st_fold_fwd_args fold;
    const void *w, *bias;
    void *y;
    const void *add; /* y + add goes to `sum`, which may be y's memory; or NULL */
    void *sum;
    int gelu; /* 0 none, 1 tanh, 2 erf; of y, whose own value goes to h unless that is NULL */
    void *h;
    bool early; /* it may begin, and read weights and bias, before what is queued has ended */
} st_few_args;

/* Whether the kernels take it. */
bool st_few_takes(const st_few_args *a);
cudaError_t st_few(const st_few_args *a, int arch, int sms, cudaStream_t s);

/* attend_next (next.cu); early: it may begin, and read the cache, before what is queued has ended.
 */
cudaError_t st_next(const st_attend_next_args *a, bool early, int arch, int sms, cudaStream_t s);

#ifdef __cplusplus
}
#endif
#endif
