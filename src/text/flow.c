/* The flow of a tokenizer.json: reading its parts and running them in order. */
/* SPDX-License-Identifier: MIT */
#include "text/flow.h"
#include "text/bpe.h"
#include <stdlib.h>
#include <string.h>

enum { FLOW_DEPTH = 8, FLOW_PARTS = 64 };

/* ---- reading --------------------------------------------------------------------------------- */

const char *st_flow_type(const json_t *part)
{
    const char *type = json_string_value(json_object_get(part, "type"));
    return type ? type : !part || json_is_null(part) ? "none" : "unnamed";
}

st_status st_flow_refuse(const json_t *part, const char *key, const char *where, st_err *e)
{
    const json_t *v = json_object_get(part, key);
    char *text = v ? json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    st_status s = ST_ERR(e, ST_EUNSUPPORTED, "%s: %s.%s is %.60s, which cannot be used", where,
                         st_flow_type(part), key, text ? text : "not there");
    free(text);
    return s;
}

static st_status flow_walk(st_flow *f, const json_t *part, const char *list, const char *where,
                           st_flow_part *visit, int depth, st_err *e)
{
    if (!part || json_is_null(part)) return ST_OK;
    if (!json_is_object(part)) ST_FAIL(e, ST_EFORMAT, "%s: expected an object with a type", where);
    const json_t *items = json_object_get(part, list), *item;
    size_t i;
    if (strcmp(st_flow_type(part), "Sequence")) return visit(f, part, where, e);
    if (!json_is_array(items)) {
        ST_FAIL(e, ST_EFORMAT, "%s: a Sequence without a list \"%s\"", where, list);
    }
    if (depth == FLOW_DEPTH) ST_FAIL(e, ST_EUNSUPPORTED, "%s: Sequences too deep", where);
    json_array_foreach(items, i, item) ST_TRY(flow_walk(f, item, list, where, visit, depth + 1, e));
    return ST_OK;
}

st_status st_flow_walk(st_flow *f, const json_t *part, const char *list, const char *where,
                       st_flow_part *visit, st_err *e)
{
    return flow_walk(f, part, list, where, visit, 0, e);
}

st_status st_flow_pattern(const json_t *part, const char *where, const char **text, size_t *n,
                          st_regex **regex, st_err *e)
{
    const json_t *pattern = json_object_get(part, "pattern");
    const json_t *plain = json_object_get(pattern, "String"),
                 *rule = json_object_get(pattern, "Regex");
    if (json_is_string(pattern)) plain = pattern;
    if (!json_is_string(plain) && !json_is_string(rule))
        return st_flow_refuse(part, "pattern", where, e);
    *text = json_string_value(plain ? plain : rule);
    *n = json_string_length(plain ? plain : rule);
    return plain ? ST_OK : st_regex_open(regex, *text, *n, where, e);
}

void st_flow_close(st_flow *f)
{
    if (!f) return;
    for (int i = 0; i < f->normals; i++)
        st_normal_close(&f->normal[i]);
    for (int i = 0; i < f->splits; i++)
        st_split_close(&f->split[i]);
    free(f->normal);
    free(f->split);
    json_decref(f->json);
    json_decref(f->before);
    json_decref(f->after);
    free(f);
}

/* Only GPT-2's pattern: its ByteLevel alone, or its pattern as a Split before one that does not. */
static bool flow_is_gpt2(const st_flow *f)
{
    const st_split *a = f->split, *b = f->split + 1;
    if (f->normals || !f->splits || a->kind == ST_SPLIT_METASPACE) return false;
    if (f->splits == 1) return a->kind == ST_SPLIT_BYTES && !a->prefix && a->split;
    return f->splits == 2 && a->kind == ST_SPLIT_GPT2 && a->way == ST_APART &&
           b->kind == ST_SPLIT_BYTES && !b->prefix && !b->split;
}

