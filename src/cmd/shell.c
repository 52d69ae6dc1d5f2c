/* What shells and man read, made from the table of commands: strut completion, strut help --man. */
/* SPDX-License-Identifier: MIT */
#include "cmd/cmd.h"
#include <stdio.h>
#include <string.h>

/* ---- completion ------------------------------------------------------------------------------ */

/* Calls `row` with every option of a command, the common ones last. */
static void shell_options(FILE *f, const cmd_command *c,
                          void (*row)(FILE *f, const cmd_command *c, const cmd_option *o))
{
    for (const cmd_option *o = c->option; o && o->name; o++)
        row(f, c, o);
    for (const cmd_option *o = cmd_common; o->name; o++)
        row(f, c, o);
}

/* `text` within single quotes; a quote ends them, stands escaped and begins them again. `drop`:
 * characters with a meaning of their own there, which become blanks. */
static void shell_quoted(FILE *f, const char *text, const char *drop)
{
    fputc('\'', f);
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", f);
        else
            fputc(strchr(drop, *text) || *text == '\n' ? ' ' : *text, f);
    }
    fputc('\'', f);
}

/* The choices of an option as words, "f32|bf16" to "f32 bf16". */
static void shell_choice(FILE *f, const char *choice)
{
    for (; *choice; choice++)
        fputc(*choice == '|' ? ' ' : *choice, f);
}

static void bash_word(FILE *f, const cmd_command *c, const cmd_option *o)
{
    (void)c;
    fprintf(f, " --%s", o->name);
}

static void bash_choice(FILE *f, const cmd_command *c, const cmd_option *o)
{
    if (!o->choice || o->kind == CMD_FLAG) return;
    fprintf(f, "    %s,--%s) words='", c->name, o->name);
    shell_choice(f, o->choice);
    fputs("' ;;\n", f);
}

static void shell_bash(FILE *f)
{
    fputs("# bash completion of strut; source <(strut completion bash)\n"
          "_strut()\n{\n"
          "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} words=\n"
          "    COMPREPLY=()\n"
          "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        words='help",
          f);
    for (int i = 0; cmd_table[i]; i++)
        fprintf(f, " %s", cmd_table[i]->name);
    fputs("'\n        mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")\n"
          "        return\n    fi\n    case ${COMP_WORDS[1]},$before in\n",
          f);
    for (int i = 0; cmd_table[i]; i++)
        shell_options(f, cmd_table[i], bash_choice);
    fputs("    esac\n    [ -n \"$words\" ] || case ${COMP_WORDS[1]},$word in\n", f);
    for (int i = 0; cmd_table[i]; i++) {
        fprintf(f, "    %s,-*) words='", cmd_table[i]->name);
        shell_options(f, cmd_table[i], bash_word);
        fputs("' ;;\n", f);
    }
    fputs("    help,*) words='", f);
    for (int i = 0; cmd_table[i]; i++)
        fprintf(f, "%s ", cmd_table[i]->name);
    fputs("' ;;\n    esac\n"
          "    [ -z \"$words\" ] || mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")\n"
          "}\ncomplete -o default -F _strut strut\n",
          f);
}

static void zsh_row(FILE *f, const cmd_command *c, const cmd_option *o)
{
    (void)c;
    fprintf(f, " \\\n            %s--%s%s'['", o->many ? "'*'" : "", o->name,
            o->kind == CMD_FLAG ? "" : "=");
    shell_quoted(f, o->help, "[]:\\");
    fputs("']", f);
    if (o->kind != CMD_FLAG) {
        fputs(":value:", f);
        if (o->choice) {
            fputc('(', f);
            shell_choice(f, o->choice);
            fputc(')', f);
        } else {
            fputs("_files", f);
        }
    }
    fputc('\'', f);
}

static void shell_zsh(FILE *f)
{
    fputs("#compdef strut\n# zsh completion of strut; strut completion zsh >~/.zfunc/_strut\n"
          "_strut()\n{\n    local -a commands\n    commands=(\n",
          f);
    for (int i = 0; cmd_table[i]; i++) {
        char text[300];
        snprintf(text, sizeof text, "%s:%s", cmd_table[i]->name, cmd_table[i]->summary);
        fputs("        ", f);
        shell_quoted(f, text, "\\");
        fputc('\n', f);
    }
    fputs("        'help:tell more about a command'\n    )\n"
          "    if (( CURRENT == 2 )); then\n        _describe command commands\n"
          "        return\n    fi\n    case $words[2] in\n",
          f);
    for (int i = 0; cmd_table[i]; i++) {
        fprintf(f, "    %s)\n        _arguments", cmd_table[i]->name);
        shell_options(f, cmd_table[i], zsh_row);
        fputs(" \\\n            '*:file:_files' ;;\n", f);
    }
    fputs("    help) _describe command commands ;;\n    esac\n}\n_strut \"$@\"\n", f);
}

static void fish_row(FILE *f, const cmd_command *c, const cmd_option *o)
{
    fprintf(f, "complete -c strut -n '__fish_seen_subcommand_from %s' -l %s", c->name, o->name);
    if (o->letter) fprintf(f, " -s %c", o->letter);
    if (o->kind != CMD_FLAG) fputs(o->choice ? " -x" : " -r", f);
    if (o->choice && o->kind != CMD_FLAG) {
        fputs(" -a '", f);
        shell_choice(f, o->choice);
        fputc('\'', f);
    }
    fputs(" -d ", f);
    shell_quoted(f, o->help, "\\");
    fputc('\n', f);
}

