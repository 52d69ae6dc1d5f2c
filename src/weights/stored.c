/* Reading one tensor of a container into host memory: its elements in C order, converted.
 *
 * Dense tensors are read piece by piece. A view with other strides (a transpose, a slice) is read
 * from a copy of the range of the file that it reaches into: no more than the file has. */
/* SPDX-License-Identifier: MIT */
#include "weights/container.h"
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 4096 };

typedef enum { STORED_FLOAT, STORED_WIDE, STORED_INT, STORED_UINT } stored_kind;

typedef struct {
    const char *name;
    stored_kind kind;
    int size;
    st_dtype dtype; /* the same in memory, if there is one */
    bool same;
} stored_type;

static const stored_type stored_types[] = {
    {"F32", STORED_FLOAT, 4, ST_F32, true}, {"BF16", STORED_FLOAT, 2, ST_BF16, true},
    {"F16", STORED_FLOAT, 2, ST_F16, true}, {"F64", STORED_WIDE, 8, ST_F32, false},
    {"I32", STORED_INT, 4, ST_I32, true},   {"U16", STORED_UINT, 2, ST_U16, true},
    {"U8", STORED_UINT, 1, ST_U8, true},    {"BOOL", STORED_UINT, 1, ST_U8, true},
    {"I64", STORED_INT, 8, ST_I32, false},  {"I16", STORED_INT, 2, ST_I32, false},
    {"I8", STORED_INT, 1, ST_I32, false},   {"U32", STORED_UINT, 4, ST_I32, false},
};

/* The elements of a tensor, in order. */
typedef struct {
    const st_stored *s;
    size_t size; /* of an element */
    char *span;  /* of a view: the bytes from its first element to its last, else NULL */
    int64_t done, index[8], from; /* of a view: the next element, and its place in `span` */
} stored_source;

static bool stored_dense(const st_stored *s)
{
    int64_t step = 1;
    if (!st_stored_elements(s)) return true;
    for (int i = s->ndim - 1; i >= 0; i--) {
        if (s->dim[i] != 1 && s->stride[i] != step) return false;
        step *= s->dim[i];
    }
    return true;
}

static st_status stored_begin(stored_source *src, const st_stored *s, size_t size, st_err *e)
{
    *src = (stored_source){.s = s, .size = size};
    if (stored_dense(s)) return ST_OK;
    int64_t last = 0;
    for (int i = 0; i < s->ndim; i++)
        last += (s->dim[i] - 1) * s->stride[i]; /* checked at open */
    src->span = malloc((size_t)(last + 1) * size);
    if (!src->span) {
        ST_FAIL(e, ST_ENOMEM, "%s: out of memory for tensor %.100s", s->file->path, s->name);
    }
    return st_weights_pread(s->file, src->span, (size_t)(last + 1) * size, s->offset, e);
}

/* The next n elements as they are in the file. */
static st_status stored_next(stored_source *src, void *out, int64_t n, st_err *e)
{
    const st_stored *s = src->s;
    size_t size = src->size;
    if (!src->span) {
        int64_t at = s->offset + src->done * (int64_t)size;
        src->done += n;
        return st_weights_pread(s->file, out, (size_t)n * size, at, e);
    }
    for (int64_t i = 0; i < n; i++) {
        memcpy((char *)out + (size_t)i * size, src->span + (size_t)src->from * size, size);
        for (int d = s->ndim - 1; d >= 0; d--) {
            src->from += s->stride[d];
            if (++src->index[d] < s->dim[d]) break;
            src->from -= s->stride[d] * s->dim[d];
            src->index[d] = 0;
        }
    }
    return ST_OK;
}

/* Blocks, a few at a time. */
static st_status stored_blocks(const st_stored *s, const st_blocks *blocks, st_tensor dst,
                               st_err *e)
{
    uint8_t buffer[CHUNK * 2];
    float x[CHUNK];
    int64_t n = st_numel(dst), at = s->offset;
    if (st_dtype_blocks(dst.dtype) == blocks)
        return st_weights_pread(s->file, dst.data, st_bytes(dst), at, e);
    for (int64_t i = 0; i < n; i += CHUNK) { /* CHUNK is whole blocks, as rows are */
        int64_t some = n - i < CHUNK ? n - i : CHUNK, count = some / blocks->numbers;
        ST_TRY(st_weights_pread(s->file, buffer, (size_t)(count * blocks->bytes), at, e));
        for (int64_t k = 0; k < count; k++)
            blocks->read(buffer + k * blocks->bytes, x + k * blocks->numbers);
        st_convert((char *)dst.data + (size_t)i * st_dtype_size(dst.dtype), dst.dtype, x, ST_F32,
                   some);
        at += count * blocks->bytes;
    }
    return ST_OK;
}

