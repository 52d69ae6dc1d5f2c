/* The kernel of few.h. */
/* SPDX-License-Identifier: MIT */
#include "backend/cuda/chain.cuh"
#include "backend/cuda/few.h"
#include "backend/cuda/pack.cuh"
#include "backend/cuda/pointwise.cuh"

enum { WARPS = 4, THREADS = 32 * WARPS, SHARED = 48 << 10 };

/* Blocks of a multiprocessor at a time: what more rows of W there are, they share. */
template <typename T, int P, int R> struct few_blocks {
    enum { COUNT = P * sizeof(T) > 8 || R > 1 ? 4 : 6 };
};

/* As the kernel sees st_few_args. */
template <typename T, typename C> struct few {
    int64_t n, k, ldw, step_w, step_x, ldx, ldy, step_y, step_bias;
    const T *x, *w, *bias, *gain, *shift;
    T *normed, *folded;
    float *mean, *rstd;
    float eps;
    int span, cols; /* numbers of a row in shared memory at the end; before the fold */
    int block, factor, turn,
        folded_width; /* turn: pieces of 8 that a term is turned more than the last */
    C *y;
    const C *add;
    C *sum;
    T *h;
    int gelu;
};

/* Eight numbers of W as they come, 16 bytes at a time. */
template <typename T> struct piece {
    uint4 u[sizeof(T) / 2];
};
template <typename T> static __device__ __forceinline__ piece<T> piece_of(const T *x)
{
    piece<T> p;
#pragma unroll
    for (int i = 0; i < (int)sizeof(T) / 2; i++)
        p.u[i] = __ldg((const uint4 *)x + i);
    return p;
}
static __device__ __forceinline__ eight piece_numbers(const piece<bf16> &p)
{
    return get8((const bf16 *)p.u, 0);
}
static __device__ __forceinline__ eight piece_numbers(const piece<float> &p)
{
    return get8((const float *)p.u, 0);
}

/* P pieces from column `from` on of each of R rows of W: those of n from row j on, or its last. */
template <int P, int R, typename T>
static __device__ __forceinline__ void few_fetch(piece<T> (&v)[R][P], const T *w, int64_t ldw,
                                                 int64_t j, int64_t n, int64_t from, int64_t k)
{
#pragma unroll
    for (int r = 0; r < R; r++) {
        const T *row = w + (j + r < n ? j + r : n - 1) * ldw;
#pragma unroll
        for (int p = 0; p < P; p++) {
            int64_t c = from + (p * 32 + (threadIdx.x & 31)) * 8;
            if (c < k) v[r][p] = piece_of(row + c);
        }
    }
}

/* Sum over the block, the same in every thread; `part`: WARPS numbers that nobody else uses. */
static __device__ __forceinline__ float few_sum(float v, float *part)
{
    v = warp_sum(v);
    if ((threadIdx.x & 31) == 0) part[threadIdx.x >> 5] = v;
    __syncthreads();
    float sum = 0;
#pragma unroll
    for (int i = 0; i < WARPS; i++)
        sum += part[i];
    return sum;
}

/* Row r of x, normed, into shared memory. A thread has PIECES pieces of 8 columns. */
enum { PIECES = 2, ACROSS = 8 * THREADS };
template <typename T, typename C>
static __device__ void few_norm(const few<T, C> &f, int r, T *row, const piece<T> (&gain)[PIECES],
                                const piece<T> (&shift)[PIECES], bool keep)
{
    __shared__ float part[2][WARPS];
    const T *x = f.x + r * f.ldx;
    pack<8> p[PIECES] = {};
    float sum = 0, square = 0;
#pragma unroll
    for (int i = 0; i < PIECES; i++) {
        int j = threadIdx.x * 8 + i * ACROSS;
        if (j < f.cols) p[i] = load<8>(x, j);
    }
#pragma unroll
    for (int i = 0; i < PIECES; i++)
#pragma unroll
        for (int e = 0; e < 8; e++)
            sum += p[i].v[e];
    float m = few_sum(sum, part[0]) / (float)f.cols;
#pragma unroll
    for (int i = 0; i < PIECES; i++) {
        if ((int)threadIdx.x * 8 + i * ACROSS >= f.cols) continue;
#pragma unroll
        for (int e = 0; e < 8; e++)
            square += (p[i].v[e] - m) * (p[i].v[e] - m);
    }
    float s = 1.0f / sqrtf(few_sum(square, part[1]) / (float)f.cols + f.eps);
#pragma unroll
    for (int i = 0; i < PIECES; i++) {
        int j = threadIdx.x * 8 + i * ACROSS;
        if (j >= f.cols) continue;
        eight g = piece_numbers(gain[i]), b = piece_numbers(shift[i]);
#pragma unroll
        for (int e = 0; e < 8; e++)
            p[i].v[e] = (p[i].v[e] - m) * s * g.v[e] + b.v[e];
        store<8>(row, j, p[i]);
        if (keep) store<8>(f.normed, r * f.cols + j, p[i]);
    }
    if (!keep || threadIdx.x) return;
    if (f.mean) f.mean[r] = m;
    if (f.rstd) f.rstd[r] = s;
}

