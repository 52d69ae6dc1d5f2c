/* Options of strut bench, and lists among their values. */
/* SPDX-License-Identifier: MIT */
#include "cmd/bench.h"
#include "cmd/options.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const cmd_option cmd_bench_options[] = {
    {.name = "map",
     .letter = 'm',
     .kind = CMD_TEXT,
     .many = true,
     .value = "SPEC",
     .help =
         "bench map: a type's name (sized by --fit) or a spec; not given: every type. bench "
         "layer: the same, sized by --factors. bench mlp: ss1:factor=4 if not given. bench model: "
         "GLOB=SPEC, together one more row"},
    {.name = "suite",
     .letter = 's',
     .kind = CMD_TEXT,
     .value = "NAME",
     .help = "bench layer: shapes of gpt2, llama, square or small (1 to 64 tokens)",
     .preset = "gpt2"},
    {.name = "only",
     .kind = CMD_TEXT,
     .many = true,
     .value = "GLOB",
     .help = "bench layer: shapes like this one, 32768x768x3072 or 768x3072; * and ? match any"},
    {.name = "factors",
     .kind = CMD_TEXT,
     .value = "LIST",
     .help = "bench layer: types have so many times fewer parameters than dense",
     .preset = "1,2,4,8,16"},
    {.name = "no-controls",
     .kind = CMD_FLAG,
     .help = "bench layer, model: without low rank and narrower dense ones of the same parameters"},
    {.name = "preset",
     .letter = 'p',
     .kind = CMD_TEXT,
     .many = true,
     .value = "NAME",
     .help = "bench model: one more row, the first model in this layout (see: strut maps)"},
    {.name = "fit",
     .kind = CMD_NUM,
     .value = "F",
     .lo = 1,
     .hi = 1e6,
     .help = "types have F times fewer parameters than dense; bench map and mlp: 4 if not given; "
             "bench model: one row per type"},
    {.name = "glob",
     .kind = CMD_TEXT,
     .value = "GLOB",
     .help = "bench model: the matrices that --fit replaces; not given: those of the blocks' MLPs"},
    {.name = "in",
     .kind = CMD_INT,
     .value = "N",
     .lo = 1,
     .hi = 1 << 20,
     .help = "bench map: columns of W; bench mlp: its width",
     .preset = "768"},
    {.name = "out",
     .kind = CMD_INT,
     .value = "N",
     .lo = 1,
     .hi = 1 << 20,
     .help = "bench map: rows of W; bench mlp: its inner width",
     .preset = "3072"},
    {.name = "rows",
     .kind = CMD_INT,
     .value = "N",
     .lo = 1,
     .hi = 1 << 20,
     .help = "tokens of one call; not given: bench map 1024, mlp 16384, layer the suite's, or what "
             "time and memory allow"},
    {.name = "scale",
     .kind = CMD_NUM,
     .value = "F",
     .lo = 1,
     .hi = 1e6,
     .help = "bench layer: so many times fewer tokens than the suite has"},
    {.name = "backward", .kind = CMD_FLAG, .help = "bench map, layer: time the gradients too"},
    {.name = "train", .kind = CMD_FLAG, .help = "bench model: time forward and backward too"},
    {.name = "batch",
     .letter = 'b',
     .kind = CMD_TEXT,
     .value = "LIST",
     .help = "bench model: texts or images at a time, 8,16,32; bench attention: one number",
     .preset = "1"},
    {.name = "context",
     .letter = 'c',
     .kind = CMD_TEXT,
     .value = "LIST",
     .help = "bench model: tokens of a text; not given: the model's; bench attention: lengths; "
             "not given: 256, 512 ... 16384"},
    {.name = "attention",
     .kind = CMD_TEXT,
     .many = true,
     .value = "WAY",
     .help = "bench attention: local:window=98, performer ...; not given: every way; bench model: "
             "one more row, a T2T-ViT whose token modules attend so"},
    {.name = "heads",
     .kind = CMD_INT,
     .value = "N",
     .lo = 1,
     .hi = 1024,
     .help = "bench attention: heads (a token module of T2T-ViT has 1, GPT-2 12)",
     .preset = "1"},
    {.name = "head-dim",
     .kind = CMD_INT,
     .value = "N",
     .lo = 1,
     .hi = 4096,
     .help = "bench attention: width of a head",
     .preset = "64"},
    {.name = "causal", .kind = CMD_FLAG, .help = "bench attention: tokens see earlier ones only"},
    {.name = "seeds",
     .kind = CMD_INT,
     .value = "N",
     .lo = 1,
     .hi = 10000,
     .help = "bench attention: draws that errors of random ways are averaged over",
     .preset = "5"},
    {.name = "reps",
     .kind = CMD_INT,
     .value = "N",
     .lo = 1,
     .hi = 100000,
     .help = "repetitions at most",
     .preset = "30"},
    {.name = "budget",
     .kind = CMD_NUM,
     .value = "S",
     .lo = 0.01,
     .hi = 1e6,
     .help = "seconds for all of it (three repetitions may take twice that); not given: 20, bench "
             "layer 120, bench model 60 for each of several batches, contexts and types"},
    {.name = "dtype",
     .kind = CMD_TEXT,
     .value = "TYPE",
     .help = "to compute in: f32 or bf16, bench layer and model also f32,bf16",
     .preset = "f32"},
    {CMD_DEVICE},
    {.name = "csv", .kind = CMD_TEXT, .value = "FILE", .help = "write the rows as CSV too"},
    {.name = "resume",
     .kind = CMD_FLAG,
     .help = "bench layer, model, attention: keep the shapes that --csv FILE has and measure the "
             "others"},
    {0},
};

