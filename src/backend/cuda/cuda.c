/* The cuda device: one GPU, one stream, its memory and copies. Copies go through two pinned stages,
 * so that the host's side is free when the call returns and an upload does not wait for the GPU. */
/* SPDX-License-Identifier: MIT */
#include "backend/cuda/cuda.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool st_cuda_ok(st_stream *q, cudaError_t status, const char *op)
{
    if (status == cudaSuccess) return true;
    st_stream_latch(q, status == cudaErrorMemoryAllocation ? ST_ENOMEM : ST_EDEVICE, op,
                    cudaGetErrorString(status));
    return false;
}

void st_cuda_launched(st_stream *q, const char *op)
{
    st_cuda_ok(q, cudaGetLastError(), op);
}

void *st_cuda_work(st_stream *q, size_t bytes, const char *op)
{
    st_cuda *c = st_cuda_of(q);
    if (bytes <= c->work_bytes) return c->work;
    size_t free_bytes = 0, all = 0, want = bytes + bytes / 4;
    if (!st_cuda_ok(q, cudaStreamSynchronize(c->stream), op)) return NULL;
    if (c->recordings && c->work && c->nkept < ST_CUDA_KEPT)
        c->kept[c->nkept++] = c->work;
    else
        cudaFree(c->work);
    c->work = NULL;
    c->work_bytes = 0;
    void *p;
    cudaError_t status = cudaMalloc(&p, want);
    if (status == cudaErrorMemoryAllocation) {
        char text[160];
        cudaGetLastError();
        cudaMemGetInfo(&free_bytes, &all);
        snprintf(text, sizeof text,
                 "%.1f MiB of scratch wanted, %.1f MiB of the GPU's memory are free; use a smaller "
                 "batch",
                 (double)want / 1048576.0, (double)free_bytes / 1048576.0);
        st_stream_latch(q, ST_ENOMEM, op, text);
        return NULL;
    }
    if (!st_cuda_ok(q, status, op)) return NULL;
    c->work = p;
    c->work_bytes = want;
    return p;
}

int st_cuda_fault_number(st_stream *q, const char *op, const char *what)
{
    st_cuda *c = st_cuda_of(q);
    for (int i = 0; i < c->faults; i++) {
        const st_cuda_fault *f = &c->fault[i];
        if (f->tag == q->tag && f->op == op && f->what == what) return i + 1;
    }
    if (c->faults == ST_CUDA_FAULTS) c->faults--; /* the last stands for all that follow */
    c->fault[c->faults++] = (st_cuda_fault){q->tag, op, what};
    return c->faults;
}

/* ---- memory --------------------------------------------------------------------------------- */

static st_status cuda_alloc(st_stream *q, size_t bytes, st_arena *out, st_err *e)
{
    st_cuda *c = st_cuda_of(q);
    size_t free_bytes = 0, all = 0, cap = (bytes + 511) / 512 * 512;
    void *p;
    *out = (st_arena){0};
    cap = cap ? cap : 512;
    cudaError_t status = cap < bytes ? cudaErrorMemoryAllocation : cudaMalloc(&p, cap);
    if (status == cudaErrorMemoryAllocation) {
        const double gib = 1073741824.0;
        cudaGetLastError();
        cudaMemGetInfo(&free_bytes, &all);
        ST_FAIL(e, ST_ENOMEM,
                "device cuda:%d: out of memory: %.2f GiB wanted, %.2f of %.2f GiB are free; try a "
                "smaller batch, context or model, or end what else uses this GPU",
                c->device, (double)cap / gib, (double)free_bytes / gib, (double)all / gib);
    }
    if (!status) status = cudaMemsetAsync(p, 0, cap, c->stream);
    if (status) ST_FAIL(e, ST_EDEVICE, "device cuda:%d: %s", c->device, cudaGetErrorString(status));
    out->base = p;
    out->cap = cap;
    return ST_OK;
}

static void cuda_release(st_stream *q, st_arena *a)
{
    st_cuda_chain_flush(q);
    cudaStreamSynchronize(st_cuda_stream(q));
    cudaFree(a->base);
    *a = (st_arena){0};
}

static void cuda_upload(st_stream *q, st_tensor dst, const void *src)
{
    st_cuda *c = st_cuda_of(q);
    size_t bytes = st_bytes(dst);
    st_cuda_chain_flush(q);
    if (bytes > 0 && bytes <= ST_CUDA_SENT) {
        st_cuda_send(q, dst.data, src, bytes);
        return;
    }
    for (size_t at = 0, n; at < bytes; at += n) {
        int i = c->turn++ % ST_CUDA_STAGES;
        n = bytes - at < ST_CUDA_STAGE_BYTES ? bytes - at : ST_CUDA_STAGE_BYTES;
        if (!st_cuda_ok(q, cudaEventSynchronize(c->staged[i]), "upload")) return;
        memcpy(c->stage[i], (const char *)src + at, n);
        cudaError_t status = cudaMemcpyAsync((char *)dst.data + at, c->stage[i], n,
                                             cudaMemcpyHostToDevice, c->stream);
        if (!status) status = cudaEventRecord(c->staged[i], c->stream);
        if (!st_cuda_ok(q, status, "upload")) return;
    }
}

