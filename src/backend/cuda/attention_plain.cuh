/* Attention of any head_dim and dtype in float32 arithmetic, a block for each query (forward, gq)
 * or key (gk, gv): what the faster kernels do not take. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_ATTENTION_PLAIN_CUH
#define ST_ATTENTION_PLAIN_CUH

#include "attention_steps.cuh"

enum { PLAIN_THREADS = 128 };

__device__ __forceinline__ float plain_get(const float *x)
{
    return *x;
}
__device__ __forceinline__ float plain_get(const uint16_t *x)
{
    return __uint_as_float((uint32_t)*x << 16);
}
__device__ __forceinline__ void plain_put(float *x, float v)
{
    *x = v;
}
__device__ __forceinline__ void plain_put(uint16_t *x, float v)
{
    *x = (uint16_t)pack_bf16(v, v);
}

template <typename T>
__device__ __forceinline__ T *plain_row(const attend_view &a, const attend_heads &x, int head,
                                        int t)
{
    return (T *)x.data + heads_at(a, x, head, t);
}

template <typename T>
__device__ __forceinline__ float plain_dot(const float *x, const T *y, int dim)
{
    float sum = 0;
    for (int c = 0; c < dim; c++)
        sum = fmaf(x[c], plain_get(y + c), sum);
    return sum;
}

/* Sum, or the largest, of all threads' values; part: PLAIN_THREADS / 32 numbers. */
template <bool MOST> __device__ __forceinline__ float plain_all(float x, float *part)
{
#pragma unroll
    for (int m = 16; m; m /= 2) {
        float y = warp_swap(x, m);
        x = MOST ? fmaxf(x, y) : x + y;
    }
    __syncthreads();
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = x;
    __syncthreads();
    x = part[0];
    for (int w = 1; w < PLAIN_THREADS / 32; w++)
        x = MOST ? fmaxf(x, part[w]) : x + part[w];
    return x;
}

/* Shared memory: two rows in float32, two sums of rows, and two numbers for each thread. */
typedef struct {
    float *x, *y, *cx, *cy, *w, *z, *part;
} plain_shared;

__device__ __forceinline__ plain_shared plain_place(int dim)
{
    float *f = (float *)shared_start();
    plain_shared s = {f, f + dim, f + 2 * dim, f + 3 * dim, f + 4 * dim, 0, 0};
    s.z = s.w + PLAIN_THREADS;
    s.part = s.z + PLAIN_THREADS;
    return s;
}
static inline size_t plain_bytes(int dim)
{
    return (4 * (size_t)dim + 2 * PLAIN_THREADS + 4) * sizeof(float);
}

template <typename T>
__device__ __forceinline__ void plain_load(const attend_view &a, const attend_heads &x, int head,
                                           int t, float *to, float *sums)
{
    const T *row = plain_row<T>(a, x, head, t);
    for (int c = threadIdx.x; c < a.dim; c += PLAIN_THREADS) {
        to[c] = plain_get(row + c);
        sums[c] = 0;
    }
}

/* sums += w[i] times row `first` + i of x, for i < n. */
template <typename T>
__device__ __forceinline__ void plain_add(const attend_view &a, const attend_heads &x, int head,
                                          int first, int n, const float *w, float *sums, float by)
{
    for (int c = threadIdx.x; c < a.dim; c += PLAIN_THREADS) {
        float sum = sums[c] * by;
        for (int i = 0; i < n; i++)
            sum = fmaf(w[i], plain_get(plain_row<T>(a, x, head, first + i) + c), sum);
        sums[c] = sum;
    }
}

template <typename T>
__device__ __forceinline__ void plain_store(const attend_view &a, const attend_heads &x, int head,
                                            int t, const float *sums, float by)
{
    T *row = plain_row<T>(a, x, head, t);
    for (int c = threadIdx.x; c < a.dim; c += PLAIN_THREADS)
        plain_put(row + c, sums[c] * by);
}

__device__ __forceinline__ int plain_few(int left)
{
    return left < PLAIN_THREADS ? left : PLAIN_THREADS;
}

