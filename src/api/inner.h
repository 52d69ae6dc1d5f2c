/* Inside of the library's public face. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_API_INNER_H
#define ST_API_INNER_H

#include "api/strut.h"
#include "base/base.h"

/* The public code of `s`, and `error` (may be NULL) filled from `e`. */
int api_done(st_status s, const st_err *e, strut_error *error);
/* Copies what a caller's struct of `size` bytes (its first member; NULL: none is given) has of a
 * struct of `room` bytes, whose other bytes stay. ST_EARG where size is no such struct's. */
st_status api_take(void *to, size_t room, const void *from, const char *what, st_err *e);

#endif
