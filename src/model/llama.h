/* The network of Llama-shaped models, shared by llama.c and llama_attention.c. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_MODEL_LLAMA_H
#define ST_MODEL_LLAMA_H

#include "model/inner.h"

typedef struct {
    int64_t layer, window;
    st_norm norm_1, norm_2;
    st_norm norm_q, norm_k, norm_o, norm_down; /* absent where the model has none */
    st_matrix q, k, v, o, gate, up, down;
} llama_block;

typedef struct {
    st_lm lm;
    st_llama_config c;
    json_t *ends; /* eos_token_id where it is a list, else NULL */
    llama_block *block;
    float freq[ST_ROTARY], local[ST_ROTARY]; /* local: of blocks with a window */
} llama;

/* What a block's forward leaves; views into the arena. */
typedef struct {
    st_seen seen;
    st_tensor norm_1, q, k, v, att, x2, norm_2; /* (rows, ...); q and k as they are attended to */
    st_tensor raw_q, raw_k, raw_o, raw_down;    /* before their norms, where there are such */
    st_tensor rstd_1, rstd_2, rstd_q, rstd_k, rstd_o, rstd_down, lse; /* F32 */
    st_tensor keep_q, keep_k, keep_v, keep_o;                         /* kept by the maps */
    st_mlp_acts mlp;
} llama_acts;

/* What a part of the block adds, from what its last matrix gave: that, or its norm where the model
 * has such (into y unless absent); and the gradient of x from d, that of what was added. */
st_tensor st_llama_after(const llama *g, st_stream *q, const st_norm *n, st_tensor x, st_tensor y,
                         st_tensor *rstd, st_arena *tmp);
st_tensor st_llama_after_back(st_stream *q, const st_norm *n, st_tensor x, st_tensor rstd,
                              st_tensor d, st_arena *tmp);
/* k->x2 = x and what attention adds; d, the gradient of x2 on entry, of x on return. */
void st_llama_attention(const llama *g, st_stream *q, const llama_block *b, const st_pass *p,
                        st_tensor x, llama_acts *k, st_arena *tmp);
void st_llama_attention_back(const llama *g, st_stream *q, const llama_block *b, const st_pass *p,
                             const llama_acts *k, st_tensor d, st_arena *tmp);

#endif
