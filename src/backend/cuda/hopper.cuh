/* What sm_90a adds, as one-line functions over PTX: barriers in shared memory, the bulk tensor copy
 * engine, products of a warpgroup, moving registers between warpgroups. Shared memory addresses are
 * 32-bit numbers here. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CUDA_HOPPER_CUH
#define ST_CUDA_HOPPER_CUH

#include <cuda.h>
#include <cudaTypedefs.h>
#include <cuda_bf16.h>
#include <stdint.h>

static __device__ __forceinline__ uint32_t st_smem(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* ---- barriers ------------------------------------------------------------------------------- */

static __device__ __forceinline__ void st_bar_init(uint32_t bar, uint32_t count)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(count));
}
/* Initialised barriers become visible to the copy engine and to the cluster. */
static __device__ __forceinline__ void st_bar_fence()
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
static __device__ __forceinline__ void st_bar_expect(uint32_t bar, uint32_t bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes)
                 : "memory");
}
static __device__ __forceinline__ void st_bar_arrive(uint32_t bar)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory");
}
/* Arrives at the same barrier of block `cta` of the cluster. */
static __device__ __forceinline__ void st_bar_arrive_at(uint32_t bar, uint32_t cta)
{
    asm volatile("{\n.reg .b32 at;\n"
                 "mapa.shared::cluster.u32 at, %0, %1;\n"
                 "mbarrier.arrive.shared::cluster.b64 _, [at];\n}" ::"r"(bar),
                 "r"(cta)
                 : "memory");
}
static __device__ __forceinline__ void st_bar_wait(uint32_t bar, uint32_t parity)
{
    asm volatile("{\n.reg .pred done;\n"
                 "again:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@!done bra again;\n}" ::"r"(bar),
                 "r"(parity)
                 : "memory");
}
static __device__ __forceinline__ uint32_t st_cluster_rank()
{
    uint32_t rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}
static __device__ __forceinline__ void st_cluster_sync()
{
    asm volatile("barrier.cluster.arrive.release.aligned;\n"
                 "barrier.cluster.wait.acquire.aligned;" ::
                     : "memory");
}

/* ---- one kernel after another --------------------------------------------------------------- */

/* The next kernel of the stream may take its place, if it was launched to do so. */
static __device__ __forceinline__ void st_let_next()
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
/* Until the kernel before has ended, where this one was launched before that. */
static __device__ __forceinline__ void st_await_last()
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* ---- the copy engine ------------------------------------------------------------------------ */

static __device__ __forceinline__ void st_tma_load(uint32_t dst, const CUtensorMap *map,
                                                   uint32_t bar, int x, int y, int z)
{
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %5}], [%2];" ::"r"(dst),
                 "l"(map), "r"(bar), "r"(x), "r"(y), "r"(z)
                 : "memory");
}
/* `bytes` numbers as they lie. */
static __device__ __forceinline__ void st_bulk_load(uint32_t dst, const void *src, uint32_t bytes,
                                                    uint32_t bar)
{
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1], %2, [%3];" ::"r"(dst),
                 "l"(src), "r"(bytes), "r"(bar)
                 : "memory");
}
/* The tensor copy into every block of the cluster that has its bit in mask, signalling its barrier.
 */
static __device__ __forceinline__ void st_tma_load_all(uint32_t dst, const CUtensorMap *map,
                                                       uint32_t bar, int x, int y, int z,
                                                       uint16_t mask)
{
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
                 ".multicast::cluster [%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(dst),
                 "l"(map), "r"(bar), "r"(x), "r"(y), "r"(z), "h"(mask)
                 : "memory");
}
static __device__ __forceinline__ void st_tma_store(const CUtensorMap *map, uint32_t src, int x,
                                                    int y, int z)
{
    asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group "
                 "[%0, {%2, %3, %4}], [%1];" ::"l"(map),
                 "r"(src), "r"(x), "r"(y), "r"(z)
                 : "memory");
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
/* Until at most `left` of this thread's stores still read shared memory. */
template <int left> static __device__ __forceinline__ void st_tma_store_read()
{
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(left) : "memory");
}
static __device__ __forceinline__ void st_tma_store_done()
{
    asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}
