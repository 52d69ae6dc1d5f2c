/* Spec text: "type:knob=value,..." or two such joined by '+', "+gate" for a gated sum,
 * "+mean" for half the sum. */
/* SPDX-License-Identifier: MIT */
#include "map/inner.h"
#include <stdio.h>
#include <string.h>

enum { SPEC_TYPES = 16, SPEC_SIDE_MAX = 1 << 24 };

static st_status spec_type(const char *word, const char *text, const st_map_type **out, st_err *e)
{
    const char *names[SPEC_TYPES] = {0};
    int n = 0;
    for (int i = 0; st_map_types[i] && n + 1 < SPEC_TYPES; i++) {
        if (st_map_types[i] != &st_map_sum) names[n++] = st_map_types[i]->name;
    }
    if (strcmp(word, st_map_sum.name) == 0) {
        ST_FAIL(e, ST_EARG,
                "\"%.80s\": a sum is written as its two parts joined by '+', e.g. "
                "lowrank:rank=8+blockdiag:blocks=4",
                text);
    }
    *out = st_map_find(word);
    return *out ? ST_OK : st_knobs_unknown("matrix type", word, names, text, e);
}

/* "type:knob=value,..."; `part` is cut up. */
static st_status spec_part(char *part, const char *text, const st_map_type **type, int64_t *knob,
                           st_err *e)
{
    char *items = strchr(part, ':');
    if (items) *items++ = '\0';
    ST_TRY(spec_type(part, text, type, e));
    return st_knobs_read((*type)->name, (*type)->knob, items, knob, text, e);
}

/* Types and knobs as written, presets elsewhere; nothing checked against the shape. */
static st_status spec_read(st_spec *out, const char *text, int64_t in, int64_t out_dim, st_err *e)
{
    char copy[ST_SPEC_TEXT];
    if (strlen(text) >= sizeof copy) {
        ST_FAIL(e, ST_EARG, "matrix spec of %zu characters; at most %zu", strlen(text),
                sizeof copy - 1);
    }
    strcpy(copy, text);
    *out = (st_spec){.in = in, .out = out_dim};
    char *part = copy, *next;
    int parts = 0;
    int64_t gate = 0;
    for (; part; part = next) {
        next = strchr(part, '+');
        if (next) *next++ = '\0';
        int way = strcmp(part, "gate") == 0 ? 1 : strcmp(part, "mean") == 0 ? 2 : 0;
        if (way && parts == ST_PARTS && !next) {
            gate = way;
        } else if (parts == ST_PARTS) {
            ST_FAIL(
                e, ST_EARG,
                "\"%.80s\": a sum has %d parts and an optional \"+gate\" or \"+mean\" at its end",
                text, ST_PARTS);
        } else {
            ST_TRY(spec_part(part, text, &out->part[parts].type, out->part[parts].knob, e));
            parts++;
        }
    }
    if (parts == 1) {
        out->type = out->part[0].type;
        memcpy(out->knob, out->part[0].knob, sizeof out->knob);
        memset(out->part, 0, sizeof out->part);
        return ST_OK;
    }
    out->type = &st_map_sum;
    out->knob[0] = gate;
    return ST_OK;
}

st_status st_spec_check(st_spec *s, st_err *e)
{
    if (s->in < 1 || s->out < 1 || s->in > SPEC_SIDE_MAX || s->out > SPEC_SIDE_MAX) {
        ST_FAIL(e, ST_ESHAPE, "%s: matrix of %lld inputs and %lld outputs; both must be 1..%d",
                s->type->name, (long long)s->in, (long long)s->out, SPEC_SIDE_MAX);
    }
    for (int i = 0; i < st_knobs_count(s->type->knob); i++) {
        if (s->knob[i] != ST_REQUIRED) continue;
        ST_FAIL(e, ST_EARG, "%s needs %s=N: %s", s->type->name, s->type->knob[i].name,
                s->type->knob[i].help);
    }
    return s->type->check(s, e);
}

st_status st_spec_parse(st_spec *out, const char *text, int64_t in, int64_t out_dim, st_err *e)
{
    ST_TRY(spec_read(out, text, in, out_dim, e));
    return st_spec_check(out, e);
}

/* Whether a label may leave knob i out: the text without any such knob still means s. */
static bool spec_implied(const st_spec *s, int i)
{
    st_spec plain = *s;
    for (int j = 0; j < st_knobs_count(s->type->knob); j++) {
        if (s->type->knob[j].print != ST_KNOB_SHOWN) plain.knob[j] = s->type->knob[j].preset;
    }
    return !s->type->check(&plain, NULL) && plain.knob[i] == s->knob[i];
}

/* Appends "type:knob=value,..." at `n`; returns the new length. */
static size_t spec_write(char *text, size_t n, const st_spec *s, bool label)
{
    n += (size_t)snprintf(text + n, ST_SPEC_TEXT - n, "%s", s->type->name);
    char mark = ':';
    for (int i = 0; i < st_knobs_count(s->type->knob) && n < ST_SPEC_TEXT; i++) {
        const st_knob *k = &s->type->knob[i];
        if (k->print == ST_KNOB_HIDDEN && s->knob[i] == k->preset) continue;
        if (k->print == ST_KNOB_STORED && label && spec_implied(s, i)) continue;
        n += (size_t)snprintf(text + n, ST_SPEC_TEXT - n, "%c%s=%lld", mark, k->name,
                              (long long)s->knob[i]);
        mark = ',';
    }
    return n < ST_SPEC_TEXT ? n : ST_SPEC_TEXT - 1;
}

static void spec_text(const st_spec *s, char text[ST_SPEC_TEXT], bool label)
{
    if (s->type != &st_map_sum) {
        spec_write(text, 0, s, label);
        return;
    }
    size_t n = 0;
    for (int i = 0; i < ST_PARTS; i++) {
        if (i) n += (size_t)snprintf(text + n, ST_SPEC_TEXT - n, "+");
        st_spec part = {.type = s->part[i].type, .in = s->in, .out = s->out};
        memcpy(part.knob, s->part[i].knob, sizeof part.knob);
        n = spec_write(text, n, &part, label);
    }
    if (s->knob[0]) snprintf(text + n, ST_SPEC_TEXT - n, s->knob[0] == 1 ? "+gate" : "+mean");
}

void st_spec_print(const st_spec *s, char text[ST_SPEC_TEXT])
{
    spec_text(s, text, false);
}

void st_spec_label(const st_spec *s, char text[ST_SPEC_TEXT])
{
    spec_text(s, text, true);
}

bool st_spec_equal(const st_spec *a, const st_spec *b)
{
    bool same = a->type == b->type && a->in == b->in && a->out == b->out &&
                memcmp(a->knob, b->knob, sizeof a->knob) == 0;
    for (int i = 0; i < ST_PARTS && same; i++) {
        same = a->part[i].type == b->part[i].type &&
               memcmp(a->part[i].knob, b->part[i].knob, sizeof a->part[i].knob) == 0;
    }
    return same;
}

st_status st_spec_fit(st_spec *out, const char *name, int64_t in, int64_t out_dim, int64_t params,
                      st_err *e)
{
    ST_TRY(spec_read(out, name, in, out_dim, e));
    if (params < 1) ST_FAIL(e, ST_EARG, "%s: %lld weights wanted", name, (long long)params);
    ST_TRY(out->type->fit(out, params, e));
    return st_spec_check(out, e);
}
