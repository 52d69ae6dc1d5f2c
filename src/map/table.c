/* The table of matrix types, in the order people see them. */
/* SPDX-License-Identifier: MIT */
#include "map/inner.h"
#include <string.h>

const st_map_type *const st_map_types[] = {
    &st_map_dense,   &st_map_lowrank,   &st_map_blockdiag,
    &st_map_monarch, &st_map_butterfly, &st_map_kron,
    &st_map_ss1,     &st_map_sum,       NULL,
};

const st_map_type *st_map_find(const char *name)
{
    for (int i = 0; st_map_types[i]; i++) {
        if (strcmp(st_map_types[i]->name, name) == 0) return st_map_types[i];
    }
    return NULL;
}
