/* Attention through positive features where all keys are seen alike, for at most 128 columns and
 * products: three small matrix products a head, each by blocks of 64 rows in shared memory,
 * float32. Keys are summed in parts of KEYS, which are added up in order. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CUDA_FAVOR_TILES_CUH
#define ST_CUDA_FAVOR_TILES_CUH

enum { TILE_ROWS = 64, TILE_STEP = TILE_ROWS + 4, TILE_KEYS = 128, TILE_MOST = 128 };

static inline int64_t tile_parts(int64_t keys)
{
    return (keys + TILE_KEYS - 1) / TILE_KEYS;
}

/* Exponentials and logarithms as exact as T. */
template <typename T> static __device__ __forceinline__ float tile_exp(float x)
{
    return sizeof(T) == 2 ? __expf(x) : expf(x);
}
template <typename T> static __device__ __forceinline__ float tile_lift(float x, float lift)
{
    if (sizeof(T) == 4) return favor_lift(x, lift);
    return lift > 0 ? __logf(__expf(x) + lift) : x;
}

/* c = a' b of 64 rows and 16 N columns: a (depth, 64), rows TILE_STEP apart, b (depth, 16 N), rows
 * `step` apart. A thread has rows 8 (i / 16) .. + 7 and columns i % 16 + 16 n. */
