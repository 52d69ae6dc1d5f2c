/* Norms whose rows keep their mean: y = x rstd gain, rstd = 1 / sqrt(mean(x^2) + eps). With n = x
 * rstd and d = dy gain: dx = rstd (d - n mean(d n)). A warp takes a row. */
/* SPDX-License-Identifier: MIT */
#include "backend/cuda/pack.cuh"

enum { WARPS = 8, THREADS = 32 * WARPS };

template <typename T> struct rms_view {
    int64_t rows, width;
    const T *x, *dy, *gain;
    T *y; /* y, or dx */
    float *rstd;
    float eps;
    bool accumulate;
};

template <typename T> static rms_view<T> rms_view_of(const st_norm_fwd_args *a, const st_tensor &y)
{
    rms_view<T> v = {};
    v.rows = a->rows, v.width = a->width, v.eps = a->eps, v.accumulate = a->accumulate != 0;
    v.x = (const T *)a->x.data, v.dy = (const T *)a->dy.data, v.gain = (const T *)a->gain.data;
    v.y = (T *)y.data, v.rstd = (float *)a->rstd.data;
    return v;
}

template <int N, typename T> static __global__ void rms_fwd_kernel(rms_view<T> v)
{
    int64_t r = (int64_t)blockIdx.x * WARPS + (threadIdx.x >> 5), at = r * v.width;
    float sum = 0;
    if (r >= v.rows) return;
    for (int64_t j = (threadIdx.x & 31) * N; j < v.width; j += 32 * N) {
        pack<N> x = load<N>(v.x, at + j);
#pragma unroll
        for (int k = 0; k < N; k++)
            sum += x.v[k] * x.v[k];
    }
    float s = 1.0f / sqrtf(warp_sum(sum) / (float)v.width + v.eps);
    for (int64_t j = (threadIdx.x & 31) * N; j < v.width; j += 32 * N) {
        pack<N> x = load<N>(v.x, at + j), g = load<N>(v.gain, j);
#pragma unroll
        for (int k = 0; k < N; k++)
            x.v[k] = x.v[k] * s * g.v[k];
        store<N>(v.y, at + j, x);
    }
    if (v.rstd && threadIdx.x % 32 == 0) v.rstd[r] = s;
}

template <int N, typename T> static __global__ void rms_dx_kernel(rms_view<T> v)
{
    int64_t r = (int64_t)blockIdx.x * WARPS + (threadIdx.x >> 5), at = r * v.width;
    float sum = 0;
    if (r >= v.rows) return;
    float rstd = v.rstd[r];
    for (int64_t j = (threadIdx.x & 31) * N; j < v.width; j += 32 * N) {
        pack<N> x = load<N>(v.x, at + j), dy = load<N>(v.dy, at + j), g = load<N>(v.gain, j);
#pragma unroll
        for (int k = 0; k < N; k++)
            sum += dy.v[k] * g.v[k] * (x.v[k] * rstd);
    }
    sum = warp_sum(sum) / (float)v.width;
    for (int64_t j = (threadIdx.x & 31) * N; j < v.width; j += 32 * N) {
        pack<N> x = load<N>(v.x, at + j), dy = load<N>(v.dy, at + j), g = load<N>(v.gain, j);
        pack<N> old = {};
        if (v.accumulate) old = load<N>(v.y, at + j);
#pragma unroll
        for (int k = 0; k < N; k++)
            old.v[k] += rstd * (dy.v[k] * g.v[k] - x.v[k] * rstd * sum);
        store<N>(v.y, at + j, old);
    }
}

/* part[blockIdx.y] = sums over its rows of dy n, a thread a column. */
template <typename T> static __global__ void rms_sums_kernel(rms_view<T> v, float *part)
{
    int64_t j = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    float gain = 0;
    if (j >= v.width) return;
    for (int64_t r = blockIdx.y; r < v.rows; r += gridDim.y)
        gain += get(v.dy, r * v.width + j) * (get(v.x, r * v.width + j) * v.rstd[r]);
    part[(int64_t)blockIdx.y * v.width + j] = gain;
}

static __global__ void rms_finish_kernel(int parts, int64_t width, const float *part, float *dgain)
{
    int64_t j = (int64_t)blockIdx.x * 32 + threadIdx.x;
    float sum = column_sum(parts, width, j, part);
    if (threadIdx.y == 0 && j < width) dgain[j] += sum;
}

static bool rms_wide(const st_norm_fwd_args *a)
{
    const void *p[] = {a->x.data, a->y.data, a->gain.data, a->dy.data, a->dx.data};
    for (int i = 0; i < 5; i++)
        if (!aligned16(p[i])) return false;
    return a->width % 8 == 0;
}

template <typename T> static void rms_fwd_of(st_stream *q, const st_norm_fwd_args *a)
{
    void (*kernel)(rms_view<T>) = rms_wide(a) ? rms_fwd_kernel<8, T> : rms_fwd_kernel<1, T>;
    kernel<<<blocks_for(a->rows, WARPS, 1 << 30), THREADS, 0, st_cuda_stream(q)>>>(
        rms_view_of<T>(a, a->y));
    st_cuda_launched(q, "norm_fwd");
}

extern "C" void st_cuda_rms_fwd(st_stream *q, const st_norm_fwd_args *a)
{
    a->x.dtype == ST_F32 ? rms_fwd_of<float>(q, a) : rms_fwd_of<bf16>(q, a);
}

template <typename T> static void rms_bwd_of(st_stream *q, const st_norm_bwd_args *a)
{
    rms_view<T> v = rms_view_of<T>(a, a->dx);
    cudaStream_t s = st_cuda_stream(q);
    if (a->dgain.data) { /* first, as dx may be dy's memory */
        unsigned parts = blocks_for(a->rows, 16, 4 * 132);
        float *part =
            (float *)st_cuda_work(q, (size_t)(parts * a->width) * sizeof(float), "norm_bwd");
        if (!part) return;
        dim3 grid(blocks_for(a->width, 128, 1 << 30), parts);
        rms_sums_kernel<T><<<grid, 128, 0, s>>>(v, part);
        rms_finish_kernel<<<blocks_for(a->width, 32, 1 << 30), dim3(32, 32), 0, s>>>(
            (int)parts, a->width, part, (float *)a->dgain.data);
    }
    void (*kernel)(rms_view<T>) = rms_wide(a) ? rms_dx_kernel<8, T> : rms_dx_kernel<1, T>;
    kernel<<<blocks_for(a->rows, WARPS, 1 << 30), THREADS, 0, s>>>(v);
    st_cuda_launched(q, "norm_bwd");
}

extern "C" void st_cuda_rms_bwd(st_stream *q, const st_norm_bwd_args *a)
{
    a->x.dtype == ST_F32 ? rms_bwd_of<float>(q, a) : rms_bwd_of<bf16>(q, a);
}
