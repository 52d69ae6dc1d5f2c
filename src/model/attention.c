/* The table of ways to attend: texts, checks, and the call every network makes. */
/* SPDX-License-Identifier: MIT */
#include "model/attention.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>

enum { ATTENTION_TYPES = 16 };

const st_attention_type *const st_attention_types[] = {
    &st_attention_full,    &st_attention_local,    &st_attention_performer,
    &st_attention_sblocal, &st_attention_linear,   &st_attention_linformer,
    &st_attention_smyrf,   &st_attention_reformer, NULL,
};

static const st_attention_type *attention_type(const st_attention *m)
{
    return m->type ? m->type : &st_attention_full;
}

st_status st_attention_parse(st_attention *out, const char *text, st_err *e)
{
    const char *names[ATTENTION_TYPES] = {0};
    char copy[ST_SPEC_TEXT];
    if (strlen(text) >= sizeof copy) {
        ST_FAIL(e, ST_EARG, "attention of %zu characters; at most %zu", strlen(text),
                sizeof copy - 1);
    }
    strcpy(copy, text);
    char *items = strchr(copy, ':');
    if (items) *items++ = '\0';
    *out = (st_attention){0};
    for (int i = 0; st_attention_types[i] && i + 1 < ATTENTION_TYPES; i++) {
        names[i] = st_attention_types[i]->name;
        if (strcmp(names[i], copy) == 0) out->type = st_attention_types[i];
    }
    if (!out->type) return st_knobs_unknown("way to attend", copy, names, text, e);
    return st_knobs_read(out->type->name, out->type->knob, items, out->knob, text, e);
}

int64_t *st_attention_seed(st_attention *m)
{
    const st_knob *knob = attention_type(m)->knob;
    for (int i = 0; i < st_knobs_count(knob); i++)
        if (strcmp(knob[i].name, "seed") == 0) return &m->knob[i];
    return NULL;
}

void st_attention_print(const st_attention *m, char text[ST_SPEC_TEXT])
{
    const st_attention_type *t = attention_type(m);
    size_t n = (size_t)snprintf(text, ST_SPEC_TEXT, "%s", t->name);
    char mark = ':';
    for (int i = 0; i < st_knobs_count(t->knob) && n < ST_SPEC_TEXT; i++) {
        const st_knob *k = &t->knob[i];
        if (k->print == ST_KNOB_HIDDEN && m->knob[i] == k->preset) continue;
        n += (size_t)snprintf(text + n, ST_SPEC_TEXT - n, "%c%s=%lld", mark, k->name,
                              (long long)m->knob[i]);
        mark = ',';
    }
}

st_status attention_range(const st_attention *m, int knob, int64_t lo, int64_t hi, const char *why,
                          st_err *e)
{
    if (m->knob[knob] >= lo && m->knob[knob] <= hi) return ST_OK;
    ST_FAIL(e, ST_ESHAPE, "attention %s: %s=%lld; legal: %lld..%lld (%s)", m->type->name,
            m->type->knob[knob].name, (long long)m->knob[knob], (long long)lo, (long long)hi, why);
}

void attention_choose(st_attention *m, int knob, int64_t n, int64_t share)
{
    if (m->knob[knob] == 0) m->knob[knob] = n / share > 1 ? n / share : 1;
}

st_status st_attention_check(st_attention *m, const st_attention_shape *s, st_err *e)
{
    const st_attention_type *t = m->type = attention_type(m);
    assert(s->head_dim > 0 && s->q_len > 0 && s->kv_len > 0);
    if (s->causal && t->acausal) {
        ST_FAIL(e, ST_EUNSUPPORTED, "attention %s has no causal form, which this network needs: %s",
                t->name, t->acausal);
    }
    return t->check ? t->check(m, s, e) : ST_OK;
}

st_status st_attention_keep(st_stream *q, st_attention *m, const st_attention_shape *s,
                            uint64_t layer, st_arena *from, st_err *e)
{
    ST_TRY(st_attention_check(m, s, e));
    if (m->type->draw) m->projection = m->type->draw(q, m, s, layer, from);
    return ST_OK;
}

void st_attention_forward(st_stream *q, const st_attention *m, const st_attend_fwd_args *a,
                          st_arena *tmp)
{
    size_t mark = st_arena_mark(tmp);
    st_attention use = *m;
    st_attention_shape shape = {
        .head_dim = a->h.head_dim, .q_len = a->h.q_len, .kv_len = a->h.kv_len, .causal = a->causal};
    st_err e = {0};
    if (st_attention_check(&use, &shape, &e)) {
        st_stream_latch(q, e.code, "attention", e.msg);
        return;
    }
    if (use.type->draw && !use.projection.data)
        use.projection = use.type->draw(q, &use, &shape, a->seed, tmp);
    use.type->forward(q, &use, a, tmp);
    st_arena_rewind(tmp, mark);
}

st_status st_model_attention(const st_model *m, const char *text, st_attention *out, st_err *e)
{
    st_lm_shape lm = st_model_lm(m);
    st_attention_shape shape = {
        .head_dim = lm.head_dim, .q_len = lm.context, .kv_len = lm.context, .causal = 1};
    *out = (st_attention){0};
    if (text) ST_TRY(st_attention_parse(out, text, e));
    if (out->type && out->type != st_attention_types[0] && lm.kv_heads != lm.heads) {
        ST_FAIL(e, ST_EUNSUPPORTED,
                "attention %s: %lld heads of this model share %lld of keys and values; expected %s",
                out->type->name, (long long)lm.heads, (long long)lm.kv_heads,
                st_attention_types[0]->name);
    }
    st_attention filled = *out; /* what is left to the shape stays so: windows may be shorter */
    return st_attention_check(&filled, &shape, e);
}
