/* Composes a config: the files that a defaults list names, merged in its order, then the words of a
 * command line, then interpolations. */
/* SPDX-License-Identifier: MIT */
#include "config/configs.h"
#include "config/resolve.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const st_compose_how *how;
    const st_configs *configs;
    st_node *root;
    int64_t merged; /* values so far */
    st_err *e;
} composer;

static st_status nomem(const composer *c)
{
    return ST_NOMEM(c->e, "configs");
}

/* ---- files ----------------------------------------------------------------------------------- */

/* `data: DIR` becomes `data: {dir: DIR}`. */
static st_status expand_shorts(const composer *c, st_node *root)
{
    for (const st_short *s = c->how->shorts; s && s->section; s++) {
        int64_t i = node_index(root, s->section, strlen(s->section));
        if (i < 0 || !s->key || root->item[i]->kind != ST_NODE_SCALAR ||
            node_is_null(root->item[i]))
            continue;
        st_node *map = node_new(ST_NODE_MAP, NULL, root->item[i]->where);
        st_node *value = node_copy(root->item[i], NULL);
        if (!map || !value) {
            st_node_free(map);
            st_node_free(value);
            return nomem(c);
        }
        node_become(root->item[i], map);
        ST_TRY(node_put(root->item[i], s->key, strlen(s->key), value, root->item[i]->where, c->e));
    }
    return ST_OK;
}

static st_status merge_step(composer *c, const defaults_step *step)
{
    const st_node *from = step->file->root;
    c->merged += node_size(from);
    if (c->merged > CONFIG_NODES) /* one file may be named under many packages */
        ST_FAIL(c->e, ST_EFORMAT, "%s: with it there are more than %d values", step->file->place,
                CONFIG_NODES);
    st_node *top = node_new(ST_NODE_MAP, NULL, from->where), *at = top;
    st_status s = top ? ST_OK : nomem(c);
    for (const char *p = step->package; !s && *p;) {
        size_t n = strcspn(p, ".");
        st_node *map = node_new(ST_NODE_MAP, NULL, from->where);
        if (!n)
            s = ST_ERR(c->e, ST_EARG, "%s: %.80s: not a package", step->file->place, step->package);
        if (!s && !map) s = nomem(c);
        if (s)
            st_node_free(map);
        else
            s = node_put(at, p, n, map, from->where, c->e);
        if (!s) at = at->item[0];
        p += n + (p[n] == '.');
    }
    if (!s) s = node_merge(at, from, c->e);
    if (!s) s = expand_shorts(c, top);
    if (!s) s = node_merge(c->root, top, c->e);
    st_node_free(top);
    return s;
}

/* ---- overrides ------------------------------------------------------------------------------- */

static int64_t item_index(const st_node *n, const char *part, size_t length)
{
    if (n->kind == ST_NODE_LIST) {
        bool number = length && length < 10 && strspn(part, "0123456789") >= length;
        int64_t i = number ? strtol(part, NULL, 10) : -1;
        return i < n->n ? i : -1;
    }
    return node_index(n, part, length);
}

static st_status no_key(const composer *c, const override *o, const st_node *in, const char *part,
                        size_t n)
{
    char word[200];
    const char **keys = st_calloc(in->n + 1, sizeof *keys), *near = NULL;
    snprintf(word, sizeof word, "%.*s", (int)n, part);
    for (int64_t i = 0; keys && in->kind == ST_NODE_MAP && i < in->n; i++)
        keys[i] = in->key[i];
    if (keys) near = st_nearest(word, keys);
    st_status s =
        ST_ERR(c->e, ST_EARG, "command line: %.100s: the config has no %.60s%s%s%s%s", o->line,
               o->key, near ? "; did you mean " : "", near ? near : "", near ? "?" : "",
               o->kind == OVERRIDE_SET ? "; to add it, write + before it" : "");
    free(keys);
    return s;
}

