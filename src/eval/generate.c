/* Text from a language model, token by token, with cached keys and values. When the model's context
 * is full, its second half is read again from position 0 and the text goes on. */
/* SPDX-License-Identifier: MIT */
#include "eval/generate.h"
#include <stdlib.h>
#include <string.h>

typedef struct {
    st_model *m;
    st_stream *q;
    const st_bpe *tokenizer;
    const st_generate_opts *o;
    st_attention attention;
    st_lm_shape lm;
    int64_t legal;             /* ids below this may be chosen */
    int64_t capacity, longest; /* of the cache; tokens of the longest read */
    int32_t *all;              /* the prompt and what followed */
    int64_t prompt, n;
    st_arena arena;
    st_tensor ids, logits;
    st_kv kv;
    st_decode step; /* of the tokens after the prompt */
    float *host;    /* logits */
    generate_sampler sampler;
    generate_text text;
    st_chat *chat; /* or NULL */
    bool begun;    /* has any text been put out? */
    st_rng rng;
    double prefill, decode; /* seconds */
    int64_t prefilled, decoded;
    const char *finish;
} generate_run;

/* Scratch of a read of `len` tokens when `used` are in the cache. */
static st_status generate_plan(generate_run *r, int64_t len, int64_t used, size_t *bytes, st_err *e)
{
    st_arena nowhere = {0};
    ST_TRY(st_arena_open_counting(&nowhere, e));
    st_kv kv = {0};
    st_kv_take(&kv, r->m, r->o->dtype, 1, r->capacity, &nowhere);
    kv.used = used;
    st_lm_args a = {.batch = 1,
                    .len = len,
                    .ids = st_take2(&nowhere, ST_I32, 1, len),
                    .logits = st_take2(&nowhere, ST_F32, 1, r->lm.vocab),
                    .last_only = 1,
                    .kv = &kv,
                    .attention = &r->attention};
    size_t held = nowhere.used, scratch = 0;
    st_cost cost;
    st_status s = st_model_plan(r->m, r->q, r->o->dtype, &a, false, &scratch, &cost, e);
    st_arena_close(&nowhere);
    if (held + scratch > *bytes) *bytes = held + scratch;
    return s;
}

static st_status generate_open(generate_run *r, st_err *e)
{
    int64_t end = r->prompt + r->o->tokens, context = r->lm.context;
    r->capacity = end < context ? end : context;
    r->longest = r->prompt < context ? r->prompt : context;
    if (end > context && context / 2 > r->longest) r->longest = context / 2;
    size_t bytes = 0;
    ST_TRY(st_model_attention(r->m, r->o->attention, &r->attention, e));
    ST_TRY(generate_plan(r, r->longest, 0, &bytes, e));
    ST_TRY(generate_plan(r, 1, r->capacity - 1, &bytes, e));
    ST_TRY(st_device_arena(r->q, bytes + (size_t)5 * ST_ALIGN, &r->arena, e));
    st_kv_take(&r->kv, r->m, r->o->dtype, 1, r->capacity, &r->arena);
    r->ids = st_take1(&r->arena, ST_I32, r->longest);
    r->logits = st_take2(&r->arena, ST_F32, 1, r->lm.vocab);
    st_lm_args a = {.batch = 1, .logits = r->logits, .last_only = 1, .kv = &r->kv};
    st_decode_start(&r->step, r->m, r->q, &a, &r->arena);
    r->host = st_calloc(r->lm.vocab, sizeof *r->host);
    r->sampler.choice = st_calloc(r->lm.vocab, sizeof *r->sampler.choice);
    if (!r->host || !r->sampler.choice) return ST_NOMEM(e, NULL);
    r->sampler.temperature = r->o->temperature;
    r->sampler.top_k = r->o->top_k;
    r->sampler.top_p = r->o->top_p;
    r->rng = (st_rng){.seed = r->o->seed, .stream = GENERATE_STREAM};
    return ST_OK;
}

/* Reads the last `len` tokens; logits of what follows come to r->host. */
static st_status generate_read(generate_run *r, int64_t len, st_err *e)
{
    double start = st_now();
    int64_t dim[] = {1, len};
    st_lm_args a = {.batch = 1,
                    .len = len,
                    .ids = st_view(r->ids.data, ST_I32, 2, dim),
                    .logits = r->logits,
                    .last_only = 1,
                    .kv = &r->kv,
                    .attention = &r->attention};
    bool single = len == 1 && r->n > r->prompt;
    if (single) {
        st_decode_step(&r->step, r->all + r->n - 1, &r->arena);
    } else {
        st_upload(r->q, a.ids, r->all + r->n - len);
        st_model_forward(r->m, r->q, &a, &r->arena);
    }
    ST_TRY(st_stream_sync(r->q, e));
    st_download(r->q, r->host, r->logits);
    *(single ? &r->decode : &r->prefill) += st_now() - start;
    *(single ? &r->decoded : &r->prefilled) += len;
    return ST_OK;
}

