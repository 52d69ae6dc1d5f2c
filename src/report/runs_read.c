/* A training run's folder as one row of a report: its settings, its model, what it learnt and how
 * fast. Weights are never opened. */
/* SPDX-License-Identifier: MIT */
#include "files/files.h"
#include "report/runs.h"
#include "store/store.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RUN_JSON = 1 << 24, RUN_LINE = 1 << 16, RUN_YAML = 1 << 20, RUN_ROWS = 1 << 20 };

bool st_runs_is(const char *dir)
{
    char *path = st_path_join(dir, "metrics.jsonl");
    bool there = path && st_path_is_file(path);
    free(path);
    return there;
}

/* What a float32 cannot hold was not measured: such numbers would overflow where figures add them
 * up. */
static bool run_sane(double v)
{
    return fabs(v) <= (double)FLT_MAX;
}

static double run_num(const json_t *row, const char *key)
{
    double v = st_row_num(row, key);
    return run_sane(v) ? v : (double)NAN;
}

/* A number that is known. */
static void run_put(json_t *row, const char *key, double v)
{
    if (run_sane(v)) json_object_set_new(row, key, json_real(v));
}

/* ---- metrics --------------------------------------------------------------------------------- */

typedef struct {
    double *x, *y;
    int64_t n, cap;
} run_curve;

static bool run_add(run_curve *c, double x, double y)
{
    if (c->n == c->cap) {
        int64_t cap = c->cap ? 2 * c->cap : 256;
        double *nx = realloc(c->x, (size_t)cap * sizeof *nx);
        if (nx) c->x = nx;
        double *ny = realloc(c->y, (size_t)cap * sizeof *ny);
        if (ny) c->y = ny;
        if (!nx || !ny) return false;
        c->cap = cap;
    }
    c->x[c->n] = x;
    c->y[c->n++] = y;
    return true;
}

static json_t *run_curve_json(const run_curve *c)
{
    json_t *tokens = json_array(), *loss = json_array();
    for (int64_t i = 0; i < c->n; i++) {
        json_array_append_new(tokens, json_real(c->x[i]));
        json_array_append_new(loss, json_real(c->y[i]));
    }
    return json_pack("{s:o, s:o}", "tokens", tokens, "loss", loss);
}

static int run_rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct {
    run_curve train, val, speed;
    double step, tokens, seconds, per_step, best, best_step;
} run_metrics;

static bool run_line(run_metrics *m, const char *line, size_t n)
{
    json_t *j = NULL;
    if (st_json_parse(&j, line, n, "metrics", NULL)) return false;
    double step = run_num(j, "step"), tokens = run_num(j, "tokens");
    double loss = run_num(j, "loss"), val = run_num(j, "val_loss");
    double speed = run_num(j, "tokens_per_second"), seconds = run_num(j, "seconds");
    json_decref(j);
    if (!isfinite(step)) return false;
    m->step = fmax(m->step, step);
    if (isfinite(seconds)) m->seconds = fmax(m->seconds, seconds);
    if (isfinite(tokens) && step > 0) m->per_step = tokens / step;
    if (isfinite(tokens)) m->tokens = fmax(m->tokens, tokens);
    if (isfinite(val)) {
        if (!(val >= m->best)) {
            m->best = val;
            m->best_step = step;
        }
        return run_add(&m->val, step, val);
    }
    if (isfinite(speed) && speed > 0 && !run_add(&m->speed, 0, speed)) return false;
    return !isfinite(loss) || run_add(&m->train, isfinite(tokens) ? tokens : step, loss);
}

/* Rows of metrics.jsonl up to the first that cannot be read (a run may be going on). */
static st_status run_metrics_read(run_metrics *m, const char *dir, st_err *e)
{
    char *path = st_path_join(dir, "metrics.jsonl"), *line = malloc(RUN_LINE);
    FILE *f = path ? fopen(path, "re") : NULL;
    st_status s = ST_OK;
    *m = (run_metrics){.best = (double)NAN, .best_step = (double)NAN};
    if (!line || !f) s = ST_ERR(e, ST_EIO, "%s: cannot be read", path);
    for (int64_t rows = 0; !s && rows < RUN_ROWS && fgets(line, RUN_LINE, f); rows++)
        if (!run_line(m, line, strlen(line))) break;
    for (int64_t i = 0; i < m->val.n; i++)
        m->val.x[i] *= m->per_step > 0 ? m->per_step : 1;
    if (f) fclose(f);
    free(line);
    free(path);
    return s;
}

