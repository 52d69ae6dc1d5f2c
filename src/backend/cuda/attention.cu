/* Which of attention's kernels a call takes, and their launches. */
/* SPDX-License-Identifier: MIT */
#include "attention.h"
#include "attention_groups.cuh"
#include "attention_split.cuh"
#include "attention_warps.cuh"

/* ---- the arguments as kernels see them ------------------------------------------------------ */

static attend_heads heads_of(const st_heads *of, const st_strided &x, int64_t heads, int64_t len)
{
    attend_heads h = {(char *)x.x.data, x.stride, x.step, (int)(of->heads / heads)};
    if (!h.stride) h.stride = heads * of->head_dim;
    if (!h.step) h.step = len * h.stride;
    return h;
}

static bool heads_wide(const attend_heads *x)
{
    return x->stride % 8 == 0 && x->step % 8 == 0 && (uintptr_t)x->data % 16 == 0;
}

static attend_view view_of(const st_attend_fwd_args *g)
{
    attend_view a = {};
    const st_heads *h = &g->h;
    int64_t few = h->kv_heads ? h->kv_heads : h->heads;
    a.q = heads_of(h, h->q, h->heads, h->q_len);
    a.k = heads_of(h, h->k, few, h->kv_len);
    a.v = heads_of(h, h->v, few, h->kv_len);
    a.o = heads_of(h, h->o, h->heads, h->q_len);
    a.gq = a.q, a.gk = a.k, a.gv = a.v, a.go = a.o;
    a.gq.data = (char *)g->gq.data, a.gk.data = (char *)g->gk.data;
    a.gv.data = (char *)g->gv.data, a.go.data = (char *)g->go.data;
    a.lse = (float *)g->lse.data;
    a.batch = (int)g->h.batch, a.heads = (int)g->h.heads, a.dim = (int)g->h.head_dim;
    a.q_len = (int)g->h.q_len, a.kv_len = (int)g->h.kv_len, a.padded = (a.q_len + 63) / 64 * 64;
    a.q_start = g->q_start, a.window = g->window, a.causal = g->causal;
    a.scale = g->scale, a.scale2 = g->scale * ST_LOG2E;
    a.seed = g->seed, a.kept = 1;
    if (g->drop > 0) {
        a.below = st_drop_below(g->drop);
        a.kept = (float)(1.0 / (1.0 - (double)g->drop));
    }
    const attend_heads *all[] = {&a.q, &a.k, &a.v, &a.o, &a.gq, &a.gk, &a.gv, &a.go};
    a.wide = a.dim % 8 == 0;
    for (int i = 0; i < 8; i++)
        a.wide = a.wide && heads_wide(all[i]);
    return a;
}

/* ---- launches ------------------------------------------------------------------------------- */

static bool way_splits(const attend_view *a)
{
    return a->q_len <= SPLIT_QUERIES && a->wide && a->dim <= 256 && !a->below && a->kv_len > 0 &&
           (int64_t)a->batch * a->heads <= 65535;
}
/* The best way for many queries. */
static st_attention_way way_many(const attend_view *a, st_dtype dtype, int arch, bool back)
{
    if (back && a->window) return ST_ATTENTION_PLAIN;
    if (dtype != ST_BF16 || a->dim > 256) return ST_ATTENTION_PLAIN;
    bool groups = arch == 90 && a->wide && a->dim <= 128 && !a->window && a->kv_len > 0;
    return groups ? ST_ATTENTION_GROUPS : ST_ATTENTION_WARPS;
}
/* The way that AUTO takes. */
static st_attention_way way_of(const attend_view *a, st_dtype dtype, int arch, bool back)
{
    return !back && way_splits(a) ? ST_ATTENTION_SPLIT : way_many(a, dtype, arch, back);
}
static bool way_fits(const attend_view *a, st_dtype dtype, int arch, st_attention_way way,
                     bool back)
{
    st_attention_way best = way_many(a, dtype, arch, back);
    if (way == ST_ATTENTION_SPLIT) return !back && way_splits(a);
    return way == ST_ATTENTION_PLAIN || way == best ||
           (way == ST_ATTENTION_WARPS && best == ST_ATTENTION_GROUPS);
}

