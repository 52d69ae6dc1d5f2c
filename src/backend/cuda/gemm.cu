/* C = beta C + op(A) op(B) + bias. The library multiplies; what it lacks is done here: a bias that
 * repeats by rows or meets a float32 C (added before or after), k = 0, and shapes or alignments for
 * which it has no kernel. Its fast kernels want sizes that are multiples of 8 where memory is
 * contiguous, even if rows are aligned: large products are cut there, 50257 = 50256 + 1. */
/* SPDX-License-Identifier: MIT */
#include "backend/cuda/device.cuh"
#include "backend/cuda/fused.h"
#include "backend/cuda/pair.h"

/* A product as its kernels see it: element (i, x) of op(A) is at i*ai + x*ax, and so on. */
typedef struct {
    int64_t m, n, k, ai, ax, bx, bj, ldc, step_a, step_b, step_c, step_bias, period;
    float beta;
} gemm_shape;

static gemm_shape gemm_shape_of(const st_gemm_args *g)
{
    st_gemm_layout l = st_gemm_resolve(g);
    gemm_shape s = {};
    s.m = g->m, s.n = g->n, s.k = g->k;
    s.ai = g->ta ? 1 : l.lda, s.ax = g->ta ? l.lda : 1;
    s.bx = g->tb ? 1 : l.ldb, s.bj = g->tb ? l.ldb : 1;
    s.ldc = l.ldc, s.step_a = l.step_a, s.step_b = l.step_b, s.step_c = l.step_c;
    s.step_bias = g->step_bias, s.period = st_or(g->bias_rows, 1), s.beta = g->beta;
    return s;
}

enum { TILE = 32 };

/* 32 x 32 of C a block, 8 rows of threads that compute 4 each. */
template <typename T, typename C>
static __global__ void gemm_kernel(gemm_shape s, const T *a, const T *b, const T *bias, C *c)
{
    __shared__ float as[TILE][TILE + 1], bs[TILE][TILE + 1];
    int64_t i0 = (int64_t)blockIdx.x * TILE, j0 = (int64_t)blockIdx.y * TILE, z = blockIdx.z;
    int tx = threadIdx.x, ty = threadIdx.y;
    float sum[4] = {0, 0, 0, 0};
    a += z * s.step_a;
    b += z * s.step_b;
    for (int64_t x0 = 0; x0 < s.k; x0 += TILE) {
        for (int r = ty; r < TILE; r += 8) {
            int64_t i = i0 + (s.ax == 1 ? r : tx), x = x0 + (s.ax == 1 ? tx : r);
            float v = i < s.m && x < s.k ? get(a, i * s.ai + x * s.ax) : 0.0f;
            as[s.ax == 1 ? r : tx][s.ax == 1 ? tx : r] = v;
            int64_t j = j0 + (s.bj == 1 ? tx : r);
            x = x0 + (s.bj == 1 ? r : tx);
            v = j < s.n && x < s.k ? get(b, x * s.bx + j * s.bj) : 0.0f;
            bs[s.bj == 1 ? r : tx][s.bj == 1 ? tx : r] = v;
        }
        __syncthreads();
        for (int x = 0; x < TILE; x++) {
            for (int r = 0; r < 4; r++)
                sum[r] += as[ty + 8 * r][x] * bs[x][tx];
        }
        __syncthreads();
    }
    int64_t j = j0 + tx;
    for (int r = 0; r < 4 && j < s.n; r++) {
        int64_t i = i0 + ty + 8 * r, at = z * s.step_c + i * s.ldc + j;
        if (i >= s.m) break;
        if (bias) sum[r] += get(bias, z * s.step_bias + i % s.period * s.n + j);
        if (s.beta != 0) sum[r] += s.beta * get(c, at);
        put(c, at, sum[r]);
    }
}

