/* Products of two thin matrices, as small Kronecker factors make them of every few numbers of a
 * row: C (m, n) = A (m, k) B (k, n) + bias and C (m, n) = A^T B over a long k, all of 1, 2 or 4 but
 * one. They are bound by memory; a thread has eight rows, which lie together. */
/* SPDX-License-Identifier: MIT */
#include "backend/cuda/pack.cuh"
#include "backend/cuda/pair.h"

enum { THREADS = 256, ROWS = 512 }; /* from so many rows on */

/* Number x of packs that lie together. */
#define AT(packs, x) (packs)[(x) / 8].v[(x) % 8]

/* Number (x, j) of B is at x bx + j bj; bias: of row i % period, a multiple of 8, or 1. */
template <typename T, int N, int K>
static __global__ void __launch_bounds__(THREADS)
    thin_kernel(int64_t eights, int64_t period, const T *a, const T *b, int64_t bx, int64_t bj,
                const T *bias, T *c)
{
    float w[K][N];
#pragma unroll
    for (int x = 0; x < K; x++)
#pragma unroll
        for (int j = 0; j < N; j++)
            w[x][j] = get(b, x * bx + j * bj);
    for (int64_t e = (int64_t)blockIdx.x * THREADS + threadIdx.x; e < eights;
         e += (int64_t)gridDim.x * THREADS) {
        pack<8> from[K], to[N] = {};
#pragma unroll
        for (int x = 0; x < K; x++)
            from[x] = load<8>(a, (e * K + x) * 8);
        if (bias) {
#pragma unroll
            for (int j = 0; j < N; j++)
                if (period > 1) to[j] = load<8>(bias, e * 8 % period * N + 8 * j);
#pragma unroll
            for (int x = 0; x < 8 * N; x++)
                if (period == 1) AT(to, x) = get(bias, x % N);
        }
#pragma unroll
        for (int r = 0; r < 8; r++)
#pragma unroll
            for (int j = 0; j < N; j++)
#pragma unroll
                for (int x = 0; x < K; x++)
                    AT(to, r * N + j) = fmaf(AT(from, r * K + x), w[x][j], AT(to, r * N + j));
#pragma unroll
        for (int j = 0; j < N; j++)
            store<8>(c, (e * N + j) * 8, to[j]);
    }
}

/* Sums of a block's rows into part (blocks, M N). */
template <typename T, int M, int N>
static __global__ void __launch_bounds__(THREADS)
    thin_sum_kernel(int64_t eights, const T *a, const T *b, float *part)
{
    float sum[M * N] = {};
    for (int64_t e = (int64_t)blockIdx.x * THREADS + threadIdx.x; e < eights;
         e += (int64_t)gridDim.x * THREADS) {
        pack<8> x[M], y[N];
#pragma unroll
        for (int i = 0; i < M; i++)
            x[i] = load<8>(a, (e * M + i) * 8);
#pragma unroll
        for (int j = 0; j < N; j++)
            y[j] = load<8>(b, (e * N + j) * 8);
#pragma unroll
        for (int r = 0; r < 8; r++)
#pragma unroll
            for (int i = 0; i < M * N; i++)
                sum[i] = fmaf(AT(x, r * M + i / N), AT(y, r * N + i % N), sum[i]);
    }
#pragma unroll
    for (int i = 0; i < M * N; i++) {
        float s = block_sum(sum[i]);
        if (threadIdx.x == 0) part[blockIdx.x * M * N + i] = s;
    }
}

template <typename C>
static __global__ void thin_add_kernel(int parts, int numbers, const float *part, float beta, C *c)
{
    int i = blockIdx.x;
    float sum = 0;
    for (int p = threadIdx.x; p < parts; p += THREADS)
        sum += part[p * numbers + i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) put(c, i, beta != 0 ? beta * get(c, i) + sum : sum);
}

/* ---- launches ------------------------------------------------------------------------------- */

