/* strut prepare: text -> token shards that nanoGPT reads, split into training and validation. */
/* SPDX-License-Identifier: MIT */
#include "data/encode.h"
#include "data/split.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PREPARE_PIECE = 1 << 20 };

/* ---- where ids go ---------------------------------------------------------------------------- */

/* Where document number `doc` goes: a number in [0, 1) of its own, whatever the others are. */
static int prepare_side(const prepare_state *p, int64_t doc)
{
    st_rng r = {.seed = p->o->seed, .stream = st_hash_name("prepare"), .pos = 4 * (uint64_t)doc};
    return p->split == ST_SPLIT_DOCUMENTS && doc > 0 && st_rng_uniform(&r) < p->fraction ? VAL
                                                                                         : TRAIN;
}

static st_status prepare_put(prepare_state *p, const int32_t *id, int64_t n, bool more, st_err *e)
{
    if (p->split == ST_SPLIT_NANOGPT) return st_shuffle_put(&p->shuffle, id, n, more, e);
    return st_bin_put(&p->file[p->side], id, n, e);
}

/* Ids of one document, or of a part of it. */
static st_status prepare_document(prepare_state *p, const int32_t *id, int64_t n, bool more,
                                  st_err *e)
{
    if (!p->within) {
        p->side = prepare_side(p, p->documents++);
        p->file[p->side].documents++;
    }
    p->within = more;
    p->tokens += n + !more;
    ST_TRY(prepare_put(p, id, n, true, e));
    return more ? ST_OK : prepare_put(p, &p->eos, 1, false, e);
}

/* With special tokens that split, separators in the text end documents; what is empty is none. */
static st_status prepare_ids(void *ctx, const int32_t *id, int64_t n, bool more, st_err *e)
{
    prepare_state *p = ctx;
    bool split = p->o->special == ST_SPECIAL_SPLIT;
    for (int64_t k = 0; split && k < n;) {
        if (id[k] != p->eos) {
            k++;
            continue;
        }
        if (k || p->within) ST_TRY(prepare_document(p, id, k, false, e));
        id += k + 1;
        n -= k + 1;
        k = 0;
    }
    if (split && !n && (more || !p->within)) return ST_OK;
    return prepare_document(p, id, n, more, e);
}

/* The token that ends documents. */
static st_status prepare_separator(const st_bpe *b, const st_prepare_opts *o, int32_t *eos,
                                   st_err *e)
{
    *eos = o->separator ? st_bpe_find(b, o->separator, strlen(o->separator)) : st_bpe_eos(b);
    if (*eos >= 0) return ST_OK;
    ST_FAIL(e, ST_EARG, "%s: has no %s, which ends documents%s", o->tokenizer,
            o->separator ? o->separator : "<|endoftext|>",
            o->separator ? "" : "; --separator says another token");
}

/* ---- the job --------------------------------------------------------------------------------- */

/* A document of OpenWebText as Hugging Face's loader gives it: no more than one empty line in a
 * row, stripped as Python does. Into p->text. */
static st_status prepare_clean(prepare_state *p, const char **text, size_t *n, st_err *e)
{
    if (*n > p->text_cap) {
        free(p->text);
        p->text_cap = 2 * *n;
        p->text = malloc(p->text_cap);
        if (!p->text) p->text_cap = 0;
        if (!p->text) ST_FAIL(e, ST_ENOMEM, "out of memory for a document of %zu bytes", *n);
    }
    size_t used = 0, newlines = 0;
    for (size_t i = 0; i < *n; i++) {
        newlines = (*text)[i] == '\n' ? newlines + 1 : 0;
        if (newlines < 3) p->text[used++] = (*text)[i];
    }
    const char *begin = p->text ? p->text : "", *end = begin + used;
    st_space_trim(&begin, &end);
    *text = begin;
    *n = (size_t)(end - begin);
    return ST_OK;
}

/* Documents -> ids -> files. */
static st_status prepare_stream(prepare_state *p, st_docs *d, st_encoder *c, st_err *e)
{
    char detail[96];
    st_progress report = {
        .what = "prepare", .total = st_docs_total(d), .unit = "bytes", .detail = detail};
    const char *text;
    size_t n;
    do {
        ST_TRY(st_docs_next(d, &text, &n, e));
        if (text && p->o->openwebtext) ST_TRY(prepare_clean(p, &text, &n, e));
        if (text)
            ST_TRY(st_encoder_add(c, text, n, st_docs_more(d), e));
        else
            ST_TRY(st_encoder_finish(c, e));
        p->bytes += (int64_t)n;
        report.done = st_docs_done(d);
        report.last = !text;
        snprintf(detail, sizeof detail, "%.1f M tokens, %s", 1e-6 * (double)p->tokens,
                 st_counted(p->documents, "documents").s);
        st_report(&report);
        if (st_interrupted()) ST_FAIL(e, ST_EINTR, "interrupted; nothing was written");
    } while (text);
    return ST_OK;
}

