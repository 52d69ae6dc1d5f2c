/* Embedding look-up. Its gradient sums the rows of each token in their order: rows are sorted by
 * token (a stable sort, so that equal ones stay in order) and summed in pieces. */
/* SPDX-License-Identifier: MIT */
#include "backend/cuda/pack.cuh"
#include <cub/device/device_radix_sort.cuh>

static const char embed_wrong[] = "a token id is not below the vocabulary's size";

template <typename T> struct embed {
    int64_t rows, width, len, start, vocab;
    const int32_t *ids, *at; /* at: added to start, or NULL */
    const T *table, *position;
    T *y;
    bool columns;
    int *flag, fault;
};

template <typename T, int N> static __global__ void embed_fwd_kernel(embed<T> e)
{
    int64_t across = e.width / N, n = e.rows * across, start = e.start + (e.at ? *e.at : 0);
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n;
         i += (int64_t)gridDim.x * blockDim.x) {
        int64_t r = i / across, j = i % across * N, id = e.ids[r];
        if (id < 0 || (e.table && id >= e.vocab)) {
            *(volatile int *)e.flag = e.fault;
            continue;
        }
        pack<N> p;
        if (!e.table)
            p = load<N>(e.y, r * e.width + j);
        else if (e.columns)
            p.v[0] = get(e.table, j * e.vocab + id);
        else
            p = load<N>(e.table, id * e.width + j);
        if (e.position) {
            pack<N> more = load<N>(e.position, (start + r % e.len) * e.width + j);
#pragma unroll
            for (int k = 0; k < N; k++)
                p.v[k] += more.v[k];
        }
        store<N>(e.y, r * e.width + j, p);
    }
}

template <typename T> static void embed_fwd_of(st_stream *q, const st_embed_fwd_args *a)
{
    embed<T> e = {};
    e.rows = a->rows, e.width = a->width, e.len = a->len, e.start = a->start;
    e.vocab = a->table.data ? st_numel(a->table) / a->width : 0;
    e.ids = (const int32_t *)a->ids.data, e.at = (const int32_t *)a->at.data;
    e.table = (const T *)a->table.data, e.position = (const T *)a->position.data;
    e.y = (T *)a->y.data, e.columns = a->columns != 0;
    e.flag = st_cuda_of(q)->faulty_on_device;
    e.fault = st_cuda_fault_number(q, "embed", embed_wrong);
    bool wide = a->width % 8 == 0 && !(a->columns && e.table) && aligned16(e.table) &&
                aligned16(e.position) && aligned16(e.y);
    unsigned grid = blocks_for(a->rows * a->width / (wide ? 8 : 1), 256, 1 << 20);
    if (wide)
        embed_fwd_kernel<T, 8><<<grid, 256, 0, st_cuda_stream(q)>>>(e);
    else
        embed_fwd_kernel<T, 1><<<grid, 256, 0, st_cuda_stream(q)>>>(e);
    st_cuda_launched(q, "embed_fwd");
}

extern "C" void st_cuda_embed_fwd(st_stream *q, const st_embed_fwd_args *a)
{
    if (a->rows == 0) return;
    if (st_dtype_blocks(a->table.dtype)) {
        st_stream_latch(q, ST_EUNSUPPORTED, "embed",
                        "weights of 8 or 4 bits are for the cpu today");
        return;
    }
    a->y.dtype == ST_F32 ? embed_fwd_of<float>(q, a) : embed_fwd_of<bf16>(q, a);
}

/* ---- backward ------------------------------------------------------------------------------- */

static __global__ void embed_number_kernel(int64_t rows, int64_t vocab, const int32_t *ids,
                                           int32_t *row, int *flag, int fault)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= rows) return;
    row[i] = (int32_t)i;
    if (ids[i] < 0 || (vocab && ids[i] >= vocab)) *(volatile int *)flag = fault;
}

enum { PIECE = 32 }; /* sorted rows that a block sums up */

/* Rows sorted by id, in pieces. A run of equal ids within a piece goes to the table; of one that
 * crosses borders, the part that began before is the piece's first sum, the part that begins here
 * its second. */
template <typename T> struct embed_runs {
    int64_t rows, width, vocab;
    const int32_t *id, *row;
    const T *dy;
    float *dtable, *part; /* part (pieces, 2, width) */
    bool columns;
};

template <typename T>
static __device__ __forceinline__ void embed_add(const embed_runs<T> &e, int32_t id, int64_t j,
                                                 float sum)
{
    if (id < 0 || id >= e.vocab) return;
    e.dtable[e.columns ? j * e.vocab + id : id * e.width + j] += sum;
}

