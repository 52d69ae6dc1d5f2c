/* Attention of a few heads on given inputs, on the ref or cpu device, and what to compare it with:
 * the matrix of weights written out in double precision. */
/* SPDX-License-Identifier: MIT */
#ifndef ATTEND_RIG_H
#define ATTEND_RIG_H

#include "model/model.h"
#include "testing.h"
#include <math.h>

typedef struct {
    int64_t batch, heads, dim, q_len, kv_len;
    int causal, threads; /* 0: two */
    float scale;
    uint64_t layer;
    float *q, *k, *v, *o; /* (batch, len, heads, dim) */
} attend_rig;

/* Numbers of standard deviation `std` from `seed`. Free with rig_close. */
static inline attend_rig rig_open(int64_t batch, int64_t heads, int64_t dim, int64_t q_len,
                                  int64_t kv_len, float std, uint64_t seed)
{
    attend_rig r = {.batch = batch, .heads = heads, .dim = dim, .q_len = q_len, .kv_len = kv_len};
    int64_t nq = batch * heads * dim * q_len, nk = batch * heads * dim * kv_len;
    r.scale = 1.0f / sqrtf((float)dim);
    r.q = st_calloc(nq, sizeof *r.q);
    r.k = st_calloc(nk, sizeof *r.k);
    r.v = st_calloc(nk, sizeof *r.v);
    r.o = st_calloc(nq, sizeof *r.o);
    assert_true(r.q && r.k && r.v && r.o);
    st_normal_fill(r.q, nq, 0, std, seed, 1);
    st_normal_fill(r.k, nk, 0, std, seed, 2);
    st_normal_fill(r.v, nk, 0, 1, seed, 3);
    return r;
}

static inline void rig_close(attend_rig *r)
{
    free(r->q);
    free(r->k);
    free(r->v);
    free(r->o);
}

/* o by `m` on a device; bfloat16 inputs are rounded in place first. */
static inline void rig_run_as(attend_rig *r, const st_attention *m, const char *device, st_dtype t)
{
    st_err e;
    st_stream *q, *dry;
    st_arena io, tmp, count;
    int64_t nq = r->batch * r->heads * r->dim * r->q_len;
    int64_t nk = r->batch * r->heads * r->dim * r->kv_len;
    assert_ok(st_stream_open(&q, device, r->threads ? r->threads : 2, &e), &e);
    assert_ok(st_device_arena(q, (size_t)(2 * nq + 2 * nk + 64) * 4 + 512, &io, &e), &e);
    st_attend_fwd_args a = {.h = {.batch = r->batch,
                                  .heads = r->heads,
                                  .head_dim = r->dim,
                                  .q_len = r->q_len,
                                  .kv_len = r->kv_len},
                            .scale = r->scale,
                            .causal = r->causal,
                            .seed = r->layer};
    float *from[] = {r->q, r->k, r->v, r->o};
    st_tensor *to[] = {&a.h.q.x, &a.h.k.x, &a.h.v.x, &a.h.o.x};
    for (int i = 0; i < 4; i++) {
        int64_t n = i == 0 || i == 3 ? nq : nk;
        void *rounded = st_calloc(n, st_dtype_size(t));
        *to[i] = st_take1(&io, t, n);
        st_convert(rounded, t, from[i], ST_F32, n);
        st_convert(from[i], ST_F32, rounded, t, n);
        st_upload(q, *to[i], rounded);
        free(rounded);
    }
    assert_ok(st_stream_dry(&dry, q, &e), &e);
    assert_ok(st_arena_open_counting(&count, &e), &e);
    st_attention_forward(dry, m, &a, &count);
    assert_ok(st_device_arena(q, count.peak + 64, &tmp, &e), &e);
    /* scratch is not read before it is written */
    st_stream_ops(q)->fill(
        q, &(st_fill_args){.x = st_view1(tmp.base, ST_F32, (int64_t)count.peak / 4), .value = NAN});
    st_attention_forward(q, m, &a, &tmp);
    assert_ok(st_stream_sync(q, &e), &e);
    assert_true(tmp.peak == count.peak && tmp.used == 0);
    void *out = st_calloc(nq, st_dtype_size(t));
    st_download(q, out, a.h.o.x);
    st_convert(r->o, ST_F32, out, t, nq);
    free(out);
    st_arena_close(&count);
    st_device_arena_close(q, &tmp);
    st_device_arena_close(q, &io);
    st_stream_close(dry);
    st_stream_close(q);
}

static inline void rig_run(attend_rig *r, const char *text, const char *device)
{
    st_err e;
    st_attention m;
    assert_ok(st_attention_parse(&m, text, &e), &e);
    rig_run_as(r, &m, device, ST_F32);
}

/* Row t of head h of item i. */
static inline const float *rig_row(const attend_rig *r, const float *x, int64_t len, int64_t i,
                                   int64_t h, int64_t t)
{
    return x + ((i * len + t) * r->heads + h) * r->dim;
}

static inline double rig_dot(const attend_rig *r, int64_t i, int64_t h, int64_t t, int64_t j)
{
    const float *a = rig_row(r, r->q, r->q_len, i, h, t), *b = rig_row(r, r->k, r->kv_len, i, h, j);
    double sum = 0;
    for (int64_t c = 0; c < r->dim; c++)
        sum += (double)a[c] * (double)b[c];
    return sum;
}

/* Log of the weight of (item, head, query, key) before normalisation; -INFINITY: none. */
typedef double rig_weight(const attend_rig *r, void *ctx, int64_t i, int64_t h, int64_t t,
                          int64_t j);

/* The largest difference of o from sum_j softmax_j(log weight) v_j, by the largest |v|. */
static inline double rig_error(const attend_rig *r, rig_weight *weight, void *ctx)
{
    double worst = 0, *w = st_calloc(r->kv_len, sizeof *w);
    assert_non_null(w);
    for (int64_t n = 0; n < r->batch * r->heads * r->q_len; n++) {
        int64_t t = n % r->q_len, h = n / r->q_len % r->heads, i = n / r->q_len / r->heads;
        double top = -INFINITY, total = 0;
        for (int64_t j = 0; j < r->kv_len; j++) {
            w[j] = r->causal && j > t ? (double)-INFINITY : weight(r, ctx, i, h, t, j);
            top = fmax(top, w[j]);
        }
        for (int64_t j = 0; j < r->kv_len; j++) {
            w[j] = top > (double)-INFINITY ? exp(w[j] - top) : 0;
            total += w[j];
        }
        for (int64_t c = 0; c < r->dim; c++) {
            double want = 0;
            for (int64_t j = 0; j < r->kv_len; j++)
                want +=
                    total > 0 ? w[j] / total * (double)rig_row(r, r->v, r->kv_len, i, h, j)[c] : 0;
            double off = fabs(want - (double)rig_row(r, r->o, r->q_len, i, h, t)[c]);
            worst = off <= worst ? worst : off; /* NaN counts as worst */
        }
    }
    free(w);
    return worst;
}

#endif
