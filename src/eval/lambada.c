/* LAMBADA (Paperno et al. 2016): guess the last word of a passage. As lm-eval's lambada_openai and
 * lambada_standard define it: context = all but the last space-separated word, target = " " + that
 * word; the tokens of both are those of the whole, cut after as many as the context alone has.
 * accuracy: every target token is the likeliest; perplexity: exp(-mean over items of the summed log
 * probability of the target). OpenAI's own count, one token instead of one word, is beside it. */
/* SPDX-License-Identifier: MIT */
#include "eval/sets.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int64_t begin, n; /* of its ids, which are context then target */
    int64_t target;   /* tokens of the target */
} lambada_item;

typedef struct {
    const st_loaded *l;
    const st_perplexity_opts *o;
    st_attention attention;
    st_ids ids;
    lambada_item *item;
    int64_t items, context, vocab;
    int64_t rows, picks; /* of the largest batches */
    st_arena arena;
    st_tensor d_ids, d_logits;
    int32_t *h_ids;
    int64_t *pick;
    float *h_logits;
    double sum, start;
    int64_t right, right_token, target_tokens, done, tokens;
} lambada;

enum { LAMBADA_ROWS = 2048 }; /* tokens at a time */

/* ---- items ----------------------------------------------------------------------------------- */

/* An item of one word: what begins a text is its context. */
static st_status lambada_word(lambada *r, const char *s, size_t n, st_err *e)
{
    st_buffer text = {0};
    int32_t bos = st_bpe_bos(r->l->tokenizer);
    if (bos < 0) {
        ST_FAIL(e, ST_EARG, "item %lld is one word, which needs a tokenizer with <|endoftext|>",
                (long long)r->items);
    }
    ST_TRY(st_ids_push(&r->ids, bos, e));
    bool ok = st_buffer_put(&text, " ", 1) && st_buffer_put(&text, s, n);
    st_status status =
        ok ? st_bpe_encode_with(r->l->tokenizer, text.s, text.n, !r->o->plain, &r->ids, e)
           : ST_NOMEM(e, NULL);
    free(text.s);
    return status;
}

/* Splits a text, encodes it, keeps what fits the model's context from the right. */
static st_status lambada_add(lambada *r, const char *s, size_t n, st_err *e)
{
    size_t word = n;
    while (word > 0 && s[word - 1] != ' ')
        word--;
    /* White space at the context's end goes to the target. */
    const char *first = s, *end = s + (word ? word - 1 : 0);
    st_space_trim(&first, &end);
    lambada_item *it = &r->item[r->items];
    *it = (lambada_item){.begin = r->ids.n};
    st_ids context = {0};
    int64_t before = 1;
    if (first == end) {
        ST_TRY(lambada_word(r, s + word, n - word, e));
    } else {
        st_status status =
            st_bpe_encode_with(r->l->tokenizer, s, (size_t)(end - s), !r->o->plain, &context, e);
        if (!status) status = st_bpe_encode_with(r->l->tokenizer, s, n, !r->o->plain, &r->ids, e);
        before = context.n;
        st_ids_free(&context);
        ST_TRY(status);
    }
    it->n = r->ids.n - it->begin;
    it->target = it->n - before;
    if (it->target < 1) {
        ST_FAIL(e, ST_EFORMAT, "item %lld ends in no word", (long long)r->items);
    }
    if (it->n > r->context + 1) { /* lm-eval cuts on the left */
        it->begin += it->n - r->context - 1;
        it->n = r->context + 1;
    }
    if (it->target > it->n - 1) it->target = it->n - 1;
    r->tokens += it->n - 1;
    r->items++;
    return ST_OK;
}

