/* Windows of images as rows, as torch.nn.Unfold orders them (channel, row, column), and the same
 * normalised: y = (x - mean) rstd gain + bias of each row. A warp takes a row. Where the rows of an
 * image that a row of windows needs fit into shared memory, they are read once. */
/* SPDX-License-Identifier: MIT */
#include "backend/cuda/device.cuh"

enum { WARPS = 4, ROW_WARPS = 8, ROW_BYTES = 96 * 1024 };

template <typename X, typename Y> struct unfold {
    int64_t rows, channels, height, width, kernel, stride, pad, down, across, window;
    const X *x;
    Y *y;
    const Y *gain, *bias;
    float eps;
    bool planes;
};

/* Number j of the window whose upper left corner is (top, left). */
template <typename X, typename Y>
static __device__ __forceinline__ float unfold_at(const unfold<X, Y> &a, int64_t image, int64_t top,
                                                  int64_t left, int j)
{
    int k = (int)a.kernel, area = k * k, channel = j / area;
    int64_t y = top + j % area / k, x = left + j % k;
    if (y < 0 || x < 0 || y >= a.height || x >= a.width) return 0;
    return get(a.x, a.planes ? ((image * a.channels + channel) * a.height + y) * a.width + x
                             : ((image * a.height + y) * a.width + x) * a.channels + channel);
}

template <typename X, typename Y> static __global__ void unfold_kernel(unfold<X, Y> a)
{
    int64_t r = (int64_t)blockIdx.x * WARPS + (threadIdx.x >> 5);
    int lane = threadIdx.x & 31, window = (int)a.window;
    if (r >= a.rows) return;
    int64_t image = r / (a.down * a.across), at = r % (a.down * a.across);
    int64_t top = at / a.across * a.stride - a.pad, left = at % a.across * a.stride - a.pad;
    float mean = 0, square = 0, rstd = 1;
    if (a.gain) {
        for (int j = lane; j < window; j += 32)
            mean += unfold_at(a, image, top, left, j);
        mean = warp_sum(mean) / (float)window;
        for (int j = lane; j < window; j += 32) {
            float d = unfold_at(a, image, top, left, j) - mean;
            square += d * d;
        }
        rstd = 1.0f / sqrtf(warp_sum(square) / (float)window + a.eps);
    }
    for (int j = lane; j < window; j += 32) {
        float y = (unfold_at(a, image, top, left, j) - mean) * rstd;
        if (a.gain) y *= get(a.gain, j);
        if (a.bias) y += get(a.bias, j);
        put(a.y, r * a.window + j, y);
    }
}

/* ---- a row of windows at a time ------------------------------------------------------------- */

/* How `kernel` rows of an image lie in shared memory, zeros around them: numbers from a pixel to
 * the next in its row, and between channels and rows; between channels an odd number of words. */
struct unfold_room {
    int wide, pixel, channel, line, all;
};

static __host__ __device__ unfold_room unfold_room_of(int channels, int width, int kernel, int pad,
                                                      bool planes)
{
    unfold_room r = {};
    r.wide = width + 2 * pad;
    r.pixel = planes ? 1 : channels + 1 - channels % 2;
    r.channel = planes ? kernel * r.wide : 1;
    r.line = r.wide * r.pixel;
    r.all = planes ? channels * r.channel : kernel * r.line;
    return r;
}

template <typename X, typename Y>
static __device__ void unfold_fill(const unfold<X, Y> &a, const unfold_room &m, float *room)
{
    int channels = (int)a.channels, kernel = (int)a.kernel, all = kernel * m.wide * channels;
    int64_t image = blockIdx.x / a.down, top = blockIdx.x % a.down * a.stride - a.pad;
    for (int i = threadIdx.x; i < all; i += blockDim.x) {
        int line = i / (m.wide * channels), rest = i % (m.wide * channels); /* as in memory */
        int x = a.planes ? rest % m.wide : rest / channels;
        int channel = a.planes ? rest / m.wide : rest % channels;
        int64_t row = top + line, column = x - a.pad;
        float v = 0;
        if (row >= 0 && row < a.height && column >= 0 && column < a.width) {
            v = get(a.x, a.planes
                             ? ((image * channels + channel) * a.height + row) * a.width + column
                             : ((image * a.height + row) * a.width + column) * channels + channel);
        }
        room[channel * m.channel + line * m.line + x * m.pixel] = v;
    }
}

