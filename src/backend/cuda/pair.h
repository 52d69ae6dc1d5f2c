/* Two operations on many rows in one launch, where the second reads what the first wrote: a product
 * and the residual that is added, GELU's or the norm's gradient and the sum of its rows, which is
 * the gradient of the bias before. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CUDA_PAIR_H
#define ST_CUDA_PAIR_H

#include "backend/cuda/cuda.h"
#ifdef __cplusplus
extern "C" {
#endif

/* c = a b + bias + add, for products whose c is their output alone. */
void st_cuda_gemm_onto(st_stream *q, const st_gemm_args *g, st_tensor add);
/* c = a b + bias where both are thin (thin.cu). False, and nothing done: another. */
bool st_cuda_thin(st_stream *q, const st_gemm_args *g);
/* Both; b->dy is a->dx. */
void st_cuda_gelu_bwd_bias(st_stream *q, const st_gelu_bwd_args *a, const st_bias_grad_args *b);
void st_cuda_norm_bwd_bias(st_stream *q, const st_norm_bwd_args *a, const st_bias_grad_args *b);

/* Lets the operation wait for its partner; false: none could join it, and it has not run. */
bool st_cuda_pair_gemm(st_stream *q, const st_gemm_args *g);
void st_cuda_pair_gelu_bwd(st_stream *q, const st_gelu_bwd_args *a);
void st_cuda_pair_norm_bwd(st_stream *q, const st_norm_bwd_args *a);
/* Runs with what waits; false: that is no partner of it. */
bool st_cuda_pair_residual(st_stream *q, const st_residual_fwd_args *a);
bool st_cuda_pair_bias_grad(st_stream *q, const st_bias_grad_args *a);
/* Runs what waits. */
void st_cuda_pair_flush(st_stream *q);

#ifdef __cplusplus
}
#endif
#endif
