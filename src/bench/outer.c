/* bench model: models from outside, which read text or classify images. */
/* SPDX-License-Identifier: MIT */
#include "bench/model.h"
#include "store/store.h"
#include <stdio.h>

st_status model_may(model_bench *b, const st_model *m, const char *name, st_err *e)
{
    const st_bench_model_opts *o = b->o;
    bool vision = st_model_is_vision(m);
    if (b->n == 0) b->vision = vision;
    if (b->vision && !vision) return st_need_vision(m, name, "this comparison", e);
    if (vision && !b->vision) return st_need_language(m, name, "this comparison", e);
    if (vision && o->train) {
        ST_FAIL(e, ST_EARG,
                "%s: is a T2T-ViT, which strut does not train; leave out --train (forward is timed "
                "in any case)",
                name);
    }
    if (vision && o->ncontexts) {
        ST_FAIL(e, ST_EARG,
                "%s: is a T2T-ViT, whose %lld tokens are its images' patches; leave out --context",
                name, (long long)model_outer_of(m).tokens);
    }
    if (!vision && o->nways) {
        ST_FAIL(e, ST_EARG,
                "%s: is a GPT-2; bench model has --attention for the token modules of T2T-ViT, "
                "bench attention --causal times ways to attend to text",
                name);
    }
    return ST_OK;
}

model_outer model_outer_of(const st_model *m)
{
    if (!st_model_is_vision(m)) {
        st_lm_shape lm = st_model_lm(m);
        return (model_outer){.layers = lm.layers,
                             .width = lm.width,
                             .inner = lm.inner,
                             .tokens = lm.context,
                             .outputs = lm.vocab};
    }
    st_vision_shape v = st_model_vision_shape(m);
    return (model_outer){.layers = v.layers,
                         .width = v.width,
                         .inner = v.inner,
                         .tokens = v.tokens[2],
                         .outputs = v.classes,
                         .pixels = v.size};
}

st_status model_alike(const model_outer *first, const model_outer *m, const char *name, st_err *e)
{
    bool same = m->outputs == first->outputs && m->layers == first->layers &&
                m->width == first->width && m->pixels == first->pixels;
    char at[2][48] = {"", ""};
    const model_outer *of[] = {m, first};
    for (int i = 0; i < 2 && m->pixels; i++)
        snprintf(at[i], sizeof at[i], " for %lld pixels to a side", (long long)of[i]->pixels);
    if (same) return ST_OK;
    ST_FAIL(
        e, ST_EARG,
        "%.80s has %lld layers of width %lld and %lld %s%s, the first model %lld, %lld and %lld%s; "
        "models of different shape are not compared",
        name, (long long)m->layers, (long long)m->width, (long long)m->outputs,
        m->pixels ? "classes" : "tokens", at[0], (long long)first->layers, (long long)first->width,
        (long long)first->outputs, at[1]);
}

st_status model_ways(model_bench *b, st_err *e)
{
    for (int i = 0; i < b->o->nways; i++) {
        st_attention way;
        char name[ST_SPEC_TEXT];
        ST_TRY(st_attention_parse(&way, b->o->ways[i], e));
        st_attention_print(&way, name);
        ST_TRY(model_add(b, st_model_config(b->c[0].m), name, "none", e));
        model_case *c = &b->c[b->n - 1];
        c->way[0] = c->way[1] = way;
        ST_TRY(st_model_vision_keep(c->m, b->run.q, c->way, &c->kept, e));
    }
    return ST_OK;
}

st_vision_args model_vision_args(const model_bench *b, const model_case *c)
{
    return (st_vision_args){.batch = b->now.batch,
                            .pixels = b->pixels,
                            .logits = b->logits,
                            .attention = {c->way[0], c->way[1]}};
}
