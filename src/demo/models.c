/* The demo's models: dense, structured by every type of matrix, and narrow dense controls. All of
 * them go through the jobs behind `strut init`, `train` and `decompose`. */
/* SPDX-License-Identifier: MIT */
#include "demo/inner.h"
#include "eval/eval.h"
#include "files/files.h"
#include "fit/fit.h"
#include "report/report.h"
#include "train/train.h"
#include <fnmatch.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Learning rate of training from scratch, found by trial on this text at this size. */
static const double models_lr = 3e-3;
/* Those that healing may have: what suits a type that has lost much spoils one that lost nothing. A
 * probe of each chooses. */
static const double models_heal_lr[ST_DEMO_RATES] = {1e-3, 3e-4, 1e-4, 3e-5};

typedef struct {
    const char *from, *to; /* model folders */
    int64_t steps;
    double lr;
    bool validate; /* a validation curve too */
    bool probe;    /* the validation loss at the end, of as much text as there is time for */
} models_job;

/* ---- rows ------------------------------------------------------------------------------------ */

static json_t *models_row(const char *name, const char *label, const char *kind, int reduction,
                          const char *folder, st_err *e)
{
    json_t *row = json_pack("{s:s, s:s, s:s, s:i, s:s}", "name", name, "label", label, "kind", kind,
                            "reduction", reduction, "folder", folder);
    if (!row) ST_ERR(e, ST_ENOMEM, "demo: no memory for a result");
    return row;
}