static st_status flow_read(st_flow *f, const char *what, st_err *e)
{
    static const struct {
        const char *key, *list;
        st_flow_part *visit;
    } parts[] = {{"normalizer", "normalizers", st_flow_read_normal},
                 {"pre_tokenizer", "pretokenizers", st_flow_read_split},
                 {"decoder", "decoders", st_flow_read_decoder},
                 {"post_processor", "processors", st_flow_read_template}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char where[400];
        snprintf(where, sizeof where, "%.300s: %s", what, parts[i].key);
        ST_TRY(st_flow_walk(f, json_object_get(f->json, parts[i].key), parts[i].list, where,
                            parts[i].visit, e));
    }
    for (int i = 0; i < f->splits; i++)
        f->bytes |= f->split[i].kind == ST_SPLIT_BYTES;
    f->gpt2 = flow_is_gpt2(f);
    return ST_OK;
}

st_status st_flow_open(st_flow **out, const json_t *root, const char *what, st_err *e)
{
    static const char *const keys[] = {"normalizer", "pre_tokenizer", "post_processor", "decoder"};
    *out = NULL;
    st_flow *f = st_calloc(1, sizeof *f);
    if (!f) return ST_NOMEM(e, what);
    f->json = json_object();
    f->before = json_array();
    f->after = json_array();
    f->normal = st_calloc(FLOW_PARTS, sizeof *f->normal);
    f->split = st_calloc(FLOW_PARTS, sizeof *f->split);
    st_status s = ST_OK;
    if (!f->json || !f->before || !f->after || !f->normal || !f->split) s = ST_NOMEM(e, what);
    for (int i = 0; i < 4 && !s; i++) {
        const json_t *part = json_object_get(root, keys[i]);
        json_object_set_new(f->json, keys[i], part ? json_deep_copy(part) : json_null());
    }
    if (!s) s = flow_read(f, what, e);
    if (s)
        st_flow_close(f);
    else
        *out = f;
    return s;
}

/* ---- running --------------------------------------------------------------------------------- */

st_status st_flow_normal(const st_flow *f, const char *s, size_t n, st_buffer *out, st_err *e)
{
    if (!st_buffer_put(out, s, n)) return ST_NOMEM(e, NULL);
    for (int i = 0; i < f->normals; i++) {
        st_buffer next = {0};
        st_status status = st_normal_run(&f->normal[i], out->s, out->n, &next, e);
        free(out->s);
        *out = next;
        ST_TRY(status);
    }
    return ST_OK;
}

void st_pieces_free(st_pieces *p)
{
    free(p->text.s);
    free(p->piece);
    *p = (st_pieces){0};
}

/* Out of the byte alphabet again, piece by piece. */
static st_status flow_unspell(st_pieces *p, st_err *e)
{
    size_t to = 0, n;
    for (int64_t i = 0; i < p->n; i++) {
        struct st_piece *k = &p->piece[i];
        if (!st_bpe_unspell(p->text.s + k->at, k->end - k->at, p->text.s + to, &n)) {
            ST_FAIL(e, ST_EUNSUPPORTED, "a pre-tokenizer cuts through a byte's spelling");
        }
        *k = (struct st_piece){to, to + n};
        to += n;
    }
    return ST_OK;
}

st_status st_flow_pieces(const st_flow *f, const char *s, size_t n, bool start, st_pieces *out,
                         st_err *e)
{
    *out = (st_pieces){.start = start, .n = n > 0, .cap = 1};
    out->piece = st_calloc(1, sizeof *out->piece);
    if (!out->piece || !st_buffer_put(&out->text, s, n)) return ST_NOMEM(e, NULL);
    out->piece[0].end = n;
    for (int i = 0; i < f->splits && out->n; i++)
        ST_TRY(st_split_run(&f->split[i], out, i + 1 == f->splits, e));
    return out->spelled ? flow_unspell(out, e) : ST_OK;
}