template <typename T, int N, int K> static void thin_go(st_stream *q, const st_gemm_args *g)
{
    st_gemm_layout l = st_gemm_resolve(g);
    int64_t eights = g->m / 8;
    unsigned blocks = blocks_for(eights, THREADS, (int64_t)st_cuda_of(q)->sms * 16);
    thin_kernel<T, N, K><<<blocks, THREADS, 0, st_cuda_stream(q)>>>(
        eights, st_or(g->bias_rows, 1), (const T *)g->a.data, (const T *)g->b.data,
        g->tb ? 1 : l.ldb, g->tb ? l.ldb : 1, (const T *)g->bias.data, (T *)g->c.data);
    st_cuda_launched(q, "gemm");
}

template <typename T, int M, int N> static void thin_sum(st_stream *q, const st_gemm_args *g)
{
    int64_t eights = g->k / 8;
    unsigned blocks = blocks_for(eights, THREADS, (int64_t)st_cuda_of(q)->sms * 4);
    float *part = (float *)st_cuda_work(q, (size_t)blocks * M * N * sizeof(float), "gemm");
    if (!part) return;
    cudaStream_t s = st_cuda_stream(q);
    thin_sum_kernel<T, M, N>
        <<<blocks, THREADS, 0, s>>>(eights, (const T *)g->a.data, (const T *)g->b.data, part);
    if (g->c.dtype == ST_F32)
        thin_add_kernel<float>
            <<<M * N, THREADS, 0, s>>>((int)blocks, M * N, part, g->beta, (float *)g->c.data);
    else
        thin_add_kernel<bf16>
            <<<M * N, THREADS, 0, s>>>((int)blocks, M * N, part, g->beta, (bf16 *)g->c.data);
    st_cuda_launched(q, "gemm");
}

template <typename T, bool SUM, int P> static bool thin_second(st_stream *q, const st_gemm_args *g)
{
    int64_t other = SUM ? g->n : g->k;
    if (other != 1 && other != 2 && other != 4) return false;
    if (SUM)
        other == 1   ? thin_sum<T, P, 1>(q, g)
        : other == 2 ? thin_sum<T, P, 2>(q, g)
                     : thin_sum<T, P, 4>(q, g);
    else
        other == 1   ? thin_go<T, P, 1>(q, g)
        : other == 2 ? thin_go<T, P, 2>(q, g)
                     : thin_go<T, P, 4>(q, g);
    return true;
}

template <typename T, bool SUM> static bool thin_first(st_stream *q, const st_gemm_args *g)
{
    int64_t one = SUM ? g->m : g->n;
    return one == 1   ? thin_second<T, SUM, 1>(q, g)
           : one == 2 ? thin_second<T, SUM, 2>(q, g)
           : one == 4 ? thin_second<T, SUM, 4>(q, g)
                      : false;
}

extern "C" bool st_cuda_thin(st_stream *q, const st_gemm_args *g)
{
    st_gemm_layout l = st_gemm_resolve(g);
    int64_t period = st_or(g->bias_rows, 1), rows = g->ta ? g->k : g->m;
    bool f32 = g->a.dtype == ST_F32, same = g->c.dtype == g->a.dtype;
    if (l.batch != 1 || rows < ROWS || rows % 8 || l.ldc != g->n) return false;
    if (!aligned16(g->a.data) || !aligned16(g->c.data)) return false;
    if (g->ta) {
        bool together = l.lda == g->m && l.ldb == g->n && !g->tb && aligned16(g->b.data);
        if (!together || g->bias.data) return false;
        return f32 ? thin_first<float, true>(q, g) : thin_first<bf16, true>(q, g);
    }
    bool bias = !g->bias.data || ((period == 1 || period % 8 == 0) && aligned16(g->bias.data));
    if (l.lda != g->k || g->beta != 0 || !same || !bias) return false;
    return f32 ? thin_first<float, false>(q, g) : thin_first<bf16, false>(q, g);
}
