/* Local attention: the exact softmax over a window of neighbours in the order of the tokens (of an
 * image: row by row). Query i sees the keys i - w/2 <= j < i + (w + 1)/2, an even w one more before
 * it than behind; in its causal form the w keys that end with its own. O(N w). */
/* SPDX-License-Identifier: MIT */
#include "model/attention.h"

enum { WINDOW };

static st_status local_check(st_attention *m, const st_attention_shape *s, st_err *e)
{
    attention_choose(m, WINDOW, s->kv_len, 32);
    return attention_range(m, WINDOW, 1, INT32_MAX, "keys that a query sees", e);
}

static void local_forward(st_stream *q, const st_attention *m, const st_attend_fwd_args *a,
                          st_arena *tmp)
{
    st_attend_fwd_args near = *a;
    (void)tmp;
    near.window = m->knob[WINDOW];
    st_stream_ops(q)->attend_fwd(q, &near);
}

const st_attention_type st_attention_local = {
    .name = "local",
    .summary = "exact softmax over a window of neighbours",
    .equation = "o_i = sum_{j in W(i)} softmax_j(s q_i.k_j) v_j, W(i) = window keys round i",
    .source = "Parmar et al. 2018; Beltagy et al. 2020",
    .knob = {{"window", "keys that a query sees, 1 or more; 0: 1/32 of all", 0, ST_KNOB_HIDDEN}},
    .check = local_check,
    .forward = local_forward,
};
