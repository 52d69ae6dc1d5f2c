/* The kernels that multiply bfloat16 operands as they are, for one instruction set. The file that
 * includes this defines LANES and TILE_ROWS (see all.h), HALF_TILE (the file of the tile),
 * HALF_FILL (see cpu.h) and, where passes over numbers are to be filled in too, HALF_PASSES. */
/* SPDX-License-Identifier: MIT */
#include "backend/cpu/kernels/lanes.h"
#include <omp.h>

/* In the order of what uses what. */
/* clang-format off */
#include "backend/cpu/kernels/rows.h"
#include "backend/cpu/kernels/thin.h"
#include "backend/cpu/kernels/gemm_common.h"
#include "backend/cpu/kernels/gemm_half.h"
#include HALF_TILE
#include "backend/cpu/kernels/gemm.h"
#include "backend/cpu/kernels/drop.h"
#include "backend/cpu/kernels/attention.h"
#include "backend/cpu/kernels/attention_half.h"
#ifdef HALF_PASSES
#include "backend/cpu/kernels/half_norm.h"
#include "backend/cpu/kernels/half_pointwise.h"
#include "backend/cpu/kernels/half_unfold.h"
#endif
/* clang-format on */

/* Weights are rounded: not where gradients will be taken, which felt it (2.5 % of a bias's). */
static void half_attend_fwd(st_stream *q, const st_attend_fwd_args *a)
{
    st_attend_fwd_args all = st_attend_resolve(a);
    if (a->h.q.x.dtype != ST_BF16 || a->lse.data)
        st_cpu_wide(q)->attend_fwd(q, a);
    else if (pairs_serve(&all))
        pairs_attend_fwd(q, &all);
    else
        kernel_attend_fwd(q, a);
}

void HALF_FILL(st_ops *t, st_cpu *cpu)
{
    if (!cpu->half) cpu->wide = *t;
    cpu->half = kernel_gemm;
    t->attend_fwd = half_attend_fwd;
#ifdef HALF_PASSES
    t->norm_fwd = half_norm_fwd;
    t->gelu_fwd = half_gelu_fwd;
    t->gelu_bwd = half_gelu_bwd;
    t->residual_fwd = half_residual_fwd;
    t->unfold = half_unfold;
#endif
}

#undef LANES
#undef TILE_ROWS
#undef HALF_TILE
#undef HALF_PASSES
#undef HALF_FILL
