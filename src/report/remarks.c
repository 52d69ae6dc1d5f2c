/* Findings in words: every sentence is computed from the results and says nothing they do not. */
/* SPDX-License-Identifier: MIT */
#include "report/inner.h"
#include "report/report.h"
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const json_t *models;
    json_t *out;
    bool failed;
} remarks_list;

__attribute__((format(printf, 2, 3))) static void remarks_say(remarks_list *r, const char *fmt, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, fmt);
    int n = vasprintf(&text, fmt, args);
    va_end(args);
    if (n < 0 || json_array_append_new(r->out, st_json_text(text))) r->failed = true;
    if (n >= 0) free(text);
}

static bool remarks_is(const json_t *row, const char *kind, double reduction)
{
    return strcmp(st_row_str(row, "kind"), kind) == 0 &&
           (reduction == 0 || st_row_num(row, "reduction") == reduction);
}

/* The first dense row (the model that was decomposed), or the first of another kind. */
static const json_t *remarks_first(const remarks_list *r, const char *kind, double reduction)
{
    size_t i;
    const json_t *row;
    json_array_foreach(r->models, i, row) if (remarks_is(row, kind, reduction)) return row;
    return NULL;
}

/* The structured row with the least (sign +1) or greatest (-1) value of `path`; *count of those
 * that have one. */
static const json_t *remarks_extreme(const remarks_list *r, double reduction, const char *path,
                                     int sign, int *count)
{
    size_t i;
    const json_t *row, *best = NULL;
    *count = 0;
    json_array_foreach(r->models, i, row)
    {
        double v = st_row_num(row, path);
        if (!remarks_is(row, "structured", reduction) || !isfinite(v)) continue;
        ++*count;
        if (!best || v * sign < st_row_num(best, path) * sign) best = row;
    }
    return best;
}

static void remarks_dense(remarks_list *r)
{
    const json_t *dense = remarks_first(r, "dense", 0);
    char parameters[24], mlp[24], tokens[24];
    double p = st_row_num(dense, "perplexity");
    if (!isfinite(p)) return;
    st_format_number(parameters, st_row_num(dense, "parameters"), 3);
    st_format_number(mlp, st_row_num(dense, "mlp_parameters"), 3);
    st_format_number(tokens, st_row_num(dense, "tokens"), 3);
    remarks_say(r,
                "The dense model (%s parameters, %s of them in MLP matrices) reaches a validation "
                "perplexity of %.1f after %s training tokens.",
                parameters, mlp, p, tokens);
}

static void remarks_healing(remarks_list *r, int reduction)
{
    int n;
    const json_t *dense = remarks_first(r, "dense", 0);
    double before = st_row_num(dense, "perplexity");
    const json_t *best0 = remarks_extreme(r, reduction, "perplexity_projected", 1, &n);
    const json_t *worst0 = remarks_extreme(r, reduction, "perplexity_projected", -1, &n);
    if (n < 2 || !isfinite(before)) return;
    double least = st_row_num(best0, "perplexity_projected");
    double most = st_row_num(worst0, "perplexity_projected");
    const json_t *best = remarks_extreme(r, reduction, "perplexity", 1, &n);
    const json_t *worst = remarks_extreme(r, reduction, "perplexity", -1, &n);
    if (n < 2) return;
    char tokens[24];
    st_format_number(tokens, st_row_num(best, "tokens"), 3);
    remarks_say(
        r,
        "At %dx fewer MLP weights, decomposition alone takes perplexity from %.1f to "
        "%.4g (%s) or as far as %.4g (%s). After healing on %s tokens it is between %.1f (%s) and "
        "%.1f (%s): %+.1f %% and %+.1f %% against the dense model before.",
        reduction, before, least, st_row_str(best0, "label"), most, st_row_str(worst0, "label"),
        tokens, st_row_num(best, "perplexity"), st_row_str(best, "label"),
        st_row_num(worst, "perplexity"), st_row_str(worst, "label"),
        (st_row_num(best, "perplexity") / before - 1) * 100,
        (st_row_num(worst, "perplexity") / before - 1) * 100);
}

