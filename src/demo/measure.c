/* What the demo measures of its models, through the jobs behind `strut info`, `perplexity`,
 * `generate` and `bench model`. */
/* SPDX-License-Identifier: MIT */
#include "bench/bench.h"
#include "demo/inner.h"
#include "eval/eval.h"
#include "files/files.h"
#include "report/report.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

/* ---- one model ------------------------------------------------------------------------------- */

typedef struct {
    const st_model *model;
    json_t *maps;
    int64_t weights;
} measure_mlp;

static void measure_matrix(void *ctx, const char *name, const st_spec *spec)
{
    measure_mlp *m = ctx;
    char text[ST_SPEC_TEXT];
    if (!st_role_hidden(st_model_slot(m->model, name)->role)) return;
    m->weights += st_spec_weights(spec);
    st_spec_print(spec, text);
    json_object_set_new(m->maps, strrchr(name, '.') + 1, json_string(text));
}

static st_status measure_size(json_t *row, const char *folder, st_err *e)
{
    static const char *const keep[] = {"parameters", "embedding_parameters", "bytes",
                                       "macs_per_token", "inner"};
    json_t *info = NULL, *config = NULL;
    st_model *model = NULL;
    char *path = st_path_join(folder, "config.json");
    measure_mlp mlp = {NULL, json_object(), 0};
    st_status s = st_info(folder, NULL, &info, e);
    if (!s && path) s = st_json_load(&config, path, 1 << 20, e);
    if (!s) s = st_model_open(&model, config, e);
    if (!s) {
        for (size_t i = 0; i < sizeof keep / sizeof *keep; i++)
            json_object_set(row, keep[i], json_object_get(info, keep[i]));
        mlp.model = model;
        st_model_matrices(model, measure_matrix, &mlp);
        json_object_set_new(row, "mlp_parameters", json_integer(mlp.weights));
        json_object_set(row, "maps", mlp.maps);
        json_object_set_new(row, "body_parameters",
                            json_integer((json_int_t)(st_row_num(row, "parameters") -
                                                      st_row_num(row, "embedding_parameters"))));
    }
    st_model_close(model);
    json_decref(mlp.maps);
    json_decref(config);
    json_decref(info);
    free(path);
    return s;
}

static st_status measure_text(demo_run *r, json_t *row, const char *folder, st_err *e)
{
    json_t *result = NULL;
    const char *prompt = st_row_str(r->results, "prompt");
    st_generate_opts o = {.prompt = prompt,
                          .prompt_bytes = strlen(prompt),
                          .tokens = ST_DEMO_SAMPLE,
                          .temperature = ST_DEMO_HEAT,
                          .top_p = 1,
                          .top_k = ST_DEMO_TOP_K,
                          .seed = r->o.seed,
                          .dtype = ST_F32};
    ST_TRY(st_generate(folder, &o, &result, e));
    json_object_set(row, "sample", json_object_get(result, "text"));
    json_decref(result);
    return ST_OK;
}

st_status st_demo_judge(demo_run *r, json_t *row, const char *folder, st_err *e)
{
    json_t *result = NULL;
    st_perplexity_opts how = {.dtype = ST_F32};
    char *val = st_path_join(r->data, "val.bin");
    st_status s = st_perplexity(folder, val, &how, &result, e);
    if (!s) json_object_set(row, "perplexity", json_object_get(result, "perplexity"));
    json_decref(result);
    free(val);
    if (!s) s = measure_size(row, folder, e);
    if (!s) s = measure_text(r, row, folder, e);
    return s;
}

/* ---- all models ------------------------------------------------------------------------------ */

/* {"tokens_per_second", "low", "high"} of a timed part of a row of the bench. */
static void measure_speed(json_t *row, const char *key, const json_t *part)
{
    double speed = st_row_num(part, "tokens_per_second"), median = st_row_num(part, "median");
    double low = speed * median / st_row_num(part, "p90");
    double high = speed * median / st_row_num(part, "p10");
    if (!isfinite(speed) || !isfinite(low) || !isfinite(high)) return;
    json_object_set_new(
        row, key,
        json_pack("{s:f, s:f, s:f}", "tokens_per_second", speed, "low", low, "high", high));
}

