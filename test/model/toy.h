/* What tests of changed weights share: a GPT-2 of two layers with its weights on the host, where
 * they can be looked at and written by name, and its logits on `ref`. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_TEST_TOY_H
#define ST_TEST_TOY_H

#include "model/model.h"
#include "testing.h"

enum { TOY_VOCAB = 30, TOY_LEN = 7, TOY_LOGITS = TOY_LEN * TOY_VOCAB };

typedef struct {
    st_model *m;
    float *flat, logits[TOY_LOGITS];
} toy;

/* Weights are 0; `more`: ",\"key\":value" in its config. */
static inline toy toy_new(int width, int inner, const char *more)
{
    st_err e = {0};
    toy t = {0};
    char text[640];
    json_t *config = NULL;
    snprintf(text, sizeof text,
             "{\"model_type\":\"gpt2\",\"vocab_size\":%d,\"n_positions\":8,\"n_embd\":%d,"
             "\"n_layer\":2,\"n_head\":2,\"n_inner\":%d%s}",
             TOY_VOCAB, width, inner, more);
    assert_ok(st_json_parse(&config, text, strlen(text), "test", &e), &e);
    assert_ok(st_model_open(&t.m, config, &e), &e);
    json_decref(config);
    t.flat = st_calloc(st_model_elements(t.m), sizeof *t.flat);
    assert_non_null(t.flat);
    return t;
}

static inline void toy_close(toy *t)
{
    st_model_close(t->m);
    free(t->flat);
    *t = (toy){0};
}

static inline void toy_run(toy *t)
{
    static int32_t ids[TOY_LEN] = {3, 1, 4, 1, 5, 9, 2};
    st_err e = {0};
    st_stream *q = NULL;
    st_arena a = {0};
    int64_t n = st_model_elements(t->m);
    assert_ok(st_stream_open(&q, "ref", 1, &e), &e);
    assert_ok(st_arena_open(&a, 1 << 21, &e), &e);
    st_model_bind(t->m, st_view1(t->flat, ST_F32, n), (st_tensor){0});
    st_lm_args args = {.batch = 1,
                       .len = TOY_LEN,
                       .ids = st_view2(ids, ST_I32, 1, TOY_LEN),
                       .logits = st_view2(t->logits, ST_F32, TOY_LEN, TOY_VOCAB)};
    st_model_forward(t->m, q, &args, &a);
    assert_ok(st_stream_sync(q, &e), &e);
    st_arena_close(&a);
    st_stream_close(q);
}

/* ---- its tensors ----------------------------------------------------------------------------- */

typedef struct {
    const char *name;
    int64_t offset, n;
} toy_place;

static inline void toy_param(void *ctx, const st_param *p)
{
    toy_place *x = ctx;
    if (strcmp(p->name, x->name) != 0) return;
    x->offset = p->offset;
    x->n = st_numel(p->w);
}

/* Its numbers and how many (n may be NULL); NULL: it has none of that name. */
static inline float *toy_find(const toy *t, const char *name, int64_t *n)
{
    toy_place x = {.name = name};
    st_model_params(t->m, toy_param, &x);
    if (n) *n = x.n;
    return x.n ? t->flat + x.offset : NULL;
}

static inline float *toy_tensor(const toy *t, const char *name)
{
    float *w = toy_find(t, name, NULL);
    if (!w) fail_msg("no %s", name);
    return w;
}

#endif
