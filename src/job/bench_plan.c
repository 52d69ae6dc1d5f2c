/* What a benchmark may use: memory that is free, and time, guessed before anything is run. */
/* SPDX-License-Identifier: MIT */
#include "job/bench.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const double plan_share = 0.8;   /* of the free memory that is asked for */
static const double plan_slack = 2.0;   /* calls take so many times the roof's least */
static const double plan_start = 50e-6; /* seconds that a call takes besides */
static const double plan_short = 20e-3; /* seconds that a short call is repeated for, about */
static const double plan_probe = 40e-3; /* seconds of the round's probes */

/* A number in a file of one line, or -1 ("max"). */
static double plan_number(const char *path)
{
    int64_t n;
    FILE *f = fopen(path, "r");
    if (!f) return -1.0;
    int got = fscanf(f, "%" SCNd64, &n);
    fclose(f);
    return got == 1 ? (double)n : -1.0;
}

static double plan_available(void)
{
    char line[128];
    int64_t kib = 0;
    FILE *f = fopen("/proc/meminfo", "r");
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "MemAvailable: %" SCNd64, &kib) == 1) break;
    }
    if (f) fclose(f);
    return kib > 0 ? 1024.0 * (double)kib : 1e18;
}

double bench_memory(void)
{
    double n = plan_available(), most = plan_number("/sys/fs/cgroup/memory.max");
    double used = plan_number("/sys/fs/cgroup/memory.current");
    if (most > 0.0 && used >= 0.0) n = fmin(n, most - used);
    return plan_share * fmax(n, 0.0);
}

double bench_guess(const bench_ceiling *c, st_dtype t, double macs, double bytes)
{
    return plan_start + plan_slack * bench_roof_least(c, t, macs, bytes);
}

bench_time_plan bench_time_add(bench_time_plan p, double call)
{
    p.warm += call;
    p.round += call < plan_short ? plan_short : call;
    return p;
}

double bench_time_of(bench_time_plan p, int64_t rounds)
{
    return 1.5 * p.warm + (double)rounds * (p.round + plan_probe);
}
