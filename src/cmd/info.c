/* strut info: what is in a model, checkpoint, run, shard, folder of data, tokenizer or config. */
/* SPDX-License-Identifier: MIT */
#include "cmd/cmd.h"
#include "cmd/options.h"
#include "report/report.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static st_status info_run(const cmd_args *a, json_t **result, st_err *e)
{
    st_info_opts o = {.how = cmd_read_how(a), .all = cmd_has(a, "all")};
    return st_info(a->word[0], &o, result, e);
}

static void info_line(const char *name, const char *text)
{
    if (text[0]) printf("%-14s %s\n", name, text);
}

/* What follows a layer's number in "h.3.mlp.c_fc", "blocks.3.mlp.fc1"; NULL: no layer's. *before:
 * what precedes it. */
static const char *info_part(const char *name, size_t *before)
{
    static const char *const blocks[] = {"h.", "blocks.", "layers."};
    for (int i = 0; i < 3; i++) {
        *before = strlen(blocks[i]);
        if (strncmp(name, blocks[i], *before) == 0) return strchr(name + *before, '.');
    }
    *before = 0;
    return NULL;
}

/* Names with the same spec in one line: "h.*" for every layer. */
static void info_maps(const json_t *maps)
{
    const char *name, *other;
    json_t *spec, *again;
    cmd_grid g = {.head = "<matrix|<spec"};
    json_object_foreach((json_t *)(uintptr_t)maps, name, spec)
    {
        int64_t same = 0;
        bool first = true;
        size_t before, skip;
        const char *part = info_part(name, &before);
        json_object_foreach((json_t *)(uintptr_t)maps, other, again)
        {
            const char *tail = info_part(other, &skip);
            if (!part || !tail || strcmp(part, tail) != 0 || !json_equal(spec, again)) continue;
            if (same++ == 0) first = strcmp(other, name) == 0;
        }
        if (!first) continue;
        if (same > 1)
            cmd_grid_add(&g, "%.*s*%s (%lld)", (int)before, name, part, (long long)same);
        else
            cmd_grid_add(&g, "%s", name);
        cmd_grid_add(&g, "%s", json_string_value(spec));
    }
    putchar('\n');
    cmd_grid_print(&g, stdout);
}

static void info_shape(const json_t *r)
{
    if (json_object_get(r, "classes")) {
        printf("%-14s %s, %s, width %s, inner %s, %s token modules; %lld pixels, %s, %s\n", "shape",
               cmd_counted(cmd_get_int(r, "layers"), "layers").s,
               cmd_counted(cmd_get_int(r, "heads"), "heads").s,
               cmd_count(cmd_get_int(r, "width")).s, cmd_count(cmd_get_int(r, "inner")).s,
               cmd_get_str(r, "token_modules"), (long long)cmd_get_int(r, "image_size"),
               cmd_counted(cmd_get_int(r, "tokens"), "tokens").s,
               cmd_get_int(r, "classes") == 1
                   ? "1 class"
                   : cmd_counted(cmd_get_int(r, "classes"), "classes").s);
        return;
    }
    int64_t few = cmd_get_int(r, "kv_heads");
    char shared[64] = "";
    if (few != cmd_get_int(r, "heads"))
        snprintf(shared, sizeof shared, " that share %lld keys and values", (long long)few);
    printf("%-14s %s, %s%s, width %s, inner %s, context %s, %s%s\n", "shape",
           cmd_counted(cmd_get_int(r, "layers"), "layers").s,
           cmd_counted(cmd_get_int(r, "heads"), "heads").s, shared,
           cmd_count(cmd_get_int(r, "width")).s, cmd_count(cmd_get_int(r, "inner")).s,
           cmd_count(cmd_get_int(r, "context")).s, cmd_counted(cmd_get_int(r, "vocab"), "tokens").s,
           json_is_true(json_object_get(r, "tied")) ? ", tied head" : "");
}

/* The chat form of a model or tokenizer. */
static void info_chat(const json_t *r)
{
    info_line("chat", cmd_get_str(r, "chat"));
    info_line("chat's system", cmd_get_str(r, "chat_system"));
}

/* "330 MiB of F32"; of several formats, how much of each. */
static void info_weights(const json_t *r)
{
    const json_t *stored = json_object_get(r, "stored");
    const char *format, *before = ": ";
    json_t *bytes;
    printf("%-14s %s", "weights", cmd_bytes(cmd_get_int(r, "bytes")).s);
    if (json_object_size(stored) < 2) printf(" of %s", cmd_get_str(r, "dtype"));
    json_object_foreach((json_t *)(uintptr_t)stored, format, bytes)
    {
        if (json_object_size(stored) < 2) break;
        printf("%s%s of %s", before, cmd_bytes(json_integer_value(bytes)).s, format);
        before = ", ";
    }
    putchar('\n');
}

static void info_model(const json_t *r)
{
    info_shape(r);
    int64_t n = cmd_get_int(r, "parameters"), embed = cmd_get_int(r, "embedding_parameters");
    printf("%-14s %s, %s without embeddings\n", "parameters", cmd_count(n).s,
           cmd_count(n - embed).s);
    if (json_object_get(r, "bytes")) {
        info_line("form", cmd_get_str(r, "form"));
        info_weights(r);
        if (!json_object_get(r, "classes"))
            info_line("tokenizer", json_is_true(json_object_get(r, "tokenizer")) ? "yes" : "none");
        info_chat(r);
    }
    if (json_object_get(r, "classes")) {
        printf("%-14s %s per image\n", "multiply-adds",
               cmd_count(cmd_get_int(r, "macs_per_image")).s);
    } else {
        printf("%-14s %s per token over a full context, %s of them in matrices\n", "multiply-adds",
               cmd_count(cmd_get_int(r, "macs_per_token")).s,
               cmd_count(cmd_get_int(r, "weight_macs_per_token")).s);
    }
    info_maps(json_object_get(r, "maps"));
}

