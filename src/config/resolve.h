/* Inner header of config: interpolations (resolve.c over select.c). */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CONFIG_RESOLVE_H
#define ST_CONFIG_RESOLVE_H

#include "config/override.h"

/* Resolves every interpolation of a tree in place: ${a.b}, ${.x}, ${oc.env:VAR,default} ... Cycles,
 * missing keys and values left at "???" are ST_EARG with their place. */
st_status resolve_tree(st_node *root, st_err *e);

/* ---- functions.c ----------------------------------------------------------------------------- */

typedef struct {
    const char *where, *text; /* for messages: the node, and the interpolation */
    st_err *e;
} call;
/* NAME(arg[0..n)) as a new node. Not oc.select, which needs the tree. */
st_status function_call(const call *c, const char *name, st_node *const *arg, int64_t n,
                        st_node **out);

#endif