template <typename T> static __global__ void embed_piece_kernel(embed_runs<T> e)
{
    int64_t first = (int64_t)blockIdx.x * PIECE, j = (int64_t)blockIdx.y * blockDim.x + threadIdx.x;
    int64_t end = first + PIECE < e.rows ? first + PIECE : e.rows;
    if (j >= e.width) return;
    float *part = e.part + 2 * blockIdx.x * e.width + j, sum = 0;
    int32_t own = e.id[first];
    bool before = first > 0 && e.id[first - 1] == own;
    for (int64_t at = first; at < end; at += 8) {
        float v[8];
#pragma unroll
        for (int k = 0; k < 8; k++)
            v[k] = at + k < end ? get(e.dy, e.row[at + k] * e.width + j) : 0.0f;
#pragma unroll
        for (int k = 0; k < 8; k++) {
            if (at + k >= end) break;
            int32_t id = e.id[at + k];
            if (id != own) {
                if (before)
                    part[0] = sum;
                else
                    embed_add(e, own, j, sum);
                own = id, before = false, sum = 0;
            }
            sum += v[k];
        }
    }
    if (before)
        part[0] = sum;
    else if (end < e.rows && e.id[end] == own)
        part[e.width] = sum;
    else
        embed_add(e, own, j, sum);
}

/* The run that begins in piece blockIdx.x and goes on behind it, if one does. */
template <typename T> static __global__ void embed_join_kernel(embed_runs<T> e)
{
    int64_t p = blockIdx.x, first = p * PIECE, end = first + PIECE;
    int64_t j = (int64_t)blockIdx.y * blockDim.x + threadIdx.x;
    if (j >= e.width || end >= e.rows) return;
    int32_t own = e.id[end];
    if (e.id[end - 1] != own) return;
    if (e.id[first] == own && first > 0 && e.id[first - 1] == own) return;
    float sum = e.part[(2 * p + 1) * e.width + j];
    for (int64_t at = end; at < e.rows && e.id[at] == own; at += PIECE)
        sum += e.part[2 * (at / PIECE) * e.width + j];
    embed_add(e, own, j, sum);
}

/* dposition[start + p] += the rows p, p + len, ... */
template <typename T>
static __global__ void embed_position_kernel(int64_t rows, int64_t width, int64_t len,
                                             int64_t start, const T *dy, float *dposition)
{
    int64_t p = blockIdx.x, j = (int64_t)blockIdx.y * blockDim.x + threadIdx.x;
    float sum = 0;
    if (j >= width) return;
    for (int64_t r = p; r < rows; r += len)
        sum += get(dy, r * width + j);
    if (p < rows) dposition[(start + p) * width + j] += sum;
}

template <typename T> static void embed_bwd_table(st_stream *q, const st_embed_bwd_args *a)
{
    int64_t vocab = st_numel(a->dtable) / a->width;
    int64_t pieces = (a->rows + PIECE - 1) / PIECE;
    size_t temp = 0, parts = (size_t)(2 * pieces * a->width) * sizeof(float);
    parts = (parts + 255) / 256 * 256;
    size_t list = ((size_t)a->rows * sizeof(int32_t) + 255) / 256 * 256;
    const int32_t *ids = (const int32_t *)a->ids.data;
    int32_t *none = NULL;
    cudaStream_t s = st_cuda_stream(q);
    int n = (int)a->rows;
    cub::DeviceRadixSort::SortPairs(NULL, temp, none, none, none, none, n, 0, 32, s);
    char *work = (char *)st_cuda_work(q, 3 * list + parts + temp, "embed_bwd");
    if (!work) return;
    int32_t *row = (int32_t *)work, *sorted = (int32_t *)(work + list);
    int32_t *order = (int32_t *)(work + 2 * list);
    embed_number_kernel<<<blocks_for(n, 256, 1 << 30), 256, 0, s>>>(
        n, vocab, ids, row, st_cuda_of(q)->faulty_on_device,
        st_cuda_fault_number(q, "embed", embed_wrong));
    cudaError_t status = cub::DeviceRadixSort::SortPairs(work + 3 * list + parts, temp, ids, sorted,
                                                         row, order, n, 0, 32, s);
    if (!st_cuda_ok(q, status, "embed_bwd")) return;
    embed_runs<T> e = {};
    e.rows = a->rows, e.width = a->width, e.vocab = vocab;
    e.id = sorted, e.row = order, e.dy = (const T *)a->dy.data;
    e.dtable = (float *)a->dtable.data, e.part = (float *)(work + 3 * list);
    e.columns = a->columns != 0;
    dim3 grid((unsigned)pieces, blocks_for(a->width, 256, 65535));
    embed_piece_kernel<T><<<grid, 256, 0, s>>>(e);
    embed_join_kernel<T><<<grid, 256, 0, s>>>(e);
    st_cuda_launched(q, "embed_bwd");
}

template <typename T> static void embed_bwd_of(st_stream *q, const st_embed_bwd_args *a)
{
    if (a->dtable.data) embed_bwd_table<T>(q, a);
    if (!a->dposition.data) return;
    dim3 grid((unsigned)a->len, blocks_for(a->width, 256, 65535));
    embed_position_kernel<T><<<grid, 256, 0, st_cuda_stream(q)>>>(
        a->rows, a->width, a->len, a->start, (const T *)a->dy.data, (float *)a->dposition.data);
    st_cuda_launched(q, "embed_bwd");
}

extern "C" void st_cuda_embed_bwd(st_stream *q, const st_embed_bwd_args *a)
{
    if (a->rows == 0) return;
    a->dy.dtype == ST_F32 ? embed_bwd_of<float>(q, a) : embed_bwd_of<bf16>(q, a);
}
