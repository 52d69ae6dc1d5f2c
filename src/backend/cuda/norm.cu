/* Layer normalisation: y = (x - mean) rstd gain + bias. With n = (x - mean) rstd and d = dy gain:
 * dx = rstd (d - mean(d) - n mean(d n)). A warp takes a row. */
/* SPDX-License-Identifier: MIT */
#include "backend/cuda/pack.cuh"
#include "backend/cuda/pair.h"
#include "backend/cuda/pointwise.cuh"

enum { WARPS = 8, THREADS = 32 * WARPS };

/* Calls f(j, pack) for every N numbers of a row that this lane sees. */
template <int N, typename T, typename F>
static __device__ __forceinline__ void norm_row(const T *x, int64_t at, int64_t width, F f)
{
    for (int64_t j = (threadIdx.x & 31) * N; j < width; j += 32 * N)
        f(j, load<N>(x, at + j));
}

template <int N, typename T>
static __device__ void norm_moments(const T *x, int64_t at, int64_t width, float eps, float *mean,
                                    float *rstd)
{
    float sum = 0, square = 0;
    norm_row<N>(x, at, width, [&](int64_t, pack<N> p) {
#pragma unroll
        for (int k = 0; k < N; k++)
            sum += p.v[k];
    });
    float m = warp_sum(sum) / (float)width;
    norm_row<N>(x, at, width, [&](int64_t, pack<N> p) {
#pragma unroll
        for (int k = 0; k < N; k++)
            square += (p.v[k] - m) * (p.v[k] - m);
    });
    *mean = m;
    *rstd = 1.0f / sqrtf(warp_sum(square) / (float)width + eps);
}

template <int N, typename T>
static __global__ void norm_fwd_kernel(int64_t rows, int64_t width, float eps, const T *x,
                                       const T *gain, const T *bias, T *y, float *mean, float *rstd)
{
    int64_t r = (int64_t)blockIdx.x * WARPS + (threadIdx.x >> 5), at = r * width;
    float m, s;
    if (r >= rows) return;
    norm_moments<N>(x, at, width, eps, &m, &s);
    norm_row<N>(x, at, width, [&](int64_t j, pack<N> p) {
        pack<N> g = load<N>(gain, j), b = load<N>(bias, j);
#pragma unroll
        for (int k = 0; k < N; k++)
            p.v[k] = (p.v[k] - m) * s * g.v[k] + b.v[k];
        store<N>(y, at + j, p);
    });
    if (threadIdx.x % 32) return;
    if (mean) mean[r] = m;
    if (rstd) rstd[r] = s;
}

/* Widths of at most 256 C, aligned: a row is read once and stays in registers. */
template <int C, typename T>
static __global__ void norm_fwd_rows_kernel(int64_t rows, int64_t width, float eps, const T *x,
                                            const T *gain, const T *bias, T *y, float *mean,
                                            float *rstd)
{
    int64_t r = (int64_t)blockIdx.x * WARPS + (threadIdx.x >> 5), at = r * width;
    int lane = threadIdx.x & 31;
    pack<8> p[C];
    float sum = 0, square = 0;
    if (r >= rows) return;
#pragma unroll
    for (int c = 0; c < C; c++) {
        int64_t j = (lane + 32 * c) * 8;
        if (j >= width) break;
        p[c] = load<8>(x, at + j);
#pragma unroll
        for (int k = 0; k < 8; k++)
            sum += p[c].v[k];
    }
    float m = warp_sum(sum) / (float)width;
#pragma unroll
    for (int c = 0; c < C; c++) {
        if ((lane + 32 * c) * 8 >= width) break;
#pragma unroll
        for (int k = 0; k < 8; k++)
            square += (p[c].v[k] - m) * (p[c].v[k] - m);
    }
    float s = 1.0f / sqrtf(warp_sum(square) / (float)width + eps);
#pragma unroll
    for (int c = 0; c < C; c++) {
        int64_t j = (lane + 32 * c) * 8;
        if (j >= width) break;
        pack<8> g = load<8>(gain, j), b = load<8>(bias, j);
#pragma unroll
        for (int k = 0; k < 8; k++)
            p[c].v[k] = (p[c].v[k] - m) * s * g.v[k] + b.v[k];
        store<8>(y, at + j, p[c]);
    }
    if (lane == 0 && mean) mean[r] = m;
    if (lane == 0 && rstd) rstd[r] = s;
}

/* 8 numbers at a time: all rows begin aligned. */
static bool norm_wide(const st_norm_fwd_args *a)
{
    const void *p[] = {a->x.data, a->y.data, a->gain.data, a->bias.data, a->dy.data, a->dx.data};
    for (int i = 0; i < 6; i++)
        if (!aligned16(p[i])) return false;
    return a->width % 8 == 0;
}

