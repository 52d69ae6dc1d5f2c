/* Streams: opening them by device name, failures, tags, device memory. */
/* SPDX-License-Identifier: MIT */
#include "backend/stream.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In the order in which "auto" looks for one. The last is for tests, and no list names it. */
static const st_device *const devices[] = {&st_device_cuda, &st_device_cpu, &st_device_ref,
                                           &st_device_guard};
enum { DEVICES = sizeof devices / sizeof *devices };

const char *const *st_device_names(void)
{
    static const char *const names[] = {"auto", "cuda", "cpu", "ref", NULL};
    return names;
}

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
    st_stream_serve(q);
    return ST_OK;
}

void st_stream_serve(st_stream *q)
{
    q->ops = q->table;
    if (!q->profile) return;
#define ST_OP(op, required)                                                                        \
    if (q->table.op) q->ops.op = st_profile_ops()->op;
#include "backend/ops.def"
#undef ST_OP
}

/* The row that `name` means, and which device of its kind. NULL: none. */
static const st_device *open_find(const char *name, int *index)
{
    *index = 0;
    for (int i = 0; i < DEVICES; i++) {
        const st_device *d = devices[i];
        size_t n = strlen(d->name);
        int64_t number;
        if (strcmp(name, "auto") == 0 && d->there && d->there()) return d;
        if (strncmp(name, d->name, n) != 0) continue;
        if (!name[n]) return d;
        if (!d->numbered || name[n] != ':' || !st_parse_int(name + n + 1, &number)) continue;
        if (number < 0 || number > 1023) continue;
        *index = (int)number;
        return d;
    }
    return NULL;
}

st_status st_device_check(const char *name, st_err *e)
{
    char names[64] = "";
    int index;
    if (open_find(name, &index)) return ST_OK;
    for (const char *const *p = st_device_names(); *p; p++) {
        size_t n = strlen(names);
        snprintf(names + n, sizeof names - n, "%s%s", n ? ", " : "", *p);
    }
    ST_FAIL(e, ST_EARG, "device: '%s' is not one of %s", name, names);
}

st_status st_stream_open(st_stream **out, const char *device, int threads, st_err *e)
{
    *out = NULL;
    int index;
    device = device ? device : "auto";
    const st_device *found = open_find(device, &index);
    if (!found) return st_device_check(device, e);
    if (threads < 0 || threads > 4096) {
        ST_FAIL(e, ST_EARG, "threads: %d is not between 0 (all) and 4096", threads);
    }
    st_stream *q = st_calloc(1, sizeof *q);
    if (!q) ST_FAIL(e, ST_ENOMEM, "device %s: out of memory", device);
    q->device = st_guard_over(found);
    q->index = index;
    st_status status = open_device(q, threads, e);
    if (status) {
        st_stream_close(q);
        return status;
    }
    if (strcmp(device, "auto") == 0 && !st_stream_on_host(q))
        st_log(ST_LOG_INFO, "device: %s", q->describe);
    *out = q;
    return ST_OK;
}

st_status st_stream_dry(st_stream **out, const st_stream *like, st_err *e)
{
    *out = NULL;
    st_stream *q = st_calloc(1, sizeof *q);
    if (!q) return ST_NOMEM(e, "dry stream");
    q->device = like->device;
    q->index = like->index;
    q->threads = like->threads;
    q->units = like->units;
    q->peak = like->peak;
    q->peak_half = like->peak_half;
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
    free(q->profile);
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

int st_stream_units(const st_stream *q)
{
    return q->units ? q->units : q->threads;
}

double st_stream_peak(const st_stream *q, st_dtype dtype)
{
    return dtype == ST_F32 ? q->peak : q->peak_half;
}

bool st_stream_on_host(const st_stream *q)
{
    return !q->dry && (!q->device->alloc || q->device->under);
}

bool st_stream_packs(const st_stream *q)
{
    return (q->device->under ? q->device->under : q->device)->packs;
}

st_cost st_stream_cost(const st_stream *q)
{
    return q->cost;
}

st_status st_stream_sync(st_stream *q, st_err *e)
{
    if (!q->dry && q->device->wait) q->device->wait(q);
    st_status status = q->failure.code;
    if (e && status) *e = q->failure;
    q->failure = (st_err){0};
    if (!q->dry) st_profile_settle(q);
    st_stream_serve(q);
    return status;
}

void st_stream_latch(st_stream *q, st_status code, const char *op, const char *what)
{
    if (q->failure.code) return;
    ST_ERR(&q->failure, code, "%s%s%s: %s", q->tag ? q->tag : "", q->tag ? ": " : "", op, what);
    q->ops = skip_ops;
}

void st_stream_tag(st_stream *q, const char *tag)
{
    q->tag = tag;
}

bool st_stream_record(st_stream *q)
{
    return !q->dry && !q->profile && !q->failure.code && q->device->record && q->device->record(q);
}

st_recording *st_stream_recorded(st_stream *q)
{
    return q->device->recorded(q);
}

void st_stream_play(st_stream *q, const st_recording *r)
{
    if (!q->failure.code) q->device->play(q, r);
}

void st_recording_close(st_stream *q, st_recording *r)
{
    if (r) q->device->forget(q, r);
}

st_status st_device_arena(st_stream *q, size_t bytes, st_arena *out, st_err *e)
{
    if (q->dry) return st_arena_open_counting(out, e);
    return q->device->alloc ? q->device->alloc(q, bytes, out, e) : st_arena_open(out, bytes, e);
}

void st_device_arena_close(st_stream *q, st_arena *a)
{
    if (q->dry || !q->device->release)
        st_arena_close(a);
    else if (a->base)
        q->device->release(q, a);
}

void st_upload(st_stream *q, st_tensor dst, const void *src)
{
    if (q->dry || q->failure.code) return;
    if (q->device->upload)
        q->device->upload(q, dst, src);
    else
        memcpy(dst.data, src, st_bytes(dst));
}

void st_download(st_stream *q, void *dst, st_tensor src)
{
    if (q->dry || q->failure.code) return;
    if (q->device->download)
        q->device->download(q, dst, src);
    else
        memcpy(dst, src.data, st_bytes(src));
}
