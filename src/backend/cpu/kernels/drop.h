/* Which elements dropout keeps (ops.h: ST_KEEP), many at a time. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_DROP_H
#define ST_DROP_H

#include "backend/cpu/kernels/lanes.h"

enum { DROP_BLOCKS = 32 }; /* Philox blocks at a time: 4 numbers each */

/* Words of Philox blocks first .. first + DROP_BLOCKS - 1 of stream (seed, 0), as st_philox. The
 * rounds are unrolled so that the loop over blocks becomes vectors. */
static void drop_words(uint32_t w[4][DROP_BLOCKS], uint64_t seed, uint64_t first)
{
    const uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    const uint32_t low = (uint32_t)first, high = (uint32_t)(first >> 32);
#pragma omp simd
    for (uint32_t i = 0; i < DROP_BLOCKS; i++) {
        uint32_t c0 = low + i, c1 = high + (c0 < low), c2 = 0, c3 = 0;
#pragma GCC unroll 10
        for (uint32_t round = 0; round < 10; round++) {
            uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
            uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ (k0 + round * 0x9E3779B9u);
            uint32_t n2 = (uint32_t)(p0 >> 32) ^ c3 ^ (k1 + round * 0xBB67AE85u);
            c1 = (uint32_t)p1;
            c3 = (uint32_t)p0;
            c0 = n0;
            c2 = n2;
        }
        w[0][i] = c0;
        w[1][i] = c1;
        w[2][i] = c2;
        w[3][i] = c3;
    }
}

/* mask[i] = 0 or 1/(1 - drop) for numbers first .. first + n - 1 of the stream. */
static void drop_mask(float *mask, uint64_t seed, int64_t first, int64_t n, float drop)
{
    uint32_t below = st_drop_below(drop), w[4][DROP_BLOCKS];
    float keep = (float)(1.0 / (1.0 - (double)drop)), chosen[4 * DROP_BLOCKS];
    for (int64_t at = first / 4 * 4; at < first + n; at += 4 * DROP_BLOCKS) {
        drop_words(w, seed, (uint64_t)at / 4);
        for (int i = 0; i < DROP_BLOCKS; i++) {
            chosen[4 * i] = w[0][i] >= below ? keep : 0.0f;
            chosen[4 * i + 1] = w[1][i] >= below ? keep : 0.0f;
            chosen[4 * i + 2] = w[2][i] >= below ? keep : 0.0f;
            chosen[4 * i + 3] = w[3][i] >= below ? keep : 0.0f;
        }
        int64_t lo = at < first ? first - at : 0, hi = at_most(first + n - at, 4 * DROP_BLOCKS);
        memcpy(mask + (at + lo - first), chosen + lo, (size_t)(hi - lo) * sizeof *mask);
    }
}

#endif