/* A lane has at most MANY numbers of a window. */
template <int MANY, typename X, typename Y>
static __global__ void __launch_bounds__(32 * ROW_WARPS) unfold_rows_kernel(unfold<X, Y> a)
{
    extern __shared__ float room[];
    int lane = threadIdx.x & 31, window = (int)a.window, k = (int)a.kernel, from[MANY];
    unfold_room m = unfold_room_of((int)a.channels, (int)a.width, k, (int)a.pad, a.planes);
    float gain[MANY], bias[MANY];
    unfold_fill(a, m, room);
#pragma unroll
    for (int i = 0; i < MANY; i++) {
        int j = lane + 32 * i;
        bool in = j < window;
        from[i] = in ? j / (k * k) * m.channel + j % (k * k) / k * m.line + j % k * m.pixel : 0;
        gain[i] = in && a.gain ? get(a.gain, j) : 1;
        bias[i] = in && a.bias ? get(a.bias, j) : 0;
    }
    __syncthreads();
    for (int w = threadIdx.x >> 5; w < a.across; w += ROW_WARPS) {
        const float *left = room + w * (int)a.stride * m.pixel;
        float v[MANY], mean = 0, square = 0, rstd = 1;
#pragma unroll
        for (int i = 0; i < MANY; i++) {
            v[i] = lane + 32 * i < window ? left[from[i]] : 0;
            mean += v[i];
        }
        mean = a.gain ? warp_sum(mean) / (float)window : 0;
        if (a.gain) {
#pragma unroll
            for (int i = 0; i < MANY; i++)
                if (lane + 32 * i < window) square += (v[i] - mean) * (v[i] - mean);
            rstd = 1.0f / sqrtf(warp_sum(square) / (float)window + a.eps);
        }
        Y *to = a.y + ((int64_t)blockIdx.x * a.across + w) * window;
#pragma unroll
        for (int i = 0; i < MANY; i++)
            if (lane + 32 * i < window)
                put(to, lane + 32 * i, (v[i] - mean) * rstd * gain[i] + bias[i]);
    }
}

/* False: the image's rows are too long, or the window. */
template <int MANY, typename X, typename Y>
static bool unfold_by_rows(st_stream *q, const unfold<X, Y> &u)
{
    if (u.window > 32 * MANY || u.channels * u.kernel * (u.width + 2 * u.pad) * 4 > ROW_BYTES)
        return false;
    size_t bytes = sizeof(float) * (size_t)unfold_room_of((int)u.channels, (int)u.width,
                                                          (int)u.kernel, (int)u.pad, u.planes)
                                       .all;
    if (bytes > ROW_BYTES) return false;
    auto kernel = unfold_rows_kernel<MANY, X, Y>;
    cudaError_t e =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, ROW_BYTES);
    if (!st_cuda_ok(q, e, "unfold")) return true;
    kernel<<<(unsigned)(u.rows / u.across), 32 * ROW_WARPS, bytes, st_cuda_stream(q)>>>(u);
    return true;
}

template <typename X, typename Y> static void unfold_of(st_stream *q, const st_unfold_args *a)
{
    st_unfold_shape s = st_unfold_resolve(a);
    unfold<X, Y> u = {};
    u.rows = a->batch * s.rows * s.cols;
    u.channels = a->channels, u.height = a->height, u.width = a->width, u.kernel = a->kernel;
    u.stride = a->stride, u.pad = a->pad, u.down = s.rows, u.across = s.cols, u.window = s.window;
    u.x = (const X *)a->x.data, u.y = (Y *)a->y.data;
    u.gain = (const Y *)a->gain.data, u.bias = (const Y *)a->bias.data;
    u.eps = a->eps, u.planes = a->planes != 0;
    if (u.rows == 0) return;
    if (!unfold_by_rows<5>(q, u) && !unfold_by_rows<18>(q, u)) {
        unfold_kernel<X, Y>
            <<<blocks_for(u.rows, WARPS, 1 << 30), 32 * WARPS, 0, st_cuda_stream(q)>>>(u);
    }
    st_cuda_launched(q, "unfold");
}

extern "C" void st_cuda_unfold(st_stream *q, const st_unfold_args *a)
{
    bool x = a->x.dtype == ST_F32, y = a->y.dtype == ST_F32;
    if (x && y)
        unfold_of<float, float>(q, a);
    else if (x)
        unfold_of<float, bf16>(q, a);
    else if (y)
        unfold_of<bf16, float>(q, a);
    else
        unfold_of<bf16, bf16>(q, a);
}
