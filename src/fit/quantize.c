/* A model's matrices rounded to blocks with regard to a text: which of their factors, under which
 * covariance, in which order. */
/* SPDX-License-Identifier: MIT */
#include "fit/quantize.h"
#include "fit/calibrate.h"
#include "linalg/linalg.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Tokens of a sequence. Models attend to a text's first token for want of another: what values are
 * made of there is fed to them once a sequence only, but counts everywhere. Of sequences of 8,192
 * it was too rare to be kept. */
enum { QUANTIZE_LEN = 256 };

/* ---- one matrix ------------------------------------------------------------------------------ */

/* A factor of a matrix as gptq takes it: `count` matrices (rows, n), one behind the other, of which
 * the i-th reads inputs [i n, (i + 1) n), or all of them where there is one. */
typedef struct {
    float *w;
    int64_t count, rows, n;
} quantize_factor;

static quantize_factor quantize_factor_of(st_tensor w)
{
    int last = w.ndim - 1;
    return (quantize_factor){.w = w.data,
                             .count = w.ndim == 3 ? w.dim[0] : 1,
                             .rows = w.dim[last - 1],
                             .n = w.dim[last]};
}

/* Each of the factor's matrices under its part of C (in, in). */
static st_status quantize_under(const quantize_factor *f, st_dtype format, const double *c,
                                int64_t in, st_quantize_errors *errors, st_err *e)
{
    double *part = st_calloc(f->n * f->n, sizeof *part);
    st_status s = part ? ST_OK : ST_NOMEM(e, "quantize");
    for (int64_t i = 0; i < f->count && !s; i++) {
        for (int64_t r = 0; r < f->n; r++)
            memcpy(part + r * f->n, c + (i * f->n + r) * in + i * f->n,
                   (size_t)f->n * sizeof *part);
        s = st_quantize_matrix(f->w + i * f->rows * f->n, f->rows, f->n, format, part, errors, e);
    }
    free(part);
    return s;
}

/* V C V^T (r, r) of v (r, in): what U is fed. New memory; NULL: there is none. */
static double *quantize_inner(const quantize_factor *v, const double *c)
{
    int64_t r = v->rows, in = v->n;
    double *wide = st_calloc(2 * r * in, sizeof *wide), *product = wide + r * in;
    double *out = st_calloc(r * r, sizeof *out);
    for (int64_t i = 0; i < r * in && wide && out; i++)
        wide[i] = (double)v->w[i];
    if (wide && out) {
        st_product_run(&(st_product){.m = r, .n = in, .k = in, .a = wide, .b = c, .c = product});
        st_product_run(
            &(st_product){.m = r, .n = r, .k = in, .a = product, .b = wide, .tb = 1, .c = out});
    }
    free(wide);
    if (wide) return out;
    free(out);
    return NULL;
}

/* The factors of a matrix that can be in blocks, of those types whose inputs' covariance is C or is
 * made of it; *some: there is one. */
static st_status quantize_factors(const st_spec *spec, const st_theta *t, const unsigned *can,
                                  st_dtype format, const double *c, st_quantize_errors *errors,
                                  bool *some, st_err *e)
{
    const char *type = spec->type->name;
    bool low = spec->type == &st_map_lowrank, first = strcmp(type, "blockdiag") == 0 ||
                                                      strcmp(type, "monarch") == 0 ||
                                                      strcmp(type, "btt") == 0;
    int in = low ? 1 : 0; /* the factor that reads x */
    if (!low && !first && spec->type != &st_map_dense) return ST_OK;
    quantize_factor f = quantize_factor_of(t->p[in]);
    if (can[in]) {
        *some = true;
        ST_TRY(quantize_under(&f, format, c, spec->in, errors, e));
    }
    if (!low || !can[0]) return ST_OK;
    double *inner = quantize_inner(&f, c);
    quantize_factor u = quantize_factor_of(t->p[0]);
    if (!inner) return ST_NOMEM(e, "quantize");
    *errors = (st_quantize_errors){0}; /* that of the outputs is what counts */
    *some = true;
    st_status s = quantize_under(&u, format, inner, u.n, errors, e);
    free(inner);
    return s;
}

/* ---- all of them ----------------------------------------------------------------------------- */

typedef struct {
    st_decompose_run run; /* its items: the matrices */
    st_calibration c;
    json_t *rows;
    st_err *e;
} quantize_job;

typedef struct {
    const char *name;
    st_dtype format; /* of the matrix; ST_F32: none */
    unsigned can[ST_PARAMS];
    int n;
} quantize_look;

static void quantize_param(void *ctx, const st_param *p)
{
    quantize_look *l = ctx;
    if (!p->matrix || strcmp(p->matrix, l->name) != 0 || p->flags & ST_P_BIAS) return;
    if (l->n == ST_PARAMS) return;
    l->can[l->n++] = p->format != ST_F32;
    if (p->format != ST_F32) l->format = p->format;
}

