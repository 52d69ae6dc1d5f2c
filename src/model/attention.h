/* What the ways to attend share; other rooms use model.h. One file per way or family. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_ATTENTION_H
#define ST_ATTENTION_H

#include "model/model.h"

extern const st_attention_type st_attention_full, st_attention_local, st_attention_performer,
    st_attention_sblocal, st_attention_linear, st_attention_linformer, st_attention_smyrf,
    st_attention_reformer;

enum { ATTENTION_FEATURES = 1024 }; /* at most */

/* Fails unless lo <= knob[i] <= hi; `why` explains the limits. */
st_status attention_range(const st_attention *m, int knob, int64_t lo, int64_t hi, const char *why,
                          st_err *e);
/* Knob i, left at 0, becomes n/share (at least 1). */
void attention_choose(st_attention *m, int knob, int64_t n, int64_t share);

/* The same attention as an op favor still without features, its scratch taken from tmp at the end
 * (attention_run_favor). */
st_favor_args attention_favor(const st_attend_fwd_args *a);
void attention_run_favor(st_stream *q, st_favor_args *f, st_arena *tmp);
/* d.w (rows, cols), taken from `from`. */
st_tensor attention_directions(st_stream *q, st_directions_args d, st_arena *from);

#endif
