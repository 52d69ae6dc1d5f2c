/* One progress line for a job that runs many others. */
/* SPDX-License-Identifier: MIT */
#include "demo/inner.h"
#include <math.h>
#include <stdarg.h>
#include <string.h>

static void clock_show(demo_clock *c, double share, const char *detail, bool last)
{
    char text[320];
    double done = fmax(c->shown, c->base + fmin(share, 1) * c->cost);
    double total = fmax(done, c->base + c->cost + c->later);
    c->shown = done;
    snprintf(text, sizeof text, "%s%s%s", c->what, detail && *detail ? ": " : "",
             detail ? detail : "");
    st_progress p = {.what = "demo",
                     .done = (int64_t)done,
                     .total = last ? (int64_t)done : (int64_t)ceil(total),
                     .unit = "s",
                     .detail = last ? NULL : text,
                     .last = last};
    if (c->outer.progress) c->outer.progress(c->outer.ctx, &p);
}

static void clock_progress(void *ctx, const st_progress *p)
{
    demo_clock *c = ctx;
    char text[200];
    double share = p->total > 0 ? (double)p->done / (double)p->total : 0;
    char total[32] = "";
    if (p->total > 0) snprintf(total, sizeof total, "/%lld", (long long)p->total);
    snprintf(text, sizeof text, "%s %lld%s %s%s%s", p->what, (long long)p->done, total, p->unit,
             p->detail ? " " : "", p->detail ? p->detail : "");
    clock_show(c, share, text, false);
}

/* Jobs' small talk is dropped: the demo says itself what is finished. */
static void clock_log(void *ctx, st_log_level level, const char *text)
{
    demo_clock *c = ctx;
    if (level == ST_LOG_WARN && c->outer.log) c->outer.log(c->outer.ctx, level, text);
}

void st_demo_clock_open(demo_clock *c, double estimate)
{
    *c = (demo_clock){.outer = st_sink_get(), .began = st_now(), .later = estimate};
    c->stage_began = c->began;
    st_sink_set(&(st_sink){.log = clock_log, .progress = clock_progress, .ctx = c});
}

void st_demo_clock_close(demo_clock *c, bool done)
{
    c->base += st_now() - c->stage_began;
    c->cost = c->later = 0;
    c->shown = 0;
    c->what[0] = 0;
    if (done) clock_show(c, 1, NULL, true);
    st_sink_set(&c->outer);
}

void st_demo_stage(demo_clock *c, double cost, double later, const char *fmt, ...)
{
    double now = st_now();
    va_list args;
    c->base += now - c->stage_began;
    c->stage_began = now;
    c->cost = cost;
    c->later = later;
    va_start(args, fmt);
    vsnprintf(c->what, sizeof c->what, fmt, args);
    va_end(args);
    clock_show(c, 0, NULL, false);
}

void st_demo_say(demo_clock *c, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (c->outer.log) c->outer.log(c->outer.ctx, ST_LOG_INFO, text);
}