/* The node that holds the last part of a key; missing ones are made if `make`. */
static st_status find_parent(const composer *c, const override *o, bool make, st_node **out,
                             const char **last)
{
    st_node *at = c->root;
    const char *p = o->key;
    int level = 0;
    for (size_t n; p[n = strcspn(p, ".")]; p += n + 1) {
        int64_t i = item_index(at, p, n);
        if (++level >= YAML_LEVELS)
            ST_FAIL(c->e, ST_EARG, "command line: %.60s...: more than %d levels", o->line,
                    YAML_LEVELS);
        if (i < 0) {
            if (!make || at->kind != ST_NODE_MAP) return no_key(c, o, at, p, n);
            ST_TRY(node_put(at, p, n, node_new(ST_NODE_MAP, NULL, "command line"), "command line",
                            c->e));
            i = at->n - 1;
        }
        at = at->item[i];
        if (at->kind != ST_NODE_SCALAR) continue;
        if (!make || !node_is_null(at)) {
            ST_FAIL(c->e, ST_EARG, "command line: %.100s: %.*s is a value (%s) and has no keys",
                    o->line, (int)(p + n - o->key), o->key, at->where);
        }
        st_node *map = node_new(ST_NODE_MAP, NULL, at->where);
        if (!map) return nomem(c);
        node_become(at, map);
    }
    *out = at;
    *last = p;
    return ST_OK;
}

/* Does a map hold every key of another? Else the first that is missing. */
static const char *missing_key(const st_node *have, const st_node *want)
{
    for (int64_t i = 0; i < want->n; i++) {
        const st_node *h = st_node_get(have, want->key[i]);
        if (!h) return want->key[i];
        bool maps = h->kind == ST_NODE_MAP && want->item[i]->kind == ST_NODE_MAP;
        const char *below = maps ? missing_key(h, want->item[i]) : NULL;
        if (below) return below;
    }
    return NULL;
}

static st_status apply_value(const composer *c, const override *o, bool open)
{
    st_node *at, *value = o->value[0].node;
    const char *last;
    ST_TRY(find_parent(c, o, open, &at, &last));
    int64_t i = item_index(at, last, strlen(last));
    if (i < 0 && (!open || at->kind != ST_NODE_MAP)) return no_key(c, o, at, last, strlen(last));
    st_node *there = i < 0 ? NULL : at->item[i];
    if (o->kind == OVERRIDE_ADD && there && !node_is_null(there) && value->kind == ST_NODE_SCALAR) {
        ST_FAIL(c->e, ST_EARG,
                "command line: %.100s: %.60s has a value (%s); write %.60s=... to change it, "
                "or ++ to set it in any case",
                o->line, o->key, there->where, o->key);
    }
    if (there && there->kind == ST_NODE_MAP && value->kind == ST_NODE_MAP) {
        const char *missing = open ? NULL : missing_key(there, value);
        if (missing) return no_key(c, o, there, missing, strlen(missing));
        return node_merge(there, value, c->e);
    }
    if (there && there->kind != ST_NODE_SCALAR && value->kind != ST_NODE_SCALAR &&
        there->kind != value->kind)
        ST_FAIL(c->e, ST_EARG, "command line: %.100s: %.60s is a %s", o->line, o->key,
                there->kind == ST_NODE_LIST ? "list" : "section");
    st_node *copy = node_copy(value, NULL);
    if (!copy) return nomem(c);
    if (at->kind == ST_NODE_MAP) return node_put(at, last, strlen(last), copy, copy->where, c->e);
    st_node_free(at->item[i]);
    at->item[i] = copy;
    return ST_OK;
}

