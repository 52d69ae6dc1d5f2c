/* Sets the matrices of a decomposition. They are spread over threads with LAPACK single-threaded in
 * each: half of a singular value decomposition does not run in parallel, so threads inside it are
 * mostly idle. */
/* SPDX-License-Identifier: MIT */
#include "job/decompose.h"
#include "linalg/linalg.h"
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

st_tensor st_decompose_find(const st_model *m, const float *flat, const char *name)
{
    decompose_look l = {.name = name, .flat = flat};
    st_model_params(m, decompose_param, &l);
    return l.found;
}

st_theta st_decompose_theta(const st_model *m, const float *flat, const char *matrix)
{
    decompose_look l = {.matrix = matrix, .flat = flat};
    st_model_params(m, decompose_param, &l);
    if (l.n == 0) l.theta.p[0] = st_decompose_find(m, flat, "wte.weight"); /* the tied head */
    return l.theta;
}

/* ---- one matrix ----------------------------------------------------------------------------- */

static st_status decompose_one(const st_decompose_run *r, st_decompose_item *x, st_err *e)
{
    double start = st_now();
    st_theta old = st_decompose_theta(r->from, r->flat, x->name);
    st_theta new = st_decompose_theta(r->to, r->to_flat, x->name);
    bool dense = x->from.type == &st_map_dense;
    float *w = dense ? NULL : st_calloc(x->to.in * x->to.out, sizeof *w);
    st_status s = ST_OK;
    if (!dense && !w) s = st_fail(e, ST_ENOMEM, __FILE__, __LINE__, "out of memory");
    st_tensor source = dense ? old.p[0] : st_view2(w, ST_F32, x->to.out, x->to.in);
    st_project_opts how = {.randomized = r->o->randomized,
                           .seed = r->o->seed,
                           .gauge = r->o->gauge,
                           .scalars = r->o->scalars,
                           .nscalars = r->o->nscalars,
                           .std = x->std,
                           .name = x->name};
    if (!s && !dense) s = st_map_expand(&x->from, &old, source, e);
    if (!s) s = st_map_start(&x->to, &x->start, source, &new, &how, &x->fit, e);
    if (s) st_err_prefix(e, "%s", x->name);
    x->seconds = st_now() - start;
    free(w);
    return s;
}

/* ---- all of them ---------------------------------------------------------------------------- */

typedef struct {
    st_decompose_run *run;
    pthread_mutex_t lock; /* of what follows */
    int64_t next, done;
    st_err err;
    st_status status;
} decompose_team;

static void decompose_say(const decompose_team *r, const char *detail, bool last)
{
    st_report(&(st_progress){.what = "decompose",
                             .done = r->done,
                             .total = r->run->n,
                             .unit = "matrices",
                             .detail = detail,
                             .last = last});
}

/* Takes matrices until there are none or something went wrong. */
static void *decompose_work(void *arg)
{
    decompose_team *r = arg;
    pthread_mutex_lock(&r->lock);
    while (!r->status && r->next < r->run->n) {
        if (st_interrupted()) {
            r->status =
                st_fail(&r->err, ST_EINTR, __FILE__, __LINE__, "interrupted; nothing was written");
            break;
        }
        st_decompose_item *x = &r->run->item[r->next++];
        st_err err = {0};
        decompose_say(r, x->name, false);
        pthread_mutex_unlock(&r->lock);
        st_status s = decompose_one(r->run, x, &err);
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

static void decompose_spread(decompose_team *r)
{
    st_stream *q = NULL; /* knows how many threads are ours */
    int64_t workers = st_stream_open(&q, "cpu", 0, NULL) == ST_OK ? st_stream_threads(q) : 1;
    st_stream_close(q);
    if (workers > r->run->n) workers = r->run->n;
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

st_status st_decompose_all(st_decompose_run *r, st_err *e)
{
    decompose_team t = {.run = r};
    pthread_mutex_init(&t.lock, NULL);
    decompose_spread(&t);
    pthread_mutex_destroy(&t.lock);
    if (t.status && e) *e = t.err;
    ST_TRY(t.status);
    double total = 0.0, kept = 0.0;
    for (int64_t i = 0; i < r->n; i++) {
        total += r->item[i].fit.total;
        kept += r->item[i].fit.total * r->item[i].fit.energy;
    }
    char detail[64];
    snprintf(detail, sizeof detail, "%.2f %% of the energy captured",
             total > 0.0 ? 100.0 * kept / total : 100.0);
    decompose_say(&t, detail, true);
    return ST_OK;
}
