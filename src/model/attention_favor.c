/* Attention through positive features: performer (random features of the softmax kernel, or of
 * ReLU) and linear (elu + 1). Numerator and denominator are sums over keys that all queries share,
 * so no weight of a single key is ever made: O(N features). */
/* SPDX-License-Identifier: MIT */
#include "model/attention.h"
#include <assert.h>
#include <math.h>

st_favor_args attention_favor(const st_attend_fwd_args *a)
{
    return (st_favor_args){
        .h = a->h, .q_start = a->q_start, .scale = a->scale, .causal = a->causal};
}

void attention_run_favor(st_stream *q, st_favor_args *f, st_arena *tmp)
{
    int64_t work = st_favor_work(f);
    if (work) f->work = st_take1(tmp, ST_F32, work);
    st_stream_ops(q)->favor(q, f);
}

st_tensor attention_directions(st_stream *q, st_directions_args d, st_arena *from)
{
    d.w = st_take2(from, ST_F32, d.rows, d.cols);
    st_stream_ops(q)->directions(q, &d);
    return d.w;
}

/* ---- performer ------------------------------------------------------------------------------- */

enum { FEATURES, SEED, ORTHO, RELU, EPS, NEPS };

static st_status performer_check(st_attention *m, const st_attention_shape *s, st_err *e)
{
    attention_choose(m, FEATURES, s->kv_len, 64);
    ST_TRY(attention_range(m, FEATURES, 1, ATTENTION_FEATURES, "random features", e));
    ST_TRY(attention_range(m, SEED, 0, INT64_MAX, "any number from 0 on", e));
    ST_TRY(attention_range(m, ORTHO, 0, 1, "lengths as of normal vectors, or all equal", e));
    ST_TRY(attention_range(m, RELU, 0, 1, "features of the softmax, or of ReLU", e));
    ST_TRY(attention_range(m, EPS, 0, 30, "0: none; n: 10^-n", e));
    ST_TRY(attention_range(m, NEPS, 0, 30, "0: none; n: 10^-n", e));
    if (!s->causal || m->knob[RELU] || (!m->knob[EPS] && !m->knob[NEPS])) return ST_OK;
    ST_FAIL(e, ST_EUNSUPPORTED,
            "attention performer: eps=%lld,neps=%lld in a causal network: they count from the "
            "largest exponent of all keys, later ones too; legal: 0",
            (long long)m->knob[EPS], (long long)m->knob[NEPS]);
}

static float performer_small(int64_t digits)
{
    return digits ? (float)pow(10, -(double)digits) : 0.0f;
}

static st_tensor performer_draw(st_stream *q, const st_attention *m, const st_attention_shape *s,
                                uint64_t layer, st_arena *from)
{
    st_directions_args d = {.rows = m->knob[FEATURES],
                            .cols = s->head_dim,
                            .seed = (uint64_t)m->knob[SEED],
                            .stream = layer,
                            .equal = m->knob[ORTHO] != 0};
    return attention_directions(q, d, from);
}

static void performer_forward(st_stream *q, const st_attention *m, const st_attend_fwd_args *a,
                              st_arena *tmp)
{
    const int64_t *knob = m->knob;
    st_favor_args f = attention_favor(a);
    f.features = knob[FEATURES];
    f.w = m->projection;
    assert(st_numel(f.w) == f.features * a->h.head_dim);
    f.map = knob[RELU] ? ST_FAVOR_RELU : ST_FAVOR_EXP;
    f.eps = performer_small(knob[NEPS]);
    f.lift = knob[RELU] ? 0 : performer_small(knob[EPS]);
    f.shifted = !knob[RELU] && (f.lift > 0 || f.eps > 0);
    attention_run_favor(q, &f, tmp);
}

const st_attention_type st_attention_performer = {
    .name = "performer",
    .summary = "softmax through positive random features",
    .equation = "o_i = phi(q_i).sum_j phi(k_j) v_j / phi(q_i).sum_j phi(k_j), "
                "phi_m(x) = e^(w_m.x' - |x'|^2/2), x' = sqrt(s) x",
    .source = "Choromanski et al. 2021",
    .knob = {{"features", "random features, 1 or more; 0: 1/64 of the keys", 0, ST_KNOB_HIDDEN},
             {"seed", "of the random directions", 0, ST_KNOB_HIDDEN},
             {"ortho", "directions as long as normal vectors (0) or all sqrt(head width) (1)", 0,
              ST_KNOB_HIDDEN},
             {"relu", "1: features max(0, w.x) + 1e-3 instead", 0, ST_KNOB_HIDDEN},
             {"eps", "n: 10^-n is added to every feature; 0: nothing", 0, ST_KNOB_HIDDEN},
             {"neps", "n: 10^-n is added to every sum of weights; 0: nothing", 0, ST_KNOB_HIDDEN}},
    .check = performer_check,
    .forward = performer_forward,
    .draw = performer_draw,
};

/* ---- linear ---------------------------------------------------------------------------------- */

enum { LINEAR_NEPS };

static st_status linear_check(st_attention *m, const st_attention_shape *s, st_err *e)
{
    (void)s;
    return attention_range(m, LINEAR_NEPS, 0, 30, "0: none; n: 10^-n", e);
}

static void linear_forward(st_stream *q, const st_attention *m, const st_attend_fwd_args *a,
                           st_arena *tmp)
{
    st_favor_args f = attention_favor(a);
    f.features = a->h.head_dim;
    f.map = ST_FAVOR_ELU;
    f.eps = performer_small(m->knob[LINEAR_NEPS]);
    attention_run_favor(q, &f, tmp);
}

const st_attention_type st_attention_linear = {
    .name = "linear",
    .summary = "features elu(x) + 1 in place of the softmax, which it does not approximate",
    .equation = "o_i = phi(q_i).sum_j phi(k_j) v_j / phi(q_i).sum_j phi(k_j), phi(x) = elu(x) + 1",
    .source = "Katharopoulos et al. 2020",
    .knob = {{"neps", "n: 10^-n is added to every sum of weights; 0: nothing", 6, ST_KNOB_HIDDEN}},
    .check = linear_check,
    .forward = linear_forward,
};
