/* strut demo: the whole comparison on real text, in a few minutes. */
/* SPDX-License-Identifier: MIT */
#include "demo/demo.h"
#include "cmd/options.h"
#include <stdio.h>
#include <stdlib.h>

static const cmd_option demo_options[] = {
    {.name = "budget",
     .kind = CMD_NUM,
     .value = "SECONDS",
     .help = "time to fit into; the length of training follows from it",
     .preset = "270",
     .lo = 30,
     .hi = 1e6},
    {.name = "text",
     .kind = CMD_TEXT,
     .many = true,
     .value = "PATH",
     .help = "text files, folders or archives instead of the King James Bible"},
    {.name = "steps",
     .kind = CMD_INT,
     .value = "N",
     .help = "training steps of the dense model, instead of what fits the budget",
     .lo = 8,
     .hi = 4000},
    {CMD_SEED, .help = "of weights, data order and samples", .lo = 0, .hi = 9e15},
    {0},
};

static st_status demo_run(const cmd_args *a, json_t **result, st_err *e)
{
    int n;
    const char **text = cmd_many(a, "text", &n);
    st_demo_opts o = {.text = text,
                      .ntext = n,
                      .budget = cmd_num(a, "budget"),
                      .steps = cmd_int(a, "steps"),
                      .seed = (uint64_t)cmd_int(a, "seed")};
    st_status s = st_demo(a->word[0], &o, result, e);
    if (!s) json_object_set_new(*result, "out", json_string(a->word[0]));
    free(text);
    return s;
}

/* A number, or "-" where it was not measured. */
static cmd_str demo_cell(const json_t *row, const char *key, const char *part)
{
    const json_t *v = json_object_get(json_object_get(row, key), part);
    if (!json_is_number(v)) return (cmd_str){"-"};
    return cmd_number(json_number_value(v));
}

/* Perplexities with one decimal each, so that a column can be read downwards. */
static cmd_str demo_ppl(const json_t *row, const char *key)
{
    const json_t *v = json_object_get(row, key);
    cmd_str out = {"-"};
    if (json_is_number(v)) snprintf(out.s, sizeof out.s, "%.1f", json_number_value(v));
    return out;
}

/* The share of the perplexity that healing took away. */
static cmd_str demo_gain(const json_t *row)
{
    const json_t *v = json_object_get(row, "healing_gain");
    cmd_str out = {"-"};
    if (json_is_number(v) && json_number_value(v) > 0)
        snprintf(out.s, sizeof out.s, "%.1f %%", json_number_value(v));
    else if (json_is_number(v))
        snprintf(out.s, sizeof out.s, "0");
    return out;
}

static void demo_row(cmd_grid *g, const json_t *row)
{
    static const char speed[] = "tokens_per_second";
    cmd_grid_add(g, "%s", cmd_get_str(row, "name"));
    cmd_grid_add(g, "%s", cmd_si(cmd_get_num(row, "parameters")).s);
    cmd_grid_add(g, "%s", cmd_si(cmd_get_num(row, "body_parameters")).s);
    cmd_grid_add(g, "%s", cmd_bytes(cmd_get_int(row, "bytes")).s);
    cmd_grid_add(g, "%s", cmd_si(cmd_get_num(row, "macs_per_token")).s);
    cmd_grid_add(g, "%s", demo_ppl(row, "perplexity_projected").s);
    cmd_grid_add(g, "%s", demo_ppl(row, "perplexity").s);
    cmd_grid_add(g, "%s", demo_gain(row).s);
    cmd_grid_add(g, "%s", demo_cell(row, "train", speed).s);
    cmd_grid_add(g, "%s", demo_cell(row, "prefill", speed).s);
    cmd_grid_add(g, "%s", demo_cell(row, "decode", speed).s);
}

static void demo_show(const json_t *result)
{
    size_t i;
    const json_t *row, *text;
    cmd_grid g = {.head = "<model|parameters|no embed.|on disk|multiply-adds|ppl before|ppl|"
                          "healed by|"
                          "train tok/s|prefill tok/s|decode tok/s"};
    json_array_foreach(json_object_get(result, "models"), i, row) demo_row(&g, row);
    cmd_grid_print(&g, stdout);
    printf("\nMultiply-adds are per token; ppl is validation perplexity, before and after healing; "
           "healed\nby: the share of it that healing took away (0: the model was left as it was "
           "projected); speeds\nare medians of rounds in which the models took turns.\n\n");
    json_array_foreach(json_object_get(result, "remarks"), i, text)
        printf("- %s\n", json_string_value(text));
    printf("\n%s/report.html has the plots, samples and definitions (%s).\n",
           cmd_get_str(result, "out"), cmd_seconds(cmd_get_num(result, "seconds")).s);
}

const cmd_command cmd_demo = {
    .name = "demo",
    .summary = "compare all matrix types on real text, with a report",
    .usage = "OUT [--budget SECONDS] [--text PATH ...] [--seed N]",
    .detail =
        "Trains a byte-level BPE tokenizer and a small dense GPT-2 on real text, decomposes "
        "that model with every matrix type at 2x and 4x fewer MLP weights, heals each for the "
        "same few steps at the learning rate that a short probe finds best (one that healing does "
        "not make better is left as it was), trains narrow dense controls, and measures size, "
        "work, perplexity "
        "and speed of all of them.\n\nWrites OUT/report.html (one page, works without "
        "network), results.json, plots/ and models/. Ctrl-C keeps what is finished.",
    .example = "strut demo out/demo\nstrut demo out/mine --text books/ --budget 600",
    .option = demo_options,
    .least = 1,
    .most = 1,
    .run = demo_run,
    .show = demo_show,
};
