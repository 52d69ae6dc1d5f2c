/* The table of an instruction set: every operation that callers may not compose. The optional ones
 * are no faster in one than one after the other here. */
/* SPDX-License-Identifier: MIT */
#include "backend/cpu/kernels/lanes.h"

void KERNEL(table)(st_ops *t, st_cpu *cpu)
{
    cpu->own = KERNEL(gemm);
    cpu->blocks = KERNEL(gemm_blocks);
#define TAKE_1(op)          t->op = KERNEL(op);
#define TAKE_0(op)          t->op = NULL;
#define ST_OP(op, required) TAKE_##required(op)
#include "backend/ops.def"
#undef ST_OP
#undef TAKE_1
#undef TAKE_0
}