/* Brings the cache up to the last token. */
static st_status generate_advance(generate_run *r, st_err *e)
{
    if (r->n == r->prompt) return generate_read(r, r->longest < r->n ? r->longest : r->n, e);
    if (r->kv.used < r->capacity) return generate_read(r, 1, e);
    r->kv.used = 0;
    int64_t half = r->lm.context / 2;
    return generate_read(r, half > 0 ? half : 1, e);
}

/* Puts a token's text out; false in *more if the listener has had enough. */
static st_status generate_say(generate_run *r, int32_t id, bool *more, st_err *e)
{
    size_t before = r->text.n, n = 0;
    const char *bytes = r->tokenizer ? st_bpe_bytes(r->tokenizer, id, &n) : NULL;
    /* an answer is a text of its own, and loses the space that begins one */
    bool strip = r->chat && !r->begun && st_bpe_strip(r->tokenizer) && n && bytes[0] == ' ';
    r->begun |= n > 0;
    bytes += strip;
    n -= strip;
    if (bytes && !generate_text_push(&r->text, bytes, n)) return ST_NOMEM(e, NULL);
    if (r->o->say && r->text.n > before) {
        *more = r->o->say(r->o->ctx, r->text.text + before, r->text.n - before);
    }
    return ST_OK;
}

static st_status generate_tokens(generate_run *r, st_err *e)
{
    bool more = true;
    r->finish = "length";
    for (int64_t i = 0; i < r->o->tokens && more; i++) {
        if (st_interrupted()) ST_FAIL(e, ST_EINTR, "interrupted");
        ST_TRY(generate_advance(r, e));
        int32_t id = generate_pick(&r->sampler, r->host, r->legal, &r->rng);
        if (id < 0) {
            ST_FAIL(e, ST_EFORMAT,
                    "the model's logits are not numbers: its weights are broken, or too large for "
                    "%s",
                    st_dtype_name(r->o->dtype));
        }
        bool ends = id == r->lm.eos || (r->chat && st_chat_stop(r->chat, id));
        if (ends && !r->o->ignore_eos) {
            r->finish = "eos";
            break;
        }
        r->all[r->n++] = id;
        ST_TRY(generate_say(r, id, &more, e));
    }
    if (!more) r->finish = "interrupted";
    size_t before = r->text.n;
    if (!generate_text_end(&r->text)) return ST_NOMEM(e, NULL);
    if (more && r->o->say && r->text.n > before) {
        r->o->say(r->o->ctx, r->text.text + before, r->text.n - before);
    }
    return ST_OK;
}

json_t *generate_speed(int64_t tokens, double seconds)
{
    double speed = tokens && seconds > 0.0 ? (double)tokens / seconds : 0.0;
    return json_pack("{s:I, s:f, s:f}", "tokens", (json_int_t)tokens, "seconds", seconds,
                     "tokens_per_second", speed);
}

static json_t *generate_list(const int32_t *id, int64_t n)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < n; i++)
        json_array_append_new(list, json_integer(id[i]));
    return list;
}

static st_status generate_result(const generate_run *r, json_t **result, st_err *e)
{
    *result =
        json_pack("{s:o, s:o, s:o, s:s, s:I, s:o, s:o}", "ids",
                  generate_list(r->all + r->prompt, r->n - r->prompt), "text",
                  json_stringn(r->text.text ? r->text.text : "", r->text.n), "prompt_ids",
                  generate_list(r->all, r->prompt), "finish", r->finish, "context",
                  (json_int_t)r->lm.context, "prefill", generate_speed(r->prefilled, r->prefill),
                  "decode", generate_speed(r->decoded, r->decode));
    if (!*result) return ST_NOMEM(e, NULL);
    if (r->chat) json_object_set_new(*result, "chat", json_string(st_chat_name(r->chat)));
    return ST_OK;
}

/* The ids of what is asked, of a question in its form or of a text as the tokenizer begins one. */
static st_status generate_encode(generate_run *r, st_ids *ids, st_err *e)
{
    const st_generate_opts *o = r->o;
    if (o->chat) {
        ST_TRY(st_chat_open(&r->chat, r->tokenizer, e));
        return st_chat_ids(r->chat, r->tokenizer, o->system, o->chat, ids, e);
    }
    const st_ids *before = st_bpe_before(r->tokenizer);
    for (int64_t i = 0; i < before->n; i++)
        ST_TRY(st_ids_push(ids, before->id[i], e));
    return st_bpe_encode_with(r->tokenizer, o->prompt, o->prompt_bytes, !o->plain, ids, e);
}

