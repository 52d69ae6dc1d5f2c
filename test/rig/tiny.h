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

/* Takes `config`. */
static inline void tiny_open(json_t *config, uint64_t seed)
{
    st_err e = {0};
    assert_ok(st_model_open(&tiny.m, config, &e), &e);
    json_decref(config);
    assert_ok(st_stream_open(&tiny.q, "ref", 1, &e), &e);
    int64_t n = st_model_elements(tiny.m);
    assert_ok(st_device_arena(tiny.q, (size_t)n * 4 + 64, &tiny.weights, &e), &e);
    st_tensor flat = st_take1(&tiny.weights, ST_F32, n);
    assert_int_equal(st_fresh_weights(tiny.m, seed, flat.data, NULL), ST_OK);
    st_model_bind(tiny.m, flat, (st_tensor){0});
    assert_ok(st_device_arena(tiny.q, 1 << 24, &tiny.scratch, &e), &e);
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