/* c = beta c + bias + more, where `more` holds a product in float32 or is absent. */
template <typename T, typename C>
static __global__ void gemm_finish_kernel(gemm_shape s, const T *bias, const float *more, C *c)
{
    int64_t z = blockIdx.y, all = s.m * s.n;
    for (int64_t e = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; e < all;
         e += (int64_t)gridDim.x * blockDim.x) {
        int64_t i = e / s.n, j = e % s.n, at = z * s.step_c + i * s.ldc + j;
        float v = more ? more[z * all + e] : 0.0f;
        if (bias) v += get(bias, z * s.step_bias + i % s.period * s.n + j);
        if (s.beta != 0) v += s.beta * get(c, at);
        put(c, at, v);
    }
}

template <typename T, typename C>
static void gemm_finish(st_stream *q, const st_gemm_args *g, const float *more)
{
    gemm_shape s = gemm_shape_of(g);
    dim3 grid(blocks_for(s.m * s.n, 256, 1 << 20), (unsigned)st_or(g->batch, 1));
    gemm_finish_kernel<T, C>
        <<<grid, 256, 0, st_cuda_stream(q)>>>(s, (const T *)g->bias.data, more, (C *)g->c.data);
    st_cuda_launched(q, "gemm");
}

template <typename T, typename C> static void gemm_own(st_stream *q, const st_gemm_args *g)
{
    gemm_shape s = gemm_shape_of(g);
    dim3 grid((unsigned)((s.m + TILE - 1) / TILE), (unsigned)((s.n + TILE - 1) / TILE),
              (unsigned)st_or(g->batch, 1));
    gemm_kernel<T, C><<<grid, dim3(TILE, 8), 0, st_cuda_stream(q)>>>(
        s, (const T *)g->a.data, (const T *)g->b.data, (const T *)g->bias.data, (C *)g->c.data);
    st_cuda_launched(q, "gemm");
}

/* Bias first, where C can hold it without loss. */
template <typename T> static void gemm_bias_first(st_stream *q, const st_gemm_args *g)
{
    st_gemm_args rest = *g;
    rest.bias = st_tensor{};
    rest.bias_rows = rest.step_bias = 0;
    rest.beta = 1;
    gemm_finish<T, float>(q, g, NULL);
    if (!st_cuda_lt_gemm(q, &rest, NULL)) gemm_own<T, float>(q, &rest);
}

/* The product in float32, then the rest. */
template <typename T> static bool gemm_bias_last(st_stream *q, const st_gemm_args *g)
{
    st_gemm_args product = *g;
    int64_t batch = st_or(g->batch, 1);
    void *work = st_cuda_work(q, (size_t)(batch * g->m * g->n) * sizeof(float), "gemm");
    if (!work) return true;
    product.bias = st_tensor{};
    product.bias_rows = product.step_bias = product.ldc = product.step_c = 0;
    product.beta = 0;
    product.c = st_view1(work, ST_F32, batch * g->m * g->n);
    if (!st_cuda_lt_gemm(q, &product, NULL)) return false;
    gemm_finish<T, T>(q, g, (const float *)work);
    return true;
}

template <typename T> static void gemm_of(st_stream *q, const st_gemm_args *g)
{
    bool wide = g->c.dtype == ST_F32, plain = !g->bias.data || st_or(g->bias_rows, 1) == 1;
    bool same = g->c.dtype == g->a.dtype;
    if (g->k == 0) {
        if (wide)
            gemm_finish<T, float>(q, g, NULL);
        else
            gemm_finish<T, T>(q, g, NULL);
        return;
    }
    if (plain && (same || !g->bias.data) && st_cuda_lt_gemm(q, g, NULL)) return;
    if (g->bias.data && g->m * g->n * g->k >= 1 << 15) {
        if (wide) gemm_bias_first<T>(q, g);
        if (wide || gemm_bias_last<T>(q, g)) return;
    }
    if (wide)
        gemm_own<T, float>(q, g);
    else
        gemm_own<T, T>(q, g);
}

static void gemm_any(st_stream *q, const st_gemm_args *g)
{
    if (g->a.dtype == ST_F32)
        gemm_of<float>(q, g);
    else
        gemm_of<bf16>(q, g);
}