/* The prompt's ids into r->all, with room for the new ones. */
static st_status generate_prompt(generate_run *r, st_err *e)
{
    st_ids ids = {0};
    const int32_t *from = r->o->ids;
    int32_t first = (int32_t)(r->lm.bos >= 0 ? r->lm.bos : r->lm.eos);
    r->prompt = r->o->nids;
    st_status s = ST_OK;
    if (r->o->chat || (r->o->prompt && r->o->prompt_bytes)) {
        s = generate_encode(r, &ids, e);
        from = ids.id;
        r->prompt = ids.n;
    } else if (r->prompt == 0) {
        from = &first;
        r->prompt = 1;
        if (first < 0) {
            ST_FAIL(e, ST_EARG,
                    "the model has no token that begins a text (bos_token_id in config.json); give "
                    "--prompt or --ids");
        }
    }
    r->all = s ? NULL : st_calloc(r->prompt + r->o->tokens, sizeof *r->all);
    if (!s && !r->all) s = ST_NOMEM(e, NULL);
    for (int64_t i = 0; !s && i < r->prompt; i++) {
        if (from[i] < 0 || from[i] >= r->lm.vocab) {
            s = ST_ERR(e, ST_EARG, "prompt: token %lld is id %ld, the model's vocabulary has %lld",
                       (long long)i, (long)from[i], (long long)r->lm.vocab);
        }
        r->all[i] = from[i];
    }
    r->n = r->prompt;
    st_ids_free(&ids);
    return s;
}

st_status generate_check_choice(const st_generate_opts *o, st_err *e)
{
    if (o->tokens < 0 || o->tokens > (int64_t)1 << 31) {
        ST_FAIL(e, ST_EARG, "tokens: %lld is not between 0 and 2147483648", (long long)o->tokens);
    }
    if (!(o->temperature >= 0.0) || !(o->top_p >= 0.0 && o->top_p <= 1.0) || o->top_k < 0) {
        ST_FAIL(e, ST_EARG, "temperature %g, top-p %g, top-k %lld: expected >= 0, 0 to 1, >= 0",
                o->temperature, o->top_p, (long long)o->top_k);
    }
    return ST_OK;
}

static st_status generate_check(const generate_run *r, st_err *e)
{
    const st_generate_opts *o = r->o;
    if ((o->chat || (o->prompt && o->prompt_bytes)) && !r->tokenizer) {
        ST_FAIL(e, ST_EARG,
                "the model has no tokenizer (vocab.json and merges.txt) beside it; --tokenizer "
                "names one, or "
                "give the prompt as token ids (--ids)");
    }
    return generate_check_choice(o, e);
}

st_status st_generate_ids(st_model *m, st_stream *q, const st_bpe *tokenizer,
                          const st_generate_opts *o, json_t **result, st_err *e)
{
    generate_run r = {.m = m, .q = q, .tokenizer = tokenizer, .o = o, .lm = st_model_lm(m)};
    r.legal = r.lm.vocab;
    if (tokenizer && st_bpe_size(tokenizer) < r.legal) r.legal = st_bpe_size(tokenizer);
    ST_TRY(generate_check(&r, e));
    if (o->logits) ST_TRY(generate_logits_room(o->logits, o->replace, e));
    st_status s = generate_prompt(&r, e);
    if (!s && r.prompt > r.lm.context) {
        st_log(ST_LOG_WARN, "the prompt has %lld tokens, the model reads the last %lld",
               (long long)r.prompt, (long long)r.lm.context);
    }
    if (!s && o->logits) {
        int64_t n = r.prompt < r.lm.context ? r.prompt : r.lm.context;
        s = generate_logits(m, q, o->dtype, r.all + r.prompt - n, n, o->logits, e);
    }
    if (!s) s = generate_open(&r, e);
    if (!s) s = generate_tokens(&r, e);
    if (!s) s = generate_result(&r, result, e);
    st_decode_end(&r.step);
    st_device_arena_close(q, &r.arena);
    free(r.all);
    free(r.host);
    free(r.sampler.choice);
    free(r.text.text);
    st_chat_close(r.chat);
    return s;
}

st_status st_generate(const char *model, const st_generate_opts *o, json_t **result, st_err *e)
{
    st_loaded l = {0};
    if (o->logits) ST_TRY(generate_logits_room(o->logits, o->replace, e)); /* before much is read */
    st_status s = st_loaded_open_as(&l, model, &o->how, o->device, o->dtype, e);
    if (!s) s = st_need_language(l.model, model, "generate", e);
    if (!s) s = st_generate_ids(l.model, l.stream, l.tokenizer, o, result, e);
    if (!s) {
        json_object_set_new(*result, "model", st_json_text(model));
        json_object_set_new(*result, "device", json_string(st_stream_describe(l.stream)));
    }
    st_loaded_close(&l);
    return s;
}
