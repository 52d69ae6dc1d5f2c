/* Instructions that attention's kernels are made of, one function each: loads that run beside the
 * arithmetic, matrix fragments, products of a warp (sm_80) and of four warps (sm_90a).
 *
 * Fragments of a warp (g = lane / 4, t = lane % 4): an accumulator of 16 x 8 has rows g (numbers 0,
 * 1) and g + 8 (2, 3), columns 2t and 2t + 1; a left operand of 16 x 16 has the same rows in words
 * 0, 2 and 1, 3, columns 2t, 2t + 1 in words 0, 1 and eight more in 2, 3. So two accumulators side
 * by side, rounded, are a left operand. Four warps have 64 rows, 16 each. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_ATTENTION_PTX_CUH
#define ST_ATTENTION_PTX_CUH

#include <cuda.h>
#include <cuda_runtime.h>
#include <math.h>
#include <stdint.h>

/* Dynamic shared memory, whose start is aligned to the 1024 bytes after which swizzles repeat. */
__device__ __forceinline__ unsigned char *shared_start(void)
{
    extern __shared__ __align__(1024) unsigned char attention_shared[];
    return attention_shared;
}

__device__ __forceinline__ uint32_t shared_at(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

__device__ __forceinline__ int grid_blocks(void)
{
    return (int)gridDim.x;
}

__device__ __forceinline__ float exp2_near(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* Two numbers as bfloat16, the first in the low half. */
__device__ __forceinline__ uint32_t pack_bf16(float low, float high)
{
    uint32_t y;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
    return y;
}

/* ---- a warp --------------------------------------------------------------------------------- */

/* 16 bytes to shared memory beside the arithmetic; zeros, and nothing read, where !there. */
__device__ __forceinline__ void copy_16(uint32_t to, const void *from, bool there)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
                 "r"(there ? 16 : 0)
                 : "memory");
}
__device__ __forceinline__ void copy_commit(void)
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}
/* Waits until all but the last N groups of this thread's copies are there. */
template <int N> __device__ __forceinline__ void copy_wait(void)
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

__device__ __forceinline__ void store_16(uint32_t to, const uint32_t (&x)[4])
{
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(x[0]), "r"(x[1]),
                 "r"(x[2]), "r"(x[3])
                 : "memory");
}

/* Four 8 x 8 matrices; lane i gives the address of row i % 8 of matrix i / 8. */
__device__ __forceinline__ void matrices(uint32_t (&x)[4], uint32_t at)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(at)
                 : "memory");
}
/* The same, each transposed. */
__device__ __forceinline__ void matrices_turned(uint32_t (&x)[4], uint32_t at)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(at)
                 : "memory");
}

/* c (16, 8) += a (16, 16) b (16, 8). */
__device__ __forceinline__ void warp_product(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                             uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ float warp_swap(float x, int mask)
{
    return __shfl_xor_sync(0xffffffffu, x, mask);
}

/* Barrier `id` of `threads` threads of the block. */
__device__ __forceinline__ void threads_sync(int id, int threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/* ---- clusters of blocks (sm_90) ------------------------------------------------------------- */

__device__ __forceinline__ void cluster_sync(void)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release.aligned;\n"
                 "barrier.cluster.wait.acquire.aligned;" ::
                     : "memory");
#endif
}
/* The place in block `rank` of the cluster that p has in this one. */
__device__ __forceinline__ const float *cluster_at(const float *p, int rank)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    uint64_t there;
    asm volatile("mapa.u64 %0, %1, %2;" : "=l"(there) : "l"(p), "r"(rank));
    return (const float *)there;
#else
    return p;
#endif
}

/* ---- four warps and the copy engine (sm_90a) ------------------------------------------------- */

typedef CUtensorMap tile_map;

#if defined(__CUDA_ARCH_FEAT_SM90_ALL) || !defined(__CUDA_ARCH__)
#define ST_SM90A 1
#endif

__device__ __forceinline__ void barrier_start(uint32_t bar, int arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(arrivals) : "memory");
}

