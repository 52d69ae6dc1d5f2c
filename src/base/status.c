/* Errors, reports and interruption. */
/* SPDX-License-Identifier: MIT */
#include "base/base.h"
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static st_sink sink;
static volatile sig_atomic_t interrupted;

st_status st_fail(st_err *e, st_status code, const char *file, int line, const char *fmt, ...)
{
    if (!e) return code;
    e->code = code;
    e->file = file;
    e->line = line;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof e->msg, fmt, ap);
    va_end(ap);
    return code;
}

void st_err_prefix(st_err *e, const char *fmt, ...)
{
    if (!e) return;
    char old[sizeof e->msg];
    memcpy(old, e->msg, sizeof old);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof e->msg, fmt, ap);
    va_end(ap);
    size_t n = strlen(e->msg);
    snprintf(e->msg + n, sizeof e->msg - n, ": %s", old);
}

void st_sink_set(const st_sink *s)
{
    sink = s ? *s : (st_sink){0};
}

void st_log(st_log_level level, const char *fmt, ...)
{
    if (!sink.log) return;
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    sink.log(sink.ctx, level, text);
}

void st_report(const st_progress *p)
{
    if (sink.progress) sink.progress(sink.ctx, p);
}

void st_interrupt(void)
{
    interrupted = 1;
}

bool st_interrupted(void)
{
    return interrupted != 0;
}

double st_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
