/* What the model tests share: a model on a device with random or stored weights, batches, and
 * readers of test/fixtures. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_TEST_RIG_H
#define ST_TEST_RIG_H

#include "model/model.h"
#include "testing.h"
#include <math.h>

/* ---- stored tensors -------------------------------------------------------------------------- */

/* A safetensors file that the tests themselves made. */
typedef struct {
    char *bytes;
    json_t *head;
    const char *data;
} stored;

static inline stored stored_open(const char *path)
{
    stored s = {.bytes = st_test_read(path, NULL)};
    if (!s.bytes) fail_msg("%s is missing", path);
    uint64_t n;
    memcpy(&n, s.bytes, sizeof n);
    s.head = json_loadb(s.bytes + 8, n, 0, NULL);
    assert_non_null(s.head);
    s.data = s.bytes + 8 + n;
    return s;
}

static inline void stored_close(stored *s)
{
    json_decref(s->head);
    free(s->bytes);
}

/* Its 4-byte numbers, and how many. */
static inline const void *stored_find(const stored *s, const char *name, int64_t *n)
{
    const json_t *t = json_object_get(s->head, name), *at = json_object_get(t, "data_offsets");
    if (!t) fail_msg("no tensor %s", name);
    json_int_t from = json_integer_value(json_array_get(at, 0));
    *n = (json_integer_value(json_array_get(at, 1)) - from) / 4;
    return s->data + from;
}

/* ---- numbers --------------------------------------------------------------------------------- */

static inline double largest(const float *x, int64_t n)
{
    double top = 0;
    for (int64_t i = 0; i < n; i++)
        top = fmax(top, fabs((double)x[i]));
    return top;
}

/* |got - want| <= tol * max |want|, everywhere; NaN is not close to anything. */
static inline void assert_close(const char *what, const float *got, const float *want, int64_t n,
                                double tol)
{
    double limit = tol * fmax(largest(want, n), 1e-3);
    for (int64_t i = 0; i < n; i++) {
        if (fabs((double)got[i] - (double)want[i]) <= limit) continue;
        fail_msg("%s[%lld] is %.9g, expected %.9g within %.2g", what, (long long)i, (double)got[i],
                 (double)want[i], limit);
    }
}

/* ---- a model on a device --------------------------------------------------------------------- */

typedef struct {
    st_model *m;
    st_stream *q;
    st_arena mem, tmp;
    st_tensor w, g;
} rig;

enum { RIG_MEM = 1 << 26, RIG_TMP = 1 << 27 };

static inline json_t *rig_json(const char *text)
{
    json_error_t e;
    json_t *j = json_loads(text, 0, &e);
    if (!j) fail_msg("%s: %s", text, e.text);
    return j;
}

static inline st_model *rig_model(const char *text)
{
    st_model *m;
    st_err e = {0};
    json_t *config = rig_json(text);
    assert_ok(st_model_open(&m, config, &e), &e);
    json_decref(config);
    return m;
}

static inline void rig_open(rig *r, const char *device, st_dtype t, const json_t *config)
{
    st_err e = {0};
    *r = (rig){0};
    assert_ok(st_model_open(&r->m, config, &e), &e);
    assert_ok(st_stream_open(&r->q, device, 0, &e), &e);
    assert_ok(st_device_arena(r->q, RIG_MEM, &r->mem, &e), &e);
    assert_ok(st_device_arena(r->q, RIG_TMP, &r->tmp, &e), &e);
    r->w = st_take1(&r->mem, t, st_model_elements(r->m));
    r->g = st_take1(&r->mem, ST_F32, st_model_elements(r->m));
    st_model_bind(r->m, r->w, r->g);
}

static inline void rig_close(rig *r)
{
    st_err e = {0};
    assert_ok(st_stream_sync(r->q, &e), &e);
    st_device_arena_close(r->q, &r->tmp);
    st_device_arena_close(r->q, &r->mem);
    st_stream_close(r->q);
    st_model_close(r->m);
}

static inline void rig_set(rig *r, st_tensor dst, const float *x)
{
    float *host = test_malloc(st_bytes(dst) + 1);
    st_convert(host, dst.dtype, x, ST_F32, st_numel(dst));
    st_upload(r->q, dst, host);
    test_free(host);
}

/* Numbers on the host, freed with test_free. */
static inline float *rig_get(rig *r, st_tensor src)
{
    float *raw = test_malloc(st_bytes(src) + 1);
    float *out = test_malloc((size_t)st_numel(src) * sizeof *out + 1);
    st_download(r->q, raw, src);
    st_convert(out, ST_F32, raw, src.dtype, st_numel(src));
    test_free(raw);
    return out;
}

