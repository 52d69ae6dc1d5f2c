/* strut perplexity: finds out what the text is (a set by name, a file, a shard of tokens), loads
 * the model, and measures by the protocol. */
/* SPDX-License-Identifier: MIT */
#include "eval/perplexity.h"
#include "files/files.h"
#include <stdlib.h>
#include <string.h>

static st_status text_shard(const char *path, st_eval_ids *text, st_err *e)
{
    st_shard shard = {0};
    st_ids *ids = &text->ids;
    char *val = st_path_is_dir(path) ? st_shard_path(path, true) : NULL;
    st_status s = st_shard_open(&shard, val && st_shard_there(val) ? val : path, e);
    free(val);
    ST_TRY(s);
    ids->id = st_calloc(shard.n, sizeof *ids->id);
    if (ids->id) ids->n = shard.n;
    st_shard_read(&shard, 0, ids->n, ids->id);
    st_shard_close(&shard);
    if (!ids->id) return ST_NOMEM(e, path);
    return st_eval_ids_end(text, e);
}

/* A name that is no set must be a file. */
static st_status text_check(const char *text, st_err *e)
{
    const char *names[16] = {"all"};
    int n = 1;
    for (const st_evalset *s = st_evalsets; s->name; s++)
        names[n++] = s->name;
    names[n] = NULL;
    if (strcmp(text, "all") == 0 || st_evalset_find(text) || st_path_exists(text) ||
        (st_shard_is(text) && strpbrk(text, "*?[")))
        return ST_OK;
    const char *near = st_nearest(text, names);
    ST_FAIL(e, strchr(text, '/') || strchr(text, '.') ? ST_EIO : ST_EARG,
            "%s: no such file, and no set of that name%s%s%s; sets: wiki103, wiki2, wiki103-raw, "
            "wiki2-raw, lambada, lambada_openai, all",
            text, near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

static st_status text_form(const char *name, st_form *form, st_err *e)
{
    static const char *const names[] = {"text", "wikitext", "lines", NULL};
    *form = ST_FORM_TEXT;
    if (!name) return ST_OK;
    for (int i = 0; names[i]; i++) {
        *form = (st_form)i;
        if (strcmp(name, names[i]) == 0) return ST_OK;
    }
    const char *near = st_nearest(name, names);
    ST_FAIL(e, ST_EARG, "form: \"%s\" is unknown%s%s%s; legal: text, wikitext, lines", name,
            near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

/* Rows of a set or file. */
static st_status text_rows(st_eval_rows *rows, const char *text, const st_protocol *p,
                           const st_perplexity_opts *o, st_err *e)
{
    const st_evalset *set = st_evalset_find(text);
    st_form form;
    if (set) return st_evalset_open(rows, set, o->flavour ? o->flavour : p->flavour, o, e);
    ST_TRY(text_form(o->form, &form, e));
    return st_eval_rows_open(rows, text, form, e);
}

static st_status text_measure(const st_loaded *l, const char *text, const st_protocol *p,
                              const st_perplexity_opts *o, json_t **result, st_err *e)
{
    const st_evalset *set = st_evalset_find(text);
    st_eval_rows rows = {0};
    st_eval_ids ids = {0};
    st_status s;
    bool lambada = set && set->lambada && (p->per != ST_PER_TOKEN || !o->protocol);
    if (!set && (st_shard_is(text) || st_shard_folder_is(text))) {
        s = text_shard(text, &ids, e);
    } else if (!l->tokenizer) {
        ST_FAIL(
            e, ST_EARG,
            "%s: the model %s has no tokenizer (vocab.json and merges.txt); --tokenizer names one, "
            "or give a shard of tokens (.bin)",
            text, l->path);
    } else {
        s = text_rows(&rows, text, p, o, e);
        if (!s && !lambada) s = st_protocol_ids(p, &rows, l->tokenizer, o, &ids, e);
    }
    if (!s && lambada) {
        s = st_lambada(l, &rows, o, o->protocol ? p->name : "lm-eval", result, e);
    } else if (!s) {
        s = st_perplexity_windows(l->model, l->stream, p, &ids, o, result, e);
        if (s && s != ST_EINTR) st_err_prefix(e, "%s", text);
    }
    if (!s) {
        json_object_set_new(*result, "text", st_json_text(text));
        if (rows.path) json_object_set_new(*result, "path", st_json_text(rows.path));
        if (rows.flavour) json_object_set_new(*result, "flavour", json_string(rows.flavour));
    }
    st_eval_ids_free(&ids);
    st_eval_rows_close(&rows);
    return s;
}

/* wiki103, wiki2 and lambada, in Krony-PT's order. */
static st_status text_all(const st_loaded *l, const st_protocol *p, const st_perplexity_opts *o,
                          json_t **result, st_err *e)
{
    static const char *const sets[] = {"wiki103", "wiki2", "lambada"};
    json_t *list = json_array();
    st_status s = ST_OK;
    for (int i = 0; !s && i < 3; i++) {
        json_t *one = NULL;
        s = text_measure(l, sets[i], p, o, &one, e);
        if (!s) json_array_append_new(list, one);
    }
    if (s)
        json_decref(list);
    else
        *result = json_pack("{s:o, s:s}", "results", list, "text", "all");
    return s;
}

st_status st_perplexity(const char *model, const char *text, const st_perplexity_opts *o,
                        json_t **result, st_err *e)
{
    const st_protocol *named;
    st_protocol p;
    st_form form;
    *result = NULL;
    ST_TRY(st_protocol_find(o->protocol, &named, e)); /* before a model is read for nothing */
    ST_TRY(st_protocol_with(named, o, &p, e));
    ST_TRY(text_form(o->form, &form, e));
    ST_TRY(text_check(text, e));
    st_loaded l = {0};
    ST_TRY(st_loaded_open_as(&l, model, &o->how, o->device, o->dtype, e));
    st_status s = st_need_language(l.model, model, "perplexity", e);
    if (!s) {
        s = strcmp(text, "all") == 0 ? text_all(&l, &p, o, result, e)
                                     : text_measure(&l, text, &p, o, result, e);
    }
    if (!s) {
        st_gelu_kind gelu = st_model_lm(l.model).gelu;
        json_t *config = st_model_config(l.model), *act = json_object_get(config, "hidden_act");
        json_object_set_new(*result, "model", st_json_text(model));
        json_object_set_new(*result, "dtype", json_string(st_dtype_name(o->dtype)));
        json_object_set_new(*result, "device", json_string(st_stream_describe(l.stream)));
        json_object_set_new(*result, "attention",
                            json_string(o->attention ? o->attention : "full"));
        if (act) /* a gated MLP has one of many */
            json_object_set(*result, "gelu", act);
        else
            json_object_set_new(*result, "gelu", json_string(gelu == ST_GELU_ERF ? "erf" : "tanh"));
        json_decref(config);
    }
    st_loaded_close(&l);
    return s;
}