template <typename T> static void norm_fwd_of(st_stream *q, const st_norm_fwd_args *a)
{
    void (*kernel)(int64_t, int64_t, float, const T *, const T *, const T *, T *, float *,
                   float *) = norm_fwd_kernel<1, T>;
    if (norm_wide(a)) {
        kernel = a->width <= 256    ? norm_fwd_rows_kernel<1, T>
                 : a->width <= 512  ? norm_fwd_rows_kernel<2, T>
                 : a->width <= 768  ? norm_fwd_rows_kernel<3, T>
                 : a->width <= 1024 ? norm_fwd_rows_kernel<4, T>
                                    : norm_fwd_kernel<8, T>;
    }
    kernel<<<blocks_for(a->rows, WARPS, 1 << 30), THREADS, 0, st_cuda_stream(q)>>>(
        a->rows, a->width, a->eps, (const T *)a->x.data, (const T *)a->gain.data,
        (const T *)a->bias.data, (T *)a->y.data, (float *)a->mean.data, (float *)a->rstd.data);
    st_cuda_launched(q, "norm_fwd");
}

extern "C" void st_cuda_norm_fwd(st_stream *q, const st_norm_fwd_args *a)
{
    if (a->rows == 0) return;
    if (a->rms)
        st_cuda_rms_fwd(q, a);
    else
        a->x.dtype == ST_F32 ? norm_fwd_of<float>(q, a) : norm_fwd_of<bf16>(q, a);
}

/* ---- backward ------------------------------------------------------------------------------- */

/* What the backward kernels take. */
template <typename T> struct norm_back {
    int64_t rows, width;
    const T *x, *dy, *gain;
    const float *mean, *rstd;
    T *dx;
    bool accumulate;
    int64_t from;     /* numbers of a row of dy */
    int factor, hash; /* over 1: dy is the transpose of the fold of such rows (fused.h) */
};

/* Where in a row of dy the numbers j .. j + 7 of dx's come from. */
template <typename T>
static __device__ __forceinline__ int64_t norm_from(const norm_back<T> &b, int64_t j)
{
    if (b.factor <= 1) return j;
    int unit = (int)j / 8, l = unit / 4 % b.factor, shift = st_fold_shift(b.hash, l);
    return ((int64_t)unit / 4 / b.factor * 4 + (unit + 4 - shift) % 4) * 8;
}

/* dx = rstd (d - sum_d - n sum_dn) of N numbers. */
template <int N, typename T>
static __device__ __forceinline__ void norm_dx(const norm_back<T> &b, int64_t at, pack<N> n,
                                               pack<N> d, float rstd, float sum_d, float sum_dn)
{
#pragma unroll
    for (int k = 0; k < N; k++)
        d.v[k] = rstd * (d.v[k] - sum_d - n.v[k] * sum_dn);
    if (b.accumulate) {
        pack<N> old = load<N>(b.dx, at);
#pragma unroll
        for (int k = 0; k < N; k++)
            d.v[k] += old.v[k];
    }
    store<N>(b.dx, at, d);
}

/* n and d of N numbers of row r. */
template <int N, typename T>
static __device__ __forceinline__ void norm_terms(const norm_back<T> &b, int64_t r, int64_t j,
                                                  pack<N> *n, pack<N> *dy, pack<N> *d)
{
    float mean = b.mean[r], rstd = b.rstd[r];
    pack<N> g = load<N>(b.gain, j);
    *n = load<N>(b.x, r * b.width + j);
    *dy = load<N>(b.dy, r * b.width + j);
#pragma unroll
    for (int k = 0; k < N; k++) {
        n->v[k] = (n->v[k] - mean) * rstd;
        d->v[k] = dy->v[k] * g.v[k];
    }
}

/* Any width: dx alone. */
template <int N, typename T> static __global__ void norm_dx_kernel(norm_back<T> b)
{
    int64_t r = (int64_t)blockIdx.x * WARPS + (threadIdx.x >> 5);
    float sum_d = 0, sum_dn = 0;
    pack<N> n, dy, d;
    if (r >= b.rows) return;
    for (int64_t j = (threadIdx.x & 31) * N; j < b.width; j += 32 * N) {
        norm_terms<N>(b, r, j, &n, &dy, &d);
#pragma unroll
        for (int k = 0; k < N; k++) {
            sum_d += d.v[k];
            sum_dn += d.v[k] * n.v[k];
        }
    }
    sum_d = warp_sum(sum_d) / (float)b.width;
    sum_dn = warp_sum(sum_dn) / (float)b.width;
    for (int64_t j = (threadIdx.x & 31) * N; j < b.width; j += 32 * N) {
        norm_terms<N>(b, r, j, &n, &dy, &d);
        norm_dx<N>(b, r * b.width + j, n, d, b.rstd[r], sum_d, sum_dn);
    }
}

