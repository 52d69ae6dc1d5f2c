/* Products of bfloat16 matrices for AVX-512 with BF16 (pairs of numbers multiplied at once). */
/* SPDX-License-Identifier: MIT */
#define LANES     16 /* floats in a vector */
#define TILE_ROWS 14 /* rows of the product's register tile, two vectors wide */
#include "backend/cpu/kernels/lanes.h"
#include <omp.h>

/* in the order of what uses what */
#include "backend/cpu/kernels/rows.h"
#include "backend/cpu/kernels/thin.h"

#include "backend/cpu/kernels/gemm_common.h"

#include "backend/cpu/kernels/gemm_pairs.h"

#include "backend/cpu/kernels/gemm.h"

void st_cpu_avx512bf16_fill(st_cpu *cpu)
{
    cpu->half = kernel_gemm;
}
