/* Projects matrices of a trained model onto structured types: W' = argmin |W - W'|_F over the type,
 * one matrix after the other (each projection uses all processors), the rest copied. */
/* SPDX-License-Identifier: MIT */
#include "job/job.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const st_model *from, *to;
    const float *flat;
    float *to_flat;
    const st_decompose_opts *o;
    json_t *rows;
    int64_t done, total; /* matrices */
    double before, lost; /* squared norms so far */
    st_err *e;
    st_status status;
} decompose_run;

/* ---- finding parameters ------------------------------------------------------------------------
 */

/* The tensors of one matrix in a model's host block, in the type's order; or one tensor by name. */
typedef struct {
    const char *matrix, *name;
    const float *flat;
    st_theta theta;
    int n;
    st_tensor found;
} decompose_look;

static void decompose_param(void *ctx, const st_param *p)
{
    decompose_look *l = ctx;
    float *data = (float *)(uintptr_t)l->flat + p->offset; /* only targets are written to */
    st_tensor view = st_view(data, ST_F32, p->w.ndim, p->w.dim);
    if (l->name && strcmp(p->name, l->name) == 0) l->found = view;
    if (!l->matrix || !p->matrix || strcmp(p->matrix, l->matrix) != 0) return;
    if (!(p->flags & ST_P_BIAS) && l->n < ST_PARAMS) l->theta.p[l->n++] = view;
}

static st_tensor decompose_find(const st_model *m, const float *flat, const char *name)
{
    decompose_look l = {.name = name, .flat = flat};
    st_model_params(m, decompose_param, &l);
    return l.found;
}

static st_theta decompose_theta(const st_model *m, const float *flat, const char *matrix)
{
    decompose_look l = {.matrix = matrix, .flat = flat};
    st_model_params(m, decompose_param, &l);
    if (l.n == 0) l.theta.p[0] = decompose_find(m, flat, "wte.weight"); /* the tied head */
    return l.theta;
}

typedef struct {
    const char *name;
    st_spec spec;
} decompose_spec;

static void decompose_spec_of(void *ctx, const char *name, const st_spec *spec)
{
    decompose_spec *want = ctx;
    if (strcmp(name, want->name) == 0) want->spec = *spec;
}

/* ---- one matrix --------------------------------------------------------------------------------
 */

/* |w|^2 and |w - v|^2. */
static void decompose_norms(const float *w, const float *v, int64_t n, double *total, double *lost)
{
    double a = 0.0, b = 0.0;
    for (int64_t i = 0; i < n; i++) {
        double x = (double)w[i], d = x - (double)v[i];
        a += x * x;
        b += d * d;
    }
    *total = a;
    *lost = b;
}

static void decompose_row(decompose_run *r, const char *name, const st_spec *from,
                          const st_spec *to, double total, double lost, double seconds)
{
    char text[ST_SPEC_TEXT], old[ST_SPEC_TEXT];
    st_spec_print(to, text);
    st_spec_print(from, old);
    double share = total > 0.0 ? lost / total : 0.0;
    json_array_append_new(
        r->rows, json_pack("{s:s, s:s, s:s, s:I, s:I, s:f, s:f, s:f}", "name", name, "spec", text,
                           "from", old, "parameters", (json_int_t)st_spec_weights(to),
                           "parameters_before", (json_int_t)st_spec_weights(from), "energy",
                           1.0 - share, "error", sqrt(share), "seconds", seconds));
    r->before += total;
    r->lost += lost;
}

static st_status decompose_one(decompose_run *r, const char *name, const st_spec *from,
                               const st_spec *to, st_err *e)
{
    double start = st_now();
    int64_t n = to->in * to->out;
    st_theta old = decompose_theta(r->from, r->flat, name);
    st_theta new = decompose_theta(r->to, r->to_flat, name);
    float *w = NULL, *v = st_calloc(n, sizeof *v);
    bool dense = from->type == &st_map_dense;
    if (!dense) w = st_calloc(n, sizeof *w);
    if (!v || (!dense && !w)) {
        free(w);
        free(v);
        ST_FAIL(e, ST_ENOMEM, "%s: out of memory", name);
    }
    st_tensor source = dense ? old.p[0] : st_view2(w, ST_F32, to->out, to->in);
    st_project_opts how = {.randomized = r->o->randomized, .seed = r->o->seed ^ st_hash_name(name)};
    st_status s = dense ? ST_OK : st_map_expand(from, &old, source, e);
    if (!s) s = to->type->project(to, source, &new, &how, e);
    if (!s) s = st_map_expand(to, &new, st_view2(v, ST_F32, to->out, to->in), e);
    if (!s) {
        double total, lost;
        decompose_norms(source.data, v, n, &total, &lost);
        decompose_row(r, name, from, to, total, lost, st_now() - start);
    } else {
        st_err_prefix(e, "%s", name);
    }
    free(w);
    free(v);
    return s;
}

/* ---- the walk ----------------------------------------------------------------------------------
 */

