/* Trees of lists, maps and scalars that know the place of every value. */
/* SPDX-License-Identifier: MIT */
#include "config/node.h"
#include <stdlib.h>
#include <string.h>

/* Room for one more in an array of n that has grown by doubling from 1. */
static bool node_room(void *array, int64_t n, size_t size)
{
    if (n & (n - 1)) return true; /* n = 0 and powers of two are full */
    void *old, *p;
    memcpy(&old, array, sizeof old);
    p = realloc(old, (size_t)(n ? 2 * n : 1) * size);
    if (!p) return false;
    memcpy(array, &p, sizeof p);
    return true;
}

bool node_add(st_node *n, char *key, char *key_where, st_node *item)
{
    bool map = n->kind == ST_NODE_MAP;
    if (!item || (map && (!key || !key_where)) || !node_room(&n->item, n->n, sizeof *n->item) ||
        (map && (!node_room(&n->key, n->n, sizeof *n->key) ||
                 !node_room(&n->key_where, n->n, sizeof *n->key_where)))) {
        free(key);
        free(key_where);
        st_node_free(item);
        return false;
    }
    if (map) {
        n->key[n->n] = key;
        n->key_where[n->n] = key_where;
    }
    n->item[n->n++] = item;
    return true;
}

void st_node_free(st_node *n)
{
    if (!n) return;
    for (int64_t i = 0; i < n->n; i++) {
        st_node_free(n->item[i]);
        if (n->kind != ST_NODE_MAP) continue;
        free(n->key[i]);
        free(n->key_where[i]);
    }
    free(n->item);
    free(n->key);
    free(n->key_where);
    free(n->text);
    free(n->where);
    free(n);
}

int64_t node_index(const st_node *map, const char *text, size_t n)
{
    if (map->kind != ST_NODE_MAP) return -1;
    for (int64_t i = 0; i < map->n; i++) {
        if (strncmp(map->key[i], text, n) == 0 && map->key[i][n] == '\0') return i;
    }
    return -1;
}

const st_node *st_node_get(const st_node *map, const char *key)
{
    int64_t i = node_index(map, key, strlen(key));
    return i < 0 ? NULL : map->item[i];
}

bool node_is_null(const st_node *n)
{
    return n->kind == ST_NODE_SCALAR && !n->quoted &&
           (!*n->text || strcmp(n->text, "~") == 0 || strcasecmp(n->text, "null") == 0);
}

/* Turns a null into an empty map. */
static void node_open(st_node *n)
{
    if (!node_is_null(n)) return;
    free(n->text);
    n->text = NULL;
    n->kind = ST_NODE_MAP;
}

st_status node_put(st_node *map, const char *text, size_t n, st_node *item, const char *where,
                   st_err *e)
{
    int64_t i = node_index(map, text, n);
    if (i < 0) {
        if (node_add(map, strndup(text, n), strdup(where), item)) return ST_OK;
        return ST_NOMEM(e, where);
    }
    char *place = strdup(where);
    if (place) {
        free(map->key_where[i]);
        map->key_where[i] = place;
    }
    st_node_free(map->item[i]);
    map->item[i] = item;
    return ST_OK;
}

st_node *node_new(st_node_kind kind, const char *text, const char *where)
{
    st_node *n = st_calloc(1, sizeof *n);
    if (!n) return NULL;
    n->kind = kind;
    n->where = strdup(where);
    n->text = text ? strdup(text) : NULL;
    if (n->where && (n->text || !text)) return n;
    st_node_free(n);
    return NULL;
}

st_node *node_copy(const st_node *n, const char *where)
{
    st_node *copy = node_new(n->kind, n->text, where ? where : n->where);
    if (!copy) return NULL;
    copy->quoted = n->quoted;
    copy->word = n->word;
    copy->done = n->done;
    for (int64_t i = 0; i < n->n; i++) {
        bool map = n->kind == ST_NODE_MAP;
        if (node_add(copy, map ? strdup(n->key[i]) : NULL, map ? strdup(n->key_where[i]) : NULL,
                     node_copy(n->item[i], NULL)))
            continue;
        st_node_free(copy);
        return NULL;
    }
    return copy;
}

void node_remove(st_node *n, int64_t i)
{
    size_t rest = (size_t)(n->n - i - 1);
    st_node_free(n->item[i]);
    memmove(n->item + i, n->item + i + 1, rest * sizeof *n->item);
    if (n->kind == ST_NODE_MAP) {
        free(n->key[i]);
        free(n->key_where[i]);
        memmove(n->key + i, n->key + i + 1, rest * sizeof *n->key);
        memmove(n->key_where + i, n->key_where + i + 1, rest * sizeof *n->key_where);
    }
    n->n--;
}

