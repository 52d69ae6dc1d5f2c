/* strut train: a run from a configuration. */
/* SPDX-License-Identifier: MIT */
#include "cmd/train.h"
#include "files/files.h"
#include "train/train.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const cmd_option train_options[] = {
    {.name = "keys", .kind = CMD_FLAG, .help = "list every key of a configuration, and stop"},
    {.name = "cfg",
     .letter = 'c',
     .kind = CMD_FLAG,
     .choice = "job",
     .help = "print every setting as it would be used, or with \"job\" the composed config as it "
             "is written, and stop"},
    {.name = "resolve", .kind = CMD_FLAG, .help = "with --cfg job: values for interpolations"},
    {.name = "info",
     .kind = CMD_FLAG,
     .choice = "all|defaults|searchpath",
     .help = "print the search path and the files that make up the config, and stop"},
    {.name = "multirun",
     .letter = 'm',
     .kind = CMD_FLAG,
     .help = "a run for each combination of values: KEY=A,B KEY=choice(A,B) KEY=range(0,3)"},
    {.name = "config-name",
     .pair = "cn",
     .kind = CMD_TEXT,
     .value = "NAME",
     .help = "primary config of the search path; not given: train"},
    {.name = "config-path",
     .pair = "cp",
     .kind = CMD_TEXT,
     .value = "DIR",
     .help = "folder searched instead of ./configs"},
    {.name = "config-dir",
     .pair = "cd",
     .kind = CMD_TEXT,
     .many = true,
     .value = "DIR",
     .help = "folder searched before ./configs and the configs built into the program"},
    {.name = "dry-run",
     .kind = CMD_FLAG,
     .help = "load model and data, print each parameter's learning rate and decay and the memory, "
             "and stop"},
    {.name = "profile",
     .kind = CMD_FLAG,
     .help = "print what each operation took, from the third step on"},
    {0},
};

/* What is asked for; `word` and `dir` are what it points into. */
typedef struct {
    st_config_how how;
    const char **word, **dir;
} train_config;

static void train_config_free(train_config *c)
{
    free(c->word);
    free(c->dir);
}

/* A file of that name which is called as YAML files are, though there is a '=' in it. */
static bool train_file(const char *w)
{
    const char *dot = strrchr(w, '.');
    return dot && (strcmp(dot, ".yaml") == 0 || strcmp(dot, ".yml") == 0) && st_path_is_file(w);
}

/* The words that are overrides (they have a '=', or a '~' or '+' first); the one that is not is the
 * file. */
static st_status train_words(const cmd_args *a, train_config *c, st_err *e)
{
    for (int i = 0; i < a->words; i++) {
        const char *w = a->word[i];
        if ((strchr(w, '=') || *w == '~' || *w == '+') && !train_file(w)) {
            c->word[c->how.n++] = w;
        } else if (c->how.file) {
            ST_FAIL(e, ST_EARG,
                    "%s: a second configuration file, after %s; overrides are key=value", w,
                    c->how.file);
        } else {
            c->how.file = w;
        }
    }
    c->how.override = c->word;
    return ST_OK;
}

static st_status train_config_read(const cmd_args *a, train_config *c, st_err *e)
{
    int n = 0;
    const char **more = cmd_many(a, "config-dir", &n), *path = cmd_text(a, "config-path");
    *c = (train_config){.word = st_calloc(a->words + 1, sizeof *c->word),
                        .dir = st_calloc(n + 2, sizeof *c->dir)};
    st_status s = more && c->word && c->dir ? train_words(a, c, e) : ST_ENOMEM;
    if (s == ST_ENOMEM) ST_ERR(e, s, "out of memory");
    for (int i = 0; !s && i < n; i++)
        c->dir[c->how.dirs++] = more[i];
    if (!s && (path || st_path_is_dir("configs"))) c->dir[c->how.dirs++] = path ? path : "configs";
    for (int i = 0; !s && i < c->how.dirs; i++)
        if (!st_path_is_dir(c->dir[i]))
            s = ST_ERR(e, ST_EARG, "%s: no folder of configs", c->dir[i]);
    c->how.dir = c->dir;
    c->how.name = cmd_text(a, "config-name");
    if (!s && c->how.file && c->how.name)
        s = ST_ERR(e, ST_EARG, "%s and --config-name %s: two primary configs, expected one",
                   c->how.file, c->how.name);
    if (!c->how.file && !c->how.name) c->how.name = "train";
    free(more);
    if (s) train_config_free(c);
    return s;
}

