/* Logits of a text's every position in a file, for comparing a model with other programs'. */
/* SPDX-License-Identifier: MIT */
#include "eval/eval.h"
#include "eval/generate.h"
#include "files/files.h"
#include "weights/weights.h"
#include <string.h>

struct logits_data {
    const int32_t *ids;
    st_stream *q;
    st_tensor logits;
};

static st_status logits_fill(void *ctx, int64_t i, void *data, size_t bytes, st_err *e)
{
    const struct logits_data *d = ctx;
    if (i == 0) {
        memcpy(data, d->ids, bytes);
        return ST_OK;
    }
    st_download(d->q, data, d->logits);
    return st_stream_sync(d->q, e);
}

static st_lm_args logits_args(st_arena *a, int64_t n, int64_t vocab)
{
    return (st_lm_args){.batch = 1,
                        .len = n,
                        .ids = st_take2(a, ST_I32, 1, n),
                        .logits = st_take2(a, ST_F32, n, vocab)};
}

/* Memory of a pass over n tokens, its logits among it. */
static st_status logits_plan(st_model *m, st_stream *q, st_dtype t, int64_t n, size_t *bytes,
                             st_err *e)
{
    st_arena nowhere = {0};
    st_cost cost;
    size_t scratch = 0;
    ST_TRY(st_arena_open_counting(&nowhere, e));
    st_lm_args a = logits_args(&nowhere, n, st_model_lm(m).vocab);
    st_status s = st_model_plan(m, q, t, &a, false, &scratch, &cost, e);
    *bytes = nowhere.used + scratch + (size_t)4 * ST_ALIGN;
    st_arena_close(&nowhere);
    return s;
}

/* Has the file at `path` nothing but ids and logits in it? */
static bool logits_there(const char *path)
{
    st_weights *w = NULL;
    bool there = !st_weights_open(&w, path, NULL) && st_weights_count(w) == 2 &&
                 st_weights_find(w, "ids") && st_weights_find(w, "logits");
    st_weights_close(w);
    return there;
}

st_status generate_logits_room(const char *path, bool replace, st_err *e)
{
    return st_output_file(path, replace, "logits of strut generate", logits_there, e);
}

st_status st_logits_open(st_logits *out, st_model *m, st_stream *q, st_dtype t, const int32_t *ids,
                         int64_t n, st_err *e)
{
    size_t bytes = 0;
    *out = (st_logits){.stream = q};
    ST_TRY(logits_plan(m, q, t, n, &bytes, e));
    ST_TRY(st_device_arena(q, bytes, &out->memory, e));
    st_lm_args a = logits_args(&out->memory, n, st_model_lm(m).vocab);
    out->logits = a.logits;
    st_upload(q, a.ids, ids);
    st_model_forward(m, q, &a, &out->memory);
    return st_stream_sync(q, e);
}

void st_logits_close(st_logits *l)
{
    if (l->stream) st_device_arena_close(l->stream, &l->memory);
    *l = (st_logits){0};
}

st_status generate_logits(st_model *m, st_stream *q, st_dtype t, const int32_t *ids, int64_t n,
                          const char *path, st_err *e)
{
    int64_t vocab = st_model_lm(m).vocab;
    st_logits run;
    st_status s = st_logits_open(&run, m, q, t, ids, n, e);
    st_store_item item[] = {{.name = "ids", .dtype = ST_I32, .dim = {n}, .ndim = 1},
                            {.name = "logits", .dtype = ST_F32, .dim = {n, vocab}, .ndim = 2}};
    struct logits_data d = {.ids = ids, .q = q, .logits = run.logits};
    if (!s) s = st_safetensors_write(path, item, 2, NULL, logits_fill, &d, e);
    st_logits_close(&run);
    return s;
}
