/* Products: large float32 ones without a bias go to OpenBLAS, the rest to our kernels
 * (kernels/gemm.c), which are as fast from about 128 on and faster where a size is thin, a batch
 * small or a dtype bf16. */
/* SPDX-License-Identifier: MIT */
#include "backend/cpu/cpu.h"
#include <cblas.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>

void st_cpu_lib_name(char *out, size_t room)
{
    static const char *const parallel[] = {"serial", "pthreads", "OpenMP"};
    int kind = openblas_get_parallel();
    snprintf(out, room, "%.15s (%.16s, %s)", openblas_get_config(), openblas_get_corename(),
             kind >= 0 && kind <= 2 ? parallel[kind] : "?");
}

/* The library goes by the processor's model number, which virtual machines mask and newer
 * processors have another of than it knows; it then takes kernels of 2004 (seen: 31 instead of 240
 * GFLOP/s) or those for AVX2 (half the speed where there is AVX-512). It listens to
 * OPENBLAS_CORETYPE, but only when it is loaded. */
const char *st_blas_core(void)
{
    static const char *const wide[] = {"SkylakeX", "Cooperlake", "SapphireRapids"};
    static const char *const modern[] = {"Haswell", "Zen", "Excavator"};
    unsigned found = st_cpu_features();
    if (!(found & ST_CPU_AVX2)) return NULL;
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        if (strcasecmp(openblas_get_corename(), wide[i]) == 0) return NULL;
    }
    if (found & ST_CPU_AVX512) return "SkylakeX";
    for (size_t i = 0; i < sizeof modern / sizeof *modern; i++) {
        if (strcasecmp(openblas_get_corename(), modern[i]) == 0) return NULL;
    }
    return "Haswell";
}

/* Whether the library is the faster way. With a bias it is not: it would need a pass over C first
 * (measured: 8 to 47 % slower at 1024 rows of GPT-2's matrices; our kernels add it as they store).
 */
static bool lib_wanted(const st_stream *q, const st_gemm_args *g)
{
    if (g->bias.data || st_dtype_blocks(g->b.dtype)) return false;
    if (((const st_cpu *)q->device_state)->blas_lost) return false;
    bool f32 = g->a.dtype == ST_F32 && g->c.dtype == ST_F32;
    bool wide = g->m >= 128 && g->n >= 128 && g->k >= 128;
    return f32 && wide && g->batch <= 1 && g->m * g->n * g->k >= (int64_t)1 << 25;
}

void st_cpu_lib_gemm(st_stream *q, const st_gemm_args *g)
{
    const st_cpu *cpu = q->device_state;
    if (st_dtype_blocks(g->b.dtype) && st_cpu_blocks_few(g)) {
        cpu->blocks(q, g);
        return;
    }
    if (!lib_wanted(q, g)) {
        (g->a.dtype == ST_BF16 && cpu->half ? cpu->half : cpu->own)(q, g);
        return;
    }
    st_gemm_layout l = st_gemm_resolve(g);
    /* OpenBLAS takes as many threads as the calling thread's OpenMP setting says. */
    int before = omp_get_max_threads();
    omp_set_num_threads(q->threads);
    cblas_sgemm(CblasRowMajor, g->ta ? CblasTrans : CblasNoTrans, g->tb ? CblasTrans : CblasNoTrans,
                (blasint)g->m, (blasint)g->n, (blasint)g->k, 1, g->a.data, (blasint)l.lda,
                g->b.data, (blasint)l.ldb, g->beta, g->c.data, (blasint)l.ldc);
    omp_set_num_threads(before);
}