void node_become(st_node *n, st_node *item)
{
    st_node old = *n;
    *n = *item;
    n->where = old.where;
    old.where = item->where;
    *item = old;
    st_node_free(item);
}

int64_t node_size(const st_node *n)
{
    int64_t size = 1 + (n->text ? (int64_t)strlen(n->text) / NODE_BYTES : 0);
    for (int64_t i = 0; i < n->n; i++)
        size += node_size(n->item[i]);
    return size;
}

st_status node_merge(st_node *into, const st_node *from, st_err *e)
{
    for (int64_t i = 0; i < from->n; i++) {
        const st_node *item = from->item[i];
        int64_t at = node_index(into, from->key[i], strlen(from->key[i]));
        st_node *there = at < 0 ? NULL : into->item[at];
        if (there && item->kind == ST_NODE_SCALAR && !strcmp(item->text, "???")) continue;
        if (there && there->kind == ST_NODE_MAP && item->kind == ST_NODE_MAP) {
            ST_TRY(node_merge(there, item, e));
            continue;
        }
        if (there && item->kind == ST_NODE_MAP && !there->done && there->text &&
            strstr(there->text, "${")) {
            ST_FAIL(e, ST_EARG,
                    "%s: a section for %.100s, which is the interpolation %.60s at %s; write its "
                    "keys there",
                    item->where, from->key[i], there->text, there->where);
        }
        if (there && there->kind != ST_NODE_SCALAR && item->kind != ST_NODE_SCALAR &&
            there->kind != item->kind) {
            ST_FAIL(e, ST_EARG, "%s: %.100s is a %s here and a %s at %s; make them alike",
                    item->where, from->key[i], item->kind == ST_NODE_LIST ? "list" : "section",
                    there->kind == ST_NODE_LIST ? "list" : "section", there->where);
        }
        st_node *copy = node_copy(item, NULL);
        if (!copy) return ST_NOMEM(e, item->where);
        ST_TRY(node_put(into, from->key[i], strlen(from->key[i]), copy, from->key_where[i], e));
    }
    return ST_OK;
}

/* That a path can be set: no empty part, not too deep, and nothing but maps on its way. */
static st_status node_check_path(const st_node *root, const char *path, const char *where,
                                 st_err *e)
{
    int level = 0;
    const st_node *at = root;
    for (const char *p = path;; p += strcspn(p, ".") + 1) {
        size_t n = strcspn(p, ".");
        if (n == 0) {
            ST_FAIL(e, ST_EARG, "%s: %.100s: an empty name in the key, expected group.key", where,
                    path);
        }
        if (++level > YAML_LEVELS) {
            ST_FAIL(e, ST_EARG, "%s: %.100s...: more than %d levels", where, path, YAML_LEVELS);
        }
        if (at && at->kind != ST_NODE_MAP && !node_is_null(at)) {
            ST_FAIL(e, ST_EARG, "%s: %.100s: %.*s is a %s (%s) and has no keys", where, path,
                    (int)(p == path ? 0 : p - path - 1), path,
                    at->kind == ST_NODE_LIST ? "list" : "value", at->where);
        }
        int64_t i = at ? node_index(at, p, n) : -1;
        at = i < 0 ? NULL : at->item[i];
        if (!p[n]) return ST_OK;
    }
}

st_status st_node_set(st_node *root, const char *path, const char *value, const char *where,
                      st_err *e)
{
    ST_TRY(node_check_path(root, path, where, e));
    st_node *item;
    st_status s = node_parse(&item, value, strlen(value), where, true, e);
    if (s) {
        st_err_prefix(e, "%.100s=%.100s", path, value);
        return s;
    }
    const char *p = path;
    for (size_t n; p[n = strcspn(p, ".")]; p += n + 1) {
        node_open(root);
        int64_t i = node_index(root, p, n);
        if (i < 0) {
            st_node *map = node_new(ST_NODE_MAP, NULL, where);
            if (!map || node_put(root, p, n, map, where, NULL)) {
                st_node_free(item);
                return ST_NOMEM(e, where);
            }
            i = root->n - 1;
        }
        root = root->item[i];
    }
    node_open(root);
    return node_put(root, p, strlen(p), item, where, e);
}
