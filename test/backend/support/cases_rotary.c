/* Parity cases of gated units and rotary positions. */
/* SPDX-License-Identifier: MIT */
#include "parity.h"
#include <math.h>

/* Flat lengths: vector tails, and more than one chunk of every thread. */
static int64_t glu_count(const parity_case *c)
{
    static const int count[] = {1, 3, 7, 8, 9, 15, 16, 17, 31, 64, 1000, 4097, 65537, 200003};
    return count[c->variant % 14];
}

bool cases_glu_fwd(parity_case *c)
{
    st_glu_fwd_args *a = (void *)c->args;
    if (c->variant >= 42) return false;
    a->kind = (st_glu_kind)(c->variant % 3);
    int64_t n = glu_count(c);
    parity_in(c, &a->g, c->dtype, n, c->variant % 4 ? 1.5 : 8);
    parity_in(c, &a->u, c->dtype, n, 1);
    int where = (int)parity_pick(c, 1, 3);
    if (where == 0)
        parity_out(c, &a->y, c->dtype, n, 8 * PARITY_EPS);
    else
        parity_inplace(c, &a->y, where == 1 ? &a->g : &a->u, 8 * PARITY_EPS);
    return true;
}

bool cases_glu_bwd(parity_case *c)
{
    st_glu_bwd_args *a = (void *)c->args;
    if (c->variant >= 42) return false;
    a->kind = (st_glu_kind)(c->variant % 3);
    int64_t n = glu_count(c);
    double tol = 40 * PARITY_EPS;
    parity_in(c, &a->g, c->dtype, n, c->variant % 4 ? 1.5 : 8);
    parity_in(c, &a->u, c->dtype, n, 1);
    parity_in(c, &a->dy, c->dtype, n, 1);
    const st_tensor *shares[] = {NULL, &a->g, &a->u, &a->dy};
    int dg = (int)parity_pick(c, 1, 4), du = (int)parity_pick(c, 2, 4);
    if (dg)
        parity_inplace(c, &a->dg, shares[dg], tol);
    else
        parity_out(c, &a->dg, c->dtype, n, tol);
    if (du && du != dg)
        parity_inplace(c, &a->du, shares[du], tol);
    else
        parity_out(c, &a->du, c->dtype, n, tol);
    return true;
}

/* Heads of any width, of which all or a part is turned; slices of packed rows. */
bool cases_rotary(parity_case *c)
{
    static float freq[ST_ROTARY];
    static const int dim[] = {2, 6, 16, 20, 64, 80, 128, 130, 512};
    st_rotary_args *a = (void *)c->args;
    if (c->variant >= 36) return false;
    a->head_dim = dim[c->variant % 9];
    a->half = parity_pick(c, 1, 4) ? a->head_dim / 2 : 1 + parity_pick(c, 2, a->head_dim / 2);
    a->heads = 1 + parity_pick(c, 3, 5);
    a->rows = parity_dim(c, 4, 65);
    a->len = 1 + parity_pick(c, 5, a->rows);
    a->start = parity_pick(c, 6, 3) ? 0 : parity_pick(c, 7, 9000);
    if (parity_pick(c, 13, 3) == 0) parity_ids(c, &a->at, 1, 0, 9000);
    a->scale = parity_pick(c, 8, 3) ? 1 : 1.25f;
    a->back = (int)parity_pick(c, 9, 2);
    for (int i = 0; i < ST_ROTARY; i++)
        freq[i] = (float)pow(10000.0, -(double)i / (double)a->half);
    a->freq = freq;
    int64_t width = a->heads * a->head_dim;
    a->stride = parity_pick(c, 10, 2) ? 0 : width + 8 * parity_pick(c, 11, 3);
    c->gaps = a->stride > width;
    int64_t n = (a->rows - 1) * (a->stride ? a->stride : width) + width;
    double tol = 30 * PARITY_EPS;
    parity_in(c, &a->x, c->dtype, n, 1);
    if (parity_pick(c, 12, 2))
        parity_inplace(c, &a->y, &a->x, tol);
    else
        parity_out(c, &a->y, c->dtype, n, tol);
    return true;
}
