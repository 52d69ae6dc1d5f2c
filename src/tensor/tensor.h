/* tensor: a view of numbers, never an owner. Contiguous, row-major, passed by value. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_TENSOR_H
#define ST_TENSOR_H

#include "base/base.h"

/* From ST_Q8_0 on: block formats, llama.cpp's byte for byte, in which 32 numbers of a row share a
 * scale (blocks.c). Rows are whole blocks. Packed: the same bytes in the order of packed.c, of
 * whole matrices in a device's memory. */
typedef enum {
    ST_F32,
    ST_BF16,
    ST_F16,
    ST_I32,
    ST_U16,
    ST_U8,
    ST_Q8_0,
    ST_Q4_0,
    ST_Q4_1,
    ST_Q8_0_PACKED,
    ST_Q4_0_PACKED,
    ST_Q4_1_PACKED
} st_dtype;

typedef struct {
    void *data; /* NULL: not there */
    int64_t dim[4];
    int ndim;
    st_dtype dtype;
} st_tensor;

size_t st_dtype_size(st_dtype t); /* bytes of a number; not of block formats */
/* Bytes of `n` numbers: whole blocks, where the format has them. */
size_t st_dtype_bytes(st_dtype t, int64_t n);
const char *st_dtype_name(st_dtype t);                /* "float32" "bfloat16" ... "Q8_0" */
bool st_dtype_parse(const char *name, st_dtype *out); /* also "f32" "bf16" "f16" "fp32" "q8" ... */

/* View of `ndim` dims over `data`. */
st_tensor st_view(void *data, st_dtype t, int ndim, const int64_t *dim);
static inline st_tensor st_view1(void *data, st_dtype t, int64_t n)
{
    return (st_tensor){.data = data, .dim = {n}, .ndim = 1, .dtype = t};
}
static inline st_tensor st_view2(void *data, st_dtype t, int64_t rows, int64_t cols)
{
    return (st_tensor){.data = data, .dim = {rows, cols}, .ndim = 2, .dtype = t};
}
int64_t st_numel(st_tensor t);
size_t st_bytes(st_tensor t);
/* The same numbers from element `offset` on, as `n` elements in one dim (a broken offset asserts,
 * and so does one inside a block). */
st_tensor st_slice(st_tensor t, int64_t offset, int64_t n);
/* Rows [first, first + rows) of a 2-D tensor. */
st_tensor st_rows(st_tensor t, int64_t first, int64_t rows);
/* Takes memory for a tensor; it is as st_arena_take left it (not zeroed after a rewind). */
st_tensor st_take(st_arena *a, st_dtype t, int ndim, const int64_t *dim);
st_tensor st_take1(st_arena *a, st_dtype t, int64_t n);
st_tensor st_take2(st_arena *a, st_dtype t, int64_t rows, int64_t cols);

/* ---- conversion: round to nearest even; NaN stays NaN, overflow becomes infinity ------------- */

static inline float st_bf16_to_f32(uint16_t h)
{
    union {
        uint32_t u;
        float f;
    } v = {.u = (uint32_t)h << 16};
    return v.f;
}

static inline uint16_t st_f32_to_bf16(float f)
{
    union {
        float f;
        uint32_t u;
    } v = {.f = f};
    if ((v.u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((v.u >> 16) | 0x40u);
    return (uint16_t)((v.u + 0x7fffu + ((v.u >> 16) & 1u)) >> 16);
}

float st_f16_to_f32(uint16_t h);
uint16_t st_f32_to_f16(float f);
/* dst[i] = src[i] over n host elements between any two of F32, BF16, F16 and the block formats, of
 * whole blocks. Into blocks (to the nearest, as their writers do) numbers must be finite. */
void st_convert(void *dst, st_dtype dt, const void *src, st_dtype st, int64_t n);

/* ---- numbers in blocks that share a scale (blocks.c) --------------------------------------------
 */

/* One of ggml's formats: `numbers` of a row stand in `bytes`. */
typedef struct {
    const char *name; /* "Q8_0", "Q4_K" */
    int numbers, bytes;
    void (*read)(const uint8_t *block, float *x);
    /* To the nearest; NULL where strut only reads the format. Numbers must be finite. */
    void (*write)(const float *x, uint8_t *block);
} st_blocks;
const st_blocks *st_blocks_find(const char *name); /* or NULL */
/* Those of a block format, packed or not (which `read` and `write` are not for); NULL: `t` is none.
 */
const st_blocks *st_dtype_blocks(st_dtype t);
/* The number nearest to x that the block, by its scale, can say. */
float st_blocks_round(st_dtype t, const uint8_t *block, float x);

/* ---- blocks packed for products (packed.c) ----------------------------------------------------
 */

st_dtype st_dtype_plain(st_dtype t); /* of a packed format the one it packs; others are their own */
st_dtype st_dtype_packed(st_dtype t); /* of a block format its packed one; others are their own */
/* dst = src, (rows, cols) of a block format, packed. */
void st_blocks_pack(void *dst, const void *src, st_dtype t, int64_t rows, int64_t cols);
/* x = numbers [from, from + n), multiples of 32, of a row of (rows, cols) in a block format, packed
 * or not. */
void st_blocks_read(const void *data, st_dtype t, int64_t rows, int64_t cols, int64_t row,
                    int64_t from, int64_t n, float *x);

#endif
