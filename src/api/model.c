/* Language models: opening, ids, logits, text, decomposition. */
/* SPDX-License-Identifier: MIT */
#include "api/inner.h"
#include "eval/eval.h"
#include "fit/fit.h"
#include "store/store.h"
#include <stdlib.h>
#include <string.h>

struct strut_model {
    st_loaded l;
    st_dtype dtype;
};

/* ---- opening --------------------------------------------------------------------------------- */

static st_status model_open(strut_model *m, const char *path, const strut_open_options *options,
                            st_err *e)
{
    strut_open_options o = STRUT_OPEN_OPTIONS;
    ST_TRY(api_take(&o, sizeof o, options, "strut_open_options", e));
    if (!path) ST_FAIL(e, ST_EARG, "strut_model_open: no path is given");
    if (o.dtype && (!st_dtype_parse(o.dtype, &m->dtype) || m->dtype > ST_BF16)) {
        ST_FAIL(e, ST_EARG, "dtype: %.40s; expected float32 or bfloat16", o.dtype);
    }
    st_read_how how = {.tokenizer = o.tokenizer};
    ST_TRY(st_loaded_open_as(&m->l, path, &how, o.device, m->dtype, e));
    return st_need_language(m->l.model, path, "this library", e);
}

int strut_model_open(strut_model **model, const char *path, const strut_open_options *options,
                     strut_error *error)
{
    st_err e = {0};
    strut_model *m = *model = calloc(1, sizeof *m);
    st_status s = m ? model_open(m, path, options, &e) : ST_NOMEM(&e, "strut_model_open");
    if (s) {
        strut_model_close(m);
        *model = NULL;
    }
    return api_done(s, &e, error);
}

void strut_model_close(strut_model *model)
{
    if (!model) return;
    st_loaded_close(&model->l);
    free(model);
}

int strut_model_describe(const strut_model *model, strut_model_info *info, strut_error *error)
{
    st_err e = {0};
    strut_model_info all = STRUT_MODEL_INFO, size = STRUT_MODEL_INFO;
    st_status s = api_take(&size, sizeof size, info, "strut_model_info", &e);
    if (s) return api_done(s, &e, error);
    st_lm_shape lm = st_model_lm(model->l.model);
    all.size = size.size;
    all.parameters = st_model_counts(model->l.model).parameters;
    all.vocab = lm.vocab;
    all.context = lm.context;
    all.width = lm.width;
    all.layers = lm.layers;
    all.heads = lm.heads;
    all.bos = lm.bos;
    all.eos = lm.eos;
    all.has_tokenizer = model->l.tokenizer != NULL;
    all.device = st_stream_describe(model->l.stream);
    memcpy(info, &all, size.size < sizeof all ? size.size : sizeof all);
    return api_done(ST_OK, &e, error);
}

/* ---- ids ------------------------------------------------------------------------------------- */

static st_status model_tokenizer(const strut_model *m, st_err *e)
{
    if (m->l.tokenizer) return ST_OK;
    ST_FAIL(e, ST_EARG,
            "%s: there is no tokenizer beside it; name one in strut_open_options.tokenizer",
            m->l.path);
}

int strut_encode(const strut_model *model, const char *text, size_t bytes, int32_t **ids,
                 size_t *count, strut_error *error)
{
    st_err e = {0};
    st_ids found = {0};
    *ids = NULL, *count = 0;
    st_status s = model_tokenizer(model, &e);
    if (!s) s = st_bpe_encode_with(model->l.tokenizer, text, bytes, true, &found, &e);
    if (!s && !found.id) {
        found.id = st_calloc(1, sizeof *found.id);
        if (!found.id) s = ST_NOMEM(&e, "strut_encode");
    }
    if (s) {
        st_ids_free(&found);
    } else {
        *ids = found.id;
        *count = (size_t)found.n;
    }
    return api_done(s, &e, error);
}

int strut_decode(const strut_model *model, const int32_t *ids, size_t count, char **text,
                 size_t *bytes, strut_error *error)
{
    st_err e = {0};
    char *to = NULL;
    size_t n = 0, at = 0;
    *text = NULL, *bytes = 0;
    st_status s = model_tokenizer(model, &e);
    for (size_t i = 0; !s && i < count; i++) {
        size_t more = 0;
        st_bpe_bytes(model->l.tokenizer, ids[i], &more);
        n += more;
    }
    if (!s && !(to = st_calloc((int64_t)n + 1, 1))) s = ST_NOMEM(&e, "strut_decode");
    for (size_t i = 0; !s && i < count; i++) {
        size_t more = 0;
        const char *piece = st_bpe_bytes(model->l.tokenizer, ids[i], &more);
        if (piece) memcpy(to + at, piece, more);
        at += more;
    }
    if (!s) *text = to, *bytes = n;
    return api_done(s, &e, error);
}

