/* Instruction sets: what the processor offers and the system saves (cpuid, xgetbv). Never by model
 * name: virtual machines mask it. */
/* SPDX-License-Identifier: MIT */
#include "backend/cpu/cpu.h"
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* State components that the system saves on a task switch. */
static uint64_t features_saved(void)
{
    uint32_t lo, hi;
    __asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

/* Linux hands out the tiles' state (component 18) to processes that ask for it. */
static bool features_permitted(void)
{
#if defined(__linux__)
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0;
#else
    return false;
#endif
}

static unsigned features_machine(void)
{
    unsigned a, b, c, d, found = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    bool xsave = c >> 27 & 1, fma = c >> 12 & 1, f16c = c >> 29 & 1;
    if (!xsave || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    uint64_t saved = features_saved();
    bool ymm = (saved & 0x6) == 0x6, zmm = (saved & 0xe6) == 0xe6;
    if (ymm && fma && f16c && (b >> 5 & 1)) found |= ST_CPU_AVX2;
    unsigned want = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31; /* F, DQ, BW, VL */
    unsigned leaves = a, half = d, vnni = c >> 11 & 1;
    if (!(found & ST_CPU_AVX2) || !zmm || (b & want) != want) return found;
    found |= ST_CPU_AVX512;
    if (vnni) found |= ST_CPU_AVX512_VNNI;
    if (leaves < 1 || !__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a >> 5 & 1)) return found;
    /* Intel's processors with FP16 multiply pairs at half the rate of float32; AMD's have SSE4A */
    bool fp16 = half >> 23 & 1, sse4a = __get_cpuid(0x80000001, &a, &b, &c, &d) && (c >> 6 & 1);
    if (!fp16 || sse4a) found |= ST_CPU_AVX512_BF16;
    bool tiles = (half >> 22 & 1) && (half >> 24 & 1) && (saved & 0x60000) == 0x60000;
    if (tiles && features_permitted()) found |= ST_CPU_AMX;
    return found;
}
#else
static unsigned features_machine(void)
{
    return 0;
}
#endif

static const struct {
    const char *name;
    unsigned bits; /* forbidding one forbids what stands on it */
} features[] = {
    {"avx2", ~0u},
    {"avx512", ~0u & ~ST_CPU_AVX2},
    {"avx512vnni", ST_CPU_AVX512_VNNI},
    {"avx512bf16", ST_CPU_AVX512_BF16},
    {"amx", ST_CPU_AMX},
};

unsigned st_cpu_features(void)
{
    unsigned found = features_machine();
    const char *text = getenv("ST_CPU_FORBID");
    while (text && *text) {
        size_t n = strcspn(text, ",");
        for (size_t i = 0; i < sizeof features / sizeof *features; i++) {
            const char *name = features[i].name;
            if (n == strlen(name) && strncmp(text, name, n) == 0) found &= ~features[i].bits;
        }
        text += n + (text[n] == ',');
    }
    return found;
}

const char *st_cpu_feature_names(unsigned found)
{
    if (found & ST_CPU_AMX) return "avx512 with amx";
    if (found & ST_CPU_AVX512_BF16) return "avx512 with bf16";
    if (found & ST_CPU_AVX512) return "avx512";
    return found & ST_CPU_AVX2 ? "avx2" : "baseline";
}
