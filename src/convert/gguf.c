/* A dense model as GGUF: which architecture of llama.cpp's computes it, its keys, its tensors. */
/* SPDX-License-Identifier: MIT */
#include "convert/inner.h"
#include "files/files.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What a model is called: the last part of its path, without the ending of a file. NULL: nothing
 * that GGUF's UTF-8 can say. The caller frees it. */
static char *gguf_called(const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    const char *begin = path + n;
    while (begin > path && begin[-1] != '/')
        begin--;
    n -= (size_t)(begin - path);
    const char *dot = memrchr(begin, '.', n);
    if (dot && dot > begin && st_path_is_file(path)) n = (size_t)(dot - begin);
    json_t *valid = json_stringn(begin, n);
    char *name = valid && n ? strndup(begin, n) : NULL;
    json_decref(valid);
    return name;
}

/* ---- Llama-shaped models --------------------------------------------------------------------- */

/* llama.cpp's architecture for a model_type; NULL: GPT-2's. */
static const char *gguf_arch(const st_conversion *c)
{
    const char *type = json_string_value(json_object_get(c->config, "model_type"));
    if (!type || strcmp(type, "gpt2") == 0) return NULL;
    if (strcmp(type, "gemma3_text") == 0) return "gemma3";
    return strcmp(type, "mistral") == 0 ? "llama" : type;
}

static const char *gguf_scaling(const st_conversion *c)
{
    const json_t *rope = json_object_get(c->config, "rope_scaling");
    const char *type = json_string_value(json_object_get(rope, "rope_type"));
    return type ? type : "none";
}

static bool gguf_is_gemma(const st_conversion *c)
{
    const char *arch = gguf_arch(c);
    return arch && strcmp(arch, "gemma3") == 0;
}

/* Which blocks have a window, [true, false, ...]; NULL: none has (or out of memory). */
static json_t *gguf_pattern(const st_conversion *c)
{
    json_t *to = NULL, *type;
    size_t i;
    json_array_foreach(json_object_get(c->config, "layer_types"), i, type)
    {
        const char *name = json_string_value(type);
        if (!to) to = json_array();
        json_array_append_new(to, json_boolean(name && !strcmp(name, "sliding_attention")));
    }
    return to;
}

static st_status gguf_fits_gemma(const st_conversion *c)
{
    st_lm_shape lm = st_model_lm(c->model);
    double score = json_number_value(json_object_get(c->config, "query_pre_attn_scalar"));
    bool largest = lm.layers == ST_GGUF_GEMMA3_27B;
    double theirs = (double)(largest ? lm.width / lm.heads : lm.head_dim);
    if (score != theirs) {
        ST_FAIL(c->e, ST_EUNSUPPORTED,
                "gguf cannot hold this model: llama.cpp's gemma3 divides scores by sqrt(%g), this "
                "one by sqrt(%g) (query_pre_attn_scalar)",
                theirs, score);
    }
    json_t *pattern = gguf_pattern(c), *slides;
    bool any = false;
    size_t i;
    json_array_foreach(pattern, i, slides) any |= json_is_true(slides);
    json_decref(pattern);
    if (any && json_integer_value(json_object_get(c->config, "sliding_window")) <= 0) {
        ST_FAIL(c->e, ST_EUNSUPPORTED,
                "gguf cannot hold this model: it has blocks of sliding_attention, but no "
                "sliding_window");
    }
    return ST_OK;
}

/* Biases and shapes that the architecture has no place for. */
static st_status gguf_fits_shape(const st_conversion *c, const char *arch)
{
    st_lm_shape lm = st_model_lm(c->model);
    bool llama = strcmp(arch, "llama") == 0;
    if (!llama && json_is_true(json_object_get(c->config, "attention_bias"))) {
        ST_FAIL(c->e, ST_EUNSUPPORTED,
                "gguf cannot hold this model: llama.cpp's %s has no bias after attention", arch);
    }
    if (strcmp(arch, "qwen2") == 0 && lm.heads * lm.head_dim != lm.width) {
        ST_FAIL(c->e, ST_EUNSUPPORTED,
                "gguf cannot hold this model: in llama.cpp's qwen2 heads add up to the model's "
                "width, %lld, not to %lld",
                (long long)lm.width, (long long)(lm.heads * lm.head_dim));
    }
    return ST_OK;
}

st_status st_fits_gguf_llama(st_conversion *c)
{
    bool gemma = gguf_is_gemma(c);
    const char *key = gemma ? "hidden_activation" : "hidden_act";
    const char *act = json_string_value(json_object_get(c->config, key));
    const char *theirs = gemma ? "gelu_pytorch_tanh" : "silu";
    int64_t window = json_integer_value(json_object_get(c->config, "sliding_window"));
    const char *arch = gguf_arch(c), *scaling = gguf_scaling(c);
    if (!arch) return ST_OK;
    if (act && strcmp(act, theirs)) {
        ST_FAIL(c->e, ST_EUNSUPPORTED, "gguf cannot hold this model: llama.cpp's %s has %s, not %s",
                arch, theirs, act);
    }
    if (window && window < st_model_lm(c->model).context && !gemma) {
        ST_FAIL(c->e, ST_EUNSUPPORTED,
                "gguf cannot hold this model: llama.cpp's %s has no window of attention, this one "
                "sees %lld tokens",
                arch, (long long)window);
    }
    if (strcmp(scaling, "dynamic") == 0 || (gemma && strcmp(scaling, "llama3") == 0)) {
        ST_FAIL(c->e, ST_EUNSUPPORTED,
                "gguf cannot hold this model: llama.cpp's %s has no %s rope_scaling", arch,
                scaling);
    }
    ST_TRY(gguf_fits_shape(c, arch));
    return gemma ? gguf_fits_gemma(c) : ST_OK;
}