static st_status model_ids(const strut_model *m, const int32_t *ids, size_t count, st_err *e)
{
    int64_t vocab = st_model_lm(m->l.model).vocab;
    for (size_t i = 0; i < count; i++) {
        if (ids[i] >= 0 && ids[i] < vocab) continue;
        ST_FAIL(e, ST_EARG, "ids: number %zu is %ld; expected 0 to %lld, the model's vocabulary", i,
                (long)ids[i], (long long)vocab - 1);
    }
    return ST_OK;
}

/* ---- numbers and text ------------------------------------------------------------------------ */

int strut_logits(strut_model *model, const int32_t *ids, size_t count, float *logits,
                 strut_error *error)
{
    st_err e = {0};
    st_logits run = {0};
    int64_t context = st_model_lm(model->l.model).context;
    st_status s = ST_OK;
    if (count < 1 || count > (size_t)context) {
        s = ST_ERR(&e, ST_EARG, "strut_logits: %zu ids; expected 1 to %lld, the model's context",
                   count, (long long)context);
    }
    if (!s) s = model_ids(model, ids, count, &e);
    if (!s) {
        s = st_logits_open(&run, model->l.model, model->l.stream, model->dtype, ids, (int64_t)count,
                           &e);
    }
    if (!s) {
        st_download(model->l.stream, logits, run.logits);
        s = st_stream_sync(model->l.stream, &e);
    }
    st_logits_close(&run);
    return api_done(s, &e, error);
}

typedef struct {
    strut_generate_options o;
} model_listener;

static bool model_say(void *ctx, const char *text, size_t n)
{
    const model_listener *l = ctx;
    return l->o.say(l->o.ctx, text, n) != 0;
}

static st_status model_generate(strut_model *m, const int32_t *ids, size_t count,
                                const strut_generate_options *options, json_t **result, st_err *e)
{
    model_listener listener = {STRUT_GENERATE_OPTIONS};
    strut_generate_options *o = &listener.o;
    ST_TRY(api_take(o, sizeof *o, options, "strut_generate_options", e));
    ST_TRY(model_ids(m, ids, count, e));
    if (o->say) ST_TRY(model_tokenizer(m, e));
    st_generate_opts how = {.ids = ids,
                            .nids = (int64_t)count,
                            .tokens = o->tokens,
                            .temperature = o->temperature,
                            .top_p = o->top_p,
                            .top_k = o->top_k,
                            .seed = o->seed,
                            .ignore_eos = o->ignore_eos != 0,
                            .dtype = m->dtype,
                            .say = o->say ? model_say : NULL,
                            .ctx = &listener};
    return st_generate_ids(m->l.model, m->l.stream, m->l.tokenizer, &how, result, e);
}

int strut_generate(strut_model *model, const int32_t *ids, size_t count,
                   const strut_generate_options *options, int32_t **out, size_t *made,
                   strut_error *error)
{
    st_err e = {0};
    json_t *result = NULL;
    *out = NULL, *made = 0;
    st_status s = model_generate(model, ids, count, options, &result, &e);
    const json_t *list = json_object_get(result, "ids");
    size_t n = json_array_size(list);
    if (!s && !(*out = st_calloc((int64_t)n + 1, sizeof **out))) s = ST_NOMEM(&e, "strut_generate");
    for (size_t i = 0; !s && i < n; i++)
        (*out)[i] = (int32_t)json_integer_value(json_array_get(list, i));
    if (!s) *made = n;
    json_decref(result);
    return api_done(s, &e, error);
}

/* ---- decomposition --------------------------------------------------------------------------- */

int strut_decompose(const char *in, const char *out, const char *const *maps, size_t nmaps,
                    const strut_decompose_options *options, double *energy, strut_error *error)
{
    st_err e = {0};
    json_t *result = NULL;
    strut_decompose_options o = STRUT_DECOMPOSE_OPTIONS;
    st_status s = api_take(&o, sizeof o, options, "strut_decompose_options", &e);
    if (!s && (!in || !out)) s = ST_ERR(&e, ST_EARG, "strut_decompose: two paths are needed");
    st_decompose_opts how = {.maps = maps,
                             .nmaps = (int)nmaps,
                             .init = o.inits,
                             .ninit = (int)o.ninits,
                             .weights = o.weights,
                             .calibrate_tokens = o.tokens,
                             .sequential = o.sequential != 0,
                             .replace = o.replace != 0};
    if (!s) s = st_decompose(in, out, &how, &result, &e);
    if (energy) *energy = json_number_value(json_object_get(result, "energy"));
    json_decref(result);
    return api_done(s, &e, error);
}