/* One bench over all model folders; `part` of its rows goes to `key` of ours. */
static st_status measure_race(demo_run *r, const st_bench_model_opts *o,
                              const char *const part[][2], st_err *e)
{
    json_t *result = NULL;
    ST_TRY(st_bench_model(o, &result, e));
    const json_t *rows = json_object_get(result, "rows");
    size_t n = json_array_size(r->models);
    st_status s = ST_OK;
    if (json_array_size(rows) != n)
        s = ST_ERR(e, ST_EARG, "demo: %zu models were timed, expected %zu", json_array_size(rows),
                   n);
    for (size_t i = 0; i < n && !s; i++)
        for (int k = 0; part[k][0]; k++)
            measure_speed(json_array_get(r->models, i), part[k][1],
                          json_object_get(json_array_get(rows, i), part[k][0]));
    json_decref(result);
    return s;
}

st_status st_demo_race(demo_run *r, st_err *e)
{
    static const char *const one[][2] = {
        {"forward", "prefill"}, {"decode", "decode"}, {NULL, NULL}};
    static const char *const many[][2] = {{"step", "train"}, {NULL, NULL}};
    enum { PATH = 4096 };
    size_t n = json_array_size(r->models), i;
    const json_t *row;
    const char **folder = st_calloc((int64_t)n + 1, sizeof *folder);
    char *paths = st_calloc((int64_t)n + 1, PATH);
    st_status s = ST_OK;
    if (!folder || !paths) {
        s = ST_ERR(e, ST_ENOMEM, "demo: no memory for %zu models", n);
        goto out;
    }
    json_array_foreach(r->models, i, row)
    {
        folder[i] = paths + i * PATH;
        snprintf(paths + i * PATH, PATH, "%s/%s", r->out, st_row_str(row, "folder"));
    }
    st_bench_model_opts o = {.models = folder,
                             .nmodels = (int)n,
                             .contexts = {r->o.size.context},
                             .ncontexts = 1,
                             .decode = r->o.size.context / 2,
                             .budget = 0.45 * ST_DEMO_RACE * r->o.budget};
    s = measure_race(r, &o, one, e);
    o.batches[0] = r->o.size.batch;
    o.nbatches = 1;
    o.train = true;
    o.budget = 0.5 * ST_DEMO_RACE * r->o.budget;
    if (!s) s = measure_race(r, &o, many, e);
out:
    free(folder), free(paths);
    return s;
}

/* ---- the machine ----------------------------------------------------------------------------- */

static void measure_cpu(char name[128])
{
    char line[256];
    FILE *f = fopen("/proc/cpuinfo", "re");
    snprintf(name, 128, "an unknown processor");
    while (f && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (!colon || (strncmp(line, "model name", 10) != 0 && strncmp(line, "Model", 5) != 0))
            continue;
        colon[strcspn(colon, "\n")] = 0;
        snprintf(name, 128, "%.120s", colon + 1 + (colon[1] == ' '));
        break;
    }
    if (f) fclose(f);
}

json_t *st_demo_machine(st_err *e)
{
    char cpu[128];
    struct utsname u = {0};
    struct sysinfo m = {.mem_unit = 1};
    st_stream *q = NULL;
    if (st_stream_open(&q, "cpu", 0, e)) return NULL;
    measure_cpu(cpu);
    uname(&u);
    sysinfo(&m);
    json_t *j =
        json_pack("{s:s, s:i, s:f, s:s++, s:s}", "cpu", cpu, "threads", st_stream_threads(q),
                  "memory_GiB", round((double)m.totalram * m.mem_unit / 107374182.4) / 10, "system",
                  u.sysname, " ", u.release, "backend", st_stream_describe(q));
    st_stream_close(q);
    if (!j) ST_ERR(e, ST_ENOMEM, "demo: no memory for a result");
    return j;
}
