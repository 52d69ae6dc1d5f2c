/* Batches from a token shard: x = d[i .. i+T), y = d[i+1 .. i+T+1).
 *   random      i uniform in [0, N - T), with replacement (nanoGPT)
 *   shuffle     the floor((N-1)/T) windows i = jT, each once an epoch in an order of its own (fly)
 *   sequential  the same windows in order, again and again
 * Row number r of each order is a function of (seed, r) alone, so a cursor is one number: drawn. */
/* SPDX-License-Identifier: MIT */
#include "train/inner.h"

enum { BATCH_STREAM = 0xDA7A, BATCH_ROUNDS = 6, BATCH_WORDS = 16 };

st_status st_batch_open(st_batch *b, const char *path, int64_t vocab, int64_t context,
                        st_order order, uint64_t seed, st_err *e)
{
    *b = (st_batch){.context = context, .order = order, .seed = seed};
    ST_TRY(st_shard_open(&b->shard, path, e));
    st_status s = ST_OK;
    if (b->shard.n < context + 1) {
        s = ST_ERR(e, ST_EARG,
                   "%s: %lld tokens, expected at least train.context + 1 = %lld; prepare more text "
                   "or set a smaller train.context",
                   b->shard.part[0].path, (long long)b->shard.n, (long long)context + 1);
    }
    if (!s) s = st_shard_check(&b->shard, vocab, e);
    if (s) st_batch_close(b);
    return s;
}

void st_batch_close(st_batch *b)
{
    st_shard_close(&b->shard);
    *b = (st_batch){0};
}

int64_t st_batch_windows(const st_batch *b)
{
    return (b->shard.n - 1) / b->context;
}

/* Place of `i` in a permutation of [0, n) drawn by (seed, epoch): a Feistel network on the smallest
 * even number of bits that holds n, walked until it lands below n (Black & Rogaway 2002). No
 * memory, however many windows. */
static int64_t batch_permute(int64_t i, int64_t n, uint64_t seed, int64_t epoch)
{
    int half = 1;
    while (half < 31 && (int64_t)1 << 2 * half < n)
        half++;
    uint64_t mask = ((uint64_t)1 << half) - 1, x = (uint64_t)i;
    do {
        uint64_t l = x >> half, r = x & mask;
        for (uint64_t round = 0; round < BATCH_ROUNDS; round++) {
            st_philox_block f =
                st_philox(seed, BATCH_STREAM + ((uint64_t)epoch << 16), round << 32 | r);
            uint64_t swap = l ^ (f.v[0] & mask);
            l = r;
            r = swap;
        }
        x = l << half | r;
    } while (x >= (uint64_t)n);
    return (int64_t)x;
}

int64_t st_batch_start(const st_batch *b, int64_t row)
{
    if (b->order == ST_ORDER_RANDOM) {
        st_rng r = {b->seed, BATCH_STREAM, (uint64_t)row * BATCH_WORDS};
        return (int64_t)st_rng_below(&r, (uint64_t)(b->shard.n - b->context));
    }
    int64_t n = st_batch_windows(b), epoch = row / n, i = row % n;
    if (b->order == ST_ORDER_SHUFFLE) i = batch_permute(i, n, b->seed, epoch);
    return i * b->context;
}

static void batch_row(const st_batch *b, int64_t start, int32_t *ids, int32_t *targets)
{
    st_shard_read(&b->shard, start, b->context, ids);
    st_shard_read(&b->shard, start + 1, b->context, targets);
}

void st_batch_next(st_batch *b, int64_t rows, int32_t *ids, int32_t *targets)
{
    for (int64_t r = 0; r < rows; r++) {
        int64_t at = r * b->context;
        batch_row(b, st_batch_start(b, b->drawn++), ids + at, targets + at);
    }
}

void st_batch_spread(const st_batch *b, int64_t first, int64_t rows, int64_t total, int32_t *ids,
                     int32_t *targets)
{
    int64_t windows = st_batch_windows(b);
    for (int64_t r = 0; r < rows; r++) {
        int64_t at = r * b->context, i = first + r;
        /* i * windows / total in double: windows < 2^40, rounding moves a window by one at most. */
        int64_t w = total == windows ? i : (int64_t)((double)i * (double)windows / (double)total);
        batch_row(b, (i < total && w < windows ? w : 0) * b->context, ids + at, targets + at);
        for (int64_t t = 0; i >= total && t < b->context; t++)
            targets[at + t] = -1;
    }
}
