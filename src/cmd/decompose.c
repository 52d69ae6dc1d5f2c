/* strut decompose: project a model's matrices onto structured types. */
/* SPDX-License-Identifier: MIT */
#include "cmd/options.h"
#include "fit/fit.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const cmd_option decompose_options[] = {
    {CMD_PRESET},
    {CMD_MAPS, .help = "what matrices whose name matches become; later ones win"},
    {.name = "skip",
     .kind = CMD_TEXT,
     .many = true,
     .value = "GLOB",
     .help = "leave matching matrices as they are"},
    {.name = "init",
     .letter = 'i',
     .kind = CMD_TEXT,
     .many = true,
     .value = "[GLOB=]INIT",
     .help = "how they start: vl (the nearest matrix, the default), vl-norm, random, or what their "
             "type adds, such as prune:second=0.1 (see: strut maps)"},
    {.name = "gauge",
     .kind = CMD_TEXT,
     .value = "HOW",
     .help = "kron: unit, rms(B) = 1; balanced, sqrt(sigma) in A and B as Krony-PT has it",
     .choice = "unit|balanced",
     .preset = "unit"},
    {.name = "scalars",
     .kind = CMD_TEXT,
     .value = "S,S,...",
     .help = "kron with scalars=1: the factor that each term starts with; not given: 1"},
    {.name = "weights",
     .letter = 'w',
     .kind = CMD_TEXT,
     .value = "TEXT",
     .help = "weigh by what matrices are fed: a text (file, folder, archive), a shard of tokens "
             "(.bin) or prepared data; the outputs' error on it is made small, not W's"},
    {.name = "calibrate-tokens",
     .kind = CMD_INT,
     .value = "N",
     .help = "how much of it is read",
     .preset = "131072"},
    {.name = "sequential",
     .kind = CMD_FLAG,
     .help =
         "with --weights: matrix after matrix, each fed by those already replaced and fitted to "
         "what the old one gave: makes up for their errors, takes longer"},
    {.name = "fit-bias",
     .kind = CMD_FLAG,
     .help = "with --weights: a bias takes what its matrix loses of the mean input; not given: "
             "biases are copied"},
    {CMD_FIELD},
    {.name = "quantize",
     .kind = CMD_TEXT,
     .many = true,
     .value = "FORMAT[:GLOB]",
     .help = "then matrices in blocks of 8 or 4 bits: q8, q4, q4_1, or none; later ones win; with "
             "--weights rounded so that the outputs err least, else to the nearest"},
    {.name = "fold-norms",
     .kind = CMD_FLAG,
     .help = "first put ln_1 and ln_2 into the matrices after them (the same function, exactly)"},
    {.name = "group-hidden",
     .kind = CMD_FLAG,
     .help = "sort hidden units by importance, so that large and small ones do not share a slot"},
    {.name = "permute",
     .kind = CMD_TEXT,
     .value = "WHAT",
     .help = "search a better order by assignment: of hidden units, of residual channels, of all",
     .choice = "none|hidden|residual|all",
     .preset = "none"},
    {.name = "svd",
     .kind = CMD_TEXT,
     .value = "HOW",
     .help = "singular value decomposition",
     .choice = "exact|randomized",
     .preset = "exact"},
    {CMD_SEED, .help = "of randomized decompositions and random inits"},
    {CMD_DTYPE_STORED},
    CMD_READ_OPTIONS,
    {CMD_FORCE("OUT")},
    {0},
};

enum { DECOMPOSE_SCALARS = 4096 };

/* "0.55,0.25" into *out (new memory), *n of them. */
static st_status decompose_scalars(const char *text, double **out, int64_t *n, st_err *e)
{
    *n = 0;
    *out = NULL;
    if (!text) return ST_OK;
    *out = st_calloc(DECOMPOSE_SCALARS, sizeof **out);
    char *copy = strdup(text), *save = NULL;
    st_status s = ST_OK;
    if (!*out || !copy) s = ST_NOMEM(e, NULL);
    for (char *w = s ? NULL : strtok_r(copy, ",", &save); w && !s; w = strtok_r(NULL, ",", &save)) {
        if (*n < DECOMPOSE_SCALARS && st_parse_num(w, &(*out)[(*n)++])) continue;
        s = ST_ERR(e, ST_EARG,
                   "--scalars: \"%.40s\" is not a number; expected one for each term, such as "
                   "0.55,0.25,0.15,0.05",
                   w);
    }
    free(copy);
    return s;
}

static st_permute decompose_permute(const char *text)
{
    static const char *const name[] = {"none", "hidden", "residual", "all"};
    for (int i = 0; i < 4; i++)
        if (strcmp(text, name[i]) == 0) return (st_permute)i;
    return ST_PERMUTE_NONE;
}

