/* Layouts from the literature, by name: which matrices of GPT-2 124M become what.
 *
 * krony-*: Ben Ayad et al. 2024 (Krony-PT, arXiv 2412.12351), their code's order of dimensions: A
 * of c_fc is (m1, n1), of c_proj (n1, m1). Names with a size are the paper's and its README's;
 * those with dimensions the other rows of its Table I. An "s" at the end: with learned scalars.
 * tqcompressor: Abronin et al. 2024 (TQCompressor): every other block; its embedding is halved
 * twice, which without the permutation between is one quarter. kngpt2: Edalati et al. 2021
 * (KnGPT2), whose size this is; the paper keeps the head untied and dense (38,597,376 more), and
 * which sides its factors share is not known: here hidden units in the MLP, residual channels
 * elsewhere. */
/* SPDX-License-Identifier: MIT */
#include "store/store.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KRONY_TEXT(m1, n1, terms, more)                                                            \
    "h.*.mlp.c_fc=kron:m1=" #m1 ",n1=" #n1 ",terms=" #terms more,                                  \
        "h.*.mlp.c_proj=kron:m1=" #n1 ",n1=" #m1 ",terms=" #terms more
#define KRONY(m1, n1, terms)                                                                       \
    {                                                                                              \
        KRONY_TEXT(m1, n1, terms, "")                                                              \
    }
#define KRONY_S(m1, n1, terms)                                                                     \
    {                                                                                              \
        KRONY_TEXT(m1, n1, terms, ",scalars=1")                                                    \
    }
/* Half of attention's weights: pairs of inputs of c_attn and of outputs of c_proj, so that the
 * channels of a head stay apart. */
#define KRONY_ATTN(m1, n1)                                                                         \
    {                                                                                              \
        KRONY_TEXT(m1, n1, 1, ""), "h.*.attn.c_attn=kron:m1=384,n1=2304",                          \
            "h.*.attn.c_proj=kron:m1=768,n1=384"                                                   \
    }