/* --info, --cfg: what would be used. */
static st_status train_print(const cmd_args *a, const st_config_how *how, json_t **result,
                             st_err *e)
{
    st_settings set;
    char *yaml;
    if (cmd_has(a, "cfg") && *cmd_text(a, "cfg")) {
        yaml = st_config_text(how, cmd_has(a, "resolve"), e);
        if (!yaml) return e->code;
        *result = json_pack("{s:s}", "yaml", yaml);
        free(yaml);
        return *result ? ST_OK : ST_ENOMEM;
    }
    json_t *info = NULL;
    ST_TRY(st_settings_compose(&set, how, &info, e));
    if (cmd_has(a, "info")) {
        *result = info;
    } else {
        json_decref(info);
        yaml = st_settings_yaml(&set);
        *result =
            yaml ? json_pack("{s:s, s:o}", "yaml", yaml, "settings", st_settings_json(&set)) : NULL;
        free(yaml);
    }
    st_settings_close(&set);
    if (!*result) return ST_NOMEM(e, NULL);
    return ST_OK;
}

static st_status train_one(const cmd_args *a, const st_config_how *how, json_t **result, st_err *e)
{
    st_settings set;
    ST_TRY(st_settings_compose(&set, how, NULL, e));
    if (a->threads) set.threads = a->threads;
    bool quiet = a->quiet;
    st_train_opts o = {.set = &set,
                       .how = how,
                       .dry = cmd_has(a, "dry-run"),
                       .profile = cmd_has(a, "profile"),
                       .begun = cmd_train_begun,
                       .ctx = &quiet};
    st_status s = st_train_run(&o, result, e);
    st_settings_close(&set);
    return s;
}

static st_status train_run(const cmd_args *a, json_t **result, st_err *e)
{
    train_config c;
    if (cmd_has(a, "keys")) {
        *result = json_pack("{s:o}", "keys", st_settings_keys());
        return *result ? ST_OK : ST_ENOMEM;
    }
    ST_TRY(train_config_read(a, &c, e));
    bool print = cmd_has(a, "cfg") || cmd_has(a, "info");
    st_status s;
    if (cmd_has(a, "multirun") && print)
        s = ST_ERR(e, ST_EARG,
                   "--multirun with --cfg or --info: which of the runs? Give one value a key");
    else if (cmd_has(a, "multirun"))
        s = st_sweep_run(
            &(st_sweep_opts){.how = c.how, .threads = a->threads, .dry = cmd_has(a, "dry-run")},
            result, e);
    else
        s = print ? train_print(a, &c.how, result, e) : train_one(a, &c.how, result, e);
    train_config_free(&c);
    return s;
}

static void train_show_keys(const json_t *keys)
{
    size_t i;
    const json_t *k;
    json_array_foreach(keys, i, k)
    {
        printf("%s = %s\n    %s", cmd_get_str(k, "key"), cmd_get_str(k, "default"),
               cmd_get_str(k, "help"));
        if (cmd_get_str(k, "legal")[0]) printf(" (%s)", cmd_get_str(k, "legal"));
        putchar('\n');
    }
}

static int64_t train_numbers(const json_t *row)
{
    int64_t n = 1;
    size_t i;
    const json_t *d;
    json_array_foreach(json_object_get(row, "shape"), i, d) n *= json_integer_value(d);
    return n;
}

static bool train_alike(const json_t *a, const json_t *b)
{
    static const char *const key[] = {"lr", "decay", "schedule", "frozen"};
    char p[128], q[128];
    for (int i = 0; i < 4; i++)
        if (!json_equal(json_object_get(a, key[i]), json_object_get(b, key[i]))) return false;
    cmd_train_pattern(cmd_get_str(a, "name"), p, sizeof p);
    cmd_train_pattern(cmd_get_str(b, "name"), q, sizeof q);
    return strcmp(p, q) == 0;
}