static int models_rise(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double models_median(const json_t *list)
{
    size_t n = json_array_size(list), i;
    const json_t *v;
    double *x = calloc(n + 1, sizeof *x), median = (double)NAN;
    if (!x) return median;
    json_array_foreach(list, i, v) x[i] = json_number_value(v);
    qsort(x, n, sizeof *x, models_rise);
    if (n) median = n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
    free(x);
    return median;
}

/* {"tokens", "loss"} of a curve of the training job. */
static json_t *models_curve(const demo_run *r, const json_t *curve)
{
    size_t i;
    const json_t *step, *loss = json_object_get(curve, "loss");
    json_t *tokens = json_array();
    json_array_foreach(json_object_get(curve, "step"), i, step)
        json_array_append_new(tokens, json_integer(json_integer_value(step) * r->step_tokens));
    return json_pack("{s:o, s:O}", "tokens", tokens, "loss", loss);
}

static void models_real(json_t *row, const char *key, double v)
{
    if (isfinite(v)) json_object_set_new(row, key, json_real(v));
}

/* ---- training -------------------------------------------------------------------------------- */

static st_status models_settings(const demo_run *r, const models_job *job, st_settings *s,
                                 st_err *e)
{
    const struct {
        const char *key;
        double value;
    } number[] = {{"seed", (double)r->o.seed},
                  {"train.steps", (double)job->steps},
                  {"train.micro_batch", (double)r->o.size.batch},
                  {"train.context", (double)r->o.size.context},
                  {"train.warmup", (double)(job->steps / 10 + 1)},
                  {"train.lr", job->lr},
                  {"train.min_lr", job->lr / 20},
                  {"train.weight_decay", 0.1},
                  {"eval.every", (double)(job->validate ? job->steps / ST_DEMO_VALIDATIONS + 1
                                          : job->probe  ? job->steps
                                                        : 0)},
                  {"eval.batches", job->probe ? ST_DEMO_PROBED : ST_DEMO_VALIDATE},
                  {"log.every", 1}};
    ST_TRY(st_settings_open(s, e));
    ST_TRY(st_settings_set(s, "data.dir", r->data, e));
    for (size_t i = 0; i < sizeof number / sizeof *number; i++) {
        char text[40];
        snprintf(text, sizeof text, "%.10g", number[i].value);
        ST_TRY(st_settings_set(s, number[i].key, text, e));
    }
    return ST_OK;
}

/* Trains the model of folder `from` in memory and writes it to folder `to` (NULL: nowhere). */
static st_status models_train(demo_run *r, const models_job *job, json_t **result, st_err *e)
{
    st_model *model = NULL;
    float *flat = NULL;
    st_bpe *tokenizer = NULL;
    st_settings set = {0};
    *result = NULL;
    st_status s = models_settings(r, job, &set, e);
    if (!s) s = st_folder_read(job->from, &model, &flat, &tokenizer, e);
    st_train_opts o = {.set = &set, .model = model, .flat = flat, .tokenizer = tokenizer};
    if (!s) s = st_train_run(&o, result, e);
    if (!s && job->to) s = st_folder_save(job->to, true, model, flat, ST_F32, tokenizer, e);
    st_settings_close(&set);
    st_bpe_close(tokenizer);
    st_model_close(model);
    free(flat);
    if (s) json_decref(*result), *result = NULL;
    return s;
}

/* The same, and what a row says of it. */
static st_status models_train_row(demo_run *r, const models_job *job, json_t *row, st_err *e)
{
    json_t *result;
    ST_TRY(models_train(r, job, &result, e));
    const json_t *curve = json_object_get(result, "curve");
    json_object_set_new(row, "steps", json_integer(job->steps));
    json_object_set_new(row, "tokens", json_integer(job->steps * r->step_tokens));
    json_object_set_new(row, "curve", models_curve(r, curve));
    if (job->validate)
        json_object_set_new(row, "validation",
                            models_curve(r, json_object_get(result, "validation")));
    models_real(row, "run_tokens_per_second",
                models_median(json_object_get(curve, "tokens_per_second")));
    json_decref(result);
    return ST_OK;
}

/* What was done, in the results: the numbers that models_settings sets. */
static json_t *models_recipe_of(const demo_run *r, int64_t steps, double lr)
{
    return json_pack("{s:I, s:I, s:s, s:f, s:f, s:I, s:s, s:f}", "steps", (json_int_t)steps,
                     "tokens_per_step", (json_int_t)r->step_tokens, "optimizer",
                     "AdamW (0.9, 0.95), gradient norm at most 1", "learning_rate", lr,
                     "falling_to", lr / 20, "warm-up_steps", (json_int_t)(steps / 10 + 1),
                     "schedule", "cosine", "weight_decay", 0.1);
}

void st_demo_recipe(demo_run *r)
{
    json_object_set_new(r->results, "train", models_recipe_of(r, r->steps, models_lr));
    json_t *heal = models_recipe_of(r, r->heal_steps, models_heal_lr[0]);
    char rate[200];
    size_t n = 0;
    for (int i = 0; i < ST_DEMO_RATES; i++)
        n += (size_t)snprintf(rate + n, sizeof rate - n, "%s%g", i ? ", " : "", models_heal_lr[i]);
    snprintf(rate + n, sizeof rate - n,
             ": of these the one with the least validation loss after %lld steps",
             (long long)st_demo_probe_steps(r));
    json_object_set_new(heal, "learning_rate", json_string(rate));
    json_object_set_new(heal, "falling_to", json_string("a twentieth of it"));
    json_object_set_new(r->results, "heal", heal);
    json_object_set_new(r->results, "control",
                        models_recipe_of(r, r->steps + r->heal_steps, models_lr));
}

/* ---- dense ----------------------------------------------------------------------------------- */

/* A folder with a fresh dense model whose MLPs are `inner` wide. */
static st_status models_fresh(demo_run *r, int64_t inner, const char *folder, st_err *e)
{
    char *config = NULL;
    json_t *facts = NULL;
    json_t *j =
        json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:I, s:I, s:b}", "model_type", "gpt2",
                  "vocab_size", (json_int_t)r->vocab, "n_layer", (json_int_t)r->o.size.layers,
                  "n_head", (json_int_t)r->o.size.heads, "n_embd", (json_int_t)r->o.size.width,
                  "n_inner", (json_int_t)inner, "n_positions", (json_int_t)r->o.size.context,
                  "activation_function", "gelu_new", "bos_token_id", (json_int_t)r->eos,
                  "eos_token_id", (json_int_t)r->eos, "tie_word_embeddings", 1);
    static const char *const drop[] = {"embd_pdrop", "attn_pdrop", "resid_pdrop"};
    for (size_t i = 0; j && i < 3; i++)
        json_object_set_new(j, drop[i], json_real(0));
    st_status s = ST_OK;
    if (!j || asprintf(&config, "%s/config-inner-%lld.json", r->out, (long long)inner) < 0)
        s = ST_ERR(e, ST_ENOMEM, "demo: no memory for a config");
    st_init_opts o = {
        .seed = r->o.seed, .dtype = ST_F32, .tokenizer = r->tokenizer, .replace = true};
    if (!s) s = st_write_json(config, j, e);
    if (!s) s = st_init_model(config, folder, &o, &facts, e);
    json_decref(facts);
    json_decref(j);
    free(config);
    return s;
}

