/* Any bytes as a YAML file and, cut at their first NUL bytes, as an override of it. */
/* SPDX-License-Identifier: MIT */
#include "config/config.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static size_t walk(const st_node *n)
{
    size_t count = strlen(n->where);
    if (n->kind == ST_NODE_SCALAR) return count + strlen(n->text);
    for (int64_t i = 0; i < n->n; i++) {
        if (n->kind == ST_NODE_MAP && st_node_get(n, n->key[i]) != n->item[i]) abort();
        count += walk(n->item[i]);
    }
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const uint8_t *cut = n ? memchr(data, 0, n) : NULL;
    size_t first = cut ? (size_t)(cut - data) : n;
    st_node *root;
    st_err e;
    if (st_yaml_parse(&root, (const char *)data, first, "fuzz", &e)) return 0;
    walk(root);
    if (cut && root->kind == ST_NODE_MAP) {
        char *rest = calloc(1, n - first);
        if (rest) {
            memcpy(rest, cut + 1, n - first - 1);
            size_t key = strcspn(rest, "=");
            if (rest[key]) {
                rest[key] = '\0';
                (void)st_node_set(root, rest, rest + key + 1, "command line", &e);
                walk(root);
            }
        }
        free(rest);
    }
    st_node_free(root);
    return 0;
}
