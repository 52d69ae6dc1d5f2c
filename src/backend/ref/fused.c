/* Operations that are several in one, of an MLP with a fold: but for what is kept, nothing is
 * rounded in between. */
/* SPDX-License-Identifier: MIT */
#include "backend/ref/ref.h"
#include <stdlib.h>

/* Where number j of block k, term l of a fold comes from. */
static int64_t fused_column(const st_fold_fwd_args *f, int64_t k, int64_t l, int64_t j,
                            st_fold_term term)
{
    return (k * f->factor + l) * f->block + (j + term.shift) % f->block;
}

/* Row r of y from its activations. */
static void fused_fold(const st_gelu_linear_args *a, int64_t r, const double *act)
{
    const st_fold_fwd_args *f = &a->fold;
    int64_t width = f->supers * f->block;
    for (int64_t i = 0; i < f->folds * width; i++) {
        int64_t h = i / width, k = i % width / f->block, j = i % f->block;
        double sum = 0;
        for (int64_t l = 0; l < f->factor; l++) {
            st_fold_term term = st_fold_hash(f, h, k, l);
            int64_t c = fused_column(f, k, l, j, term);
            if (c < f->cols) sum += (double)term.sign * act[c];
        }
        ref_store(&a->y, r * f->folds * width + i, sum);
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
            for (int64_t i = 0; i < a->k; i++)
                sum +=
                    (double)ref_load(&a->x, r * a->k + i) * (double)ref_load(&a->w, j * a->k + i);
            if (a->keep) ref_store(&a->h, r * a->n + j, sum);
            if (a->keep) sum = (double)ref_load(&a->h, r * a->n + j); /* what backward sees */
            act[j] = st_ref_gelu_value(sum, a->kind);
            if (!a->fold.block) ref_store(&a->y, r * a->n + j, act[j]);
        }
        if (a->fold.block) fused_fold(a, r, act);
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
        }
    }
}
