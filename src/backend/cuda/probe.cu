/* Whether this build has code for the GPU at hand. */
/* SPDX-License-Identifier: MIT */
#include "backend/cuda/cuda.h"

static __global__ void probe_kernel() {}

extern "C" cudaError_t st_cuda_probe(void)
{
    cudaFuncAttributes attributes;
    return cudaFuncGetAttributes(&attributes, probe_kernel);
}