/* Seconds of a training step, from a few that are thrown away. */
st_status st_demo_pace(demo_run *r, double *seconds, st_err *e)
{
    enum { PACE_STEPS = 8 };
    char folder[4096];
    json_t *result;
    snprintf(folder, sizeof folder, "%s/models/dense", r->out);
    ST_TRY(models_fresh(r, r->o.size.inner, folder, e));
    models_job job = {.from = folder, .steps = PACE_STEPS, .lr = models_lr};
    ST_TRY(models_train(r, &job, &result, e));
    const json_t *curve = json_object_get(result, "curve");
    double speed = models_median(json_object_get(curve, "tokens_per_second"));
    json_decref(result);
    if (!(speed > 0)) ST_FAIL(e, ST_EARG, "demo: the training job reported no speed");
    *seconds = (double)r->step_tokens / speed;
    return ST_OK;
}

st_status st_demo_dense(demo_run *r, st_err *e)
{
    char folder[4096];
    snprintf(folder, sizeof folder, "%s/models/dense", r->out);
    json_t *row = models_row("dense", "dense", "dense", 1, "models/dense", e);
    if (!row) return ST_ENOMEM;
    models_job job = {folder, folder, r->steps, models_lr, true, false};
    st_status s = models_train_row(r, &job, row, e);
    double speed = st_row_num(row, "run_tokens_per_second"); /* truer than that of a few steps */
    if (!s && speed > 0) r->step_seconds = (double)r->step_tokens / speed;
    if (!s) s = st_demo_judge(r, row, folder, e);
    if (!s) json_array_append(r->models, row);
    json_decref(row);
    return s;
}

/* ---- healing --------------------------------------------------------------------------------- */

/* The rate with which the model of folder `from` is best after a few steps. */
static st_status models_heal_rate(demo_run *r, const char *from, double *lr, st_err *e)
{
    double best = (double)INFINITY;
    for (int i = 0; i < ST_DEMO_RATES; i++) {
        json_t *result;
        models_job job = {
            .from = from, .steps = st_demo_probe_steps(r), .lr = models_heal_lr[i], .probe = true};
        ST_TRY(models_train(r, &job, &result, e));
        double loss = st_row_num(result, "val_loss");
        json_decref(result);
        if (!(loss < best) && i) continue;
        best = loss;
        *lr = models_heal_lr[i];
    }
    return ST_OK;
}

/* Heals the model of `from` into `to`, and judges it. */
static st_status models_heal(demo_run *r, const char *from, const char *to, json_t *row, st_err *e)
{
    models_job job = {.from = from, .to = to, .steps = r->heal_steps};
    ST_TRY(models_heal_rate(r, from, &job.lr, e));
    json_object_set_new(row, "healing_rate", json_real(job.lr));
    ST_TRY(models_train_row(r, &job, row, e));
    return st_demo_judge(r, row, to, e);
}

/* The dense model after the steps that the structured ones get for healing: what is due to training
 * on, not to structure. */
st_status st_demo_continued(demo_run *r, st_err *e)
{
    char from[4096], folder[4096];
    snprintf(from, sizeof from, "%s/models/dense", r->out);
    snprintf(folder, sizeof folder, "%s/models/dense-continued", r->out);
    json_t *row =
        models_row("dense, continued", "dense, continued", "dense", 1, "models/dense-continued", e);
    if (!row) return ST_ENOMEM;
    st_status s = models_heal(r, from, folder, row, e);
    if (!s) json_array_append(r->models, row);
    json_decref(row);
    return s;
}

st_status st_demo_narrow(demo_run *r, int reduction, st_err *e)
{
    char name[40], at[64], folder[4096];
    snprintf(name, sizeof name, "narrow %dx", reduction);
    snprintf(at, sizeof at, "models/narrow-%dx", reduction);
    snprintf(folder, sizeof folder, "%s/%s", r->out, at);
    json_t *row = models_row(name, "narrow", "narrow", reduction, at, e);
    if (!row) return ST_ENOMEM;
    st_status s = models_fresh(r, r->o.size.inner / reduction, folder, e);
    /* as many tokens as dense training and healing have together */
    models_job job = {folder, folder, r->steps + r->heal_steps, models_lr, true, false};
    if (!s) s = models_train_row(r, &job, row, e);
    if (!s) s = st_demo_judge(r, row, folder, e);
    if (!s) json_array_append(r->models, row);
    json_decref(row);
    return s;
}