/* One line for what is the same in all layers. */
static void train_show_groups(const json_t *rows)
{
    cmd_grid g = {.head = "<parameter|tensors|numbers|lr|decay"};
    size_t n = json_array_size(rows);
    for (size_t i = 0; i < n; i++) {
        const json_t *row = json_array_get(rows, i);
        int64_t numbers = 0, count = 0;
        size_t first = 0;
        while (!train_alike(json_array_get(rows, first), row))
            first++;
        if (first < i) continue;
        for (size_t j = i; j < n; j++) {
            if (!train_alike(json_array_get(rows, j), row)) continue;
            numbers += train_numbers(json_array_get(rows, j));
            count++;
        }
        char name[128], lr[64], decay[32];
        cmd_train_pattern(cmd_get_str(row, "name"), name, sizeof name);
        snprintf(decay, sizeof decay, "%g", cmd_get_num(row, "decay"));
        snprintf(lr, sizeof lr, "%g%s", cmd_get_num(row, "lr"),
                 json_is_true(json_object_get(row, "schedule")) ? "" : " constant");
        bool frozen = json_is_true(json_object_get(row, "frozen"));
        cmd_grid_add(&g, "%s", name);
        cmd_grid_add(&g, "%s", cmd_count(count).s);
        cmd_grid_add(&g, "%s", cmd_count(numbers).s);
        cmd_grid_add(&g, "%s", frozen ? "frozen" : lr);
        cmd_grid_add(&g, "%s", frozen ? "" : decay);
    }
    cmd_grid_print(&g, stdout);
}

static void train_show_plan(const json_t *r)
{
    train_show_groups(json_object_get(r, "groups"));
    putchar('\n');
    cmd_train_table(r, stdout);
}

static void train_show_info(const json_t *r)
{
    cmd_grid g = {.head = "<config|<package|<file|<named by"};
    size_t i;
    const json_t *d;
    puts("search path, the first that has a file wins:");
    json_array_foreach(json_object_get(r, "search_path"), i, d)
        printf("  %s\n", json_string_value(d));
    puts("\nmerged in this order:");
    json_array_foreach(json_object_get(r, "defaults"), i, d)
    {
        const char *package = cmd_get_str(d, "package"), *config = cmd_get_str(d, "config");
        cmd_grid_add(&g, "%s", *config ? config : "(the file)");
        cmd_grid_add(&g, "%s", *package ? package : "_global_");
        cmd_grid_add(&g, "%s", cmd_get_str(d, "file"));
        cmd_grid_add(&g, "%s", cmd_get_str(d, "parent"));
    }
    cmd_grid_print(&g, stdout);
}

static void train_cell(cmd_grid *g, const json_t *row, const char *key, const char *format)
{
    const json_t *v = json_object_get(row, key);
    char text[40] = "";
    if (json_is_number(v))
        snprintf(text, sizeof text, format[0] == 'l' ? "%.4f" : "%.2f", json_number_value(v));
    cmd_grid_add(g, "%s", text);
}

static void train_show_sweep(const json_t *r)
{
    cmd_grid g = {.head = "<overrides|val loss|perplexity|parameters|tokens/s|<state|<folder"};
    size_t i, k;
    const json_t *row, *word;
    json_array_foreach(json_object_get(r, "jobs"), i, row)
    {
        char words[256] = "";
        json_array_foreach(json_object_get(row, "overrides"), k, word)
        {
            size_t n = strlen(words);
            snprintf(words + n, sizeof words - n, "%s%s", n ? " " : "", json_string_value(word));
        }
        cmd_grid_add(&g, "%s", words);
        train_cell(&g, row, "val_loss", "loss");
        train_cell(&g, row, "val_perplexity", "ppl");
        bool known = json_object_get(row, "parameters") != NULL;
        cmd_grid_add(&g, "%s", known ? cmd_count(cmd_get_int(row, "parameters")).s : "");
        bool timed = json_object_get(row, "tokens_per_second") != NULL;
        cmd_grid_add(&g, "%s", timed ? cmd_number(cmd_get_num(row, "tokens_per_second")).s : "");
        cmd_grid_add(&g, "%s", cmd_get_str(row, "state"));
        cmd_grid_add(&g, "%s", cmd_get_str(row, "out"));
    }
    cmd_grid_print(&g, stdout);
}

