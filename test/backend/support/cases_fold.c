/* Cases of SS1's fold: alone, after a norm, before and after products. */
/* SPDX-License-Identifier: MIT */
#include "parity.h"
#include <math.h>

/* Blocks shorter and longer than a vector; columns that are padding, wholly or in part. */
static bool fold_shape(parity_case *c, st_fold_fwd_args *a)
{
    static const int block[] = {1, 4, 8, 24, 32, 128, 1040};
    if (c->variant >= 40) return false;
    a->rows = parity_dim(c, 1, 65);
    a->block = block[parity_pick(c, 2, 7)];
    a->vec = (int64_t[]){1, 2, 4, 8}[parity_pick(c, 3, 4)];
    if (a->block % a->vec) a->vec = 1;
    if (a->block > 1000) a->rows = 3;
    a->factor = (int64_t[]){1, 2, 3, 4, 8}[parity_pick(c, 4, 5)];
    a->supers = 1 + parity_pick(c, 5, 6);
    a->folds = parity_pick(c, 6, 2) ? 1 : 1 + parity_pick(c, 7, 3);
    a->signs = (int)parity_pick(c, 8, 2);
    a->r0 = 1 + parity_pick(c, 9, 100000);
    a->seed = 1024;
    int64_t all = a->supers * a->factor * a->block;
    a->cols = parity_pick(c, 10, 2) ? all : 1 + parity_pick(c, 11, all);
    return true;
}

bool cases_fold_fwd(parity_case *c)
{
    st_fold_fwd_args *a = (void *)c->args;
    if (!fold_shape(c, a)) return false;
    parity_in(c, &a->x, c->dtype, a->rows * a->cols, 1);
    parity_out(c, &a->z, c->dtype, a->rows * a->folds * a->supers * a->block, 16 * PARITY_EPS);
    return true;
}

bool cases_fold_bwd(parity_case *c)
{
    st_fold_bwd_args *a = (void *)c->args;
    if (!fold_shape(c, a)) return false;
    parity_in(c, &a->dz, c->dtype, a->rows * a->folds * a->supers * a->block, 1);
    parity_out(c, &a->dx, c->dtype, a->rows * a->cols, 8 * PARITY_EPS);
    return true;
}

/* Folds as they are released for every other variant with many rows, which GPUs have kernels for.
 */
static void fold_released(const parity_case *c, st_fold_fwd_args *f, bool many)
{
    f->block = many ? 32 : (int64_t[]){1, 4, 8, 24, 32}[parity_pick(c, 12, 5)];
    f->vec = f->block % 8 ? 1 : 8;
    f->factor = (int64_t[]){2, 4, 8, 3}[parity_pick(c, 13, many ? 3 : 4)];
    f->supers = 1 + parity_pick(c, 14, 2);
    f->folds = many ? 1 : 1 + parity_pick(c, 15, 2);
    f->signs = f->folds > 1;
    f->r0 = many ? 45007 : 1 + parity_pick(c, 16, 99);
    f->seed = 7;
    f->cols = f->supers * f->factor * f->block;
}

/* A norm and the fold after it, the released one for every other variant. */
static bool fold_norm(parity_case *c, st_norm_fold_args *a)
{
    st_norm_fwd_args *n = &a->norm;
    st_fold_fwd_args *f = &a->fold;
    if (c->variant >= 40) return false;
    if (c->variant % 2) {
        fold_released(c, f, true);
        f->supers = (int64_t[]){1, 3, 6, 12}[parity_pick(c, 2, 4)];
        f->cols = f->supers * f->factor * f->block;
        f->rows = parity_dim(c, 1, f->cols > 1000 ? 40 : 300);
    } else {
        fold_shape(c, f);
        f->cols = f->cols > 1 ? f->cols : 2;
        if (f->supers * f->factor * f->block < f->cols) f->supers++;
    }
    n->rows = f->rows, n->width = f->cols;
    n->eps = 1e-5f;
    return true;
}

bool cases_norm_fold(parity_case *c)
{
    st_norm_fold_args *a = (void *)c->args;
    st_norm_fwd_args *n = &a->norm;
    st_fold_fwd_args *f = &a->fold;
    if (!fold_norm(c, a)) return false;
    double tol = PARITY_EPS * 40 * (1 + (double)f->factor);
    parity_in(c, &n->x, c->dtype, n->rows * n->width, 1);
    parity_in(c, &n->gain, c->dtype, n->width, 1);
    parity_in(c, &n->bias, c->dtype, n->width, 1);
    if (parity_pick(c, 20, 2)) {
        parity_out(c, &n->mean, ST_F32, n->rows, 16 * PARITY_EPS);
        parity_out(c, &n->rstd, ST_F32, n->rows, 64 * PARITY_EPS);
    }
    parity_out(c, &f->z, c->dtype, f->rows * f->folds * f->supers * f->block, tol);
    return true;
}