/* The rows of x into shared memory as they are; loads of a thread are on their way together. */
template <typename T, typename C, int M>
static __device__ __forceinline__ void few_copy(const few<T, C> &f, int rows, int64_t from,
                                                T *shared)
{
    enum { AT_ONCE = 4 };
    for (int r = 0; r < rows; r++) {
        const T *x = f.x + r * f.ldx + from;
        T *row = shared + r * f.cols;
        for (int j0 = threadIdx.x * 8; j0 < f.cols; j0 += ACROSS * AT_ONCE) {
            piece<T> p[AT_ONCE];
#pragma unroll
            for (int i = 0; i < AT_ONCE; i++)
                if (j0 + i * ACROSS < f.cols) p[i] = *(const piece<T> *)(x + j0 + i * ACROSS);
#pragma unroll
            for (int i = 0; i < AT_ONCE; i++)
                if (j0 + i * ACROSS < f.cols) *(piece<T> *)(row + j0 + i * ACROSS) = p[i];
        }
    }
}

/* z of a row from its shared `row`: 8 numbers a thread, which lie together in each of their terms.
 */
template <typename T, typename C>
static __device__ void few_fold(const few<T, C> &f, int r, const T *row, T *z, bool keep)
{
    int turns = f.block / 8;
    for (int u = threadIdx.x; u < f.folded_width / 8; u += THREADS) {
        int k = u / turns, j = u % turns, turn = 0;
        pack<8> sum = {};
        for (int l = 0; l < f.factor; l++) {
            turn += f.turn;
            if (turn >= turns) turn -= turns;
            int at = j + turn < turns ? j + turn : j + turn - turns;
            int c = (k * f.factor + l) * f.block + at * 8;
            if (c >= f.cols) continue;
            pack<8> more = load<8>(row, c);
#pragma unroll
            for (int e = 0; e < 8; e++)
                sum.v[e] += more.v[e];
        }
        store<8>(z, u * 8, sum);
        if (keep) store<8>(f.folded, (int64_t)r * f.folded_width + u * 8, sum);
    }
}

/* The first operand's rows into shared memory: where row 0 of them is. */
template <typename T, typename C, int M>
static __device__ const T *few_rows(const few<T, C> &f, int rows, T *shared,
                                    const piece<T> (&gain)[PIECES], const piece<T> (&shift)[PIECES])
{
    bool keep = blockIdx.x == 0 && blockIdx.y == 0;
    T *z = shared + M * f.cols;
    if (!f.gain) few_copy<T, C, M>(f, rows, f.block ? 0 : blockIdx.y * f.step_x, shared);
    for (int r = 0; r < rows && f.gain; r++) {
        if (r) __syncthreads();
        few_norm(f, r, shared + r * f.cols, gain, shift, keep);
    }
    __syncthreads();
    if (!f.block) return f.gain ? shared + blockIdx.y * f.step_x : shared;
    for (int r = 0; r < rows; r++)
        few_fold(f, r, shared + r * f.cols, z + r * f.folded_width, keep);
    __syncthreads();
    return z + blockIdx.y * f.step_x;
}

static __device__ __forceinline__ float few_gelu(float x, int kind, float)
{
    if (kind == ST_FUSED_ERF) return 0.5f * x * erfcf(-x * 0.70710678118654752f);
    float u = 0.7978845608028654f * (x + 0.044715f * x * x * x);
    return x / (1.0f + expf(-2.0f * u));
}
static __device__ __forceinline__ float few_gelu(float x, int kind, bf16)
{
    return kind == ST_FUSED_TANH ? st_gelu<ST_FUSED_TANH>(x) : st_gelu<ST_FUSED_ERF>(x);
}
static __device__ __forceinline__ float few_rounded(float x, float)
{
    return x;
}
static __device__ __forceinline__ float few_rounded(float x, bf16)
{
    return __bfloat162float(__float2bfloat16_rn(x));
}

