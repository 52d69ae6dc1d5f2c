/* Hydra's defaults lists: which files make up a config, in which order and under which packages.
 * Lists are walked from their ends, so that what stands later ("override group: option", an
 * experiment) chooses for what stands before it; the command line chooses first of all. */
/* Long: one walk over lists within lists; a cut would have to share all of its state. */
/* SPDX-License-Identifier: MIT */
#include "config/defaults.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A choice that somebody made: the command line, or an "override" entry. */
typedef struct {
    const char *key, *option, *where;
    const st_node *list;
    bool used, delete, any; /* ~group; of any option */
} choice;

typedef struct {
    const char *key, *option, *group;
} known;

/* Steps of a subtree. */
typedef struct {
    defaults_step *step;
    int64_t n;
} steps;

typedef struct {
    st_configs *c;
    entry_pool pool;
    choice *choice;
    int64_t choices;
    known *known;
    int64_t knowns;
    entry *append; /* +group=option */
    int64_t appends, entries;
    st_err *e;
} builder;

typedef struct chain {
    const char *config;
    const struct chain *up;
    int depth;
} chain;

static st_status nomem(const builder *b)
{
    return ST_NOMEM(b->e, "configs");
}

static choice *choice_find(const builder *b, const char *key, bool delete)
{
    for (int64_t i = 0; i < b->choices; i++)
        if (b->choice[i].delete == delete &&!strcmp(b->choice[i].key, key)) return &b->choice[i];
    return NULL;
}

/* ---- the command line's choices -------------------------------------------------------------- */

static bool is_short(const st_configs *c, const override *o, const st_short *shorts)
{
    char name[2 * CONFIG_NAME];
    for (; shorts && shorts->section; shorts++) {
        if (strcmp(shorts->section, o->key) != 0) continue;
        const st_node *v = o->n ? o->value[0].node : NULL;
        if (!v || v->kind != ST_NODE_SCALAR || node_is_null(v)) return true;
        snprintf(name, sizeof name, "%s/%s", o->key, v->text);
        return !configs_is_file(c, name);
    }
    return false;
}

static st_status choose(builder *b, const override *o)
{
    const st_node *v = o->n ? o->value[0].node : NULL;
    const char *key = o->package ? pool_fmt(&b->pool, "%s@%s", o->key, o->package) : o->key;
    choice made = {.key = key, .where = "command line", .delete = o->kind == OVERRIDE_DELETE};
    if (o->kind == OVERRIDE_FORCE)
        ST_FAIL(b->e, ST_EARG, "command line: %.100s: ++ is for keys; %.60s is a group (+ or none)",
                o->line, o->key);
    if (v && v->kind == ST_NODE_LIST) made.list = v;
    if (v && v->kind == ST_NODE_SCALAR && !node_is_null(v)) made.option = v->text;
    if (v && v->kind == ST_NODE_SCALAR && !v->quoted && v->word && !*v->text) made.option = "";
    for (int64_t i = 0; made.list && i < made.list->n; i++)
        if (made.list->item[i]->kind != ST_NODE_SCALAR)
            ST_FAIL(b->e, ST_EARG, "command line: %.100s: expected names of options", o->line);
    made.any = made.delete &&!o->given;
    if (o->kind == OVERRIDE_ADD) {
        b->append[b->appends++] = (entry){.kind = ENTRY_GROUP,
                                          .name = o->key,
                                          .list = made.list,
                                          .option = made.option,
                                          .package = o->package,
                                          .external = true,
                                          .where = made.where};
        return ST_OK;
    }
    choice *before = choice_find(b, key, made.delete);
    if (before)
        *before = made; /* the last one counts */
    else
        b->choice[b->choices++] = made;
    return ST_OK;
}

/* ---- one list -------------------------------------------------------------------------------- */

