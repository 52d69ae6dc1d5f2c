/* Moving numbers about: permutation, copies with casts, gate, SS1's fold. */
/* SPDX-License-Identifier: MIT */
#include "backend/cuda/fused.h"
#include "backend/cuda/pack.cuh"

/* ---- permutation ---------------------------------------------------------------------------- */

enum { TILE = 32 };

/* y[r][j][i] = x[r][i][j], in tiles through shared memory. */
template <typename T>
static __global__ void permute_tiles_kernel(int64_t p, int64_t q, const T *x, T *y, bool accumulate)
{
    __shared__ float tile[TILE][TILE + 1];
    int64_t i0 = (int64_t)blockIdx.y * TILE, j0 = (int64_t)blockIdx.x * TILE;
    int64_t base = (int64_t)blockIdx.z * p * q;
    for (int k = threadIdx.y; k < TILE; k += 8) {
        int64_t i = i0 + k, j = j0 + threadIdx.x;
        if (i < p && j < q) tile[k][threadIdx.x] = get(x, base + i * q + j);
    }
    __syncthreads();
    for (int k = threadIdx.y; k < TILE; k += 8) {
        int64_t j = j0 + k, i = i0 + threadIdx.x, at = base + j * p + i;
        if (i >= p || j >= q) continue;
        float v = tile[threadIdx.x][k];
        put(y, at, accumulate ? get(y, at) + v : v);
    }
}

template <typename T>
static __global__ void permute_kernel(int64_t n, int64_t p, int64_t q, int64_t inner, const T *x,
                                      T *y, bool accumulate)
{
    for (int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; at < n;
         at += (int64_t)gridDim.x * blockDim.x) {
        int64_t c = at % inner, i = at / inner % p, j = at / inner / p % q;
        int64_t r = at / inner / p / q;
        float v = get(x, ((r * p + i) * q + j) * inner + c);
        put(y, at, accumulate ? get(y, at) + v : v);
    }
}

template <typename T> static void permute_of(st_stream *q, const st_permute_args *a)
{
    int64_t inner = st_or(a->inner, 1), n = a->rows * a->p * a->q * inner;
    const T *x = (const T *)a->x.data;
    T *y = (T *)a->y.data;
    cudaStream_t s = st_cuda_stream(q);
    dim3 grid(blocks_for(a->q, TILE, 1 << 30), blocks_for(a->p, TILE, 1 << 30), (unsigned)a->rows);
    if (inner == 1 && grid.y < 65536 && a->rows < 65536)
        permute_tiles_kernel<T>
            <<<grid, dim3(TILE, 8), 0, s>>>(a->p, a->q, x, y, a->accumulate != 0);
    else
        permute_kernel<T><<<blocks_for(n, 256, 1 << 20), 256, 0, s>>>(n, a->p, a->q, inner, x, y,
                                                                      a->accumulate != 0);
    st_cuda_launched(q, "permute");
}

extern "C" void st_cuda_permute(st_stream *q, const st_permute_args *a)
{
    if (a->rows * a->p * a->q == 0) return;
    a->x.dtype == ST_F32 ? permute_of<float>(q, a) : permute_of<bf16>(q, a);
}

/* ---- copies --------------------------------------------------------------------------------- */

template <typename X, typename Y> struct copy_flat {
    const X *x;
    Y *y;
    bool accumulate;
    template <int N> __device__ void run(int64_t i) const
    {
        pack<N> p = load<N>(x, i);
        if (accumulate) {
            pack<N> old = load<N>(y, i);
#pragma unroll
            for (int j = 0; j < N; j++)
                p.v[j] += old.v[j];
        }
        store<N>(y, i, p);
    }
};

/* Rows at some distance. */
template <typename X, typename Y> struct copy_rows {
    int64_t cols, pad, ldx, ldy, width; /* width: packs in a row of y */
    const X *x;
    Y *y;
    bool accumulate;
    template <int N> __device__ void run(int64_t i) const
    {
        for (int k = 0; k < N; k++) {
            int64_t r = (i + k) / pad, c = (i + k) % pad;
            float v = c < cols ? get(x, r * ldx + c) : 0.0f;
            put(y, r * ldy + c, accumulate ? get(y, r * ldy + c) + v : v);
        }
    }
};

/* Aligned rows whose lengths are multiples of 8. */
template <typename X, typename Y>
static __global__ void copy_wide_kernel(int64_t n, copy_rows<X, Y> a)
{
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n;
         i += (int64_t)gridDim.x * blockDim.x) {
        int64_t r = i / a.width, c = i % a.width * 8;
        pack<8> p = {};
        if (c < a.cols) p = load<8>(a.x, r * a.ldx + c);
        if (a.accumulate) {
            pack<8> old = load<8>(a.y, r * a.ldy + c);
#pragma unroll
            for (int j = 0; j < 8; j++)
                p.v[j] += old.v[j];
        }
        store<8>(a.y, r * a.ldy + c, p);
    }
}