/* A number of y, `at`, whose product with the bias is v; `more` is what is added to it. */
template <typename T, typename C>
static __device__ __forceinline__ void few_put(const few<T, C> &f, int64_t at, float v, float more)
{
    v = few_rounded(v, C());
    if (f.gelu) {
        if (f.h) put(f.h, at, v);
        put(f.y, at, few_gelu(v, f.gelu, C()));
        return;
    }
    if ((const C *)f.sum != f.y) put(f.y, at, v);
    if (f.add) put(f.sum, at, v + more);
}

/* sum[r][m] += the pieces in v of row r times those of row m of x. */
template <int P, int R, int M, typename T>
static __device__ __forceinline__ void few_add(float (&sum)[R][M], const piece<T> (&v)[R][P],
                                               const T *x, int64_t span, int64_t from, int64_t k)
{
#pragma unroll
    for (int p = 0; p < P; p++) {
        int64_t c = from + (p * 32 + (threadIdx.x & 31)) * 8;
        if (c >= k) break;
#pragma unroll
        for (int m = 0; m < M; m++) {
            eight e = get8(x + m * span, c);
#pragma unroll
            for (int r = 0; r < R; r++) {
                eight a = piece_numbers(v[r][p]);
#pragma unroll
                for (int i = 0; i < 8; i++)
                    sum[r][m] = fmaf(a.v[i], e.v[i], sum[r][m]);
            }
        }
    }
}

/* Block x of y: R rows of W at a time by each warp, group y. P: pieces of 256 columns in flight for
 * a row. Lane r M + m puts row m's number of the warp's row r of W. */
template <typename T, typename C, int M, int P, int R>
static __global__ void __launch_bounds__(THREADS, few_blocks<T, P, R>::COUNT)
    few_kernel(const __grid_constant__ few<T, C> f, int rows)
{
    extern __shared__ uint4 few_shared[];
    int lane = threadIdx.x & 31, mine = lane / M;
    int64_t j = ((int64_t)blockIdx.x * WARPS + (threadIdx.x >> 5)) * R;
    const T *w = f.w + blockIdx.y * f.step_w, *bias = f.bias + blockIdx.y * f.step_bias;
    piece<T> v[R][P], gain[PIECES], shift[PIECES];
    float b = 0, more = 0;
    bool puts = mine < R && lane % M < rows;
    if (j < f.n) few_fetch<P, R>(v, w, f.ldw, j, f.n, 0, f.k);
    if (puts && j + mine < f.n && f.bias) b = get(bias, j + mine);
#pragma unroll
    for (int i = 0; i < PIECES && f.gain; i++) {
        int c = threadIdx.x * 8 + i * ACROSS;
        if (c < f.cols) gain[i] = piece_of(f.gain + c), shift[i] = piece_of(f.shift + c);
    }
    chain_next();
    chain_wait();
    int64_t at = blockIdx.y * f.step_y + lane % M * f.ldy + mine;
    if (puts && j + mine < f.n && f.add) more = get(f.add, at + j);
    const T *x = few_rows<T, C, M>(f, rows, (T *)few_shared, gain, shift);
    while (j < f.n) {
        float sum[R][M] = {}, added = b, also = more, out = 0;
        int64_t now = j;
        for (int64_t from = 0; from < f.k; from += 256 * P) {
            if (from) few_fetch<P, R>(v, w, f.ldw, j, f.n, from, f.k);
            few_add<P, R, M>(sum, v, x, f.span, from, f.k);
        }
        j += (int64_t)gridDim.x * WARPS * R;
        if (j < f.n) few_fetch<P, R>(v, w, f.ldw, j, f.n, 0, f.k);
        if (puts && j + mine < f.n && f.bias) b = get(bias, j + mine);
        if (puts && j + mine < f.n && f.add) more = get(f.add, at + j);
#pragma unroll
        for (int i = 0; i < R * M; i++) {
            float s = warp_sum(sum[i / M][i % M]);
            if (lane == i) out = s;
        }
        if (puts && now + mine < f.n) few_put(f, at + now, out + added, also);
    }
}

/* ---- launches ------------------------------------------------------------------------------- */

