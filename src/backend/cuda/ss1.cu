/* SS1's fold: alone, after a norm, and before a product. Folds as the release has them are
 * fused.h's kernels, others plain ones with a table of shifts. */
/* SPDX-License-Identifier: MIT */
#include "backend/cuda/device.cuh"
#include "backend/cuda/fused.h"
#include "backend/cuda/philox.cuh"

/* A hash of every (fold, super-block, term): the shift, or -1 - shift where the sign is negative.
 */
typedef struct {
    int64_t rows, cols, block, factor, supers, folds, vec, r0;
    uint64_t seed;
    bool signs;
} fold_shape;

static fold_shape fold_shape_of(const st_fold_fwd_args *a)
{
    fold_shape s = {a->rows,  a->cols, a->block, a->factor, a->supers,
                    a->folds, a->vec,  a->r0,    a->seed,   a->signs != 0};
    return s;
}

/* st_fold_hash of ops.h. */
static __global__ void fold_hash_kernel(fold_shape s, int32_t *hash)
{
    int64_t n = s.folds * s.supers * s.factor;
    uint64_t q = (uint64_t)(s.block / s.vec);
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n;
         i += (int64_t)gridDim.x * blockDim.x) {
        if (s.folds <= 1 && !s.signs) {
            uint64_t l = (uint64_t)(i % s.factor);
            hash[i] = (int32_t)((uint64_t)s.r0 % q * ((l + 1) % q) % q * (uint64_t)s.vec);
        } else {
            uint4 b = philox(s.seed, 0x551, (uint64_t)i);
            int32_t shift = (int32_t)(b.x % q * (uint64_t)s.vec);
            hash[i] = s.signs && b.y >> 31 ? -1 - shift : shift;
        }
    }
}

/* The column behind c0 that term t adds to number j of its block. */
static __device__ __forceinline__ int64_t fold_column(const fold_shape &s, int32_t t, int64_t c0,
                                                      int64_t j)
{
    int64_t in = j + (t < 0 ? -1 - t : t);
    return c0 + (in < s.block ? in : in - s.block);
}

/* A thread has a column of z, and takes some of the rows. */
template <typename T>
static __global__ void fold_fwd_kernel(fold_shape s, const int32_t *hash, const T *x, T *z)
{
    int64_t width = s.supers * s.block, at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= s.folds * width) return;
    int64_t h = at / width, k = at % width / s.block, j = at % s.block;
    const int32_t *terms = hash + (h * s.supers + k) * s.factor;
    for (int64_t r = blockIdx.y; r < s.rows; r += gridDim.y) {
        const T *row = x + r * s.cols;
        float sum = 0;
        for (int64_t l = 0, c0 = k * s.factor * s.block; l < s.factor; l++, c0 += s.block) {
            int64_t c = fold_column(s, terms[l], c0, j);
            if (c >= s.cols) continue;
            float v = get(row, c);
            sum += terms[l] < 0 ? -v : v;
        }
        put(z, r * s.folds * width + at, sum);
    }
}

/* A thread has a column of dx. */
template <typename T>
static __global__ void fold_bwd_kernel(fold_shape s, const int32_t *hash, const T *dz, T *dx)
{
    int64_t width = s.supers * s.block, c = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= s.cols) return;
    int64_t k = c / (s.factor * s.block), l = c / s.block % s.factor, in = c % s.block;
    for (int64_t r = blockIdx.y; r < s.rows; r += gridDim.y) {
        float sum = 0;
        for (int64_t h = 0; h < s.folds; h++) {
            int32_t t = hash[(h * s.supers + k) * s.factor + l];
            int64_t j = in - (t < 0 ? -1 - t : t);
            float v = get(dz, (r * s.folds + h) * width + k * s.block + (j < 0 ? j + s.block : j));
            sum += t < 0 ? -v : v;
        }
        put(dx, r * s.cols + c, sum);
    }
}

/* A fold as the release has it, which the kernels of fused.h are for. */
static bool fold_released(const st_fold_fwd_args *a, st_tensor x, st_tensor z)
{
    bool whole = a->cols == a->supers * a->factor * a->block && a->rows > 0;
    return x.dtype == ST_BF16 && whole && a->folds <= 1 && !a->signs && a->block == 32 &&
           a->vec == 8 && aligned16(x.data) && aligned16(z.data);
}

static int32_t *fold_hashes(st_stream *q, const st_fold_fwd_args *a, const char *op)
{
    int64_t n = a->folds * a->supers * a->factor;
    int32_t *hash = (int32_t *)st_cuda_work(q, (size_t)n * sizeof(int32_t), op);
    if (hash && n) {
        fold_hash_kernel<<<blocks_for(n, 128, 64), 128, 0, st_cuda_stream(q)>>>(fold_shape_of(a),
                                                                                hash);
    }
    return hash;
}

