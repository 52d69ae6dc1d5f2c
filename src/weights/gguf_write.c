/* Writing GGUF version 3 (ggml's docs/gguf.md): keys and values, the tensors' names and places,
 * then their numbers, aligned. Dimensions stand innermost first, so a matrix (out, in) is {in,
 * out}. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "weights/gguf.h"
#include <stdlib.h>
#include <string.h>

static const struct {
    int tensor, file; /* ggml_type; general.file_type */
} gguf_types[] = {
    [ST_F32] = {ST_GGML_F32, 0},   [ST_BF16] = {ST_GGML_BF16, 32}, [ST_F16] = {ST_GGML_F16, 1},
    [ST_Q8_0] = {ST_GGML_Q8_0, 7}, [ST_Q4_0] = {ST_GGML_Q4_0, 2},  [ST_Q4_1] = {ST_GGML_Q4_1, 3}};

/* Of the blocks: scales of float16. */
enum { GGUF_QUANTIZATION_VERSION = 2 };

/* ---- keys and values: into a FILE in memory, whose errors are looked for at its end ---------- */

typedef struct {
    FILE *f;
    uint64_t n;
} gguf_keys;

static void gguf_number(FILE *f, uint64_t x, int bytes)
{
    fwrite(&x, 1, (size_t)bytes, f);
}

static void gguf_text(FILE *f, const char *text, size_t n)
{
    gguf_number(f, n, 8);
    fwrite(text, 1, n, f);
}

static void gguf_key(gguf_keys *k, const char *key, int type)
{
    gguf_text(k->f, key, strlen(key));
    gguf_number(k->f, (uint64_t)type, 4);
    k->n++;
}

static void gguf_put_u32(gguf_keys *k, const char *key, int64_t x)
{
    gguf_key(k, key, ST_GGUF_U32);
    gguf_number(k->f, (uint64_t)x, 4);
}

static void gguf_put_text(gguf_keys *k, const char *key, const char *text)
{
    gguf_key(k, key, ST_GGUF_STRING);
    gguf_text(k->f, text, strlen(text));
}

static void gguf_put_list(gguf_keys *k, const char *key, int type, int64_t n)
{
    gguf_key(k, key, ST_GGUF_ARRAY);
    gguf_number(k->f, (uint64_t)type, 4);
    gguf_number(k->f, (uint64_t)n, 8);
}

/* A list: its type is that of its first entry. */
static void gguf_put_json_list(gguf_keys *k, const char *key, const json_t *list)
{
    const json_t *first = json_array_get(list, 0), *entry;
    int type = json_is_string(first)    ? ST_GGUF_STRING
               : json_is_real(first)    ? ST_GGUF_FLOAT
               : json_is_boolean(first) ? ST_GGUF_BOOL
                                        : ST_GGUF_I32;
    size_t i;
    gguf_put_list(k, key, type, (int64_t)json_array_size(list));
    json_array_foreach(list, i, entry)
    {
        float x = (float)json_number_value(entry);
        uint32_t bits;
        memcpy(&bits, &x, 4);
        if (type == ST_GGUF_STRING)
            gguf_text(k->f, json_string_value(entry), json_string_length(entry));
        else if (type == ST_GGUF_BOOL)
            gguf_number(k->f, json_is_true(entry), 1);
        else
            gguf_number(k->f, type == ST_GGUF_FLOAT ? bits : (uint64_t)json_integer_value(entry),
                        4);
    }
}

static void gguf_put_float(gguf_keys *k, const char *key, double x)
{
    float value = (float)x;
    uint32_t bits;
    memcpy(&bits, &value, 4);
    gguf_key(k, key, ST_GGUF_FLOAT);
    gguf_number(k->f, bits, 4);
}

/* Keys that are given as JSON, after `before`: texts, ids, numbers, flags and lists of them. */
static void gguf_put_json(gguf_keys *k, const char *before, json_t *keys)
{
    const char *own;
    json_t *v;
    json_object_foreach(keys, own, v)
    {
        char key[128];
        snprintf(key, sizeof key, "%s%s", before, own);
        if (json_is_array(v)) {
            gguf_put_json_list(k, key, v);
        } else if (json_is_string(v)) {
            gguf_key(k, key, ST_GGUF_STRING);
            gguf_text(k->f, json_string_value(v), json_string_length(v));
        } else if (json_is_boolean(v)) {
            gguf_key(k, key, ST_GGUF_BOOL);
            gguf_number(k->f, json_is_true(v), 1);
        } else if (json_is_real(v)) {
            gguf_put_float(k, key, json_real_value(v));
        } else {
            gguf_put_u32(k, key, json_integer_value(v));
        }
    }
}