/* clang-format off */
const st_preset st_presets[] = {
    {"krony-67m", "smallest of the paper's", 67893504, KRONY(32, 64, 1)},
    {"krony-67m-min", "the fewest weights a product of full rank has", 67890432, KRONY(24, 64, 1)},
    {"krony-68m-attn", "krony-81m, attention at half", 67816848, KRONY_ATTN(768, 768)},
    {"krony-71m-10", "ten terms of rank 192", 71783424, KRONY(256, 64, 10)},
    {"krony-74m", "3 x 3 blocks, one term", 74108376, KRONY(256, 1024, 1)},
    {"krony-77m", "2 x 3 blocks", 77254032, KRONY(384, 1024, 1)},
    {"krony-80m-2", "3 x 3 blocks, two terms", 80400048, KRONY(256, 1024, 2)},
    {"krony-80m-2s", "and scalars", 80400096, KRONY_S(256, 1024, 2)},
    {"krony-81m", "four hidden units share a column", 81972576, KRONY(768, 768, 1)},
    {"krony-81m-384", "two channels and two hidden units do", 81972576, KRONY(384, 1536, 1)},
    {"krony-81m-attn", "krony-96m, attention at half", 81972576, KRONY_ATTN(768, 1536)},
    {"krony-86m", "three hidden units share a column", 86691144, KRONY(768, 1024, 1)},
    {"krony-86m-3", "3 x 3 blocks, three terms", 86691720, KRONY(256, 1024, 3)},
    {"krony-86m-3s", "and scalars", 86691792, KRONY_S(256, 1024, 3)},
    {"krony-92m-4", "3 x 3 blocks, four terms", 92983392, KRONY(256, 1024, 4)},
    {"krony-92m-4s", "and scalars", 92983488, KRONY_S(256, 1024, 4)},
    {"krony-95m", "two residual channels share a row (the 95M and 96M of the code; rank 384)",
     96128304, KRONY(384, 3072, 1)},
    {"krony-96m", "two hidden units share a column (the 96M of the paper's Table I; full rank)",
     96128304, KRONY(768, 1536, 1)},
    {"krony-48x64", "Table I", 67908864, KRONY(48, 64, 1)},
    {"krony-32x96", "Table I", 67908864, KRONY(32, 96, 1)},
    {"krony-32x128", "README", 67928832, KRONY(32, 128, 1)},
    {"krony-64x64", "Table I", 67928832, KRONY(64, 64, 1)},
    {"krony-48x96", "Table I", 67939584, KRONY(48, 96, 1)},
    {"krony-64x96", "Table I", 67973376, KRONY(64, 96, 1)},
    {"krony-48x128", "Table I", 67973376, KRONY(48, 128, 1)},
    {"krony-64x128", "Table I", 68020224, KRONY(64, 128, 1)},
    {"krony-96x96", "Table I", 68044032, KRONY(96, 96, 1)},
    {"krony-48x192", "Table I", 68044032, KRONY(48, 192, 1)},
    {"krony-96x128", "Table I", 68116224, KRONY(96, 128, 1)},
    {"krony-64x192", "Table I", 68116224, KRONY(64, 192, 1)},
    {"krony-128x128", "Table I", 68213376, KRONY(128, 128, 1)},
    {"krony-64x256", "Table I", 68213376, KRONY(64, 256, 1)},
    {"krony-384x768", "Table I", 74894784, KRONY(384, 768, 1)},
    {"tqcompressor-mlp", "the odd blocks' MLPs at half their weights, four terms", 110284416,
     {"h.*[13579].mlp.c_fc=kron:m1=384,n1=768,terms=4",
      "h.*[13579].mlp.c_proj=kron:m1=768,n1=384,terms=4"}},
    {"tqcompressor", "and the embedding at a quarter, tied", 81336388,
     {"h.*[13579].mlp.c_fc=kron:m1=384,n1=768,terms=4",
      "h.*[13579].mlp.c_proj=kron:m1=768,n1=384,terms=4", "wte=kron:m1=192,n1=50257"}},
    {"kngpt2", "the odd blocks and the embedding at half their weights, tied", 83907506,
     {"h.*[13579].mlp.c_fc=kron:m1=768,n1=1536", "h.*[13579].mlp.c_proj=kron:m1=1536,n1=768",
      "h.*[13579].attn.c_attn=kron:m1=384,n1=2304", "h.*[13579].attn.c_proj=kron:m1=768,n1=384",
      "wte=kron:m1=384,n1=50257"}},
    {.name = NULL},
};
/* clang-format on */

enum { PRESETS = sizeof st_presets / sizeof *st_presets };

st_status st_preset_find(const st_preset **out, const char *name, st_err *e)
{
    const char *names[PRESETS] = {0};
    *out = NULL;
    for (int i = 0; st_presets[i].name; i++) {
        names[i] = st_presets[i].name;
        if (strcmp(name, names[i]) == 0) *out = &st_presets[i];
    }
    if (*out) return ST_OK;
    const char *near = st_nearest(name, names);
    ST_FAIL(e, ST_EARG, "unknown preset \"%.60s\"%s%s%s; strut maps lists them", name,
            near ? ", did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

st_status st_preset_join(const char *name, const char *const *maps, int n, const char ***out,
                         int *count, st_err *e)
{
    const st_preset *p = NULL;
    *out = NULL;
    *count = 0;
    if (name) ST_TRY(st_preset_find(&p, name, e));
    *out = st_calloc(n + ST_PRESET_MAPS + 1, sizeof **out);
    if (!*out) return ST_NOMEM(e, NULL);
    for (int i = 0; p && i < ST_PRESET_MAPS && p->maps[i]; i++)
        (*out)[(*count)++] = p->maps[i];
    for (int i = 0; i < n; i++)
        (*out)[(*count)++] = maps[i];
    return ST_OK;
}

json_t *st_presets_json(void)
{
    json_t *list = json_array();
    for (int i = 0; list && st_presets[i].name; i++) {
        const st_preset *p = &st_presets[i];
        json_t *maps = json_array();
        for (int k = 0; k < ST_PRESET_MAPS && p->maps[k]; k++)
            json_array_append_new(maps, json_string(p->maps[k]));
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:I, s:o}", "name", p->name, "help", p->help,
                                        "parameters", (json_int_t)p->parameters, "maps", maps));
    }
    return list;
}
