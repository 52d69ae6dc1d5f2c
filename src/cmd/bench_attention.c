/* strut bench attention: options, and its tables, one for each length. */
/* SPDX-License-Identifier: MIT */
#include "bench/bench.h"
#include "cmd/bench.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LENGTHS = 64 };

st_status cmd_bench_attention(const cmd_args *a, json_t **result, st_err *e)
{
    int n, lens, one;
    int64_t len[LENGTHS], batch;
    st_dtype dtype;
    ST_TRY(cmd_bench_counts(a, "context", 1 << 22, LENGTHS, len, &lens, e));
    ST_TRY(cmd_bench_counts(a, "batch", 65536, 1, &batch, &one, e));
    ST_TRY(cmd_bench_dtypes(a, 1, &dtype, &one, e));
    const char **ways = cmd_many(a, "attention", &n);
    st_bench_attention_opts o = {.lens = len,
                                 .nlens = lens,
                                 .ways = ways,
                                 .nways = n,
                                 .heads = cmd_int(a, "heads"),
                                 .head_dim = cmd_int(a, "head-dim"),
                                 .batch = batch,
                                 .causal = cmd_has(a, "causal"),
                                 .seeds = cmd_int(a, "seeds"),
                                 .reps = cmd_int(a, "reps"),
                                 .budget = cmd_num(a, "budget"),
                                 .dtype = dtype,
                                 .device = cmd_text(a, "device"),
                                 .csv = cmd_text(a, "csv"),
                                 .resume = cmd_has(a, "resume")};
    st_status s = st_bench_attention(&o, result, e);
    free(ways);
    return s;
}

static void attention_row(cmd_grid *g, const json_t *row)
{
    const json_t *t = json_object_get(row, "forward");
    bool full = !json_object_get(row, "error");
    cmd_grid_add(g, "%s", cmd_get_str(row, "spec"));
    cmd_grid_add(g, "%s", cmd_si(cmd_get_num(row, "macs_per_token")).s);
    cmd_grid_add(g, "%s", cmd_bytes(cmd_get_int(row, "scratch_used")).s);
    cmd_grid_add(g, "%s", cmd_seconds(cmd_get_num(t, "median")).s);
    cmd_grid_add(g, "%s..%s", cmd_seconds(cmd_get_num(t, "p10")).s,
                 cmd_seconds(cmd_get_num(t, "p90")).s);
    cmd_grid_add(g, "%.2fx", cmd_get_num(t, "speedup"));
    if (full)
        cmd_grid_add(g, "-");
    else if (cmd_get_int(row, "seeds") > 1)
        cmd_grid_add(g, "%.3g +- %.2g", cmd_get_num(row, "error"), cmd_get_num(row, "error_sd"));
    else
        cmd_grid_add(g, "%.3g", cmd_get_num(row, "error"));
}

static void attention_table(const json_t *rows, size_t from, size_t to)
{
    const json_t *first = json_array_get(rows, from), *t = json_object_get(first, "forward");
    if (!t) {
        printf("\n%s\n", cmd_get_str(first, "reason"));
        return;
    }
    cmd_grid g = {.head = "<attention|MAC/tok|scratch|time|p10..p90|vs full|rel. error"};
    printf("\n%s, batch %s, %s x %s, %s%s; %s repetitions, medians; the tensors take %s:\n",
           cmd_counted(cmd_get_int(first, "context"), "tokens").s,
           cmd_count(cmd_get_int(first, "batch")).s, cmd_count(cmd_get_int(first, "heads")).s,
           cmd_count(cmd_get_int(first, "head_dim")).s, cmd_get_str(first, "dtype"),
           json_is_true(json_object_get(first, "causal")) ? ", causal" : "",
           cmd_count(cmd_get_int(t, "reps")).s, cmd_bytes(cmd_get_int(first, "tensor_bytes")).s);
    for (size_t i = from; i < to; i++) {
        const json_t *row = json_array_get(rows, i);
        if (json_object_get(row, "forward")) attention_row(&g, row);
    }
    cmd_grid_print(&g, stdout);
    for (size_t i = from; i < to; i++) { /* what the first length has said already is known */
        const char *note = cmd_get_str(json_array_get(rows, i), "reason");
        const char *known = cmd_get_str(json_array_get(rows, i - from), "reason");
        if (note[0] && (from == 0 || strcmp(note, known) != 0)) printf("%s\n", note);
    }
}

void cmd_bench_attention_show(const json_t *r)
{
    const json_t *rows = json_object_get(r, "rows");
    printf("%s, %s\n", cmd_get_str(r, "machine"), cmd_get_str(r, "device"));
    for (size_t from = 0, to; from < json_array_size(rows); from = to) {
        int64_t len = cmd_get_int(json_array_get(rows, from), "context");
        for (to = from; to < json_array_size(rows); to++) {
            if (cmd_get_int(json_array_get(rows, to), "context") != len) break;
        }
        attention_table(rows, from, to);
    }
}
