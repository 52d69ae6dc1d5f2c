/* encode: texts -> ids on all cores, handed back in the order they came in. Inside data only. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_DATA_ENCODE_H
#define ST_DATA_ENCODE_H

#include "text/text.h"

/* Receives the ids of one text; `more`: the next ones are of the same document. */
typedef st_status st_encoder_sink(void *ctx, const int32_t *id, int64_t n, bool more, st_err *e);

typedef struct st_encoder st_encoder;
/* `threads` workers; `special`: special tokens in texts are tokens, else one remark says how many
 * were taken as text. At most 4 MiB of text a worker is on the way, or one longer text. */
st_status st_encoder_open(st_encoder **out, const st_bpe *bpe, bool special, int threads,
                          st_encoder_sink *sink, void *ctx, st_err *e);
/* Takes a copy of a text. The sink is called, in this thread, for texts that are ready. */
st_status st_encoder_add(st_encoder *c, const char *text, size_t n, bool more, st_err *e);
/* Waits for all texts and hands their ids over. */
st_status st_encoder_finish(st_encoder *c, st_err *e);
void st_encoder_close(st_encoder *c); /* at any time; what is on the way is dropped */

#endif
