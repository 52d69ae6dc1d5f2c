/* The protocols: each a row of what is scored, with how much context, and how it is averaged; and
 * the ids that a text becomes under each. doc/COMMANDS tells them apart for people. */
/* SPDX-License-Identifier: MIT */
#include "eval/perplexity.h"
#include <stdlib.h>
#include <string.h>

const st_protocol st_protocols[] = {
    {.name = "hf",
     .definition =
         "exp of the mean NLL of all scored tokens; rows of a set joined by blank lines; a window "
         "starts every `stride` tokens and scores what no window before it scored, its "
         "first token is context only (Hugging Face's guide)",
     .flavour = "raw",
     .join = ST_JOIN_BLANK},
    {.name = "krony",
     .definition =
         "exp of the unweighted mean of the windows' mean NLLs, the short last window "
         "counting as much as any other; rows of a set joined by blank lines; the first token of "
         "a window is context only (Krony-PT)",
     .flavour = "v1",
     .join = ST_JOIN_BLANK,
     .window_mean = true},
    {.name = "openai",
     .definition = "exp of the mean NLL by token, scaled by tokens per original token; text "
                   "detokenised (Megatron-LM's substitutions, as OpenAI's are not published); "
                   "overlapping windows score their last `stride` targets (GPT-2's paper)",
     .flavour = "v1",
     .join = ST_JOIN_WHOLE,
     .detokenize = true,
     .outside = true,
     .per = ST_PER_ORIGINAL,
     .context = 1024,
     .stride = 32},
    {.name = "lm-eval",
     .definition = "exp of the summed NLL of all pages by their words before detokenising; each "
                   "page after an end-of-text token, in windows of which the last reaches back; "
                   "every token scored (lm-eval, task wikitext 2.0)",
     .flavour = "raw",
     .join = ST_JOIN_PAGES,
     .detokenize = true,
     .prefix = true,
     .outside = true,
     .tail = ST_TAIL_FILL,
     .per = ST_PER_WORD},
    {.name = "fly",
     .definition = "exp of the mean NLL of all targets of whole windows; rows encoded one by one; "
                   "every input of a window predicts the next token, what fills no window is left "
                   "out (fly's language-modelling data)",
     .flavour = "raw",
     .join = ST_JOIN_APART,
     .outside = true,
     .tail = ST_TAIL_DROP,
     .context = 1024},
    {0},
};