static st_status apply_delete(const composer *c, const override *o)
{
    st_node *at;
    const char *last;
    char is[64], wanted[64];
    const char *a = is, *b = wanted;
    ST_TRY(find_parent(c, o, false, &at, &last));
    int64_t i = item_index(at, last, strlen(last));
    if (i < 0 || node_is_null(at->item[i])) return no_key(c, o, at, last, strlen(last));
    if (o->given && !node_is_null(o->value[0].node)) {
        bool both = at->item[i]->kind == ST_NODE_SCALAR && o->value[0].node->kind == ST_NODE_SCALAR;
        if (both) ST_TRY(scalar_str(at->item[i], is, sizeof is, &a, c->e));
        if (both) ST_TRY(scalar_str(o->value[0].node, wanted, sizeof wanted, &b, c->e));
        if (!both || strcmp(a, b) != 0)
            ST_FAIL(c->e, ST_EARG, "command line: %.100s: the value of %.60s is %.60s (%s)",
                    o->line, o->key, both ? a : "not that", at->item[i]->where);
    }
    node_remove(at, i);
    return ST_OK;
}

static st_status apply(const composer *c, override *o)
{
    for (const st_short *s = c->how->shorts; s && s->section; s++) {
        const st_node *v = o->n ? o->value[0].node : NULL;
        if (!s->key || strcmp(s->section, o->key) != 0 || !v || v->kind != ST_NODE_SCALAR ||
            node_is_null(v))
            continue;
        char *key;
        if (asprintf(&key, "%s.%s", s->section, s->key) < 0) return nomem(c);
        free(o->key);
        o->key = key;
        break;
    }
    if (o->package || strchr(o->key, '/')) {
        char near[CONFIG_NAME];
        bool like = st_configs_near_group(c->configs, o->key, near, sizeof near) != NULL;
        ST_FAIL(c->e, ST_EARG,
                "command line: %.100s: there is no group %.60s on the search path (--info shows "
                "it)%s%.60s%s",
                o->line, o->key, like ? "; did you mean the group " : "", like ? near : "",
                like ? "?" : "");
    }
    if (o->kind == OVERRIDE_DELETE) return apply_delete(c, o);
    return apply_value(c, o, c->how->open || o->kind != OVERRIDE_SET);
}

/* ---- the whole ------------------------------------------------------------------------------- */

static json_t *compose_info(const st_configs *c, const defaults_list *d)
{
    json_t *path = json_array(), *list = json_array();
    for (int i = 0; i < c->dirs; i++)
        if (c->dir[i]) json_array_append_new(path, st_json_text(c->dir[i]));
    if (c->builtin) json_array_append_new(path, json_string("built-in:"));
    for (int64_t i = 0; i < d->n; i++) {
        const defaults_step *s = &d->step[i];
        json_array_append_new(list, json_pack("{s:o, s:s, s:o, s:o}", "config",
                                              st_json_text(s->file->name), "package", s->package,
                                              "file", st_json_text(s->file->place), "parent",
                                              s->parent ? st_json_text(s->parent) : json_null()));
    }
    return json_pack("{s:o, s:o}", "search_path", path, "defaults", list);
}

static st_status parse_all(const st_compose_how *how, override *o, st_err *e)
{
    for (int i = 0; i < how->n; i++) {
        ST_TRY(override_parse(&o[i], how->override[i], e));
        if (!o[i].sweep) continue;
        ST_FAIL(e, ST_EARG,
                "command line: %.100s: several values; for a sweep add -m, for a list write "
                "%.60s=[A,B], for a text with commas quote it",
                how->override[i], o[i].key);
    }
    return ST_OK;
}

static st_status find_primary(st_configs *c, const st_compose_how *how, const config_file **out,
                              st_err *e)
{
    if (how->file) return configs_open_file(c, how->file, out, e);
    if (!how->name) return configs_open_none(c, out, e);
    if (!configs_legal(how->name)) return configs_no_option(c, "", how->name, "config name", e);
    ST_TRY(configs_get(c, how->name, out, e));
    if ((*out)->missing) return configs_no_option(c, "", how->name, "config name", e);
    return ST_OK;
}

static st_status compose_merge(composer *c, const defaults_list *d, override *o)
{
    c->root = node_new(ST_NODE_MAP, NULL, d->n ? d->step[0].file->root->where : "command line");
    if (!c->root) return nomem(c);
    for (int64_t i = 0; i < d->n; i++)
        ST_TRY(merge_step(c, &d->step[i]));
    for (int i = 0; i < c->how->n; i++)
        if (d->config[i]) ST_TRY(apply(c, &o[i]));
    return c->how->raw ? ST_OK : resolve_tree(c->root, c->e);
}

