/* The page of many runs: a table to sort and search, figures, benchmarks, settings of every run. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "report/report.h"
#include "report/runs.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

typedef struct {
    const char *head, *key, *help;
    int digits; /* 0: text */
} page_column;

static const page_column page_runs[] = {
    {"Maps", "maps", "structured matrices (how many)", 0},
    {"Parameters", "parameters", "all stored numbers, tied tensors once", 4},
    {"without embeddings", "body_parameters", "all but token and position embeddings", 4},
    {"Multiply-adds per token", "macs_per_token", "of a forward pass, by dry run", 4},
    {"Perplexity", "perplexity", "exp of the lowest validation loss", 4},
    {"at step", "best_step", "where that was", 9},
    {"Test perplexity", "test_perplexity", "where the run measured it", 4},
    {"ms per 1,000 tokens", "forward_ms", "forward, from the benchmark of the same model", 4},
    {"Training tokens/s", "tokens_per_second", "median of the run's own rows", 4},
    {"Steps", "step", "done", 9},
    {"Tokens", "tokens", "trained on", 4},
    {"Hours", "hours", "of training, without validation", 3},
    {"dtype", "dtype", "computed in", 0},
    {NULL, NULL, NULL, 0},
};

static const page_column page_bench[] = {
    {"Layer", "shape", "tokens, inputs, outputs", 0},
    {"Timed", "what", "forward, backward, step (both), decode", 0},
    {"dtype", "dtype", "computed in", 0},
    {"Batch", "batch", "texts at a time", 6},
    {"Context", "context", "tokens of a text", 6},
    {"Parameters", "parameters", "weights", 4},
    {"Multiply-adds per token", "macs_per_token", "by dry run", 4},
    {"Median ms", "median_ms", "of the repetitions", 4},
    {"p10", "p10_ms", "10th percentile, ms", 4},
    {"p90", "p90_ms", "90th percentile, ms", 4},
    {"Reps", "reps", "repetitions", 6},
    {"GFLOP/s", "gflops", "2 x multiply-adds / time", 4},
    {"GB/s", "gbytes_per_s", "operands moved / time", 3},
    {"% of roofline", "roofline_percent", "of what arithmetic and bandwidth of this machine allow",
     3},
    {"against dense", "speedup", "median of the rounds' ratios", 3},
    {"p10", "speedup_p10", "of the ratios", 3},
    {"p90", "speedup_p90", "of the ratios", 3},
    {"Scratch", "scratch_used", "bytes beside inputs and outputs", 4},
    {"Error", "error", "mean relative error of outputs on random tokens", 3},
    {"sd", "error_sd", "of the error over seeds", 3},
    {"Not measured", "reason", "or not as asked for", 0},
    {"Machine", "machine", "measured on", 0},
    {"Commit", "commit", "of strut", 0},
    {NULL, NULL, NULL, 0},
};

/* ---- tables ---------------------------------------------------------------------------------- */

/* Does any row have it? Columns that no row has are not shown. */
static bool page_has(const json_t *rows, const page_column *c)
{
    size_t i;
    const json_t *row;
    json_array_foreach(rows, i, row)
    {
        if (c->digits ? isfinite(st_row_num(row, c->key)) : *st_row_str(row, c->key) != '\0')
            return true;
    }
    return false;
}

/* Which columns some row has: bit i. */
static unsigned page_shown(const json_t *rows, const page_column *columns)
{
    unsigned shown = 0;
    for (int i = 0; columns[i].head; i++)
        if (page_has(rows, &columns[i])) shown |= 1u << i;
    return shown;
}

static void page_table_begin(FILE *f, const char *id, const char *first, unsigned shown,
                             const page_column *columns)
{
    fprintf(f,
            "<input class=\"find\" type=\"search\" data-of=\"%s\" placeholder=\"show only rows "
            "with these words\" aria-label=\"filter\">\n<div class=\"wide\"><table class=\"sort\" "
            "id=\"%s\"><thead><tr><th>%s</th>",
            id, id, first);
    for (const page_column *c = columns; c->head; c++) {
        if (!(shown >> (c - columns) & 1)) continue;
        fprintf(f, "<th title=\"%s\"%s>%s</th>", c->help, c->digits ? "" : " class=\"text\"",
                c->head);
    }
    fputs("</tr></thead>\n<tbody>\n", f);
}

