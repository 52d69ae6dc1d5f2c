/* The kernels that multiply bfloat16 operands as they are, for one instruction set. The file that
 * includes this defines LANES and TILE_ROWS (see all.h), HALF_TILE (the file of the tile),
 * HALF_FILL (see cpu.h) and, where it has attention of its own, HALF_ATTEND (the file of it). */
/* SPDX-License-Identifier: MIT */
#include "backend/cpu/kernels/lanes.h"
#include <omp.h>

/* in the order of what uses what */
#include "backend/cpu/kernels/rows.h"
#include "backend/cpu/kernels/thin.h"

#include "backend/cpu/kernels/gemm_common.h"
#include "backend/cpu/kernels/gemm_half.h"

#include HALF_TILE

#include "backend/cpu/kernels/gemm.h"

#include "backend/cpu/kernels/drop.h"

#include "backend/cpu/kernels/attention.h"

#ifdef HALF_ATTEND
#include HALF_ATTEND
#include "backend/cpu/kernels/half_norm.h"
#endif

/* Weights are rounded: not where gradients will be taken, which felt it (2.5 % of a bias's). */
static void half_attend_fwd(st_stream *q, const st_attend_fwd_args *a)
{
#ifdef HALF_ATTEND
    st_attend_fwd_args all = st_attend_resolve(a);
    if (a->q.dtype == ST_BF16 && pairs_serve(&all)) {
        pairs_attend_fwd(q, &all);
        return;
    }
#endif
    if (a->q.dtype == ST_BF16 && !a->lse.data)
        kernel_attend_fwd(q, a);
    else
        ((const st_cpu *)q->device_state)->attend(q, a);
}

void HALF_FILL(st_ops *t, st_cpu *cpu)
{
    cpu->half = kernel_gemm;
    if (!cpu->attend) cpu->attend = t->attend_fwd;
    t->attend_fwd = half_attend_fwd;
#ifdef HALF_ATTEND
    cpu->norm = t->norm_fwd;
    t->norm_fwd = half_norm_fwd;
#endif
}

#undef LANES
#undef TILE_ROWS
#undef HALF_TILE
#undef HALF_ATTEND
#undef HALF_FILL
