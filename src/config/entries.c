/* Entries of defaults lists: how they are written, and which group, file and package each means
 * (Hydra 1.1 and later). */
/* SPDX-License-Identifier: MIT */
#include "config/defaults.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char pool_empty[1];

const char *pool_fmt(entry_pool *p, const char *fmt, ...)
{
    va_list args;
    char *text = NULL;
    va_start(args, fmt);
    int n = vasprintf(&text, fmt, args);
    va_end(args);
    if (n >= 0 && (p->n & (p->n - 1)) == 0) {
        void *more = realloc(p->text, (size_t)(p->n ? 2 * p->n : 1) * sizeof *p->text);
        if (more) p->text = more;
        if (!more) free(text), n = -1;
    }
    if (n < 0) {
        p->failed = true;
        return pool_empty;
    }
    return p->text[p->n++] = text;
}

void pool_close(entry_pool *p)
{
    for (int64_t i = 0; i < p->n; i++)
        free(p->text[i]);
    free(p->text);
    *p = (entry_pool){0};
}

/* `text` with every `word` as `with`. */
static const char *pool_replace(entry_pool *p, const char *text, const char *word, const char *with)
{
    const char *out = "", *at;
    size_t n = strlen(word);
    for (; (at = strstr(text, word)); text = at + n)
        out = pool_fmt(p, "%s%.*s%s", out, (int)(at - text), text, with);
    return pool_fmt(p, "%s%s", out, text);
}

/* ---- how they are written -------------------------------------------------------------------- */

static st_status entry_refuse(const st_node *n, st_err *e)
{
    ST_FAIL(e, ST_EFORMAT,
            "%s: not an entry of a defaults list; expected - config, - group: option, "
            "- group@package: [option, option], - override group: option or - _self_",
            n->where);
}

/* "[optional] [override] GROUP[@PACKAGE]" */
static void entry_words(entry *d, const char *text, entry_pool *p)
{
    for (;;) {
        size_t n = strcspn(text, " ");
        if (n == 8 && text[n] && !strncmp(text, "optional", n))
            d->optional = true;
        else if (n == 8 && text[n] && !strncmp(text, "override", n))
            d->override = true;
        else
            break;
        text += n + strspn(text + n, " ");
    }
    size_t at = strcspn(text, "@");
    d->name = pool_fmt(p, "%.*s", (int)at, text);
    if (text[at]) d->package = pool_fmt(p, "%s", text + at + 1);
    if (d->package && !strcmp(d->package, "_here_")) d->package = "";
}

static bool entry_named_well(const entry *d)
{
    const char *name = d->name + (*d->name == '/');
    if (d->package && strpbrk(d->package, ": /@[]{}")) return false;
    return strstr(name, "${") || configs_legal(name);
}

static st_status entry_value(entry *d, const st_node *v, st_err *e)
{
    if (v->kind == ST_NODE_MAP) return entry_refuse(v, e);
    if (v->kind == ST_NODE_LIST) {
        for (int64_t i = 0; i < v->n; i++) {
            if (v->item[i]->kind != ST_NODE_SCALAR || node_is_null(v->item[i]))
                return entry_refuse(v->item[i], e);
            if (strstr(v->item[i]->text, "${"))
                ST_FAIL(e, ST_EFORMAT, "%s: no interpolation in a list of options",
                        v->item[i]->where);
        }
        d->list = v;
    } else if (!node_is_null(v)) {
        d->option = v->text;
    }
    return ST_OK;
}

st_status entry_read(entry *d, const st_node *n, entry_pool *p, st_err *e)
{
    *d = (entry){.kind = ENTRY_CONFIG, .where = n->where};
    if (n->kind == ST_NODE_SCALAR && !node_is_null(n)) {
        entry_words(d, n->text, p);
        if (!strcmp(d->name, "_self_")) d->kind = ENTRY_SELF;
        if (d->override || (d->kind == ENTRY_SELF && d->package)) return entry_refuse(n, e);
    } else if (n->kind == ST_NODE_MAP && n->n == 1) {
        d->kind = ENTRY_GROUP;
        entry_words(d, n->key[0], p);
        ST_TRY(entry_value(d, n->item[0], e));
    } else {
        return entry_refuse(n, e);
    }
    if (!strncmp(d->name, "hydra/", 6) || !strncmp(d->name, "/hydra/", 7))
        ST_FAIL(e, ST_EARG, "%s: %.60s sets up Hydra itself, which is not here; remove the line",
                d->where, d->name);
    if (!entry_named_well(d))
        ST_FAIL(e, ST_EARG,
                "%s: %.80s: not the name of a config (no \"..\", no empty part, no colon in a "
                "package)",
                d->where, d->name);
    return ST_OK;
}

/* ---- what they mean -------------------------------------------------------------------------- */

/* The folder part of a config's path, or a group. */
static const char *entry_folder(const entry *d, entry_pool *p)
{
    const char *name = d->name + (*d->name == '/');
    if (d->kind == ENTRY_GROUP) return name;
    const char *slash = strrchr(name, '/');
    return slash ? pool_fmt(p, "%.*s", (int)(slash - name), name) : "";
}

const char *entry_group(const entry *d, entry_pool *p)
{
    const char *folder = entry_folder(d, p);
    if (*d->name == '/' || !*d->base) return folder;
    return *folder ? pool_fmt(p, "%s/%s", d->base, folder) : d->base;
}

const char *entry_config(const entry *d, entry_pool *p)
{
    if (d->kind == ENTRY_GROUP)
        return pool_fmt(p, "%s/%s", entry_group(d, p), d->option ? d->option : "null");
    if (*d->name == '/' || !*d->base) return d->name + (*d->name == '/');
    return pool_fmt(p, "%s/%s", d->base, d->name);
}

const char *entry_package(const entry *d, bool header, entry_pool *p)
{
    const char *own = d->package;
    if (!own && header) own = d->header;
    if (!own) own = pool_replace(p, entry_folder(d, p), "/", ".");
    const char *all = !*d->parent ? own : !*own ? d->parent : pool_fmt(p, "%s.%s", d->parent, own);
    const char *from = NULL;
    for (const char *at = all; (at = strstr(at, "_global_")); at++)
        from = at + strlen("_global_");
    return !from ? all : from + (*from == '.');
}

void entry_place(entry *d, const char *base, const char *parent, entry_pool *p)
{
    d->base = base;
    d->parent = parent;
    if (d->package && strstr(d->package, "_group_")) {
        const char *group = pool_replace(p, entry_group(d, p), "/", ".");
        d->package = pool_fmt(p, "_global_.%s", pool_replace(p, d->package, "_group_", group));
    }
}

void entry_set_header(entry *d, const char *package, entry_pool *p)
{
    d->header = NULL;
    if (!package || !strcmp(package, "_group_")) return;
    const char *group = pool_replace(p, entry_group(d, p), "/", ".");
    bool global = !strcmp(package, "_global_") || !strncmp(package, "_global_.", 9);
    package = pool_fmt(p, "%s%s", global ? "" : "_global_.", package);
    d->header = pool_replace(p, package, "_group_", group);
}

const char *entry_key(const entry *d, entry_pool *p)
{
    const char *group = entry_group(d, p), *package = entry_package(d, false, p);
    if (!strcmp(pool_replace(p, group, "/", "."), package)) return group;
    return pool_fmt(p, "%s@%s", group, *package ? package : "_global_");
}
