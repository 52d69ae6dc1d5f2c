/* Inner header of config: one word of a command line that changes a config (override.c). */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CONFIG_OVERRIDE_H
#define ST_CONFIG_OVERRIDE_H

#include "config/node.h"

typedef enum {
    OVERRIDE_SET,    /* key=value */
    OVERRIDE_ADD,    /* +key=value */
    OVERRIDE_FORCE,  /* ++key=value */
    OVERRIDE_DELETE, /* ~key or ~key=value */
} override_kind;

/* A value as it was written, beside what it means. */
typedef struct {
    st_node *node;
    char *text;
} override_value;

typedef struct {
    const char *line; /* not owned */
    override_kind kind;
    char *key;             /* "train.lr", "group/sub" */
    char *package;         /* after '@', or NULL */
    bool given;            /* false: ~key alone */
    bool sweep;            /* value1,value2 choice(...) range(...) */
    bool commas;           /* of the first of these forms */
    override_value *value; /* one, or those of the sweep */
    int64_t n;
} override;

/* Hydra's grammar, and three things more: '=' in a plain value ("monarch:blocks=4"), a comma after
 * "NAME:KNOB=VALUE" that is followed by "KNOB=VALUE" belongs to the value, keys of maps in quotes.
 * ST_EARG names what is wrong and how it would be written. */
st_status override_parse(override *o, const char *line, st_err *e);
void override_free(override *o);
/* A value of that grammar by itself ("oc.decode", arguments of interpolations). */
st_status override_element(st_node **out, const char *text, const char *where, st_err *e);

/* cast.c: which cast a name of n bytes is, or -1; and doing it: false where a value cannot be. */
int config_cast(const char *name, size_t n);
bool config_cast_node(st_node *n, int cast);

#endif
