/* Cursors and distributions over Philox4x32-10 blocks. */
/* SPDX-License-Identifier: MIT */
#include "base/base.h"
#include <math.h>

uint32_t st_rng_u32(st_rng *r)
{
    st_philox_block b = st_philox(r->seed, r->stream, r->pos / 4);
    return b.v[r->pos++ % 4];
}

uint64_t st_rng_u64(st_rng *r)
{
    uint64_t lo = st_rng_u32(r);
    return lo | (uint64_t)st_rng_u32(r) << 32;
}

double st_rng_uniform(st_rng *r)
{
    return (double)(st_rng_u64(r) >> 11) * 0x1p-53;
}

uint64_t st_rng_below(st_rng *r, uint64_t limit)
{
    /* Rejection: 2^64 mod limit values at the bottom would make small results more likely. */
    uint64_t reject = (0 - limit) % limit, v;
    do
        v = st_rng_u64(r);
    while (v < reject);
    return v % limit;
}

void st_normal_fill(float *out, int64_t n, float mean, float std, uint64_t seed, uint64_t stream)
{
    const double tau = 6.283185307179586;
    for (int64_t i = 0; i < n; i += 4) {
        st_philox_block b = st_philox(seed, stream, (uint64_t)i / 4);
        for (int64_t j = 0; j < 4 && i + j < n; j += 2) {
            double u = ((double)b.v[j] + 0.5) * 0x1p-32, w = ((double)b.v[j + 1] + 0.5) * 0x1p-32;
            double radius = sqrt(-2.0 * log(u));
            out[i + j] = mean + std * (float)(radius * cos(tau * w));
            if (i + j + 1 < n) out[i + j + 1] = mean + std * (float)(radius * sin(tau * w));
        }
    }
}

void st_uniform_fill(float *out, int64_t n, float bound, uint64_t seed, uint64_t stream)
{
    for (int64_t i = 0; i < n; i += 4) {
        st_philox_block b = st_philox(seed, stream, (uint64_t)i / 4);
        for (int64_t j = 0; j < 4 && i + j < n; j++) {
            double u = ((double)b.v[j] + 0.5) * 0x1p-31 - 1.0;
            out[i + j] = (float)((double)bound * u);
        }
    }
}

uint64_t st_hash_name(const char *name)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 0x100000001b3u;
    return h;
}
