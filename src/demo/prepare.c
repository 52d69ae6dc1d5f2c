/* The demo's text, tokenizer and shards, and the beginning that every model continues. */
/* SPDX-License-Identifier: MIT */
#include "data/data.h"
#include "demo/inner.h"
#include "files/files.h"
#include "report/report.h"
#include <stdlib.h>
#include <string.h>

/* The King James Bible as OUT/text/kjv.jsonl, kept from an earlier run; *path is new memory. */
static st_status prepare_bible(const demo_run *r, char **path, st_err *e)
{
    char *dir = st_path_join(r->out, "text");
    *path = dir ? st_path_join(dir, "kjv.jsonl") : NULL;
    st_status s = ST_OK;
    if (!*path) s = ST_ERR(e, ST_ENOMEM, "demo: no memory for a path");
    if (!s && !st_path_exists(*path)) {
        s = st_make_dirs(dir, e);
        if (!s) s = st_demo_text(*path, e);
    }
    if (s) free(*path), *path = NULL;
    free(dir);
    return s;
}

/* The first words of the first validation document: text that no model has seen. */
static st_status prepare_prompt(demo_run *r, const st_bpe *b, st_err *e)
{
    enum { PROMPT_IDS = 16, PROMPT_BYTES = 160 };
    char text[PROMPT_BYTES + 1], *val = st_path_join(r->data, "val.bin");
    size_t used = 0, n;
    st_shard s = {0};
    if (!val) ST_FAIL(e, ST_ENOMEM, "demo: no memory for a path");
    st_status status = st_shard_open(&s, val, e);
    free(val);
    if (status) return status;
    int32_t id[PROMPT_IDS];
    int64_t ids = s.n < PROMPT_IDS ? s.n : PROMPT_IDS;
    st_shard_read(&s, 0, ids, id);
    for (int64_t i = 0; i < ids && id[i] != r->eos; i++) {
        const char *bytes = st_bpe_bytes(b, id[i], &n);
        if (!bytes || used + n > PROMPT_BYTES) break;
        memcpy(text + used, bytes, n);
        used += n;
    }
    st_shard_close(&s);
    text[used] = 0;
    char *last = strrchr(text, ' '); /* no half word, hence no half character, at the end */
    if (last && last != text) *last = 0;
    json_t *prompt = json_string(text);
    if (!prompt) prompt = json_string("The");
    json_object_set_new(r->results, "prompt", prompt);
    return ST_OK;
}

static st_status prepare_shards(demo_run *r, const char *const *inputs, int n, const char *source,
                                st_err *e)
{
    json_t *learned = NULL, *result = NULL;
    st_tokenizer_opts t = {.vocab = r->o.size.vocab, .replace = true};
    st_prepare_opts p = {
        .tokenizer = r->tokenizer, .val_fraction = 0.01, .seed = r->o.seed, .replace = true};
    st_status s = st_tokenizer(inputs, n, r->tokenizer, &t, &learned, e);
    if (!s) s = st_prepare(inputs, n, r->data, &p, &result, e);
    if (!s) {
        r->val_tokens = (int64_t)st_row_num(result, "val_tokens");
        double tokens = st_row_num(result, "tokens"), bytes = st_row_num(result, "bytes");
        json_object_set_new(r->results, "text",
                            json_pack("{s:s, s:O, s:O, s:O, s:O, s:O, s:f}", "source", source,
                                      "documents", json_object_get(result, "documents"), "bytes",
                                      json_object_get(result, "bytes"), "train_tokens",
                                      json_object_get(result, "train_tokens"), "val_tokens",
                                      json_object_get(result, "val_tokens"), "vocabulary",
                                      json_object_get(result, "vocab_size"), "bytes_per_token",
                                      bytes / tokens));
    }
    json_decref(learned);
    json_decref(result);
    return s;
}

st_status st_demo_prepare(demo_run *r, st_err *e)
{
    char *bible = NULL, source[256] = "the King James Bible (Debian package bible-kjv)";
    const char *const *inputs = r->o.text;
    const char *one[1];
    int n = r->o.ntext;
    st_bpe *b = NULL;
    st_status s = ST_OK;
    r->tokenizer = st_path_join(r->out, "tokenizer");
    if (!r->tokenizer) ST_FAIL(e, ST_ENOMEM, "demo: no memory for a path");
    if (n) {
        snprintf(source, sizeof source, "%.200s%s", inputs[0], n > 1 ? " and others" : "");
    } else {
        ST_TRY(prepare_bible(r, &bible, e));
        one[0] = bible;
        inputs = one;
        n = 1;
    }
    s = prepare_shards(r, inputs, n, source, e);
    if (!s) s = st_bpe_open(&b, r->tokenizer, e);
    if (!s) {
        r->vocab = st_bpe_size(b);
        r->eos = st_bpe_eos(b);
        s = prepare_prompt(r, b, e);
    }
    st_bpe_close(b);
    free(bible);
    return s;
}