/* One stage is emptied while the next is filled. */
static void cuda_download(st_stream *q, void *dst, st_tensor src)
{
    st_cuda *c = st_cuda_of(q);
    size_t bytes = st_bytes(src), stages = (bytes + ST_CUDA_STAGE_BYTES - 1) / ST_CUDA_STAGE_BYTES;
    st_cuda_chain_flush(q);
    for (size_t k = 0; k < stages + 1; k++) {
        size_t at = k * ST_CUDA_STAGE_BYTES, left = bytes - (k < stages ? at : bytes);
        cudaError_t status = cudaSuccess;
        if (k < stages) {
            status = cudaMemcpyAsync(c->stage[k % 2], (const char *)src.data + at,
                                     left < ST_CUDA_STAGE_BYTES ? left : ST_CUDA_STAGE_BYTES,
                                     cudaMemcpyDeviceToHost, c->stream);
            if (!status) status = cudaEventRecord(c->staged[k % 2], c->stream);
        }
        if (k > 0) {
            size_t old = at - ST_CUDA_STAGE_BYTES, n = bytes - old;
            if (!status) status = cudaEventSynchronize(c->staged[(k - 1) % 2]);
            if (!status)
                memcpy((char *)dst + old, c->stage[(k - 1) % 2],
                       n < ST_CUDA_STAGE_BYTES ? n : ST_CUDA_STAGE_BYTES);
        }
        if (!st_cuda_ok(q, status, "download")) return;
    }
}

static void cuda_wait(st_stream *q)
{
    st_cuda *c = st_cuda_of(q);
    st_cuda_chain_flush(q);
    st_cuda_ok(q, cudaStreamSynchronize(c->stream), "wait");
    int number = *(volatile int *)c->faulty;
    if (number <= 0 || number > c->faults) return;
    const st_cuda_fault *f = &c->fault[number - 1];
    const char *tag = q->tag;
    q->tag = f->tag;
    st_stream_latch(q, ST_EARG, f->op, f->what);
    q->tag = tag;
    *c->faulty = 0;
}

/* ---- time ------------------------------------------------------------------------------------ */

static void cuda_mark(st_stream *q, int number)
{
    st_cuda *c = st_cuda_of(q);
    st_cuda_chain_flush(q);
    while (c->marks <= number) {
        int more = c->marks ? 2 * c->marks : 256;
        cudaEvent_t *all = realloc(c->mark, (size_t)more * sizeof(*all));
        if (!all) {
            st_stream_latch(q, ST_ENOMEM, "profile", "no memory for marks");
            return;
        }
        c->mark = all;
        for (; c->marks < more; c->marks++) {
            if (!st_cuda_ok(q, cudaEventCreate(&c->mark[c->marks]), "profile")) return;
        }
    }
    st_cuda_ok(q, cudaEventRecord(c->mark[number], c->stream), "profile");
}

static double cuda_between(st_stream *q, int first, int second)
{
    const st_cuda *c = st_cuda_of(q);
    float ms = 0;
    return cudaEventElapsedTime(&ms, c->mark[first], c->mark[second]) ? 0.0 : (double)ms * 1e-3;
}

/* ---- opening -------------------------------------------------------------------------------- */

static int cuda_count(void)
{
    int n = 0;
    if (cudaGetDeviceCount(&n) == cudaSuccess) return n;
    cudaGetLastError();
    return 0;
}

static bool cuda_there(void)
{
    return cuda_count() > 0;
}

static st_status cuda_choose(st_stream *q, struct cudaDeviceProp *prop, st_err *e)
{
    int n = 0;
    cudaError_t status = cudaGetDeviceCount(&n);
    if (status || n == 0) {
        cudaGetLastError();
        ST_FAIL(e, ST_EDEVICE, "device cuda: no GPU to be found (%s); device cpu needs none",
                status ? cudaGetErrorString(status) : "the driver lists none");
    }
    if (q->index >= n) {
        ST_FAIL(e, ST_EDEVICE, "device cuda:%d: found %d GPU%s, numbered from 0", q->index, n,
                n == 1 ? "" : "s");
    }
    status = cudaSetDevice(q->index);
    if (!status) status = cudaGetDeviceProperties(prop, q->index);
    if (!status) status = st_cuda_probe();
    if (status == cudaErrorNoKernelImageForDevice || status == cudaErrorInvalidDeviceFunction) {
        ST_FAIL(e, ST_EDEVICE,
                "device cuda:%d: %s is sm_%d%d, for which this strut has no code; build it with "
                "-DST_CUDA_ARCHS=%d%d",
                q->index, prop->name, prop->major, prop->minor, prop->major, prop->minor);
    }
    if (status) ST_FAIL(e, ST_EDEVICE, "device cuda:%d: %s", q->index, cudaGetErrorString(status));
    return ST_OK;
}

