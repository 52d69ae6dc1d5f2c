/* What the ways to attend share; other rooms use model.h. One file per way or family. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_ATTENTION_H
#define ST_ATTENTION_H

#include "model/model.h"

extern const st_attention_type st_attention_full, st_attention_local;

/* Fails unless lo <= knob[i] <= hi; `why` explains the limits. */
st_status attention_range(const st_attention *m, int knob, int64_t lo, int64_t hi, const char *why,
                          st_err *e);
/* Knob i, left at 0, becomes n/share (at least 1). */
void attention_choose(st_attention *m, int knob, int64_t n, int64_t share);

#endif
