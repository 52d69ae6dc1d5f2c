/* Parameter groups: which learning rate and weight decay each parameter has. For all of them
 *   lr      train.lr along train.schedule
 *   decay   train.weight_decay on matrices, factors that set the size of their W, and (unless
 *           train.decay_embeddings=false) embeddings; 0 on norms, biases, scalars, kron's b
 * and then, key by key, what the entries of train.groups say that match, later ones last. A rate of
 * a group's own runs through the same schedule: its last value has the ratio to it that
 * train.min_lr has to train.lr. */
/* SPDX-License-Identifier: MIT */
#include "store/store.h"
#include "train/inner.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- what a parameter is --------------------------------------------------------------------- */

static bool groups_factor(const st_param *p)
{
    return p->flags & ST_P_FACTOR && p->w.ndim > 1;
}

static bool groups_scalar(const st_param *p)
{
    return p->flags & ST_P_FACTOR && p->w.ndim <= 1;
}

static bool groups_matrix(const st_param *p)
{
    return !(p->flags & (ST_P_FACTOR | ST_P_EMBED | ST_P_NORM | ST_P_BIAS));
}

static bool groups_embedding(const st_param *p)
{
    return (p->flags & ST_P_EMBED) != 0;
}

static bool groups_norm(const st_param *p)
{
    return (p->flags & ST_P_NORM) != 0;
}

static bool groups_bias(const st_param *p)
{
    return p->flags & ST_P_BIAS && !groups_norm(p);
}

static const struct {
    const char *name;
    bool (*is)(const st_param *p);
} groups_class[] = {
    {"factors", groups_factor},       {"scalars", groups_scalar}, {"matrices", groups_matrix},
    {"embeddings", groups_embedding}, {"norms", groups_norm},     {"biases", groups_bias},
};
enum { CLASSES = sizeof groups_class / sizeof groups_class[0] };

/* Index of a class's name, or -1. */
static int groups_find(const char *name)
{
    for (int i = 0; i < CLASSES; i++)
        if (strcmp(groups_class[i].name, name) == 0) return i;
    return -1;
}

static bool groups_match(const char *name, const st_param *p)
{
    int i = groups_find(name);
    return i >= 0 ? groups_class[i].is(p) : st_glob_match(name, p->name);
}

/* ---- its group ------------------------------------------------------------------------------- */

static st_group groups_of(const st_pace *pace, const st_param *p)
{
    const st_settings *set = pace->set;
    bool decay = (p->flags & ST_P_DECAY) != 0;
    if (p->flags & ST_P_EMBED) decay = decay && set->train.decay_embeddings == 1;
    st_group g = {.name = "default",
                  .lr = set->train.lr,
                  .min_lr = pace->min_lr,
                  .decay = decay ? set->train.weight_decay : 0.0,
                  .schedule = true};
    const char *name;
    json_t *entry;
    json_object_foreach(set->train.groups, name, entry)
    {
        if (!groups_match(name, p)) continue;
        const json_t *lr = json_object_get(entry, "lr"), *own = json_object_get(entry, "decay"),
                     *schedule = json_object_get(entry, "schedule"),
                     *freeze = json_object_get(entry, "freeze");
        if (lr || schedule) g.name = name;
        if (lr) g.lr = json_number_value(lr);
        if (lr) g.min_lr = set->train.lr > 0 ? pace->min_lr * (g.lr / set->train.lr) : 0.0;
        if (own) g.decay = json_number_value(own);
        if (schedule) g.schedule = json_is_true(schedule);
        if (freeze) g.frozen = json_is_true(freeze);
    }
    return g;
}

static bool groups_same(const st_group *a, const st_group *b)
{
    if (a->frozen || b->frozen) return a->frozen == b->frozen;
    return a->lr == b->lr && a->min_lr == b->min_lr && a->decay == b->decay &&
           a->schedule == b->schedule;
}

static st_lr_curve groups_curve(const st_pace *p)
{
    return (st_lr_curve){.kind = (st_lr_schedule)p->set->train.schedule,
                         .start = (st_warmup_start)p->set->train.warmup_start,
                         .warmup = p->warmup,
                         .decay_steps = p->decay_steps};
}

double st_pace_lr(const st_pace *p, int64_t step)
{
    st_lr_curve c = groups_curve(p);
    return st_lr(&c, step, p->set->train.lr, p->min_lr);
}