/* Floats, through a buffer. */
static st_status stored_floats(stored_source *src, const stored_type *type, st_tensor dst,
                               st_err *e)
{
    union {
        double d[CHUNK];
        float f[CHUNK];
        uint16_t h[CHUNK];
    } buffer;
    float narrow[CHUNK];
    int64_t n = st_numel(dst);
    for (int64_t i = 0; i < n; i += CHUNK) {
        int64_t some = n - i < CHUNK ? n - i : CHUNK;
        ST_TRY(stored_next(src, &buffer, some, e));
        void *out = (char *)dst.data + (size_t)i * st_dtype_size(dst.dtype);
        if (type->kind == STORED_WIDE) {
            for (int64_t j = 0; j < some; j++)
                narrow[j] = (float)buffer.d[j];
            st_convert(out, dst.dtype, narrow, ST_F32, some);
        } else {
            st_convert(out, dst.dtype, &buffer, type->dtype, some);
        }
    }
    return ST_OK;
}

/* Whole numbers of any width, which must fit into 32 bits. */
static st_status stored_ints(stored_source *src, const stored_type *type, st_tensor dst, st_err *e)
{
    char buffer[CHUNK * 8];
    int64_t n = st_numel(dst);
    int unused = 64 - 8 * type->size;
    for (int64_t i = 0; i < n; i += CHUNK) {
        int64_t some = n - i < CHUNK ? n - i : CHUNK;
        ST_TRY(stored_next(src, buffer, some, e));
        for (int64_t j = 0; j < some; j++) {
            uint64_t u = 0;
            memcpy(&u, buffer + j * type->size, (size_t)type->size);
            int64_t v = type->kind == STORED_INT ? (int64_t)(u << unused) >> unused : (int64_t)u;
            if (v != (int32_t)v) {
                ST_FAIL(e, ST_EFORMAT, "%s: tensor %.100s: element %lld is %lld, expected 32 bits",
                        src->s->file->path, src->s->name, (long long)(i + j), (long long)v);
            }
            ((int32_t *)dst.data)[i + j] = (int32_t)v;
        }
    }
    return ST_OK;
}

st_status st_stored_blocks(const st_stored *s, st_dtype format, st_tensor dst, st_err *e)
{
    const st_blocks *blocks = st_dtype_blocks(format);
    bool bytes = strcmp(s->dtype, "U8") == 0 && stored_dense(s);
    if (s->bytes != st_dtype_bytes(format, st_numel(dst)) ||
        !(bytes || strcmp(s->dtype, blocks->name) == 0)) {
        ST_FAIL(e, ST_ESHAPE, "%s: tensor %.100s has %zu bytes of %s, expected %zu of %s",
                s->file->path, s->name, s->bytes, s->dtype, st_dtype_bytes(format, st_numel(dst)),
                blocks->name);
    }
    return stored_blocks(s, blocks, dst, e);
}

st_status st_stored_read(const st_stored *s, st_tensor dst, st_err *e)
{
    int64_t n = st_stored_elements(s);
    if (n != st_numel(dst)) {
        ST_FAIL(e, ST_ESHAPE, "%s: tensor %.100s has %lld elements, expected %lld", s->file->path,
                s->name, (long long)n, (long long)st_numel(dst));
    }
    const stored_type *type = NULL;
    for (size_t i = 0; i < sizeof stored_types / sizeof *stored_types; i++) {
        if (strcmp(s->dtype, stored_types[i].name) == 0) type = &stored_types[i];
    }
    bool same = type && type->same && type->dtype == dst.dtype;
    bool whole = type && type->kind >= STORED_INT && dst.dtype == ST_I32;
    bool real = type && type->kind <= STORED_WIDE && dst.dtype <= ST_F16;
    const st_blocks *blocks = st_blocks_find(s->dtype);
    if (blocks && dst.dtype <= ST_F16) return stored_blocks(s, blocks, dst, e);
    if (!same && !whole && !real) {
        ST_FAIL(e, ST_EFORMAT, "%s: tensor %.100s is stored as %s, which cannot be read as %s",
                s->file->path, s->name, s->dtype, st_dtype_name(dst.dtype));
    }
    bool at_once = same && stored_dense(s); /* its bytes are then in dst as they are in the file */
    stored_source src;
    if (!at_once) ST_TRY(st_sums_check(s, NULL, e));
    st_status status = stored_begin(&src, s, (size_t)type->size, e);
    if (!status) {
        status = same    ? stored_next(&src, dst.data, n, e)
                 : whole ? stored_ints(&src, type, dst, e)
                         : stored_floats(&src, type, dst, e);
    }
    free(src.span);
    return !status && at_once ? st_sums_check(s, dst.data, e) : status;
}
