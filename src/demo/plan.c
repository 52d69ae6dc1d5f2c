/* How long the demo's models train: as long as the budget allows at the pace of this machine. */
/* SPDX-License-Identifier: MIT */
#include "demo/inner.h"

/* Steps. Healing gets an eighth of training; below the least nothing would be learned that could be
 * compared, so a machine that is too slow for the budget takes longer than it. */
enum { PLAN_HEAL = 8, PLAN_LEAST = 96, PLAN_MOST = 4000 };

/* Time of a structured and of a narrow model's step by a dense one's, over both reductions, and of
 * a forward pass by a whole step's. Rough figures: a wrong one moves the length of training, not
 * what is measured. */
static const double plan_structured = 0.9, plan_narrow = 0.65, plan_forward = 0.33;
static const double plan_folder = 0.4; /* seconds to decompose, write and read a model */

static double plan_seconds(const demo_run *r, double steps, int dense, int structured, int narrow)
{
    double t = r->step_seconds, heal = steps / PLAN_HEAL;
    double judge = (double)r->val_tokens / (double)r->step_tokens * t * plan_forward;
    double curve = ST_DEMO_VALIDATIONS * ST_DEMO_VALIDATE * t * plan_forward;
    double probes = ST_DEMO_RATES * ((heal / ST_DEMO_PROBE + 2) * t +
                                     2 * ST_DEMO_PROBED * t * plan_forward + plan_folder / 2);
    return dense * (steps * t + curve + judge) +
           structured * (plan_structured * (heal * t + probes + 2 * judge) + plan_folder) +
           narrow * plan_narrow * ((steps + heal) * t + curve + judge);
}

int64_t st_demo_probe_steps(const demo_run *r)
{
    return r->heal_steps / ST_DEMO_PROBE + 2;
}

double st_demo_seconds_left(const demo_run *r, int structured, int narrow)
{
    return plan_seconds(r, (double)r->steps, 0, structured, narrow) + ST_DEMO_RACE * r->o.budget;
}

st_status st_demo_plan(demo_run *r, st_err *e)
{
    int structured = 2 * r->types + 1; /* and "dense, continued" */
    ST_TRY(st_demo_pace(r, &r->step_seconds, e));
    double left = r->o.budget * (1 - ST_DEMO_RACE) - (st_now() - r->clock.began);
    double none = plan_seconds(r, 0, 1, structured, 2);
    double each = plan_seconds(r, 1, 1, structured, 2) - none;
    r->steps = r->o.steps;
    if (!r->steps) r->steps = (int64_t)((left - none) / each);
    if (!r->o.steps && r->steps < PLAN_LEAST) r->steps = PLAN_LEAST;
    if (r->steps > PLAN_MOST) r->steps = PLAN_MOST;
    r->heal_steps = (r->steps + PLAN_HEAL - 1) / PLAN_HEAL;
    return ST_OK;
}
