/* Parity cases of element-wise operations, moves, sums and the optimiser. */
/* SPDX-License-Identifier: MIT */
#include "parity.h"
#include <math.h>

/* Flat lengths: vector tails, and more than one chunk of every thread. */
static int64_t pointwise_count(const parity_case *c)
{
    static const int count[] = {1, 3, 7, 8, 9, 15, 16, 17, 31, 64, 1000, 4097, 65537, 200003};
    return count[c->variant % 14];
}

bool cases_gelu_fwd(parity_case *c)
{
    st_gelu_fwd_args *a = (void *)c->args;
    if (c->variant >= 28) return false;
    a->kind = c->variant % 2 ? ST_GELU_ERF : ST_GELU_TANH;
    double std = c->variant % 3 ? 1.5 : 8, tol = 3 * PARITY_EPS;
    parity_in(c, &a->x, c->dtype, pointwise_count(c), std);
    if (c->variant / 2 % 3)
        parity_out(c, &a->y, c->dtype, pointwise_count(c), tol);
    else
        parity_inplace(c, &a->y, &a->x, tol);
    return true;
}

bool cases_gelu_bwd(parity_case *c)
{
    st_gelu_bwd_args *a = (void *)c->args;
    if (c->variant >= 28) return false;
    a->kind = c->variant % 2 ? ST_GELU_ERF : ST_GELU_TANH;
    double std = c->variant % 3 ? 1.5 : 8, tol = 16 * PARITY_EPS;
    parity_in(c, &a->x, c->dtype, pointwise_count(c), std);
    parity_in(c, &a->dy, c->dtype, pointwise_count(c), 1);
    if (c->variant / 2 % 3)
        parity_out(c, &a->dx, c->dtype, pointwise_count(c), tol);
    else
        parity_inplace(c, &a->dx, &a->dy, tol);
    return true;
}

bool cases_residual_fwd(parity_case *c)
{
    st_residual_fwd_args *a = (void *)c->args;
    if (c->variant >= 28) return false;
    int64_t n = pointwise_count(c);
    a->drop = c->variant % 2 ? 0.3f : 0;
    a->seed = 99;
    bool sum = parity_pick(c, 1, 3) > 0;
    if (sum) parity_in(c, &a->a, c->dtype, n, 1);
    parity_in(c, &a->b, c->dtype, n, 1);
    int where = (int)parity_pick(c, 2, 3);
    double tol = a->drop > 0 ? 12 * PARITY_EPS : 2 * PARITY_EPS;
    if (where == 0)
        parity_out(c, &a->y, c->dtype, n, tol);
    else
        parity_inplace(c, &a->y, where == 1 && sum ? &a->a : &a->b, tol);
    return true;
}

bool cases_residual_bwd(parity_case *c)
{
    st_residual_bwd_args *a = (void *)c->args;
    if (c->variant >= 28) return false;
    a->drop = c->variant % 4 ? 0.3f : 0;
    a->seed = (uint64_t)1 << 40;
    parity_in(c, &a->dy, c->dtype, pointwise_count(c), 1);
    if (parity_pick(c, 1, 2))
        parity_inplace(c, &a->db, &a->dy, 0);
    else
        parity_out(c, &a->db, c->dtype, pointwise_count(c), 0);
    return true;
}

bool cases_permute(parity_case *c)
{
    st_permute_args *a = (void *)c->args;
    if (c->variant >= 40) return false;
    a->rows = parity_dim(c, 1, 9);
    a->p = parity_dim(c, 2, 129);
    a->q = parity_dim(c, 3, 129);
    a->inner = c->variant % 2 ? 0 : parity_dim(c, 4, 33);
    a->accumulate = parity_pick(c, 5, 3) == 0;
    int64_t n = a->rows * a->p * a->q * (a->inner ? a->inner : 1);
    while (n > 500000)
        n /= a->p, a->p = 1;
    parity_in(c, &a->x, c->dtype, n, 1);
    if (a->accumulate)
        parity_update(c, &a->y, c->dtype, n, 1, 0);
    else
        parity_out(c, &a->y, c->dtype, n, 0);
    return true;
}

