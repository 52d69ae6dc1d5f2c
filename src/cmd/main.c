/* strut's entry: finds the command, parses, runs, prints, and says how it went. */
/* SPDX-License-Identifier: MIT */
#include "cmd/cmd.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_USAGE = 2, MAIN_NAMES = 64 };

/* Flushes standard output and reports what was not written. A reader that went away (EPIPE) is no
 * news for anybody: end as the signal would have ended us. */
static int main_flush(const char *where)
{
    errno = 0;
    int bad = fflush(stdout) != 0 || ferror(stdout);
    if (!bad) return 0;
    if (errno == EPIPE) {
        signal(SIGPIPE, SIG_DFL);
        raise(SIGPIPE);
    }
    char text[128];
    snprintf(text, sizeof text, "standard output could not be written: %s",
             errno ? strerror(errno) : "some of it was lost");
    cmd_error(where, text);
    return 1;
}

static int main_unknown(const char *word)
{
    const char *names[MAIN_NAMES];
    int n = 0;
    for (; cmd_table[n] && n < MAIN_NAMES - 2; n++)
        names[n] = cmd_table[n]->name;
    names[n++] = "help";
    names[n] = NULL;
    const char *near = st_nearest(word, names);
    char text[256];
    snprintf(text, sizeof text, "unknown %s \"%.80s\"%s%s%s (see: strut help)",
             word[0] == '-' ? "option" : "command", word, near ? "; did you mean \"" : "",
             near ? near : "", near ? "\"?" : "");
    cmd_error(NULL, text);
    return EXIT_USAGE;
}

static int main_help(int argc, char **argv)
{
    if (argc < 1) {
        cmd_help(stdout);
        return main_flush("help");
    }
    bool man = strcmp(argv[0], "--man") == 0;
    if (man && argc == 1) {
        cmd_man(stdout, NULL);
        return main_flush("help");
    }
    const char *name = argv[man];
    const cmd_command *c = cmd_find(name);
    if (!c) return main_unknown(name);
    if (man)
        cmd_man(stdout, c);
    else
        cmd_help_command(stdout, c);
    return main_flush("help");
}

/* Runs a parsed command and prints its result; returns the exit code. */
static void main_show(const cmd_args *a, const json_t *result)
{
    if (a->json) {
        json_dumpf(result, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
        putchar('\n');
    } else if (a->command->show) {
        json_t *plain = cmd_plain(result);
        a->command->show(plain);
        json_decref(plain);
    }
}

static int main_run(const cmd_args *a)
{
    const cmd_command *c = a->command;
    st_err e = {0};
    json_t *result = NULL;
    cmd_progress_start(a->quiet);
    st_status s = cmd_limits_check(&e);
    if (!s) s = c->run(a, &result, &e);
    cmd_progress_clear();
    int code = 0;
    if (s && result) main_show(a, result); /* what was done in spite of it */
    if (s == ST_EINTR) {
        cmd_error(c->name, e.msg[0] ? e.msg : "interrupted");
        code = 128 + (cmd_signal() ? cmd_signal() : SIGINT);
    } else if (s) {
        cmd_error(c->name, e.msg[0] ? e.msg : "failed");
        code = 1;
    } else {
        main_show(a, result);
    }
    json_decref(result);
    int lost = main_flush(c->name);
    return code ? code : lost;
}

int main(int argc, char **argv)
{
    cmd_start_files();
    signal(SIGPIPE, SIG_IGN); /* a write then fails, and the job can still save its work */
    signal(SIGXFSZ, SIG_IGN); /* the same for a file beyond ulimit -f */
    if (argc < 2) {
        cmd_help(stderr);
        return EXIT_USAGE;
    }
    const char *word = argv[1];
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        puts("strut " ST_VERSION);
        return main_flush("version");
    }
    if (strcmp(word, "help") == 0 || strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        return main_help(argc - 2, argv + 2);
    }
    const cmd_command *c = cmd_find(word);
    if (!c) return main_unknown(word);
    cmd_args a;
    st_err e = {0};
    int code;
    if (!cmd_parse(&a, c, argc - 2, argv + 2, &e)) {
        cmd_error(c->name, e.msg);
        fprintf(stderr, "(see: strut help %s)\n", c->name);
        code = EXIT_USAGE;
    } else if (a.help) {
        cmd_help_command(stdout, c);
        code = main_flush(c->name);
    } else {
        cmd_start_threads(argv, a.threads);
        cmd_start_signals();
        code = main_run(&a);
    }
    cmd_args_free(&a);
    return code;
}
