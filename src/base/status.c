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

/* Names out of hostile files must not speak to the terminal: control characters become '?', and a
 * UTF-8 character that the end of the buffer cut goes. */
static void status_clean(char *msg, size_t cap)
{
    unsigned char *m = (unsigned char *)msg;
    size_t n = strlen(msg), back = 0;
    for (size_t i = 0; i < n; i++) {
        if (m[i] < 0x20 || m[i] == 0x7f) m[i] = '?';
        if (m[i] == 0xc2 && m[i + 1] >= 0x80 && m[i + 1] < 0xa0) m[i] = m[i + 1] = '?'; /* C1 */
    }
    if (n + 1 < cap) return;
    while (back < 3 && back + 1 < n && (m[n - 1 - back] & 0xc0) == 0x80)
        back++;
    unsigned char lead = m[n - 1 - back];
    size_t whole = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    if (whole > back + 1) m[n - 1 - back] = '\0';
}

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
    status_clean(e->msg, sizeof e->msg);
    return code;
}

st_status st_no_memory(st_err *e, const char *what, const char *file, int line)
{
    return st_fail(e, ST_ENOMEM, file, line, "%s%sout of memory", what ? what : "",
                   what ? ": " : "");
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
    status_clean(e->msg, sizeof e->msg);
}

void st_sink_set(const st_sink *s)
{
    sink = s ? *s : (st_sink){0};
}

st_sink st_sink_get(void)
{
    return sink;
}

void st_log(st_log_level level, const char *fmt, ...)
{
    if (!sink.log) return;
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    status_clean(text, sizeof text);
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