static void run_metrics_put(json_t *row, run_metrics *m)
{
    run_put(row, "step", m->step);
    run_put(row, "tokens", m->tokens);
    run_put(row, "seconds", m->seconds > 0 ? m->seconds : (double)NAN);
    run_put(row, "perplexity", exp(m->best));
    run_put(row, "best_step", m->best_step);
    if (m->speed.n) {
        qsort(m->speed.y, (size_t)m->speed.n, sizeof *m->speed.y, run_rising);
        run_put(row, "tokens_per_second", m->speed.y[m->speed.n / 2]);
    }
    json_object_set_new(row, "curve", run_curve_json(&m->train));
    json_object_set_new(row, "validation", run_curve_json(&m->val));
}

static void run_metrics_free(run_metrics *m)
{
    run_curve *c[] = {&m->train, &m->val, &m->speed};
    for (int i = 0; i < 3; i++) {
        free(c[i]->x);
        free(c[i]->y);
    }
}

/* ---- settings -------------------------------------------------------------------------------- */

static const char *run_setting(const st_node *root, const char *section, const char *key)
{
    const st_node *n = root && root->kind == ST_NODE_MAP ? root : NULL;
    if (n && section) n = st_node_get(n, section);
    if (n && n->kind == ST_NODE_MAP) n = st_node_get(n, key);
    return n && n->kind == ST_NODE_SCALAR ? n->text : NULL;
}

static void run_text(json_t *row, const char *key, const char *text)
{
    if (text && *text) json_object_set_new(row, key, st_json_text(text));
}

static st_status run_settings(const char *dir, json_t *row, st_err *e)
{
    char *path = st_path_join(dir, "config.yaml"), *text = NULL;
    st_node *root = NULL;
    size_t n;
    if (!path) return ST_NOMEM(e, dir);
    st_status s = ST_OK;
    if (st_path_is_file(path)) {
        s = st_read_file(path, RUN_YAML, &text, &n, e);
        if (!s) s = st_yaml_parse(&root, text, n, path, e);
    }
    if (!s && root) {
        double steps;
        const char *all = run_setting(root, "train", "steps");
        run_text(row, "config", text);
        run_text(row, "name", run_setting(root, NULL, "name"));
        run_text(row, "dtype", run_setting(root, NULL, "dtype"));
        run_text(row, "seed", run_setting(root, NULL, "seed"));
        if (all && st_parse_num(all, &steps)) run_put(row, "steps", steps);
    }
    st_node_free(root);
    free(text);
    free(path);
    return s;
}

/* ---- the model ------------------------------------------------------------------------------- */

enum { LABELS = 6 };
typedef struct {
    char label[LABELS][ST_SPEC_TEXT];
    int count[LABELS], labels, other;
    const char *type;
    bool mixed;
} run_maps;

static void run_matrix(void *ctx, const char *name, const st_spec *spec)
{
    run_maps *m = ctx;
    char text[ST_SPEC_TEXT];
    (void)name;
    if (spec->type == &st_map_dense) return;
    m->mixed = m->mixed || (m->type && strcmp(m->type, spec->type->name) != 0);
    m->type = spec->type->name;
    st_spec_label(spec, text);
    for (int i = 0; i < m->labels; i++) {
        if (strcmp(m->label[i], text) != 0) continue;
        m->count[i]++;
        return;
    }
    if (m->labels == LABELS) {
        m->other++;
        return;
    }
    m->count[m->labels] = 1;
    snprintf(m->label[m->labels++], ST_SPEC_TEXT, "%s", text);
}

/* "ss1:factor=4 (24)" and so on; of one kind alone without its count. */
static json_t *run_maps_text(const run_maps *m)
{
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    if (!f) return NULL;
    for (int i = 0; i < m->labels; i++) {
        fprintf(f, "%s%s", i ? ", " : "", m->label[i]);
        if (m->labels > 1) fprintf(f, " (%d)", m->count[i]);
    }
    if (m->other) fprintf(f, ", %d more", m->other);
    fclose(f);
    json_t *j = st_json_text(text);
    free(text);
    return j;
}