/* cluster: blocks along x that are one cluster; 0: no clusters. */
template <typename... P>
static cudaError_t launch_cluster(void (*kernel)(P...), dim3 grid, int cluster, int threads,
                                  size_t bytes, cudaStream_t stream, P... given)
{
    if (bytes > 48 << 10) {
        cudaError_t status = cudaFuncSetAttribute(
            (const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
        if (status) return status;
    }
    cudaLaunchConfig_t c = {};
    c.gridDim = grid, c.blockDim = dim3((unsigned)threads);
    c.dynamicSmemBytes = bytes, c.stream = stream;
    cudaLaunchAttribute size = {};
    size.id = cudaLaunchAttributeClusterDimension;
    size.val.clusterDim.x = (unsigned)cluster, size.val.clusterDim.y = size.val.clusterDim.z = 1;
    c.attrs = &size, c.numAttrs = cluster > 0;
    return cudaLaunchKernelEx(&c, kernel, given...);
}

template <typename... P>
static cudaError_t launch(void (*kernel)(P...), dim3 grid, int threads, size_t bytes,
                          cudaStream_t stream, P... given)
{
    return launch_cluster(kernel, grid, 0, threads, bytes, stream, given...);
}

static cudaError_t multiprocessors(int *out)
{
    int device;
    cudaError_t status = cudaGetDevice(&device);
    return status ? status : cudaDeviceGetAttribute(out, cudaDevAttrMultiProcessorCount, device);
}

static dim3 grid_of(const attend_view &a, int length, int rows, int parts)
{
    return dim3((unsigned)((int64_t)a.batch * a.heads * ((length + rows - 1) / rows)),
                (unsigned)parts);
}

template <int D, int BN, int STAGES>
static cudaError_t warps_fwd(const attend_view &a, cudaStream_t s)
{
    size_t bytes = (WARP_ROWS + STAGES * 2 * BN) * D * 2;
    return launch(a.below ? warps_fwd_kernel<D, BN, STAGES, true>
                          : warps_fwd_kernel<D, BN, STAGES, false>,
                  grid_of(a, a.q_len, WARP_ROWS, 1), WARP_THREADS, bytes, s, a);
}

template <int D, int BN, int STAGES, int DO>
static cudaError_t warps_bwd(const attend_view &a, cudaStream_t s)
{
    size_t bytes = (2 * WARP_ROWS + STAGES * 2 * BN) * D * 2;
    cudaError_t status = launch(a.below ? warps_gq_kernel<D, BN, STAGES, true>
                                        : warps_gq_kernel<D, BN, STAGES, false>,
                                grid_of(a, a.q_len, WARP_ROWS, 1), WARP_THREADS, bytes, s, a);
    if (status || a.kv_len == 0) return status;
    return launch(a.below ? warps_gkv_kernel<D, BN, STAGES, DO, true>
                          : warps_gkv_kernel<D, BN, STAGES, DO, false>,
                  grid_of(a, a.kv_len, WARP_ROWS, D / DO), WARP_THREADS, bytes, s, a);
}

template <typename T> static cudaError_t plain_fwd(const attend_view &a, cudaStream_t s)
{
    return launch(plain_fwd_kernel<T>, grid_of(a, a.q_len, 1, 1), PLAIN_THREADS, plain_bytes(a.dim),
                  s, a);
}

template <typename T> static cudaError_t plain_bwd(const attend_view &a, cudaStream_t s)
{
    size_t bytes = plain_bytes(a.dim);
    cudaError_t status =
        launch(plain_gq_kernel<T>, grid_of(a, a.q_len, 1, 1), PLAIN_THREADS, bytes, s, a);
    if (status || a.kv_len == 0) return status;
    return launch(plain_gkv_kernel<T>, grid_of(a, a.kv_len, 1, 1), PLAIN_THREADS, bytes, s, a);
}

/* ---- few queries ---------------------------------------------------------------------------- */

static size_t split_floats(int dim)
{
    if (dim <= 64) return split_record<64>::SIZE;
    return dim <= 128 ? (size_t)split_record<128>::SIZE : (size_t)split_record<256>::SIZE;
}

/* Two blocks for each multiprocessor, if there are keys enough. */
template <typename T, int DP, int QT>
static cudaError_t split_fwd(attend_view a, int arch, cudaStream_t s)
{
    enum { SETS = SPLIT_THREADS / (DP / 8), SIZE = split_record<DP>::SIZE };
    int sms, heads = a.batch * a.heads, chunks = (a.q_len + QT - 1) / QT;
    int most = (a.kv_len + SPLIT_KEYS - 1) / SPLIT_KEYS;
    cudaError_t status = multiprocessors(&sms);
    if (status) return status;
    if (most > SPLIT_MOST) most = SPLIT_MOST;
    a.splits = 2 * sms / (heads * chunks);
    a.splits = a.splits < 1 ? 1 : a.splits > most ? most : a.splits;
    dim3 grid((unsigned)a.splits, (unsigned)heads, (unsigned)chunks);
    size_t bytes = (size_t)(SETS + 1) * QT * SIZE * sizeof(float);
    if (arch >= 90)
        return launch_cluster(split_kernel<T, DP, QT, true>, grid, a.splits, SPLIT_THREADS, bytes,
                              s, a);
    status = launch(split_kernel<T, DP, QT, false>, grid, SPLIT_THREADS, bytes, s, a);
    if (status) return status;
    int64_t rows = (int64_t)heads * a.q_len;
    return launch(split_finish_kernel<T, DP>, dim3((unsigned)((rows + SETS - 1) / SETS)),
                  SPLIT_THREADS, 0, s, a);
}
template <typename T> static cudaError_t split_any(const attend_view &a, int arch, cudaStream_t s)
{
    if (a.q_len == 1) {
        if (a.dim <= 64) return split_fwd<T, 64, 1>(a, arch, s);
        return a.dim <= 128 ? split_fwd<T, 128, 1>(a, arch, s) : split_fwd<T, 256, 1>(a, arch, s);
    }
    if (a.dim <= 64) return split_fwd<T, 64, 4>(a, arch, s);
    return a.dim <= 128 ? split_fwd<T, 128, 4>(a, arch, s) : split_fwd<T, 256, 4>(a, arch, s);
}

/* ---- products of four warps ----------------------------------------------------------------- */

typedef CUresult encode_fn(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *,
                           const cuuint64_t *, const cuuint64_t *, const cuuint32_t *,
                           const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle,
                           CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

/* The map of a tensor of heads: boxes of 64 positions and 64 columns of one head. */
static cudaError_t map_of(const attend_view &a, const attend_heads &x, int length, tile_map *out)
{
    static encode_fn *encode; /* the same whoever finds it first */
    if (!encode) {
        void *found = NULL;
        cudaDriverEntryPointQueryResult why;
        cudaError_t status = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found,
                                                              12000, cudaEnableDefault, &why);
        if (status) return status;
        if (!found) return cudaErrorNotSupported;
        encode = (encode_fn *)found;
    }
    cuuint64_t dims[4] = {(cuuint64_t)a.dim, (cuuint64_t)length, (cuuint64_t)(a.heads / x.each),
                          (cuuint64_t)a.batch};
    cuuint64_t strides[3] = {(cuuint64_t)x.stride * 2, (cuuint64_t)a.dim * 2,
                             (cuuint64_t)x.step * 2};
    cuuint32_t box[4] = {64, 64, 1, 1}, ones[4] = {1, 1, 1, 1};
    CUresult r = encode(out, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, x.data, dims, strides, box, ones,
                        CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                        CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    return r == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

static cudaError_t maps_of(const attend_view &a, bool back, attend_maps *m)
{
    cudaError_t status = map_of(a, a.q, a.q_len, &m->q);
    if (!status) status = map_of(a, a.k, a.kv_len, &m->k);
    if (!status) status = map_of(a, a.v, a.kv_len, &m->v);
    if (!status && back) status = map_of(a, a.go, a.q_len, &m->go);
    return status;
}

/* A block for each multiprocessor, or for each task if these are fewer. */
static cudaError_t ring_grid(const attend_view &a, int length, dim3 *out)
{
    int sms;
    cudaError_t status = multiprocessors(&sms);
    if (status) return status;
    *out = grid_of(a, length, TASK_ROWS, 1);
    if (out->x > (unsigned)sms) out->x = (unsigned)sms;
    return cudaSuccess;
}

template <int D> static cudaError_t groups_fwd(const attend_view &a, cudaStream_t s)
{
    attend_maps m = {};
    cudaError_t status = maps_of(a, false, &m);
    if (status) return status;
    return launch(a.below ? groups_fwd_kernel<D, true> : groups_fwd_kernel<D, false>,
                  grid_of(a, a.q_len, TASK_ROWS, 1), FWD_THREADS, ring_map<D, PASS_FWD>::BYTES, s,
                  a, m);
}

template <int D> static cudaError_t groups_bwd(const attend_view &a, cudaStream_t s)
{
    attend_maps m = {};
    dim3 queries, keys;
    cudaError_t status = maps_of(a, true, &m);
    if (!status) status = ring_grid(a, a.q_len, &queries);
    if (!status) status = ring_grid(a, a.kv_len, &keys);
    if (!status)
        status = launch(a.below ? groups_gq_kernel<D, true> : groups_gq_kernel<D, false>, queries,
                        BWD_THREADS, ring_map<D, PASS_GQ>::BYTES, s, a, m);
    if (status) return status;
    return launch(a.below ? groups_gkv_kernel<D, true> : groups_gkv_kernel<D, false>, keys,
                  BWD_THREADS, ring_map<D, PASS_GKV>::BYTES, s, a, m);
}

/* ---- calls ---------------------------------------------------------------------------------- */

extern "C" size_t st_attention_fwd_work(const st_attend_fwd_args *g)
{
    if (g->h.q_len > SPLIT_QUERIES) return 0;
    return (size_t)(g->h.batch * g->h.heads * g->h.q_len) * SPLIT_MOST *
           split_floats((int)g->h.head_dim) * sizeof(float);
}

static size_t rows_bytes(const st_attend_bwd_args *g)
{
    return (size_t)(g->h.batch * g->h.heads * ((g->h.q_len + 63) / 64 * 64)) * 2 * sizeof(float);
}
extern "C" size_t st_attention_bwd_work(const st_attend_bwd_args *g)
{
    return rows_bytes(g) + st_attention_shared_work(g);
}

extern "C" cudaError_t st_attention_fwd(const st_attend_fwd_args *g, void *work, int arch,
                                        st_attention_way way, cudaStream_t s)
{
    attend_view a = view_of(g);
    a.parts = (float *)work;
    if (a.batch == 0 || a.heads == 0 || a.q_len == 0) return cudaSuccess;
    if (way == ST_ATTENTION_AUTO) way = way_of(&a, g->h.q.x.dtype, arch, false);
    if (!way_fits(&a, g->h.q.x.dtype, arch, way, false)) return cudaErrorNotSupported;
    if (way == ST_ATTENTION_SPLIT)
        return g->h.q.x.dtype == ST_F32 ? split_any<float>(a, arch, s)
                                        : split_any<uint16_t>(a, arch, s);
    if (way == ST_ATTENTION_PLAIN)
        return g->h.q.x.dtype == ST_F32 ? plain_fwd<float>(a, s) : plain_fwd<uint16_t>(a, s);
    if (way == ST_ATTENTION_GROUPS)
        return a.dim <= 64 ? groups_fwd<64>(a, s) : groups_fwd<128>(a, s);
    if (a.dim <= 64) return warps_fwd<64, 64, 2>(a, s);
    return a.dim <= 128 ? warps_fwd<128, 64, 2>(a, s) : warps_fwd<256, 64, 1>(a, s);
}

/* All of the backward pass, gk and gv of every head of queries. */
static cudaError_t bwd_of(const attend_view &a, st_dtype dtype, int arch, st_attention_way way,
                          cudaStream_t s)
{
    if (way == ST_ATTENTION_AUTO) way = way_of(&a, dtype, arch, true);
    if (!way_fits(&a, dtype, arch, way, true)) return cudaErrorNotSupported;
    if (way == ST_ATTENTION_PLAIN)
        return dtype == ST_F32 ? plain_bwd<float>(a, s) : plain_bwd<uint16_t>(a, s);
    if (way == ST_ATTENTION_GROUPS)
        return a.dim <= 64 ? groups_bwd<64>(a, s) : groups_bwd<128>(a, s);
    if (a.dim <= 64) return warps_bwd<64, 64, 2, 64>(a, s);
    return a.dim <= 128 ? warps_bwd<128, 32, 2, 128>(a, s) : warps_bwd<256, 32, 1, 64>(a, s);
}

extern "C" cudaError_t st_attention_bwd(const st_attend_bwd_args *g, void *work, int arch,
                                        st_attention_way way, cudaStream_t s)
{
    attend_view a = view_of(g);
    a.rows = (float *)work;
    if (a.batch == 0 || a.heads == 0) return cudaSuccess;
    if (a.k.each > 1) {
        st_attend_bwd_args all;
        st_attention_share(g, (char *)work + rows_bytes(g), &all);
        attend_view own = view_of(&all);
        a.gk = own.gk, a.gv = own.gv;
        a.wide = a.wide && own.wide;
        cudaError_t status = bwd_of(a, g->h.q.x.dtype, arch, way, s);
        return status ? status : st_attention_gather(g, &all, s);
    }
    return bwd_of(a, g->h.q.x.dtype, arch, way, s);
}
