/* Attention through positive features, as ref/favor.c has it: a_im and b_jm are the logs of
 * sqrt(divisor) times the features of query i and key j. Where all keys are seen alike, keys are
 * summed once:
 *   s_m = sum_j e^(b_jm - c_m) (v_j, 1), c_m = max_j b_jm;  p_im = e^(a_im + c_m - t_i)
 *   o_i = sum_m p_im s_m[v] / (sum_m p_im s_m[1] + eps divisor e^(-t_i))
 * else every weight is made by itself, log a_ij = log sum_m e^(a_im + b_jm) - log divisor, or scale
 * q_i.k_j within the window, and a warp meets a query's keys in one softmax. */
/* SPDX-License-Identifier: MIT */
#include "backend/cuda/rows.cuh"
#include <math.h>

enum { THREADS = 128, WIDE = 64, SPLIT = 4 };

template <typename T> struct favor {
    rows_heads<T> h;
    int64_t features, rows, q_start, window, keys; /* rows: of w */
    const T *w;
    float *query, *key; /* logits (pairs, q_len, features), (pairs, kv_len, features) */
    float *most;        /* (pairs, kv_len): a key's largest w_m.x' */
    float *top, *sum;   /* (pairs, features), (pairs, features, dim + 1) */
    float *part;        /* (pairs, parts, features, dim + 2): of favor_tiles.cuh */
    float scale, root, eps, lift, divisor;
    st_favor_map map;
    bool causal, shifted;
};

/* ---- logits --------------------------------------------------------------------------------- */

static __device__ __forceinline__ float favor_lift(float x, float lift)
{
    return lift > 0 ? logf(expf(x) + lift) : x;
}

#include "backend/cuda/favor_tiles.cuh"

/* Logits of a row by a warp; of queries shifted, of keys with their largest product beside. */
template <typename T> static __global__ void favor_logits_kernel(favor<T> a, bool keys)
{
    int64_t len = keys ? a.h.kv_len : a.h.q_len, n = blockIdx.y;
    int64_t r = (int64_t)blockIdx.x * (THREADS / 32) + (threadIdx.x >> 5);
    int64_t i = n / a.h.heads, head = n % a.h.heads * a.h.dim;
    int lane = threadIdx.x & 31;
    if (r >= len) return;
    const T *x = keys ? a.h.k + i * a.h.k_step + head + r * a.h.k_stride
                      : a.h.q + i * a.h.q_step + head + r * a.h.q_stride;
    float *logit = (keys ? a.key : a.query) + (n * len + r) * a.features;
    float half = 0, most = -INFINITY;
    for (int64_t c = lane; c < a.h.dim; c += 32) {
        float v = get(x, c) * a.root;
        half += v * v;
    }
    half = warp_sum(half) * 0.5f;
    for (int64_t m = lane; m < a.features; m += 32) {
        float dot = 0, v = get(x, a.rows ? 0 : m);
        const T *w = a.w + (a.rows ? m % a.rows * a.h.dim : 0);
        for (int64_t c = 0; c < a.h.dim && a.rows; c++)
            dot += get(w, c) * (get(x, c) * a.root);
        if (m >= a.rows) dot = -dot;
        most = fmaxf(most, dot);
        if (a.map == ST_FAVOR_ELU)
            logit[m] = v > 0 ? log1pf(v) : v;
        else
            logit[m] = a.map == ST_FAVOR_RELU ? logf(fmaxf(0.0f, dot) + 1e-3f) : dot - half;
    }
    if (!a.shifted) return;
    most = warp_max(most);
    if (keys && lane == 0) a.most[n * len + r] = most;
    for (int64_t m = lane; m < a.features && !keys; m += 32)
        logit[m] = favor_lift(logit[m] - most, a.lift);
}

/* Keys lose the largest product of their head. */
template <typename T> static __global__ void favor_shift_kernel(favor<T> a)
{
    int64_t n = blockIdx.x, all = a.h.kv_len * a.features;
    float most = -INFINITY;
    for (int64_t r = threadIdx.x; r < a.h.kv_len; r += blockDim.x)
        most = fmaxf(most, a.most[n * a.h.kv_len + r]);
    most = block_max(most);
    for (int64_t e = threadIdx.x; e < all; e += blockDim.x)
        a.key[n * all + e] = favor_lift(a.key[n * all + e] - most, a.lift);
}

/* ---- all keys alike ------------------------------------------------------------------------- */

