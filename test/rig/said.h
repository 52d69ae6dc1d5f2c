/* What the library says to the user while a test runs. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_RIG_SAID_H
#define ST_RIG_SAID_H

#include "testing.h"

static char said[4096]; /* a line a message */

static void said_log(void *ctx, st_log_level level, const char *text)
{
    (void)ctx, (void)level;
    size_t n = strlen(said);
    snprintf(said + n, sizeof said - n, "%s\n", text);
}

static void said_progress(void *ctx, const st_progress *p)
{
    (void)ctx, (void)p;
}

/* The set-up of a test: nothing was said yet. */
static int said_open(void **state)
{
    (void)state;
    said[0] = '\0';
    st_sink_set(&(st_sink){.log = said_log, .progress = said_progress});
    return 0;
}

#endif
