/* Text after many prompts, several at once: every product reads its weights once for all of them.
 * A prompt that is done makes room for the next. */
/* SPDX-License-Identifier: MIT */
#include "eval/eval.h"
#include "eval/generate.h"
#include <stdlib.h>
#include <string.h>

/* A prompt at work. */
typedef struct {
    int64_t number; /* of the prompt; -1: none */
    int64_t made;
    int32_t next; /* to be read */
    json_t *ids;
    generate_text text;
    st_rng rng;
} many_slot;

typedef struct {
    st_model *m;
    st_stream *q;
    const st_bpe *tokenizer;
    const st_generate_opts *o;
    const st_ids *prompt;
    int64_t prompts, begun, done, batch, capacity, longest, legal;
    st_lm_shape lm;
    st_arena arena;
    st_kv one, kv; /* of the prompt that is read, of all at work */
    st_tensor ids, logits;
    float *host;
    int32_t *next;
    int64_t *each;
    many_slot *slot;
    generate_sampler sampler;
    json_t **result; /* by prompt */
    double prefill, decode;
    int64_t prefilled, decoded;
} many;

/* ---- memory ---------------------------------------------------------------------------------- */

static void many_take(many *r, st_arena *a)
{
    st_kv_take(&r->one, r->m, r->o->dtype, 1, r->longest, a);
    st_kv_take(&r->kv, r->m, r->o->dtype, r->batch, r->capacity, a);
    r->ids = st_take1(a, ST_I32, r->longest > r->batch ? r->longest : r->batch);
    r->logits = st_take2(a, ST_F32, r->batch, r->lm.vocab);
}

static st_lm_args many_args(many *r, int64_t batch, int64_t len)
{
    int64_t dim[] = {batch, len};
    return (st_lm_args){.batch = batch,
                        .len = len,
                        .ids = st_view(r->ids.data, ST_I32, 2, dim),
                        .logits = st_rows(r->logits, 0, batch),
                        .last_only = 1,
                        .kv = len > 1 || batch == 1 ? &r->one : &r->kv};
}

/* Scratch of one forward. */
static st_status many_plan(many *r, int64_t batch, int64_t len, st_kv *kv, size_t *most, st_err *e)
{
    size_t bytes = 0;
    st_cost cost;
    st_lm_args a = many_args(r, batch, len);
    a.kv = kv;
    ST_TRY(st_model_plan(r->m, r->q, r->o->dtype, &a, false, &bytes, &cost, e));
    if (bytes > *most) *most = bytes;
    return ST_OK;
}

static st_status many_open(many *r, st_err *e)
{
    st_arena nowhere = {0};
    size_t scratch = 0;
    r->each = st_calloc(r->batch, sizeof *r->each);
    r->next = st_calloc(r->batch, sizeof *r->next);
    r->slot = st_calloc(r->batch, sizeof *r->slot);
    r->result = st_calloc(r->prompts, sizeof(json_t *));
    r->host = st_calloc(r->batch * r->lm.vocab, sizeof *r->host);
    r->sampler.choice = st_calloc(r->lm.vocab, sizeof *r->sampler.choice);
    if (!r->each || !r->next || !r->slot || !r->result || !r->host || !r->sampler.choice)
        return ST_NOMEM(e, "generate");
    for (int64_t i = 0; i < r->batch; i++)
        r->slot[i].number = -1;
    ST_TRY(st_arena_open_counting(&nowhere, e));
    many_take(r, &nowhere);
    st_status s = many_plan(r, 1, r->longest, &r->one, &scratch, e);
    r->kv.each = r->each;
    r->kv.used = r->capacity - 1;
    if (!s) s = many_plan(r, r->batch, 1, &r->kv, &scratch, e);
    size_t bytes = nowhere.peak + scratch + (size_t)8 * ST_ALIGN;
    st_arena_close(&nowhere);
    if (!s) s = st_device_arena(r->q, bytes, &r->arena, e);
    if (s) return s;
    many_take(r, &r->arena);
    r->kv.each = r->each;
    return ST_OK;
}

