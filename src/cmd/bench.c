/* strut bench: how fast structured matrices and models are, against dense ones of the same run. */
/* SPDX-License-Identifier: MIT */
#include "cmd/bench.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const cmd_option bench_options[] = {
    {.name = "map",
     .letter = 'm',
     .kind = CMD_TEXT,
     .many = true,
     .value = "SPEC",
     .help = "bench map: a type's name (sized by --fit) or a spec; not given: every type. bench "
             "mlp: the same, ss1:factor=4 if not given. bench model: GLOB=SPEC, together one more "
             "row"},
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
     .help = "bench model: the matrices that --fit replaces",
     .preset = "h.*.mlp.*"},
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
     .help = "bench map, mlp: tokens of one call; not given: 1024, 16384"},
    {.name = "backward", .kind = CMD_FLAG, .help = "bench map: time the gradients too"},
    {.name = "train", .kind = CMD_FLAG, .help = "bench model: time forward and backward too"},
    {.name = "batch",
     .letter = 'b',
     .kind = CMD_INT,
     .value = "N",
     .lo = 1,
     .hi = 65536,
     .help = "bench model: texts at a time",
     .preset = "1"},
    {.name = "context",
     .letter = 'c',
     .kind = CMD_INT,
     .value = "N",
     .lo = 1,
     .hi = 1 << 24,
     .help = "bench model: tokens of a text; not given: the model's"},
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
     .help = "seconds for all of it (three repetitions may take twice that)",
     .preset = "20"},
    {.name = "dtype",
     .kind = CMD_TEXT,
     .value = "TYPE",
     .help = "to compute in",
     .choice = CMD_DTYPES,
     .preset = "f32"},
    {.name = "device",
     .kind = CMD_TEXT,
     .value = "NAME",
     .help = "cpu, or ref (plain loops)",
     .preset = "cpu"},
    {.name = "csv", .kind = CMD_TEXT, .value = "FILE", .help = "write the rows as CSV too"},
    {0},
};

/* ---- running
 * ------------------------------------------------------------------------------------- */

static st_status bench_map(const cmd_args *a, json_t **result, st_err *e)
{
    int n;
    const char **maps = cmd_many(a, "map", &n);
    st_bench_map_opts o = {.in = cmd_int(a, "in"),
                           .out = cmd_int(a, "out"),
                           .rows = cmd_has(a, "rows") ? cmd_int(a, "rows") : 1024,
                           .maps = maps,
                           .nmaps = n,
                           .fit = cmd_has(a, "fit") ? cmd_num(a, "fit") : 4.0,
                           .backward = cmd_has(a, "backward"),
                           .reps = cmd_int(a, "reps"),
                           .budget = cmd_num(a, "budget"),
                           .dtype = cmd_dtype(a, "dtype"),
                           .device = cmd_text(a, "device")};
    st_status s = st_bench_map(&o, result, e);
    free(maps);
    return s;
}

static st_status bench_mlp(const cmd_args *a, json_t **result, st_err *e)
{
    int n;
    const char **maps = cmd_many(a, "map", &n);
    st_bench_mlp_opts o = {.width = cmd_int(a, "in"),
                           .inner = cmd_int(a, "out"),
                           .rows = cmd_has(a, "rows") ? cmd_int(a, "rows") : 16384,
                           .maps = maps,
                           .nmaps = n,
                           .fit = cmd_has(a, "fit") ? cmd_num(a, "fit") : 4.0,
                           .reps = cmd_int(a, "reps"),
                           .budget = cmd_num(a, "budget"),
                           .dtype = cmd_dtype(a, "dtype"),
                           .device = cmd_text(a, "device")};
    st_status s = st_bench_mlp(&o, result, e);
    free(maps);
    return s;
}

static st_status bench_model(const cmd_args *a, json_t **result, st_err *e)
{
    if (a->words < 2) {
        ST_FAIL(e, ST_EARG,
                "which model? a folder, a config.json or one of gpt2, gpt2-medium, gpt2-large, "
                "gpt2-xl");
    }
    int n, npresets;
    const char **maps = cmd_many(a, "map", &n), **presets = cmd_many(a, "preset", &npresets);
    st_bench_model_opts o = {.models = a->word + 1,
                             .nmodels = a->words - 1,
                             .maps = maps,
                             .nmaps = n,
                             .presets = presets,
                             .npresets = npresets,
                             .fit = cmd_num(a, "fit"),
                             .glob = cmd_text(a, "glob"),
                             .batch = cmd_int(a, "batch"),
                             .context = cmd_int(a, "context"),
                             .train = cmd_has(a, "train"),
                             .reps = cmd_int(a, "reps"),
                             .budget = cmd_num(a, "budget"),
                             .dtype = cmd_dtype(a, "dtype"),
                             .device = cmd_text(a, "device")};
    st_status s = st_bench_model(&o, result, e);
    free(presets);
    free(maps);
    return s;
}

static st_status bench_run(const cmd_args *a, json_t **result, st_err *e)
{
    const char *what = a->word[0], *csv = cmd_text(a, "csv");
    static const char *const kinds[] = {"map", "mlp", "model", NULL};
    st_status s;
    setenv("STRUT_COMMIT", cmd_commit, 0);
    if (strcmp(what, "map") == 0 && a->words == 1) {
        s = bench_map(a, result, e);
    } else if (strcmp(what, "mlp") == 0 && a->words == 1) {
        s = bench_mlp(a, result, e);
    } else if (strcmp(what, "model") == 0) {
        s = bench_model(a, result, e);
    } else {
        const char *near = st_nearest(what, kinds);
        bool extra = strcmp(what, "map") == 0 || strcmp(what, "mlp") == 0;
        ST_FAIL(e, ST_EARG, "%s%s%s%s%s%s", extra ? what : "\"",
                extra ? " takes options only: " : what,
                extra ? a->word[1] : "\" is unknown; legal: map, mlp, model",
                near && !extra ? " (did you mean " : "", near && !extra ? near : "",
                near && !extra ? "?)" : "");
    }
    if (!s && csv) s = st_bench_csv(csv, *result, e);
    return s;
}

const cmd_command cmd_bench = {
    .name = "bench",
    .summary = "time structured matrices and models against dense ones",
    .usage = "map [--in N --out N --rows N] [--map SPEC ...] [--fit F] [--backward] [options]\n"
             "mlp [--in WIDTH --out INNER --rows N] [--map SPEC ...] [--dtype TYPE] [options]\n"
             "model MODEL|gpt2 ... [--map GLOB=SPEC ...] [--preset NAME ...] [--fit F] [--train]",
    .detail =
        "bench map times one matrix, bench mlp the two of a block's MLP with biases and GELU, as "
        "models run them, forward and training step, bench model whole models (a folder, a "
        "config.json or a "
        "named size, with random weights). After a warm-up everything takes turns, round "
        "after round, so that a slow moment of the machine meets all alike; times are medians, "
        "with the 10th and 90th percentile. \"vs dense\" is the median of the rounds' ratios. "
        "roof is the share of what the machine's ceilings of the same rounds allow.",
    .example = "strut bench map\n"
               "strut bench map --in 768 --out 3072 --map ss1:factor=4 --map lowrank --backward\n"
               "strut bench model gpt2 --fit 4 --train --csv models.csv\n"
               "strut bench model gpt2 --preset krony-81m --preset krony-95m --context 256\n"
               "strut bench model runs/dense runs/healed --batch 8 --json",
    .option = bench_options,
    .least = 1,
    .most = -1,
    .run = bench_run,
    .show = cmd_bench_show,
};
