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

typedef struct {
    const char *name;
    const st_spec *spec;
} changes_spec;

static void changes_spec_of(void *ctx, const char *name, const st_spec *spec)
{
    changes_spec *want = ctx;
    if (strcmp(name, want->name) == 0) want->spec = spec;
}

/* Adds matrix "h.LAYER.NAME" (layer < 0: "NAME") if it becomes structured and is dense now. */
static void changes_add(const changes *c, int64_t layer, const char *name, bool of_out,
                        st_units_side *side, int64_t *n)
{
    char full[64], weight[80];
    snprintf(full, sizeof full, "h.%lld.%s", (long long)layer, name);
    if (layer < 0) snprintf(full, sizeof full, "%s", name);
    snprintf(weight, sizeof weight, "%s.weight", full);
    changes_spec from = {.name = full}, to = {.name = full};
    st_model_matrices(c->from, changes_spec_of, &from);
    st_model_matrices(c->to, changes_spec_of, &to);
    if (!from.spec || !to.spec || from.spec->type != &st_map_dense) return;
    if (to.spec->type == &st_map_dense) return;
    side[(*n)++] = (st_units_side){
        .to = *to.spec, .w = st_decompose_find(c->from, c->flat, weight).data, .of_out = of_out};
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

/* ---- hidden units ---------------------------------------------------------------------------- */

/* E[h_k^2] |W_proj[k, :]|^2: what unit k moves. Without a text |W_fc[:, k]|^2 stands for the mean:
 * its input is taken to be the same for all. */
static st_status changes_importance(const changes *c, int64_t layer, double *importance, st_err *e)
{
    static const char *const name[] = {"mlp.c_fc", "mlp.c_proj"};
    int64_t n = st_model_lm(c->from).inner;
    double *norm = st_calloc(n, sizeof *norm);
    if (!norm) ST_FAIL(e, ST_ENOMEM, "grouping: out of memory");
    for (int64_t k = 0; k < n; k++)
        importance[k] = 1.0;
    for (int64_t k = 0; k < n && c->squares; k++)
        importance[k] = (double)c->squares[layer * n + k];
    for (int m = c->squares ? 1 : 0; m < 2; m++) {
        char full[64];
        snprintf(full, sizeof full, "h.%lld.%s.weight", (long long)layer, name[m]);
        st_tensor w = st_decompose_find(c->from, c->flat, full);
        st_units_side s = {.to = {.in = w.dim[1], .out = w.dim[0]}, .w = w.data, .of_out = !m};
        memset(norm, 0, (size_t)n * sizeof *norm);
        st_units_norms(&s, norm);
        for (int64_t k = 0; k < n; k++)
            importance[k] *= norm[k];
    }
    free(norm);
    return ST_OK;
}

/* Are c_fc and c_proj of the layer dense, so that its units can move? */
static bool changes_movable(const changes *c, int64_t layer)
{
    static const char *const name[] = {"mlp.c_fc", "mlp.c_proj"};
    for (int m = 0; m < 2; m++) {
        char full[64];
        snprintf(full, sizeof full, "h.%lld.%s", (long long)layer, name[m]);
        changes_spec from = {.name = full};
        st_model_matrices(c->from, changes_spec_of, &from);
        if (!from.spec || from.spec->type != &st_map_dense) return false;
    }
    return true;
}

static st_status changes_hidden(void *ctx, int64_t layer, st_err *e)
{
    changes *c = ctx;
    st_units_side side[2];
    int64_t sides = 0, n = st_model_lm(c->from).inner;
    changes_add(c, layer, "mlp.c_fc", true, side, &sides);
    changes_add(c, layer, "mlp.c_proj", false, side, &sides);
    int64_t group = changes_group(side, sides);
    if (group == 1 || !changes_movable(c, layer)) return ST_OK;
    double *importance = st_calloc(n, sizeof *importance);
    int64_t *grouped = st_calloc(2 * n, sizeof *grouped), *order = grouped ? grouped + n : NULL;
    st_status s = ST_OK;
    if (!importance || !grouped) s = ST_ERR(e, ST_ENOMEM, "out of memory");
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
    if (s) st_err_prefix(e, "h.%lld.mlp", (long long)layer);
    free(importance);
    free(grouped);
    return s;
}

static st_status changes_all_hidden(changes *c, json_t *about, st_err *e)
{
    int64_t layers = st_model_lm(c->from).layers;
    c->found = st_calloc(layers, sizeof *c->found);
    c->group = st_calloc(layers, sizeof *c->group);
    if (!c->found || !c->group) ST_FAIL(e, ST_ENOMEM, "out of memory");
    if (c->o->nids) {
        ST_TRY(st_calibrate_squares(c->from, c->flat, c->o->ids, c->o->nids, "mlp.c_proj",
                                    &c->squares, e));
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
    ST_FAIL(e, ST_EARG,
            "hidden units: none of the new MLPs ties neighbouring units together, so their order "
            "does not matter; kron:m1=768,n1=1536 for c_fc would");
}

/* ---- residual channels ----------------------------------------------------------------------- */

enum { CHANGES_SIDES = 4 };

static st_status changes_residual_search(changes *c, const st_units_side *side, int64_t sides,
                                         json_t *about, st_err *e)
{
    int64_t n = st_model_lm(c->from).width, group = changes_group(side, sides);
    if (group == 1 && c->o->permute == ST_PERMUTE_ALL) return ST_OK; /* hidden units remain */
    if (group == 1) {
        ST_FAIL(e, ST_EARG,
                "residual channels: none of the new matrices ties neighbouring channels together, "
                "so their order does not matter; kron:m1=384,n1=3072 for c_fc would");
    }
    double *importance = st_calloc(n, sizeof *importance);
    int64_t *grouped = st_calloc(2 * n, sizeof *grouped), *order = grouped ? grouped + n : NULL;
    st_units_found found = {0};
    st_status s = ST_OK;
    if (!importance || !grouped) s = ST_ERR(e, ST_ENOMEM, "out of memory");
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
    int64_t layers = st_model_lm(c->from).layers, sides = 0;
    st_units_side *side = st_calloc(CHANGES_SIDES * layers + 2, sizeof *side);
    if (!side) ST_FAIL(e, ST_ENOMEM, "out of memory");
    for (int64_t i = 0; i < layers; i++) {
        changes_add(c, i, "attn.c_attn", false, side, &sides);
        changes_add(c, i, "attn.c_proj", true, side, &sides);
        changes_add(c, i, "mlp.c_fc", false, side, &sides);
        changes_add(c, i, "mlp.c_proj", true, side, &sides);
    }
    changes_add(c, -1, "wte", false, side, &sides);
    if (!st_model_lm(c->from).tied) changes_add(c, -1, "lm_head", false, side, &sides);
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
    if (!*about) ST_FAIL(e, ST_ENOMEM, "out of memory");
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
