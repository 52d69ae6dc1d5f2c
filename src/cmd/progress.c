/* Progress and remarks on standard error: one line that is redrawn on a terminal, a plain line now
 * and then in a log. */
/* SPDX-License-Identifier: MIT */
#include "cmd/cmd.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Speed is measured over the last SAMPLES * GAP seconds, so that the remaining time follows what
 * the machine does now and a resumed job does not count work done before. */
enum { PROGRESS_SAMPLES = 64, PROGRESS_BAR = 20, PROGRESS_LINE = 512 };
static const double progress_gap = 0.5;    /* seconds between samples */
static const double progress_redraw = 0.1; /* on a terminal */
static const double progress_log = 30.0;   /* in a log */

static struct {
    pthread_mutex_t lock;
    bool quiet, terminal, drawn;
    char what[64];
    double start, shown; /* when the job began, when the last line was printed */
    int64_t begin, shown_done;
    struct {
        double time;
        int64_t done;
    } sample[PROGRESS_SAMPLES];
    int samples, next;
} bar = {.lock = PTHREAD_MUTEX_INITIALIZER};

void cmd_put(FILE *f, const char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        fputc(c < 0x20 || c == 0x7f ? '?' : c, f);
    }
}

static void progress_wipe(void)
{
    if (bar.drawn) fputs("\r\033[K", stderr);
    bar.drawn = false;
}

/* Units per second of late; 0 while it cannot be known. */
static double progress_speed(const st_progress *p, double now)
{
    int oldest = bar.samples < PROGRESS_SAMPLES ? 0 : bar.next;
    double t = now - bar.sample[oldest].time;
    int64_t n = p->done - bar.sample[oldest].done;
    return t >= progress_gap && n > 0 ? (double)n / t : 0.0;
}

static void progress_sample(const st_progress *p, double now)
{
    int last = (bar.next + PROGRESS_SAMPLES - 1) % PROGRESS_SAMPLES;
    if (bar.samples && now - bar.sample[last].time < progress_gap) return;
    bar.sample[bar.next].time = now;
    bar.sample[bar.next].done = p->done;
    bar.next = (bar.next + 1) % PROGRESS_SAMPLES;
    if (bar.samples < PROGRESS_SAMPLES) bar.samples++;
}

/* A new job, or one that counts again from an earlier point. */
static void progress_begin(const st_progress *p, double now)
{
    snprintf(bar.what, sizeof bar.what, "%s", p->what);
    bar.start = now;
    bar.shown = 0.0;
    bar.begin = bar.shown_done = p->done;
    bar.samples = bar.next = 0;
}

static int progress_columns(void)
{
    struct winsize w;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0) return w.ws_col;
    return 80;
}

/* The text of one line: what, share, amount, speed, time left, detail. Its length without the
 * detail. */
