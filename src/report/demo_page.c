/* The demo's page: findings, one table, figures, samples of text, set-up and definitions. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "report/inner.h"
#include "report/report.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- table ----------------------------------------------------------------------------------- */

typedef struct {
    const char *head, *path, *help;
    int digits;
    int better; /* +1: more is better, -1: less is, 0: neither */
} report_column;

static const report_column report_columns[] = {
    {"Parameters", "parameters", "all stored numbers, tied tensors once", 4, 0},
    {"without embeddings", "body_parameters", "all but token and position embeddings", 4, 0},
    {"in MLPs", "mlp_parameters", "weights of the MLP matrices", 4, 0},
    {"Size on disk (bytes)", "bytes", "model.safetensors", 4, 0},
    {"Multiply-adds per token", "macs_per_token", "of a forward pass over one full context", 4, 0},
    {"Perplexity before healing", "perplexity_projected", "validation text", 4, -1},
    {"Perplexity", "perplexity", "validation text, after healing or training", 4, -1},
    {"Healed by (%)", "healing_gain",
     "share of the perplexity that healing took away; below 0 the model was left as it was", 3, 0},
    {"Training tokens/s", "train.tokens_per_second", "forward and backward of one batch", 4, 1},
    {"Prefill tokens/s", "prefill.tokens_per_second", "one full context at once", 4, 1},
    {"Decode tokens/s", "decode.tokens_per_second", "batch 1, one token at a time", 4, 1},
};
enum { REPORT_COLUMNS = sizeof report_columns / sizeof *report_columns };

/* The best value of a column among the structured models of one reduction, NAN if there is none. */
static double report_best(const json_t *models, const report_column *c, double reduction)
{
    double best = (double)NAN;
    size_t i;
    const json_t *row;
    json_array_foreach(models, i, row)
    {
        double v = st_row_num(row, c->path);
        if (strcmp(st_row_str(row, "kind"), "structured") != 0 || !isfinite(v)) continue;
        if (st_row_num(row, "reduction") != reduction) continue;
        if (!isfinite(best) || (v - best) * c->better > 0) best = v;
    }
    return c->better ? best : (double)NAN;
}

static void report_table(FILE *f, const json_t *models)
{
    fputs("<div class=\"wide\"><table class=\"sort\"><thead><tr><th>Model</th>", f);
    for (int c = 0; c < REPORT_COLUMNS; c++) {
        fputs("<th title=\"", f);
        st_html_text(f, report_columns[c].help);
        fprintf(f, "\">%s</th>", report_columns[c].head);
    }
    fputs("</tr></thead>\n<tbody>\n", f);
    size_t i;
    const json_t *row;
    json_array_foreach(models, i, row)
    {
        bool dense = strcmp(st_row_str(row, "kind"), "dense") == 0;
        bool structured = strcmp(st_row_str(row, "kind"), "structured") == 0;
        fprintf(f, "<tr%s><td data-v=\"%zu\">", dense ? " class=\"ref\"" : "", i);
        st_html_text(f, st_row_str(row, "name"));
        fputs("</td>", f);
        for (int c = 0; c < REPORT_COLUMNS; c++) {
            const report_column *col = &report_columns[c];
            double v = st_row_num(row, col->path);
            bool best = structured && v == report_best(models, col, st_row_num(row, "reduction"));
            st_html_number(f, v, col->digits, best);
        }
        fputs("</tr>\n", f);
    }
    fputs("</tbody></table></div>\n<p class=\"lead\">Click a heading to sort. Shaded: the best "
          "structured model at that reduction.</p>\n",
          f);
}

/* ---- text ------------------------------------------------------------------------------------ */

static void report_remarks(FILE *f, const json_t *results)
{
    size_t i;
    const json_t *text;
    if (!json_is_true(json_object_get(results, "complete")))
        fputs("<p class=\"warn\">This run was stopped before its end: what was finished is shown, "
              "missing numbers are marked n/a.</p>\n",
              f);
    fputs("<ul class=\"two\">\n", f);
    json_array_foreach(json_object_get(results, "remarks"), i, text)
    {
        fputs("<li>", f);
        st_html_text(f, json_string_value(text));
        fputs("</li>\n", f);
    }
    fputs("</ul>\n", f);
}

