/* Recordings: CUDA graphs made of what the stream queues. Scratch that grows later is not taken
 * from under one (st_cuda_work keeps it while there are recordings). */
/* SPDX-License-Identifier: MIT */
#include "backend/cuda/relay.h"
#include <stdlib.h>

typedef struct {
    cudaGraphExec_t graph;
    void *room; /* of the run in it (relay.h), or NULL */
} recording;

bool st_cuda_record(st_stream *q)
{
    st_cuda_chain_flush(q);
    cudaError_t status =
        cudaStreamBeginCapture(st_cuda_stream(q), cudaStreamCaptureModeThreadLocal);
    if (status) cudaGetLastError();
    if (!status) st_cuda_chain_record(q);
    return !status;
}

static void record_close(recording *r)
{
    if (r->graph) cudaGraphExecDestroy(r->graph);
    cudaFree(r->room);
    free(r);
}

void *st_cuda_recorded(st_stream *q)
{
    cudaGraph_t graph = NULL;
    recording *r = st_calloc(1, sizeof *r);
    st_cuda_chain_flush(q);
    cudaError_t status = cudaStreamEndCapture(st_cuda_stream(q), &graph);
    void *room = st_cuda_chain_recorded(q);
    if (!r) status = cudaErrorMemoryAllocation;
    if (!status) status = cudaGraphInstantiate(&r->graph, graph, 0);
    if (!status) status = cudaGraphUpload(r->graph, st_cuda_stream(q));
    if (graph) cudaGraphDestroy(graph);
    if (r) r->room = room;
    if (!r) cudaFree(room);
    if (status) {
        cudaGetLastError(); /* it could not be noted: no failure, the caller goes on without */
        if (r) record_close(r);
        return NULL;
    }
    st_cuda_of(q)->recordings++;
    return r;
}

void st_cuda_play(st_stream *q, const void *recorded)
{
    const recording *r = recorded;
    st_cuda_chain_flush(q);
    st_cuda_ok(q, cudaGraphLaunch(r->graph, st_cuda_stream(q)), "play");
}

void st_cuda_forget(st_stream *q, void *recorded)
{
    cudaStreamSynchronize(st_cuda_stream(q));
    record_close(recorded);
    st_cuda_of(q)->recordings--;
}
