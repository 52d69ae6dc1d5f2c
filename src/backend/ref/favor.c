/* Attention through positive random features, one (batch item, head) at a time. With the logits
 * a_im = w_m.x_i - |x_i|^2/2 of queries and b_jm of keys, and c_m = max_j b_jm, t_i = max_m (a_im +
 * c_m), factors cancel:
 *   s_m = sum_j e^(b_jm - c_m) (v_j, 1);  p_im = e^(a_im + c_m - t_i)
 *   o_i = sum_m p_im s_m[v] / (sum_m p_im s_m[1] + eps features e^(-t_i))
 * where the first sum of the denominator is at least 1. */
/* SPDX-License-Identifier: MIT */
#include "backend/ref/ref.h"
#include <math.h>
#include <stdlib.h>

typedef struct {
    double *top, *total, *sum; /* (features), (features), (features, head_dim) */
    double *logit;             /* (features), of one row */
} favor_sums;

/* w.x - |x|^2/2 of the row of x that begins at x0; x scaled. */
static void favor_logits(const st_favor_args *a, const st_tensor *x, int64_t x0, double *logit)
{
    double root = sqrt((double)a->scale), half = 0;
    for (int64_t c = 0; c < a->head_dim; c++) {
        double v = (double)ref_load(x, x0 + c) * root;
        half += v * v / 2;
    }
    for (int64_t m = 0; m < a->features; m++) {
        double dot = 0;
        for (int64_t c = 0; c < a->head_dim; c++)
            dot += (double)ref_load(&a->w, m * a->head_dim + c) * (double)ref_load(x, x0 + c);
        logit[m] = dot * root - half;
    }
}

static void favor_keys(const st_favor_args *a, favor_sums s, int64_t k0, int64_t v0)
{
    for (int64_t m = 0; m < a->features; m++)
        s.top[m] = -INFINITY, s.total[m] = 0;
    for (int64_t i = 0; i < a->features * a->head_dim; i++)
        s.sum[i] = 0;
    for (int64_t j = 0; j < a->kv_len; j++) {
        favor_logits(a, &a->k, k0 + j * a->k_stride, s.logit);
        for (int64_t m = 0; m < a->features; m++)
            s.top[m] = fmax(s.top[m], s.logit[m]);
    }
    for (int64_t j = 0; j < a->kv_len; j++) {
        favor_logits(a, &a->k, k0 + j * a->k_stride, s.logit);
        for (int64_t m = 0; m < a->features; m++) {
            double p = exp(s.logit[m] - s.top[m]);
            s.total[m] += p;
            for (int64_t c = 0; c < a->head_dim; c++) {
                s.sum[m * a->head_dim + c] += p * (double)ref_load(&a->v, v0 + j * a->v_stride + c);
            }
        }
    }
}

static void favor_query(const st_favor_args *a, favor_sums s, int64_t q0, int64_t o0)
{
    double top = -INFINITY, total = 0;
    favor_logits(a, &a->q, q0, s.logit);
    for (int64_t m = 0; m < a->features; m++) {
        s.logit[m] += s.top[m];
        top = fmax(top, s.logit[m]);
    }
    for (int64_t m = 0; m < a->features; m++) {
        s.logit[m] = exp(s.logit[m] - top);
        total += s.logit[m] * s.total[m];
    }
    if (a->eps > 0) total += (double)a->eps * (double)a->features * exp(-top);
    for (int64_t c = 0; c < a->head_dim; c++) {
        double o = 0;
        for (int64_t m = 0; m < a->features; m++)
            o += s.logit[m] * s.sum[m * a->head_dim + c];
        ref_store(&a->o, o0 + c, o / total);
    }
}

void st_ref_favor(st_stream *q, const st_favor_args *given)
{
    st_favor_args a = st_favor_resolve(given);
    double *room = st_calloc(a.features * (a.head_dim + 3), sizeof *room);
    if (!room) {
        st_stream_latch(q, ST_ENOMEM, "favor", "no memory for the sums over keys");
        return;
    }
    favor_sums s = {room, room + a.features, room + 3 * a.features, room + 2 * a.features};
    for (int64_t i = 0; i < a.batch; i++) {
        for (int64_t h = 0; h < a.heads; h++) {
            int64_t head = h * a.head_dim;
            favor_keys(&a, s, i * a.k_step + head, i * a.v_step + head);
            for (int64_t t = 0; t < a.q_len; t++) {
                favor_query(&a, s, i * a.q_step + t * a.q_stride + head,
                            i * a.o_step + t * a.o_stride + head);
            }
        }
    }
    free(room);
}
