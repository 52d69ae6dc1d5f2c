/* YAML to a tree that knows the place of every value, over libyaml's events. The subset of YAML
 * that config files need: what makes one node stand for another (anchors, aliases, merge keys),
 * tags, duplicate keys and further documents are refused. Scalars stay text; types are the
 * caller's. */
/* SPDX-License-Identifier: MIT */
#include "config/node.h"
#include "files/files.h"
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

typedef struct {
    yaml_parser_t parser;
    const char *name;
    bool fixed; /* `name` is the place of every node */
    st_err *e;
} yaml_reader;

static char *yaml_place(const yaml_reader *r, yaml_mark_t at)
{
    char *where;
    if (r->fixed) return strdup(r->name);
    return asprintf(&where, "%s:%zu:%zu", r->name, at.line + 1, at.column + 1) < 0 ? NULL : where;
}

static st_status yaml_nomem(const yaml_reader *r)
{
    return ST_NOMEM(r->e, r->name);
}

static st_status yaml_refuse(const yaml_reader *r, yaml_mark_t at, const char *what)
{
    char *where = yaml_place(r, at);
    if (!where) return yaml_nomem(r);
    ST_ERR(r->e, ST_EFORMAT, "%s: %s", where, what);
    free(where);
    return ST_EFORMAT;
}

/* The next event, which the caller deletes; syntax errors are libyaml's words with their place. */
static st_status yaml_next(yaml_reader *r, yaml_event_t *ev)
{
    if (yaml_parser_parse(&r->parser, ev)) return ST_OK;
    const yaml_parser_t *p = &r->parser;
    if (p->error == YAML_MEMORY_ERROR) return yaml_nomem(r);
    if (p->error == YAML_READER_ERROR) {
        ST_FAIL(r->e, ST_EFORMAT, "%s: byte %zu: %s", r->name, p->problem_offset, p->problem);
    }
    char text[256];
    snprintf(text, sizeof text, "not valid YAML: %s%s%s", p->context ? p->context : "",
             p->context ? ": " : "", p->problem ? p->problem : "unknown problem");
    return yaml_refuse(r, p->problem_mark, text);
}

static st_status yaml_check_event(const yaml_reader *r, const yaml_event_t *ev)
{
    const yaml_char_t *anchor = NULL, *tag = NULL;
    switch (ev->type) {
    case YAML_ALIAS_EVENT:
        return yaml_refuse(r, ev->start_mark,
                           "aliases (*name) are not supported; write the value "
                           "again, or quote it if a string was meant");
    case YAML_SCALAR_EVENT:
        anchor = ev->data.scalar.anchor;
        tag = ev->data.scalar.tag;
        if (strlen((const char *)ev->data.scalar.value) != ev->data.scalar.length) {
            return yaml_refuse(r, ev->start_mark, "a NUL character in a string");
        }
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = ev->data.sequence_start.anchor;
        tag = ev->data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = ev->data.mapping_start.anchor;
        tag = ev->data.mapping_start.tag;
        break;
    default: return ST_OK;
    }
    if (anchor) {
        return yaml_refuse(r, ev->start_mark,
                           "anchors (&name) are not supported; write the value "
                           "where it is needed, or quote it");
    }
    if (tag) return yaml_refuse(r, ev->start_mark, "tags (!name) are not supported; quote it");
    return ST_OK;
}

static st_status yaml_node(yaml_reader *r, yaml_event_t *ev, int level, st_node **out);

/* Reads a map's key from `ev`. */
static st_status yaml_key(const yaml_reader *r, const yaml_event_t *ev, char **key, char **where)
{
    ST_TRY(yaml_check_event(r, ev));
    if (ev->type != YAML_SCALAR_EVENT) {
        return yaml_refuse(r, ev->start_mark, "a key must be plain text");
    }
    const char *text = (const char *)ev->data.scalar.value;
    bool plain = ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (plain && strcmp(text, "<<") == 0) {
        return yaml_refuse(r, ev->start_mark,
                           "merge keys (<<) are not supported; write the "
                           "values out");
    }
    if (!*text) return yaml_refuse(r, ev->start_mark, "an empty key");
    *key = strdup(text);
    *where = yaml_place(r, ev->start_mark);
    return *key && *where ? ST_OK : yaml_nomem(r);
}

/* Items of a list or map up to its end event. */
static st_status yaml_items(yaml_reader *r, st_node *n, int level)
{
    for (;;) {
        yaml_event_t ev;
        char *key = NULL, *where = NULL;
        st_node *item = NULL;
        ST_TRY(yaml_next(r, &ev));
        bool end = ev.type == YAML_SEQUENCE_END_EVENT || ev.type == YAML_MAPPING_END_EVENT;
        st_status s = ST_OK;
        if (!end && n->kind == ST_NODE_MAP) {
            s = yaml_key(r, &ev, &key, &where);
            yaml_event_delete(&ev);
            if (!s) s = yaml_next(r, &ev);
        }
        if (!s && !end) s = yaml_node(r, &ev, level, &item);
        yaml_event_delete(&ev);
        if (end) return ST_OK;
        if (!s && !node_add(n, key, where, item)) return yaml_nomem(r);
        if (s) {
            free(key);
            free(where);
            return s;
        }
    }
}