bool cases_copy(parity_case *c)
{
    st_copy_args *a = (void *)c->args;
    if (c->variant >= 40) return false;
    st_dtype other = c->variant % 2 ? c->dtype : c->dtype == ST_F32 ? ST_BF16 : ST_F32;
    if (c->variant < 14) {
        parity_in(c, &a->x, c->dtype, pointwise_count(c), 1);
        parity_out(c, &a->y, other, pointwise_count(c), 0);
        return true;
    }
    a->rows = parity_dim(c, 1, 65);
    a->cols = parity_dim(c, 2, 257);
    a->ldx = parity_pick(c, 3, 2) ? a->cols + parity_pick(c, 4, 9) : 0;
    a->pad = parity_pick(c, 5, 2) ? a->cols + parity_pick(c, 6, 20) : 0;
    a->ldy = parity_pick(c, 7, 2) ? a->cols + a->pad + parity_pick(c, 8, 5) : 0;
    a->accumulate = parity_pick(c, 9, 3) == 0;
    c->gaps = a->ldx || a->ldy;
    int64_t width = a->pad > a->cols && !a->accumulate ? a->pad : a->cols;
    int64_t ldx = a->ldx ? a->ldx : a->cols, ldy = a->ldy ? a->ldy : width;
    parity_in(c, &a->x, c->dtype, (a->rows - 1) * ldx + a->cols, 1);
    int64_t n = (a->rows - 1) * ldy + width;
    if (a->accumulate)
        parity_update(c, &a->y, other, n, 1, 0);
    else
        parity_out(c, &a->y, other, n, 0);
    return true;
}

bool cases_fill(parity_case *c)
{
    st_fill_args *a = (void *)c->args;
    if (c->variant >= 14) return false;
    a->value = c->variant ? -1.2345f : 0;
    parity_out(c, &a->x, c->dtype, pointwise_count(c), 0);
    return true;
}

bool cases_scale(parity_case *c)
{
    st_scale_args *a = (void *)c->args;
    if (c->variant >= 28) return false;
    int64_t n = pointwise_count(c);
    st_dtype other = parity_pick(c, 1, 2) ? c->dtype : c->dtype == ST_F32 ? ST_BF16 : ST_F32;
    a->accumulate = parity_pick(c, 2, 2) > 0;
    parity_in(c, &a->x, c->dtype, n, 1);
    if (a->accumulate)
        parity_update(c, &a->y, other, n, 1, 6 * PARITY_EPS);
    else if (parity_pick(c, 3, 2))
        parity_inplace(c, &a->y, &a->x, 0);
    else
        parity_out(c, &a->y, other, n, 0);
    parity_in(c, &a->s, parity_pick(c, 4, 2) ? c->dtype : ST_F32, 1, 1);
    return true;
}

bool cases_dot(parity_case *c)
{
    st_dot_args *a = (void *)c->args;
    if (c->variant >= 28) return false;
    int64_t n = pointwise_count(c);
    parity_in(c, &a->a, c->dtype, n, 1);
    parity_in(c, &a->b, c->variant % 3 ? c->dtype : ST_F32, n, 1);
    parity_update(c, &a->c, ST_F32, 1, 1, 20 * PARITY_EPS * (sqrt((double)n) + 1));
    return true;
}

static bool pointwise_gate(parity_case *c, st_gate_fwd_args *a)
{
    if (c->variant >= 24) return false;
    a->rows = parity_dim(c, 1, 129);
    a->width = parity_dim(c, 2, 769);
    parity_in(c, &a->s, c->dtype, a->rows * a->width, 1);
    parity_in(c, &a->l, c->dtype, a->rows * a->width, 1);
    parity_in(c, &a->z, c->dtype, a->rows, 3);
    return true;
}

bool cases_gate_fwd(parity_case *c)
{
    st_gate_fwd_args *a = (void *)c->args;
    if (!pointwise_gate(c, a)) return false;
    int where = (int)parity_pick(c, 3, 3);
    double tol = 8 * PARITY_EPS;
    if (where == 0)
        parity_out(c, &a->y, c->dtype, a->rows * a->width, tol);
    else
        parity_inplace(c, &a->y, where == 1 ? &a->s : &a->l, tol);
    return true;
}

