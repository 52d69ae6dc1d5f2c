/* What tests of jobs on a running model share: a small GPT-2 with fresh weights on `ref`. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_TEST_TINY_H
#define ST_TEST_TINY_H

#include "store/store.h"
#include "testing.h"

static struct {
    st_model *m;
    st_stream *q;
    st_arena weights, scratch;
} tiny;

/* Fresh weights of `m`, bound in an arena of their own. */
static inline void tiny_bind(st_model *m, uint64_t seed, st_arena *weights)
{
    st_err e = {0};
    int64_t n = st_model_elements(m);
    float *fresh = st_calloc(n, sizeof *fresh);
    assert_non_null(fresh);
    assert_int_equal(st_fresh_weights(m, seed, fresh, NULL), ST_OK);
    assert_ok(st_device_arena(tiny.q, (size_t)n * 4 + 64, weights, &e), &e);
    st_tensor flat = st_take1(weights, ST_F32, n);
    st_upload(tiny.q, flat, fresh);
    st_model_bind(m, flat, (st_tensor){0});
    free(fresh);
}

/* Takes `config`. */
static inline void tiny_open(json_t *config, uint64_t seed)
{
    st_err e = {0};
    assert_ok(st_model_open(&tiny.m, config, &e), &e);
    json_decref(config);
    assert_ok(st_stream_open(&tiny.q, "ref", 1, &e), &e);
    tiny_bind(tiny.m, seed, &tiny.weights);
    assert_ok(st_device_arena(tiny.q, 1 << 24, &tiny.scratch, &e), &e);
}

static inline st_tensor tiny_ids(const int32_t *ids, int64_t n)
{
    st_tensor t = st_take2(&tiny.scratch, ST_I32, 1, n);
    st_upload(tiny.q, t, ids);
    return t;
}

/* Logits (vocab) of what follows `n` tokens, all read anew. */
static inline void tiny_logits(const int32_t *ids, int64_t n, float *logits)
{
    st_err e = {0};
    size_t mark = st_arena_mark(&tiny.scratch);
    st_lm_args a = {.batch = 1, .len = n, .ids = tiny_ids(ids, n), .last_only = 1};
    a.logits = st_take2(&tiny.scratch, ST_F32, 1, st_model_lm(tiny.m).vocab);
    st_model_forward(tiny.m, tiny.q, &a, &tiny.scratch);
    assert_ok(st_stream_sync(tiny.q, &e), &e);
    st_download(tiny.q, logits, a.logits);
    st_arena_rewind(&tiny.scratch, mark);
}

static inline int tiny_close(void **state)
{
    (void)state;
    st_device_arena_close(tiny.q, &tiny.weights);
    st_device_arena_close(tiny.q, &tiny.scratch);
    st_stream_close(tiny.q);
    st_model_close(tiny.m);
    return 0;
}

#endif
