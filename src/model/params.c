/* The list of a model's parameters while it is made: names, shapes, inits, and which map stands for
 * which matrix (the "strut" object of config.json). */
/* SPDX-License-Identifier: MIT */
#include "model/inner.h"
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PARAM_ALIGN = 32,     /* elements: 64 bytes in every dtype a flat block may have */
    PARAM_NAME = 96,      /* longest name + 1 */
    PARAM_GLOBS = 1 << 14 /* more entries of "maps" than any real file has */
};
/* A flat float32 block of this many elements is 4 TiB. */
#define PARAM_ELEMENTS ((int64_t)1 << 40)

static const char *const strut_keys[] = {"format", "maps", "quantize", NULL};

static bool builder_fail(st_builder *b, st_status s)
{
    if (!b->status) b->status = s;
    return s != ST_OK;
}

static st_status builder_maps(st_builder *b, const json_t *strut, st_err *e)
{
    const char *key;
    json_t *value;
    if (!json_is_object(strut)) ST_FAIL(e, ST_EFORMAT, "config.json: strut: expected an object");
    json_object_foreach((json_t *)(uintptr_t)strut, key, value)
    {
        bool known = false;
        for (int i = 0; strut_keys[i]; i++)
            known = known || strcmp(key, strut_keys[i]) == 0;
        if (!known) {
            const char *near = st_nearest(key, strut_keys);
            ST_FAIL(e, ST_EFORMAT, "config.json: strut: unknown key '%.80s'; %s%s", key,
                    near ? "did you mean " : "expected format, maps, quantize", near ? near : "");
        }
    }
    int64_t format = 0;
    ST_TRY(st_json_int(strut, "format", INT64_MIN, INT64_MAX, &format, "config.json: strut", e));
    if (format != 1) {
        ST_FAIL(e, format > 1 ? ST_EUNSUPPORTED : ST_EFORMAT,
                "config.json: strut: format is %lld, expected 1%s", (long long)format,
                format > 1 ? "; a newer strut wrote this model" : "");
    }
    const json_t *maps = json_object_get(strut, "maps");
    if (!maps || json_is_null(maps)) return ST_OK;
    if (!json_is_object(maps)) {
        ST_FAIL(e, ST_EFORMAT, "config.json: strut.maps: expected an object {GLOB: SPEC}");
    }
    if (json_object_size(maps) > PARAM_GLOBS) {
        ST_FAIL(e, ST_EFORMAT, "config.json: strut.maps has %zu entries, expected at most %d",
                json_object_size(maps), PARAM_GLOBS);
    }
    json_object_foreach((json_t *)(uintptr_t)maps, key, value)
    {
        if (json_is_string(value)) continue;
        ST_FAIL(e, ST_EFORMAT,
                "config.json: strut.maps: '%.80s' must be a map text in quotes "
                "(for example \"monarch:blocks=4\")",
                key);
    }
    b->maps = maps;
    b->used = st_calloc((int64_t)json_object_size(maps), sizeof *b->used);
    if (!b->used) return ST_NOMEM(e, "config.json");
    return ST_OK;
}

st_status st_builder_open(st_builder *b, st_model *m, const json_t *config, st_err *e)
{
    *b = (st_builder){.m = m, .e = e, .layer = -1};
    const json_t *strut = json_object_get(config, "strut");
    if (strut && !json_is_null(strut)) b->status = builder_maps(b, strut, e);
    return b->status;
}

/* Refuses a glob that no matrix has matched. */
static st_status builder_unmatched(const st_builder *b, const char *glob)
{
    const st_model *m = b->m;
    const char **names = st_calloc(m->matrices + 1, sizeof *names);
    if (!names) return ST_NOMEM(b->e, "config.json");
    for (int64_t i = 0; i < m->matrices; i++)
        names[i] = m->matrix[i].name;
    const char *near = st_nearest(glob, names);
    if (!near && m->matrices) near = names[0];
    st_status s = ST_ERR(b->e, ST_EARG,
                         "config.json: strut.maps: '%.80s' matches none of %s; the nearest "
                         "name is '%s'",
                         glob, st_counted(m->matrices, "matrices").s, near ? near : "");
    free(names);
    return s;
}

