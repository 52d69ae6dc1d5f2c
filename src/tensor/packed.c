/* Weights in blocks, packed for products that take 16 rows at a time: of every 16 rows block b
 * stands together, first their 16 scales (and least numbers), then their bytes interleaved by
 * fours, so that a vector holds the same four numbers of k for 16 rows, and a tile instruction
 * reads it as it is. The same bytes in another order; rows beyond the last whole 16 stay as they
 * are. */
/* SPDX-License-Identifier: MIT */
#include "tensor/tensor.h"
#include <assert.h>
#include <string.h>

enum { GROUP = 16 };

st_dtype st_dtype_plain(st_dtype t)
{
    return t >= ST_Q8_0_PACKED ? (st_dtype)(t - ST_Q8_0_PACKED + ST_Q8_0) : t;
}

st_dtype st_dtype_packed(st_dtype t)
{
    return t >= ST_Q8_0 && t < ST_Q8_0_PACKED ? (st_dtype)(t - ST_Q8_0 + ST_Q8_0_PACKED) : t;
}

/* Bytes of a block before its numbers, and all of them. */
typedef struct {
    int64_t head, all;
} packed_shape;

static packed_shape packed_shape_of(st_dtype t)
{
    return (packed_shape){st_dtype_plain(t) == ST_Q4_1 ? 4 : 2, (int64_t)st_dtype_bytes(t, 32)};
}

/* Where byte i of row r's block is within the group's: halves by kind, words by their place. */
static int64_t packed_at(packed_shape s, int64_t r, int64_t i)
{
    if (i < s.head) return i * GROUP + 2 * r;
    return i * GROUP + 4 * r;
}

static int64_t packed_piece(packed_shape s, int64_t i)
{
    return i < s.head ? 2 : 4;
}

void st_blocks_pack(void *dst, const void *src, st_dtype t, int64_t rows, int64_t cols)
{
    packed_shape s = packed_shape_of(t);
    int64_t bytes = (int64_t)st_dtype_bytes(t, cols), whole = rows / GROUP * GROUP;
    uint8_t *to = dst;
    const uint8_t *from = src;
    for (int64_t r = 0; r < whole; r++) {
        uint8_t *group = to + r / GROUP * GROUP * bytes;
        for (int64_t b = 0; b < bytes / s.all; b++, group += s.all * GROUP) {
            const uint8_t *block = from + r * bytes + b * s.all;
            for (int64_t i = 0, n; i < s.all; i += n) {
                n = packed_piece(s, i);
                memcpy(group + packed_at(s, r % GROUP, i), block + i, (size_t)n);
            }
        }
    }
    memcpy(to + whole * bytes, from + whole * bytes, (size_t)((rows - whole) * bytes));
}

void st_blocks_read(const void *data, st_dtype t, int64_t rows, int64_t cols, int64_t row,
                    int64_t from, int64_t n, float *x)
{
    assert(from % 32 == 0 && n % 32 == 0 && row < rows && from + n <= cols);
    packed_shape s = packed_shape_of(t);
    st_dtype plain = st_dtype_plain(t);
    int64_t bytes = (int64_t)st_dtype_bytes(t, cols), first = row / GROUP * GROUP;
    const uint8_t *at = data;
    if (plain == t || first + GROUP > rows) {
        st_convert(x, ST_F32, at + row * bytes + from / 32 * s.all, plain, n);
        return;
    }
    for (int64_t b = from / 32; b < (from + n) / 32; b++, x += 32) {
        const uint8_t *group = at + first * bytes + b * s.all * GROUP;
        uint8_t block[32 * sizeof(float)];
        for (int64_t i = 0, k; i < s.all; i += k) {
            k = packed_piece(s, i);
            memcpy(block + i, group + packed_at(s, row - first, i), (size_t)k);
        }
        st_convert(x, ST_F32, block, plain, 32);
    }
}
