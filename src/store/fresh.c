/* Models with fresh weights: GPT-2's four published sizes (Radford et al. 2019), T2T-ViT's (Yuan et
 * al. 2021) and those of five Llama-shaped models by name, any other from its config.json. */
/* SPDX-License-Identifier: MIT */
#include "linalg/linalg.h"
#include "store/store.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

const char *const st_fresh_names[] = {
    "gpt2",        "gpt2-medium",  "gpt2-large",   "gpt2-xl",      "t2t-vit-7",
    "t2t-vit-10",  "t2t-vit-12",   "t2t-vit-14",   "t2t-vit-19",   "t2t-vit-24",
    "t2t-vit-t-7", "t2t-vit-t-14", "t2t-vit-t-19", "t2t-vit-t-24", "llama-135m",
    "llama-360m",  "llama-1b",     "tinyllama",    "qwen2.5-0.5b", NULL};

static const struct {
    int layers, heads, width, inner;
} fresh_size[] = {{12, 12, 768, 0},   {24, 16, 1024, 0},  {36, 20, 1280, 0}, {48, 25, 1600, 0},
                  {7, 4, 256, 512},   {10, 4, 256, 512},  {12, 4, 256, 512}, {14, 6, 384, 1152},
                  {19, 7, 448, 1344}, {24, 8, 512, 1536}, {7, 4, 256, 512},  {14, 6, 384, 1152},
                  {19, 7, 448, 1344}, {24, 8, 512, 1536}};

/* SmolLM2's two smaller sizes (Ben Allal et al. 2025), Llama 3.2's smallest, TinyLlama (Zhang et
 * al. 2024), Qwen2.5's smallest, as their config.json say. */
static const struct {
    const char *name, *type;
    int vocab, width, inner, layers, heads, kv_heads, context;
    double theta, eps, init, factor; /* factor: of Llama 3's scaling, 0: none */
    int bos, eos;
    bool tied;
} fresh_llama[] = {
    {"llama-135m", "llama", 49152, 576, 1536, 30, 9, 3, 8192, 1e5, 1e-5, 1.0 / 24, 0, 1, 2, true},
    {"llama-360m", "llama", 49152, 960, 2560, 32, 15, 5, 8192, 1e5, 1e-5, 0.02, 0, 1, 2, true},
    {"llama-1b", "llama", 128256, 2048, 8192, 16, 32, 8, 131072, 5e5, 1e-5, 0.02, 32, 128000,
     128001, true},
    {"tinyllama", "llama", 32000, 2048, 5632, 22, 32, 4, 2048, 1e4, 1e-5, 0.02, 0, 1, 2, false},
    {"qwen2.5-0.5b", "qwen2", 151936, 896, 4864, 24, 14, 2, 32768, 1e6, 1e-6, 0.02, 0, 151643,
     151643, true},
};
enum { FRESH_LLAMA = sizeof fresh_llama / sizeof *fresh_llama };

enum { CONFIG_BYTES = 1 << 20, FRESH_NAME = 32 };

static json_t *fresh_gpt2(int i)
{
    return json_pack("{s:s, s:[s], s:i, s:i, s:i, s:i, s:i, s:n, s:s, s:f, s:f, s:f, s:f, s:f, "
                     "s:b, s:b, s:i, "
                     "s:i}",
                     "model_type", "gpt2", "architectures", "GPT2LMHeadModel", "vocab_size", 50257,
                     "n_positions", 1024, "n_embd", fresh_size[i].width, "n_layer",
                     fresh_size[i].layers, "n_head", fresh_size[i].heads, "n_inner",
                     "activation_function", "gelu_new", "layer_norm_epsilon", 1e-5,
                     "initializer_range", 0.02, "embd_pdrop", 0.1, "attn_pdrop", 0.1, "resid_pdrop",
                     0.1, "scale_attn_by_inverse_layer_idx", 0, "tie_word_embeddings", 1,
                     "bos_token_id", 50256, "eos_token_id", 50256);
}