static st_status decompose_run(const cmd_args *a, json_t **result, st_err *e)
{
    int nmaps, nskip, ninit, nquantize;
    const char **maps = cmd_many(a, "map", &nmaps), **skip = cmd_many(a, "skip", &nskip);
    const char **init = cmd_many(a, "init", &ninit);
    const char **quantize = cmd_many(a, "quantize", &nquantize);
    double *scalars = NULL;
    bool balanced = strcmp(cmd_text(a, "gauge"), "balanced") == 0;
    st_decompose_opts o = {.preset = cmd_text(a, "preset"),
                           .maps = maps,
                           .nmaps = nmaps,
                           .skip = skip,
                           .nskip = nskip,
                           .init = init,
                           .ninit = ninit,
                           .quantize = quantize,
                           .nquantize = nquantize,
                           .gauge = balanced ? ST_GAUGE_BALANCED : ST_GAUGE_UNIT,
                           .fold_norms = cmd_has(a, "fold-norms"),
                           .group_hidden = cmd_has(a, "group-hidden"),
                           .permute = decompose_permute(cmd_text(a, "permute")),
                           .randomized = strcmp(cmd_text(a, "svd"), "randomized") == 0,
                           .seed = (uint64_t)cmd_int(a, "seed"),
                           .dtype = cmd_dtype(a, "dtype"),
                           .how = cmd_read_how(a),
                           .replace = cmd_has(a, "force"),
                           .weights = cmd_text(a, "weights"),
                           .field = cmd_text(a, "field"),
                           .calibrate_tokens = cmd_int(a, "calibrate-tokens"),
                           .sequential = cmd_has(a, "sequential"),
                           .fit_bias = cmd_has(a, "fit-bias")};
    st_status s = decompose_scalars(cmd_text(a, "scalars"), &scalars, &o.nscalars, e);
    o.scalars = scalars;
    if (!s && nmaps == 0 && nquantize == 0 && !o.preset)
        s = ST_ERR(e, ST_EARG,
                   "which matrices should become what? --map GLOB=SPEC, such as "
                   "--map 'h.*.mlp.*=monarch:blocks=4', or --preset krony-81m (see: strut maps)");
    if (!s && (o.sequential || o.fit_bias) && !o.weights)
        s = ST_ERR(e, ST_EARG, "--%s looks at a matrix's inputs; give --weights TEXT as well",
                   o.sequential ? "sequential" : "fit-bias");
    if (!s && !o.weights && (cmd_has(a, "calibrate-tokens") || cmd_has(a, "field"))) {
        s = ST_ERR(e, ST_EARG, "--%s is about a text; give --weights TEXT as well",
                   cmd_has(a, "field") ? "field" : "calibrate-tokens");
    }
    if (!s) s = st_decompose(a->word[0], a->word[1], &o, result, e);
    free(scalars);
    free(init);
    free(quantize);
    free(maps);
    free(skip);
    return s;
}

/* What was done to the model before. */
static void decompose_show_changes(const json_t *c)
{
    size_t i;
    json_t *row = json_object_get(c, "residual");
    if (json_is_true(json_object_get(c, "folded")))
        puts("ln_1 and ln_2 folded into the matrices after them");
    if (row) {
        printf("residual channels permuted: energy %.2f %% -> %.2f %% (%lld turns)\n",
               100.0 * cmd_get_num(row, "energy_before"), 100.0 * cmd_get_num(row, "energy"),
               (long long)cmd_get_int(row, "turns"));
    }
    json_array_foreach(json_object_get(c, "hidden"), i, row)
    {
        printf("h.%lld hidden units in groups of %lld", (long long)cmd_get_int(row, "layer"),
               (long long)cmd_get_int(row, "group"));
        if (json_object_get(row, "turns")) {
            printf(": energy %.2f %% -> %.2f %% (%lld turns)",
                   100.0 * cmd_get_num(row, "energy_before"), 100.0 * cmd_get_num(row, "energy"),
                   (long long)cmd_get_int(row, "turns"));
        }
        putchar('\n');
    }
}

/* What the outputs err on the text, rounded to the nearest and as they are. */
static void decompose_show_quantized(const json_t *q)
{
    size_t i;
    json_t *m;
    cmd_grid g = {.head = "<matrix|<format|to the nearest|outputs"};
    if (json_array_size(json_object_get(q, "left")))
        printf("%s%s: floats, of which no part has rows of whole groups of 32\n",
               json_string_value(json_array_get(json_object_get(q, "left"), 0)),
               json_array_size(json_object_get(q, "left")) > 1 ? " and others" : "");
    if (json_array_size(json_object_get(q, "matrices")) == 0) return;
    json_array_foreach(json_object_get(q, "matrices"), i, m)
    {
        cmd_grid_add(&g, "%s", cmd_get_str(m, "name"));
        cmd_grid_add(&g, "%s", cmd_get_str(m, "format"));
        cmd_grid_add(&g, "%.4f", cmd_get_num(m, "nearest"));
        cmd_grid_add(&g, "%.4f", cmd_get_num(m, "error"));
    }
    cmd_grid_print(&g, stdout);
}