/* What this thread wrote to shared memory is seen by the copy engine and the matrix units. */
static __device__ __forceinline__ void st_fence_async()
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
static __device__ __forceinline__ void st_tma_prefetch(const CUtensorMap *map)
{
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

/* ---- registers between warpgroups ----------------------------------------------------------- */

template <int count> static __device__ __forceinline__ void st_regs_up()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
}
template <int count> static __device__ __forceinline__ void st_regs_down()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
}

/* ---- products of a warpgroup ---------------------------------------------------------------- */

static __device__ __forceinline__ void st_wgmma_fence()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
static __device__ __forceinline__ void st_wgmma_commit()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int left> static __device__ __forceinline__ void st_wgmma_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(left) : "memory");
}

/* Rows of 64 numbers (128 bytes, swizzled by 128) below each other, in groups of 8. */
static __device__ __forceinline__ uint64_t st_wgmma_rows(uint32_t at)
{
    return (uint64_t)(at >> 4 & 0x3fff) | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 |
           (uint64_t)1 << 62;
}

/* An ordinary load, which the compiler may move between barriers. */
static __device__ __forceinline__ uint4 st_shared16(uint32_t at)
{
    return *(const uint4 *)__cvta_shared_to_generic(at);
}

#define ST_ACC8(d, i)                                                                              \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]),    \
        "+f"(d[i + 6]), "+f"(d[i + 7])
#define ST_ACC16(d, i) ST_ACC8(d, i), ST_ACC8(d, i + 8)
#define ST_ACC32(d, i) ST_ACC16(d, i), ST_ACC16(d, i + 16)
#define ST_ACC64(d, i) ST_ACC32(d, i), ST_ACC32(d, i + 32)
#define ST_D0                                                                                      \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, "   \
    "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define ST_D1a ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define ST_D1                                                                                      \
    ST_D1a ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define ST_D2                                                                                      \
    ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, " \
    "%82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define ST_D3                                                                                      \
    ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, "     \
    "%111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, "   \
    "%126, %127"

/* d (64, n) = a (64, 16) b (n, 16)^T + (keep ? d : 0), both from shared memory. Row w 16 + lane / 4
 * (+ 8) of warp w; columns 8 j + lane % 4 * 2 (+ 1) in d[4 j], d[4 j + 1] (rows + 8: + 2, + 3). */
#define ST_WGMMA(n, regs, list, a, b, keep)                                                        \
    static __device__ __forceinline__ void st_wgmma(float(&d)[n / 2], uint64_t ad, uint64_t bd,    \
                                                    int kept)                                      \
    {                                                                                              \
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " keep ", 0;\n"                             \
                     "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" regs "}, " a     \
                     ", " b ", p, 1, 1, 0, 0;\n}\n"                                                \
                     : list                                                                        \
                     : "l"(ad), "l"(bd), "r"(kept));                                               \
    }
#define ST_LIST(...) __VA_ARGS__
ST_WGMMA(64, ST_D0, ST_LIST(ST_ACC32(d, 0)), "%32", "%33", "%34")
ST_WGMMA(96, ST_D0 ST_D1a, ST_LIST(ST_ACC32(d, 0), ST_ACC16(d, 32)), "%48", "%49", "%50")
ST_WGMMA(128, ST_D0 ST_D1, ST_LIST(ST_ACC64(d, 0)), "%64", "%65", "%66")
ST_WGMMA(192, ST_D0 ST_D1 ST_D2, ST_LIST(ST_ACC64(d, 0), ST_ACC32(d, 64)), "%96", "%97", "%98")
ST_WGMMA(256, ST_D0 ST_D1 ST_D2 ST_D3, ST_LIST(ST_ACC64(d, 0), ST_ACC64(d, 64)), "%128", "%129",
         "%130")

/* Four 8 x 8 matrices of 16-bit numbers to shared memory: lanes 8 i .. 8 i + 7 give the rows of
 * matrix i, register i of each lane its pair. */
static __device__ __forceinline__ void st_stmatrix(uint32_t at, uint32_t a, uint32_t b, uint32_t c,
                                                   uint32_t d)
{
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(at),
                 "r"(a), "r"(b), "r"(c), "r"(d)
                 : "memory");
}

#endif