/* ---- structured ------------------------------------------------------------------------------ */

/* "GLOB=SPEC" of one MLP matrix with 1/reduction of the dense weights. */
static st_status models_spec(const st_map_view *view, int reduction, const char *matrix, int64_t in,
                             int64_t out, char text[ST_SPEC_TEXT + 64], st_err *e)
{
    st_spec s;
    char fitted[ST_SPEC_TEXT];
    ST_TRY(st_spec_fit(&s, view->fit, in, out, in * out / reduction, e));
    st_spec_print(&s, fitted);
    snprintf(text, ST_SPEC_TEXT + 64, "h.*.mlp.%s=%s%s", matrix, fitted, view->knobs);
    return st_spec_parse(&s, strchr(text, '=') + 1, in, out, e);
}

/* Every view of the table whose two matrices can have both sizes. */
void st_demo_choose(demo_run *r)
{
    char text[ST_SPEC_TEXT + 64];
    int64_t w = r->o.size.width, inner = r->o.size.inner;
    st_map_view view;
    for (int i = 0; st_map_view_at(i, &view); i++) {
        st_err why = {0};
        st_status s = ST_OK;
        for (int reduction = 2; reduction <= 4 && !s; reduction += 2) {
            s = models_spec(&view, reduction, "c_fc", w, inner, text, &why);
            if (!s) s = models_spec(&view, reduction, "c_proj", inner, w, text, &why);
        }
        if (s)
            st_log(ST_LOG_WARN, "left out: %s: %s", view.label, why.msg);
        else if (r->types < ST_DEMO_TYPES)
            r->type[r->types++] = view;
    }
}

static st_status models_decompose(demo_run *r, const st_map_view *type, int reduction,
                                  const char *folder, st_err *e)
{
    char from[4096], fc[ST_SPEC_TEXT + 64], proj[ST_SPEC_TEXT + 64];
    json_t *result = NULL;
    snprintf(from, sizeof from, "%s/models/dense", r->out);
    ST_TRY(models_spec(type, reduction, "c_fc", r->o.size.width, r->o.size.inner, fc, e));
    ST_TRY(models_spec(type, reduction, "c_proj", r->o.size.inner, r->o.size.width, proj, e));
    const char *maps[] = {fc, proj};
    st_decompose_opts o = {
        .maps = maps, .nmaps = 2, .seed = r->o.seed, .dtype = ST_F32, .replace = true};
    st_status s = st_decompose(from, folder, &o, &result, e);
    json_decref(result);
    return s;
}

st_status st_demo_structured(demo_run *r, int type, int reduction, st_err *e)
{
    char name[64], at[96], folder[4096];
    json_t *result = NULL;
    const st_map_view *view = &r->type[type];
    snprintf(name, sizeof name, "%s %dx", view->label, reduction);
    snprintf(at, sizeof at, "models/%s", name);
    for (char *c = at; *c; c++)
        if (*c == ' ') *c = '-';
    snprintf(folder, sizeof folder, "%s/%s", r->out, at);
    json_t *row = models_row(name, view->label, "structured", reduction, at, e);
    if (!row) return ST_ENOMEM;
    st_perplexity_opts how = {.dtype = ST_F32};
    char *val = st_path_join(r->data, "val.bin");
    st_status s = models_decompose(r, view, reduction, folder, e);
    if (!s) s = st_perplexity(folder, val, &how, &result, e);
    if (!s) models_real(row, "perplexity_projected", st_row_num(result, "perplexity"));
    if (!s) s = models_heal(r, folder, folder, row, e);
    double before = st_row_num(row, "perplexity_projected"), after = st_row_num(row, "perplexity");
    models_real(row, "perplexity_healed", after);
    models_real(row, "healing_gain", 100 * (1 - after / before));
    if (!s && after > before) { /* it ends no worse than it began */
        s = models_decompose(r, view, reduction, folder, e);
        if (!s) s = st_demo_judge(r, row, folder, e);
    }
    if (!s) json_array_append(r->models, row);
    json_decref(result);
    json_decref(row);
    free(val);
    return s;
}