static int64_t few_cols(const st_few_args *a)
{
    if (a->norm.width) return a->norm.width;
    return a->fold.block ? a->fold.cols : a->k;
}
static int64_t few_width(const st_fold_fwd_args *f)
{
    return f->supers * f->block;
}
static int few_most(int rows)
{
    return rows == 1 ? 1 : ST_FEW_ROWS;
}
static size_t few_bytes(const st_few_args *a)
{
    int64_t numbers = few_cols(a) + (a->fold.block ? few_width(&a->fold) : 0);
    return (size_t)(few_most(a->rows) * numbers) * st_dtype_size(a->dtype);
}

extern "C" bool st_few_takes(const st_few_args *a)
{
    const void *p[] = {a->x,           a->w,          a->norm.gain.data, a->norm.bias.data,
                       a->norm.y.data, a->fold.z.data};
    for (int i = 0; i < 6; i++)
        if (!aligned16(p[i])) return false;
    const st_fold_fwd_args *f = &a->fold;
    if (f->block && (f->folds > 1 || f->signs || f->vec % 8 || f->block % 8)) return false;
    if (a->norm.width > PIECES * ACROSS) return false;
    int64_t unit = a->k | a->ldw | a->step_w | a->step_x | a->ldx | few_cols(a);
    return a->rows >= 1 && a->rows <= ST_FEW_ROWS && a->k > 0 && unit % 8 == 0 &&
           a->groups <= 65535 && a->n < (int64_t)1 << 31 && few_bytes(a) <= SHARED;
}

template <typename T, typename C> static few<T, C> few_of(const st_few_args *a)
{
    few<T, C> f = {};
    const st_norm_fwd_args *n = &a->norm;
    const st_fold_fwd_args *d = &a->fold;
    f.n = a->n, f.k = a->k, f.ldw = a->ldw, f.step_w = a->step_w;
    f.step_x = a->step_x, f.ldx = a->ldx, f.ldy = a->ldy, f.step_y = a->step_y;
    f.step_bias = a->step_bias;
    f.x = (const T *)a->x, f.w = (const T *)a->w, f.bias = (const T *)a->bias;
    f.gain = (const T *)n->gain.data, f.shift = (const T *)n->bias.data, f.eps = n->eps;
    f.normed = (T *)n->y.data, f.mean = (float *)n->mean.data, f.rstd = (float *)n->rstd.data;
    f.folded = (T *)d->z.data, f.block = (int)d->block, f.factor = (int)d->factor;
    f.folded_width = (int)few_width(d), f.cols = (int)few_cols(a);
    if (f.block) f.turn = (int)(d->r0 % (d->block / d->vec) * d->vec / 8);
    f.span = f.block ? f.folded_width : f.cols;
    f.y = (C *)a->y, f.add = (const C *)a->add, f.sum = (C *)a->sum;
    f.h = (T *)a->h, f.gelu = a->gelu;
    return f;
}

template <typename T, typename C, int M, int P, int R>
static cudaError_t few_launch(const st_few_args *a, int arch, int sms, cudaStream_t s)
{
    int64_t blocks = (a->n + WARPS * R - 1) / (WARPS * R),
            most = (int64_t)sms * few_blocks<T, P, R>::COUNT;
    int64_t each = a->groups > 1 ? (most + a->groups - 1) / a->groups : most;
    dim3 grid((unsigned)(blocks < each ? blocks : each), (unsigned)a->groups);
    return chain_launch(few_kernel<T, C, M, P, R>, grid, THREADS, few_bytes(a), 0,
                        a->early ? arch : 0, s, few_of<T, C>(a), a->rows);
}

/* More rows of W for a warp pay where a row is short. */
template <typename T, typename C>
static cudaError_t few_sized(const st_few_args *a, int arch, int sms, cudaStream_t s)
{
    enum { WORDS = sizeof(T) / 2 };
    bool many = a->n * a->groups >= (int64_t)sms * WARPS * 4;
    if (a->rows > 1) return few_launch<T, C, ST_FEW_ROWS, 3, 1>(a, arch, sms, s);
    if (a->k <= 256 && many) return few_launch<T, C, 1, 1, 4>(a, arch, sms, s);
    if (a->k <= 768) return few_launch<T, C, 1, 3, 1>(a, arch, sms, s);
    return few_launch<T, C, 1, 12 / WORDS, 1>(a, arch, sms, s);
}

extern "C" cudaError_t st_few(const st_few_args *a, int arch, int sms, cudaStream_t s)
{
    if (a->dtype == ST_F32) return few_sized<float, float>(a, arch, sms, s);
    return a->wide ? few_sized<bf16, float>(a, arch, sms, s)
                   : few_sized<bf16, bf16>(a, arch, sms, s);
}
