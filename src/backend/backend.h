/* backend: where numbers are crunched. A stream is a queue of operations on one device with the
 * table of kernels that serve it; "ref" says what every operation means, "cpu" is fast. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_BACKEND_H
#define ST_BACKEND_H

#include "backend/ops.h"

typedef struct st_ops {
    const char *name;
#define ST_OP(op, required) void (*op)(st_stream * q, const st_##op##_args *a);
#include "backend/ops.def"
#undef ST_OP
} st_ops;

/* The value that OPENBLAS_CORETYPE should have had when the process started, where the library did
 * not recognise a modern processor; NULL where all is well. */
const char *st_blas_core(void);

/* What a dry stream has added up. */
typedef struct {
    int64_t macs;     /* multiply-adds of products and attention, others not counted */
    int64_t bytes;    /* operands read and written by all operations, each once */
    int64_t launches; /* operations */
} st_cost;

/* The names of devices, for help and checks: "auto" (the GPU where there is one, else "cpu"),
 * "cuda" (also "cuda:1"), "cpu", "ref"; NULL-terminated. */
const char *const *st_device_names(void);
/* ST_EARG, listing them, if `name` is none. Says nothing about whether the device is there. */
st_status st_device_check(const char *name, st_err *e);
/* Opens a stream on `device` (NULL: "auto", which logs a line where it is a GPU). ST_EARG for an
 * unknown name, ST_EDEVICE if the device is not there, ST_EUNSUPPORTED if this build has no code
 * for it. `threads` 0 = as many as the machine (or OMP_NUM_THREADS) says. */
st_status st_stream_open(st_stream **out, const char *device, int threads, st_err *e);
/* A stream that takes the same paths as `like`, computes nothing and adds up what it would cost.
 * Its tensors may sit on a counting arena. */
st_status st_stream_dry(st_stream **out, const st_stream *like, st_err *e);
void st_stream_close(st_stream *q);
const st_ops *st_stream_ops(const st_stream *q);
const char *st_stream_device(const st_stream *q); /* "cpu" */
/* One line for people and reports: "cpu, 2 threads, avx2, OpenBLAS 0.3.21 (Zen)". */
const char *st_stream_describe(const st_stream *q);
int st_stream_threads(const st_stream *q);
/* What works side by side: threads, or the multiprocessors of a GPU. */
int st_stream_units(const st_stream *q);
/* Multiply-adds a second, times two, that its matrix units could do at most in `dtype` by the data
 * sheet, at the clock they may reach; 0: not known. */
double st_stream_peak(const st_stream *q, st_dtype dtype);
/* Whether its operations work on the host's memory: their tensors may lie anywhere in it, and
 * arenas take of it. */
bool st_stream_on_host(const st_stream *q);
/* Whether weights in blocks had better be packed (st_blocks_pack) before it multiplies by them. */
bool st_stream_packs(const st_stream *q);
st_cost st_stream_cost(const st_stream *q); /* of a dry stream; zeros otherwise */

/* Waits for all that was queued; returns the first latched failure and clears it. */
st_status st_stream_sync(st_stream *q, st_err *e);
/* For kernels: latch a failure under the current tag; later operations are skipped. */
void st_stream_latch(st_stream *q, st_status code, const char *op, const char *what);
/* Names what runs next ("h.3.mlp.c_fc") for messages and profiles; the text must outlive the call.
 */
void st_stream_tag(st_stream *q, const char *tag);

/* A sequence of operations that runs again with one call, with the numbers that its operands have
 * by then: what st_stream_record .. st_stream_recorded queue is noted in place of being done. All
 * of it must have run once before, operands and scratch stay where they are, and nothing is copied
 * to or from the host in between. False, and NULL, where the device notes nothing, or not this:
 * then operations are queued as ever, each time. */
typedef struct st_recording st_recording;
bool st_stream_record(st_stream *q);
st_recording *st_stream_recorded(st_stream *q);
void st_stream_play(st_stream *q, const st_recording *r);
void st_recording_close(st_stream *q, st_recording *r); /* NULL is fine */

/* One kind of call: an operation and what one call costs (as st_cost), and what all took. */
typedef struct {
    const char *op;
    int64_t calls, macs, bytes;
    double seconds;
} st_profile_row;

/* From here on measures every operation, or stops and forgets. ST_ENOMEM. */
st_status st_stream_profile(st_stream *q, bool on, st_err *e);
/* Waits; the rows so far, longest first, until the next operation. 0 where nothing is measured. */
int st_stream_profiled(st_stream *q, const st_profile_row **rows);

/* Device memory as an arena, zeroed; a dry stream opens counting arenas. ST_ENOMEM says what was
 * asked and what is free. Its pieces are addresses of the device: only operations and these copies
 * may touch them. A copy is queued after what is queued already; when it returns, the host's side
 * may be used again, so a download waits. */
st_status st_device_arena(st_stream *q, size_t bytes, st_arena *out, st_err *e);
void st_device_arena_close(st_stream *q, st_arena *a);
void st_upload(st_stream *q, st_tensor dst, const void *src);
void st_download(st_stream *q, void *dst, st_tensor src);

#endif
