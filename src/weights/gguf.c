/* Reading GGUF versions 2 and 3 (ggml's docs/gguf.md): tensors of floats and of blocks. GPT-2's are
 * shown under the names that nanoGPT has for them, which also is their orientation (out, in); of
 * the keys, numbers and texts are given as JSON, lists (a tokenizer's tokens) are not. */
/* SPDX-License-Identifier: MIT */
#include "weights/gguf.h"
#include <stdlib.h>
#include <string.h>

enum {
    GGUF_TENSORS = 1 << 17,
    GGUF_KEYS = 1 << 14,
    GGUF_TEXT = 1 << 12, /* longer values are left out */
    GGUF_BUFFER = 1 << 16
};

/* A place in the file, and a piece of it in memory. */
typedef struct {
    const st_weights *w;
    int64_t at, first, held; /* held bytes of the file from `first` on */
    st_err *e;
    unsigned char buffer[GGUF_BUFFER];
} gguf_scan;

static bool gguf_probe(const st_weights_look *l)
{
    return memcmp(l->head, "GGUF", 4) == 0;
}

static st_status gguf_bad(const gguf_scan *s, const char *why)
{
    ST_FAIL(s->e, ST_EFORMAT, "%s: GGUF header damaged or truncated at byte %lld: %s; get it again",
            s->w->path, (long long)s->at, why);
}

/* The next n bytes, n at most GGUF_BUFFER. */
static st_status gguf_take(gguf_scan *s, int64_t n, const unsigned char **out)
{
    *out = s->buffer;
    if (n > s->w->size - s->at) return gguf_bad(s, "it ends too early");
    if (s->at < s->first || s->at + n > s->first + s->held) {
        s->first = s->at;
        s->held = s->w->size - s->at < GGUF_BUFFER ? s->w->size - s->at : GGUF_BUFFER;
        ST_TRY(st_weights_pread(s->w, s->buffer, (size_t)s->held, s->at, s->e));
    }
    *out = s->buffer + (s->at - s->first);
    s->at += n;
    return ST_OK;
}

static st_status gguf_number(gguf_scan *s, int bytes, uint64_t *out)
{
    const unsigned char *b;
    *out = 0;
    ST_TRY(gguf_take(s, bytes, &b));
    memcpy(out, b, (size_t)bytes);
    return ST_OK;
}

/* A text of up to `room` - 1 bytes into `out`; of a longer one nothing, *n is its length. */
static st_status gguf_text(gguf_scan *s, char *out, size_t room, size_t *n)
{
    uint64_t length;
    const unsigned char *b;
    out[0] = '\0';
    *n = 0;
    ST_TRY(gguf_number(s, 8, &length));
    if (length > (uint64_t)(s->w->size - s->at)) return gguf_bad(s, "it ends within a text");
    *n = (size_t)length;
    if (*n >= room) {
        s->at += (int64_t)length;
        return ST_OK;
    }
    ST_TRY(gguf_take(s, (int64_t)length, &b));
    memcpy(out, b, *n);
    out[*n] = '\0';
    return ST_OK;
}