/* Any width: part[blockIdx.y] = sums over its rows of dy n and of dy, a thread a column. */
template <typename T> static __global__ void norm_sums_kernel(norm_back<T> b, float *part)
{
    int64_t j = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    float gain = 0, bias = 0;
    if (j >= b.width) return;
    for (int64_t r = blockIdx.y; r < b.rows; r += gridDim.y) {
        float dy = get(b.dy, r * b.width + j);
        gain += dy * (get(b.x, r * b.width + j) - b.mean[r]) * b.rstd[r];
        bias += dy;
    }
    part[(2 * (int64_t)blockIdx.y + 0) * b.width + j] = gain;
    part[(2 * (int64_t)blockIdx.y + 1) * b.width + j] = bias;
}

enum { GROUPS = 4, SUMS = 3 }; /* rows that a block has at the same time; sums over rows */

/* A block's sums over its rows, added up by rows in order, into its part (SUMS, width). */
static __device__ void norm_bwd_part(float *sums, int64_t width, int64_t j,
                                     const pack<8> (&sum)[SUMS], float *part)
{
    for (int y = 0; y < GROUPS; y++) {
#pragma unroll
        for (int k = 0; k < 8 * SUMS; k++) {
            if (y != (int)threadIdx.y || j >= width) break;
            float *to = sums + k / 8 * width + j + k % 8;
            *to = (y ? *to : 0.0f) + sum[k / 8].v[k % 8];
        }
        __syncthreads();
    }
    for (int64_t i = threadIdx.y * blockDim.x + threadIdx.x; i < SUMS * width;
         i += blockDim.x * GROUPS)
        part[blockIdx.x * SUMS * width + i] = sums[i];
}

/* Eight numbers of x, dy and what dx has, as they come. */
template <typename T> struct norm_raw {
    uint4 x[sizeof(T) / 2], dy[sizeof(T) / 2], old[sizeof(T) / 2];
    float mean, rstd;
    __device__ __forceinline__ void fetch(const norm_back<T> &b, int64_t r, int64_t j, int64_t from,
                                          bool in)
    {
        if (!in || r >= b.rows) return;
        int64_t at = r * b.width + j;
        mean = b.mean[r], rstd = b.rstd[r];
#pragma unroll
        for (int i = 0; i < (int)sizeof(T) / 2; i++) {
            x[i] = *((const uint4 *)(b.x + at) + i);
            dy[i] = *((const uint4 *)(b.dy + r * b.from + from) + i);
            if (b.accumulate) old[i] = *((const uint4 *)(b.dx + at) + i);
        }
    }
};

/* Widths of at most 1024, aligned: both at once, rows read once, the next ones while these are
 * worked on. A row belongs to as many warps as have 8 numbers a thread; the block's y counts rows.
 */
template <typename T>
static __global__ void __maxnreg__(80) norm_bwd_kernel(norm_back<T> b, float *part)
{
    extern __shared__ float sums[];           /* (SUMS, width) */
    __shared__ float shared[2][GROUPS][2][4]; /* by turn, row, sum, warp */
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5, turn = 0;
    int64_t j = (int64_t)threadIdx.x * 8, all = (int64_t)gridDim.x * GROUPS, from = norm_from(b, j);
    int64_t base = (int64_t)blockIdx.x * GROUPS, r = base + threadIdx.y;
    bool in = j < b.width;
    pack<8> sum[SUMS] = {}, g = {};
    norm_raw<T> raw = {};
    if (in) g = load<8>(b.gain, j);
    raw.fetch(b, r, j, from, in);
    for (; base < b.rows; base += all, r += all, turn ^= 1) {
        bool here = in && r < b.rows;
        pack<8> n = load<8>((const T *)raw.x, 0), d = load<8>((const T *)raw.dy, 0), old = {};
        float sum_d = 0, sum_dn = 0, rstd = here ? raw.rstd : 0.0f, mean = raw.mean;
        if (b.accumulate) old = load<8>((const T *)raw.old, 0);
        raw.fetch(b, r + all, j, from, in);
#pragma unroll
        for (int k = 0; k < 8 && here; k++) {
            n.v[k] = (n.v[k] - mean) * rstd;
            sum[0].v[k] += d.v[k] * n.v[k];
            sum[1].v[k] += d.v[k];
            d.v[k] *= g.v[k];
            sum_d += d.v[k];
            sum_dn += d.v[k] * n.v[k];
        }
        sum_d = warp_sum(sum_d);
        sum_dn = warp_sum(sum_dn);
        if (lane == 0) {
            shared[turn][threadIdx.y][0][warp] = sum_d;
            shared[turn][threadIdx.y][1][warp] = sum_dn;
        }
        __syncthreads();
        sum_d = sum_dn = 0;
        for (int w = 0; w < warps; w++) {
            sum_d += shared[turn][threadIdx.y][0][w];
            sum_dn += shared[turn][threadIdx.y][1][w];
        }
        sum_d /= (float)b.width;
        sum_dn /= (float)b.width;
#pragma unroll
        for (int k = 0; k < 8 && here; k++) {
            d.v[k] = rstd * (d.v[k] - sum_d - n.v[k] * sum_dn) + old.v[k];
            sum[2].v[k] += d.v[k];
        }
        if (here) store<8>(b.dx, r * b.width + j, d);
    }
    norm_bwd_part(sums, b.width, j, sum, part);
}

