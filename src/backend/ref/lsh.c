/* Attention among rows of like hashes, one (batch item, head) at a time. Orders: a row's place is
 * the number of rows before it. Attention: all keys that a query sees by any of the hashes, with
 * repetitions, in one softmax. */
/* SPDX-License-Identifier: MIT */
#include "backend/ref/ref.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>

/* ---- orders ---------------------------------------------------------------------------------- */

/* One head's rows; those from `len` on are zeros. */
typedef struct {
    const st_tensor *t;
    int64_t at, stride, len, dim;
} lsh_rows;

static double lsh_get(const lsh_rows *x, int64_t r, int64_t c)
{
    return r < x->len ? (double)ref_load(x->t, x->at + r * x->stride + c) : 0.0;
}

static double lsh_square(const lsh_rows *x, int64_t r)
{
    double sum = 0;
    for (int64_t c = 0; c < x->dim; c++)
        sum += lsh_get(x, r, c) * lsh_get(x, r, c);
    return sum;
}

static double lsh_most(const lsh_rows *x)
{
    double most = 0;
    for (int64_t r = 0; r < x->len; r++)
        most = fmax(most, lsh_square(x, r));
    return most;
}

static double lsh_dot(const st_lsh_order_args *a, int64_t w0, const lsh_rows *x, int64_t r)
{
    double sum = 0;
    for (int64_t c = 0; c < x->dim; c++)
        sum += (double)ref_load(&a->w, w0 + c) * lsh_get(x, r, c);
    return sum;
}

static double lsh_bucket(const st_lsh_order_args *a, const lsh_rows *x, int64_t h, int64_t r)
{
    int64_t half = a->buckets / 2, high_at = 0, low_at = half;
    double high = -INFINITY, low = -INFINITY;
    for (int64_t b = 0; b < half; b++) {
        double dot = lsh_dot(a, (h * half + b) * x->dim, x, r);
        if (dot > high) high = dot, high_at = b;
        if (-dot > low) low = -dot, low_at = half + b;
    }
    return (double)(high >= low ? high_at : low_at);
}

/* `most`: max |x|^2 + max |y|^2. */
static double lsh_projection(const st_lsh_order_args *a, const lsh_rows *x, double most, int64_t h,
                             int64_t r)
{
    int64_t w0 = h * (x->dim + 2);
    double far = (double)(float)sqrt(most - lsh_square(x, r));
    double last = (double)ref_load(&a->w, w0 + x->dim + (a->mirrored ? 1 : 0));
    return (double)(float)(lsh_dot(a, w0, x, r) + last * far);
}

/* Hash i comes before hash j; NaN after all numbers, rows of equal hash by number. */
static bool lsh_before(const double *hash, int64_t i, int64_t j)
{
    if (isnan(hash[i]) || isnan(hash[j])) {
        return isnan(hash[i]) == isnan(hash[j]) ? i < j : isnan(hash[j]) != 0;
    }
    return hash[i] < hash[j] || (hash[i] == hash[j] && i < j);
}

void st_ref_lsh_order(st_stream *q, const st_lsh_order_args *given)
{
    st_lsh_order_args a = st_lsh_order_resolve(given);
    double *hash = st_calloc(a.total, sizeof *hash);
    if (!hash) {
        st_stream_latch(q, ST_ENOMEM, "lsh_order", "no memory for the hashes");
        return;
    }
    for (int64_t n = 0; n < a.h.batch * a.h.heads * a.hashes; n++) {
        int64_t pair = n / a.hashes, h = n % a.hashes;
        int64_t i = pair / a.h.heads, head = pair % a.h.heads * a.h.head_dim;
        lsh_rows x = {&a.h.q.x, i * a.h.q.step + head, a.h.q.stride, a.h.q_len, a.h.head_dim};
        lsh_rows y = {&a.h.k.x, i * a.h.k.step + head, a.h.k.stride, a.h.kv_len, a.h.head_dim};
        double most = a.buckets ? 0 : lsh_most(&x) + lsh_most(&y);
        int32_t *order = (int32_t *)a.order.data + n * a.total;
        for (int64_t r = 0; r < a.sorted; r++)
            hash[r] = a.buckets ? lsh_bucket(&a, &x, h, r) : lsh_projection(&a, &x, most, h, r);
        for (int64_t r = 0; r < a.total; r++) {
            int64_t place = r < a.sorted ? 0 : r;
            for (int64_t s = 0; s < a.sorted && r < a.sorted; s++)
                place += lsh_before(hash, s, r);
            order[place] = (int32_t)r;
        }
    }
    free(hash);
}

