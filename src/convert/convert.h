/* convert: a model from any format that holds it into any other. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_CONVERT_H
#define ST_CONVERT_H

#include "store/store.h"

typedef struct {
    const char *to;    /* "strut", "hf" ...: the table of formats.c */
    const char *dtype; /* "f32", "f16", "bf16" of what is written; NULL: as it is stored */
    st_read_how how;   /* what the source may leave open */
    const char *const *quantize; /* st_model_quantize's texts */
    int nquantize;               /* 0: formats are as in the source, where OUT's can hold them */
    int64_t shard_bytes;         /* weights of folders in files of at most that much; 0: in one */
    int64_t image_size; /* pixels to a side; of a T2T-ViT, whose positions are interpolated; 0 */
    bool replace;       /* OUT may exist and is replaced */
} st_convert_opts;
/* Writes the model of path `in` as the file or folder `out`. What the format cannot hold is
 * ST_EUNSUPPORTED with the reason. Result: in, out, from, to, dtype, parameters, densified (names
 * of matrices that were structured), tokenizer (stored?), notes (what was assumed), seconds. */
st_status st_convert_model(const char *in, const char *out, const st_convert_opts *o,
                           json_t **result, st_err *e);

#endif
