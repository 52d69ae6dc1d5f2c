/* What a run says of itself: the plan before it, the result after it, and OUT/result.json, which
 * has all of the result but its curves, so that a reader need not open weights. */
/* SPDX-License-Identifier: MIT */
#include "train/inner.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static json_t *result_real(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

static json_t *result_whole(double x)
{
    return json_integer((json_int_t)(x + 0.5));
}

/* ---- layers ---------------------------------------------------------------------------------- */

struct result_layers {
    const st_net *net;
    json_t *list; /* of the plan */
    json_t *maps; /* {MATRIX: SPEC} of structured ones */
};

/* A matrix's parameters are one row, those of a norm are, and each other one is. */
static void result_layer_name(const st_param *p, char name[128])
{
    snprintf(name, 128, "%s", p->matrix ? p->matrix : p->name);
    char *dot = p->matrix ? NULL : strrchr(name, '.');
    if (dot) *dot = '\0';
}

static void result_layer(void *ctx, const st_param *p)
{
    struct result_layers *l = ctx;
    char name[128], spec[ST_SPEC_TEXT] = "";
    result_layer_name(p, name);
    size_t n = json_array_size(l->list);
    json_t *row = n ? json_array_get(l->list, n - 1) : NULL;
    if (p->spec) st_spec_label(p->spec, spec);
    if (!row || strcmp(json_string_value(json_object_get(row, "name")), name) != 0) {
        row = json_pack("{s:s, s:s, s:I, s:I}", "name", name, "spec", spec, "parameters",
                        (json_int_t)0, "frozen", (json_int_t)0);
        if (!row) return;
        json_array_append_new(l->list, row);
        if (p->spec) {
            json_object_set_new(row, "in", json_integer(p->spec->in));
            json_object_set_new(row, "out", json_integer(p->spec->out));
        }
    }
    int64_t numbers = st_numel(p->w);
    bool frozen = st_groups_frozen(l->net, p);
    json_integer_set(json_object_get(row, "parameters"),
                     json_integer_value(json_object_get(row, "parameters")) + numbers);
    if (frozen)
        json_integer_set(json_object_get(row, "frozen"),
                         json_integer_value(json_object_get(row, "frozen")) + numbers);
}

static void result_map(void *ctx, const char *name, const st_spec *spec)
{
    struct result_layers *l = ctx;
    char text[ST_SPEC_TEXT];
    st_spec_print(spec, text);
    if (strcmp(text, "dense") != 0) json_object_set_new(l->maps, name, json_string(text));
}

/* ---- the plan -------------------------------------------------------------------------------- */

static json_t *result_memory(const st_trainer *t)
{
    st_trainer_bytes b = st_trainer_memory(t);
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "weights", (json_int_t)b.weights,
                     "gradients", (json_int_t)b.gradients, "optimizer", (json_int_t)b.optimizer,
                     "average", (json_int_t)b.average, "activations", (json_int_t)b.activations,
                     "teacher", (json_int_t)b.teacher, "staging", (json_int_t)b.staging, "total",
                     (json_int_t)b.total);
}

static void result_costs(const st_trainer *t, json_t *r)
{
    int64_t per = t->data.rows * t->data.context * t->data.accumulate;
    st_model_count n = st_model_counts(t->net.model);
    struct result_layers l = {&t->net, NULL, json_object()};
    st_model_matrices(t->net.model, result_map, &l);
    json_object_set_new(r, "parameters", json_integer(t->net.parameters));
    json_object_set_new(r, "trainable", json_integer(t->net.parameters - t->net.frozen));
    json_object_set_new(r, "frozen", json_integer(t->net.frozen));
    json_object_set_new(r, "embedding_parameters", json_integer(n.embedding_parameters));
    json_object_set_new(r, "macs_per_token", result_whole(t->net.eval_macs));
    /* The dry run does not leave out what frozen parameters spare. */
    bool known = t->net.frozen == 0;
    json_object_set_new(r, "training_macs_per_token",
                        known ? result_whole(t->net.grad_macs) : json_null());
    json_object_set_new(r, "flops_per_step",
                        known ? json_real(2.0 * t->net.grad_macs * (double)per) : json_null());
    json_object_set_new(r, "tokens_per_step", json_integer(per));
    json_object_set_new(r, "steps", json_integer(t->pace.steps));
    json_object_set_new(r, "steps_per_epoch", json_integer(t->data.per_epoch));
    json_object_set_new(r, "maps", l.maps);
    json_object_set_new(r, "memory", result_memory(t));
}

