/* The inside of the cpu device: its state, how work is shared among threads, and the tables that
 * each instruction set fills. Kernels are written once (kernels/) and compiled once per set. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CPU_H
#define ST_CPU_H

#include "backend/stream.h"

enum {
    ST_CPU_AVX2 = 1,
    ST_CPU_AVX512 = 2,
    ST_CPU_AVX512_VNNI = 4,
    ST_CPU_AVX512_BF16 = 8,
    ST_CPU_AMX = 16
};

/* What this machine has, less the names listed in $ST_CPU_FORBID ("avx512,avx2"). */
unsigned st_cpu_features(void);
const char *st_cpu_feature_names(unsigned features); /* "avx512", ..., "baseline" */

typedef void st_cpu_gemm(st_stream *q, const st_gemm_args *g);

typedef struct {
    st_cpu_gemm *own;    /* our kernels: any shape and dtype */
    st_cpu_gemm *half;   /* those for bf16 operands; NULL: `own` */
    st_cpu_gemm *blocks; /* those of few rows with B in blocks */
    st_ops wide;         /* beside the operations of `half`: any dtype */
    bool blas_lost;      /* the library took kernels of another age: ours are faster */
    st_arena scratch;    /* `threads` pieces of ST_CPU_SCRATCH bytes */
} st_cpu;

/* Scratch of one thread, for packed panels and blocks of scores. */
#define ST_CPU_SCRATCH ((size_t)4 << 20)

void st_cpu_base_table(st_ops *t, st_cpu *cpu);
void st_cpu_avx2_table(st_ops *t, st_cpu *cpu);
void st_cpu_avx512_table(st_ops *t, st_cpu *cpu);
/* What multiplies 8-bit integers. */
void st_cpu_avx512vnni_gemm_blocks(st_stream *q, const st_gemm_args *g);
/* What multiplies bf16 operands. */
void st_cpu_avx512bf16_table(st_ops *t, st_cpu *cpu);
void st_cpu_amx_table(st_ops *t, st_cpu *cpu);

/* Products: the library for large float32 ones, our kernels for the rest (gemm_lib.c). */
void st_cpu_lib_gemm(st_stream *q, const st_gemm_args *g);
void st_cpu_lib_name(char *out, size_t room); /* "OpenBLAS 0.3.21 (Zen, OpenMP)" */

static inline const st_ops *st_cpu_wide(const st_stream *q)
{
    return &((const st_cpu *)q->device_state)->wide;
}

static inline char *st_cpu_scratch(const st_stream *q, int part)
{
    return ((const st_cpu *)q->device_state)->scratch.base + (size_t)part * ST_CPU_SCRATCH;
}

/* Whether a product with B in blocks is one of few rows, whose A is rounded to 8 bits. */
enum { ST_BLOCKS_FEW = 16 };
static inline bool st_cpu_blocks_few(const st_gemm_args *g)
{
    return g->m <= ST_BLOCKS_FEW && (size_t)(g->m * g->k) * 5 / 4 <= ST_CPU_SCRATCH;
}

typedef struct {
    int64_t lo, hi;
} st_span;

/* Part `i` of `parts` of [0, n), cut at multiples of `grain`. */
static inline st_span st_part(int64_t n, int64_t grain, int64_t i, int64_t parts)
{
    int64_t grains = (n + grain - 1) / grain;
    int64_t lo = grains * i / parts * grain, hi = grains * (i + 1) / parts * grain;
    return (st_span){lo < n ? lo : n, hi < n ? hi : n};
}

/* Whether `work` is worth waking all threads (a unit is some 0.25 ns of vector work). Never some of
 * them: libgomp ends the threads that a smaller team has no place for, and starts them again for
 * the next larger one. */
static inline int st_parts(const st_stream *q, int64_t work)
{
    return work >> 15 ? q->threads : 1;
}

#endif
