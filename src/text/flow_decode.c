/* Decoders (ByteLevel, Metaspace, Replace, ByteFallback, Fuse, Strip) and the template of a text's
 * first and last tokens (TemplateProcessing, BertProcessing, RobertaProcessing). */
/* SPDX-License-Identifier: MIT */
#include "text/flow.h"
#include <stdlib.h>
#include <string.h>

/* ---- decoders -------------------------------------------------------------------------------- */

static st_status decode_replace(st_flow *f, const char *from, size_t from_n, const char *to,
                                size_t to_n, const char *where, st_err *e)
{
    enum { MOST = sizeof f->replace / sizeof *f->replace };
    if (f->replaces == MOST) ST_FAIL(e, ST_EUNSUPPORTED, "%s: more than %d Replace", where, MOST);
    f->replace[f->replaces++] = (struct st_told){from, to, from_n, to_n};
    return ST_OK;
}

static st_status decode_metaspace(st_flow *f, const json_t *part, const char *where, st_err *e)
{
    const json_t *mark = json_object_get(part, "replacement"),
                 *scheme = json_object_get(part, "prepend_scheme");
    bool prefix = true;
    ST_TRY(st_json_flag(part, "add_prefix_space", &prefix, where, e));
    if (!json_string_length(mark)) return st_flow_refuse(part, "replacement", where, e);
    if (json_is_string(scheme)) prefix = strcmp(json_string_value(scheme), "never") != 0;
    f->strip += prefix;
    return decode_replace(f, json_string_value(mark), json_string_length(mark), " ", 1, where, e);
}

static st_status decode_strip(st_flow *f, const json_t *part, const char *where, st_err *e)
{
    int64_t start = 0, stop = 0;
    const json_t *content = json_object_get(part, "content");
    ST_TRY(st_json_int(part, "start", 0, 1 << 10, &start, where, e));
    ST_TRY(st_json_int(part, "stop", 0, 1 << 10, &stop, where, e));
    if (stop) return st_flow_refuse(part, "stop", where, e);
    if (!json_is_string(content) || strcmp(json_string_value(content), " "))
        return st_flow_refuse(part, "content", where, e);
    f->strip += (int)start;
    return ST_OK;
}

st_status st_flow_read_decoder(st_flow *f, const json_t *part, const char *where, st_err *e)
{
    const char *type = st_flow_type(part), *from = NULL;
    const json_t *to = json_object_get(part, "content");
    size_t n = 0;
    st_regex *regex = NULL;
    if (!strcmp(type, "ByteLevel") || !strcmp(type, "Fuse")) return ST_OK;
    if (!strcmp(type, "Metaspace")) return decode_metaspace(f, part, where, e);
    if (!strcmp(type, "Strip")) return decode_strip(f, part, where, e);
    if (!strcmp(type, "ByteFallback")) {
        f->byte_names = true;
        return ST_OK;
    }
    if (strcmp(type, "Replace")) return st_flow_refuse(part, "type", where, e);
    if (!json_is_string(to)) return st_flow_refuse(part, "content", where, e);
    ST_TRY(st_flow_pattern(part, where, &from, &n, &regex, e));
    if (regex || !n) {
        st_regex_close(regex);
        return st_flow_refuse(part, "pattern", where, e);
    }
    return decode_replace(f, from, n, json_string_value(to), json_string_length(to), where, e);
}

static bool decode_one(const struct st_told *r, const char *s, size_t n, st_buffer *out)
{
    size_t at = 0;
    bool good = true;
    for (const char *hit; good && (hit = memmem(s + at, n - at, r->from, r->from_n));) {
        size_t to = (size_t)(hit - s);
        good = st_buffer_put(out, s + at, to - at) && st_buffer_put(out, r->to, r->to_n);
        at = to + r->from_n;
    }
    return good && st_buffer_put(out, s + at, n - at);
}

bool st_flow_tell(const st_flow *f, const char *name, size_t n, st_buffer *out)
{
    st_buffer text[2] = {{0}};
    bool good = st_buffer_put(&text[0], name, n);
    for (int i = 0; i < f->replaces && good; i++) {
        text[(i + 1) % 2].n = 0;
        good = decode_one(&f->replace[i], text[i % 2].s, text[i % 2].n, &text[(i + 1) % 2]);
    }
    const st_buffer *last = &text[f->replaces % 2];
    good = good && st_buffer_put(out, last->s, last->n);
    free(text[0].s);
    free(text[1].s);
    return good;
}

/* ---- templates ------------------------------------------------------------------------------- */

/* The list under "single": tokens before the text A and after it. */
static st_status template_single(st_flow *f, const json_t *part, const char *where, st_err *e)
{
    const json_t *single = json_object_get(part, "single"), *item, *token;
    const json_t *known = json_object_get(part, "special_tokens");
    size_t i, k;
    int texts = 0;
    if (!json_is_array(single)) return st_flow_refuse(part, "single", where, e);
    json_array_foreach(single, i, item)
    {
        const json_t *special = json_object_get(item, "SpecialToken"),
                     *id = json_object_get(special, "id"),
                     *tokens = json_object_get(
                         json_object_getn(known, json_string_value(id), json_string_length(id)),
                         "tokens");
        texts += json_object_get(item, "Sequence") != NULL;
        if (!special) continue;
        if (!json_is_string(id)) return st_flow_refuse(part, "single", where, e);
        json_t *list = texts ? f->after : f->before;
        if (!json_is_array(tokens)) json_array_append(list, json_object_get(special, "id"));
        json_array_foreach(tokens, k, token) json_array_append(list, (json_t *)(uintptr_t)token);
    }
    return texts == 1 ? ST_OK : st_flow_refuse(part, "single", where, e);
}

st_status st_flow_read_template(st_flow *f, const json_t *part, const char *where, st_err *e)
{
    const char *type = st_flow_type(part);
    if (!strcmp(type, "ByteLevel")) return ST_OK; /* only about places in the text */
    if (json_array_size(f->before) + json_array_size(f->after))
        ST_FAIL(e, ST_EUNSUPPORTED, "%s: two templates", where);
    if (!strcmp(type, "TemplateProcessing")) return template_single(f, part, where, e);
    if (strcmp(type, "BertProcessing") && strcmp(type, "RobertaProcessing"))
        return st_flow_refuse(part, "type", where, e);
    const json_t *first = json_array_get(json_object_get(part, "cls"), 0),
                 *last = json_array_get(json_object_get(part, "sep"), 0);
    if (!json_is_string(first)) return st_flow_refuse(part, "cls", where, e);
    if (!json_is_string(last)) return st_flow_refuse(part, "sep", where, e);
    json_array_append(f->before, (json_t *)(uintptr_t)first);
    json_array_append(f->after, (json_t *)(uintptr_t)last);
    return ST_OK;
}