static void decompose_copy(void *ctx, const st_param *p)
{
    decompose_run *r = ctx;
    st_tensor old = decompose_find(r->from, r->flat, p->name);
    if (!old.data || st_numel(old) != st_numel(p->w)) return;
    memcpy(r->to_flat + p->offset, old.data, st_bytes(old));
}

static void decompose_visit(void *ctx, const char *name, const st_spec *to)
{
    decompose_run *r = ctx;
    decompose_spec from = {.name = name};
    st_model_matrices(r->from, decompose_spec_of, &from);
    if (r->status || st_spec_equal(&from.spec, to)) return;
    if (st_interrupted()) {
        r->status = st_fail(r->e, ST_EINTR, __FILE__, __LINE__, "interrupted; nothing was written");
        return;
    }
    st_report(&(st_progress){.what = "decompose",
                             .done = r->done,
                             .total = r->total,
                             .unit = "matrices",
                             .detail = name});
    r->status = decompose_one(r, name, &from.spec, to, r->e);
    r->done++;
}

static void decompose_total(void *ctx, const char *name, const st_spec *to)
{
    decompose_run *r = ctx;
    decompose_spec from = {.name = name};
    st_model_matrices(r->from, decompose_spec_of, &from);
    if (!st_spec_equal(&from.spec, to)) r->total++;
}

static st_status decompose_all(decompose_run *r, st_err *e)
{
    r->e = e;
    /* Everything of the same name and size first; projections then overwrite what they make. */
    st_model_params(r->to, decompose_copy, r);
    st_model_matrices(r->to, decompose_total, r);
    st_model_matrices(r->to, decompose_visit, r);
    ST_TRY(r->status);
    char detail[64];
    snprintf(detail, sizeof detail, "%.2f %% of the energy kept",
             r->before > 0.0 ? 100.0 * (1.0 - r->lost / r->before) : 100.0);
    st_report(&(st_progress){.what = "decompose",
                             .done = r->done,
                             .total = r->total,
                             .unit = "matrices",
                             .detail = detail,
                             .last = true});
    return ST_OK;
}

st_status st_decompose_weights(const st_model *from, const float *flat, const st_decompose_opts *o,
                               st_model **to, float **to_flat, json_t **matrices, st_err *e)
{
    json_t *config = NULL;
    *to = NULL;
    *to_flat = NULL;
    *matrices = NULL;
    st_status s = st_model_remap(from, o->maps, o->nmaps, o->skip, o->nskip, &config, e);
    if (!s) s = st_model_open(to, config, e);
    json_decref(config);
    if (!s) *to_flat = st_calloc(st_model_elements(*to), sizeof **to_flat);
    if (!s && !*to_flat) s = st_fail(e, ST_ENOMEM, __FILE__, __LINE__, "out of memory");
    decompose_run r = {
        .from = from, .to = *to, .flat = flat, .to_flat = *to_flat, .o = o, .rows = json_array()};
    if (!s) s = decompose_all(&r, e);
    *matrices = r.rows;
    if (!s) return ST_OK;
    json_decref(*matrices);
    free(*to_flat);
    st_model_close(*to);
    *matrices = NULL;
    *to_flat = NULL;
    *to = NULL;
    return s;
}

/* Fails early, before minutes of work, where OUT could not be written. */
static st_status decompose_room(const char *out, bool replace, st_err *e)
{
    st_outdir dir = {0};
    ST_TRY(st_outdir_open(&dir, out, replace, e));
    st_outdir_discard(&dir);
    return ST_OK;
}

static st_status decompose_result(const st_model *from, const st_model *to, const char *out,
                                  json_t *matrices, double seconds, json_t **result, st_err *e)
{
    double kept = 0.0;
    size_t i;
    json_t *row;
    json_array_foreach(matrices, i, row)
    {
        kept += json_number_value(json_object_get(row, "energy"));
    }
    *result = json_pack("{s:s, s:f, s:I, s:I, s:f, s:O}", "out", out, "seconds", seconds,
                        "parameters", (json_int_t)st_model_counts(to).parameters,
                        "parameters_before", (json_int_t)st_model_counts(from).parameters,
                        "mean_energy", i ? kept / (double)i : 1.0, "matrices", matrices);
    if (!*result) ST_FAIL(e, ST_ENOMEM, "out of memory");
    return ST_OK;
}

st_status st_decompose(const char *in, const char *out, const st_decompose_opts *o, json_t **result,
                       st_err *e)
{
    st_model *from = NULL, *to = NULL;
    float *flat = NULL, *to_flat = NULL;
    st_bpe *tokenizer = NULL;
    json_t *matrices = NULL;
    double start = st_now();
    st_status s = decompose_room(out, o->replace, e);
    if (!s) s = st_folder_read(in, &from, &flat, &tokenizer, e);
    if (!s) s = st_decompose_weights(from, flat, o, &to, &to_flat, &matrices, e);
    if (!s) s = st_folder_save(out, o->replace, to, to_flat, o->dtype, tokenizer, e);
    if (!s) s = decompose_result(from, to, out, matrices, st_now() - start, result, e);
    json_decref(matrices);
    st_bpe_close(tokenizer);
    free(flat);
    free(to_flat);
    st_model_close(from);
    st_model_close(to);
    return s;
}