static int lambada_longer(const void *a, const void *b)
{
    const lambada_item *x = a, *y = b;
    if (x->n != y->n) return x->n < y->n ? 1 : -1;
    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

static st_status lambada_items(lambada *r, const st_eval_rows *rows, st_err *e)
{
    int64_t n = r->o->limit > 0 && r->o->limit < rows->rows ? r->o->limit : rows->rows;
    r->item = st_calloc(n, sizeof *r->item);
    if (!r->item) return ST_NOMEM(e, NULL);
    for (int64_t i = 0; i < n; i++) {
        ST_TRY(lambada_add(r, rows->text + rows->row[i].begin,
                           rows->row[i].end - rows->row[i].begin, e));
    }
    for (int64_t i = 0; i < r->ids.n; i++) {
        if (r->ids.id[i] < r->vocab) continue;
        ST_FAIL(e, ST_EARG, "the tokenizer makes id %ld, the model's vocabulary has %lld",
                (long)r->ids.id[i], (long long)r->vocab);
    }
    qsort(r->item, (size_t)r->items, sizeof *r->item, lambada_longer);
    return ST_OK;
}

/* ---- batches: items of about one length, the longest first, padded on the right -------------- */

/* Items from `first` on that go together; their longest input and target rows. */
static int64_t lambada_batch(const lambada *r, int64_t first, int64_t *len, int64_t *picks)
{
    *len = r->item[first].n - 1;
    int64_t most = r->o->batch ? r->o->batch : LAMBADA_ROWS / *len, n = 0;
    *picks = 0;
    while (first + n < r->items && (n == 0 || n < most))
        *picks += r->item[first + n++].target;
    return n;
}

static st_status lambada_plan(lambada *r, st_err *e)
{
    size_t most = 0;
    int64_t len, picks;
    for (int64_t i = 0, n; i < r->items; i += n) {
        n = lambada_batch(r, i, &len, &picks);
        if (n * len > r->rows) r->rows = n * len;
        if (picks > r->picks) r->picks = picks;
    }
    r->pick = st_calloc(r->picks, sizeof *r->pick);
    r->h_ids = st_calloc(r->rows, sizeof *r->h_ids);
    r->h_logits = st_calloc(r->picks * r->vocab, sizeof *r->h_logits);
    if (!r->pick || !r->h_ids || !r->h_logits) return ST_NOMEM(e, NULL);
    st_arena nowhere = {0};
    ST_TRY(st_arena_open_counting(&nowhere, e));
    st_tensor logits = st_take2(&nowhere, ST_F32, r->picks, r->vocab);
    st_status s = ST_OK;
    for (int64_t i = 0, n; !s && i < r->items; i += n) {
        size_t bytes = 0;
        st_cost cost;
        n = lambada_batch(r, i, &len, &picks);
        st_lm_args a = {.batch = n, .len = len, .logits = logits, .pick = r->pick, .picks = picks};
        a.attention = &r->attention;
        a.logits.dim[0] = picks;
        s = st_model_plan(r->l->model, r->l->stream, r->o->dtype, &a, false, &bytes, &cost, e);
        if (bytes > most) most = bytes;
    }
    st_arena_close(&nowhere);
    ST_TRY(s);
    size_t held = (size_t)r->rows * 4 + (size_t)(r->picks * r->vocab) * 4 + (size_t)4 * ST_ALIGN;
    ST_TRY(st_device_arena(r->l->stream, most + held, &r->arena, e));
    r->d_ids = st_take1(&r->arena, ST_I32, r->rows);
    r->d_logits = st_take1(&r->arena, ST_F32, r->picks * r->vocab);
    return ST_OK;
}

/* Log probability of `target`; *best: it is the likeliest. */
static double lambada_logprob(const float *z, int64_t vocab, int32_t target, bool *best)
{
    int64_t top = 0;
    double sum = 0.0;
    for (int64_t i = 1; i < vocab; i++)
        if (z[i] > z[top]) top = i;
    for (int64_t i = 0; i < vocab; i++)
        sum += exp((double)z[i] - (double)z[top]);
    *best = top == target;
    return (double)z[target] - (double)z[top] - log(sum);
}

static st_status lambada_count(lambada *r, int64_t first, int64_t n, st_err *e)
{
    for (int64_t i = 0, row = 0; i < n; i++) {
        const lambada_item *it = &r->item[first + i];
        const int32_t *target = r->ids.id + it->begin + it->n - it->target;
        bool all = true, best = false;
        double sum = 0.0;
        for (int64_t t = 0; t < it->target; t++, row++) {
            sum += lambada_logprob(r->h_logits + row * r->vocab, r->vocab, target[t], &best);
            all = all && best;
        }
        if (!isfinite(sum)) {
            ST_FAIL(e, ST_EFORMAT,
                    "the loss of an item is not a finite number; the weights are broken or too "
                    "large for this element type (try --dtype f32)");
        }
        r->sum += sum;
        r->right += all;
        r->right_token += best; /* of the last one */
        r->target_tokens += it->target;
    }
    return ST_OK;
}

static st_status lambada_score(lambada *r, int64_t first, int64_t n, int64_t len, st_err *e)
{
    int64_t picks = 0, dim[] = {n, len};
    for (int64_t i = 0; i < n; i++) {
        const lambada_item *it = &r->item[first + i];
        for (int64_t t = 0; t < len; t++)
            r->h_ids[i * len + t] = t < it->n - 1 ? r->ids.id[it->begin + t] : 0;
        for (int64_t t = it->n - 1 - it->target; t < it->n - 1; t++)
            r->pick[picks++] = i * len + t;
    }
    st_lm_args a = {.batch = n,
                    .len = len,
                    .ids = st_view(r->d_ids.data, ST_I32, 2, dim),
                    .logits = st_view2(r->d_logits.data, ST_F32, picks, r->vocab),
                    .pick = r->pick,
                    .picks = picks,
                    .attention = &r->attention};
    st_upload(r->l->stream, a.ids, r->h_ids);
    st_model_forward(r->l->model, r->l->stream, &a, &r->arena);
    ST_TRY(st_stream_sync(r->l->stream, e));
    st_download(r->l->stream, r->h_logits, a.logits);
    return lambada_count(r, first, n, e);
}

/* ---- all of it ------------------------------------------------------------------------------- */

static st_status lambada_run(lambada *r, st_err *e)
{
    int64_t len, picks, done = 0;
    r->start = st_now();
    for (int64_t i = 0, n; i < r->items; i += n) {
        if (st_interrupted()) ST_FAIL(e, ST_EINTR, "interrupted");
        n = lambada_batch(r, i, &len, &picks);
        ST_TRY(lambada_score(r, i, n, len, e));
        for (int64_t k = i; k < i + n; k++)
            done += r->item[k].n - 1;
        char detail[64];
        snprintf(detail, sizeof detail, "accuracy %.1f %%",
                 100.0 * (double)r->right / (double)(i + n));
        st_report(&(st_progress){.what = "lambada",
                                 .done = done,
                                 .total = r->tokens,
                                 .unit = "tokens",
                                 .detail = detail,
                                 .last = i + n == r->items});
    }
    return ST_OK;
}

static st_status lambada_result(const lambada *r, const char *protocol, json_t **result, st_err *e)
{
    double n = (double)r->items, nll = -r->sum / n, acc = (double)r->right / n;
    double seconds = st_now() - r->start, ppl = exp(nll);
    *result = json_pack(
        "{s:f, s:f, s:o, s:f, s:f, s:I, s:I, s:I, s:s, s:s, s:f, s:f}", "accuracy", acc,
        "accuracy_stderr", r->items > 1 ? sqrt(acc * (1.0 - acc) / (n - 1.0)) : 0.0, "perplexity",
        isfinite(ppl) ? json_real(ppl) : json_null(), "nll", nll, "last_token_accuracy",
        (double)r->right_token / n, "items", (json_int_t)r->items, "tokens", (json_int_t)r->tokens,
        "target_tokens", (json_int_t)r->target_tokens, "protocol", protocol, "definition",
        "accuracy: greedy decoding gives every token of the last word; perplexity: exp(-mean over "
        "items of the summed log probability of the last word) (lm-eval's LAMBADA tasks); last "
        "token: OpenAI's count",
        "seconds", seconds, "tokens_per_second",
        (double)r->tokens / (seconds > 1e-9 ? seconds : 1e-9));
    if (!*result) return ST_NOMEM(e, NULL);
    return ST_OK;
}

st_status st_lambada(const st_loaded *l, const st_eval_rows *rows, const st_perplexity_opts *o,
                     const char *protocol, json_t **result, st_err *e)
{
    st_lm_shape lm = st_model_lm(l->model);
    lambada r = {.l = l, .o = o, .context = lm.context, .vocab = lm.vocab};
    if (o->context && o->context < lm.context) r.context = o->context;
    st_status s = st_model_attention(l->model, o->attention, &r.attention, e);
    if (!s) s = lambada_items(&r, rows, e);
    if (!s) s = lambada_plan(&r, e);
    if (!s) s = lambada_run(&r, e);
    if (!s) s = lambada_result(&r, protocol, result, e);
    st_device_arena_close(l->stream, &r.arena);
    st_ids_free(&r.ids);
    free(r.item);
    free(r.pick);
    free(r.h_ids);
    free(r.h_logits);
    return s;
}