/* What meta.json says, which is what was asked and what came out, and nothing of when and where. */
static json_t *prepare_meta(const prepare_state *p, const st_bpe *b, const char *const *inputs,
                            int n)
{
    static const char *const split[] = {"documents", "tokens", "nanogpt"};
    const st_bin *t = &p->file[TRAIN], *v = &p->file[VAL];
    json_t *meta = st_prepare_meta(b, inputs, n);
    json_t *counts = json_pack(
        "{s:s, s:f, s:I, s:s*, s:s*, s:I, s:I, s:I, s:I, s:I}", "split", split[p->split],
        "val_fraction", p->fraction, "seed", (json_int_t)p->o->seed, "field", p->o->field, "recipe",
        p->o->openwebtext ? "owt" : NULL, "documents", (json_int_t)p->documents, "tokens",
        (json_int_t)(t->tokens + v->tokens), "train_tokens", (json_int_t)t->tokens, "val_tokens",
        (json_int_t)v->tokens, "bytes", (json_int_t)p->bytes);
    if (p->split != ST_SPLIT_TOKENS) {
        json_object_set_new(counts, "train_documents", json_integer(t->documents));
        json_object_set_new(counts, "val_documents", json_integer(v->documents));
    }
    json_object_update(meta, counts);
    json_object_set_new(meta, "eos_token_id", json_integer(p->eos));
    json_decref(counts);
    return meta;
}

/* Splits what was read, closes the files and puts the folder in place. */
static st_status prepare_end(prepare_state *p, const st_bpe *b, const char *const *inputs, int n,
                             st_outdir *dir, json_t **meta, st_err *e)
{
    if (p->documents == 0) ST_FAIL(e, ST_EARG, "%s: no text in it", inputs[0]);
    if (p->split == ST_SPLIT_NANOGPT) {
        p->file[TRAIN].documents = 0; /* where they were before the shuffle */
        ST_TRY(st_shuffle_write(&p->shuffle, p->fraction, p->o->seed, &p->file[TRAIN],
                                &p->file[VAL], e));
    } else {
        ST_TRY(prepare_split(p, e));
    }
    ST_TRY(st_bin_close(&p->file[TRAIN], e));
    ST_TRY(st_bin_close(&p->file[VAL], e));
    *meta = prepare_meta(p, b, inputs, n);
    return st_prepare_finish(dir, b, *meta, e);
}

st_status st_prepare(const char *const *inputs, int n, const char *out, const st_prepare_opts *o,
                     json_t **result, st_err *e)
{
    static const char *const all[][4] = {{"train.bin", "val.bin", "meta.json"},
                                         {"train.npy", "val.npy", "meta.json"}};
    bool nanogpt = o->split == ST_SPLIT_NANOGPT; /* whose empty documents count */
    st_docs_opts docs = {.field = o->field,
                         .piece_bytes = o->openwebtext ? 0 : PREPARE_PIECE,
                         .strict = o->strict,
                         .empty = nanogpt};
    prepare_state p = {
        .o = o, .fraction = o->val_fraction == 0 ? 0.0005 : o->val_fraction, .split = o->split};
    st_outdir dir = {0};
    st_docs *d = NULL;
    st_encoder *c = NULL;
    st_bpe *b = NULL;
    json_t *meta = NULL;
    double start = st_now();
    *result = NULL;
    if (!o->tokenizer) ST_FAIL(e, ST_EARG, "no tokenizer was given");
    if (!(p.fraction > 0 && p.fraction < 1)) {
        ST_FAIL(e, ST_EARG, "val_fraction is %g, expected more than 0 and less than 1", p.fraction);
    }
    st_status s = st_bpe_open(&b, o->tokenizer, e);
    if (!s) s = prepare_separator(b, o, &p.eos, e);
    const int width = s ? 2 : st_bin_width(b);
    const char *const *names = all[width == 4];
    if (!s) docs.letters = !st_bpe_words(b);
    if (!s && !st_bpe_pieces(b)) docs.piece_bytes = 0; /* added tokens reach over their ends */
    if (!s) s = st_docs_open(&d, inputs, n, &docs, e);
    if (!s) s = st_prepare_open(&dir, out, o, inputs, n, e);
    if (!s) s = st_bin_open(&p.file[TRAIN], dir.temp, names[TRAIN], width, e);
    if (!s) s = st_bin_open(&p.file[VAL], dir.temp, names[VAL], width, e);
    if (!s && nanogpt) s = st_shuffle_open(&p.shuffle, dir.temp, width, e);
    bool special = o->special != ST_SPECIAL_TEXT;
    if (!s) s = st_encoder_open(&c, b, special, st_threads(o->threads), prepare_ids, &p, e);
    if (!s) s = prepare_stream(&p, d, c, e);
    if (!s) s = prepare_end(&p, b, inputs, n, &dir, &meta, e);
    if (!s) *result = st_prepare_result(meta, out, names, st_now() - start);
    st_encoder_close(c);
    st_shuffle_drop(&p.shuffle);
    st_bin_drop(&p.file[TRAIN]);
    st_bin_drop(&p.file[VAL]);
    free(p.text);
    json_decref(meta);
    st_docs_close(d);
    st_bpe_close(b);
    st_outdir_discard(&dir);
    return s;
}
