/* Models with fresh weights: GPT-2's four published sizes by name (Radford et al. 2019), any other
 * from its config.json. */
/* SPDX-License-Identifier: MIT */
#include "job/job.h"
#include "job/spread.h"
#include <stdlib.h>
#include <string.h>

const char *const st_fresh_names[] = {"gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", NULL};

static const struct {
    int layers, heads, width;
} fresh_size[] = {{12, 12, 768}, {24, 16, 1024}, {36, 20, 1280}, {48, 25, 1600}};

enum { CONFIG_BYTES = 1 << 20 };

st_status st_fresh_config(json_t **out, const char *name, st_err *e)
{
    *out = NULL;
    for (int i = 0; st_fresh_names[i]; i++) {
        if (strcmp(name, st_fresh_names[i]) != 0) continue;
        *out = json_pack("{s:s, s:[s], s:i, s:i, s:i, s:i, s:i, s:n, s:s, s:f, s:f, s:f, s:f, s:f, "
                         "s:b, s:b, s:i, "
                         "s:i}",
                         "model_type", "gpt2", "architectures", "GPT2LMHeadModel", "vocab_size",
                         50257, "n_positions", 1024, "n_embd", fresh_size[i].width, "n_layer",
                         fresh_size[i].layers, "n_head", fresh_size[i].heads, "n_inner",
                         "activation_function", "gelu_new", "layer_norm_epsilon", 1e-5,
                         "initializer_range", 0.02, "embd_pdrop", 0.1, "attn_pdrop", 0.1,
                         "resid_pdrop", 0.1, "scale_attn_by_inverse_layer_idx", 0,
                         "tie_word_embeddings", 1, "bos_token_id", 50256, "eos_token_id", 50256);
        if (!*out) ST_FAIL(e, ST_ENOMEM, "%s: out of memory", name);
        return ST_OK;
    }
    size_t n = strlen(name);
    if (n > 5 && strcmp(name + n - 5, ".json") == 0)
        return st_json_load(out, name, CONFIG_BYTES, e);
    const char *near = st_nearest(name, st_fresh_names);
    ST_FAIL(e, ST_EARG,
            "%s: unknown model%s%s%s; known are gpt2, gpt2-medium, gpt2-large, gpt2-xl, and the "
            "config.json of a GPT-2",
            name, near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
}

typedef struct {
    const st_model *m;
    uint64_t seed;
    float *flat;
    int64_t want, at; /* parameter number `want`, counted by `at` */
} fresh_fill;

static void fresh_count(void *ctx, const st_param *p)
{
    (void)p;
    ++*(int64_t *)ctx;
}

static void fresh_param(void *ctx, const st_param *p)
{
    fresh_fill *f = ctx;
    if (f->at++ != f->want) return;
    st_normal_fill(f->flat + p->offset, st_numel(p->w), p->init_mean, p->init_std, f->seed,
                   st_hash_name(p->name));
}

static st_status fresh_piece(void *ctx, int64_t i, st_err *e)
{
    fresh_fill f = *(const fresh_fill *)ctx;
    (void)e;
    f.want = i;
    st_model_params(f.m, fresh_param, &f);
    return ST_OK;
}

st_status st_fresh_weights(const st_model *m, uint64_t seed, float *flat, st_err *e)
{
    int64_t n = 0;
    st_model_params(m, fresh_count, &n);
    return st_spread(&(st_spread_args){.what = "init",
                                       .unit = "tensors",
                                       .n = n,
                                       .work = fresh_piece,
                                       .ctx = &(fresh_fill){.m = m, .seed = seed, .flat = flat}},
                     e);
}
