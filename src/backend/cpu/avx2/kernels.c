/* The kernels for AVX2 + FMA. */
/* SPDX-License-Identifier: MIT */
#define LANES       8 /* floats in a vector */
#define TILE_ROWS   6 /* rows of the product's register tile, two vectors wide */
#define KERNEL_FILL st_cpu_avx2_fill
#include "backend/cpu/kernels/all.h"
