/* shard inside: one file of a stream of tokens (shard.c). Inside text only. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_TEXT_SHARD_H
#define ST_TEXT_SHARD_H

#include "text/text.h"

st_status st_part_open(st_shard_part *out, const char *path, st_err *e);
void st_part_close(st_shard_part *p);
void st_part_read(const st_shard_part *p, int64_t at, int64_t n, int32_t *ids);

#endif
