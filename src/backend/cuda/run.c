/* Steps of a recording, which wait until they are a run (relay.h) or something else is asked for.
 */
/* SPDX-License-Identifier: MIT */
#include "backend/cuda/chain.h"
#include <stdlib.h>

/* What a run needs, filled beside the stream, which records. NULL: there is no memory. */
static void *chain_room(const st_cuda *cuda, const st_relay_plan *plan)
{
    enum cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    cudaStream_t beside;
    void *room = NULL;
    cudaThreadExchangeStreamCaptureMode(&mode);
    cudaError_t status = cudaMalloc(&room, st_relay_bytes(plan, cuda->sms));
    if (!status) status = cudaStreamCreateWithFlags(&beside, cudaStreamNonBlocking);
    if (!status) {
        status = st_relay_fill(plan, cuda->sms, room, beside);
        if (!status) status = cudaStreamSynchronize(beside);
        cudaStreamDestroy(beside);
    }
    if (status) {
        cudaGetLastError(); /* no failure: the steps are launched one by one */
        cudaFree(room);
        room = NULL;
    }
    cudaThreadExchangeStreamCaptureMode(&mode);
    return room;
}

/* The steps that wait as one launch, one in a recording. */
static bool chain_relay(st_stream *q)
{
    const st_cuda *cuda = st_cuda_of(q);
    st_cuda_chain *c = cuda->chain;
    if (cuda->arch < 90 || c->room) return false;
    st_relay_plan *plan = st_calloc(1, sizeof *plan);
    bool makes = plan && st_relay_make(plan, c->step, c->steps, cuda->sms) && st_relay_fits(plan);
    if (makes) c->room = chain_room(cuda, plan);
    makes = makes && c->room;
    if (makes) st_cuda_ok(q, st_relay(plan, cuda->sms, c->room, cuda->stream), "relay");
    free(plan);
    return makes;
}

void st_cuda_chain_emit(st_stream *q)
{
    st_cuda_chain *c = chain_at(q);
    if (c->steps == 0) return;
    if (chain_relay(q)) {
        c->n = c->steps = 0;
        return;
    }
    for (int i = 0; i < c->steps; i++) {
        st_relay_step *s = &c->step[i];
        s->next ? st_cuda_chain_attend(q, &s->attend) : st_cuda_chain_go(q, &s->few, s->tag);
    }
    c->steps = 0;
}

void st_cuda_chain_step(st_stream *q, const st_relay_step *s)
{
    st_cuda_chain *c = chain_at(q);
    c->step[c->steps++] = *s;
    if (c->steps == RELAY_MOST) st_cuda_chain_emit(q);
}

void st_cuda_chain_record(st_stream *q)
{
    chain_at(q)->step = st_calloc(RELAY_MOST, sizeof *chain_at(q)->step);
}

void *st_cuda_chain_recorded(st_stream *q)
{
    st_cuda_chain *c = chain_at(q);
    void *room = c->room;
    free(c->step);
    c->step = NULL;
    c->room = NULL;
    return room;
}
