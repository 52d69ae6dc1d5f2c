/* The table of an instruction set: every operation. */
/* SPDX-License-Identifier: MIT */
#include "backend/cpu/kernels/lanes.h"

void KERNEL(table)(st_ops *t, st_cpu *cpu)
{
    cpu->own = KERNEL(gemm);
#define ST_OP(op, required) t->op = KERNEL(op);
#include "backend/ops.def"
#undef ST_OP
}
