/* A run of steps on one row in one launch, which a recording plays: products with what few.h joins
 * to them, and attention from one query. Every multiprocessor has a block, which goes through all
 * steps. A result goes from the blocks that make it to those that read it through words of memory
 * that hold RELAY_NONE until it is there: no barrier, and no launch, stands between two steps, and
 * the weights of later steps are copied to shared memory meanwhile. For C and CUDA C. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CUDA_RELAY_H
#define ST_CUDA_RELAY_H

#include "backend/cuda/few.h"
#ifdef __cplusplus
extern "C" {
#endif

/* RELAY_SPLITS: blocks that share the keys of a head at most; their parts are a head's numbers and
 * RELAY_PAST more: the sum of weights, the largest score. */
enum { RELAY_LEAST = 4, RELAY_MOST = 192, RELAY_SPLITS = 8, RELAY_PAST = 4 };

/* A step as it was queued. */
typedef struct {
    bool next; /* attend_next, else a product */
    const char *tag;
    st_few_args few;
    st_attend_next_args attend; /* resolved */
} st_relay_step;

/* A step as the kernel sees it. `..._at`: the first word of a vector of bfloat16 numbers, two in a
 * word, or -1: it is memory that no step of the run writes. What is written to memory is NULL where
 * a later step overwrites it. */
typedef struct {
    const uint16_t *w, *bias, *gain, *shift, *x, *add;
    uint16_t *h, *normed, *folded;
    void *y;
    float *mean, *rstd;
    int64_t ldw;
    int32_t x_at, add_at, y_at;
    int32_t n, k, cols; /* cols: numbers of x before norm and fold */
    int32_t block, factor, turn, width;
    int32_t gelu, wide;
    float eps, each;               /* each: 1 / cols */
    int32_t from, to, pitch, most; /* set by each block: its rows, and how they lie in a stage */
} st_relay_product;

typedef struct {
    uint16_t *k, *v, *o; /* the cache, whose row `at` is written */
    const int32_t *at;
    int64_t k_stride, v_stride;
    int32_t q_at, k_at, v_at, o_at, parts_at;
    int32_t heads, each, dim, window;
    float scale2;
} st_relay_next;

typedef struct {
    int32_t next;
    union {
        st_relay_product product;
        st_relay_next attend;
    } as;
} st_relay_op;

typedef struct {
    st_relay_op op[RELAY_MOST];
    int n;
    int64_t words;        /* of results */
    int32_t numbers, dim; /* the longest row of x, the widest head */
} st_relay_plan;

/* Whether the steps make a run for `blocks` blocks; fills the plan. */
bool st_relay_make(st_relay_plan *plan, const st_relay_step *step, int n, int blocks);
/* Bytes on the device that a plan's launches need, and their contents before the first. */
size_t st_relay_bytes(const st_relay_plan *plan, int blocks);
cudaError_t st_relay_fill(const st_relay_plan *plan, int blocks, void *room, cudaStream_t s);
cudaError_t st_relay(const st_relay_plan *plan, int blocks, void *room, cudaStream_t s);
/* Whether the current device runs a block of such a launch on each multiprocessor. */
bool st_relay_fits(const st_relay_plan *plan);

/* Between these two calls steps wait to be made into runs (chain.c). The second gives what the
 * run that was queued needs on the device, which is the caller's to free; or NULL. */
void st_cuda_chain_record(st_stream *q);
void *st_cuda_chain_recorded(st_stream *q);

#ifdef __cplusplus
}
#endif
#endif