/* t from element `offset` on. */
static st_tensor gemm_from(st_tensor t, int64_t offset)
{
    t.data = (char *)t.data + offset * (int64_t)st_dtype_size(t.dtype);
    return t;
}

enum { CUT = 512 }; /* sizes from which on a cut pays */

/* Columns of C. */
static bool gemm_cut_n(const st_gemm_args *g, const st_gemm_layout *l)
{
    return g->n % 8 && g->n >= CUT && l->ldc % 8 == 0 && (g->tb || l->ldb % 8 == 0) &&
           st_or(g->bias_rows, 1) == 1;
}
static void gemm_in_n(st_stream *q, const st_gemm_args *g, const st_gemm_layout *l)
{
    st_gemm_args part = *g;
    int64_t n = g->n / 8 * 8;
    part.lda = l->lda, part.ldb = l->ldb, part.ldc = l->ldc;
    part.n = n;
    st_cuda_gemm(q, &part);
    part.n = g->n - n;
    part.b = gemm_from(g->b, g->tb ? n * l->ldb : n);
    part.c = gemm_from(g->c, n);
    if (g->bias.data) part.bias = gemm_from(g->bias, n);
    st_cuda_gemm(q, &part);
}

/* Rows of C, columns of A as it is stored. */
static bool gemm_cut_m(const st_gemm_args *g, const st_gemm_layout *l)
{
    return g->ta && g->m % 8 && g->m >= CUT && l->lda % 8 == 0 && st_or(g->bias_rows, 1) == 1;
}
static void gemm_in_m(st_stream *q, const st_gemm_args *g, const st_gemm_layout *l)
{
    st_gemm_args part = *g;
    int64_t m = g->m / 8 * 8;
    part.lda = l->lda, part.ldb = l->ldb, part.ldc = l->ldc;
    part.m = m;
    st_cuda_gemm(q, &part);
    part.m = g->m - m;
    part.a = gemm_from(g->a, m);
    part.c = gemm_from(g->c, m * l->ldc);
    st_cuda_gemm(q, &part);
}

/* Sums: the first in float32, to which the rest is added, and both are rounded once. */
static bool gemm_cut_k(const st_gemm_args *g, const st_gemm_layout *l)
{
    bool a = g->ta || l->lda % 8 == 0, b = !g->tb || l->ldb % 8 == 0;
    return g->k % 8 && g->k >= CUT && a && b && (!g->ta || g->tb);
}
static void gemm_in_k(st_stream *q, const st_gemm_args *g, const st_gemm_layout *l)
{
    st_gemm_args part = *g;
    int64_t k = g->k / 8 * 8, all = g->m * g->n;
    float *work = (float *)st_cuda_work(q, (size_t)all * sizeof(float), "gemm");
    if (!work) return;
    part.lda = l->lda, part.ldb = l->ldb, part.ldc = part.step_c = 0;
    part.bias = st_tensor{};
    part.bias_rows = part.step_bias = 0;
    part.beta = 0;
    part.c = st_view1(work, ST_F32, all);
    part.k = k;
    gemm_any(q, &part);
    part.k = g->k - k;
    part.a = gemm_from(g->a, g->ta ? k * l->lda : k);
    part.b = gemm_from(g->b, g->tb ? k : k * l->ldb);
    part.beta = 1;
    gemm_any(q, &part);
    if (g->c.dtype == ST_F32)
        gemm_finish<bf16, float>(q, g, work);
    else
        gemm_finish<bf16, bf16>(q, g, work);
}

/* Rows of A and B whose lengths are odd begin where the library's fast kernels cannot read: copies
 * of both with zeros at the end of each row. */
