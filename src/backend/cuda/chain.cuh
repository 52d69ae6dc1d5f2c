/* Launches that overlap (sm_90 and up): a kernel may begin while the one before still works, and
 * waits for its end before it touches anything that is not constant. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CHAIN_CUH
#define ST_CHAIN_CUH

#include <cuda_runtime.h>

/* All that was queued before has ended, and its writes are seen. */
static __device__ __forceinline__ void chain_wait(void)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
/* What comes next may begin. */
static __device__ __forceinline__ void chain_next(void)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* cluster: blocks along x that are one cluster; 0: no clusters. */
template <typename... P>
static cudaError_t chain_launch(void (*kernel)(P...), dim3 grid, int threads, size_t bytes,
                                int cluster, int arch, cudaStream_t s, P... given)
{
    cudaLaunchConfig_t c = {};
    cudaLaunchAttribute a[2] = {};
    c.gridDim = grid, c.blockDim = dim3((unsigned)threads);
    c.dynamicSmemBytes = bytes, c.stream = s, c.attrs = a;
    if (arch >= 90) {
        a[c.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
        a[c.numAttrs++].val.programmaticStreamSerializationAllowed = 1;
    }
    if (cluster > 0) {
        a[c.numAttrs].id = cudaLaunchAttributeClusterDimension;
        a[c.numAttrs].val.clusterDim.x = (unsigned)cluster;
        a[c.numAttrs].val.clusterDim.y = a[c.numAttrs].val.clusterDim.z = 1;
        c.numAttrs++;
    }
    return cudaLaunchKernelEx(&c, kernel, given...);
}

#endif
