/* strut tokenizer: learns a byte-level BPE from text and writes it in Hugging Face's files. */
/* SPDX-License-Identifier: MIT */
#include "data/data.h"
#include "files/files.h"
#include <string.h>

enum { TOKENIZER_PIECE = 1 << 20 };

/* Feeds all documents. */
static st_status tokenizer_feed(st_bpe_trainer *t, st_docs *d, int64_t *documents, int64_t *bytes,
                                st_err *e)
{
    st_progress p = {.what = "read", .total = st_docs_total(d), .unit = "bytes"};
    const char *text;
    size_t n;
    for (;;) {
        ST_TRY(st_docs_next(d, &text, &n, e));
        p.done = st_docs_done(d);
        p.last = !text;
        st_report(&p);
        if (!text) return ST_OK;
        if (st_interrupted()) ST_FAIL(e, ST_EINTR, "interrupted; nothing was written");
        ST_TRY(st_bpe_trainer_feed(t, text, n, e));
        *bytes += (int64_t)n;
        *documents += !st_docs_more(d);
    }
}

static st_status tokenizer_write(const st_bpe *b, st_outdir *dir, st_err *e)
{
    ST_TRY(st_bpe_save(b, dir->temp, e));
    return st_outdir_commit(dir, e);
}

st_status st_tokenizer(const char *const *inputs, int n, const char *out,
                       const st_tokenizer_opts *o, json_t **result, st_err *e)
{
    st_docs_opts docs = {.field = o->field, .piece_bytes = TOKENIZER_PIECE, .strict = o->strict};
    static const char *const over[] = {ST_BPE_FILES, NULL};
    st_outdir dir = {0};
    st_docs *d = NULL;
    st_bpe_trainer *t = NULL;
    st_bpe *b = NULL;
    int64_t documents = 0, bytes = 0;
    double start = st_now();
    *result = NULL;
    st_status s = st_output_apart(out, inputs, n, e);
    if (!s) s = st_outdir_open(&dir, out, o->replace ? over : NULL, e);
    if (!s) s = st_docs_open(&d, inputs, n, &docs, e);
    if (!s) s = st_bpe_trainer_open(&t, e);
    if (!s) s = tokenizer_feed(t, d, &documents, &bytes, e);
    if (!s && !bytes) s = ST_ERR(e, ST_EARG, "%s: no text in it", inputs[0]);
    if (!s) s = st_bpe_trainer_finish(t, o->vocab, o->min_count ? o->min_count : 2, &b, e);
    if (!s) s = tokenizer_write(b, &dir, e);
    if (!s) {
        *result =
            json_pack("{s:o, s:I, s:I, s:I, s:I, s:o, s:f}", "out", st_json_text(out), "vocab_size",
                      (json_int_t)st_bpe_size(b), "merges", (json_int_t)st_bpe_merges(b),
                      "documents", (json_int_t)documents, "bytes", (json_int_t)bytes,
                      "tokenizer_hash", json_sprintf("%016llx", (unsigned long long)st_bpe_hash(b)),
                      "seconds", st_now() - start);
    }
    st_bpe_close(b);
    st_bpe_trainer_close(t);
    st_docs_close(d);
    st_outdir_discard(&dir);
    return s;
}
