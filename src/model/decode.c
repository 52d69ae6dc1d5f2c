/* Decoding: one token more of each batch item, step after step. All operands of a step are where
 * they were in the one before, and what changes (the tokens, their position) is data of the device,
 * so that a device that keeps recordings runs a step with one call. */
/* SPDX-License-Identifier: MIT */
#include "model/inner.h"
#include <string.h>

void st_decode_start(st_decode *d, st_model *m, st_stream *q, const st_lm_args *a, st_arena *mem)
{
    *d = (st_decode){.m = m, .q = q, .a = *a};
    d->next = st_take1(mem, ST_I32, a->batch + 1);
    d->a.len = 1;
    d->a.ids = st_slice(d->next, 0, a->batch);
}

void st_decode_end(st_decode *d)
{
    st_recording_close(d->q, d->recording);
    *d = (st_decode){0};
}

/* Does the device tell a step its position, so that the next one can repeat it? */
static bool decode_in_place(const st_decode *d)
{
    return d->m->lm->in_place && st_stream_ops(d->q)->attend_next;
}

static void decode_queue(st_decode *d, st_arena *tmp)
{
    st_kv *kv = d->a.kv;
    if (decode_in_place(d)) kv->at = st_slice(d->next, d->a.batch, 1);
    st_model_forward(d->m, d->q, &d->a, tmp);
    kv->at = (st_tensor){0};
    kv->used--;
}

void st_decode_step(st_decode *d, const int32_t *ids, st_arena *tmp)
{
    int32_t next[ST_DECODE_BATCH + 1];
    bool tapped = d->m->tap.fn != NULL;
    memcpy(next, ids, (size_t)d->a.batch * sizeof *ids);
    next[d->a.batch] = (int32_t)d->a.kv->used;
    st_upload(d->q, d->next, next);
    if (d->taken == 1 && !tapped && decode_in_place(d) && st_stream_record(d->q)) {
        decode_queue(d, tmp);
        d->recording = st_stream_recorded(d->q);
    }
    if (d->recording && !tapped)
        st_stream_play(d->q, d->recording);
    else
        decode_queue(d, tmp);
    d->taken++;
    d->a.kv->used++;
}
