/* cmd: the program. Every command is one file that fills one cmd_command and has one row in
 * table.c; parsing, help, --json, progress, signals and exit codes are the same for all of them.
 *
 * A command's `run` reads its arguments, calls a job and hands back the job's result as a JSON
 * object; the frame prints that object with --json and otherwise calls `show`. Nothing but `show`
 * (and a command that streams, when !args->json) writes to standard output.
 *
 * Exit codes: 0 done, 1 failed, 2 the command line was not understood, 128 + signal interrupted. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CMD_H
#define ST_CMD_H

#include "store/store.h"

typedef enum { CMD_FLAG, CMD_TEXT, CMD_INT, CMD_NUM } cmd_kind;

typedef struct {
    const char *name; /* "map": --map; NULL ends the list */
    char letter;      /* 'o': -o; 0: none */
    const char *pair; /* "cn": -cn, as Hydra has it; NULL: none */
    cmd_kind kind;
    bool many;          /* may be given more than once (cmd_many); else the last one counts */
    const char *value;  /* what stands in the help: "GLOB=SPEC" */
    const char *help;   /* one or two lines */
    const char *preset; /* value when not given, shown in the help; NULL: none */
    double lo, hi;      /* CMD_INT, CMD_NUM: legal range; both 0: any */
    const char *choice; /* CMD_TEXT: the legal values, "f32|bf16"; NULL: any. CMD_FLAG: words that
                         * may follow it */
} cmd_option;

struct cmd_given {
    const cmd_option *option;
    const char *text;
};

/* A parsed command line. Options after "--" are words. */
typedef struct {
    const struct cmd_command *command;
    const char **word; /* positional arguments, key=value among them, NULL-terminated */
    int words;
    struct cmd_given *given; /* in order */
    int count;
    bool json, quiet, help;
    int64_t threads; /* 0: as many as the machine has */
} cmd_args;

typedef struct cmd_command {
    const char *name;
    const char *summary; /* one line, no full stop */
    const char *usage;   /* after "strut NAME": one line or several separated by '\n' */
    const char *detail;  /* paragraphs for the help, may be NULL */
    const char *example; /* lines, "strut ..." each; may be NULL */
    const cmd_option *option;
    int least, most; /* words; most < 0: any number */
    st_status (*run)(const cmd_args *a, json_t **result, st_err *e);
    void (*show)(const json_t *result); /* for people, on standard output; may be NULL */
} cmd_command;

extern const char cmd_commit[]; /* that the program was built at, "-dirty" if it was; "": unknown */
extern const cmd_command *const cmd_table[]; /* NULL-terminated; table.c */
const cmd_command *cmd_find(const char *name);

/* ---- args.c ---------------------------------------------------------------------------------- */

/* Parses what follows the command's name. False: `e` says what is wrong (a usage error). */
bool cmd_parse(cmd_args *a, const cmd_command *c, int argc, char **argv, st_err *e);
void cmd_args_free(cmd_args *a);
/* Values by option name (which must be in the command's list); checked when parsed. */
bool cmd_has(const cmd_args *a, const char *name);         /* given on the command line? */
const char *cmd_text(const cmd_args *a, const char *name); /* NULL: not given, no preset */
int64_t cmd_int(const cmd_args *a, const char *name);      /* 0: not given, no preset */
double cmd_num(const cmd_args *a, const char *name);
st_dtype cmd_dtype(const cmd_args *a, const char *name); /* of a row with CMD_DTYPE */
/* The texts of a repeated option, in order; new memory, *n of them, NULL-terminated. */
const char **cmd_many(const cmd_args *a, const char *name, int *n);
/* The values of CMD_READ_OPTIONS. */
st_read_how cmd_read_how(const cmd_args *a);

extern const cmd_option cmd_common[]; /* options of every command */

/* ---- help.c ---------------------------------------------------------------------------------- */

void cmd_help(FILE *f); /* the list of commands */
void cmd_help_command(FILE *f, const cmd_command *c);
void cmd_option_text(const cmd_option *o, char *text, size_t n); /* its help, choices, default */
void cmd_man(FILE *f, const cmd_command *c); /* shell.c: a page in troff; NULL: of strut itself */

/* ---- print.c: numbers and tables for people -------------------------------------------------- */

typedef struct {
    char s[40];
} cmd_str;                    /* a short text by value: printf("%s", cmd_count(n).s) */
cmd_str cmd_count(int64_t n); /* 124,439,808 */
cmd_str cmd_counted(int64_t n, const char *many); /* of ("matrices"): 1 matrix, 1,024 matrices */
cmd_str cmd_si(double x);                         /* 124.4 M */
cmd_str cmd_bytes(int64_t n);                     /* 474.7 MiB */
cmd_str cmd_seconds(double s);                    /* 1.25 ms, 2.1 s, 3:05, 2:10:00 */
cmd_str cmd_number(double x);                     /* four figures, thousands grouped */

/* A table with aligned columns: head names separated by '|' ("<name" is left-aligned). */
typedef struct {
    const char *head;
    char **cell;
    int64_t n, cap;
} cmd_grid;
void cmd_grid_add(cmd_grid *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void cmd_grid_print(cmd_grid *g, FILE *f); /* and frees */
/* Fields of results; absent ones give 0 and "". */
int64_t cmd_get_int(const json_t *o, const char *key);
double cmd_get_num(const json_t *o, const char *key);
const char *cmd_get_str(const json_t *o, const char *key);
/* A copy whose texts and keys have '?' for control characters: names out of files must not speak to
 * the terminal. */
json_t *cmd_plain(const json_t *v);

/* ---- progress.c: the sink of base on a terminal or in a log, always on standard error -------- */

void cmd_progress_start(bool quiet);
void cmd_progress_clear(void); /* takes the progress line away before other output */
/* Text from outside, such as a file's name: control characters become '?'. */
void cmd_put(FILE *f, const char *text);
/* "strut WHERE: TEXT" without control characters. */
void cmd_error(const char *where, const char *text);

/* ---- start.c: the process -------------------------------------------------------------------- */

/* limits.c: a small stack becomes the usual one, if that is allowed: true, and threads have it
 * after a new start. */
bool cmd_limits_stack(void);
/* ST_ENOMEM, saying which limit is too small and how to raise it. */
st_status cmd_limits_check(st_err *e);
void cmd_start_files(void); /* descriptors 0 to 2 are open from here on */
void cmd_start_signals(void);
int cmd_signal(void); /* the signal that interrupted us, 0: none */
/* Makes OpenMP wait politely and use the processors that are really ours: these are read when the
 * library is loaded, so the program starts itself again, once, if something has to be set. */
void cmd_start_threads(char **argv, int64_t threads);

#endif
