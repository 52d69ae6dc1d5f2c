/* Shapes that layers of real networks have, in suites. */
/* SPDX-License-Identifier: MIT */
#include "bench/inner.h"
#include <string.h>

/* The shapes of the layer benchmark in the SS1 paper's fork of fly (tokens, inputs, outputs). */
static const bench_size suites_gpt2[] = {
    {1024, 1024, 1024}, {16384, 1024, 1024}, {32768, 1024, 1024}, {36864, 768, 768},
    {36864, 768, 3072}, {36864, 3072, 768},  {12288, 768, 2304},  {12288, 768, 50257},
    {32768, 768, 768},  {32768, 768, 2304},  {32768, 768, 3072},  {32768, 3072, 768},
    {0, 0, 0},
};
static const bench_size suites_llama[] = {
    {4096, 4096, 4096},  {4096, 4096, 1024},  {4096, 4096, 14336},  {4096, 14336, 4096},
    {8192, 4096, 4096},  {8192, 4096, 1024},  {8192, 4096, 14336},  {8192, 14336, 4096},
    {16384, 4096, 4096}, {16384, 4096, 1024}, {16384, 4096, 14336}, {16384, 14336, 4096},
    {0, 0, 0},
};
static const bench_size suites_square[] = {
    {1 << 15, 1 << 9, 1 << 9},
    {1 << 15, 1 << 10, 1 << 10},
    {1 << 15, 1 << 11, 1 << 11},
    {1 << 15, 1 << 12, 1 << 12},
    {1 << 15, 1 << 13, 1 << 13},
    {1 << 15, 1 << 14, 1 << 14},
    {0, 0, 0},
};
/* Few tokens, where structured layers are often the slower ones. */
static const bench_size suites_small[] = {
    {1, 768, 3072}, {4, 768, 3072},  {16, 768, 3072}, {64, 768, 3072}, {1, 3072, 768},
    {4, 3072, 768}, {16, 3072, 768}, {64, 3072, 768}, {0, 0, 0},
};

const bench_suite bench_suites[] = {
    {"gpt2", "GPT-2's matrices and squares of width 1024, 1,024 to 36,864 tokens", suites_gpt2},
    {"llama", "Llama's matrices of width 4096, 4,096 to 16,384 tokens", suites_llama},
    {"square", "squares of width 512 to 16,384, 32,768 tokens", suites_square},
    {"small", "GPT-2's MLP at 1, 4, 16 and 64 tokens, as in decoding", suites_small},
    {NULL, NULL, NULL},
};

st_status bench_suite_find(const bench_suite **out, const char *name, st_err *e)
{
    const char *names[sizeof bench_suites / sizeof *bench_suites] = {NULL};
    for (int i = 0; bench_suites[i].name; i++) {
        names[i] = bench_suites[i].name;
        *out = &bench_suites[i];
        if (strcmp(name, names[i]) == 0) return ST_OK;
    }
    const char *near = st_nearest(name, names);
    ST_FAIL(e, ST_EARG, "suite \"%.60s\": there are gpt2, llama, square and small%s%s%s", name,
            near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}
