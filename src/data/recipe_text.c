/* One text, the first int(0.9 n) of its n characters for training: nanoGPT's data/shakespeare
 * (GPT-2's tokens, no <|endoftext|>) and data/shakespeare_char (an id a character, sorted by code).
 */
/* SPDX-License-Identifier: MIT */
#include "data/encode.h"
#include "data/recipe.h"
#include <stdlib.h>
#include <string.h>

enum { TEXT_PIECE = 1 << 20, TEXT_MOST = 256 << 20 };
enum { TRAIN, VAL };

typedef struct {
    char *s;
    size_t n;
    int64_t chars;
    size_t cut; /* in bytes: where validation begins */
} text_whole;

/* The one document of the inputs, with newlines as Python reads them: \r\n and \r are \n. */
static st_status text_read(text_whole *w, const char *const *inputs, int n, st_err *e)
{
    st_docs *d;
    const char *text, *more = NULL;
    size_t len, ignored;
    ST_TRY(st_docs_open(&d, inputs, n, &(st_docs_opts){.max_doc_bytes = TEXT_MOST}, e));
    st_status s = st_docs_next(d, &text, &len, e);
    if (!s && !text) s = ST_ERR(e, ST_EARG, "%s: no text in it", inputs[0]);
    if (!s && !(w->s = malloc(len + 1))) s = ST_NOMEM(e, inputs[0]);
    for (size_t i = 0; !s && i < len; i++) {
        char c = text[i];
        if (c == '\n' && i && text[i - 1] == '\r') continue;
        w->s[w->n++] = c == '\r' ? '\n' : c;
    }
    if (!s) s = st_docs_next(d, &more, &ignored, e);
    if (!s && more) {
        s = ST_ERR(e, ST_EARG,
                   "%s: a second text, expected one that is split in two; for many texts leave the "
                   "recipe's name out",
                   st_docs_name(d));
    }
    st_docs_close(d);
    return s;
}

static void text_split(text_whole *w)
{
    for (size_t i = 0; i < w->n; i++)
        w->chars += ((uint8_t)w->s[i] & 0xC0) != 0x80;
    int64_t train = (int64_t)((double)w->chars * 0.9), seen = 0;
    for (; w->cut < w->n; w->cut++) {
        bool begins = ((uint8_t)w->s[w->cut] & 0xC0) != 0x80;
        if (begins && seen == train) break;
        seen += begins;
    }
}

static st_status text_ids(void *ctx, const int32_t *id, int64_t n, bool more, st_err *e)
{
    (void)more;
    return st_bin_put(ctx, id, n, e);
}

static st_status text_encode(const text_whole *w, int part, const st_bpe *b, int threads,
                             st_bin *file, st_err *e)
{
    st_encoder *c;
    size_t at = part == TRAIN ? 0 : w->cut, end = part == TRAIN ? w->cut : w->n;
    st_progress report = {.what = "prepare", .total = (int64_t)w->n, .unit = "bytes"};
    ST_TRY(st_encoder_open(&c, b, false, threads, text_ids, file, e));
    st_status s = ST_OK;
    for (size_t n; at < end && !s; at += n) {
        n = end - at;
        if (n > TEXT_PIECE) {
            size_t cut = 0;
            for (size_t try = TEXT_PIECE; !cut && try < n; try *= 2)
                cut = st_text_cut(w->s + at, try);
            if (cut) n = cut;
        }
        s = st_encoder_add(c, w->s + at, n, at + n < end, e);
        report.done = (int64_t)(at + n);
        report.last = at + n == w->n;
        st_report(&report);
        if (!s && st_interrupted()) s = ST_ERR(e, ST_EINTR, "interrupted; nothing was written");
    }
    if (!s) s = st_encoder_finish(c, e);
    st_encoder_close(c);
    return s;
}

static json_t *text_meta(const st_recipe *r, const text_whole *w, const st_bpe *b,
                         const st_bin file[2], const char *const *inputs, int n)
{
    json_t *meta = st_prepare_meta(b, inputs, n);
    json_t *counts = json_pack(
        "{s:s, s:s, s:i, s:I, s:I, s:I, s:I, s:I}", "recipe", r->name, "split", "characters",
        "documents", 1, "tokens", (json_int_t)(file[TRAIN].tokens + file[VAL].tokens),
        "train_tokens", (json_int_t)file[TRAIN].tokens, "val_tokens", (json_int_t)file[VAL].tokens,
        "bytes", (json_int_t)w->n, "characters", (json_int_t)w->chars);
    json_object_update(meta, counts);
    json_decref(counts);
    return meta;
}

/* Both files, the tokenizer, meta.json and, of characters, meta.pkl. */
static st_status text_write(const st_recipe *r, const text_whole *w, const st_bpe *b,
                            const char *const *inputs, int n, st_outdir *dir,
                            const st_recipe_opts *o, json_t **meta, st_err *e)
{
    static const char *const names[] = {"train.bin", "val.bin"};
    st_bin file[2] = {{0}};
    char *pickle = r->chars ? st_path_join(dir->temp, "meta.pkl") : NULL;
    st_status s = ST_OK;
    for (int i = 0; i < 2 && !s; i++) {
        s = st_bin_open(&file[i], dir->temp, names[i], 2, e);
        if (!s) s = text_encode(w, i, b, st_threads(o->prepare.threads), &file[i], e);
        if (!s) s = st_bin_close(&file[i], e);
    }
    if (!s && r->chars && !pickle) s = ST_NOMEM(e, "meta.pkl");
    if (!s && pickle) s = st_pickle_chars(b, pickle, e);
    if (!s) *meta = text_meta(r, w, b, file, inputs, n);
    if (!s) s = st_prepare_finish(dir, b, *meta, e);
    for (int i = 0; i < 2; i++)
        st_bin_drop(&file[i]);
    free(pickle);
    return s;
}

st_status st_recipe_shakespeare(const st_recipe *r, const char *const *inputs, int n,
                                const char *out, const st_recipe_opts *o, json_t **result,
                                st_err *e)
{
    static const char *const plain[] = {"train.bin", "val.bin", "meta.json", NULL},
                             *const chars[] = {"train.bin", "val.bin", "meta.json", "meta.pkl",
                                               NULL};
    double start = st_now();
    text_whole w = {0};
    st_outdir dir = {0};
    st_bpe *b = NULL;
    json_t *meta = NULL;
    st_status s = text_read(&w, inputs, n, e);
    if (!s)
        s = r->chars ? st_bpe_from_text(&b, w.s, w.n, e) : st_bpe_open(&b, o->prepare.tokenizer, e);
    if (s && r->chars && w.s) st_err_prefix(e, "%s", inputs[0]);
    if (!s) s = st_bin_vocab(b, r->chars ? inputs[0] : o->prepare.tokenizer, false, e);
    if (!s) text_split(&w);
    if (!s && (!w.cut || w.cut == w.n))
        s = ST_ERR(e, ST_EARG, "%s: too short to be split", inputs[0]);
    if (!s) s = st_prepare_open(&dir, out, &o->prepare, inputs, n, e);
    if (!s) s = text_write(r, &w, b, inputs, n, &dir, o, &meta, e);
    if (!s) *result = st_prepare_result(meta, out, r->chars ? chars : plain, st_now() - start);
    json_decref(meta);
    st_bpe_close(b);
    st_outdir_discard(&dir);
    free(w.s);
    return s;
}
