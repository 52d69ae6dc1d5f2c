/* Sums over everything (dot, sumsq) and over rows (bias_grad): parts by as many blocks as the size
 * says, then the parts in their order. */
/* SPDX-License-Identifier: MIT */
#include "backend/cuda/pack.cuh"

enum { THREADS = 256, PARTS = 1024 };

template <typename A, typename B>
static __global__ void dot_kernel(int64_t n, int64_t wide, const A *a, const B *b, float *part)
{
    int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x, all = (int64_t)gridDim.x * THREADS;
    float sum = 0;
    for (int64_t i = at; i < wide; i += all) {
        pack<8> x = load<8>(a, i * 8), y = load<8>(b, i * 8);
        float s = 0;
#pragma unroll
        for (int j = 0; j < 8; j++)
            s += x.v[j] * y.v[j];
        sum += s;
    }
    for (int64_t i = wide * 8 + at; i < n; i += all)
        sum += get(a, i) * get(b, i);
    sum = block_sum(sum);
    if (threadIdx.x == 0) part[blockIdx.x] = sum;
}

/* out += the sum of part[0 .. parts), by one block. */
static __global__ void parts_kernel(int parts, const float *part, float *out)
{
    float sum = 0;
    for (int i = threadIdx.x; i < parts; i += THREADS)
        sum += part[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) *out += sum;
}

template <typename A, typename B>
static void dot_of(st_stream *q, const char *op, st_tensor a, st_tensor b, st_tensor out)
{
    int64_t n = st_numel(a), wide = aligned16(a.data) && aligned16(b.data) ? n / 8 : 0;
    unsigned blocks = blocks_for(n, THREADS * 16, PARTS);
    float *part = (float *)st_cuda_work(q, PARTS * sizeof(float), op);
    if (!part) return;
    dot_kernel<A, B><<<blocks, THREADS, 0, st_cuda_stream(q)>>>(n, wide, (const A *)a.data,
                                                                (const B *)b.data, part);
    parts_kernel<<<1, THREADS, 0, st_cuda_stream(q)>>>((int)blocks, part, (float *)out.data);
    st_cuda_launched(q, op);
}

static void dot_any(st_stream *q, const char *op, st_tensor a, st_tensor b, st_tensor out)
{
    bool x = a.dtype == ST_F32, y = b.dtype == ST_F32;
    if (x && y)
        dot_of<float, float>(q, op, a, b, out);
    else if (x)
        dot_of<float, bf16>(q, op, a, b, out);
    else if (y)
        dot_of<bf16, float>(q, op, a, b, out);
    else
        dot_of<bf16, bf16>(q, op, a, b, out);
}

extern "C" void st_cuda_dot(st_stream *q, const st_dot_args *a)
{
    dot_any(q, "dot", a->a, a->b, a->c);
}

extern "C" void st_cuda_sumsq(st_stream *q, const st_sumsq_args *a)
{
    dot_any(q, "sumsq", a->x, a->x, a->out);
}

/* ---- over rows ------------------------------------------------------------------------------ */

enum { COLUMNS = 32, LINES = 8 }; /* threads of a block: N numbers of a row each, so many rows */

/* part[blockIdx.y][j] = the sum of rows blockIdx.y*LINES + y + i*gridDim.y*LINES. */
template <typename T, int N>
static __global__ void rows_kernel(int64_t rows, int64_t width, const T *dy, float *part)
{
    __shared__ float sums[LINES][COLUMNS * N];
    int64_t j = ((int64_t)blockIdx.x * COLUMNS + threadIdx.x) * N;
    pack<N> sum = {};
#pragma unroll 4
    for (int64_t r = (int64_t)blockIdx.y * LINES + threadIdx.y; r < rows && j < width;
         r += (int64_t)gridDim.y * LINES) {
        pack<N> p = load<N>(dy, r * width + j);
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

template <typename T> static void bias_grad_of(st_stream *q, const st_bias_grad_args *a)
{
    const T *dy = (const T *)a->dy.data;
    bool wide = a->width % 8 == 0 && aligned16(dy);
    unsigned across = blocks_for(a->width, COLUMNS * (wide ? 8 : 1), 1 << 30);
    unsigned down = blocks_for(a->rows, LINES * 16, 128);
    float *part = (float *)st_cuda_work(q, (size_t)(down * a->width) * sizeof(float), "bias_grad");
    if (!part || a->rows == 0) return;
    dim3 grid(across, down), block(COLUMNS, LINES);
    if (wide)
        rows_kernel<T, 8><<<grid, block, 0, st_cuda_stream(q)>>>(a->rows, a->width, dy, part);
    else
        rows_kernel<T, 1><<<grid, block, 0, st_cuda_stream(q)>>>(a->rows, a->width, dy, part);
    rows_finish_kernel<<<blocks_for(a->width, 32, 1 << 30), dim3(32, 32), 0, st_cuda_stream(q)>>>(
        (int)down, a->width, part, (float *)a->dbias.data);
    st_cuda_launched(q, "bias_grad");
}

extern "C" void st_cuda_bias_grad(st_stream *q, const st_bias_grad_args *a)
{
    a->dy.dtype == ST_F32 ? bias_grad_of<float>(q, a) : bias_grad_of<bf16>(q, a);
}
