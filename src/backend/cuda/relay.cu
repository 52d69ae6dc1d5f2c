/* The launch of a run (relay.h). */
/* SPDX-License-Identifier: MIT */
#include "backend/cuda/relay_attend.cuh"

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
static __device__ __forceinline__ void relay_near(const void *p)
{
    asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
}
/* `bytes` from p on will be asked for: 128 bytes a lane. */
static __device__ __forceinline__ void relay_fetch(const void *p, int bytes)
{
    for (int i = 128 * (threadIdx.x & 31); p && i < bytes; i += 128 * 32)
        relay_near((const char *)p + i);
}

/* What a step asks for beside W: it would wait behind the rows of W of the steps that follow. */
static __device__ void relay_ahead(const relay_view &r, const st_relay_op &op, int i)
{
    if (!op.next) {
        const st_relay_product &o = op.as.product;
        relay_fetch(o.bias ? o.bias + o.from : NULL, 2 * (o.to - o.from));
        if ((blockIdx.x + i) % 16) return; /* the same for all */
        relay_fetch(o.gain, 2 * o.cols);
        relay_fetch(o.shift, 2 * o.cols);
        return;
    }
    const st_relay_next &o = op.as.attend;
    int p = *o.at, lanes = o.dim <= 64 ? 8 : o.dim <= 128 ? 16 : 32;
    relay_keys t = relay_part(o, r.blocks, SPLIT_AHEAD * THREADS / lanes, p);
    if (t.head >= o.heads) return;
    for (int j = t.from + (int)(threadIdx.x & 31); j < min(t.end, p); j += 32) {
        for (int c = 0; c < o.dim; c += 64) {
            relay_near(o.k + j * o.k_stride + t.shared * o.dim + c);
            relay_near(o.v + j * o.v_stride + t.shared * o.dim + c);
        }
    }
}

/* The rows of W of all steps, in turn, by one warp. */
static __device__ void relay_copy(const relay_view &r, const relay_room &s, uint32_t bars)
{
    int lane = threadIdx.x & 31;
    relay_place place = {0, 1};
    for (int i = 0; i < r.n; i++) {
        const st_relay_product &o = s.op[i].as.product;
        relay_ahead(r, s.op[i], i);
        if (s.op[i].next) continue;
        int to = o.to, pitch = o.pitch, most = o.most;
        for (int at = o.from; at < to; at += most) {
            int rows = min(most, to - at);
            st_bar_wait(relay_empty(bars, place.stage), place.phase);
            if (lane == 0) st_bar_expect(relay_full(bars, place.stage), (uint32_t)(rows * o.k * 2));
            __syncwarp();
            uint32_t dst = st_smem(s.stage) + place.stage * STAGE;
            if (lane < rows)
                st_bulk_load(dst + lane * pitch, o.w + (int64_t)(at + lane) * o.ldw,
                             (uint32_t)(o.k * 2), relay_full(bars, place.stage));
            place_next(place);
        }
    }
}

static __device__ void relay_run(const relay_view &r, const relay_room &s, uint32_t bars)
{
    int turn = r.turn[blockIdx.x], tick = 0;
    uint32_t *words = r.words[turn & 1], *empty = r.words[~turn & 1];
    relay_place place = {0, 0};
    for (int64_t i = blockIdx.x * THREADS + threadIdx.x; i < r.count / 4; i += r.blocks * THREADS)
        ((uint4 *)empty)[i] = make_uint4(RELAY_NONE, RELAY_NONE, RELAY_NONE, RELAY_NONE);
    for (int i = 0; i < r.n; i++) {
        const st_relay_op &o = s.op[i];
        if (!o.next)
            relay_product(o.as.product, s, bars, words, place, tick);
        else if (o.as.attend.dim <= 64)
            relay_attend<64>(r, o.as.attend, s, words);
        else if (o.as.attend.dim <= 128)
            relay_attend<128>(r, o.as.attend, s, words);
        else
            relay_attend<256>(r, o.as.attend, s, words);
    }
    relay_meet(); /* everybody has read it */
    if (threadIdx.x == 0) r.turn[blockIdx.x] = turn + 1;
}
#endif

