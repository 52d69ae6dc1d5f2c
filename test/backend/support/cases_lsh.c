/* Parity cases of orders by hashes and of attention within their clusters. */
/* SPDX-License-Identifier: MIT */
#include "parity.h"

static const int lsh_len[] = {1, 2, 7, 33, 63, 130, 257, 300};
static const int lsh_dim[] = {1, 8, 20, 64, 130, 260};

/* Rows side by side in a packed tensor, or by themselves; the numbers they take. */
static int64_t lsh_rows(parity_case *c, int64_t batch, int64_t width, int64_t len, int64_t *stride,
                        int64_t *step)
{
    if (c->variant % 2) return batch * len * width;
    c->gaps = true;
    *stride = 3 * width;
    *step = (len + 3) * *stride;
    return (batch - 1) * *step + (len - 1) * *stride + width;
}

/* Orders are the same to the bit. */
bool cases_lsh_order(parity_case *c)
{
    st_lsh_order_args *a = (void *)c->args;
    if (c->variant >= 48) return false;
    a->batch = 1 + parity_pick(c, 1, 2);
    a->heads = 1 + parity_pick(c, 2, 3);
    a->head_dim = lsh_dim[parity_pick(c, 3, 6)];
    a->hashes = (int64_t[]){1, 2, 4, 19}[parity_pick(c, 4, 4)];
    a->len = lsh_len[c->variant % 8];
    a->total = a->len + parity_pick(c, 5, 2) * parity_pick(c, 6, 40);
    a->sorted = parity_pick(c, 7, 2) ? a->len : 0;
    a->buckets = parity_pick(c, 8, 2) ? 2 * parity_dim(c, 9, 40) : 0;
    int64_t width = a->heads * a->head_dim, directions = a->hashes * a->head_dim * a->buckets / 2;
    int64_t n = lsh_rows(c, a->batch, width, a->len, &a->x_stride, &a->x_step);
    /* large ones; such that hashes round to zeros of both signs */
    double size = (double[]){1, 1, 1e20, 1e-44}[parity_pick(c, 10, 4)];
    parity_in(c, &a->x, c->dtype, n, size);
    if (!a->buckets) {
        a->y_len = lsh_len[parity_pick(c, 11, 8)];
        a->mirrored = (int)parity_pick(c, 12, 2);
        n = lsh_rows(c, a->batch, width, a->y_len, &a->y_stride, &a->y_step);
        parity_in(c, &a->y, c->dtype, n, size < 1 ? size : 1);
        directions = a->hashes * (a->head_dim + 2);
    }
    parity_in(c, &a->w, ST_F32, directions, 1);
    parity_work(c, &a->work, st_lsh_work(a));
    parity_out(c, &a->order, ST_I32, a->batch * a->heads * a->hashes * a->total, 0);
    return true;
}

bool cases_lsh_attend(parity_case *c)
{
    static const int cluster[] = {1, 3, 16, 49, 112, 230};
    st_lsh_attend_args *a = (void *)c->args;
    if (c->variant >= 48) return false;
    a->batch = 1 + parity_pick(c, 1, 2);
    a->heads = 1 + parity_pick(c, 2, 2);
    a->head_dim = lsh_dim[parity_pick(c, 3, 6)];
    a->hashes = (int64_t[]){1, 2, 4}[parity_pick(c, 4, 3)];
    a->shared = (int)parity_pick(c, 5, 2);
    a->q_cluster = cluster[c->variant % 6];
    a->q_len = 1 + parity_pick(c, 6, a->q_cluster > 100 ? 300 : 130);
    if (a->q_len > 130 && a->head_dim > 64) a->hashes = 1; /* ref is slow */
    a->clusters = (a->q_len + a->q_cluster - 1) / a->q_cluster;
    if (a->shared) a->clusters += a->clusters % 2;
    a->kv_len = a->shared ? a->q_len : lsh_len[parity_pick(c, 7, 8)];
    a->k_cluster = (a->kv_len + a->clusters - 1) / a->clusters;
    a->k_cluster += parity_pick(c, 8, 3); /* clusters of padding alone */
    if (a->shared) a->k_cluster = 0;
    a->scale = 0.3f;
    double size = parity_pick(c, 9, 3) ? 1 : 8;
    int64_t width = a->heads * a->head_dim, runs = a->batch * a->heads * a->hashes, n[3];
    n[0] = lsh_rows(c, a->batch, width, a->q_len, &a->q_stride, &a->q_step);
    n[1] = lsh_rows(c, a->batch, width, a->kv_len, &a->k_stride, &a->k_step);
    n[2] = lsh_rows(c, a->batch, width, a->kv_len, &a->v_stride, &a->v_step);
    parity_in(c, &a->q, c->dtype, n[0], size);
    if (!a->shared) parity_in(c, &a->k, c->dtype, n[1], size);
    parity_in(c, &a->v, c->dtype, n[2], 1);
    parity_orders(c, &a->q_order, runs, a->clusters * a->q_cluster);
    if (!a->shared) parity_orders(c, &a->k_order, runs, a->clusters * a->k_cluster);
    if (st_lsh_attend_work(a)) parity_work(c, &a->work, st_lsh_attend_work(a));
    /* scores are sums of products of up to size^2 head_dim, of which e^x keeps the absolute error
     */
    double tol = 20 * PARITY_EPS * (4 + size * size * (double)a->head_dim);
    parity_out(c, &a->o, c->dtype, a->batch * a->q_len * width, tol);
    return true;
}
