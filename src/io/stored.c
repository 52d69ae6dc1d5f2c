/* Reading one tensor of a container into host memory, converted and in C order. */
/* SPDX-License-Identifier: MIT */
#include "io/weights.h"
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    st_dtype dtype;
} stored_dtypes[] = {{"F32", ST_F32}, {"BF16", ST_BF16}, {"F16", ST_F16},
                     {"I32", ST_I32}, {"U16", ST_U16},   {"U8", ST_U8}};

/* F64 or a float of st_dtype to another float, through a buffer. */
static st_status stored_convert(const st_stored *s, bool wide, st_dtype from, st_tensor dst,
                                st_err *e)
{
    enum { CHUNK = 4096 };
    union {
        double d[CHUNK];
        float f[CHUNK];
        uint16_t h[CHUNK];
    } buffer;
    float narrow[CHUNK];
    size_t size = wide ? sizeof(double) : st_dtype_size(from), to = st_dtype_size(dst.dtype);
    int64_t n = st_numel(dst), at = s->offset;
    for (int64_t i = 0; i < n; i += CHUNK) {
        int64_t some = n - i < CHUNK ? n - i : CHUNK;
        ST_TRY(st_weights_pread(s->file, &buffer, (size_t)some * size, at + i * (int64_t)size, e));
        void *out = (char *)dst.data + (size_t)i * to;
        if (wide) {
            for (int64_t j = 0; j < some; j++)
                narrow[j] = (float)buffer.d[j];
            st_convert(out, dst.dtype, narrow, ST_F32, some);
        } else {
            st_convert(out, dst.dtype, &buffer, from, some);
        }
    }
    return ST_OK;
}

st_status st_stored_read(const st_stored *s, st_tensor dst, st_err *e)
{
    int64_t n = 1;
    for (int i = 0; i < s->ndim; i++)
        n *= s->dim[i]; /* checked at open */
    if (n != st_numel(dst)) {
        ST_FAIL(e, ST_ESHAPE, "%s: tensor %.100s has %lld elements, expected %lld", s->file->path,
                s->name, (long long)n, (long long)st_numel(dst));
    }
    bool wide = strcmp(s->dtype, "F64") == 0, known = wide;
    st_dtype from = ST_F32;
    for (size_t i = 0; i < sizeof stored_dtypes / sizeof *stored_dtypes; i++) {
        if (strcmp(s->dtype, stored_dtypes[i].name)) continue;
        from = stored_dtypes[i].dtype;
        known = true;
    }
    if (known && !wide && from == dst.dtype) {
        return st_weights_pread(s->file, dst.data, s->bytes, s->offset, e);
    }
    if (!known || from > ST_F16 || dst.dtype > ST_F16) {
        ST_FAIL(e, ST_EFORMAT, "%s: tensor %.100s is stored as %s, which cannot be read as %s",
                s->file->path, s->name, s->dtype, st_dtype_name(dst.dtype));
    }
    return stored_convert(s, wide, from, dst, e);
}
