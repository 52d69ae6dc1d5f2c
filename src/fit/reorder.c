/* What is done to a model before it is decomposed, and leaves its function alone: layer norms
 * folded into the matrices after them, hidden units grouped, units and channels permuted. */
/* SPDX-License-Identifier: MIT */
#include "fit/calibrate.h"
#include "fit/permute.h"
#include "linalg/linalg.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const st_model *from, *to;
    float *flat;
    const st_decompose_opts *o;
    st_units_found *found; /* by layer */
    int64_t *group;        /* by layer; 0: nothing to group */
    float *squares;        /* E[h^2] (layers, inner) on the calibration text; NULL: none */
} changes;

/* The weights of a dense matrix. */
static st_tensor changes_weight(const changes *c, const st_slot *s)
{
    return st_decompose_theta(c->from, c->flat, s->name).p[0];
}

/* Adds side `side` of the matrix, if that is what is permuted and it becomes structured and is
 * dense now. */
static void changes_add(const changes *c, const st_slot *from, st_side side, st_units_side *to,
                        int64_t *n)
{
    const st_spec *spec = st_model_slot(c->to, from->name)->spec;
    if (!side || from->spec->type != &st_map_dense || spec->type == &st_map_dense) return;
    to[(*n)++] = (st_units_side){
        .to = *spec, .w = changes_weight(c, from).data, .of_out = side == ST_SIDE_OUT};
}

/* The largest group that any of the sides ties together; it divides what groups are made of. */
static int64_t changes_group(const st_units_side *side, int64_t sides)
{
    int64_t most = 1;
    for (int64_t i = 0; i < sides; i++) {
        int64_t g = st_spec_tied(&side[i].to, side[i].of_out);
        if (g > most) most = g;
    }
    return most;
}

/* Fails: what is permuted is in no group; a kron of the first MLP's matrix, whose factor B has `in`
 * inputs and `out` outputs, would group it. */
static st_status changes_idle(const changes *c, const char *what, int64_t in, int64_t out,
                              st_err *e)
{
    const st_slot *s = st_model_role(c->from, ST_ROLE_MLP_IN, 0);
    const char *leaf = strrchr(s->name, '.');
    char example[160] = "";
    if (s->spec->in % in == 0 && s->spec->out % out == 0) {
        snprintf(example, sizeof example, "; kron:m1=%lld,n1=%lld for %.60s would",
                 (long long)(s->spec->in / in), (long long)(s->spec->out / out),
                 leaf ? leaf + 1 : s->name);
    }
    ST_FAIL(e, ST_EARG, "%s together, so their order does not matter%s", what, example);
}

/* ---- hidden units ---------------------------------------------------------------------------- */

/* E[h_k^2] |W_out[k, :]|^2: what unit k moves. Without a text the norms of what makes it stand for
 * the mean: their input is taken to be the same for all. */
static st_status changes_importance(const changes *c, int64_t layer, double *importance, st_err *e)
{
    int64_t n = st_model_lm(c->from).inner, slots;
    const st_slot *slot = st_model_slots(c->from, &slots);
    double *norm = st_calloc(n, sizeof *norm);
    if (!norm) return ST_NOMEM(e, "grouping");
    for (int64_t k = 0; k < n; k++)
        importance[k] = c->squares ? (double)c->squares[layer * n + k] : 1.0;
    for (int64_t i = 0; i < slots; i++) {
        st_side side = slot[i].layer == layer ? st_role_hidden(slot[i].role) : ST_SIDE_NONE;
        if (!side || (side == ST_SIDE_OUT && c->squares)) continue;
        st_tensor w = changes_weight(c, &slot[i]);
        st_units_side s = {
            .to = {.in = w.dim[1], .out = w.dim[0]}, .w = w.data, .of_out = side == ST_SIDE_OUT};
        memset(norm, 0, (size_t)n * sizeof *norm);
        st_units_norms(&s, norm);
        for (int64_t k = 0; k < n; k++)
            importance[k] *= norm[k];
    }
    free(norm);
    return ST_OK;
}

/* The sides of a layer's MLP that get structured, and whether its matrices are all dense, so that
 * its units can move. */
static bool changes_mlp(const changes *c, int64_t layer, st_units_side *side, int64_t *sides)
{
    int64_t n;
    const st_slot *slot = st_model_slots(c->from, &n);
    bool movable = true;
    for (int64_t i = 0; i < n; i++) {
        st_side hidden = slot[i].layer == layer ? st_role_hidden(slot[i].role) : ST_SIDE_NONE;
        if (!hidden) continue;
        changes_add(c, &slot[i], hidden, side, sides);
        movable = movable && slot[i].spec->type == &st_map_dense;
    }
    return movable;
}

enum { CHANGES_MLP = 3 }; /* matrices that hidden units have: in, gate, out */

static st_status changes_hidden(void *ctx, int64_t layer, st_err *e)
{
    changes *c = ctx;
    st_units_side side[CHANGES_MLP];
    int64_t sides = 0, n = st_model_lm(c->from).inner;
    bool movable = changes_mlp(c, layer, side, &sides);
    int64_t group = changes_group(side, sides);
    if (group == 1 || !movable) return ST_OK;
    double *importance = st_calloc(n, sizeof *importance);
    int64_t *grouped = st_calloc(2 * n, sizeof *grouped), *order = grouped ? grouped + n : NULL;
    st_status s = ST_OK;
    if (!importance || !grouped) s = ST_NOMEM(e, NULL);
    if (!s) s = changes_importance(c, layer, importance, e);
    if (!s) s = st_units_group(importance, n, group, grouped, e);
    bool search = c->o->permute == ST_PERMUTE_HIDDEN || c->o->permute == ST_PERMUTE_ALL;
    if (!s && search) {
        s = st_units_search(&(st_units_args){.side = side,
                                             .sides = sides,
                                             .n = n,
                                             .grouped = grouped,
                                             .randomized = c->o->randomized,
                                             .seed = c->o->seed},
                            order, &c->found[layer], e);
    }
    if (!s) s = st_model_permute_hidden(c->from, layer, search ? order : grouped, c->flat, e);
    if (!s) c->group[layer] = group;
    if (s) st_err_prefix(e, "MLP of block %lld", (long long)layer);
    free(importance);
    free(grouped);
    return s;
}

