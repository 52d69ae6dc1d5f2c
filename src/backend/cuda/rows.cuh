/* Attention of one query by one warp, for kinds of attention whose keys or scores are of an unusual
 * kind: keys are met 32 at a time, one a lane, in one softmax that is rescaled as it grows. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_ROWS_CUH
#define ST_ROWS_CUH

#include "backend/cuda/device.cuh"

/* st_heads with natural strides filled in, and typed. */
template <typename T> struct rows_heads {
    int64_t batch, heads, dim, q_len, kv_len, q_stride, k_stride, v_stride, o_stride, q_step,
        k_step, v_step, o_step;
    const T *q, *k, *v;
    T *o;
};

template <typename T> static inline rows_heads<T> rows_heads_of(const st_heads *h)
{
    rows_heads<T> r = {};
    r.batch = h->batch, r.heads = h->heads, r.dim = h->head_dim;
    r.q_len = h->q_len, r.kv_len = h->kv_len;
    r.q_stride = h->q.stride, r.k_stride = h->k.stride, r.v_stride = h->v.stride;
    r.o_stride = h->o.stride, r.q_step = h->q.step, r.k_step = h->k.step;
    r.v_step = h->v.step, r.o_step = h->o.step;
    r.q = (const T *)h->q.x.data, r.k = (const T *)h->k.x.data, r.v = (const T *)h->v.x.data;
    r.o = (T *)h->o.x.data;
    return r;
}

/* What a warp has summed: e^(score - top) times values in sum (dim, shared memory). */
typedef struct {
    float top, total, *sum;
} rows_sums;

/* q.k and |k|^2 of a query in shared memory and a row of keys. */
template <typename T>
static __device__ __forceinline__ float rows_dot(const float *q, const T *k, int64_t dim,
                                                 float *square)
{
    float dot = 0, sum = 0;
    for (int64_t c = 0; c < dim; c++) {
        float x = get(k, c);
        dot += q[c] * x;
        sum += x * x;
    }
    *square = sum;
    return dot;
}

/* Adds keys to the sums. key(at): the row of place `at` < places, or -1; score(j): of row j. */
template <typename T, typename K, typename S>
static __device__ void rows_attend(rows_sums *s, int64_t places, int64_t dim, const T *v,
                                   int64_t v_stride, K key, S score)
{
    int lane = threadIdx.x & 31;
    for (int64_t at = 0; at < places; at += 32) {
        int64_t j = at + lane < places ? key(at + lane) : -1;
        float x = j >= 0 ? score(j) : -INFINITY, top = fmaxf(s->top, warp_max(x));
        float by = s->top == -INFINITY ? 0.0f : expf(s->top - top);
        float p = j >= 0 ? expf(x - (top == -INFINITY ? 0.0f : top)) : 0.0f;
        s->total = s->total * by + warp_sum(p);
        s->top = top;
        int n = places - at < 32 ? (int)(places - at) : 32;
        for (int64_t c = lane; c - lane < dim; c += 32) {
            float sum = c < dim ? s->sum[c] * by : 0.0f;
            for (int i = 0; i < n; i++) {
                int64_t row = __shfl_sync(0xffffffffu, j, i);
                float w = __shfl_sync(0xffffffffu, p, i);
                if (row >= 0 && c < dim) sum += w * get(v, row * v_stride + c);
            }
            if (c < dim) s->sum[c] = sum;
        }
        __syncwarp();
    }
}

/* Warps of a block that wants `floats` of shared memory for each; 0: one is too many. */
static inline int rows_warps(int64_t floats)
{
    int64_t fit = 48 * 1024 / (floats * (int64_t)sizeof(float));
    return fit >= 4 ? 4 : (int)fit;
}

#endif
