/* llm.c's model files (train_gpt2.py's write_model, train_gpt2.c): 256 int32 of header, then
 * GPT-2's tensors, each kind for all layers together, in nanoGPT's orientation (out, in), all of
 * one type. The head is the embedding; its vocabulary is padded to a multiple of 128 with zeros.
 *
 *   header: 20240326, 3 (F32) or 5 (BF16), context, vocabulary, layers, heads, width, padded
 * vocabulary
 */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "weights/container.h"
#include <stdlib.h>
#include <string.h>

enum {
    LLMC_MAGIC = 20240326,
    LLMC_HEADER = 1024, /* bytes */
    LLMC_PAD = 128,
    LLMC_NAME = 56,
    LLMC_LAYERED = 12 /* kinds that every layer has */
};

/* Dimensions: a multiple of the width, or one of these; 0: none. */
enum { VOCAB = -1, CONTEXT = -2 };

/* In the file's order. */
static const struct {
    const char *name;
    bool layered; /* under "h.N." */
    int rows, cols;
} llmc_kinds[] = {
    {"wte.weight", false, VOCAB, 1},    {"wpe.weight", false, CONTEXT, 1},
    {"ln_1.weight", true, 1, 0},        {"ln_1.bias", true, 1, 0},
    {"attn.c_attn.weight", true, 3, 1}, {"attn.c_attn.bias", true, 3, 0},
    {"attn.c_proj.weight", true, 1, 1}, {"attn.c_proj.bias", true, 1, 0},
    {"ln_2.weight", true, 1, 0},        {"ln_2.bias", true, 1, 0},
    {"mlp.c_fc.weight", true, 4, 1},    {"mlp.c_fc.bias", true, 4, 0},
    {"mlp.c_proj.weight", true, 1, 4},  {"mlp.c_proj.bias", true, 1, 0},
    {"ln_f.weight", false, 1, 0},       {"ln_f.bias", false, 1, 0},
};
enum { LLMC_KINDS = sizeof llmc_kinds / sizeof *llmc_kinds };

static int64_t llmc_dim(const st_llmc_shape *m, int code)
{
    return code == VOCAB ? m->vocab : code == CONTEXT ? m->context : code * m->width;
}

/* Elements of one tensor of a kind as it is in the file, padding included. */
static int64_t llmc_elements(const st_llmc_shape *m, int64_t padded, int kind)
{
    int64_t rows = llmc_kinds[kind].rows == VOCAB ? padded : llmc_dim(m, llmc_kinds[kind].rows);
    return rows * (llmc_kinds[kind].cols ? llmc_dim(m, llmc_kinds[kind].cols) : 1);
}

static void llmc_name(char out[LLMC_NAME], int kind, int64_t layer)
{
    if (llmc_kinds[kind].layered) {
        snprintf(out, LLMC_NAME, "transformer.h.%lld.%s", (long long)layer, llmc_kinds[kind].name);
    } else {
        snprintf(out, LLMC_NAME, "transformer.%s", llmc_kinds[kind].name);
    }
}

/* ---- reading --------------------------------------------------------------------------------- */

static bool llmc_probe(const st_weights_look *l)
{
    int32_t magic;
    memcpy(&magic, l->head, 4);
    return magic == LLMC_MAGIC;
}

/* Bytes that a file of this shape has; -1: more than any. Every factor is at most 2^31, and what
 * could overflow is bounded before it is multiplied. */
static int64_t llmc_bytes(const st_llmc_shape *m, int64_t padded, int64_t size)
{
    const int64_t most = INT64_C(1) << 48;
    int64_t all = 0;
    if (m->width > 1 << 20 || m->layers > 1 << 20) return -1;
    for (int k = 0; k < LLMC_KINDS; k++) {
        int64_t n = llmc_elements(m, padded, k);
        if (n > most) return -1;
        n *= llmc_kinds[k].layered ? m->layers : 1;
        all += n;
        if (n > most || all > most) return -1;
    }
    return LLMC_HEADER + all * size;
}

