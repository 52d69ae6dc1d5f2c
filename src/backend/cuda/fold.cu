/* Rows on their way into and out of structured layers: SS1's fold, alone and after a norm, its
 * transpose, alone and with GELU's slope and the bias gradient, and Kronecker's column of four. */
/* SPDX-License-Identifier: MIT */
#include "fold.cuh"
#include "fused.h"

typedef __nv_bfloat16 bf16;

template <int factor, int hash>
__global__ void fold_kernel(const bf16 *x, bf16 *z, int64_t units, int width, int64_t ldx)
{
    enum { MANY = factor >= 8 ? 2 : 4 };
    st_let_next();
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t u = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; u < units; u += step * MANY) {
        uint4 v[MANY][factor];
#pragma unroll
        for (int i = 0; i < MANY; i++) {
            int64_t at = u + i * step;
            if (at >= units) continue;
            st_fold_load<factor, hash>(x + at / width * ldx, (int)(at % width), v[i]);
        }
#pragma unroll
        for (int i = 0; i < MANY; i++) {
            int64_t at = u + i * step;
            if (at < units) ((uint4 *)z)[at] = st_fold_sum<factor>(v[i]);
        }
    }
}

/* How much of a call is enough to fill the machine: blocks of 256 threads, `each` units a thread.
 */
static int fold_grid(int64_t units, int each)
{
    int64_t blocks = (units + 256 * each - 1) / (256 * each);
    return (int)(blocks < 1 ? 1 : blocks > 132 * 64 ? 132 * 64 : blocks);
}

#define FOLD_CASES(CASE) CASE(2, 1) CASE(2, 3) CASE(4, 1) CASE(4, 3) CASE(8, 1) CASE(8, 3)

int st_fused_fold(const st_fold_call *a, cudaStream_t q)
{
    if (a->width % 32 || a->ldx % 8) return ST_FUSED_NOT;
    int64_t units = a->rows * (a->width / 8);
#define CASE(f, h)                                                                                 \
    if (a->factor == f && a->hash == h) {                                                          \
        fold_kernel<f, h><<<fold_grid(units, f >= 8 ? 2 : 4), 256, 0, q>>>(                        \
            (const bf16 *)a->x, (bf16 *)a->z, units, (int)(a->width / 8), a->ldx);                 \
        return (int)cudaGetLastError();                                                            \
    }
    FOLD_CASES(CASE)
#undef CASE
    return ST_FUSED_NOT;
}

/* ---- the transpose -------------------------------------------------------------------------- */

enum { UNFOLD_ROWS = 256, UNFOLD_WARPS = 8 };

template <int factor, int hash>
__global__ void copy_out_kernel(const bf16 *dz, bf16 *dx, int64_t units, int width)
{
    enum { MANY = 4 };
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t u = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; u < units; u += step * MANY) {
        uint4 v[MANY];
#pragma unroll
        for (int i = 0; i < MANY; i++)
            if (u + i * step < units) v[i] = __ldg((const uint4 *)dz + u + i * step);
#pragma unroll
        for (int i = 0; i < MANY; i++) {
            int64_t at = u + i * step;
            if (at >= units) continue;
            int unit = (int)(at % width);
            uint4 *row = (uint4 *)dx + at / width * width * factor;
#pragma unroll
            for (int l = 0; l < factor; l++)
                row[(unit / 4 * factor + l) * 4 + (unit + st_fold_shift(hash, l)) % 4] = v[i];
        }
    }
}

/* A thread has eight columns of dz, so factor times eight of dx, in every eighth of UNFOLD_ROWS
 * rows; sums of columns end in `sums`, a row for each block of rows. */
template <int factor, int hash, int gelu>
__global__ void __launch_bounds__(UNFOLD_WARPS * 32, factor > 4 ? 2 : 3)
    unfold_kernel(const uint4 *dz, const uint4 *h, uint4 *dx, float *sums, int64_t rows, int units)
{
    __shared__ float part[UNFOLD_WARPS][32][9];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, unit = blockIdx.x * 32 + lane;
    int64_t first = (int64_t)blockIdx.y * UNFOLD_ROWS;
    int64_t end = first + UNFOLD_ROWS < rows ? first + UNFOLD_ROWS : rows;
    int at[factor];
    float sum[factor][8] = {};
#pragma unroll
    for (int l = 0; l < factor; l++)
        at[l] = (unit / 4 * factor + l) * 4 + (unit + st_fold_shift(hash, l)) % 4;
    if (unit >= units) end = first;
#pragma unroll 1
    for (int64_t r = first + warp; r < end; r += UNFOLD_WARPS) {
        float g[8], x[8];
        uint4 v = __ldcs(dz + r * units + unit), hv[factor];
#pragma unroll
        for (int l = 0; l < factor; l++)
            hv[l] = __ldcs(h + r * units * factor + at[l]);
        st_unpack8(v, g);
#pragma unroll
        for (int l = 0; l < factor; l++) {
            st_unpack8(hv[l], x);
#pragma unroll
            for (int i = 0; i < 8; i++) {
                x[i] = g[i] * st_gelu_slope<gelu>(x[i]);
                sum[l][i] += x[i];
            }
            dx[r * units * factor + at[l]] = st_pack8(x);
        }
    }
    if (!sums) return;
#pragma unroll
    for (int l = 0; l < factor; l++) {
#pragma unroll
        for (int i = 0; i < 8; i++)
            part[warp][lane][i] = sum[l][i];
        __syncthreads();
        for (int i = warp; i < 8; i += UNFOLD_WARPS) {
            float total = 0.0f;
            for (int w = 0; w < UNFOLD_WARPS; w++)
                total += part[w][lane][i];
            int64_t row = (int64_t)blockIdx.y * units * factor * 8;
            if (unit < units) sums[row + at[l] * 8 + i] = total;
        }
        __syncthreads();
    }
}