static void report_samples(FILE *f, const json_t *results)
{
    size_t i;
    const json_t *row, *models = json_object_get(results, "models");
    fputs(
        "<h2>What the models write</h2>\n<p>The same beginning (bold), the same seed and the same "
        "sampling settings for every model.</p>\n",
        f);
    json_array_foreach(models, i, row)
    {
        if (!*st_row_str(row, "sample")) continue;
        fprintf(f, "<details%s><summary>", i == 0 ? " open" : "");
        st_html_text(f, st_row_str(row, "name"));
        fputs("</summary><blockquote><b>", f);
        st_html_text(f, st_row_str(results, "prompt"));
        fputs("</b>", f);
        st_html_text(f, st_row_str(row, "sample"));
        fputs("</blockquote></details>\n", f);
    }
}

/* A JSON value in one line for people: objects as "key value, key value". */
static void report_value(FILE *f, const json_t *v)
{
    const char *key;
    const json_t *item;
    char text[24];
    size_t i = 0;
    if (json_is_string(v))
        st_html_text(f, json_string_value(v));
    else if (json_is_boolean(v))
        fputs(json_is_true(v) ? "yes" : "no", f);
    else if (json_is_integer(v)) {
        st_format_number(text, json_number_value(v), 15);
        fputs(text, f);
    } else if (json_is_real(v))
        fprintf(f, "%.6g", json_real_value(v));
    else if (json_is_array(v)) {
        json_array_foreach(v, i, item)
        {
            if (i) fputs(", ", f);
            report_value(f, item);
        }
    } else if (json_is_object(v)) {
        /* jansson's own iteration keeps the order of insertion */
        json_object_foreach((json_t *)(uintptr_t)v, key, item)
        {
            if (i++) fputs(", ", f);
            for (const char *c = key; *c; c++)
                putc(*c == '_' ? ' ' : *c, f);
            putc(' ', f);
            report_value(f, item);
        }
    }
}

static void report_setup(FILE *f, const json_t *results)
{
    static const char *const part[][2] = {{"machine", "Machine"},
                                          {"text", "Text"},
                                          {"tokenizer", "Tokenizer"},
                                          {"model", "Dense model"},
                                          {"train", "Training"},
                                          {"heal", "Healing"},
                                          {"control", "Narrow models"},
                                          {"measure", "Measurement"},
                                          {"sampling", "Samples"},
                                          {"seed", "Seed"},
                                          {"when", "When"},
                                          {"command", "Command"}};
    fputs("<h2>Set-up</h2>\n<dl>\n", f);
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
        const json_t *v = json_object_get(results, part[i][0]);
        if (!v) continue;
        fprintf(f, "<dt>%s</dt><dd>", part[i][1]);
        report_value(f, v);
        fputs("</dd>\n", f);
    }
    fputs("</dl>\n<h2>The matrices of each model</h2>\n<div class=\"wide\"><table><thead><tr>"
          "<th>Model</th><th class=\"text\">mlp.c_fc</th><th class=\"text\">mlp.c_proj</th>"
          "<th class=\"text\">folder</th></tr></thead><tbody>\n",
          f);
    size_t i;
    const json_t *row;
    json_array_foreach(json_object_get(results, "models"), i, row)
    {
        const json_t *maps = json_object_get(row, "maps");
        const char *cell[] = {st_row_str(row, "name"), st_row_str(maps, "c_fc"),
                              st_row_str(maps, "c_proj"), st_row_str(row, "folder")};
        fputs("<tr>", f);
        for (int c = 0; c < 4; c++) {
            fputs(c ? "<td class=\"text\"><code>" : "<td>", f);
            st_html_text(f, cell[c]);
            fputs(c ? "</code></td>" : "</td>", f);
        }
        fputs("</tr>\n", f);
    }
    fputs("</tbody></table></div>\n", f);
}

