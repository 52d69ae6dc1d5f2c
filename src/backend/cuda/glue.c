/* Operations whose work is elsewhere: attention's launchers, and directions, which are so few that
 * the host draws them and so the same everywhere. */
/* SPDX-License-Identifier: MIT */
#include "backend/cuda/attention.h"
#include "backend/cuda/cuda.h"
#include "backend/ref/ref.h"
#include <stdlib.h>

void st_cuda_attend_fwd(st_stream *q, const st_attend_fwd_args *a)
{
    size_t bytes = st_attention_fwd_work(a);
    void *work = bytes ? st_cuda_work(q, bytes, "attend_fwd") : NULL;
    if (bytes && !work) return;
    st_cuda_ok(q,
               st_attention_fwd(a, work, st_cuda_of(q)->arch, ST_ATTENTION_AUTO, st_cuda_stream(q)),
               "attend_fwd");
}

void st_cuda_attend_bwd(st_stream *q, const st_attend_bwd_args *a)
{
    size_t bytes = st_attention_bwd_work(a);
    void *work = bytes ? st_cuda_work(q, bytes, "attend_bwd") : NULL;
    if (bytes && !work) return;
    st_cuda_ok(q,
               st_attention_bwd(a, work, st_cuda_of(q)->arch, ST_ATTENTION_AUTO, st_cuda_stream(q)),
               "attend_bwd");
}

void st_cuda_directions(st_stream *q, const st_directions_args *a)
{
    st_directions_args host = *a;
    float *w = st_calloc(a->rows * a->cols, sizeof *w);
    if (!w) {
        st_stream_latch(q, ST_ENOMEM, "directions", "no memory for them on the host");
        return;
    }
    host.w = st_view1(w, ST_F32, a->rows * a->cols);
    st_ref_directions(q, &host);
    st_upload(q, st_slice(a->w, 0, a->rows * a->cols), w);
    free(w);
}
