/* Attention through positive features, one (batch item, head) at a time. a_im and b_jm are the logs
 * of sqrt(divisor) times the features of query i and key j. Where all keys are seen alike, with c_m
 * = max_j b_jm and t_i = max_m (a_im + c_m), factors cancel:
 *   s_m = sum_j e^(b_jm - c_m) (v_j, 1);  p_im = e^(a_im + c_m - t_i)
 *   o_i = sum_m p_im s_m[v] / (sum_m p_im s_m[1] + eps divisor e^(-t_i))
 * where the first sum of the denominator is at least 1. Else weights are made one by one:
 *   log a_ij = log sum_m e^(a_im + b_jm) - log divisor, or scale q_i.k_j within the window. */
/* SPDX-License-Identifier: MIT */
#include "backend/ref/ref.h"
#include <math.h>
#include <stdlib.h>

typedef struct {
    double *top, *total, *sum; /* (features), (features), (features, head_dim) */
    double *query, *key;       /* logits: of a query; of all keys (kv_len, features) */
} favor_sums;

/* Logits of the row of x that begins at x0, without lift. The largest of the parts that depend on
 * w is returned. */
static double favor_logits(const st_favor_args *a, const st_tensor *x, int64_t x0, double *logit)
{
    double root = sqrt((double)a->scale), half, most = -INFINITY;
    int64_t rows = st_favor_rows(a), dim = a->h.head_dim;
    ref_vector row = ref_row(x, x0);
    if (a->map == ST_FAVOR_RELU) root = pow((double)a->h.head_dim, -0.25);
    half = root * root / 2 * st_ref_products(0, row, row, dim);
    for (int64_t m = 0; m < a->features; m++) {
        double dot = 0, v = (double)ref_load(x, x0 + (rows ? 0 : m));
        if (rows) dot = root * st_ref_products(0, ref_row(&a->w, m % rows * dim), row, dim);
        if (m >= rows) dot = -dot;
        most = fmax(most, dot);
        if (a->map == ST_FAVOR_ELU)
            logit[m] = v > 0 ? log1p(v) : v;
        else
            logit[m] = a->map == ST_FAVOR_RELU ? log(fmax(0, dot) + 1e-3) : dot - half;
    }
    return most;
}

static void favor_shift(const st_favor_args *a, double *logit, double by)
{
    for (int64_t m = 0; m < a->features && a->shifted; m++) {
        logit[m] -= by;
        if (a->lift > 0) logit[m] = log(exp(logit[m]) + (double)a->lift);
    }
}

static void favor_keys(const st_favor_args *a, favor_sums s, int64_t k0)
{
    double most = -INFINITY;
    for (int64_t j = 0; j < a->h.kv_len; j++)
        most =
            fmax(most, favor_logits(a, &a->h.k.x, k0 + j * a->h.k.stride, s.key + j * a->features));
    for (int64_t j = 0; j < a->h.kv_len; j++)
        favor_shift(a, s.key + j * a->features, most);
}

static void favor_sum(const st_favor_args *a, favor_sums s, int64_t v0)
{
    for (int64_t m = 0; m < a->features; m++) {
        s.top[m] = -INFINITY, s.total[m] = 0;
        for (int64_t j = 0; j < a->h.kv_len; j++)
            s.top[m] = fmax(s.top[m], s.key[j * a->features + m]);
        for (int64_t c = 0; c < a->h.head_dim; c++)
            s.sum[m * a->h.head_dim + c] = 0;
        for (int64_t j = 0; j < a->h.kv_len; j++) {
            double p = exp(s.key[j * a->features + m] - s.top[m]);
            s.total[m] += p;
            for (int64_t c = 0; c < a->h.head_dim; c++) {
                s.sum[m * a->h.head_dim + c] +=
                    p * (double)ref_load(&a->h.v.x, v0 + j * a->h.v.stride + c);
            }
        }
    }
}