static void page_cells(FILE *f, const json_t *row, unsigned shown, const page_column *columns)
{
    for (const page_column *c = columns; c->head; c++) {
        if (!(shown >> (c - columns) & 1)) continue;
        if (c->digits) {
            st_html_number(f, st_row_num(row, c->key), c->digits, false);
            continue;
        }
        fputs("<td class=\"text\">", f);
        st_html_text(f, st_row_str(row, c->key));
        fputs("</td>", f);
    }
}

static st_status page_run_table(FILE *f, const json_t *runs, st_err *e)
{
    int64_t *front = NULL, fronts = 0;
    size_t i;
    json_t *row;
    ST_TRY(st_report_front(runs, "parameters", false, &front, &fronts, e));
    json_array_foreach(runs, i, row)
    {
        double seconds = st_row_num(row, "seconds");
        if (isfinite(seconds)) json_object_set_new(row, "hours", json_real(seconds / 3600));
    }
    unsigned shown = page_shown(runs, page_runs);
    page_table_begin(f, "runs", "Run", shown, page_runs);
    json_array_foreach(runs, i, row)
    {
        bool best = false, dense = strcmp(st_row_str(row, "kind"), "dense") == 0;
        for (int64_t k = 0; k < fronts; k++)
            best = best || front[k] == (int64_t)i;
        fprintf(f, "<tr%s><td%s><a href=\"#run-%zu\">", dense ? " class=\"ref\"" : "",
                best ? " class=\"best\"" : "", i);
        st_html_text(f, st_row_str(row, "name"));
        fprintf(f, "</a>%s</td>",
                json_is_false(json_object_get(row, "complete"))     ? " (unfinished)"
                : strcmp(st_row_str(row, "status"), "stopped") == 0 ? " (stopped early)"
                                                                    : "");
        page_cells(f, row, shown, page_runs);
        fputs("</tr>\n", f);
    }
    free(front);
    fputs("</tbody></table></div>\n<p class=\"lead\">Click a heading to sort, a name for its "
          "settings. Shaded names: the Pareto front of perplexity and parameters. Bold: dense "
          "models.</p>\n",
          f);
    return ST_OK;
}

static void page_bench_row(json_t *row)
{
    static const char *const time[][2] = {
        {"median_s", "median_ms"}, {"p10_s", "p10_ms"}, {"p90_s", "p90_ms"}};
    char a[24], b[24], c[24], shape[96];
    for (int k = 0; k < 3; k++) {
        double s = st_row_num(row, time[k][0]);
        if (isfinite(s)) json_object_set_new(row, time[k][1], json_real(1e3 * s));
    }
    if (!isfinite(st_row_num(row, "in"))) return;
    if (strcmp(st_row_str(row, "control"), "narrow") == 0)
        json_object_set(row, "label", json_object_get(row, "name"));
    st_format_number(a, st_row_num(row, "rows"), 9);
    st_format_number(b, st_row_num(row, "in"), 9);
    st_format_number(c, st_row_num(row, "out"), 9);
    snprintf(shape, sizeof shape, "%s \xc3\x97 %s \xe2\x86\x92 %s", a, b, c);
    json_object_set_new(row, "shape", json_string(shape));
}

