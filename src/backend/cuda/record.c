/* Recordings: CUDA graphs made of what the stream queues. Scratch that grows later is not taken
 * from under one (st_cuda_work keeps it while there are recordings). */
/* SPDX-License-Identifier: MIT */
#include "backend/cuda/cuda.h"

bool st_cuda_record(st_stream *q)
{
    st_cuda_chain_flush(q);
    cudaError_t status =
        cudaStreamBeginCapture(st_cuda_stream(q), cudaStreamCaptureModeThreadLocal);
    if (status) cudaGetLastError();
    return !status;
}

void *st_cuda_recorded(st_stream *q)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t out = NULL;
    st_cuda_chain_flush(q);
    cudaError_t status = cudaStreamEndCapture(st_cuda_stream(q), &graph);
    if (!status) status = cudaGraphInstantiate(&out, graph, 0);
    if (!status) status = cudaGraphUpload(out, st_cuda_stream(q));
    if (graph) cudaGraphDestroy(graph);
    if (status) {
        cudaGetLastError(); /* it could not be noted: no failure, the caller goes on without */
        return NULL;
    }
    st_cuda_of(q)->recordings++;
    return out;
}

void st_cuda_play(st_stream *q, const void *recording)
{
    st_cuda_chain_flush(q);
    st_cuda_ok(q, cudaGraphLaunch((cudaGraphExec_t)(uintptr_t)recording, st_cuda_stream(q)),
               "play");
}

void st_cuda_forget(st_stream *q, void *recording)
{
    cudaStreamSynchronize(st_cuda_stream(q));
    cudaGraphExecDestroy((cudaGraphExec_t)recording);
    st_cuda_of(q)->recordings--;
}