static json_t *fresh_t2t(int i)
{
    bool transformer = strncmp(st_fresh_names[i], "t2t-vit-t-", 10) == 0;
    return json_pack("{s:s, s:s, s:i, s:i, s:i, s:i}", "model_type", "t2t_vit", "tokens_type",
                     transformer ? "transformer" : "performer", "embed_dim", fresh_size[i].width,
                     "depth", fresh_size[i].layers, "num_heads", fresh_size[i].heads, "mlp_dim",
                     fresh_size[i].inner);
}

static json_t *fresh_llama_of(const char *name)
{
    int i = 0;
    while (i < FRESH_LLAMA - 1 && strcmp(name, fresh_llama[i].name))
        i++;
    json_t *to = json_pack(
        "{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:f, s:i, s:i, s:b}", "model_type",
        fresh_llama[i].type, "vocab_size", fresh_llama[i].vocab, "hidden_size",
        fresh_llama[i].width, "intermediate_size", fresh_llama[i].inner, "num_hidden_layers",
        fresh_llama[i].layers, "num_attention_heads", fresh_llama[i].heads, "num_key_value_heads",
        fresh_llama[i].kv_heads, "max_position_embeddings", fresh_llama[i].context, "rope_theta",
        fresh_llama[i].theta, "rms_norm_eps", fresh_llama[i].eps, "initializer_range",
        fresh_llama[i].init, "bos_token_id", fresh_llama[i].bos, "eos_token_id", fresh_llama[i].eos,
        "tie_word_embeddings", fresh_llama[i].tied);
    if (fresh_llama[i].factor > 0) {
        json_object_set_new(to, "rope_scaling",
                            json_pack("{s:s, s:f, s:f, s:f, s:i}", "rope_type", "llama3", "factor",
                                      fresh_llama[i].factor, "low_freq_factor", 1.0,
                                      "high_freq_factor", 4.0, "original_max_position_embeddings",
                                      8192));
    }
    return to;
}

/* The name as we write it: the authors' t2t_vit_t_14, the t2t_vit_14_t of others. */
static void fresh_name(const char *name, char out[FRESH_NAME])
{
    size_t n = 0;
    for (; name[n] && n < FRESH_NAME - 3; n++)
        out[n] = name[n] == '_' ? '-' : (char)tolower((unsigned char)name[n]);
    out[n] = '\0';
    if (strncmp(out, "t2t-vit-", 8) != 0 || n < 11 || strcmp(out + n - 2, "-t") != 0) return;
    memmove(out + 10, out + 8, n - 10);
    memcpy(out + 8, "t-", 2);
}

int st_fresh_find(const char *name)
{
    char ours[FRESH_NAME];
    fresh_name(name, ours);
    for (int i = 0; st_fresh_names[i]; i++) {
        bool same = strcmp(name, st_fresh_names[i]) == 0;
        if (same || (strncmp(ours, "gpt2", 4) != 0 && strcmp(ours, st_fresh_names[i]) == 0))
            return i;
    }
    return -1;
}