static void many_close(many *r)
{
    for (int64_t i = 0; r->slot && i < r->batch; i++) {
        json_decref(r->slot[i].ids);
        free(r->slot[i].text.text);
    }
    for (int64_t i = 0; r->result && i < r->prompts; i++)
        json_decref(r->result[i]);
    st_device_arena_close(r->q, &r->arena);
    free(r->each);
    free(r->next);
    free(r->slot);
    free(r->result);
    free(r->host);
    free(r->sampler.choice);
}

/* ---- one prompt ------------------------------------------------------------------------------ */

/* Puts the result of slot i down and empties it. */
static st_status many_finish(many *r, int64_t i, const char *finish, st_err *e)
{
    many_slot *s = &r->slot[i];
    if (!generate_text_end(&s->text)) return ST_NOMEM(e, "generate");
    json_t *row = json_pack("{s:O, s:o, s:s, s:I}", "ids", s->ids, "text",
                            json_stringn(s->text.text ? s->text.text : "", s->text.n), "finish",
                            finish, "prompt_tokens", (json_int_t)r->prompt[s->number].n);
    if (!row) return ST_NOMEM(e, "generate");
    r->result[s->number] = row;
    r->done++;
    json_decref(s->ids);
    free(s->text.text);
    *s = (many_slot){.number = -1};
    r->each[i] = 0;
    r->next[i] = 0;
    return ST_OK;
}

/* Takes the token that row `logits` makes of slot i; it may be the last. */
static st_status many_pick(many *r, int64_t i, const float *logits, st_err *e)
{
    many_slot *s = &r->slot[i];
    int32_t id = generate_pick(&r->sampler, logits, r->legal, &s->rng);
    if (id < 0) {
        ST_FAIL(e, ST_EFORMAT,
                "prompt %lld: the model's logits are not numbers: its weights are broken, or too "
                "large for %s",
                (long long)s->number + 1, st_dtype_name(r->o->dtype));
    }
    if (id == r->lm.eos && !r->o->ignore_eos) return many_finish(r, i, "eos", e);
    size_t n = 0;
    const char *bytes = r->tokenizer ? st_bpe_bytes(r->tokenizer, id, &n) : NULL;
    if (bytes && !generate_text_push(&s->text, bytes, n)) return ST_NOMEM(e, "generate");
    if (json_array_append_new(s->ids, json_integer(id))) return ST_NOMEM(e, "generate");
    r->next[i] = id;
    if (++s->made == r->o->tokens) return many_finish(r, i, "length", e);
    if (r->each[i] == r->capacity) return many_finish(r, i, "context", e);
    return ST_OK;
}

/* Reads the next prompt into slot i. */
static st_status many_begin(many *r, int64_t i, st_err *e)
{
    const st_ids *prompt = &r->prompt[r->begun];
    double start = st_now();
    r->slot[i] = (many_slot){.number = r->begun, .ids = json_array()};
    r->slot[i].rng = (st_rng){.seed = r->o->seed, .stream = GENERATE_STREAM + (uint64_t)r->begun};
    if (!r->slot[i].ids) return ST_NOMEM(e, "generate");
    r->begun++;
    r->one.used = 0;
    st_lm_args a = many_args(r, 1, prompt->n);
    st_upload(r->q, st_slice(r->ids, 0, prompt->n), prompt->id);
    st_model_forward(r->m, r->q, &a, &r->arena);
    st_kv_move(r->q, &r->one, &r->kv, i, prompt->n);
    ST_TRY(st_stream_sync(r->q, e));
    st_download(r->q, r->host, a.logits);
    r->each[i] = prompt->n;
    r->prefill += st_now() - start;
    r->prefilled += prompt->n;
    if (r->o->tokens == 0) return many_finish(r, i, "length", e);
    return many_pick(r, i, r->host, e);
}

