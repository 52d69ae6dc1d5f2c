/* The kernels for AVX-512 (F, BW, DQ, VL). */
/* SPDX-License-Identifier: MIT */
#define LANES       16 /* floats in a vector */
#define TILE_ROWS   14 /* rows of the product's register tile, two vectors wide */
#define KERNEL_FILL st_cpu_avx512_fill
#include "backend/cpu/kernels/all.h"
