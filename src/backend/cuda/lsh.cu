/* Orders of rows by hashes, whose sums are double precision in index order so that they are the
 * same on every device, and attention among rows of like hashes. */
/* SPDX-License-Identifier: MIT */
#include "backend/cuda/rows.cuh"

enum { THREADS = 128 };

/* ---- orders --------------------------------------------------------------------------------- */

template <typename T> struct lsh_order {
    rows_heads<T> h;
    int64_t hashes, buckets, total, sorted;
    const float *w;
    int32_t *order;
    double *hash, *most; /* (pairs, hashes, total), (pairs, 2) */
    bool mirrored;
};

/* First number of row r of head n in q or k. */
template <typename T>
static __device__ __forceinline__ const T *lsh_row(const rows_heads<T> &h, bool key, int64_t n,
                                                   int64_t r)
{
    int64_t i = n / h.heads, head = n % h.heads * h.dim;
    return key ? h.k + i * h.k_step + head + r * h.k_stride
               : h.q + i * h.q_step + head + r * h.q_stride;
}

/* Products of two float32 are exact in double precision, so that a fused multiply-add rounds as the
 * two operations do. */
template <typename T> static __device__ double lsh_square(const T *x, int64_t dim)
{
    double sum = 0;
    for (int64_t c = 0; c < dim; c++)
        sum += (double)get(x, c) * (double)get(x, c);
    return sum;
}

/* most[n][side] = the largest |x|^2 of a head's queries or keys; NaN does not count. */
template <typename T> static __global__ void lsh_most_kernel(lsh_order<T> a)
{
    __shared__ double part[THREADS];
    int64_t n = blockIdx.x, key = blockIdx.y, len = key ? a.h.kv_len : a.h.q_len;
    double most = 0;
    for (int64_t r = threadIdx.x; r < len; r += THREADS)
        most = fmax(most, lsh_square(lsh_row(a.h, key != 0, n, r), a.h.dim));
    part[threadIdx.x] = most;
    __syncthreads();
    for (int i = 0; i < THREADS && threadIdx.x == 0; i++)
        most = fmax(most, part[i]);
    if (threadIdx.x == 0) a.most[2 * n + key] = most;
}

/* Rows from q_len on are zeros. */
template <typename T>
static __device__ double lsh_dot(const lsh_order<T> &a, const float *w, const T *x)
{
    double sum = 0;
    for (int64_t c = 0; c < a.h.dim && x; c++)
        sum += (double)w[c] * (double)get(x, c);
    return sum;
}

template <typename T>
static __device__ double lsh_bucket(const lsh_order<T> &a, const float *w, const T *x)
{
    int64_t half = a.buckets / 2, high_at = 0, low_at = half;
    double high = -INFINITY, low = -INFINITY;
    for (int64_t b = 0; b < half; b++) {
        double dot = lsh_dot(a, w + b * a.h.dim, x);
        if (dot > high) high = dot, high_at = b;
        if (-dot > low) low = -dot, low_at = half + b;
    }
    return (double)(high >= low ? high_at : low_at);
}

template <typename T> static __global__ void lsh_hash_kernel(lsh_order<T> a)
{
    int64_t r = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, at = blockIdx.y;
    int64_t n = at / a.hashes, h = at % a.hashes;
    if (r >= a.sorted) return;
    const T *x = r < a.h.q_len ? lsh_row(a.h, false, n, r) : NULL;
    double hash;
    if (a.buckets) {
        hash = lsh_bucket(a, a.w + h * (a.buckets / 2) * a.h.dim, x);
    } else {
        const float *w = a.w + h * (a.h.dim + 2);
        double most = a.most[2 * n] + a.most[2 * n + 1];
        double far = (double)(float)sqrt(most - (x ? lsh_square(x, a.h.dim) : 0.0));
        double last = (double)w[a.h.dim + (a.mirrored ? 1 : 0)];
        hash = (double)(float)__dadd_rn(lsh_dot(a, w, x), __dmul_rn(last, far));
    }
    a.hash[at * a.total + r] = hash;
}

/* Hash x of row i comes before hash y of row j; NaN after all numbers. */
static __device__ __forceinline__ bool lsh_before(double x, int64_t i, double y, int64_t j)
{
    if (x != x || y != y) return (x != x) == (y != y) ? i < j : y != y;
    return x < y || (x == y && i < j);
}

/* A row's place is the number of rows before it. */
template <typename T> static __global__ void lsh_place_kernel(lsh_order<T> a)
{
    __shared__ double part[THREADS];
    int64_t r = (int64_t)blockIdx.x * THREADS + threadIdx.x, at = blockIdx.y, place = 0;
    const double *hash = a.hash + at * a.total;
    double own = r < a.sorted ? hash[r] : 0;
    for (int64_t s0 = 0; s0 < a.sorted; s0 += THREADS) {
        if (s0 + threadIdx.x < a.sorted) part[threadIdx.x] = hash[s0 + threadIdx.x];
        __syncthreads();
        for (int64_t s = s0; s < s0 + THREADS && s < a.sorted; s++)
            place += lsh_before(part[s - s0], s, own, r);
        __syncthreads();
    }
    if (r < a.total) a.order[at * a.total + (r < a.sorted ? place : r)] = (int32_t)r;
}

