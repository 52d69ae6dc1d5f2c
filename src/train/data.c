/* The data of a run: how many tokens a step reads, and the shards that they come from. */
/* SPDX-License-Identifier: MIT */
#include "train/inner.h"
#include <stdlib.h>
#include <string.h>

st_status st_data_sizes(st_data *d, const st_settings *set, int64_t longest, st_err *e)
{
    d->set = set;
    char place[256];
    int64_t per;
    d->rows = set->train.micro_batch;
    d->context = set->train.context == ST_UNSET ? longest : set->train.context;
    if (d->context > longest) {
        ST_FAIL(e, ST_EARG, "%s: found %lld, but the model has %lld positions",
                st_set_place(set, "train.context", place, sizeof place), (long long)d->context,
                (long long)longest);
    }
    per = d->rows * d->context; /* at most 2^44 by the ranges of both */
    int64_t want = set->train.tokens_per_step == ST_UNSET ? per : set->train.tokens_per_step;
    d->accumulate = want / per;
    if (want % per) {
        ST_FAIL(e, ST_EARG,
                "%s: found %lld, expected a multiple of micro_batch x context = %lld x %lld = %lld "
                "(the nearest is %lld)",
                st_set_place(set, "train.tokens_per_step", place, sizeof place), (long long)want,
                (long long)d->rows, (long long)d->context, (long long)per,
                (long long)((d->accumulate + (d->accumulate == 0 || want % per * 2 >= per)) * per));
    }
    return ST_OK;
}

/* DIR/test.bin, or test.npy if that is there and the first is not. */
static char *data_test_path(const char *dir)
{
    char *bin = st_path_join(dir, "test.bin"), *npy = st_path_join(dir, "test.npy");
    bool other = bin && npy && !st_path_exists(bin) && st_path_exists(npy);
    free(other ? bin : npy);
    return other ? npy : bin;
}

/* Where the tokens of `b` are; new memory. */
static st_status data_path(const st_data *d, const st_batch *b, const char *key, const char *given,
                           char **path, st_err *e)
{
    char place[256];
    if (!given && !d->set->data.dir) {
        ST_FAIL(e, ST_EARG,
                "%s: nothing to train on; say data=FOLDER (made by `strut prepare`) or %s",
                st_set_place(d->set, "data.dir", place, sizeof place), key);
    }
    *path = given           ? strdup(given)
            : b == &d->test ? data_test_path(d->set->data.dir)
                            : st_shard_path(d->set->data.dir, b == &d->val);
    if (!*path) return ST_NOMEM(e, key);
    return ST_OK;
}

static st_status data_shard(st_data *d, int64_t vocab, st_batch *b, const char *key,
                            const char *given, st_err *e)
{
    char place[256], *path;
    ST_TRY(data_path(d, b, key, given, &path, e));
    st_order order = (st_order)d->set->data.order;
    uint64_t seed = (uint64_t)d->set->seed;
    if (b == &d->test) order = ST_ORDER_SEQUENTIAL;
    if (b == &d->val) {
        order = d->set->eval.order ? ST_ORDER_RANDOM : ST_ORDER_SEQUENTIAL;
        seed++; /* of the windows it draws: not those of the training shard */
    }
    st_status s = st_batch_open(b, path, vocab, d->context, order, seed, e);
    free(path);
    if (s && e) st_err_prefix(e, "%s", st_set_place(d->set, key, place, sizeof place));
    return s;
}

st_status st_data_open(st_data *d, int64_t vocab, st_err *e)
{
    const st_settings *set = d->set;
    ST_TRY(data_shard(d, vocab, &d->train, "data.train", set->data.train, e));
    if (set->train.test == ST_UNSET ? set->data.test != NULL : set->train.test) {
        ST_TRY(data_shard(d, vocab, &d->test, "data.test", set->data.test, e));
        d->has_test = true;
    }
    if (set->eval.every == 0) return ST_OK;
    if (!set->data.val && !set->data.dir) {
        char place[256];
        ST_FAIL(e, ST_EARG, "%s: no validation shard; name one or set eval.every=0",
                st_set_place(set, "data.val", place, sizeof place));
    }
    ST_TRY(data_shard(d, vocab, &d->val, "data.val", set->data.val, e));
    d->has_val = true;
    return ST_OK;
}

st_status st_data_length(st_data *d, st_err *e)
{
    char *path, place[256];
    ST_TRY(data_path(d, &d->train, "data.train", d->set->data.train, &path, e));
    st_status s = st_shard_open(&d->train.shard, path, e);
    free(path);
    d->train.context = d->context;
    if (s && e) st_err_prefix(e, "%s", st_set_place(d->set, "data.train", place, sizeof place));
    return s;
}

void st_data_close(st_data *d)
{
    st_batch_close(&d->train);
    st_batch_close(&d->val);
    st_batch_close(&d->test);
}
