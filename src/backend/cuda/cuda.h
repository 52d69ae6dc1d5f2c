/* The inside of the cuda device, for C and CUDA C. Every operation has one launcher,
 * st_cuda_NAME(stream, arguments), which chooses the grid, launches, and latches what the launch
 * said. Results that are summed by several blocks are summed in a fixed order: no atomics on
 * floats. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CUDA_H
#define ST_CUDA_H

#include <cuda_runtime_api.h>
#ifdef __cplusplus
extern "C" {
#endif
#include "backend/stream.h"

/* What a kernel can find wrong with its data, which the next wait reports. */
typedef struct {
    const char *tag, *op, *what;
} st_cuda_fault;

enum { ST_CUDA_COUNTED = 1 << 22 };
enum { ST_CUDA_FAULTS = 64, ST_CUDA_STAGES = 2 };
#define ST_CUDA_STAGE_BYTES ((size_t)4 << 20)

struct st_cuda_lt;                          /* products (gemm_lt.c) */
typedef struct st_cuda_chain st_cuda_chain; /* what waits to be launched (chain.c) */
typedef struct st_cuda_pair st_cuda_pair;   /* likewise (pair.c) */
enum { ST_CUDA_KEPT = 40 };

typedef struct {
    cudaStream_t stream;
    int device, sms, arch; /* arch: 90 */
    char *work;            /* scratch of operations */
    size_t work_bytes;
    char *kept[ST_CUDA_KEPT]; /* scratch that recordings may know, older and smaller */
    int nkept, recordings;
    int *counts; /* of fused products (st_fused_args.done), for ST_CUDA_COUNTED rows; zeros */
    char *stage[ST_CUDA_STAGES]; /* pinned; the event says when its copy is over */
    cudaEvent_t staged[ST_CUDA_STAGES];
    int turn;    /* the stage to use next */
    int *faulty; /* pinned; 0, or 1 + the number of a fault, written by a kernel */
    int *faulty_on_device;
    st_cuda_fault fault[ST_CUDA_FAULTS];
    int faults;
    cudaEvent_t *mark; /* as many as were asked for */
    int marks;
    struct st_cuda_lt *lt;
    st_cuda_chain *chain;
    st_cuda_pair *pair;
} st_cuda;

static inline st_cuda *st_cuda_of(const st_stream *q)
{
    return (st_cuda *)q->device_state;
}
static inline cudaStream_t st_cuda_stream(const st_stream *q)
{
    return st_cuda_of(q)->stream;
}
/* Latches a failing status of a call made for `op`. True if it is no failure. */
bool st_cuda_ok(st_stream *q, cudaError_t status, const char *op);
/* To be called after each launch. */
void st_cuda_launched(st_stream *q, const char *op);
/* `bytes` of scratch, 256-byte aligned, which is the operation's until the next one asks. NULL, and
 * a latched failure, if there is none. */
void *st_cuda_work(st_stream *q, size_t bytes, const char *op);
/* Number by which a kernel reports that its data is wrong: *faulty_on_device = number. */
int st_cuda_fault_number(st_stream *q, const char *op, const char *what);

#define ST_OP(op, required) void st_cuda_##op(st_stream *q, const st_##op##_args *a);
#include "backend/ops.def"
#undef ST_OP

/* Norms whose rows keep their mean (rms.cu). */
void st_cuda_rms_fwd(st_stream *q, const st_norm_fwd_args *a);
void st_cuda_rms_bwd(st_stream *q, const st_norm_bwd_args *a);

/* norm_bwd of rows of at most 1,024 bfloat16 numbers, whose dy are folded by `factor` as the
 * release does (hash = r0 mod 4). False, and nothing done: others. */
bool st_cuda_norm_bwd_folded(st_stream *q, const st_norm_bwd_args *a, int factor, int hash);

/* Copies a few bytes, which travel with the launch, to the device. */
enum { ST_CUDA_SENT = 512 };
void st_cuda_send(st_stream *q, void *to, const void *from, size_t bytes);

/* The library's products; with `onto` in the place of beta times what c has, unless it is NULL.
 * False: it has none for this one. */
bool st_cuda_lt_gemm(st_stream *q, const st_gemm_args *g, const void *onto);
st_status st_cuda_lt_open(st_stream *q, st_err *e);
void st_cuda_lt_close(struct st_cuda_lt *lt);
/* "cuBLASLt 13.0.2" */
void st_cuda_lt_name(const struct st_cuda_lt *lt, char *out, size_t room);
/* Fills q->table with operations that may wait for each other (chain.c); launches what waits. */
st_status st_cuda_chain_open(st_stream *q, st_err *e);
st_status st_cuda_pair_open(st_stream *q, st_err *e);
void st_cuda_chain_flush(st_stream *q);

/* st_device's record, recorded, play and forget (record.c). */
bool st_cuda_record(st_stream *q);
void *st_cuda_recorded(st_stream *q);
void st_cuda_play(st_stream *q, const void *recording);
void st_cuda_forget(st_stream *q, void *recording);

/* Whether this build has code for the current device (probe.cu). */
cudaError_t st_cuda_probe(void);

#ifdef __cplusplus
}
#endif
#endif
