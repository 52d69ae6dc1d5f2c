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
        all[device].blocks = major == 9 ? count : 0;
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
    int each = T::n / T::parts;
    const void *x = T::factor ? p.z : p.x;
    int64_t ldx = T::factor ? p.groups * p.k : p.ldx;
    bool ok = encode({x, p.k, p.groups, p.rows, p.k, ldx, 64, 1, T::rows}, &m->a) &&
              encode({p.w, p.k, p.n, p.groups, p.ldw, p.n * p.ldw, 64,
                      T::turns ? each : each / T::cluster, 1},
                     &m->b);
    int64_t cols = p.out == ST_OUT_FOLD ? p.n / p.out_factor : p.n;
    ok = ok && encode({p.y, cols, p.groups, p.rows, cols, p.ldy, T::EPILOGUE::BOX, 1, 16}, &m->y);
    m->h = m->y;
    if (p.h) ok = ok && encode({p.h, p.n, p.groups, p.rows, p.n, p.groups * p.n, 64, 1, 16}, &m->h);
    return ok;
}

template <class T> int start(const st_fused_args &p, cudaStream_t q)
{
    int sms = here().blocks, each = T::n / T::parts;
    st_grouped_args g = {};
    maps m;
    g.k_blocks = (int)((p.k + 63) / 64);
    g.group_tiles = (int)((p.n + each - 1) / each);
    g.col_tiles = g.group_tiles * (T::parts > 1 ? 1 : (int)p.groups);
    g.row_tiles = (int)((p.rows + T::rows * T::cluster - 1) / (T::rows * T::cluster));
    if (T::turns && (g.k_blocks > T::k_most || g.col_tiles > sms)) return ST_FUSED_NOT;
    if (!encode_all<T>(p, &m)) return ST_FUSED_NOT;
    g.e = {(const __nv_bfloat16 *)p.bias,
           p.scale,
           (__nv_bfloat16 *)p.y,
           p.ldy,
           (int)p.rows,
           (int)p.n,
           p.h != nullptr};
    if (T::factor) {
        g.fold = {
            (const __nv_bfloat16 *)p.x, (__nv_bfloat16 *)p.z, p.done, p.ldx, (int)p.rows, (int)p.k};
        cudaError_t e = cudaMemsetAsync(p.done, 0, (size_t)(g.row_tiles * T::cluster) * 4, q);
        if (e) return (int)e;
    }
    int most = T::turns ? sms / g.col_tiles * g.col_tiles : sms / T::cluster * T::cluster;
    int64_t tiles = (int64_t)g.row_tiles * g.col_tiles * T::cluster;
    cudaLaunchConfig_t how = {};
    how.gridDim = dim3((unsigned)(tiles < most ? tiles : most));
    how.blockDim = dim3(T::threads);
    how.dynamicSmemBytes = T::bytes;
    how.stream = q;
    cudaLaunchAttribute cluster;
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim.x = T::cluster;
    cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
    how.attrs = &cluster;
    how.numAttrs = T::cluster > 1;
    cudaError_t e = cudaFuncSetAttribute(st_grouped_kernel<T>,
                                         cudaFuncAttributeMaxDynamicSharedMemorySize, T::bytes);
    if (e) return (int)e;
    return (int)cudaLaunchKernelEx(&how, st_grouped_kernel<T>, m.a, m.b, m.y, m.h, g);
}

/* n columns a tile, for all k through the ring. */
template <int n, class E> using together = st_grouped_kind<n, 1, 0, 0, 0, 0, E>;
/* The weights of 256 columns stay: up to 3 blocks of k. */
template <int n, int parts, class E> using by_turns = st_grouped_kind<n, parts, 1, 3, 0, 0, E>;
template <int factor, int hash>
using folding = st_grouped_kind<256, 1, 0, 0, factor, hash, st_epilogue_plain<256, 0>>;

template <int gelu> int plain(const st_fused_args &p, cudaStream_t q)
{
    bool small = p.k <= 192 && p.rows >= 64;
    int64_t cols = p.n;
    if (!gelu && p.groups == 1 && cols <= 96) {
        return start<together<96, st_epilogue_plain<96, 0>>>(p, q);
    }
    if (cols % 256 > 0 && cols % 192 == 0 && !gelu) {
        if (small) return start<by_turns<192, 1, st_epilogue_plain<192, 0>>>(p, q);
        return start<together<192, st_epilogue_plain<192, 0>>>(p, q);
    }
    if (cols <= 128 && !gelu) return start<together<128, st_epilogue_plain<128, 0>>>(p, q);
    int took = small ? start<by_turns<256, 1, st_epilogue_plain<256, gelu>>>(p, q) : ST_FUSED_NOT;
    return took != ST_FUSED_NOT ? took : start<together<256, st_epilogue_plain<256, gelu>>>(p, q);
}

template <int gelu, int factor, int hash> int folded(const st_fused_args &p, cudaStream_t q)
{
    if (p.n % (32 * factor) || p.ldy < p.groups * (p.n / factor)) return ST_FUSED_NOT;
    if (p.groups > 1 && p.n % 256) return ST_FUSED_NOT;
    int took = p.k <= 192 && p.rows >= 64
                   ? start<by_turns<256, 1, st_epilogue_fold<256, gelu, factor, hash>>>(p, q)
                   : ST_FUSED_NOT;
    return took != ST_FUSED_NOT
               ? took
               : start<together<256, st_epilogue_fold<256, gelu, factor, hash>>>(p, q);
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
    if (!here().blocks || !here().encode || !aligned(a) || a->rows < 1) return ST_FUSED_NOT;
    if (a->in_factor) {
        if (a->groups != 1 || a->k % 32 || a->out != ST_OUT_PLAIN || a->gelu) return ST_FUSED_NOT;
#define CASE(f, h)                                                                                 \
    if (a->in_factor == f && a->in_hash == h) return start<folding<f, h>>(*a, q);
        CASE(2, 3)
        CASE(4, 3) CASE(8, 3)
#undef CASE
            return ST_FUSED_NOT;
    }
    switch (a->out) {
    case ST_OUT_PLAIN:
        if (a->gelu == 1) return plain<1>(*a, q);
        if (a->gelu == 2) return plain<2>(*a, q);
        return plain<0>(*a, q);
    case ST_OUT_FOLD:
#define CASE(g, f, h)                                                                              \
    if (a->gelu == g && a->out_factor == f && a->out_hash == h) return folded<g, f, h>(*a, q);
        CASE(1, 2, 3)
        CASE(1, 4, 3) CASE(1, 8, 3) CASE(2, 2, 3) CASE(2, 4, 3) CASE(2, 8, 3)
#undef CASE
            return ST_FUSED_NOT;
    case ST_OUT_DEAL:
        if (a->groups != 4 || a->n != 192 || a->bias) return ST_FUSED_NOT;
        if (a->k <= 192) return start<by_turns<192, 1, st_epilogue_deal<192, 4>>>(*a, q);
        return start<together<192, st_epilogue_deal<192, 4>>>(*a, q);
    case ST_OUT_INTERLEAVE:
        if (a->groups != 4 || a->k > 192) return ST_FUSED_NOT;
        return start<by_turns<256, 4, st_epilogue_interleave<256>>>(*a, q);
    case ST_OUT_EXPAND:
        if (a->groups != 1) return ST_FUSED_NOT;
        return start<together<256, st_epilogue_expand<256>>>(*a, q);
    }
    return ST_FUSED_NOT;
}
