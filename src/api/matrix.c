/* Structured matrices by themselves, in float32 on the CPU. */
/* SPDX-License-Identifier: MIT */
#include "api/inner.h"
#include "map/map.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct strut_matrix {
    st_spec spec;
    st_stream *stream;
    st_arena weights, scratch;
    st_theta theta;
    int64_t rows; /* that scratch is for */
    int factors;
    char text[ST_SPEC_TEXT];
    st_param_shape shape[ST_PARAMS];
};

const char *strut_matrix_type(int index)
{
    for (int i = 0; st_map_types[i]; i++) {
        if (i == index) return st_map_types[i]->name;
    }
    return NULL;
}

/* ---- opening --------------------------------------------------------------------------------- */

static void matrix_take(const strut_matrix *m, st_arena *a, st_theta *t)
{
    for (int i = 0; i < m->factors; i++)
        t->p[i] = st_take(a, ST_F32, m->shape[i].ndim, m->shape[i].dim);
}

static st_status matrix_open(strut_matrix *m, const char *spec, int64_t in, int64_t out,
                             uint64_t seed, st_err *e)
{
    st_arena plan = {0};
    st_theta nowhere;
    float std = 0.02f;
    if (!spec) ST_FAIL(e, ST_EARG, "strut_matrix_open: no spec is given");
    ST_TRY(st_spec_parse(&m->spec, spec, in, out, e));
    st_spec_print(&m->spec, m->text);
    m->factors = m->spec.type->params(&m->spec, std, m->shape);
    ST_TRY(st_stream_open(&m->stream, "cpu", 0, e));
    ST_TRY(st_arena_open_counting(&plan, e));
    matrix_take(m, &plan, &nowhere);
    st_status s = st_arena_open(&m->weights, plan.peak, e);
    st_arena_close(&plan);
    if (s) return s;
    matrix_take(m, &m->weights, &m->theta);
    st_fresh_opts how = {
        .law = ST_FRESH_DENSE, .std = std, .range = std, .seed = seed, .name = "w"};
    st_map_fresh(&m->spec, &how, &m->theta, (st_tensor){0});
    return ST_OK;
}

int strut_matrix_open(strut_matrix **matrix, const char *spec, int64_t inputs, int64_t outputs,
                      uint64_t seed, strut_error *error)
{
    st_err e = {0};
    strut_matrix *m = *matrix = calloc(1, sizeof *m);
    st_status s =
        m ? matrix_open(m, spec, inputs, outputs, seed, &e) : ST_NOMEM(&e, "strut_matrix_open");
    if (s) {
        strut_matrix_close(m);
        *matrix = NULL;
    }
    return api_done(s, &e, error);
}

void strut_matrix_close(strut_matrix *matrix)
{
    if (!matrix) return;
    st_arena_close(&matrix->weights);
    st_arena_close(&matrix->scratch);
    st_stream_close(matrix->stream);
    free(matrix);
}

const char *strut_matrix_spec(const strut_matrix *matrix)
{
    return matrix->text;
}

int64_t strut_matrix_parameters(const strut_matrix *matrix)
{
    return st_spec_weights(&matrix->spec);
}

int strut_matrix_factor(strut_matrix *matrix, int index, const char **name, int *ndim,
                        int64_t dims[4], float **numbers)
{
    if (index < 0 || index >= matrix->factors) return 0;
    const st_param_shape *p = &matrix->shape[index];
    *name = p->name;
    *ndim = p->ndim;
    memcpy(dims, p->dim, sizeof p->dim);
    *numbers = matrix->theta.p[index].data;
    return 1;
}

/* ---- numbers --------------------------------------------------------------------------------- */

static st_status matrix_finite(const float *x, int64_t n, const char *what, st_err *e)
{
    for (int64_t i = 0; i < n; i++) {
        if (x[i] - x[i] == 0.0f) continue;
        ST_FAIL(e, ST_EARG, "%s: number %lld is %g; expected finite numbers", what, (long long)i,
                (double)x[i]);
    }
    return ST_OK;
}

int strut_matrix_project(strut_matrix *matrix, const float *w, const float *covariance,
                         double *error_norm, strut_error *error)
{
    st_err e = {0};
    st_start start;
    st_fit fit = {0};
    st_spec *spec = &matrix->spec;
    st_tensor to = st_view2((float *)(uintptr_t)w, ST_F32, spec->out, spec->in);
    st_project_opts how = {.in_cov = covariance, .std = 0.02f};
    st_status s = matrix_finite(w, spec->out * spec->in, "w", &e);
    if (!s && covariance) s = matrix_finite(covariance, spec->in * spec->in, "covariance", &e);
    if (!s) s = st_start_parse(&start, spec, NULL, &e);
    if (!s) s = st_map_start(spec, &start, to, &matrix->theta, &how, &fit, &e);
    if (error_norm) *error_norm = fit.total > 0 ? sqrt(fit.lost / fit.total) : 0.0;
    return api_done(s, &e, error);
}

int strut_matrix_expand(const strut_matrix *matrix, float *w, strut_error *error)
{
    st_err e = {0};
    st_tensor to = st_view2(w, ST_F32, matrix->spec.out, matrix->spec.in);
    return api_done(st_map_expand(&matrix->spec, &matrix->theta, to, &e), &e, error);
}

/* Scratch for `rows` rows, by a dry run. */
static st_status matrix_scratch(strut_matrix *m, int64_t rows, st_err *e)
{
    st_stream *dry = NULL;
    st_arena plan = {0};
    if (rows <= m->rows) return ST_OK;
    st_status s = st_stream_dry(&dry, m->stream, e);
    if (!s) s = st_arena_open_counting(&plan, e);
    if (!s) {
        float none;
        st_map_call c = {.q = dry, .spec = &m->spec, .theta = &m->theta, .tmp = &plan};
        c.x = st_view2(&none, ST_F32, rows, m->spec.in);
        c.y = st_view2(&none, ST_F32, rows, m->spec.out);
        m->spec.type->forward(&c);
        st_arena_close(&m->scratch);
        m->rows = 0;
        s = st_arena_open(&m->scratch, plan.peak, e);
    }
    if (!s) m->rows = rows;
    st_arena_close(&plan);
    st_stream_close(dry);
    return s;
}

int strut_matrix_apply(strut_matrix *matrix, const float *x, int64_t rows, float *y,
                       strut_error *error)
{
    st_err e = {0};
    const st_spec *spec = &matrix->spec;
    st_status s = ST_OK;
    if (rows < 0 || rows > INT32_MAX) {
        s = ST_ERR(&e, ST_EARG, "strut_matrix_apply: %lld rows", (long long)rows);
    }
    if (!s && rows) s = matrix_scratch(matrix, rows, &e);
    if (!s && rows) {
        st_arena_rewind(&matrix->scratch, 0);
        st_map_call c = {.q = matrix->stream,
                         .spec = spec,
                         .theta = &matrix->theta,
                         .x = st_view2((float *)(uintptr_t)x, ST_F32, rows, spec->in),
                         .y = st_view2(y, ST_F32, rows, spec->out),
                         .tmp = &matrix->scratch};
        spec->type->forward(&c);
        s = st_stream_sync(matrix->stream, &e);
    }
    return api_done(s, &e, error);
}