template <typename T> static void lsh_order_of(st_stream *q, const st_lsh_order_args *a)
{
    lsh_order<T> o = {};
    o.h = rows_heads_of<T>(&a->h);
    o.hashes = a->hashes, o.buckets = a->buckets, o.total = a->total, o.sorted = a->sorted;
    o.w = (const float *)a->w.data, o.order = (int32_t *)a->order.data;
    o.mirrored = a->mirrored != 0;
    int64_t pairs = a->h.batch * a->h.heads, all = pairs * a->hashes;
    o.hash = (double *)st_cuda_work(q, (size_t)(all * a->total + 2 * pairs) * sizeof(double),
                                    "lsh_order");
    if (!o.hash || all * a->total == 0) return;
    o.most = o.hash + all * a->total;
    cudaStream_t s = st_cuda_stream(q);
    dim3 grid(blocks_for(a->total, THREADS, 1 << 30), (unsigned)all);
    if (!a->buckets) lsh_most_kernel<T><<<dim3((unsigned)pairs, 2), THREADS, 0, s>>>(o);
    lsh_hash_kernel<T><<<grid, THREADS, 0, s>>>(o);
    lsh_place_kernel<T><<<grid, THREADS, 0, s>>>(o);
    st_cuda_launched(q, "lsh_order");
}

extern "C" void st_cuda_lsh_order(st_stream *q, const st_lsh_order_args *given)
{
    st_lsh_order_args a = st_lsh_order_resolve(given);
    a.h.q.x.dtype == ST_F32 ? lsh_order_of<float>(q, &a) : lsh_order_of<bf16>(q, &a);
}

/* ---- attention ------------------------------------------------------------------------------ */

template <typename T> struct lsh_attend {
    rows_heads<T> h;
    int64_t hashes, clusters, q_cluster, k_cluster, keys; /* keys: that a query meets */
    const int32_t *q_order, *k_order;
    float *work, scale; /* work: top, total, sums of each query, between hashes */
    bool shared;
};

/* Hash `hash` of the queries, a warp each; they are where the order says. */
template <typename T> static __global__ void lsh_attend_kernel(lsh_attend<T> a, int64_t hash)
{
    extern __shared__ float room[];
    const rows_heads<T> &h = a.h;
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, warps = blockDim.x >> 5;
    int64_t place = (int64_t)blockIdx.x * warps + warp, n = blockIdx.y;
    int64_t total = a.clusters * a.q_cluster, i = n / h.heads, head = n % h.heads * h.dim;
    if (place >= total) return;
    const int32_t *orders = a.q_order + (n * a.hashes + hash) * total;
    const int32_t *keys = a.k_order + (n * a.hashes + hash) * a.clusters * a.k_cluster;
    int64_t t = orders[place], c0 = place / a.q_cluster;
    if (t >= h.q_len) return;
    float *q = room + (int64_t)warp * 2 * h.dim, *kept = a.work + (n * h.q_len + t) * (h.dim + 2);
    rows_sums s = {-INFINITY, 0.0f, q + h.dim};
    if (hash > 0) s.top = kept[0], s.total = kept[1];
    const T *query = h.q + i * h.q_step + head + t * h.q_stride;
    for (int64_t c = lane; c < h.dim; c += 32) {
        q[c] = get(query, c);
        s.sum[c] = hash > 0 ? kept[2 + c] : 0.0f;
    }
    __syncwarp();
    const T *k = h.k + i * h.k_step + head, *v = h.v + i * h.v_step + head;
    rows_attend(
        &s, a.keys, h.dim, v, h.v_stride,
        [&](int64_t at) {
            int64_t before = (c0 + a.clusters - 1) % a.clusters - 1;
            int64_t from = (at < a.k_cluster ? c0 : before) * a.k_cluster + at;
            return keys[from] < h.kv_len ? (int64_t)keys[from] : -1;
        },
        [&](int64_t j) {
            float square, dot = rows_dot(q, k + j * h.k_stride, h.dim, &square);
            if (!a.shared) return a.scale * dot;
            return j == t ? -5e4f : a.scale * dot / fmaxf(sqrtf(square), 1e-12f);
        });
    bool last = hash + 1 == a.hashes;
    T *o = h.o + i * h.o_step + head + t * h.o_stride;
    for (int64_t c = lane; c < h.dim; c += 32) {
        if (last)
            put(o, c, s.total > 0 || s.total != s.total ? s.sum[c] / s.total : 0.0f);
        else
            kept[2 + c] = s.sum[c];
    }
    if (!last && lane == 0) kept[0] = s.top, kept[1] = s.total;
}

template <typename T> static void lsh_attend_of(st_stream *q, const st_lsh_attend_args *a)
{
    lsh_attend<T> x = {};
    x.h = rows_heads_of<T>(&a->h);
    x.hashes = a->hashes, x.clusters = a->clusters;
    x.q_cluster = a->q_cluster, x.k_cluster = a->k_cluster, x.keys = st_lsh_keys(a);
    x.q_order = (const int32_t *)a->q_order.data, x.k_order = (const int32_t *)a->k_order.data;
    x.work = (float *)a->work.data, x.scale = a->scale, x.shared = a->shared != 0;
    int warps = rows_warps(2 * a->h.head_dim);
    if (!warps) {
        st_stream_latch(q, ST_EUNSUPPORTED, "lsh_attend", "heads are too wide for this device");
        return;
    }
    dim3 grid(blocks_for(a->clusters * a->q_cluster, warps, 1 << 30),
              (unsigned)(a->h.batch * a->h.heads));
    size_t shared = (size_t)(warps * 2 * a->h.head_dim) * sizeof(float);
    for (int64_t hash = 0; hash < a->hashes; hash++)
        lsh_attend_kernel<T><<<grid, 32 * warps, shared, st_cuda_stream(q)>>>(x, hash);
    st_cuda_launched(q, "lsh_attend");
}

extern "C" void st_cuda_lsh_attend(st_stream *q, const st_lsh_attend_args *given)
{
    st_lsh_attend_args a = st_lsh_attend_resolve(given);
    a.h.q.x.dtype == ST_F32 ? lsh_attend_of<float>(q, &a) : lsh_attend_of<bf16>(q, &a);
}