/* dbias[j] += the sum over blocks of rows, in a fixed order. */
__global__ void __launch_bounds__(256) unfold_sums(const float *sums, float *dbias, int n, int cols)
{
    __shared__ float part[8][33];
    int col = blockIdx.x * 32 + threadIdx.x % 32, slice = threadIdx.x / 32;
    float s = 0.0f;
    if (col < cols) {
        for (int i = slice; i < n; i += 8)
            s += sums[(int64_t)i * cols + col];
    }
    part[slice][threadIdx.x % 32] = s;
    __syncthreads();
    if (slice || col >= cols) return;
    for (int i = 1; i < 8; i++)
        s += part[i][threadIdx.x];
    dbias[col] += s;
}

int64_t st_fused_unfold_work(int64_t rows, int64_t cols)
{
    return (rows + UNFOLD_ROWS - 1) / UNFOLD_ROWS * cols;
}

int st_fused_unfold(const st_unfold_call *a, cudaStream_t q)
{
    if (a->width % 32) return ST_FUSED_NOT;
    int blocks = (int)((a->rows + UNFOLD_ROWS - 1) / UNFOLD_ROWS), cols = (int)a->width * a->factor;
    dim3 grid((unsigned)(a->width / 8 + 31) / 32, (unsigned)blocks);
    int gelu = a->h ? a->gelu : 0;
    float *sums = a->h && a->dbias ? a->work : NULL;
    int64_t units = a->rows * (a->width / 8);
#define CASE_COPY(f, s)                                                                            \
    if (a->factor == f && a->hash == s && !gelu) {                                                 \
        copy_out_kernel<f, s><<<fold_grid(units, 4), 256, 0, q>>>(                                 \
            (const bf16 *)a->dz, (bf16 *)a->dx, units, (int)(a->width / 8));                       \
        return (int)cudaGetLastError();                                                            \
    }
    FOLD_CASES(CASE_COPY)
#undef CASE_COPY
#define CASE_GELU(f, s, g)                                                                         \
    if (a->factor == f && a->hash == s && gelu == g) {                                             \
        unfold_kernel<f, s, g><<<grid, UNFOLD_WARPS * 32, 0, q>>>(                                 \
            (const uint4 *)a->dz, (const uint4 *)a->h, (uint4 *)a->dx, sums, a->rows,              \
            (int)(a->width / 8));                                                                  \
        if (sums) unfold_sums<<<(cols + 31) / 32, 256, 0, q>>>(sums, a->dbias, blocks, cols);      \
        return (int)cudaGetLastError();                                                            \
    }
#define CASE(f, s) CASE_GELU(f, s, 1) CASE_GELU(f, s, 2)
    FOLD_CASES(CASE)
#undef CASE
#undef CASE_GELU
    return ST_FUSED_NOT;
}

/* ---- norm and fold -------------------------------------------------------------------------- */

static __device__ __forceinline__ float warp_sum(float v)
{
    for (int i = 16; i; i /= 2)
        v += __shfl_xor_sync(~0u, v, i);
    return v;
}

enum { NORM_WARPS = 8 };

/* A warp has a row: `many` times eight numbers a lane; its normalised row passes through shared
 * memory, where the fold finds its partners. */