st_status st_protocol_find(const char *name, const st_protocol **out, st_err *e)
{
    const char *names[16] = {NULL};
    *out = NULL;
    for (int i = 0; st_protocols[i].name; i++) {
        names[i] = st_protocols[i].name;
        if (!name || strcmp(name, names[i]) == 0) {
            *out = &st_protocols[i];
            return ST_OK;
        }
    }
    const char *near = st_nearest(name, names);
    ST_FAIL(e, ST_EARG,
            "protocol \"%s\" is unknown%s%s%s; legal: hf, krony, openai, lm-eval, "
            "fly",
            name, near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

/* One of two words, or nothing: *out stays. */
static st_status protocol_choice(const char *what, const char *text, const char *no,
                                 const char *yes, bool *out, st_err *e)
{
    if (!text) return ST_OK;
    if (strcmp(text, no) && strcmp(text, yes)) {
        ST_FAIL(e, ST_EARG, "%s: \"%s\" is neither %s nor %s", what, text, no, yes);
    }
    *out = strcmp(text, yes) == 0;
    return ST_OK;
}

st_status st_protocol_with(const st_protocol *p, const st_perplexity_opts *o, st_protocol *out,
                           st_err *e)
{
    *out = *p;
    ST_TRY(protocol_choice("agg", o->agg, "token", "window", &out->window_mean, e));
    ST_TRY(protocol_choice("boundary", o->boundary, "inside", "outside", &out->outside, e));
    ST_TRY(protocol_choice("detokenize", o->detokenize, "none", "wikitext", &out->detokenize, e));
    if (o->agg && p->per != ST_PER_TOKEN) {
        ST_FAIL(e, ST_EARG, "agg: protocol %s averages by %s; choose it or another protocol",
                p->name, p->per == ST_PER_WORD ? "words" : "original tokens");
    }
    if (!out->outside && p->prefix) {
        ST_FAIL(e, ST_EARG, "boundary: protocol %s scores every token", p->name);
    }
    if (o->eos && p->join != ST_JOIN_APART) {
        ST_FAIL(e, ST_EARG, "eos: protocol %s puts no end-of-text token after rows; fly does",
                p->name);
    }
    return ST_OK;
}

/* ---- ids ------------------------------------------------------------------------------------- */

void st_eval_ids_free(st_eval_ids *t)
{
    st_ids_free(&t->ids);
    free(t->end);
    *t = (st_eval_ids){0};
}

st_status st_eval_ids_end(st_eval_ids *t, st_err *e)
{
    if (t->sequences == t->cap) {
        int64_t cap = t->cap ? t->cap * 2 : 64;
        int64_t *more = realloc(t->end, (size_t)cap * sizeof *more);
        if (!more) return ST_NOMEM(e, NULL);
        t->end = more;
        t->cap = cap;
    }
    t->end[t->sequences++] = t->ids.n;
    return ST_OK;
}

typedef struct {
    const st_protocol *p;
    const st_bpe *bpe;
    bool plain; /* special tokens in the text are ordinary text */
    st_eval_ids *out;
} protocol_job;

/* Appends the ids of a text, detokenised where the protocol says so. */
static st_status protocol_encode(protocol_job *j, const char *text, size_t n, st_err *e)
{
    if (!j->p->detokenize) return st_bpe_encode_with(j->bpe, text, n, !j->plain, &j->out->ids, e);
    char *prose = NULL;
    size_t size = 0;
    ST_TRY(st_detokenize(text, n, &prose, &size, e));
    st_status s = st_bpe_encode_with(j->bpe, prose, size, !j->plain, &j->out->ids, e);
    free(prose);
    return s;
}

/* What the tokenizer's template puts round a text. */
static st_status protocol_round(protocol_job *j, const st_ids *ids, st_err *e)
{
    for (int64_t i = 0; i < ids->n; i++)
        ST_TRY(st_ids_push(&j->out->ids, ids->id[i], e));
    return ST_OK;
}

static st_status protocol_joined(protocol_job *j, const st_eval_rows *r, st_err *e)
{
    st_buffer all = {0};
    bool ok = true;
    for (int64_t i = 0; ok && i < r->rows; i++) {
        ok = (i == 0 || st_buffer_put(&all, "\n\n", 2)) &&
             st_buffer_put(&all, r->text + r->row[i].begin, r->row[i].end - r->row[i].begin);
    }
    st_status s = ok ? protocol_round(j, st_bpe_before(j->bpe), e) : ST_NOMEM(e, NULL);
    if (!s) s = protocol_encode(j, all.s, all.n, e);
    if (!s) s = protocol_round(j, st_bpe_after(j->bpe), e);
    free(all.s);
    if (!s) s = st_eval_ids_end(j->out, e);
    return s;
}

static st_status protocol_apart(protocol_job *j, const st_eval_rows *r, bool eos, st_err *e)
{
    for (int64_t i = 0; i < r->rows; i++) {
        size_t n = r->row[i].end - r->row[i].begin;
        if (!n) continue;
        ST_TRY(protocol_encode(j, r->text + r->row[i].begin, n, e));
        if (eos) ST_TRY(st_ids_push(&j->out->ids, st_bpe_eos(j->bpe), e));
    }
    return st_eval_ids_end(j->out, e);
}

/* Is this line of WikiText the title of a page (" = Title = ", but not " = = Section = = ")? As
 * lm-eval's data set finds them: "= = =" and "= =" are glued together first. */
static bool protocol_is_title(const char *s, const char *end)
{
    st_space_trim(&s, &end);
    if (end - s < 3 || s[0] != '=' || s[1] != ' ' || end[-1] != '=' || end[-2] != ' ') return false;
    return s[2] != '=' && end[-3] != '=';
}

static st_status protocol_page(protocol_job *j, const char *s, const char *end, st_err *e)
{
    const char *a = s, *b = end;
    st_space_trim(&a, &b);
    if (a == b) return ST_OK;
    st_eval_ids *out = j->out;
    out->words += st_space_words(s, (size_t)(end - s));
    out->bytes += end - s;
    if (j->p->prefix) ST_TRY(st_ids_push(&j->out->ids, st_bpe_bos(j->bpe), e));
    ST_TRY(protocol_encode(j, s, (size_t)(end - s), e));
    return st_eval_ids_end(out, e);
}

/* Pages begin with their title's line and end before the newline in front of the next one. `limit`
 * pages at most. */
static st_status protocol_pages(protocol_job *j, const st_eval_rows *r, int64_t limit, st_err *e)
{
    const char *s = r->text, *end = s + r->bytes, *page = s;
    if (r->form != ST_FORM_WIKITEXT) { /* then a row is a page */
        for (int64_t i = 0; i < r->rows && (!limit || j->out->sequences < limit); i++)
            ST_TRY(protocol_page(j, s + r->row[i].begin, s + r->row[i].end, e));
        return ST_OK;
    }
    while (s < end && (!limit || j->out->sequences < limit)) {
        const char *nl = memchr(s, '\n', (size_t)(end - s)), *stop = nl ? nl : end;
        if (s > page && protocol_is_title(s, stop)) {
            ST_TRY(protocol_page(j, page, s - 1, e));
            page = s;
        }
        s = nl ? nl + 1 : end;
    }
    if (limit && j->out->sequences >= limit) return ST_OK;
    return protocol_page(j, page, end, e);
}

st_status st_protocol_ids(const st_protocol *p, const st_eval_rows *rows, const st_bpe *bpe,
                          const st_perplexity_opts *o, st_eval_ids *out, st_err *e)
{
    protocol_job j = {.p = p, .bpe = bpe, .plain = o->plain, .out = out};
    *out = (st_eval_ids){0};
    if ((p->prefix || o->eos) && st_bpe_eos(bpe) < 0) {
        ST_FAIL(e, ST_EARG, "the tokenizer has no <|endoftext|>, which protocol %s needs", p->name);
    }
    if (p->join != ST_JOIN_PAGES) {
        out->words = st_space_words(rows->text, rows->bytes);
        out->bytes = (int64_t)rows->bytes;
        out->original = st_space_tokens(rows->text, rows->bytes);
    }
    switch (p->join) {
    case ST_JOIN_BLANK: return protocol_joined(&j, rows, e);
    case ST_JOIN_APART: return protocol_apart(&j, rows, o->eos, e);
    case ST_JOIN_PAGES: return protocol_pages(&j, rows, o->limit, e);
    case ST_JOIN_WHOLE: break;
    }
    ST_TRY(protocol_encode(&j, rows->text, rows->bytes, e));
    return st_eval_ids_end(out, e);
}
