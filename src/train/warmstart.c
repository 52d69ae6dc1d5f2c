/* Warm start (train.warmstart.path): the parameters of a model that another has by the same name
 * and shape begin with its numbers, the others as they would without it. init= takes a whole model,
 * and with model.*map* keys projects it; this takes what fits. */
/* SPDX-License-Identifier: MIT */
#include "train/inner.h"
#include <stdlib.h>
#include <string.h>

struct warm_param {
    const char *name;
    int64_t offset;
    st_tensor w;
    bool used;
};

struct warm {
    const st_settings *set;
    st_net *net;
    json_t **report;
    struct warm_param *has; /* of the model that is read */
    int64_t count, taken, numbers;
    const float *flat;
    json_t *missing, *skipped;
};

static void warm_count(void *ctx, const st_param *p)
{
    (void)p;
    ++*(int64_t *)ctx;
}

static void warm_list(void *ctx, const st_param *p)
{
    struct warm *k = ctx;
    k->has[k->count++] = (struct warm_param){p->name, p->offset, p->w, false};
}

static json_t *warm_shape(const st_tensor *x)
{
    json_t *list = json_array();
    for (int i = 0; list && i < x->ndim; i++)
        json_array_append_new(list, json_integer(x->dim[i]));
    return list;
}

static bool warm_fits(const st_tensor *a, const st_tensor *b)
{
    bool same = a->ndim == b->ndim;
    for (int i = 0; same && i < a->ndim; i++)
        same = a->dim[i] == b->dim[i];
    return same;
}

static void warm_take(void *ctx, const st_param *p)
{
    struct warm *k = ctx;
    struct warm_param *from = NULL;
    for (int64_t i = 0; !from && i < k->count; i++)
        if (strcmp(k->has[i].name, p->name) == 0) from = &k->has[i];
    if (!from) {
        json_array_append_new(k->missing, json_string(p->name));
        return;
    }
    from->used = true;
    if (!warm_fits(&from->w, &p->w)) {
        json_array_append_new(k->skipped,
                              json_pack("{s:s, s:o, s:o}", "name", p->name, "found",
                                        warm_shape(&from->w), "expected", warm_shape(&p->w)));
        return;
    }
    int64_t n = st_numel(p->w);
    memcpy(k->net->flat + p->offset, k->flat + from->offset, (size_t)n * sizeof *k->flat);
    k->taken++;
    k->numbers += n;
}

/* "a, b, c and 4 more" of a list of names or of objects with one. */
static void warm_names(const json_t *list, char text[256])
{
    size_t n = json_array_size(list), at = 0;
    text[0] = '\0';
    for (size_t i = 0; i < n && at < 180; i++) {
        const json_t *item = json_array_get(list, i);
        const char *name =
            json_string_value(json_is_object(item) ? json_object_get(item, "name") : item);
        if (i == 4 && n > 5) {
            snprintf(text + at, 256 - at, " and %zu more", n - i);
            break;
        }
        at += (size_t)snprintf(text + at, 256 - at, "%s%.60s", i ? ", " : "", name ? name : "?");
    }
}

/* A strict warm start leaves nothing over on either side. */
static st_status warm_check(const st_settings *set, const json_t *report, st_err *e)
{
    static const struct {
        const char *key, *says;
    } kind[] = {{"missing", "are not in it"},
                {"skipped", "have another shape in it"},
                {"unused", "are in it but not in this model"}};
    for (int i = 0; i < 3; i++) {
        const json_t *list = json_object_get(report, kind[i].key);
        char text[256], place[256];
        if (json_array_size(list) == 0) continue;
        warm_names(list, text);
        st_log(set->train.warmstart_strict ? ST_LOG_WARN : ST_LOG_INFO, "warm start from %s: %s %s",
               set->train.warmstart_path, text, kind[i].says);
        if (set->train.warmstart_strict) {
            ST_FAIL(e, ST_EARG,
                    "%s: %s: %s %s; train.warmstart.strict=false takes what fits, init= with "
                    "model.map projects onto other maps",
                    st_set_place(set, "train.warmstart.path", place, sizeof place),
                    set->train.warmstart_path, text, kind[i].says);
        }
    }
    return ST_OK;
}

static st_status warm_report(struct warm *k, st_err *e)
{
    json_t *unused = json_array();
    for (int64_t i = 0; i < k->count; i++)
        if (!k->has[i].used) json_array_append_new(unused, st_json_text(k->has[i].name));
    *k->report = json_pack("{s:o, s:I, s:I, s:O, s:O, s:o}", "path",
                           st_json_text(k->set->train.warmstart_path), "taken",
                           (json_int_t)k->taken, "parameters", (json_int_t)k->numbers, "missing",
                           k->missing, "skipped", k->skipped, "unused", unused);
    if (!*k->report) return ST_NOMEM(e, "warm start");
    ST_TRY(warm_check(k->set, *k->report, e));
    st_log(ST_LOG_INFO, "warm start from %s: %s, %s", k->set->train.warmstart_path,
           st_counted(k->taken, "tensors").s, st_counted(k->numbers, "parameters").s);
    return ST_OK;
}

st_status st_warm_start(const st_settings *set, st_net *net, json_t **report, st_err *e)
{
    struct warm k = {
        .set = set, .net = net, .report = report, .missing = json_array(), .skipped = json_array()};
    st_model *m = NULL;
    st_bpe *none = NULL;
    float *flat = NULL;
    int64_t n = 0;
    st_status s = st_source_folder(set, "train.warmstart.path", set->train.warmstart_path, NULL, &m,
                                   &flat, &none, e);
    if (!s) {
        st_model_params(m, warm_count, &n);
        k.flat = flat;
        k.has = st_calloc(n, sizeof *k.has);
        if (!k.has) s = ST_NOMEM(e, "warm start");
    }
    if (!s) {
        st_model_params(m, warm_list, &k);
        st_model_params(net->model, warm_take, &k);
        s = warm_report(&k, e);
    }
    json_decref(k.missing);
    json_decref(k.skipped);
    free(k.has);
    free(flat);
    st_bpe_close(none);
    st_model_close(m);
    return s;
}
