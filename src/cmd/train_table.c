/* The table of a training run's layers, at its start, within 80 columns. */
/* SPDX-License-Identifier: MIT */
#include "cmd/train.h"
#include <stdio.h>
#include <string.h>

enum { TABLE_NAME = 21, TABLE_SPEC = 20 };

void cmd_train_pattern(const char *name, char *out, size_t n)
{
    size_t at = 0;
    for (const char *p = name; *p && at + 2 < n; p++) {
        bool digit = *p >= '0' && *p <= '9', starts = p > name && p[-1] == '.';
        if (digit && starts && p[strspn(p, "0123456789")] == '.') {
            out[at++] = '*';
            p += strspn(p, "0123456789") - 1;
        } else {
            out[at++] = *p;
        }
    }
    out[at] = '\0';
}

/* At most `most` characters. */
static void table_cut(char *text, size_t most)
{
    if (strlen(text) > most) strcpy(text + most - 2, "..");
}

/* The same of a name, whose end tells what it is. */
static void table_cut_front(char *text, size_t most)
{
    size_t n = strlen(text);
    if (n <= most) return;
    memmove(text + 2, text + n - (most - 2), most - 1);
    memcpy(text, "..", 2);
}

static bool table_alike(const json_t *a, const json_t *b)
{
    static const char *const key[] = {"spec", "in", "out", "parameters", "frozen"};
    char p[128], q[128];
    for (int i = 0; i < 5; i++)
        if (!json_equal(json_object_get(a, key[i]), json_object_get(b, key[i])) &&
            (json_object_get(a, key[i]) || json_object_get(b, key[i])))
            return false;
    cmd_train_pattern(cmd_get_str(a, "name"), p, sizeof p);
    cmd_train_pattern(cmd_get_str(b, "name"), q, sizeof q);
    return strcmp(p, q) == 0;
}

static void table_row(cmd_grid *g, const json_t *row, int64_t count, int64_t all)
{
    int64_t numbers = count * cmd_get_int(row, "parameters"),
            frozen = count * cmd_get_int(row, "frozen");
    char name[128], spec[128], shape[48] = "";
    cmd_train_pattern(cmd_get_str(row, "name"), name, sizeof name);
    snprintf(spec, sizeof spec, "%s", cmd_get_str(row, "spec"));
    table_cut_front(name, TABLE_NAME);
    table_cut(spec, TABLE_SPEC);
    if (json_object_get(row, "in")) {
        snprintf(shape, sizeof shape, "%lldx%lld", (long long)cmd_get_int(row, "in"),
                 (long long)cmd_get_int(row, "out"));
    }
    cmd_grid_add(g, "%s", name);
    cmd_grid_add(g, "%lld", (long long)count);
    cmd_grid_add(g, "%s", spec);
    cmd_grid_add(g, "%s", shape);
    cmd_grid_add(g, "%s", cmd_si((double)numbers).s);
    cmd_grid_add(g, "%.1f%%", all > 0 ? 100.0 * (double)numbers / (double)all : 0.0);
    cmd_grid_add(g, "%s", frozen == 0 ? "yes" : frozen == numbers ? "no" : "partly");
}

static void table_totals(const json_t *p, FILE *f)
{
    fprintf(f, "%s parameters, %s trainable, %s frozen; %s of them embeddings\n",
            cmd_count(cmd_get_int(p, "parameters")).s, cmd_count(cmd_get_int(p, "trainable")).s,
            cmd_count(cmd_get_int(p, "frozen")).s,
            cmd_count(cmd_get_int(p, "embedding_parameters")).s);
    fprintf(f, "%s multiply-adds a token forward", cmd_si(cmd_get_num(p, "macs_per_token")).s);
    if (json_is_number(json_object_get(p, "flops_per_step"))) {
        fprintf(f, ", %s trained; %sFLOP a step",
                cmd_si(cmd_get_num(p, "training_macs_per_token")).s,
                cmd_si(cmd_get_num(p, "flops_per_step")).s);
    }
    fputc('\n', f);
    fprintf(f, "%s steps of %s tokens, %s an epoch; %s of memory\n",
            cmd_count(cmd_get_int(p, "steps")).s, cmd_count(cmd_get_int(p, "tokens_per_step")).s,
            cmd_count(cmd_get_int(p, "steps_per_epoch")).s,
            cmd_bytes(cmd_get_int(json_object_get(p, "memory"), "total")).s);
}

