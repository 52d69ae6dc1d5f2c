/* Streams: opening them by device name, failures, tags, device memory. Every device so far computes
 * in host memory and in the calling thread's order, so copies are memcpy and nothing is queued. */
/* SPDX-License-Identifier: MIT */
#include "backend/stream.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const st_device *const devices[] = {&st_device_ref, &st_device_cpu};
enum { DEVICES = sizeof devices / sizeof *devices };

/* After a failure every operation is one of these, until st_stream_sync reports it. */
#define ST_OP(op, required)                                                                        \
    static void skip_##op(st_stream *q, const st_##op##_args *a)                                   \
    {                                                                                              \
        (void)q, (void)a;                                                                          \
    }
#include "backend/ops.def"
#undef ST_OP

static const st_ops skip_ops = {
    .name = "skip",
#define ST_OP(op, required) .op = skip_##op,
#include "backend/ops.def"
#undef ST_OP
};

static const char *open_missing(const st_ops *t)
{
#define ST_OP(op, required)                                                                        \
    if (required && !t->op) return #op;
#include "backend/ops.def"
#undef ST_OP
    return NULL;
}

static st_status open_device(st_stream *q, int threads, st_err *e)
{
    ST_TRY(q->device->open(q, threads, e));
    const char *op = open_missing(&q->table);
    if (op) ST_FAIL(e, ST_EUNSUPPORTED, "device %s: it has no operation %s", q->device->name, op);
    q->ops = q->table;
    return ST_OK;
}

st_status st_stream_open(st_stream **out, const char *device, int threads, st_err *e)
{
    *out = NULL;
    char names[64] = "";
    const st_device *found = NULL;
    for (int i = 0; i < DEVICES; i++) {
        if (strcmp(device, devices[i]->name) == 0) found = devices[i];
        size_t n = strlen(names);
        snprintf(names + n, sizeof names - n, "%s%s", i ? ", " : "", devices[i]->name);
    }
    if (!found) ST_FAIL(e, ST_EARG, "device: '%s' is not one of %s", device, names);
    if (threads < 0 || threads > 4096) {
        ST_FAIL(e, ST_EARG, "threads: %d is not between 0 (all) and 4096", threads);
    }
    st_stream *q = st_calloc(1, sizeof *q);
    if (!q) ST_FAIL(e, ST_ENOMEM, "device %s: out of memory", device);
    q->device = found;
    st_status status = open_device(q, threads, e);
    if (status) {
        st_stream_close(q);
        return status;
    }
    *out = q;
    return ST_OK;
}

st_status st_stream_dry(st_stream **out, const st_stream *like, st_err *e)
{
    *out = NULL;
    st_stream *q = st_calloc(1, sizeof *q);
    if (!q) ST_FAIL(e, ST_ENOMEM, "dry stream: out of memory");
    q->device = like->device;
    q->threads = like->threads;
    q->dry = true;
    memcpy(q->describe, like->describe, sizeof q->describe);
    q->table = st_dry_ops;
    q->table.name = like->table.name;
#define ST_OP(op, required)                                                                        \
    if (!like->table.op) q->table.op = NULL;
#include "backend/ops.def"
#undef ST_OP
    q->ops = q->table;
    *out = q;
    return ST_OK;
}

void st_stream_close(st_stream *q)
{
    if (!q) return;
    if (!q->dry && q->device->close) q->device->close(q);
    free(q);
}

const st_ops *st_stream_ops(const st_stream *q)
{
    return &q->ops;
}

const char *st_stream_device(const st_stream *q)
{
    return q->device->name;
}

const char *st_stream_describe(const st_stream *q)
{
    return q->describe;
}

int st_stream_threads(const st_stream *q)
{
    return q->threads;
}

st_cost st_stream_cost(const st_stream *q)
{
    return q->cost;
}

st_status st_stream_sync(st_stream *q, st_err *e)
{
    st_status status = q->failure.code;
    if (e && status) *e = q->failure;
    q->failure = (st_err){0};
    q->ops = q->table;
    return status;
}

void st_stream_latch(st_stream *q, st_status code, const char *op, const char *what)
{
    if (q->failure.code) return;
    st_fail(&q->failure, code, __FILE__, __LINE__, "%s%s%s: %s", q->tag ? q->tag : "",
            q->tag ? ": " : "", op, what);
    q->ops = skip_ops;
}

void st_stream_tag(st_stream *q, const char *tag)
{
    q->tag = tag;
}

st_status st_device_arena(st_stream *q, size_t bytes, st_arena *out, st_err *e)
{
    return q->dry ? st_arena_open_counting(out, e) : st_arena_open(out, bytes, e);
}

void st_device_arena_close(st_stream *q, st_arena *a)
{
    (void)q;
    st_arena_close(a);
}

void st_upload(st_stream *q, st_tensor dst, const void *src)
{
    if (!q->dry && !q->failure.code) memcpy(dst.data, src, st_bytes(dst));
}

void st_download(st_stream *q, void *dst, st_tensor src)
{
    if (!q->dry && !q->failure.code) memcpy(dst, src.data, st_bytes(src));
}
