/* The table of a set that multiplies bfloat16 operands as they are: what it does better than the
 * set below it. */
/* SPDX-License-Identifier: MIT */
#include "backend/cpu/kernels/half_rows.h"

void KERNEL(table)(st_ops *t, st_cpu *cpu)
{
    if (!cpu->half) cpu->wide = *t;
    cpu->half = KERNEL(gemm);
    t->attend_fwd = half_attend_fwd;
    t->norm_fwd = half_norm_fwd;
    t->gelu_fwd = half_gelu_fwd;
    t->gelu_bwd = half_gelu_bwd;
    t->residual_fwd = half_residual_fwd;
    t->unfold = half_unfold;
}