void cmd_train_table(const json_t *plan, FILE *f)
{
    cmd_grid g = {.head = "<layer|of|<spec|in x out|numbers|share|trained"};
    const json_t *rows = json_object_get(plan, "layers");
    size_t n = json_array_size(rows);
    for (size_t i = 0; i < n; i++) {
        const json_t *row = json_array_get(rows, i);
        int64_t count = 0;
        size_t first = 0;
        while (!table_alike(json_array_get(rows, first), row))
            first++;
        if (first < i) continue;
        for (size_t j = i; j < n; j++)
            count += table_alike(json_array_get(rows, j), row);
        table_row(&g, row, count, cmd_get_int(plan, "parameters"));
    }
    cmd_grid_print(&g, f);
    table_totals(plan, f);
}

void cmd_train_begun(void *ctx, const json_t *plan)
{
    if (*(const bool *)ctx) return; /* --quiet */
    cmd_progress_clear();
    cmd_train_table(plan, stderr);
    fflush(stderr);
}

/* ---- the end --------------------------------------------------------------------------------- */

void cmd_train_end(const json_t *r)
{
    const json_t *best = json_object_get(r, "best"), *test = json_object_get(r, "test");
    const json_t *top = json_object_get(r, "top"), *row;
    size_t i;
    printf("training loss %.4f", cmd_get_num(r, "loss"));
    if (json_is_number(json_object_get(r, "val_loss"))) {
        printf(", validation loss %.4f, perplexity %.2f", cmd_get_num(r, "val_loss"),
               cmd_get_num(r, "val_perplexity"));
    }
    putchar('\n');
    if (json_is_number(json_object_get(r, "gflops")))
        printf("%s epochs, %s GFLOP/s", cmd_number(cmd_get_num(r, "epochs")).s,
               cmd_number(cmd_get_num(r, "gflops")).s);
    if (json_is_number(json_object_get(r, "mfu")))
        printf(", %.1f%% of the device's data sheet", 100 * cmd_get_num(r, "mfu"));
    if (json_is_number(json_object_get(r, "gflops"))) putchar('\n');
    if (cmd_get_str(r, "stopped")[0]) printf("%s\n", cmd_get_str(r, "stopped"));
    if (best) {
        bool kept = json_is_true(json_object_get(best, "kept"));
        printf("best validation loss %.4f, perplexity %.2f at step %s%s%s%s\n",
               cmd_get_num(best, "val_loss"), cmd_get_num(best, "val_perplexity"),
               cmd_count(cmd_get_int(best, "step")).s, kept ? ": " : ", not kept",
               kept ? cmd_get_str(r, "out") : "", kept ? "/ckpt/best" : "");
    }
    json_array_foreach(top, i, row)
    {
        printf("%s top-%lld (%.4f)", i ? "," : "kept", (long long)cmd_get_int(row, "step"),
               cmd_get_num(row, "val_loss"));
        if (i + 1 == json_array_size(top)) putchar('\n');
    }
    if (test) {
        printf("test loss %.4f, perplexity %.2f on %s tokens, weights of step %s (%s)\n",
               cmd_get_num(test, "loss"), cmd_get_num(test, "perplexity"),
               cmd_count(cmd_get_int(test, "tokens")).s, cmd_count(cmd_get_int(test, "step")).s,
               cmd_get_str(test, "weights"));
    }
}