static void remarks_narrow(remarks_list *r, int reduction)
{
    const json_t *row, *narrow = remarks_first(r, "narrow", reduction);
    double p = st_row_num(narrow, "perplexity");
    int n, beaten = 0;
    size_t i;
    char tokens[24];
    const json_t *best = remarks_extreme(r, reduction, "perplexity", 1, &n);
    if (!isfinite(p) || !n) return;
    json_array_foreach(r->models, i, row) beaten +=
        remarks_is(row, "structured", reduction) && st_row_num(row, "perplexity") > p;
    st_format_number(tokens, st_row_num(narrow, "tokens"), 3);
    remarks_say(r,
                "The control at %dx, a narrow dense model of the same size trained from scratch on "
                "%s tokens, reaches %.1f: better than %d of the %d structured models. The best of "
                "them, %s, reaches %.1f (%+.1f %%).",
                reduction, tokens, p, beaten, n, st_row_str(best, "label"),
                st_row_num(best, "perplexity"), (st_row_num(best, "perplexity") / p - 1) * 100);
}

typedef struct {
    double ratio;
    const char *label;
} remarks_speed_row;

static int remarks_order(const void *a, const void *b)
{
    const remarks_speed_row *p = a, *q = b;
    return p->ratio > q->ratio ? -1 : p->ratio < q->ratio;
}

/* Speeds of the structured models of one reduction against dense; "" if there are under two. */
static void remarks_speed_part(const remarks_list *r, int reduction, const char *path,
                               char text[320])
{
    remarks_speed_row list[32];
    int n = 0, faster = 0;
    size_t i;
    const json_t *row;
    double dense = st_row_num(remarks_first(r, "dense", 0), path);
    text[0] = 0;
    json_array_foreach(r->models, i, row)
    {
        double v = st_row_num(row, path);
        if (n < 32 && remarks_is(row, "structured", reduction) && isfinite(v) && dense > 0)
            list[n++] = (remarks_speed_row){v / dense, st_row_str(row, "label")};
    }
    if (n < 2) return;
    qsort(list, (size_t)n, sizeof *list, remarks_order);
    for (int k = 0; k < n; k++)
        faster += list[k].ratio > 1;
    double narrow = st_row_num(remarks_first(r, "narrow", reduction), path) / dense;
    char control[48] = ")";
    if (isfinite(narrow)) snprintf(control, sizeof control, "; narrow control %.2fx)", narrow);
    int used = snprintf(text, 320,
                        "at %dx %d of %d structured models (%s %.2fx, %s %.2fx, ... %s "
                        "%.2fx",
                        reduction, faster, n, list[0].label, list[0].ratio, list[1].label,
                        list[1].ratio, list[n - 1].label, list[n - 1].ratio);
    if (used > 0 && used < 320) snprintf(text + used, 320 - (size_t)used, "%s", control);
}

static void remarks_speed(remarks_list *r, const char *path, const char *what)
{
    char two[320], four[320];
    remarks_speed_part(r, 2, path, two);
    remarks_speed_part(r, 4, path, four);
    if (*two || *four)
        remarks_say(r, "%s, faster than dense: %s%s%s.", what, two, *two && *four ? "; " : "",
                    four);
}

/* Among the structured models within 5 % of the best perplexity at their size, the fastest. */
static void remarks_choice(remarks_list *r, int reduction)
{
    static const char *const speed[] = {"train.tokens_per_second", "prefill.tokens_per_second",
                                        "decode.tokens_per_second"};
    int n;
    const json_t *best = remarks_extreme(r, reduction, "perplexity", 1, &n);
    if (n < 2) return;
    const json_t *row, *fast[3] = {NULL, NULL, NULL};
    size_t i;
    for (size_t k = 0; k < 3; k++) {
        json_array_foreach(r->models, i, row)
        {
            double v = st_row_num(row, speed[k]);
            if (!remarks_is(row, "structured", reduction) || !isfinite(v)) continue;
            if (!(st_row_num(row, "perplexity") <= st_row_num(best, "perplexity") * 1.05)) continue;
            if (!fast[k] || v > st_row_num(fast[k], speed[k])) fast[k] = row;
        }
    }
    if (!fast[0] || !fast[1] || !fast[2]) return;
    if (fast[0] == fast[1] && fast[0] == fast[2])
        remarks_say(r,
                    "Among the structured models at %dx within 5 %% of the best perplexity, %s is "
                    "the fastest in training, prefill and decoding.",
                    reduction, st_row_str(fast[0], "label"));
    else
        remarks_say(r,
                    "Among the structured models at %dx within 5 %% of the best perplexity, %s "
                    "trains fastest, %s prefills fastest, %s decodes fastest.",
                    reduction, st_row_str(fast[0], "label"), st_row_str(fast[1], "label"),
                    st_row_str(fast[2], "label"));
}