json_t *st_result_plan(const st_trainer *t)
{
    struct result_layers l = {&t->net, json_array(), NULL};
    json_t *r = json_pack("{s:o}", "init", st_json_text(t->set->init));
    if (!r || !l.list) {
        json_decref(l.list);
        return r;
    }
    st_model_params(t->net.model, result_layer, &l);
    result_costs(t, r);
    json_object_set_new(r, "layers", l.list);
    json_object_set_new(r, "groups", st_groups_json(&t->net, &t->pace));
    if (t->disk.warm) json_object_set(r, "warmstart", t->disk.warm);
    return r;
}

/* ---- the result ------------------------------------------------------------------------------ */

static void result_best(const st_trainer *t, json_t *r)
{
    const st_train_state *s = &t->state;
    char text[ST_STOP_TEXT];
    if (s->best_step >= 0) {
        json_object_set_new(r, "best",
                            json_pack("{s:I, s:f, s:f, s:b}", "step", (json_int_t)s->best_step,
                                      "val_loss", s->best_loss, "val_perplexity",
                                      fmin(exp(s->best_loss), 1e300), "kept",
                                      t->disk.out && t->set->ckpt.best));
    }
    if (s->ranked > 0) json_object_set_new(r, "top", st_rank_json(s));
    st_stop_text(t->set, s, text);
    json_object_set_new(r, "stopped", s->stopped ? json_string(text) : json_null());
}

/* What each operation took; NULL where nothing was measured. */
static json_t *result_profile(st_stream *q)
{
    const st_profile_row *row;
    int n = st_stream_profiled(q, &row);
    json_t *rows = n ? json_array() : NULL;
    for (int i = 0; i < n && rows; i++) {
        json_array_append_new(rows, json_pack("{s:s, s:I, s:I, s:I, s:f}", "op", row[i].op, "calls",
                                              (json_int_t)row[i].calls, "macs",
                                              (json_int_t)row[i].macs, "bytes",
                                              (json_int_t)row[i].bytes, "seconds", row[i].seconds));
    }
    return rows;
}

json_t *st_result(const st_trainer *t, const json_t *test, bool interrupted)
{
    const st_train_state *s = &t->state;
    int64_t tokens = st_epoch_tokens(&t->data, s->step);
    double speed = s->seconds > 0 ? (double)tokens / s->seconds : (double)NAN;
    const char *status = interrupted ? "interrupted" : s->stopped ? "stopped" : "complete";
    json_t *r = json_pack("{s:s, s:o, s:o, s:I, s:f, s:I, s:o, s:o, s:o, s:f, s:o, s:o}", "status",
                          status, "name", t->set->name ? st_json_text(t->set->name) : json_null(),
                          "out", t->disk.out ? st_json_text(t->disk.out) : json_null(), "step",
                          (json_int_t)s->step, "epochs", st_epoch_done(&t->data), "tokens",
                          (json_int_t)tokens, "loss", result_real(s->loss), "val_loss",
                          result_real(s->val_loss), "val_perplexity", result_real(exp(s->val_loss)),
                          "seconds", s->seconds, "tokens_per_second", result_real(speed), "gflops",
                          result_real(st_monitor_gflops(&t->net, speed)));
    if (!r) return NULL;
    double mfu = st_monitor_mfu(&t->net, speed);
    if (isfinite(mfu)) json_object_set_new(r, "mfu", json_real(mfu));
    result_costs(t, r);
    result_best(t, r);
    if (t->disk.warm) json_object_set(r, "warmstart", t->disk.warm);
    if (test) {
        json_object_set(r, "test", (json_t *)(uintptr_t)test);
        json_object_set(r, "test_perplexity", json_object_get(test, "perplexity"));
    }
    json_t *machine = st_machine_json(st_stream_describe(t->net.q), st_stream_threads(t->net.q));
    json_object_update_missing(r, machine);
    json_decref(machine);
    json_t *profile = result_profile(t->net.q);
    if (profile) json_object_set_new(r, "profile", profile);
    st_metrics_result(&t->watch.metrics, r);
    return r;
}

st_status st_result_write(const char *out, const json_t *result, st_err *e)
{
    if (!out) return ST_OK;
    char *path = st_path_join(out, "result.json");
    json_t *few = json_copy((json_t *)(uintptr_t)result);
    if (!path || !few) {
        free(path);
        json_decref(few);
        return ST_NOMEM(e, out);
    }
    json_object_del(few, "curve");
    json_object_del(few, "validation");
    json_object_del(few, "profile");
    json_object_set_new(few, "format", json_integer(1));
    st_status s = st_write_json(path, few, e);
    json_decref(few);
    free(path);
    return s;
}
