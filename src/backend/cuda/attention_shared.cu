/* Gradients of keys and values that several heads share: each head's own, summed up in order. */
/* SPDX-License-Identifier: MIT */
#include "backend/cuda/attention.h"
#include "backend/cuda/device.cuh"

static int64_t shared_group(const st_attend_bwd_args *g)
{
    return g->h.kv_heads ? g->h.heads / g->h.kv_heads : 1;
}
/* Numbers of one of the two gradients. */
static int64_t shared_numbers(const st_attend_bwd_args *g)
{
    int64_t n = g->h.batch * g->h.kv_len * g->h.heads * g->h.head_dim;
    return (n + 127) / 128 * 128; /* the next one begins aligned */
}

extern "C" size_t st_attention_shared_work(const st_attend_bwd_args *g)
{
    if (shared_group(g) == 1) return 0;
    return (size_t)(2 * shared_numbers(g)) * (g->gk.dtype == ST_F32 ? 4 : 2);
}

extern "C" void st_attention_share(const st_attend_bwd_args *g, void *work, st_attend_bwd_args *all)
{
    size_t bytes = st_attention_shared_work(g) / 2;
    *all = *g;
    all->h.kv_heads = g->h.heads;
    all->h.k.stride = all->h.k.step = all->h.v.stride = all->h.v.step = 0;
    all->h.k.x.data = all->gk.data = work;
    all->h.v.x.data = all->gv.data = (char *)work + bytes;
}

/* Column c of a row of keys: the sum over `group` heads of `dim` numbers each. */
template <typename T>
static __global__ void shared_kernel(int64_t rows, int64_t len, int64_t width, int dim, int group,
                                     const T *x, T *y, int64_t stride, int64_t step)
{
    int64_t n = rows * width, all = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += all) {
        int64_t row = i / width, c = i % width, head = c / dim;
        int64_t from = row * width * group + head * group * dim + c % dim;
        float sum = 0;
        for (int h = 0; h < group; h++)
            sum += get(x, from + (int64_t)h * dim);
        put(y, row / len * step + row % len * stride + c, sum);
    }
}

template <typename T>
static void shared_of(const st_attend_bwd_args *g, const st_tensor &x, const st_tensor &y,
                      const st_strided &at, cudaStream_t s)
{
    int64_t rows = g->h.batch * g->h.kv_len, width = g->h.kv_heads * g->h.head_dim;
    int64_t stride = at.stride ? at.stride : width;
    int64_t step = at.step ? at.step : g->h.kv_len * stride;
    if (rows == 0) return;
    shared_kernel<T><<<blocks_for(rows * width, 256, 1 << 16), 256, 0, s>>>(
        rows, g->h.kv_len, width, (int)g->h.head_dim, (int)shared_group(g), (const T *)x.data,
        (T *)y.data, stride, step);
}

extern "C" cudaError_t st_attention_gather(const st_attend_bwd_args *g,
                                           const st_attend_bwd_args *all, cudaStream_t s)
{
    if (g->gk.dtype == ST_F32) {
        shared_of<float>(g, all->gk, g->gk, g->h.k, s);
        shared_of<float>(g, all->gv, g->gv, g->h.v, s);
    } else {
        shared_of<bf16>(g, all->gk, g->gk, g->h.k, s);
        shared_of<bf16>(g, all->gv, g->gv, g->h.v, s);
    }
    return cudaGetLastError();
}
