/* Exact softmax attention; scores are made a block at a time, so memory is O(N) all the same. */
/* SPDX-License-Identifier: MIT */
#include "model/attention.h"

static void full_forward(st_stream *q, const st_attention *m, const st_attend_fwd_args *a,
                         st_arena *tmp)
{
    (void)m, (void)tmp;
    st_stream_ops(q)->attend_fwd(q, a);
}

const st_attention_type st_attention_full = {
    .name = "full",
    .summary = "exact softmax attention",
    .equation = "o_i = sum_j softmax_j(s q_i.k_j) v_j",
    .source = "Vaswani et al. 2017",
    .forward = full_forward,
};