static const int8_t gguf_sizes[ST_GGUF_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

/* Passes over a list: of numbers in one step, of texts by their lengths. */
static st_status gguf_list(gguf_scan *s)
{
    uint64_t type, n, length;
    ST_TRY(gguf_number(s, 4, &type));
    ST_TRY(gguf_number(s, 8, &n));
    if (type >= ST_GGUF_TYPES || type == ST_GGUF_ARRAY) return gguf_bad(s, "a list of lists");
    uint64_t left = (uint64_t)(s->w->size - s->at), each = (uint64_t)gguf_sizes[type];
    if (n > left / (each ? each : 8)) return gguf_bad(s, "it ends within a list");
    if (each) {
        s->at += (int64_t)(n * each);
        return ST_OK;
    }
    for (uint64_t i = 0; i < n; i++) {
        ST_TRY(gguf_number(s, 8, &length));
        if (length > (uint64_t)(s->w->size - s->at)) return gguf_bad(s, "it ends within a text");
        s->at += (int64_t)length;
    }
    return ST_OK;
}

/* One value; *out stays NULL for what is left out. */
static st_status gguf_value(gguf_scan *s, uint64_t type, json_t **out)
{
    uint64_t u;
    float f;
    double d;
    if (type >= ST_GGUF_TYPES) return gguf_bad(s, "a value of unknown type");
    if (type == ST_GGUF_ARRAY) return gguf_list(s);
    if (type == ST_GGUF_STRING) {
        char text[GGUF_TEXT];
        size_t n;
        ST_TRY(gguf_text(s, text, sizeof text, &n));
        if (n < sizeof text) *out = json_stringn(text, n);
        return ST_OK;
    }
    ST_TRY(gguf_number(s, gguf_sizes[type], &u));
    memcpy(&f, &u, 4);
    memcpy(&d, &u, 8);
    int unused = 64 - 8 * gguf_sizes[type];
    switch (type) {
    case ST_GGUF_FLOAT: *out = json_real((double)f); break;
    case ST_GGUF_DOUBLE: *out = json_real(d); break;
    case ST_GGUF_BOOL: *out = json_boolean(u); break;
    case ST_GGUF_I8:
    case ST_GGUF_I16:
    case ST_GGUF_I32:
    case ST_GGUF_I64: *out = json_integer((int64_t)(u << unused) >> unused); break;
    default:
        if (u <= INT64_MAX) *out = json_integer((int64_t)u);
    }
    return ST_OK;
}

static st_status gguf_values(gguf_scan *s, uint64_t n, json_t *keys)
{
    for (uint64_t i = 0; i < n; i++) {
        char key[256];
        size_t len;
        uint64_t type;
        json_t *value = NULL;
        ST_TRY(gguf_text(s, key, sizeof key, &len));
        ST_TRY(gguf_number(s, 4, &type));
        ST_TRY(gguf_value(s, type, &value));
        if (value && len && len < sizeof key)
            json_object_setn_new(keys, key, len, value); /* fails for what is not UTF-8 */
        else
            json_decref(value);
    }
    return ST_OK;
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
static st_status gguf_bytes(gguf_scan *s, st_stored *t, uint64_t type, const char *own)
{
    const bool known = type < sizeof gguf_types / sizeof *gguf_types && gguf_types[type].name;
    const st_blocks *blocks = known ? st_blocks_find(gguf_types[type].name) : NULL;
    if (!known || (!blocks && !gguf_types[type].size)) {
        ST_FAIL(
            s->e, ST_EUNSUPPORTED,
            "%s: tensor %.64s is of ggml's type %s (%llu); read are F32, F16, BF16, Q8_0, Q4_0, "
            "Q4_1, Q5_0, Q5_1 and Q2_K to Q6_K",
            s->w->path, own, known ? gguf_types[type].name : "unknown", (unsigned long long)type);
    }
    int64_t bytes = blocks ? blocks->bytes : gguf_types[type].size;
    for (int i = 0; i < t->ndim; i++) {
        int64_t n = t->dim[i];
        if (blocks && i == t->ndim - 1 && n % blocks->numbers)
            return gguf_bad(s, "a tensor whose rows are no whole blocks");
        if (blocks && i == t->ndim - 1) n /= blocks->numbers;
        if (__builtin_mul_overflow(bytes, n, &bytes))
            return gguf_bad(s, "a tensor of more than 2^63 bytes");
    }
    if (blocks && t->ndim == 0) return gguf_bad(s, "a tensor whose rows are no whole blocks");
    t->dtype = gguf_types[type].name;
    t->bytes = (size_t)bytes;
    return ST_OK;
}

/* One tensor's entry; its offset counts from the data. */
static st_status gguf_tensor(gguf_scan *s, st_stored *t, char name[ST_GGUF_NAME], bool gpt2)
{
    uint64_t ndim, type, offset, dim;
    char own[ST_GGUF_NAME];
    size_t n;
    ST_TRY(gguf_text(s, own, sizeof own, &n));
    if (!n || n >= sizeof own || strlen(own) != n) return gguf_bad(s, "a tensor's name");
    if (!gpt2 || !st_gguf_unname(own, name)) memcpy(name, own, sizeof own);
    *t = (st_stored){.name = name};
    ST_TRY(gguf_number(s, 4, &ndim));
    if (ndim > 4) return gguf_bad(s, "a tensor of more than 4 dimensions");
    t->ndim = (int)ndim;
    for (int i = t->ndim - 1; i >= 0; i--) {
        ST_TRY(gguf_number(s, 8, &dim));
        if (dim > INT64_MAX) return gguf_bad(s, "a dimension beyond 2^63");
        t->dim[i] = (int64_t)dim;
    }
    ST_TRY(gguf_number(s, 4, &type));
    ST_TRY(gguf_number(s, 8, &offset));
    ST_TRY(gguf_bytes(s, t, type, own));
    if (offset > INT64_MAX) return gguf_bad(s, "a tensor's place");
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

static st_status gguf_all(gguf_scan *s, st_weights *w, st_err *e)
{
    uint64_t magic, version, tensors, values;
    ST_TRY(gguf_number(s, 4, &magic));
    ST_TRY(gguf_number(s, 4, &version));
    if (version != ST_GGUF_VERSION && version != 2) {
        ST_FAIL(e, ST_EUNSUPPORTED, "%s: GGUF version %llu, expected 2 or 3%s", w->path,
                (unsigned long long)version, version > 0xffff ? " (little-endian)" : "");
    }
    ST_TRY(gguf_number(s, 8, &tensors));
    ST_TRY(gguf_number(s, 8, &values));
    if (tensors > GGUF_TENSORS || values > GGUF_KEYS) return gguf_bad(s, "too many entries");
    json_t *keys = json_object();
    w->extra = json_pack("{s:o}", "gguf", keys);
    if (!w->extra) return ST_NOMEM(e, w->path);
    ST_TRY(gguf_values(s, values, keys));
    const char *what = json_string_value(json_object_get(keys, "general.architecture"));
    bool gpt2 = what && strcmp(what, "gpt2") == 0;
    if (gpt2) json_object_set_new(w->extra, "model_args", gguf_args(keys));
    w->row = st_calloc((int64_t)tensors, sizeof *w->row);
    w->own = st_calloc((int64_t)tensors, ST_GGUF_NAME);
    if (!w->row || !w->own) return ST_NOMEM(e, w->path);
    for (uint64_t i = 0; i < tensors; i++) {
        ST_TRY(gguf_tensor(s, &w->row[i], (char *)w->own + i * ST_GGUF_NAME, gpt2));
        w->n++;
    }
    return gguf_places(w, s->at, keys, e);
}

static st_status gguf_open(st_weights *w, st_err *e)
{
    gguf_scan *s = st_calloc(1, sizeof *s);
    if (!s) return ST_NOMEM(e, w->path);
    s->w = w;
    s->e = e;
    st_status status = gguf_all(s, w, e);
    free(s);
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