st_status st_builder_close(st_builder *b)
{
    st_model *m = b->m;
    const char *glob;
    json_t *value;
    size_t i = 0;
    json_object_foreach((json_t *)(uintptr_t)b->maps, glob, value)
    {
        if (b->status) break;
        if (!b->used[i++]) builder_fail(b, builder_unmatched(b, glob));
    }
    free(b->used);
    b->used = NULL;
    if (b->status) return b->status;
    for (int64_t j = 0; j < m->entries; j++) {
        st_model_entry *entry = &m->entry[j];
        if (entry->matrix < 0) continue;
        entry->p.matrix = m->matrix[entry->matrix].name;
        entry->p.spec = m->matrix[entry->matrix].spec;
        entry->p.role = m->matrix[entry->matrix].role;
    }
    return ST_OK;
}

/* Room for one more in a growing array. */
static bool builder_grow(st_builder *b, void **array, int64_t n, int64_t *cap, size_t size)
{
    if (n < *cap) return true;
    int64_t more = *cap ? *cap * 2 : 64;
    void *p = realloc(*array, (size_t)more * size);
    if (!p) {
        builder_fail(b, ST_NOMEM(b->e, "model"));
        return false;
    }
    *array = p;
    *cap = more;
    return true;
}

static void builder_add(st_builder *b, int64_t matrix, const char *name, int ndim,
                        const int64_t *dim, float mean, float std, unsigned flags, st_tensor *w,
                        st_tensor *dw)
{
    st_model *m = b->m;
    void *list = m->entry;
    if (b->status) return;
    if (!builder_grow(b, &list, m->entries, &m->entry_cap, sizeof *m->entry)) return;
    m->entry = list;
    int64_t n = 1, end;
    bool wrong = false;
    for (int i = 0; i < ndim; i++)
        wrong |= dim[i] < 0 || __builtin_mul_overflow(n, dim[i], &n);
    wrong |= __builtin_add_overflow(m->elements, n, &end) || end > PARAM_ELEMENTS;
    if (wrong) {
        builder_fail(b, ST_ERR(b->e, ST_ENOMEM,
                               "%s: the model has more than %lld parameters up to here, which no "
                               "machine addresses; check the sizes in config.json",
                               name, (long long)PARAM_ELEMENTS));
        return;
    }
    char *copy = strdup(name);
    if (!copy) {
        builder_fail(b, ST_NOMEM(b->e, "model"));
        return;
    }
    m->entry[m->entries++] = (st_model_entry){
        .p = {.name = copy,
              .offset = m->elements,
              .w = st_view(NULL, ST_F32, ndim, dim),
              .init_mean = mean,
              .init_std = std,
              .layer = b->layer,
              .flags = flags},
        .matrix = matrix,
        .w = w,
        .dw = dw,
    };
    m->elements = (end + PARAM_ALIGN - 1) / PARAM_ALIGN * PARAM_ALIGN;
}

void st_add_tensor(st_builder *b, const char *name, int ndim, const int64_t *dim, float std,
                   unsigned flags, st_tensor *w, st_tensor *dw)
{
    builder_add(b, -1, name, ndim, dim, 0.0f, std, flags, w, dw);
}

void st_add_fill(st_builder *b, st_param_fill *fill)
{
    if (!b->status) b->m->entry[b->m->entries - 1].p.fill = fill;
}

void st_add_role(st_builder *b, st_role role)
{
    if (!b->status) b->m->entry[b->m->entries - 1].p.role = role;
}

void st_add_norm(st_builder *b, st_role role, const char *name, int64_t width, st_norm *n)
{
    char full[PARAM_NAME];
    snprintf(full, sizeof full, "%s.weight", name);
    unsigned flags = ST_P_NORM | (n->less ? ST_P_LESS : 0u);
    builder_add(b, -1, full, 1, &width, n->less ? 0.0f : 1.0f, 0.0f, flags, &n->gain, &n->dgain);
    st_add_role(b, role);
    if (n->rms) return;
    snprintf(full, sizeof full, "%s.bias", name);
    builder_add(b, -1, full, 1, &width, 0.0f, 0.0f, ST_P_NORM | ST_P_BIAS, &n->bias, &n->dbias);
    st_add_role(b, role);
}

/* The text of the last glob that matches `name`, and all that match marked used. Embeddings, and a
 * head tied to one, are matched by their exact names only: "*" does not mean them. */
static const char *builder_text(st_builder *b, const char *name)
{
    const char *text = "dense", *glob;
    json_t *value;
    size_t i = 0;
    json_object_foreach((json_t *)(uintptr_t)b->maps, glob, value)
    {
        if (b->exact ? strcmp(glob, name) == 0 : fnmatch(glob, name, 0) == 0) {
            b->used[i] = true;
            text = json_string_value(value);
        }
        i++;
    }
    return text;
}