enum { PADDED_ROWS = 1024 };
static bool gemm_pad_k(const st_gemm_args *g, const st_gemm_layout *l)
{
    return g->k % 8 && g->k < CUT && !g->ta && g->tb && g->m >= PADDED_ROWS && g->n >= 64 &&
           (l->lda % 8 || l->ldb % 8) && st_or(g->bias_rows, 1) == 1 &&
           (g->c.dtype == ST_BF16 || !g->bias.data);
}
static void gemm_padded(st_stream *q, const st_gemm_args *g, const st_gemm_layout *l)
{
    int64_t k = (g->k + 7) / 8 * 8;
    bf16 *work = (bf16 *)st_cuda_work(q, (size_t)((g->m + g->n) * k) * sizeof(bf16), "gemm");
    if (!work) return;
    st_gemm_args wide = *g;
    st_copy_args c = {};
    c.rows = g->m, c.cols = g->k, c.ldx = l->lda, c.ldy = c.pad = k;
    c.x = g->a, c.y = wide.a = st_view2(work, ST_BF16, g->m, k);
    st_cuda_copy(q, &c);
    c.rows = g->n, c.ldx = l->ldb;
    c.x = g->b, c.y = wide.b = st_view2(work + g->m * k, ST_BF16, g->n, k);
    st_cuda_copy(q, &c);
    wide.k = wide.lda = wide.ldb = k;
    if (!st_cuda_lt_gemm(q, &wide, NULL)) gemm_any(q, g);
}

/* Groups of columns, each with weights of its own, side by side in A and C (block-diagonal maps,
 * Monarch): one launch that fills the machine, where a batch of the library's does not. */
enum { GROUPED_ROWS = 1024 };
static bool gemm_grouped(st_stream *q, const st_gemm_args *g, const st_gemm_layout *l)
{
    bool bias = !g->bias.data || (g->step_bias == g->n && st_or(g->bias_rows, 1) == 1);
    if (g->a.dtype != ST_BF16 || g->c.dtype != ST_BF16 || g->ta || !g->tb || l->batch < 2 ||
        g->m < GROUPED_ROWS || g->beta != 0 || !bias || l->step_a != g->k ||
        l->step_b != g->n * l->ldb || l->step_c != g->n || st_cuda_of(q)->arch != 90) {
        return false;
    }
    st_fused_args a = {};
    a.rows = g->m, a.groups = l->batch, a.n = g->n, a.k = g->k;
    a.ldx = l->lda, a.ldw = l->ldb, a.ldy = l->ldc;
    a.x = g->a.data, a.w = g->b.data, a.bias = g->bias.data, a.y = g->c.data;
    int took = st_fused_product(&a, st_cuda_stream(q));
    if (took == ST_FUSED_NOT) return false;
    st_cuda_ok(q, (cudaError_t)took, "gemm");
    return true;
}

extern "C" void st_cuda_gemm(st_stream *q, const st_gemm_args *g)
{
    st_gemm_layout l = st_gemm_resolve(g);
    if (g->m == 0 || g->n == 0 || gemm_grouped(q, g, &l) || st_cuda_thin(q, g)) return;
    bool cut = g->a.dtype == ST_BF16 && l.batch == 1 && aligned16(g->a.data) &&
               aligned16(g->b.data) && aligned16(g->c.data);
    if (cut && gemm_cut_n(g, &l))
        gemm_in_n(q, g, &l);
    else if (cut && gemm_cut_m(g, &l))
        gemm_in_m(q, g, &l);
    else if (cut && gemm_cut_k(g, &l))
        gemm_in_k(q, g, &l);
    else if (cut && gemm_pad_k(g, &l))
        gemm_padded(q, g, &l);
    else
        gemm_any(q, g);
}

extern "C" void st_cuda_gemm_onto(st_stream *q, const st_gemm_args *g, st_tensor add)
{
    if (st_cuda_lt_gemm(q, g, add.data)) return;
    st_residual_fwd_args r = {};
    r.a = add, r.b = r.y = st_view1(g->c.data, g->c.dtype, g->m * g->n);
    st_cuda_gemm(q, g);
    st_cuda_residual_fwd(q, &r);
}