static st_status changes_all_hidden(changes *c, json_t *about, st_err *e)
{
    int64_t layers = st_model_lm(c->from).layers;
    c->found = st_calloc(layers, sizeof *c->found);
    c->group = st_calloc(layers, sizeof *c->group);
    if (!c->found || !c->group) return ST_NOMEM(e, NULL);
    if (c->o->nids) {
        ST_TRY(st_calibrate_squares(c->from, c->flat, c->o->ids, c->o->nids, &c->squares, e));
    }
    ST_TRY(st_spread(
        &(st_spread_args){
            .what = "permute", .unit = "blocks", .n = layers, .work = changes_hidden, .ctx = c},
        e));
    json_t *rows = json_array();
    for (int64_t i = 0; i < layers; i++) {
        if (!c->group[i]) continue;
        json_t *row =
            json_pack("{s:I, s:I}", "layer", (json_int_t)i, "group", (json_int_t)c->group[i]);
        if (c->found[i].before > 0.0) {
            json_object_set_new(row, "energy_before", json_real(c->found[i].before));
            json_object_set_new(row, "energy", json_real(c->found[i].after));
            json_object_set_new(row, "turns", json_integer((json_int_t)c->found[i].turns));
        }
        json_array_append_new(rows, row);
    }
    size_t some = json_array_size(rows);
    json_object_set_new(about, "hidden", rows);
    if (some || json_object_get(about, "residual")) return ST_OK;
    return changes_idle(c, "hidden units: none of the new MLPs ties neighbouring units", 1, 2, e);
}

/* ---- residual channels ----------------------------------------------------------------------- */

static st_status changes_residual_search(changes *c, const st_units_side *side, int64_t sides,
                                         json_t *about, st_err *e)
{
    int64_t n = st_model_lm(c->from).width, group = changes_group(side, sides);
    if (group == 1 && c->o->permute == ST_PERMUTE_ALL) return ST_OK; /* hidden units remain */
    if (group == 1) {
        return changes_idle(
            c, "residual channels: none of the new matrices ties neighbouring channels", 2, 1, e);
    }
    double *importance = st_calloc(n, sizeof *importance);
    int64_t *grouped = st_calloc(2 * n, sizeof *grouped), *order = grouped ? grouped + n : NULL;
    st_units_found found = {0};
    st_status s = ST_OK;
    if (!importance || !grouped) s = ST_NOMEM(e, NULL);
    for (int64_t i = 0; i < sides && !s; i++)
        st_units_norms(&side[i], importance);
    st_report(&(st_progress){.what = "permute", .unit = "residual stream", .total = 1});
    if (!s) s = st_units_group(importance, n, group, grouped, e);
    if (!s) {
        s = st_units_search(&(st_units_args){.side = side,
                                             .sides = sides,
                                             .n = n,
                                             .grouped = grouped,
                                             .spread = true,
                                             .randomized = c->o->randomized,
                                             .seed = c->o->seed},
                            order, &found, e);
    }
    if (!s) s = st_model_permute_residual(c->from, order, c->flat, e);
    if (!s) {
        json_object_set_new(about, "residual",
                            json_pack("{s:I, s:f, s:f, s:I}", "group", (json_int_t)group,
                                      "energy_before", found.before, "energy", found.after, "turns",
                                      (json_int_t)found.turns));
    }
    free(importance);
    free(grouped);
    return s;
}

static st_status changes_residual(changes *c, json_t *about, st_err *e)
{
    int64_t n, sides = 0;
    const st_slot *slot = st_model_slots(c->from, &n);
    st_units_side *side = st_calloc(n, sizeof *side);
    if (!side) return ST_NOMEM(e, NULL);
    bool tied = st_model_lm(c->from).tied;
    for (int outside = 0; outside < 2;
         outside++) { /* blocks first: sums over sides have an order */
        for (int64_t i = 0; i < n; i++) {
            if ((slot[i].layer < 0) != outside || (tied && slot[i].role == ST_ROLE_HEAD)) continue;
            changes_add(c, &slot[i], st_role_residual(slot[i].role), side, &sides);
        }
    }
    st_status s = changes_residual_search(c, side, sides, about, e);
    free(side);
    return s;
}

st_status st_decompose_changes(const st_model *from, const st_model *to, float *flat,
                               const st_decompose_opts *o, json_t **about, st_err *e)
{
    changes c = {.from = from, .to = to, .flat = flat, .o = o};
    bool residual = o->permute == ST_PERMUTE_RESIDUAL || o->permute == ST_PERMUTE_ALL;
    bool hidden = o->permute == ST_PERMUTE_HIDDEN || o->permute == ST_PERMUTE_ALL;
    st_status s = ST_OK;
    *about = json_object();
    if (!*about) return ST_NOMEM(e, NULL);
    if (o->fold_norms) {
        s = st_model_fold_norms(from, flat, e);
        json_object_set_new(*about, "folded", json_true());
    }
    if (!s && residual) s = changes_residual(&c, *about, e);
    if (!s && (hidden || o->group_hidden)) s = changes_all_hidden(&c, *about, e);
    free(c.found);
    free(c.group);
    free(c.squares);
    if (!s) return ST_OK;
    json_decref(*about);
    *about = NULL;
    return s;
}