static void shell_fish(FILE *f)
{
    fputs("# fish completion of strut; strut completion fish >~/.config/fish/completions/"
          "strut.fish\n",
          f);
    for (int i = 0; cmd_table[i]; i++) {
        fprintf(f, "complete -c strut -f -n __fish_use_subcommand -a %s -d ", cmd_table[i]->name);
        shell_quoted(f, cmd_table[i]->summary, "\\");
        fputc('\n', f);
    }
    for (int i = 0; cmd_table[i]; i++)
        shell_options(f, cmd_table[i], fish_row);
}

static const struct {
    const char *name;
    void (*write)(FILE *f);
} shells[] = {{"bash", shell_bash}, {"zsh", shell_zsh}, {"fish", shell_fish}};

static st_status shell_run(const cmd_args *a, json_t **result, st_err *e)
{
    for (size_t i = 0; i < sizeof shells / sizeof *shells; i++) {
        if (strcmp(a->word[0], shells[i].name) != 0) continue;
        *result = json_pack("{s:s}", "shell", shells[i].name);
        if (!a->json) shells[i].write(stdout);
        return ST_OK;
    }
    ST_FAIL(e, ST_EARG, "%.40s: unknown shell; the choice is: bash, zsh, fish", a->word[0]);
}

const cmd_command cmd_completion = {
    .name = "completion",
    .summary = "what a shell needs to complete commands and options",
    .usage = "bash|zsh|fish",
    .detail = "bash: source <(strut completion bash), or the output in a file of "
              "~/.local/share/bash-completion/completions/strut. zsh: in a file _strut of a folder "
              "in $fpath. fish: in ~/.config/fish/completions/strut.fish.",
    .example = "strut completion bash >~/.local/share/bash-completion/completions/strut",
    .least = 1,
    .most = 1,
    .run = shell_run,
};

/* ---- man pages ------------------------------------------------------------------------------- */

/* Text as troff reads it: hyphens that can be copied, no line that begins with a request. */
static void man_text(FILE *f, const char *text)
{
    bool first = true;
    for (; *text; text++) {
        if (first && (*text == '.' || *text == '\'')) fputs("\\&", f);
        first = *text == '\n';
        if (*text == '\\')
            fputs("\\e", f);
        else if (*text == '-')
            fputs("\\-", f);
        else
            fputc(*text, f);
    }
}

static void man_lines(FILE *f, const char *prefix, const char *lines)
{
    fputs(".nf\n", f);
    while (*lines) {
        size_t n = strcspn(lines, "\n");
        char line[400];
        snprintf(line, sizeof line, "%s%.*s", prefix, (int)n, lines);
        man_text(f, line);
        fputc('\n', f);
        lines += n + (lines[n] == '\n');
    }
    fputs(".fi\n", f);
}

static void man_option(FILE *f, const cmd_command *c, const cmd_option *o)
{
    char text[600];
    (void)c;
    fputs(".TP\n\\fB", f);
    if (o->pair) fprintf(f, "\\-%s\\fR, \\fB", o->pair);
    if (!o->pair && o->letter) fprintf(f, "\\-%c\\fR, \\fB", o->letter);
    fputs("\\-\\-", f);
    man_text(f, o->name);
    fputs("\\fR", f);
    if (o->value) {
        fputs(" \\fI", f);
        man_text(f, o->value);
        fputs("\\fR", f);
    }
    fputc('\n', f);
    cmd_option_text(o, text, sizeof text);
    man_text(f, text);
    fputc('\n', f);
}

void cmd_man(FILE *f, const cmd_command *c)
{
    fprintf(f, ".TH STRUT%s%s 1 \"\" \"strut %s\" \"User Commands\"\n.SH NAME\nstrut%s%s \\- ",
            c ? "\\-" : "", c ? c->name : "", ST_VERSION, c ? "\\-" : "", c ? c->name : "");
    man_text(f, c ? c->summary : "make transformers smaller and faster by structured matrices");
    if (!c) {
        fputs("\n.SH SYNOPSIS\n.B strut\n.I COMMAND\n[arguments] [options]\n.SH COMMANDS\n", f);
        for (int i = 0; cmd_table[i]; i++) {
            fprintf(f, ".TP\n.BR strut\\-%s (1)\n", cmd_table[i]->name);
            man_text(f, cmd_table[i]->summary);
            fputc('\n', f);
        }
        fputs(".SH EXIT STATUS\n.TP\n.B 0\ndone\n.TP\n.B 1\nfailed; standard error says why\n"
              ".TP\n.B 2\nthe command line was not understood\n.TP\n.B 128 + N\n"
              "interrupted by signal N; what was done is kept\n",
              f);
        return;
    }
    char prefix[64];
    snprintf(prefix, sizeof prefix, "strut %s ", c->name);
    fputs("\n.SH SYNOPSIS\n", f);
    man_lines(f, prefix, c->usage);
    if (c->detail) {
        fputs(".SH DESCRIPTION\n", f);
        man_text(f, c->detail);
        fputc('\n', f);
    }
    fputs(".SH OPTIONS\n", f);
    shell_options(f, c, man_option);
    if (c->example) {
        fputs(".SH EXAMPLES\n", f);
        man_lines(f, "", c->example);
    }
    fputs(".SH SEE ALSO\n.BR strut (1)\n", f);
}