static size_t progress_text(const st_progress *p, double now, bool drawn, char line[PROGRESS_LINE])
{
    char *s = line, *end = line + PROGRESS_LINE;
    bool bytes = strcmp(p->unit, "bytes") == 0;
    s += snprintf(s, (size_t)(end - s), "%s", p->what);
    if (p->total > 0) {
        double share = (double)p->done / (double)p->total;
        if (share > 1.0) share = 1.0;
        int filled = (int)(share * PROGRESS_BAR);
        s += snprintf(s, (size_t)(end - s), " %3d%%", (int)(share * 100.0));
        if (drawn) {
            s += snprintf(s, (size_t)(end - s), " [%.*s%.*s]", filled, "####################",
                          PROGRESS_BAR - filled, "....................");
        }
        s += bytes ? snprintf(s, (size_t)(end - s), " %s of %s", cmd_bytes(p->done).s,
                              cmd_bytes(p->total).s)
                   : snprintf(s, (size_t)(end - s), " %s of %s", cmd_count(p->done).s,
                              cmd_counted(p->total, p->unit).s);
    } else {
        s += bytes ? snprintf(s, (size_t)(end - s), " %s", cmd_bytes(p->done).s)
                   : snprintf(s, (size_t)(end - s), " %s", cmd_counted(p->done, p->unit).s);
    }
    double speed = progress_speed(p, now);
    if (p->last) {
        s += snprintf(s, (size_t)(end - s), ", %s", cmd_seconds(now - bar.start).s);
        double t = now - bar.start;
        speed = t > 0.0 ? (double)(p->done - bar.begin) / t : 0.0;
    }
    if (speed > 0.0) {
        s += snprintf(s, (size_t)(end - s), ", %s/s",
                      bytes ? cmd_bytes((int64_t)speed).s : cmd_si(speed).s);
    }
    if (speed > 0.0 && p->total > p->done && !p->last) {
        double left = (double)(p->total - p->done) / speed;
        s += snprintf(s, (size_t)(end - s), ", %s left", cmd_seconds(left < 1.0 ? 1.0 : left).s);
        if (p->later > 0.0)
            s += snprintf(s, (size_t)(end - s), ", all ~%s", cmd_seconds(left + p->later).s);
    }
    if (p->detail && p->detail[0]) snprintf(s, (size_t)(end - s), "  %s", p->detail);
    return (size_t)(s - line);
}

/* In a log: at the start of anything long, every half minute, and at the end. */
static bool progress_due(const st_progress *p, double now)
{
    if (p->last) return true;
    double since = bar.shown > 0.0 ? now - bar.shown : now - bar.start;
    if (bar.terminal) return bar.shown <= 0.0 || since >= progress_redraw;
    return since >= progress_log;
}

static void progress_show(void *ctx, const st_progress *p)
{
    (void)ctx;
    if (bar.quiet) return;
    pthread_mutex_lock(&bar.lock);
    double now = st_now();
    if (strcmp(bar.what, p->what) != 0 || p->done < bar.shown_done) progress_begin(p, now);
    progress_sample(p, now);
    if (progress_due(p, now)) {
        char line[PROGRESS_LINE];
        size_t room = bar.terminal ? (size_t)progress_columns() - 1 : PROGRESS_LINE;
        size_t used = progress_text(p, now, bar.terminal, line);
        if (used > room && !p->last) progress_text(p, now, false, line); /* figures before bars */
        progress_wipe();
        if (strlen(line) > room && !p->last) line[room] = '\0';
        cmd_put(stderr, line);
        bar.drawn = bar.terminal && !p->last;
        if (!bar.drawn) fputc('\n', stderr);
        fflush(stderr);
        bar.shown = now;
        bar.shown_done = p->done;
    }
    if (p->last) bar.what[0] = '\0';
    pthread_mutex_unlock(&bar.lock);
}

static void progress_remark(void *ctx, st_log_level level, const char *text)
{
    (void)ctx;
    if (bar.quiet && level == ST_LOG_INFO) return;
    pthread_mutex_lock(&bar.lock);
    progress_wipe();
    if (level == ST_LOG_WARN) fputs("warning: ", stderr);
    cmd_put(stderr, text);
    fputc('\n', stderr);
    pthread_mutex_unlock(&bar.lock);
}

void cmd_progress_start(bool quiet)
{
    const char *term = getenv("TERM");
    bool plain = getenv("NO_COLOR") || getenv("CI") || (term && strcmp(term, "dumb") == 0);
    bar.quiet = quiet;
    bar.terminal = isatty(STDERR_FILENO) && !plain;
    st_sink_set(&(st_sink){.log = progress_remark, .progress = progress_show});
}

void cmd_progress_clear(void)
{
    pthread_mutex_lock(&bar.lock);
    progress_wipe();
    fflush(stderr);
    pthread_mutex_unlock(&bar.lock);
}

void cmd_error(const char *where, const char *text)
{
    cmd_progress_clear();
    fputs("strut", stderr);
    if (where) fprintf(stderr, " %s", where);
    fputs(": ", stderr);
    cmd_put(stderr, text);
    fputc('\n', stderr);
}