/* A query that sees all keys alike. */
static void favor_query(const st_favor_args *a, favor_sums s, int64_t o0)
{
    double top = -INFINITY, total = 0;
    for (int64_t m = 0; m < a->features; m++) {
        s.query[m] += s.top[m];
        top = fmax(top, s.query[m]);
    }
    for (int64_t m = 0; m < a->features; m++) {
        s.query[m] = exp(s.query[m] - top);
        total += s.query[m] * s.total[m];
    }
    if (a->eps > 0) total += (double)a->eps * (double)st_favor_divisor(a) * exp(-top);
    for (int64_t c = 0; c < a->h.head_dim; c++) {
        double o = 0;
        for (int64_t m = 0; m < a->features; m++)
            o += s.query[m] * s.sum[m * a->h.head_dim + c];
        ref_store(&a->h.o.x, o0 + c, o / total);
    }
}

/* log a_tj of the head comment. */
static double favor_weight(const st_favor_args *a, favor_sums s, int64_t t, int64_t j, int64_t q0,
                           int64_t k0)
{
    st_attend_fwd_args near = st_favor_near(a);
    double top = -INFINITY, sum = 0;
    if (a->window && j >= st_attend_first(&near, t) && j < st_attend_keys(&near, t)) {
        ref_vector k = ref_row(&a->h.k.x, k0 + j * a->h.k.stride);
        return (double)a->scale * st_ref_products(0, ref_row(&a->h.q.x, q0), k, a->h.head_dim);
    }
    const double *key = s.key + j * a->features;
    for (int64_t m = 0; m < a->features; m++)
        top = fmax(top, s.query[m] + key[m]);
    for (int64_t m = 0; m < a->features; m++)
        sum += exp(s.query[m] + key[m] - top);
    return top + log(sum) - log((double)st_favor_divisor(a));
}

/* A query with keys of its own. */
static void favor_query_near(const st_favor_args *a, favor_sums s, int64_t t, int64_t q0,
                             int64_t k0, int64_t v0, int64_t o0)
{
    double top = -INFINITY, total = 0, *weight = s.sum;
    int64_t keys = a->h.kv_len;
    if (a->causal && a->q_start + t + 1 < keys) keys = a->q_start + t + 1;
    for (int64_t j = 0; j < keys; j++) {
        weight[j] = favor_weight(a, s, t, j, q0, k0);
        top = fmax(top, weight[j]);
    }
    for (int64_t j = 0; j < keys; j++) {
        weight[j] = exp(weight[j] - top);
        total += weight[j];
    }
    if (a->eps > 0) total += (double)a->eps * exp(-top);
    for (int64_t c = 0; c < a->h.head_dim; c++) {
        double o = 0;
        for (int64_t j = 0; j < keys; j++)
            o += weight[j] * (double)ref_load(&a->h.v.x, v0 + j * a->h.v.stride + c);
        ref_store(&a->h.o.x, o0 + c, o / total);
    }
}

void st_ref_favor(st_stream *q, const st_favor_args *given)
{
    st_favor_args a = st_favor_resolve(given);
    int64_t size = a.features * (a.h.head_dim + 3) + a.h.kv_len * (a.features + 1);
    double *room = st_calloc(size, sizeof *room);
    if (!room) {
        st_stream_latch(q, ST_ENOMEM, "favor", "no memory for the sums over keys");
        return;
    }
    favor_sums s = {.top = room, .total = room + a.features, .query = room + 2 * a.features};
    s.key = room + 3 * a.features;
    s.sum = s.key + a.h.kv_len * a.features; /* or kv_len weights */
    for (int64_t n = 0; n < a.h.batch * a.h.heads; n++) {
        int64_t i = n / a.h.heads, head = n % a.h.heads * a.h.head_dim;
        int64_t k0 = i * a.h.k.step + head, v0 = i * a.h.v.step + head;
        favor_keys(&a, s, k0);
        if (!st_favor_block(&a)) favor_sum(&a, s, v0);
        for (int64_t t = 0; t < a.h.q_len; t++) {
            int64_t q0 = i * a.h.q.step + t * a.h.q.stride + head;
            int64_t o0 = i * a.h.o.step + t * a.h.o.stride + head;
            favor_shift(&a, s.query, favor_logits(&a, &a.h.q.x, q0, s.query));
            if (st_favor_block(&a))
                favor_query_near(&a, s, t, q0, k0, v0, o0);
            else
                favor_query(&a, s, o0);
        }
    }
    free(room);
}
