/* thrift: a cursor over Thrift's compact protocol, for reading. Inside text only.
 * https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md */
/* SPDX-License-Identifier: MIT */
#ifndef ST_TEXT_THRIFT_H
#define ST_TEXT_THRIFT_H

#include "base/base.h"

/* After the first error every read gives 0 or nothing, so that callers look once, at the end. */
typedef struct {
    const uint8_t *data;
    size_t n, at;
    const char *bad; /* what is wrong, NULL: nothing */
    bool cut;        /* it is that the data ends: more of it may help */
} st_thrift;

enum { ST_THRIFT_TRUE = 1, ST_THRIFT_BYTES = 8, ST_THRIFT_LIST, ST_THRIFT_STRUCT = 12 };

/* The next field of a struct: its type, 0 at the struct's end or after an error. *id: 0 before the
 * first, then what the call before left there. */
int st_thrift_field(st_thrift *t, int *id);
/* The value of a field of that type, which must be a whole number in [lo, hi] (or a flag). */
int64_t st_thrift_int(st_thrift *t, int type, int64_t lo, int64_t hi);
bool st_thrift_flag(st_thrift *t, int type);
/* Text or bytes, in the cursor's data, no NUL. */
const char *st_thrift_bytes(st_thrift *t, int type, size_t *n);
/* Number of elements of a list, which follow, each of *element; no more than there are bytes. */
int64_t st_thrift_list(st_thrift *t, int type, int *element);
void st_thrift_skip(st_thrift *t, int type);
void st_thrift_fail(st_thrift *t, const char *why); /* unless there is an error already */

#endif
