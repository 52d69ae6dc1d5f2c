/* Parity cases of windows as rows and of attention through random features. */
/* SPDX-License-Identifier: MIT */
#include "parity.h"
#include <math.h>

bool cases_unfold(parity_case *c)
{
    st_unfold_args *a = (void *)c->args;
    if (c->variant >= 40) return false;
    a->kernel = (int64_t[]){3, 7, 1, 2, 5}[c->variant % 5];
    a->stride = 1 + parity_pick(c, 1, 4);
    a->pad = parity_pick(c, 2, a->kernel);
    a->batch = 1 + parity_pick(c, 3, 3);
    a->channels = c->variant % 3 ? parity_dim(c, 4, 65) : 3;
    a->height = a->kernel + parity_pick(c, 5, 19);
    a->width = a->kernel + parity_pick(c, 6, 19);
    a->planes = c->variant % 2;
    int64_t window = a->channels * a->kernel * a->kernel;
    int64_t rows = (a->height + 2 * a->pad - a->kernel) / a->stride + 1;
    int64_t cols = (a->width + 2 * a->pad - a->kernel) / a->stride + 1;
    st_dtype from = parity_pick(c, 7, 3) ? c->dtype : ST_F32;
    parity_in(c, &a->x, from, a->batch * a->channels * a->height * a->width, 1);
    double tol = 0;
    if (parity_pick(c, 8, 3)) { /* rows of few, nearly equal numbers: 1 / sqrt(eps) at most */
        a->eps = 1e-5f;
        tol = 60 * PARITY_EPS * (window < 8 ? 40 : 1) * sqrt((double)window);
        parity_in(c, &a->gain, c->dtype, window, 1);
        parity_in(c, &a->bias, c->dtype, window, 1);
    }
    parity_out(c, &a->y, c->dtype, a->batch * rows * cols * window, tol);
    return true;
}

bool cases_directions(parity_case *c)
{
    st_directions_args *a = (void *)c->args;
    if (c->variant >= 12) return false;
    a->rows = parity_dim(c, 1, 150);
    a->cols = parity_dim(c, 2, 80);
    a->seed = (uint64_t)c->variant;
    a->stream = 7;
    a->equal = (int)parity_pick(c, 3, 2);
    a->std = parity_pick(c, 4, 3) ? 0 : 0.5f;
    parity_out(c, &a->w, ST_F32, a->rows * a->cols, 0);
    return true;
}

/* Other maps, masks and shifts. Without any the variant is as it was. */
static void vision_favor_kind(parity_case *c, st_favor_args *a)
{
    a->map = (st_favor_map)parity_pick(c, 9, 4);
    if (a->map == ST_FAVOR_ELU) a->features = a->h.head_dim;
    if (a->map == ST_FAVOR_COSH) a->features += a->features % 2;
    int how = (int)parity_pick(c, 10, 4);
    a->causal = how % 2;
    a->window = how / 2 ? parity_dim(c, 11, 200) : 0;
    a->shifted = how == 0 && a->map <= ST_FAVOR_COSH;
    a->lift = a->shifted && parity_pick(c, 12, 2) ? 1e-4f : 0;
    if (how && a->h.kv_len > 200) a->h.kv_len = 200; /* ref is slow */
    if (how && a->h.q_len > 200) a->h.q_len = 200;
    if (a->causal) {
        a->q_start = parity_pick(c, 13, 2) ? parity_pick(c, 14, 150) : 0;
        a->h.kv_len = a->q_start + a->h.q_len;
    }
    if (how && a->features > 100) a->features = 50;
}

bool cases_favor(parity_case *c)
{
    static const int len[] = {1, 2, 7, 33, 95, 97, 130, 193, 400};
    static const int dim[] = {1, 8, 20, 64, 130}, features[] = {1, 12, 32, 49, 193, 266};
    st_favor_args *a = (void *)c->args;
    if (c->variant >= 108) return false;
    a->h.batch = 1 + parity_pick(c, 1, 2);
    a->h.heads = 1 + parity_pick(c, 2, 2);
    a->h.head_dim = dim[parity_pick(c, 3, 5)];
    a->features = features[parity_pick(c, 4, 6)];
    a->h.q_len = len[c->variant % 9];
    a->h.kv_len = parity_pick(c, 5, 2) ? a->h.q_len : len[parity_pick(c, 6, 9)];
    if (a->features > 100) a->h.head_dim = dim[parity_pick(c, 3, 3)]; /* ref is slow */
    a->eps = parity_pick(c, 7, 2) ? 1e-8f : 0;
    a->scale = parity_pick(c, 8, 2) ? 1 / sqrtf((float)a->h.head_dim) : 0;
    if (c->variant >= 36) vision_favor_kind(c, a);
    /* exponents of hundreds, which no float32 holds, in every third case */
    double size = c->variant % 3 ? 1 : 12;
    if (c->variant >= 36) size = parity_pick(c, 15, 2) ? 1 : 12;
    if (c->variant >= 36 && size > 1) a->eps = 0; /* it would be all that is left */
    int64_t n[3];
    n[0] = parity_rows(c, &a->h, a->h.q_len, &a->h.q);
    n[1] = parity_rows(c, &a->h, a->h.kv_len, &a->h.k);
    n[2] = parity_rows(c, &a->h, a->h.kv_len, &a->h.v);
    parity_in(c, &a->h.q.x, c->dtype, n[0], size);
    parity_in(c, &a->h.k.x, c->dtype, n[1], size);
    parity_in(c, &a->h.v.x, c->dtype, n[2], 1);
    int64_t rows = a->map == ST_FAVOR_COSH ? a->features / 2 : a->features;
    if (a->map != ST_FAVOR_ELU) parity_in(c, &a->w, c->dtype, rows * a->h.head_dim, 1);
    if (st_favor_work(a)) parity_work(c, &a->work, st_favor_work(a));
    /* logits are sums of products of up to size^2 head_dim, of which e^x keeps the absolute error
     */
    double tol = 20 * PARITY_EPS * (4 + size * size * (double)a->h.head_dim);
    parity_out(c, &a->h.o.x, c->dtype, a->h.batch * a->h.q_len * a->h.heads * a->h.head_dim, tol);
    return true;
}
