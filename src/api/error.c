/* Codes, messages, remarks and the end of everything. */
/* SPDX-License-Identifier: MIT */
#include "api/inner.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int error_code(st_status s)
{
    switch (s) {
    case ST_OK: return STRUT_OK;
    case ST_EARG: return STRUT_ERROR_ARGUMENT;
    case ST_ESHAPE: return STRUT_ERROR_SHAPE;
    case ST_EFORMAT: return STRUT_ERROR_FORMAT;
    case ST_EIO: return STRUT_ERROR_IO;
    case ST_ENOMEM: return STRUT_ERROR_MEMORY;
    case ST_EINTR: return STRUT_ERROR_STOPPED;
    case ST_EUNSUPPORTED: return STRUT_ERROR_UNSUPPORTED;
    case ST_EDEVICE:
    case ST_ECOMM: return STRUT_ERROR_DEVICE;
    }
    return STRUT_ERROR_ARGUMENT;
}

int api_done(st_status s, const st_err *e, strut_error *error)
{
    if (!error) return error_code(s);
    error->code = error_code(s);
    snprintf(error->message, sizeof error->message, "%s", s ? e->msg : "");
    return error->code;
}

st_status api_take(void *to, size_t room, const void *from, const char *what, st_err *e)
{
    size_t size;
    if (!from) return ST_OK;
    memcpy(&size, from, sizeof size);
    if (size < sizeof size || size > 4096) {
        ST_FAIL(e, ST_EARG, "%s: its size is %zu; begin with its macro", what, size);
    }
    memcpy(to, from, size < room ? size : room);
    return ST_OK;
}

const char *strut_version(void)
{
    return ST_VERSION;
}

void strut_free(void *memory)
{
    free(memory);
}

static struct {
    void (*say)(void *ctx, int warning, const char *text);
    void *ctx;
} error_log;

static void error_say(void *ctx, st_log_level level, const char *text)
{
    (void)ctx;
    error_log.say(error_log.ctx, level == ST_LOG_WARN, text);
}

void strut_log(void (*say)(void *ctx, int warning, const char *text), void *ctx)
{
    error_log.say = say;
    error_log.ctx = ctx;
    st_sink_set(&(st_sink){.log = say ? error_say : NULL});
}

void strut_stop(void)
{
    st_interrupt();
}
