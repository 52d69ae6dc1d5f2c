/* What a run tells beside its losses: where it is in its epoch, how long steps and the time between
 * them take, the multiply-adds it reaches, the learning rate of every group. Times are taken where
 * the device has been waited for. */
/* SPDX-License-Identifier: MIT */
#include "train/inner.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MON_EPOCH, MON_STEP_MS, MON_INTER_MS, MON_EPOCH_SECONDS, MON_GFLOPS, MON_FIXED };
static const char *const monitor_fixed[MON_FIXED] = {"epoch", "step_ms", "inter_ms",
                                                     "epoch_seconds", "gflops"};

static bool monitor_same(const st_group *a, const st_group *b)
{
    return a->lr == b->lr && a->min_lr == b->min_lr && a->schedule == b->schedule;
}

/* One column for each learning rate, if there are several. */
static void monitor_rates(st_monitor *m, const st_net *n)
{
    for (int64_t i = 0; i < n->ranges; i++) {
        const st_group *g = &n->range[i].group;
        bool known = g->frozen;
        for (int k = 0; !known && k < m->rates; k++)
            known = monitor_same(g, &m->rate[k]);
        if (known || m->rates == ST_MONITOR_RATES) continue;
        int same = 1;
        for (int k = 0; k < m->rates; k++)
            same += strcmp(m->rate[k].name, g->name) == 0;
        char *text = m->text[m->rates];
        int len = snprintf(text, sizeof m->text[0], "lr.%.60s", g->name);
        if (same > 1) snprintf(text + len, sizeof m->text[0] - (size_t)len, ".%d", same);
        for (char *p = text; *p; p++)
            if (*p == ',' || *p == '"' || *p == '\\' || (unsigned char)*p < ' ') *p = '_';
        m->rate[m->rates++] = *g;
    }
    if (m->rates == 1) m->rates = 0; /* `lr` says it */
}

void st_monitor_open(st_monitor *m, const st_net *n)
{
    monitor_rates(m, n);
    for (int i = 0; i < MON_FIXED; i++)
        m->name[m->names++] = monitor_fixed[i];
    for (int i = 0; i < m->rates; i++)
        m->name[m->names++] = m->text[i];
    m->mark = st_now();
}

void st_monitor_begin(st_monitor *m)
{
    m->inter += st_now() - m->mark;
    m->mark = st_now();
}

void st_monitor_data(st_monitor *m, double since)
{
    double took = st_now() - since;
    m->inter += took;
    m->intra -= took;
}

void st_monitor_end(st_monitor *m)
{
    double now = st_now();
    m->intra += now - m->mark;
    m->mark = now;
    m->steps++;
}

void st_monitor_away(st_monitor *m)
{
    m->mark = st_now();
}

double st_monitor_gflops(const st_net *n, double tokens_per_second)
{
    if (n->frozen || n->grad_macs <= 0) return (double)NAN; /* what is left out is not counted */
    return 2e-9 * n->grad_macs * tokens_per_second;
}

double st_monitor_mfu(const st_net *n, double tokens_per_second)
{
    double peak = st_stream_peak(n->q, n->dtype);
    return peak > 0 ? 1e9 * st_monitor_gflops(n, tokens_per_second) / peak : (double)NAN;
}

const double *st_monitor_values(st_monitor *m, const st_trainer *t, double tokens_per_second)
{
    double n = (double)m->steps;
    m->value[MON_EPOCH] = st_epoch_done(&t->data);
    m->value[MON_STEP_MS] = 1e3 * m->intra / n;
    m->value[MON_INTER_MS] = 1e3 * m->inter / n;
    m->value[MON_EPOCH_SECONDS] = t->state.epoch_seconds > 0 ? t->state.epoch_seconds : (double)NAN;
    m->value[MON_GFLOPS] = st_monitor_gflops(&t->net, tokens_per_second);
    for (int i = 0; i < m->rates; i++)
        m->value[MON_FIXED + i] = st_group_lr(&t->pace, &m->rate[i], t->state.step - 1);
    m->intra = m->inter = 0;
    m->steps = 0;
    return m->value;
}
