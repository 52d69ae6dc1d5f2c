/* The first half of an MLP with its GELU, and SS1's fold after that, in one launch; and the way
 * back through both. Few rows and other folds and types are composed. */
/* SPDX-License-Identifier: MIT */
#include "backend/cuda/device.cuh"
#include "backend/cuda/fused.h"

enum { MLP_ROWS = 512 }; /* below, the library's kernels for few rows are faster */

/* A fold as the release has it, of whole blocks. */
static bool mlp_released(const st_fold_fwd_args *f)
{
    return f->folds <= 1 && !f->signs && f->block == 32 && f->vec == 8 &&
           f->cols == f->supers * f->factor * 32;
}

static int mlp_kind(st_gelu_kind kind)
{
    return kind == ST_GELU_TANH ? 1 : 2;
}

static int mlp_fused(st_stream *q, const st_gelu_linear_args *a)
{
    const st_fold_fwd_args *f = &a->fold;
    if (a->x.dtype != ST_BF16 || a->rows < MLP_ROWS) return ST_FUSED_NOT;
    if (f->block && !mlp_released(f)) return ST_FUSED_NOT;
    st_fused_args p = {};
    p.rows = a->rows, p.groups = 1, p.n = a->n, p.k = a->k;
    p.ldx = p.ldw = a->k, p.ldy = a->n;
    p.x = a->x.data, p.w = a->w.data, p.bias = a->bias.data, p.y = a->y.data;
    p.h = a->keep ? a->h.data : NULL;
    p.gelu = mlp_kind(a->kind);
    if (f->block) {
        p.out = ST_OUT_FOLD;
        p.out_factor = (int)f->factor, p.out_hash = (int)(f->r0 % 4);
        p.ldy = a->n / f->factor;
    }
    return st_fused_product(&p, st_cuda_stream(q));
}

extern "C" void st_cuda_gelu_linear(st_stream *q, const st_gelu_linear_args *a)
{
    st_gemm_args g = {};
    st_gelu_fwd_args gelu = {};
    int took = mlp_fused(q, a);
    if (took != ST_FUSED_NOT) {
        st_cuda_ok(q, (cudaError_t)took, "gelu_linear");
        return;
    }
    g.m = a->rows, g.n = a->n, g.k = a->k, g.tb = 1;
    g.a = a->x, g.b = a->w, g.c = a->h, g.bias = a->bias;
    gelu.x = a->h, gelu.y = a->fold.block ? a->h : a->y, gelu.kind = a->kind;
    st_cuda_gemm(q, &g);
    st_cuda_gelu_fwd(q, &gelu);
    if (!a->fold.block) return;
    st_fold_fwd_args f = a->fold;
    f.x = a->h, f.z = a->y;
    st_cuda_fold_fwd(q, &f);
    if (a->keep) st_cuda_gemm(q, &g); /* its memory held the activations meanwhile */
}

extern "C" void st_cuda_gelu_unfold(st_stream *q, const st_gelu_unfold_args *a)
{
    const st_fold_bwd_args *f = &a->fold;
    bool aligned = aligned16(f->dz.data) && aligned16(f->dx.data) && aligned16(a->h.data);
    if (a->h.dtype == ST_BF16 && mlp_released(f) && f->rows > 0 && aligned) {
        st_unfold_call u = {};
        u.rows = f->rows, u.width = f->supers * 32;
        u.dz = f->dz.data, u.h = a->h.data, u.dx = f->dx.data;
        u.factor = (int)f->factor, u.hash = (int)(f->r0 % 4), u.gelu = mlp_kind(a->kind);
        u.dbias = (float *)a->dbias.data;
        size_t sums = (size_t)st_fused_unfold_work(f->rows, f->cols) * sizeof(float);
        if (u.dbias) u.work = (float *)st_cuda_work(q, sums, "gelu_unfold");
        if (u.dbias && !u.work) return;
        int took = st_fused_unfold(&u, st_cuda_stream(q));
        if (took != ST_FUSED_NOT) {
            st_cuda_ok(q, (cudaError_t)took, "gelu_unfold");
            return;
        }
    }
    st_gelu_bwd_args gelu = {};
    gelu.x = a->h, gelu.dy = gelu.dx = f->dx, gelu.kind = a->kind;
    st_cuda_fold_bwd(q, f);
    st_cuda_gelu_bwd(q, &gelu);
    st_bias_grad_args sums = {};
    sums.rows = f->rows, sums.width = f->cols, sums.dy = f->dx, sums.dbias = a->dbias;
    if (a->dbias.data) st_cuda_bias_grad(q, &sums);
}
