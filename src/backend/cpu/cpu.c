/* The cpu device: the table of the best instruction set, and scratch for every thread. */
/* SPDX-License-Identifier: MIT */
#include "backend/cpu/cpu.h"
#include "backend/ref/ref.h"
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

static void cpu_close(st_stream *q)
{
    st_cpu *cpu = q->device_state;
    if (!cpu) return;
    st_arena_close(&cpu->scratch);
    free(cpu);
}

static st_status cpu_open(st_stream *q, int threads, st_err *e)
{
    unsigned found = st_cpu_features();
    st_cpu *cpu = q->device_state = st_calloc(1, sizeof *cpu);
    if (!cpu) return ST_NOMEM(e, "device cpu");
    q->threads = threads ? threads : omp_get_max_threads();
    ST_TRY(st_arena_open(&cpu->scratch, (size_t)q->threads * ST_CPU_SCRATCH, e));
    st_ref_fill_table(&q->table);
    st_cpu_base_table(&q->table, cpu);
    if (found & ST_CPU_AVX2) st_cpu_avx2_table(&q->table, cpu);
    if (found & ST_CPU_AVX512) st_cpu_avx512_table(&q->table, cpu);
    if (found & ST_CPU_AVX512_VNNI) cpu->blocks = st_cpu_avx512vnni_gemm_blocks;
    if (found & ST_CPU_AVX512_BF16) st_cpu_avx512bf16_table(&q->table, cpu);
    if (found & ST_CPU_AMX) st_cpu_amx_table(&q->table, cpu);
    q->table.gemm = st_cpu_lib_gemm;
    cpu->blas_lost = st_blas_core() != NULL;
    q->table.name = "cpu";
    char lib[64];
    st_cpu_lib_name(lib, sizeof lib);
    snprintf(q->describe, sizeof q->describe, "cpu, %d thread%s, %s, %s", q->threads,
             q->threads == 1 ? "" : "s", st_cpu_feature_names(found), lib);
    return ST_OK;
}

static bool cpu_there(void)
{
    return true;
}

const st_device st_device_cpu = {
    .name = "cpu", .packs = true, .there = cpu_there, .open = cpu_open, .close = cpu_close};
