/* The model types, and what is the same for all of them: opening, binding, walking, planning. */
/* SPDX-License-Identifier: MIT */
#include "model/inner.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

static const st_model_type *const model_types[] = {&st_model_gpt2, &st_model_llama,
                                                   &st_model_t2tvit, NULL};

static const char *const model_labels[] = {"id2label", "label2id", NULL};

static const st_model_type *model_find(const char *name)
{
    bool code = strncmp(name, "strut_", 6) == 0;
    for (int i = 0; model_types[i]; i++) {
        const st_model_type *t = model_types[i];
        const char *bare = code && t->code ? name + 6 : name;
        if (strcmp(t->name, bare) == 0) return t;
        for (int k = 0; k < 4 && t->also[k]; k++)
            if (strcmp(t->also[k], bare) == 0) return t;
    }
    return NULL;
}

st_globs st_model_globs(const st_model *m)
{
    return m->type->globs;
}

st_globs st_config_globs(const json_t *config)
{
    const char *name = json_string_value(json_object_get(config, "model_type"));
    const st_model_type *type = name ? model_find(name) : NULL;
    return type ? type->globs : st_model_gpt2.globs;
}

const char *st_model_prefix(const st_model *m)
{
    return m->type->prefix;
}

/* Files of before model_type are GPT-2's, if they say any of its sizes. */
static bool model_says(const json_t *config)
{
    static const char *const keys[] = {"model_type", "n_embd", "n_layer",    "n_head",
                                       "vocab_size", "n_ctx",  "n_positions"};
    bool says = false;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        says |= json_object_get(config, keys[i]) != NULL;
    return says;
}

st_status st_model_open(st_model **out, const json_t *config, st_err *e)
{
    *out = NULL;
    if (!json_is_object(config)) ST_FAIL(e, ST_EFORMAT, "config.json: expected a JSON object");
    if (!model_says(config)) {
        const char *first = json_object_iter_key(json_object_iter((json_t *)(uintptr_t)config));
        ST_FAIL(e, ST_EFORMAT,
                "config.json: says no model_type and none of GPT-2's sizes (n_embd, n_layer "
                "...)%s%.60s; "
                "it is not a model's",
                first ? ", but begins with " : ": it is empty", first ? first : "");
    }
    const char *name = "gpt2";
    ST_TRY(st_json_str(config, "model_type", &name, "config.json", e));
    const st_model_type *type = model_find(name);
    if (!type) {
        ST_FAIL(e, ST_EUNSUPPORTED,
                "config.json: model_type is '%.80s', expected gpt2, llama, "
                "mistral, qwen2, qwen3, gemma3_text or t2t_vit",
                name);
    }
    st_model *m = st_calloc(1, sizeof *m);
    if (!m) return ST_NOMEM(e, "model");
    m->type = type;
    m->labels = json_object();
    for (int i = 0; model_labels[i]; i++) {
        json_t *labels = json_object_get(config, model_labels[i]);
        if (labels) json_object_set_new(m->labels, model_labels[i], json_deep_copy(labels));
    }
    st_status s = type->open(m, config, e);
    if (!s) s = st_quantize_read(m, config, e);
    if (s) {
        st_model_close(m);
        return s;
    }
    *out = m;
    return ST_OK;
}

void st_model_close(st_model *m)
{
    if (!m) return;
    m->type->close(m);
    json_decref(m->labels);
    for (int64_t i = 0; i < m->entries; i++)
        free((char *)(uintptr_t)m->entry[i].p.name);
    for (int64_t i = 0; i < m->matrices; i++)
        free((char *)(uintptr_t)m->matrix[i].name);
    free(m->entry);
    free(m->matrix);
    free(m);
}

json_t *st_model_config(const st_model *m)
{
    json_t *config = m->type->config(m), *maps = json_object();
    json_object_update(config, m->labels);
    for (int64_t i = 0; i < m->matrices; i++) {
        if (m->matrix[i].spec->type == &st_map_dense) continue;
        char text[ST_SPEC_TEXT];
        st_spec_print(m->matrix[i].spec, text);
        json_object_set_new(maps, m->matrix[i].name, json_string(text));
    }
    if (json_object_size(maps) > 0) {
        json_object_set_new(config, "strut", json_pack("{s:i, s:O}", "format", 1, "maps", maps));
    }
    json_decref(maps);
    st_quantize_print(m, config);
    return config;
}

void st_model_params(const st_model *m, st_param_fn *visit, void *ctx)
{
    for (int64_t i = 0; i < m->entries; i++)
        visit(ctx, &m->entry[i].p);
}

int64_t st_model_elements(const st_model *m)
{
    return m->elements;
}

/* The part of a flat block that holds p, in p's shape; absent if the block is. */
static st_tensor model_view(const st_param *p, st_tensor flat)
{
    if (!flat.data) return (st_tensor){0};
    st_tensor v = st_slice(flat, p->offset, st_numel(p->w));
    return st_view(v.data, v.dtype, p->w.ndim, p->w.dim);
}

