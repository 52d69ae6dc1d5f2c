/* numpy's default_rng(seed).permutation(n), so that data that others split with it is split alike:
 *   SeedSequence   the seed's words, mixed into a pool of four by multiplying hashes (O'Neill's
 *                  seed_seq_fe), drawn from into 256 bits of state
 *   PCG64          a 128-bit linear congruential generator, xor-shifted low and rotated (O'Neill
 *                  2014); 32-bit numbers are halves of its outputs, the low one first
 *   shuffle        Fisher and Yates from the end; numbers in [0, i] by Lemire's multiplication
 * (2019) doc: https://numpy.org/doc/stable/reference/random/; the fixtures are numpy's. */
/* SPDX-License-Identifier: MIT */
#include "data/prepare.h"

enum { POOL = 4 };

/* ---- SeedSequence ---------------------------------------------------------------------------- */

static uint32_t numpy_hash(uint32_t v, uint32_t *key)
{
    v ^= *key;
    *key *= 0x931e8875u;
    v *= *key;
    return v ^ v >> 16;
}

static uint32_t numpy_mix(uint32_t x, uint32_t y)
{
    uint32_t v = 0xca01f9ddu * x - 0x4973f715u * y;
    return v ^ v >> 16;
}

static void numpy_seed(uint64_t seed, uint64_t state[4])
{
    uint32_t pool[POOL], key = 0x43b0d7e5u;
    uint32_t word[POOL] = {(uint32_t)seed, (uint32_t)(seed >> 32)}; /* missing ones are 0 */
    for (int i = 0; i < POOL; i++)
        pool[i] = numpy_hash(word[i], &key);
    for (int from = 0; from < POOL; from++) {
        for (int to = 0; to < POOL; to++)
            if (from != to) pool[to] = numpy_mix(pool[to], numpy_hash(pool[from], &key));
    }
    uint32_t out[8];
    key = 0x8b51f9ddu;
    for (int i = 0; i < 8; i++) {
        uint32_t v = pool[i % POOL] ^ key;
        key *= 0x58f38dedu;
        v *= key;
        out[i] = v ^ v >> 16;
    }
    for (int i = 0; i < 4; i++)
        state[i] = out[2 * i] | (uint64_t)out[2 * i + 1] << 32;
}

/* ---- PCG64: 128 bits in two words, for compilers with and without a type of that size -------- */

typedef struct {
    uint64_t hi, lo;
} numpy_u128;

typedef struct {
    numpy_u128 state, step;
    uint32_t kept; /* the upper half of the last output, */
    bool has;      /* if it was not used yet */
} numpy_pcg;

static numpy_u128 numpy_add(numpy_u128 a, numpy_u128 b)
{
    uint64_t lo = a.lo + b.lo;
    return (numpy_u128){a.hi + b.hi + (lo < a.lo), lo};
}

/* The upper 64 bits of a product. */
static uint64_t numpy_high(uint64_t a, uint64_t b)
{
    uint64_t a0 = (uint32_t)a, a1 = a >> 32, b0 = (uint32_t)b, b1 = b >> 32;
    uint64_t mid = a1 * b0 + (a0 * b0 >> 32), low = a0 * b1 + (uint32_t)mid;
    return a1 * b1 + (mid >> 32) + (low >> 32);
}

static void numpy_advance(numpy_pcg *r)
{
    const numpy_u128 m = {0x2360ED051FC65DA4u, 0x4385DF649FCCF645u};
    numpy_u128 s = r->state, product = {.lo = s.lo * m.lo};
    product.hi = numpy_high(s.lo, m.lo) + s.hi * m.lo + s.lo * m.hi;
    r->state = numpy_add(product, r->step);
}

static uint32_t numpy_u32(numpy_pcg *r)
{
    if (r->has) {
        r->has = false;
        return r->kept;
    }
    numpy_advance(r);
    uint64_t v = r->state.hi ^ r->state.lo;
    int turn = (int)(r->state.hi >> 58);
    v = v >> turn | v << (-turn & 63);
    r->kept = (uint32_t)(v >> 32);
    r->has = true;
    return (uint32_t)v;
}

static numpy_pcg numpy_default_rng(uint64_t seed)
{
    uint64_t s[4];
    numpy_seed(seed, s);
    numpy_pcg r = {.step = {s[2] << 1 | s[3] >> 63, s[3] << 1 | 1}};
    numpy_advance(&r);
    r.state = numpy_add(r.state, (numpy_u128){s[0], s[1]});
    numpy_advance(&r);
    return r;
}

/* A number in [0, most]: as many bits as that has, until they are not more. */
static uint32_t numpy_below(numpy_pcg *r, uint32_t most)
{
    uint32_t mask = most, v;
    for (int shift = 1; shift < 32; shift *= 2)
        mask |= mask >> shift;
    do {
        v = numpy_u32(r) & mask;
    } while (v > most);
    return v;
}

void st_numpy_permutation(uint64_t seed, uint32_t *out, int64_t n)
{
    numpy_pcg r = numpy_default_rng(seed);
    for (int64_t i = 0; i < n; i++)
        out[i] = (uint32_t)i;
    for (int64_t i = n - 1; i > 0; i--) {
        uint32_t j = numpy_below(&r, (uint32_t)i), swap = out[i];
        out[i] = out[j];
        out[j] = swap;
    }
}
