/* The controls that a structured model has to beat: low rank in the same places, and a dense model
 * whose MLPs are narrower, both of as many parameters as it has. */
/* SPDX-License-Identifier: MIT */
#include "bench/model.h"
#include "store/store.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double control_near = 0.005; /* parameters that are as many as others */

static int64_t control_size(const model_case *c)
{
    return st_model_counts(c->m).parameters;
}

static bool control_like(const model_case *c, const char *control)
{
    model_form f = model_form_of(c->m);
    return strcmp(control, "narrow") == 0 ? !f.structured : f.structured && f.lowrank;
}

/* A model that is this control of `of` already is from now on called one. */
static bool control_there(model_bench *b, const char *control, const model_case *of)
{
    for (int64_t i = 1; i < b->n; i++) {
        double ratio = (double)control_size(&b->c[i]) / (double)control_size(of);
        if (&b->c[i] == of || !control_like(&b->c[i], control)) continue;
        if (fabs(ratio - 1.0) > control_near) continue;
        b->c[i].control = control;
        return true;
    }
    return false;
}

/* Numbers that all hidden units have: rows, columns and biases of the matrices around them. */
static void control_hidden(void *ctx, const st_param *p)
{
    st_side side = st_role_hidden(p->role);
    bool bias = (p->flags & ST_P_BIAS) != 0;
    if (side == ST_SIDE_OUT || (side == ST_SIDE_IN && !bias)) *(int64_t *)ctx += st_numel(p->w);
}

/* Units of the hidden layer for `wanted` parameters. A multiple of 32 where that is near enough,
 * since kernels like those better and a control must not suffer. */
static int64_t control_inner(const st_model *model, const model_outer *m, int64_t dense,
                             int64_t wanted)
{
    int64_t all = 0;
    st_model_params(model, control_hidden, &all);
    double unit = (double)all / (double)m->inner;
    double exact = (double)m->inner - (double)(dense - wanted) / unit;
    double even = 32.0 * round(exact / 32.0);
    bool near = even >= 1.0 && fabs(even - exact) * unit <= control_near * (double)wanted;
    return llround(near ? even : exact);
}

static st_status control_narrow(model_bench *b, const model_case *of, st_err *e)
{
    json_t *config = st_model_config(b->c[0].m);
    const char *gated = json_object_get(config, "intermediate_size") ? "intermediate_size" : NULL;
    const char *key = gated ? gated : b->vision ? "mlp_dim" : "n_inner";
    model_outer m = model_outer_of(b->c[0].m);
    int64_t dense = control_size(&b->c[0]),
            inner = control_inner(b->c[0].m, &m, dense, control_size(of));
    char name[64];
    if (inner < 1 || inner >= m.inner) {
        st_log(ST_LOG_WARN,
               "%s: no narrower dense model beside it: of its %lld parameters and dense's %lld the "
               "MLPs cannot be the difference",
               of->name, (long long)control_size(of), (long long)dense);
        json_decref(config);
        return ST_OK;
    }
    snprintf(name, sizeof name, "dense, %s=%lld", key, (long long)inner);
    json_object_set_new(config, key, json_integer(inner));
    return model_add(b, config, name, "narrow", e);
}

/* "MATRIX=SPEC" for every structured matrix, with low rank instead. */
typedef struct {
    char **map;
    int n;
    char name[ST_SPEC_TEXT]; /* of the first */
    bool mixed;
    st_status status;
    st_err *e;
} control_low;

static void control_matrix(void *ctx, const char *matrix, const st_spec *spec)
{
    control_low *l = ctx;
    st_spec low;
    char text[ST_SPEC_TEXT];
    if (l->status || spec->type == &st_map_dense) return;
    l->status =
        st_spec_fit(&low, st_map_lowrank.name, spec->in, spec->out, st_spec_weights(spec), l->e);
    if (l->status) return;
    st_spec_print(&low, text);
    if (l->n == 0) snprintf(l->name, sizeof l->name, "%s", text);
    l->mixed |= strcmp(l->name, text) != 0;
    if (asprintf(&l->map[l->n], "%s=%s", matrix, text) < 0) {
        l->status = ST_NOMEM(l->e, NULL);
    } else {
        l->n++;
    }
}

static st_status control_lowrank(model_bench *b, const model_case *of, st_err *e)
{
    st_err why = {0};
    json_t *config = NULL;
    control_low l = {.e = &why};
    l.map = st_calloc(model_form_of(of->m).matrices, sizeof *l.map);
    if (!l.map) return ST_NOMEM(e, NULL);
    st_model_matrices(of->m, control_matrix, &l);
    st_status s = l.status;
    if (!s) {
        s = st_model_remap(b->c[0].m, (const char *const *)l.map, l.n, NULL, 0, &config, &why);
    }
    if (l.mixed) snprintf(l.name, sizeof l.name, "lowrank beside %.400s", of->name);
    if (!s) s = model_add(b, config, l.name, "lowrank", &why);
    for (int i = 0; i < l.n; i++)
        free(l.map[i]);
    free(l.map);
    if (s == ST_ESHAPE || s == ST_EUNSUPPORTED) {
        st_log(ST_LOG_WARN, "%s: no low-rank model beside it: %s", of->name, why.msg);
        return ST_OK;
    }
    if (s && e) *e = why;
    return s;
}

st_status model_controls(model_bench *b, st_err *e)
{
    int64_t given = b->n;
    for (int64_t i = 1; i < given; i++) {
        model_form f = model_form_of(b->c[i].m);
        if (!f.structured || f.lowrank) continue;
        if (!control_there(b, "lowrank", &b->c[i])) ST_TRY(control_lowrank(b, &b->c[i], e));
        if (!control_there(b, "narrow", &b->c[i])) ST_TRY(control_narrow(b, &b->c[i], e));
    }
    return ST_OK;
}
