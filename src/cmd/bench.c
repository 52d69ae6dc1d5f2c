/* strut bench: how fast structured matrices and models are, against dense ones of the same run. */
/* SPDX-License-Identifier: MIT */
#include "cmd/bench.h"
#include "bench/bench.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- running --------------------------------------------------------------------------------- */

static st_status bench_map(const cmd_args *a, json_t **result, st_err *e)
{
    int n;
    st_dtype dtype;
    ST_TRY(cmd_bench_dtypes(a, 1, &dtype, &n, e));
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
                           .dtype = dtype,
                           .device = cmd_text(a, "device")};
    st_status s = st_bench_map(&o, result, e);
    free(maps);
    return s;
}

static st_status bench_mlp(const cmd_args *a, json_t **result, st_err *e)
{
    int n;
    st_dtype dtype;
    ST_TRY(cmd_bench_dtypes(a, 1, &dtype, &n, e));
    const char **maps = cmd_many(a, "map", &n);
    st_bench_mlp_opts o = {.width = cmd_int(a, "in"),
                           .inner = cmd_int(a, "out"),
                           .rows = cmd_has(a, "rows") ? cmd_int(a, "rows") : 16384,
                           .maps = maps,
                           .nmaps = n,
                           .fit = cmd_has(a, "fit") ? cmd_num(a, "fit") : 4.0,
                           .reps = cmd_int(a, "reps"),
                           .budget = cmd_num(a, "budget"),
                           .dtype = dtype,
                           .device = cmd_text(a, "device")};
    st_status s = st_bench_mlp(&o, result, e);
    free(maps);
    return s;
}

static st_status bench_layer(const cmd_args *a, json_t **result, st_err *e)
{
    enum { FACTORS = 32 };
    int n;
    double factors[FACTORS];
    st_bench_layer_opts o = {.suite = cmd_text(a, "suite"),
                             .factors = factors,
                             .no_controls = cmd_has(a, "no-controls"),
                             .rows = cmd_int(a, "rows"),
                             .scale = cmd_num(a, "scale"),
                             .backward = cmd_has(a, "backward"),
                             .reps = cmd_int(a, "reps"),
                             .budget = cmd_num(a, "budget"),
                             .device = cmd_text(a, "device"),
                             .csv = cmd_text(a, "csv"),
                             .resume = cmd_has(a, "resume")};
    ST_TRY(cmd_bench_numbers(a, "factors", 1, 1e6, FACTORS, factors, &n, e));
    o.nfactors = n;
    ST_TRY(cmd_bench_dtypes(a, 2, o.dtypes, &o.ndtypes, e));
    const char **maps = cmd_many(a, "map", &o.nmaps), **only = cmd_many(a, "only", &o.nonly);
    o.maps = maps;
    o.only = only;
    st_status s = st_bench_layer(&o, result, e);
    free(only);
    free(maps);
    return s;
}

static st_status bench_model(const cmd_args *a, json_t **result, st_err *e)
{
    if (a->words < 2) {
        ST_FAIL(e, ST_EARG,
                "which model? a folder, a config.json, one of gpt2, gpt2-medium, gpt2-large, "
                "gpt2-xl, t2t-vit-t-14 ..., or experiment=ssl_bench_mlp");
    }
    int npresets, nmaps, nways;
    st_bench_model_opts o = {.models = a->word + 1,
                             .nmodels = a->words - 1,
                             .fit = cmd_num(a, "fit"),
                             .glob = cmd_text(a, "glob"),
                             .train = cmd_has(a, "train"),
                             .controls = !cmd_has(a, "no-controls"),
                             .shrink = true,
                             .reps = cmd_int(a, "reps"),
                             .budget = cmd_num(a, "budget"),
                             .device = cmd_text(a, "device"),
                             .csv = cmd_text(a, "csv"),
                             .resume = cmd_has(a, "resume")};
    ST_TRY(cmd_bench_dtypes(a, 2, o.dtypes, &o.ndtypes, e));
    ST_TRY(cmd_bench_counts(a, "batch", 65536, ST_BENCH_LIST, o.batches, &o.nbatches, e));
    ST_TRY(cmd_bench_counts(a, "context", 1 << 24, ST_BENCH_LIST, o.contexts, &o.ncontexts, e));
    const char **maps = cmd_many(a, "map", &nmaps), **presets = cmd_many(a, "preset", &npresets);
    o.maps = maps;
    o.nmaps = nmaps;
    o.presets = presets;
    o.npresets = npresets;
    const char **ways = cmd_many(a, "attention", &nways);
    o.ways = ways;
    o.nways = nways;
    st_status s = st_bench_model(&o, result, e);
    free(ways);
    free(presets);
    free(maps);
    return s;
}

typedef struct {
    const char *name;
    bool words;        /* takes more of them */
    bool writes;       /* its own CSV, as it goes */
    const char *takes; /* options, beside those that every kind takes */
    st_status (*run)(const cmd_args *a, json_t **result, st_err *e);
} bench_what;
static const bench_what bench_whats[] = {
    {"map", false, false, "map fit in out rows backward", bench_map},
    {"mlp", false, false, "map fit in out rows", bench_mlp},
    {"layer", false, true, "map suite only factors no-controls rows scale backward resume",
     bench_layer},
    {"model", true, true, "map preset fit glob no-controls train batch context attention resume",
     bench_model},
    {"attention", false, true, "attention batch context heads head-dim causal seeds resume",
     cmd_bench_attention},
};
enum { WHATS = sizeof bench_whats / sizeof *bench_whats };

/* Is `word` one of those in `list`? */
static bool bench_listed(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = list; *at; at += strspn(at, " ")) {
        size_t m = strcspn(at, " ");
        if (m == n && strncmp(at, word, n) == 0) return true;
        at += m;
    }
    return false;
}

