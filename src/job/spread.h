/* Inside of jobs: many pieces of work that do not know of each other, over the processors. */
/* SPDX-License-Identifier: MIT */
#ifndef ST_JOB_SPREAD_H
#define ST_JOB_SPREAD_H

#include "base/base.h"

typedef struct {
    const char *what, *unit; /* of the progress line */
    int64_t n;
    st_status (*work)(void *ctx, int64_t i, st_err *e); /* from several threads at once */
    const char *(*name)(void *ctx, int64_t i);          /* of a piece; NULL: none are shown */
    void *ctx;
    bool quiet; /* no progress */
} st_spread_args;

/* Does pieces 0 .. n - 1, with LAPACK and BLAS single-threaded in each if there are several
 * threads: half of a decomposition does not run in parallel, so threads inside it are mostly idle.
 * Stops at the first failure, which is returned; ST_EINTR after Ctrl-C. */
st_status st_spread(const st_spread_args *a, st_err *e);

#endif