double st_group_lr(const st_pace *p, const st_group *g, int64_t step)
{
    st_lr_curve c = groups_curve(p);
    return g->schedule ? st_lr(&c, step, g->lr, g->min_lr) : g->lr;
}

/* The range that holds p says it. */
bool st_groups_frozen(const st_net *n, const st_param *p)
{
    int64_t i = 0;
    while (i + 1 < n->ranges && n->range[i + 1].offset <= p->offset)
        i++;
    return n->range[i].group.frozen;
}

/* ---- all of them ----------------------------------------------------------------------------- */

struct groups_walk {
    st_net *n;
    const st_pace *pace;
    const char **names; /* of all parameters, NULL-terminated */
    int64_t count;
};

/* Neighbours that are trained alike are one range; the padding between them has no gradient. */
static void groups_param(void *ctx, const st_param *p)
{
    struct groups_walk *w = ctx;
    st_net *n = w->n;
    st_group g = groups_of(w->pace, p);
    int64_t end = p->offset + st_numel(p->w);
    st_range *last = n->ranges ? &n->range[n->ranges - 1] : NULL;
    assert(!last || last->offset + last->n <= p->offset);
    w->names[w->count++] = p->name;
    if (g.frozen) n->frozen += st_numel(p->w);
    if (last && groups_same(&last->group, &g))
        last->n = end - last->offset;
    else
        n->range[n->ranges++] = (st_range){p->offset, end - p->offset, g};
}

static void groups_count(void *ctx, const st_param *p)
{
    (void)p;
    ++*(int64_t *)ctx;
}

/* A glob that matches nothing is a typing error; a class may be empty in this model. */
static st_status groups_check(const struct groups_walk *w, st_err *e)
{
    const char *name;
    json_t *entry;
    char place[256];
    st_set_place(w->pace->set, "train.groups", place, sizeof place);
    json_object_foreach(w->pace->set->train.groups, name, entry)
    {
        bool used = groups_find(name) >= 0;
        for (int64_t i = 0; !used && i < w->count; i++)
            used = st_glob_match(name, w->names[i]);
        if (used) continue;
        const char *list[CLASSES + 1] = {NULL};
        for (int i = 0; i < CLASSES; i++)
            list[i] = groups_class[i].name;
        const char *near = st_nearest(name, list);
        if (!near) near = st_nearest(name, w->names);
        ST_FAIL(e, ST_EARG,
                "%s.%.80s: matches no parameter%s%s%s; expected factors, scalars, matrices, "
                "embeddings, norms, biases or a glob (strut train --dry-run lists the names)",
                place, name, near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    }
    if (w->n->frozen < w->n->parameters) return ST_OK;
    ST_FAIL(e, ST_EARG, "%s: every parameter is frozen; nothing is left to train", place);
}

st_status st_groups_open(st_net *n, const st_pace *p, st_err *e)
{
    int64_t count = 0;
    st_model_params(n->model, groups_count, &count);
    struct groups_walk w = {.n = n, .pace = p, .names = st_calloc(count + 1, sizeof *w.names)};
    n->range = st_calloc(count, sizeof *n->range);
    st_status s = ST_OK;
    if (!n->range || !w.names) s = ST_NOMEM(e, "trainer");
    if (!s) st_model_params(n->model, groups_param, &w);
    if (!s) s = groups_check(&w, e);
    free(w.names);
    return s;
}

static bool groups_frozen(void *ctx, const st_param *p)
{
    return st_groups_frozen(*(const st_net *const *)ctx, p);
}

void st_groups_freeze(const st_net *n)
{
    if (n->frozen) st_model_freeze(n->model, groups_frozen, &n);
}

struct groups_list {
    const st_pace *pace;
    json_t *list;
};

static void groups_row(void *ctx, const st_param *p)
{
    struct groups_list *l = ctx;
    st_group g = groups_of(l->pace, p);
    json_t *shape = json_array();
    for (int i = 0; i < p->w.ndim; i++)
        json_array_append_new(shape, json_integer(p->w.dim[i]));
    json_array_append_new(l->list, json_pack("{s:s, s:o, s:f, s:f, s:b, s:b}", "name", p->name,
                                             "shape", shape, "lr", g.lr, "decay", g.decay,
                                             "schedule", (int)g.schedule, "frozen", (int)g.frozen));
}

json_t *st_groups_json(const st_net *n, const st_pace *p)
{
    struct groups_list l = {p, json_array()};
    if (l.list) st_model_params(n->model, groups_row, &l);
    return l.list;
}
