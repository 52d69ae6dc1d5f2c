/* What a model is and costs, without its weights. */
/* SPDX-License-Identifier: MIT */
#include "store/store.h"
#include <string.h>

struct facts_walk {
    json_t *maps;
    const st_stream *q;
    int64_t rows;
    const st_model *m;
    double macs;
    st_err *e;
    st_status status;
};

static void facts_spec(void *ctx, const char *name, const st_spec *spec)
{
    char text[ST_SPEC_TEXT];
    st_spec_print(spec, text);
    json_object_set_new(ctx, name, st_json_text(text));
}

static void facts_matrix(void *ctx, const char *name, const st_spec *spec)
{
    struct facts_walk *w = ctx;
    facts_spec(w->maps, name, spec);
    const st_slot *table = st_model_role(w->m, ST_ROLE_EMBEDDING, -1);
    bool head = st_model_slot(w->m, name)->role == ST_ROLE_HEAD, tied = st_model_lm(w->m).tied;
    if (tied && head) {
        json_object_set(w->maps, name, json_object_get(w->maps, table->name));
        return;
    }
    if (!tied && strcmp(name, table->name) == 0) return; /* a look-up */
    double macs = 0.0;
    if (!w->status) w->status = st_spec_macs(spec, w->q, w->rows, &macs, w->e);
    w->macs += macs;
}

/* Multiply-adds of one forward over a full context of one text. */
static st_status facts_total(st_model *m, const st_stream *q, int64_t len, double *macs, st_err *e)
{
    st_arena nowhere = {0};
    ST_TRY(st_arena_open_counting(&nowhere, e));
    st_lm_args a = {.batch = 1,
                    .len = len,
                    .ids = st_take2(&nowhere, ST_I32, 1, len),
                    .targets = st_take2(&nowhere, ST_I32, 1, len),
                    .loss = st_take1(&nowhere, ST_F32, len)};
    size_t bytes;
    st_cost cost = {0};
    st_status s = st_model_plan(m, q, ST_F32, &a, false, &bytes, &cost, e);
    st_arena_close(&nowhere);
    *macs = (double)cost.macs;
    return s;
}

/* Of a classifier: macs of one image. */
static json_t *facts_vision(st_model *m, const st_stream *q, st_err *e)
{
    st_cost cost = {0};
    st_vision_shape v = st_model_vision_shape(m);
    st_model_count n = st_model_counts(m);
    if (st_model_vision_plan(m, q, ST_F32, &(st_vision_args){.batch = 1}, NULL, &cost, e))
        return NULL;
    json_t *maps = json_object();
    st_model_matrices(m, facts_spec, maps);
    json_t *r = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:o}",
                          "parameters", (json_int_t)n.parameters, "embedding_parameters",
                          (json_int_t)n.embedding_parameters, "macs_per_image",
                          (json_int_t)cost.macs, "layers", (json_int_t)v.layers, "heads",
                          (json_int_t)v.heads, "width", (json_int_t)v.width, "inner",
                          (json_int_t)v.inner, "image_size", (json_int_t)v.size, "tokens",
                          (json_int_t)v.tokens[2], "classes", (json_int_t)v.classes,
                          "token_modules", v.performer ? "performer" : "transformer", "maps", maps);
    if (!r) ST_NOMEM(e, "model");
    return r;
}

st_status st_model_facts(st_model *m, const char *device, json_t **result, st_err *e)
{
    st_stream *q = NULL;
    ST_TRY(st_stream_open(&q, device, 0, e));
    if (st_model_is_vision(m)) {
        *result = facts_vision(m, q, e);
        st_stream_close(q);
        return *result ? ST_OK : e ? e->code : ST_ENOMEM;
    }
    st_lm_shape lm = st_model_lm(m);
    st_model_count n = st_model_counts(m);
    struct facts_walk w = {.maps = json_object(), .q = q, .rows = lm.context, .m = m, .e = e};
    st_model_matrices(m, facts_matrix, &w);
    double total = 0.0;
    st_status s = w.status ? w.status : facts_total(m, q, lm.context, &total, e);
    st_stream_close(q);
    if (s) {
        json_decref(w.maps);
        return s;
    }
    *result = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:o}", "parameters",
        (json_int_t)n.parameters, "embedding_parameters", (json_int_t)n.embedding_parameters,
        "macs_per_token", (json_int_t)(total / (double)lm.context + 0.5), "weight_macs_per_token",
        (json_int_t)(w.macs + 0.5), "layers", (json_int_t)lm.layers, "heads", (json_int_t)lm.heads,
        "kv_heads", (json_int_t)lm.kv_heads, "head_dim", (json_int_t)lm.head_dim, "width",
        (json_int_t)lm.width, "inner", (json_int_t)lm.inner, "context", (json_int_t)lm.context,
        "vocab", (json_int_t)lm.vocab, "tied", lm.tied, "maps", w.maps);
    if (!*result) return ST_NOMEM(e, "model");
    return ST_OK;
}
