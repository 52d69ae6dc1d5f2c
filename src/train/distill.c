/* A teacher: the run's objective, as a mean over tokens, is then
 *   ce CE + kl T^2 KL(p_t || p) + hidden sum_l d(h_l, t_l) + embedding d(h_0, t_0)
 * with p the next-token distributions softened by T (Hinton et al. 2015), h_l the output of block l
 * and d the squared distance relative to the teacher's or as a mean (Romero et al. 2015). With
 * distill.inputs=teacher, h_l is block l of the teacher's t_(l-1): every block alone. The teacher
 * never drops out. Validation stays the plain cross entropy. */
/* SPDX-License-Identifier: MIT */
#include "train/inner.h"
#include <stdlib.h>

/* Refuses what cannot be compared: tokens, positions and, for states, widths and depths. */
static st_status distill_fits(const st_model *student, const st_model *teacher, const st_data *d,
                              st_err *e)
{
    const st_settings *set = d->set;
    st_lm_shape s = st_model_lm(student), l = st_model_lm(teacher);
    bool hidden = set->distill.hidden > 0, states = hidden || set->distill.embedding > 0;
    const struct {
        const char *what, *needed;
        int64_t has, want;
        bool fails;
    } rule[] = {
        {"token ids", "exactly", l.vocab, s.vocab, l.vocab != s.vocab},
        {"positions", "at least", l.context, d->context, l.context < d->context},
        {"of width", "exactly", l.width, s.width, states && l.width != s.width},
        {"blocks", "exactly", l.layers, s.layers, hidden && l.layers != s.layers},
    };
    char place[256];
    for (size_t i = 0; i < sizeof rule / sizeof rule[0]; i++) {
        if (!rule[i].fails) continue;
        ST_FAIL(e, ST_EARG, "%s: %s has %lld %s, this model needs %s %lld%s",
                st_set_place(set, "distill.teacher", place, sizeof place), set->distill.teacher,
                (long long)rule[i].has, rule[i].what, rule[i].needed, (long long)rule[i].want,
                i < 2 ? "" : "; distill.hidden=0 distill.embedding=0 compare the outputs alone");
    }
    bool others = set->distill.ce + set->distill.kl + set->distill.embedding > 0;
    if (set->distill.inputs && (others || !hidden)) {
        ST_FAIL(e, ST_EARG,
                "%s: blocks that are fitted by themselves have their outputs alone; expected "
                "distill.hidden above 0 and distill.ce, distill.kl, distill.embedding = 0",
                st_set_place(set, "distill.inputs", place, sizeof place));
    }
    if (set->distill.ce + set->distill.kl + set->distill.hidden + set->distill.embedding > 0)
        return ST_OK;
    ST_FAIL(e, ST_EARG, "%s: every weight is 0; nothing would be learnt",
            st_set_place(set, "distill.ce", place, sizeof place));
}

static st_status distill_memory(st_lesson *l, const st_net *net, int64_t tokens, const float *flat,
                                st_err *e)
{
    st_model *m = l->teach.teacher;
    int64_t n = st_model_elements(m);
    size_t bytes = (size_t)n * st_dtype_size(net->dtype) + 3 * (size_t)tokens * 4 + 8 * ST_ALIGN;
    ST_TRY(st_device_arena(net->q, bytes, &l->block, e));
    st_tensor w = st_take1(&l->block, net->dtype, n);
    l->teach.kl = st_take1(&l->block, ST_F32, tokens);
    l->teach.hidden = st_take1(&l->block, ST_F32, tokens);
    l->teach.embed = st_take1(&l->block, ST_F32, tokens);
    if (net->dtype == ST_F32) {
        st_upload(net->q, w, flat);
    } else {
        void *half = st_calloc(n, 2);
        if (!half) return ST_NOMEM(e, l->set->distill.teacher);
        st_convert(half, net->dtype, flat, ST_F32, n);
        st_upload(net->q, w, half);
        free(half);
    }
    st_model_bind(m, w, (st_tensor){0});
    return st_stream_sync(net->q, e);
}

/* l->teach with the scales of an objective that is a mean over `tokens` tokens. */
static st_teach distill_scales(const st_lesson *l, double tokens)
{
    st_teach k = l->teach;
    k.kl_scale = (float)(l->set->distill.kl / tokens);
    k.hidden_scale = (float)(l->set->distill.hidden / tokens);
    k.embed_scale = (float)(l->set->distill.embedding / tokens);
    return k;
}

st_status st_distill_open(st_lesson *l, const st_net *n, const st_data *d, st_err *e)
{
    const st_settings *set = l->set = d->set;
    int64_t tokens = d->rows * d->context;
    st_model *m = NULL;
    st_bpe *none = NULL;
    float *flat = NULL;
    if (!set->distill.teacher) return ST_OK;
    st_status s = st_source_folder(set, "distill.teacher", set->distill.teacher, "distillation", &m,
                                   &flat, &none, e);
    st_bpe_close(none);
    l->teach = (st_teach){.teacher = m,
                          .temperature = (float)set->distill.temperature,
                          .relative = set->distill.distance == 0,
                          .mlp = set->distill.states == 1,
                          .by_block = set->distill.inputs == 1};
    if (!s) s = distill_fits(n->model, m, d, e);
    if (!s) s = distill_memory(l, n, tokens, flat, e);
    l->teach = distill_scales(l, (double)(tokens * d->accumulate));
    free(flat);
    return s;
}

void st_distill_close(st_lesson *l, st_stream *q)
{
    if (q) st_device_arena_close(q, &l->block);
    st_model_close(l->teach.teacher);
    l->teach = (st_teach){0};
}

void st_distill_scale(const st_lesson *l, int64_t count, double tokens, st_teach *teach,
                      st_lm_args *a)
{
    float each = 1.0f / (float)tokens;
    a->grad_scale = l->teach.teacher ? (float)l->set->distill.ce * each : each;
    if (!l->teach.teacher) return;
    *teach = distill_scales(l, tokens);
    teach->kl = st_slice(teach->kl, 0, count);
    teach->hidden = st_slice(teach->hidden, 0, count);
    teach->embed = st_slice(teach->embed, 0, count);
    a->teach = teach;
}

void st_distill_add(st_lesson *l, st_micro *b, st_stream *q, int64_t rows)
{
    const st_teach *k = &l->teach;
    l->part[PART_CE] += st_micro_sum(b, q, b->loss, rows);
    if (k->kl_scale > 0) l->part[PART_KL] += st_micro_sum(b, q, k->kl, rows);
    if (k->hidden_scale > 0) l->part[PART_HIDDEN] += st_micro_sum(b, q, k->hidden, rows);
    if (k->embed_scale > 0) l->part[PART_EMBEDDING] += st_micro_sum(b, q, k->embed, rows);
}

double st_distill_loss(st_lesson *l, double tokens)
{
    const st_settings *s = l->set;
    double temp = s->distill.temperature;
    for (int i = 0; i < ST_PARTS_OF_LOSS; i++)
        l->part[i] /= tokens;
    if (!l->teach.teacher) return l->part[PART_CE];
    return s->distill.ce * l->part[PART_CE] + s->distill.kl * temp * temp * l->part[PART_KL] +
           s->distill.hidden * l->part[PART_HIDDEN] +
           s->distill.embedding * l->part[PART_EMBEDDING];
}
