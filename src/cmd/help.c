/* Help texts, made from the command table. */
/* SPDX-License-Identifier: MIT */
#include "cmd/cmd.h"
#include <stdio.h>
#include <string.h>

enum { HELP_WIDTH = 80, HELP_COLUMN = 26 };

void cmd_help(FILE *f)
{
    fputs("strut: structured transformers, trained, decomposed and compared, on CPUs and GPUs\n\n"
          "usage: strut COMMAND [arguments] [options]\n\ncommands:\n",
          f);
    for (int i = 0; cmd_table[i]; i++) {
        fprintf(f, "  %-12s %s\n", cmd_table[i]->name, cmd_table[i]->summary);
    }
    fputs("\n\"strut help COMMAND\" tells more about one of them, with examples;\n"
          "\"strut help --man [COMMAND]\" is a page for man(1).\n"
          "Every command takes --json and then prints one JSON object.\n",
          f);
}

/* `text` with lines broken at blanks before `HELP_WIDTH`; the first starts at column `at`, the
 * others are indented to `indent`. */
static void help_wrap(FILE *f, const char *text, int at, int indent)
{
    while (*text) {
        size_t n = strcspn(text, " \n");
        if (at > indent && at + 1 + (int)n > HELP_WIDTH) {
            fprintf(f, "\n%*s", indent, "");
            at = indent;
        } else if (at > indent) {
            fputc(' ', f);
            at++;
        }
        fwrite(text, 1, n, f);
        at += (int)n;
        text += n;
        if (*text == '\n') {
            fprintf(f, "\n%*s", indent, "");
            at = indent;
        }
        if (*text) text++;
    }
    fputc('\n', f);
}

void cmd_option_text(const cmd_option *o, char *text, size_t n)
{
    snprintf(text, n, "%s%s%s%s%s%s%s", o->help, o->choice ? ": " : "", o->choice ? o->choice : "",
             o->many ? "; may be repeated" : "", o->preset ? " (default " : "",
             o->preset ? o->preset : "", o->preset ? ")" : "");
}

static void help_option(FILE *f, const cmd_option *o)
{
    char left[64], text[600];
    char letter[8] = "    ";
    if (o->pair)
        snprintf(letter, sizeof letter, "-%s, ", o->pair);
    else if (o->letter)
        snprintf(letter, sizeof letter, "-%c, ", o->letter);
    snprintf(left, sizeof left, "  %s--%s%s%s", letter, o->name, o->value ? " " : "",
             o->value ? o->value : "");
    cmd_option_text(o, text, sizeof text);
    int at = fprintf(f, "%s", left);
    if (at > HELP_COLUMN - 2) {
        fputc('\n', f);
        at = 0;
    }
    fprintf(f, "%*s", HELP_COLUMN - at, "");
    help_wrap(f, text, HELP_COLUMN, HELP_COLUMN);
}

static void help_lines(FILE *f, const char *title, const char *prefix, const char *lines)
{
    fprintf(f, "%s\n", title);
    while (*lines) {
        size_t n = strcspn(lines, "\n");
        fprintf(f, "  %s%.*s\n", prefix, (int)n, lines);
        lines += n + (lines[n] == '\n');
    }
}

void cmd_help_command(FILE *f, const cmd_command *c)
{
    fprintf(f, "strut %s: %s\n\n", c->name, c->summary);
    char prefix[64];
    snprintf(prefix, sizeof prefix, "strut %s ", c->name);
    help_lines(f, "usage:", prefix, c->usage);
    if (c->detail) {
        fputc('\n', f);
        help_wrap(f, c->detail, 0, 0);
    }
    fputs("\noptions:\n", f);
    for (const cmd_option *o = c->option; o && o->name; o++)
        help_option(f, o);
    for (const cmd_option *o = cmd_common; o->name; o++)
        help_option(f, o);
    if (c->example) {
        fputc('\n', f);
        help_lines(f, "examples:", "", c->example);
    }
}