typedef struct {
    const char *key;
    int64_t index;
} yaml_row;

static int yaml_by_key(const void *a, const void *b)
{
    const yaml_row *x = a, *y = b;
    int d = strcmp(x->key, y->key);
    return d ? d : (x->index > y->index) - (x->index < y->index);
}

/* Sorted, not compared pairwise: a hostile file has 10^5 keys. */
static st_status yaml_unique(const yaml_reader *r, const st_node *n)
{
    yaml_row *row = st_calloc(n->n, sizeof *row);
    if (!row) return yaml_nomem(r);
    for (int64_t i = 0; i < n->n; i++)
        row[i] = (yaml_row){n->key[i], i};
    qsort(row, (size_t)n->n, sizeof *row, yaml_by_key);
    st_status s = ST_OK;
    for (int64_t i = 1; i < n->n && !s; i++) {
        if (strcmp(row[i - 1].key, row[i].key)) continue;
        s = ST_ERR(r->e, ST_EFORMAT, "%s: key %.100s is already given at %s; remove one",
                   n->key_where[row[i].index], row[i].key, n->key_where[row[i - 1].index]);
    }
    free(row);
    return s;
}

/* The node that begins with `ev` (which the caller deletes). */
static st_status yaml_node(yaml_reader *r, yaml_event_t *ev, int level, st_node **out)
{
    *out = NULL;
    ST_TRY(yaml_check_event(r, ev));
    if (level > YAML_LEVELS) {
        return yaml_refuse(r, ev->start_mark, "more than 64 levels of lists and maps");
    }
    st_node *n = st_calloc(1, sizeof *n);
    if (!n) return yaml_nomem(r);
    n->where = yaml_place(r, ev->start_mark);
    st_status s = n->where ? ST_OK : yaml_nomem(r);
    if (ev->type == YAML_SCALAR_EVENT) {
        n->kind = ST_NODE_SCALAR;
        n->quoted = ev->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
        n->text = strdup((const char *)ev->data.scalar.value);
        if (!n->text) s = yaml_nomem(r);
    } else {
        n->kind = ev->type == YAML_MAPPING_START_EVENT ? ST_NODE_MAP : ST_NODE_LIST;
        if (!s) s = yaml_items(r, n, level + 1);
        if (!s && n->kind == ST_NODE_MAP) s = yaml_unique(r, n);
    }
    if (s) {
        st_node_free(n);
        return s;
    }
    *out = n;
    return ST_OK;
}

/* Stream start, at most one document, stream end. A stream without a document gives *out = NULL. */
static st_status yaml_stream(yaml_reader *r, st_node **out)
{
    for (;;) {
        yaml_event_t ev;
        ST_TRY(yaml_next(r, &ev));
        yaml_event_type_t type = ev.type;
        st_status s = ST_OK;
        if (type == YAML_DOCUMENT_START_EVENT && *out) {
            s = yaml_refuse(r, ev.start_mark, "a second document (---), expected one");
        } else if (type != YAML_STREAM_START_EVENT && type != YAML_STREAM_END_EVENT &&
                   type != YAML_DOCUMENT_START_EVENT && type != YAML_DOCUMENT_END_EVENT) {
            s = yaml_node(r, &ev, 1, out);
        }
        yaml_event_delete(&ev);
        if (s || type == YAML_STREAM_END_EVENT) return s;
    }
}

st_status node_parse(st_node **out, const char *text, size_t n, const char *name, bool fixed,
                     st_err *e)
{
    *out = NULL;
    yaml_reader r = {.name = name, .fixed = fixed, .e = e};
    size_t mark = st_text_mark(text, n);
    text += mark;
    n -= mark;
    if (n > YAML_MAX_BYTES) {
        ST_FAIL(e, ST_EFORMAT, "%s: %zu bytes, at most %d are read", name, n, YAML_MAX_BYTES);
    }
    if (!yaml_parser_initialize(&r.parser)) return yaml_nomem(&r);
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, n);
    st_node *root = NULL;
    st_status s = yaml_stream(&r, &root);
    if (!s && !root) {
        root = st_calloc(1, sizeof *root);
        if (root) {
            root->kind = fixed ? ST_NODE_SCALAR : ST_NODE_MAP;
            root->text = fixed ? strdup("") : NULL;
            root->where = yaml_place(&r, (yaml_mark_t){0});
        }
        if (!root || !root->where || (fixed && !root->text)) s = yaml_nomem(&r);
    }
    yaml_parser_delete(&r.parser);
    if (s) {
        st_node_free(root);
        return s;
    }
    *out = root;
    return ST_OK;
}

st_status st_yaml_parse(st_node **out, const char *text, size_t n, const char *name, st_err *e)
{
    return node_parse(out, text, n, name, false, e);
}

st_status st_yaml_load(st_node **out, const char *path, st_err *e)
{
    char *text;
    size_t n;
    *out = NULL;
    ST_TRY(st_read_file(path, YAML_MAX_BYTES, &text, &n, e));
    st_status s = node_parse(out, text, n, path, false, e);
    free(text);
    return s;
}