/* s_m and c_m of one feature of one head: 64 columns at a time, keys in 4 parts. */
template <typename T> static __global__ void favor_sum_kernel(favor<T> a)
{
    __shared__ float part[SPLIT][WIDE];
    int64_t m = blockIdx.x, n = blockIdx.y, i = n / a.h.heads, head = n % a.h.heads * a.h.dim;
    int tx = threadIdx.x % WIDE, ty = threadIdx.x / WIDE;
    const float *key = a.key + n * a.h.kv_len * a.features + m;
    const T *v = a.h.v + i * a.h.v_step + head;
    float *to = a.sum + (n * a.features + m) * (a.h.dim + 1), top = -INFINITY, total = 0;
    for (int64_t j = threadIdx.x; j < a.h.kv_len; j += WIDE * SPLIT)
        top = fmaxf(top, key[j * a.features]);
    top = block_max(top);
    for (int64_t j = threadIdx.x; j < a.h.kv_len; j += WIDE * SPLIT)
        total += expf(key[j * a.features] - top);
    total = block_sum(total);
    if (threadIdx.x == 0) {
        a.top[n * a.features + m] = top;
        to[a.h.dim] = total;
    }
    for (int64_t c0 = 0; c0 < a.h.dim; c0 += WIDE) {
        float sum = 0;
        for (int64_t j = ty; j < a.h.kv_len && c0 + tx < a.h.dim; j += SPLIT)
            sum += expf(key[j * a.features] - top) * get(v, j * a.h.v_stride + c0 + tx);
        part[ty][tx] = sum;
        __syncthreads();
        if (ty == 0 && c0 + tx < a.h.dim) {
            for (int y = 1; y < SPLIT; y++)
                sum += part[y][tx];
            to[c0 + tx] = sum;
        }
        __syncthreads();
    }
}

/* A query by a warp. */
template <typename T> static __global__ void favor_query_kernel(favor<T> a)
{
    int64_t n = blockIdx.y, t = (int64_t)blockIdx.x * (THREADS / 32) + (threadIdx.x >> 5);
    int64_t i = n / a.h.heads, head = n % a.h.heads * a.h.dim;
    int lane = threadIdx.x & 31;
    if (t >= a.h.q_len) return;
    float *logit = a.query + (n * a.h.q_len + t) * a.features, top = -INFINITY, total = 0;
    const float *sums = a.sum + n * a.features * (a.h.dim + 1);
    for (int64_t m = lane; m < a.features; m += 32) {
        logit[m] += a.top[n * a.features + m];
        top = fmaxf(top, logit[m]);
    }
    top = warp_max(top);
    for (int64_t m = lane; m < a.features; m += 32) {
        logit[m] = expf(logit[m] - top);
        total += logit[m] * sums[m * (a.h.dim + 1) + a.h.dim];
    }
    total = warp_sum(total);
    if (a.eps > 0) total += a.eps * a.divisor * expf(-top);
    __syncwarp();
    T *o = a.h.o + i * a.h.o_step + head + t * a.h.o_stride;
    for (int64_t c = lane; c < a.h.dim; c += 32) {
        float sum = 0;
        for (int64_t m = 0; m < a.features; m++)
            sum += logit[m] * sums[m * (a.h.dim + 1) + c];
        put(o, c, sum / total);
    }
}

/* ---- keys of its own ------------------------------------------------------------------------ */

/* log a_ij by features: the query's logits are in shared memory. */
static __device__ float favor_far(const float *query, const float *key, int64_t features,
                                  float divisor)
{
    float top = -INFINITY, sum = 0;
    for (int64_t m = 0; m < features; m++)
        top = fmaxf(top, query[m] + key[m]);
    for (int64_t m = 0; m < features; m++)
        sum += expf(query[m] + key[m] - top);
    return top + logf(sum) - logf(divisor);
}

template <typename T> static __global__ void favor_near_kernel(favor<T> a)
{
    extern __shared__ float room[];
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, warps = blockDim.x >> 5;
    int64_t n = blockIdx.y, t = (int64_t)blockIdx.x * warps + warp;
    int64_t i = n / a.h.heads, head = n % a.h.heads * a.h.dim;
    if (t >= a.h.q_len) return;
    float *q = room + warp * (2 * a.h.dim + a.features), *logit = q + 2 * a.h.dim;
    const float *from = a.query + (n * a.h.q_len + t) * a.features;
    const T *query = a.h.q + i * a.h.q_step + head + t * a.h.q_stride;
    rows_sums s = {-INFINITY, 0.0f, q + a.h.dim};
    for (int64_t c = lane; c < a.h.dim; c += 32) {
        q[c] = get(query, c);
        s.sum[c] = 0;
    }
    for (int64_t m = lane; m < a.features; m += 32)
        logit[m] = from[m];
    __syncwarp();
    /* the window: st_attend_first and st_attend_keys of stream.h */
    int64_t at = a.q_start + t, keys = a.h.kv_len, end, first = 0;
    if (a.causal && at + 1 < keys) keys = at + 1;
    end = a.causal ? at + 1 : at + (a.window + 1) / 2;
    end = end < a.h.kv_len ? end : a.h.kv_len;
    first = at - (a.causal ? a.window - 1 : a.window / 2);
    const T *k = a.h.k + i * a.h.k_step + head, *v = a.h.v + i * a.h.v_step + head;
    const float *key = a.key + n * a.h.kv_len * a.features;
    rows_attend(
        &s, keys, a.h.dim, v, a.h.v_stride, [&](int64_t j) { return j; },
        [&](int64_t j) {
            float square;
            if (a.window && j >= first && j < end)
                return a.scale * rows_dot(q, k + j * a.h.k_stride, a.h.dim, &square);
            return favor_far(logit, key + j * a.features, a.features, a.divisor);
        });
    if (a.eps > 0) s.total += a.eps * expf(-s.top);
    T *o = a.h.o + i * a.h.o_step + head + t * a.h.o_stride;
    for (int64_t c = lane; c < a.h.dim; c += 32)
        put(o, c, s.sum[c] / s.total);
}