static void remarks_work(remarks_list *r)
{
    size_t i;
    const json_t *row, *dense = remarks_first(r, "dense", 0);
    double macs = st_row_num(dense, "macs_per_token"), work = 0, most = 0;
    double fast = st_row_num(dense, "prefill.tokens_per_second");
    const json_t *far = NULL, *heavy = NULL;
    json_array_foreach(r->models, i, row)
    {
        double w = st_row_num(row, "macs_per_token") / macs;
        double t = fast / st_row_num(row, "prefill.tokens_per_second");
        if (!remarks_is(row, "structured", 0) || !isfinite(w)) continue;
        if (w > work) work = w, heavy = row;
        if (isfinite(t) && t / w > most) most = t / w, far = row;
    }
    if (heavy && work > 1)
        remarks_say(r,
                    "Fewer parameters is not less work: %s has %.0f %% of the dense model's "
                    "multiply-adds.",
                    st_row_str(heavy, "name"), work * 100);
    if (far && most > 1.1)
        remarks_say(r,
                    "Less work is not as much less time: %s does %.0f %% of the dense model's "
                    "multiply-adds in %.0f %% of its prefill time.",
                    st_row_str(far, "name"), st_row_num(far, "macs_per_token") / macs * 100,
                    fast / st_row_num(far, "prefill.tokens_per_second") * 100);
}

/* How far apart the rounds of a measurement lie, so that a reader knows which differences count. */
static void remarks_noise(remarks_list *r, const json_t *results)
{
    size_t i;
    const json_t *row;
    double widest = 0;
    const json_t *loudest = NULL;
    json_array_foreach(r->models, i, row)
    {
        double w = (st_row_num(row, "decode.high") - st_row_num(row, "decode.low")) /
                   st_row_num(row, "decode.tokens_per_second");
        if (isfinite(w) && w > widest) widest = w, loudest = row;
    }
    if (loudest)
        remarks_say(
            r,
            "Timings vary: from the 10th to the 90th percentile the decoding rounds of %s span "
            "%.0f %% of their median, the widest of all models%s.",
            st_row_str(loudest, "name"), widest * 100,
            widest > 0.5 ? "; the machine was not quiet, so small differences in speed "
                           "mean nothing here"
                         : "");
    double tokens = st_row_num(json_object_get(results, "text"), "val_tokens");
    char text[24];
    st_format_number(text, tokens, 3);
    if (isfinite(tokens))
        remarks_say(r,
                    "One seed, one text, %s validation tokens and a short run: order among models "
                    "that lie within a few percent of each other should not be trusted.",
                    text);
}

st_status st_remarks_add(json_t *results, st_err *e)
{
    static const int reductions[] = {2, 4};
    remarks_list r = {json_object_get(results, "models"), json_array(), false};
    if (!r.out) ST_FAIL(e, ST_ENOMEM, "report: no memory for remarks");
    remarks_dense(&r);
    for (int k = 0; k < 2; k++) {
        remarks_healing(&r, reductions[k]);
        remarks_narrow(&r, reductions[k]);
    }
    for (int k = 0; k < 2; k++)
        remarks_choice(&r, reductions[k]);
    remarks_speed(&r, "train.tokens_per_second", "Training");
    remarks_speed(&r, "prefill.tokens_per_second", "Prefill");
    remarks_speed(&r, "decode.tokens_per_second", "Decoding at batch 1");
    remarks_work(&r);
    remarks_noise(&r, results);
    if (r.failed || json_object_set(results, "remarks", r.out)) {
        json_decref(r.out);
        ST_FAIL(e, ST_ENOMEM, "report: no memory for remarks");
    }
    json_decref(r.out);
    return ST_OK;
}
