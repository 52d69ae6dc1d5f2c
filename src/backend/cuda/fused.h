/* Fused kernels for structured layers: device pointers to bfloat16, a CUDA stream, plain calls.
 * Each returns 0, ST_FUSED_NOT where the shape is not one of its (the caller composes then), or a
 * cudaError_t. Rows start at multiples of 16 bytes: ld*, n and k are multiples of 8. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CUDA_FUSED_H
#define ST_CUDA_FUSED_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { ST_FUSED_NOT = -1 };

/* What becomes of the products. */
typedef enum {
    ST_OUT_PLAIN, /* y[g n + o] */
    ST_OUT_FOLD,  /* y = fold of all columns by out_factor: groups n / out_factor columns */
    ST_OUT_DEAL,  /* 4 groups, Monarch's first factor: w's rows in the order (i, c), o = 4 c + i;
                     y[i n + g n/4 + c] */
    ST_OUT_INTERLEAVE, /* 4 groups: y[4 o + g] */
    ST_OUT_EXPAND,     /* y[4 o + c] = scale[c] p[o] + bias[4 o + c]; bias has 4 n numbers */
    ST_OUT_GATHER      /* y[o] = sum_c scale[4 + c] gelu(scale[c] p[o] + bias[4 o + c]) */
} st_fused_out;

/* p_g = x_g w_g^T + bias_g for g < groups; x (rows, groups k), w (groups, n, k): rows ldw apart. */
typedef struct {
    int64_t rows, groups, n, k, ldx, ldw, ldy;
    const void *x, *w, *bias; /* bias (groups n) in the order of y, or NULL */
    const float *scale;
    void *y;
    void *h;  /* GELU: the products before it (rows, groups n), or NULL */
    int gelu; /* 0, 1 tanh, 2 erf */
    st_fused_out out;
    int out_factor, out_hash;
    /* in_factor > 0: x (rows, in_factor k), without gaps, is folded into z (rows, k) first, k a
     * multiple of 32; in_gather: z[j] = sum_c scale[c] x[4 j + c] instead, in_factor 4 */
    int in_factor, in_hash, in_gather;
    void *z;
    int *done; /* rows / 64 + 5 ints, 0 and left so; or NULL */
    int way;   /* 0: as measured. 1: warpgroups together, 2: by turns, where there is a choice;
                  in_factor > 0: 1: z made beside the product, 2: by a kernel of its own */
    int soon;  /* the kernel before writes x alone, and lets this one in before it ends */
} st_fused_args;

int st_fused_product(const st_fused_args *a, cudaStream_t q);
/* The same with the instructions of sm_80, which later devices have too. */
int st_fused_product_mma(const st_fused_args *a, cudaStream_t q);

/* SS1's fold of rows of x (rows, width factor); hash = r0 mod 4 of the release's constants, blocks
 * of 32 and shifts of 8. width a multiple of 32. */
typedef struct {
    int64_t rows, width, ldx;
    const void *x;
    void *z;
    int factor, hash;
} st_fold_call;
int st_fused_fold(const st_fold_call *a, cudaStream_t q);

/* dx (rows, width factor) from dz (rows, width): each number copied to its places. h: dx is
 * multiplied by gelu'(h), and the sums of its columns are added to dbias (width factor) F32 unless
 * NULL; work: st_fused_unfold_work numbers. */
typedef struct {
    int64_t rows, width;
    const void *dz, *h;
    void *dx;
    float *dbias, *work;
    int factor, hash, gelu;
} st_unfold_call;
int64_t st_fused_unfold_work(int64_t rows, int64_t cols);
int st_fused_unfold(const st_unfold_call *a, cudaStream_t q);

/* z = fold(norm(x) gain + bias), factor 1: not folded; mean and rstd (rows) F32 kept unless NULL.
 */
typedef struct {
    int64_t rows, width;
    const void *x, *gain, *bias;
    void *z;
    float *mean, *rstd;
    float eps;
    int factor, hash;
} st_norm_fold_call;
int st_fused_norm_fold(const st_norm_fold_call *a, cudaStream_t q);

/* Kronecker with a column of four: z[j] = sum_c scale[c] x[4 j + c]; width of z a multiple of 8. */
int st_fused_gather4(int64_t rows, int64_t width, const void *x, const float *scale, void *z,
                     cudaStream_t q);

#ifdef __cplusplus
}
#endif

#endif