/* dgain, dbias and more (each (width), or NULL) += the parts, 32 threads a column: a part is a wait
 * for memory. */
static __global__ void norm_finish_kernel(int parts, int64_t all, int64_t width, const float *part,
                                          float *dgain, float *dbias, float *more)
{
    int64_t j = (int64_t)blockIdx.x * 32 + threadIdx.x;
    float sum = column_sum(parts, all, j, part);
    if (threadIdx.y || j >= all) return;
    float *to = j < width ? dgain : j < 2 * width ? dbias : more;
    if (to) to[j % width] += sum;
}

template <typename T>
static void norm_bwd_any(st_stream *q, const norm_back<T> &b, bool wide, unsigned parts,
                         float *part)
{
    dim3 grid(blocks_for(b.width, 128, 1 << 30), parts);
    norm_sums_kernel<T><<<grid, 128, 0, st_cuda_stream(q)>>>(b, part);
    void (*kernel)(norm_back<T>) = wide ? norm_dx_kernel<8, T> : norm_dx_kernel<1, T>;
    kernel<<<blocks_for(b.rows, WARPS, 1 << 30), THREADS, 0, st_cuda_stream(q)>>>(b);
}

/* more: NULL, or the sum of dx's rows beside, if the kernel makes it. */
template <typename T>
static void norm_bwd_of(st_stream *q, const st_norm_bwd_args *a, int factor, int hash,
                        const st_bias_grad_args *more)
{
    norm_back<T> b = {};
    b.factor = factor, b.hash = hash, b.from = a->width / factor;
    b.rows = a->rows, b.width = a->width;
    b.x = (const T *)a->x.data, b.dy = (const T *)a->dy.data, b.gain = (const T *)a->gain.data;
    b.mean = (const float *)a->mean.data, b.rstd = (const float *)a->rstd.data;
    b.dx = (T *)a->dx.data, b.accumulate = a->accumulate != 0;
    bool wide = norm_wide(a), once = wide && a->width <= 1024;
    unsigned parts = blocks_for(a->rows, GROUPS, (once ? 2 : 4) * st_cuda_of(q)->sms);
    int64_t all = (once ? SUMS : 2) * a->width;
    float *part = (float *)st_cuda_work(q, (size_t)(parts * all) * sizeof(float), "norm_bwd");
    if (!part) return;
    cudaStream_t s = st_cuda_stream(q);
    dim3 block((unsigned)((a->width + 255) / 256 * 32), GROUPS);
    if (once)
        norm_bwd_kernel<T><<<parts, block, (size_t)all * sizeof(float), s>>>(b, part);
    else
        norm_bwd_any<T>(q, b, wide, parts, part);
    if (a->dgain.data || a->dbias.data || more) {
        norm_finish_kernel<<<blocks_for(all, 32, 1 << 30), dim3(32, 32), 0, s>>>(
            (int)parts, all, a->width, part, (float *)a->dgain.data, (float *)a->dbias.data,
            more && once ? (float *)more->dbias.data : NULL);
    }
    st_cuda_launched(q, "norm_bwd");
    if (more && !once) st_cuda_bias_grad(q, more);
}

extern "C" void st_cuda_norm_bwd_bias(st_stream *q, const st_norm_bwd_args *a,
                                      const st_bias_grad_args *more)
{
    if (a->rows == 0) return;
    if (a->rms) {
        st_cuda_rms_bwd(q, a);
        if (more) st_cuda_bias_grad(q, more);
    } else {
        a->x.dtype == ST_F32 ? norm_bwd_of<float>(q, a, 1, 0, more)
                             : norm_bwd_of<bf16>(q, a, 1, 0, more);
    }
}

extern "C" void st_cuda_norm_bwd(st_stream *q, const st_norm_bwd_args *a)
{
    st_cuda_norm_bwd_bias(q, a, NULL);
}

extern "C" bool st_cuda_norm_bwd_folded(st_stream *q, const st_norm_bwd_args *a, int factor,
                                        int hash)
{
    if (a->x.dtype != ST_BF16 || a->width > 1024 || !norm_wide(a)) return false;
    norm_bwd_of<bf16>(q, a, factor, hash, NULL);
    return true;
}
