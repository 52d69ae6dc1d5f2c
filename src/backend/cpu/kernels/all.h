/* All kernels for one instruction set, and its table. The file that includes this defines
 * LANES (floats in a vector), TILE_ROWS (rows of the register tile), KERNEL_FILL (see cpu.h). */
/* SPDX-License-Identifier: MIT */
#include "backend/cpu/kernels/lanes.h"
#include <omp.h>

#include "backend/cpu/kernels/rows.h"
#include "backend/cpu/kernels/gemm.h"

void KERNEL_FILL(st_ops *t, st_cpu *cpu)
{
    cpu->own = kernel_gemm;
    (void)t;
}

#undef LANES
#undef TILE_ROWS
#undef KERNEL_FILL
