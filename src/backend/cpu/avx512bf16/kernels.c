/* Products and attention of bfloat16 matrices for AVX-512 with BF16 (pairs of numbers multiplied at
 * once). */
/* SPDX-License-Identifier: MIT */
#define LANES     16 /* floats in a vector */
#define TILE_ROWS 14 /* rows of the product's register tile, two vectors wide */
#define HALF_TILE "backend/cpu/kernels/gemm_pairs.h"
#define HALF_PASSES
#define HALF_FILL st_cpu_avx512bf16_fill
#include "backend/cpu/kernels/half.h"