/* Operations of like cost, longest first: what a call takes, and its share of all. */
static void train_show_profile(const json_t *rows)
{
    cmd_grid g = {.head = "<operation|calls|us a call|share|TFLOP/s|GB/s"};
    double all = 0;
    size_t n = json_array_size(rows);
    for (size_t i = 0; i < n; i++)
        all += cmd_get_num(json_array_get(rows, i), "seconds");
    for (size_t i = 0; i < n; i++) {
        const json_t *row = json_array_get(rows, i);
        double seconds = cmd_get_num(row, "seconds"), calls = cmd_get_num(row, "calls");
        if (seconds < 0.002 * all) continue;
        cmd_grid_add(&g, "%s", cmd_get_str(row, "op"));
        cmd_grid_add(&g, "%s", cmd_count(cmd_get_int(row, "calls")).s);
        cmd_grid_add(&g, "%.1f", 1e6 * seconds / calls);
        cmd_grid_add(&g, "%.1f%%", 100 * seconds / all);
        cmd_grid_add(&g, "%.2f", 2e-12 * cmd_get_num(row, "macs") * calls / seconds);
        cmd_grid_add(&g, "%.0f", 1e-9 * cmd_get_num(row, "bytes") * calls / seconds);
    }
    if (n) cmd_grid_print(&g, stdout);
}

static void train_show(const json_t *r)
{
    if (json_object_get(r, "jobs")) {
        train_show_sweep(r);
        return;
    }
    if (json_object_get(r, "search_path")) {
        train_show_info(r);
        return;
    }
    if (json_object_get(r, "keys")) {
        train_show_keys(json_object_get(r, "keys"));
        return;
    }
    if (json_object_get(r, "yaml")) {
        fputs(cmd_get_str(r, "yaml"), stdout);
        return;
    }
    if (json_object_get(r, "groups")) {
        train_show_plan(r);
        return;
    }
    printf("%s: step %s of %s, %s parameters, %s tokens in %s (%s tokens/s)\n",
           cmd_get_str(r, "out"), cmd_count(cmd_get_int(r, "step")).s,
           cmd_count(cmd_get_int(r, "steps")).s, cmd_count(cmd_get_int(r, "parameters")).s,
           cmd_count(cmd_get_int(r, "tokens")).s, cmd_seconds(cmd_get_num(r, "seconds")).s,
           cmd_number(cmd_get_num(r, "tokens_per_second")).s);
    cmd_train_end(r);
    train_show_profile(json_object_get(r, "profile"));
}

extern const cmd_command cmd_train;
const cmd_command cmd_train = {
    .name = "train",
    .summary = "train a model, or go on training it",
    .usage = "[CONFIG.yaml] [KEY=VALUE ...]\nexperiment=NAME [GROUP=OPTION ...] [KEY=VALUE ...]\n"
             "-m ... KEY=A,B [KEY=C,D ...]\n--keys",
    .detail = "Trains as the configuration says, from fresh weights or from a model folder "
              "(init=FOLDER), "
              "and writes OUT/ckpt/last, OUT/ckpt/best, OUT/metrics.jsonl, OUT/metrics.csv, "
              "OUT/result.json, OUT/config.yaml and a file for TensorBoard (tensorboard --logdir). "
              "The same command again goes on from the last checkpoint with the "
              "bits of an uninterrupted run; Ctrl-C saves first.",
    .example = "strut train configs/small.yaml data=data/ out=runs/dense\n"
               "strut train experiment=wt103/gpt2-ssl model.mlp.map=ss1:factor=8 name=ssl8\n"
               "strut train -m experiment=wt103/gpt2-ssl "
               "'model.mlp.map=ss1:factor=2,ss1:factor=4,ss1:factor=8'\n"
               "strut train configs/heal.yaml init=small/ data=data/ train.steps=2000\n"
               "strut train configs/heal.yaml init=small/ data=data/ distill=dense/\n"
               "strut train configs/krony/81m.yaml init=krony/ data=data/owt --dry-run\n"
               "strut train configs/small.yaml data=data/ model.mlp.map=monarch:blocks=4",
    .option = train_options,
    .least = 0,
    .most = -1,
    .run = train_run,
    .show = train_show,
};