#ifdef ST_SM90A
/* Makes started barriers known to the copy engine; the block synchronises after it. */
__device__ __forceinline__ void barriers_started(void)
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
/* Arrives, and lets the phase end only once `bytes` were copied. */
__device__ __forceinline__ void barrier_expect(uint32_t bar, uint32_t bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes)
                 : "memory");
}
__device__ __forceinline__ void barrier_arrive(uint32_t bar)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory");
}
/* Waits for the end of the phase of this parity. */
__device__ __forceinline__ void barrier_wait(uint32_t bar, uint32_t parity)
{
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "again:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@done bra over;\n"
                 "bra again;\n"
                 "over:\n"
                 "}" ::"r"(bar),
                 "r"(parity)
                 : "memory");
}

/* A box of a tensor to shared memory, swizzled as its map says, zeros outside of the tensor. */
__device__ __forceinline__ void tile_copy(uint32_t to, const tile_map *map, uint32_t bar, int c0,
                                          int c1, int c2, int c3)
{
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(to),
                 "l"(map), "r"(bar), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
                 : "memory");
}
/* `bytes` in a row, 16 at least and at such addresses. */
__device__ __forceinline__ void row_copy(uint32_t to, const void *from, uint32_t bytes,
                                         uint32_t bar)
{
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1], %2, [%3];" ::"r"(to),
                 "l"(from), "r"(bytes), "r"(bar)
                 : "memory");
}

/* Registers of each thread of these four warps from here on. */
template <int N> __device__ __forceinline__ void registers_fewer(void)
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N> __device__ __forceinline__ void registers_more(void)
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}

/* Orders ordinary writes to shared memory before the copy engine's that follow a barrier. */
__device__ __forceinline__ void shared_written(void)
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ __forceinline__ void products_begin(void)
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void products_commit(void)
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int N> __device__ __forceinline__ void products_wait(void)
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

/* What a product reads at `at`: rows of 128 bytes, swizzled, 1024 bytes each eight rows. */
__device__ __forceinline__ uint64_t operand_at(uint32_t at)
{
    return (uint64_t)1 << 62 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 16 |
           (uint64_t)((at & 0x3ffff) >> 4);
}

/* The same, `bytes` on (shared memory ends before the field's 18 bits do). */
__device__ __forceinline__ uint64_t operand_on(uint64_t operand, int bytes)
{
    return operand + (uint32_t)(bytes >> 4);
}

/* c (64, 64) = a (64, 16) b (16, 64), added to c if `add`. b lies in shared memory as 64 rows of
 * its columns, or if TURNED as its 16 rows. Runs beside what follows until waited for. */
#define ST_C4(i) "+f"(c[i][0]), "+f"(c[i][1]), "+f"(c[i][2]), "+f"(c[i][3])
template <int TURNED>
__device__ __forceinline__ void group_product(float (&c)[8][4], const uint32_t (&a)[4], uint64_t b,
                                              int add)
{
    asm volatile("{\n"
                 ".reg .pred p;\n"
                 "setp.ne.b32 p, %37, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
                 "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
                 "{%32, %33, %34, %35}, %36, p, 1, 1, %38;\n"
                 "}"
                 : ST_C4(0), ST_C4(1), ST_C4(2), ST_C4(3), ST_C4(4), ST_C4(5), ST_C4(6), ST_C4(7)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add), "n"(TURNED));
}
/* The same with a as 64 rows of its columns in shared memory. */
__device__ __forceinline__ void shared_product(float (&c)[8][4], uint64_t a, uint64_t b, int add)
{
    asm volatile("{\n"
                 ".reg .pred p;\n"
                 "setp.ne.b32 p, %34, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
                 "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
                 "%32, %33, p, 1, 1, 0, 0;\n"
                 "}"
                 : ST_C4(0), ST_C4(1), ST_C4(2), ST_C4(3), ST_C4(4), ST_C4(5), ST_C4(6), ST_C4(7)
                 : "l"(a), "l"(b), "r"(add));
}
/* Keeps what is done with c before or after this on its side of a product's start or wait. */
__device__ __forceinline__ void hold(float (&c)[8][4])
{
    asm volatile(""
                 : ST_C4(0), ST_C4(1), ST_C4(2), ST_C4(3), ST_C4(4), ST_C4(5), ST_C4(6), ST_C4(7)
                 :
                 : "memory");
}
#undef ST_C4
/* The assembler moves waits up, over arithmetic that does not need them but is meant to be done
 * meanwhile; not over a branch, which this is. x is never that number. */
__device__ __forceinline__ void stay(float x)
{
    if (__any_sync(0xffffffffu, __float_as_uint(x) == 0x7fa5c3e1u))
        asm volatile("nanosleep.u32 1;");
}
#endif

#endif