static bool bench_takes(const bench_what *w, const char *option)
{
    return bench_listed(w->takes, option) || bench_listed("reps budget dtype device csv", option);
}

/* Refuses an option of another kind, which would do nothing, naming those that take it. */
static st_status bench_options(const cmd_args *a, const bench_what *what, st_err *e)
{
    for (int i = 0; i < a->count; i++) {
        const char *name = a->given[i].option->name;
        char who[64] = "";
        size_t n = 0;
        for (int k = 0; k < WHATS; k++) {
            if (bench_takes(&bench_whats[k], name))
                n += (size_t)snprintf(who + n, sizeof who - n, "%s%s", n ? ", " : "",
                                      bench_whats[k].name);
        }
        if (!n || bench_takes(what, name)) continue; /* n = 0: of every command */
        ST_FAIL(e, ST_EARG, "bench %s does not take --%s, which is for bench %s", what->name, name,
                who);
    }
    if (cmd_has(a, "glob") && !cmd_has(a, "fit"))
        ST_FAIL(e, ST_EARG, "bench model: --glob says what --fit replaces, and there is no --fit");
    return ST_OK;
}

static st_status bench_run(const cmd_args *a, json_t **result, st_err *e)
{
    const char *what = a->word[0], *csv = cmd_text(a, "csv"), *names[WHATS + 1] = {NULL};
    setenv("STRUT_COMMIT", cmd_commit, 0);
    for (int i = 0; i < WHATS; i++) {
        const bench_what *w = &bench_whats[i];
        names[i] = w->name;
        if (strcmp(w->name, what) != 0) continue;
        if (!w->words && a->words > 1) {
            bool layer = strcmp(what, "layer") == 0;
            ST_FAIL(e, ST_EARG, "bench %s takes options only: %s%s%s", what, a->word[1],
                    layer ? "; did you mean --suite " : "", layer ? a->word[1] : "");
        }
        ST_TRY(bench_options(a, w, e));
        if (csv) ST_TRY(st_bench_csv_place(csv, e));
        st_status s = w->run(a, result, e);
        if (!csv || w->writes || !*result) return s;
        st_status wrote = st_bench_csv(csv, *result, s ? NULL : e);
        return s ? s : wrote;
    }
    const char *near = st_nearest(what, names);
    ST_FAIL(e, ST_EARG, "\"%s\" is unknown; legal: map, mlp, layer, model, attention%s%s%s", what,
            near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
}

const cmd_command cmd_bench = {
    .name = "bench",
    .summary = "time structured matrices and models against dense ones",
    .usage =
        "map [--in N --out N --rows N] [--map SPEC ...] [--fit F] [--backward] [options]\n"
        "mlp [--in WIDTH --out INNER --rows N] [--map SPEC ...] [--dtype TYPE] [options]\n"
        "layer [--suite NAME] [--only SHAPE ...] [--map TYPE ...] [--budget S] [--csv FILE "
        "[--resume]]\n"
        "model MODEL|gpt2|t2t-vit-t-14 ... [--map GLOB=SPEC ...] [--preset NAME ...] [--fit F]\n"
        "      [--train] [--attention WAY ...]\n"
        "      [--batch LIST] [--context LIST] [--dtype LIST] [--budget S] [--csv FILE "
        "[--resume]]\n"
        "attention [--attention WAY ...] [--context LIST] [--heads N --head-dim N] [--causal]\n"
        "      [--csv FILE [--resume]]",
    .detail =
        "bench map times one matrix, bench mlp the two of a block's MLP with biases and GELU, as "
        "models run them, forward and training step, bench layer a suite of matrices at several "
        "sizes, bench model whole models (a folder, a config.json, a named size, or all models of "
        "a "
        "group of experiments, with random weights). After a warm-up everything takes turns, round "
        "after round, so that a slow "
        "moment of the machine meets all alike; times are medians, with the 10th and 90th "
        "percentile. \"vs dense\" is the median of the rounds' ratios. roof is the share of what "
        "the machine's ceilings of the same rounds allow.\n"
        "\n"
        "bench layer and model have two controls at each size, marked *: low rank, and a dense "
        "layer that is merely narrower (fewer outputs, or fewer inputs where those are more), or a "
        "dense model with fewer hidden units in its MLPs. What does not fit into the memory or the "
        "time (--budget) gets fewer tokens, or is left out, and says so. With --csv the rows are "
        "written shape by shape: after Ctrl-C, which prints what there is, --resume goes on.\n"
        "\n"
        "bench attention times ways to attend at growing lengths against exact attention, with the "
        "scratch memory that each takes and how far its outputs are off on random tokens.",
    .example =
        "strut bench map\n"
        "strut bench map --in 768 --out 3072 --map ss1:factor=4 --map lowrank --backward\n"
        "strut bench layer --suite gpt2 --dtype f32,bf16 --budget 3600 --csv layers.csv\n"
        "strut bench layer --suite small --map ss1 --map monarch --factors 4,8\n"
        "strut bench model gpt2 --fit 4 --train --csv models.csv\n"
        "strut bench model gpt2 --map 'h.*.mlp.*=ss1:factor=4' --batch 8,16,32 --budget 3600\n"
        "strut bench model gpt2 --preset krony-81m --preset krony-95m --context 256\n"
        "strut bench model runs/dense runs/healed --batch 8 --json\n"
        "strut bench model t2t-vit-t-14 --batch 16 --dtype f32,bf16 --attention local\n"
        "strut bench attention --csv attention.csv",
    .option = cmd_bench_options,
    .least = 1,
    .most = -1,
    .run = bench_run,
    .show = cmd_bench_show,
};