static const char *gguf_arch(const st_gguf_about *a)
{
    return a->arch ? a->arch : "gpt2";
}

static void gguf_put_all(gguf_keys *k, const st_gguf_about *a, st_dtype kind, int64_t vocab,
                         json_t *tokenizer)
{
    char before[32];
    snprintf(before, sizeof before, "%s.", gguf_arch(a));
    json_t *own = json_pack("{s:I, s:I, s:I, s:I, s:I}", "context_length", (json_int_t)a->context,
                            "embedding_length", (json_int_t)a->width, "feed_forward_length",
                            (json_int_t)a->inner, "block_count", (json_int_t)a->layers,
                            "attention.head_count", (json_int_t)a->heads);
    json_t *size = json_pack("{s:I}", "vocab_size", (json_int_t)vocab);
    gguf_put_text(k, "general.architecture", gguf_arch(a));
    gguf_put_text(k, "general.type", "model");
    if (a->name) gguf_put_text(k, "general.name", a->name);
    gguf_put_u32(k, "general.file_type", gguf_types[kind].file);
    if (st_dtype_blocks(kind))
        gguf_put_u32(k, "general.quantization_version", GGUF_QUANTIZATION_VERSION);
    gguf_put_u32(k, "general.alignment", ST_GGUF_ALIGN);
    gguf_put_json(k, before, own);
    if (!a->arch) gguf_put_float(k, "gpt2.attention.layer_norm_epsilon", a->epsilon);
    gguf_put_json(k, before, (json_t *)(uintptr_t)a->more);
    gguf_put_json(k, before, size);
    gguf_put_json(k, "", tokenizer);
    json_decref(own);
    json_decref(size);
}

/* ---- tensors --------------------------------------------------------------------------------- */

/* Bytes of an item that can be written. */
static st_status gguf_item(const char *path, const char *arch, const st_store_item *it,
                           char name[ST_GGUF_NAME], size_t *bytes, st_err *e)
{
    if (!st_gguf_name(arch, it->name, name)) {
        ST_FAIL(e, ST_EARG, "%s: tensor %.100s has no place in a GGUF file of a dense %s", path,
                it->name, arch);
    }
    const st_blocks *blocks = st_dtype_blocks(it->dtype);
    bool whole = !blocks || (it->ndim > 1 && it->dim[it->ndim - 1] % blocks->numbers == 0);
    if ((it->dtype > ST_F16 && !blocks) || !whole || it->ndim < 1 || it->ndim > 4) {
        ST_FAIL(e, ST_EARG,
                "%s: tensor %.100s is %s of %d dimensions, expected floats of 1 to 4, or whole "
                "rows of blocks",
                path, it->name, st_dtype_name(it->dtype), it->ndim);
    }
    int64_t n = 1;
    for (int i = 0; i < it->ndim; i++) {
        if (it->dim[i] > 0 && !__builtin_mul_overflow(n, it->dim[i], &n)) continue;
        ST_FAIL(e, ST_ESHAPE, "%s: tensor %.100s: dimension %d is %lld", path, it->name, i,
                (long long)it->dim[i]);
    }
    if (!blocks && __builtin_mul_overflow(n, (int64_t)st_dtype_size(it->dtype), &n))
        ST_FAIL(e, ST_ESHAPE, "%s: tensor %.100s has more than 2^63 bytes", path, it->name);
    *bytes = blocks ? st_dtype_bytes(it->dtype, n) : (size_t)n;
    return ST_OK;
}

/* The type of most bytes. */
static st_dtype gguf_kind(const size_t bytes[ST_Q4_1 + 1])
{
    st_dtype kind = ST_F32;
    for (st_dtype t = ST_F32; t <= ST_Q4_1; t++)
        kind = bytes[t] > bytes[kind] ? t : kind;
    return kind;
}

static size_t gguf_padding(size_t n)
{
    return (ST_GGUF_ALIGN - n % ST_GGUF_ALIGN) % ST_GGUF_ALIGN;
}