/* The entries of a file's list, in order, "_self_" at the end where it is not said. */
static st_status list_read(builder *b, const config_file *f, bool root, entry **out, int64_t *n)
{
    int64_t have = f->defaults ? f->defaults->n : 0, more = root ? b->appends : 0;
    bool self = false, other = false;
    *n = 0;
    *out = st_calloc(have + more + 2, sizeof **out);
    if (!*out) return nomem(b);
    b->entries += have + more;
    if (b->entries > CONFIG_ENTRIES)
        ST_FAIL(b->e, ST_EFORMAT, "%s: more than %d entries of defaults lists", f->place,
                CONFIG_ENTRIES);
    for (int64_t i = 0; i < have; i++) {
        entry *d = &(*out)[(*n)++];
        ST_TRY(entry_read(d, f->defaults->item[i], &b->pool, b->e));
        if (d->kind == ENTRY_SELF && self)
            ST_FAIL(b->e, ST_EFORMAT, "%s: _self_ for the second time", d->where);
        self = self || d->kind == ENTRY_SELF;
        other = other || !d->override;
    }
    if (have + more && !self && (other || !have))
        (*out)[(*n)++] = (entry){.kind = ENTRY_SELF, .where = f->place};
    for (int64_t i = 0; i < more; i++)
        (*out)[(*n)++] = b->append[i];
    return ST_OK;
}

/* Registers the overrides of a list; they must be at its end. */
static st_status list_overrides(builder *b, entry *d, int64_t n, bool late)
{
    const entry *last = NULL;
    for (int64_t i = 0; i < n; i++) {
        if (d[i].kind == ENTRY_SELF) continue;
        if (last && !d[i].override && !d[i].external)
            ST_FAIL(b->e, ST_EFORMAT, "%s: %.80s after \"override %.80s\"; overrides stand last",
                    d[i].where, d[i].name, last->name);
        if (!d[i].override) continue;
        last = &d[i];
        if (late)
            ST_FAIL(b->e, ST_EFORMAT, "%s: no override below an option that is an interpolation",
                    d[i].where);
        const char *key = entry_key(&d[i], &b->pool);
        if (choice_find(b, key, false)) continue;
        choice *more = realloc(b->choice, (size_t)(b->choices + 1) * sizeof *more);
        if (!more) return nomem(b);
        b->choice = more;
        more[b->choices++] =
            (choice){.key = key, .option = d[i].option, .list = d[i].list, .where = d[i].where};
    }
    return ST_OK;
}

/* ---- the walk -------------------------------------------------------------------------------- */

static st_status steps_add(builder *b, steps *s, defaults_step step)
{
    step.package = strdup(step.package);
    step.key = step.key ? strdup(step.key) : NULL;
    step.parent = step.parent ? strdup(step.parent) : NULL;
    void *more = realloc(s->step, (size_t)(s->n + 1) * sizeof *s->step);
    if (more) s->step = more;
    if (more && step.package) {
        s->step[s->n++] = step;
        return ST_OK;
    }
    free(step.package);
    free(step.key);
    free(step.parent);
    return nomem(b);
}

static void steps_free(steps *s)
{
    for (int64_t i = 0; i < s->n; i++) {
        free(s->step[i].package);
        free(s->step[i].key);
        free(s->step[i].parent);
    }
    free(s->step);
    *s = (steps){0};
}

static st_status steps_join(builder *b, steps *to, steps *from)
{
    if (!from->n) return ST_OK;
    void *more = realloc(to->step, (size_t)(to->n + from->n) * sizeof *to->step);
    if (!more) return nomem(b);
    to->step = more;
    memcpy(to->step + to->n, from->step, (size_t)from->n * sizeof *to->step);
    to->n += from->n;
    free(from->step);
    *from = (steps){0};
    return ST_OK;
}

