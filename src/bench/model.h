/* Inside of bench model: the models that are compared (model.c), their controls
 * (control.c), and how they are timed (model_run.c). */
/* SPDX-License-Identifier: MIT */
#ifndef ST_BENCH_MODEL_H
#define ST_BENCH_MODEL_H

#include "bench/bench.h"
#include "bench/inner.h"
#include "model/model.h"

enum { MODEL_CASES = 96, MODEL_KINDS = 3 };
typedef enum { MODEL_FORWARD, MODEL_STEP, MODEL_DECODE } model_kind;

typedef struct model_bench model_bench;
typedef struct {
    model_bench *b;
    st_model *m;
    char name[ST_SPEC_TEXT];
    const char *control; /* "none", or what kind of control it is */
    st_attention way[2]; /* of a classifier's token modules */
    st_arena kept;       /* their random directions, where those are kept */
    st_cost cost[MODEL_KINDS];
    st_decode step; /* of decoding */
} model_case;

/* What is timed together: all models on one batch of one context in one dtype. */
typedef struct {
    st_dtype dtype;
    int64_t batch, context;
    bool decodes; /* the first part of a dtype also decodes, which has no batch */
} model_part;

struct model_bench {
    const st_bench_model_opts *o;
    bench_session run;
    char suite[64];
    model_case c[MODEL_CASES]; /* n of them, the dense one first */
    int64_t n;
    bool vision;      /* classifiers of images, each of them */
    model_part *part; /* of run.n parts, as they are timed once they were */
    model_part now;
    int64_t decode; /* tokens before the one that is decoded */
    size_t bytes, scratch;
    int64_t elements;
    st_arena mem, tmp;
    st_tensor weights, grads, ids, targets, loss, pixels, logits;
    st_kv kv;
};

/* Adds the model of `config` (taken over). */
st_status model_add(model_bench *b, json_t *config, const char *name, const char *control,
                    st_err *e);
/* experiment.c: "model.n_layer=2", but not a path with a '='. */
bool model_is_override(const char *word);
/* GROUP of "experiment=GROUP" among the models; NULL: there is none. */
const char *model_experiment_name(const st_bench_model_opts *o);
/* Adds each model of the group, composed with the overrides; the dense one first. */
st_status model_experiment(model_bench *b, st_err *e);
/* What a model's matrices are. */
typedef struct {
    bool structured, lowrank; /* any is not dense; all of those are low rank */
    int64_t matrices;
} model_form;
model_form model_form_of(const st_model *m);
/* Beside every structured model a narrower dense one and a low-rank one of as many parameters,
 * unless the models have them already (which then count as controls). */
st_status model_controls(model_bench *b, st_err *e);
/* outer.c: whether `m` of `name` may be timed beside the others, and as this is asked for.
 */
st_status model_may(model_bench *b, const st_model *m, const char *name, st_err *e);
/* The outside of a model. `tokens`: a language model's context, a classifier's in its blocks. */
typedef struct {
    int64_t layers, width, inner, tokens, outputs; /* `outputs`: tokens or classes known */
    int64_t pixels;                                /* to a side, of classifiers */
} model_outer;
model_outer model_outer_of(const st_model *m);
/* Models that are compared are of one outer shape. */
st_status model_alike(const model_outer *first, const model_outer *m, const char *name, st_err *e);
/* A row for each way to attend that was asked for. */
st_status model_ways(model_bench *b, st_err *e);
st_vision_args model_vision_args(const model_bench *b, const model_case *c);
/* Times every part. */
st_status model_run(model_bench *b, st_err *e);

#endif