template <int N>
static __device__ __forceinline__ void tile_product(const float *a, const float *b, int step,
                                                    int depth, float (&c)[8][N])
{
    int x = threadIdx.x % 16, y = threadIdx.x / 16;
#pragma unroll
    for (int i = 0; i < 8; i++) {
#pragma unroll
        for (int n = 0; n < N; n++)
            c[i][n] = 0;
    }
    for (int k = 0; k < depth; k++) {
        float4 low = *(const float4 *)(a + k * TILE_STEP + 8 * y);
        float4 high = *(const float4 *)(a + k * TILE_STEP + 8 * y + 4);
        float r[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
        for (int n = 0; n < N; n++) {
            float v = b[k * step + x + 16 * n];
#pragma unroll
            for (int i = 0; i < 8; i++)
                c[i][n] = fmaf(r[i], v, c[i][n]);
        }
    }
}

/* Logits of 64 rows; of queries shifted, of keys with their largest product beside. */
template <int N, typename T> static __global__ void tile_logits_kernel(favor<T> a, bool keys)
{
    extern __shared__ __align__(16) float room[];
    __shared__ float half[2][TILE_ROWS];
    int64_t len = keys ? a.h.kv_len : a.h.q_len, n = blockIdx.y, i = n / a.h.heads;
    int64_t first = (int64_t)blockIdx.x * TILE_ROWS, stride = keys ? a.h.k_stride : a.h.q_stride;
    const T *from = (keys ? a.h.k + i * a.h.k_step : a.h.q + i * a.h.q_step) +
                    n % a.h.heads * a.h.dim + first * stride;
    int dim = (int)a.h.dim, products = (int)a.rows,
        rows = (int)min((int64_t)TILE_ROWS, len - first);
    float *x = room, *w = room + dim * TILE_STEP, dot[8][N];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, step = 16 * N + 1;
    for (int r = warp; r < TILE_ROWS; r += THREADS / 32)
        for (int c = lane; c < dim; c += 32)
            x[c * TILE_STEP + r] = r < rows ? get(from, r * stride + c) * a.root : 0;
    for (int m = warp; m < 16 * N; m += THREADS / 32)
        for (int c = lane; c < dim; c += 32)
            w[c * step + m] = m < products ? get(a.w, m * dim + c) : 0;
    __syncthreads();
    int half_of = threadIdx.x / TILE_ROWS, mine = threadIdx.x % TILE_ROWS;
    float square = 0;
    for (int c = half_of; c < dim; c += 2)
        square += x[c * TILE_STEP + mine] * x[c * TILE_STEP + mine];
    half[half_of][mine] = square * 0.5f;
    tile_product<N>(x, w, step, dim, dot);
    __syncthreads();
    bool both = a.features > a.rows;
#pragma unroll
    for (int k = 0; k < 8; k++) {
        int row = threadIdx.x / 16 * 8 + k;
        float most = -INFINITY;
#pragma unroll
        for (int m = 0; m < N; m++) {
            if ((int)threadIdx.x % 16 + 16 * m >= products) continue;
            most = fmaxf(most, both ? fabsf(dot[k][m]) : dot[k][m]);
        }
        for (int o = 8; o; o /= 2)
            most = fmaxf(most, __shfl_xor_sync(~0u, most, o));
        if (row >= rows) continue;
        float *to = (keys ? a.key : a.query) + (n * len + first + row) * a.features;
        float less = half[0][row] + half[1][row] + (a.shifted && !keys ? most : 0);
#pragma unroll
        for (int m = 0; m < N; m++) {
            int at = threadIdx.x % 16 + 16 * m;
            float d = dot[k][m];
            if (at >= products) continue;
            if (a.map == ST_FAVOR_RELU) {
                to[at] = logf(fmaxf(0.0f, d) + 1e-3f);
                continue;
            }
            to[at] = a.shifted && !keys ? tile_lift<T>(d - less, a.lift) : d - less;
            if (!both) continue;
            to[at + products] = a.shifted && !keys ? tile_lift<T>(-d - less, a.lift) : -d - less;
        }
        if (a.shifted && keys && threadIdx.x % 16 == 0) a.most[n * len + first + row] = most;
    }
}

/* The largest of a head's keys takes the place of its first. */
template <typename T> static __global__ void tile_most_kernel(favor<T> a)
{
    float *most = a.most + blockIdx.x * a.h.kv_len, top = -INFINITY;
    for (int64_t r = threadIdx.x; r < a.h.kv_len; r += blockDim.x)
        top = fmaxf(top, most[r]);
    top = block_max(top);
    if (threadIdx.x == 0) most[0] = top;
}

/* Of TILE_KEYS keys and 64 features: their largest logits, and the sums of s_m with these. */
template <int N, typename T> static __global__ void tile_sum_kernel(favor<T> a, int parts)
{
    extern __shared__ __align__(16) float room[];
    __shared__ float top[2][TILE_ROWS];
    int64_t n = blockIdx.y, i = n / a.h.heads, first = (int64_t)blockIdx.x * TILE_KEYS;
    int dim = (int)a.h.dim, m0 = (int)blockIdx.z * TILE_ROWS;
    int some = (int)min((int64_t)TILE_ROWS, a.features - m0);
    int keys = (int)min((int64_t)TILE_KEYS, a.h.kv_len - first);
    float *e = room, *v = room + TILE_KEYS * TILE_STEP, sum[8][N];
    const float *key = a.key + (n * a.h.kv_len + first) * a.features + m0;
    const T *value = a.h.v + i * a.h.v_step + n % a.h.heads * dim + first * a.h.v_stride;
    float most = a.shifted ? a.most[n * a.h.kv_len] : 0;
    for (int t = threadIdx.x; t < TILE_KEYS * TILE_ROWS; t += THREADS) {
        int j = t / TILE_ROWS, m = t % TILE_ROWS;
        float x = j < keys && m < some ? key[j * a.features + m] : -INFINITY;
        if (a.shifted && j < keys && m < some) x = tile_lift<T>(x - most, a.lift);
        e[j * TILE_STEP + m] = x;
    }
    for (int t = threadIdx.x; t < TILE_KEYS * 16 * N; t += THREADS) {
        int j = t / (16 * N), c = t % (16 * N);
        v[t] = j < keys && c < dim ? get(value, j * a.h.v_stride + c) : 0;
    }
    __syncthreads();
    float *to = a.part + ((n * parts + blockIdx.x) * a.features + m0) * (dim + 2);
    int part = threadIdx.x / TILE_ROWS, m = threadIdx.x % TILE_ROWS;
    float *mine = e + m, total = 0, t = -INFINITY;
    for (int j = part; j < keys; j += 2)
        t = fmaxf(t, mine[j * TILE_STEP]);
    top[part][m] = t;
    __syncthreads();
    t = fmaxf(top[0][m], top[1][m]);
    t = t == -INFINITY ? 0 : t;
    for (int j = part; j < TILE_KEYS; j += 2) {
        float x = tile_exp<T>(mine[j * TILE_STEP] - t);
        mine[j * TILE_STEP] = x;
        total += x;
    }
    __syncthreads();
    top[part][m] = total;
    __syncthreads();
    if (part == 0 && m < some) {
        to[m * (dim + 2) + dim] = top[0][m] + top[1][m];
        to[m * (dim + 2) + dim + 1] = t;
    }
    tile_product<N>(e, v, 16 * N, keys, sum);
#pragma unroll
    for (int k = 0; k < 8; k++) {
        int row = threadIdx.x / 16 * 8 + k;
#pragma unroll
        for (int c = 0; c < N; c++) {
            int at = threadIdx.x % 16 + 16 * c;
            if (row < some && at < dim) to[row * (dim + 2) + at] = sum[k][c];
        }
    }
}

/* The parts of a head, in order, as favor.sum and favor.top have them. */
template <typename T> static __global__ void tile_join_kernel(favor<T> a, int parts)
{
    int64_t n = blockIdx.y, wide = a.h.dim + 1;
    int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, m = at / wide, c = at % wide;
    if (m >= a.features) return;
    const float *part = a.part + (n * parts * a.features + m) * (wide + 1);
    int64_t step = a.features * (wide + 1);
    float top = -INFINITY, sum = 0;
    for (int p = 0; p < parts; p++)
        top = fmaxf(top, part[p * step + wide]);
    for (int p = 0; p < parts; p++)
        sum += part[p * step + c] * tile_exp<T>(part[p * step + wide] - top);
    a.sum[(n * a.features + m) * wide + c] = sum;
    if (c == 0) a.top[n * a.features + m] = top;
}

/* 64 queries. */
template <int N, typename T> static __global__ void tile_query_kernel(favor<T> a)
{
    extern __shared__ __align__(16) float room[];
    __shared__ float by[2][TILE_ROWS];
    int64_t n = blockIdx.y, i = n / a.h.heads, first = (int64_t)blockIdx.x * TILE_ROWS;
    int dim = (int)a.h.dim, features = (int)a.features;
    int rows = (int)min((int64_t)TILE_ROWS, a.h.q_len - first);
    float *p = room, *s = room + features * TILE_STEP, *weight = s + features * 16 * N;
    float out[8][N];
    const float *logit = a.query + (n * a.h.q_len + first) * features;
    const float *sums = a.sum + n * features * (dim + 1);
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (int r = warp; r < TILE_ROWS; r += THREADS / 32)
        for (int m = lane; m < features; m += 32)
            p[m * TILE_STEP + r] = r < rows ? logit[r * features + m] + a.top[n * features + m] : 0;
    for (int m = warp; m < features; m += THREADS / 32) {
        for (int c = lane; c < 16 * N; c += 32)
            s[m * 16 * N + c] = c < dim ? sums[m * (dim + 1) + c] : 0;
        if (lane == 0) weight[m] = sums[m * (dim + 1) + dim];
    }
    __syncthreads();
    int part = threadIdx.x / TILE_ROWS;
    float top = -INFINITY, total = 0, *mine = p + threadIdx.x % TILE_ROWS;
    for (int m = 0; m < features; m++)
        top = fmaxf(top, mine[m * TILE_STEP]);
    __syncthreads();
    for (int m = part; m < features; m += 2) {
        mine[m * TILE_STEP] = tile_exp<T>(mine[m * TILE_STEP] - top);
        total += mine[m * TILE_STEP] * weight[m];
    }
    if (a.eps > 0 && part == 0) total += a.eps * a.divisor * tile_exp<T>(-top);
    by[part][threadIdx.x % TILE_ROWS] = total;
    __syncthreads();
    tile_product<N>(p, s, 16 * N, features, out);
    T *o = a.h.o + i * a.h.o_step + n % a.h.heads * dim + first * a.h.o_stride;
#pragma unroll
    for (int k = 0; k < 8; k++) {
        int row = threadIdx.x / 16 * 8 + k;
#pragma unroll
        for (int c = 0; c < N; c++) {
            int at = threadIdx.x % 16 + 16 * c;
            if (row < rows && at < dim)
                put(o, row * a.h.o_stride + at, out[k][c] / (by[0][row] + by[1][row]));
        }
    }
}

/* ---- the whole ------------------------------------------------------------------------------ */

template <typename T> static bool tile_fits(const favor<T> &f)
{
    return f.rows > 0 && f.rows <= TILE_MOST && f.features <= TILE_MOST && f.h.dim <= TILE_MOST &&
           f.map != ST_FAVOR_ELU;
}

template <typename K> static bool tile_room(st_stream *q, K kernel, size_t floats)
{
    cudaError_t e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         (int)(floats * sizeof(float)));
    return st_cuda_ok(q, e, "favor");
}