extern "C" void st_cuda_fold_fwd(st_stream *q, const st_fold_fwd_args *a)
{
    if (fold_released(a, a->x, a->z)) {
        st_fold_call f = {a->rows,   a->supers * 32, a->cols,         a->x.data,
                          a->z.data, (int)a->factor, (int)(a->r0 % 4)};
        int took = st_fused_fold(&f, st_cuda_stream(q));
        if (took != ST_FUSED_NOT) {
            st_cuda_ok(q, (cudaError_t)took, "fold_fwd");
            return;
        }
    }
    int64_t n = a->folds * a->supers * a->block;
    int32_t *hash = fold_hashes(q, a, "fold_fwd");
    dim3 grid(blocks_for(n, 256, 1 << 30), blocks_for(a->rows, 8, 32768));
    if (!hash || n * a->rows == 0) return;
    if (a->x.dtype == ST_F32)
        fold_fwd_kernel<float><<<grid, 256, 0, st_cuda_stream(q)>>>(
            fold_shape_of(a), hash, (const float *)a->x.data, (float *)a->z.data);
    else
        fold_fwd_kernel<bf16><<<grid, 256, 0, st_cuda_stream(q)>>>(
            fold_shape_of(a), hash, (const bf16 *)a->x.data, (bf16 *)a->z.data);
    st_cuda_launched(q, "fold_fwd");
}

extern "C" void st_cuda_fold_bwd(st_stream *q, const st_fold_bwd_args *a)
{
    if (fold_released(a, a->dx, a->dz)) {
        st_unfold_call f = {a->rows, a->supers * 32, a->dz.data,       NULL, a->dx.data, NULL,
                            NULL,    (int)a->factor, (int)(a->r0 % 4), 0};
        int took = st_fused_unfold(&f, st_cuda_stream(q));
        if (took != ST_FUSED_NOT) {
            st_cuda_ok(q, (cudaError_t)took, "fold_bwd");
            return;
        }
    }
    int32_t *hash = fold_hashes(q, a, "fold_bwd");
    dim3 grid(blocks_for(a->cols, 256, 1 << 30), blocks_for(a->rows, 8, 32768));
    if (!hash || a->rows * a->cols == 0) return;
    if (a->dx.dtype == ST_F32)
        fold_bwd_kernel<float><<<grid, 256, 0, st_cuda_stream(q)>>>(
            fold_shape_of(a), hash, (const float *)a->dz.data, (float *)a->dx.data);
    else
        fold_bwd_kernel<bf16><<<grid, 256, 0, st_cuda_stream(q)>>>(
            fold_shape_of(a), hash, (const bf16 *)a->dz.data, (bf16 *)a->dx.data);
    st_cuda_launched(q, "fold_bwd");
}

/* ---- after a norm --------------------------------------------------------------------------- */

template <typename T> struct norm_fold {
    const T *x, *gain, *bias;
    T *z;
    float *mean, *rstd, eps;
};

