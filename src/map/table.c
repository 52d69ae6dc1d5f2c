/* The table of matrix types (types.def), and how comparisons show them. */
/* SPDX-License-Identifier: MIT */
#include "map/inner.h"
#include <string.h>

#define ST_MAP_TYPE(name) &st_map_##name,
const st_map_type *const st_map_types[] = {
#include "map/types.def"
    NULL};
#undef ST_MAP_TYPE

const st_map_type *st_map_find(const char *name)
{
    for (int i = 0; st_map_types[i]; i++) {
        if (strcmp(st_map_types[i]->name, name) == 0) return st_map_types[i];
    }
    return NULL;
}

bool st_map_view_at(int i, st_map_view *out)
{
    for (int t = 0; i >= 0 && st_map_types[t]; t++) {
        const st_map_type *type = st_map_types[t];
        if (type == &st_map_dense) continue;
        *out = (st_map_view){type->name, type->name, ""};
        int views = 0;
        while (views < ST_VIEWS && type->view[views].label)
            views++;
        if (views && i < views) *out = type->view[i];
        if (i < map_max(1, views)) return true;
        i -= (int)map_max(1, views);
    }
    return false;
}
