/* Few rows times stored tiles, each of which is read once. Threads share the outputs. */
/* SPDX-License-Identifier: MIT */
#include "backend/cpu/kernels/lanes.h"

/* sum of w[j] x[j], j < n, on top of *acc, which is summed at the end, and of what is returned. */
static inline float tiles_dot(const st_tensor *w, int64_t at, const st_tensor *x, int64_t from,
                              int64_t n, vec *acc)
{
    int64_t j = 0;
    float tail = 0;
    for (; j + LANES <= n; j += LANES)
        *acc += vec_read(w->data, w->dtype, at + j) * vec_read(x->data, x->dtype, from + j);
    for (; j < n; j++)
        tail += scalar_in(w, at + j) * scalar_in(x, from + j);
    return tail;
}

void KERNEL(tiles)(st_stream *q, const st_tiles_args *a)
{
    int64_t block = a->block;
    int parts = st_parts(q, a->rows * a->outs * a->wide * block);
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t at = 0; at < a->rows * a->outs; at++) {
        int64_t r = at / a->outs, y = at % a->outs;
        int64_t tile = (y / block * a->wide * block + y % block) * block;
        vec acc = vec_set(0);
        float sum = a->bias.data ? scalar_in(&a->bias, y) : 0.0f;
        for (int64_t u = 0; u < a->runs; u++) {
            for (int64_t t = a->first[u]; t < a->first[u] + a->count[u]; t++) {
                int64_t n = at_most(block, a->cols - t * block);
                sum += tiles_dot(&a->tiles, tile, &a->x, r * a->cols + t * block, n, &acc);
                tile += block * block;
            }
        }
        float out[1], *to = block_out(&a->y, r * a->ldy + y, out);
        *to = sum + vec_sum(acc);
        block_done(&a->y, r * a->ldy + y, 1, to);
    }
}
