/* Windows of images as rows, as torch.nn.Unfold orders them (channel, row, column), and the same
 * normalised: y = (x - mean) rstd gain + bias of each row. A warp takes a row. */
/* SPDX-License-Identifier: MIT */
#include "backend/cuda/device.cuh"

enum { WARPS = 4 };

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
    unfold_kernel<X, Y>
        <<<blocks_for(u.rows, WARPS, 1 << 30), 32 * WARPS, 0, st_cuda_stream(q)>>>(u);
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
