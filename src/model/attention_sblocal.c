/* Scatterbrain, local + low rank: exact weights in a window of neighbours and, for all other keys,
 * weights through positive random features, under one normaliser:
 *   o_i = (sum_{W(i)} e^(s q_i.k_j) v_j + sum_{not W(i)} r_ij v_j) / (the same without v),
 *   r_ij = phi(q_i).phi(k_j), phi the features e^(+-w_m.x' - |x'|^2/2) of features/2 directions.
 * Sums over the keys outside are made of sums over blocks, never as all minus the window, whose
 * difference cancels. The causal form sums over the past alone. O(N (window + features)). */
/* SPDX-License-Identifier: MIT */
#include "model/attention.h"
#include <assert.h>

enum { WINDOW, FEATURES, SEED, ORTHO };

static st_status sblocal_check(st_attention *m, const st_attention_shape *s, st_err *e)
{
    attention_choose(m, WINDOW, s->kv_len, 64);
    if (m->knob[FEATURES] == 0) m->knob[FEATURES] = s->kv_len < 512 ? 2 : s->kv_len / 256 * 2;
    ST_TRY(attention_range(m, WINDOW, 1, INT32_MAX, "keys that a query sees exactly", e));
    ST_TRY(attention_range(m, FEATURES, 2, ATTENTION_FEATURES, "random features", e));
    ST_TRY(attention_range(m, SEED, 0, INT64_MAX, "any number from 0 on", e));
    ST_TRY(attention_range(m, ORTHO, 0, 1, "lengths as of normal vectors, or all equal", e));
    if (m->knob[FEATURES] % 2 == 0) return ST_OK;
    ST_FAIL(e, ST_ESHAPE, "attention sblocal: features=%lld must be even: two for every direction",
            (long long)m->knob[FEATURES]);
}

static st_tensor sblocal_draw(st_stream *q, const st_attention *m, const st_attention_shape *s,
                              uint64_t layer, st_arena *from)
{
    st_directions_args d = {.rows = m->knob[FEATURES] / 2,
                            .cols = s->head_dim,
                            .seed = (uint64_t)m->knob[SEED],
                            .stream = layer,
                            .equal = m->knob[ORTHO] != 0};
    return attention_directions(q, d, from);
}

static void sblocal_forward(st_stream *q, const st_attention *m, const st_attend_fwd_args *a,
                            st_arena *tmp)
{
    st_favor_args f = attention_favor(a);
    f.features = m->knob[FEATURES];
    f.window = m->knob[WINDOW];
    f.map = ST_FAVOR_COSH;
    f.w = m->projection;
    assert(st_numel(f.w) == f.features / 2 * a->h.head_dim);
    attention_run_favor(q, &f, tmp);
}

const st_attention_type st_attention_sblocal = {
    .name = "sblocal",
    .summary = "exact in a window, through random features outside (Scatterbrain)",
    .equation = "o_i = sum_j a_ij v_j / sum_j a_ij, a_ij = e^(s q_i.k_j) in W(i), else "
                "phi(q_i).phi(k_j)",
    .source = "Chen et al. 2021",
    .knob = {{"window", "keys that a query sees exactly, 1 or more; 0: 1/64 of all", 0,
              ST_KNOB_HIDDEN},
             {"features", "random features, an even number; 0: about 1/128 of the keys", 0,
              ST_KNOB_HIDDEN},
             {"seed", "of the random directions", 0, ST_KNOB_HIDDEN},
             {"ortho", "directions as long as normal vectors (0) or all sqrt(head width) (1)", 0,
              ST_KNOB_HIDDEN}},
    .check = sblocal_check,
    .forward = sblocal_forward,
    .draw = sblocal_draw,
};
