/* Perplexity of a language model on a text: exp of the mean negative log-likelihood of its tokens.
 * What is scored, with how much context, and how the mean is taken differ between papers; each way
 * is a named protocol here, one row of a table. */
/* SPDX-License-Identifier: MIT */
#include "job/job.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *name, *definition;
    bool window_mean; /* exp of the unweighted mean of the windows' means, else of all tokens */
} perplexity_protocol;

static const perplexity_protocol protocols[] = {
    {"hf",
     "exp of the mean NLL of all scored tokens; a window starts every `stride` tokens and scores "
     "what no window before it scored, its first token is context only (Hugging Face's guide)",
     false},
    {"krony",
     "exp of the unweighted mean of the windows' mean NLLs, the short last window counting as much "
     "as any other; the first token of a window is context only (Krony-PT)",
     true},
};
enum { PROTOCOLS = sizeof protocols / sizeof *protocols, TEXT_MAX = 1 << 30 };

json_t *st_perplexity_protocols(void)
{
    json_t *list = json_array();
    for (int i = 0; i < PROTOCOLS; i++) {
        json_array_append_new(list, json_pack("{s:s, s:s}", "name", protocols[i].name, "definition",
                                              protocols[i].definition));
    }
    return list;
}

static st_status perplexity_find(const char *name, const perplexity_protocol **out, st_err *e)
{
    const char *names[PROTOCOLS + 1] = {NULL};
    *out = NULL;
    for (int i = 0; i < PROTOCOLS; i++) {
        names[i] = protocols[i].name;
        if (!name || strcmp(name, names[i]) == 0) {
            *out = &protocols[i];
            return ST_OK;
        }
    }
    const char *near = st_nearest(name, names);
    ST_FAIL(e, ST_EARG, "protocol \"%s\" is unknown%s%s%s; legal: hf, krony", name,
            near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

/* One evaluation. Windows wait in the host buffers until `batch` of one length are there. */
typedef struct {
    st_model *m;
    st_stream *q;
    const int32_t *ids;
    int64_t n, context, stride, batch;
    st_arena arena; /* ids, targets, loss, scratch */
    st_tensor d_ids, d_targets, d_loss;
    int32_t *h_ids, *h_targets;
    float *h_loss;
    int64_t waiting, len; /* windows in the buffers, their length */
    double sum, window_sum;
    int64_t scored, windows, read;
} perplexity_run;

static st_status perplexity_plan(perplexity_run *r, st_dtype t, st_err *e)
{
    int64_t len = r->n < r->context ? r->n : r->context, rows = r->batch * len;
    int64_t shape[][2] = {{r->batch, len}, {1, len}};
    size_t most = 0;
    for (int i = 0; i < 2; i++) {
        st_arena nowhere = {0};
        ST_TRY(st_arena_open_counting(&nowhere, e));
        int64_t count = shape[i][0] * shape[i][1];
        st_lm_args a = {.batch = shape[i][0],
                        .len = shape[i][1],
                        .ids = st_take2(&nowhere, ST_I32, shape[i][0], shape[i][1]),
                        .targets = st_take2(&nowhere, ST_I32, shape[i][0], shape[i][1]),
                        .loss = st_take1(&nowhere, ST_F32, count)};
        size_t bytes = 0;
        st_cost cost;
        st_status s = st_model_plan(r->m, r->q, t, &a, false, &bytes, &cost, e);
        st_arena_close(&nowhere);
        ST_TRY(s);
        if (bytes > most) most = bytes;
    }
    size_t buffers = (size_t)rows * 12 + (size_t)3 * ST_ALIGN;
    ST_TRY(st_device_arena(r->q, most + buffers, &r->arena, e));
    r->d_ids = st_take1(&r->arena, ST_I32, rows);
    r->d_targets = st_take1(&r->arena, ST_I32, rows);
    r->d_loss = st_take1(&r->arena, ST_F32, rows);
    r->h_ids = st_calloc(rows, sizeof *r->h_ids);
    r->h_targets = st_calloc(rows, sizeof *r->h_targets);
    r->h_loss = st_calloc(rows, sizeof *r->h_loss);
    if (!r->h_ids || !r->h_targets || !r->h_loss) ST_FAIL(e, ST_ENOMEM, "out of memory");
    return ST_OK;
}

/* Adds up what the waiting windows scored. */
static st_status perplexity_count(perplexity_run *r, st_err *e)
{
    for (int64_t w = 0; w < r->waiting; w++) {
        double sum = 0.0;
        int64_t count = 0;
        for (int64_t i = w * r->len; i < (w + 1) * r->len; i++) {
            if (r->h_targets[i] < 0) continue;
            sum += (double)r->h_loss[i];
            count++;
        }
        if (!isfinite(sum)) {
            ST_FAIL(e, ST_EFORMAT,
                    "window %lld: the loss is not a finite number; the weights are broken or too "
                    "large for this element type (try --dtype f32)",
                    (long long)r->windows);
        }
        r->sum += sum;
        r->window_sum += sum / (double)count;
        r->scored += count;
        r->windows++;
    }
    r->waiting = 0;
    return ST_OK;
}

static st_status perplexity_flush(perplexity_run *r, st_err *e)
{
    if (r->waiting == 0) return ST_OK;
    int64_t dim[] = {r->waiting, r->len}, rows = r->waiting * r->len;
    st_lm_args a = {.batch = r->waiting,
                    .len = r->len,
                    .ids = st_view(r->d_ids.data, ST_I32, 2, dim),
                    .targets = st_view(r->d_targets.data, ST_I32, 2, dim),
                    .loss = st_view1(r->d_loss.data, ST_F32, rows)};
    st_upload(r->q, a.ids, r->h_ids);
    st_upload(r->q, a.targets, r->h_targets);
    st_model_forward(r->m, r->q, &a, &r->arena);
    ST_TRY(st_stream_sync(r->q, e));
    st_download(r->q, r->h_loss, a.loss);
    return perplexity_count(r, e);
}

/* Puts the window [begin, end), which scores the tokens from `first` on, into the buffers. */
static st_status perplexity_window(perplexity_run *r, int64_t begin, int64_t end, int64_t first,
                                   st_err *e)
{
    int64_t len = end - begin;
    if (first >= end) return ST_OK; /* a last window of one token scores nothing */
    if (r->waiting && r->len != len) ST_TRY(perplexity_flush(r, e));
    r->len = len;
    int64_t at = r->waiting * len;
    for (int64_t i = 0; i < len; i++) {
        int64_t target = begin + i + 1;
        r->h_ids[at + i] = r->ids[begin + i];
        r->h_targets[at + i] = target < end && target >= first ? r->ids[target] : -1;
    }
    r->waiting++;
    return r->waiting == r->batch ? perplexity_flush(r, e) : ST_OK;
}

static void perplexity_say(const perplexity_run *r, int64_t done, bool last)
{
    char detail[64] = "";
    if (r->scored) {
        snprintf(detail, sizeof detail, "perplexity %.4g", exp(r->sum / (double)r->scored));
    }
    st_report(&(st_progress){.what = "perplexity",
                             .done = done,
                             .total = r->n,
                             .unit = "tokens",
                             .detail = detail,
                             .last = last});
}

static st_status perplexity_windows(perplexity_run *r, st_err *e)
{
    int64_t done = 0; /* tokens before this one are scored or were first of a window */
    perplexity_say(r, 0, false);
    for (int64_t begin = 0; done < r->n; begin += r->stride) {
        if (st_interrupted()) ST_FAIL(e, ST_EINTR, "interrupted");
        int64_t end = r->n - begin < r->context ? r->n : begin + r->context;
        ST_TRY(perplexity_window(r, begin, end, done > begin ? done : begin + 1, e));
        done = end;
        perplexity_say(r, done, false);
    }
    ST_TRY(perplexity_flush(r, e));
    perplexity_say(r, done, true);
    return ST_OK;
}

/* Fills context, stride and batch and refuses what is impossible. */
static st_status perplexity_shape(perplexity_run *r, const st_perplexity_opts *o, st_err *e)
{
    st_lm_shape lm = st_model_lm(r->m);
    r->context = o->context ? o->context : lm.context;
    r->stride = o->stride ? o->stride : r->context;
    if (o->limit > 0 && o->limit < r->n) r->n = o->limit;
    if (r->context < 2 || r->context > lm.context) {
        ST_FAIL(e, ST_EARG, "context: %lld is not between 2 and the model's %lld",
                (long long)r->context, (long long)lm.context);
    }
    if (r->stride < 1 || r->stride > r->context) {
        ST_FAIL(e, ST_EARG, "stride: %lld is not between 1 and the context of %lld",
                (long long)r->stride, (long long)r->context);
    }
    if (r->n < 2) {
        ST_FAIL(e, ST_EARG, "the text has %lld token%s; at least 2 are needed to score one",
                (long long)r->n, r->n == 1 ? "" : "s");
    }
    for (int64_t i = 0; i < r->n; i++) {
        if (r->ids[i] >= 0 && r->ids[i] < lm.vocab) continue;
        ST_FAIL(e, ST_EFORMAT, "token %lld is id %ld, the model's vocabulary has %lld",
                (long long)i, (long)r->ids[i], (long long)lm.vocab);
    }
    int64_t fill = 2048 / r->context; /* short windows together, so that products stay large */
    r->batch = o->batch ? o->batch : fill > 1 ? fill : 1;
    int64_t windows = (r->n + r->stride - 1) / r->stride;
    if (r->batch > windows) r->batch = windows;
    return ST_OK;
}

static json_t *perplexity_number(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

static st_status perplexity_result(const perplexity_run *r, const perplexity_protocol *p,
                                   double seconds, json_t **result, st_err *e)
{
    double nll = p->window_mean ? r->window_sum / (double)r->windows : r->sum / (double)r->scored;
    *result = json_pack(
        "{s:o, s:o, s:o, s:I, s:I, s:I, s:s, s:I, s:I, s:s, s:f, s:f}", "perplexity",
        perplexity_number(exp(nll)), "nll", perplexity_number(nll), "bits_per_token",
        perplexity_number(nll / log(2.0)), "tokens", (json_int_t)r->n, "scored",
        (json_int_t)r->scored, "windows", (json_int_t)r->windows, "protocol", p->name, "context",
        (json_int_t)r->context, "stride", (json_int_t)r->stride, "definition", p->definition,
        "seconds", seconds, "tokens_per_second", (double)r->n / (seconds > 1e-9 ? seconds : 1e-9));
    if (!*result) ST_FAIL(e, ST_ENOMEM, "out of memory");
    return ST_OK;
}

st_status st_perplexity_ids(st_model *m, st_stream *q, const int32_t *ids, int64_t n,
                            const st_perplexity_opts *o, json_t **result, st_err *e)
{
    perplexity_run r = {.m = m, .q = q, .ids = ids, .n = n};
    const perplexity_protocol *p;
    ST_TRY(perplexity_find(o->protocol, &p, e));
    ST_TRY(perplexity_shape(&r, o, e));
    st_status s = perplexity_plan(&r, o->dtype, e);
    double start = st_now();
    if (!s) s = perplexity_windows(&r, e);
    if (!s) s = perplexity_result(&r, p, st_now() - start, result, e);
    st_device_arena_close(q, &r.arena);
    free(r.h_ids);
    free(r.h_targets);
    free(r.h_loss);
    return s;
}

static st_status perplexity_shard(const char *path, st_ids *ids, st_err *e)
{
    st_shard shard = {0};
    ST_TRY(st_shard_open(&shard, path, e));
    ids->id = st_calloc(shard.n, sizeof *ids->id);
    if (ids->id) ids->n = shard.n;
    st_shard_read(&shard, 0, ids->n, ids->id);
    st_shard_close(&shard);
    if (!ids->id) ST_FAIL(e, ST_ENOMEM, "%s: out of memory", path);
    return ST_OK;
}

/* The ids of a shard or a text; *bytes is the text's length, 0 of a shard. */
static st_status perplexity_read(const st_loaded *l, const char *path, st_ids *ids, size_t *bytes,
                                 st_err *e)
{
    *bytes = 0;
    if (st_shard_is(path)) return perplexity_shard(path, ids, e);
    if (!l->tokenizer) {
        ST_FAIL(e, ST_EARG,
                "%s: the model folder %s has no tokenizer (vocab.json and merges.txt); put one "
                "there or give a shard of tokens (.bin)",
                path, l->path);
    }
    char *text = NULL;
    ST_TRY(st_read_file(path, TEXT_MAX, &text, bytes, e));
    st_status s = st_bpe_encode(l->tokenizer, text, *bytes, ids, e);
    free(text);
    return s;
}

st_status st_perplexity(const char *model, const char *text, const st_perplexity_opts *o,
                        json_t **result, st_err *e)
{
    const perplexity_protocol *p;
    ST_TRY(perplexity_find(o->protocol, &p, e)); /* before a model is read for nothing */
    st_loaded l = {0};
    st_ids ids = {0};
    size_t bytes = 0;
    st_status s = st_loaded_open(&l, model, o->device ? o->device : "cpu", o->dtype, e);
    if (!s) s = perplexity_read(&l, text, &ids, &bytes, e);
    if (!s) {
        s = st_perplexity_ids(l.model, l.stream, ids.id, ids.n, o, result, e);
        if (s && s != ST_EINTR) st_err_prefix(e, "%s", text);
    }
    if (!s) {
        json_object_set_new(*result, "model", json_string(model));
        json_object_set_new(*result, "text", json_string(text));
        json_object_set_new(*result, "dtype", json_string(st_dtype_name(o->dtype)));
        json_object_set_new(*result, "device", json_string(st_stream_describe(l.stream)));
        if (bytes) json_object_set_new(*result, "bytes", json_integer((json_int_t)bytes));
    }
    st_ids_free(&ids);
    st_loaded_close(&l);
    return s;
}
