/* Moving numbers about: permutation, copies with casts, gate. */
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

/* x (rows, P, width) -> y (rows, width, P) or, back, the other way round: a thread has eight of
 * `width` and P numbers for each, 16 bytes and more at a time. */
template <typename T, int P, bool BACK>
static __global__ void permute_few_kernel(int64_t n, int64_t width, const T *x, T *y,
                                          bool accumulate)
{
    int64_t eights = width / 8;
    for (int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; at < n;
         at += (int64_t)gridDim.x * blockDim.x) {
        int64_t r = at / eights, apart = r * P * width + at % eights * 8, together = at * 8 * P;
        pack<8> from[P], to[P];
#pragma unroll
        for (int i = 0; i < P; i++)
            from[i] = load<8>(x, BACK ? together + 8 * i : apart + i * width);
#pragma unroll
        for (int i = 0; i < P; i++)
#pragma unroll
            for (int e = 0; e < 8; e++) {
                /* number e of the eight, of P's number i, is at e P + i where they lie together */
                if (BACK)
                    to[i].v[e] = from[(e * P + i) / 8].v[(e * P + i) % 8];
                else
                    to[(e * P + i) / 8].v[(e * P + i) % 8] = from[i].v[e];
            }
#pragma unroll
        for (int i = 0; i < P; i++) {
            int64_t out = BACK ? apart + i * width : together + 8 * i;
            if (accumulate) {
                pack<8> old = load<8>(y, out);
#pragma unroll
                for (int e = 0; e < 8; e++)
                    to[i].v[e] += old.v[e];
            }
            store<8>(y, out, to[i]);
        }
    }
}

template <typename T, int P> static bool permute_few(st_stream *q, const st_permute_args *a)
{
    bool back = a->q == P;
    int64_t width = back ? a->p : a->q, n = a->rows * width / 8;
    if (!back && a->p != P) return false;
    unsigned blocks = blocks_for(n, 128, 1 << 20);
    const T *x = (const T *)a->x.data;
    T *y = (T *)a->y.data;
    if (back)
        permute_few_kernel<T, P, true>
            <<<blocks, 128, 0, st_cuda_stream(q)>>>(n, width, x, y, a->accumulate != 0);
    else
        permute_few_kernel<T, P, false>
            <<<blocks, 128, 0, st_cuda_stream(q)>>>(n, width, x, y, a->accumulate != 0);
    return true;
}

/* One side of few: as they are in layers of a few blocks. */
template <typename T> static bool permute_narrow(st_stream *q, const st_permute_args *a)
{
    int64_t few = a->p < a->q ? a->p : a->q, width = a->p < a->q ? a->q : a->p;
    if (st_or(a->inner, 1) != 1 || width % 8 || width == few) return false;
    if (!aligned16(a->x.data) || !aligned16(a->y.data)) return false;
    return few == 2   ? permute_few<T, 2>(q, a)
           : few == 4 ? permute_few<T, 4>(q, a)
           : few == 8 ? permute_few<T, 8>(q, a)
                      : false;
}

template <typename T> static void permute_of(st_stream *q, const st_permute_args *a)
{
    if (permute_narrow<T>(q, a)) {
        st_cuda_launched(q, "permute");
        return;
    }
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