/* The next of "a,b,c" in `item`; false at the end. */
static bool list_next(const char **at, char *item, size_t cap)
{
    if (!**at) return false;
    size_t n = strcspn(*at, ",");
    snprintf(item, cap, "%.*s", n < cap ? (int)n : (int)cap - 1, *at);
    *at += n + ((*at)[n] == ',');
    return true;
}

static st_status list_bad(const char *name, const char *item, const char *wanted, st_err *e)
{
    ST_FAIL(e, ST_EARG, "--%s: \"%s\" is not %s", name, item, wanted);
}

st_status cmd_bench_dtypes(const cmd_args *a, int most, st_dtype *out, int *n, st_err *e)
{
    char item[32];
    *n = 0;
    for (const char *at = cmd_text(a, "dtype"); list_next(&at, item, sizeof item);) {
        bool full = strcmp(item, "f32") == 0 || strcmp(item, "float32") == 0;
        bool half = strcmp(item, "bf16") == 0 || strcmp(item, "bfloat16") == 0;
        if (!full && !half) return list_bad("dtype", item, "f32 or bf16", e);
        if (*n == most) ST_FAIL(e, ST_EARG, "--dtype: %d at most", most);
        out[*n] = full ? ST_F32 : ST_BF16;
        if (*n && out[0] == out[*n])
            return list_bad("dtype", item, "another type than the first", e);
        ++*n;
    }
    return *n ? ST_OK : list_bad("dtype", "", "f32 or bf16", e);
}

st_status cmd_bench_numbers(const cmd_args *a, const char *name, double lo, double hi, int most,
                            double *out, int *n, st_err *e)
{
    char item[32], wanted[64];
    *n = 0;
    snprintf(wanted, sizeof wanted, "a number from %g to %g", lo, hi);
    for (const char *at = cmd_text(a, name); at && list_next(&at, item, sizeof item);) {
        if (*n == most) ST_FAIL(e, ST_EARG, "--%s: %d numbers at most", name, most);
        if (!st_parse_num(item, &out[*n]) || out[*n] < lo || out[*n] > hi) {
            return list_bad(name, item, wanted, e);
        }
        ++*n;
    }
    return ST_OK;
}

st_status cmd_bench_counts(const cmd_args *a, const char *name, int64_t hi, int most, int64_t *out,
                           int *n, st_err *e)
{
    char item[32], wanted[64];
    *n = 0;
    snprintf(wanted, sizeof wanted, "a whole number from 1 to %lld", (long long)hi);
    for (const char *at = cmd_text(a, name); at && list_next(&at, item, sizeof item);) {
        if (*n == most) ST_FAIL(e, ST_EARG, "--%s: %d numbers at most", name, most);
        if (!st_parse_int(item, &out[*n]) || out[*n] < 1 || out[*n] > hi) {
            return list_bad(name, item, wanted, e);
        }
        ++*n;
    }
    return ST_OK;
}
