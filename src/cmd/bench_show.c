/* strut bench for people: a table per shape and kind, and the ceilings of the machine. */
/* SPDX-License-Identifier: MIT */
#include "cmd/bench.h"
#include <stdio.h>
#include <string.h>

static const char *const show_kinds[] = {"forward", "backward", "step", "decode"};
enum { SHOW_KINDS = sizeof show_kinds / sizeof *show_kinds };

static bool show_same(const json_t *a, const json_t *b, const char *key)
{
    return strcmp(cmd_get_str(a, key), cmd_get_str(b, key)) == 0;
}

/* "36.6..56.9", in the unit that the median is shown in. */
static cmd_str show_spread(const json_t *t)
{
    double median = cmd_get_num(t, "median");
    double unit = median < 1e-3 ? 1e-6 : median < 1.0 ? 1e-3 : 1.0;
    cmd_str out;
    snprintf(out.s, sizeof out.s, "%.3g..%.3g", cmd_get_num(t, "p10") / unit,
             cmd_get_num(t, "p90") / unit);
    return out;
}

/* What a row's last figure of its own is. */
typedef enum { SHOW_GFLOPS, SHOW_TOKENS, SHOW_IMAGES } show_rate;

static void show_row(cmd_grid *g, const json_t *row, const json_t *t, show_rate rate)
{
    const char *control = cmd_get_str(row, "control");
    bool marked = control[0] && strcmp(control, "none") != 0;
    cmd_grid_add(g, "%s%s", cmd_get_str(row, "name"), marked ? " *" : "");
    cmd_grid_add(g, "%s", cmd_si(cmd_get_num(row, "parameters")).s);
    const json_t *macs = json_object_get(t, "macs_per_token") ? t : row; /* of decoding, its own */
    cmd_grid_add(g, "%s", cmd_si(cmd_get_num(macs, "macs_per_token")).s);
    cmd_grid_add(g, "%s", cmd_seconds(cmd_get_num(t, "median")).s);
    cmd_grid_add(g, "%s", show_spread(t).s);
    if (rate != SHOW_GFLOPS) {
        const char *key = rate == SHOW_IMAGES ? "images_per_second" : "tokens_per_second";
        cmd_grid_add(g, "%s", cmd_number(cmd_get_num(t, key)).s);
    } else {
        cmd_grid_add(g, "%.3g", cmd_get_num(t, "gflops"));
    }
    cmd_grid_add(g, "%.3g", cmd_get_num(t, "gbytes_per_s"));
    cmd_grid_add(g, "%.0f%%", cmd_get_num(t, "roofline_percent"));
    cmd_grid_add(g, "%.2fx", cmd_get_num(t, "speedup"));
    cmd_grid_add(g, "%.3g..%.3g", cmd_get_num(t, "speedup_p10"), cmd_get_num(t, "speedup_p90"));
}

/* The rows, but for controls, that dense is ahead of in nine rounds of ten. */
static void show_slower(const json_t *rows, size_t from, size_t to, const char *kind)
{
    const char *lead = "dense is faster than ";
    for (size_t i = from; i < to; i++) {
        const json_t *row = json_array_get(rows, i), *t = json_object_get(row, kind);
        const char *control = cmd_get_str(row, "control");
        double best = cmd_get_num(t, "speedup_p90");
        if (!t || best <= 0 || best >= 1 || (control[0] && strcmp(control, "none") != 0)) continue;
        printf("%s%s", lead, cmd_get_str(row, "name"));
        lead = ", ";
    }
    if (lead[0] == ',') printf(" here\n");
}

/* Rows [from, to) of one group. */
static void show_kind(const json_t *rows, size_t from, size_t to, const char *kind)
{
    const json_t *first = json_array_get(rows, from), *t = json_object_get(first, kind);
    if (!t) return;
    static const char *const heads[] = {
        "<spec|params|MAC/tok|time|p10..p90|GFLOP/s|GB/s|roof|vs dense|p10..p90",
        "<model|params|MAC/tok|time|p10..p90|tokens/s|GB/s|roof|vs dense|p10..p90",
        "<model|params|MAC/tok|time|p10..p90|images/s|GB/s|roof|vs dense|p10..p90"};
    show_rate rate = json_object_get(first, "spec")         ? SHOW_GFLOPS
                     : json_object_get(first, "image_size") ? SHOW_IMAGES
                                                            : SHOW_TOKENS;
    cmd_grid g = {.head = heads[rate]};
    for (size_t i = from; i < to; i++) {
        const json_t *row = json_array_get(rows, i);
        if (json_object_get(row, kind)) show_row(&g, row, json_object_get(row, kind), rate);
    }
    int64_t reps = cmd_get_int(t, "reps");
    printf("\n%s, %s repetition%s, medians:\n", kind, cmd_count(reps).s, reps == 1 ? "" : "s");
    cmd_grid_print(&g, stdout);
    show_slower(rows, from, to, kind);
}