static void page_bench_table(FILE *f, const json_t *rows, const char *id, const char *title)
{
    size_t i;
    json_t *row;
    if (json_array_size(rows) == 0) return;
    json_array_foreach(rows, i, row)
    {
        page_bench_row(row);
    }
    unsigned shown = page_shown(rows, page_bench);
    fprintf(f, "<h2>%s</h2>\n", title);
    page_table_begin(f, id, "Maps", shown, page_bench);
    json_array_foreach(rows, i, row)
    {
        const char *control = st_row_str(row, "control");
        bool dense = strcmp(st_row_str(row, "spec"), "dense") == 0;
        fprintf(f, "<tr%s><td>", dense ? " class=\"ref\"" : "");
        st_html_text(f, st_row_str(row, *st_row_str(row, "label") ? "label" : "spec"));
        if (*control && strcmp(control, "none") != 0) {
            fputs(" (control: ", f);
            st_html_text(f, control);
            fputs(")", f);
        }
        fputs("</td>", f);
        page_cells(f, row, shown, page_bench);
        fputs("</tr>\n", f);
    }
    fputs("</tbody></table></div>\n", f);
}

/* ---- settings, what is missing, definitions -------------------------------------------------- */

static void page_settings(FILE *f, const json_t *runs)
{
    size_t i;
    const json_t *row;
    fputs("<h2>Settings of every run</h2>\n", f);
    json_array_foreach(runs, i, row)
    {
        fprintf(f, "<details id=\"run-%zu\"><summary>", i);
        st_html_text(f, st_row_str(row, "name"));
        fputs(" <span class=\"lead\">", f);
        st_html_text(f, st_row_str(row, "folder"));
        fputs("</span></summary>", f);
        if (*st_row_str(row, "forward_of")) {
            fputs("<p class=\"lead\">Forward time from: ", f);
            st_html_text(f, st_row_str(row, "forward_of"));
            fputs("</p>", f);
        }
        fputs("<pre>", f);
        st_html_text(f, *st_row_str(row, "config") ? st_row_str(row, "config")
                                                   : "no config.yaml beside this run");
        fputs("</pre></details>\n", f);
    }
}

static void page_left_out(FILE *f, const json_t *list)
{
    size_t i;
    const json_t *row;
    if (json_array_size(list) == 0) return;
    fputs("<p class=\"warn\">Left out:", f);
    json_array_foreach(list, i, row)
    {
        fputs("<br>", f);
        st_html_text(f, st_row_str(row, "path"));
        fputs(": ", f);
        st_html_text(f, st_row_str(row, "why"));
    }
    fputs("</p>\n", f);
}

static const char page_definitions[] =
    "<h2>What the numbers mean</h2>\n<ul>\n"
    "<li><b>Perplexity</b>: exp of the mean negative log-likelihood per token of the run's own "
    "validation shard, at its lowest. Runs on other data, with another tokenizer or context, "
    "cannot be compared: look at their settings.</li>\n"
    "<li><b>Multiply-adds</b> are counted by a dry run of the code that computes.</li>\n"
    "<li><b>Pareto front</b>: runs for which no other one has both fewer (or faster) and a lower "
    "perplexity.</li>\n"
    "<li><b>Narrow</b>: a dense model whose MLPs have fewer hidden units: what any structure has "
    "to beat.</li>\n"
    "<li><b>Against dense</b>: all rows of a benchmark take turns, round after round; the ratio is "
    "the median of the rounds', so that a slow moment of the machine meets all alike.</li>\n"
    "</ul>\n";

st_status st_runs_page(FILE *f, const json_t *found, const char *title, const char *dir, st_err *e)
{
    const json_t *runs = json_object_get(found, "runs");
    const json_t *layers = json_object_get(found, "layers");
    const json_t *models = json_object_get(found, "models");
    st_html_begin(f, title);
    fputs("<h1>", f);
    st_html_text(f, title);
    fprintf(f, "</h1>\n<p class=\"lead\">%zu run%s, %zu layer and %zu model timings; made ",
            json_array_size(runs), json_array_size(runs) == 1 ? "" : "s", json_array_size(layers),
            json_array_size(models));
    st_html_text(f, st_row_str(found, "when"));
    fputs(" by strut ", f);
    st_html_text(f, st_row_str(found, "strut"));
    fputs(".</p>\n", f);
    page_left_out(f, json_object_get(found, "left_out"));
    fputs("<div class=\"figures\">\n", f);
    ST_TRY(st_runs_figures(f, found, dir, e));
    fputs("</div>\n", f);
    if (json_array_size(runs)) {
        fputs("<h2>Runs</h2>\n", f);
        ST_TRY(page_run_table(f, runs, e));
    }
    page_bench_table(f, layers, "layers", "Layers");
    page_bench_table(f, models, "models", "Models");
    page_bench_table(f, json_object_get(found, "attention"), "attention", "Attention");
    if (json_array_size(runs)) page_settings(f, runs);
    fputs(page_definitions, f);
    st_html_end(f);
    return ST_OK;
}

