/* Inner header of config: entries of defaults lists (entries.c) for their composition (defaults.c).
 */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CONFIG_DEFAULTS_H
#define ST_CONFIG_DEFAULTS_H

#include "config/configs.h"

/* Strings that live as long as a composition; out of memory is latched and gives "". */
typedef struct {
    char **text;
    int64_t n;
    bool failed;
} entry_pool;
const char *pool_fmt(entry_pool *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void pool_close(entry_pool *p);

typedef enum { ENTRY_SELF, ENTRY_CONFIG, ENTRY_GROUP } entry_kind;

/* One entry of a defaults list, in the terms of Hydra's documentation. */
typedef struct {
    entry_kind kind;
    const char *name;    /* the path of a config, or a group; "/..." is from the root */
    const char *option;  /* of a group; NULL: none */
    const st_node *list; /* or its options */
    const char *package; /* after '@', or NULL */
    bool optional, override, external;
    const char *base, *parent; /* folder and package of the list it is in */
    const char *header;        /* package in its file's header, or NULL */
    const char *where;
} entry;

st_status entry_read(entry *out, const st_node *n, entry_pool *p, st_err *e);
void entry_place(entry *d, const char *base, const char *parent, entry_pool *p);
void entry_set_header(entry *d, const char *package, entry_pool *p);
const char *entry_group(const entry *d, entry_pool *p);  /* "model/size" */
const char *entry_config(const entry *d, entry_pool *p); /* "model/size/small" */
const char *entry_package(const entry *d, bool header, entry_pool *p);
const char *entry_key(const entry *d, entry_pool *p); /* "group" or "group@package" */

#endif
