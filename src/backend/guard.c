/* The guard, for tests: a device in host memory whose arenas are inaccessible outside of
 * operations, uploads and downloads, as a GPU's are. A touch from elsewhere says who it was and
 * aborts. Device `guard` is `ref` under it; where $ST_GUARD is set, `ref` and `cpu` are under it
 * too, also those that a job opens by itself, so that a test or the program runs guarded as it is.
 */
/* SPDX-License-Identifier: MIT */
#include "backend/stream.h"
#include <execinfo.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* All guarded arenas of the process: what a signal handler can look through. Those of other streams
 * are as accessible as the stream's own, as on one GPU. */
enum { GUARD_AREAS = 256, GUARD_FRAMES = 32 };
static struct {
    const st_stream *q;
    char *base; /* NULL: free */
    size_t cap;
} guard_area[GUARD_AREAS];
static int guard_busy; /* operations and copies that run, by whatever thread */
static pthread_mutex_t guard_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction guard_before; /* what SIGSEGV did without us */

static int guard_find(const void *p)
{
    for (int i = 0; i < GUARD_AREAS; i++) {
        if (!guard_area[i].base) continue;
        if ((uintptr_t)p - (uintptr_t)guard_area[i].base < guard_area[i].cap) return i;
    }
    return -1;
}

/* Standard error without stdio, which a handler may not use. */
static void guard_say(const char *text)
{
    if (write(STDERR_FILENO, text, strlen(text)) < 0) return;
}

static void guard_say_number(size_t n)
{
    char text[24], *p = text + sizeof text - 1;
    *p = '\0';
    do
        *--p = (char)('0' + n % 10);
    while (n /= 10);
    guard_say(p);
}

_Noreturn static void guard_stop(const void *p, int area)
{
    void *frame[GUARD_FRAMES];
    const st_stream *q = guard_area[area].q;
    guard_say("strut: guard: device memory was touched outside of the backend, ");
    guard_say_number((size_t)((const char *)p - guard_area[area].base));
    guard_say(" bytes into an arena of device ");
    guard_say(q->device->name);
    guard_say(q->tag ? ", last tag " : "");
    guard_say(q->tag ? q->tag : "");
    guard_say("\nby (addr2line -fe FILE OFFSET names what is only an offset):\n");
    backtrace_symbols_fd(frame, backtrace(frame, GUARD_FRAMES), STDERR_FILENO);
    abort();
}

static void guard_caught(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    int area = guard_find(info->si_addr);
    if (area >= 0) guard_stop(info->si_addr, area);
    sigaction(SIGSEGV, &guard_before, NULL); /* it happens again, and is no business of ours */
}

/* Others set handlers after us, cmocka for each test. */
static void guard_watch(void)
{
    struct sigaction ours = {.sa_sigaction = guard_caught, .sa_flags = SA_SIGINFO}, was;
    sigaction(SIGSEGV, &ours, &was);
    if (!(was.sa_flags & SA_SIGINFO) || was.sa_sigaction != guard_caught) guard_before = was;
}

static void guard_protect(int at, int how)
{
    if (guard_area[at].base && mprotect(guard_area[at].base, guard_area[at].cap, how)) abort();
}

static void guard_enter(void)
{
    pthread_mutex_lock(&guard_lock);
    for (int i = 0; i < GUARD_AREAS && !guard_busy; i++)
        guard_protect(i, PROT_READ | PROT_WRITE);
    guard_busy++;
    pthread_mutex_unlock(&guard_lock);
}

static void guard_leave(void)
{
    pthread_mutex_lock(&guard_lock);
    guard_busy--;
    for (int i = 0; i < GUARD_AREAS && !guard_busy; i++)
        guard_protect(i, PROT_NONE);
    guard_watch();
    pthread_mutex_unlock(&guard_lock);
}

#define ST_OP(op, required)                                                                        \
    static void guard_##op(st_stream *q, const st_##op##_args *a)                                  \
    {                                                                                              \
        guard_enter();                                                                             \
        q->guarded->op(q, a);                                                                      \
        guard_leave();                                                                             \
    }
#include "backend/ops.def"
#undef ST_OP

static st_status guard_open(st_stream *q, int threads, st_err *e)
{
    void *frame[1];
    backtrace(frame, 1); /* loads what a handler should not load */
    ST_TRY(q->device->under->open(q, threads, e));
    q->guarded = st_calloc(1, sizeof *q->guarded);
    if (!q->guarded) ST_FAIL(e, ST_ENOMEM, "device %s: out of memory", q->device->name);
    *q->guarded = q->table;
#define ST_OP(op, required)                                                                        \
    if (q->table.op) q->table.op = guard_##op;
#include "backend/ops.def"
#undef ST_OP
    return ST_OK;
}

static void guard_close(st_stream *q)
{
    if (q->device->under->close) q->device->under->close(q);
    free(q->guarded);
}

static st_status guard_alloc(st_stream *q, size_t bytes, st_arena *out, st_err *e)
{
    ST_TRY(st_arena_open(out, bytes, e));
    pthread_mutex_lock(&guard_lock);
    int at = 0;
    while (at < GUARD_AREAS && guard_area[at].base)
        at++;
    if (at < GUARD_AREAS) {
        guard_area[at].q = q;
        guard_area[at].cap = out->cap;
        guard_area[at].base = out->base;
        if (!guard_busy) guard_protect(at, PROT_NONE);
    }
    guard_watch();
    pthread_mutex_unlock(&guard_lock);
    if (at < GUARD_AREAS) return ST_OK;
    st_arena_close(out);
    ST_FAIL(e, ST_EUNSUPPORTED, "device %s: more than %d arenas", q->device->name, GUARD_AREAS);
}

static void guard_release(st_stream *q, st_arena *a)
{
    (void)q;
    pthread_mutex_lock(&guard_lock);
    int at = guard_find(a->base);
    if (at >= 0) guard_area[at].base = NULL;
    pthread_mutex_unlock(&guard_lock);
    st_arena_close(a);
}

/* The other side of a copy is the host's. */
static void guard_move(void *to, const void *from, const void *host, size_t n)
{
    int area = guard_find(host);
    if (area >= 0) guard_stop(host, area);
    guard_enter();
    memcpy(to, from, n);
    guard_leave();
}

static void guard_upload(st_stream *q, st_tensor dst, const void *src)
{
    (void)q;
    guard_move(dst.data, src, src, st_bytes(dst));
}

static void guard_download(st_stream *q, void *dst, st_tensor src)
{
    (void)q;
    guard_move(dst, src.data, dst, st_bytes(src));
}

#define GUARD_OVER(is, what)                                                                       \
    {                                                                                              \
        .name = is, .under = &(what), .open = guard_open, .close = guard_close,                    \
        .alloc = guard_alloc, .release = guard_release, .upload = guard_upload,                    \
        .download = guard_download                                                                 \
    }

const st_device st_device_guard = GUARD_OVER("guard", st_device_ref);

const st_device *st_guard_over(const st_device *d)
{
    static const st_device over[] = {GUARD_OVER("ref", st_device_ref),
                                     GUARD_OVER("cpu", st_device_cpu)};
    for (size_t i = 0; i < sizeof over / sizeof *over && getenv("ST_GUARD"); i++) {
        if (over[i].under == d) return &over[i];
    }
    return d;
}
