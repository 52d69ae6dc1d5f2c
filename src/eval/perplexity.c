/* Perplexity of a language model on a text: exp of a mean negative log-likelihood of its tokens.
 * What is scored, with how much context, and how the mean is taken differ between papers; each way
 * is a named protocol (protocol.c). Here windows are cut from the ids and scored in batches. */
/* SPDX-License-Identifier: MIT */
#include "eval/perplexity.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One evaluation. Windows wait in the host buffers until `batch` of one length are there. */
typedef struct {
    st_model *m;
    st_stream *q;
    const st_protocol *p;
    st_attention attention;
    const int32_t *ids;
    int64_t n, context, stride, batch;
    int64_t longest; /* tokens of the longest sequence */
    int64_t picks;   /* rows that go through the head where few are scored; 0: always all */
    int64_t *pick;
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
    int64_t len = r->longest < r->context ? r->longest : r->context, rows = r->batch * len;
    int64_t shape[][2] = {{r->batch, len}, {1, len}, {r->batch, len}};
    size_t most = 0;
    r->picks = r->batch * r->stride <= rows / 2 ? r->batch * r->stride : 0;
    r->pick = st_calloc(r->picks, sizeof *r->pick);
    if (r->picks && !r->pick) return ST_NOMEM(e, NULL);
    for (int i = 0; i < (r->picks ? 3 : 2); i++) {
        st_arena nowhere = {0};
        ST_TRY(st_arena_open_counting(&nowhere, e));
        int64_t count = shape[i][0] * shape[i][1];
        st_lm_args a = {.batch = shape[i][0],
                        .len = shape[i][1],
                        .ids = st_take2(&nowhere, ST_I32, shape[i][0], shape[i][1]),
                        .targets = st_take2(&nowhere, ST_I32, shape[i][0], shape[i][1]),
                        .loss = st_take1(&nowhere, ST_F32, count),
                        .pick = i == 2 ? r->pick : NULL,
                        .picks = r->picks,
                        .attention = &r->attention};
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
    if (!r->h_ids || !r->h_targets || !r->h_loss) return ST_NOMEM(e, NULL);
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

/* Moves the targets that are scored to the front, if they are few: exactly `picks` rows (what was
 * planned), the last of them repeated without a target. */
static bool perplexity_pick(perplexity_run *r, int64_t rows)
{
    int64_t n = 0;
    for (int64_t i = 0; i < rows; i++)
        n += r->h_targets[i] >= 0;
    if (n == 0 || n > r->picks) return false;
    n = 0;
    for (int64_t i = 0; i < rows; i++) {
        if (r->h_targets[i] < 0) continue;
        r->h_targets[n] = r->h_targets[i];
        r->pick[n++] = i;
    }
    for (; n < r->picks; n++) {
        r->h_targets[n] = -1;
        r->pick[n] = r->pick[n - 1];
    }
    return true;
}

/* Puts the picked targets and losses back in their rows. */
static void perplexity_unpick(perplexity_run *r, int64_t rows)
{
    int64_t n = r->picks;
    while (n > 0 && r->h_targets[n - 1] < 0)
        n--;
    for (int64_t i = rows; i-- > 0;) {
        bool here = n > 0 && r->pick[n - 1] == i;
        if (here) n--;
        r->h_loss[i] = here ? r->h_loss[n] : 0.0f;
        r->h_targets[i] = here ? r->h_targets[n] : -1;
    }
}

static st_status perplexity_flush(perplexity_run *r, st_err *e)
{
    if (r->waiting == 0) return ST_OK;
    int64_t dim[] = {r->waiting, r->len}, rows = r->waiting * r->len;
    bool few = r->picks && perplexity_pick(r, rows);
    st_lm_args a = {.batch = r->waiting,
                    .len = r->len,
                    .ids = st_view(r->d_ids.data, ST_I32, 2, dim),
                    .targets = st_view(r->d_targets.data, ST_I32, 2, dim),
                    .loss = st_view1(r->d_loss.data, ST_F32, rows),
                    .pick = few ? r->pick : NULL,
                    .picks = r->picks,
                    .attention = &r->attention};
    st_upload(r->q, a.ids, r->h_ids);
    st_upload(r->q, a.targets, r->h_targets);
    st_model_forward(r->m, r->q, &a, &r->arena);
    ST_TRY(st_stream_sync(r->q, e));
    st_download(r->q, r->h_loss, a.loss);
    if (few) perplexity_unpick(r, rows);
    return perplexity_count(r, e);
}

/* Puts the window of inputs [begin, end), which scores the targets in [first, stop), into the
 * buffers. */
static st_status perplexity_window(perplexity_run *r, int64_t begin, int64_t end, int64_t first,
                                   int64_t stop, st_err *e)
{
    int64_t len = end - begin;
    if (first >= stop) return ST_OK; /* a last window of one token scores nothing */
    if (r->waiting && r->len != len) ST_TRY(perplexity_flush(r, e));
    r->len = len;
    int64_t at = r->waiting * len;
    for (int64_t i = 0; i < len; i++) {
        int64_t target = begin + i + 1;
        r->h_ids[at + i] = r->ids[begin + i];
        r->h_targets[at + i] = target < stop && target >= first ? r->ids[target] : -1;
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

/* The windows of the sequence [from, to). With the boundary inside, the first token of a window is
 * context only; outside, the token after the window is its last target, so that the sequence's last
 * token is never an input. */
static st_status perplexity_sequence(perplexity_run *r, int64_t from, int64_t to, st_err *e)
{
    int64_t inputs = r->p->outside ? to - 1 : to, done = from;
    for (int64_t begin = from; done < to; begin += r->stride) {
        if (st_interrupted()) ST_FAIL(e, ST_EINTR, "interrupted");
        bool part = inputs - begin < r->context;
        int64_t end = part ? inputs : begin + r->context, start = begin;
        if (part && r->p->tail == ST_TAIL_DROP) break;
        if (part && r->p->tail == ST_TAIL_FILL)
            start = end - from < r->context ? from : end - r->context;
        int64_t stop = r->p->outside ? end + 1 : end;
        ST_TRY(perplexity_window(r, start, end, done > begin ? done : begin + 1, stop, e));
        done = stop;
        perplexity_say(r, done, false);
    }
    return ST_OK;
}

static st_status perplexity_all(perplexity_run *r, const st_eval_ids *text, st_err *e)
{
    perplexity_say(r, 0, false);
    for (int64_t i = 0, from = 0; i < text->sequences && from < r->n; i++) {
        int64_t to = text->end[i] < r->n ? text->end[i] : r->n;
        ST_TRY(perplexity_sequence(r, from, to, e));
        from = to;
    }
    ST_TRY(perplexity_flush(r, e));
    perplexity_say(r, r->n, true);
    if (r->scored) return ST_OK;
    ST_FAIL(e, ST_EARG,
            "the text has %s and fills no window of %lld; protocol %s leaves "
            "part of a window out",
            st_counted(r->n, "tokens").s, (long long)r->context, r->p->name);
}

/* Fills context, stride and batch and refuses what is impossible. */
static st_status perplexity_shape(perplexity_run *r, const st_eval_ids *text,
                                  const st_perplexity_opts *o, st_err *e)
{
    st_lm_shape lm = st_model_lm(r->m);
    int64_t own = r->p->context && r->p->context < lm.context ? r->p->context : lm.context;
    r->context = o->context ? o->context : own;
    own = r->p->stride && r->p->stride < r->context ? r->p->stride : r->context;
    r->stride = o->stride ? o->stride : own;
    if (o->limit > 0 && o->limit < r->n && r->p->join != ST_JOIN_PAGES) r->n = o->limit;
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
    for (int64_t i = 0, from = 0; i < text->sequences; from = text->end[i++]) {
        int64_t to = text->end[i] < r->n ? text->end[i] : r->n;
        if (to - from > r->longest) r->longest = to - from;
    }
    int64_t fill = 2048 / r->context; /* short windows together, so that products stay large */
    r->batch = o->batch ? o->batch : fill > 1 ? fill : 1;
    int64_t windows = (r->n + r->stride - 1) / r->stride + text->sequences;
    if (r->batch > windows) r->batch = windows;
    return ST_OK;
}

static json_t *perplexity_number(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

/* Per word and byte of the original text, where every token but perhaps the first was scored. */
static void perplexity_text(const perplexity_run *r, const st_eval_ids *text, json_t *o)
{
    if (!text->bytes) return;
    json_object_set_new(o, "bytes", json_integer((json_int_t)text->bytes));
    json_object_set_new(o, "words", json_integer((json_int_t)text->words));
    int64_t whole = text->ids.n - (r->p->prefix ? text->sequences : 0);
    if (r->scored < whole - 1) return;
    json_object_set_new(o, "word_perplexity", perplexity_number(exp(r->sum / (double)text->words)));
    json_object_set_new(o, "byte_perplexity", perplexity_number(exp(r->sum / (double)text->bytes)));
    json_object_set_new(o, "bits_per_byte",
                        perplexity_number(r->sum / (double)text->bytes / log(2.0)));
}

/* The mean NLL that the protocol takes exp of. */
static double perplexity_mean(const perplexity_run *r, const st_eval_ids *text)
{
    double mean = r->sum / (double)r->scored;
    switch (r->p->per) {
    case ST_PER_WORD: return r->sum / (double)text->words;
    case ST_PER_ORIGINAL: /* Megatron-LM's ratio: both counts less the token that nothing predicts
                           */
        return mean * (double)(text->ids.n - 1) / (double)(text->original - 1);
    case ST_PER_TOKEN: break;
    }
    return r->p->window_mean ? r->window_sum / (double)r->windows : mean;
}

static st_status perplexity_result(const perplexity_run *r, const st_eval_ids *text, double seconds,
                                   json_t **result, st_err *e)
{
    double nll = perplexity_mean(r, text), tokens = r->sum / (double)r->scored;
    *result = json_pack(
        "{s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:s, s:I, s:I, s:s, s:s, s:s, s:f, s:f}", "perplexity",
        perplexity_number(exp(nll)), "nll", perplexity_number(nll), "token_perplexity",
        perplexity_number(exp(tokens)), "bits_per_token", perplexity_number(tokens / log(2.0)),
        "tokens", (json_int_t)r->n, "scored", (json_int_t)r->scored, "windows",
        (json_int_t)r->windows, "protocol", r->p->name, "context", (json_int_t)r->context, "stride",
        (json_int_t)r->stride, "agg",
        r->p->per == ST_PER_WORD       ? "word"
        : r->p->per == ST_PER_ORIGINAL ? "original"
        : r->p->window_mean            ? "window"
                                       : "token",
        "boundary", r->p->outside ? "outside" : "inside", "definition", r->p->definition, "seconds",
        seconds, "tokens_per_second", (double)r->n / (seconds > 1e-9 ? seconds : 1e-9));
    if (!*result) return ST_NOMEM(e, NULL);
    perplexity_text(r, text, *result);
    return ST_OK;
}

st_status st_perplexity_windows(st_model *m, st_stream *q, const st_protocol *p,
                                const st_eval_ids *text, const st_perplexity_opts *o,
                                json_t **result, st_err *e)
{
    perplexity_run r = {.m = m, .q = q, .p = p, .ids = text->ids.id, .n = text->ids.n};
    if ((p->per == ST_PER_ORIGINAL && text->original < 2) ||
        (p->per == ST_PER_WORD && text->words < 1)) {
        ST_FAIL(e, ST_EARG,
                "protocol %s counts words, so it needs the text; tokens alone can be "
                "measured by hf, krony or fly",
                p->name);
    }
    ST_TRY(st_model_attention(m, o->attention, &r.attention, e));
    ST_TRY(perplexity_shape(&r, text, o, e));
    st_status s = perplexity_plan(&r, o->dtype, e);
    double start = st_now();
    if (!s) s = perplexity_all(&r, text, e);
    if (!s) s = perplexity_result(&r, text, st_now() - start, result, e);
    st_device_arena_close(q, &r.arena);
    free(r.h_ids);
    free(r.h_targets);
    free(r.h_loss);
    free(r.pick);
    return s;
}

st_status st_perplexity_ids(st_model *m, st_stream *q, const int32_t *ids, int64_t n,
                            const st_perplexity_opts *o, json_t **result, st_err *e)
{
    const st_protocol *named;
    st_protocol p;
    ST_TRY(st_protocol_find(o->protocol, &named, e));
    ST_TRY(st_protocol_with(named, o, &p, e));
    int64_t end = n;
    int32_t *own = (int32_t *)(uintptr_t)ids; /* read only */
    const st_eval_ids text = {.ids = {.id = own, .n = n}, .end = &end, .sequences = 1};
    return st_perplexity_windows(m, q, &p, &text, o, result, e);
}
