/* The kernels for every machine (128-bit vectors). */
/* SPDX-License-Identifier: MIT */
#define LANES       4 /* floats in a vector */
#define TILE_ROWS   4 /* rows of the product's register tile, two vectors wide */
#define KERNEL_FILL st_cpu_base_fill
#include "backend/cpu/kernels/all.h"