static __global__ void __launch_bounds__(THREADS + 32, 1)
    relay_kernel(const __grid_constant__ relay_view r)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    extern __shared__ __align__(128) unsigned char relay_shared[];
    __shared__ __align__(8) uint64_t bar[2 * STAGES];
    relay_room s;
    s.stage = relay_shared;
    s.x = s.stage + STAGES * STAGE;
    s.z = s.x + r.row_bytes;
    s.part = (float *)(s.z + r.row_bytes);
    s.stats = s.part + 2 * WARPS * ROWS;
    s.records = s.stats + 4 * WARPS;
    s.op = (st_relay_op *)(s.records + WARPS * r.record);
    uint32_t bars = st_smem(bar);
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++)
            st_bar_init(relay_full(bars, i), 1), st_bar_init(relay_empty(bars, i), 1);
        st_bar_fence();
    }
    for (int i = threadIdx.x; i < r.n * (int)(sizeof(st_relay_op) / 8); i += blockDim.x)
        ((uint64_t *)s.op)[i] = ((const uint64_t *)r.op)[i];
    __syncthreads();
    for (int i = threadIdx.x; i < r.n; i += blockDim.x)
        if (!s.op[i].next) relay_share(s.op[i].as.product, r.blocks);
    __syncthreads();
    if (threadIdx.x >= THREADS)
        relay_copy(r, s, bars);
    else
        relay_run(r, s, bars);
#endif
}

/* Bytes of the plan in its room, and of its steps. */
static size_t relay_head(const st_relay_plan *p)
{
    return ((size_t)p->n * sizeof(st_relay_op) + 255) / 256 * 256;
}
static int64_t relay_words(const st_relay_plan *p)
{
    return (p->words + 63) / 64 * 64;
}
static int relay_dim(const st_relay_plan *p)
{
    return p->dim <= 64 ? 64 : p->dim <= 128 ? 128 : 256;
}
static size_t relay_row(const st_relay_plan *p)
{
    return ((size_t)p->numbers * 2 + 127) / 128 * 128;
}
static size_t relay_shared_bytes(const st_relay_plan *p)
{
    size_t floats = 2 * WARPS * ROWS + 4 * WARPS + WARPS * (size_t)(relay_dim(p) + RELAY_PAST);
    return STAGES * STAGE + 2 * relay_row(p) + floats * 4 + (size_t)p->n * sizeof(st_relay_op);
}

extern "C" size_t st_relay_bytes(const st_relay_plan *p, int blocks)
{
    return relay_head(p) + 2 * (size_t)relay_words(p) * 4 + (size_t)blocks * sizeof(int);
}

extern "C" cudaError_t st_relay_fill(const st_relay_plan *p, int blocks, void *room, cudaStream_t s)
{
    size_t words = 2 * (size_t)relay_words(p) * 4;
    char *at = (char *)room;
    cudaError_t status =
        cudaMemcpyAsync(at, p->op, (size_t)p->n * sizeof(st_relay_op), cudaMemcpyHostToDevice, s);
    at += relay_head(p);
    if (!status) status = cudaMemsetAsync(at, 0xff, words, s);
    if (!status) status = cudaMemsetAsync(at + words, 0, (size_t)blocks * sizeof(int), s);
    return status;
}

extern "C" bool st_relay_fits(const st_relay_plan *p)
{
    int blocks = 0;
    size_t bytes = relay_shared_bytes(p);
    cudaError_t status = cudaFuncSetAttribute(
        (const void *)relay_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
    if (!status)
        status = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, relay_kernel, THREADS + 32,
                                                               bytes);
    if (status) cudaGetLastError(); /* no failure: it is done in another way */
    return !status && blocks > 0;
}

extern "C" cudaError_t st_relay(const st_relay_plan *p, int blocks, void *room, cudaStream_t s)
{
    relay_view r = {};
    char *at = (char *)room;
    r.op = (const st_relay_op *)at;
    at += relay_head(p);
    r.n = p->n, r.blocks = blocks, r.row_bytes = (int)relay_row(p),
    r.record = relay_dim(p) + RELAY_PAST;
    r.count = relay_words(p);
    r.words[0] = (uint32_t *)at, r.words[1] = (uint32_t *)at + r.count;
    r.turn = (int *)(r.words[1] + r.count);
    cudaLaunchConfig_t c = {};
    cudaLaunchAttribute whole = {};
    whole.id = cudaLaunchAttributeCooperative, whole.val.cooperative = 1;
    c.gridDim = dim3((unsigned)blocks), c.blockDim = dim3(THREADS + 32), c.stream = s;
    c.dynamicSmemBytes = relay_shared_bytes(p), c.attrs = &whole, c.numAttrs = 1;
    return cudaLaunchKernelEx(&c, relay_kernel, r);
}