/* Remembers which option a group has; two different ones in one config are refused. */
static st_status choice_known(builder *b, const entry *d)
{
    if (d->kind != ENTRY_GROUP) return ST_OK;
    const char *key = entry_key(d, &b->pool);
    for (int64_t i = 0; i < b->knowns; i++) {
        if (strcmp(b->known[i].key, key) != 0) continue;
        const char *was = b->known[i].option, *now = d->option;
        if ((!was && !now) || (was && now && !strcmp(was, now))) return ST_OK;
        ST_FAIL(b->e, ST_EARG,
                "%s: %.80s is %.60s here and %.60s elsewhere; to change it write \"override %.80s: "
                "%.60s\"",
                d->where, key, now ? now : "null", was ? was : "null", key, now ? now : "null");
    }
    known *more = realloc(b->known, (size_t)(b->knowns + 1) * sizeof *more);
    if (!more) return nomem(b);
    b->known = more;
    more[b->knowns++] = (known){key, d->option, entry_group(d, &b->pool)};
    return ST_OK;
}

static bool choice_deletes(builder *b, const entry *d)
{
    choice *c = d->kind == ENTRY_GROUP ? choice_find(b, entry_key(d, &b->pool), true) : NULL;
    if (!c) return false;
    bool same = c->option && d->option && !strcmp(c->option, d->option);
    if (!c->any && !same && (c->option || d->option)) return false;
    return c->used = true;
}

static st_status walk(builder *b, entry *d, bool late, const chain *up, steps *out);

/* "${db}" in an option or path: the option that group has. */
static st_status entry_interpolate(builder *b, entry *d)
{
    const char *text = d->kind == ENTRY_GROUP ? d->option : entry_config(d, &b->pool);
    const char *done = "", *at;
    for (; (at = strstr(text, "${")); text = at + strcspn(at, "}") + 1) {
        size_t n = strcspn(at, "}") - 2;
        const char *option = NULL;
        for (int64_t i = 0; at[n + 2] && i < b->knowns; i++)
            if (strlen(b->known[i].key) == n && !strncmp(b->known[i].key, at + 2, n))
                option = b->known[i].option;
        if (!option)
            ST_FAIL(b->e, ST_EARG,
                    "%s: %.80s: no group of that name has an option; expected "
                    "${GROUP} of a group in a defaults list",
                    d->where, at);
        done = pool_fmt(&b->pool, "%s%.*s%s", done, (int)(at - text), text, option);
    }
    done = pool_fmt(&b->pool, "%s%s", done, text);
    if (!configs_legal(done)) return configs_no_option(b->c, "", done, d->where, b->e);
    if (d->kind == ENTRY_GROUP)
        d->option = done;
    else
        d->name = pool_fmt(&b->pool, "/%s", done);
    return ST_OK;
}

static bool entry_waits(const entry *d)
{
    const char *text = d->kind == ENTRY_GROUP ? d->option : d->name;
    return d->kind != ENTRY_SELF && text && strstr(text, "${");
}

/* Options in a list, each as a config of its own. */
static st_status walk_options(builder *b, const entry *d, bool late, const chain *up, steps *out)
{
    b->entries += d->list->n;
    if (b->entries > CONFIG_ENTRIES)
        ST_FAIL(b->e, ST_EFORMAT, "%s: more than %d entries", d->where, CONFIG_ENTRIES);
    for (int64_t i = d->list->n - 1; i >= 0; i--) {
        steps below = {0};
        entry one = {.kind = ENTRY_CONFIG,
                     .package = d->package,
                     .optional = d->optional,
                     .where = d->where,
                     .base = d->base,
                     .parent = d->parent};
        const char *option = d->list->item[i]->text;
        if (!configs_legal(option))
            return configs_no_option(b->c, entry_group(d, &b->pool), option, d->where, b->e);
        one.name = pool_fmt(&b->pool, "%s/%s", d->name, option);
        st_status s = walk(b, &one, late, up, &below);
        if (!s) s = steps_join(b, &below, out);
        if (!s) *out = below, below = (steps){0};
        steps_free(&below);
        ST_TRY(s);
    }
    return ST_OK;
}

