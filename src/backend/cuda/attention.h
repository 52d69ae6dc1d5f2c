/* Attention on a GPU: what the launchers of attend_fwd and attend_bwd call. Pointers in the
 * arguments are the device's. Nothing here allocates or waits; all can be captured into a graph.
 * The same arguments give the same bits: sums that several blocks share have a fixed order. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_ATTENTION_H
#define ST_ATTENTION_H

#include <cuda_runtime_api.h>
#ifdef __cplusplus
extern "C" {
#endif
#include "backend/ops.h"

/* Which kernels may be taken; the fastest that fits is. AUTO 0 for all but tests. */
typedef enum {
    ST_ATTENTION_AUTO,
    ST_ATTENTION_WARPS,  /* products of one warp (sm_80 and up) */
    ST_ATTENTION_GROUPS, /* products of four warps (sm_90a) */
    ST_ATTENTION_PLAIN,  /* float32 arithmetic, any head_dim */
    ST_ATTENTION_SPLIT   /* keys split among blocks, few queries, forward alone */
} st_attention_way;

/* Bytes of scratch that the call needs, 256-byte aligned; 0: none. */
size_t st_attention_fwd_work(const st_attend_fwd_args *a);
size_t st_attention_bwd_work(const st_attend_bwd_args *a);

/* arch: the GPU's compute capability (90). cudaErrorNotSupported: `way` does not fit these
 * arguments (never for AUTO). scale > 0. */
cudaError_t st_attention_fwd(const st_attend_fwd_args *a, void *work, int arch,
                             st_attention_way way, cudaStream_t stream);
cudaError_t st_attention_bwd(const st_attend_bwd_args *a, void *work, int arch,
                             st_attention_way way, cudaStream_t stream);

/* Where heads share keys and values: gk and gv of every head by itself in `work`, which has
 * st_attention_shared_work bytes, as *all has it; then their sums over the heads that share, in
 * order, to g's (attention_shared.cu). */
size_t st_attention_shared_work(const st_attend_bwd_args *g);
void st_attention_share(const st_attend_bwd_args *g, void *work, st_attend_bwd_args *all);
cudaError_t st_attention_gather(const st_attend_bwd_args *g, const st_attend_bwd_args *all,
                                cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
