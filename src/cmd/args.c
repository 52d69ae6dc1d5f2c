/* The command line: long and short options, repeated ones, words, "--". */
/* SPDX-License-Identifier: MIT */
#include "cmd/cmd.h"
#include "files/files.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARGS_NAMES = 64 };

const cmd_option cmd_common[] = {
    {.name = "json", .kind = CMD_FLAG, .help = "print one JSON object on standard output"},
    {.name = "quiet", .letter = 'q', .kind = CMD_FLAG, .help = "no progress, no remarks"},
    {.name = "threads",
     .kind = CMD_INT,
     .value = "N",
     .lo = 1,
     .hi = 4096,
     .help = "processors to use; not given: all that are ours"},
    {.name = "help", .letter = 'h', .kind = CMD_FLAG, .help = "this text"},
    {0},
};

/* The option called `name` (n bytes), of the command or common. */
static const cmd_option *args_long(const cmd_command *c, const char *name, size_t n)
{
    const cmd_option *lists[] = {c->option, cmd_common};
    for (int i = 0; i < 2; i++) {
        for (const cmd_option *o = lists[i]; o && o->name; o++) {
            if (strlen(o->name) == n && strncmp(o->name, name, n) == 0) return o;
        }
    }
    return NULL;
}

static const cmd_option *args_short(const cmd_command *c, char letter)
{
    const cmd_option *lists[] = {c->option, cmd_common};
    for (int i = 0; i < 2; i++) {
        for (const cmd_option *o = lists[i]; o && o->name; o++) {
            if (o->letter && o->letter == letter) return o;
        }
    }
    return NULL;
}

/* "-cn": the option with these two letters. */
static const cmd_option *args_pair(const cmd_command *c, const char *letters)
{
    for (const cmd_option *o = c->option; o && o->name; o++)
        if (o->pair && strcmp(o->pair, letters) == 0) return o;
    return NULL;
}

static void args_unknown(const cmd_command *c, const char *name, size_t n, st_err *e)
{
    const char *names[ARGS_NAMES];
    int count = 0;
    const cmd_option *lists[] = {c->option, cmd_common};
    for (int i = 0; i < 2; i++) {
        for (const cmd_option *o = lists[i]; o && o->name && count < ARGS_NAMES - 1; o++) {
            names[count++] = o->name;
        }
    }
    names[count] = NULL;
    char word[ARGS_NAMES];
    snprintf(word, sizeof word, "%.*s", (int)n, name);
    const char *near = st_nearest(word, names);
    ST_ERR(e, ST_EARG, "unknown option --%.*s%s%s%s", (int)n, name, near ? "; did you mean --" : "",
           near ? near : "", near ? "?" : "");
}

static bool args_is_choice(const char *choice, const char *text)
{
    size_t n = strlen(text);
    for (const char *p = choice; p; p = strchr(p, '|')) {
        if (*p == '|') p++;
        if (n && strncmp(p, text, n) == 0 && (p[n] == '|' || p[n] == '\0')) return true;
    }
    return false;
}

/* The choice of "a|b" nearest to `text` in `out`, or NULL. */
static const char *args_near(const char *choice, const char *text, char out[ARGS_NAMES])
{
    const char *names[ARGS_NAMES] = {NULL};
    int n = 0;
    snprintf(out, ARGS_NAMES, "%s", choice);
    for (char *p = strtok(out, "|"); p && n < ARGS_NAMES - 1; p = strtok(NULL, "|"))
        names[n++] = p;
    return st_nearest(text, names);
}

