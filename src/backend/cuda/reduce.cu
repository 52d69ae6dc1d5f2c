/* Sums over everything (dot, sumsq) and over rows (bias_grad): parts by as many blocks as the size
 * says, then the parts in their order. */
/* SPDX-License-Identifier: MIT */
#include "backend/cuda/columns.cuh"

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

template <typename T> struct rows_read {
    const T *dy;
    template <int N> __device__ pack<N> run(int64_t i) const
    {
        return load<N>(dy, i);
    }
};

template <typename T> static void bias_grad_of(st_stream *q, const st_bias_grad_args *a)
{
    rows_read<T> f = {(const T *)a->dy.data};
    sum_rows(q, "bias_grad", a->rows, a->width, aligned16(f.dy), f, (float *)a->dbias.data);
}

extern "C" void st_cuda_bias_grad(st_stream *q, const st_bias_grad_args *a)
{
    a->dy.dtype == ST_F32 ? bias_grad_of<float>(q, a) : bias_grad_of<bf16>(q, a);
}