template <typename T>
__global__ void __launch_bounds__(PLAIN_THREADS) plain_fwd_kernel(attend_view a)
{
    int head = (int)(blockIdx.x / a.q_len), t = (int)(blockIdx.x % a.q_len), i = threadIdx.x;
    int first = first_key(a, t), last = last_key(a, t);
    plain_shared s = plain_place(a.dim);
    float top = -INFINITY, total = 0;
    plain_load<T>(a, a.q, head, t, s.x, s.cx);
    __syncthreads();
    for (int j = first; j < last; j += PLAIN_THREADS) {
        int n = plain_few(last - j);
        float score = -INFINITY;
        if (i < n) score = a.scale * plain_dot(s.x, plain_row<T>(a, a.k, head, j + i), a.dim);
        float most = fmaxf(top, plain_all<true>(score, s.part)), by = expf(top - most);
        float p = i < n ? expf(score - most) : 0;
        total = total * by + plain_all<false>(p, s.part);
        top = most;
        if (a.below && !attend_keeps(a, attend_number(a, head, t) + j + i)) p = 0;
        s.w[i] = p;
        __syncthreads();
        plain_add<T>(a, a.v, head, j, n, s.w, s.cx, by);
        __syncthreads();
    }
    plain_store<T>(a, a.o, head, t, s.cx, total > 0 ? a.kept / total : 0);
    if (a.lse && i == 0)
        a.lse[(int64_t)head * a.q_len + t] = total > 0 ? top + logf(total) : -INFINITY;
}

/* ds (and the dropped weight) of query t and key j, from q.k and go.v. */
__device__ __forceinline__ float plain_gradient(const attend_view &a, int head, int t, int j,
                                                float qk, float gv, float lse, float d, float *mp)
{
    float p = expf(a.scale * qk - lse);
    bool kept = !a.below || attend_keeps(a, attend_number(a, head, t) + j);
    *mp = kept ? p : 0;
    return p * ((kept ? gv * a.kept : 0) - d);
}

template <typename T>
__global__ void __launch_bounds__(PLAIN_THREADS) plain_gq_kernel(attend_view a)
{
    int head = (int)(blockIdx.x / a.q_len), t = (int)(blockIdx.x % a.q_len), i = threadIdx.x;
    int first = first_key(a, t), last = last_key(a, t);
    plain_shared s = plain_place(a.dim);
    plain_load<T>(a, a.q, head, t, s.x, s.cx);
    plain_load<T>(a, a.go, head, t, s.y, s.cy);
    __syncthreads();
    float part = 0, mp;
    for (int c = i; c < a.dim; c += PLAIN_THREADS)
        part = fmaf(s.y[c], plain_get(plain_row<T>(a, a.o, head, t) + c), part);
    float d = plain_all<false>(part, s.part), lse = a.lse[(int64_t)head * a.q_len + t];
    if (i == 0) a.rows[(int64_t)head * a.padded + t] = d;
    for (int j = first; j < last; j += PLAIN_THREADS) {
        int n = plain_few(last - j);
        if (i < n) {
            float qk = plain_dot(s.x, plain_row<T>(a, a.k, head, j + i), a.dim);
            float gv = plain_dot(s.y, plain_row<T>(a, a.v, head, j + i), a.dim);
            s.w[i] = plain_gradient(a, head, t, j + i, qk, gv, lse, d, &mp);
        }
        __syncthreads();
        plain_add<T>(a, a.k, head, j, n, s.w, s.cx, 1);
        __syncthreads();
    }
    plain_store<T>(a, a.gq, head, t, s.cx, a.scale);
}

template <typename T>
__global__ void __launch_bounds__(PLAIN_THREADS) plain_gkv_kernel(attend_view a)
{
    int head = (int)(blockIdx.x / a.kv_len), j = (int)(blockIdx.x % a.kv_len), i = threadIdx.x;
    plain_shared s = plain_place(a.dim);
    plain_load<T>(a, a.k, head, j, s.x, s.cx);
    plain_load<T>(a, a.v, head, j, s.y, s.cy);
    __syncthreads();
    int end = end_query(a, j);
    for (int t = first_query(a, j); t < end; t += PLAIN_THREADS) {
        int n = plain_few(end - t);
        if (i < n) {
            float qk = plain_dot(s.x, plain_row<T>(a, a.q, head, t + i), a.dim);
            float gv = plain_dot(s.y, plain_row<T>(a, a.go, head, t + i), a.dim);
            float lse = a.lse[(int64_t)head * a.q_len + t + i];
            float d = a.rows[(int64_t)head * a.padded + t + i];
            s.w[i] = plain_gradient(a, head, t + i, j, qk, gv, lse, d, &s.z[i]);
        }
        __syncthreads();
        plain_add<T>(a, a.q, head, t, n, s.w, s.cx, 1);
        plain_add<T>(a, a.go, head, t, n, s.z, s.cy, 1);
        __syncthreads();
    }
    plain_store<T>(a, a.gk, head, j, s.cx, a.scale);
    plain_store<T>(a, a.gv, head, j, s.cy, a.kept);
}

#endif
