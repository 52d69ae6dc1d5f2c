/* The cuda device of a build without CUDA: a row that says so. */
/* SPDX-License-Identifier: MIT */
#include "backend/stream.h"

static st_status no_cuda_open(st_stream *q, int threads, st_err *e)
{
    (void)q, (void)threads;
    ST_FAIL(e, ST_EUNSUPPORTED,
            "device cuda: this strut was built without CUDA (cmake -DST_CUDA=ON builds it in)");
}

const st_device st_device_cuda = {.name = "cuda", .numbered = true, .open = no_cuda_open};
