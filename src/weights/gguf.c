/* Reading GGUF versions 2 and 3 (ggml's docs/gguf.md): tensors of floats and of blocks. GPT-2's are
 * shown under the names that nanoGPT has for them, which also is their orientation (out, in), those
 * of Llama-shaped models under Hugging Face's; of the keys, numbers and texts are given as JSON,
 * lists (a tokenizer's tokens) are not. */
/* SPDX-License-Identifier: MIT */
#include "weights/gguf.h"
#include <stdlib.h>
#include <string.h>

enum { GGUF_TENSORS = 1 << 17 };

static bool gguf_probe(const st_weights_look *l)
{
    return memcmp(l->head, "GGUF", 4) == 0;
}

/* ggml's types by number; of the others the name is for messages. */
static const struct {
    const char *name;
    int size; /* bytes of a number; 0: blocks (st_blocks_find), or not read */
} gguf_types[] = {
    [0] = {"F32", 4},   [1] = {"F16", 2},   [2] = {"Q4_0", 0},  [3] = {"Q4_1", 0},
    [6] = {"Q5_0", 0},  [7] = {"Q5_1", 0},  [8] = {"Q8_0", 0},  [9] = {"Q8_1", 0},
    [10] = {"Q2_K", 0}, [11] = {"Q3_K", 0}, [12] = {"Q4_K", 0}, [13] = {"Q5_K", 0},
    [14] = {"Q6_K", 0}, [15] = {"Q8_K", 0}, [24] = {"I8", 0},   [25] = {"I16", 0},
    [26] = {"I32", 0},  [27] = {"I64", 0},  [28] = {"F64", 0},  [30] = {"BF16", 2},
};

/* Bytes of a tensor whose rows are of `t`'s last dimension. */
static st_status gguf_bytes(st_gguf *s, st_stored *t, uint64_t type, const char *own, st_err *e)
{
    const bool known = type < sizeof gguf_types / sizeof *gguf_types && gguf_types[type].name;
    const st_blocks *blocks = known ? st_blocks_find(gguf_types[type].name) : NULL;
    if (!known || (!blocks && !gguf_types[type].size)) {
        ST_FAIL(
            e, ST_EUNSUPPORTED,
            "%s: tensor %.64s is of ggml's type %s (%llu); read are F32, F16, BF16, Q8_0, Q4_0, "
            "Q4_1, Q5_0, Q5_1 and Q2_K to Q6_K",
            st_gguf_path(s), own, known ? gguf_types[type].name : "unknown",
            (unsigned long long)type);
    }
    int64_t bytes = blocks ? blocks->bytes : gguf_types[type].size, all = 1;
    for (int i = 0; i < t->ndim; i++) {
        int64_t n = t->dim[i];
        if (blocks && i == t->ndim - 1 && n % blocks->numbers)
            return st_gguf_bad(s, "a tensor whose rows are no whole blocks", e);
        if (blocks && i == t->ndim - 1) n /= blocks->numbers;
        /* blocks have fewer bytes than numbers */
        if (__builtin_mul_overflow(bytes, n, &bytes) ||
            __builtin_mul_overflow(all, t->dim[i], &all))
            return st_gguf_bad(s, "a tensor of more than 2^63 bytes", e);
    }
    if (blocks && t->ndim == 0) return st_gguf_bad(s, "a tensor whose rows are no whole blocks", e);
    t->dtype = gguf_types[type].name;
    t->bytes = (size_t)bytes;
    return ST_OK;
}

