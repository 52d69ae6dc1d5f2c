/* Inner header of config: making, changing and merging trees (node.c), for YAML and configs. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CONFIG_NODE_H
#define ST_CONFIG_NODE_H

#include "config/config.h"

enum { YAML_LEVELS = 64, YAML_MAX_BYTES = 1 << 20, NODE_BYTES = 32 };

/* One document; `fixed`: `name` is the place of every node. */
st_status node_parse(st_node **out, const char *text, size_t n, const char *name, bool fixed,
                     st_err *e);
/* `text`: of a scalar, copied; NULL for lists and maps. NULL when out of memory. */
st_node *node_new(st_node_kind kind, const char *text, const char *where);
/* A deep copy; `where`: the place of its root, or NULL: as in `n`. */
st_node *node_copy(const st_node *n, const char *where);
/* Adds an item, and to a map its key (all taken over, also on failure). */
bool node_add(st_node *n, char *key, char *key_where, st_node *item);
/* Index of the key text[0..n) in a map, or -1. */
int64_t node_index(const st_node *map, const char *text, size_t n);
/* Puts `item` (taken over) under the key text[0..n) of a map. */
st_status node_put(st_node *map, const char *text, size_t n, st_node *item, const char *where,
                   st_err *e);
void node_remove(st_node *n, int64_t i);
/* `item` (taken over) becomes what `n` is, at n's own place. */
void node_become(st_node *n, st_node *item);
bool node_is_null(const st_node *n);
int64_t node_size(const st_node *n); /* how many nodes, and how often 32 bytes of text */
/* As Python's str() writes x; text has 40 bytes. */
void scalar_put_num(double x, char *text, size_t n);
/* str() of a scalar, in `text` or the node's own. ST_EARG for lists and maps. */
st_status scalar_str(const st_node *n, char *text, size_t size, const char **out, st_err *e);
/* OmegaConf's merge: maps key by key, all else is replaced; a list and a map do not merge. */
st_status node_merge(st_node *into, const st_node *from, st_err *e);

#endif
