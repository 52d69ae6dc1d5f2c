/* Planning by dry run: the real forward or backward on a dry stream over counting arenas. */
/* SPDX-License-Identifier: MIT */
#include "model/inner.h"

st_status st_plan_run(st_model *m, const st_stream *q, st_dtype t, bool grad, st_plan_fn *run,
                      const void *args, size_t *bytes, st_cost *cost, st_err *e)
{
    st_stream *dry = NULL;
    st_arena mem = {0}, tmp = {0};
    st_tensor weights = m->weights, grads = m->grads;
    bool mixed = m->mixed, pack = m->pack;
    st_tap tap = m->tap;
    st_status s = st_stream_dry(&dry, q, e);
    if (!s) s = st_device_arena(dry, 0, &mem, e);
    if (!s) s = st_device_arena(dry, 0, &tmp, e);
    if (s) goto out;
    if (!grad && st_model_quantized(m))
        st_model_bind_mixed(m, t, st_stream_packs(q), st_arena_take(&mem, st_model_mixed(m, t)));
    else
        st_model_bind(m, st_take1(&mem, t, m->elements),
                      grad ? st_take1(&mem, ST_F32, m->elements) : (st_tensor){0});
    m->tap.fn = NULL;
    run(m, dry, args, &mem, &tmp);
    m->tap = tap;
    if (mixed)
        st_model_bind_mixed(m, weights.dtype, pack, weights.data);
    else
        st_model_bind(m, weights, grads);
    s = st_stream_sync(dry, e);
    if (bytes) *bytes = mem.peak == SIZE_MAX ? SIZE_MAX : tmp.peak;
    if (cost) *cost = st_stream_cost(dry);
out:
    if (dry) {
        st_device_arena_close(dry, &tmp);
        st_device_arena_close(dry, &mem);
    }
    st_stream_close(dry);
    return s;
}

/* ---- language models ------------------------------------------------------------------------- */

/* Gives absent inputs addresses on a counting arena, so that the call takes its usual path. */
static void plan_args(st_lm_args *a, st_kv *kv, st_teach *teach, const st_model *m, st_dtype t,
                      bool grad, st_arena *mem)
{
    int64_t rows = a->batch * a->len;
    if (!a->ids.data) a->ids = st_take1(mem, ST_I32, rows);
    if (grad && !a->targets.data) a->targets = st_take1(mem, ST_I32, rows);
    if (grad && !a->loss.data) a->loss = st_take1(mem, ST_F32, rows);
    if (grad && a->teach) {
        *teach = *a->teach;
        teach->kl = teach->hidden = teach->embed = st_take1(mem, ST_F32, rows);
        a->teach = teach;
    }
    if (!a->kv) return;
    *kv = *a->kv; /* the run moves `used` on */
    if (!kv->k.data) st_kv_take(kv, m, t, kv->batch, kv->capacity, mem);
    kv->used = a->kv->used;
    a->kv = kv;
}

static st_status plan_check(const st_model *m, const st_lm_args *a, st_err *e)
{
    if (!m->lm) {
        ST_FAIL(e, ST_EARG, "the model classifies images: it reads no tokens");
    }
    st_lm_shape lm = m->lm->shape;
    int64_t start = a->kv ? a->kv->used : 0;
    if (a->len < 1 || a->len > lm.context - start) {
        ST_FAIL(e, ST_EARG,
                "%lld tokens from position %lld on do not fit the model's context of "
                "%lld",
                (long long)a->len, (long long)start, (long long)lm.context);
    }
    if (a->batch < 1 || a->batch > INT32_MAX / a->len) {
        ST_FAIL(e, ST_EARG, "batch is %lld, expected 1 to %lld at %lld tokens each",
                (long long)a->batch, (long long)(INT32_MAX / a->len), (long long)a->len);
    }
    return ST_OK;
}

typedef struct {
    const st_lm_args *a;
    st_dtype dtype;
    bool grad;
} plan_lm;

static void plan_lm_run(st_model *m, st_stream *dry, const void *args, st_arena *mem, st_arena *tmp)
{
    const plan_lm *p = args;
    st_lm_args a = *p->a;
    st_kv kv;
    st_teach teach;
    plan_args(&a, &kv, &teach, m, p->dtype, p->grad, mem);
    (p->grad ? st_lm_grad : st_lm_forward)(m, dry, &a, tmp);
}

st_status st_model_plan(st_model *m, const st_stream *q, st_dtype t, const st_lm_args *a, bool grad,
                        size_t *bytes, st_cost *cost, st_err *e)
{
    size_t need = 0;
    ST_TRY(plan_check(m, a, e));
    if (grad && st_model_quantized(m)) {
        ST_FAIL(e, ST_EARG, "its weights are in blocks of 8 or 4 bits, which have no gradients");
    }
    plan_lm p = {.a = a, .dtype = t, .grad = grad};
    ST_TRY(st_plan_run(m, q, t, grad, plan_lm_run, &p, &need, cost, e));
    if (bytes) *bytes = need;
    if (need != SIZE_MAX) return ST_OK;
    ST_FAIL(e, ST_ENOMEM,
            "%lld sequences of %lld tokens need more memory than can be addressed; try a "
            "smaller batch or model",
            (long long)a->batch, (long long)a->len);
}