/* Gemma's two sets of frequencies and its windows. */
static void gguf_gemma_keys(const st_conversion *c, json_t *keys)
{
    json_t *window = json_object_get(c->config, "sliding_window"), *pattern = gguf_pattern(c);
    double local = json_number_value(json_object_get(c->config, "rope_local_base_freq"));
    json_object_set_new(keys, "rope.freq_base_swa", json_real(local));
    if (json_integer_value(window) > 0) {
        json_object_set(keys, "attention.sliding_window", window);
        json_object_set(keys, "attention.sliding_window_pattern", pattern);
    }
    json_decref(pattern);
}

static json_t *gguf_keys(const st_conversion *c)
{
    st_lm_shape lm = st_model_lm(c->model);
    const json_t *rope = json_object_get(c->config, "rope_scaling");
    const char *type = gguf_scaling(c);
    json_t *keys =
        json_pack("{s:I, s:I, s:I, s:I, s:f, s:f}", "attention.head_count_kv",
                  (json_int_t)lm.kv_heads, "attention.key_length", (json_int_t)lm.head_dim,
                  "attention.value_length", (json_int_t)lm.head_dim, "rope.dimension_count",
                  (json_int_t)lm.head_dim, "attention.layer_norm_rms_epsilon",
                  json_number_value(json_object_get(c->config, "rms_norm_eps")), "rope.freq_base",
                  json_number_value(json_object_get(c->config, "rope_theta")));
    if (keys && gguf_is_gemma(c)) gguf_gemma_keys(c, keys);
    if (!keys || (strcmp(type, "linear") && strcmp(type, "yarn"))) return keys;
    json_object_set_new(keys, "rope.scaling.type", json_string(type));
    json_object_set(keys, "rope.scaling.factor", json_object_get(rope, "factor"));
    json_t *original = json_object_get(rope, "original_max_position_embeddings");
    if (original) json_object_set(keys, "rope.scaling.original_context_length", original);
    return keys;
}

/* ---- tensors --------------------------------------------------------------------------------- */

/* The model's tensors and, with Llama 3's scaling, what frequencies are divided by. */
typedef struct {
    st_export x;
    st_store_item *item;
    int64_t n;
    double theta, factor, low, high, original;
    int64_t head_dim;
} gguf_items;

static st_status gguf_fill(void *ctx, int64_t i, void *data, size_t bytes, st_err *e)
{
    gguf_items *g = ctx;
    if (i < g->x.n) return st_export_fill(&g->x, i, data, bytes, e);
    float *by = data;
    for (int64_t k = 0; k < g->head_dim / 2; k++) {
        double freq = pow(g->theta, -2.0 * (double)k / (double)g->head_dim);
        double turns = g->original * freq / (2 * M_PI);
        double smooth = fmin(fmax((turns - g->low) / (g->high - g->low), 0), 1);
        by[k] = (float)(1 / ((1 - smooth) / g->factor + smooth));
    }
    return ST_OK;
}

static st_status gguf_list(const st_conversion *c, gguf_items *g)
{
    const json_t *rope = json_object_get(c->config, "rope_scaling");
    g->n = g->x.n;
    g->item = st_calloc(g->x.n + 1, sizeof *g->item);
    if (!g->item) return ST_NOMEM(c->e, NULL);
    memcpy(g->item, g->x.item, (size_t)g->x.n * sizeof *g->item);
    if (strcmp(gguf_scaling(c), "llama3")) return ST_OK;
    g->head_dim = st_model_lm(c->model).head_dim;
    g->theta = json_number_value(json_object_get(c->config, "rope_theta"));
    g->factor = json_number_value(json_object_get(rope, "factor"));
    g->low = json_number_value(json_object_get(rope, "low_freq_factor"));
    g->high = json_number_value(json_object_get(rope, "high_freq_factor"));
    g->original = json_number_value(json_object_get(rope, "original_max_position_embeddings"));
    g->item[g->n++] = (st_store_item){
        .name = "rope_freqs.weight", .dtype = ST_F32, .ndim = 1, .dim = {g->head_dim / 2}};
    return ST_OK;
}

st_status st_formats_gguf(st_conversion *c, const char *path)
{
    gguf_items g = {0};
    st_lm_shape lm = st_model_lm(c->model);
    const char *arch = gguf_arch(c);
    bool pairs = arch && strcmp(arch, "llama") == 0;
    char *name = gguf_called(c->in);
    json_t *more = arch ? gguf_keys(c) : NULL;
    st_gguf_about about = {.name = name,
                           .arch = arch,
                           .context = lm.context,
                           .width = lm.width,
                           .inner = lm.inner,
                           .layers = lm.layers,
                           .heads = lm.heads,
                           .epsilon =
                               json_number_value(json_object_get(c->config, "layer_norm_epsilon")),
                           .more = more,
                           .tokenizer = c->tokenizer};
    if (!c->tokenizer) {
        st_convert_note(c, "the model has no tokenizer, without which llama.cpp does not run it; "
                           "--tokenizer adds one");
    }
    st_status s = st_export_open(&g.x, c->model, c->flat, c->dtype,
                                 pairs ? &st_export_gguf_llama : &st_export_gguf, c->e);
    g.x.stop = true;
    g.x.what = "convert";
    if (!s) s = gguf_list(c, &g);
    if (!s) s = st_gguf_write(path, &about, g.item, g.n, gguf_fill, &g, c->e);
    st_export_close(&g.x);
    free(g.item);
    json_decref(more);
    free(name);
    return s;
}