st_status st_compose(st_node **out, json_t **info, st_configs *configs, const st_compose_how *how,
                     st_err *e)
{
    composer c = {.how = how, .configs = configs, .e = e};
    defaults_list d = {0};
    const config_file *primary = NULL;
    override *o = st_calloc(how->n + 1, sizeof *o);
    *out = NULL;
    if (info) *info = NULL;
    st_status s = o ? parse_all(how, o, e) : nomem(&c);
    if (!s) s = find_primary(configs, how, &primary, e);
    if (!s) s = defaults_open(&d, configs, primary, o, how->n, how->shorts, e);
    if (!s) s = compose_merge(&c, &d, o);
    if (!s && info && !(*info = compose_info(configs, &d))) s = nomem(&c);
    defaults_close(&d);
    for (int i = 0; o && i < how->n; i++)
        override_free(&o[i]);
    free(o);
    if (s) {
        st_node_free(c.root);
        return s;
    }
    *out = c.root;
    return ST_OK;
}

/* ---- sweeps ---------------------------------------------------------------------------------- */

enum { SWEEP_JOBS = 10000 };

/* The word with one of its values: what stands before its '=', and the value as it was written. */
static char *sweep_word(const char *line, const override *o, int64_t i)
{
    char *text;
    if (!o->sweep) return strdup(line);
    return asprintf(&text, "%.*s=%s", (int)strcspn(line, "="), line, o->value[i].text) < 0 ? NULL
                                                                                           : text;
}

static st_status sweep_fill(st_sweep *s, const char *const *word, const override *o, st_err *e)
{
    for (int64_t job = 0; job < s->jobs; job++) {
        int64_t rest = job;
        char **w = s->job[job] = st_calloc(s->words + 1, sizeof *w);
        bool ok = w != NULL;
        for (int k = s->words - 1; ok && k >= 0; k--) {
            int64_t n = o[k].sweep ? o[k].n : 1;
            w[k] = sweep_word(word[k], &o[k], rest % n);
            ok = w[k] != NULL;
            rest /= n;
        }
        if (!ok) return ST_NOMEM(e, "sweep");
    }
    return ST_OK;
}

st_status st_sweep_open(st_sweep *s, const char *const *word, int n, st_err *e)
{
    override *o = st_calloc(n + 1, sizeof *o);
    *s = (st_sweep){.jobs = 1, .words = n};
    s->swept = st_calloc(n + 1, sizeof *s->swept);
    st_status status = o && s->swept ? ST_OK : ST_ENOMEM;
    for (int i = 0; !status && i < n; i++) {
        status = override_parse(&o[i], word[i], e);
        if (status || !o[i].sweep) continue;
        s->swept[i] = true;
        s->jobs *= o[i].n;
        if (s->jobs > SWEEP_JOBS)
            status = ST_ERR(e, ST_EARG, "sweep: %lld jobs and more, at most %d", (long long)s->jobs,
                            SWEEP_JOBS);
    }
    if (status) s->jobs = 0;
    if (!status && !(s->job = st_calloc(s->jobs, sizeof *s->job))) status = ST_ENOMEM;
    if (!status) status = sweep_fill(s, word, o, e);
    if (status == ST_ENOMEM) ST_ERR(e, status, "sweep: out of memory");
    for (int i = 0; o && i < n; i++)
        override_free(&o[i]);
    free(o);
    if (status) st_sweep_close(s);
    return status;
}

void st_sweep_close(st_sweep *s)
{
    for (int64_t i = 0; s->job && i < s->jobs; i++) {
        for (int k = 0; s->job[i] && k < s->words; k++)
            free(s->job[i][k]);
        free(s->job[i]);
    }
    free(s->job);
    free(s->swept);
    *s = (st_sweep){0};
}
