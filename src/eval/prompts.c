/* Prompts from a file, and the texts after them. */
/* SPDX-License-Identifier: MIT */
#include "eval/eval.h"
#include <stdlib.h>
#include <string.h>

typedef struct {
    st_ids *prompt;
    char **text;
    int64_t n, cap;
} prompts_list;

static void prompts_free(prompts_list *l)
{
    for (int64_t i = 0; i < l->n; i++) {
        st_ids_free(&l->prompt[i]);
        free(l->text[i]);
    }
    free(l->prompt);
    free(l->text);
}

static st_status prompts_push(prompts_list *l, const st_bpe *b, bool plain, const char *text,
                              size_t n, st_err *e)
{
    if (l->n == l->cap) {
        int64_t cap = l->cap ? 2 * l->cap : 16;
        st_ids *prompt = realloc(l->prompt, (size_t)cap * sizeof *prompt);
        if (prompt) l->prompt = prompt;
        char **texts = realloc(l->text, (size_t)cap * sizeof *texts);
        if (texts) l->text = texts;
        if (!prompt || !texts) return ST_NOMEM(e, "prompts");
        l->cap = cap;
    }
    st_ids *ids = &l->prompt[l->n];
    char *copy = l->text[l->n] = st_calloc((int64_t)n + 1, 1);
    *ids = (st_ids){0};
    l->n++;
    if (!copy) return ST_NOMEM(e, "prompts");
    memcpy(copy, text, n);
    const st_ids *before = st_bpe_before(b);
    for (int64_t i = 0; i < before->n; i++)
        ST_TRY(st_ids_push(ids, before->id[i], e));
    return st_bpe_encode_with(b, text, n, !plain, ids, e);
}

static st_status prompts_read(prompts_list *l, const char *path, const char *field, const st_bpe *b,
                              bool plain, st_err *e)
{
    st_docs *docs = NULL;
    st_docs_opts how = {.field = field, .rows = true};
    const char *text = NULL;
    size_t n = 0;
    st_status s = st_docs_open(&docs, &path, 1, &how, e);
    while (!s && !(s = st_docs_next(docs, &text, &n, e)) && text)
        s = prompts_push(l, b, plain, text, n, e);
    st_docs_close(docs);
    if (!s && l->n == 0) s = ST_ERR(e, ST_EFORMAT, "%s: there is no prompt in it", path);
    return s;
}

st_status st_generate_prompts(const char *model, const char *path, const char *field,
                              const st_generate_opts *o, json_t **result, st_err *e)
{
    st_loaded l = {0};
    prompts_list list = {0};
    st_status s = st_loaded_open_as(&l, model, &o->how, o->device, o->dtype, e);
    if (!s) s = st_need_language(l.model, model, "generate", e);
    if (!s && !l.tokenizer) {
        s = ST_ERR(e, ST_EARG, "%s: there is no tokenizer beside it; --tokenizer names one", model);
    }
    if (!s) s = prompts_read(&list, path, field, l.tokenizer, o->plain, e);
    if (!s) s = st_generate_many(l.model, l.stream, l.tokenizer, o, list.prompt, list.n, result, e);
    if (!s) {
        json_t *rows = json_object_get(*result, "results");
        for (int64_t i = 0; i < list.n; i++)
            json_object_set_new(json_array_get(rows, (size_t)i), "prompt",
                                st_json_text(list.text[i]));
        json_object_set_new(*result, "model", st_json_text(model));
        json_object_set_new(*result, "device", json_string(st_stream_describe(l.stream)));
    }
    prompts_free(&list);
    st_loaded_close(&l);
    return s;
}
