/* gguf inside: what reading and writing GGUF share. Inside weights only. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_WEIGHTS_GGUF_H
#define ST_WEIGHTS_GGUF_H

#include "files/files.h"
#include "weights/container.h"

enum { ST_GGUF_ALIGN = 32, ST_GGUF_NAME = 64 /* bytes, NUL included */ };

/* Types of tensors (ggml's numbers). */
enum {
    ST_GGML_F32 = 0,
    ST_GGML_F16 = 1,
    ST_GGML_Q4_0 = 2,
    ST_GGML_Q4_1 = 3,
    ST_GGML_Q8_0 = 8,
    ST_GGML_BF16 = 30
};

/* Tensors of an architecture ("gpt2", "llama" ...): "transformer.h.3.ln_1.weight" (the first part
 * may be missing) to "blk.3.attn_norm.weight", and back; false if there is none of that name. */
bool st_gguf_name(const char *arch, const char *ours, char out[ST_GGUF_NAME]);
bool st_gguf_unname(const char *arch, const char *name, char out[ST_GGUF_NAME]);
bool st_gguf_known(const char *arch);

#endif
