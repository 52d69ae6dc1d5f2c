/* A tiny model of test/fixtures against what Hugging Face's code computed (tools/fixtures*.py):
 * logits, losses, gradients, five AdamW steps, greedy text. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_TEST_TWIN_H
#define ST_TEST_TWIN_H

#include "rig.h"

typedef struct {
    rig r;
    stored expect;
    const stored *from; /* for visitors */
    const char *prefix;
    double tol;
} twin;

static inline void twin_load(void *ctx, const st_param *p)
{
    twin *t = ctx;
    float *x = rig_stored(&t->r, t->from, t->prefix, p);
    rig_set(&t->r, p->w, x);
    test_free(x);
}

static inline void twin_open(twin *t, const char *name, const char *device, st_dtype dtype)
{
    char path[256];
    snprintf(path, sizeof path, "test/fixtures/%s/config.json", name);
    char *text = st_test_read(path, NULL);
    assert_non_null(text);
    json_t *config = rig_json(text);
    free(text);
    *t = (twin){.prefix = ""};
    rig_open(&t->r, device, dtype, config);
    json_decref(config);
    snprintf(path, sizeof path, "test/fixtures/%s/model.safetensors", name);
    stored weights = stored_open(path);
    t->from = &weights;
    st_model_params(t->r.m, twin_load, t);
    stored_close(&weights);
    snprintf(path, sizeof path, "test/fixtures/%s/expect.safetensors", name);
    t->expect = stored_open(path);
}

static inline void twin_close(twin *t)
{
    stored_close(&t->expect);
    rig_close(&t->r);
}

/* The stored batch `i` of ids and targets. */
static inline st_lm_args twin_batch(twin *t, const char *prefix, int64_t i, int64_t len)
{
    char name[64];
    int64_t n, rows = 3 * len;
    st_lm_args a = {.batch = 3, .len = len};
    snprintf(name, sizeof name, "%sids", prefix);
    const int32_t *x = stored_find(&t->expect, name, &n);
    a.ids = rig_ints(&t->r, x + i * rows, rows);
    snprintf(name, sizeof name, "%stargets", prefix);
    x = stored_find(&t->expect, name, &n);
    a.targets = rig_ints(&t->r, x + i * rows, rows);
    a.loss = st_take1(&t->r.mem, ST_F32, rows);
    int64_t count = 0;
    for (int64_t j = 0; j < rows; j++)
        count += x[i * rows + j] >= 0;
    a.grad_scale = 1.0f / (float)count;
    return a;
}

static inline void twin_check_grad(void *ctx, const st_param *p)
{
    twin *t = ctx;
    float *want = rig_stored(&t->r, &t->expect, "grad.", p);
    float *got = rig_get(&t->r, st_slice(t->r.g, p->offset, st_numel(p->w)));
    assert_close(p->name, got, want, st_numel(p->w), t->tol);
    test_free(want);
    test_free(got);
}

static inline void twin_outputs(const char *name, const char *device, st_dtype dtype, double tol)
{
    twin t;
    int64_t n;
    twin_open(&t, name, device, dtype);
    t.tol = tol;
    st_lm_args a = twin_batch(&t, "", 0, 13);
    const float *logits = stored_find(&t.expect, "logits", &n);
    float *got = rig_logits(&t.r, &a);
    assert_close("logits", got, logits, n, tol);
    test_free(got);

    const float *nll = stored_find(&t.expect, "nll", &n);
    got = rig_get(&t.r, a.loss); /* of the forward pass */
    assert_close("nll", got, nll, n, tol);
    test_free(got);
    rig_run(&t.r, &a, true);
    got = rig_get(&t.r, a.loss); /* of the training pass */
    assert_close("nll", got, nll, n, tol);
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)got[i] * (double)a.grad_scale;
    float mean = (float)sum;
    assert_close("loss", &mean, stored_find(&t.expect, "loss", &n), 1, tol);
    test_free(got);
    st_model_params(t.r.m, twin_check_grad, &t);
    twin_close(&t);
}

/* ---- five steps ------------------------------------------------------------------------------ */

typedef struct {
    twin *t;
    st_tensor m, v;
    float scale;
    int64_t step;
} adam;

