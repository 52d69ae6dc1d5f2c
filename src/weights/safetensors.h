/* safetensors inside: what the header parser hands to the reader. Inside weights only. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_WEIGHTS_SAFETENSORS_H
#define ST_WEIGHTS_SAFETENSORS_H

#include "weights/weights.h"

typedef struct {
    const char *key, *value;
} st_header_meta;

/* The parsed header; all strings lie in the text that was parsed. */
typedef struct {
    st_stored *tensor;
    int64_t n, cap;
    st_header_meta *meta;
    int64_t n_meta, cap_meta;
    bool has_meta;
} st_header;

/* Parses header JSON of `n` bytes (text[n] is writable and becomes NUL), which it overwrites with
 * the unescaped strings. Checks the grammar, UTF-8, the keys of every entry, dtype names, and that
 * shape, dtype and byte range of each tensor agree; not names against each other nor ranges against
 * the file. Memory: at most some four times `n`. Release with st_header_free, also after failure.
 */
st_status st_header_parse(st_header *h, char *text, size_t n, const char *path, st_err *e);
void st_header_free(st_header *h);

#endif