/* Is `text` a legal value of `o`? */
static bool args_check(const cmd_option *o, const char *text, st_err *e)
{
    int64_t i = 0;
    double x = 0.0;
    const char *kind = NULL;
    if (o->kind == CMD_INT) {
        kind = st_parse_int(text, &i) ? NULL : "a whole number";
        x = (double)i;
    } else if (o->kind == CMD_NUM) {
        kind = st_parse_num(text, &x) ? NULL : "a number";
    } else if (o->choice && !args_is_choice(o->choice, text)) {
        char names[ARGS_NAMES];
        const char *near = args_near(o->choice, text, names);
        ST_ERR(e, ST_EARG, "--%s: \"%s\" is not one of %s%s%s%s", o->name, text, o->choice,
               near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
        return false;
    }
    if (kind) {
        ST_ERR(e, ST_EARG, "--%s: \"%s\" is not %s", o->name, text, kind);
        return false;
    }
    bool bounded = o->lo != 0.0 || o->hi != 0.0;
    if (bounded && (o->kind == CMD_INT || o->kind == CMD_NUM) && (x < o->lo || x > o->hi)) {
        ST_ERR(e, ST_EARG, "--%s: %s is not between %.15g and %.15g", o->name, text, o->lo, o->hi);
        return false;
    }
    return true;
}

static void args_set(cmd_args *a, const cmd_option *o, const char *text)
{
    if (o >= cmd_common && o < cmd_common + sizeof cmd_common / sizeof *cmd_common) {
        if (strcmp(o->name, "json") == 0) a->json = true;
        if (strcmp(o->name, "quiet") == 0) a->quiet = true;
        if (strcmp(o->name, "help") == 0) a->help = true;
        if (strcmp(o->name, "threads") == 0) st_parse_int(text, &a->threads);
        return;
    }
    a->given[a->count++] = (struct cmd_given){o, text};
}

/* One option at argv[*i], its value with it or in the next argument. */
static bool args_option(cmd_args *a, char **argv, int argc, int *i, st_err *e)
{
    const char *arg = argv[*i], *value = NULL;
    const cmd_option *o;
    if (arg[1] == '-') {
        const char *name = arg + 2, *eq = strchr(name, '=');
        size_t n = eq ? (size_t)(eq - name) : strlen(name);
        o = args_long(a->command, name, n);
        if (!o) {
            args_unknown(a->command, name, n, e);
            return false;
        }
        value = eq ? eq + 1 : NULL;
    } else {
        const cmd_option *pair = args_pair(a->command, arg + 1);
        o = pair ? pair : args_short(a->command, arg[1]);
        if (!o) {
            ST_ERR(e, ST_EARG, "unknown option -%c", arg[1]);
            return false;
        }
        value = arg[2] && !pair ? arg + 2 : NULL;
    }
    if (o->kind == CMD_FLAG && o->choice) {
        char names[ARGS_NAMES];
        const char *word = value || *i + 1 >= argc ? "" : argv[*i + 1];
        bool next = args_is_choice(o->choice, word) ||
                    (args_near(o->choice, word, names) && !st_path_exists(word));
        if (next) value = argv[++*i];
        if (!value) {
            args_set(a, o, "");
            return true;
        }
    } else if (o->kind == CMD_FLAG) {
        if (value) {
            ST_ERR(e, ST_EARG, "--%s takes no value (found \"%s\")", o->name, value);
            return false;
        }
        value = "";
    } else if (!value) {
        if (*i + 1 >= argc) {
            ST_ERR(e, ST_EARG, "--%s needs a value: --%s %s", o->name, o->name, o->value);
            return false;
        }
        value = argv[++*i];
    }
    if (!args_check(o, value, e)) return false;
    args_set(a, o, value);
    return true;
}

static bool args_words(const cmd_args *a, st_err *e)
{
    const cmd_command *c = a->command;
    if (a->words < c->least) {
        size_t n = strcspn(c->usage, "\n");
        ST_ERR(e, ST_EARG, "%s; usage: strut %s %.*s",
               a->words ? "something is missing" : "what to work on is missing", c->name, (int)n,
               c->usage);
        return false;
    }
    if (c->most >= 0 && a->words > c->most) {
        ST_ERR(e, ST_EARG, "\"%s\" is one argument too many", a->word[c->most]);
        return false;
    }
    return true;
}

bool cmd_parse(cmd_args *a, const cmd_command *c, int argc, char **argv, st_err *e)
{
    *a = (cmd_args){.command = c};
    a->word = st_calloc(argc + 1, sizeof *a->word);
    a->given = st_calloc(argc + 1, sizeof *a->given);
    if (!a->word || !a->given) {
        ST_NOMEM(e, NULL);
        return false;
    }
    bool only_words = false;
    for (int i = 0; i < argc; i++) {
        const char *arg = argv[i];
        if (!only_words && strcmp(arg, "--") == 0) {
            only_words = true;
        } else if (only_words || arg[0] != '-' || arg[1] == '\0') {
            a->word[a->words++] = arg;
        } else if (!args_option(a, argv, argc, &i, e)) {
            return false;
        }
        if (a->help) return true;
    }
    return args_words(a, e);
}

void cmd_args_free(cmd_args *a)
{
    free(a->word);
    free(a->given);
    *a = (cmd_args){0};
}

static const struct cmd_given *args_last(const cmd_args *a, const char *name,
                                         const cmd_option **option)
{
    const struct cmd_given *found = NULL;
    *option = args_long(a->command, name, strlen(name));
    assert(*option); /* a command asks only for what it declares */
    for (int i = 0; i < a->count; i++) {
        if (a->given[i].option == *option) found = &a->given[i];
    }
    return found;
}

bool cmd_has(const cmd_args *a, const char *name)
{
    const cmd_option *o;
    return args_last(a, name, &o) != NULL;
}

const char *cmd_text(const cmd_args *a, const char *name)
{
    const cmd_option *o;
    const struct cmd_given *g = args_last(a, name, &o);
    return g ? g->text : o->preset;
}

int64_t cmd_int(const cmd_args *a, const char *name)
{
    int64_t v = 0;
    const char *text = cmd_text(a, name);
    return text && st_parse_int(text, &v) ? v : 0;
}

double cmd_num(const cmd_args *a, const char *name)
{
    double v = 0.0;
    const char *text = cmd_text(a, name);
    return text && st_parse_num(text, &v) ? v : 0.0;
}

st_dtype cmd_dtype(const cmd_args *a, const char *name)
{
    st_dtype t = ST_F32;
    const char *text = cmd_text(a, name);
    if (text) st_dtype_parse(text, &t);
    return t;
}

const char **cmd_many(const cmd_args *a, const char *name, int *n)
{
    const cmd_option *o;
    args_last(a, name, &o);
    const char **list = st_calloc(a->count + 1, sizeof *list);
    *n = 0;
    for (int i = 0; list && i < a->count; i++) {
        if (a->given[i].option == o) list[(*n)++] = a->given[i].text;
    }
    return list;
}

st_read_how cmd_read_how(const cmd_args *a)
{
    return (st_read_how){.heads = cmd_int(a, "heads"),
                         .gelu = cmd_text(a, "gelu"),
                         .dict = cmd_text(a, "dict"),
                         .tokenizer = cmd_text(a, "tokenizer"),
                         .ss1 = cmd_text(a, "ss1"),
                         .unchecked = cmd_has(a, "no-checksums"),
                         .b2 = cmd_int(a, "b2")};
}