/* The parts of a list in their order: `slot[i]` has those of entry i. */
static st_status walk_list(builder *b, const config_file *f, entry *d, int64_t n, bool late,
                           const chain *up, steps *slot)
{
    entry_pool *p = &b->pool;
    const char *package = n ? d[0].parent : "";
    for (int64_t i = n - 1; i >= 0; i--) {
        if (d[i].kind == ENTRY_SELF) {
            ST_TRY(steps_add(b, &slot[i],
                             (defaults_step){f, (char *)(uintptr_t)package, NULL,
                                             up->up ? (char *)(uintptr_t)up->up->config : NULL}));
            continue;
        }
        if (d[i].override) continue;
        choice *made = d[i].kind == ENTRY_GROUP ? choice_find(b, entry_key(&d[i], p), false) : NULL;
        if (made) {
            made->used = true;
            d[i].option = made->option;
            d[i].list = made->list;
            d[i].where = made->where;
        }
        if (d[i].list)
            ST_TRY(walk_options(b, &d[i], late, up, &slot[i]));
        else if (!entry_waits(&d[i]))
            ST_TRY(walk(b, &d[i], late, up, &slot[i]));
    }
    for (int64_t i = n - 1; i >= 0; i--) {
        if (d[i].override || d[i].list || !entry_waits(&d[i])) continue;
        ST_TRY(entry_interpolate(b, &d[i]));
        ST_TRY(walk(b, &d[i], true, up, &slot[i]));
    }
    return ST_OK;
}

/* An entry's file: its list, or itself. */
static st_status walk_file(builder *b, entry *d, const config_file *f, bool root, bool late,
                           const chain *up, steps *out)
{
    entry *list = NULL;
    steps *slot = NULL;
    int64_t n = 0;
    st_status s = list_read(b, f, root, &list, &n);
    for (int64_t i = 0; !s && i < n; i++)
        entry_place(&list[i], entry_group(d, &b->pool), entry_package(d, true, &b->pool), &b->pool);
    if (!s) s = list_overrides(b, list, n, late);
    if (!s && !(slot = st_calloc(n + 1, sizeof *slot))) s = nomem(b);
    if (!s) s = walk_list(b, f, list, n, late, up, slot);
    bool some = false; /* a list of overrides only adds nothing of its own */
    for (int64_t i = 0; !s && i < n; i++) {
        some = some || !list[i].override;
        s = steps_join(b, out, &slot[i]);
    }
    if (!s && !some)
        s = steps_add(b, out,
                      (defaults_step){
                          f, (char *)(uintptr_t)entry_package(d, true, &b->pool),
                          d->kind == ENTRY_GROUP ? (char *)(uintptr_t)entry_key(d, &b->pool) : NULL,
                          up->up ? (char *)(uintptr_t)up->up->config : NULL});
    for (int64_t i = 0; slot && i < n; i++)
        steps_free(&slot[i]);
    free(slot);
    free(list);
    return s;
}

static st_status walk_cycle(builder *b, const entry *d, const char *config, const chain *up)
{
    char path[360];
    snprintf(path, sizeof path, "%s", config);
    for (const chain *l = up; l; l = l->up) {
        char more[360];
        snprintf(more, sizeof more, "%.200s -> %.150s", *l->config ? l->config : "the file", path);
        memcpy(path, more, sizeof path);
        if (!strcmp(l->config, config)) break;
    }
    ST_FAIL(b->e, ST_EARG, "%s: the defaults lists go in a circle: %s", d->where, path);
}

static st_status walk(builder *b, entry *d, bool late, const chain *up, steps *out)
{
    const config_file *f;
    const char *group = entry_group(d, &b->pool), *option = d->option;
    if (choice_deletes(b, d)) return ST_OK;
    ST_TRY(choice_known(b, d));
    if (d->kind == ENTRY_GROUP && !option) return ST_OK;
    if (d->kind == ENTRY_GROUP && !strcmp(option, "???"))
        return configs_no_option(b->c, group, "(to be chosen)", d->where, b->e);
    if (d->kind == ENTRY_GROUP && !configs_legal(option))
        return configs_no_option(b->c, group, option, d->where, b->e);
    const char *config = entry_config(d, &b->pool);
    if (b->pool.failed) return nomem(b);
    for (const chain *l = up; l; l = l->up)
        if (!strcmp(l->config, config) || l->depth >= CONFIG_DEPTH)
            return walk_cycle(b, d, config, up);
    ST_TRY(configs_get(b->c, config, &f, b->e));
    if (f->missing) {
        const char *slash = strrchr(config, '/');
        if (d->optional) return ST_OK;
        if (d->kind == ENTRY_GROUP) return configs_no_option(b->c, group, option, d->where, b->e);
        return configs_no_option(b->c, slash ? group : "", slash ? slash + 1 : config, d->where,
                                 b->e);
    }
    entry_set_header(d, f->package, &b->pool);
    chain here = {config, up, up ? up->depth + 1 : 0};
    return walk_file(b, d, f, false, late, &here, out);
}

