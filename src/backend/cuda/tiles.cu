/* Few rows times square tiles where they are stored: a warp makes one number of a row. The runs of
 * tile columns travel with the launch. */
/* SPDX-License-Identifier: MIT */
#include "backend/cuda/device.cuh"

enum { WARPS = 4, RUNS = 512 }; /* RUNS: of butterfly patterns; BUTTERFLY_CELLS / 2 */

typedef struct {
    int64_t rows, wide, block, cols, outs, ldy;
    int runs;
    int32_t first[RUNS], count[RUNS];
} tiles_shape;

template <typename T>
static __global__ void tiles_kernel(const __grid_constant__ tiles_shape s, const T *x,
                                    const T *tiles, const T *bias, T *y)
{
    int64_t o = (int64_t)blockIdx.x * WARPS + (threadIdx.x >> 5), r = blockIdx.y;
    int lane = threadIdx.x & 31;
    if (o >= s.outs) return;
    const T *row = tiles + (o / s.block * s.wide * s.block + o % s.block) * s.block;
    float sum = 0;
    int64_t c = 0;
    for (int u = 0; u < s.runs; u++) {
        for (int64_t t = s.first[u]; t < s.first[u] + s.count[u]; t++, c++) {
            for (int64_t j = lane; j < s.block && t * s.block + j < s.cols; j += 32)
                sum += get(row, c * s.block * s.block + j) * get(x, r * s.cols + t * s.block + j);
        }
    }
    sum = warp_sum(sum);
    if (lane == 0) put(y, r * s.ldy + o, sum + (bias ? get(bias, o) : 0.0f));
}

extern "C" void st_cuda_tiles(st_stream *q, const st_tiles_args *a)
{
    tiles_shape s;
    if (a->runs > RUNS) {
        st_stream_latch(q, ST_EUNSUPPORTED, "tiles", "more than 512 runs of tiles");
        return;
    }
    if (a->rows * a->outs == 0) return;
    s.rows = a->rows, s.wide = a->wide, s.block = a->block, s.cols = a->cols, s.outs = a->outs;
    s.ldy = a->ldy, s.runs = (int)a->runs;
    for (int64_t u = 0; u < a->runs; u++) {
        s.first[u] = (int32_t)a->first[u];
        s.count[u] = (int32_t)a->count[u];
    }
    dim3 grid(blocks_for(a->outs, WARPS, 1 << 30), (unsigned)a->rows);
    if (a->x.dtype == ST_F32)
        tiles_kernel<float><<<grid, 32 * WARPS, 0, st_cuda_stream(q)>>>(
            s, (const float *)a->x.data, (const float *)a->tiles.data, (const float *)a->bias.data,
            (float *)a->y.data);
    else
        tiles_kernel<bf16><<<grid, 32 * WARPS, 0, st_cuda_stream(q)>>>(
            s, (const bf16 *)a->x.data, (const bf16 *)a->tiles.data, (const bf16 *)a->bias.data,
            (bf16 *)a->y.data);
    st_cuda_launched(q, "tiles");
}
