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
    if (c->variant >= 52) return false;
    a->rows = parity_dim(c, 1, 9);
    a->p = parity_dim(c, 2, 129);
    a->q = parity_dim(c, 3, 129);
    a->inner = c->variant % 2 ? 0 : parity_dim(c, 4, 33);
    if (c->variant >= 40) { /* one side of few, as blocks of a layer are */
        a->p = 2 << c->variant % 3, a->q = 8 * parity_dim(c, 6, 33), a->inner = 0;
        int64_t p = a->p;
        if (c->variant % 2) a->p = a->q, a->q = p;
    }
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
