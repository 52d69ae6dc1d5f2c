/* All kernels for one instruction set, and its table. The file that includes this defines
 * LANES (floats in a vector), TILE_ROWS (rows of the register tile), KERNEL_FILL (see cpu.h). */
/* SPDX-License-Identifier: MIT */
#include "backend/cpu/kernels/lanes.h"
#include <omp.h>

/* In the order of what uses what. */
/* clang-format off */
#include "backend/cpu/kernels/rows.h"
#include "backend/cpu/kernels/thin.h"
#include "backend/cpu/kernels/gemm_common.h"
#include "backend/cpu/kernels/gemm_float.h"
#include "backend/cpu/kernels/gemm.h"
#include "backend/cpu/kernels/norm.h"
#include "backend/cpu/kernels/optim.h"
#include "backend/cpu/kernels/unfold.h"
#include "backend/cpu/kernels/drop.h"
#include "backend/cpu/kernels/loss.h"
#include "backend/cpu/kernels/pointwise.h"
#include "backend/cpu/kernels/attention.h"
#include "backend/cpu/kernels/attention_back.h"
#include "backend/cpu/kernels/favor.h"
#include "backend/cpu/kernels/favor_near.h"
#include "backend/cpu/kernels/lsh_order.h"
#include "backend/cpu/kernels/lsh_attend.h"
#include "backend/cpu/kernels/shuffle.h"
#include "backend/cpu/kernels/tiles.h"
/* clang-format on */

/* Optional, and no faster in one than one after the other: the callers compose them. */
#define kernel_gelu_linear NULL
#define kernel_gelu_unfold NULL

void KERNEL_FILL(st_ops *t, st_cpu *cpu)
{
    cpu->own = kernel_gemm;
#define ST_OP(op, required) t->op = kernel_##op;
#include "backend/ops.def"
#undef ST_OP
}

#undef kernel_gelu_linear
#undef kernel_gelu_unfold
#undef LANES
#undef TILE_ROWS
#undef KERNEL_FILL
