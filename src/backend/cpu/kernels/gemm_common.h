/* What all products share: matrices to pack, and where a block of sums arrives. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_GEMM_COMMON_H
#define ST_GEMM_COMMON_H

#include "backend/cpu/kernels/lanes.h"

/* A matrix to pack: element (i, j) is data[i*rows + j*cols]. */
typedef struct {
    const void *data;
    st_dtype dtype;
    int64_t rows, cols;
} gemm_view;

static inline gemm_view gemm_at(gemm_view v, int64_t i, int64_t j)
{
    int64_t size = (int64_t)st_dtype_size(v.dtype);
    v.data = (const char *)v.data + (i * v.rows + j * v.cols) * size;
    return v;
}

static inline float gemm_get(gemm_view v, int64_t i)
{
    return v.dtype == ST_F32 ? ((const float *)v.data)[i]
                             : st_bf16_to_f32(((const uint16_t *)v.data)[i]);
}

static inline gemm_view gemm_transposed(gemm_view v)
{
    return (gemm_view){v.data, v.dtype, v.cols, v.rows};
}

/* What happens to C where a block of sums arrives: C = beta C + sums + bias (or no bias). C is
 * float32, or bfloat16 where `half` is not NULL. */
typedef struct {
    float *c;
    int64_t ldc;
    const float *bias;
    float beta;
    uint16_t *half;
} gemm_sink;

/* The part of a sink from row i, column j on. */
static inline gemm_sink gemm_sink_at(gemm_sink to, int64_t i, int64_t j)
{
    if (to.half)
        to.half += i * to.ldc + j;
    else
        to.c += i * to.ldc + j;
    if (to.bias) to.bias += j;
    return to;
}

/* LANES sums of row i, from column j on. */
static inline void gemm_put(vec sum, gemm_sink to, int64_t i, int64_t j)
{
    int64_t at = i * to.ldc + j;
    if (to.bias) sum += vec_load(to.bias + j);
    if (to.half) {
        if (to.beta != 0) sum += to.beta * vec_widen(to.half + at);
        vec_narrow(to.half + at, sum);
        return;
    }
    if (to.beta != 0) sum += to.beta * vec_load(to.c + at);
    vec_store(to.c + at, sum);
}

/* Sums in rows of `wide`, which need not fill it. */
static void gemm_put_edge(const float *sums, int64_t wide, int64_t rows, int64_t cols, gemm_sink to)
{
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < cols; j++) {
            int64_t at = i * to.ldc + j;
            float sum = sums[i * wide + j] + (to.bias ? to.bias[j] : 0.0f);
            if (to.beta != 0) sum += to.beta * (to.half ? st_bf16_to_f32(to.half[at]) : to.c[at]);
            if (to.half)
                to.half[at] = st_f32_to_bf16(sum);
            else
                to.c[at] = sum;
        }
    }
}

static inline void gemm_prefetch(gemm_sink to, int64_t rows)
{
    for (int64_t i = 0; i < rows; i++)
        __builtin_prefetch(to.half ? (void *)(to.half + i * to.ldc) : to.c + i * to.ldc, 1);
}

#endif
