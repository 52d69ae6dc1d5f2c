/* strut bench: how fast structured matrices and models are, against dense ones of the same run. */
/* SPDX-License-Identifier: MIT */
#include "cmd/cmd.h"
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

static const char *const bench_kinds[] = {"forward", "backward", "step", "decode"};
enum { KINDS = sizeof bench_kinds / sizeof *bench_kinds };

/* ---- CSV
 * ----------------------------------------------------------------------------------------- */

/* A field in quotes, quotes doubled. */
static void bench_quote(FILE *f, const char *text)
{
    fputc('"', f);
    for (; *text; text++) {
        if (*text == '"') fputc('"', f);
        fputc(*text, f);
    }
    fputc('"', f);
}

static void bench_line(FILE *f, const json_t *r, const json_t *row, const char *kind)
{
    const json_t *t = json_object_get(row, kind);
    const char *spec = cmd_get_str(row, "spec");
    const char *texts[] = {cmd_get_str(r, "version"), cmd_get_str(r, "commit"),
                           cmd_get_str(r, "machine"), cmd_get_str(r, "device")};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        bench_quote(f, texts[i]);
        fputc(',', f);
    }
    fprintf(f, "%lld,%s,%s,", (long long)cmd_get_int(r, "threads"), kind,
            cmd_get_str(row, "dtype"));
    bench_quote(f, spec[0] ? spec : cmd_get_str(row, "name"));
    const char *counts[] = {"in",      "out",        "rows",  "batch",
                            "context", "parameters", "bytes", "macs_per_token"};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        fputc(',', f);
        if (json_object_get(row, counts[i])) {
            fprintf(f, "%lld", (long long)cmd_get_int(row, counts[i]));
        }
    }
    fprintf(f, ",%.9g,%.9g,%.9g,%lld,%.6g,%.6g,%.4f\n", cmd_get_num(t, "median"),
            cmd_get_num(t, "p10"), cmd_get_num(t, "p90"), (long long)cmd_get_int(t, "reps"),
            cmd_get_num(t, "gflops"), cmd_get_num(t, "tokens_per_second"),
            cmd_get_num(t, "speedup"));
}

static st_status bench_csv(const char *path, const json_t *r, st_err *e)
{
    char *text = NULL;
    size_t n = 0, i;
    json_t *row;
    FILE *f = open_memstream(&text, &n);
    if (!f) ST_FAIL(e, ST_ENOMEM, "%s: out of memory", path);
    fputs("version,commit,machine,device,threads,what,dtype,spec,in,out,rows,batch,context,"
          "parameters,bytes,macs_per_token,median_s,p10_s,p90_s,reps,gflops,tokens_per_second,"
          "speedup\n",
          f);
    json_array_foreach(json_object_get(r, "rows"), i, row)
    {
        for (int k = 0; k < KINDS; k++) {
            if (json_object_get(row, bench_kinds[k])) bench_line(f, r, row, bench_kinds[k]);
        }
    }
    st_status s = fclose(f) == 0
                      ? st_write_file(path, text, n, e)
                      : st_fail(e, ST_ENOMEM, __FILE__, __LINE__, "%s: out of memory", path);
    free(text);
    return s;
}

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
    if (!s && csv) s = bench_csv(csv, *result, e);
    return s;
}

/* ---- for people
 * ---------------------------------------------------------------------------------- */

static void bench_show_kind(const json_t *r, const char *kind)
{
    const json_t *first = json_array_get(json_object_get(r, "rows"), 0);
    if (!json_object_get(first, kind)) return;
    bool map = json_object_get(first, "spec") != NULL;
    cmd_grid g = {.head = map ? "<spec|parameters|size|MAC/token|time|p10|p90|GFLOP/s|vs dense"
                              : "<model|parameters|size|MAC/token|time|p10|p90|tokens/s|vs dense"};
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(r, "rows"), i, row)
    {
        const json_t *t = json_object_get(row, kind);
        cmd_grid_add(&g, "%s", cmd_get_str(row, "name"));
        cmd_grid_add(&g, "%s", cmd_count(cmd_get_int(row, "parameters")).s);
        cmd_grid_add(&g, "%s", cmd_bytes(cmd_get_int(row, "bytes")).s);
        cmd_grid_add(&g, "%s", cmd_si(cmd_get_num(row, "macs_per_token")).s);
        cmd_grid_add(&g, "%s", cmd_seconds(cmd_get_num(t, "median")).s);
        cmd_grid_add(&g, "%s", cmd_seconds(cmd_get_num(t, "p10")).s);
        cmd_grid_add(&g, "%s", cmd_seconds(cmd_get_num(t, "p90")).s);
        cmd_grid_add(&g, "%s", cmd_number(cmd_get_num(t, map ? "gflops" : "tokens_per_second")).s);
        cmd_grid_add(&g, "%.2fx", cmd_get_num(t, "speedup"));
    }
    int64_t reps = cmd_get_int(json_object_get(first, kind), "reps");
    printf("\n%s, %s repetition%s, medians:\n", kind, cmd_count(reps).s, reps == 1 ? "" : "s");
    cmd_grid_print(&g, stdout);
}

static void bench_show(const json_t *r)
{
    const json_t *first = json_array_get(json_object_get(r, "rows"), 0);
    printf("%s, %s (%s)\n", cmd_get_str(r, "machine"), cmd_get_str(r, "device"),
           cmd_get_str(first, "dtype"));
    if (json_object_get(first, "inner")) {
        printf("MLP %s -> %s -> %s, %s tokens\n", cmd_count(cmd_get_int(first, "in")).s,
               cmd_count(cmd_get_int(first, "inner")).s, cmd_count(cmd_get_int(first, "out")).s,
               cmd_count(cmd_get_int(first, "rows")).s);
    } else if (json_object_get(first, "spec")) {
        printf("W (%s x %s), %s tokens\n", cmd_count(cmd_get_int(first, "out")).s,
               cmd_count(cmd_get_int(first, "in")).s, cmd_count(cmd_get_int(first, "rows")).s);
    } else {
        printf("batch %s x %s tokens; decode: one token after %s\n",
               cmd_count(cmd_get_int(first, "batch")).s, cmd_count(cmd_get_int(first, "context")).s,
               cmd_count(cmd_get_int(first, "decode_at")).s);
    }
    for (int k = 0; k < KINDS; k++)
        bench_show_kind(r, bench_kinds[k]);
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
        "STRUT_COMMIT in the environment is written into the CSV's commit column.",
    .example = "strut bench map\n"
               "strut bench map --in 768 --out 3072 --map ss1:factor=4 --map lowrank --backward\n"
               "strut bench model gpt2 --fit 4 --train --csv models.csv\n"
               "strut bench model gpt2 --preset krony-81m --preset krony-95m --context 256\n"
               "strut bench model runs/dense runs/healed --batch 8 --json",
    .option = bench_options,
    .least = 1,
    .most = -1,
    .run = bench_run,
    .show = bench_show,
};