static void cuda_close(st_stream *q)
{
    st_cuda *c = st_cuda_of(q);
    if (!c) return;
    if (c->stream) cudaStreamSynchronize(c->stream);
    st_cuda_lt_close(c->lt);
    for (int i = 0; i < ST_CUDA_STAGES; i++) {
        if (c->staged[i]) cudaEventDestroy(c->staged[i]);
        cudaFreeHost(c->stage[i]);
    }
    for (int i = 0; i < c->marks; i++)
        cudaEventDestroy(c->mark[i]);
    free(c->mark);
    cudaFreeHost(c->faulty);
    cudaFree(c->work);
    for (int i = 0; i < c->nkept; i++)
        cudaFree(c->kept[i]);
    free(c->chain);
    free(c->pair);
    cudaFree(c->counts);
    if (c->stream) cudaStreamDestroy(c->stream);
    free(c);
}

static cudaError_t cuda_resources(st_cuda *c)
{
    void *p;
    cudaError_t status = cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking);
    for (int i = 0; i < ST_CUDA_STAGES && !status; i++) {
        status = cudaHostAlloc(&p, ST_CUDA_STAGE_BYTES, cudaHostAllocDefault);
        if (status) break;
        c->stage[i] = p;
        status = cudaEventCreateWithFlags(&c->staged[i], cudaEventDisableTiming);
    }
    if (status || (status = cudaHostAlloc(&p, sizeof *c->faulty, cudaHostAllocMapped)) != 0)
        return status;
    c->faulty = p;
    *c->faulty = 0;
    status = cudaHostGetDevicePointer(&p, c->faulty, 0);
    c->faulty_on_device = p;
    size_t counts = (ST_CUDA_COUNTED / 64 + 5) * sizeof *c->counts;
    if (status || (status = cudaMalloc(&p, counts)) != 0) return status;
    c->counts = p;
    return cudaMemsetAsync(p, 0, counts, c->stream);
}

/* FLOP of one multiprocessor in a clock: of matrix units in bfloat16 with float32 sums, or of plain
 * float32 (NVIDIA's architecture papers and programming guide). */
static double cuda_per_clock(int arch, bool half)
{
    if (!half) return arch == 80 ? 128 : 256;
    return arch >= 120 ? 512 : arch >= 100 ? 8192 : arch >= 90 ? 4096 : arch == 80 ? 2048 : 512;
}

static void cuda_peak(st_stream *q)
{
    const st_cuda *c = st_cuda_of(q);
    int khz = 0;
    if (cudaDeviceGetAttribute(&khz, cudaDevAttrClockRate, c->device)) {
        cudaGetLastError();
        return;
    }
    double clocks = 1e3 * (double)khz * (double)c->sms;
    q->peak = clocks * cuda_per_clock(c->arch, false);
    q->peak_half = clocks * cuda_per_clock(c->arch, true);
}

static st_status cuda_open(st_stream *q, int threads, st_err *e)
{
    struct cudaDeviceProp prop;
    (void)threads;
    ST_TRY(cuda_choose(q, &prop, e));
    st_cuda *c = q->device_state = st_calloc(1, sizeof *c);
    if (!c) return ST_NOMEM(e, "device cuda");
    c->device = q->index;
    c->sms = prop.multiProcessorCount;
    c->arch = prop.major * 10 + prop.minor;
    cudaError_t status = cuda_resources(c);
    if (status) ST_FAIL(e, ST_EDEVICE, "device cuda:%d: %s", q->index, cudaGetErrorString(status));
    ST_TRY(st_cuda_lt_open(q, e));
    q->threads = 1;
    q->units = c->sms;
    cuda_peak(q);
    q->table.name = "cuda";
    ST_TRY(st_cuda_chain_open(q, e));
    char lib[32];
    st_cuda_lt_name(c->lt, lib, sizeof lib);
    snprintf(q->describe, sizeof q->describe, "cuda:%d, %.40s, %d SMs, %lld GiB, %s", q->index,
             prop.name, c->sms, (long long)(prop.totalGlobalMem >> 30), lib);
    return ST_OK;
}

const st_device st_device_cuda = {.name = "cuda",
                                  .numbered = true,
                                  .there = cuda_there,
                                  .open = cuda_open,
                                  .close = cuda_close,
                                  .alloc = cuda_alloc,
                                  .release = cuda_release,
                                  .upload = cuda_upload,
                                  .download = cuda_download,
                                  .wait = cuda_wait,
                                  .mark = cuda_mark,
                                  .between = cuda_between,
                                  .record = st_cuda_record,
                                  .recorded = st_cuda_recorded,
                                  .play = st_cuda_play,
                                  .forget = st_cuda_forget};