st_status st_fresh_config(json_t **out, const char *name, st_err *e)
{
    *out = NULL;
    int i = st_fresh_find(name);
    if (i >= 0) {
        const char *known = st_fresh_names[i];
        bool t2t = strncmp(known, "t2t-", 4) == 0, gpt2 = strncmp(known, "gpt2", 4) == 0;
        *out = gpt2 ? fresh_gpt2(i) : t2t ? fresh_t2t(i) : fresh_llama_of(known);
        if (!*out) return ST_NOMEM(e, name);
        return ST_OK;
    }
    size_t n = strlen(name);
    if (n > 5 && strcmp(name + n - 5, ".json") == 0)
        return st_json_load(out, name, CONFIG_BYTES, e);
    char ours[FRESH_NAME];
    fresh_name(name, ours);
    const char *near = st_nearest(ours, st_fresh_names);
    ST_FAIL(e, ST_EARG,
            "%s: unknown model%s%s%s; known are gpt2, gpt2-medium, gpt2-large, gpt2-xl, t2t-vit-7, "
            "-10, -12, -14, -19, -24, t2t-vit-t-7, -t-14, -t-19, -t-24, llama-135m, llama-360m, "
            "llama-1b, tinyllama, qwen2.5-0.5b, and a model's config.json",
            name, near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
}

typedef struct {
    const st_model *m;
    st_fresh_law law;
    float range; /* the model's initializer_range */
    uint64_t seed;
    float *flat;
    int64_t want, at; /* parameter number `want`, counted by `at` */
    st_param found;
} fresh_fill;

static void fresh_count(void *ctx, const st_param *p)
{
    (void)p;
    ++*(int64_t *)ctx;
}

static void fresh_find(void *ctx, const st_param *p)
{
    fresh_fill *f = ctx;
    if (f->at++ == f->want) f->found = *p;
}

/* One matrix: its theta and bias, in the order of the list. */
typedef struct {
    const char *name;
    float *flat;
    st_theta theta;
    st_tensor bias;
    int64_t first; /* offset of its first parameter */
    int n;
} fresh_matrix;

static void fresh_collect(void *ctx, const st_param *p)
{
    fresh_matrix *x = ctx;
    if (!p->matrix || strcmp(p->matrix, x->name) != 0) return;
    st_tensor t = p->w;
    t.data = x->flat + p->offset;
    if (x->n == 0) x->first = p->offset;
    if (p->flags & ST_P_BIAS)
        x->bias = t;
    else
        x->theta.p[x->n++] = t;
}

/* All of a matrix's parameters, when its first one is asked for. GPT-2 re-initialises what is
 * called a weight under c_proj, its blocks' last matrices; fly's own MLP calls its last one
 * otherwise. */
static void fresh_by_law(fresh_fill *f)
{
    const st_param *p = &f->found;
    fresh_matrix x = {.name = p->matrix, .flat = f->flat};
    st_model_params(f->m, fresh_collect, &x);
    if (x.first != p->offset) return;
    bool text = !st_model_is_vision(f->m);
    bool last = text && p->role == ST_ROLE_MLP_OUT, over = text && p->role == ST_ROLE_ATTENTION_OUT;
    float range = f->range > 0.0f ? f->range : p->matrix_std;
    st_map_fresh(p->spec,
                 &(st_fresh_opts){.law = f->law,
                                  .std = last ? range : p->matrix_std,
                                  .range = range,
                                  .over = over ? p->matrix_std : 0.0f,
                                  .seed = f->seed,
                                  .name = x.name},
                 &x.theta, x.bias);
}

static st_status fresh_piece(void *ctx, int64_t i, st_err *e)
{
    fresh_fill f = *(const fresh_fill *)ctx;
    (void)e;
    f.want = i;
    st_model_params(f.m, fresh_find, &f);
    const st_param *p = &f.found;
    if (f.law != ST_FRESH_DENSE && p->matrix) {
        fresh_by_law(&f);
        return ST_OK;
    }
    if (p->fill) {
        p->fill(p, f.seed, f.flat + p->offset);
        return ST_OK;
    }
    st_normal_fill(f.flat + p->offset, st_numel(p->w), p->init_mean, p->init_std, f.seed,
                   st_hash_name(p->name));
    return ST_OK;
}

st_status st_fresh_weights_by(const st_model *m, st_fresh_law law, uint64_t seed, float *flat,
                              st_err *e)
{
    int64_t n = 0;
    st_model_params(m, fresh_count, &n);
    json_t *config = st_model_config(m);
    fresh_fill f = {.m = m, .law = law, .seed = seed, .flat = flat};
    f.range = (float)json_number_value(json_object_get(config, "initializer_range"));
    json_decref(config);
    return st_spread(
        &(st_spread_args){
            .what = "init", .unit = "tensors", .n = n, .work = fresh_piece, .ctx = &f},
        e);
}

st_status st_fresh_weights(const st_model *m, uint64_t seed, float *flat, st_err *e)
{
    return st_fresh_weights_by(m, ST_FRESH_DENSE, seed, flat, e);
}

void st_config_called(st_err *e, const char *what)
{
    static const char file[] = "config.json: ", maps[] = "strut.maps: ";
    if (!e || strncmp(e->msg, file, sizeof file - 1) != 0) return;
    char *rest = e->msg + sizeof file - 1;
    if (strncmp(rest, maps, sizeof maps - 1) == 0) rest += sizeof maps - 1;
    memmove(e->msg, rest, strlen(rest) + 1);
    st_err_prefix(e, "%s", what);
}
