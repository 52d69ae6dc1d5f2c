/* A micro-batch: tokens go to the device, losses come back. Nothing else crosses between host and
 * device in a step, but for the norm of its gradients, and what log.norms asks for. */
/* SPDX-License-Identifier: MIT */
#include "train/inner.h"
#include <stdlib.h>

st_status st_micro_open(st_micro *b, st_stream *q, int64_t rows, int64_t context, st_err *e)
{
    int64_t n = rows * context;
    if (n > INT32_MAX) {
        ST_FAIL(e, ST_EARG,
                "train.micro_batch x context = %lld tokens at once; expected at most %d",
                (long long)n, INT32_MAX);
    }
    b->context = context;
    ST_TRY(st_device_arena(q, (size_t)n * 12 + 8 * ST_ALIGN, &b->block, e));
    b->ids = st_take2(&b->block, ST_I32, rows, context);
    b->targets = st_take2(&b->block, ST_I32, rows, context);
    b->loss = st_take1(&b->block, ST_F32, n);
    b->norm = st_take1(&b->block, ST_F32, 1);
    b->host_ids = st_calloc(n, sizeof *b->host_ids);
    b->host_targets = st_calloc(n, sizeof *b->host_targets);
    b->host_loss = st_calloc(n, sizeof *b->host_loss);
    if (!b->host_ids || !b->host_targets || !b->host_loss)
        ST_FAIL(e, ST_ENOMEM, "trainer: out of memory for a micro-batch of %lld tokens",
                (long long)n);
    return ST_OK;
}

void st_micro_close(st_micro *b, st_stream *q)
{
    if (q) st_device_arena_close(q, &b->block);
    free(b->host_ids);
    free(b->host_targets);
    free(b->host_loss);
    *b = (st_micro){0};
}

st_lm_args st_micro_args(const st_micro *b, int64_t rows)
{
    return (st_lm_args){.batch = rows,
                        .len = b->context,
                        .ids = st_rows(b->ids, 0, rows),
                        .targets = st_rows(b->targets, 0, rows),
                        .loss = st_slice(b->loss, 0, rows * b->context)};
}

st_lm_args st_micro_upload(st_micro *b, st_stream *q, int64_t rows)
{
    st_lm_args a = st_micro_args(b, rows);
    st_upload(q, a.ids, b->host_ids);
    st_upload(q, a.targets, b->host_targets);
    return a;
}

double st_micro_sum(st_micro *b, st_stream *q, st_tensor x, int64_t rows)
{
    double sum = 0;
    int64_t n = rows * b->context;
    st_download(q, b->host_loss, st_slice(x, 0, n));
    for (int64_t i = 0; i < n; i++)
        sum += (double)b->host_loss[i];
    return sum;
}

double st_micro_norm(st_micro *b, st_stream *q)
{
    float x = 0;
    st_download(q, &x, b->norm);
    return (double)x;
}