/* ---- the whole ------------------------------------------------------------------------------ */

template <typename T> static favor<T> favor_fill(const st_favor_args *a)
{
    favor<T> f = {};
    f.h = rows_heads_of<T>(&a->h);
    f.features = a->features, f.rows = st_favor_rows(a);
    f.q_start = a->q_start, f.window = a->window;
    f.w = (const T *)a->w.data;
    f.scale = a->scale, f.eps = a->eps, f.lift = a->lift;
    f.root = a->map == ST_FAVOR_RELU ? (float)pow((double)a->h.head_dim, -0.25)
                                     : (float)sqrt((double)a->scale);
    f.divisor = (float)st_favor_divisor(a);
    f.map = a->map, f.causal = a->causal != 0, f.shifted = a->shifted != 0;
    return f;
}

template <typename T> static void favor_of(st_stream *q, const st_favor_args *a)
{
    favor<T> f = favor_fill<T>(a);
    int64_t pairs = a->h.batch * a->h.heads, queries = pairs * a->h.q_len;
    int64_t keys = pairs * a->h.kv_len, sums = pairs * a->features;
    bool tiles = !st_favor_block(a) && tile_fits(f);
    int64_t parts = tiles ? tile_parts(a->h.kv_len) : 0;
    int64_t numbers = (queries + keys) * a->features + keys + sums * (a->h.head_dim + 2);
    numbers += sums * parts * (a->h.head_dim + 2);
    float *work = (float *)st_cuda_work(q, (size_t)numbers * sizeof(float), "favor");
    if (!work || queries == 0) return;
    f.query = work, f.key = f.query + queries * a->features, f.most = f.key + keys * a->features;
    f.top = f.most + keys, f.sum = f.top + sums, f.part = f.sum + sums * (a->h.head_dim + 1);
    if (tiles) {
        tile_favor(q, f, pairs);
        st_cuda_launched(q, "favor");
        return;
    }
    cudaStream_t s = st_cuda_stream(q);
    dim3 by_query(blocks_for(a->h.q_len, THREADS / 32, 1 << 30), (unsigned)pairs);
    dim3 by_key(blocks_for(a->h.kv_len, THREADS / 32, 1 << 30), (unsigned)pairs);
    favor_logits_kernel<T><<<by_query, THREADS, 0, s>>>(f, false);
    favor_logits_kernel<T><<<by_key, THREADS, 0, s>>>(f, true);
    if (f.shifted) favor_shift_kernel<T><<<(unsigned)pairs, 512, 0, s>>>(f);
    if (st_favor_block(a)) {
        int64_t floats = 2 * a->h.head_dim + a->features;
        int warps = rows_warps(floats);
        if (!warps) {
            st_stream_latch(q, ST_EUNSUPPORTED, "favor",
                            "heads or features are too wide for this device");
            return;
        }
        dim3 grid(blocks_for(a->h.q_len, warps, 1 << 30), (unsigned)pairs);
        favor_near_kernel<T><<<grid, 32 * warps, (size_t)(warps * floats) * sizeof(float), s>>>(f);
    } else {
        dim3 grid((unsigned)a->features, (unsigned)pairs);
        favor_sum_kernel<T><<<grid, WIDE * SPLIT, 0, s>>>(f);
        favor_query_kernel<T><<<by_query, THREADS, 0, s>>>(f);
    }
    st_cuda_launched(q, "favor");
}

extern "C" void st_cuda_favor(st_stream *q, const st_favor_args *given)
{
    st_favor_args a = st_favor_resolve(given);
    a.h.q.x.dtype == ST_F32 ? favor_of<float>(q, &a) : favor_of<bf16>(q, &a);
}
