/* Operations of bfloat16 numbers for AMX (tiles). */
/* SPDX-License-Identifier: MIT */
#define LANES     16 /* floats in a vector */
#define TILE_ROWS 32 /* rows of the product's tile, two vectors wide */
#define HALF_TILE "backend/cpu/kernels/gemm_amx.h"
#define HALF_PASSES
#define HALF_FILL st_cpu_amx_fill
#include "backend/cpu/kernels/half.h"