/* One tensor's entry; its offset counts from the data. */
static st_status gguf_tensor(st_gguf *s, st_stored *t, char name[ST_GGUF_NAME], const char *arch,
                             st_err *e)
{
    uint64_t ndim, type, offset, dim;
    char own[ST_GGUF_NAME];
    size_t n;
    ST_TRY(st_gguf_text(s, own, sizeof own, &n, e));
    if (!n || n >= sizeof own || strlen(own) != n) return st_gguf_bad(s, "a tensor's name", e);
    if (!st_gguf_unname(arch, own, name)) memcpy(name, own, sizeof own);
    *t = (st_stored){.name = name};
    ST_TRY(st_gguf_number(s, 4, &ndim, e));
    if (ndim > 4) return st_gguf_bad(s, "a tensor of more than 4 dimensions", e);
    t->ndim = (int)ndim;
    for (int i = t->ndim - 1; i >= 0; i--) {
        ST_TRY(st_gguf_number(s, 8, &dim, e));
        if (dim > INT64_MAX) return st_gguf_bad(s, "a dimension beyond 2^63", e);
        t->dim[i] = (int64_t)dim;
    }
    ST_TRY(st_gguf_number(s, 4, &type, e));
    ST_TRY(st_gguf_number(s, 8, &offset, e));
    ST_TRY(gguf_bytes(s, t, type, own, e));
    if (offset > INT64_MAX) return st_gguf_bad(s, "a tensor's place", e);
    t->offset = (int64_t)offset;
    st_stored_pack(t);
    return ST_OK;
}

/* nanoGPT's "model_args" from the keys of a GPT-2. */
static json_t *gguf_args(const json_t *keys)
{
    static const char *const name[][2] = {{"gpt2.block_count", "n_layer"},
                                          {"gpt2.attention.head_count", "n_head"},
                                          {"gpt2.embedding_length", "n_embd"},
                                          {"gpt2.context_length", "block_size"}};
    json_t *args = json_pack("{s:b}", "bias", 1);
    for (int i = 0; i < 4; i++) {
        json_t *value = json_object_get(keys, name[i][0]);
        if (json_is_integer(value)) json_object_set(args, name[i][1], value);
    }
    return args;
}

static st_status gguf_places(st_weights *w, int64_t at, const json_t *keys, st_err *e)
{
    int64_t align = json_integer_value(json_object_get(keys, "general.alignment"));
    if (!json_object_get(keys, "general.alignment")) align = ST_GGUF_ALIGN;
    if (align < 1 || align > 1 << 20 || align % 8) {
        ST_FAIL(e, ST_EFORMAT, "%s: general.alignment is %lld, expected a multiple of 8", w->path,
                (long long)align);
    }
    at = (at + align - 1) / align * align;
    for (int64_t i = 0; i < w->n; i++) {
        st_stored *t = &w->row[i];
        int64_t left = at > w->size ? -1 : w->size - at; /* for the data of all */
        if (t->offset % align || t->offset > left || (uint64_t)(left - t->offset) < t->bytes) {
            ST_FAIL(e, ST_EFORMAT,
                    "%s: tensor %.64s of %zu bytes lies at byte %lld of the data: %s; get it again",
                    w->path, t->name, t->bytes, (long long)t->offset,
                    t->offset % align ? "not aligned" : "the file ends before");
        }
        t->offset += at;
    }
    return ST_OK;
}

static st_status gguf_all(st_gguf *s, st_weights *w, st_err *e)
{
    const json_t *keys = st_gguf_keys(s);
    uint64_t tensors = st_gguf_tensors(s);
    if (tensors > GGUF_TENSORS) return st_gguf_bad(s, "too many entries", e);
    w->extra = json_pack("{s:O}", "gguf", keys);
    if (!w->extra) return ST_NOMEM(e, w->path);
    const char *what = json_string_value(json_object_get(keys, "general.architecture"));
    if (what && strcmp(what, "gpt2") == 0)
        json_object_set_new(w->extra, "model_args", gguf_args(keys));
    w->row = st_calloc((int64_t)tensors, sizeof *w->row);
    w->own = st_calloc((int64_t)tensors, ST_GGUF_NAME);
    if (!w->row || !w->own) return ST_NOMEM(e, w->path);
    for (uint64_t i = 0; i < tensors; i++) {
        ST_TRY(gguf_tensor(s, &w->row[i], (char *)w->own + i * ST_GGUF_NAME, what, e));
        w->n++;
    }
    return gguf_places(w, st_gguf_at(s), keys, e);
}

static st_status gguf_open(st_weights *w, st_err *e)
{
    st_gguf *s;
    ST_TRY(st_gguf_open(&s, w->path, false, e));
    st_status status = gguf_all(s, w, e);
    st_gguf_close(s);
    return status;
}

static void gguf_close(st_weights *w)
{
    free(w->own);
}

const st_container st_container_gguf = {
    .name = "gguf",
    .probe = gguf_probe,
    .open = gguf_open,
    .close = gguf_close,
};