bool cases_norm_unfold(parity_case *c)
{
    st_norm_unfold_args *a = (void *)c->args;
    st_norm_bwd_args *n = &a->norm;
    st_fold_bwd_args *f = &a->fold;
    if (!fold_norm(c, a)) return false;
    double tol = PARITY_EPS * 64 * (1 + (double)f->folds);
    double sums = PARITY_EPS * 40 * (double)(n->rows + 8) * sqrt((double)f->folds);
    if (c->dtype == ST_BF16) { /* dy may have been rounded */
        tol += 0x1p-7 * (double)f->folds;
        sums += 0x1p-7 * (double)f->folds * sqrt((double)n->rows);
    }
    n->accumulate = c->variant / 2 % 2;
    parity_in(c, &n->x, c->dtype, n->rows * n->width, 1);
    parity_in(c, &n->gain, c->dtype, n->width, 1);
    parity_in(c, &n->mean, ST_F32, n->rows, 0.1);
    parity_in_range(c, &n->rstd, ST_F32, n->rows, 0.5, 2);
    parity_in(c, &f->dz, c->dtype, f->rows * f->folds * f->supers * f->block, 1);
    if (n->accumulate)
        parity_update(c, &n->dx, c->dtype, n->rows * n->width, 1, tol);
    else
        parity_out(c, &n->dx, c->dtype, n->rows * n->width, tol);
    if (parity_pick(c, 21, 4)) parity_update(c, &n->dgain, ST_F32, n->width, 1, sums);
    if (parity_pick(c, 22, 4)) parity_update(c, &n->dbias, ST_F32, n->width, 1, sums);
    return true;
}

/* Every third variant is as large as a GPU needs to fold in the product's launch. */
bool cases_fold_linear(parity_case *c)
{
    st_fold_linear_args *a = (void *)c->args;
    st_fold_fwd_args *f = &a->fold;
    if (c->variant >= 36) return false;
    bool many = c->variant % 3 == 0;
    fold_released(c, f, many);
    f->folds = 1;
    f->signs = !many && c->variant % 2;
    if (!many && parity_pick(c, 3, 2)) f->cols -= parity_pick(c, 4, f->cols);
    if (many) {
        f->supers = 1, f->factor = 2 + 2 * parity_pick(c, 13, 2);
        f->cols = f->supers * f->factor * f->block;
    }
    bool long_enough = many && c->gpu && c->dtype == ST_BF16;
    f->rows = long_enough ? 8192 + parity_pick(c, 1, 90) : parity_dim(c, 1, 300);
    a->n = many ? 8 * (1 + parity_pick(c, 5, 25)) : parity_dim(c, 5, 130);
    int64_t width = f->supers * f->block;
    double tol = PARITY_EPS * (double)(6 * width + 64);
    if (c->dtype == ST_BF16)
        tol += 0x1p-8 * (double)f->factor; /* a sum that rounds the other way */
    parity_in(c, &f->x, c->dtype, f->rows * f->cols, 1);
    parity_in(c, &a->w, c->dtype, a->n * width, 1 / sqrt((double)width));
    if (parity_pick(c, 6, 4)) parity_in(c, &a->bias, c->dtype, a->n, 1);
    parity_out(c, &f->z, c->dtype, f->rows * width, 16 * PARITY_EPS);
    parity_out(c, &a->y, c->dtype, f->rows * a->n, tol);
    return true;
}

bool cases_gelu_linear(parity_case *c)
{
    st_gelu_linear_args *a = (void *)c->args;
    if (c->variant >= 36) return false;
    bool many = c->variant % 4 == 0, wide = c->dtype == ST_BF16;
    a->rows = many ? 512 + parity_pick(c, 1, 90) : parity_dim(c, 1, 65);
    a->k = many ? 8 * (1 + parity_pick(c, 2, 13)) : parity_dim(c, 2, 130);
    a->n = many ? 8 * (1 + parity_pick(c, 3, 40)) : parity_dim(c, 3, 130);
    a->kind = c->variant % 2 ? ST_GELU_ERF : parity_pick(c, 4, 2) ? ST_GELU_ERF : ST_GELU_TANH;
    a->keep = c->variant / 2 % 2;
    int64_t out = a->n, terms = 1;
    if (c->variant % 3) {
        fold_released(c, &a->fold, many);
        a->n = a->fold.cols;
        a->fold.rows = a->rows;
        out = a->fold.folds * a->fold.supers * a->fold.block;
        terms = a->fold.factor;
    }
    /* where h is rounded to bf16 before the GELU, and that before the fold, each by 2^-9 of 8 */
    double tol = PARITY_EPS * (double)(6 * a->k + 64), each = wide ? 0.03 : 4 * tol;
    if (c->gpu && wide) tol += 0x1p-9 * 5; /* a product that was rounded before the bias */
    parity_in(c, &a->x, c->dtype, a->rows * a->k, 1);
    parity_in(c, &a->w, c->dtype, a->n * a->k, 1 / sqrt((double)a->k));
    if (parity_pick(c, 5, 4)) parity_in(c, &a->bias, c->dtype, a->n, 1);
    if (a->keep)
        parity_out(c, &a->h, c->dtype, a->rows * a->n, tol);
    else
        parity_scratch(c, &a->h, c->dtype, a->rows * a->n);
    parity_out(c, &a->y, c->dtype, a->rows * out, each * (double)terms);
    return true;
}

bool cases_gelu_unfold(parity_case *c)
{
    st_gelu_unfold_args *a = (void *)c->args;
    st_fold_bwd_args *f = &a->fold;
    if (c->variant >= 36) return false;
    fold_released(c, f, c->variant % 2);
    f->rows = parity_dim(c, 1, 300);
    a->kind = c->variant / 2 % 2 ? ST_GELU_ERF : ST_GELU_TANH;
    double tol = c->dtype == ST_BF16 ? 0.03 : 32 * PARITY_EPS;
    parity_in(c, &f->dz, c->dtype, f->rows * f->folds * f->supers * f->block, 1);
    parity_in(c, &a->h, c->dtype, f->rows * f->cols, 1.5);
    parity_out(c, &f->dx, c->dtype, f->rows * f->cols, tol);
    double sums = (tol + 0x1p-8) * sqrt((double)f->rows) * 4;
    if (c->variant % 3) parity_update(c, &a->dbias, ST_F32, f->cols, 1, sums);
    return true;
}