/* Everything before the tensors' numbers into `f`. */
static st_status gguf_header(FILE *f, const char *path, const st_gguf_about *about,
                             const st_store_item *items, int64_t n, st_err *e)
{
    int64_t vocab = -1;
    size_t of[ST_Q4_1 + 1] = {0};
    char name[ST_GGUF_NAME], *text = NULL;
    size_t bytes, at = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        ST_TRY(gguf_item(path, gguf_arch(about), &items[i], name, &bytes, e));
        of[items[i].dtype] += bytes;
        if (strcmp(name, "token_embd.weight") == 0) vocab = items[i].dim[0];
    }
    if (vocab < 0) ST_FAIL(e, ST_EARG, "%s: no tensor of the embedding", path);
    if (about->tokenizer && st_bpe_size(about->tokenizer) > vocab) {
        ST_FAIL(e, ST_EARG, "%s: the tokenizer has %lld tokens, the embedding only %lld rows", path,
                (long long)st_bpe_size(about->tokenizer), (long long)vocab);
    }
    json_t *tokenizer = NULL;
    st_status status =
        about->tokenizer ? st_bpe_gguf_keys(about->tokenizer, vocab, &tokenizer, e) : ST_OK;
    gguf_keys k = {.f = status ? NULL : open_memstream(&text, &size)};
    if (k.f) gguf_put_all(&k, about, gguf_kind(of), vocab, tokenizer);
    bool good = k.f && !ferror(k.f);
    good = k.f && !fclose(k.f) && good;
    json_decref(tokenizer);
    if (status) st_err_prefix(e, "%s", path);
    ST_TRY(status);
    fwrite("GGUF", 1, 4, f);
    gguf_number(f, ST_GGUF_VERSION, 4);
    gguf_number(f, (uint64_t)n, 8);
    gguf_number(f, k.n, 8);
    fwrite(text, 1, good ? size : 0, f);
    free(text);
    if (!good) ST_FAIL(e, ST_ENOMEM, "%s: out of memory for its keys", path);
    for (int64_t i = 0; i < n; i++) {
        const st_store_item *it = &items[i];
        ST_TRY(gguf_item(path, gguf_arch(about), it, name, &bytes, e));
        gguf_text(f, name, strlen(name));
        gguf_number(f, (uint64_t)it->ndim, 4);
        for (int d = it->ndim - 1; d >= 0; d--)
            gguf_number(f, (uint64_t)it->dim[d], 8);
        gguf_number(f, (uint64_t)gguf_types[it->dtype].tensor, 4);
        gguf_number(f, at, 8);
        at += bytes + gguf_padding(bytes);
    }
    return ST_OK;
}

static st_status gguf_data(st_outfile *o, const char *arch, const st_store_item *items, int64_t n,
                           st_store_fill *fill, void *ctx, st_err *e)
{
    static const char zeros[ST_GGUF_ALIGN];
    char name[ST_GGUF_NAME];
    size_t most = 1, bytes = 0;
    for (int64_t i = 0; i < n; i++) {
        ST_TRY(gguf_item(o->path, arch, &items[i], name, &bytes, e));
        most = bytes > most ? bytes : most;
    }
    void *data = malloc(most);
    if (!data) ST_FAIL(e, ST_ENOMEM, "%s: out of memory: %zu bytes for one tensor", o->path, most);
    st_status s = ST_OK;
    for (int64_t i = 0; !s && i < n; i++) {
        s = gguf_item(o->path, arch, &items[i], name, &bytes, e);
        if (!s) s = fill(ctx, i, data, bytes, e);
        if (!s) s = st_outfile_write(o, data, bytes, e);
        if (!s) s = st_outfile_write(o, zeros, gguf_padding(bytes), e);
    }
    free(data);
    return s;
}

st_status st_gguf_write(const char *path, const st_gguf_about *about, const st_store_item *items,
                        int64_t n, st_store_fill *fill, void *ctx, st_err *e)
{
    st_outfile o = {0};
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (!f) return ST_NOMEM(e, path);
    st_status s = gguf_header(f, path, about, items, n, e);
    fflush(f);
    for (size_t pad = gguf_padding(size); pad; pad--)
        fputc(0, f);
    bool bad = ferror(f);
    bad |= fclose(f) != 0;
    if (!s && bad) s = ST_NOMEM(e, path);
    if (!s) s = st_outfile_open(&o, path, e);
    if (!s) s = st_outfile_write(&o, text, size, e);
    if (!s) s = gguf_data(&o, gguf_arch(about), items, n, fill, ctx, e);
    if (!s) s = st_outfile_commit(&o, e);
    st_outfile_discard(&o);
    free(text);
    return s;
}
