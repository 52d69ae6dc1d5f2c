/* Chooses the kernel of grouped.cuh for a product and starts it. */
/* SPDX-License-Identifier: MIT */
#include "fused.h"
#include "grouped.cuh"
#include <mutex>

namespace
{
struct machine {
    PFN_cuTensorMapEncodeTiled_v12000 encode;
    int blocks; /* multiprocessors; 0: not this generation */
};

const machine &here()
{
    static machine all[64];
    static std::once_flag once[64];
    int device = 0;
    cudaGetDevice(&device);
    device &= 63;
    std::call_once(once[device], [device] {
        int major = 0, count = 0;
        void *at = nullptr;
        cudaDriverEntryPointQueryResult found;
        cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
        cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
        if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &at, 12000,
                                             cudaEnableDefault, &found) != cudaSuccess) {
            return;
        }
        all[device].encode = (PFN_cuTensorMapEncodeTiled_v12000)at;
        all[device].blocks = major == 9 && at ? count : 0;
    });
    return all[device];
}

/* A view (outer, middle, inner) of bfloat16, read or written in boxes (outer, 1, inner). */
struct view {
    const void *data;
    int64_t inner, middle, outer, step_middle, step_outer;
    int box_inner, box_middle, box_outer;
};

bool encode(const view &v, CUtensorMap *out)
{
    cuuint64_t dims[3] = {(cuuint64_t)v.inner, (cuuint64_t)v.middle, (cuuint64_t)v.outer};
    cuuint64_t steps[2] = {(cuuint64_t)v.step_middle * 2, (cuuint64_t)v.step_outer * 2};
    cuuint32_t box[3] = {(cuuint32_t)v.box_inner, (cuuint32_t)v.box_middle,
                         (cuuint32_t)v.box_outer};
    cuuint32_t each[3] = {1, 1, 1};
    CUtensorMapSwizzle swizzle =
        v.box_inner == 64 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_64B;
    return here().encode(out, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, (void *)v.data, dims, steps, box,
                         each, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
                         CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                         CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

struct maps {
    CUtensorMap a, b, y, h;
};

template <class T> bool encode_all(const st_fused_args &p, maps *m)
{
    const void *x = T::ahead > 0 ? p.z : p.x;
    int64_t ldx = T::ahead > 0 ? p.k : p.ldx;
    bool ok = encode({x, p.k, p.groups, p.rows, p.k, ldx, 64, 1, T::rows}, &m->a) &&
              encode({p.w, p.k, p.n, p.groups, p.ldw, p.n * p.ldw, 64,
                      T::each / (T::kept > 0 ? 1 : T::cluster), 1},
                     &m->b);
    int64_t cols = p.out == ST_OUT_FOLD ? p.n / p.out_factor : p.n, groups = p.groups;
    if (p.out == ST_OUT_INTERLEAVE || p.out == ST_OUT_EXPAND) {
        cols = 4 * p.n;
        groups = 1;
    }
    ok = ok && encode({p.y, cols, groups, p.rows, cols, p.ldy, T::epilogue::BOX, 1, 16}, &m->y);
    m->h = m->y;
    if (p.h) ok = ok && encode({p.h, p.n, p.groups, p.rows, p.n, p.groups * p.n, 64, 1, 16}, &m->h);
    return ok;
}

/* Blocks as they fit, all of them at once where some wait for others. */
template <class T>
cudaError_t launch(const maps &m, const st_grouped_args &g, int64_t blocks, bool soon,
                   cudaStream_t q)
{
    cudaLaunchConfig_t how = {};
    cudaLaunchAttribute extra[3];
    how.gridDim = dim3((unsigned)blocks);
    how.blockDim = dim3(T::threads);
    how.dynamicSmemBytes = T::bytes;
    how.stream = q;
    how.attrs = extra;
    if (T::cluster > 1) {
        extra[0].id = cudaLaunchAttributeClusterDimension;
        extra[0].val.clusterDim.x = T::cluster;
        extra[0].val.clusterDim.y = extra[0].val.clusterDim.z = 1;
        how.numAttrs = 1;
    }
    if (T::ahead > 0) {
        extra[how.numAttrs].id = cudaLaunchAttributeCooperative;
        extra[how.numAttrs++].val.cooperative = 1;
    }
    if (soon) {
        extra[how.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
        extra[how.numAttrs++].val.programmaticStreamSerializationAllowed = 1;
    }
    cudaError_t e = cudaFuncSetAttribute(st_grouped_kernel<T>,
                                         cudaFuncAttributeMaxDynamicSharedMemorySize, T::bytes);
    return e ? e : cudaLaunchKernelEx(&how, st_grouped_kernel<T>, m.a, m.b, m.y, m.h, g);
}

/* Blocks that are there at once. */
template <class T> int resident()
{
    int sms = here().blocks, clusters = sms;
    if (T::cluster == 1) return sms;
    cudaLaunchConfig_t how = {};
    cudaLaunchAttribute extra;
    extra.id = cudaLaunchAttributeClusterDimension;
    extra.val.clusterDim.x = T::cluster;
    extra.val.clusterDim.y = extra.val.clusterDim.z = 1;
    how.gridDim = dim3((unsigned)(sms / T::cluster * T::cluster));
    how.blockDim = dim3(T::threads);
    how.dynamicSmemBytes = T::bytes;
    how.attrs = &extra;
    how.numAttrs = 1;
    cudaFuncSetAttribute(st_grouped_kernel<T>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                         T::bytes);
    if (cudaOccupancyMaxActiveClusters(&clusters, st_grouped_kernel<T>, &how)) return 0;
    return clusters * T::cluster;
}

template <class T> int start(const st_fused_args &p, cudaStream_t q)
{
    static const int most = resident<T>();
    int rows = T::kept > 0 ? T::rows : T::rows * T::cluster;
    st_grouped_args g = {};
    maps m;
    g.k_blocks = (int)((p.k + 63) / 64);
    g.group_tiles = (int)((p.n + T::each - 1) / T::each);
    g.col_tiles = g.group_tiles * (T::parts > 1 ? 1 : (int)p.groups);
    g.row_tiles = (int)((p.rows + rows - 1) / rows);
    int each = T::kept > 0 ? g.col_tiles : T::cluster;
    if (T::kept > 0 && (g.k_blocks > T::kept || g.col_tiles % T::cluster)) return ST_FUSED_NOT;
    if (!encode_all<T>(p, &m)) return ST_FUSED_NOT;
    g.e = {(const __nv_bfloat16 *)p.bias,
           p.scale,
           (__nv_bfloat16 *)p.y,
           p.ldy,
           (int)p.rows,
           (int)p.n,
           p.h != nullptr};
    g.ahead = {(const __nv_bfloat16 *)p.x,
               (__nv_bfloat16 *)p.z,
               p.in_gather ? p.scale : nullptr,
               p.done,
               (int)p.rows,
               (int)(p.k / 32),
               p.in_factor};
    int64_t blocks = most / each * each, tiles = (int64_t)g.row_tiles * g.col_tiles;
    if (T::kept == 0) tiles *= T::cluster;
    if (blocks < each) return ST_FUSED_NOT;
    return (int)launch<T>(m, g, tiles < blocks ? tiles : blocks, p.soon, q);
}

/* Both warpgroups on one tile; by turns, weights through the ring; by turns, weights that stay. */
template <int n, class E, int ahead = 0> using together = st_grouped_kind<n, 1, 0, 0, 2, ahead, E>;
template <class E> using turns = st_grouped_kind<256, 1, 1, 0, 2, 0, E>;
template <int n, class E> using kept = st_grouped_kind<n, 1, 1, 3, 1, 0, E>;
/* Four groups a tile, products of 64 columns: together, and `share` blocks fetch rows for each
 * other.
 */
template <int share>
using four = st_grouped_kind<256, 4, 0, 3, share, 0, st_epilogue_interleave<256>>;

enum { WAY_BEST, WAY_TOGETHER, WAY_TURNS };

/* 256 columns a tile. Which way is better was measured (doc/PERF): together for many k, but with an
 * epilogue that computes much. */
template <class E> int wide(const st_fused_args &p, bool heavy, cudaStream_t q)
{
    if (p.k <= 192 && p.rows >= 64 && p.way != WAY_TOGETHER) {
        int took = start<kept<256, E>>(p, q);
        if (took != ST_FUSED_NOT) return took;
    }
    bool by_turns = p.way == WAY_BEST ? heavy || p.k <= 768 : p.way == WAY_TURNS;
    return by_turns ? start<turns<E>>(p, q) : start<together<256, E>>(p, q);
}

int plain(const st_fused_args &p, cudaStream_t q)
{
    int64_t cols = p.n;
    if (p.groups == 1 && cols <= 96) return start<together<96, st_epilogue_plain<96, 0>>>(p, q);
    if (cols % 256 > 0 && cols % 192 == 0) {
        if (p.k <= 192 && p.rows >= 64) return start<kept<192, st_epilogue_plain<192, 0>>>(p, q);
        return start<together<192, st_epilogue_plain<192, 0>>>(p, q);
    }
    if (cols <= 128) return start<together<128, st_epilogue_plain<128, 0>>>(p, q);
    return wide<st_epilogue_plain<256, 0>>(p, false, q);
}

template <int gelu, int factor, int hash> int folded(const st_fused_args &p, cudaStream_t q)
{
    if (p.n % (32 * factor) || p.ldy < p.groups * (p.n / factor)) return ST_FUSED_NOT;
    if (p.groups > 1 && p.n % 256) return ST_FUSED_NOT;
    return wide<st_epilogue_fold<256, gelu, factor, hash>>(p, true, q);
}

/* The fold, or Kronecker's sum, in a kernel of its own. */
int first(const st_fused_args &p, cudaStream_t q)
{
    st_fold_call f = {p.rows, p.k, p.ldx, p.x, p.z, p.in_factor, p.in_hash};
    if (p.in_gather) return st_fused_gather4(p.rows, p.k, p.x, p.scale, p.z, q);
    return st_fused_fold(&f, q);
}

/* ... or beside the product, where that is most of the work (doc/PERF). */
int folding(const st_fused_args &p, cudaStream_t q)
{
    typedef together<192, st_epilogue_plain<192, 0>, 7> beside;
    typedef together<256, st_epilogue_plain<256, 0>, 3> wider; /* many k: fewer passes over z */
    if (p.groups != 1 || p.k % 32 || p.out != ST_OUT_PLAIN || p.gelu) return ST_FUSED_NOT;
    if (p.in_gather && (p.in_factor != 4 || p.ldx != 4 * p.k)) return ST_FUSED_NOT;
    bool known = p.in_factor == 2 || p.in_factor == 4 || p.in_factor == 8;
    bool fits = p.done && p.ldx == p.k * p.in_factor && known && (p.in_gather || p.in_hash == 3);
    bool pays = p.rows >= 8192 && p.n % 192 == 0 && 2 * p.n <= p.ldx;
    if (fits && (p.way == WAY_TOGETHER || (p.way == WAY_BEST && pays))) {
        return p.k > 1024 ? start<wider>(p, q) : start<beside>(p, q);
    }
    st_fused_args folded = p;
    int took = first(p, q);
    folded.in_factor = folded.in_gather = folded.way = 0;
    folded.x = p.z;
    folded.soon = 1;
    folded.ldx = p.k;
    return took ? took : st_fused_product(&folded, q);
}
} // namespace

static bool aligned(const st_fused_args *a)
{
    uintptr_t bits = (uintptr_t)a->x | (uintptr_t)a->w | (uintptr_t)a->y | (uintptr_t)a->h |
                     (uintptr_t)a->z | (uintptr_t)a->bias;
    return bits % 16 == 0 && (a->k | a->n | a->ldx | a->ldw | a->ldy) % 8 == 0;
}

int st_fused_product(const st_fused_args *a, cudaStream_t q)
{
    if (!aligned(a) || a->rows < 1) return ST_FUSED_NOT;
    if (!here().blocks) return st_fused_product_mma(a, q);
    if (a->in_factor) return folding(*a, q);
    switch (a->out) {
    case ST_OUT_PLAIN:
        if (a->gelu == 1) return wide<st_epilogue_plain<256, 1>>(*a, true, q);
        if (a->gelu == 2) return wide<st_epilogue_plain<256, 2>>(*a, true, q);
        return plain(*a, q);
    case ST_OUT_FOLD:
#define CASE(g, f, h)                                                                              \
    if (a->gelu == g && a->out_factor == f && a->out_hash == h) return folded<g, f, h>(*a, q)
        CASE(1, 2, 3);
        CASE(1, 4, 3);
        CASE(1, 8, 3);
        CASE(2, 2, 3);
        CASE(2, 4, 3);
        CASE(2, 8, 3);
#undef CASE
        return ST_FUSED_NOT;
    case ST_OUT_DEAL:
        if (a->groups != 4 || a->n != 192 || a->bias) return ST_FUSED_NOT;
        if (a->k <= 192) return start<kept<192, st_epilogue_deal<192, 4>>>(*a, q);
        return start<together<192, st_epilogue_deal<192, 4>>>(*a, q);
    case ST_OUT_INTERLEAVE:
        if (a->groups != 4 || a->k > 192) return ST_FUSED_NOT;
        if (a->n % 128 == 0 || a->n % 128 > 64) return start<four<2>>(*a, q);
        if ((a->n + 63) / 64 % 3 == 0) return start<four<3>>(*a, q);
        return start<four<1>>(*a, q);
    case ST_OUT_EXPAND:
        if (a->groups != 1) return ST_FUSED_NOT;
        return wide<st_epilogue_expand<256>>(*a, true, q);
    case ST_OUT_GATHER:
        if (a->groups != 1) return ST_FUSED_NOT;
        if (a->gelu == 1) return start<turns<st_epilogue_gather<256, 1>>>(*a, q);
        return a->gelu ? start<turns<st_epilogue_gather<256, 2>>>(*a, q) : ST_FUSED_NOT;
    }
    return ST_FUSED_NOT;
}
