/* Parity cases of orders by hashes and of attention within their clusters. */
/* SPDX-License-Identifier: MIT */
#include "parity.h"

static const int lsh_len[] = {1, 2, 7, 33, 63, 130, 257, 300};
static const int lsh_dim[] = {1, 8, 20, 64, 130, 260};

/* Orders are the same to the bit. */
bool cases_lsh_order(parity_case *c)
{
    st_lsh_order_args *a = (void *)c->args;
    if (c->variant >= 48) return false;
    a->h.batch = 1 + parity_pick(c, 1, 2);
    a->h.heads = 1 + parity_pick(c, 2, 3);
    a->h.head_dim = lsh_dim[parity_pick(c, 3, 6)];
    a->hashes = (int64_t[]){1, 2, 4, 19}[parity_pick(c, 4, 4)];
    a->h.q_len = lsh_len[c->variant % 8];
    a->total = a->h.q_len + parity_pick(c, 5, 2) * parity_pick(c, 6, 40);
    a->sorted = parity_pick(c, 7, 2) ? a->h.q_len : 0;
    a->buckets = parity_pick(c, 8, 2) ? 2 * parity_dim(c, 9, 40) : 0;
    int64_t directions = a->hashes * a->h.head_dim * a->buckets / 2;
    int64_t n = parity_rows(c, &a->h, a->h.q_len, &a->h.q);
    /* large ones; such that hashes round to zeros of both signs */
    double size = (double[]){1, 1, 1e20, 1e-44}[parity_pick(c, 10, 4)];
    parity_in(c, &a->h.q.x, c->dtype, n, size);
    if (!a->buckets) {
        a->h.kv_len = lsh_len[parity_pick(c, 11, 8)];
        a->mirrored = (int)parity_pick(c, 12, 2);
        n = parity_rows(c, &a->h, a->h.kv_len, &a->h.k);
        parity_in(c, &a->h.k.x, c->dtype, n, size < 1 ? size : 1);
        directions = a->hashes * (a->h.head_dim + 2);
    }
    parity_in(c, &a->w, ST_F32, directions, 1);
    parity_work(c, &a->work, st_lsh_work(a));
    parity_out(c, &a->order, ST_I32, a->h.batch * a->h.heads * a->hashes * a->total, 0);
    return true;
}

bool cases_lsh_attend(parity_case *c)
{
    static const int cluster[] = {1, 3, 16, 49, 112, 230};
    st_lsh_attend_args *a = (void *)c->args;
    if (c->variant >= 48) return false;
    a->h.batch = 1 + parity_pick(c, 1, 2);
    a->h.heads = 1 + parity_pick(c, 2, 2);
    a->h.head_dim = lsh_dim[parity_pick(c, 3, 6)];
    a->hashes = (int64_t[]){1, 2, 4}[parity_pick(c, 4, 3)];
    a->shared = (int)parity_pick(c, 5, 2);
    a->q_cluster = cluster[c->variant % 6];
    a->h.q_len = 1 + parity_pick(c, 6, a->q_cluster > 100 ? 300 : 130);
    if (a->h.q_len > 130 && a->h.head_dim > 64) a->hashes = 1; /* ref is slow */
    a->clusters = (a->h.q_len + a->q_cluster - 1) / a->q_cluster;
    if (a->shared) a->clusters += a->clusters % 2;
    a->h.kv_len = a->shared ? a->h.q_len : lsh_len[parity_pick(c, 7, 8)];
    a->k_cluster = (a->h.kv_len + a->clusters - 1) / a->clusters;
    a->k_cluster += parity_pick(c, 8, 3); /* clusters of padding alone */
    if (a->shared) a->k_cluster = 0;
    a->scale = 0.3f;
    double size = parity_pick(c, 9, 3) ? 1 : 8;
    int64_t width = a->h.heads * a->h.head_dim, runs = a->h.batch * a->h.heads * a->hashes, n[3];
    n[0] = parity_rows(c, &a->h, a->h.q_len, &a->h.q);
    n[1] = parity_rows(c, &a->h, a->h.kv_len, &a->h.k);
    n[2] = parity_rows(c, &a->h, a->h.kv_len, &a->h.v);
    parity_in(c, &a->h.q.x, c->dtype, n[0], size);
    if (!a->shared) parity_in(c, &a->h.k.x, c->dtype, n[1], size);
    parity_in(c, &a->h.v.x, c->dtype, n[2], 1);
    parity_orders(c, &a->q_order, runs, a->clusters * a->q_cluster);
    if (!a->shared) parity_orders(c, &a->k_order, runs, a->clusters * a->k_cluster);
    if (st_lsh_attend_work(a)) parity_work(c, &a->work, st_lsh_attend_work(a));
    /* scores are sums of products of up to size^2 head_dim, of which e^x keeps the absolute error
     */
    double tol = 20 * PARITY_EPS * (4 + size * size * (double)a->h.head_dim);
    parity_out(c, &a->h.o.x, c->dtype, a->h.batch * a->h.q_len * width, tol);
    return true;
}