template <int factor, int hash, int many>
__global__ void __launch_bounds__(NORM_WARPS * 32)
    norm_fold_kernel(const bf16 *x, const bf16 *gain, const bf16 *bias, bf16 *z, float *mean,
                     float *rstd, int64_t rows, int width, float eps)
{
    extern __shared__ float room[];
    int lane = threadIdx.x % 32, units = width / 8;
    float *row = room + threadIdx.x / 32 * width;
    int64_t step = (int64_t)gridDim.x * NORM_WARPS;
    for (int64_t r = (int64_t)blockIdx.x * NORM_WARPS + threadIdx.x / 32; r < rows; r += step) {
        float v[many][8], sum = 0.0f, square = 0.0f;
#pragma unroll
        for (int i = 0; i < many; i++) {
            int at = i * 32 + lane;
            uint4 got =
                at < units ? __ldg((const uint4 *)x + r * units + at) : make_uint4(0, 0, 0, 0);
            st_unpack8(got, v[i]);
            for (int c = 0; c < 8; c++)
                sum += v[i][c];
        }
        float m = warp_sum(sum) / (float)width;
#pragma unroll
        for (int i = 0; i < many; i++) {
            if (i * 32 + lane >= units) continue;
            for (int c = 0; c < 8; c++)
                square += (v[i][c] - m) * (v[i][c] - m);
        }
        float s = rsqrtf(warp_sum(square) / (float)width + eps);
        if (lane == 0 && mean) mean[r] = m;
        if (lane == 0 && rstd) rstd[r] = s;
#pragma unroll
        for (int i = 0; i < many; i++) {
            int at = i * 32 + lane;
            if (at >= units) continue;
            float g[8], b[8];
            st_unpack8(__ldg((const uint4 *)gain + at), g);
            st_unpack8(__ldg((const uint4 *)bias + at), b);
            for (int c = 0; c < 8; c++)
                g[c] = (v[i][c] - m) * s * g[c] + b[c];
            ((float4 *)row)[at * 2] = make_float4(g[0], g[1], g[2], g[3]);
            ((float4 *)row)[at * 2 + 1] = make_float4(g[4], g[5], g[6], g[7]);
        }
        __syncwarp();
        for (int unit = lane; unit < units / factor; unit += 32) {
            float sums[8] = {};
#pragma unroll
            for (int l = 0; l < factor; l++) {
                int at = (unit / 4 * factor + l) * 4 + (unit + st_fold_shift(hash, l)) % 4;
                float4 p = ((float4 *)row)[at * 2], o = ((float4 *)row)[at * 2 + 1];
                float t[8] = {p.x, p.y, p.z, p.w, o.x, o.y, o.z, o.w};
                for (int c = 0; c < 8; c++)
                    sums[c] += t[c];
            }
            ((uint4 *)z)[r * (units / factor) + unit] = st_pack8(sums);
        }
        __syncwarp();
    }
}

template <int factor, int hash>
static int norm_fold_launch(const st_norm_fold_call *a, cudaStream_t q)
{
    int many = (int)((a->width / 8 + 31) / 32);
    int64_t blocks = (a->rows + NORM_WARPS - 1) / NORM_WARPS;
    int grid = (int)(blocks < 132 * 8 ? blocks : 132 * 8);
    size_t room = (size_t)NORM_WARPS * (size_t)a->width * 4;
#define CASE(m)                                                                                    \
    if (many <= m) {                                                                               \
        cudaFuncSetAttribute(norm_fold_kernel<factor, hash, m>,                                    \
                             cudaFuncAttributeMaxDynamicSharedMemorySize, (int)room);              \
        norm_fold_kernel<factor, hash, m><<<grid, NORM_WARPS * 32, room, q>>>(                     \
            (const bf16 *)a->x, (const bf16 *)a->gain, (const bf16 *)a->bias, (bf16 *)a->z,        \
            a->mean, a->rstd, a->rows, (int)a->width, a->eps);                                     \
        return (int)cudaGetLastError();                                                            \
    }
    CASE(3)
    CASE(5)
    CASE(8)
#undef CASE
    return ST_FUSED_NOT;
}

int st_fused_norm_fold(const st_norm_fold_call *a, cudaStream_t q)
{
    if (a->width % (32 * a->factor)) return ST_FUSED_NOT;
    if (a->factor == 1) return norm_fold_launch<1, 0>(a, q);
#define CASE(f, h)                                                                                 \
    if (a->factor == f && a->hash == h) return norm_fold_launch<f, h>(a, q);
    FOLD_CASES(CASE)
#undef CASE
    return ST_FUSED_NOT;
}

/* ---- Kronecker's column of four ------------------------------------------------------------- */

/* A thread: two numbers of z from 8 of x, four threads apart in memory as they lie. */
__global__ void gather4_kernel(const uint4 *x, const float *scale, uint32_t *z, int64_t pairs)
{
    float4 s = *(const float4 *)scale;
    st_let_next();
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t u = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; u < pairs; u += step * 4) {
        uint4 v[4];
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (u + i * step < pairs) v[i] = __ldg(x + u + i * step);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (u + i * step >= pairs) continue;
            z[u + i * step] = st_gather_pair(v[i], s);
        }
    }
}

int st_fused_gather4(int64_t rows, int64_t width, const void *x, const float *scale, void *z,
                     cudaStream_t q)
{
    if (width % 8) return ST_FUSED_NOT;
    int64_t pairs = rows * width / 2;
    gather4_kernel<<<fold_grid(pairs, 4), 256, 0, q>>>((const uint4 *)x, scale, (uint32_t *)z,
                                                       pairs);
    return (int)cudaGetLastError();
}