static void show_title(const json_t *first)
{
    const char *shape = cmd_get_str(first, "shape"), *suite = cmd_get_str(first, "suite");
    if (shape[0]) printf("%s %s: ", suite, shape);
    if (json_object_get(first, "inner")) {
        printf("MLP %s -> %s -> %s, %s", cmd_count(cmd_get_int(first, "in")).s,
               cmd_count(cmd_get_int(first, "inner")).s, cmd_count(cmd_get_int(first, "out")).s,
               cmd_counted(cmd_get_int(first, "rows"), "tokens").s);
    } else if (json_object_get(first, "spec")) {
        printf("W (%s x %s), %s", cmd_count(cmd_get_int(first, "out")).s,
               cmd_count(cmd_get_int(first, "in")).s,
               cmd_counted(cmd_get_int(first, "rows"), "tokens").s);
    } else if (json_object_get(first, "image_size")) {
        printf("batch %s images of %s pixels to a side", cmd_count(cmd_get_int(first, "batch")).s,
               cmd_count(cmd_get_int(first, "image_size")).s);
    } else {
        printf("batch %s x %s tokens", cmd_count(cmd_get_int(first, "batch")).s,
               cmd_count(cmd_get_int(first, "context")).s);
        if (json_object_get(first, "decode")) {
            printf("; decode: batch 1, one token after %s",
                   cmd_count(cmd_get_int(first, "decode_at")).s);
        }
    }
    printf(", %s\n", cmd_get_str(first, "dtype"));
}

/* What was not measured as it was asked for, and what was not at all. */
static void show_notes(const json_t *rows, size_t from, size_t to)
{
    const json_t *first = json_array_get(rows, from);
    const char *common = cmd_get_str(first, "reason");
    if (common[0]) printf("%s\n", common);
    for (size_t i = from + 1; i < to; i++) {
        const json_t *row = json_array_get(rows, i);
        const char *note = cmd_get_str(row, "reason");
        if (note[0] && strcmp(note, common) != 0) {
            double factor = cmd_get_num(row, "factor");
            printf("not measured: %s", cmd_get_str(row, "name"));
            if (factor > 0.0) printf(" at %.4gx", factor);
            printf(": %s\n", note);
        }
    }
}

static void show_ceilings(const json_t *c)
{
    const json_t *sets = json_object_get(c, "memory");
    if (!c) return;
    printf("roof: what this machine reached in the same rounds: %s GFLOP/s in float32",
           cmd_number(cmd_get_num(c, "float32_gflops")).s);
    if (json_object_get(c, "bfloat16_gflops")) {
        printf(", %s in bfloat16", cmd_number(cmd_get_num(c, "bfloat16_gflops")).s);
    }
    printf(";\n      GB/s over");
    size_t i;
    json_t *set;
    json_array_foreach(sets, i, set)
    {
        printf("%s %s: %.3g", i ? "," : "", cmd_bytes(cmd_get_int(set, "bytes")).s,
               cmd_get_num(set, "gbytes_per_s"));
    }
    putchar('\n');
}

void cmd_bench_show(const json_t *r)
{
    if (json_object_get(json_array_get(json_object_get(r, "rows"), 0), "heads")) {
        cmd_bench_attention_show(r);
        return;
    }
    const json_t *rows = json_object_get(r, "rows");
    bool controls = false;
    printf("%s, %s\n", cmd_get_str(r, "machine"), cmd_get_str(r, "device"));
    for (size_t from = 0, to; from < json_array_size(rows); from = to) {
        const json_t *first = json_array_get(rows, from);
        for (to = from; to < json_array_size(rows); to++) {
            const json_t *row = json_array_get(rows, to);
            const char *control = cmd_get_str(row, "control");
            if (!show_same(row, first, "shape") || !show_same(row, first, "dtype")) break;
            controls |= control[0] && strcmp(control, "none") != 0;
        }
        if (from) putchar('\n');
        show_title(first);
        for (int k = 0; k < SHOW_KINDS; k++)
            show_kind(rows, from, to, show_kinds[k]);
        show_notes(rows, from, to);
    }
    putchar('\n');
    if (controls) puts("* control of the same parameters: low rank, or dense and narrower");
    show_ceilings(json_object_get(r, "ceilings"));
}