/* A warp has a row. */
template <typename T>
static __global__ void norm_fold_kernel(fold_shape s, const int32_t *hash, norm_fold<T> n)
{
    int64_t r = (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    int lane = threadIdx.x & 31;
    float mean = 0, square = 0;
    if (r >= s.rows) return;
    const T *row = n.x + r * s.cols;
    for (int64_t c = lane; c < s.cols; c += 32)
        mean += get(row, c);
    mean = warp_sum(mean) / (float)s.cols;
    for (int64_t c = lane; c < s.cols; c += 32)
        square += (get(row, c) - mean) * (get(row, c) - mean);
    float rstd = 1.0f / sqrtf(warp_sum(square) / (float)s.cols + n.eps);
    int64_t width = s.supers * s.block, all = s.folds * width;
    for (int64_t at = lane; at < all; at += 32) {
        int64_t h = at / width, k = at % width / s.block, j = at % s.block;
        const int32_t *terms = hash + (h * s.supers + k) * s.factor;
        float sum = 0;
        for (int64_t l = 0, c0 = k * s.factor * s.block; l < s.factor; l++, c0 += s.block) {
            int64_t c = fold_column(s, terms[l], c0, j);
            if (c >= s.cols) continue;
            float v = (get(row, c) - mean) * rstd * get(n.gain, c) + get(n.bias, c);
            sum += terms[l] < 0 ? -v : v;
        }
        put(n.z, r * all + at, sum);
    }
    if (lane == 0 && n.mean) n.mean[r] = mean;
    if (lane == 0 && n.rstd) n.rstd[r] = rstd;
}

template <typename T>
static void norm_fold_of(st_stream *q, const st_norm_fold_args *a, const int32_t *hash)
{
    norm_fold<T> n = {};
    n.x = (const T *)a->norm.x.data, n.gain = (const T *)a->norm.gain.data;
    n.bias = (const T *)a->norm.bias.data, n.z = (T *)a->fold.z.data;
    n.mean = (float *)a->norm.mean.data, n.rstd = (float *)a->norm.rstd.data;
    n.eps = a->norm.eps;
    norm_fold_kernel<T><<<blocks_for(a->fold.rows, 4, 1 << 30), 128, 0, st_cuda_stream(q)>>>(
        fold_shape_of(&a->fold), hash, n);
    st_cuda_launched(q, "norm_fold");
}

extern "C" void st_cuda_norm_fold(st_stream *q, const st_norm_fold_args *a)
{
    const st_norm_fwd_args *n = &a->norm;
    const st_fold_fwd_args *f = &a->fold;
    if (f->rows == 0) return;
    if (fold_released(f, n->x, f->z) && aligned16(n->gain.data) && aligned16(n->bias.data)) {
        st_norm_fold_call c = {n->rows,
                               n->width,
                               n->x.data,
                               n->gain.data,
                               n->bias.data,
                               f->z.data,
                               (float *)n->mean.data,
                               (float *)n->rstd.data,
                               n->eps,
                               (int)f->factor,
                               (int)(f->r0 % 4)};
        int took = st_fused_norm_fold(&c, st_cuda_stream(q));
        if (took != ST_FUSED_NOT) {
            st_cuda_ok(q, (cudaError_t)took, "norm_fold");
            return;
        }
    }
    int32_t *hash = fold_hashes(q, f, "norm_fold");
    if (!hash) return;
    n->x.dtype == ST_F32 ? norm_fold_of<float>(q, a, hash) : norm_fold_of<bf16>(q, a, hash);
}

/* dy behind what norm_bwd uses of the same scratch. */
extern "C" void st_cuda_norm_unfold(st_stream *q, const st_norm_unfold_args *a)
{
    st_norm_bwd_args n = a->norm;
    st_fold_bwd_args f = a->fold;
    if (f.rows == 0) return;
    n.dy = f.dz;
    if (fold_released(&f, n.x, f.dz) &&
        st_cuda_norm_bwd_folded(q, &n, (int)f.factor, (int)(f.r0 % 4))) {
        return;
    }
    size_t before = ((size_t)(f.folds * f.supers * f.factor) + 255) / 64 * 256;
    size_t parts = (size_t)(4 * st_cuda_of(q)->sms * 2 * n.width) * sizeof(float);
    if (before < parts) before = parts;
    size_t bytes = (size_t)(n.rows * n.width) * st_dtype_size(n.x.dtype);
    char *work = (char *)st_cuda_work(q, before + bytes, "norm_unfold");
    if (!work) return;
    n.dy = f.dx = st_view2(work + before, n.x.dtype, n.rows, n.width);
    st_cuda_fold_bwd(q, &f);
    st_cuda_norm_bwd(q, &n);
}

/* ---- before a product ----------------------------------------------------------------------- */

enum { LINEAR_ROWS = 8192 }; /* from which on both are one launch */

static int linear_fused(st_stream *q, const st_fold_linear_args *a)
{
    const st_fold_fwd_args *f = &a->fold;
    if (f->rows < LINEAR_ROWS || f->rows > ST_CUDA_COUNTED || !fold_released(f, f->x, f->z) ||
        st_cuda_of(q)->arch != 90) {
        return ST_FUSED_NOT;
    }
    st_fused_args p = {};
    p.rows = f->rows, p.groups = 1, p.n = a->n, p.k = f->supers * 32;
    p.ldx = f->cols, p.ldw = p.k, p.ldy = a->n;
    p.x = f->x.data, p.w = a->w.data, p.bias = a->bias.data, p.y = a->y.data;
    p.z = f->z.data, p.done = st_cuda_of(q)->counts;
    p.in_factor = (int)f->factor, p.in_hash = (int)(f->r0 % 4);
    return st_fused_product(&p, st_cuda_stream(q));
}

extern "C" void st_cuda_fold_linear(st_stream *q, const st_fold_linear_args *a)
{
    int took = linear_fused(q, a);
    if (took != ST_FUSED_NOT) {
        st_cuda_ok(q, (cudaError_t)took, "fold_linear");
        return;
    }
    st_gemm_args g = {};
    g.m = a->fold.rows, g.n = a->n, g.k = a->fold.supers * a->fold.block, g.tb = 1;
    g.a = a->fold.z, g.b = a->w, g.c = a->y, g.bias = a->bias;
    st_cuda_fold_fwd(q, &a->fold);
    st_cuda_gemm(q, &g);
}