static st_status llmc_header(const st_weights *w, st_llmc_shape *m, int64_t *padded, bool *half,
                             st_err *e)
{
    static const char *const what[] = {"context",         "vocabulary", "number of layers",
                                       "number of heads", "width",      "padded vocabulary"};
    int32_t h[LLMC_HEADER / 4];
    if (w->size < LLMC_HEADER) {
        ST_FAIL(e, ST_EFORMAT, "%s: truncated: %lld bytes, an llm.c model has a header of 1024",
                w->path, (long long)w->size);
    }
    ST_TRY(st_weights_pread(w, h, sizeof h, 0, e));
    if (h[1] != 3 && h[1] != 5) {
        ST_FAIL(e, ST_EUNSUPPORTED,
                "%s: llm.c model of version %d, expected 3 (float32) or 5 (bfloat16); write it "
                "again with a newer train_gpt2.py",
                w->path, h[1]);
    }
    for (int i = 0; i < 6; i++) {
        if (h[2 + i] > 0) continue;
        ST_FAIL(e, ST_EFORMAT, "%s: llm.c model with a %s of %d; get it again", w->path, what[i],
                h[2 + i]);
    }
    *m = (st_llmc_shape){
        .context = h[2], .vocab = h[3], .layers = h[4], .heads = h[5], .width = h[6]};
    *padded = h[7];
    *half = h[1] == 5;
    if (*padded < m->vocab || m->width % m->heads) {
        ST_FAIL(e, ST_EFORMAT,
                "%s: llm.c model with %d tokens padded to %d, width %d and %d heads; get it again",
                w->path, h[3], h[7], h[6], h[5]);
    }
    return ST_OK;
}

static st_status llmc_open(st_weights *w, st_err *e)
{
    st_llmc_shape m;
    int64_t padded = 0, at = LLMC_HEADER;
    bool half = false;
    ST_TRY(llmc_header(w, &m, &padded, &half, e));
    int64_t size = half ? 2 : 4, bytes = llmc_bytes(&m, padded, size);
    if (bytes < 0) {
        ST_FAIL(e, ST_EFORMAT,
                "%s: llm.c model of more than 2^48 numbers by its header; get it again", w->path);
    }
    if (bytes != w->size) {
        ST_FAIL(e, ST_EFORMAT, "%s: llm.c model of %lld bytes, by its header %lld; %s", w->path,
                (long long)w->size, (long long)bytes,
                bytes > w->size ? "it is truncated: get it again" : "it has a foreign tail");
    }
    int64_t most = LLMC_KINDS - LLMC_LAYERED + LLMC_LAYERED * m.layers;
    w->row = st_calloc(most, sizeof *w->row);
    w->own = st_calloc(most, LLMC_NAME);
    w->extra = json_pack("{s:{s:I, s:I, s:I, s:I, s:I, s:b}}", "model_args", "n_layer",
                         (json_int_t)m.layers, "n_head", (json_int_t)m.heads, "n_embd",
                         (json_int_t)m.width, "block_size", (json_int_t)m.context, "vocab_size",
                         (json_int_t)m.vocab, "bias", 1);
    if (!w->row || !w->own || !w->extra) return ST_NOMEM(e, w->path);
    for (int k = 0; k < LLMC_KINDS; k++) {
        for (int64_t l = 0; l < (llmc_kinds[k].layered ? m.layers : 1); l++) {
            st_stored *t = &w->row[w->n];
            char *name = (char *)w->own + w->n++ * LLMC_NAME;
            llmc_name(name, k, l);
            *t = (st_stored){.name = name, .dtype = half ? "BF16" : "F32", .ndim = 1, .offset = at};
            t->dim[0] = llmc_dim(&m, llmc_kinds[k].rows);
            t->bytes = (size_t)(t->dim[0] * size);
            if (llmc_kinds[k].cols) {
                t->ndim = 2;
                t->dim[1] = llmc_dim(&m, llmc_kinds[k].cols);
                t->bytes *= (size_t)t->dim[1];
            }
            st_stored_pack(t);
            at += llmc_elements(&m, padded, k) * size;
        }
    }
    return ST_OK;
}

static void llmc_close(st_weights *w)
{
    free(w->own);
}

const st_container st_container_llmc = {
    .name = "llm.c",
    .probe = llmc_probe,
    .open = llmc_open,
    .close = llmc_close,
};

/* ---- writing --------------------------------------------------------------------------------- */

/* A name without "transformer.". */
static const char *llmc_bare(const char *name)
{
    size_t n = strlen("transformer.");
    return strncmp(name, "transformer.", n) ? name : name + n;
}

