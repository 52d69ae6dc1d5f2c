/* Sums over rows, a column each, of what is read or made on the way: parts by as many blocks as the
 * size says, then the parts in their order. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_COLUMNS_CUH
#define ST_COLUMNS_CUH

#include "backend/cuda/pack.cuh"

enum { COLUMNS = 32, LINES = 8 }; /* threads of a block: N numbers of a row each, so many rows */

/* part[blockIdx.y][j] = the sum of rows blockIdx.y*LINES + y + i*gridDim.y*LINES, whose numbers
 * from i on are f.run<N>(i). */
template <int N, typename F>
static __global__ void rows_kernel(int64_t rows, int64_t width, F f, float *part)
{
    __shared__ float sums[LINES][COLUMNS * N];
    int64_t j = ((int64_t)blockIdx.x * COLUMNS + threadIdx.x) * N;
    pack<N> sum = {};
#pragma unroll 4
    for (int64_t r = (int64_t)blockIdx.y * LINES + threadIdx.y; r < rows && j < width;
         r += (int64_t)gridDim.y * LINES) {
        pack<N> p = f.template run<N>(r * width + j);
#pragma unroll
        for (int k = 0; k < N; k++)
            sum.v[k] += p.v[k];
    }
#pragma unroll
    for (int k = 0; k < N; k++)
        sums[threadIdx.y][threadIdx.x + k * COLUMNS] = sum.v[k];
    __syncthreads();
    if (threadIdx.y || j >= width) return;
#pragma unroll
    for (int k = 0; k < N; k++) {
        float s = 0;
        for (int y = 0; y < LINES; y++)
            s += sums[y][threadIdx.x + k * COLUMNS];
        part[blockIdx.y * width + j + k] = s;
    }
}

static __global__ void rows_finish_kernel(int parts, int64_t width, const float *part, float *out)
{
    int64_t j = (int64_t)blockIdx.x * 32 + threadIdx.x;
    float sum = column_sum(parts, width, j, part);
    if (threadIdx.y == 0 && j < width) out[j] += sum;
}

/* out (width) += the sums over `rows` rows of f. */
template <typename F>
static void sum_rows(st_stream *q, const char *op, int64_t rows, int64_t width, bool aligned,
                     const F &f, float *out)
{
    bool wide = width % 8 == 0 && aligned;
    unsigned across = blocks_for(width, COLUMNS * (wide ? 8 : 1), 1 << 30);
    unsigned down = blocks_for(rows, LINES * 16, 128);
    float *part = (float *)st_cuda_work(q, (size_t)(down * width) * sizeof(float), op);
    if (!part || rows == 0) return;
    dim3 grid(across, down), block(COLUMNS, LINES);
    if (wide)
        rows_kernel<8><<<grid, block, 0, st_cuda_stream(q)>>>(rows, width, f, part);
    else
        rows_kernel<1><<<grid, block, 0, st_cuda_stream(q)>>>(rows, width, f, part);
    rows_finish_kernel<<<blocks_for(width, 32, 1 << 30), dim3(32, 32), 0, st_cuda_stream(q)>>>(
        (int)down, width, part, out);
    st_cuda_launched(q, op);
}

#endif