/* ---- the job --------------------------------------------------------------------------------- */

/* "report.html" -> "report_files". */
static char *page_folder(const char *out)
{
    size_t n = strlen(out);
    const char *slash = strrchr(out, '/'), *dot = strrchr(out, '.');
    char *dir = NULL;
    if (dot && dot > (slash ? slash + 1 : out)) n = (size_t)(dot - out);
    return asprintf(&dir, "%.*s_files", (int)n, out) < 0 ? NULL : dir;
}

/* A page is a .html: `report -o layers.csv` would otherwise replace a benchmark by its report. */
static st_status page_name(const char *out, st_err *e)
{
    size_t n = strlen(out), dot = n;
    if (st_path_is_dir(out))
        ST_FAIL(e, ST_EARG, "%s is a folder, expected the name of a page such as report.html", out);
    while (dot > 0 && out[dot - 1] != '.' && out[dot - 1] != '/')
        dot--;
    const char *end = out + dot;
    if (dot < 2 || out[dot - 1] == '/' || out[dot - 2] == '/' ||
        (strcasecmp(end, "html") != 0 && strcasecmp(end, "htm") != 0))
        ST_FAIL(e, ST_EARG, "'%s': expected the name of a page that ends in .html", out);
    return ST_OK;
}

st_status st_report_runs(const char *const *paths, int n, const char *out, const char *title,
                         bool replace, json_t **result, st_err *e)
{
    static const char *const over[] = {"*.svg", "*.png", NULL};
    double began = st_now();
    st_outfile o = {0};
    st_outdir plots = {0};
    char *page = NULL, *dir;
    size_t bytes = 0;
    *result = NULL;
    ST_TRY(page_name(out, e));
    ST_TRY(st_output_file(out, replace, "a page of strut report", st_html_ours, e));
    dir = page_folder(out);
    if (!dir) return ST_NOMEM(e, "report");
    json_t *found = NULL;
    st_status s = st_runs_find(paths, n, &found, e);
    FILE *f = s ? NULL : open_memstream(&page, &bytes);
    if (!s && !f) s = ST_NOMEM(e, "report");
    if (!s)
        s = st_outdir_open(&plots, dir, replace ? over : NULL,
                           e); /* beside the page: makes its folder too */
    if (!s) s = st_outfile_open(&o, out, e);
    if (!s) s = st_runs_page(f, found, title ? title : "strut: runs and benchmarks", plots.temp, e);
    if (f && fclose(f) && !s) s = ST_NOMEM(e, "report");
    /* both are on the disk before either takes its place */
    if (!s) s = st_outfile_write(&o, page, bytes, e);
    if (!s) s = st_outfile_flush(&o, e);
    if (!s) s = st_outdir_commit(&plots, e);
    if (!s) s = st_outfile_commit(&o, e);
    st_outfile_discard(&o);
    st_outdir_discard(&plots);
    if (!s) {
        json_object_update_new(found, json_pack("{s:o, s:o, s:I, s:f}", "out", st_json_text(out),
                                                "plots", st_json_text(dir), "bytes",
                                                (json_int_t)bytes, "seconds", st_now() - began));
        *result = json_incref(found);
    }
    json_decref(found);
    free(page);
    free(dir);
    return s;
}
