/* A teacher: the run's objective, as a mean over tokens, is then
 *   ce CE + kl T^2 KL(p_t || p) + hidden sum_l d(h_l, t_l) + embedding d(h_0, t_0)
 * with p the next-token distributions softened by T (Hinton et al. 2015), h_l the output of block l
 * and d the squared distance relative to the teacher's or as a mean (Romero et al. 2015). With
 * distill.inputs=teacher, h_l is block l of the teacher's t_(l-1): every block alone. The teacher
 * never drops out. Validation stays the plain cross entropy. */
/* SPDX-License-Identifier: MIT */
#include "store/store.h"
#include "train/inner.h"
#include <stdlib.h>

/* Refuses what cannot be compared: tokens, positions and, for states, widths and depths. */
static st_status distill_fits(const st_trainer *t, const st_model *teacher, st_err *e)
{
    const st_settings *set = t->set;
    st_lm_shape s = st_model_lm(t->model), l = st_model_lm(teacher);
    bool hidden = set->distill.hidden > 0, states = hidden || set->distill.embedding > 0;
    const struct {
        const char *what, *needed;
        int64_t has, want;
        bool fails;
    } rule[] = {
        {"token ids", "exactly", l.vocab, s.vocab, l.vocab != s.vocab},
        {"positions", "at least", l.context, t->context, l.context < t->context},
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

static st_status distill_memory(st_trainer *t, const float *flat, st_err *e)
{
    st_model *m = t->teach.teacher;
    int64_t n = st_model_elements(m), rows = t->rows * t->context;
    size_t bytes = (size_t)n * st_dtype_size(t->dtype) + 3 * (size_t)rows * 4 + 8 * ST_ALIGN;
    ST_TRY(st_device_arena(t->q, bytes, &t->teacher_block, e));
    st_tensor w = st_take1(&t->teacher_block, t->dtype, n);
    t->teach.kl = st_take1(&t->teacher_block, ST_F32, rows);
    t->teach.hidden = st_take1(&t->teacher_block, ST_F32, rows);
    t->teach.embed = st_take1(&t->teacher_block, ST_F32, rows);
    if (t->dtype == ST_F32) {
        st_upload(t->q, w, flat);
    } else {
        void *half = st_calloc(n, 2);
        if (!half) ST_FAIL(e, ST_ENOMEM, "%s: out of memory", t->set->distill.teacher);
        st_convert(half, t->dtype, flat, ST_F32, n);
        st_upload(t->q, w, half);
        free(half);
    }
    st_model_bind(m, w, (st_tensor){0});
    return st_stream_sync(t->q, e);
}

st_status st_distill_open(st_trainer *t, st_err *e)
{
    const st_settings *set = t->set;
    char place[256];
    st_model *m = NULL;
    st_bpe *none = NULL;
    float *flat = NULL;
    if (!set->distill.teacher) return ST_OK;
    st_status s = st_folder_read(set->distill.teacher, &m, &flat, &none, e);
    if (!s) s = st_need_language(m, set->distill.teacher, "distillation", e);
    if (s && e) st_err_prefix(e, "%s", st_set_place(set, "distill.teacher", place, sizeof place));
    st_bpe_close(none);
    t->teach = (st_teach){.teacher = m,
                          .temperature = (float)set->distill.temperature,
                          .relative = set->distill.distance == 0,
                          .mlp = set->distill.states == 1,
                          .by_block = set->distill.inputs == 1};
    if (!s) s = distill_fits(t, m, e);
    if (!s) s = distill_memory(t, flat, e);
    t->teach = st_distill_teach(t, t->rows, (double)(t->rows * t->context * t->accumulate));
    free(flat);
    return s;
}

void st_distill_close(st_trainer *t)
{
    st_model_close(t->teach.teacher);
    t->teach = (st_teach){0};
}

float st_distill_ce(const st_trainer *t, double tokens)
{
    float each = 1.0f / (float)tokens;
    return t->teach.teacher ? (float)t->set->distill.ce * each : each;
}

st_teach st_distill_teach(const st_trainer *t, int64_t rows, double tokens)
{
    st_teach k = t->teach;
    int64_t n = rows * t->context;
    k.kl_scale = (float)(t->set->distill.kl / tokens);
    k.hidden_scale = (float)(t->set->distill.hidden / tokens);
    k.embed_scale = (float)(t->set->distill.embedding / tokens);
    k.kl = st_slice(k.kl, 0, n);
    k.hidden = st_slice(k.hidden, 0, n);
    k.embed = st_slice(k.embed, 0, n);
    return k;
}

void st_distill_sums(st_trainer *t, int64_t rows)
{
    const st_teach *k = &t->teach;
    if (k->kl_scale > 0) t->part[PART_KL] += st_trainer_sum(t, k->kl, rows);
    if (k->hidden_scale > 0) t->part[PART_HIDDEN] += st_trainer_sum(t, k->hidden, rows);
    if (k->embed_scale > 0) t->part[PART_EMBEDDING] += st_trainer_sum(t, k->embed, rows);
}

double st_distill_loss(const st_trainer *t)
{
    const st_settings *s = t->set;
    double temp = s->distill.temperature;
    if (!t->teach.teacher) return t->part[PART_CE];
    return s->distill.ce * t->part[PART_CE] + s->distill.kl * temp * temp * t->part[PART_KL] +
           s->distill.hidden * t->part[PART_HIDDEN] +
           s->distill.embedding * t->part[PART_EMBEDDING];
}
