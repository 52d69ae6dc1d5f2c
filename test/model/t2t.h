/* What the T2T-ViT tests share: the weights and pixels of tools/fixtures_t2t.py, which are hashes
 * of names, and a model on a device that has them. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_TEST_T2T_H
#define ST_TEST_T2T_H

#include "model/rig.h"

/* [-1, 1), 24 bits: number i of splitmix64 from the name's hash on. */
static inline double t2t_uniform(uint64_t seed, int64_t i)
{
    uint64_t z = seed + (uint64_t)(i + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return (double)(z >> 40) / 8388608.0 - 1.0;
}

static inline bool t2t_ends(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

/* fill() of the script. */
static inline void t2t_fill(const st_param *p, float *out)
{
    uint64_t seed = st_hash_name(p->name);
    bool vector = p->w.ndim == 1, gain = vector && t2t_ends(p->name, ".weight");
    double scale = 0.5, mean = gain ? 1.0 : 0.0;
    if (vector)
        scale = gain ? 0.2 : 0.1;
    else if (t2t_ends(p->name, ".w"))
        scale = 1.2;
    else if (p->w.ndim == 2)
        scale = sqrt(3.0 / (double)p->w.dim[1]);
    for (int64_t i = 0; i < st_numel(p->w); i++)
        out[i] = (float)(mean + scale * t2t_uniform(seed, i));
}

/* ---- configs --------------------------------------------------------------------------------- */

typedef struct {
    const char *name, *config;
    int64_t batch;
} t2t_small;

enum { T2T_TINY = 6 };

/* TINY of the script. */
static inline const t2t_small *t2t_tiny(int i)
{
    static const t2t_small all[T2T_TINY] = {
        {"tiny-t",
         "{'model_type': 't2t_vit', 'tokens_type': 'transformer', 'img_size': 32, 'embed_dim': 16, "
         "'depth': 2, 'num_heads': 2, 'mlp_dim': 32, 'token_dim': 4, 'num_classes': 10}",
         3},
        {"tiny-p",
         "{'model_type': 't2t_vit', 'tokens_type': 'performer', 'img_size': 32, 'embed_dim': 16, "
         "'depth': 2, 'num_heads': 2, 'mlp_dim': 32, 'token_dim': 4, 'num_classes': 10}",
         3},
        {"tiny-t-224",
         "{'model_type': 't2t_vit', 'tokens_type': 'transformer', 'img_size': 224, 'embed_dim': "
         "16, "
         "'depth': 1, 'num_heads': 2, 'mlp_dim': 48, 'token_dim': 4, 'num_classes': 7}",
         3},
        {"tiny-p-224",
         "{'model_type': 't2t_vit', 'tokens_type': 'performer', 'img_size': 224, 'embed_dim': 16, "
         "'depth': 1, 'num_heads': 2, 'mlp_dim': 48, 'token_dim': 4, 'num_classes': 7}",
         3},
        {"tiny-t-48",
         "{'model_type': 't2t_vit', 'tokens_type': 'transformer', 'img_size': 48, 'embed_dim': 24, "
         "'depth': 3, 'num_heads': 3, 'mlp_dim': 48, 'token_dim': 8, 'num_classes': 5}",
         2},
        {"tiny-bias",
         "{'model_type': 't2t_vit', 'tokens_type': 'performer', 'img_size': 48, 'embed_dim': 24, "
         "'depth': 2, 'num_heads': 3, 'mlp_dim': 48, 'token_dim': 8, 'num_classes': 5, "
         "'qkv_bias': true, 'qk_scale': 0.6}",
         2},
    };
    return &all[i];
}

/* JSON with single quotes. */
static inline json_t *t2t_json(const char *text)
{
    char *copy = test_malloc(strlen(text) + 1);
    strcpy(copy, text);
    for (char *c = copy; *c; c++)
        *c = *c == '\'' ? '"' : *c;
    json_t *j = rig_json(copy);
    test_free(copy);
    return j;
}

/* ---- a model on a device --------------------------------------------------------------------- */

typedef struct {
    st_model *m;
    st_stream *q;
    st_arena mem, tmp;
    st_tensor flat;
    st_vision_shape v;
} t2t_rig;

static inline void t2t_put(const t2t_rig *r, const st_param *p, float scale)
{
    int64_t n = st_numel(p->w);
    float *x = test_malloc((size_t)n * sizeof *x), *y = test_malloc((size_t)n * sizeof *y);
    t2t_fill(p, x);
    for (int64_t i = 0; i < n; i++)
        x[i] *= scale;
    st_convert(y, r->flat.dtype, x, ST_F32, n);
    st_upload(r->q, st_slice(r->flat, p->offset, n), y);
    test_free(x);
    test_free(y);
}

static inline void t2t_set(void *ctx, const st_param *p)
{
    t2t_put(ctx, p, 1);
}

static inline void t2t_open(t2t_rig *r, const json_t *config, const char *device, st_dtype t)
{
    st_err e = {0};
    *r = (t2t_rig){0};
    assert_ok(st_model_open(&r->m, config, &e), &e);
    assert_ok(st_stream_open(&r->q, device, 0, &e), &e);
    int64_t n = st_model_elements(r->m);
    assert_ok(st_device_arena(r->q, (size_t)n * st_dtype_size(t), &r->mem, &e), &e);
    r->flat = st_take1(&r->mem, t, n);
    st_model_bind(r->m, r->flat, (st_tensor){0});
    st_model_params(r->m, t2t_set, r);
    r->v = st_model_vision_shape(r->m);
}

static inline void t2t_close(t2t_rig *r)
{
    st_device_arena_close(r->q, &r->mem);
    st_stream_close(r->q);
    st_model_close(r->m);
}

/* Logits of `batch` of the script's images; freed with test_free. Exactly what the plan says is
 * there, and all of it is used. */
static inline float *t2t_logits(t2t_rig *r, int64_t batch, const st_vision_args *how)
{
    st_err e = {0};
    st_vision_args a = how ? *how : (st_vision_args){0};
    int64_t n = batch * r->v.channels * r->v.size * r->v.size, out = batch * r->v.classes;
    size_t bytes = 0;
    a.batch = batch;
    assert_ok(st_model_vision_plan(r->m, r->q, r->flat.dtype, &a, &bytes, NULL, &e), &e);
    st_arena io = {0}, tmp = {0};
    assert_ok(st_device_arena(r->q, (size_t)(n + out) * 4 + 2 * ST_ALIGN, &io, &e), &e);
    assert_ok(st_device_arena(r->q, bytes, &tmp, &e), &e);
    float *x = test_malloc((size_t)n * sizeof *x), *y = test_malloc((size_t)out * sizeof *y);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(sqrt(3.0) * t2t_uniform(st_hash_name("pixels"), i));
    a.pixels = st_take1(&io, ST_F32, n);
    a.logits = st_take2(&io, ST_F32, batch, r->v.classes);
    st_upload(r->q, a.pixels, x);
    st_model_vision_forward(r->m, r->q, &a, &tmp);
    assert_ok(st_stream_sync(r->q, &e), &e);
    st_download(r->q, y, a.logits);
    assert_int_equal(tmp.peak, bytes);
    st_device_arena_close(r->q, &tmp);
    st_device_arena_close(r->q, &io);
    test_free(x);
    return y;
}

#endif
