/* Shapes and views. */
/* SPDX-License-Identifier: MIT */
#include "tensor/tensor.h"
#include <assert.h>
#include <string.h>

static const struct {
    const char *name;
    const char *alias[3];
    size_t size;
} dtypes[] = {
    [ST_F32] = {"float32", {"f32", "fp32", "float"}, 4},
    [ST_BF16] = {"bfloat16", {"bf16"}, 2},
    [ST_F16] = {"float16", {"f16", "fp16", "half"}, 2},
    [ST_I32] = {"int32", {"i32"}, 4},
    [ST_U16] = {"uint16", {"u16"}, 2},
    [ST_U8] = {"uint8", {"u8"}, 1},
    [ST_Q8_0] = {"Q8_0", {"q8_0", "q8"}, 0},
    [ST_Q4_0] = {"Q4_0", {"q4_0", "q4"}, 0},
    [ST_Q4_1] = {"Q4_1", {"q4_1"}, 0},
};

size_t st_dtype_size(st_dtype t)
{
    assert(t < ST_Q8_0);
    return dtypes[t].size;
}

size_t st_dtype_bytes(st_dtype t, int64_t n)
{
    const st_blocks *b = st_dtype_blocks(t);
    if (!b) return (size_t)n * dtypes[t].size;
    assert(n % b->numbers == 0);
    return (size_t)(n / b->numbers) * (size_t)b->bytes;
}

const char *st_dtype_name(st_dtype t)
{
    return dtypes[st_dtype_plain(t)].name;
}

bool st_dtype_parse(const char *name, st_dtype *out)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        bool same = strcmp(name, dtypes[i].name) == 0;
        for (int j = 0; j < 3 && !same; j++) {
            same = dtypes[i].alias[j] && strcmp(name, dtypes[i].alias[j]) == 0;
        }
        if (!same) continue;
        *out = (st_dtype)i;
        return true;
    }
    return false;
}

st_tensor st_view(void *data, st_dtype t, int ndim, const int64_t *dim)
{
    assert(ndim >= 0 && ndim <= 4);
    st_tensor v = {.data = data, .ndim = ndim, .dtype = t};
    for (int i = 0; i < ndim; i++)
        v.dim[i] = dim[i];
    return v;
}

int64_t st_numel(st_tensor t)
{
    int64_t n = 1;
    for (int i = 0; i < t.ndim; i++)
        n *= t.dim[i];
    return n;
}

size_t st_bytes(st_tensor t)
{
    return st_dtype_bytes(t.dtype, st_numel(t));
}

st_tensor st_slice(st_tensor t, int64_t offset, int64_t n)
{
    assert(offset >= 0 && n >= 0 && offset + n <= st_numel(t));
    return st_view1((char *)t.data + st_dtype_bytes(t.dtype, offset), t.dtype, n);
}

st_tensor st_rows(st_tensor t, int64_t first, int64_t rows)
{
    assert(t.ndim == 2 && first >= 0 && rows >= 0 && first + rows <= t.dim[0]);
    size_t skip = st_dtype_bytes(t.dtype, first * t.dim[1]);
    return st_view2((char *)t.data + skip, t.dtype, rows, t.dim[1]);
}

st_tensor st_take(st_arena *a, st_dtype t, int ndim, const int64_t *dim)
{
    st_tensor v = st_view(NULL, t, ndim, dim);
    v.data = st_arena_take(a, st_bytes(v));
    return v;
}

st_tensor st_take1(st_arena *a, st_dtype t, int64_t n)
{
    return st_take(a, t, 1, &n);
}

st_tensor st_take2(st_arena *a, st_dtype t, int64_t rows, int64_t cols)
{
    return st_take(a, t, 2, (int64_t[]){rows, cols});
}