void st_model_bind(st_model *m, st_tensor weights, st_tensor grads)
{
    assert(!weights.data || st_numel(weights) == m->elements);
    assert(!grads.data || (st_numel(grads) == m->elements && grads.dtype == ST_F32));
    m->weights = weights;
    m->grads = grads;
    m->mixed = false;
    for (int64_t i = 0; i < m->entries; i++) {
        st_model_entry *entry = &m->entry[i];
        *entry->w = model_view(&entry->p, weights);
        *entry->dw = model_view(&entry->p, grads);
        entry->p.w.data = entry->w->data;
        if (weights.data) entry->p.w.dtype = weights.dtype;
    }
    if (m->lm) st_lm_bound(m->lm);
}

/* Bias and factors of a matrix are entries in a row; a backward takes all factors or none. */
static bool model_factor(const st_model_entry *a, const st_model_entry *b)
{
    return a->matrix >= 0 && a->matrix == b->matrix && !((a->p.flags | b->p.flags) & ST_P_BIAS);
}

void st_model_freeze(st_model *m, st_param_test *frozen, void *ctx)
{
    for (int64_t i = 0, end; i < m->entries; i = end) {
        bool all = frozen(ctx, &m->entry[i].p);
        for (end = i + 1; end < m->entries && model_factor(&m->entry[i], &m->entry[end]); end++)
            all = all && frozen(ctx, &m->entry[end].p);
        for (int64_t j = i; all && j < end; j++)
            *m->entry[j].dw = (st_tensor){0};
    }
    if (m->lm) st_lm_bound(m->lm);
}

void st_model_matrices(const st_model *m, st_matrix_fn *visit, void *ctx)
{
    for (int64_t i = 0; i < m->matrices; i++)
        visit(ctx, m->matrix[i].name, m->matrix[i].spec);
}

/* ---- by role --------------------------------------------------------------------------------- */

st_side st_role_residual(st_role r)
{
    switch (r) {
    case ST_ROLE_EMBEDDING:
    case ST_ROLE_POSITION:
    case ST_ROLE_QKV:
    case ST_ROLE_MLP_IN:
    case ST_ROLE_MLP_GATE:
    case ST_ROLE_HEAD: return ST_SIDE_IN;
    case ST_ROLE_NORM_ATTENTION:
    case ST_ROLE_NORM_MLP:
    case ST_ROLE_NORM_HEAD:
    case ST_ROLE_NORM_OUT:
    case ST_ROLE_ATTENTION_OUT:
    case ST_ROLE_MLP_OUT: return ST_SIDE_OUT;
    default: return ST_SIDE_NONE;
    }
}

st_side st_role_hidden(st_role r)
{
    if (r == ST_ROLE_MLP_IN || r == ST_ROLE_MLP_GATE) return ST_SIDE_OUT;
    return r == ST_ROLE_MLP_OUT ? ST_SIDE_IN : ST_SIDE_NONE;
}

const st_slot *st_model_slots(const st_model *m, int64_t *n)
{
    *n = m->matrices;
    return m->matrix;
}

const st_slot *st_model_slot(const st_model *m, const char *name)
{
    for (int64_t i = 0; i < m->matrices; i++)
        if (strcmp(m->matrix[i].name, name) == 0) return &m->matrix[i];
    return NULL;
}

const st_slot *st_model_role(const st_model *m, st_role role, int64_t layer)
{
    for (int64_t i = 0; i < m->matrices; i++)
        if (m->matrix[i].role == role && m->matrix[i].layer == layer) return &m->matrix[i];
    return NULL;
}

bool st_model_table(const st_model *m, const char *name)
{
    const st_slot *s = st_model_slot(m, name);
    if (!s || !m->lm) return false;
    return s->role == ST_ROLE_EMBEDDING || (s->role == ST_ROLE_HEAD && m->lm->shape.tied);
}

/* ---- facts ----------------------------------------------------------------------------------- */

st_model_count st_model_counts(const st_model *m)
{
    st_model_count c = {0};
    for (int64_t i = 0; i < m->entries; i++) {
        int64_t n = st_numel(m->entry[i].p.w);
        c.parameters += n;
        if (m->entry[i].p.flags & ST_P_EMBED) c.embedding_parameters += n;
    }
    return c;
}

st_lm_shape st_model_lm(const st_model *m)
{
    return m->lm ? m->lm->shape : (st_lm_shape){0};
}

void st_model_forward(st_model *m, st_stream *q, const st_lm_args *a, st_arena *tmp)
{
    st_lm_forward(m, q, a, tmp);
}

void st_model_grad(st_model *m, st_stream *q, const st_lm_args *a, st_arena *tmp)
{
    st_lm_grad(m, q, a, tmp);
}

void st_model_tap(st_model *m, st_tap_fn *fn, void *ctx)
{
    m->tap = (st_tap){fn, ctx};
}