static void decompose_show(const json_t *r)
{
    bool text = json_object_get(r, "calibration") != NULL;
    cmd_grid g = {.head = text ? "<matrix|<spec|<init|parameters|before|energy|error|outputs|alpha|"
                                 "time"
                               : "<matrix|<spec|<init|parameters|before|energy|error|alpha|time"};
    size_t i;
    json_t *m;
    json_array_foreach(json_object_get(r, "matrices"), i, m)
    {
        cmd_grid_add(&g, "%s", cmd_get_str(m, "name"));
        cmd_grid_add(&g, "%s", cmd_get_str(m, "spec"));
        cmd_grid_add(&g, "%s", cmd_get_str(m, "init"));
        cmd_grid_add(&g, "%s", cmd_count(cmd_get_int(m, "parameters")).s);
        cmd_grid_add(&g, "%s", cmd_count(cmd_get_int(m, "parameters_before")).s);
        cmd_grid_add(&g, "%.2f %%", 100.0 * cmd_get_num(m, "energy"));
        cmd_grid_add(&g, "%.4f", cmd_get_num(m, "error"));
        if (text && json_object_get(m, "output_error"))
            cmd_grid_add(&g, "%.4f", cmd_get_num(m, "output_error"));
        else if (text)
            cmd_grid_add(&g, "-");
        cmd_grid_add(&g, "%.3f", cmd_get_num(m, "alpha"));
        cmd_grid_add(&g, "%s", cmd_seconds(cmd_get_num(m, "seconds")).s);
    }
    decompose_show_changes(json_object_get(r, "changes"));
    cmd_grid_print(&g, stdout);
    decompose_show_quantized(json_object_get(r, "quantized"));
    int64_t now = cmd_get_int(r, "parameters"), before = cmd_get_int(r, "parameters_before");
    printf("\ntogether: energy %.2f %%, error %.4f\n", 100.0 * cmd_get_num(r, "energy"),
           cmd_get_num(r, "error"));
    json_t *calibration = json_object_get(r, "calibration");
    if (text) {
        printf("outputs: their error on %s tokens of %s\n",
               cmd_count(cmd_get_int(calibration, "tokens")).s, cmd_get_str(calibration, "text"));
    }
    json_array_foreach(json_object_get(r, "matrices"), i, m)
    {
        if (text && !json_is_true(json_object_get(m, "weighted")))
            printf("%s: init %s takes no notice of the text\n", cmd_get_str(m, "name"),
                   cmd_get_str(m, "init"));
    }
    printf("%s: %s parameters, %.1f %% of %s; %s in %s\n", cmd_get_str(r, "out"), cmd_count(now).s,
           before ? 100.0 * (double)now / (double)before : 0.0, cmd_count(before).s,
           cmd_counted((int64_t)json_array_size(json_object_get(r, "matrices")), "matrices").s,
           cmd_seconds(cmd_get_num(r, "seconds")).s);
}

const cmd_command cmd_decompose = {
    .name = "decompose",
    .summary = "replace a model's matrices by the nearest structured ones",
    .usage = "MODEL OUT --preset NAME | --map GLOB=SPEC [--map ...] | --quantize FORMAT [options]",
    .detail =
        "Every matrix whose name matches becomes the nearest matrix (in Frobenius norm) of its "
        "new type, or what --init says; the rest, biases included, is copied. Energy is the share "
        "of the squared "
        "norm that is kept, error the relative distance |W - W'| / |W|. Matrices that are "
        "structured already are expanded first; SPEC dense expands them for good. The "
        "embedding wte, and a lm_head tied to it (which is then untied), are replaced by their "
        "exact names only, not by '*'. With "
        "--weights TEXT every matrix is chosen by the error of its outputs on that text, "
        "trace((W - W') C (W - W')^T) with C = E[x^T x]; `outputs` is its square root, relative.",
    .example = "strut decompose gpt2/ small/ --map 'h.*.mlp.*=monarch:blocks=4'\n"
               "strut decompose gpt2/ krony/ --preset krony-81m --init vl-norm\n"
               "strut decompose gpt2/ krony/ --preset krony-95m --init prune:second=0.1\n"
               "strut decompose gpt2/ krony/ --preset krony-96m --group-hidden --init prune\n"
               "strut decompose gpt2/ krony/ --preset krony-96m --fold-norms --permute hidden\n"
               "strut decompose gpt2/ krony/ --map 'h.*.mlp.*=kron:m1=768,n1=768' --weights data/\n"
               "strut decompose gpt2/ gpt2-q4/ --quantize q4 --weights data/\n"
               "strut decompose gpt2/ out/ --map '*=lowrank:rank=128' --skip 'h.0.*' --json",
    .option = decompose_options,
    .least = 2,
    .most = 2,
    .run = decompose_run,
    .show = decompose_show,
};