/* The item of a kind, checked; -1 after an error. */
static int64_t llmc_find(const char *path, const st_llmc_shape *m, int kind, int64_t layer,
                         const st_store_item *items, int64_t n, st_err *e)
{
    char name[LLMC_NAME];
    llmc_name(name, kind, layer);
    for (int64_t i = 0; i < n; i++) {
        const st_store_item *it = &items[i];
        if (strcmp(llmc_bare(it->name), llmc_bare(name))) continue;
        int cols = llmc_kinds[kind].cols;
        int64_t rows = llmc_dim(m, llmc_kinds[kind].rows);
        if (it->ndim == (cols ? 2 : 1) && it->dim[0] == rows &&
            (!cols || it->dim[1] == llmc_dim(m, cols)) && it->dtype == items[0].dtype)
            return i;
        ST_ERR(e, ST_EARG,
               "%s: tensor %.100s has not the shape or element type that llm.c's models have there",
               path, it->name);
        return -1;
    }
    ST_ERR(e, ST_EARG,
           "%s: no tensor %.100s, which llm.c's models have: they are dense GPT-2s with a "
           "feed-forward width of 4 times the model's",
           path, llmc_bare(name));
    return -1;
}

static st_status llmc_check(const char *path, const st_llmc_shape *m, const st_store_item *items,
                            int64_t n, st_err *e)
{
    int64_t want = LLMC_KINDS - LLMC_LAYERED + LLMC_LAYERED * m->layers;
    for (int64_t i = 0; i < n; i++) {
        if (strcmp(llmc_bare(items[i].name), "lm_head.weight") == 0) {
            ST_FAIL(e, ST_EARG, "%s: the head is not tied to the embedding, as llm.c's models are",
                    path);
        }
    }
    if (n != want || (items[0].dtype != ST_F32 && items[0].dtype != ST_BF16)) {
        ST_FAIL(e, ST_EARG,
                "%s: %lld tensors of %s, an llm.c model of %lld layers has %lld of float32 or "
                "bfloat16",
                path, (long long)n, n ? st_dtype_name(items[0].dtype) : "nothing",
                (long long)m->layers, (long long)want);
    }
    return ST_OK;
}

st_status st_llmc_write(const char *path, const st_llmc_shape *m, const st_store_item *items,
                        int64_t n, st_store_fill *fill, void *ctx, st_err *e)
{
    int64_t padded = (m->vocab + LLMC_PAD - 1) / LLMC_PAD * LLMC_PAD, most = 0;
    ST_TRY(llmc_check(path, m, items, n, e));
    size_t size = st_dtype_size(items[0].dtype);
    if (llmc_bytes(m, padded, (int64_t)size) < 0 || padded > INT32_MAX || m->context > INT32_MAX) {
        ST_FAIL(e, ST_ESHAPE, "%s: larger than any llm.c model", path);
    }
    int32_t h[LLMC_HEADER / 4] = {LLMC_MAGIC,          items[0].dtype == ST_F32 ? 3 : 5,
                                  (int32_t)m->context, (int32_t)m->vocab,
                                  (int32_t)m->layers,  (int32_t)m->heads,
                                  (int32_t)m->width,   (int32_t)padded};
    for (int k = 0; k < LLMC_KINDS; k++)
        most = most > llmc_elements(m, padded, k) ? most : llmc_elements(m, padded, k);
    char *data = st_calloc(most, size); /* the embedding comes first: its padding is zeros */
    st_outfile o = {0};
    st_status s = data ? st_outfile_open(&o, path, e) : ST_NOMEM(e, path);
    if (!s) s = st_outfile_write(&o, h, sizeof h, e);
    for (int k = 0; !s && k < LLMC_KINDS; k++) {
        size_t all = (size_t)llmc_elements(m, padded, k) * size, own = all;
        if (llmc_kinds[k].rows == VOCAB) own = (size_t)(m->vocab * m->width) * size;
        for (int64_t l = 0; !s && l < (llmc_kinds[k].layered ? m->layers : 1); l++) {
            int64_t i = llmc_find(path, m, k, l, items, n, e);
            if (i < 0) s = ST_EARG;
            if (!s) s = fill(ctx, i, data, own, e);
            if (!s) s = st_outfile_write(&o, data, all, e);
        }
    }
    if (!s) s = st_outfile_commit(&o, e);
    st_outfile_discard(&o);
    free(data);
    return s;
}
