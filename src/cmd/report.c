/* strut report: runs and benchmarks on one page. */
/* SPDX-License-Identifier: MIT */
#include "report/report.h"
#include "cmd/cmd.h"
#include "cmd/options.h"
#include <math.h>
#include <stdio.h>

static const cmd_option report_options[] = {
    {.name = "out",
     .letter = 'o',
     .kind = CMD_TEXT,
     .value = "FILE",
     .help = "the page; its figures go beside it as FILE_files/*.png and *.svg",
     .preset = "report.html"},
    {CMD_FORCE("an older page")},
    {.name = "title", .kind = CMD_TEXT, .value = "TEXT", .help = "of the page"},
    {0},
};

static st_status report_run(const cmd_args *a, json_t **result, st_err *e)
{
    return st_report_runs(a->word, a->words, cmd_text(a, "out"), cmd_text(a, "title"),
                          cmd_has(a, "force"), result, e);
}

static void report_show(const json_t *r)
{
    const json_t *runs = json_object_get(r, "runs");
    size_t i;
    json_t *row;
    if (json_array_size(runs) > 0 && json_array_size(runs) <= 40) {
        cmd_grid g = {.head = "<run|<maps|parameters|perplexity|at step|training tokens/s"};
        json_array_foreach(runs, i, row)
        {
            bool done = json_is_true(json_object_get(row, "complete"));
            cmd_grid_add(&g, "%.40s%s", cmd_get_str(row, "name"), done ? "" : " (unfinished)");
            cmd_grid_add(&g, "%.40s", cmd_get_str(row, "maps"));
            cmd_grid_add(&g, "%s", cmd_count((int64_t)cmd_get_num(row, "parameters")).s);
            if (json_object_get(row, "perplexity"))
                cmd_grid_add(&g, "%.2f", cmd_get_num(row, "perplexity"));
            else
                cmd_grid_add(&g, "-");
            cmd_grid_add(&g, "%.0f", cmd_get_num(row, "best_step"));
            cmd_grid_add(&g, "%s", cmd_number(cmd_get_num(row, "tokens_per_second")).s);
        }
        cmd_grid_print(&g, stdout);
    }
    printf("%zu run%s, %zu layer, %zu model and %zu attention timings -> %s (%s, %s), figures in "
           "%s/\n",
           json_array_size(runs), json_array_size(runs) == 1 ? "" : "s",
           json_array_size(json_object_get(r, "layers")),
           json_array_size(json_object_get(r, "models")),
           json_array_size(json_object_get(r, "attention")), cmd_get_str(r, "out"),
           cmd_bytes(cmd_get_int(r, "bytes")).s, cmd_seconds(cmd_get_num(r, "seconds")).s,
           cmd_get_str(r, "plots"));
}

const cmd_command cmd_report = {
    .name = "report",
    .summary = "put runs and benchmarks on one page",
    .usage = "RUNS|FILE.csv ... [-o FILE] [--force] [--title TEXT]",
    .detail =
        "Folders are searched for training runs (metrics.jsonl beside config.yaml), CSV files are "
        "what strut bench --csv wrote. The page needs no network and no other file: loss curves, "
        "perplexity against parameters, multiply-adds and time with the Pareto front, speed-ups "
        "by shape, tables to sort and search, and the settings of every run. A run that cannot be "
        "read is left out and named. A benchmark's model is matched to a run by its name, its maps "
        "or its number of parameters.",
    .example = "strut report runs/ layers.csv models.csv -o report.html",
    .option = report_options,
    .least = 1,
    .most = -1,
    .run = report_run,
    .show = report_show,
};
