/* Epochs: with W windows in the training shard and R rows in a full step, an epoch is
 *   wrap          W rows, wherever the steps' borders are
 *   drop          floor(W / R) steps; the W mod R rows left are not used in it
 *   short, micro  ceil(W / R) steps, the last of them of W mod R rows if that is not 0
 * The cursor (rows drawn or left out) says where a run is in its epoch. */
/* SPDX-License-Identifier: MIT */
#include "train/inner.h"
#include <math.h>

int64_t st_epoch_step(const st_data *d)
{
    return d->rows * d->accumulate;
}

st_status st_epoch_open(st_data *d, st_pace *p, st_err *e)
{
    const st_settings *set = d->set;
    static const char *const order[] = {"random", "shuffle", "sequential"};
    int64_t windows = st_batch_windows(&d->train), step = st_epoch_step(d);
    bool drop = set->data.last == ST_LAST_DROP;
    char place[256];
    if (set->data.last != ST_LAST_WRAP && set->data.order == ST_ORDER_RANDOM) {
        ST_FAIL(e, ST_EARG,
                "%s: windows in data.order=%s make no epochs that could end; expected wrap, or "
                "data.order=shuffle or sequential",
                st_set_place(set, "data.last", place, sizeof place), order[set->data.order]);
    }
    if (drop && windows < step) {
        ST_FAIL(e, ST_EARG,
                "%s: found drop, but a step of %lld rows is more than the shard's %lld windows",
                st_set_place(set, "data.last", place, sizeof place), (long long)step,
                (long long)windows);
    }
    d->per_epoch = drop ? windows / step : (windows + step - 1) / step;
    double per =
        set->data.last == ST_LAST_WRAP ? (double)windows / (double)step : (double)d->per_epoch;
    bool steps = set->train.steps != ST_UNSET, epochs = !isnan(set->train.epochs);
    double most = epochs ? ceil(set->train.epochs * per - 1e-9) : 1000.0;
    if (most > 1e12) {
        ST_FAIL(e, ST_EARG, "%s: %g epochs are %.3g steps; expected at most 1e12",
                st_set_place(set, "train.epochs", place, sizeof place), set->train.epochs, most);
    }
    p->steps = steps ? set->train.steps : (int64_t)most;
    if (epochs && (double)p->steps > most) p->steps = (int64_t)most;
    p->warmup = isnan(set->train.warmup_epochs)
                    ? set->train.warmup
                    : (int64_t)fmin(floor(set->train.warmup_epochs * per + 0.5), 1e12);
    p->decay_steps = set->train.decay_steps == ST_UNSET ? p->steps : set->train.decay_steps;
    return ST_OK;
}

int64_t st_epoch_rows(st_data *d)
{
    int64_t windows = st_batch_windows(&d->train), step = st_epoch_step(d);
    int64_t left = windows - d->train.drawn % windows;
    if (d->set->data.last == ST_LAST_WRAP || left >= step) return step;
    if (d->set->data.last != ST_LAST_DROP) return left;
    d->train.drawn += left;
    return step;
}

int64_t st_epoch_unit(const st_data *d)
{
    int64_t unit = d->set->data.micro == ST_UNSET ? d->rows : d->set->data.micro;
    bool all = d->set->data.last != ST_LAST_MICRO || unit > st_epoch_step(d);
    return all ? st_epoch_step(d) : unit;
}

double st_epoch_done(const st_data *d)
{
    int64_t windows = st_batch_windows(&d->train), drawn = d->train.drawn;
    int64_t in = drawn % windows;
    /* What is left out of an epoch is over with its last step. */
    if (d->set->data.last == ST_LAST_DROP && windows - in < st_epoch_step(d)) in = windows;
    return (double)(drawn / windows) + (double)in / (double)windows;
}

int64_t st_epoch_tokens(const st_data *d, int64_t steps)
{
    bool all = d->set->data.last != ST_LAST_DROP; /* the cursor counts nothing that is left out */
    return (all ? d->train.drawn : steps * st_epoch_step(d)) * d->context;
}