/* The facts of a model without its weights: label, kind, maps, parameters, macs. */
static st_status run_model_facts(const json_t *config, json_t **out, st_err *e)
{
    st_model *m = NULL;
    json_t *all = NULL;
    run_maps maps = {0};
    ST_TRY(st_model_open(&m, config, e));
    st_status s = st_model_facts(m, "cpu", &all, e);
    if (!s) {
        double width = st_row_num(all, "width"), inner = st_row_num(all, "inner");
        st_model_matrices(m, run_matrix, &maps);
        const char *plain = inner < 4 * width ? "narrow" : "dense";
        *out = json_pack("{s:s, s:s, s:o}", "label",
                         maps.mixed  ? "mixed"
                         : maps.type ? maps.type
                                     : plain,
                         "kind", maps.type ? "structured" : plain, "maps",
                         maps.labels ? run_maps_text(&maps) : json_string(plain));
        double body = st_row_num(all, "parameters") - st_row_num(all, "embedding_parameters");
        run_put(*out, "parameters", st_row_num(all, "parameters"));
        run_put(*out, "embedding_parameters", st_row_num(all, "embedding_parameters"));
        run_put(*out, "body_parameters", body);
        run_put(*out, "macs_per_token", st_row_num(all, "macs_per_token"));
        json_decref(all);
    }
    st_model_close(m);
    return s;
}

/* config.json of a checkpoint: of the best, else the last one. NULL: none. */
static json_t *run_model_config(const char *dir)
{
    static const char *const name[] = {"ckpt/best/config.json", "ckpt/last/config.json"};
    json_t *config = NULL;
    for (int i = 0; i < 2 && !config; i++) {
        char *path = st_path_join(dir, name[i]);
        if (path && st_path_is_file(path) && st_json_load(&config, path, RUN_JSON, NULL))
            config = NULL;
        free(path);
    }
    return config;
}

static st_status run_model(const char *dir, st_runs_cache *cache, json_t *row, st_err *e)
{
    json_t *config = run_model_config(dir), *facts = NULL;
    if (!config) return ST_OK;
    char *text = json_dumps(config, JSON_COMPACT | JSON_SORT_KEYS);
    if (!cache->facts) cache->facts = json_object();
    st_status s = text && cache->facts ? ST_OK : ST_NOMEM(e, dir);
    if (!s && !json_object_get(cache->facts, text)) {
        s = run_model_facts(config, &facts, e);
        if (!s) json_object_set_new(cache->facts, text, facts);
    }
    if (!s) json_object_update(row, json_object_get(cache->facts, text));
    free(text);
    json_decref(config);
    return s;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* What the run itself said at its end, where it did. */
static void run_result(const char *dir, json_t *row)
{
    static const char *const take[] = {"parameters", "macs_per_token",  "machine",
                                       "commit",     "test_perplexity", "status"};
    char *path = st_path_join(dir, "result.json");
    json_t *result = NULL;
    if (path && st_path_is_file(path) && !st_json_load(&result, path, RUN_JSON, NULL)) {
        for (size_t i = 0; i < sizeof take / sizeof *take; i++) {
            json_t *v = json_object_get(result, take[i]);
            bool known = json_is_number(v) ? run_sane(json_number_value(v)) : json_is_string(v);
            if (known && !json_object_get(row, take[i])) json_object_set(row, take[i], v);
        }
        json_decref(result);
    }
    free(path);
}

static const char *run_folder_name(const char *dir)
{
    const char *slash = strrchr(dir, '/');
    return slash && slash[1] ? slash + 1 : dir;
}

st_status st_runs_read(const char *dir, st_runs_cache *cache, json_t **row, st_err *e)
{
    run_metrics m = {0};
    *row = json_pack("{s:o, s:o, s:s, s:s}", "name", st_json_text(run_folder_name(dir)), "folder",
                     st_json_text(dir), "label", "unknown", "kind", "structured");
    if (!*row) return ST_NOMEM(e, dir);
    st_status s = run_metrics_read(&m, dir, e);
    if (!s) s = run_settings(dir, *row, e);
    if (!s) s = run_model(dir, cache, *row, e);
    if (!s) {
        run_metrics_put(*row, &m);
        run_result(dir, *row);
        double steps = st_row_num(*row, "steps");
        bool over = strcmp(st_row_str(*row, "status"), "stopped") == 0; /* early, as it was told */
        json_object_set_new(*row, "complete", json_boolean(over || !(m.step < steps)));
    }
    run_metrics_free(&m);
    if (s) {
        json_decref(*row);
        *row = NULL;
    }
    return s;
}