/* ---- attention ------------------------------------------------------------------------------- */

/* One query's keys and their scores, then weights. */
typedef struct {
    int64_t n, *key;
    double *weight;
} lsh_seen;

static int64_t lsh_place_of(const int32_t *order, int64_t t)
{
    int64_t place = 0;
    while (order[place] != t)
        place++;
    return place;
}

/* s_tj; q0, k0: where the head's rows begin. */
static double lsh_score(const st_lsh_attend_args *a, int64_t q0, int64_t k0, int64_t t, int64_t j)
{
    ref_vector q = ref_row(&a->h.q.x, q0 + t * a->h.q.stride);
    ref_vector k = ref_row(&a->h.k.x, k0 + j * a->h.k.stride);
    if (a->shared && j == t) return -5e4;
    double dot = (double)a->scale * st_ref_products(0, q, k, a->h.head_dim);
    if (!a->shared) return dot;
    return dot / fmax(sqrt(st_ref_products(0, k, k, a->h.head_dim)), 1e-12);
}

static void lsh_see(const st_lsh_attend_args *a, int64_t pair, int64_t q0, int64_t k0, int64_t t,
                    lsh_seen *s)
{
    s->n = 0;
    for (int64_t h = 0; h < a->hashes; h++) {
        int64_t n = (pair * a->hashes + h) * a->clusters;
        const int32_t *queries = (const int32_t *)a->q_order.data + n * a->q_cluster;
        const int32_t *keys = (const int32_t *)a->k_order.data + n * a->k_cluster;
        int64_t cluster = lsh_place_of(queries, t) / a->q_cluster;
        for (int64_t at = 0; at < st_lsh_keys(a); at++) {
            int64_t j = keys[st_lsh_place(a, cluster, at)];
            if (j >= a->h.kv_len) continue;
            s->key[s->n] = j;
            s->weight[s->n++] = lsh_score(a, q0, k0, t, j);
        }
    }
}

static void lsh_query(const st_lsh_attend_args *a, lsh_seen *s, int64_t v0, int64_t o0)
{
    double top = -INFINITY, total = 0;
    for (int64_t x = 0; x < s->n; x++)
        top = fmax(top, s->weight[x]);
    for (int64_t x = 0; x < s->n; x++) {
        s->weight[x] = exp(s->weight[x] - top);
        total += s->weight[x];
    }
    for (int64_t c = 0; c < a->h.head_dim; c++) {
        double sum = 0;
        for (int64_t x = 0; x < s->n; x++)
            sum += s->weight[x] * (double)ref_load(&a->h.v.x, v0 + s->key[x] * a->h.v.stride + c);
        ref_store(&a->h.o.x, o0 + c, s->n ? sum / total : 0);
    }
}

void st_ref_lsh_attend(st_stream *q, const st_lsh_attend_args *given)
{
    st_lsh_attend_args a = st_lsh_attend_resolve(given);
    int64_t most = a.hashes * st_lsh_keys(&a);
    lsh_seen s = {.key = st_calloc(most, sizeof *s.key)};
    s.weight = st_calloc(most, sizeof *s.weight);
    assert(!a.shared || (a.clusters >= 2 && a.h.kv_len == a.h.q_len));
    if (!s.key || !s.weight)
        st_stream_latch(q, ST_ENOMEM, "lsh_attend", "no memory for the weights");
    for (int64_t n = 0; n < a.h.batch * a.h.heads * a.h.q_len && s.key && s.weight; n++) {
        int64_t pair = n / a.h.q_len, t = n % a.h.q_len;
        int64_t i = pair / a.h.heads, head = pair % a.h.heads * a.h.head_dim;
        lsh_see(&a, pair, i * a.h.q.step + head, i * a.h.k.step + head, t, &s);
        lsh_query(&a, &s, i * a.h.v.step + head, i * a.h.o.step + t * a.h.o.stride + head);
    }
    free(s.key);
    free(s.weight);
}
