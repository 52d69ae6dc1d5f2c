/* The table of settings: one row for each key a run's configuration may have. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_JOB_SETTINGS_H
#define ST_JOB_SETTINGS_H

#include "job/job.h"

/* How a row's text is read and where it goes in st_settings. */
typedef enum {
    SET_TEXT,   /* char *, owned */
    SET_INT,    /* int64_t */
    SET_NUM,    /* double */
    SET_FLAG,   /* int64_t 0 or 1 */
    SET_CHOICE, /* int64_t, position in `choice` */
    SET_MAPS,   /* json_t *, {GLOB: SPEC} */
    SET_GROUPS  /* json_t *, {NAME: {lr, decay, schedule, freeze}} */
} set_kind;

enum {
    SET_NULL = 1, /* null is legal (and the default, where `preset` is NULL) */
    SET_FREE = 2  /* may change when a run is resumed: does not alter what it computes */
};

typedef struct {
    const char *key;
    set_kind kind;
    size_t at; /* offset in st_settings */
    const char *preset;
    double lo, hi;
    const char *const *choice; /* NULL-terminated */
    unsigned flags;
    const char *help;
} set_row;

enum { CONFIG_KEY = 256 }; /* room for a key, and for its place in messages */

extern const set_row st_set_rows[];
/* The keys of one entry of a SET_GROUPS row: offsets in set_group; the key NULL ends it. */
extern const set_row st_set_group_rows[];
typedef struct {
    double lr, decay;         /* NAN: not given */
    int64_t schedule, freeze; /* flags, or ST_UNSET */
} set_group;
int st_set_count(void);
/* Row of a key, or -1. */
int st_set_find(const char *key);
/* "FILE:LINE:COLUMN: train.lr" for messages, or "train.lr" for a default. */
const char *st_set_place(const st_settings *s, const char *key, char *text, size_t n);
/* Value of a row as JSON (new reference). */
json_t *st_set_value(const st_settings *s, const set_row *r);
/* First key whose value differs between the settings and the flat object of an earlier run and that
 * is not free to change; NULL if there is none. */
const char *st_set_changed(const st_settings *s, const json_t *before);

/* ---- unknown.c ------------------------------------------------------------------------------ */

bool config_is_section(const char *key);
/* Adds to an error about a word "group/sub=option" which of our groups does what theirs did. */
void config_hint_group(const char *word, st_err *e);
/* ST_EARG for a key that is not in the table, with the one, or the group of `c` (may be NULL), that
 * was meant; `where` is the key's place. */
st_status config_unknown(const char *key, const st_node *v, const char *where, const st_configs *c,
                         st_err *e);

/* ---- config_value.c ------------------------------------------------------------------------- */

bool config_is_null(const st_node *v); /* nothing, ~ or null, without quotes */
/* "found X": what stands there, for messages; in `text`. */
const char *config_found(const st_node *v, char *text, size_t n);
/* The value into its row's place; `base`: the struct that the row's offset is in. */
st_status config_value(void *base, const set_row *r, const st_node *v, st_err *e);
void config_null(const set_row *r, char *field);

#endif