void st_add_matrix(st_builder *b, st_role role, const char *name, int64_t in, int64_t out,
                   st_matrix *x)
{
    st_model *m = b->m;
    void *list = m->matrix;
    if (b->status) return;
    if (!builder_grow(b, &list, m->matrices, &m->matrix_cap, sizeof *m->matrix)) return;
    m->matrix = list;
    st_status s = st_spec_parse(&x->l.spec, builder_text(b, name), in, out, b->e);
    if (s) st_err_prefix(b->e, "config.json: strut.maps: %s", name);
    if (builder_fail(b, s)) return;
    char *copy = strdup(name);
    if (!copy) {
        builder_fail(b, ST_NOMEM(b->e, "model"));
        return;
    }
    m->matrix[m->matrices++] =
        (st_slot){.name = copy, .role = role, .layer = b->layer, .spec = &x->l.spec};
    x->name = copy;
    x->tap = &m->tap;
}

void st_add_rows(st_builder *b, const st_matrix *x)
{
    if (b->status) return;
    st_status s = st_spec_rows(&x->l.spec, b->e);
    if (s) st_err_prefix(b->e, "config.json: strut.maps: %s", x->name);
    builder_fail(b, s);
}

void st_add_weights(st_builder *b, st_matrix *x, float std, unsigned flags, bool bias)
{
    if (b->status) return;
    int64_t matrix = b->m->matrices - 1, first = b->m->entries;
    const st_spec *spec = &x->l.spec;
    st_param_shape shape[ST_PARAMS];
    bool dense = spec->type == &st_map_dense;
    int n = spec->type->params(spec, std, shape);
    char full[PARAM_NAME];
    for (int i = 0; i < n; i++) {
        unsigned f = dense ? flags : ST_P_FACTOR | (flags & ST_P_EMBED);
        if (shape[i].flags & ST_MAP_DECAY) f |= ST_P_DECAY;
        /* rows of a structured embedding are found in other ways */
        if (st_param_blocks(&shape[i]) && (dense || !(flags & ST_P_EMBED)))
            f |= ST_P_BLOCKS | (shape[i].flags & ST_MAP_WHOLE ? ST_P_WHOLE : 0);
        snprintf(full, sizeof full, "%s.%s", x->name, shape[i].name);
        builder_add(b, matrix, full, shape[i].ndim, shape[i].dim, shape[i].init_mean,
                    shape[i].init_std, f, &x->l.w.p[i], &x->l.dw.p[i]);
    }
    snprintf(full, sizeof full, "%s.bias", x->name);
    if (bias)
        builder_add(b, matrix, full, 1, &spec->out, 0.0f, 0.0f, ST_P_BIAS, &x->l.bias, &x->l.dbias);
    for (int64_t i = first; i < b->m->entries; i++)
        b->m->entry[i].p.matrix_std = std;
}

/* ---- of a language model ------------------------------------------------------------------
 */

st_status st_lm_open(st_model *m, st_lm *lm, st_err *e)
{
    m->lm = lm;
    lm->acts = st_calloc(lm->shape.layers, m->type->lm->acts);
    if (!lm->acts) return ST_NOMEM(e, "model");
    return ST_OK;
}

void st_lm_close(st_lm *lm)
{
    free(lm->acts);
    lm->acts = NULL;
}

void st_lm_bound(st_lm *lm)
{
    lm->top = lm->head;
    if (lm->shape.tied) lm->top.l = lm->table.l;
}

void st_lm_add_table(st_builder *b, st_lm *lm, const char *name, float std, unsigned flags)
{
    b->exact = true;
    st_add_matrix(b, ST_ROLE_EMBEDDING, name, lm->shape.width, lm->shape.vocab, &lm->table);
    st_add_rows(b, &lm->table);
    st_add_weights(b, &lm->table, std, flags, false);
    b->exact = false;
}

void st_lm_add_head(st_builder *b, st_lm *lm, const char *norm, const char *name, float std)
{
    st_lm_shape *s = &lm->shape;
    lm->norm_name = norm;
    st_add_norm(b, ST_ROLE_NORM_HEAD, norm, s->width, &lm->norm);
    b->exact = s->tied;
    st_add_matrix(b, ST_ROLE_HEAD, name, s->width, s->vocab, &lm->head);
    b->exact = false;
    s->tied = s->tied && lm->head.l.spec.type == &st_map_dense;
    if (!s->tied) st_add_weights(b, &lm->head, std, 0, s->head_bias);
    if (!s->tied || !s->head_bias || b->status) return;
    builder_fail(b, ST_ERR(b->e, ST_EUNSUPPORTED,
                           "config.json: lm_head_bias is true, but the head is tied to the "
                           "embedding, which has none"));
}
