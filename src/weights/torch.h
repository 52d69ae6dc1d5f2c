/* torch inside: from the values of a pickle to the tensors of a file. Inside weights only. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_WEIGHTS_TORCH_H
#define ST_WEIGHTS_TORCH_H

#include "files/files.h"
#include "weights/container.h"

/* Where the bytes of a storage lie in the file: `*at`, of exactly `bytes`. */
typedef st_status st_torch_place(void *ctx, const char *key, size_t n, int64_t bytes, int64_t *at,
                                 st_err *e);

typedef struct {
    st_weights *w;
    const st_pickle *p;
    const char *what; /* "data.pkl" */
    st_torch_place *place;
    void *ctx;
} st_torch_file;

/* Fills w->row and w->extra from the root of the pickle; names are kept in *names (malloc). */
st_status st_torch_rows(const st_torch_file *f, char **names, st_err *e);

/* One tensor, under the name in `out`: shape, strides and place checked against its storage. */
st_status st_torch_tensor(const st_torch_file *f, const st_py *tensor, st_stored *out, st_err *e);

/* The values of dict[] but those under `skip` and its tensors if `bare`, added to `out` as JSON. */
st_status st_torch_json(const st_torch_file *f, const st_py *dict, const char *skip, bool bare,
                        json_t *out, st_err *e);

#endif