static const char report_definitions[] =
    "<h2>What the numbers mean</h2>\n<ul>\n"
    "<li><b>Perplexity</b>: exp of the mean negative log-likelihood per token of the validation "
    "text, in windows of one context without overlap. It counts tokens of this tokenizer, so it "
    "compares the models of this page with each other and with nothing else.</li>\n"
    "<li><b>Before healing</b>: the dense model's MLP matrices replaced by the nearest structured "
    "matrices (Frobenius norm), nothing trained. <b>After</b>: all weights trained on for the same "
    "number of steps on the same tokens, at the learning rate whose short probe ended best; where "
    "that "
    "does not lower the perplexity, the model is left as it was projected. <b>Dense, "
    "continued</b>, where shown, is the dense model "
    "after the same extra steps.</li>\n"
    "<li><b>Narrow</b>: a dense model whose MLPs have fewer hidden units, so that it is as small "
    "as "
    "the structured ones, trained from scratch. It is the first thing to try before any structure: "
    "a structured matrix earns its place by beating it.</li>\n"
    "<li><b>Reduction</b> (2x, 4x): how many times fewer weights the MLP matrices have; attention, "
    "embeddings and norms stay as they are.</li>\n"
    "<li><b>Multiply-adds</b> are counted by a dry run of the very code that computes. Fewer "
    "parameters need not mean less work, and less work need not mean less time.</li>\n"
    "<li><b>Tokens per second</b>: models take turns on the same machine, several rounds; the "
    "median round is shown. <b>Prefill</b> reads one full context at once, <b>decode</b> writes "
    "one "
    "token at a time after a prompt.</li>\n"
    "<li><b>Pareto front</b>: models for which no other one is better in both directions of the "
    "figure.</li>\n</ul>\n";

static st_status report_page(FILE *f, const json_t *results, const char *dir, st_err *e)
{
    const json_t *machine = json_object_get(results, "machine");
    char minutes[24];
    st_format_number(minutes, st_row_num(results, "seconds") / 60, 2);
    st_html_begin(f, "strut demo: structured matrices in a small GPT-2");
    fputs("<h1>Structured matrices in a small GPT-2</h1>\n<p class=\"lead\">", f);
    st_html_text(f, st_row_str(results, "summary"));
    fprintf(f,
            " Everything on this page was computed by one run of <code>strut demo</code> in %s "
            "minutes on ",
            minutes);
    st_html_text(f, st_row_str(machine, "cpu"));
    fprintf(f, " (%.0f threads).</p>\n<h2>Findings</h2>\n", st_row_num(machine, "threads"));
    report_remarks(f, results);
    fputs("<h2>All models</h2>\n", f);
    report_table(f, json_object_get(results, "models"));
    fputs("<h2>Figures</h2>\n<div class=\"figures\">\n", f);
    ST_TRY(st_report_figures(f, results, dir, e));
    fputs("</div>\n", f);
    report_samples(f, results);
    fputs(report_definitions, f);
    report_setup(f, results);
    fputs("<p class=\"lead\">strut ", f);
    st_html_text(f, st_row_str(results, "strut"));
    fputs(". The numbers are in <code>results.json</code>, the figures as PNG and SVG in "
          "<code>plots/</code>, every model as a folder that <code>strut info</code>, "
          "<code>perplexity</code>, <code>generate</code> and <code>bench</code> read.</p>\n",
          f);
    st_html_end(f);
    return ST_OK;
}

st_status st_report_write(const json_t *results, const char *dir, st_err *e)
{
    char *page = NULL, *path = st_path_join(dir, "report.html");
    size_t n = 0;
    FILE *f = path ? open_memstream(&page, &n) : NULL;
    if (!f) {
        free(path);
        ST_FAIL(e, ST_ENOMEM, "report: no memory for the page");
    }
    st_status s = report_page(f, results, dir, e);
    if (fclose(f) && !s) s = ST_ERR(e, ST_ENOMEM, "report: no memory for the page");
    if (!s) s = st_write_file(path, page, n, e);
    free(page), free(path);
    return s;
}
