/* Projects matrices of a trained model onto structured types: W' = argmin |W - W'|_F over the type,
 * the rest copied. Matrices are spread over threads with LAPACK single-threaded in each: half of a
 * singular value decomposition does not run in parallel, so threads inside it are mostly idle. */
/* SPDX-License-Identifier: MIT */
#include "job/job.h"
#include "linalg/linalg.h"
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One matrix that changes. */
typedef struct {
    const char *name;
    st_spec from, to;
    double total, lost, seconds; /* |W|^2, |W - W'|^2 */
} decompose_item;

typedef struct {
    const st_model *from, *to;
    const float *flat;
    float *to_flat;
    const st_decompose_opts *o;
    decompose_item *item;
    int64_t n;
    pthread_mutex_t lock; /* of what follows */
    int64_t next, done;
    st_err err;
    st_status status;
} decompose_run;

/* ---- finding parameters --------------------------------------------------------------------- */

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

/* ---- one matrix ----------------------------------------------------------------------------- */

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

static st_status decompose_one(const decompose_run *r, decompose_item *x, st_err *e)
{
    double start = st_now();
    int64_t n = x->to.in * x->to.out;
    st_theta old = decompose_theta(r->from, r->flat, x->name);
    st_theta new = decompose_theta(r->to, r->to_flat, x->name);
    bool dense = x->from.type == &st_map_dense;
    float *v = st_calloc(n, sizeof *v), *w = dense ? NULL : st_calloc(n, sizeof *w);
    st_status s = ST_OK;
    if (!v || (!dense && !w)) s = st_fail(e, ST_ENOMEM, __FILE__, __LINE__, "out of memory");
    st_tensor source = dense ? old.p[0] : st_view2(w, ST_F32, x->to.out, x->to.in);
    st_project_opts how = {.randomized = r->o->randomized,
                           .seed = r->o->seed ^ st_hash_name(x->name)};
    if (!s && !dense) s = st_map_expand(&x->from, &old, source, e);
    if (!s) s = x->to.type->project(&x->to, source, &new, &how, e);
    if (!s) s = st_map_expand(&x->to, &new, st_view2(v, ST_F32, x->to.out, x->to.in), e);
    if (!s) decompose_norms(source.data, v, n, &x->total, &x->lost);
    if (s) st_err_prefix(e, "%s", x->name);
    x->seconds = st_now() - start;
    free(w);
    free(v);
    return s;
}

/* ---- all of them ---------------------------------------------------------------------------- */

static void decompose_copy(void *ctx, const st_param *p)
{
    decompose_run *r = ctx;
    st_tensor old = decompose_find(r->from, r->flat, p->name);
    if (!old.data || st_numel(old) != st_numel(p->w)) return;
    memcpy(r->to_flat + p->offset, old.data, st_bytes(old));
}

static void decompose_count(void *ctx, const char *name, const st_spec *to)
{
    (void)name, (void)to;
    ++*(int64_t *)ctx;
}

static void decompose_list(void *ctx, const char *name, const st_spec *to)
{
    decompose_run *r = ctx;
    decompose_spec from = {.name = name};
    st_model_matrices(r->from, decompose_spec_of, &from);
    if (st_spec_equal(&from.spec, to)) return;
    r->item[r->n++] = (decompose_item){.name = name, .from = from.spec, .to = *to};
}

static void decompose_say(const decompose_run *r, const char *detail, bool last)
{
    st_report(&(st_progress){.what = "decompose",
                             .done = r->done,
                             .total = r->n,
                             .unit = "matrices",
                             .detail = detail,
                             .last = last});
}

/* Takes matrices until there are none or something went wrong. */
static void *decompose_work(void *arg)
{
    decompose_run *r = arg;
    pthread_mutex_lock(&r->lock);
    while (!r->status && r->next < r->n) {
        if (st_interrupted()) {
            r->status =
                st_fail(&r->err, ST_EINTR, __FILE__, __LINE__, "interrupted; nothing was written");
            break;
        }
        decompose_item *x = &r->item[r->next++];
        st_err err = {0};
        decompose_say(r, x->name, false);
        pthread_mutex_unlock(&r->lock);
        st_status s = decompose_one(r, x, &err);
        pthread_mutex_lock(&r->lock);
        r->done++;
        if (!s || r->status) continue;
        r->status = s;
        r->err = err;
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

enum { WORKERS = 64 };

static void decompose_spread(decompose_run *r)
{
    st_stream *q = NULL; /* knows how many threads are ours */
    int64_t workers = st_stream_open(&q, "cpu", 0, NULL) == ST_OK ? st_stream_threads(q) : 1;
    st_stream_close(q);
    if (workers > r->n) workers = r->n;
    if (workers > WORKERS) workers = WORKERS;
    int before = workers > 1 ? st_linalg_threads(1) : 0;
    pthread_t thread[WORKERS];
    int64_t started = 0;
    while (started + 1 < workers && pthread_create(&thread[started], NULL, decompose_work, r) == 0)
        started++;
    decompose_work(r);
    for (int64_t i = 0; i < started; i++)
        pthread_join(thread[i], NULL);
    if (workers > 1) st_linalg_threads(before);
}

static json_t *decompose_rows(const decompose_run *r)
{
    json_t *rows = json_array();
    for (int64_t i = 0; i < r->n; i++) {
        const decompose_item *x = &r->item[i];
        char text[ST_SPEC_TEXT], old[ST_SPEC_TEXT];
        st_spec_print(&x->to, text);
        st_spec_print(&x->from, old);
        double share = x->total > 0.0 ? x->lost / x->total : 0.0;
        json_array_append_new(
            rows, json_pack("{s:s, s:s, s:s, s:I, s:I, s:f, s:f, s:f}", "name", x->name, "spec",
                            text, "from", old, "parameters", (json_int_t)st_spec_weights(&x->to),
                            "parameters_before", (json_int_t)st_spec_weights(&x->from), "energy",
                            1.0 - share, "error", sqrt(share), "seconds", x->seconds));
    }
    return rows;
}

static st_status decompose_all(decompose_run *r, json_t **rows, st_err *e)
{
    int64_t most = 0;
    st_model_matrices(r->to, decompose_count, &most);
    r->item = st_calloc(most, sizeof *r->item);
    if (!r->item) ST_FAIL(e, ST_ENOMEM, "out of memory");
    st_model_matrices(r->to, decompose_list, r);
    /* Everything of the same name and size first; projections then overwrite what they make. */
    st_model_params(r->to, decompose_copy, r);
    pthread_mutex_init(&r->lock, NULL);
    decompose_spread(r);
    pthread_mutex_destroy(&r->lock);
    if (r->status && e) *e = r->err;
    ST_TRY(r->status);
    double total = 0.0, lost = 0.0;
    for (int64_t i = 0; i < r->n; i++) {
        total += r->item[i].total;
        lost += r->item[i].lost;
    }
    char detail[64];
    snprintf(detail, sizeof detail, "%.2f %% of the energy kept",
             total > 0.0 ? 100.0 * (1.0 - lost / total) : 100.0);
    decompose_say(r, detail, true);
    *rows = decompose_rows(r);
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
    decompose_run r = {.from = from, .to = *to, .flat = flat, .to_flat = *to_flat, .o = o};
    if (!s) s = decompose_all(&r, matrices, e);
    free(r.item);
    if (!s) return ST_OK;
    free(*to_flat);
    st_model_close(*to);
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