bool cases_gate_bwd(parity_case *c)
{
    st_gate_bwd_args *a = (void *)c->args;
    if (!pointwise_gate(c, a)) return false;
    double tol = 8 * PARITY_EPS;
    parity_in(c, &a->dy, c->dtype, a->rows * a->width, 1);
    if (parity_pick(c, 3, 2))
        parity_inplace(c, &a->ds, &a->dy, tol);
    else
        parity_out(c, &a->ds, c->dtype, a->rows * a->width, tol);
    parity_out(c, &a->dl, c->dtype, a->rows * a->width, tol);
    parity_out(c, &a->dz, c->dtype, a->rows, tol * sqrt((double)a->width) * 4);
    return true;
}

/* Blocks shorter and longer than a vector; columns that are padding, wholly or in part. */
static bool pointwise_fold(parity_case *c, st_fold_fwd_args *a)
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
    if (!pointwise_fold(c, a)) return false;
    parity_in(c, &a->x, c->dtype, a->rows * a->cols, 1);
    parity_out(c, &a->z, c->dtype, a->rows * a->folds * a->supers * a->block, 16 * PARITY_EPS);
    return true;
}

bool cases_fold_bwd(parity_case *c)
{
    st_fold_bwd_args *a = (void *)c->args;
    if (!pointwise_fold(c, a)) return false;
    parity_in(c, &a->dz, c->dtype, a->rows * a->folds * a->supers * a->block, 1);
    parity_out(c, &a->dx, c->dtype, a->rows * a->cols, 8 * PARITY_EPS);
    return true;
}

/* Folds as they are released for every other variant with many rows, which GPUs have kernels for.
 */
static void pointwise_mlp_fold(const parity_case *c, st_fold_fwd_args *f, bool many)
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
        pointwise_mlp_fold(c, &a->fold, many);
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
    pointwise_mlp_fold(c, f, c->variant % 2);
    f->rows = parity_dim(c, 1, 300);
    a->kind = c->variant / 2 % 2 ? ST_GELU_ERF : ST_GELU_TANH;
    double tol = c->dtype == ST_BF16 ? 0.03 : 32 * PARITY_EPS;
    parity_in(c, &f->dz, c->dtype, f->rows * f->folds * f->supers * f->block, 1);
    parity_in(c, &a->h, c->dtype, f->rows * f->cols, 1.5);
    parity_out(c, &f->dx, c->dtype, f->rows * f->cols, tol);
    return true;
}

bool cases_sumsq(parity_case *c)
{
    st_sumsq_args *a = (void *)c->args;
    if (c->variant >= 14) return false;
    parity_in(c, &a->x, c->dtype, pointwise_count(c), 1);
    double n = (double)pointwise_count(c); /* partial sums grow to 512 */
    parity_update(c, &a->out, ST_F32, 1, 1, PARITY_EPS * (150 * sqrt(n) + 8));
    return true;
}

bool cases_adamw(parity_case *c)
{
    st_adamw_args *a = (void *)c->args;
    if (c->variant >= 28) return false;
    int64_t n = pointwise_count(c);
    a->lr = 1e-3f, a->beta1 = 0.9f, a->beta2 = 0.95f, a->eps = 1e-8f;
    a->decay = c->variant % 3 ? 0.1f : 0;
    a->grad_scale = 0.5f;
    a->step = c->variant % 4 ? 1 + c->variant * 100 : 1;
    double tol = 6 * PARITY_EPS;
    bool master = c->dtype == ST_BF16 || c->variant % 2;
    if (master) parity_update(c, &a->master, ST_F32, n, 1, tol);
    if (master)
        parity_out(c, &a->w, c->dtype, n, tol);
    else
        parity_update(c, &a->w, ST_F32, n, 1, tol);
    parity_in(c, &a->grad, ST_F32, n, 1);
    parity_update(c, &a->m, ST_F32, n, 0.1, tol);
    parity_operand *v = &c->operand[c->operands];
    parity_update(c, &a->v, ST_F32, n, 1, tol);
    v->lo = 0.001, v->hi = 0.5; /* second moments are positive */
    return true;
}

bool cases_average(parity_case *c)
{
    st_average_args *a = (void *)c->args;
    static const float rate[] = {0.1f, 0.001f, 1, 0, 0.0001f};
    if (c->variant >= 35) return false;
    int64_t n = pointwise_count(c);
    a->rate = rate[c->variant % 5];
    parity_in(c, &a->x, ST_F32, n, 1);
    parity_update(c, &a->mean, ST_F32, n, 1, 3 * PARITY_EPS);
    return true;
}