/* NaN everywhere: what is read before it is written shows. */
static inline void rig_spoil(rig *r, st_tensor t)
{
    st_stream_ops(r->q)->fill(r->q, &(st_fill_args){.x = t, .value = NAN});
}

static inline void rig_random_param(void *ctx, const st_param *p)
{
    rig *r = ctx;
    int64_t n = st_numel(p->w);
    float *x = test_malloc((size_t)n * sizeof *x + 1);
    float std = p->init_std > 0.0f ? p->init_std : 0.15f; /* biases, gains, gates */
    st_normal_fill(x, n, p->init_mean, std, 5, st_hash_name(p->name));
    rig_set(r, p->w, x);
    test_free(x);
}

/* A fresh model's weights, with noise on those that start constant. */
static inline void rig_random(rig *r)
{
    st_model_params(r->m, rig_random_param, r);
}

/* Swaps (rows, cols) for (cols, rows). */
static inline void rig_flip(const float *x, int64_t rows, int64_t cols, float *y)
{
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < cols; j++)
            y[j * rows + i] = x[i * cols + j];
    }
}

/* The stored tensor PREFIX + Hugging Face's name of p, in p's layout; freed with test_free. */
static inline float *rig_stored(const rig *r, const stored *s, const char *prefix,
                                const st_param *p)
{
    char name[160];
    int64_t n;
    bool head = strcmp(p->name, "lm_head.weight") == 0;
    snprintf(name, sizeof name, "%s%s%s", prefix, head ? "" : st_model_prefix(r->m), p->name);
    const float *x = stored_find(s, name, &n);
    assert_int_equal(n, st_numel(p->w));
    float *y = test_malloc((size_t)n * sizeof *y);
    if (p->flags & ST_P_FLIP) {
        rig_flip(x, p->w.dim[1], p->w.dim[0], y);
    } else {
        memcpy(y, x, (size_t)n * sizeof *y);
    }
    return y;
}

/* ---- batches --------------------------------------------------------------------------------- */

static inline st_tensor rig_ints(rig *r, const int32_t *x, int64_t n)
{
    st_tensor t = st_take1(&r->mem, ST_I32, n);
    st_upload(r->q, t, x);
    return t;
}

/* (batch, len) random ids and targets, every seventh target ignored. */
static inline st_lm_args rig_batch(rig *r, int64_t batch, int64_t len, uint64_t seed)
{
    int64_t n = batch * len, vocab = st_model_lm(r->m).vocab;
    int32_t *ids = test_malloc((size_t)n * 8), *targets = ids + n;
    st_rng rng = {.seed = seed};
    for (int64_t i = 0; i < n; i++) {
        ids[i] = (int32_t)st_rng_below(&rng, (uint64_t)vocab);
        targets[i] = i % 7 == 3 ? -1 : (int32_t)st_rng_below(&rng, (uint64_t)vocab);
    }
    st_lm_args a = {.batch = batch, .len = len, .grad_scale = 1.0f / (float)n, .seed = seed};
    a.ids = rig_ints(r, ids, n);
    a.targets = rig_ints(r, targets, n);
    a.loss = st_take1(&r->mem, ST_F32, n);
    test_free(ids);
    return a;
}

static inline void rig_zero_grads(rig *r)
{
    st_stream_ops(r->q)->fill(r->q, &(st_fill_args){.x = r->g});
}

/* Runs the call with a planned amount of scratch and checks that the plan was exact. */
static inline void rig_run(rig *r, const st_lm_args *a, bool grad)
{
    st_err e = {0};
    size_t bytes;
    assert_ok(st_model_plan(r->m, r->q, r->w.dtype, a, grad, &bytes, NULL, &e), &e);
    r->tmp.peak = r->tmp.used;
    (grad ? st_model_grad : st_model_forward)(r->m, r->q, a, &r->tmp);
    assert_int_equal(r->tmp.peak, bytes);
    assert_int_equal(r->tmp.used, 0);
    assert_ok(st_stream_sync(r->q, &e), &e);
}

/* Logits (rows, vocab) of a whole forward; freed with test_free. */
static inline float *rig_logits(rig *r, const st_lm_args *batch)
{
    size_t mark = st_arena_mark(&r->mem);
    st_lm_args a = *batch;
    a.logits =
        st_take2(&r->mem, ST_F32, a.last_only ? a.batch : a.batch * a.len, st_model_lm(r->m).vocab);
    rig_run(r, &a, false);
    float *out = rig_get(r, a.logits);
    st_arena_rewind(&r->mem, mark);
    return out;
}

#endif