static inline void adam_param(void *ctx, const st_param *p)
{
    adam *a = ctx;
    int64_t n = st_numel(p->w);
    st_stream_ops(a->t->r.q)->adamw(a->t->r.q,
                                    &(st_adamw_args){.w = st_slice(a->t->r.w, p->offset, n),
                                                     .grad = st_slice(a->t->r.g, p->offset, n),
                                                     .m = st_slice(a->m, p->offset, n),
                                                     .v = st_slice(a->v, p->offset, n),
                                                     .lr = 1e-2f,
                                                     .beta1 = 0.9f,
                                                     .beta2 = 0.95f,
                                                     .eps = 1e-4f,
                                                     .decay = p->flags & ST_P_DECAY ? 0.1f : 0.0f,
                                                     .grad_scale = a->scale,
                                                     .step = a->step});
}

static inline void adam_check(void *ctx, const st_param *p)
{
    twin *t = ctx;
    float *want = rig_stored(&t->r, &t->expect, "after.", p), *got = rig_get(&t->r, p->w);
    assert_close(p->name, got, want, st_numel(p->w), t->tol);
    test_free(want);
    test_free(got);
}

static inline void twin_steps(const char *name, const char *device, double tol)
{
    twin t;
    int64_t n;
    twin_open(&t, name, device, ST_F32);
    t.tol = tol;
    adam a = {.t = &t};
    a.m = st_take1(&t.r.mem, ST_F32, st_numel(t.r.w));
    a.v = st_take1(&t.r.mem, ST_F32, st_numel(t.r.w));
    st_tensor sum = st_take1(&t.r.mem, ST_F32, 1);
    const float *loss = stored_find(&t.expect, "step.loss", &n);
    const float *norm = stored_find(&t.expect, "step.norm", &n);
    for (a.step = 1; a.step <= 5; a.step++) {
        int64_t i = a.step - 1;
        st_lm_args batch = twin_batch(&t, "step.", i, 16);
        rig_zero_grads(&t.r);
        rig_run(&t.r, &batch, true);
        float *nll = rig_get(&t.r, batch.loss), mean = 0;
        for (int64_t j = 0; j < 48; j++)
            mean += nll[j] * batch.grad_scale;
        test_free(nll);
        assert_close("step.loss", &mean, loss + i, 1, tol);
        st_stream_ops(t.r.q)->fill(t.r.q, &(st_fill_args){.x = sum});
        st_stream_ops(t.r.q)->sumsq(t.r.q, &(st_sumsq_args){.x = t.r.g, .out = sum});
        float *sq = rig_get(&t.r, sum), length = sqrtf(*sq);
        test_free(sq);
        assert_close("step.norm", &length, norm + i, 1, tol);
        a.scale = fminf(1.0f, 1.0f / (length + 1e-6f));
        st_model_params(t.r.m, adam_param, &a);
    }
    st_model_params(t.r.m, adam_check, &t);
    twin_close(&t);
}

/* ---- greedy text ----------------------------------------------------------------------------- */

static inline int32_t greedy_top(rig *r, st_lm_args *a)
{
    float *x = rig_logits(r, a);
    int32_t best = 0;
    for (int32_t j = 1; j < (int32_t)st_model_lm(r->m).vocab; j++) {
        if (x[j] > x[best]) best = j;
    }
    test_free(x);
    return best;
}

static inline void twin_greedy(const char *name, const char *device)
{
    twin t;
    int64_t n;
    st_kv kv;
    twin_open(&t, name, device, ST_F32);
    const int32_t *ids = stored_find(&t.expect, "ids", &n);
    const int32_t *want = stored_find(&t.expect, "greedy", &n);
    st_kv_take(&kv, t.r.m, ST_F32, 1, 16, &t.r.mem);
    st_lm_args a = {.batch = 1, .len = 4, .last_only = 1, .kv = &kv};
    a.ids = rig_ints(&t.r, ids, 4);
    for (int64_t i = 0; i < n; i++) {
        int32_t next = greedy_top(&t.r, &a);
        assert_int_equal(next, want[i]);
        a.len = 1;
        a.ids = rig_ints(&t.r, &next, 1);
    }
    assert_int_equal(kv.used, 15);
    twin_close(&t);
}

#endif
