/* What a benchmark may use: memory that is free, and time, guessed before anything is run. */
/* SPDX-License-Identifier: MIT */
#include "bench/inner.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const double plan_slack = 2.0;   /* calls take so many times the roof's least */
static const double plan_start = 50e-6; /* seconds that a call takes besides */
static const double plan_short = 20e-3; /* seconds that a short call is repeated for, about */
static const double plan_probe = 40e-3; /* seconds of the round's probes */

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