/* One token more of all that are at work. */
static st_status many_step(many *r, st_err *e)
{
    double start = st_now();
    int64_t live = 0;
    r->kv.used = 0;
    for (int64_t i = 0; i < r->batch; i++) {
        live += r->slot[i].number >= 0;
        if (r->each[i] > r->kv.used) r->kv.used = r->each[i];
    }
    st_lm_args a = many_args(r, r->batch, 1);
    a.kv = &r->kv;
    st_upload(r->q, st_slice(r->ids, 0, r->batch), r->next);
    st_model_forward(r->m, r->q, &a, &r->arena);
    ST_TRY(st_stream_sync(r->q, e));
    st_download(r->q, r->host, a.logits);
    r->decode += st_now() - start;
    r->decoded += live;
    for (int64_t i = 0; i < r->batch; i++) {
        if (r->slot[i].number < 0) continue;
        r->each[i]++;
        ST_TRY(many_pick(r, i, r->host + i * r->lm.vocab, e));
    }
    return ST_OK;
}

static st_status many_run(many *r, st_err *e)
{
    while (r->done < r->prompts) {
        if (st_interrupted()) ST_FAIL(e, ST_EINTR, "interrupted");
        bool live = false;
        for (int64_t i = 0; i < r->batch; i++) {
            /* a prompt may be done with its first token */
            while (r->slot[i].number < 0 && r->begun < r->prompts)
                ST_TRY(many_begin(r, i, e));
            live |= r->slot[i].number >= 0;
        }
        if (live) ST_TRY(many_step(r, e));
        st_report(&(st_progress){
            .what = "generate", .done = r->done, .total = r->prompts, .unit = "prompts"});
    }
    return ST_OK;
}

static st_status many_check(const many *r, st_err *e)
{
    for (int64_t i = 0; i < r->prompts; i++) {
        const st_ids *p = &r->prompt[i];
        if (p->n < 1 || p->n > r->lm.context) {
            ST_FAIL(e, ST_EARG, "prompt %lld has %lld tokens; expected 1 to %lld, the context",
                    (long long)i + 1, (long long)p->n, (long long)r->lm.context);
        }
        for (int64_t j = 0; j < p->n; j++) {
            if (p->id[j] >= 0 && p->id[j] < r->lm.vocab) continue;
            ST_FAIL(e, ST_EARG,
                    "prompt %lld: token %lld is id %ld, the model's vocabulary has %lld",
                    (long long)i + 1, (long long)j, (long)p->id[j], (long long)r->lm.vocab);
        }
    }
    return ST_OK;
}

st_status st_generate_many(st_model *m, st_stream *q, const st_bpe *tokenizer,
                           const st_generate_opts *o, const st_ids *prompts, int64_t n,
                           json_t **result, st_err *e)
{
    many r = {.m = m, .q = q, .tokenizer = tokenizer, .o = o, .prompt = prompts, .prompts = n};
    r.lm = st_model_lm(m);
    r.legal = r.lm.vocab;
    if (tokenizer && st_bpe_size(tokenizer) < r.legal) r.legal = st_bpe_size(tokenizer);
    ST_TRY(generate_check_choice(o, e));
    ST_TRY(many_check(&r, e));
    int64_t most = o->batch < 1 ? 8 : o->batch > ST_DECODE_BATCH ? ST_DECODE_BATCH : o->batch;
    r.batch = n < most ? n : most;
    for (int64_t i = 0; i < n; i++)
        r.longest = prompts[i].n > r.longest ? prompts[i].n : r.longest;
    int64_t end = r.longest + o->tokens;
    r.capacity = end < r.lm.context ? end : r.lm.context;
    r.sampler =
        (generate_sampler){.temperature = o->temperature, .top_k = o->top_k, .top_p = o->top_p};
    st_status s = n ? many_open(&r, e) : ST_OK;
    if (!s) s = many_run(&r, e);
    json_t *list = s ? NULL : json_array();
    for (int64_t i = 0; !s && i < n; i++)
        json_array_append(list, r.result[i]);
    if (!s) {
        *result = json_pack("{s:o, s:I, s:o, s:o}", "results", list, "batch", (json_int_t)r.batch,
                            "prefill", generate_speed(r.prefilled, r.prefill), "decode",
                            generate_speed(r.decoded, r.decode));
        if (!*result) s = ST_NOMEM(e, "generate");
    }
    many_close(&r);
    return s;
}
