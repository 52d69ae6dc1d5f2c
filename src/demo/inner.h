/* demo: pieces of the comparison that `strut demo` runs. Inner header of demo. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_DEMO_INNER_H
#define ST_DEMO_INNER_H

#include "demo/demo.h"
#include "map/map.h"

/* ---- text (text.c) --------------------------------------------------------------------------- */

/* Writes the King James Bible as JSON lines, one chapter a line, {"title", "text"}, verses without
 * their numbers on lines of their own, from the program `bible` (Debian package bible-kjv).
 * ST_EUNSUPPORTED if that is not installed. */
st_status st_demo_text(const char *path, st_err *e);
/* The same from what `bible` prints: "Genesis 1", blank lines, "  1 In the beginning ...". Anything
 * else is ST_EFORMAT with the line. */
st_status st_demo_chapters(const char *text, size_t n, FILE *out, int64_t *chapters,
                           int64_t *verses, st_err *e);

/* ---- time (clock.c) -------------------------------------------------------------------------- */

/* One progress line for the whole demo: while it is open, what the jobs report is shown as part of
 * a stage. Amounts are seconds, so that what is left is an honest guess: stages that are over count
 * with the time they took, later ones with their estimates. */
typedef struct {
    st_sink outer;
    double began, base, cost, later, shown; /* seconds: start; of finished stages; of this stage;
                                               of all later ones; last amount shown */
    double stage_began;
    char what[96];
} demo_clock;

void st_demo_clock_open(demo_clock *c, double estimate);
void st_demo_clock_close(demo_clock *c, bool done);
/* Begins a stage of about `cost` seconds, after which about `later` seconds will be left. */
__attribute__((format(printf, 4, 5))) void st_demo_stage(demo_clock *c, double cost, double later,
                                                         const char *fmt, ...);
/* A line that stays. */
__attribute__((format(printf, 2, 3))) void st_demo_say(demo_clock *c, const char *fmt, ...);

/* ---- one comparison (demo.c, models.c, measure.c) -------------------------------------------- */

enum { ST_DEMO_TYPES = 64 }; /* room for what is compared */

typedef struct {
    st_demo_opts o; /* nothing in it is 0 but `steps` and `text` */
    const char *out;
    demo_clock clock;
    json_t *results, *models;
    char *data, *tokenizer; /* OUT/data, the folder with the tokenizer's files */
    int64_t vocab, eos, step_tokens, val_tokens;
    int64_t steps, heal_steps; /* of the dense model, of each healing */
    double step_seconds;       /* of a dense training step */
    st_map_view type[ST_DEMO_TYPES];
    int types;
} demo_run;

/* How samples are drawn. */
#define ST_DEMO_HEAT 0.8
enum { ST_DEMO_TOP_K = 40, ST_DEMO_SAMPLE = 80 };
/* Validations within a run, and the micro-batches of each. */
enum { ST_DEMO_VALIDATIONS = 10, ST_DEMO_VALIDATE = 4 };
/* Rates that healing is probed with, the share of its steps that a probe has, and the micro-batches
 * that tell them apart. */
enum { ST_DEMO_RATES = 4, ST_DEMO_PROBE = 10, ST_DEMO_PROBED = 8 };
/* Share of the budget for timing all models in turns. */
#define ST_DEMO_RACE 0.075

/* Text, tokenizer, shards; fills results.text and the prompt. */
st_status st_demo_prepare(demo_run *r, st_err *e);
/* Seconds that one training step of the dense model takes now. */
st_status st_demo_pace(demo_run *r, double *seconds, st_err *e);
/* Chooses steps and heal_steps so that everything fits the budget at that pace. */
st_status st_demo_plan(demo_run *r, st_err *e);
int64_t st_demo_probe_steps(const demo_run *r); /* of each probe */
/* Estimate of what so many structured and narrow models and all timings take. */
double st_demo_seconds_left(const demo_run *r, int structured, int narrow);
/* Describes training, healing and controls in the results. */
void st_demo_recipe(demo_run *r);
/* Trains, decomposes, heals; each leaves a folder under OUT/models and a row in results.models. */
st_status st_demo_dense(demo_run *r, st_err *e);
st_status st_demo_continued(demo_run *r, st_err *e);
st_status st_demo_narrow(demo_run *r, int reduction, st_err *e);
/* Fills r->type with the views of all matrix types that fit the model; logs what was left out. */
void st_demo_choose(demo_run *r);
st_status st_demo_structured(demo_run *r, int type, int reduction, st_err *e);

/* Fills a row from its model folder: sizes, perplexity, a sample. */
st_status st_demo_judge(demo_run *r, json_t *row, const char *folder, st_err *e);
/* Speeds of all models, taking turns. */
st_status st_demo_race(demo_run *r, st_err *e);
json_t *st_demo_machine(st_err *e); /* new reference */

#endif