/* ---- the whole ------------------------------------------------------------------------------- */

static st_status choices_used(const builder *b)
{
    for (int64_t i = 0; i < b->choices; i++) {
        const choice *c = &b->choice[i];
        char like[200] = "";
        size_t n = strcspn(c->key, "@");
        if (c->used) continue;
        for (int64_t k = 0; k < b->knowns && strlen(like) < 120; k++)
            if (strlen(b->known[k].group) == n && !strncmp(b->known[k].group, c->key, n))
                snprintf(like + strlen(like), sizeof like - strlen(like), "%s%.60s",
                         *like ? ", " : "; did you mean ", b->known[k].key);
        if (c->delete)
            ST_FAIL(b->e, ST_EARG, "%s: ~%.80s: no defaults list has it%s", c->where, c->key, like);
        ST_FAIL(b->e, ST_EARG, "%s: %.80s=%.80s: no defaults list has that group%s%s%.80s%s",
                c->where, c->key, c->option ? c->option : "null", like,
                *like ? "" : "; to add it write +", *like ? "" : c->key, *like ? "" : "=OPTION");
    }
    return ST_OK;
}

static st_status steps_unique(const builder *b, const steps *s)
{
    for (int64_t i = 0; i < s->n; i++)
        for (int64_t k = 0; k < i && s->step[i].key; k++)
            if (s->step[k].key && !strcmp(s->step[i].key, s->step[k].key))
                ST_FAIL(b->e, ST_EARG, "%s: group %.80s is in the defaults list twice",
                        s->step[i].file->place, s->step[i].key);
    return ST_OK;
}

st_status defaults_open(defaults_list *out, st_configs *c, const config_file *primary,
                        const override *o, int64_t n, const st_short *shorts, st_err *e)
{
    builder b = {.c = c, .e = e};
    steps all = {0};
    *out = (defaults_list){.config = st_calloc(n + 1, sizeof *out->config)};
    b.choice = st_calloc(n + 1, sizeof *b.choice);
    b.append = st_calloc(n + 1, sizeof *b.append);
    st_status s = out->config && b.choice && b.append ? ST_OK : nomem(&b);
    for (int64_t i = 0; !s && i < n; i++) {
        bool map = o[i].n && o[i].value[0].node->kind == ST_NODE_MAP;
        out->config[i] = map || !configs_is_group(c, o[i].key) || is_short(c, &o[i], shorts);
        if (!out->config[i]) s = choose(&b, &o[i]);
    }
    entry root = {.kind = ENTRY_CONFIG,
                  .name = primary->name,
                  .where = primary->place,
                  .base = "",
                  .parent = ""};
    chain here = {primary->name, NULL, 0};
    if (!s) entry_set_header(&root, primary->package, &b.pool);
    if (!s) s = walk_file(&b, &root, primary, true, false, &here, &all);
    if (!s) s = choices_used(&b);
    if (!s) s = steps_unique(&b, &all);
    if (!s && b.pool.failed) s = nomem(&b);
    out->step = all.step;
    out->n = all.n;
    free(b.choice);
    free(b.known);
    free(b.append);
    pool_close(&b.pool);
    if (s) defaults_close(out);
    return s;
}

void defaults_close(defaults_list *d)
{
    steps all = {d->step, d->n};
    steps_free(&all);
    free(d->config);
    *d = (defaults_list){0};
}