static quantize_look quantize_find(const st_model *m, const char *name)
{
    quantize_look l = {.name = name, .format = ST_F32};
    st_model_params(m, quantize_param, &l);
    return l;
}

static void quantize_list(void *ctx, const char *name, const st_spec *spec)
{
    quantize_job *j = ctx;
    if (quantize_find(j->run.to, name).format == ST_F32) return;
    j->run.item[j->run.n++] = (st_decompose_item){.name = name, .from = *spec, .to = *spec};
}

static st_status quantize_one(quantize_job *j, st_decompose_item *x, const float *cov)
{
    quantize_look l = quantize_find(j->run.to, x->name);
    st_theta t = st_decompose_theta(j->run.to, j->run.to_flat, x->name);
    int64_t size = x->to.in * x->to.in;
    double *c = st_calloc(size, sizeof *c);
    float *w = st_calloc(x->to.in * x->to.out, sizeof *w);
    st_quantize_errors errors = {0};
    bool some = false;
    st_status s = c && w ? ST_OK : ST_NOMEM(j->e, x->name);
    for (int64_t i = 0; i < size && !s; i++)
        c[i] = (double)cov[i];
    if (!s) s = quantize_factors(&x->to, &t, l.can, l.format, c, &errors, &some, j->e);
    if (!s) s = st_map_expand(&x->to, &t, st_view2(w, ST_F32, x->to.out, x->to.in), j->e);
    if (!s) st_calibration_put(&j->c, x->name, w, NULL);
    if (!s && some) {
        double total = errors.total > 0 ? errors.total : 1;
        json_array_append_new(j->rows, json_pack("{s:s, s:s, s:f, s:f}", "name", x->name, "format",
                                                 st_dtype_name(l.format), "nearest",
                                                 sqrt(fmax(errors.nearest, 0) / total), "error",
                                                 sqrt(fmax(errors.kept, 0) / total)));
    }
    free(c);
    free(w);
    return s;
}

/* The matrices [first, last) of one layer: their inputs' covariances in one pass, then each. */
static st_status quantize_layer(quantize_job *j, int64_t layer, int64_t first, int64_t last)
{
    int n = (int)(last - first);
    st_calibration_want *want = st_calloc(n + 1, sizeof *want);
    st_status s = want ? ST_OK : ST_NOMEM(j->e, "quantize");
    for (int i = 0; i < n && !s; i++) {
        st_decompose_item *x = &j->run.item[first + i];
        want[i] = (st_calibration_want){.name = x->name, .in = x->to.in};
        want[i].cov = st_calloc(x->to.in * x->to.in, sizeof *want[i].cov);
        if (!want[i].cov) s = ST_NOMEM(j->e, x->name);
        j->c.detail = x->name;
    }
    if (!s) s = st_calibration_pass(&j->c, layer, want, n, false, j->e);
    for (int i = 0; i < n && !s; i++)
        s = quantize_one(j, &j->run.item[first + i], want[i].cov);
    for (int i = 0; i < n && want; i++)
        free(want[i].cov);
    free(want);
    if (!s && layer < j->c.layers) s = st_calibration_pass(&j->c, layer, NULL, 0, true, j->e);
    return s;
}

static int quantize_compare(const void *a, const void *b)
{
    const st_decompose_item *x = a, *y = b;
    return (x->layer > y->layer) - (x->layer < y->layer);
}

static st_status quantize_layers(quantize_job *j)
{
    st_decompose_run *r = &j->run;
    ST_TRY(st_calibration_order(&j->c, r, j->e));
    qsort(r->item, (size_t)r->n, sizeof *r->item, quantize_compare);
    int64_t first = 0, top = r->n ? r->item[r->n - 1].layer : -1;
    while (first < r->n && r->item[first].layer < 0)
        first++;
    j->c.total = (2 * (top + 1) - (top == j->c.layers)) * j->c.sequences * j->c.len;
    for (int64_t layer = 0, last; layer <= top; layer++, first = last) {
        for (last = first; last < r->n && r->item[last].layer == layer;)
            last++;
        ST_TRY(quantize_layer(j, layer, first, last));
    }
    return ST_OK;
}

st_status st_quantize_all(const st_model *to, float *flat, const int32_t *ids, int64_t nids,
                          json_t **rows, st_err *e)
{
    int64_t matrices;
    st_model_slots(to, &matrices);
    quantize_job j = {
        .run = {.from = to, .to = to, .flat = flat, .to_flat = flat}, .rows = json_array(), .e = e};
    j.run.item = st_calloc(matrices, sizeof *j.run.item);
    st_status s = j.run.item && j.rows ? ST_OK : ST_NOMEM(e, "quantize");
    if (!s) st_model_matrices(to, quantize_list, &j);
    if (!s) s = st_calibration_open(&j.c, to, flat, ids, nids, QUANTIZE_LEN, false, e);
    if (!s) s = quantize_layers(&j);
    st_calibration_close(&j.c);
    free(j.run.item);
    *rows = j.rows;
    if (s) {
        json_decref(j.rows);
        *rows = NULL;
    }
    return s;
}