static void info_number(const char *name, const json_t *v)
{
    if (json_is_integer(v)) info_line(name, cmd_count(json_integer_value(v)).s);
    if (json_is_real(v)) info_line(name, cmd_number(json_real_value(v)).s);
}

static void info_state(const json_t *r)
{
    static const char *const keys[] = {"step", "loss", "val_loss", "best_step", "best_loss"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        info_number(keys[i], json_object_get(r, keys[i]));
    }
}

static void info_shard(const char *name, const json_t *s)
{
    printf("%-14s %s tokens, %s, ids up to %s\n", name, cmd_count(cmd_get_int(s, "tokens")).s,
           cmd_bytes(cmd_get_int(s, "bytes")).s, cmd_count(cmd_get_int(s, "largest_id")).s);
}

static void info_settings(const json_t *settings)
{
    const char *key;
    json_t *value;
    putchar('\n');
    json_object_foreach((json_t *)(uintptr_t)settings, key, value)
    {
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
        if (text && !json_is_null(value)) printf("%-32s %s\n", key, text);
        free(text);
    }
}

static void info_tensors(const json_t *list, int64_t left)
{
    cmd_grid g = {.head = "<tensor|<type|<shape"};
    size_t i;
    json_t *t;
    json_array_foreach(list, i, t)
    {
        char *shape = json_dumps(json_object_get(t, "shape"), 0);
        cmd_grid_add(&g, "%s", cmd_get_str(t, "name"));
        cmd_grid_add(&g, "%s", cmd_get_str(t, "dtype"));
        cmd_grid_add(&g, "%s", shape ? shape : "");
        free(shape);
    }
    putchar('\n');
    cmd_grid_print(&g, stdout);
    if (left) printf("and %s more, which --all lists\n", cmd_counted(left, "tensors").s);
}

static void info_checkpoints(const json_t *list)
{
    cmd_grid g = {.head = "<checkpoint|step|loss|validation loss"};
    size_t i;
    json_t *c;
    json_array_foreach(list, i, c)
    {
        cmd_grid_add(&g, "%s", cmd_get_str(c, "name"));
        cmd_grid_add(&g, "%s", cmd_count(cmd_get_int(c, "step")).s);
        cmd_grid_add(&g, "%.4f", cmd_get_num(c, "loss"));
        cmd_grid_add(&g, "%.4f", cmd_get_num(c, "val_loss"));
    }
    if (i) cmd_grid_print(&g, stdout);
}

static void info_show(const json_t *r)
{
    const char *name;
    json_t *shard;
    info_line("kind", cmd_get_str(r, "kind"));
    info_line("path", cmd_get_str(r, "path"));
    if (json_object_get(r, "step")) info_state(r);
    if (json_object_get(r, "maps")) {
        info_model(r);
    } else if (strcmp(cmd_get_str(r, "kind"), "tokenizer") == 0) {
        info_number("tokens", json_object_get(r, "tokens"));
        info_number("end of text", json_object_get(r, "eos"));
        info_chat(r);
    } else if (json_object_get(r, "largest_id")) {
        info_shard("shard", r);
    }
    json_object_foreach(json_object_get(r, "shards"), name, shard) info_shard(name, shard);
    const json_t *meta = json_object_get(r, "meta");
    info_number("documents", json_object_get(meta, "documents"));
    info_number("vocabulary", json_object_get(meta, "vocab_size"));
    info_checkpoints(json_object_get(r, "checkpoints"));
    if (json_is_array(json_object_get(r, "tensors"))) {
        info_number("numbers", json_object_get(r, "numbers"));
        info_line("size", cmd_bytes(cmd_get_int(r, "bytes")).s);
        info_line("no model", cmd_get_str(r, "no_model"));
        info_tensors(json_object_get(r, "tensors"), cmd_get_int(r, "tensors_left"));
    }
    if (json_object_get(r, "settings")) info_settings(json_object_get(r, "settings"));
}

static const cmd_option info_options[] = {
    CMD_READ_OPTIONS,
    {.name = "all",
     .kind = CMD_FLAG,
     .help = "list all tensors of a file that is no model, beyond the first 10,000"},
    {0},
};

const cmd_command cmd_info = {
    .name = "info",
    .summary = "tell what a model, checkpoint, data or config is",
    .usage = "PATH",
    .detail =
        "PATH is a model in any form that strut reads (a folder, a checkpoint, nanoGPT's or "
        "Krony-PT's .pt, llm.c's .bin), other weights (.pt, .safetensors), a training run, a "
        "folder of prepared data, a tokenizer, a shard (.bin), a training configuration (.yaml), a "
        "GPT-2's config.json, or the name of a published size (gpt2, gpt2-medium, ...). Files are "
        "checked on the way. Parameters count tied tensors once; multiply-adds are counted by a "
        "dry run of the forward pass.",
    .example = "strut info runs/small/ckpt/best\nstrut info gpt2/ --json\nstrut info data/val.bin",
    .least = 1,
    .most = 1,
    .option = info_options,
    .run = info_run,
    .show = info_show,
};
