/* Operations that are several in one, about folds: but for what is kept, nothing is rounded in
 * between. */
/* SPDX-License-Identifier: MIT */
#include "backend/ref/ref.h"
#include <math.h>
#include <stdlib.h>

/* Where number j of block k, term l of a fold comes from. */
static int64_t fused_column(const st_fold_fwd_args *f, int64_t k, int64_t l, int64_t j,
                            st_fold_term term)
{
    return (k * f->factor + l) * f->block + (j + term.shift) % f->block;
}

/* Row r of z from the numbers that are folded. */
static void fused_fold(const st_fold_fwd_args *f, const st_tensor *z, int64_t r, const double *act)
{
    int64_t width = f->supers * f->block;
    for (int64_t i = 0; i < f->folds * width; i++) {
        int64_t h = i / width, k = i % width / f->block, j = i % f->block;
        double sum = 0;
        for (int64_t l = 0; l < f->factor; l++) {
            st_fold_term term = st_fold_hash(f, h, k, l);
            int64_t c = fused_column(f, k, l, j, term);
            if (c < f->cols) sum += (double)term.sign * act[c];
        }
        ref_store(z, r * f->folds * width + i, sum);
    }
}

void st_ref_norm_fold(st_stream *q, const st_norm_fold_args *a)
{
    const st_norm_fwd_args *n = &a->norm;
    double *row = st_calloc(n->width, sizeof *row);
    if (!row) {
        st_stream_latch(q, ST_ENOMEM, "norm_fold", "out of memory");
        return;
    }
    for (int64_t r = 0; r < n->rows; r++) {
        double mean = 0, square = 0;
        for (int64_t c = 0; c < n->width; c++) {
            row[c] = (double)ref_load(&n->x, r * n->width + c);
            mean += row[c] / (double)n->width;
        }
        for (int64_t c = 0; c < n->width; c++)
            square += (row[c] - mean) * (row[c] - mean) / (double)n->width;
        double rstd = 1 / sqrt(square + (double)n->eps);
        for (int64_t c = 0; c < n->width; c++) {
            row[c] = (row[c] - mean) * rstd * (double)ref_load(&n->gain, c);
            row[c] += (double)ref_load(&n->bias, c);
        }
        if (n->mean.data) ref_store(&n->mean, r, mean);
        if (n->rstd.data) ref_store(&n->rstd, r, rstd);
        fused_fold(&a->fold, &a->fold.z, r, row);
    }
    free(row);
}

void st_ref_norm_unfold(st_stream *q, const st_norm_unfold_args *a)
{
    st_norm_bwd_args n = a->norm;
    st_fold_bwd_args f = a->fold;
    float *dy = st_calloc(n.rows * n.width, sizeof *dy);
    if (!dy) {
        st_stream_latch(q, ST_ENOMEM, "norm_unfold", "out of memory");
        return;
    }
    n.dy = f.dx = st_view2(dy, ST_F32, n.rows, n.width);
    st_ref_fold_bwd(q, &f);
    st_ref_norm_bwd(q, &n);
    free(dy);
}

void st_ref_fold_linear(st_stream *q, const st_fold_linear_args *a)
{
    const st_fold_fwd_args *f = &a->fold;
    int64_t width = f->supers * f->block;
    st_ref_fold_fwd(q, f);
    for (int64_t i = 0; i < f->rows * a->n; i++) {
        int64_t r = i / a->n, o = i % a->n;
        double sum = a->bias.data ? (double)ref_load(&a->bias, o) : 0.0;
        ref_vector z = ref_row(&f->z, r * width), w = ref_row(&a->w, o * width);
        ref_store(&a->y, i, st_ref_products(sum, z, w, width));
    }
}

void st_ref_gelu_linear(st_stream *q, const st_gelu_linear_args *a)
{
    double *act = st_calloc(a->n, sizeof *act);
    if (!act) {
        st_stream_latch(q, ST_ENOMEM, "gelu_linear", "out of memory");
        return;
    }
    for (int64_t r = 0; r < a->rows; r++) {
        for (int64_t j = 0; j < a->n; j++) {
            double sum = a->bias.data ? (double)ref_load(&a->bias, j) : 0.0;
            ref_vector x = ref_row(&a->x, r * a->k), w = ref_row(&a->w, j * a->k);
            sum = st_ref_products(sum, x, w, a->k);
            if (a->keep) ref_store(&a->h, r * a->n + j, sum);
            if (a->keep) sum = (double)ref_load(&a->h, r * a->n + j); /* what backward sees */
            act[j] = st_ref_gelu_value(sum, a->kind);
            if (!a->fold.block) ref_store(&a->y, r * a->n + j, act[j]);
        }
        if (a->fold.block) fused_fold(&a->fold, &a->y, r, act);
    }
    free(act);
}

void st_ref_gelu_unfold(st_stream *q, const st_gelu_unfold_args *a)
{
    const st_fold_bwd_args *f = &a->fold;
    (void)q;
    for (int64_t r = 0; r < f->rows; r++) {
        for (int64_t c = 0; c < f->cols; c++) {
            int64_t k = c / (f->factor * f->block), l = c / f->block % f->factor;
            double sum = 0;
            for (int64_t h = 0; h < f->folds; h++) {
                st_fold_term term = st_fold_hash(f, h, k, l);
                int64_t j = (c % f->block + f->block - term.shift) % f->block;
                int64_t from = (r * f->folds + h) * f->supers * f->block + k * f->block + j;
                sum += (double)term.sign * (double)ref_load(&f->dz, from);
            }
            double slope = st_ref_gelu_slope((double)ref_load(&a->h, r * f->cols + c), a->kind);
            ref_store(&f->dx, r * f->cols + c, sum * slope);
            if (!a->dbias.data) continue;
            ref_store(&a->dbias, c, (double)ref_load(&a->dbias, c) + sum * slope);
        }
    }
}
