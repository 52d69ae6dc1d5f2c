/* Chooses the kernel of grouped_mma.cuh for a product and starts it. */
/* SPDX-License-Identifier: MIT */
#include "fused.h"
#include "grouped_mma.cuh"

namespace
{
template <class T> int start(const st_fused_args &p, cudaStream_t q)
{
    st_mma_args a = {};
    a.x = (const __nv_bfloat16 *)p.x;
    a.w = (const __nv_bfloat16 *)p.w;
    a.y = (__nv_bfloat16 *)p.y;
    a.h = (__nv_bfloat16 *)p.h;
    a.ldx = p.ldx;
    a.ldw = p.ldw;
    a.ldy = p.ldy;
    a.ldh = p.groups * p.n;
    a.k = (int)p.k;
    a.group_tiles = (int)((p.n + T::each - 1) / T::each);
    a.y_cols = (int)(p.out == ST_OUT_FOLD                                   ? p.n / p.out_factor
                     : p.out == ST_OUT_EXPAND || p.out == ST_OUT_INTERLEAVE ? 4 * p.n
                                                                            : p.n);
    a.e.bias = (const __nv_bfloat16 *)p.bias;
    a.e.scale = p.scale;
    a.e.y = a.y;
    a.e.ldy = p.ldy;
    a.e.rows = (int)p.rows;
    a.e.cols = (int)p.n;
    a.e.keep = p.h != nullptr;
    dim3 grid((unsigned)(a.group_tiles * (T::parts > 1 ? 1 : p.groups)),
              (unsigned)((p.rows + T::rows - 1) / T::rows));
    if (grid.y > 65535) return ST_FUSED_NOT;
    int bytes = T::bytes + 128;
    cudaError_t e =
        cudaFuncSetAttribute(st_mma_kernel<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (e) return (int)e;
    st_mma_kernel<T><<<grid, 128, (size_t)bytes, q>>>(a);
    return (int)cudaGetLastError();
}

template <class E> using narrow = st_mma_kind<128, 2, 1, E>;
template <class E> using broad = st_mma_kind<256, 1, 1, E>;

template <int gelu> int folded(const st_fused_args &p, cudaStream_t q)
{
    if (p.n % (32 * p.out_factor) || (p.groups > 1 && p.n % 256)) return ST_FUSED_NOT;
    if (p.out_hash != 3) return ST_FUSED_NOT;
    switch (p.out_factor) {
    case 2: return start<narrow<st_epilogue_fold<128, gelu, 2, 3>>>(p, q);
    case 4: return start<narrow<st_epilogue_fold<128, gelu, 4, 3>>>(p, q);
    case 8: return start<broad<st_epilogue_fold<256, gelu, 8, 3>>>(p, q);
    default: return ST_FUSED_NOT;
    }
}
} // namespace

int st_fused_product_mma(const st_fused_args *a, cudaStream_t q)
{
    if (a->in_factor) {
        st_fold_call f = {a->rows, a->k, a->ldx, a->x, a->z, a->in_factor, a->in_hash};
        st_fused_args folded = *a;
        int took = a->in_gather ? st_fused_gather4(a->rows, a->k, a->x, a->scale, a->z, q)
                                : st_fused_fold(&f, q);
        folded.in_factor = folded.in_gather = 0;
        folded.x = a->z;
        folded.ldx = a->k;
        return took ? took : st_fused_product_mma(&folded, q);
    }
    switch (a->out) {
    case ST_OUT_PLAIN:
        if (a->gelu == 1) return start<narrow<st_epilogue_plain<128, 1>>>(*a, q);
        if (a->gelu == 2) return start<narrow<st_epilogue_plain<128, 2>>>(*a, q);
        return start<narrow<st_epilogue_plain<128, 0>>>(*a, q);
    case ST_OUT_FOLD:
        return a->gelu == 1 ? folded<1>(*a, q) : a->gelu == 2 ? folded<2>(*a, q) : ST_FUSED_NOT;
    case ST_OUT_DEAL:
        if (a->groups != 4 || a->n != 192 || a->bias) return ST_FUSED_NOT;
        return start<st_mma_kind<192, 1, 1, st_epilogue_deal<192, 4>>>(*a, q);
    case ST_OUT_INTERLEAVE:
        if (a->groups != 4) return ST_FUSED_NOT;
        return start<st_mma_kind<128, 2, 4, st_epilogue_interleave<128>>>(*a, q);
    case ST_OUT_EXPAND:
        if (a->groups != 1) return ST_FUSED_NOT;
        return start<narrow<st_epilogue_expand<128>>>(*a, q);
    case ST_OUT_GATHER:
        if (a->groups != 1 || !a->gelu) return ST_FUSED_NOT;
        if (a->gelu == 1) return start<narrow<st_epilogue_gather<128, 1>>>(*a, q);
        return start<narrow<st_epilogue_gather<128, 2>>>(*a, q);
    }
    return ST_FUSED_NOT;
}