template <int N, int M, typename T>
static void tile_run(st_stream *q, const favor<T> &f, int64_t pairs)
{
    cudaStream_t s = st_cuda_stream(q);
    int parts = (int)tile_parts(f.h.kv_len);
    size_t dim = (size_t)f.h.dim, features = (size_t)f.features;
    size_t logits = dim * (TILE_STEP + 16 * M + 1), sum = TILE_KEYS * (TILE_STEP + 16 * N);
    size_t query = features * (TILE_STEP + 16 * N + 1);
    dim3 by_query(blocks_for(f.h.q_len, TILE_ROWS, 1 << 30), (unsigned)pairs);
    dim3 by_key(blocks_for(f.h.kv_len, TILE_ROWS, 1 << 30), (unsigned)pairs);
    dim3 by_part((unsigned)parts, (unsigned)pairs, blocks_for(f.features, TILE_ROWS, 2));
    dim3 by_sum(blocks_for(f.features * (f.h.dim + 1), 256, 1 << 30), (unsigned)pairs);
    auto one = tile_logits_kernel<M, T>;
    auto two = tile_sum_kernel<N, T>;
    auto three = tile_query_kernel<N, T>;
    if (!tile_room(q, one, logits) || !tile_room(q, two, sum) || !tile_room(q, three, query))
        return;
    one<<<by_query, THREADS, logits * sizeof(float), s>>>(f, false);
    one<<<by_key, THREADS, logits * sizeof(float), s>>>(f, true);
    if (f.shifted) tile_most_kernel<T><<<(unsigned)pairs, 512, 0, s>>>(f);
    two<<<by_part, THREADS, sum * sizeof(float), s>>>(f, parts);
    tile_join_kernel<T><<<by_sum, 256, 0, s>>>(f, parts);
    three<<<by_query, THREADS, query * sizeof(float), s>>>(f);
}

template <typename T> static void tile_favor(st_stream *q, const favor<T> &f, int64_t pairs)
{
    bool wide = f.h.dim > 64, many = f.rows > 64;
    if (wide && many)
        tile_run<8, 8>(q, f, pairs);
    else if (wide)
        tile_run<8, 4>(q, f, pairs);
    else if (many)
        tile_run<4, 8>(q, f, pairs);
    else
        tile_run<4, 4>(q, f, pairs);
}

#endif