template <typename X, typename Y> static void copy_of(st_stream *q, const st_copy_args *given)
{
    st_copy_args a = st_copy_resolve(given);
    const X *x = (const X *)a.x.data;
    Y *y = (Y *)a.y.data;
    bool aligned = aligned16(x) && aligned16(y), flat = a.cols == a.pad && a.ldx == a.cols;
    if (a.rows == 1 && a.cols == a.pad) flat = true;
    if (flat && (a.rows == 1 || a.ldy == a.cols)) {
        copy_flat<X, Y> f = {x, y, a.accumulate != 0};
        each(q, "copy", a.rows * a.cols, aligned, f);
        return;
    }
    copy_rows<X, Y> f = {a.cols, a.pad, a.ldx, a.ldy, a.pad / 8, x, y, a.accumulate != 0};
    if (aligned && (a.cols | a.pad | a.ldx | a.ldy) % 8 == 0) {
        int64_t n = a.rows * f.width;
        copy_wide_kernel<X, Y><<<blocks_for(n, 256, 1 << 20), 256, 0, st_cuda_stream(q)>>>(n, f);
        st_cuda_launched(q, "copy");
        return;
    }
    each(q, "copy", a.rows * a.pad, false, f);
}

extern "C" void st_cuda_copy(st_stream *q, const st_copy_args *a)
{
    bool x = a->x.dtype == ST_F32, y = a->y.dtype == ST_F32;
    if (x && y)
        copy_of<float, float>(q, a);
    else if (x)
        copy_of<float, bf16>(q, a);
    else if (y)
        copy_of<bf16, float>(q, a);
    else
        copy_of<bf16, bf16>(q, a);
}

/* ---- gate ----------------------------------------------------------------------------------- */

static __device__ __forceinline__ float gate_sigmoid(float z)
{
    float e = expf(-fabsf(z));
    return (z < 0 ? e : 1.0f) / (1.0f + e);
}

template <typename T>
static __global__ void gate_fwd_kernel(int64_t width, const T *s, const T *l, const T *z, T *y)
{
    int64_t r = blockIdx.x, at = r * width;
    float v = get(z, r), g = gate_sigmoid(v), rest = gate_sigmoid(-v);
    for (int64_t j = threadIdx.x; j < width; j += blockDim.x)
        put(y, at + j, rest * get(s, at + j) + g * get(l, at + j));
}

template <typename T> static void gate_fwd_of(st_stream *q, const st_gate_fwd_args *a)
{
    gate_fwd_kernel<T><<<(unsigned)a->rows, 128, 0, st_cuda_stream(q)>>>(
        a->width, (const T *)a->s.data, (const T *)a->l.data, (const T *)a->z.data, (T *)a->y.data);
    st_cuda_launched(q, "gate_fwd");
}

extern "C" void st_cuda_gate_fwd(st_stream *q, const st_gate_fwd_args *a)
{
    if (a->rows == 0) return;
    a->s.dtype == ST_F32 ? gate_fwd_of<float>(q, a) : gate_fwd_of<bf16>(q, a);
}

/* ds may be dy's memory: each number is read before it is written, by the thread that writes it. */
template <typename T>
static __global__ void gate_bwd_kernel(int64_t width, const T *s, const T *l, const T *z,
                                       const T *dy, T *ds, T *dl, T *dz)
{
    int64_t r = blockIdx.x, at = r * width;
    float v = get(z, r), g = gate_sigmoid(v), rest = gate_sigmoid(-v), sum = 0;
    for (int64_t j = threadIdx.x; j < width; j += blockDim.x) {
        float d = get(dy, at + j);
        sum += d * (get(l, at + j) - get(s, at + j));
        put(ds, at + j, rest * d);
        put(dl, at + j, g * d);
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) put(dz, r, g * rest * sum);
}

template <typename T> static void gate_bwd_of(st_stream *q, const st_gate_bwd_args *a)
{
    gate_bwd_kernel<T><<<(unsigned)a->rows, 128, 0, st_cuda_stream(q)>>>(
        a->width, (const T *)a->s.data, (const T *)a->l.data, (const T *)a->z.data,
        (const T *)a->dy.data, (T *)a->ds.data, (T *)a->dl.data, (T *)a->dz.data);
    st_cuda_launched(q, "gate_bwd");
}

extern "C" void st_cuda_gate_bwd(st_stream *q, const st_gate_bwd_args *a)
{
    if (a->rows == 0) return;
    a->s.dtype == ST_F32 ? gate_bwd_of<float>(q, a) : gate_bwd_of<bf16>(q, a);
}

/* ---- SS1's fold ----------------------------------------------------------------------------- */

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
            int32_t t = terms[l];
            int64_t in = j + (t < 0 ? -1 - t : t), c = c0 + (in < s.block ? in : in - s.block);
            if (c >= s.cols) continue;
            float v = get(row, c);
            sum += t < 0 ? -v : v;
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
